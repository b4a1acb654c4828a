"""The calls made while one command is carried out: each with an id of ours, and what the answers prove.

* The evidence is the number of calls, the status, the vendor's own id of the call and the time: of the calls
  that erase, or of the last one where none did. With the id a vendor's support finds the call in its records.
* Nothing of an address, a body or a message gets in. What is taken for an id has the form of one, and is left
  out where it could be a person's: it comes from the other side, which may put anything there.
* The id that we give a call (`X-Request-Id`) is derived from the command's, so that a repeat has the same.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID, uuid5

REQUEST_ID: Final = "X-Request-Id"
_NAMESPACE: Final = UUID("6f6c1f5e-31b3-5c0e-9a34-0c6d5a1c8f0b")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MOST: Final = 5
_CORRELATION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{7,37}")
#: HubSpot's own; the others are what services commonly use. SuperOffice and Google document none.
_HEADERS: Final = ("x-hubspot-correlation-id", "x-correlation-id", "x-request-id", "request-id")
_LONGEST_ERROR: Final = 64 * 1024


@dataclass(slots=True)
class Calls:
    """What was called for one command."""

    cause: str
    count: int = 0
    _last: tuple[int, int, str | None] | None = None
    _erasing: list[tuple[int, int, str | None]] = field(default_factory=list)

    def next_id(self) -> str:
        """The id of the next call."""
        self.count += 1
        return str(uuid5(_NAMESPACE, f"{self.cause}/{self.count}"))

    def answered(self, status: int, correlation: str | None, at: int, *, erasing: bool) -> None:
        self._last = (status, at, correlation)
        if erasing:
            self._erasing.append(self._last)

    def evidence(self) -> dict[str, str]:
        """What the answers prove; empty where nothing was called."""
        if not self.count:
            return {}
        proof = {"vendor_calls": str(self.count)}
        told = self._erasing or ([self._last] if self._last is not None else [])
        if not told:
            return proof
        status, at, _ = told[-1]
        proof["vendor_status"] = str(status)
        proof["vendor_answered_at"] = (_EPOCH + timedelta(microseconds=at)).strftime("%Y-%m-%dT%H:%M:%SZ")
        ids = [id_ for _, _, id_ in told if id_ is not None][-_MOST:]
        if ids:
            proof["vendor_correlation"] = " ".join(ids)
        return proof


_calls: ContextVar[Calls | None] = ContextVar("calls made for the command in hand", default=None)


@contextmanager
def recorded(cause: str) -> Iterator[Calls]:
    """Calls made within, also by tasks that are started within, are recorded; `cause` is the command's id."""
    calls = Calls(cause)
    before = _calls.set(calls)
    try:
        yield calls
    finally:
        _calls.reset(before)


def call_headers() -> Mapping[str, str]:
    """The headers that give the next call its id."""
    calls = _calls.get()
    return {} if calls is None else {REQUEST_ID: calls.next_id()}


def record_answer(status: int, headers: Mapping[str, str], body: bytes, at: int, *, erasing: bool) -> None:
    """Remembers an answer."""
    calls = _calls.get()
    if calls is not None:
        calls.answered(status, correlation_of(status, headers, body), at, erasing=erasing)


def correlation_of(status: int, headers: Mapping[str, str], body: bytes) -> str | None:
    """The vendor's id of the call: from a header, or from the body of an error (`correlationId`)."""
    for name in _HEADERS:
        given = headers.get(name, "").strip()
        if _CORRELATION.fullmatch(given):
            return given
    if status < 400 or len(body) > _LONGEST_ERROR or b"correlationId" not in body:
        return None
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    told = content.get("correlationId") if isinstance(content, dict) else None
    return told if isinstance(told, str) and _CORRELATION.fullmatch(told) else None
