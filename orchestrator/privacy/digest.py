"""Keyed digests: to tell that two things are the same without keeping either.

HMAC-SHA256, in hex, under keys derived from the installation's digest key, one for each use: a digest of one
use says nothing about those of another. Without the key nobody can try addresses against them. Even so they
are personal data (GDPR Art. 4(5)) for as long as the key is there, and they have their retention.
"""

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

from orchestrator.privacy.identifiers import Identifiers
from orchestrator.privacy.keyring import derive

_WEAK: Final = frozenset({"name"})  # two people may share one


class Digests:
    """Makes the digests of an installation."""

    def __init__(self, digest_key: bytes) -> None:
        self._content = derive(digest_key, "radera/digest/content/1")
        self._subject = derive(digest_key, "radera/digest/subject/1")
        self._correlation = derive(digest_key, "radera/digest/correlation/1")

    def content(
        self,
        identifiers: Identifiers,
        *,
        scope: Iterable[str] | None,
        capacity: str,
        tenant: str | None,
    ) -> str:
        """What a request asks for. Two with the same id and another content are not a repeat.

        The order of the scope doesn't matter; no scope (every system) is not the same as an empty one.
        """
        systems = [b"all"] if scope is None else [b"some", *(name.encode() for name in sorted(set(scope)))]
        whose = [b"none"] if tenant is None else [b"tenant", tenant.encode()]
        return _digest(self._content, identifiers.to_bytes(), capacity.encode(), *whose, *systems)

    def subject(self, identifiers: Identifiers) -> str:
        """The person as these identifiers tell them: finds a second request with the same ones.

        Names don't count unless there is nothing else, and where the person is told never does. A request
        with one address more is another.
        """
        searched = identifiers.searched
        strong = tuple(item for item in searched if item.kind not in _WEAK)
        return _digest(self._subject, Identifiers(strong or searched.items).to_bytes())

    def correlation(self, space: str, reference: str) -> str:
        """A vendor's record id or a party's link, for finding the request that a callback belongs to.

        `space` is where the reference is unique, such as the system's name.
        """
        return _digest(self._correlation, space.encode(), reference.encode())


def _digest(key: bytes, *parts: bytes) -> str:
    mac = hmac.new(key, digestmod=hashlib.sha256)
    for part in parts:
        mac.update(len(part).to_bytes(8, "big") + part)  # else ("ab", "c") would be ("a", "bc")
    return mac.hexdigest()
