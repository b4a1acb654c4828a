"""Late, twice, in any order: the orders of events that are easy to get wrong, and requests that repeat."""

import pytest

from orchestrator.saga.clocks import DAY
from orchestrator.saga.rules import HOUR, SystemPlan
from tests.unit.saga_world import (
    AGENCY,
    CRM,
    MARKETING,
    PAPER,
    START,
    TENANT,
    WEB,
    World,
)


def started(*plans: SystemPlan) -> World:
    world = World(*plans)
    world.request(tenant="acme")
    return world


def test_an_older_failure_never_overrides_a_newer_success() -> None:
    """The first attempt failed and was retried; its late success counts, and the retry's failure does not."""
    world = started(WEB)
    world.answer("web", "located")
    world.answer("web", "failed", retryable=True)
    world.tick()
    world.answer("web", "accepted", attempt=2)
    assert "proving" == world.status("web")
    world.answer("web", "failed", attempt=3)
    assert "proving" == world.status("web")


def test_a_failure_after_the_answer_of_the_same_command_says_nothing() -> None:
    """A command delivered twice was answered; that the second delivery failed moves nothing."""
    world = started(AGENCY)
    world.answer("agency", "cannot_look")
    world.answer("agency", "awaiting_party")
    until = world.step("agency").state
    world.answer("agency", "failed", retryable=True)
    assert until == world.step("agency").state


def test_a_success_after_the_failure_of_the_same_command_counts() -> None:
    """The repeat of a failed proof proves after all."""
    world = started(WEB)
    world.erase("web")
    world.answer("web", "failed", code="timeout")
    world.answer("web", "proved")
    assert ("erased", []) == (world.status("web"), world.questions())


def test_a_command_of_another_life_is_not_the_current_one() -> None:
    """After a restored backup an answer may carry our number and another command's id: it is only a fact."""
    world = started(WEB)
    world.answer("web", "absent", command_id="of-another-life")
    assert "locating" == world.status("web")


def test_an_absence_never_ends_a_step_that_has_references() -> None:
    """Erased half, looked anew, found nothing: what was once found is erased and proved all the same."""
    world = started(WEB)
    world.answer("web", "located")
    world.supplement(tenant="acme")
    world.answer("web", "absent")
    assert "erasing" == world.status("web")
    assert (b"references of 1",) == world.command("web").references


def test_nobody_identifiable_never_ends_a_step_that_has_references() -> None:
    """A product blanked the address and kept the row: the record is known, and a look by the address finds
    nobody. Whether more is looked for, by the DPO's decision or with more identifiers, the record is erased
    and proved, and is not reported as one that nobody could find.
    """
    world = started(CRM, TENANT)
    world.erase("crm")
    world.now += HOUR
    world.answer("crm", "still_present", references=None)
    world.tick()
    world.answer("crm", "accepted")
    world.answer("crm", "reappeared")
    world.dpo("erase", "reappeared")
    world.answer("crm", "not_identifiable", missing=("email",))
    assert "erasing" == world.status("crm")
    assert (b"references of 1",) == world.command("crm").references
    world.supplement(tenant="acme")
    world.answer("crm", "not_identifiable", missing=("email",))
    assert "erasing" == world.status("crm")
    world.answer("crm", "accepted")
    world.answer("crm", "still_present", references=None)
    assert "retrying" == world.status("crm")


def test_a_controllers_known_records_wait_for_its_instruction_where_nobody_is_identifiable() -> None:
    """They are known from before a supplement; its instruction was about less."""
    world = started(TENANT)
    world.answer("tenant", "awaiting_party")
    world.callback("tenant", "instructed")
    world.answer("tenant", "located")
    world.supplement(tenant="acme")
    world.answer("tenant", "not_identifiable", missing=("email",))
    assert "awaiting_party" == world.status("tenant")


