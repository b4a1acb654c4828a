"""The orchestrator role's own rules: what it reads, what it applies once, where it goes on after a death."""

import uuid
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest
from typing_extensions import override

from orchestrator.bus.port import BusUnavailable
from orchestrator.bus.sqlite import SqliteBus, SqliteSubscription
from orchestrator.privacy import Digests, Keyring
from orchestrator.privacy.keyfile import Generation, Material
from orchestrator.saga.events import Confirmed, Decided, RequestReceived, RequestUnreadable
from orchestrator.service.early import PATIENCE, Early
from orchestrator.service.held import Held
from orchestrator.service.inbound import Reader, key_for_dead_letter
from orchestrator.service.orchestrator import GROUP, Orchestrator
from orchestrator.store import StoredKeys, Transaction
from orchestrator.store.errors import Locked
from orchestrator.store.tables import outbox
from schemas import topics
from schemas.codec import decode, encode
from schemas.messages import Command, Confirmation, Decision
from tests.unit.service_world import BEGUN, NOW, PERSON, World, count, delivered, world

__all__ = ["world"]


# --- reading ---


def test_a_request_is_read_with_its_kinds_and_digests(world: World) -> None:
    """What the saga gets has the sealed identifiers and what can be said of them, and not one of them."""
    request = world.request(scope=("crm",))
    event = world.reader.read(delivered(topics.REQUESTS, encode(request))).event
    assert isinstance(event, RequestReceived)
    assert (("email",), ("crm",), request.sealed_identifiers) == (
        event.identifier_kinds,
        event.scope,
        event.identifiers,
    )
    assert PERSON not in repr(event)


def test_the_same_request_has_the_same_digest_whatever_the_nonce(world: World) -> None:
    """Sealed anew it is other bytes, and still the same request; with another scope it is another one."""
    first, second, other = world.request(), world.request(), world.request(scope=("crm",))
    events = [
        world.reader.read(delivered(topics.REQUESTS, encode(one))).event for one in (first, second, other)
    ]
    digests = [event.content_digest for event in events if isinstance(event, RequestReceived)]
    assert digests[0] == digests[1] != digests[2]


def test_an_unreadable_request_is_named_by_its_place(world: World) -> None:
    """Read again, it is the same event of the same request; from another place it is another one."""
    first, again, other = (
        world.reader.read(delivered(topics.REQUESTS, b"rubbish", offset=offset)).event for offset in (7, 7, 8)
    )
    assert isinstance(first, RequestUnreadable)
    assert first == again
    assert isinstance(other, RequestUnreadable)
    assert first.request_id != other.request_id
    assert NOW - 5 == first.received_at


def test_keys_that_do_not_belong_to_the_database_cost_no_request(world: World) -> None:
    """A generation that is not in the keyring may come yet: the request waits for it."""
    request = world.request()
    stranger = Keyring(Material(b"d" * 32, (Generation(2, None, b"x" * 32),)))
    reader = Reader(StoredKeys(world.store, stranger), Digests(b"d" * 32), lambda: 0.5)
    read = reader.read(delivered(topics.REQUESTS, encode(request)))
    assert (1, True) == (read.generation, read.is_ours)


def test_a_request_whose_key_is_destroyed_names_nobody(world: World) -> None:
    """It came too late: for the saga it is a request without a usable identifier."""
    request = world.request()
    world.keys.destroy(request.request_id)
    event = world.reader.read(delivered(topics.REQUESTS, encode(request))).event
    assert isinstance(event, RequestReceived)
    assert () == event.identifier_kinds


def test_a_confirmation_by_correlation_waits_for_its_request(world: World) -> None:
    """A callback that names no request is found by its correlation; one that does is not looked up."""
    said: dict[str, Any] = {"event_id": "x", "system": None, "kind": "refused", "occurred_at": NOW}
    by_correlation = Confirmation(request_id=None, correlation="c" * 64, **said)
    by_id = Confirmation(request_id=str(uuid.UUID(int=1)), correlation="c" * 64, **said)
    found = [
        world.reader.read(delivered(topics.CONFIRMATIONS, encode(one))) for one in (by_correlation, by_id)
    ]
    assert ["c" * 64, None] == [one.correlation for one in found]
    assert [True, True] == [isinstance(one.event, Confirmed) for one in found]


def test_a_decision_is_read(world: World) -> None:
    """With what it names and why."""
    decision = Decision(
        event_id="d",
        request_id=str(uuid.UUID(int=1)),
        action="cancel",
        reason="over",
        decided_by="dpo",
        decided_at=NOW,
    )
    event = world.reader.read(delivered(topics.DECISIONS, encode(decision))).event
    assert isinstance(event, Decided)
    assert ("cancel", "over", "dpo") == (event.action, event.reason, event.decided_by)


