"""Where a member of a Kafka group begins to read, and which positions it does not follow.

The library's consumer is played here; the suites that have a broker see that the library does as is assumed.
"""

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from kafka import TopicPartition

from orchestrator.bus.kafka_client import Consumer
from orchestrator.bus.kafka_marks import Why
from orchestrator.bus.kafka_remembered import Notes, Remembered
from orchestrator.bus.kafka_subscription import KafkaSubscription
from orchestrator.bus.kafka_watch import Watch
from orchestrator.bus.port import BusUnavailable, Delivery
from orchestrator.position import Position, mark_of
from tests.contract.kafka_bench import Notebook

PLACE = ("t", 0)


def marked(offset: int, topic_id: str = "a", time: int = 1) -> Position:
    """A position after the record before it, of that topic and time, in milliseconds."""
    return Position(offset, f"{offset - 1}:{topic_id}:{time * 1000}")


class Played:
    """A consumer of one partition, as the library would tell of it."""

    member = "member-1"
    knows_group = True
    is_fenced = False
    refusal = None

    def __init__(self, first: int, end: int, stored: Mapping[tuple[str, int], int]) -> None:
        self.first, self.end, self._stored = first, end, dict(stored)
        self.reads: int | None = None
        self.records = list(range(first, end))
        self.id = "a"
        self.time = 1
        self.kept: dict[tuple[str, int], int] = {}

    def extent(self, places: Iterable[tuple[str, int]], _: float) -> dict[tuple[str, int], tuple[int, int]]:
        return dict.fromkeys(places, (self.first, self.end))

    def stored(self, places: Iterable[tuple[str, int]], _: float) -> dict[tuple[str, int], int]:
        return {place: self._stored[place] for place in places if place in self._stored}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.reads = offset

    def topic_id(self, _: str) -> str:
        return self.id

    def reads_at(self, _: tuple[str, int]) -> int | None:
        return self.reads

    def poll(self, **_: Any) -> dict[TopicPartition, list[Any]]:
        """One record at a time, from where it reads."""
        ready = [at for at in self.records if self.reads is not None and at >= self.reads][:1]
        if not ready:
            return {}
        self.reads = ready[0] + 1
        record = SimpleNamespace(
            topic="t", partition=0, offset=ready[0], key=b"k", value=b"v", headers=(), timestamp=self.time
        )
        return {TopicPartition("t", 0): [record]}

    def store(self, moved: Mapping[tuple[str, int], int], _: float) -> None:
        self.kept |= moved

    def pause(self, *_: Any) -> None: ...

    def resume(self, *_: Any) -> None: ...

    def begin_storing(self, moved: Mapping[tuple[str, int], int]) -> None:
        self.kept |= moved

    def forget_ownership(self) -> None: ...

    def abandon(self, _: float) -> None: ...


class Group:
    """A subscription with the played consumer, to which the partition has just come."""

    def __init__(self, consumer: Played, positions: Any = None, notes: Notes | None = None) -> None:
        self.consumer = consumer
        self.changed: list[Why] = []
        self.strays: list[dict[tuple[str, int], int]] = []
        self.subscription = KafkaSubscription(
            join=lambda *_: cast(Consumer, consumer),
            positions=positions,
            session=10.0,
            clock=lambda: 5,
            watch=Watch(),
            on_fenced=lambda: None,
            on_closed=lambda _: None,
            on_stray=lambda strays: self.strays.append(dict(strays)),
            on_changed=lambda _, why: self.changed.append(why),
            remembered=Remembered(notes, "g", keeps_positions=positions is None),
        )
        self.comes()

    def comes(self) -> None:
        self.subscription.came(cast(Consumer, self.consumer), [PLACE])

    def polled(self) -> list[Delivery]:
        return self.subscription.poll(0.0, 10)

    def first(self) -> int | None:
        """The offset of what is delivered first; None if nothing is."""
        for _ in range(4):
            if got := self.polled():
                return got[0].offset
        return None


