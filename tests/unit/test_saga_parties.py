"""Controllers that must instruct us, and agencies that only read mail."""

from dataclasses import replace

import pytest

from orchestrator.saga.clocks import DAY
from orchestrator.saga.model import AwaitingParty, Ended
from orchestrator.saga.rules import HOUR, MINUTE, SystemPlan
from tests.unit.saga_world import (
    AGENCY,
    CRM,
    START,
    TENANT,
    WEB,
    World,
)


def started(*plans: SystemPlan) -> World:
    world = World(*plans)
    world.request(tenant="acme")
    return world


def asked(world: World) -> World:
    world.answer("tenant", "awaiting_party")
    return world


def test_a_controller_instructs_and_its_data_is_erased() -> None:
    """Asked, instructed, erased, proved; the same instruction twice is one."""
    world = asked(started(TENANT))
    assert [None] == [one.instruction for one in world.commands("tenant")]
    world.callback("tenant", "instructed")
    world.callback("tenant", "instructed")
    assert ["locate", "locate"] == world.verbs("tenant")
    assert "erase" == world.command("tenant").instruction
    world.finish("tenant")
    assert "erased" == world.status("tenant")


def test_a_controller_that_asks_us_has_instructed_us() -> None:
    """A processor request carries its instruction, and the subject hears from the controller."""
    world = World(TENANT, CRM)
    world.request(capacity="processor", tenant="acme")
    assert [("tenant", "erase")] == [(one.system, one.instruction) for one in world.commands()]
    world.finish("tenant")
    assert ("completed", []) == (world.open.status, world.outcomes("notice"))


def test_an_instruction_before_the_asking_is_remembered() -> None:
    """It may overtake the confirmation that the controller was asked, and even the start."""
    world = World(TENANT)
    world.request(tenant="acme", verified=False)
    world.callback("tenant", "instructed")
    assert [] == world.commands()
    world.dpo("verify", "identity_unverified")
    assert "erase" == world.command("tenant").instruction


def test_refused_then_instructed_before_the_start() -> None:
    """The last word counts, and still nothing is touched before the identity is verified."""
    world = World(TENANT)
    world.request(tenant="acme", verified=False)
    world.callback("tenant", "refused")
    world.now += 1
    world.callback("tenant", "instructed")
    assert [] == world.commands()
    world.dpo("verify", "identity_unverified")
    assert "erase" == world.command("tenant").instruction


def test_a_refusal_is_an_end_and_erase_after_it_reopens() -> None:
    """Until the request is completed; after that it is a question, since only a new request could erase."""
    world = asked(started(TENANT, WEB))
    world.callback("tenant", "refused", code="dispute")
    assert "refused" == world.status("tenant")
    world.now += 1
    world.callback("tenant", "instructed")
    assert "locating" == world.status("tenant")

    world = asked(started(TENANT))
    world.callback("tenant", "refused", code="dispute")
    world.mailbox()
    assert "completed" == world.open.status
    world.now += 1
    world.callback("tenant", "instructed")
    assert ("refused", ["instructed_late"]) == (world.status("tenant"), world.questions())


def test_an_older_word_never_overrides_a_newer_one() -> None:
    """Erase, then refuse, arriving the other way round: the refusal is the controller's last word."""
    world = asked(started(TENANT, WEB))
    world.now += HOUR
    world.callback("tenant", "refused")
    world.callback("tenant", "instructed", occurred_at=world.now - MINUTE)
    assert "refused" == world.status("tenant")


def test_refuse_after_erase_stops_the_step() -> None:
    """Nothing more is erased over a refusal; what was already accepted goes on to its proof and is told."""
    world = asked(started(TENANT))
    world.callback("tenant", "instructed")
    world.answer("tenant", "located")
    world.callback("tenant", "refused", code="dispute")
    assert ["instruction_conflict"] == world.questions()
    world.answer("tenant", "accepted")
    assert ("proving", ["refused_late"]) == (world.status("tenant"), world.questions())


def test_erase_refuse_erase_goes_on() -> None:
    """The controller resolves its own conflict."""
    world = asked(started(TENANT))
    world.callback("tenant", "instructed")
    world.callback("tenant", "refused")
    world.callback("tenant", "instructed")
    assert ("locating", []) == (world.status("tenant"), world.questions())


