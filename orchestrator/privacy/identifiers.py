"""What identifies a person, in the one form in which we look for it.

Rules:

* The value of an identifier shows nowhere by itself: not in repr, str or a format, and it can't be pickled.
  Who needs it says `.value`, which is easy to search the code for. At rest and in transit it is `to_bytes()`,
  sealed.
* `clean` brings what a person typed into one form, and refuses what nobody could be found by. It tells which
  kinds it refused, never the values.
* E-mail: NFC, the local part in lower case, the domain in its ASCII form (IDNA). RFC 5321 leaves the case of
  the local part to the receiving host, but no vendor tells two people apart by it, and people type "Anna@".
* Phone: E.164. A possible number suffices: number plans change faster than our copy of them, a wrong number
  finds nobody, and a right one that is refused leaves a person unerased.
* Google Analytics: the client id within the `_ga` cookie (GA1.1.1234567890.1699999999). Rules of one vendor
  only, such as the dots in a Gmail address, belong to its handler.
* A hash stands for a value that we were not told: SHA-256 in hex, of the value trimmed and in lower case.
  Only a tenant's own product can compare it with what it holds; whoever else is asked finds nobody by it.
* `notice_to` is the address that the person is told at, once at most. Nobody is looked for by it: `searched`
  leaves it out.
* The canonical bytes are the same for the same set of identifiers, in whatever order they came.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, NoReturn, get_args

import idna

from orchestrator.privacy.errors import PrivacyError

Kind = Literal[
    "email",
    "phone",
    "name",
    "ga_client_id",
    "ga_user_id",
    "ga_app_instance_id",
    "customer_id",
    "tenant_user_id",
    "email_sha256",
    "customer_id_sha256",
    "notice_to",
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
MAX_IDENTIFIERS: Final = 100

_WITH_SITE: Final = frozenset({"ga_client_id", "ga_user_id", "ga_app_instance_id"})
_FORMAT: Final = 1
_ATOM: Final = re.compile(r"[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*")
_PHONE: Final = re.compile(r"[\d\s+().,/\u2010-\u2015-]+")
_GA_COOKIE: Final = re.compile(r"(?:_ga=)?GA\d\.\d{1,2}(?:-\d{1,2})?\.(\d{1,20}\.\d{1,20})", re.ASCII)
_GA_CLIENT: Final = re.compile(r"\d{1,20}\.\d{1,20}", re.ASCII)
_GA_INSTANCE: Final = re.compile(r"[0-9a-f]{32}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class IdentifiersBroken(PrivacyError):
    """The bytes are not identifiers as we write them. Whoever sealed them is at fault; repeating won't
    help."""


@dataclass(frozen=True, slots=True)
class Identifier:
    """One thing that a person is known by. `site` is the web site that a Google Analytics id belongs to."""

    kind: Kind
    value: str = field(repr=False)
    site: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError("there is no such kind of identifier")

    def __repr__(self) -> str:
        return f"<{self.kind}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("identifiers are not pickled: seal their to_bytes()")

    def __copy__(self) -> "Identifier":
        return self

    def __deepcopy__(self, memo: object) -> "Identifier":
        return self


@dataclass(frozen=True, slots=True)
class Identifiers:
    """All that one person is known by; sorted, each once."""

    items: tuple[Identifier, ...] = field(repr=False)

    def __post_init__(self) -> None:
        once = {(item.kind, item.value, item.site is not None, item.site or ""): item for item in self.items}
        object.__setattr__(self, "items", tuple(once[key] for key in sorted(once)))

    def __repr__(self) -> str:
        return f"<identifiers: {', '.join(item.kind for item in self.items) or 'none'}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("identifiers are not pickled: seal their to_bytes()")

    def __copy__(self) -> "Identifiers":
        return self

    def __deepcopy__(self, memo: object) -> "Identifiers":
        return self

    def __iter__(self) -> Iterator[Identifier]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds that are there, each once."""
        return tuple(dict.fromkeys(item.kind for item in self.items))

    def of_kind(self, kind: Kind) -> tuple[Identifier, ...]:
        """The identifiers of one kind."""
        return tuple(item for item in self.items if item.kind == kind)

    @property
    def searched(self) -> "Identifiers":
        """Return those that a person can be looked for by: all but `notice_to`."""
        return Identifiers(tuple(item for item in self.items if item.kind != "notice_to"))

    @property
    def notice_addresses(self) -> tuple[str, ...]:
        """Return where the person may be told: the address that was chosen, or else every address. Of several
        none may be guessed: one may be a former employer's.
        """
        return tuple(item.value for item in self.of_kind("notice_to") or self.of_kind("email"))

    def to_bytes(self) -> bytes:
        """The canonical bytes, to be sealed or digested."""
        items = [[item.kind, item.value, item.site] for item in self.items]
        return json.dumps(
            {"format": _FORMAT, "items": items}, ensure_ascii=False, separators=(",", ":")
        ).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Identifiers":
        """What `to_bytes` wrote. Raises IdentifiersBroken."""
        identifiers = _parse(data)
        if identifiers is None or identifiers.to_bytes() != data:
            raise IdentifiersBroken
        return identifiers

    @classmethod
    def from_json(cls, data: bytes) -> "Identifiers":
        """The same of another's writing, who may order and space them in another way. Raises
        IdentifiersBroken.
        """
        identifiers = _parse(data)
        if identifiers is None:
            raise IdentifiersBroken
        return identifiers


