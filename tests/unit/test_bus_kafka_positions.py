"""Where a member of a Kafka group begins to read, and which positions it does not follow.

The library's consumer is played here; the suites that have a broker see that the library does as is assumed.
"""

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from kafka import TopicPartition

from orchestrator.bus.kafka_client import Consumer
from orchestrator.bus.kafka_subscription import KafkaSubscription
from orchestrator.bus.kafka_watch import Watch
from orchestrator.bus.port import Delivery

PLACE = ("t", 0)


class Played:
    """A consumer of one partition, as the library would tell of it."""

    member = "member-1"
    knows_group = True
    is_fenced = False
    refusal = None

    def __init__(self, first: int, end: int, stored: Mapping[tuple[str, int], int]) -> None:
        self.first, self.end, self._stored = first, end, dict(stored)
        self.reads: int | None = None
        self.records: list[int] = []
        self.kept: dict[tuple[str, int], int] = {}

    def extent(self, places: Iterable[tuple[str, int]], _: float) -> dict[tuple[str, int], tuple[int, int]]:
        return dict.fromkeys(places, (self.first, self.end))

    def stored(self, places: Iterable[tuple[str, int]], _: float) -> dict[tuple[str, int], int]:
        return {place: self._stored[place] for place in places if place in self._stored}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.reads = offset

    def reads_at(self, _: tuple[str, int]) -> int | None:
        return self.reads

    def poll(self, **_: Any) -> dict[TopicPartition, list[Any]]:
        """One record at a time, from where it reads."""
        ready = [at for at in self.records if self.reads is not None and at >= self.reads][:1]
        if not ready:
            return {}
        self.reads = ready[0] + 1
        record = SimpleNamespace(
            topic="t", partition=0, offset=ready[0], key=b"k", value=b"v", headers=(), timestamp=1
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

    def __init__(self, consumer: Played, positions: Any = None) -> None:
        self.consumer = consumer
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
        )
        self.comes()

    def comes(self) -> None:
        self.subscription.came(cast(Consumer, self.consumer), [PLACE])

    def polled(self) -> list[Delivery]:
        return self.subscription.poll(0.0, 10)


@pytest.mark.parametrize(
    ("known", "stored", "begins", "strays"),
    [
        pytest.param({PLACE: 7}, {PLACE: 3}, 7, [], id="the database's own, forwards"),
        pytest.param({PLACE: 3}, {PLACE: 7}, 3, [], id="the database's own, back"),
        pytest.param({PLACE: 10}, {PLACE: 3}, 10, [], id="at the end"),
        pytest.param({}, {PLACE: 7}, 2, [], id="a partition that a restored backup doesn't know"),
        pytest.param({PLACE: 1}, {PLACE: 1}, 2, [], id="what retention has taken since"),
        pytest.param({PLACE: 11}, {PLACE: 3}, 2, [{PLACE: 2}], id="beyond the end: another bus's"),
        pytest.param({PLACE: 7}, {}, 2, [{PLACE: 2}], id="the group was never on this bus"),
    ],
)
def test_where_a_database_is_the_truth(
    known: dict[tuple[str, int], int],
    stored: dict[tuple[str, int], int],
    begins: int,
    strays: list[dict[tuple[str, int], int]],
) -> None:
    """Its positions win, unless they can't be this bus's: following those would pass records over."""
    group = Group(Played(2, 10, stored), lambda: known)
    assert [] == group.polled()
    assert (begins, strays) == (group.consumer.reads, group.strays)


@pytest.mark.parametrize(("stored", "begins"), [({PLACE: 7}, 7), ({}, 2), ({PLACE: 99}, 2)])
def test_where_the_group_keeps_its_own(stored: dict[tuple[str, int], int], begins: int) -> None:
    """It goes on where the group was; one that was never there, or was on a bus with more in it, begins at
    the oldest.
    """
    group = Group(Played(2, 10, stored))
    assert [] == group.polled()
    assert begins == group.consumer.reads


def test_given_positions_count_when_a_partition_first_comes() -> None:
    """When it comes back later, what the group has stored since is the newer word."""
    group = Group(Played(2, 10, {PLACE: 9}), {PLACE: 4})
    group.polled()
    first = group.consumer.reads
    group.subscription.goes(cast(Consumer, group.consumer), [PLACE])
    group.comes()
    group.polled()
    assert (4, 9) == (first, group.consumer.reads)


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
    group = Group(Played(0, 10, {PLACE: 8}), lambda: {PLACE: 8})
    group.polled()
    group.consumer.end, group.consumer.reads = 3, 3
    group.subscription._stored_at = -100.0
    group.polled()
    assert [{PLACE: 3}] == group.strays
