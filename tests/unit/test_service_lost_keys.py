"""A master key that is not known yet is waited for; one that is known to be lost holds up nobody."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.privacy import Digests, Exchange, Keyring
from orchestrator.privacy.keyfile import Generation, Material
from orchestrator.saga.model import Action, InProgress
from orchestrator.service.early import KEY_PATIENCE, PATIENCE
from orchestrator.service.inbound import Reader
from orchestrator.store import KnownGenerations, StoredKeys, tables
from schemas import topics
from schemas.codec import encode
from schemas.messages import Decision, Request
from tests.unit.service_world import DAY, NOW, PERSON, World, world

__all__ = ["world"]

_OLD = Generation(1, None, b"m" * 32)
_NEW = Generation(2, None, b"n" * 32)


def keyring(*generations: Generation) -> Keyring:
    return Keyring(Material(b"d" * 32, generations))


def restarted(world: World, *generations: Generation) -> None:
    """The process ends, and another one starts with these master keys."""
    world.orchestrator.close()
    world.keyring = keyring(*generations)
    world.keys = StoredKeys(world.store, world.keyring)
    known = KnownGenerations(world.store, world.keyring, world.keys)
    world.keyring.learn_of_losses(known.lost)
    digests, exchange = Digests(world.keyring.digest_key), Exchange(world.keyring)
    world.reader = Reader(world.keys, digests, lambda: 0.5, exchange)
    world.restarted()


def declare_lost(world: World, number: int) -> None:
    known = KnownGenerations(world.store, world.keyring, world.keys)
    known.declare_lost(number, by="dpo", reason="the keyring burned")


def submitted(world: World, *generations: Generation) -> Request:
    """A request of somebody whose process has these keys, and whose key is filed under the last of them."""
    restarted(world, *generations)
    return world.request()


def produced(world: World, *generations: Generation) -> Request:
    """A request of a producer outside, sealed to the last of these keys: its key came with it."""
    mine = keyring(*generations)
    wrapped = world.request()
    key = world.keys.key_of(wrapped.request_id)
    with world.engine.begin() as connection:
        of = tables.subject_keys.c.request_id == wrapped.request_id
        connection.execute(sa.delete(tables.subject_keys).where(of))
    public = Exchange(mine).public_key()
    return wrapped.model_copy(
        update={
            "key_generation": public.generation,
            "wrapped_key": public.wrap(key, wrapped.request_id),
        }
    )


def step(world: World) -> None:
    for _ in range(3):
        world.orchestrator.step(0.0)
        world.relay.step()


def is_opened(world: World, request: Request) -> bool:
    saga = world.store.saga(request.request_id)
    return saga is not None and saga.identifier_kinds == ("email",)


def questions(world: World) -> list[tuple[str, str | None]]:
    return [(one.reason, one.code) for saga in world.store.sagas() for one in saga.escalations]


@pytest.mark.parametrize("made", [submitted, produced])
def test_a_request_waits_for_a_key_that_is_not_known_yet(world: World, made: Callable[..., Request]) -> None:
    """A change of keys reaches one process after another. It is neither unreadable nor a dead letter, all
    others go on meanwhile, and with the key it is opened; also by the process that comes after.
    """
    request = made(world, _OLD, _NEW)
    restarted(world, _OLD)
    other = world.request()
    world.publish(topics.REQUESTS, encode(request), encode(other))
    step(world)
    assert (False, True) == (is_opened(world, request), is_opened(world, other))
    assert [] == world.records(topics.dead_letters(topics.REQUESTS))
    assert 1 == len(world.store.sagas())

    restarted(world, _OLD, _NEW)
    step(world)
    assert is_opened(world, request)
    assert 2 == len(world.store.sagas())


def test_what_is_said_of_a_request_that_waits_for_its_key_waits_with_it(world: World) -> None:
    """After a restore an answer may come before its request does; it is no dead letter meanwhile."""
    request = submitted(world, _OLD, _NEW)
    restarted(world, _OLD)
    world.publish(topics.REQUESTS, encode(request))
    world.publish(topics.CONFIRMATIONS, world.located(request.request_id, "command"))
    step(world)
    for _ in range(3):
        world.now += PATIENCE
        step(world)
    assert [] == world.records(topics.dead_letters(topics.CONFIRMATIONS))
    restarted(world, _OLD, _NEW)
    step(world)
    assert is_opened(world, request)
    assert [] == world.records(topics.dead_letters(topics.CONFIRMATIONS))


def test_the_same_process_goes_on_when_it_gets_the_key(world: World) -> None:
    """Its keyring is a file that another process changed."""
    request = submitted(world, _OLD, _NEW)
    restarted(world, _OLD)
    world.publish(topics.REQUESTS, encode(request))
    step(world)
    assert not is_opened(world, request)
    world.keyring._hold(Material(b"d" * 32, (_OLD, _NEW)))
    step(world)
    assert is_opened(world, request)


def test_a_number_that_only_a_producer_knows_is_waited_for_so_long(world: World) -> None:
    """A day, in which a change of keys has gone round; then it is this request's trouble, and a question."""
    request = produced(world, _OLD, _NEW)
    restarted(world, _OLD)
    world.publish(topics.REQUESTS, encode(request))
    step(world)
    world.now += KEY_PATIENCE - 1
    step(world)
    assert [] == questions(world)
    world.now += 1
    step(world)
    assert [("unreadable_request", "generation_unknown")] == questions(world)
    [letter] = world.records(topics.dead_letters(topics.REQUESTS))
    assert b"generation_unknown" == letter.header("radera-code")


