"""The sandbox's own RSA key, JSON Web Tokens signed and checked, and the signatures on webhooks.

The key is the one thing here that isn't deterministic: with a directory it is made once and kept there,
in memory it is one for the process.
"""

import base64
import functools
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

KEY_FILE = "sandbox-key.pem"
KEY_ID = "sandbox-1"


@functools.cache
def _process_key() -> RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def signing_key(directory: Path | None) -> RSAPrivateKey:
    if directory is None:
        return _process_key()
    file = directory / KEY_FILE
    if file.exists():
        key = serialization.load_pem_private_key(file.read_bytes(), None)
        if not isinstance(key, RSAPrivateKey):
            raise ValueError(f"{file} does not hold an RSA key; remove it and a new one is made")
        return key
    made = _process_key()
    file.touch(mode=0o600)
    private = serialization.PrivateFormat.PKCS8
    file.write_bytes(made.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption()))
    return made


def public_pem(key: RSAPrivateKey) -> str:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, spki).decode()


def url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_url64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def jwks(key: RSAPrivateKey) -> dict[str, Any]:
    return jwks_of(public_pem(key))


def jwks_of(pem: str) -> dict[str, Any]:
    """A JSON Web Key Set of one RSA public key."""
    key = serialization.load_pem_public_key(pem.encode())
    if not isinstance(key, RSAPublicKey):
        raise ValueError("not an RSA key")
    numbers = key.public_numbers()
    modulus = url64(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big"))
    return {"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID, "n": modulus, "e": "AQAB"}]}


def jwt(key: RSAPrivateKey, claims: dict[str, Any]) -> str:
    head = url64(json.dumps({"alg": "RS256", "typ": "JWT", "kid": KEY_ID}).encode())
    signed = f"{head}.{url64(json.dumps(claims).encode())}"
    return f"{signed}.{url64(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def verified(public_key: str, signed: bytes, signature: bytes) -> bool:
    """Whether `signature` is RSA PKCS#1 v1.5 with SHA-256 over `signed`, by the key in PEM."""
    key = serialization.load_pem_public_key(public_key.encode())
    if not isinstance(key, RSAPublicKey):
        return False
    try:
        key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def read_jwt(token: str, public_key: str | None) -> dict[str, Any] | None:
    """The claims of an RS256 token; None when malformed or not signed by `public_key` (None: unchecked)."""
    try:
        head, claims, signature = token.split(".")
        if json.loads(from_url64(head)).get("alg") != "RS256":
            return None
        if public_key is not None and not verified(
            public_key, f"{head}.{claims}".encode(), from_url64(signature)
        ):
            return None
        content = json.loads(from_url64(claims))
    except (ValueError, AttributeError):
        return None
    return content if isinstance(content, dict) else None


def hubspot_headers(secret: str, url: str, body: bytes, now: int) -> dict[str, str]:
    """HubSpot's signature, version 3, over a POST that is sent now."""
    timestamp = str(now // 1000)
    signed = f"POST{url}".encode() + body + timestamp.encode()
    signature = base64.b64encode(hmac.digest(secret.encode(), signed, hashlib.sha256)).decode()
    return {"X-HubSpot-Signature-v3": signature, "X-HubSpot-Request-Timestamp": timestamp}


def hmac64(secret: str, payload: bytes) -> str:
    """Base64 of HMAC-SHA256, as SuperOffice and Teamtailor sign their webhooks."""
    return base64.b64encode(hmac.digest(secret.encode(), payload, hashlib.sha256)).decode()
