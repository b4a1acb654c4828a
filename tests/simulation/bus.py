"""A stub of the bus: the port's promises in memory, with the troubles that the port allows.

Topics have partitions, a key's records are in one of them, and each partition is read in order. Within
these promises the seed decides: a partition may lag behind the others, a record may be published twice, a
group may be thrown back to its stored position (a rebalance), publishing may fail before or after it took.
"""

import random
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from orchestrator.bus.port import BusUnavailable, Delivery, Positions, Record, SubscriptionClosed, looked_up
from schemas.topics import is_ours
from tests.simulation.lives import Life
from tests.simulation.loop import SECOND, Clock

PARTITIONS = 3
Place = tuple[str, int]


@dataclass(slots=True)
class Trouble:
    """How often each of the bus's troubles happens, as probabilities."""

    repeats: float = 0.0
    lags: float = 0.0
    rewinds: float = 0.0
    fails: float = 0.0


class StubBus:
    """What is durable: records and the groups' positions. Processes reach it through `of`."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self.clock = clock
        self.rng = rng
        self.trouble = Trouble()
        self.seen: Counter[str] = Counter()
        self.records: defaultdict[Place, list[Delivery]] = defaultdict(list)
        self.positions: dict[tuple[str, str, int], int] = {}
        self.lag_until: dict[tuple[str, Place], int] = {}
        self.on_add: Callable[[Record], None] = lambda record: None

    def of(self, life: Life) -> "ProcessBus":
        return ProcessBus(self, life)

    def all_of(self, topic: str) -> list[Delivery]:
        """Every record of a topic, by time."""
        found = [one for number in range(PARTITIONS) for one in self.records.get((topic, number), ())]
        return sorted(found, key=lambda one: (one.timestamp, one.partition, one.offset))

    def every(self) -> Iterable[Delivery]:
        return (one for records in self.records.values() for one in records)

    def add(self, record: Record) -> None:
        self.on_add(record)
        number = zlib.crc32(record.key.encode()) % PARTITIONS
        line = self.records[record.topic, number]
        line.append(
            Delivery(
                topic=record.topic,
                key=record.key,
                value=record.value,
                headers=record.headers,
                partition=number,
                offset=len(line),
                timestamp=self.clock(),
            )
        )

    def next_release_at(self) -> int | None:
        """When the next partition that lags can be read again."""
        now = self.clock()
        self.lag_until = {place: until for place, until in self.lag_until.items() if until > now}
        return min(self.lag_until.values(), default=None)


class ProcessBus:
    """The bus as one process has it."""

    def __init__(self, bus: StubBus, life: Life) -> None:
        self._bus = bus
        self._life = life

    def publish(self, records: Iterable[Record]) -> None:
        batch = list(records)
        if not batch:
            return
        bus, trouble = self._bus, self._bus.trouble
        self._life.before("publish")
        failing = trouble.fails and bus.rng.random() < trouble.fails
        # An answer that is lost leaves a part, or all, on the bus.
        taken = bus.rng.randint(0, len(batch)) if failing else len(batch)
        for record in batch[:taken]:
            bus.add(record)
            if trouble.repeats and bus.rng.random() < trouble.repeats:
                bus.seen["record_repeated"] += 1
                bus.add(record)
        self._life.after("publish")
        if failing:
            bus.seen["publish_failed"] += 1
            raise BusUnavailable("the simulated bus took none, some or all of it")

    def subscribe(
        self,
        group: str,
        topics: Collection[str],
        *,
        positions: Positions | Callable[[], Positions] | None = None,
        on_stray: Callable[[Positions], object] | None = None,
    ) -> "StubSubscription":
        self._life.check()
        return StubSubscription(self._bus, self._life, group, tuple(topics), looked_up(positions))

    def missing(self, topics: Collection[str]) -> set[str]:
        self._life.check()
        return set()

    def backlog(self, group: str, topics: Collection[str]) -> int:
        self._life.check()
        return sum(
            len(records) - self._bus.positions.get((group, topic, number), 0)
            for (topic, number), records in self._bus.records.items()
            if topic in topics
        )

    def ends(self, topics: Collection[str]) -> Positions:
        self._life.check()
        return {place: len(records) for place, records in self._bus.records.items() if place[0] in topics}

    def strays(self, positions: Positions) -> set[tuple[str, int]]:
        self._life.check()
        return set()

    def topics(self) -> set[str]:
        self._life.check()
        return {topic for topic, _ in self._bus.records if is_ours(topic)}

    def browse(self, topics: Collection[str]) -> Iterator[Delivery]:
        self._life.check()
        for topic in topics:
            yield from self._bus.all_of(topic)

    def close(self) -> None:
        """Nothing here is the process's own."""