def test_a_record_of_another_topic_is_not_applied(world: World) -> None:
    """It can only be a mistake in the subscription."""
    inbound = world.reader.read(delivered("elsewhere", b""))
    assert (None, "unexpected_topic") == (inbound.event, inbound.dead)


@pytest.mark.parametrize(
    ("key", "kept"), [(str(uuid.UUID(int=1)), True), (PERSON, False), (f"{uuid.UUID(int=1)} {PERSON}", False)]
)
def test_a_dead_letter_is_keyed_by_a_request_or_not_at_all(world: World, key: str, kept: bool) -> None:
    """A stranger's record may be keyed by a name."""
    inbound = world.reader.read(delivered(topics.REQUESTS, b"rubbish", key=key))
    assert (key if kept else "") == key_for_dead_letter(inbound)


# --- applying ---


def test_an_event_counts_once_within_a_batch(world: World) -> None:
    """Delivered twice in one poll, it is applied once and counted as repeated once."""
    request = world.request()
    world.publish(topics.REQUESTS, encode(request), encode(request))
    assert 2 == world.orchestrator.step(0.0)
    assert BEGUN == world.actions(request.request_id)
    assert b'radera_events_repeated_total{type="request"} 1.0' in world.metrics.text()


def test_an_event_counts_once_across_batches_and_lives(world: World) -> None:
    """The inbox is in the database: another orchestrator has seen what the first one has."""
    request = world.request()
    for _ in range(3):
        world.publish(topics.REQUESTS, encode(request))
        world.restarted().step(0.0)
        world.orchestrator.close()
    assert BEGUN == world.actions(request.request_id)


def test_events_of_one_request_in_one_batch_build_on_each_other(world: World) -> None:
    """The second decision sees what the first has made, though neither is committed."""
    request = world.request()
    world.publish(topics.REQUESTS, encode(request))
    world.orchestrator.step(0.0)
    world.relay.step()
    [command] = [decode(one.value, Command) for one in world.records(topics.commands("crm"))]
    failed = Confirmation(
        event_id="f",
        request_id=request.request_id,
        system="crm",
        command_id=command.event_id,
        verb="locate",
        kind="failed",
        code="x",
        occurred_at=NOW,
    )
    world.publish(topics.CONFIRMATIONS, encode(failed), world.located(request.request_id, command.event_id))
    world.orchestrator.step(0.0)
    saga = world.store.saga(request.request_id)
    assert saga is not None
    assert ("erasing", ()) == (saga.steps[0].state.status, saga.escalations)


def test_what_was_not_committed_comes_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that fails in the middle leaves nothing behind; the record is applied when it is back."""
    request = world.request()
    world.publish(topics.REQUESTS, encode(request))

    def fail(*_: Any) -> None:
        raise Locked(database="x")

    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "set_positions", fail)
        with pytest.raises(Locked):
            world.orchestrator.step(0.0)
    assert ([], 0) == (world.store.sagas(), count(world, outbox))
    assert 1 == world.orchestrator.step(0.0)
    assert BEGUN == world.actions(request.request_id)


def test_the_positions_are_committed_with_the_effects(world: World) -> None:
    """After a death before the acknowledgement, the next life goes on behind what was committed."""
    world.publish(topics.REQUESTS, encode(world.request()), b"rubbish")
    world.orchestrator.step(0.0)
    last = world.records(topics.REQUESTS)[-1]
    assert last.offset + 1 == world.store.positions(GROUP)[topics.REQUESTS, 0]
    assert 0 == world.restarted().step(0.0)


def test_a_database_from_a_backup_replays_what_it_missed(world: World) -> None:
    """Its positions win over the bus's: set back, they bring the records again."""
    request = world.request()
    world.publish(topics.REQUESTS, encode(request))
    world.orchestrator.step(0.0)
    world.orchestrator.close()
    with world.engine.begin() as connection:
        for table in ("timeline", "sagas", "inbox", "positions", "outbox"):
            connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608 - fixed names
    with world.store.begin() as transaction:
        transaction.set_positions(GROUP, {(topics.REQUESTS, 0): 0})
    assert 1 == world.restarted().step(0.0)
    assert BEGUN == world.actions(request.request_id)