def test_found_without_instruction_is_not_erased() -> None:
    """A handler that looks before it was allowed to does not get an erase command."""
    world = started(TENANT)
    world.answer("tenant", "located")
    assert ("awaiting_party", ["locate"]) == (world.status("tenant"), world.verbs("tenant"))


def test_an_agency_is_mailed_reminded_and_then_a_matter_for_the_dpo() -> None:
    """Two reminders a week apart, marked as such; a reminder that failed does not count."""
    world = started(AGENCY)
    world.answer("agency", "cannot_look")
    world.answer("agency", "awaiting_party")
    world.tick()
    assert world.command("agency").reminder
    world.answer("agency", "failed", retryable=True, retry_after=HOUR)
    assert 0 == world.step("agency").reminders
    for _ in range(2):
        world.tick()
        world.answer("agency", "awaiting_party")
    world.until(START + 27 * DAY)
    assert "party_silent" in world.questions()
    assert [False, False, True, True, True] == [one.reminder for one in world.commands("agency")]
    world.callback("agency", "party_erased")
    assert ("erased", False) == (world.status("agency"), "party_silent" in world.questions())


def test_an_agencys_word_is_evidence_of_its_own_grade() -> None:
    """Erased, holding nothing, or retained on a legal basis: the party stated it."""
    for kind, end in (("party_erased", "erased"), ("absent", "absent"), ("retained", "retained")):
        world = started(AGENCY)
        world.answer("agency", "cannot_look")
        world.callback("agency", kind, legal_basis="bookkeeping" if kind == "retained" else None)
        state = world.step("agency").state
        assert isinstance(state, Ended)
        assert (end, "party_stated") == (state.end, state.grade)


def test_where_we_can_look_a_partys_word_is_checked() -> None:
    """A party that says erased, of records that we know, is looked at."""
    world = started(AGENCY)
    world.answer("agency", "located")
    world.callback("agency", "party_erased")
    assert "proving" == world.status("agency")


def test_reminders_do_not_burst() -> None:
    """A reminder date in the past means the usual wait, not all reminders at once."""
    world = started(AGENCY)
    world.answer("agency", "cannot_look")
    world.answer("agency", "awaiting_party", look_at=START - DAY)
    state = world.step("agency").state
    assert isinstance(state, AwaitingParty)
    assert START + 7 * DAY == state.until


# --- which asking was answered ---

_ENDS = {"party_erased": "erased", "absent": "absent", "retained": "retained"}


def mailed(world: World) -> int:
    """The agency was asked by mail; gives the attempt that its link names."""
    world.answer("agency", "cannot_look")
    world.answer("agency", "awaiting_party")
    return world.command("agency").attempt


def supplemented(*plans: SystemPlan, to: str) -> World:
    """Asked, then supplemented, and brought to a state of the second asking."""
    world = started(*plans)
    mailed(world)
    world.supplement(tenant="acme")
    if to != "locating":
        world.answer("agency", "cannot_look")
    if to == "retrying":
        world.answer("agency", "failed", retryable=True)
    if to == "awaiting_decision":
        world.answer("agency", "failed")
    if to == "awaiting_party":
        world.answer("agency", "awaiting_party")
    assert to == world.status("agency")
    return world


@pytest.mark.parametrize("kind", _ENDS)
@pytest.mark.parametrize("to", ["locating", "erasing", "retrying", "awaiting_decision", "awaiting_party"])
def test_an_answer_by_a_link_from_before_a_supplement_does_not_end_the_step(to: str, kind: str) -> None:
    """It was about fewer identifiers, whatever the step is at: it is noted, and the step goes on."""
    world = supplemented(AGENCY, to=to)
    world.callback("agency", kind, attempt=2, legal_basis="bookkeeping")
    assert to == world.status("agency")
    ignored = [one.data for one in world.entries if one.action == "ignored"]
    assert [(kind, "asked_anew_since")] == [(one["trigger"], one["code"]) for one in ignored]


@pytest.mark.parametrize("kind", _ENDS)
def test_an_answer_by_a_link_of_the_latest_asking_counts(kind: str) -> None:
    """Also after an older one that did not, and also before we know that the mail went out."""
    for to in ("erasing", "awaiting_party"):
        world = supplemented(AGENCY, to=to)
        world.callback("agency", kind, attempt=2, legal_basis="bookkeeping")
        world.callback("agency", kind, attempt=4, legal_basis="bookkeeping")
        assert _ENDS[kind] == world.status("agency")


