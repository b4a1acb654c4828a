"""One record or one topic that the bus doesn't take holds up nobody else."""

from collections.abc import Collection, Iterable

import pytest
from typing_extensions import override

from orchestrator.bus.port import BusUnavailable, Record, RecordTooLarge, TopicForbidden
from orchestrator.bus.sqlite import SqliteBus
from orchestrator.service.relay import Relay
from orchestrator.service.unsent import Unsent
from orchestrator.store import Outgoing
from schemas import topics
from schemas.codec import decode, encode
from schemas.messages import Command, Confirmation, Decision, Outcome, Request
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
    """Its records stay, and go out once the right is back."""
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
    assert {topics.commands("crm")} == relay.missing

    bus.forbidden = frozenset()
    world.now += 10_000_000
    relay.step()
    assert [] == world.store.unsent(9)
    sent = [decode(one.value, Command).request_id for one in world.records(topics.commands("crm"))]
    assert {request.request_id, second.request_id} == set(sent)


def asked(world: World, request: Request) -> list[tuple[str, str | None]]:
    saga = world.store.saga(request.request_id)
    assert saga is not None
    return [(one.reason, one.system) for one in saga.escalations]


def opened(world: World, *requests: Request) -> None:
    world.publish(topics.REQUESTS, *map(encode, requests))
    world.orchestrator.step(0.0)


class TestNotSent:
    """The request whose command can't be written is asked about at once, for that reason."""

    TOPIC = topics.commands("crm")

    def test_it_is_asked_about_and_no_other(self, world: World) -> None:
        """Long before its answer is overdue, which is then no question of its own. Once it is sent, the
        question goes; a worker that stays silent after that is the usual question.
        """
        sent, stuck = world.request(), world.request()
        opened(world, sent)
        world.relay.step()
        opened(world, stuck)
        unsent = Unsent(world.store, world.orchestrator.ask)
        unsent.step({self.TOPIC})
        assert ([], [("command_not_sent", "crm")]) == (asked(world, sent), asked(world, stuck))
        mails = [
            decode(one.value, Outcome).kind for one in world.store.unsent(9) if one.topic == topics.OUTCOMES
        ]
        assert ["escalated"] == mails
        world.now += DAY
        world.orchestrator.step(0.0)
        assert ([("no_answer", "crm")], [("command_not_sent", "crm")]) == (
            asked(world, sent),
            asked(world, stuck),
        )
        version = world.store.saga(stuck.request_id)
        unsent.step({self.TOPIC})
        assert version == world.store.saga(stuck.request_id)

        world.relay.step()
        unsent.step(())
        assert [] == asked(world, stuck)
        world.now += DAY
        world.orchestrator.step(0.0)
        assert [("no_answer", "crm")] == asked(world, stuck)

    def test_while_the_topic_is_looked_for_the_question_stays(self, world: World) -> None:
        """Every few seconds it is asked again whether the topic is there."""
        stuck = world.request()
        opened(world, stuck)
        unsent = Unsent(world.store, world.orchestrator.ask)
        unsent.step({self.TOPIC})
        unsent.step(())
        assert [("command_not_sent", "crm")] == asked(world, stuck)

    @pytest.mark.parametrize("is_sent", [True, False])
    def test_another_process_takes_over(self, world: World, is_sent: bool) -> None:
        """One that starts does not know what was asked: it looks."""
        stuck = world.request()
        opened(world, stuck)
        Unsent(world.store, world.orchestrator.ask).step({self.TOPIC})
        if is_sent:
            world.relay.step()
        Unsent(world.store, world.restarted().ask).step(())
        assert ([] if is_sent else [("command_not_sent", "crm")]) == asked(world, stuck)

    def test_a_waived_system_is_asked_about_no_more(self, world: World) -> None:
        """The request goes on without it, whatever becomes of its command."""
        stuck = world.request()
        opened(world, stuck)
        unsent = Unsent(world.store, world.orchestrator.ask)
        unsent.step({self.TOPIC})
        saga = world.store.saga(stuck.request_id)
        assert saga is not None
        [one] = saga.escalations
        decision = Decision(
            event_id="waived",
            request_id=stuck.request_id,
            action="waive",
            escalation_id=one.id,
            escalation_version=one.version,
            reason="left out",
            decided_by="dpo",
            decided_at=world.now,
        )
        world.publish(topics.DECISIONS, encode(decision))
        world.orchestrator.step(0.0)
        unsent.step({self.TOPIC})
        saga = world.store.saga(stuck.request_id)
        assert saga is not None
        assert [("ended", "waived")] == [
            (step.state.status, getattr(step.state, "end", "")) for step in saga.steps
        ]
        assert "command_not_sent" not in [one.reason for one in saga.escalations]

    def test_nothing_is_looked_for_where_all_can_be_written(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Which is nearly always: then the outbox is not read."""
        opened(world, world.request())
        monkeypatch.setattr(world.store, "unsent_commands", lambda: pytest.fail("it was read"))
        unsent = Unsent(world.store, world.orchestrator.ask)
        unsent.step(())
        unsent.step(())
