"""A request that was set aside: its steps stand still, and its clocks and its parties' words go on."""

from typing import Any

import pytest

from orchestrator.saga.clocks import DAY
from orchestrator.saga.events import Confirmed
from orchestrator.saga.rules import HOUR, MINUTE, SystemPlan, Waits
from tests.unit.saga_world import AGENCY, CRM, REQUEST, TENANT, World


def set_aside(world: World) -> World:
    """As if a rule had raised on something that a worker reported."""
    broken = Confirmed(
        event_id="broken", request_id=REQUEST, kind="located", system="crm", command_id="c", occurred_at=1
    )
    assert "rule_failed" == world.feed(broken, breaks=True).parks_event
    return world


def started(*plans: SystemPlan, **changes: Any) -> World:
    world = World(*plans, **changes)
    world.request(tenant="acme")
    return world


def erasing() -> World:
    """A controller's system, whose erasure is under way."""
    world = started(TENANT)
    world.answer("tenant", "awaiting_party")
    world.callback("tenant", "instructed", order=1)
    world.answer("tenant", "located")
    return world


# --- what parties say ---


def test_a_refusal_in_quarantine_is_applied_and_the_release_erases_nothing() -> None:
    """It is on the timeline, the DPO is told, and the erasure that was out is not asked for again."""
    world = set_aside(erasing())
    decision = world.callback("tenant", "refused", order=2)
    assert decision.parks_event is None
    assert {"quarantined", "instruction_conflict"} == set(world.questions())
    world.dpo("retry", "quarantined")
    assert ["locate", "locate", "erase"] == world.verbs("tenant")
    assert ["instruction_conflict"] == world.questions()


def test_a_refusal_at_which_a_rule_fails_still_stops_the_erasure() -> None:
    """It is logged before anything else, so that the release finds it."""
    world = erasing()
    refused = Confirmed(
        event_id="r", request_id=REQUEST, kind="refused", system="tenant", occurred_at=2, order=2, attempt=2
    )
    world.feed(refused, breaks=True)
    world.dpo("retry", "quarantined")
    assert ("awaiting_decision", ["instruction_conflict"]) == (world.status("tenant"), world.questions())
    assert 1 == world.verbs("tenant").count("erase")


def test_an_instruction_in_quarantine_waits_for_the_release() -> None:
    """Nothing is begun meanwhile. Of several words the last one counts."""
    world = started(TENANT)
    world.answer("tenant", "awaiting_party")
    set_aside(world)
    for order, kind in enumerate(("instructed", "refused", "instructed", "instructed"), 1):
        assert world.callback("tenant", kind, order=order).parks_event is None
    assert ["locate"] == world.verbs("tenant")
    world.dpo("retry", "quarantined")
    assert ("locating", "erase") == (world.status("tenant"), world.command("tenant").instruction)


def test_what_an_agency_answers_in_quarantine_is_not_lost() -> None:
    """Its link can be used only once, so nobody could ask it to say that again."""
    world = started(AGENCY)
    world.answer("agency", "cannot_look")
    world.answer("agency", "awaiting_party")
    set_aside(world)
    world.callback("agency", "retained", order=1, legal_basis="bookkeeping", retained_until=9)
    assert "awaiting_party" == world.status("agency")
    world.dpo("retry", "quarantined")
    state = world.step("agency").state
    assert ("retained", "bookkeeping", 9) == (
        world.status("agency"),
        getattr(state, "legal_basis", None),
        getattr(state, "retained_until", None),
    )
    assert ["locate", "erase"] == world.verbs("agency")


def test_a_word_in_quarantine_is_in_the_log_and_on_the_timeline() -> None:
    """Under its order, whatever becomes of it."""
    world = set_aside(erasing())
    world.callback("tenant", "instructed", order=5)
    assert [1, 5] == [one.order for one in world.step("tenant").words]
    assert "5" in [one.data.get("order") for one in world.entries]


def test_contradicting_times_in_quarantine_are_a_question_at_the_release() -> None:
    """By our order the refusal is the last word, by the controller's own times the "erase" is."""
    world = started(TENANT)
    world.answer("tenant", "awaiting_party")
    world.callback("tenant", "refused", order=2, said_at=10)
    world.supplement(tenant="acme")
    world.answer("tenant", "awaiting_party")
    world.callback("tenant", "refused", order=4, said_at=20)
    set_aside(world)
    world.callback("tenant", "instructed", order=3, said_at=30)
    assert ["quarantined"] == world.questions()
    world.dpo("retry", "quarantined")
    assert ["words_disputed"] == world.questions()


