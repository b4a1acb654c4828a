"""One record or one topic that the bus doesn't take holds up nobody else."""

from collections.abc import Collection, Iterable

import pytest
from typing_extensions import override

from orchestrator.bus.port import BusUnavailable, Record, RecordTooLarge, TopicForbidden
from orchestrator.bus.sqlite import SqliteBus
from orchestrator.service.relay import Relay
from orchestrator.store import Outgoing
from schemas import topics
from schemas.codec import decode, encode
from schemas.messages import Command, Confirmation
from tests.unit.service_world import DAY, World, world

__all__ = ["world"]

HOUR = 3600 * 1_000_000


class Narrow(SqliteBus):
    """A bus that takes values of up to `limit` bytes, and nothing of a batch with a larger one in it."""

    limit = 100
    refused = 0

    @override
    def publish(self, records: Iterable[Record]) -> None:
        batch = list(records)
        if any(len(one.value) > self.limit for one in batch):
            self.refused += 1
            raise RecordTooLarge
        super().publish(batch)


def row(event_id: str, size: int, topic: str = topics.OUTCOMES) -> Outgoing:
    return Outgoing(event_id=event_id, topic=topic, key="", value=bytes(size))


def put(world: World, *rows: Outgoing) -> None:
    with world.store.begin() as transaction:
        transaction.enqueue(rows)


def test_a_record_that_is_too_large_holds_up_no_other(world: World) -> None:
    """The others go out with the same step. The large one stays, is left alone for an hour, and goes out when
    the limit was raised.
    """
    bus = Narrow(world.engine, lambda: world.now)
    relay = Relay(store=world.store, bus=bus)
    put(world, row("a", 10), row("large", 101), row("b", 20))
    assert 2 == relay.step()
    assert [10, 20] == [len(one.value) for one in world.records(topics.OUTCOMES)]
    assert ["large"] == [one.event_id for one in world.store.unsent(10)]
    put(world, row("c", 30))
    refused = bus.refused
    assert [1, refused] == [relay.step(), bus.refused]
    bus.limit = 200
    assert 0 == relay.step()
    world.now += HOUR
    assert [1, []] == [relay.step(), world.store.unsent(10)]


def test_a_command_that_is_too_large_puts_its_own_request_in_question(world: World) -> None:
    """The officer is asked about the system at once. The command itself is gone: a retry makes another."""
    request, other = world.request(), world.request()
    world.publish(topics.REQUESTS, encode(request), encode(other))
    world.orchestrator.step(0.0)
    bus = Narrow(world.engine, lambda: world.now)
    command = next(one for one in world.store.unsent(9) if one.key == request.request_id)
    bus.limit = 10_000
    large = decode(command.value, Command).model_copy(update={"sealed_references": (bytes(10_001),)})
    with world.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE outbox SET value = ? WHERE event_id = ?", (encode(large), command.event_id)
        )
    relay = Relay(store=world.store, bus=bus)
    assert [2, []] == [relay.step(), world.store.unsent(9)]
    assert [other.request_id] == [
        decode(one.value, Command).request_id for one in world.records(topics.commands("crm"))
    ]
    (answer,) = (decode(one.value, Confirmation) for one in world.records(topics.CONFIRMATIONS))
    assert ("failed", "command_too_large", False) == (answer.kind, answer.code, answer.retryable)
    # What another bus published is looked for five times a second.
    world.orchestrator.step(1.0)
    saga, rest = world.store.saga(request.request_id), world.store.saga(other.request_id)
    assert saga is not None
    assert rest is not None
    assert [("failed", "crm", "command_too_large")] == [
        (one.reason, one.system, one.code) for one in saga.escalations
    ]
    assert () == rest.escalations


class Guarded(SqliteBus):
    """A bus on which some topics may not be written to."""

    forbidden: frozenset[str] = frozenset()

    @override
    def missing(self, topics: Collection[str]) -> set[str]:
        return set(self.forbidden & set(topics))

    @override
    def publish(self, records: Iterable[Record]) -> None:
        batch = list(records)
        if self.forbidden & {one.topic for one in batch}:
            raise TopicForbidden
        super().publish(batch)


def test_a_right_that_is_taken_away_holds_up_its_own_topic_alone(world: World) -> None:
    """Its records stay, its requests are asked about in time, and both go on once the right is back."""
    request = world.request()
    world.publish(topics.REQUESTS, encode(request))
    world.orchestrator.step(0.0)
    bus = Guarded(world.engine, lambda: world.now)
    relay = Relay(store=world.store, bus=bus)
    put(world, row("a", 1))
    assert 2 == relay.step()

    second = world.request()
    world.publish(topics.REQUESTS, encode(second))
    world.orchestrator.step(0.0)
    put(world, row("b", 2))
    bus.forbidden = frozenset([topics.commands("crm")])
    with pytest.raises(BusUnavailable, match="may not write"):
        relay.step()
    assert 1 == relay.step()
    assert [1, 2] == [len(one.value) for one in world.records(topics.OUTCOMES)]
    assert [topics.commands("crm")] == [one.topic for one in world.store.unsent(9)]
    world.now += DAY
    world.orchestrator.step(0.0)
    saga = world.store.saga(second.request_id)
    assert saga is not None
    assert [("no_answer", "crm")] == [(one.reason, one.system) for one in saga.escalations]

    bus.forbidden = frozenset()
    relay.step()
    assert [] == world.store.unsent(9)
    sent = [decode(one.value, Command).request_id for one in world.records(topics.commands("crm"))]
    assert {request.request_id, second.request_id} == set(sent)
