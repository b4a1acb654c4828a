"""What an answer counts for: the identifiers and references that it was about, and no more."""

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.saga import about, table
from orchestrator.saga.clocks import DAY
from orchestrator.saga.draft import RuleBroken
from orchestrator.saga.model import Ended
from orchestrator.saga.rules import HOUR, Retry, SystemPlan
from schemas import messages
from tests.unit.saga_world import AGENCY, CRM, TENANT, WEB, World, marks


def started(*plans: SystemPlan, **changes: Any) -> World:
    world = World(*plans, **changes)
    world.request(tenant="acme")
    return world


def lingering() -> World:
    """A first look never answers, so that the request closes until it can no longer act."""
    world = started(WEB)
    world.supplement(tenant="acme")
    return world


@pytest.mark.parametrize("sealed", [b"", b"sealed", bytes(range(256))])
def test_the_saga_and_the_messages_make_the_same_mark(sealed: bytes) -> None:
    """The worker marks what it opened, the saga what it keeps: both must come to the same."""
    assert messages.mark(sealed) == about.mark(sealed)


# --- what an answer counted ---


def test_what_an_answer_counts_is_overwritten_by_no_older_one() -> None:
    """The last proof counted what stays; the one before, delivered twice, and one about fewer identifiers are
    read late. The person is told what the last one said.
    """
    seen_at_once = SystemPlan(name="crm", kind="hubspot", look_again=(0,), patience=30 * DAY)
    world = started(seen_at_once, WEB)
    world.answer("crm", "located")
    world.answer("crm", "accepted", evidence={"purges": "soon"})
    world.answer("crm", "failed", retryable=True)
    world.until(world.now + DAY)
    before = world.step("crm").attempt
    world.supplement(tenant="acme")
    world.answer("crm", "located")
    world.answer("crm", "accepted")
    world.answer("crm", "failed", retryable=True)
    world.until(world.now + DAY)
    last = world.step("crm").attempt
    world.answer("crm", "proved", evidence={"tickets_left": "2"})
    assert "erased" == world.status("crm")
    world.answer("crm", "proved", attempt=before, evidence={"tickets_left": "0", "unknown_then": "1"})
    world.answer("crm", "proved", attempt=last - 1, evidence={"tickets_left": "0", "also": "1"})
    world.answer("crm", "proved", attempt=last, evidence={"tickets_left": "1"})
    told = {name: value for name, value in world.step("crm").evidence.items() if name.startswith("prove.")}
    assert {"prove.tickets_left": "2", "prove.also": "1"} == told


# --- an acceptance ---


def test_an_acceptance_of_fewer_identifiers_does_not_answer_the_larger_erasure() -> None:
    """Nothing can be looked up in analytics, so that only the erase command submits the identifiers. Those
    that a supplement added are submitted by the second one alone: the first one's late yes is not its answer.
    """
    world = started(WEB)
    world.answer("web", "cannot_look")
    world.supplement(tenant="acme")
    world.answer("web", "cannot_look")
    world.answer("web", "accepted", attempt=2, erased=1)
    assert ("erasing", 1) == (world.status("web"), world.step("web").erased)
    assert world.step("web").erased_at is None
    world.answer("web", "accepted", attempt=4)
    assert "proving" == world.status("web")


def test_an_acceptance_of_fewer_identifiers_does_not_settle_the_failure_of_the_larger_erasure() -> None:
    """The DPO's question stays, and a retry submits all of them."""
    world = started(WEB)
    world.answer("web", "cannot_look")
    world.supplement(tenant="acme")
    world.answer("web", "cannot_look")
    world.answer("web", "failed")
    world.answer("web", "accepted", attempt=2)
    assert ("awaiting_decision", ["failed"]) == (world.status("web"), world.questions())
    world.dpo("retry", "failed")
    assert "erase" == world.command("web").verb


def test_an_acceptance_of_fewer_records_does_not_answer_the_larger_erasure() -> None:
    """An older look found more while the first erasure was under way."""
    world = started(WEB)
    world.until(world.now + 2 * DAY)
    world.dpo("retry", "no_answer")
    world.answer("web", "located", references=b"one")
    world.answer("web", "located", attempt=1, references=b"two")
    assert (b"one", b"two") == world.command("web").references
    world.answer("web", "accepted", attempt=3)
    assert "erasing" == world.status("web")
    world.answer("web", "accepted", attempt=4)
    assert "proving" == world.status("web")


def test_the_first_erasures_yes_over_a_refusal_is_told_and_settles_nothing() -> None:
    """Part of it was erased before the controller refused: the DPO hears it, and the rest stands still."""
    world = started(TENANT)
    world.callback("tenant", "instructed")
    world.answer("tenant", "located", references=b"one")
    world.answer("tenant", "located", attempt=1, references=b"two")
    world.callback("tenant", "refused")
    world.answer("tenant", "accepted", attempt=3)
    assert {"instruction_conflict", "refused_late"} == set(world.questions())
    assert "awaiting_decision" == world.status("tenant")