def test_what_was_said_in_quarantine_is_told_when_the_request_is_stopped() -> None:
    """The agency had erased: that the system was stopped before its end is not the whole truth."""
    world = started(AGENCY)
    world.answer("agency", "cannot_look")
    world.answer("agency", "awaiting_party")
    set_aside(world)
    world.callback("agency", "party_erased", order=1)
    world.dpo("cancel")
    state = world.step("agency").state
    assert ("stopped", "party_erased") == (getattr(state, "end", None), getattr(state, "contradicted", None))


# --- clocks ---


def test_the_alarms_come_on_time_in_quarantine() -> None:
    """The warning and the overdue alarm within an hour, whenever it was set aside."""
    for days_before in (20, 5, 1):
        world = started(CRM)
        world.until(world.open.due_at - days_before * DAY)
        set_aside(world)
        world.until(world.open.due_at - 7 * DAY + HOUR)
        if days_before > 7:
            assert "deadline_near" in world.questions()
        world.until(world.open.due_at + MINUTE)
        assert "overdue" in world.questions()


def test_the_dpo_is_reminded_in_quarantine() -> None:
    """Of the release itself, and of what was open before."""
    world = started(CRM)
    world.answer("crm", "failed", code="forbidden")
    set_aside(world)
    world.until(world.now + 4 * DAY)
    reminded = {one.concerns for one in world.outcomes("reminded")}
    assert {one.id for one in world.open.escalations} == reminded


def test_a_notice_that_was_mailed_is_known_as_mailed_in_quarantine() -> None:
    """So that nobody is alarmed, and no second letter is sent."""
    world = started(CRM)
    world.answer("crm", "absent")
    set_aside(world)
    told_at = world.now
    world.now += HOUR
    assert world.mailbox(occurred_at=told_at).parks_event is None
    assert told_at == world.open.acted_at
    world.until(world.open.due_at + DAY)
    assert ["quarantined"] == world.questions()
    world.dpo("retry", "quarantined")
    assert "completed" == world.open.status
    assert 1 == len(world.outcomes("notice"))


def test_a_mailbox_that_stays_silent_is_alarmed_in_quarantine() -> None:
    """A notice is a clock of its own."""
    world = started(CRM)
    world.answer("crm", "absent")
    set_aside(world)
    world.until(world.now + 2 * DAY)
    assert "acted_notice_silent" in world.questions()


def test_an_extension_told_in_quarantine_moves_the_date() -> None:
    """The person was told in time, and that holds."""
    world = started(CRM)
    world.dpo("extend")
    set_aside(world)
    due_at = world.open.due_at
    world.mailbox()
    assert world.open.extended
    assert due_at < world.open.due_at


@pytest.mark.parametrize("wait", [HOUR, 10 * DAY])
def test_what_was_due_meanwhile_is_done_at_the_release(wait: int) -> None:
    """A step's own waits stand still in quarantine, and are not put off by it."""
    world = started(CRM, waits=Waits(decision_reminder=30 * DAY))
    world.erase("crm")
    world.answer("crm", "proved")
    set_aside(world)
    due_at = world.step("crm").state
    world.until(world.now + wait)
    assert due_at == world.step("crm").state
    world.dpo("retry", "quarantined")
    world.until(world.now + 14 * DAY)
    assert "proving" == world.status("crm")


@pytest.mark.parametrize("verb", ["locate", "erase", "prove"])
def test_what_was_out_is_asked_for_again_at_the_release(verb: str) -> None:
    """Its answer may be the one at which the rule failed: without another nothing would ever come."""
    world = started(CRM)
    if verb == "erase":
        world.answer("crm", "located")
    elif verb == "prove":
        world.erase("crm")
    asked = world.verbs("crm")
    assert verb == asked[-1]
    set_aside(world)
    world.dpo("retry", "quarantined")
    assert [*asked, verb] == world.verbs("crm")


def test_the_release_counts_on() -> None:
    """It is no decision on the steps: what fails in vain, or is left alone, is asked about as soon."""
    world = started(CRM)
    world.answer("crm", "failed", code="circuit_open", retryable=True, retry_after=HOUR)
    left_since = world.step("crm").unasked_since
    world.tick()
    set_aside(world)
    world.now += 2 * DAY
    world.dpo("retry", "quarantined")
    assert left_since == world.step("crm").unasked_since
    world.answer("crm", "failed", code="circuit_open", retryable=True, retry_after=HOUR)
    assert ["failed"] == world.questions()


# --- what is offered ---


def test_in_quarantine_nothing_but_its_release_or_its_end_is_offered() -> None:
    """What is offered is accepted."""
    world = started(CRM)
    world.answer("crm", "failed", code="forbidden")
    set_aside(world)
    assert {"failed": (), "quarantined": ("retry", "cancel")} == world.offers()
