"""The request's timeline: append-only, a hash chain, no personal data.

Each entry's hash covers the one before it, so nothing in the middle can be changed without changing the head,
and the head goes into the outcome and the DPO's mail.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as quoted

GENESIS = "0" * 64


def canonical(data: Mapping[str, str]) -> str:
    """An entry's data as JSON: names sorted, no spaces, nothing but ASCII.

    Put together here because the library sets up a new encoder for each value, which for these small ones
    takes longer than encoding them.
    """
    if isinstance(data, _Noted):
        return data.text
    return "{" + ",".join([f"{quoted(name)}:{quoted(value)}" for name, value in sorted(data.items())]) + "}"


class _Noted(dict[str, str]):
    """The data of a new entry, with its canonical form: the hash needs it now, and the store in a moment."""

    __slots__ = ("text",)

    text: str


def link(previous: str, seq: int, at: int, action: str, data: Mapping[str, str]) -> str:
    """The hash of one entry: SHA-256 (hex) over its canonical JSON, `previous` included."""
    return _linked(previous, seq, at, action, canonical(data))


def _linked(previous: str, seq: int, at: int, action: str, text: str) -> str:
    entry = f"[{quoted(previous)},{seq},{at},{quoted(action)},{text}]"
    return hashlib.sha256(entry.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a timeline. `seq` counts from 1; `at` is in microseconds, UTC."""

    seq: int
    at: int
    action: str
    data: Mapping[str, str]
    previous: str
    hash: str


def append(previous: str, seq: int, at: int, action: str, data: Mapping[str, str]) -> Entry:
    """The entry that follows the one whose hash is `previous`."""
    noted = _Noted(data)
    noted.text = text = canonical(data)
    return Entry(seq, at, action, noted, previous, _linked(previous, seq, at, action, text))
