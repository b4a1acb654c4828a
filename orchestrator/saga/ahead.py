"""What becomes of waits while the clock is ahead and is not believed yet.

The clock jumped forward. It may have gone wrong, or been put right, and until it has run evenly for a while
nobody knows. What came due by the jump alone is not done meanwhile: no attempt is used up, no party reminded,
no person's silence counted, no key destroyed. A wait that was begun before the jump is over when the time
that was believed before gets there. One that was begun since counts by the clock as it is, so that work goes
on. The statutory warnings go by the clock as it is, too: one that comes too early does less harm than one
that comes too late (`request.alarm`).

Which waits were begun since the jump is not written down. Those of a request that has had no event since were
begun before. Of any other, those that end before the jump's own time were; the rest counts as begun since.
"""

from dataclasses import dataclass

from orchestrator.saga.model import Saga, waits
from orchestrator.saga.rules import HOUR


@dataclass(frozen=True, slots=True)
class Doubt:
    """The clock is `ahead` of the time that was believed, by so many micros, since it said `since`."""

    ahead: int
    since: int

    def is_due(self, until: int, now: int, as_of: int) -> bool:
        """Whether a wait is over, in a request whose latest event was at `as_of`."""
        return self.ends_at(until, as_of) <= now

    def ends_at(self, until: int, as_of: int) -> int:
        """Return when a wait is over, by the clock that is ahead."""
        is_from_before = as_of < self.since or until < self.since
        return until + self.ahead if is_from_before else until

    def is_resting(self, saga: Saga, now: int) -> bool:
        """Whether nothing of a request is due but by the jump."""
        return all(not self.is_due(until, now, saga.as_of) for _, until in waits(saga))

    def wake_at(self, saga: Saga, now: int) -> int | None:
        """Return when to look at a request again. One with waits that are held is looked at each hour, so
        that they end soon after the doubt does.
        """
        own = saga.wake_at
        if own is None or own > now:
            return own
        ends = [self.ends_at(until, saga.as_of) for _, until in waits(saga)]
        return min([at for at in ends if at > now] + [now + HOUR])
