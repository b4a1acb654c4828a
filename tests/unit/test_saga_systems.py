"""What systems say besides found, erased and gone: left alone, ambiguous, an event before its time."""

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.saga.clocks import DAY, SECOND
from orchestrator.saga.events import CommandsUnsent
from orchestrator.saga.rules import HOUR, MINUTE, Retry, Waits
from orchestrator.saga.steps import NOT_ASKED
from tests.unit.saga_world import AGENCY, CRM, REQUEST, TENANT, World


def started(**changes: Any) -> World:
    world = World(CRM, **changes)
    world.request()
    return world


def test_a_system_that_is_left_alone_costs_no_attempt() -> None:
    """The worker asked nobody, however often: the step goes on when the pause is over, and asks no DPO."""
    world = started(retry=Retry(max_attempts=2))
    for _ in range(20):
        at = world.now
        world.answer("crm", "failed", code="circuit_open", retryable=True, retry_after=MINUTE)
        assert "retrying" == world.status("crm")
        world.tick()
        assert MINUTE <= world.now - at
    assert [] == world.questions()
    assert 0 == world.step("crm").failures
    world.answer("crm", "failed", code="timeout", retryable=True)
    assert 1 == world.step("crm").failures


@pytest.mark.parametrize("code", sorted(NOT_ASKED))
def test_a_wait_of_our_own_costs_no_attempt(code: str) -> None:
    """Nobody was asked, for whatever reason; it does not go on for ever, and the DPO is told the reason."""
    world = started(retry=Retry(max_attempts=2), waits=Waits(circuit_alarm=HOUR))
    for _ in range(5):
        world.answer("crm", "failed", code=code, retryable=True, retry_after=MINUTE)
        world.tick()
    assert ([], 0) == (world.questions(), world.step("crm").failures)
    world.now += HOUR
    world.answer("crm", "failed", code=code, retryable=True, retry_after=MINUTE)
    assert code == world.question("failed").code


def test_a_system_that_a_worker_does_not_know_yet_is_waited_for() -> None:
    """A rolling deployment: an older worker has the command. It costs no attempt, the next worker carries it
    out, and if none ever does, the DPO is asked in the end.
    """
    world = started(retry=Retry(max_attempts=1))

    def not_known() -> None:
        world.answer("crm", "failed", code="unknown_system", retryable=True, retry_after=10 * MINUTE)

    not_known()
    assert ("retrying", []) == (world.status("crm"), world.questions())
    world.tick()
    world.answer("crm", "located")
    assert "erasing" == world.status("crm")
    since = world.now
    while not world.questions():
        not_known()
        if not world.questions():
            world.tick()
    assert world.rules.waits.circuit_alarm == world.now - since
    assert "unknown_system" == world.question("failed").code


@pytest.mark.parametrize("retry_after", [0, 2 * SECOND])
def test_a_vendor_that_says_soon_each_time_is_not_soon_a_question(retry_after: int) -> None:
    """Its Retry-After is the least that is waited, and the back-off grows all the same."""
    world = started()
    began_at = world.now
    while not world.questions():
        at = world.now
        world.answer("crm", "failed", code="rate_limited", retryable=True, retry_after=retry_after)
        if not world.questions():
            world.tick()
            assert retry_after <= world.now - at
    assert 10 * MINUTE < world.now - began_at


def test_a_failure_before_the_pause_still_counts() -> None:
    """What the vendor did not answer itself stays counted through the pauses between."""
    world = started(retry=Retry(max_attempts=2))
    world.answer("crm", "failed", code="timeout", retryable=True)
    world.tick()
    world.answer("crm", "failed", code="circuit_open", retryable=True, retry_after=MINUTE)
    world.tick()
    world.answer("crm", "failed", code="timeout", retryable=True)
    assert ["failed"] == world.questions()


@pytest.mark.parametrize("retryable", [True, False])
def test_a_failure_is_counted_whether_or_not_it_passes(retryable: bool) -> None:
    """The record says how many attempts failed."""
    world = started()
    world.answer("crm", "failed", code="forbidden", retryable=retryable)
    assert 1 == world.step("crm").failures


def ambiguous(world: World, kind: str = "located") -> None:
    world.answer("crm", kind, found=2, references=None, code="ambiguous_match")


def test_records_that_may_be_anybodys_are_erased_only_when_the_dpo_says_so() -> None:
    """Until then nobody is told to erase; then the handler hears how many are meant."""
    world = started()
    ambiguous(world)
    assert ["ambiguous"] == world.questions()
    assert (2, ()) == (world.step("crm").found, world.step("crm").references)
    world.dpo("erase", "ambiguous")
    assert (2, None) == (world.command("crm").takes_all, world.command("crm").instruction)
    world.answer("crm", "located", found=2)
    assert ("erasing", 0) == (world.status("crm"), world.command("crm").takes_all)


