"""A clock that is ahead and is not believed yet: what came due by the jump alone is not done."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestrator.saga.ahead import Doubt
from orchestrator.saga.clocks import DAY
from orchestrator.saga.decide import Decision, decide
from orchestrator.saga.events import Confirmed, TimerFired
from orchestrator.saga.model import Ended, Saga, waits
from orchestrator.saga.rules import HOUR, MINUTE
from tests.unit.saga_world import CRM, MARKETING, REQUEST, World
from tests.unit.test_saga_setback import YEAR, asked_agency


def fired(world: World, doubt: Doubt | None) -> Decision:
    """A timer fires for the request, due or not."""
    timer = TimerFired(event_id=world.event_id(), request_id=REQUEST)
    return decide(world.saga, timer, world.now, world.rules, doubt=doubt)


def jumped(world: World, by: int = YEAR) -> Doubt:
    """The clock goes forward, and a second passes."""
    world.now += by + 1_000_000
    return Doubt(ahead=by, since=world.now - 1_000_000)


def locating() -> World:
    world = World(CRM)
    world.request()
    return world


def retrying() -> World:
    world = locating()
    world.answer("crm", "failed", code="timeout", retryable=True)
    return world


def accepted() -> World:
    world = World(replace(CRM, look_again=(31 * DAY,)))
    world.request()
    world.erase("crm")
    world.answer("crm", "proved")
    return world


def awaiting_subject() -> World:
    world = World(replace(CRM, asks_subject=True))
    world.request()
    world.answer("crm", "not_identifiable", missing=("email",))
    return world


def awaiting_decision() -> World:
    world = locating()
    world.answer("crm", "failed", code="forbidden")
    return world


def notice() -> World:
    world = locating()
    world.finish("crm")
    return world


def closing() -> World:
    """Rejected with a command out, which its worker may still carry out."""
    world = World(CRM, MARKETING)
    world.request()
    world.dpo("cancel")
    assert "closing" == world.open.status
    return world


KINDS: list[Callable[[], World]] = [
    locating,
    retrying,
    accepted,
    asked_agency,
    awaiting_subject,
    awaiting_decision,
    notice,
    closing,
]


@pytest.mark.parametrize("build", KINDS)
def test_what_is_due_by_the_jump_alone_is_not_done(build: Callable[[], World]) -> None:
    """No attempt is used up, nobody is reminded, nothing ends, no key goes; the DPO may be warned of the
    statutory period. Without the doubt the same timer does something.
    """
    world = build()
    before = world.open
    doubt = jumped(world)
    held = fired(world, doubt)
    assert [step.state for step in before.steps] == [step.state for step in held.saga.steps]
    assert before.status == held.saga.status
    assert not held.destroys_key
    said = {entry.data.get("reason", entry.action) for entry in held.entries}
    assert said <= {"overdue", "deadline_near"}
    assert fired(world, None).entries != held.entries


@pytest.mark.parametrize("build", KINDS)
def test_it_is_done_when_its_time_has_come(build: Callable[[], World]) -> None:
    """By the time that was believed before: what is ahead of that by a year fires a year later."""
    world = build()
    world.feed(TimerFired(event_id=world.event_id(), request_id=REQUEST))
    plain = World()
    plain.saga, plain.rules, plain.now = world.saga, world.rules, world.now
    doubt = jumped(world)
    at = world.open.wake_at
    assert at is not None
    world.now, plain.now = at + YEAR, at
    late, right = fired(world, doubt), fired(plain, None)
    told = [entry.action for entry in right.entries]
    assert told == [entry.action for entry in late.entries if entry.data.get("reason") != "overdue"]
    assert [step.state.status for step in right.saga.steps] == [step.state.status for step in late.saga.steps]


def test_a_held_request_stays_as_it_was() -> None:
    """Not even its latest event is later: by that it is told that its waits are older than the jump."""
    world = asked_agency()
    doubt = jumped(world, 20 * DAY)
    held = fired(world, doubt)
    assert (world.saga, (), ()) == (held.saga, held.entries, held.messages)


def test_the_statutory_warning_comes_by_the_clock_as_it_is() -> None:
    """One that comes too early does less harm than one that comes too late. It goes when the time returns."""
    world = asked_agency()
    doubt = jumped(world, 40 * DAY)
    decision = fired(world, doubt)
    assert ["overdue"] == [one.reason for one in decision.saga.escalations]
    again = decide(
        decision.saga,
        TimerFired(event_id="again", request_id=REQUEST),
        world.now + HOUR,
        world.rules,
        doubt=doubt,
    )
    assert (decision.saga, ()) == (again.saga, again.entries)
    world.saga, world.now = decision.saga, world.now - 40 * DAY
    assert () == fired(world, None).saga.escalations


def test_what_is_begun_since_the_jump_goes_on_by_the_clock_as_it_is() -> None:
    """A request that comes in, or an answer: its retries do not stand still for a week."""
    world = locating()
    doubt = jumped(world)
    failed = Confirmed(
        event_id="failed",
        request_id=REQUEST,
        kind="failed",
        system="crm",
        occurred_at=world.now,
        command_id=world.command("crm").event_id,
        verb="locate",
        attempt=1,
        code="timeout",
        retryable=True,
    )
    world.saga = decide(world.saga, failed, world.now, world.rules, doubt=doubt).saga
    state = world.step("crm").state
    assert not isinstance(state, Ended)
    assert "retrying" == state.status
    world.now = state.until
    assert "locating" == fired(world, doubt).saga.steps[0].state.status


def test_a_request_without_an_event_since_is_told_from_one_with() -> None:
    """By the time of its latest event. What was begun before a jump of a day, and is due two days on, is held
    until then in the one; in the other nobody knows any more.
    """
    world = asked_agency()
    doubt = jumped(world, 3 * DAY)
    until = min(end for _, end in waits(world.open))
    assert until > doubt.since
    assert until + 3 * DAY == doubt.ends_at(until, world.open.as_of)
    assert until == doubt.ends_at(until, doubt.since)
    assert doubt.since - 1 + 3 * DAY == doubt.ends_at(doubt.since - 1, doubt.since)


def test_a_held_request_is_looked_at_each_hour() -> None:
    """And not in a loop; when the doubt is over its waits end within the hour."""
    world = asked_agency()
    doubt = jumped(world)
    assert world.now + HOUR == doubt.wake_at(world.open, world.now)
    near = Doubt(ahead=7 * DAY, since=world.now)
    soon = min(end for _, end in waits(world.open))
    early = soon + 7 * DAY - 10 * MINUTE
    saga = replace(world.open, as_of=0)
    assert soon + 7 * DAY == near.wake_at(saga, early)


def test_a_request_that_waits_for_nothing_yet_is_woken_in_its_time() -> None:
    """The doubt changes nothing about what is not due."""
    world = asked_agency()
    doubt = Doubt(ahead=MINUTE, since=world.now)
    assert world.open.wake_at == doubt.wake_at(world.open, world.now)


def ended(world: World) -> Saga:
    world.finish("crm")
    world.mail_everything()
    return world.open


def test_an_ended_request_is_woken_no_more() -> None:
    """It waits for nothing."""
    world = locating()
    assert ended(world).wake_at is None
    assert Doubt(ahead=YEAR, since=0).wake_at(world.open, world.now) is None