@pytest.mark.parametrize(
    ("known", "stored", "begins", "strays"),
    [
        pytest.param({PLACE: marked(7)}, {PLACE: 3}, 7, [], id="the database's own, forwards"),
        pytest.param({PLACE: marked(3)}, {PLACE: 7}, 3, [], id="the database's own, back"),
        pytest.param({PLACE: marked(10)}, {PLACE: 3}, None, [], id="at the end"),
        pytest.param({PLACE: 7}, {PLACE: 3}, 7, [{PLACE: 7}], id="without a mark: it gets one"),
        pytest.param({}, {PLACE: 7}, 2, [], id="a partition that a restored backup doesn't know"),
        pytest.param({PLACE: 1}, {PLACE: 1}, 2, [], id="what retention has taken since"),
        pytest.param({PLACE: 11}, {PLACE: 3}, 2, [{PLACE: 2}], id="beyond the end: another bus's"),
        pytest.param({PLACE: 7}, {}, 2, [{PLACE: 2}], id="the group was never on this bus"),
        pytest.param({PLACE: marked(7)}, {}, 7, [], id="the group was, and its position has expired"),
        pytest.param({PLACE: marked(7, "b")}, {PLACE: 7}, 2, [{PLACE: 2}], id="of a topic made anew since"),
        pytest.param(
            {PLACE: Position(2, "1:b:9")}, {}, 2, [{PLACE: 2}], id="so it was, and the record is gone"
        ),
        pytest.param({PLACE: marked(7, time=9)}, {PLACE: 7}, 2, [{PLACE: 2}], id="the log was cut and grew"),
        pytest.param({PLACE: Position(9, "10:a:1000")}, {}, 2, [{PLACE: 2}], id="a record read is gone"),
        pytest.param({PLACE: Position(2, "1:a:9")}, {}, 2, [], id="retention has taken the record before"),
        pytest.param({PLACE: marked(7, "")}, {PLACE: 7}, 7, [], id="brokers that told no ids"),
        pytest.param({PLACE: Position(7, "note")}, {PLACE: 7}, 7, [{PLACE: 7}], id="somebody's note"),
    ],
)
def test_where_a_database_is_the_truth(
    known: dict[tuple[str, int], int],
    stored: dict[tuple[str, int], int],
    begins: int | None,
    strays: list[dict[tuple[str, int], int]],
) -> None:
    """Its positions win, unless they can't be this bus's: following those would pass records over."""
    group = Group(Played(2, 10, stored), lambda: known)
    assert (begins, strays) == (group.first(), group.strays)


@pytest.mark.parametrize(
    ("stored", "begins"),
    [
        ({PLACE: 7}, 7),
        ({}, 2),
        ({PLACE: 99}, 2),
        ({PLACE: marked(7)}, 7),
        ({PLACE: marked(7, "b")}, 2),
        ({PLACE: marked(7, time=9)}, 2),
    ],
)
def test_where_the_group_keeps_its_own(stored: dict[tuple[str, int], int], begins: int) -> None:
    """It goes on where the group was; one that was never there, or was on a bus with more in it, begins at
    the oldest.
    """
    group = Group(Played(2, 10, stored))
    assert begins == group.first()


def test_given_positions_count_when_a_partition_first_comes() -> None:
    """When it comes back later, what the group has stored since is the newer word."""
    group = Group(Played(2, 10, {PLACE: 9}), {PLACE: 4})
    first = group.first()
    group.subscription.goes(cast(Consumer, group.consumer), [PLACE])
    group.comes()
    assert (4, 9) == (first, group.first())


def test_what_was_read_before_a_partition_was_lost_is_nobodys_to_acknowledge() -> None:
    """The record that came again may be with another by then: only its own delivery counts."""
    group = Group(Played(0, 10, {}))
    group.consumer.records = [0, 1]
    [old] = group.polled() or group.polled()
    group.subscription.lost(cast(Consumer, group.consumer), [PLACE])
    group.comes()
    [new] = group.polled() or group.polled()
    assert (old.offset, False, True) == (
        new.offset,
        group.subscription.holds(old),
        group.subscription.holds(new),
    )
    group.subscription.ack(old)
    group.polled()
    assert {} == group.consumer.kept
    group.subscription.ack(new)
    group.subscription.close()
    assert {PLACE: 1} == group.consumer.kept


def test_a_broker_that_lost_what_was_read_is_noticed() -> None:
    """The library goes back by itself and says nothing; the database must hear, or it would pass over what
    comes next.
    """
    group = Group(Played(0, 10, {PLACE: 8}), lambda: {PLACE: marked(8)})
    assert 8 == group.first()
    group.consumer.end, group.consumer.reads, group.consumer.records = 3, 0, []
    group.subscription._stored_at = -100.0
    group.polled()
    assert [{PLACE: 0}] == group.strays


