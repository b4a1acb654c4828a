"""A key without a saga is destroyed only when its request can come no more: housekeeping loses no request."""

import uuid
from collections.abc import Collection
from datetime import timedelta

import pytest
from typing_extensions import override

from orchestrator.bus.port import BusUnavailable, Positions, Record
from orchestrator.bus.sqlite import SqliteBus
from orchestrator.privacy import KeyDestroyed
from orchestrator.service.dead_letters import DEALT_WITH, open_letters
from orchestrator.service.housekeeping import EVERY, Housekeeping
from orchestrator.settings import Retention
from orchestrator.store import Outgoing, StoredSent
from schemas import topics
from schemas.codec import encode
from schemas.messages import Request
from tests.unit.service_world import DAY, World, world

__all__ = ["world"]

KEPT = Retention(events=timedelta(days=30))


def keep_house(world: World) -> None:
    """An orchestrator's first minute after an outage of 40 days."""
    world.now += 40 * DAY
    Housekeeping(store=world.store, bus=world.bus, retention=KEPT).step()


def handed_in(world: World) -> Request:
    """A request whose record is on the bus, and that nobody has read yet."""
    request = world.request()
    record = Record(topic=topics.REQUESTS, key=request.request_id, value=encode(request))
    world.bus.publish([record])
    return request


def is_opened(world: World, request: Request) -> bool:
    """Whether the request was read, and it is known whom it is about."""
    world.relay.step()
    world.orchestrator.step(0.0)
    saga = world.store.saga(request.request_id)
    return saga is not None and saga.identifier_kinds == ("email",)


def test_a_request_that_nobody_has_read_keeps_its_key(world: World) -> None:
    """It waits on the bus for longer than events are kept, and is opened when an orchestrator comes back."""
    request = handed_in(world)
    keep_house(world)
    assert is_opened(world, request)


def test_a_request_in_the_outbox_keeps_its_key(world: World) -> None:
    """The broker was away for longer than events are kept."""
    request = world.request()
    with world.store.begin() as transaction:
        transaction.enqueue(
            [Outgoing(event_id="1", topic=topics.REQUESTS, key=request.request_id, value=encode(request))]
        )
    keep_house(world)
    assert is_opened(world, request)


@pytest.mark.parametrize("key", ["its own", ""])
def test_a_dead_letter_keeps_its_requests_key(world: World, key: str) -> None:
    """It can be replayed for as long as nobody has dealt with it. One that names no request may be any's."""
    request_id = str(uuid.uuid4())
    world.keys.insert(request_id, bytes(32))
    record = Record(topic=topics.REQUESTS, key=request_id if key else "", value=b"damaged")
    world.bus.publish([record])
    world.orchestrator.step(0.0)
    world.relay.step()
    keep_house(world)
    assert bytes(32) == world.keys.key_of(request_id)

    [letter] = open_letters(world.store, world.bus, [topics.dead_letters(topics.REQUESTS)])
    StoredSent(world.store, DEALT_WITH).record(letter.name)
    keep_house(world)
    with pytest.raises(KeyDestroyed):
        world.keys.key_of(request_id)


def test_a_bus_that_tells_nothing_costs_no_key(world: World) -> None:
    """What can't be told is not nothing; the rest of the round is done all the same."""

    class Silent(SqliteBus):
        @override
        def ends(self, topics: Collection[str]) -> Positions:
            raise BusUnavailable("no leader")

    world.keys.insert("waiting", bytes(32))
    trimmed: list[int] = []
    world.now += 40 * DAY
    house = Housekeeping(
        store=world.store,
        bus=Silent(world.engine, lambda: world.now),
        retention=KEPT,
        trim_bus=lambda messages, _: trimmed.append(messages),
    )
    house.step()
    assert bytes(32) == world.keys.key_of("waiting")
    assert 1 == len(trimmed)


def test_a_key_whose_request_can_come_no_more_is_destroyed(world: World) -> None:
    """Filed, and never handed in: nothing else would ever end it."""
    world.keys.insert("never", bytes(32))
    assert is_opened(world, handed_in(world))
    keep_house(world)
    with pytest.raises(KeyDestroyed):
        world.keys.key_of("never")


def test_what_arrives_during_the_look_is_looked_for_again(world: World) -> None:
    """A dead letter that comes while the others are read may be of any of these requests."""

    class Busy(SqliteBus):
        looks = 0

        @override
        def ends(self, topics: Collection[str]) -> Positions:
            self.looks += 1
            return {place: end + self.looks for place, end in super().ends(topics).items()} | {
                ("erasure.requests.v1.dlq", 0): self.looks
            }

    world.keys.insert("never", bytes(32))
    world.now += 40 * DAY
    bus = Busy(world.engine, lambda: world.now)
    house = Housekeeping(store=world.store, bus=bus, retention=KEPT)
    house.step()
    assert bytes(32) == world.keys.key_of("never")
    world.now += EVERY
    Housekeeping(store=world.store, bus=world.bus, retention=KEPT).step()
    with pytest.raises(KeyDestroyed):
        world.keys.key_of("never")