class Cleaned(NamedTuple):
    """What `clean` made of what it was given."""

    identifiers: Identifiers
    refused: tuple[Kind, ...]  # the kinds of those that nobody could be found by, one for each refused


def clean(items: Iterable[Identifier], *, region: str | None = None) -> Cleaned:
    """The identifiers in the form in which we look for them.

    `region` is the country (such as "SE") of phone numbers without a country code; without it they are
    refused.
    """
    usable: dict[Identifier, None] = {}
    refused: list[Kind] = []
    for item in items:
        value = _CLEANERS[item.kind](item.value, region) if len(item.value) <= 1000 else None
        site = _host(item.site) if item.site is not None else None
        bad_site = item.site is not None and (site is None or item.kind not in _WITH_SITE)
        if value is None or bad_site or len(usable) >= MAX_IDENTIFIERS:
            refused.append(item.kind)
            continue
        made = Identifier(item.kind, value, site)
        is_second = made.kind == "notice_to" and any(
            one.kind == "notice_to" and one != made for one in usable
        )
        if is_second:
            refused.append(item.kind)
        else:
            usable[made] = None
    return Cleaned(Identifiers(tuple(usable)), tuple(refused))


def _parse(data: bytes) -> Identifiers | None:
    try:
        document = json.loads(data.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        return None
    rows = document.get("items")
    if not isinstance(rows, list) or len(rows) > MAX_IDENTIFIERS or not all(map(_is_row, rows)):
        return None
    return Identifiers(tuple(Identifier(*row) for row in rows))


def _is_row(row: Any) -> bool:
    match row:
        case [str(kind), str(), None | str()]:
            return kind in KINDS
        case _:
            return False


def _email(typed: str, region: str | None) -> str | None:
    local, at, domain = unicodedata.normalize("NFC", typed.strip()).rpartition("@")
    local, host = unicodedata.normalize("NFC", local.lower()), _host(domain)
    if not at or host is None or "." not in host or host.rpartition(".")[2].isdecimal():
        return None
    if not _ATOM.fullmatch(local) or len(local.encode()) > 64 or len(local.encode()) + len(host) > 253:
        return None  # RFC 5321, 4.5.3.1; quoted local parts are legal and nobody has one
    return f"{local}@{host}"


def _host(typed: str) -> str | None:
    name = unicodedata.normalize("NFC", typed.strip()).removesuffix(".")
    if len(name) > 253:
        return None
    try:
        host = idna.encode(name, uts46=True).decode().lower()
    except UnicodeError:  # idna's own errors are of this family
        return None
    # IDNA lets through what is a label by its own rules, but no name of a host.
    return host if re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)*", host) else None


def _phone(typed: str, region: str | None) -> str | None:
    number = unicodedata.normalize("NFKC", typed.strip().removeprefix("tel:"))
    if not _PHONE.fullmatch(number):
        return None
    import phonenumbers  # takes a while to load, and only telephone numbers need it

    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
    if phonenumbers.is_possible_number_with_reason(parsed) != phonenumbers.ValidationResult.IS_POSSIBLE:
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def _name(typed: str, region: str | None) -> str | None:
    name = " ".join(unicodedata.normalize("NFC", typed).split())
    readable = all(unicodedata.category(char)[0] != "C" for char in name)
    return name if readable and any(char.isalpha() for char in name) and len(name) <= 200 else None


def _ga_client(typed: str, region: str | None) -> str | None:
    cookie = _GA_COOKIE.fullmatch(typed.strip())
    if cookie:
        return cookie.group(1)
    return typed.strip() if _GA_CLIENT.fullmatch(typed.strip()) else None


def _ga_instance(typed: str, region: str | None) -> str | None:
    instance = typed.strip().lower()
    return instance if _GA_INSTANCE.fullmatch(instance) else None


def _sha256(typed: str, region: str | None) -> str | None:
    digest = typed.strip().lower()
    return digest if _SHA256.fullmatch(digest) else None


def _opaque(typed: str, region: str | None) -> str | None:
    # Another system's id: its case and inner spaces may mean something there.
    value = unicodedata.normalize("NFC", typed.strip())
    readable = all(unicodedata.category(char)[0] != "C" for char in value)
    return value if value and readable and len(value) <= 256 else None


_CLEANERS: Final[dict[Kind, Callable[[str, str | None], str | None]]] = {
    "email": _email,
    "notice_to": _email,
    "phone": _phone,
    "name": _name,
    "ga_client_id": _ga_client,
    "ga_user_id": _opaque,
    "ga_app_instance_id": _ga_instance,
    "customer_id": _opaque,
    "tenant_user_id": _opaque,
    "email_sha256": _sha256,
    "customer_id_sha256": _sha256,
}
