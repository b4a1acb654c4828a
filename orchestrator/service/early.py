"""What was said of requests that nobody knows yet, and how long it waits for them.

Topics have no order among themselves, and their partitions are with several processes. After a database was
put back, answers that Kafka kept are read before the requests that they are about, which are on their way
once more, perhaps to another process.

* An event waits until all that the requests topic held when it was read has been applied, by whomever: until
  the positions in the database have reached the ends that the topic had. Nobody can speak of a request
  before it is there. Then it is tried a second and last time.
* While those positions move, it waits. If all that have not reached their end stand still for `PATIENCE` (a
  partition that nobody can read; the marker of a foreign transaction, which no reader gets past), it waits no
  longer, however much goes on elsewhere. Its last try may make it a dead letter: kept, not noted as seen, and
  to be sent again.
* A request whose master key is not known here yet waits for it, and for nothing else: until the key is there,
  or was declared lost. If only its producer says that there is such a key, it waits for `KEY_PATIENCE`: a
  change of keys reaches one process after another, but anybody can name a wrong number. Since when it waits
  stands in the database, so that processes which restart, or pass it on, don't begin anew.
* News of a vendor that no request's correlation is known for waits for `NEWS_PATIENCE` at least: it may have
  come while the search that finds the record was being stored. At most `MOST_NEWS` wait, the latest: anybody
  may delete people at a vendor by the thousand, and what waits holds back a position. Most of it is about
  nobody who asked, so after its last try it is counted and dropped, and is no dead letter.
* The position on its partition does not pass it before its last try is committed. What went to another
  process comes from there.
"""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Final

from orchestrator.bus.port import Delivery, Positions
from orchestrator.position import Position
from orchestrator.service.held import Held
from orchestrator.service.inbound import Inbound

#: How long the requests topic may stand still before nothing waits for it any more: longer than a rebalance,
#: an election and a restart together.
PATIENCE: Final = 10 * 60 * 1_000_000

#: How long a request waits for a master key of which only its producer speaks.
KEY_PATIENCE: Final = 24 * 3600 * 1_000_000

#: Under which consumer's name the inbox notes since when.
AWAITED: Final = "keys-awaited"

# How often the database is asked, in microseconds.
_ASK_EVERY: Final = 60 * 1_000_000

#: How long a vendor's news waits for its correlation: longer than a worker may take for a command.
NEWS_PATIENCE: Final = 5 * 60 * 1_000_000

#: How many of them wait.
MOST_NEWS: Final = 1_000

_Places = dict[tuple[str, int], Position]


@dataclass(slots=True)
class _Waiting:
    inbound: Inbound
    since: int
    there: Held | None = None
    asked_at: int | None = None
    is_over: bool = False


