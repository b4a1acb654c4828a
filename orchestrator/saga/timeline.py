"""The request's timeline: append-only, a hash chain, no personal data.

Each entry's hash covers the one before it, so nothing in the middle can be changed without changing the head,
and the head goes into the outcome and the DPO's mail.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

GENESIS = "0" * 64
_canonical = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


def link(previous: str, seq: int, at: int, action: str, data: Mapping[str, str]) -> str:
    """The hash of one entry: SHA-256 (hex) over its canonical JSON, `previous` included."""
    canonical = _canonical([previous, seq, at, action, dict(sorted(data.items()))])
    return hashlib.sha256(canonical.encode()).hexdigest()


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
    return Entry(seq, at, action, data, previous, link(previous, seq, at, action, data))
