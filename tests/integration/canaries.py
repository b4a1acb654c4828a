"""Identifiers planted as canaries, and the search for them in whatever form they may have got out.

A canary is the part of an identifier that can't be there by chance. It is looked for as it is and in every
form that software likes to give to a text: other encodings, base64 at each alignment, hex, escapes of URLs,
JSON, HTML, quoted-printable and RFC 2047, and the common digests of the whole identifier.
"""

import base64
import hashlib
import html
import json
import quopri
import random
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote, quote_plus


@dataclass(frozen=True, slots=True)
class Canary:
    """What is planted (`value`), of which kind, and the part of it that is looked for."""

    name: str
    kind: str
    value: str
    core: str

    def patterns(self) -> frozenset[bytes]:
        """Every form in which it would be found."""
        found: set[bytes] = set()
        for text in _spellings(self.core):
            found.update(_encoded(text))
        for text in {self.value, self.value.lower(), self.value.strip()}:
            found.update(_digests(text))
        return frozenset(one for one in found if len(one) >= 7)


@dataclass(frozen=True, slots=True)
class Found:
    """A canary that got out. It says which and where, and nothing of what stands beside it."""

    where: str
    canary: str
    form: bytes


class Search:
    """Looks for canaries in bytes."""

    def __init__(self, canaries: Iterable[Canary]) -> None:
        self._patterns = [(one.name, pattern) for one in canaries for pattern in sorted(one.patterns())]

    def look(self, where: str, data: bytes) -> Iterator[Found]:
        for name, pattern in self._patterns:
            if pattern in data:
                yield Found(where, name, pattern)


def _spellings(core: str) -> set[str]:
    forms = {unicodedata.normalize(form, core) for form in ("NFC", "NFD", "NFKC")}
    return {spelt for text in forms for spelt in (text, text.lower(), text.upper(), text.casefold())}


def _encoded(text: str) -> Iterator[bytes]:
    raw = text.encode()
    yield raw
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le"):
        yield text.encode(encoding)
    if not text.isascii():
        yield text.encode("latin-1", "ignore")
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    yield from _base64(raw)
    for quoted in (quote(text, safe=""), quote_plus(text), quote(text, safe="").lower()):
        yield quoted.encode()
    yield json.dumps(text)[1:-1].encode()
    yield text.encode("ascii", "backslashreplace")
    yield text.encode("ascii", "xmlcharrefreplace")
    yield html.escape(text).encode()
    yield quopri.encodestring(raw, quotetabs=False).strip()
    yield quopri.encodestring(raw, header=True).strip()
    yield repr(raw)[2:-1].encode()


def _base64(raw: bytes) -> Iterator[bytes]:
    """What base64 makes of it, wherever in a longer text it begins: without the letters it shares."""
    for shift in range(3):
        whole = base64.b64encode(bytes(shift) + raw)
        first = (0, 2, 3)[shift]
        last = len(whole) - (0, 3, 2)[(shift + len(raw)) % 3]
        middle = whole[first:last].rstrip(b"=")
        yield middle
        yield middle.replace(b"+", b"-").replace(b"/", b"_")


def _digests(text: str) -> Iterator[bytes]:
    for kind in ("md5", "sha1", "sha256"):
        digest = hashlib.new(kind, text.encode(), usedforsecurity=False)
        yield digest.digest()
        yield digest.hexdigest().encode()
        yield base64.b64encode(digest.digest()).rstrip(b"=")


class Aviary:
    """Makes canaries; every one of them is like no other."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.canaries: list[Canary] = []

    def email(self, who: str) -> str:
        core = f"kanarie{self._letters(10)}"
        return self._plant(who, "email", f"{core}@people.example", core)

    def unicode_email(self, who: str) -> str:
        core = f"fågel{self._letters(8)}ø"
        return self._plant(who, "email", f"{core}@people.example", core)

    def phone(self, who: str) -> str:
        digits = f"70{self._rng.randrange(10**6, 10**7)}"
        return self._plant(who, "phone", f"+46{digits}", digits)

    def name(self, who: str) -> str:
        core = f"Ångkvist{self._letters(6).title()}é"
        return self._plant(who, "name", f"Sölve {core}", core)

    def cookie(self, who: str) -> str:
        core = str(self._rng.randrange(10**9, 10**10))
        return self._plant(who, "ga_client_id", f"{core}.1699999999", core)

    def customer_id(self, who: str) -> str:
        core = f"KUND{self._letters(9)}"
        return self._plant(who, "customer_id", core, core)

    def record(self, who: str) -> int:
        """A vendor's number of a record, which leads to the person as well."""
        core = self._rng.randrange(10**11, 10**12)
        self._plant(who, "record", str(core), str(core))
        return core

    def _plant(self, who: str, kind: str, value: str, core: str) -> str:
        self.canaries.append(Canary(f"{who}/{kind}", kind, value, core))
        return value

    def _letters(self, count: int) -> str:
        return "".join(self._rng.choice("bcdfghjklmnpqrstvwxz") for _ in range(count))
