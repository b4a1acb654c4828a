"""Work that is larger than one attempt: each attempt goes on where the last one ended, until all is done."""

import pytest

from orchestrator.saga.clocks import SECOND
from orchestrator.saga.model import Retrying
from tests.unit.saga_world import CRM, REQUEST, TENANT, World, marks


def begun(*, erasing: bool = True) -> World:
    """A world whose system has located records, and is erasing them."""
    world = World(CRM)
    world.request()
    if erasing:
        world.answer("crm", "located", found=1000, references=b"thousand")
    return world


def test_the_next_attempt_goes_on_at_once_and_is_told_what_is_done() -> None:
    """The progress, sealed, goes into the next command of the verb, beside every reference."""
    world = begun()
    world.answer("crm", "progress", done=300, erased=300, references=b"300 are done")
    assert ["locate", "erase", "erase"] == world.verbs("crm")
    assert (b"thousand", b"300 are done") == world.command("crm").references
    assert ("erasing", 0, 300) == (world.status("crm"), world.step("crm").failures, world.step("crm").done)


def test_progress_is_no_failed_attempt_however_often() -> None:
    """Far more attempts than are allowed to fail, one of them after failures, and nobody is asked."""
    world = begun()
    for number in range(1, 40):
        world.answer("crm", "failed", code="timeout", retryable=True)
        world.tick()
        world.answer("crm", "progress", done=number, erased=number, references=b"%d are done" % number)
    assert ([], 0, "erasing") == (world.questions(), world.step("crm").failures, world.status("crm"))


def test_a_failure_on_the_way_keeps_what_was_done_and_forgets_earlier_failures() -> None:
    """A vendor that answers with a fault now and then doesn't use up the attempts while the work goes on."""
    world = begun()
    for number in range(1, 40):
        references = b"%d are done" % number
        world.answer("crm", "failed", code="rate_limited", retryable=True, done=number, references=references)
        assert ("retrying", 1) == (world.status("crm"), world.step("crm").failures)
        world.tick()
        assert references == world.command("crm").references[-1]
    assert [] == world.questions()


def test_the_vendors_wait_counts_after_a_failure_on_the_way() -> None:
    """Work that goes on is no reason to hammer: the wait is the one that was asked for."""
    world = begun()
    world.answer(
        "crm",
        "failed",
        code="rate_limited",
        retryable=True,
        retry_after=600 * SECOND,
        done=5,
        references=b"5 are done",
    )
    state = world.step("crm").state
    assert isinstance(state, Retrying)
    assert world.now + 600 * SECOND <= state.until


@pytest.mark.parametrize("done", [0, 299, 300])
def test_an_attempt_without_progress_is_a_failed_one(done: int) -> None:
    """It is tried again with ever longer waits, and then the DPO is asked: no loop without an end."""
    world = begun()
    world.answer("crm", "progress", done=300, erased=300, references=b"300 are done")
    for _ in range(world.rules.retry.max_attempts):
        assert "awaiting_decision" != world.status("crm")
        world.answer("crm", "progress", done=done, references=b"the same" if done else None)
        if world.status("crm") == "retrying":
            world.tick()
    assert ["failed"] == world.questions()
    assert "no_progress" == world.question("failed").code


def test_only_the_answer_completes_a_verb_and_a_proof_covers_every_reference() -> None:
    """Progress is never an acceptance, nor a proof: a step ends by a proof about all that was ever found."""
    world = begun()
    world.answer("crm", "progress", done=999, erased=999, references=b"999 are done")
    assert None is world.step("crm").accepted_at
    world.answer("crm", "accepted", erased=1000)
    assert (b"thousand",) == world.command("crm").references
    assert "proving" == world.status("crm")
    world.answer("crm", "progress", done=500, references=b"500 are gone")
    assert (b"thousand", b"500 are gone") == world.command("crm").references
    world.answer("crm", "proved")
    while "accepted" == world.status("crm"):
        world.tick()
    # The next look of the schedule looks at each of them anew.
    assert (b"thousand",) == world.command("crm").references
    world.answer("crm", "progress", done=1000, references=b"1000 are gone")
    assert "proving" == world.status("crm")
    world.answer("crm", "proved")
    assert "erased" == world.status("crm")


