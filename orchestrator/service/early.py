"""What was said of requests that nobody knows yet, and how long it waits for them.

Topics have no order among themselves, and their partitions are with several processes. After a database was
put back, answers that Kafka kept are read before the requests that they are about, which are on their way
once more, perhaps to another process.

* An event waits until all that the requests topic held when it was read has been applied, by whomever: until
  the positions in the database have reached the ends that the topic had. Nobody can speak of a request
  before it is there. Then it is tried a second and last time.
* While those positions move, it waits. If they stand still for `PATIENCE` (a partition that nobody can read;
  the marker of a foreign transaction, which no reader gets past), it waits no longer. Its last try may make
  it a dead letter: kept, not noted as seen, and to be sent again.
* The position on its partition does not pass it meanwhile. What went to another process comes from there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator.bus.port import Delivery, Positions
from orchestrator.service.inbound import Inbound
from schemas import topics

#: How long the requests topic may stand still before nothing waits for it any more: longer than a rebalance,
#: an election and a restart together.
PATIENCE: Final = 10 * 60 * 1_000_000

_Places = dict[tuple[str, int], int]


@dataclass(slots=True)
class _Waiting:
    inbound: Inbound
    ends: Positions | None = None


class Early:
    """One process's share of them. `ends` are those of the requests topic, `positions` the database's."""

    def __init__(
        self, *, ends: Callable[[], Positions], positions: Callable[[], Positions], clock: Callable[[], int]
    ) -> None:
        self._ends = ends
        self._positions = positions
        self._clock = clock
        self._waiting: list[_Waiting] = []
        # How far the partitions were applied on which something waits.
        self._reached: _Places = {}
        self._seen: _Places | None = None
        self._moved_at = 0

    def clear(self) -> None:
        """It was given back, and comes again."""
        self._waiting.clear()
        self._reached.clear()
        self._seen = None

    def ripe(self, holds: Callable[[Delivery], bool], limit: int) -> list[Inbound]:
        """Up to `limit` of those that wait no longer. They are tried for the last time, in a transaction that
        begins after this; `holds` says what is still ours.
        """
        self._waiting = [one for one in self._waiting if holds(one.inbound.delivery)]
        if not self._waiting:
            self.clear()
            return []
        if any(one.ends is None for one in self._waiting):
            ends = self._ends()
            for one in self._waiting:
                one.ends = ends if one.ends is None else one.ends
        # After the ends, and before the transaction: what they say is done, that will see.
        seen = {place: at for place, at in self._positions().items() if place[0] == topics.REQUESTS}
        now = self._clock()
        if seen != self._seen:
            self._seen, self._moved_at = seen, now
        stands_still = now - self._moved_at >= PATIENCE
        found = [one for one in self._waiting if stands_still or _is_reached(one.ends or {}, seen)][:limit]
        gone = set(map(id, found))
        self._waiting = [one for one in self._waiting if id(one) not in gone]
        return [one.inbound for one in found]

    def places(self, inbound: Sequence[Inbound], early: Sequence[Inbound]) -> tuple[_Places, _Places]:
        """The positions after `inbound`, of which `early` waits; and how far was applied, for `keep`."""
        reached: _Places = {}
        for one in inbound:
            place = _place(one)
            reached[place] = max(reached.get(place, 0), self._reached.get(place, 0), one.delivery.offset + 1)
        floors: _Places = {}
        for one in (*(waiting.inbound for waiting in self._waiting), *early):
            place = _place(one)
            floors[place] = min(floors.get(place, one.delivery.offset), one.delivery.offset)
        positions = {place: min(at, floors.get(place, at)) for place, at in reached.items()}
        return positions, {place: at for place, at in (self._reached | reached).items() if place in floors}

    def keep(self, early: Sequence[Inbound], reached: _Places) -> None:
        """They wait from now on; the transaction that left them out is committed."""
        self._waiting += [_Waiting(one) for one in early]
        self._reached = reached


def _is_reached(ends: Positions, positions: Positions) -> bool:
    return all(positions.get(place, 0) >= end for place, end in ends.items())


def _place(one: Inbound) -> tuple[str, int]:
    return one.delivery.topic, one.delivery.partition