def test_records_that_turn_up_while_the_person_is_asked_are_erased_without_an_answer() -> None:
    """An older look says late what it found; that the person can't help makes it no less there."""
    world = started(WEB)
    world.supplement(tenant="acme")
    world.answer("web", "not_identifiable", missing=("ga_client_id",))
    world.answer("web", "located", attempt=1)
    assert "awaiting_subject" == world.status("web")
    while "awaiting_subject" == world.status("web"):
        world.tick()
    assert "erasing" == world.status("web")


@pytest.mark.parametrize(
    ("seen", "status"), [("still_present", "retrying"), ("reappeared", "awaiting_decision")]
)
@pytest.mark.parametrize("is_closing", [False, True])
@pytest.mark.parametrize("how_late", [0, HOUR])
def test_records_seen_after_nobody_could_be_identified_reopen_the_step(
    seen: str, status: str, is_closing: bool, how_late: int
) -> None:
    """A proof from before comes late, and saw a record, before the look that found nobody or after it: what
    is there can't be reported as nobody's.
    """
    world = started(CRM)
    world.answer("crm", "cannot_look")
    world.answer("crm", "accepted")
    proof, saw_at = world.command("crm").attempt, world.now + how_late
    world.supplement(tenant="acme")
    world.answer("crm", "not_identifiable", missing=("email",))
    assert "not_identifiable" == world.status("crm")
    if is_closing:
        world.dpo("waive", "nothing_identifiable")
        world.mailbox()
    assert ("closing" if is_closing else "in_progress") == world.open.status
    world.now += HOUR
    references = b"seen" if seen == "still_present" else None
    world.answer("crm", seen, attempt=proof, references=references, occurred_at=saw_at)
    assert (status, "in_progress") == (world.status("crm"), world.open.status)


def test_what_a_handler_notes_comes_back_with_every_command() -> None:
    """That it asked a controller, what the vendor answered, that a record lay in the bin: a handler finds its
    notes again in each later command, and the records first.
    """
    world = started(TENANT)
    world.answer("tenant", "awaiting_party", references=b"asked")
    world.tick()
    assert (True, (b"asked",)) == (world.command("tenant").reminder, world.command("tenant").references)
    world.callback("tenant", "instructed")
    world.answer("tenant", "located", references=b"records")
    world.answer("tenant", "accepted", references=b"promised")
    world.answer("tenant", "pending", references=b"in the bin")
    world.tick()
    assert (b"records", b"asked", b"promised", b"in the bin") == world.command("tenant").references


def test_what_a_handler_notes_is_no_record() -> None:
    """A controller was asked and says erase, and nothing is held: there is nothing that could be erased."""
    world = started(TENANT)
    world.answer("tenant", "awaiting_party", references=b"asked")
    world.callback("tenant", "instructed")
    world.answer("tenant", "absent")
    assert ("absent", 0) == (world.status("tenant"), world.verbs("tenant").count("erase"))


def test_seen_after_the_erasure_leads_to_a_proof() -> None:
    """A look that ran again after the erasure may have found new consent: only a proof tells."""
    world = started(WEB)
    world.erase("web")
    world.answer("web", "proved")
    world.now += HOUR
    world.answer("web", "located", attempt=1, references=b"newer")
    assert "proving" == world.status("web")
    assert (b"references of 1",) == world.command("web").references
    world.answer("web", "reappeared")
    assert ["reappeared"] == [reason for reason in world.questions() if reason == "reappeared"]
    assert 1 == world.verbs("web").count("erase")


def test_the_looks_again_count_from_the_latest_erasure() -> None:
    """Found again at the second look and erased again: the next fortnight begins there; what counts as new
    does not.
    """
    world = started(CRM)
    world.erase("crm")
    world.answer("crm", "proved")
    world.until(START + 14 * DAY)
    world.answer("crm", "still_present")
    world.tick()
    world.answer("crm", "accepted")
    again = world.now
    world.answer("crm", "proved")
    assert "accepted" == world.status("crm")
    world.until(again + 14 * DAY - 1)
    assert "accepted" == world.status("crm")
    world.until(again + 14 * DAY)
    assert START == world.command("crm").erased_at