class Early:
    """One process's share of them. `held` is what the requests topic holds, `positions` the database's;
    `is_settled` says of a generation whether its key is there, or is known never to come; `has_waited` for
    how long any process has waited for the key of a record, by the name of its place.
    """

    def __init__(
        self,
        *,
        held: Callable[[], Held],
        positions: Callable[[], Positions],
        clock: Callable[[], int],
        is_settled: Callable[[int], bool] = lambda generation: False,
        has_waited: Callable[[str], int] = lambda place: 0,
    ) -> None:
        self._waited_elsewhere = has_waited
        self._is_settled = is_settled
        self._held = held
        self._positions = positions
        self._clock = clock
        self._waiting: list[_Waiting] = []
        # How far the partitions were applied that have a gap: something that waits, or is to be committed.
        self._reached: _Places = {}
        # Where the partitions are that something waits for, and since when.
        self._stands: dict[tuple[str, int], tuple[int, int]] = {}

    def clear(self) -> None:
        """It was given back, and comes again."""
        self._waiting.clear()
        self._reached.clear()
        self._stands.clear()

    def ripe(self, holds: Callable[[Delivery], bool], limit: int) -> list[Inbound]:
        """Up to `limit` of those that wait no longer. They are tried for the last time, in transactions that
        begin after this, and are forgotten when `keep` hears of it; `holds` says what is still ours.
        """
        self._waiting = [one for one in self._waiting if holds(one.inbound.delivery)]
        if not self._waiting:
            self.clear()
            return []
        # What was lost with its partition comes again, from where it waited.
        here = {_place(one.inbound) for one in self._waiting}
        self._reached = {place: at for place, at in self._reached.items() if place in here}
        now = self._clock()
        keyed = [one for one in self._waiting if one.inbound.generation is not None]
        settled = {
            number
            for number in {one.inbound.generation for one in keyed}
            if number is not None and self._is_settled(number)
        }
        ripe = [
            one.inbound for one in keyed if one.inbound.generation in settled or self._has_waited(one, now)
        ]
        others = [one for one in self._waiting if one.inbound.generation is None]
        if others:
            soon = self._too_soon(others, now)
            held = {_place(one.inbound) for one in keyed}
            ripe += [one for one in self._ripe(others, now, held) if id(one) not in soon]
        return ripe[:limit]

    def _too_soon(self, waiting: Sequence[_Waiting], now: int) -> set[int]:
        """The vendors' news, by id, that has not waited for long enough yet."""
        news = [one for one in waiting if one.inbound.correlation is not None]
        return {id(one.inbound) for one in news[-MOST_NEWS:] if now - one.since < NEWS_PATIENCE}

    def _has_waited(self, one: _Waiting, now: int) -> bool:
        if one.inbound.is_ours or one.is_over:
            return one.is_over
        waited = now - one.since
        if one.asked_at is None or now - one.asked_at >= _ASK_EVERY:
            one.asked_at = now
            waited = max(waited, self._waited_elsewhere(one.inbound.delivery.place))
        one.is_over = waited >= KEY_PATIENCE
        return one.is_over

    def is_over(self, inbound: Inbound) -> bool:
        """Whether a request has waited for its key for as long as it may."""
        now = self._clock()
        mine = [one for one in self._waiting if one.inbound.delivery is inbound.delivery]
        return any(self._has_waited(one, now) for one in mine)

    def _ripe(self, waiting: Sequence[_Waiting], now: int, held: Set[tuple[str, int]]) -> list[Inbound]:
        """Those that wait for their requests no longer. Where a request waits for its key, in the partitions
        `held`, there is something to wait for.
        """
        if any(one.there is None for one in waiting):
            there = self._held()
            for one in waiting:
                one.there = there if one.there is None else one.there
        # After the ends, and before the transactions: what they say is done, those will see.
        seen = self._positions()
        ahead = [(one.there or Held()).unread(seen) for one in waiting]
        before, self._stands = self._stands, {}
        for place in set().union(*ahead):
            at = seen.get(place, 0)
            stood = before.get(place)
            self._stands[place] = (at, now) if stood is None or stood[0] != at else stood
        stuck = {place for place, (_, since) in self._stands.items() if now - since >= PATIENCE} - held
        return [one.inbound for one, places in zip(waiting, ahead, strict=True) if places <= stuck]

    def places(
        self, inbound: Sequence[Inbound], early: Sequence[Inbound], left: Sequence[Inbound] = ()
    ) -> tuple[_Places, _Places]:
        """The positions after `inbound`, of which `early` waits, and before `left`, which is committed later;
        and how far was applied, for `keep`.
        """
        reached: _Places = {}
        for one in inbound:
            place = _place(one)
            following = one.delivery.following
            reached[place] = max(
                reached.get(place, following), self._reached.get(place, following), following
            )
        floors: _Places = {}
        for one in (*(waiting.inbound for waiting in self._without(inbound)), *early, *left):
            place = _place(one)
            floors[place] = min(floors.get(place, one.delivery.position), one.delivery.position)
        positions = {place: min(at, floors.get(place, at)) for place, at in reached.items()}
        return positions, {place: at for place, at in (self._reached | reached).items() if place in floors}

    def keep(self, inbound: Sequence[Inbound], early: Sequence[Inbound], reached: _Places) -> None:
        """The transaction with `inbound` is committed. It has left out `early`, which waits from now on."""
        since = {id(one.inbound.delivery): one.since for one in self._waiting}
        now = self._clock() if early else 0
        still = [_Waiting(one, since.get(id(one.delivery), now)) for one in early]
        self._waiting = [*self._without(inbound), *still]
        self._reached = reached

    def _without(self, inbound: Sequence[Inbound]) -> list[_Waiting]:
        # By the delivery, which stays the same when the event gives way to the reason why it failed.
        gone = {id(one.delivery) for one in inbound}
        return [one for one in self._waiting if id(one.inbound.delivery) not in gone]


def _place(one: Inbound) -> tuple[str, int]:
    return one.delivery.topic, one.delivery.partition