def test_looking_again_is_no_leave_to_erase_what_was_ambiguous() -> None:
    """The wrong person's address was put right: only what the second look finds is erased."""
    world = started()
    ambiguous(world)
    world.dpo("retry", "ambiguous")
    assert 0 == world.command("crm").takes_all
    world.answer("crm", "located", references=b"the one")
    assert (b"the one",) == world.command("crm").references


def test_the_same_answer_twice_asks_once_and_an_older_look_erases_nothing() -> None:
    """A command that was delivered twice answers twice, also when the DPO has decided meanwhile."""
    world = started()
    ambiguous(world)
    ambiguous(world)
    assert ["ambiguous"] == world.questions()
    world.dpo("erase", "ambiguous")
    world.answer("crm", "located", found=2)
    world.answer("crm", "located", attempt=1, found=2, references=None, code="ambiguous_match")
    assert ["locate", "locate", "erase"] == world.verbs("crm")


def test_a_look_that_found_nothing_and_then_several_asks() -> None:
    """The first answer ended the step; the repeat of the same command found what it had missed."""
    world = started()
    world.answer("crm", "absent")
    world.answer("crm", "located", attempt=1, found=2, references=None, code="ambiguous_match")
    assert ["ambiguous"] == world.questions()


def test_a_proof_that_finds_several_older_ones_asks_before_it_erases() -> None:
    """They were missed by the look; whose they are is as unclear as it would have been then."""
    world = started()
    world.erase("crm")
    ambiguous(world, "still_present")
    assert ["ambiguous"] == world.questions()
    assert "erase" not in world.verbs("crm")[2:]


def test_a_supplement_asks_anew() -> None:
    """What the DPO said was about the records that the old identifiers found."""
    world = started()
    ambiguous(world)
    world.dpo("erase", "ambiguous")
    world.supplement()
    assert 0 == world.command("crm").takes_all


def test_the_decision_counts_for_the_look_that_follows_it_and_no_other() -> None:
    """Somebody shares the address since: they are asked about, however the step comes to look once more."""
    world = started(retry=Retry(max_attempts=1))
    ambiguous(world)
    world.dpo("erase", "ambiguous")
    assert 2 == world.command("crm").takes_all
    world.answer("crm", "failed", code="timeout")
    world.dpo("retry", "failed")
    assert 0 == world.command("crm").takes_all
    ambiguous(world)
    world.dpo("erase", "ambiguous")
    world.answer("crm", "located", found=2)
    world.answer("crm", "accepted")
    world.answer("crm", "reappeared")
    world.dpo("erase", "reappeared")
    assert 0 == world.command("crm").takes_all
    ambiguous(world)
    world.dpo("retry", "ambiguous")
    assert [0, 2, 0, 2, 0, 0] == [one.takes_all for one in world.commands("crm") if one.verb == "locate"]
    assert {None} == {one.instruction for one in world.commands("crm")}


def test_the_decision_is_about_as_many_records_as_the_question() -> None:
    """More had been found before; the DPO was asked about these."""
    world = started()
    world.answer("crm", "located", found=7, references=None, code="ambiguous_match")
    world.dpo("retry", "ambiguous")
    ambiguous(world)
    world.dpo("erase", "ambiguous")
    assert 2 == world.command("crm").takes_all


def asked_about(world: World, records: bytes, kind: str = "located") -> None:
    world.answer("crm", kind, found=2, references=records, code="ambiguous_match")


def test_the_decision_comes_with_the_records_that_were_asked_about() -> None:
    """They are nobody's records yet: nothing but the look that follows the decision carries them."""
    world = started()
    asked_about(world, b"a and b")
    assert ["ambiguous"] == world.questions()
    assert () == world.step("crm").references
    world.dpo("erase", "ambiguous")
    assert (2, (b"a and b",)) == (world.command("crm").takes_all, world.command("crm").references)
    world.answer("crm", "located", found=2, references=b"found")
    assert ("erase", (b"found",)) == (world.command("crm").verb, world.command("crm").references)


def test_what_a_proof_asks_about_is_not_erased_with_the_rest() -> None:
    """A proof asks about strangers; who looks again is told of them only when the DPO says "erase"."""
    world = started()
    world.answer("crm", "located", references=b"hers")
    world.answer("crm", "accepted", erased=1)
    world.tick()
    asked_about(world, b"a and b", "still_present")
    assert (b"hers",) == world.step("crm").references
    world.dpo("retry", "ambiguous")
    assert (0, (b"hers",)) == (world.command("crm").takes_all, world.command("crm").references)
    asked_about(world, b"b and c")
    world.dpo("erase", "ambiguous")
    assert (2, (b"hers", b"b and c")) == (world.command("crm").takes_all, world.command("crm").references)