def test_the_yes_to_the_first_erasure_does_not_answer_the_one_after_a_proof() -> None:
    """The proof found the records still there, and its handler names none: the first yes came before that."""
    world = started(CRM)
    world.erase("crm")
    world.answer("crm", "still_present", references=None)
    world.tick()
    world.answer("crm", "accepted", attempt=2, erased=3)
    assert ("erasing", None) == (world.status("crm"), world.step("crm").accepted_at)


def test_a_late_yes_to_an_attempt_that_carried_all_counts_while_the_next_one_is_out() -> None:
    """It says that what the next one asks for has been done."""
    world = started(CRM)
    world.answer("crm", "located")
    world.answer("crm", "failed", code="timeout", retryable=True)
    world.tick()
    world.answer("crm", "accepted", attempt=2)
    assert "proving" == world.status("crm")


@pytest.mark.parametrize("is_part", [False, True])
def test_the_earliest_yes_tells_what_is_newer(is_part: bool) -> None:
    """It is read last, and was the first: a record made between the two may be new consent. So may one made
    after a part was erased.
    """
    world = started(CRM)
    world.answer("crm", "located")
    first = world.now = world.now + HOUR
    world.until(world.now + 2 * DAY)
    if is_part:
        world.answer("crm", "located", attempt=1, references=b"more", occurred_at=first)
    else:
        world.dpo("retry", "no_answer")
    world.answer("crm", "accepted")
    world.answer("crm", "accepted", attempt=2, occurred_at=first)
    assert first == world.step("crm").erased_at


@pytest.mark.parametrize("to", ["proving", "accepted", "erased"])
def test_a_proof_that_took_a_later_time_for_that_of_the_erasure_leads_to_another(to: str) -> None:
    """Two erasures ran, and the first one's yes was read last: a record made between the two may be new
    consent, and the proof that was sent before that took it for an older one.
    """
    world = started(CRM, WEB)
    world.answer("crm", "located")
    first = world.now = world.now + HOUR
    world.until(world.now + 2 * DAY)
    world.dpo("retry", "no_answer")
    world.answer("crm", "accepted")
    early = world.command("crm").attempt
    if to != "proving":
        world.answer("crm", "proved")
    if to == "erased":
        world.tick()
        while "erased" != world.status("crm"):
            world.answer("crm", "proved") if "proving" == world.status("crm") else world.tick()
    assert to == world.status("crm")
    world.answer("crm", "accepted", attempt=2, occurred_at=first)
    world.now += HOUR
    world.answer("crm", "still_present", attempt=early, references=b"between")
    command = world.command("crm")
    assert ("prove", first, False) == (command.verb, command.erased_at, b"between" in command.references)
    assert early < command.attempt


def test_what_such_a_proof_saw_is_known_after_a_supplement() -> None:
    """The person has asked anew since, so that whatever was there by then is to be erased."""
    world = started(CRM)
    world.answer("crm", "located")
    first = world.now = world.now + HOUR
    world.until(world.now + 2 * DAY)
    world.dpo("retry", "no_answer")
    world.answer("crm", "accepted")
    early = world.command("crm").attempt
    world.answer("crm", "accepted", attempt=2, occurred_at=first)
    world.supplement(tenant="acme")
    world.answer("crm", "still_present", attempt=early, references=b"between")
    assert b"between" in world.step("crm").references


def test_records_seen_after_an_erasure_are_told_from_new_ones_first() -> None:
    """The DPO has the address put right, and the look finds one. Whether it is newer only a proof tells."""
    world = started(CRM)
    world.erase("crm")
    world.answer("crm", "still_present", found=2, references=None, code="ambiguous_match")
    world.now += HOUR
    world.dpo("retry", "ambiguous")
    world.answer("crm", "located", references=b"the one")
    assert "proving" == world.status("crm")
    world.answer("crm", "still_present", references=b"older")
    world.tick()
    assert ("erase", b"older") == (world.command("crm").verb, world.command("crm").references[-1])


# --- a proof ---


def test_records_that_an_older_proof_saw_are_carried_by_an_erasure() -> None:
    """A slow proof, delivered twice, saw one record more than its first answer said. The erasure that
    followed did not carry it, so another one does.
    """
    world = started(CRM)
    world.erase("crm")
    first = world.command("crm").attempt
    world.answer("crm", "still_present", references=b"one")
    saw_at = world.now
    world.now += HOUR
    world.tick()
    world.answer("crm", "accepted")
    assert "proving" == world.status("crm")
    world.answer("crm", "still_present", attempt=first, references=b"two", occurred_at=saw_at)
    assert "retrying" == world.status("crm")
    world.tick()
    assert ("erase", True) == (world.command("crm").verb, b"two" in world.command("crm").references)
    world.answer("crm", "accepted")
    world.answer("crm", "proved", attempt=first + 2)
    assert "proving" == world.status("crm")