def test_records_that_are_still_there_are_erased_from_the_beginning() -> None:
    """What an erasure had done counts no more once a proof has found records."""
    world = begun()
    world.answer("crm", "progress", done=999, erased=999, references=b"999 are done")
    world.answer("crm", "accepted", erased=1000)
    world.answer("crm", "still_present", found=2, references=b"two of them")
    world.tick()
    assert ("erase", (b"thousand", b"two of them")) == (
        world.command("crm").verb,
        world.command("crm").references,
    )


def test_records_that_join_on_the_way_are_erased_too() -> None:
    """A search that was late names more: the next command carries them, and what is done already."""
    world = begun()
    world.answer("crm", "progress", done=300, erased=300, references=b"300 are done")
    world.answer("crm", "located", attempt=1, found=1001, references=b"one more", occurred_at=world.now - 1)
    assert (b"thousand", b"one more", b"300 are done") == world.command("crm").references
    world.answer("crm", "accepted", attempt=3, erased=1000)
    assert "accepted" != world.status("crm"), "accepted, and it was about less"


def test_the_first_part_tells_what_is_newer() -> None:
    """What is created after the first record was erased may be new consent: the proof knows that time."""
    world = begun()
    first = world.now
    world.answer("crm", "progress", done=1, erased=1, references=b"1 is done")
    world.now += 3600 * SECOND
    world.answer("crm", "accepted", erased=1000)
    assert first == world.command("crm").erased_at


def test_progress_that_erased_nothing_is_no_erasure() -> None:
    """Reading records, or asking a party about them, makes nothing newer than an erasure."""
    world = begun()
    world.answer("crm", "progress", done=300, references=b"300 are read")
    assert None is world.step("crm").erased_at


def test_a_repeated_answer_sends_nothing_twice() -> None:
    """A command that was delivered twice says the same twice: only the latest command's answer moves."""
    world = begun()
    world.answer("crm", "progress", done=300, erased=300, references=b"300 are done")
    world.answer("crm", "progress", attempt=2, done=310, erased=310, references=b"310 are done")
    assert (3, 300) == (len(world.commands("crm")), world.step("crm").done)


def test_progress_after_the_failure_of_the_same_command_goes_on() -> None:
    """Of two deliveries of one command the second may do what the first could not."""
    world = begun()
    world.answer("crm", "failed", code="timeout", retryable=True)
    world.answer("crm", "progress", done=300, erased=300, references=b"300 are done")
    assert "erasing" == world.status("crm")


def test_a_search_goes_on_too_and_more_identifiers_begin_it_anew() -> None:
    """What was looked at by fewer identifiers is looked at again."""
    world = begun(erasing=False)
    world.answer("crm", "progress", done=10, references=b"10 were read")
    assert ("locate", (b"10 were read",)) == (world.command("crm").verb, world.command("crm").references)
    world.supplement()
    assert ("locate", ()) == (world.command("crm").verb, world.command("crm").references)


def test_the_dpos_retry_begins_the_verb_anew() -> None:
    """Whatever was mended in between, an old look is no look."""
    world = begun()
    world.answer("crm", "progress", done=300, erased=300, references=b"300 are done")
    world.answer("crm", "failed", code="credentials_refused")
    world.dpo("retry", "failed")
    assert (b"thousand",) == world.command("crm").references


def test_a_controllers_refusal_stops_an_erasure_on_its_way() -> None:
    """What is left is not erased against the controller's word."""
    world = World(TENANT)
    world.request(scope=("tenant",))
    world.answer("tenant", "awaiting_party")
    world.callback("tenant", "instructed")
    world.answer("tenant", "located", found=1000, references=b"thousand")
    world.callback("tenant", "refused")
    sent = len(world.commands("tenant"))
    world.answer("tenant", "progress", attempt=sent, done=300, erased=300, references=b"300 are done")
    assert sent == len(world.commands("tenant"))


def test_the_law_clock_goes_on_while_the_work_does() -> None:
    """Progress for ever would still be alarmed: the request is not acted on."""
    world = begun()
    world.until(world.open.due_at + 1)
    world.answer("crm", "progress", done=1, erased=1, references=b"1 is done")
    assert "overdue" in world.questions()
    assert None is world.open.acted_at
    assert REQUEST == world.open.request_id
    assert marks(b"thousand")[0] in world.about[world.command("crm").event_id]
