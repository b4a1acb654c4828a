"""How much may be posted to us: a bucket that fills with time."""

import threading
import time
from collections.abc import Callable


class Allowance:
    """At most `burst` at once, and `per_second` over time. One for the whole server, since behind a proxy all
    callers look the same."""

    def __init__(
        self, *, per_second: float, burst: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._monotonic = monotonic
        self._left = float(burst)
        self._at = monotonic()
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Whether there is one left; it is then taken."""
        with self._lock:
            now = self._monotonic()
            self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
            self._at = now
            if self._left < 1:
                return False
            self._left -= 1
            return True
