"""*Acted* says what is true now: it can be withdrawn, and then the deadline is watched again."""

import pytest

from orchestrator.saga.clocks import DAY
from orchestrator.saga.model import AwaitingDecision, Erasing, Retrying, Step
from orchestrator.saga.rules import HOUR, SystemPlan
from tests.unit.saga_world import CRM, MARKETING, WEB, World

YEAR_2000 = 946_684_800_000_000


def acted(*plans: SystemPlan) -> World:
    """Accepted by every system, and the person has been told that it is under way."""
    world = World(*plans)
    world.request()
    for plan in plans:
        world.erase(plan.name)
    world.mailbox()
    assert world.open.acted_at is not None
    return world


def found_again(world: World) -> World:
    """The proof finds the records still there, and the next erasure fails for good."""
    world.now += HOUR
    world.answer("crm", "still_present", references=b"left")
    world.tick()
    world.answer("crm", "failed", code="forbidden")
    return world


def test_an_erasure_that_failed_after_the_letter_is_acted_on_no_more() -> None:
    """Accepted, letter sent, still there, erasure fails: the warning and the alarm come as if it had never
    been accepted.
    """
    world = found_again(acted(CRM))
    assert world.open.acted_at is None
    assert ["acted", "acted_withdrawn"] == [
        one.action for one in world.entries if one.action.startswith("acted")
    ]
    world.until(world.open.due_at - 6 * DAY)
    assert "deadline_near" in world.questions()
    world.until(world.open.due_at + 10 * DAY)
    assert "overdue" in world.questions()


def test_a_waiver_after_it_is_told_to_the_person_before_the_request_ends() -> None:
    """The only letter said that it is under way, which is not how it ended."""
    world = found_again(acted(CRM))
    told = len(world.outcomes("notice"))
    world.dpo("waive", "failed")
    assert ("in_progress", told + 1) == (world.open.status, len(world.outcomes("notice")))
    world.mailbox()
    assert "completed" == world.open.status


def test_what_the_person_was_told_is_told_anew_when_it_holds_again() -> None:
    """The first letter's word was withdrawn, so that the second one is sent, and counts."""
    world = acted(CRM)
    first = world.open.acted_at
    world.now += HOUR
    world.answer("crm", "still_present", references=b"left")
    world.tick()
    world.answer("crm", "accepted")
    assert (2, None) == (len(world.outcomes("notice")), world.open.acted_at)
    world.now += HOUR
    world.mailbox()
    assert world.now == world.open.acted_at != first


def test_a_letter_that_was_asked_for_before_is_asked_for_anew() -> None:
    """The mailbox had not sent it yet, or had not said so; by then the records were found again."""
    world = World(CRM)
    world.request()
    world.erase("crm")
    early = world.outcomes("notice")[-1].event_id
    world.answer("crm", "still_present", references=b"left")
    world.mailbox(command_id=early)
    world.tick()
    world.answer("crm", "accepted")
    assert (2, None) == (len(world.outcomes("notice")), world.open.acted_at)


def test_an_alarm_that_was_waived_comes_again_when_the_word_is_withdrawn() -> None:
    """The DPO accepted one delay, and not that what was reported as done is not."""
    world = World(CRM)
    world.request(received_at=YEAR_2000)
    world.dpo("waive", "overdue")
    world.erase("crm")
    world.mailbox()
    assert [] == world.questions()
    found_again(world)
    assert {"overdue", "failed"} == set(world.questions())


def test_records_found_after_the_end_withdraw_it() -> None:
    """While the request closes: it is open again, and its deadline is watched."""
    world = World(WEB)
    world.request()
    world.supplement()
    world.erase("web")
    proof = world.command("web").attempt
    world.answer("web", "proved")
    world.mailbox()
    world.now += HOUR
    assert "closing" == world.open.status
    world.answer("web", "still_present", attempt=proof, references=b"left")
    assert ("in_progress", None) == (world.open.status, world.open.acted_at)


def test_a_proof_that_waits_or_fails_is_acted_on_all_the_same() -> None:
    """The acceptance stands: what is left is the proof."""
    world = acted(CRM)
    world.answer("crm", "failed", retryable=True)
    assert world.open.acted_at is not None
    world.tick()
    world.answer("crm", "failed")
    assert ("awaiting_decision", True) == (world.status("crm"), world.open.acted_at is not None)


def test_a_newer_record_leaves_the_older_ones_accepted() -> None:
    """It may be new consent, and is no part of what was asked; what was is gone."""
    world = acted(CRM)
    world.answer("crm", "reappeared")
    assert world.open.acted_at is not None


@pytest.mark.parametrize("accepted_at", [None, 1])
@pytest.mark.parametrize(
    "state",
    [
        Retrying(verb="erase", until=2),
        Retrying(verb="locate", until=2),
        Erasing(attempt=1, until=2),
        AwaitingDecision(resume="erase", reason="failed", until=2),
        AwaitingDecision(resume="locate", reason="ambiguous", until=2),
    ],
)
def test_a_step_that_erases_again_is_not_acted_on(state: Retrying | Erasing, accepted_at: int | None) -> None:
    """Whatever had been accepted before."""
    step = Step(system="crm", kind="superoffice", state=state, accepted_at=accepted_at)
    assert not step.is_acted_on


@pytest.mark.parametrize(
    "state", [Retrying(verb="prove", until=2), AwaitingDecision(resume="prove", reason="failed", until=2)]
)
def test_a_proof_counts_only_with_an_acceptance(state: Retrying | AwaitingDecision) -> None:
    """Where nothing is accepted any more a look is no action taken."""
    step = Step(system="crm", kind="superoffice", state=state)
    assert not step.is_acted_on
    assert Step(system="crm", kind="superoffice", state=state, accepted_at=1).is_acted_on


def test_a_system_that_comes_after_waits_while_the_erasure_is_tried_again() -> None:
    """The two recreate each other's contacts: the second is not begun before the first has accepted."""
    world = World(CRM, MARKETING)
    world.request()
    world.answer("crm", "located")
    world.answer("crm", "failed", retryable=True)
    assert "waiting" == world.status("marketing")
    world.tick()
    world.answer("crm", "accepted")
    assert "locating" == world.status("marketing")


# --- no proof without its time ---


@pytest.mark.parametrize("after", ["absent", "not_identifiable"])
def test_a_proof_that_follows_no_erasure_takes_the_receipt_for_its_time(after: str) -> None:
    """A proof from before a supplement saw a newer record, and the look since found nothing. Nobody knows
    when that was erased; what was created since the person asked may be new consent.
    """
    world = World(WEB, CRM)
    world.request()
    world.answer("web", "cannot_look")
    world.answer("web", "accepted")
    proof = world.command("web").attempt
    world.now += HOUR
    world.supplement()
    world.answer("web", after, missing=())
    world.until(world.now + 15 * DAY)
    assert after == world.status("web")
    world.answer("web", "reappeared", attempt=proof)
    world.dpo("retry", "reappeared")
    command = world.command("web")
    assert ("prove", world.open.received_at) == (command.verb, command.erased_at)
    world.answer("web", "proved")
    assert "erased" == world.status("web")
