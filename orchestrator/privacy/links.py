"""The tokens in the links that parties get by mail.

A token says which request, system and attempt it answers and until when, and only we can read or make one. It
is AES-SIV (RFC 5297), which is deterministic: a command that is repeated mails the same link, and a reminder
doesn't make the first mail's void. Whoever holds the link can answer, so it expires, and the store takes one
answer only.
"""

import base64
import binascii
import struct
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from orchestrator.privacy.errors import PrivacyError
from orchestrator.privacy.keyring import derive

_KEY_BYTES: Final = 64
_ASSOCIATED: Final = [b"radera/link/1"]
_FIXED: Final = struct.Struct(">16sIQ")
_LONGEST: Final = 400


class InvalidLink(PrivacyError):
    """The link is none of ours, or it was altered or cut short on its way. Ask the party to use the whole
    link from the mail, or send a new one."""


@dataclass(frozen=True, slots=True)
class Link:
    """What a token says."""

    request_id: str
    system: str
    attempt: int
    expires_at: int

    def is_expired(self, now: int) -> bool:
        """Whether it is too late to answer with it."""
        return now >= self.expires_at


class PartyLinks:
    """Makes and reads the tokens of an installation."""

    def __init__(self, digest_key: bytes) -> None:
        self._cipher = AESSIV(derive(digest_key, "radera/links/1", _KEY_BYTES))

    def make(self, request_id: str, system: str, attempt: int, expires_at: int) -> str:
        """The token for a link: URL-safe, the same for the same values."""
        said = _FIXED.pack(UUID(request_id).bytes, attempt, expires_at) + system.encode()
        return base64.urlsafe_b64encode(self._cipher.encrypt(said, _ASSOCIATED)).rstrip(b"=").decode()

    def read(self, token: str) -> Link:
        """What the token says, also when it is expired. Raises InvalidLink."""
        said = self._open(token)
        if said is None:
            raise InvalidLink
        request, attempt, expires_at = _FIXED.unpack_from(said)
        return Link(str(UUID(bytes=request)), said[_FIXED.size :].decode(), attempt, expires_at)

    def _open(self, token: str) -> bytes | None:
        if len(token) > _LONGEST:
            return None
        try:
            sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            said = self._cipher.decrypt(sealed, _ASSOCIATED)
        except (ValueError, binascii.Error, InvalidTag):
            return None
        # Base64 has spare bits at its end: without this, several texts would be the same token.
        same = base64.urlsafe_b64encode(sealed).rstrip(b"=").decode() == token
        return said if same else None