def test_a_reminder_or_a_retry_makes_no_older_link_void() -> None:
    """They ask the same again, so that the first mail's link is as good as the last one's."""
    for reason in ("", "party_silent"):
        world = started(AGENCY)
        first = mailed(world)
        world.tick()
        if reason:
            world.until(START + 27 * DAY)
            world.dpo("retry", reason)
            world.answer("agency", "awaiting_party")
        assert first < world.command("agency").attempt
        world.callback("agency", "party_erased", attempt=first)
        assert "erased" == world.status("agency")


def test_an_answer_from_before_the_dpo_had_newer_records_erased_does_not_end_the_step() -> None:
    """Looked anew, an agency is asked anew: what it erased before is not what reappeared."""
    world = started(AGENCY)
    world.answer("agency", "located")
    world.answer("agency", "awaiting_party")
    world.callback("agency", "party_erased", attempt=2)
    world.answer("agency", "reappeared")
    world.dpo("erase", "reappeared")
    world.answer("agency", "located")
    world.callback("agency", "party_erased", attempt=2)
    assert "erasing" == world.status("agency")


def test_a_vendors_own_event_is_a_reason_to_look_after_a_supplement_too() -> None:
    """It came by no link and answers no asking; the proof is ours."""
    world = supplemented(AGENCY, to="awaiting_party")
    world.callback("agency", "party_erased", attempt=0, grade="vendor_stated", look_at=world.now)
    assert "proving" == world.status("agency")


def test_an_agencys_refusal_reaches_the_dpo_by_whichever_link() -> None:
    """It ends nothing, so that it can be taken at its word."""
    world = supplemented(AGENCY, to="awaiting_party")
    world.callback("agency", "refused", attempt=2, code="no_such_person")
    assert ["party_refused"] == world.questions()


@pytest.mark.parametrize("kind", ["instructed", "refused"])
def test_a_controllers_word_about_less_counts_for_nothing_after_a_supplement(kind: str) -> None:
    """Neither an instruction nor an end, while the step waits for its turn or when it was passed on again."""
    world = World(CRM, replace(TENANT, after=("crm",)))
    world.request(tenant="acme")
    world.erase("crm")
    asked(world)
    world.supplement(tenant="acme")
    world.callback("tenant", kind, attempt=1)
    assert ("waiting", None) == (world.status("tenant"), world.step("tenant").instruction)
    world.erase("crm")
    world.callback("tenant", kind, attempt=1)
    assert ("locating", None) == (world.status("tenant"), world.command("tenant").instruction)
    asked(world)
    world.now += 1
    world.callback("tenant", kind, attempt=1)
    assert ("awaiting_party", ["locate", "locate"]) == (world.status("tenant"), world.verbs("tenant"))
    world.callback("tenant", kind, attempt=2)
    assert {"instructed": "locating", "refused": "refused"}[kind] == world.status("tenant")


def test_a_refusal_about_less_still_stops_an_instructed_step() -> None:
    """When in doubt nothing is erased: the DPO sees that the controller said both. The old link can't settle
    it.
    """
    world = asked(started(TENANT))
    world.supplement(tenant="acme")
    asked(world)
    world.callback("tenant", "instructed", attempt=2)
    world.callback("tenant", "refused", attempt=1)
    world.callback("tenant", "instructed", attempt=1)
    assert ["instruction_conflict"] == world.questions()
    world.callback("tenant", "instructed", attempt=2)
    assert ("locating", []) == (world.status("tenant"), world.questions())


def test_a_controllers_address_stays_good_when_newer_records_are_erased() -> None:
    """The controller is not asked anew then: it can still refuse, and take that back."""
    world = asked(started(TENANT))
    world.callback("tenant", "instructed", attempt=1)
    world.erase("tenant")
    world.answer("tenant", "reappeared")
    world.dpo("erase", "reappeared")
    world.callback("tenant", "refused", attempt=1)
    assert ["instruction_conflict"] == world.questions()
    world.callback("tenant", "instructed", attempt=1)
    assert ("locating", []) == (world.status("tenant"), world.questions())
