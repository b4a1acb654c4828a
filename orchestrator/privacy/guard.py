"""Finds a person in a text that must not name one: evidence, a decision's reason, whatever is to be kept in
clear.

* `find_personal` knows whom it looks for. It reads the text as written, percent-decoded, out of base64 and
  hex, and without the separators between digits; it also knows the common digests of an address, which
  vendors' URLs carry.
* `looks_personal` knows nobody, and goes by the form: an e-mail address, or as many digits together as a
  telephone number or a national identity number has. Dates and UUIDs are let through. It will now and then
  refuse a harmless text, whose writer can say it otherwise; what it lets through can't be taken back.

Ids of fewer than four characters are not looked for: "12" can't be told from a count.
"""

import base64
import binascii
import hashlib
import html
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final
from urllib.parse import unquote_plus

import idna

from orchestrator.privacy.identifiers import Identifier, Identifiers

_SHORTEST_ID: Final = 4
_SHORTEST_PHONE: Final = 6
_LAYERS: Final = 3  # a text encoded more often than this was encoded to hide it, not to carry it
_ENCODED: Final = re.compile(r"[A-Za-z0-9+/_-]{8,}")
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2}){4,}")
_ESCAPED: Final = re.compile(r"\\u([0-9a-fA-F]{4})")
_WORD: Final = re.compile(r"[^\W_]+")
_DIGITS: Final = re.compile(r"\d(?:[\s().,/+_\u2010-\u2015-]{0,3}\d)*")
_PART: Final = r"[^\s@<>()\[\],;:\"]"
# The bounds are those of real addresses; without them the search would be quadratic.
_ADDRESS: Final = re.compile(rf"{_PART}{{1,64}}\s?(?:@|\(at\)|\[at\])\s?{_PART}{{1,253}}\.\w{{2,63}}")
_UUID: Final = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE)
_DATE: Final = re.compile(r"(?<![\d-])(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?![\d-])")
_PERSONAL_DIGITS: Final = 8  # a Norwegian telephone number; identity numbers have ten to twelve


def find_personal(text: str, identifiers: Identifiers) -> bool:
    """Whether the text contains any of the identifiers, in whatever common encoding."""
    return finder(identifiers)(text)


def finder(identifiers: Identifiers) -> Callable[[str], bool]:
    """`find_personal` for many texts about one person."""
    says = [_says(item) for item in identifiers]
    return lambda text: any(says_it(reading) for reading in _readings(text) for says_it in says)


def looks_personal(text: str) -> bool:
    """Whether the text has the form of something that identifies a person."""
    for reading in _readings(text):
        if _ADDRESS.search(reading):
            return True
        rest = _DATE.sub(" ; ", _UUID.sub(" ; ", reading))
        if any(len(_only_digits(run)) >= _PERSONAL_DIGITS for run in _DIGITS.findall(rest)):
            return True
    return False


def _readings(text: str) -> Iterator[str]:
    """The text, and what it says once encodings are taken off."""
    seen: set[str] = set()
    layer = [text]
    for _ in range(_LAYERS):
        further: list[str] = []
        for reading in layer:
            plain = _plain(reading)
            if plain in seen:
                continue
            seen.add(plain)
            yield plain
            further += _decoded(reading)
        layer = further


def _decoded(text: str) -> Iterator[str]:
    yield unquote_plus(text)
    yield html.unescape(text)
    yield _ESCAPED.sub(lambda found: chr(int(found.group(1), 16)), text)
    for run in _ENCODED.findall(text):
        standard = run.translate(str.maketrans("-_", "+/"))
        # An address within a longer encoded text may begin at any of the four places of a group.
        for start in range(4):
            whole = standard[start : start + (len(standard) - start) // 4 * 4]
            rest = standard[start + len(whole) :]
            if len(rest) > 1:
                whole += rest + "=" * (4 - len(rest))
            yield from _text_of(whole, base64.b64decode)
    for run in _HEX.findall(text):
        yield from _text_of(run, bytes.fromhex)


def _text_of(encoded: str, decode: Callable[[str], bytes]) -> Iterator[str]:
    try:
        yield decode(encoded).decode(errors="ignore")
    except (ValueError, binascii.Error):
        return


def _says(item: Identifier) -> Callable[[str], bool]:
    """Tells whether a plain text contains the identifier, of which everything is made ready once: a text may
    have dozens of readings.
    """
    value = _plain(item.value)
    if item.kind in ("email", "notice_to"):
        forms = tuple(_address_forms(value))
        return lambda plain: any(form in plain for form in forms)
    if item.kind == "phone":
        number = _national(item.value)
        if len(number) < _SHORTEST_PHONE:
            return _never
        return lambda plain: any(number in _only_digits(run) for run in _DIGITS.findall(plain))
    if item.kind == "name":
        parts = frozenset(_WORD.findall(value))
        if sum(map(len, _WORD.findall(value))) < _SHORTEST_ID:
            return _never
        return lambda plain: parts <= set(_WORD.findall(plain))
    if len(value) < _SHORTEST_ID:
        return _never
    bounded = rf"(?<![^\W_]){re.escape(value)}(?![^\W_])"
    # Few texts contain it at all, and that is known sooner.
    return lambda plain: value in plain and re.search(bounded, plain) is not None


def _never(plain: str) -> bool:
    return False


def _address_forms(value: str) -> Iterator[str]:
    yield value
    local, _, host = value.rpartition("@")
    if "xn--" in host or not host.isascii():  # others have no second form, and idna takes its time to say so
        with suppress(UnicodeError):  # nor has a name that isn't IDNA
            yield _plain(f"{local}@{idna.decode(host)}")
    for digest in (hashlib.md5, hashlib.sha1, hashlib.sha256):
        yield digest(value.encode(), usedforsecurity=False).hexdigest()


def _national(value: str) -> str:
    import phonenumbers  # takes a while to load, and only telephone numbers need it

    try:
        return str(phonenumbers.parse(value).national_number)
    except phonenumbers.NumberParseException:
        return _only_digits(value)  # it was never cleaned: look for what there is


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _only_digits(text: str) -> str:
    return "".join(char for char in text if char.isdecimal())
