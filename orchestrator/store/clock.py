"""The database's time, for work that is not to be done twice because the database went away meanwhile."""

import threading
import time
from collections.abc import Callable

from orchestrator.store.errors import StoreUnavailable


class SteadyClock:
    """Asks each time, and reckons on from the last answer while there is none: who has just made a call to a
    vendor, or sent a mail, must be able to say when. After `limit` seconds without an answer it raises, as
    the question does: nothing is begun on an old one.
    """

    def __init__(self, ask: Callable[[], int], limit: float) -> None:
        self._ask = ask
        self._limit = limit
        self._lock = threading.Lock()
        self._known: tuple[int, float] | None = None

    def __call__(self) -> int:
        """The time in microseconds, UTC. Raises StoreUnavailable."""
        try:
            now = self._ask()
        except StoreUnavailable:
            with self._lock:
                known = self._known
            if known is None or (since := time.monotonic() - known[1]) > self._limit:
                raise
            return known[0] + int(since * 1_000_000)
        with self._lock:
            self._known = now, time.monotonic()
        return now
