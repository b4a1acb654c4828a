"""The installation's public keys: how somebody who shares no secret with us hands us a request's key.

* HPKE (RFC 9180) in base mode, one shot: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. What is
  wrapped is the encapsulated key (32 bytes) followed by the ciphertext of the 32-byte request key (48
  bytes).
* `info` is "radera/request-key/1", a NUL and the request's id: a wrapped key opens for that request and no
  other.
* The private key is derived from a master key, so there is one pair for each generation. It rotates with it
  and dies with it, and what is left in the requests topic dies, too.
* A request that names the person in clear brings no key. The one that is made for it is the same each time
  that the record is read under the same generation, so that a database which is put back from before it gets
  back the key that all else was sealed with. It can be made again only of the whole record: who has that
  needs no key to read whom it names.
"""

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from orchestrator.privacy.errors import PrivacyError
from orchestrator.privacy.keyring import Keyring
from orchestrator.privacy.sealing import KEY_BYTES, SealBroken

SUITE_NAME: Final = "DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM"
_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class PublicKeyUnreadable(PrivacyError):
    """The text is not a public key of an installation. Get it anew with `radera keys public`."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An installation's public key. `generation` goes into the request beside the wrapped key."""

    generation: int
    key: bytes

    def wrap(self, key: bytes, request_id: str) -> bytes:
        """A request's key that only the installation can unwrap."""
        return _SUITE.encrypt(key, X25519PublicKey.from_public_bytes(self.key), info=_info(request_id))

    def to_json(self) -> str:
        """As `radera keys public` prints it."""
        said = {
            "generation": self.generation,
            "hpke": SUITE_NAME,
            "public_key": base64.b64encode(self.key).decode(),
        }
        return json.dumps(said)

    @classmethod
    def from_json(cls, text: str) -> "PublicKey":
        """Raises PublicKeyUnreadable."""
        try:
            said: dict[str, Any] = json.loads(text)
            key = base64.b64decode(said["public_key"], validate=True)
            if said["hpke"] == SUITE_NAME and len(key) == KEY_BYTES and isinstance(said["generation"], int):
                return cls(said["generation"], key)
        except (ValueError, KeyError, TypeError):
            pass
        raise PublicKeyUnreadable


class Exchange:
    """The private side."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def public_key(self) -> PublicKey:
        """The key to wrap to from now on."""
        generation = self._keyring.current.number
        raw = self._private(generation).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return PublicKey(generation, raw)

    def unwrap(self, wrapped: bytes, generation: int, request_id: str) -> bytes:
        """The request's key. Raises SealBroken, GenerationForgotten or GenerationUnknown."""
        try:
            key = _SUITE.decrypt(wrapped, self._private(generation), info=_info(request_id))
        except (InvalidTag, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise SealBroken(purpose="key")
        return key

    def key_for(self, request_id: str, clear: bytes) -> bytes:
        """A key for a request that came without one, made of what it says."""
        secret = self._keyring.derived(self._keyring.current.number, "clear")
        return hmac.new(secret, request_id.encode() + b"\0" + clear, hashlib.sha256).digest()

    def _private(self, generation: int) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(self._keyring.derived(generation, "exchange"))


def _info(request_id: str) -> bytes:
    return b"radera/request-key/1\0" + request_id.encode()
