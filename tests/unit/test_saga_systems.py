"""What systems say besides found, erased and gone: left alone, ambiguous, an event before its time."""

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.saga.clocks import DAY
from orchestrator.saga.rules import MINUTE, Retry
from tests.unit.saga_world import CRM, World


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


def test_a_failure_before_the_pause_still_counts() -> None:
    """What the vendor did not answer itself stays counted through the pauses between."""
    world = started(retry=Retry(max_attempts=2))
    world.answer("crm", "failed", code="timeout", retryable=True)
    world.tick()
    world.answer("crm", "failed", code="circuit_open", retryable=True, retry_after=MINUTE)
    world.tick()
    world.answer("crm", "failed", code="timeout", retryable=True)
    assert ["failed"] == world.questions()


def ambiguous(world: World, kind: str = "located") -> None:
    world.answer("crm", kind, found=2, references=None, code="ambiguous_match")


def test_records_that_may_be_anybodys_are_erased_only_when_the_dpo_says_so() -> None:
    """Until then nobody is told to erase; then the handler hears that all of them are meant."""
    world = started()
    ambiguous(world)
    assert ["ambiguous"] == world.questions()
    assert (2, ()) == (world.step("crm").found, world.step("crm").references)
    world.dpo("erase", "ambiguous")
    assert "erase" == world.command("crm").instruction
    world.answer("crm", "located", found=2)
    assert "erasing" == world.status("crm")


def test_looking_again_is_no_leave_to_erase_what_was_ambiguous() -> None:
    """The wrong person's address was put right: only what the second look finds is erased."""
    world = started()
    ambiguous(world)
    world.dpo("retry", "ambiguous")
    assert world.command("crm").instruction is None
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
    assert world.step("crm").instruction is None


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
