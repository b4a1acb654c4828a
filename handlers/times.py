"""Vendors' times, as microseconds since the epoch."""

from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.http.errors import Retryable

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = 1_000_000


def micros(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)


def from_datetime(moment: datetime) -> int:
    """A time without a zone is taken for UTC, as SuperOffice's are."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - EPOCH) // timedelta(microseconds=1)


def from_iso(given: Any) -> int | None:
    """An ISO 8601 or RFC 3339 time; None for anything else. Digits past microseconds are cut off."""
    if not isinstance(given, str) or not given:
        return None
    text = given.strip()
    head, dot, tail = text.partition(".")
    if dot:
        digits = len(tail) - len(tail.lstrip("0123456789"))
        text = f"{head}.{tail[:digits][:6].ljust(6, '0')}{tail[digits:]}"
    try:
        value = from_datetime(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None
    return value if value >= 0 else None


def from_zoned(given: Any) -> int | None:
    """Return a time that carries its offset; None where none is given, or one of before 1970.

    Raises:
        Retryable: what was given is no time, or has no offset: an hour more or less can't be told.
    """
    if given in (None, ""):
        return None
    try:
        is_zoned = datetime.fromisoformat(str(given).strip()).tzinfo is not None
    except ValueError:
        is_zoned = False
    if not is_zoned:
        raise Retryable("malformed_answer")
    return from_iso(given)


def to_iso(at: int) -> str:
    """RFC 3339, in UTC, to the second."""
    return (EPOCH + timedelta(microseconds=at)).strftime("%Y-%m-%dT%H:%M:%SZ")
