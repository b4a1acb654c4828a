"""Requests that were on their way when the installation was upgraded: their documents are read, and go on.

The files beside were written by the version before answers said what they are about.
"""

import pytest

from orchestrator.saga.model import AwaitingDecision
from orchestrator.saga.rules import HOUR
from orchestrator.store.documents import read_document, write_document
from tests.unit.saga_taken_up import FILES, taken_up
from tests.unit.saga_world import CRM, MARKETING, TENANT, WEB, World

PLANS = {
    "accepted_with_an_old_instruction": (CRM,),
    "acted_on_and_failing": (CRM,),
    "agreed_to_all": (CRM,),
    "asks_whose": (CRM,),
    "erasing": (CRM,),
    "instructed": (TENANT,),
    "proving": (CRM,),
    "reappeared_without_a_time": (WEB,),
    "supplemented": (CRM, MARKETING),
}


def ended(world: World) -> World:
    """Everybody cooperates: workers of the new version, the mailbox, and a DPO who retries."""
    ways = {"locating": "located", "erasing": "accepted", "proving": "proved"}
    for _ in range(60):
        if world.open.is_finished:
            return world
        if questions := [one for one in world.open.escalations if one.reason not in ("no_answer",)]:
            is_alarm = questions[0].reason in ("deadline_near", "overdue")
            world.dpo("waive" if is_alarm else "retry", questions[0].reason)
        out = [step for step in world.open.steps if step.state.status in ways]
        for step in out:
            world.answer(step.system, ways[step.state.status])
        world.mail_everything()
        if not out and not world.open.is_finished:
            world.tick()
    raise AssertionError(f"comes to no end: {world.open}")


def test_every_document_is_tried() -> None:
    """A file that nobody reads shows nothing."""
    assert set(PLANS) == {file.stem for file in FILES.glob("*.json")}


@pytest.mark.parametrize("name", PLANS)
def test_a_document_of_the_version_before_is_read_and_its_request_ends(name: str) -> None:
    """It is written anew in the new form, and comes to its end with proof."""
    world = taken_up(name, *PLANS[name])
    assert world.saga == read_document("any", write_document(world.open))
    ended(world)
    assert ("completed", {"erased"}) == (
        world.open.status,
        {world.status(s.system) for s in world.open.steps},
    )


@pytest.mark.parametrize(("name", "kind"), [("proving", "proved"), ("erasing", "accepted")])
def test_an_answer_of_the_version_before_is_a_fact_and_the_command_is_sent_anew(name: str, kind: str) -> None:
    """A worker that was not upgraded yet answers the command that was out."""
    world = taken_up(name, *PLANS[name])
    verb = world.command("crm").verb
    world.answer("crm", kind, about=())
    assert "retrying" == world.status("crm")
    world.tick()
    assert verb == world.command("crm").verb
    ended(world)
    assert "completed" == world.open.status


@pytest.mark.parametrize("name", ["agreed_to_all", "accepted_with_an_old_instruction"])
def test_what_the_dpo_once_agreed_to_is_carried_along_no_more(name: str) -> None:
    """It stayed with the step as if a controller had instructed us."""
    world = taken_up(name, *PLANS[name])
    assert "erase" == world.step("crm").instruction
    before = len(world.commands("crm"))
    ended(world)
    sent = world.commands("crm")[before:]
    assert {(None, 0)} == {(one.instruction, one.takes_all) for one in sent}


def test_a_question_of_the_version_before_takes_as_many_as_had_been_found() -> None:
    """It does not say how many it was about."""
    world = taken_up("asks_whose", *PLANS["asks_whose"])
    state = world.step("crm").state
    assert isinstance(state, AwaitingDecision)
    assert 0 == state.records
    world.dpo("erase", "ambiguous")
    assert (2, None) == (world.command("crm").takes_all, world.command("crm").instruction)


def test_a_request_that_still_counts_as_acted_on_is_withdrawn() -> None:
    """Its letter was sent, its records were found again, and its erasure failed."""
    world = taken_up("acted_on_and_failing", *PLANS["acted_on_and_failing"])
    before = world.open.acted_at
    world.tick()
    assert (True, None) == (before is not None, world.open.acted_at)
    world.until(world.open.due_at + HOUR)
    assert "overdue" in world.questions()


def test_a_proof_without_its_time_gets_one() -> None:
    """The DPO was asked about a newer record, and nobody knew any more what it was newer than."""
    world = taken_up("reappeared_without_a_time", *PLANS["reappeared_without_a_time"])
    assert world.step("web").erased_at is None
    world.dpo("retry", "reappeared")
    assert ("prove", world.open.received_at) == (world.command("web").verb, world.command("web").erased_at)


def test_what_the_dpo_is_asked_about_outlasts_a_restart() -> None:
    """The records are sealed bytes, of any value."""
    world = World(CRM)
    world.request()
    world.answer("crm", "located", found=2, references=b"\xff\x00a and b", code="ambiguous_match")
    world.saga = read_document("any", write_document(world.open))
    world.dpo("erase", "ambiguous")
    assert (b"\xff\x00a and b",) == world.command("crm").references
