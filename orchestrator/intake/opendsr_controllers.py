"""Which controllers may ask us over OpenDSR, and how one is known.

A controller is known by a bearer token, or by its client certificate. Whoever has either acts for one tenant
and no other.

* Of a token we hold the SHA-256 only: the settings can't be used to ask in its name. Two hashes let a token
  be renewed without a gap.
* A certificate counts by a DNS name in it, once the handshake has shown that one of the authorities in the
  settings issued it. A name, and not a fingerprint: certificates are renewed ever more often, by machines,
  and each renewal would have to reach us first. What it costs is trust in those authorities, which are few.
* A wrong token is not mended by a good certificate, and a token and a certificate of two controllers are
  neither's.
"""

import hashlib
import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from orchestrator.privacy.keyring import derive
from orchestrator.settings import System

_LONGEST_TOKEN: Final = 1000
_KEY_BYTES: Final = 64
_ASSOCIATED: Final = b"radera/opendsr/1"


@dataclass(frozen=True, slots=True)
class Controller:
    """A tenant that may ask. `hosts` are those that it may have called back; `hashed` says that its people
    are found by hashes, too; `systems` are all that hold its data here.
    """

    system: str
    tenant: str
    hosts: frozenset[str]
    allow_private: bool
    tokens: tuple[str, ...] = field(default=(), repr=False)
    names: frozenset[str] = frozenset()
    hashed: bool = False
    systems: frozenset[str] = frozenset()


def controllers_of(systems: Mapping[str, System]) -> tuple[Controller, ...]:
    """The controllers that the settings let in; the handlers' own settings are known by what they have."""
    return tuple(
        Controller(
            system=name,
            tenant=one.own.tenant,
            hosts=frozenset(one.own.hosts_to_call_back),
            allow_private=one.own.allow_private_address,
            tokens=tuple(one.own.opendsr_tokens),
            names=frozenset(getattr(one.own, "opendsr_certificate_names", ())),
            hashed=getattr(one.own, "hashed_identities", False),
            systems=frozenset(
                other for other, its in systems.items() if getattr(its.own, "tenant", None) == one.own.tenant
            ),
        )
        for name, one in systems.items()
        if getattr(one.own, "opendsr_tokens", ()) or getattr(one.own, "opendsr_certificate_names", ())
    )


class Controllers:
    """Finds who asks."""

    def __init__(self, controllers: tuple[Controller, ...]) -> None:
        self._controllers = controllers

    def of(self, authorization: str, names: Collection[str] = ()) -> Controller | None:
        """Whose token the header holds, or whose names stand in the client certificate."""
        shown = [one for one in self._controllers if one.names.intersection(names)]
        if not authorization:
            return shown[0] if len(shown) == 1 else None
        known = self._by_token(authorization)
        return known if known is not None and shown in ([], [known]) else None

    def _by_token(self, authorization: str) -> Controller | None:
        """Every token is compared, whether or not one fitted already."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > _LONGEST_TOKEN:
            return None
        given = hashlib.sha256(token.strip().encode()).hexdigest()
        found = [
            one for one in self._controllers for known in one.tokens if hmac.compare_digest(known, given)
        ]
        return found[0] if len(found) == 1 else None

    @property
    def all_take_hashes(self) -> bool:
        """Whether there are controllers, and each one's people are found by hashes."""
        return bool(self._controllers) and all(one.hashed for one in self._controllers)

    def named(self, system: str) -> Controller | None:
        """The controller of a system; None when the settings don't let it in any more."""
        return next((one for one in self._controllers if one.system == system), None)


class Addresses:
    """Seals what a controller gave us to call back: such an address can hold a secret of its own.

    Under a key of its own from the digest key, which stays: an address is needed until the request ends,
    however often master keys are changed meanwhile, and it names nobody.
    """

    def __init__(self, digest_key: bytes) -> None:
        self._cipher = AESSIV(derive(digest_key, "radera/opendsr/1", _KEY_BYTES))

    def seal(self, request_id: str, address: str) -> bytes:
        return self._cipher.encrypt(address.encode(), [_ASSOCIATED, request_id.encode()])

    def open(self, request_id: str, sealed: bytes) -> str:
        """Raises cryptography's InvalidTag for what is not ours."""
        return self._cipher.decrypt(sealed, [_ASSOCIATED, request_id.encode()]).decode()
