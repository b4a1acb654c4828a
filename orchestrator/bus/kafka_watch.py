"""Tells a client library's call that takes its time from one that will not come back.

Several of kafka-python's calls wait without a deadline of their own for its I/O thread. Should that wait
never end, nothing in this process can end it, and the process has to.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

# Past a call's own limit.
_GRACE = 60.0


class Watch:
    """Knows which calls are under way, and until when each may be."""

    def __init__(self, grace: float = _GRACE) -> None:
        self._grace = grace
        self._lock = threading.Lock()
        self._until: dict[object, float] = {}

    @contextmanager
    def call(self, limit: float) -> Iterator[None]:
        """Around a call that should end within `limit` seconds."""
        token = object()
        with self._lock:
            self._until[token] = time.monotonic() + limit + self._grace
        try:
            yield
        finally:
            with self._lock:
                del self._until[token]

    @property
    def is_overdue(self) -> bool:
        """Whether some call should have ended long ago."""
        now = time.monotonic()
        with self._lock:
            return any(until < now for until in self._until.values())
