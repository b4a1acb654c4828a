"""The watch over the time, kept in the database and told to whoever has to know.

A jump is alarmed in the log and in the metrics. One back makes the orchestrator look for requests that wait
too long; see `saga.setback`. It belongs to the orchestrator's thread.
"""

import logging
from collections.abc import Callable

from orchestrator.metrics import Metrics
from orchestrator.saga.ahead import Doubt
from orchestrator.service.jumps import Watch
from orchestrator.store import SeenTimes

_logger = logging.getLogger(__name__)

#: A look that took longer than this says nothing: when its answer was given, nobody knows.
_LONGEST_LOOK = 5_000_000
# How often what was seen is written down, in microseconds.
_KEPT_EVERY = 60 * 1_000_000


class Timekeeper:
    """Watches the time of `seen`'s database. `steady` is a clock that nobody sets, in micros. `restamp` gives
    what was written between two times, under a clock that was behind, the time of now: it would be thrown
    away at once.
    """

    def __init__(
        self,
        seen: SeenTimes,
        *,
        steady: Callable[[], int],
        patience: int,
        longest: int,
        metrics: Metrics,
        restamp: Callable[[int, int, int], object] = lambda start, end, now: None,
    ) -> None:
        self._times = seen
        self._steady = steady
        self._patience = patience
        self._longest = longest
        self._metrics = metrics
        self._restamp = restamp
        self._watch: Watch | None = None
        # The number of jumps that the database knows of, and when it was last told what was seen.
        self._known_jumps = 0
        self._kept_at = 0
        #: Whether the time may have gone back since all requests were looked over; at a start nobody knows.
        self.went_back = True
        self._behind: tuple[int, int] | None = None

    def begun(self) -> int:
        """Return the mark of a look that begins now, for `look`."""
        return self._steady()

    def look(self, now: int, begun: int) -> None:
        """Compare the database's time with the steady one. Needs no database."""
        steady = self._steady()
        if self._watch is None or steady - begun > _LONGEST_LOOK:
            return
        jump = self._watch.look(now, steady)
        if jump is not None:
            said = {"seconds": jump.by / 1e6, "code": "returned" if jump.is_return else "jumped"}
            _logger.error("clock_jumped", extra=said)
            self._metrics.clock_jumped()
            self.went_back = self.went_back or jump.by < 0
            self._behind = jump.behind or self._behind
            self._kept_at = 0
        self._tell()

    def keep(self) -> None:
        """Look, and write down what was seen, so that the next process knows. Raises StoreError."""
        if self._watch is None:
            known = self._times.load()
            self._watch = Watch(known, patience=self._patience, longest=self._longest)
            self._known_jumps = 0 if known is None else known.jumps
        begun = self.begun()
        self.look(self._times.now(), begun)
        seen = self._watch.seen
        if seen is not None and self._behind is not None:
            # Before it is written down that the time has returned: who dies here begins with this again.
            self._restamp(*self._behind, seen.at)
            self._behind = None
        if seen is None or (self._kept_at and self._steady() - self._kept_at < _KEPT_EVERY):
            return
        if not self._times.save(seen, self._known_jumps):
            # Another process was the first to see a jump, perhaps this one.
            known = self._times.load()
            if known is not None:
                self._watch.adopt(known)
                self._known_jumps = known.jumps
        else:
            self._known_jumps = seen.jumps
        self._kept_at = self._steady()
        self._tell()

    @property
    def is_plausible(self) -> bool:
        """Whether something may be destroyed by this time."""
        return self._watch is not None and self._watch.is_plausible

    @property
    def doubt(self) -> Doubt | None:
        """By how much the time is ahead, while it is not believed. A process that was started later than
        expected may have been off: then all waits are over.
        """
        seen = None if self._watch is None else self._watch.seen
        # Of a time that is believed nothing is ahead.
        if seen is None or seen.ahead <= 0:
            return None
        return Doubt(ahead=seen.ahead, since=seen.jumped_at)

    def otherwise(self, at: int) -> int | None:
        """Return what the time was at `at` by the clock that was last believed; None where that is no
        question.
        """
        return None if self._watch is None else self._watch.otherwise(at)

    def _tell(self) -> None:
        seen = None if self._watch is None else self._watch.seen
        if seen is not None:
            self._metrics.clock(seen.ahead / 1e6, plausible=self.is_plausible)
