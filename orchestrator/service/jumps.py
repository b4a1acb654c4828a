"""Whether the time can be believed: the database's clock beside one that nobody sets.

The other one is CLOCK_BOOTTIME, which counts on while the machine is suspended. So a suspended machine is no
jump, and neither is a clock that NTP slews: it takes more than a minute at once.

* Whoever jumped is not told from whoever was put right. Until the time has run evenly for as long as it had
  jumped (at least `patience`, at most `longest`), it is not plausible, and nothing is destroyed. After that
  it is believed. A time that comes back to where it was counts as an ordinary start.
* From one process to the next only the database's time is kept. One that starts earlier than the time last
  seen has jumped. One that starts later may have been off, or may have jumped: that is no alarm, and the
  time is plausible after as long a while.
"""

import time
from dataclasses import dataclass, replace

from orchestrator.store import Seen

MINUTE = 60 * 1_000_000

#: What is no jump: NTP slews by less, and two looks at a busy database differ by less.
TOLERANCE = MINUTE


def boottime() -> int:
    """Return how long this machine has been up, suspension included, in micros."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump:
    """The clock went forward by so many micros, or back (below 0); a return puts it where it was believed.

    `behind` is from when until when it was behind, in its own time, where it returns from there.
    """

    by: int
    is_return: bool
    behind: tuple[int, int] | None = None


class Watch:
    """Compares each look with the one before. `known` is what an earlier process has seen."""

    def __init__(self, known: Seen | None, *, patience: int, longest: int) -> None:
        self.seen = known
        self._patience = patience
        self._longest = longest
        self._looked_at: int | None = None
        # From when until when the clock was behind before it returned, and by how much.
        self._behind: tuple[int, int, int] | None = None

    def look(self, now: int, steady: int) -> Jump | None:
        """Take in a look: the database's time, and how long the machine has been up."""
        seen, before = self.seen, self._looked_at
        self._looked_at = steady
        if seen is None:
            self.seen = Seen(at=now)
            return None
        if before is None:
            return self._begin(seen, now)
        passed = steady - before
        by = now - seen.at - passed
        if abs(by) > TOLERANCE:
            return self._jumped(seen, now, by)
        self.seen = replace(seen, at=now, even_for=seen.even_for + passed)
        if self.is_plausible:
            # Whatever it was, this is the time now.
            self.seen = replace(self.seen, ahead=0, jumped_at=0, unwatched=0)
        return None

    def adopt(self, known: Seen) -> None:
        """Take over what another process has found out about a jump."""
        even_for = 0 if self.seen is None else min(self.seen.even_for, known.even_for)
        at = known.at if self.seen is None else self.seen.at
        self.seen = replace(known, at=at, even_for=even_for)

    @property
    def is_plausible(self) -> bool:
        """Whether the time has run evenly for long enough to destroy something by it."""
        seen = self.seen
        if seen is None:
            return False
        doubt = max(abs(seen.ahead), seen.unwatched)
        return seen.even_for >= max(self._patience, min(doubt, self._longest))

    def otherwise(self, at: int) -> int | None:
        """Return what the time was at `at` by a clock that is believed; None if the one that said `at` was.

        After a return that is what was said while the clock was behind. What was said while it was ahead lies
        in the future then, and needs no word.
        """
        seen = self.seen
        if seen is not None and seen.ahead and at >= seen.jumped_at - TOLERANCE:
            return at - seen.ahead
        if self._behind is not None and self._behind[0] - TOLERANCE <= at <= self._behind[1]:
            return at + self._behind[2]
        return None

    def _begin(self, seen: Seen, now: int) -> Jump | None:
        """The first look of a process; how much time has really passed nobody knows."""
        gap = now - seen.at
        if gap < -TOLERANCE:
            return self._jumped(seen, now, gap, is_start=True)
        if seen.ahead < 0 and seen.ahead + gap >= -TOLERANCE:
            return self._returned(seen, now, gap, unwatched=max(0, seen.ahead + gap))
        if gap > self._patience:
            self.seen = replace(seen, at=now, even_for=0, unwatched=max(seen.unwatched, gap))
        else:
            self.seen = replace(seen, at=now)
        return None

    def _jumped(self, seen: Seen, now: int, by: int, *, is_start: bool = False) -> Jump:
        # What was not watched may have been a jump forward; what passed between two processes is in the rest.
        rest = (seen.ahead or seen.unwatched) + by
        if abs(rest) <= TOLERANCE or (by < 0 < rest and (is_start or not seen.ahead)):
            return self._returned(seen, now, by, unwatched=max(0, rest))
        self.seen = Seen(at=now, ahead=seen.ahead + by, jumped_at=now, jumps=seen.jumps + 1)
        return Jump(by=by, is_return=False)

    def _returned(self, seen: Seen, now: int, by: int, *, unwatched: int) -> Jump:
        self.seen = Seen(at=now, unwatched=unwatched, jumps=seen.jumps + 1)
        if seen.ahead >= 0:
            return Jump(by=by, is_return=True)
        # At a start it ran on, unseen, until then.
        end = max(seen.at, now + seen.ahead)
        self._behind = (seen.jumped_at, end, -seen.ahead)
        return Jump(by=by, is_return=True, behind=(seen.jumped_at, end))