def test_the_dpos_agreement_is_no_instruction_of_a_controller() -> None:
    """A tenant's records may be several people's, too: its controller decides whether they are erased."""
    world = World(TENANT)
    world.request(tenant="acme")
    world.answer("tenant", "located", found=2, references=None, code="ambiguous_match")
    world.dpo("erase", "ambiguous")
    assert (2, None) == (world.command("tenant").takes_all, world.command("tenant").instruction)
    world.answer("tenant", "located", found=2)
    assert "awaiting_party" == world.status("tenant")


# --- a system that is left alone ---


def left_alone(world: World, **fields: Any) -> None:
    world.answer("crm", "failed", code="circuit_open", retryable=True, retry_after=10 * MINUTE, **fields)


def test_a_system_that_is_left_alone_for_long_is_asked_about() -> None:
    """It costs no attempt, so nothing else would ever end the wait."""
    world = started(waits=Waits(circuit_alarm=5 * HOUR))
    since = world.now
    for _ in range(100):
        left_alone(world)
        if world.questions():
            break
        world.tick()
    assert since + 5 * HOUR == world.now
    assert ("failed", "circuit_open") == (world.question("failed").reason, world.question("failed").code)
    world.dpo("retry", "failed")
    left_alone(world)
    assert ("retrying", []) == (world.status("crm"), world.questions())


def test_a_system_that_answered_in_between_is_waited_for_anew() -> None:
    """Its locate was answered; the pause before its erasure is another one."""
    world = started(waits=Waits(circuit_alarm=5 * HOUR))
    left_alone(world)
    world.now += 4 * HOUR
    world.tick()
    world.answer("crm", "located")
    left_alone(world)
    world.now += 4 * HOUR
    world.tick()
    left_alone(world)
    assert [] == world.questions()


def test_a_failure_in_between_is_no_answer() -> None:
    """One call tries now and then, and fails: the system does not answer all the same."""
    world = started(waits=Waits(circuit_alarm=5 * HOUR))
    left_alone(world)
    world.tick()
    world.answer("crm", "failed", code="timeout", retryable=True)
    world.now += 5 * HOUR
    world.tick()
    left_alone(world)
    assert "circuit_open" == world.question("failed").code


def test_a_pause_is_not_longer_than_the_alarm() -> None:
    """A worker that names a year does not hold the step for it."""
    world = started(waits=Waits(circuit_alarm=5 * HOUR))
    since = world.now
    world.answer("crm", "failed", code="circuit_open", retryable=True, retry_after=900 * DAY)
    world.tick()
    assert since + 5 * HOUR == world.now


def test_a_party_whose_reminder_is_not_sent_is_asked_about_too() -> None:
    """The way to it is closed: the reminder goes out when it opens, or the DPO is asked."""
    world = World(AGENCY, waits=Waits(circuit_alarm=5 * HOUR))
    world.request()
    world.answer("agency", "cannot_look")
    world.answer("agency", "awaiting_party")
    world.tick()
    for _ in range(2):
        world.answer("agency", "failed", code="circuit_open", retryable=True, retry_after=5 * HOUR)
        if not world.questions():
            world.tick()
    assert "circuit_open" == world.question("failed").code


@pytest.mark.parametrize("events", [1, 3])
def test_an_event_of_the_vendor_shortens_no_schedule(events: int) -> None:
    """HubSpot says "deleted" at once, for each contact; the look after its purge is taken all the same."""
    world = World(replace(CRM, look_again=(0, 31 * DAY)))
    world.request()
    world.erase("crm")
    erased_at = world.now
    world.answer("crm", "proved")
    for _ in range(events):
        world.now += MINUTE
        world.callback("crm", "proved", attempt=0)
        world.answer("crm", "proved")
        assert "accepted" == world.status("crm")
    while "accepted" == world.status("crm"):
        world.tick()
    assert erased_at + 31 * DAY == world.now
    world.answer("crm", "proved")
    assert "erased" == world.status("crm")


def test_a_question_about_a_command_goes_with_its_step() -> None:
    """Another command is out then, and whether that one can be sent is another question."""
    world = started()
    world.until(world.now + 2 * DAY)
    command = world.step("crm").command_id or ""
    world.feed(CommandsUnsent(event_id="unsent", request_id=REQUEST, commands=frozenset([command])))
    assert {"no_answer", "command_not_sent"} == set(world.questions())
    world.dpo("retry", "no_answer")
    assert [] == world.questions()