class StubSubscription:
    """A reader; it dies with its process, and what it had not acknowledged comes again."""

    def __init__(
        self, bus: StubBus, life: Life, group: str, topics: tuple[str, ...], positions: Positions
    ) -> None:
        self._bus = bus
        self._life = life
        self._group = group
        self._places = [(topic, number) for topic in topics for number in range(PARTITIONS)]
        self._next: dict[Place, int] = {}
        self._acked: defaultdict[Place, set[int]] = defaultdict(set)
        self._closed = False
        for topic, number in self._places:
            start = positions.get((topic, number))
            stored = bus.positions.get((group, topic, number), 0)
            self._next[topic, number] = stored if start is None else start
            bus.positions[group, topic, number] = self._next[topic, number]

    def has_news(self) -> bool:
        """Whether a poll would bring something now."""
        now = self._bus.clock()
        records, lag_until = self._bus.records, self._bus.lag_until
        for place, following in self._next.items():
            is_behind = place in records and following < len(records[place])
            if is_behind and lag_until.get((self._group, place), 0) <= now:
                return True
        return False

    def poll(self, timeout: float, max_records: int) -> list[Delivery]:
        self._life.check()
        if self._closed:
            raise SubscriptionClosed
        self._store()
        bus, trouble, rng = self._bus, self._bus.trouble, self._bus.rng
        now = bus.clock()
        taken: list[Delivery] = []
        waiting = [place for place in self._places if self._next[place] < len(bus.records.get(place, ()))]
        if len(waiting) > 1:
            rng.shuffle(waiting)
        for place in waiting:
            if bus.lag_until.get((self._group, place), 0) > now:
                continue
            if trouble.lags and rng.random() < trouble.lags:
                bus.seen["partition_lagged"] += 1
                bus.lag_until[self._group, place] = now + rng.choice((1, 30, 3600, 50_000)) * SECOND
                continue
            if trouble.rewinds and rng.random() < trouble.rewinds:
                stored = bus.positions[self._group, place[0], place[1]]
                # Somewhat behind it, too: a position may be put back with a backup.
                bus.seen["group_thrown_back"] += 1
                self._next[place] = max(0, min(stored, self._next[place]) - rng.randrange(3))
            found = bus.records[place][self._next[place] : self._next[place] + max_records - len(taken)]
            self._next[place] += len(found)
            taken += found
            if len(taken) == max_records:
                break
        return taken

    def ack(self, delivery: Delivery) -> None:
        self._life.check()
        self._acked[delivery.topic, delivery.partition].add(delivery.offset)

    def holds(self, delivery: Delivery) -> bool:
        return delivery.offset not in self._acked[delivery.topic, delivery.partition]

    def close(self) -> None:
        self._life.check()
        if not self._closed:
            self._store()
            self._closed = True

    def _store(self) -> None:
        for place, acked in self._acked.items():
            key = (self._group, *place)
            position = self._bus.positions[key]
            while position in acked:
                acked.discard(position)
                position += 1
            self._bus.positions[key] = position

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
