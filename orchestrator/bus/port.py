"""The event bus, as everything else sees it.

What every adapter promises:

* **Publishing is durable.** `publish` returns when the records are safe, in order, or raises
  `BusUnavailable`. After a raise any of them may still be on the bus: publish again, receivers drop repeats
  by event id.
* **At least once.** A record is delivered to one subscription of each group until it was acknowledged. A
  group that was never seen before starts at the oldest record there is. What a subscription holds when it
  is closed, or dies, is delivered again.
* **Acknowledge in any order.** A group's position on a partition is the lowest record not yet acknowledged.
  It is stored no later than the next `poll` or `close`; a crash before that repeats records.
* **Order by key.** Records of one topic and key are delivered in the order in which they were published,
  and while one of them is unacknowledged the later ones go to the same subscription only. An empty key asks
  for no order.
* **The consumer's own positions win.** Who keeps positions in a database of its own (in the transaction
  that keeps the effects) hands them to `subscribe`; they override what the bus has stored for those
  partitions, forwards and back, so that a restored backup replays what it missed. Given as a mapping they
  are those of the time of subscribing, and count when a partition first comes to the subscription. Given as
  a function they are looked up, in the subscription's thread, each time that partitions come to it, and are
  the whole truth: a partition that they don't name begins at the oldest record there is, since the backup
  may be from before its first.
* **A position that is none of this bus's is not followed.** The bus has lost records, or is another one than
  the position was of, and what comes next would be passed over. A position carries a mark of the last record
  that was read, where offsets can come again: the bus compares it when a partition comes, and from time to
  time. Where it has no mark, it still can't lie beyond the end of its partition, nor be looked up in a
  database though the bus has none of the group's for that partition. Reading begins at the oldest record
  there is. `on_stray` hears of it before anything is read, so that a database forgets the position: it would
  count again once the partition has grown past it. It also hears of a mark for a position that had none.
* **A busy reader stays a reader.** Who has its hands full polls for 0 records now and then: that delivers
  nothing, stores the position and keeps the reader in its group. Who doesn't poll at all counts as dead
  after a while, and others get its records.

A subscription belongs to one thread; publishing is safe from any. Call neither while a database transaction
of yours is open: the bus has its own, and in the same database it would wait for yours.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from orchestrator.position import Position

Headers = tuple[tuple[str, bytes], ...]
#: The next offset to read, by (topic, partition); a `Position` where its mark is known.
Positions = Mapping[tuple[str, int], int]


def looked_up(positions: "Positions | Callable[[], Positions] | None") -> Positions:
    """The positions as they are now, in whichever way they were given."""
    return (positions() if callable(positions) else positions) or {}


class BusUnavailable(Exception):
    """The bus cannot be reached or did not take the records; nothing is lost, try again later. `code` is for
    the log: what somebody has to mend, where that is known.
    """

    def __init__(self, text: str = "", *, code: str | None = None) -> None:
        super().__init__(text)
        self.code = code


class TopicForbidden(BusUnavailable):
    """The bus doesn't let this account publish to one of the topics; others it may."""

    def __init__(self) -> None:
        super().__init__("this account may not write to one of the topics", code="topic_forbidden")


class RecordTooLarge(Exception):
    """The bus takes no record of this size, now or later; nothing of the call is relied on."""


class SubscriptionClosed(Exception):
    """The subscription was closed; open a new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is published. A record that came without a key or value reads as one with an empty one."""

    topic: str
    key: str
    value: bytes = field(repr=False)
    headers: Headers = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery(Record):
    """A record as delivered, with its place. `timestamp` is when it was published, in microseconds, UTC.
    `mark` tells it from another record that may once have the same offset.
    """

    partition: int
    offset: int
    timestamp: int
    mark: str = ""

    @property
    def place(self) -> str:
        """The name of the place that this record alone ever has."""
        place = f"{self.topic}/{self.partition}/{self.offset}"
        return f"{place}/{self.mark}" if self.mark else place

    @property
    def following(self) -> Position:
        """The position of whoever has read this record and all before it."""
        return Position(self.offset + 1, self.mark)

    @property
    def position(self) -> Position:
        """The position of whoever has read all before this record."""
        return Position(self.offset, self.mark)

    def header(self, name: str) -> bytes | None:
        """The first header of that name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


class Subscription(Protocol):
    """A consumer's share of a group's records."""

    def poll(self, timeout: float, max_records: int) -> list[Delivery]:
        """Up to `max_records` records; waits at most `timeout` seconds for the first. Empty if none came.

        Raises:
            BusUnavailable: the bus cannot be reached, or did not store the position; what is held stays
                held, and polling again is how to wait.
        """
        ...

    def ack(self, delivery: Delivery) -> None:
        """This record's effects are safe. What is no longer this subscription's to acknowledge is ignored."""
        ...

    def holds(self, delivery: Delivery) -> bool:
        """Whether this very delivery is still this subscription's to acknowledge, as of its last `poll`. One
        that is not has gone to another reader, or will come again.
        """
        ...

    def close(self) -> None:
        """Store the position and give back what was not acknowledged. Closing twice is harmless."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Bus(Protocol):
    """Carries records between the roles."""

    def publish(self, records: Iterable[Record]) -> None:
        """Make the records durable, or raise `BusUnavailable` (`TopicForbidden` where only a right is
        missing) or `RecordTooLarge`.
        """
        ...

    def subscribe(
        self,
        group: str,
        topics: Collection[str],
        *,
        positions: Positions | Callable[[], Positions] | None = None,
        on_stray: Callable[[Positions], object] | None = None,
    ) -> Subscription:
        """Join `group` as a reader of `topics`; a topic that nobody has published to yet is simply empty.
        `on_stray` hears in the subscription's thread which positions stand in place of those that were given:
        where reading begins, if those are none of this bus's, or the same with their marks.
        """
        ...

    def backlog(self, group: str, topics: Collection[str]) -> int:
        """How many records of these topics the group has not behind it, as far as its stored positions tell.
        Raises BusUnavailable: what can't be told is not nothing.
        """
        ...

    def ends(self, topics: Collection[str]) -> Positions:
        """The offset after the last record of each partition of these topics that holds any. Who has read so
        far has read all that was there. Raises BusUnavailable: what can't be told is not nothing.
        """
        ...

    def strays(self, positions: Positions) -> set[tuple[str, int]]:
        """Those of these positions that are none of this bus's: a reader there would not follow them. Raises
        BusUnavailable: what can't be told is not the same.
        """
        ...

    def missing(self, topics: Collection[str]) -> set[str]:
        """Those of these topics to which nothing can be published until somebody makes them, or gives this
        account the right to write to them. Raises BusUnavailable.
        """
        ...

    def topics(self) -> set[str]:
        """Return those of our topics that there are, whatever the settings name today. Raises
        BusUnavailable.
        """
        ...

    def browse(self, topics: Collection[str]) -> Iterator[Delivery]:
        """Every record that these topics hold now, each partition's in order. It joins no group, and moves no
        position. Raises BusUnavailable.
        """
        ...

    def close(self) -> None:
        """Close the open subscriptions and let go of connections that are the bus's own."""
        ...
