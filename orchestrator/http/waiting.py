"""What a vendor said of when to call again, and for how long it is kept to.

* A wait that was named is kept by all that use the account: a hundred commands don't each ask again.
* A short one is not remembered. It is over before most others call, and the rate limit is there for them.
* A long one is asked about now and then: the vendor, or a person, may have mended what it was about.
* A number that is no time (RFC 9110, 10.2.3, sets no limit to its digits) says nothing.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from orchestrator.http.errors import TOLD_TO_WAIT, NotAsked

SECOND: Final = 1_000_000
HOUR: Final = 3600 * SECOND
#: A longer Retry-After is a mistake or an attack: the statutory clock goes on.
MAX_RETRY_AFTER: Final = 7 * 24 * HOUR
#: Which waits are remembered for the account, and for how long at most.
SHORTEST: Final = 10 * SECOND
LONGEST: Final = 6 * HOUR
#: Seconds of more digits than this are no time at all.
_MOST_DIGITS: Final = 15
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_logger = logging.getLogger(__name__)


def retry_after(given: str, now: int) -> int | None:
    """Return the wait that a Retry-After asks for, in micros: seconds, or until a date (RFC 9110, 10.2.3).
    None for what says nothing.
    """
    given = given.strip()
    if given.isascii() and given.isdigit():
        return int(given) * SECOND if len(given) <= _MOST_DIGITS else None
    try:
        at = parsedate_to_datetime(given)
        if at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
        return max(0, (at - _EPOCH) // timedelta(microseconds=1) - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


class Wait:
    """Until when an account must not be called."""

    def __init__(self, steady: Callable[[], int], system: str | None = None) -> None:
        self._steady = steady
        self._system = system
        self._until = 0

    def check(self) -> None:
        """Return if the account may be called. Raises NotAsked."""
        left = self._until - self._steady()
        if left > 0:
            raise NotAsked(TOLD_TO_WAIT, left)

    def told(self, wait: int) -> None:
        """Hear that the vendor wants to be left alone for `wait` micros."""
        if wait > MAX_RETRY_AFTER:
            seconds = MAX_RETRY_AFTER // SECOND
            _logger.warning("retry_after_bounded", extra={"system": self._system, "seconds": seconds})
        if wait >= SHORTEST:
            self._until = max(self._until, self._steady() + min(wait, LONGEST))