def test_positions_of_another_bus_are_forgotten(world: World) -> None:
    """Left in the database, they would count again once the bus has grown past them."""
    with world.store.begin() as transaction:
        transaction.set_positions(GROUP, {(topics.DECISIONS, 0): 5000, (topics.REQUESTS, 0): 5000})
    world.publish(topics.REQUESTS, encode(world.request()))
    assert 1 == world.restarted().step(0.0)
    assert {topics.DECISIONS: 0, topics.REQUESTS: 2} == positions(world)


def test_a_confirmation_that_overtakes_its_request_waits_for_it(world: World) -> None:
    """Topics have no order among themselves: after a restore all of them are read anew, and an answer may be
    read first.
    """
    request = world.request()
    world.publish(topics.CONFIRMATIONS, world.located(request.request_id, "c"))
    world.orchestrator.step(0.0)
    world.publish(topics.REQUESTS, encode(request))
    assert [1, 1] == [world.orchestrator.step(0.0) for _ in range(2)]
    world.relay.step()
    assert [] == world.records(topics.dead_letters(topics.CONFIRMATIONS))
    assert BEGUN == world.actions(request.request_id)[: len(BEGUN)]
    assert len(BEGUN) < len(world.actions(request.request_id))


def test_what_waits_for_its_request_is_not_behind_the_positions(world: World) -> None:
    """A death meanwhile brings it again."""
    request = world.request()
    world.publish(topics.CONFIRMATIONS, world.located(request.request_id, "c"))
    world.orchestrator.step(0.0)
    world.publish(topics.REQUESTS, encode(request))
    world.orchestrator.close()
    assert 2 == world.restarted().step(0.0)


class Part(SqliteBus):
    """A bus that lets its readers have some topics only, as if the others' partitions were with another
    process.
    """

    theirs: tuple[str, ...] = ()

    @override
    def subscribe(self, group: str, topics: Collection[str], **given: Any) -> SqliteSubscription:
        return super().subscribe(group, [one for one in topics if one not in self.theirs], **given)