@pytest.mark.parametrize(
    ("changes", "strays"),
    [
        ({}, []),
        ({"id": "b"}, [{PLACE: 0}]),
        ({"time": 9}, [{PLACE: 0}]),
        # Retention has taken the record since, and a broker's restart told no id.
        ({"id": "", "time": 9, "records": [9]}, []),
    ],
)
def test_what_is_read_is_compared_from_time_to_time(
    changes: dict[str, Any], strays: list[dict[tuple[str, int], int]]
) -> None:
    """A topic that is made anew, or a log that is cut and grows again, while it is read: nothing else tells
    of it where there are more records than before.
    """
    group = Group(Played(0, 10, {PLACE: 8}), lambda: {PLACE: marked(8)})
    group.consumer.records = [7, 8]
    assert 8 == group.first()
    for name, value in changes.items():
        setattr(group.consumer, name, value)
    group.subscription._stored_at = group.subscription._looked_at = -100.0
    for _ in range(4):
        group.polled()
    assert strays == group.strays


@pytest.mark.parametrize(
    ("noted", "stored", "own", "told"),
    [
        pytest.param(set(), {}, False, [], id="never read before"),
        pytest.param({"t/a"}, {}, False, [], id="read before, and nothing came"),
        pytest.param({"t/a", "t/a/0"}, {PLACE: 5}, False, [], id="read before"),
        pytest.param({"t/b", "t/b/0"}, {}, False, ["topic_rebuilt"], id="another topic was read"),
        pytest.param({"t/b"}, {}, False, ["topic_rebuilt"], id="another one, of which nothing came"),
        pytest.param({"t/b", "t/a"}, {}, False, [], id="another one, and that was told"),
        pytest.param({"u/b"}, {}, False, [], id="a topic of another name"),
        pytest.param({"t/a", "t/a/0"}, {}, False, ["position_forgotten"], id="the position is gone"),
        pytest.param({"t/a", "t/a/1"}, {}, False, [], id="there was one on another partition"),
        pytest.param({"t/b"}, {}, True, ["topic_rebuilt"], id="a database is the truth"),
        pytest.param({"t/b"}, {PLACE: marked(5, "b")}, False, ["topic_rebuilt"], id="told once"),
    ],
)
def test_what_is_remembered_of_a_topic_is_compared(
    noted: set[str], stored: dict[tuple[str, int], int], own: bool, told: list[str]
) -> None:
    """Kafka forgets a group's positions together with the topic: the database remembers what was read, and
    that it was told. Reading begins at the oldest record, or where it was.
    """
    notes = Notebook()
    notes.add("g", noted)
    group = Group(Played(2, 10, stored), dict if own else None, notes=notes)
    begins = group.first()
    assert told == [why.value for why in group.changed]
    assert begins == (5 if stored and not told else 2)
    assert "t/a" in notes.of("g")
    again = Group(Played(2, 10, stored), dict if own else None, notes=notes)
    again.first()
    assert ["position_forgotten"] * (told == ["position_forgotten"]) == [
        why.value for why in again.changed if why is not Why.REBUILT
    ]


def test_a_position_is_remembered_when_it_is_stored() -> None:
    """Not only when the partition comes again: by then the position may be gone."""
    notes = Notebook()
    group = Group(Played(0, 10, {}), notes=notes)
    [first] = group.polled() or group.polled()
    assert {"t/a"} == notes.of("g")
    group.subscription.ack(first)
    group.subscription.close()
    assert {"t/a", "t/a/0"} == notes.of("g")


def test_what_can_not_be_remembered_is_not_read() -> None:
    """Else nobody would ever hear that the topic is another; it is tried again with the next poll."""

    class Away(Notebook):
        def of(self, group: str) -> set[str]:
            raise BusUnavailable("the database is away")

    group = Group(Played(0, 10, {}), notes=Away())
    with pytest.raises(BusUnavailable):
        group.first()
    with pytest.raises(BusUnavailable):
        group.first()


def test_the_mark_is_stored_with_the_group_s_position() -> None:
    """It says which record was the last that was done with."""
    group = Group(Played(0, 10, {}))
    [first] = group.polled() or group.polled()
    group.subscription.ack(first)
    group.subscription.close()
    assert ["0:a:1000"] == [mark_of(one) for one in group.consumer.kept.values()]