def test_a_restart_does_not_begin_the_wait_anew(world: World) -> None:
    """Processes that are started each night would wait for ever, with nobody asked."""
    request = produced(world, _OLD, _NEW)
    restarted(world, _OLD)
    world.publish(topics.REQUESTS, encode(request))
    step(world)
    for _ in range(3):
        world.now += KEY_PATIENCE // 4
        restarted(world, _OLD)
        step(world)
        assert [] == questions(world)
    world.now += KEY_PATIENCE // 4
    restarted(world, _OLD)
    step(world)
    assert [("unreadable_request", "generation_unknown")] == questions(world)
    assert 1 == len(world.records(topics.dead_letters(topics.REQUESTS)))


def test_the_database_is_not_asked_all_the_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each request that waits once a minute, and once more after a restart."""
    request = produced(world, _OLD, _NEW)
    restarted(world, _OLD)
    world.publish(topics.REQUESTS, encode(request))
    step(world)
    asked: list[str] = []

    def waited(place: str) -> int:
        asked.append(place)
        return 0

    monkeypatch.setattr(world.orchestrator._early, "_waited_elsewhere", waited)
    for _ in range(5):
        step(world)
    assert [] == asked
    world.now += 60_000_000
    step(world)
    assert 1 == len(asked)


def test_a_key_that_is_filed_here_is_waited_for_without_an_end(world: World) -> None:
    """It exists: somebody has to put it back, or to declare it lost."""
    request = submitted(world, _OLD, _NEW)
    restarted(world, _OLD)
    world.publish(topics.REQUESTS, encode(request))
    step(world)
    world.now += 40 * DAY
    step(world)
    assert [] == questions(world)
    declare_lost(world, 2)
    step(world)
    assert [("unreadable_request", "generation_lost"), ("overdue", None)] == questions(world)


def decision(world: World, request_id: str, action: Action, **fields: Any) -> bytes:
    return encode(
        Decision(
            event_id=f"decision:{action}",
            request_id=request_id,
            action=action,
            decided_by="dpo",
            decided_at=NOW,
            **fields,
        )
    )


def test_decisions_timers_and_other_requests_go_on_without_a_key(world: World) -> None:
    """A reason is judged by its form, since whom it might name nobody can read."""
    request = submitted(world, _OLD, _NEW).model_copy(update={"verified": False})
    world.publish(topics.REQUESTS, encode(request))
    step(world)
    restarted(world, _OLD)
    other = world.request()
    [asked] = world.store.sagas()
    [question] = asked.escalations
    world.publish(
        topics.DECISIONS,
        decision(
            world,
            request.request_id,
            "reject",
            reason=f"asked by {PERSON}",
            escalation_id=question.id,
            escalation_version=question.version,
        ),
    )
    world.publish(topics.REQUESTS, encode(other))
    step(world)
    saga = world.store.saga(request.request_id)
    assert saga is not None
    assert "closing" == saga.status or "rejected" == saga.status
    assert is_opened(world, other)
    assert not any(PERSON in str(entry.data) for entry in world.store.timeline(request.request_id))


def test_a_lost_key_is_asked_about_once(world: World) -> None:
    """Of each open request that needs it, and of no other; the DPO's decision ends it."""
    request = submitted(world, _OLD, _NEW)
    world.publish(topics.REQUESTS, encode(request))
    step(world)
    KnownGenerations(world.store, world.keyring, world.keys).take()
    restarted(world, _OLD)
    other = world.request()
    world.publish(topics.REQUESTS, encode(other))
    step(world)
    assert 0 == world.orchestrator.ask_about_lost_keys()

    declare_lost(world, 2)
    assert [1, 0] == [world.orchestrator.ask_about_lost_keys() for _ in range(2)]
    assert [("key_lost", "2")] == questions(world)
    saga = world.store.saga(request.request_id)
    assert saga is not None
    assert isinstance(saga.state, InProgress)
    [question] = saga.escalations
    world.publish(
        topics.DECISIONS,
        decision(
            world,
            request.request_id,
            "cancel",
            reason="handed in anew",
            escalation_id=question.id,
            escalation_version=question.version,
        ),
    )
    step(world)
    assert [] == questions(world)
    assert 0 == world.orchestrator.ask_about_lost_keys()


def test_a_generation_that_was_declared_lost_stops_no_start_and_no_rotation(world: World) -> None:
    """Its keys are passed over: nobody can open them."""
    submitted(world, _OLD, _NEW)
    restarted(world, _OLD)
    declare_lost(world, 2)
    known = KnownGenerations(world.store, world.keyring, world.keys)
    known.check()
    lost = known.lost()
    assert ((), ()) == (world.keys.open_all(lost).unreadable, world.keys.rewrap(lost).unreadable)
    known.take()
    assert {1, 2} == known.all().keys()
