"""A request as a controller posts it (OpenDSR 2.0, 7.1; OpenGDPR 1.0, 7.1), read strictly.

* What is refused is refused with the name of the field, never with what stood in it.
* We can look for an e-mail address and for the controller's own id of the customer, in clear. A hashed
  identity counts if it is the hash of one that is given in clear, too.
* Without anything in clear SHA-256 will do where the tenant's own product compares hashes. Else nobody could
  be found by it, and so it is refused: finding nobody would read as "nothing held". So is MD5 and SHA-1, of
  which two values with the same hash can be made, and a hash beside somebody else's clear value.
* What else OpenDSR knows (identities of devices) is passed over and named in the answer, as long as something
  remains.
* The controller may name the systems that it means (`extensions.radera.systems`), by the names that were
  agreed with it. One that it doesn't have here gets its own word back in the answer; further inside only the
  place in the list is known, since what a controller calls a system can be anything.
* An address to call back is https, at a host that the operator allowed for this controller, and says nothing
  about the person.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from orchestrator.privacy.guard import find_personal
from orchestrator.privacy.identifiers import Identifier, Identifiers, Kind, clean

ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST: Final = datetime(2018, 5, 25, tzinfo=UTC)  # the GDPR applies from here (Art. 99(2))
_AHEAD: Final = 24 * 3600 * 1_000_000  # how far a controller's clock may run ahead of ours

#: What we can look for, by OpenDSR's name.
KINDS: Final[dict[str, Kind]] = {"email": "email", "controller_customer_id": "customer_id"}
#: The same as a hash, for a product that can compare it.
HASHED_KINDS: Final[dict[str, Kind]] = {
    "email": "email_sha256",
    "controller_customer_id": "customer_id_sha256",
}
COMPARED: Final = "sha256"
#: What OpenDSR 2.0 names (5.1).
TYPES: Final = frozenset(
    {
        *KINDS,
        "android_advertising_id",
        "android_id",
        "fire_advertising_id",
        "ios_advertising_id",
        "ios_vendor_id",
        "microsoft_advertising_id",
        "microsoft_publisher_id",
        "roku_advertising_id",
        "roku_publisher_id",
    }
)
_HASHES: Final[dict[str, Callable[[bytes], Any]]] = {
    "sha1": lambda data: hashlib.sha1(data, usedforsecurity=False),
    "md5": lambda data: hashlib.md5(data, usedforsecurity=False),
    "sha256": hashlib.sha256,
}
MOST_IDENTITIES: Final = 50
MOST_ADDRESSES: Final = 5
LONGEST_ADDRESS: Final = 2000
MOST_SYSTEMS: Final = 50
LONGEST_SYSTEM: Final = 100


class Malformed(Exception):
    """The request can't be taken; `field` says what of it, `reason` why, each in a token."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """What was asked. `passed_over` are the types of identities that we have no use for; `systems` those that
    the controller named, None where it named none and means all.
    """

    subject_request_id: str
    submitted_at: int
    identifiers: Identifiers = field(repr=False)
    addresses: tuple[str, ...] = field(repr=False)
    passed_over: tuple[str, ...]
    systems: tuple[str, ...] | None = field(default=None, repr=False)

    def not_among(self, known: Collection[str]) -> tuple[str, ...]:
        """The systems that the controller named and does not have here, in its own words."""
        return tuple(name for name in self.systems or () if name not in known)

    def scope(self, known: Collection[str]) -> tuple[str, ...] | None:
        """The same list as it goes on from here: what is not known by its place in it, as in "3_of_5"."""
        if self.systems is None:
            return None
        total = len(self.systems)
        return tuple(name if name in known else f"{at}_of_{total}" for at, name in enumerate(self.systems, 1))


def read(
    body: bytes,
    version: str,
    now: int,
    hosts: Collection[str],
    *,
    private: bool = False,
    hashed: bool = False,
) -> Posted:
    """The request in the body; `hosts` are those that may be called back, `private` allows http there,
    `hashed` says that the tenant's product finds people by hashes. Raises Malformed.
    """
    said = _object(body)
    if version != "1" and said.get("regulation") not in ("gdpr", "ccpa"):
        raise _wrong(said, "regulation", "gdpr_or_ccpa")
    id_ = said.get("subject_request_id")
    if not isinstance(id_, str) or not ID.fullmatch(id_):
        raise _wrong(said, "subject_request_id", "lower_case_uuid_v4")
    asked = said.get("subject_request_type")
    if asked in ("access", "portability"):
        raise Malformed("subject_request_type", "not_supported")
    if asked != "erasure":
        raise _wrong(said, "subject_request_type", "erasure")
    submitted_at = _time(said, now)
    if not isinstance(said.get("api_version", ""), str):
        raise Malformed("api_version", "text")
    if not isinstance(said.get("extensions", {}), dict):
        raise Malformed("extensions", "object")
    identifiers, passed_over = _identities(said, hashed=hashed)
    return Posted(
        subject_request_id=id_,
        submitted_at=submitted_at,
        identifiers=identifiers,
        addresses=_addresses(said, identifiers, hosts, private),
        passed_over=passed_over,
        systems=_systems(said),
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
        # Half of a surrogate pair is JSON, and no text that could be sealed or compared.
        json.dumps(said, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Malformed("body", "json") from None
    if not isinstance(said, dict):
        raise Malformed("body", "object")
    return said


def _wrong(said: dict[str, Any], name: str, reason: str) -> Malformed:
    return Malformed(name, reason if name in said else "missing")


def _time(said: dict[str, Any], now: int) -> int:
    text = said.get("submitted_time")
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        raise _wrong(said, "submitted_time", "rfc_3339")
    try:
        at = datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Malformed("submitted_time", "rfc_3339") from None
    submitted_at = (at - _EPOCH) // timedelta(microseconds=1)
    if at < _EARLIEST or submitted_at > now + _AHEAD:
        raise Malformed("submitted_time", "out_of_range")
    return min(submitted_at, now)


def _systems(said: dict[str, Any]) -> tuple[str, ...] | None:
    ours = said.get("extensions", {}).get("radera", {})
    given = ours.get("systems") if isinstance(ours, dict) else None
    if given is None:
        return None
    if not isinstance(given, list) or not 0 < len(given) <= MOST_SYSTEMS:
        raise Malformed("extensions.radera.systems", "list")
    if not all(isinstance(name, str) and 0 < len(name) <= LONGEST_SYSTEM for name in given):
        raise Malformed("extensions.radera.systems", "names")
    return tuple(given)


def _identities(said: dict[str, Any], *, hashed: bool) -> tuple[Identifiers, tuple[str, ...]]:
    given = said.get("subject_identities")
    if not isinstance(given, list) or not given or len(given) > MOST_IDENTITIES:
        raise _wrong(said, "subject_identities", "list")
    clear: list[Identifier] = []
    hashes: list[tuple[str, str, str]] = []
    passed_over: set[str] = set()
    for one in given:
        type_, value, format_ = _identity(one)
        if type_ not in KINDS:
            passed_over.add(type_)
        elif format_ == "raw":
            clear.append(Identifier(KINDS[type_], value))
        else:
            hashes.append((type_, format_, value.strip().lower()))
    if hashed and not clear and all(format_ == COMPARED for _, format_, _ in hashes):
        clear = [Identifier(HASHED_KINDS[type_], value) for type_, _, value in hashes]
        hashes = []
    cleaned = clean(clear)
    if cleaned.refused:
        raise Malformed("subject_identities", "unusable_value")
    known = {
        (one.kind, format_, make(value.strip().lower().encode()).hexdigest())
        for one in clear
        for value in (one.value,)
        for format_, make in _HASHES.items()
    }
    if any((KINDS[type_], format_, value) not in known for type_, format_, value in hashes):
        raise Malformed("subject_identities", "not_identifiable")
    if not len(cleaned.identifiers):
        raise Malformed("subject_identities", "not_supported")
    return cleaned.identifiers, tuple(sorted(passed_over))


def _identity(one: object) -> tuple[str, str, str]:
    if not isinstance(one, dict):
        raise Malformed("subject_identities", "object")
    type_, value, format_ = (one.get(f"identity_{name}") for name in ("type", "value", "format"))
    if not isinstance(type_, str) or type_ not in TYPES:
        raise Malformed("identity_type", "unknown" if "identity_type" in one else "missing")
    if not isinstance(value, str) or not value.strip():
        raise Malformed("identity_value", "text" if "identity_value" in one else "missing")
    if format_ not in ("raw", *_HASHES):
        raise Malformed("identity_format", "unknown" if "identity_format" in one else "missing")
    return type_, value, str(format_)


def _addresses(
    said: dict[str, Any], identifiers: Identifiers, hosts: Collection[str], private: bool
) -> tuple[str, ...]:
    given = said.get("status_callback_urls", [])
    if not isinstance(given, list) or len(given) > MOST_ADDRESSES:
        raise Malformed("status_callback_urls", "list")
    for one in given:
        if not isinstance(one, str) or not one.isascii() or not one.isprintable() or " " in one:
            raise Malformed("status_callback_urls", "address")
        if len(one) > LONGEST_ADDRESS:
            raise Malformed("status_callback_urls", "too_long")
        try:
            parts = urlsplit(one)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise Malformed("status_callback_urls", "address") from None
        if parts.scheme != "https" and not (private and parts.scheme == "http"):
            raise Malformed("status_callback_urls", "https")
        if parts.username is not None or parts.password is not None or parts.fragment:
            raise Malformed("status_callback_urls", "address")
        if (host or "").lower() not in hosts:
            raise Malformed("status_callback_urls", "host_not_allowed")
        if find_personal(one, identifiers):
            raise Malformed("status_callback_urls", "names_the_person")
    return tuple(dict.fromkeys(given))