def test_records_that_an_older_proof_saw_while_an_erasure_is_out_go_out_with_another() -> None:
    """The command that is out does not carry them."""
    world = started(CRM)
    world.erase("crm")
    first = world.command("crm").attempt
    world.supplement(tenant="acme")
    world.answer("crm", "located", references=b"more")
    second = world.command("crm").attempt
    world.answer("crm", "still_present", attempt=first, references=b"left")
    assert ("erase", b"left") == (world.command("crm").verb, world.command("crm").references[-1])
    world.answer("crm", "accepted", attempt=second)
    assert "erasing" == world.status("crm")


def test_a_party_that_is_being_asked_is_asked_for_what_turned_up_since() -> None:
    """An agency was mailed about some records, and an older proof says late that there are more."""
    world = started(AGENCY)
    world.erase("agency")
    proof = world.command("agency").attempt
    world.supplement(tenant="acme")
    world.answer("agency", "located", references=b"again")
    world.answer("agency", "awaiting_party")
    world.answer("agency", "still_present", attempt=proof, references=b"left")
    assert ("erasing", b"left") == (world.status("agency"), world.command("agency").references[-1])


@pytest.mark.parametrize("is_closing", [False, True])
def test_records_that_an_older_proof_saw_are_looked_at_after_the_end(is_closing: bool) -> None:
    """The last proof was not about them, whatever it said: the step opens again and looks."""
    world = lingering() if is_closing else started(WEB, CRM)
    world.erase("web")
    first = world.command("web").attempt
    world.answer("web", "still_present", references=b"one")
    saw_at = world.now
    world.now += HOUR
    world.tick()
    world.answer("web", "accepted")
    world.answer("web", "proved")
    if is_closing:
        world.mailbox()
    assert ("erased", "closing" if is_closing else "in_progress") == (world.status("web"), world.open.status)
    world.answer("web", "still_present", attempt=first, references=b"two", occurred_at=saw_at)
    assert ("proving", "in_progress") == (world.status("web"), world.open.status)
    assert b"two" in world.command("web").references


def test_records_that_an_older_proof_saw_overturn_an_absence() -> None:
    """After a supplement a look found nothing; a proof from before it names a record, so that is erased."""
    world = started(WEB)
    world.answer("web", "cannot_look")
    world.answer("web", "accepted")
    proof, saw_at = world.command("web").attempt, world.now
    world.now += HOUR
    world.supplement(tenant="acme")
    world.answer("web", "absent")
    assert "absent" == world.status("web")
    world.answer("web", "still_present", attempt=proof, references=b"left", occurred_at=saw_at)
    world.tick()
    assert ("erase", (b"left",)) == (world.command("web").verb, world.command("web").references)


def test_a_proof_about_fewer_records_ends_nothing() -> None:
    """A record was found by an older look while the proof was out; the proof did not look at it."""
    world = started(WEB)
    world.until(world.now + 2 * DAY)
    world.dpo("retry", "no_answer")
    world.answer("web", "located", references=b"one")
    world.answer("web", "accepted")
    proof = world.command("web").attempt
    world.answer("web", "located", attempt=1, references=b"two", occurred_at=world.now)
    world.answer("web", "proved", attempt=proof)
    assert "proving" == world.status("web")
    assert (b"one", b"two") == world.command("web").references
    world.answer("web", "proved")
    assert "erased" == world.status("web")


def test_a_proof_that_names_another_person_ends_nothing() -> None:
    """Whatever made the worker look for other identifiers: the step asks again."""
    world = started(WEB)
    world.erase("web")
    other = marks(b"other identifiers", *world.command("web").references)
    world.answer("web", "proved", about=other)
    assert "retrying" == world.status("web")
    world.tick()
    world.answer("web", "proved")
    assert "erased" == world.status("web")


def test_what_stays_by_law_does_not_make_deaf() -> None:
    """Part is kept, the rest was seen gone. A proof that finds some of the rest opens the step again."""
    for is_closing in (False, True):
        world = lingering() if is_closing else started(WEB, CRM)
        world.erase("web")
        proof = world.command("web").attempt
        world.answer("web", "proved", end="retained", legal_basis="bookkeeping")
        assert "retained" == world.status("web")
        world.now += HOUR
        if is_closing:
            world.mailbox()
            assert "closing" == world.open.status
        world.answer("web", "still_present", attempt=proof, references=b"left")
        assert ("retrying", "in_progress") == (world.status("web"), world.open.status)


