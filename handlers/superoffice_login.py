"""SuperOffice Online's front door: where a tenant lives, and a ticket to get in.

* The tenant's address is asked for, not configured, and asked again when its answer is no longer valid:
  SuperOffice moves tenants. A tenant that isn't running is a fault that passes.
* The system user signs a token with the application's own RSA key; the answer is a JWT whose signature is
  verified before its ticket is used. It must say from when until when, by whom, for whom and for which tenant
  it was made: what is left out is not taken for right. The ticket slides for six hours; it is renewed when it
  is refused.
* The address's ContextIdentifier and the ticket's must both be the pinned tenant's.
"""

import base64
import binascii
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from handlers.port import Clock, Permanent, Retryable
from handlers.times import SECOND, from_iso
from orchestrator.http import Client
from orchestrator.secret import SecretRef

TICKET_CLAIM = "http://schemes.superoffice.net/identity/ticket"
CONTEXT_CLAIM = "http://schemes.superoffice.net/identity/ctx"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: By how much SuperOffice's clock and ours may differ.
_SKEW = 300 * SECOND


@dataclass(frozen=True, slots=True)
class Tenant:
    """Where the tenant's API answers, and until when that is sure."""

    context: str
    api: str
    valid_until: int


async def discover(client: Client, tenant: str) -> Tenant:
    """Ask where `tenant` lives; `client` is for the environment's online address."""
    state = (await client.call("GET", f"/api/state/{tenant}")).object()
    api, context = state.get("Api"), state.get("ContextIdentifier")
    if not isinstance(api, str) or not isinstance(context, str):
        raise Retryable("malformed_answer")
    if state.get("IsRunning") is not True:
        raise Retryable("tenant_not_running")
    valid_until = from_iso(state.get("ValidUntil"))
    if valid_until is None:
        raise Retryable("malformed_answer")
    return Tenant(context, api.rstrip("/"), valid_until)


@dataclass(slots=True)
class SystemUser:
    """Signs in as the application's system user and vouches for its calls."""

    login: Client
    clock: Clock
    context: str
    client_secret: SecretRef
    system_user_token: SecretRef
    private_key: SecretRef
    login_certificate: SecretRef
    """The public key (PEM) that SuperOffice signs its answers with."""
    _ticket: str | None = field(default=None, repr=False)
    _lock: anyio.Lock = field(default_factory=anyio.Lock, repr=False)

    async def headers(self) -> Mapping[str, str]:
        async with self._lock:
            if self._ticket is None:
                self._ticket = await self._authenticate()
            return {"Authorization": f"SOTicket {self._ticket}", "SO-AppToken": self.client_secret.read()}

    async def renew(self) -> bool:
        async with self._lock:
            self._ticket = await self._authenticate()
            return True

    def signed_token(self) -> str:
        """`token.YYYYMMDDHHmm.signature`, as the login expects it."""
        now = _EPOCH + timedelta(microseconds=self.clock())
        text = f"{self.system_user_token.read()}.{now:%Y%m%d%H%M}"
        try:
            key = serialization.load_pem_private_key(self.private_key.read().encode(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise Permanent("private_key_unusable") from None
        if not isinstance(key, rsa.RSAPrivateKey):
            raise Permanent("private_key_unusable")
        signature = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{base64.b64encode(signature).decode()}"

    async def _authenticate(self) -> str:
        answer = await self.login.call(
            "POST",
            "/Login/api/PartnerSystemUser/Authenticate",
            json={
                "SignedSystemToken": self.signed_token(),
                "ApplicationToken": self.client_secret.read(),
                "ContextIdentifier": self.context,
                "ReturnTokenType": "JWT",
            },
        )
        content = answer.object()
        token = content.get("Token")
        if content.get("IsSuccessful") is not True or not isinstance(token, str):
            raise Permanent("credentials_refused")
        claims = verified_claims(token, self.login_certificate.read())
        begins, ends = claims.get("nbf"), claims.get("exp")
        if not isinstance(begins, int | float) or not isinstance(ends, int | float):
            raise Permanent("login_incomplete")
        if not claims.get("iss") or not claims.get("aud") or CONTEXT_CLAIM not in claims:
            raise Permanent("login_incomplete")
        if not begins * SECOND - _SKEW <= self.clock() <= ends * SECOND + _SKEW:
            raise Retryable("login_answer_expired")
        if claims[CONTEXT_CLAIM] != self.context:
            raise Permanent("wrong_account")
        ticket = claims.get(TICKET_CLAIM)
        if not isinstance(ticket, str) or not ticket:
            raise Permanent("login_without_ticket")
        return ticket


def verified_claims(token: str, public_key: str) -> dict[str, Any]:
    """The claims of an RS256 JWT. Any other algorithm is refused, "none" first of all."""
    try:
        head, payload, signature = token.split(".")
        header = json.loads(_unpadded(head))
        if header.get("alg") != "RS256":
            raise Permanent("login_signature_invalid")
        pem = public_key.encode()
        if b"BEGIN CERTIFICATE" in pem:
            key: object = x509.load_pem_x509_certificate(pem).public_key()
        else:
            key = serialization.load_pem_public_key(pem)
        if not isinstance(key, rsa.RSAPublicKey):
            raise Permanent("login_certificate_unusable")
        key.verify(_unpadded(signature), f"{head}.{payload}".encode(), padding.PKCS1v15(), hashes.SHA256())
        claims = json.loads(_unpadded(payload))
    except InvalidSignature:
        raise Permanent("login_signature_invalid") from None
    except (ValueError, AttributeError, binascii.Error, UnsupportedAlgorithm):
        raise Retryable("malformed_answer") from None
    if not isinstance(claims, dict):
        raise Retryable("malformed_answer")
    return claims


def webhook_is_genuine(secret: str, body: bytes, signature: str) -> bool:
    """Whether `signature` is SuperOffice's over exactly these bytes: base64 of HMAC-SHA256."""
    expected = base64.b64encode(hmac.digest(secret.encode(), body, "sha256"))
    return hmac.compare_digest(expected, signature.encode("utf-8", "replace"))


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