@pytest.fixture
def shared_out(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[Orchestrator, Orchestrator]:
    """One that reads what is said of requests, and one that reads the requests."""
    # Each sees at once what the other has published.
    monkeypatch.setattr("orchestrator.bus.sqlite.PROBE_INTERVAL", 0.0)
    pair = []
    for theirs in ((topics.REQUESTS,), (topics.CONFIRMATIONS, topics.DECISIONS)):
        world.bus = Part(world.engine, lambda: world.now)
        world.bus.theirs = theirs
        pair.append(world.restarted())
    return pair[0], pair[1]


def positions(world: World) -> dict[str, int]:
    return {topic: at for (topic, _), at in world.store.positions(GROUP).items()}


def test_a_confirmation_waits_for_a_request_that_another_process_reads(
    world: World, shared_out: tuple[Orchestrator, Orchestrator]
) -> None:
    """However often it finds nothing else to read, until the other has read all that was there; and what it
    applies meanwhile passes no position over what waits.
    """
    first, second = world.request(), world.request()
    world.publish(topics.REQUESTS, encode(first))
    mine, others = shared_out
    assert 1 == others.step(0.0)
    world.publish(topics.REQUESTS, encode(second))
    waits, known = world.located(second.request_id, "c"), world.located(first.request_id, "d")
    world.publish(topics.CONFIRMATIONS, waits, known)
    assert [1, *[0] * 40] == [mine.step(0.0) for _ in range(41)]
    assert len(BEGUN) < len(world.actions(first.request_id))
    [start, _] = [one.offset for one in world.bus.browse([topics.CONFIRMATIONS])]
    assert start == positions(world)[topics.CONFIRMATIONS]

    assert [1, 1] == [others.step(0.0), mine.step(0.0)]
    assert len(BEGUN) < len(world.actions(second.request_id))
    assert start + 2 == positions(world)[topics.CONFIRMATIONS]
    world.relay.step()
    assert [] == world.records(topics.dead_letters(topics.CONFIRMATIONS))


def test_a_cancellation_that_overtakes_its_request_is_kept_and_applied(
    world: World, shared_out: tuple[Orchestrator, Orchestrator]
) -> None:
    """It travels on another topic, and another process may read that first. Whoever cancelled was told that
    it is taken: no system is erased from.
    """
    request = world.request()
    cancel = Decision(
        event_id="cancelled",
        request_id=request.request_id,
        action="cancel",
        reason="withdrawn",
        decided_by="controller",
        decided_at=NOW,
    )
    world.publish(topics.REQUESTS, encode(request))
    world.publish(topics.DECISIONS, encode(cancel))
    mine, others = shared_out
    assert 1 == mine.step(0.0)
    assert [0] * 5 == [mine.step(0.0) for _ in range(5)]
    assert [1, 1] == [others.step(0.0), mine.step(0.0)]
    assert "closing" in world.actions(request.request_id)
    saga = world.store.saga(request.request_id)
    assert saga is not None
    assert getattr(saga.state, "final", None) == "cancelled"
    world.relay.step()
    assert [] == world.records(topics.dead_letters(topics.DECISIONS))


def test_it_waits_while_the_bus_does_not_tell_what_there_is(
    world: World, shared_out: tuple[Orchestrator, Orchestrator], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step fails as with the bus away; what waits comes again, and is not given up."""
    request = world.request()
    world.publish(topics.REQUESTS, encode(request))
    world.publish(topics.CONFIRMATIONS, world.located(request.request_id, "c"))
    mine, others = shared_out

    def fail(*_: Any) -> None:
        raise BusUnavailable("no leader")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteBus, "ends", fail)
        for _ in range(2):
            assert 1 == mine.step(0.0)
            with pytest.raises(BusUnavailable):
                mine.step(0.0)
    others.step(0.0)
    assert 1 == mine.step(0.0)
    assert len(BEGUN) < len(world.actions(request.request_id))


def test_nothing_waits_for_ever(world: World, shared_out: tuple[Orchestrator, Orchestrator]) -> None:
    """Requests that nobody can read: what is said of them is a dead letter after a while, from the last time
    that one was read, and counts when it is sent again.
    """
    read, unread = world.request(), world.request()
    world.publish(topics.REQUESTS, encode(read), encode(unread))
    said = world.located(unread.request_id, "c")
    world.publish(topics.CONFIRMATIONS, said)
    mine, others = shared_out
    assert 1 == mine.step(0.0)
    world.now += PATIENCE - 1
    assert 0 == mine.step(0.0)
    with world.store.begin() as transaction:
        transaction.set_positions(GROUP, {(topics.REQUESTS, 0): 1})
    world.now += 1
    assert 0 == mine.step(0.0)
    world.now += PATIENCE - 1
    assert 0 == mine.step(0.0)
    world.now += 1
    assert 1 == mine.step(0.0)
    world.relay.step()
    assert 1 == len(world.records(topics.dead_letters(topics.CONFIRMATIONS)))
    others.step(0.0)
    world.publish(topics.CONFIRMATIONS, said)
    mine.step(0.0)
    assert len(BEGUN) < len(world.actions(unread.request_id))


def test_what_went_to_another_process_is_waited_for_there(world: World) -> None:
    """Who has lost a partition neither tries what waited on it, nor keeps positions for it."""
    early = Early(
        held=lambda: Held({(topics.REQUESTS, 0): 3}),
        positions=lambda: {(topics.REQUESTS, 0): 3},
        clock=lambda: world.now,
    )
    [one] = world.reader.read_all([delivered(topics.CONFIRMATIONS, world.located(str(uuid.uuid4()), "c"))])
    place = (one.delivery.topic, one.delivery.partition)
    at, reached = early.places([one], [one])
    early.keep([one], [one], reached)
    assert {place: 7} == at

    assert [] == early.ripe(lambda _: False, 10)
    assert [] == early.ripe(lambda _: True, 10)
    [other] = world.reader.read_all([delivered(topics.CONFIRMATIONS, b"", offset=3)])
    assert ({place: 4}, {}) == early.places([other], [])


def test_a_partition_that_comes_back_has_positions_of_its_own(world: World) -> None:
    """Although something waits on another meanwhile: how far it was applied before it was lost, and with it
    what waited there, counts no more.
    """
    early = Early(
        held=lambda: Held({(topics.REQUESTS, 0): 3}),
        positions=lambda: {(topics.REQUESTS, 0): 2},
        clock=lambda: world.now,
    )
    waits, again, applied, waits_there = (
        replace(one, delivery=replace(one.delivery, offset=offset, partition=partition))
        for offset, partition in ((20, 2), (10, 2), (49, 2), (4, 3))
        for one in world.reader.read_all(
            [delivered(topics.CONFIRMATIONS, world.located(str(uuid.uuid4()), "c"))]
        )
    )
    batch, left_out = [waits, applied, waits_there], [waits, waits_there]
    at, reached = early.places(batch, left_out)
    early.keep(batch, left_out, reached)
    assert {(topics.CONFIRMATIONS, 2): 20, (topics.CONFIRMATIONS, 3): 4} == at

    assert [] == early.ripe(lambda one: 3 == one.partition, 10)
    at, _ = early.places([again], [])
    assert {(topics.CONFIRMATIONS, 2): 11} == at


def test_no_position_passes_what_is_committed_later(world: World) -> None:
    """In whatever order it is committed; and in the end they are behind all of it."""
    early = Early(held=Held, positions=dict, clock=lambda: world.now)
    place = (topics.CONFIRMATIONS, 2)
    batch = [
        one
        for offset in (8, 7, 9)
        for one in world.reader.read_all([delivered(topics.CONFIRMATIONS, b"", offset=offset)])
    ]
    stored = []
    for number, one in enumerate(batch, start=1):
        at, reached = early.places([one], [], batch[number:])
        early.keep([one], [], reached)
        stored.append(at[place])
    assert [7, 9, 10] == stored


def test_what_has_waited_is_not_lost_when_a_batch_falls_apart(
    world: World, shared_out: tuple[Orchestrator, Orchestrator], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last tries are committed one by one, and a death between two of them loses none."""
    known, *people = (world.request() for _ in range(3))
    world.publish(topics.REQUESTS, encode(known))
    mine, others = shared_out
    others.step(0.0)
    world.publish(topics.REQUESTS, *map(encode, people))
    said = [world.located(one.request_id, one.request_id) for one in (*people, known)]
    world.publish(topics.CONFIRMATIONS, *said)
    mine.step(0.0)
    others.step(0.0)
    start = positions(world)[topics.CONFIRMATIONS]

    set_positions, tries = Transaction.set_positions, iter((RuntimeError(), None, Locked(database="x")))

    def fail(self: Transaction, group: str, positions: Any) -> None:
        if error := next(tries):
            raise error
        set_positions(self, group, positions)

    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "set_positions", fail)
        with pytest.raises(Locked):
            mine.step(0.0)
    assert start + 1 == positions(world)[topics.CONFIRMATIONS]
    world.bus = Part(world.engine, lambda: world.now)
    world.restarted().step(0.0)
    assert [True, True] == [len(BEGUN) < len(world.actions(one.request_id)) for one in people]


def test_requests_elsewhere_prolong_no_waiting(world: World) -> None:
    """A partition that nobody can read stands still, however many requests come on another. Where nothing was
    waited for, nothing has stood still: what is waited for there is given its time.
    """
    stuck, busy = (topics.REQUESTS, 0), (topics.REQUESTS, 1)
    ends, seen = {stuck: 5}, {stuck: 3, busy: 10}
    early = Early(held=lambda: Held(dict(ends)), positions=lambda: dict(seen), clock=lambda: world.now)
    first, second = (
        one
        for offset in (7, 8)
        for one in world.reader.read_all([delivered(topics.CONFIRMATIONS, b"", offset=offset)])
    )
    early.keep([first], [first], {})
    for _ in range(3):
        assert [] == early.ripe(lambda _: True, 10)
        world.now += PATIENCE // 3
        seen[busy] += 1
    world.now += 2
    ends[busy] = seen[busy] + 1
    early.keep([second], [second], {})
    assert [first] == early.ripe(lambda _: True, 10)
    early.keep([first], [], {})
    world.now += PATIENCE - 1
    assert [] == early.ripe(lambda _: True, 10)
    world.now += 1
    assert [second] == early.ripe(lambda _: True, 10)


def test_a_confirmation_whose_request_does_not_come_is_kept(world: World) -> None:
    """When there is nothing else to read it is a dead letter, and not seen: should it be said once more after
    the request has come, it counts.
    """
    request = world.request()
    said = world.located(request.request_id, "c")
    world.publish(topics.CONFIRMATIONS, said)
    assert [1, 1] == [world.orchestrator.step(0.0), world.orchestrator.step(0.0)]
    world.relay.step()
    assert 1 == len(world.records(topics.dead_letters(topics.CONFIRMATIONS)))
    world.publish(topics.REQUESTS, encode(request))
    world.publish(topics.CONFIRMATIONS, said)
    world.orchestrator.step(0.0)
    assert len(BEGUN) < len(world.actions(request.request_id))


def test_timers_are_looked_at_while_events_come(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are to apply, twice a second; and each time that there are none, also after the
    database's clock was put back.
    """
    fired: list[int] = []
    fire = world.orchestrator.fire_timers

    def fire_timers() -> int:
        fired.append(world.now - NOW)
        return fire()

    monkeypatch.setattr(world.orchestrator, "fire_timers", fire_timers)
    for later, busy in ((0, True), (200, True), (200, True), (200, True), (0, False), (-9000, True)):
        world.now += later * 1000
        if busy:
            world.publish(topics.REQUESTS, encode(world.request()))
        world.orchestrator.step(0.0)
    assert [0, 600_000, 600_000, -8_400_000] == fired