def test_what_a_party_retains_may_be_seen() -> None:
    """It said that the records stay, so that seeing them is no news."""
    world = started(AGENCY, CRM)
    world.erase("agency")
    proof = world.command("agency").attempt
    world.callback("agency", "retained", legal_basis="bookkeeping")
    world.now += HOUR
    world.answer("agency", "still_present", attempt=proof)
    assert "retained" == world.status("agency")


def test_a_vendors_own_event_never_ends_a_step() -> None:
    """It may be about one record of several: where nothing more is said, we look."""
    world = started(AGENCY)
    world.answer("agency", "cannot_look")
    world.callback("agency", "party_erased", grade="vendor_stated")
    assert "proving" == world.status("agency")


# --- answers that don't say what they are about ---

_ENDS = {"absent": "locate", "not_identifiable": "locate", "accepted": "erase", "proved": "prove"}


def at_verb(verb: str, **changes: Any) -> World:
    world = started(WEB, **changes)
    if verb != "locate":
        world.answer("web", "located")
    if verb == "prove":
        world.answer("web", "accepted")
    return world


@pytest.mark.parametrize("kind", _ENDS)
def test_an_answer_that_names_nothing_is_a_fact_and_ends_nothing(kind: str) -> None:
    """A worker of an earlier version does not say what it was about: the command is sent anew."""
    world = at_verb(_ENDS[kind])
    world.answer("web", kind, about=(), erased=1, evidence={"calls": "3"})
    assert "retrying" == world.status("web")
    assert (1, "3") == (world.step("web").erased, world.step("web").evidence[f"{_ENDS[kind]}.calls"])
    world.tick()
    assert [_ENDS[kind]] * 2 == world.verbs("web")[-2:]
    assert "answer_about_less" in [one.data.get("code") for one in world.entries]


def test_workers_that_never_say_what_they_are_about_are_a_matter_for_the_dpo() -> None:
    """The upgrade was forgotten somewhere; it is asked about and not waited out."""
    world = at_verb("prove", retry=Retry(max_attempts=3))
    for _ in range(3):
        world.until(world.now + HOUR)
        world.answer("web", "proved", about=())
    one = world.question("failed")
    assert ("answer_about_less", "awaiting_decision") == (one.code, world.status("web"))
    world.answer("web", "proved", about=())
    assert "awaiting_decision" == world.status("web")
    world.answer("web", "proved")
    assert ("erased", []) == (world.status("web"), world.questions())


def test_an_absence_that_names_nothing_is_no_look_where_records_are_known() -> None:
    """After a supplement the known records are not erased before somebody has looked by all identifiers."""
    world = at_verb("erase")
    world.supplement(tenant="acme")
    world.answer("web", "absent", about=())
    assert "retrying" == world.status("web")
    world.tick()
    assert "locate" == world.command("web").verb


def test_an_answer_that_names_nothing_settles_no_question() -> None:
    """A proof failed for good, and its command, delivered twice, is answered once more."""
    world = at_verb("prove")
    world.answer("web", "failed", code="forbidden")
    world.answer("web", "proved", about=())
    assert ("awaiting_decision", "forbidden") == (world.status("web"), world.question("failed").code)


def test_what_was_found_without_a_word_about_what_is_erased_all_the_same() -> None:
    """Records that were found are there; the proof has to say what it is about."""
    world = at_verb("locate")
    world.answer("web", "located", about=())
    assert "erasing" == world.status("web")


# --- nothing else can end a step ---


@pytest.mark.parametrize(
    "end",
    [Ended(end=kind, at=1, grade="seen_absent") for kind in ("erased", "absent", "anonymised", "retained")],
)
def test_no_rule_can_make_up_an_end(end: Ended, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table refuses an end that says something of the records, where no answer about all shows it."""
    row = table.Row(lambda draft, step, event: replace(step, state=end), ("ended",))
    for status, trigger in (("erasing", "accepted"), ("erasing", "timer"), ("proving", "proved")):
        monkeypatch.setitem(table.STEP_TABLE[status], trigger, row)  # type: ignore[index] # a status as text
    world = started(WEB)
    world.answer("web", "located")
    with pytest.raises(RuleBroken):
        world.tick()
    with pytest.raises(RuleBroken):
        world.answer("web", "accepted", about=marks(b"sealed"))


@pytest.mark.parametrize("kind", ["retained", "party_erased"])
def test_a_partys_word_from_a_worker_that_names_nothing_ends_nothing(kind: str) -> None:
    """No worker says so in answer to a command; whoever does shows nothing, and no rule breaks."""
    world = started(AGENCY)
    world.answer("agency", "cannot_look")
    world.answer("agency", kind, about=(), legal_basis="bookkeeping")
    assert "erasing" == world.status("agency")
