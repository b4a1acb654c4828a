"""What leaves the orchestrator: the relay, and what is forgotten after it."""

from collections.abc import Collection, Iterable
from dataclasses import replace

import pytest
from typing_extensions import override

from orchestrator.bus.port import BusUnavailable, Record
from orchestrator.bus.sqlite import SqliteBus
from orchestrator.service.housekeeping import EVERY, Housekeeping
from orchestrator.service.relay import Relay
from orchestrator.settings import Retention
from orchestrator.store import Outgoing, StoredSent
from orchestrator.store.tables import inbox, outbox
from schemas import topics
from schemas.codec import decode, encode
from schemas.messages import Command
from tests.unit.service_world import DAY, NOW, World, count, world

__all__ = ["world"]


# --- sending ---


class Deaf(SqliteBus):
    """A bus that takes what it is given, and the first times does not get to say so."""

    times = 2

    @override
    def publish(self, records: Iterable[Record]) -> None:
        super().publish(records)
        self.times -= 1
        if self.times >= 0:
            raise BusUnavailable("the answer was lost")


def test_what_is_sent_is_sent_until_the_bus_says_so(world: World) -> None:
    """A lost answer sends the same record again, under the same id, and the outbox is empty in the end."""
    world.publish(topics.REQUESTS, encode(world.request()))
    world.orchestrator.step(0.0)
    relay = Relay(store=world.store, bus=Deaf(world.engine, lambda: world.now))
    for _ in range(2):
        with pytest.raises(BusUnavailable):
            relay.step()
    assert [1, 0] == [relay.step(), relay.step()]
    commands = [decode(one.value, Command) for one in world.records(topics.commands("crm"))]
    assert 3 == len(commands)
    assert 1 == len({command.event_id for command in commands})


def test_the_outbox_drains_in_order_and_in_parts(world: World) -> None:
    """A small part at a time brings the records in the order in which they were committed."""
    requests = [world.request() for _ in range(5)]
    world.publish(topics.REQUESTS, *(encode(one) for one in requests))
    world.orchestrator.step(0.0)
    relay = Relay(store=world.store, bus=world.bus, batch=2)
    assert [(2, False), (2, False), (1, True), (0, True)] == [
        (relay.step(), relay.is_through) for _ in range(4)
    ]
    sent = [decode(one.value, Command).request_id for one in world.records(topics.commands("crm"))]
    assert [one.request_id for one in requests] == sent


class Unmade(SqliteBus):
    """A bus that takes nothing for topics that nobody has made, nor what comes with it."""

    unmade: frozenset[str] = frozenset()
    asked = 0
    is_away = False

    @override
    def missing(self, topics: Collection[str]) -> set[str]:
        self.asked += 1
        if self.is_away:
            raise BusUnavailable("away")
        return set(self.unmade & set(topics))

    @override
    def publish(self, records: Iterable[Record]) -> None:
        batch = list(records)
        if self.is_away or self.unmade & {one.topic for one in batch}:
            raise BusUnavailable("took nothing")
        super().publish(batch)


def test_a_topic_that_nobody_has_made_holds_up_its_own_records_alone(world: World) -> None:
    """They stay until it is made, in order, and however many they are they take no place from others'. Topics
    that are known are not asked for again.
    """
    bus = Unmade(world.engine, lambda: world.now)
    bus.unmade = frozenset(map(topics.callbacks, "xy"))
    relay = Relay(store=world.store, bus=bus, batch=2)
    rows = [
        Outgoing(event_id=f"{kind}{n}", topic=topics.callbacks(kind), key="", value=f"{kind}{n}".encode())
        for n in range(3)
        for kind in "xya"
    ]
    with world.store.begin() as transaction:
        transaction.enqueue(rows)
    assert [2, 1, 0] == [relay.step() for _ in range(3)]
    assert [b"a0", b"a1", b"a2"] == [one.value for one in world.records(topics.callbacks("a"))]
    assert 2 == bus.asked

    bus.unmade = frozenset([topics.callbacks("y")])
    assert [0, 2] == [relay.step(), bus.asked]
    world.now += 5_000_000
    assert [2, 1, 0, 3] == [*(relay.step() for _ in range(3)), bus.asked]
    assert [b"x0", b"x1", b"x2"] == [one.value for one in world.records(topics.callbacks("x"))]
    assert ["y0", "y1", "y2"] == [one.event_id for one in world.store.unsent(10)]


def test_topics_are_asked_for_again_after_the_bus_was_away(world: World) -> None:
    """One may have been deleted meanwhile; that the bus is away makes none missing."""
    bus = Unmade(world.engine, lambda: world.now)
    relay = Relay(store=world.store, bus=bus)
    row = Outgoing(event_id="a", topic="a", key="", value=b"")

    def put(*rows: Outgoing) -> None:
        with world.store.begin() as transaction:
            transaction.enqueue(rows)

    put(row, replace(row, event_id="b", topic="b"))
    assert 2 == relay.step()
    put(replace(row, event_id="c"), replace(row, event_id="d", topic="b"))
    bus.is_away = True
    for _ in range(2):
        with pytest.raises(BusUnavailable):
            relay.step()
    bus.is_away, bus.unmade = False, frozenset("b")
    assert 1 == relay.step()
    assert ["d"] == [one.event_id for one in world.store.unsent(10)]


# --- keeping house ---


def test_what_is_old_is_forgotten_and_what_is_not_stays(world: World) -> None:
    """Events that were seen go after their time, once an hour and not before."""
    trimmed: list[tuple[int, int]] = []
    house = Housekeeping(
        store=world.store,
        bus=world.bus,
        retention=Retention(),
        trim_bus=lambda *before: trimmed.append(before),
    )
    world.publish(topics.REQUESTS, encode(world.request()))
    world.orchestrator.step(0.0)
    world.relay.step()
    seen = []
    for later in (0, 8 * DAY, EVERY - 1, 23 * DAY):
        world.now += later
        house.step()
        seen.append(count(world, inbox))
    assert [1, 1, 1, 0] == seen
    assert [(at - 7 * DAY, at - 90 * DAY) for at in (NOW, NOW + 8 * DAY, world.now)] == trimmed


def test_a_used_link_is_remembered_longer_than_any_link_lives(world: World) -> None:
    """Else an agency's single-use link could be answered twice, a month apart."""
    sent = StoredSent(world.store, "links")
    sent.record("link:1")
    world.now += 400 * DAY
    Housekeeping(store=world.store, bus=world.bus, retention=Retention()).step()
    assert sent.seen("link:1")


def test_what_was_not_sent_is_never_forgotten(world: World) -> None:
    """However old: a bus that is away for a month loses nothing."""
    world.publish(topics.REQUESTS, encode(world.request()))
    world.orchestrator.step(0.0)
    world.now += 400 * DAY
    Housekeeping(store=world.store, bus=world.bus, retention=Retention()).step()
    assert 1 == count(world, outbox)
    assert 1 == world.relay.step()