def test_pending_without_a_date_is_asked_ever_less_often() -> None:
    """A vendor that says pending, with a date in the past, is neither hammered nor asked for ever."""
    world = started(CRM)
    world.erase("crm")
    looks = 0
    while "proof_overdue" not in world.questions():
        if world.status("crm") == "proving":
            world.answer("crm", "pending", look_at=START)
            looks += 1
        else:
            world.tick()
    assert 50 < looks < 250


def test_commands_that_always_expire_end_with_the_dpo() -> None:
    """A worker whose clock is wrong finds each command too old; the DPO hears of it."""
    world = started(WEB)
    while not world.questions():
        if world.status("web") == "locating":
            world.answer("web", "expired")
        else:
            world.tick()
    assert ("failed", "expired") == (world.open.escalations[0].reason, world.open.escalations[0].code)
    assert world.now < START + 3 * DAY


def test_a_vendor_that_has_purged_early_is_looked_at_early() -> None:
    """A webhook is a reason to look, not an end."""
    world = started(CRM)
    world.erase("crm")
    world.answer("crm", "proved")
    world.callback("crm", "proved", grade="vendor_stated")
    assert "proving" == world.status("crm")


# --- supplement and conflict ---


def test_a_supplement_starts_over_in_order() -> None:
    """More identifiers: every system is looked at anew, in order, and the person is told anew."""
    world = started(CRM, MARKETING)
    world.erase("crm")
    world.answer("marketing", "absent")
    world.mailbox()
    assert 1 == len(world.outcomes("acted"))
    world.supplement(tenant="acme")
    assert world.open.acted_at is None
    assert ("locating", "waiting") == (world.status("crm"), world.status("marketing"))
    world.finish("crm")
    world.answer("marketing", "absent")
    assert 2 == len(world.outcomes("notice"))
    world.mailbox()
    assert "completed" == world.open.status


def test_an_older_attempts_answer_never_ends_a_supplemented_step() -> None:
    """The look that had fewer identifiers finds nothing, or fails: the one with more is still out."""
    for kind in ("absent", "not_identifiable", "failed", "expired", "located", "cannot_look"):
        world = started(WEB)
        world.supplement(tenant="acme")
        world.answer("web", kind, attempt=1)
        assert "locating" == world.status("web")
        assert ["locate", "locate"] == world.verbs("web")


def test_a_supplement_leaves_a_waived_step_alone() -> None:
    """What the DPO let go stays so."""
    world = started(WEB, PAPER)
    world.answer("web", "failed")
    world.dpo("waive", "failed")
    world.supplement(tenant="acme")
    assert "waived" == world.status("web")


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"verified": False}, id="unverified"),
        pytest.param({"tenant": "other"}, id="another tenant"),
        pytest.param({"scope": ("crm", "web")}, id="a wider scope"),
        pytest.param({"supplements": False}, id="other identifiers"),
        pytest.param({"identifier_kinds": ()}, id="no identifiers"),
    ],
)
def test_what_only_looks_like_a_supplement_is_a_conflict(fields: dict[str, object]) -> None:
    """Whoever knows a request's id must not have somebody else erased with it."""
    world = World(CRM)
    world.request()
    decision = world.supplement(**fields)
    assert ("request_id_conflict", b"sealed") == (decision.parks_event, world.open.identifiers)
    assert ["request_id_conflict"] == world.questions()


def test_the_same_request_twice_is_one() -> None:
    """A repeat changes nothing but the timeline."""
    world = started(CRM)
    decision = world.request(tenant="acme")
    assert ((), None) == (decision.messages, decision.parks_event)


def test_unreadable_bytes_under_a_known_id_are_kept() -> None:
    """They may have been a supplement."""
    world = started(CRM)
    assert "request_id_conflict" == world.unreadable().parks_event
    assert ["request_id_conflict"] == world.questions()
