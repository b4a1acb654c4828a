"""Requests on their way whose documents were written before words were logged: they are read, and go on.

The files in `saga_documents/words` were written by that version.
"""

from typing import Any

import pytest

from orchestrator.saga.clocks import DAY
from orchestrator.store.documents import read_document, write_document
from tests.unit.saga_taken_up import FILES, document, taken_up
from tests.unit.saga_world import CRM, TENANT, WEB

WORDS = FILES / "words"


@pytest.mark.parametrize("name", sorted(path.stem for path in WORDS.glob("*.json")))
def test_what_was_read_is_written_and_read_again(name: str) -> None:
    """Reading brings a document up to date once; the second time nothing is left to do."""
    once = read_document("any", (WORDS / f"{name}.json").read_text())
    assert once is not None
    assert once == read_document("any", write_document(once))


def test_an_instruction_still_counts_and_can_be_taken_back() -> None:
    """The controller had said erase, and its erasure is out."""
    world = taken_up("words/instructed_without_words", TENANT)
    assert ["instructed"] == [one.said for one in world.step("tenant").words]
    assert world.step("tenant").has_controller
    world.callback("tenant", "refused", order=world.now)
    assert ["instruction_conflict"] == world.questions()


def test_a_conflict_still_holds() -> None:
    """Our DPO can't override it, and the controller's new word lifts it."""
    world = taken_up("words/instruction_conflict_without_words", TENANT)
    world.dpo("retry", "instruction_conflict")
    assert ["controller_refused"] == [one.code for one in world.outcomes("decision_refused")]
    world.callback("tenant", "instructed", order=world.now)
    assert ("erasing", []) == (world.status("tenant"), world.questions())


@pytest.mark.parametrize("name", ["refused_late_without_words", "refused_late_and_acknowledged"])
def test_nothing_more_is_erased_over_a_refusal_that_came_late(name: str) -> None:
    """Whether or not the DPO has acknowledged it."""
    world = taken_up(f"words/{name}", TENANT)
    before = len(world.verbs("tenant"))
    world.answer("tenant", "still_present", references=b"more", found=1)
    assert ("awaiting_decision", before) == (world.status("tenant"), len(world.verbs("tenant")))
    assert "instruction_conflict" in world.questions()


@pytest.mark.parametrize("capacity", ["controller", "processor"])
@pytest.mark.parametrize(
    "state",
    [
        {"status": "retrying", "verb": "erase"},
        {"status": "retrying", "verb": "locate"},
        {"status": "erasing", "attempt": 3},
        {"status": "awaiting_party", "verb": "erase"},
        {"status": "awaiting_subject", "missing": ["phone"]},
    ],
    ids=lambda state: "_".join(str(value) for value in state.values()),
)
def test_a_refusal_that_the_officer_went_on_over_is_not_read_as_an_instruction(
    state: dict[str, Any], capacity: str
) -> None:
    """The version before offered the DPO "retry", and kept "erase". The step is held until the controller
    says anew what it wants.
    """
    was = document("words/instruction_conflict_without_words")
    [step] = was["steps"]
    was |= {"escalations": [], "capacity": capacity, "tenant": "acme"}
    step["state"] = {"until": step["state"]["until"], **state}
    world = taken_up(was, TENANT)
    before = world.verbs("tenant")
    world.until(world.now + 9 * DAY)
    assert (before, ["words_disputed"]) == (world.verbs("tenant"), world.questions())
    world.dpo("retry", "words_disputed")
    assert ["controller_refused"] == [one.code for one in world.outcomes("decision_refused")]
    world.callback("tenant", "instructed", order=world.now)
    assert [] == world.questions()
    assert world.status("tenant") in ("erasing", "locating")


def test_a_question_that_was_something_else_holds_nothing() -> None:
    """No question was ever closed of which nothing is kept, so that nobody went on over a refusal."""
    was = document("words/instructed_without_words")
    was |= {"raised": 2, "settled": ["request_id_conflict//abc"], "escalations": []}
    assert "refused" in [one.said for one in taken_up(was, TENANT).step("tenant").words]
    was |= {"raised": 1}
    assert ["instructed"] == [one.said for one in taken_up(was, TENANT).step("tenant").words]


def test_a_late_refusal_counts_where_the_request_itself_was_the_instruction() -> None:
    """A controller that asks us as its processor may have said nothing before it refused."""
    was = document("words/refused_late_without_words")
    [step] = was["steps"]
    ended = {"status": "ended", "end": "erased", "grade": "seen_absent", "at": step["erased_at"] + 10}
    step |= {"answered_at": None, "state": ended}
    world = taken_up(was | {"capacity": "processor", "tenant": "acme"}, TENANT)
    before = world.verbs("tenant")
    world.answer("tenant", "still_present", references=b"more", found=1)
    world.until(world.now + 3 * DAY)
    assert (before, "awaiting_decision") == (world.verbs("tenant"), world.status("tenant"))
    assert "instruction_conflict" in world.questions()


def test_an_older_word_does_not_reopen_what_a_refusal_ended() -> None:
    """It was said before, and is read by this version; a later one reopens it."""
    world = taken_up("words/refused_without_words", TENANT, WEB)
    refused_at = world.step("tenant").words[-1].order
    world.callback("tenant", "instructed", occurred_at=refused_at - 1)
    assert "refused" == world.status("tenant")
    world.callback("tenant", "instructed", order=refused_at + 1)
    assert "locating" == world.status("tenant")


def test_a_question_about_two_letters_becomes_one_about_the_first() -> None:
    """The other letter's question comes by itself when the mailbox stays silent about it."""
    world = taken_up("words/one_question_for_two_letters", CRM)
    [asked] = world.questions()
    assert "extended_notice_failed" == asked
    world.dpo("waive", asked)
    assert world.open.acted_at is None
    world.until(world.now + 2 * DAY)
    assert ["acted_notice_silent"] == world.questions()


def test_a_silent_rejection_is_asked_about_by_its_letter() -> None:
    """While closing, too."""
    world = taken_up("words/silent_rejection", WEB)
    assert ["rejected_notice_silent"] == world.questions()
    world.dpo("waive", "rejected_notice_silent")
    world.until(world.now + DAY)
    assert "rejected" == world.open.status


def test_a_controllers_own_request_goes_on() -> None:
    """It says erase by itself, and a refusal stops it."""
    world = taken_up("words/of_processor", TENANT)
    world.answer("tenant", "located")
    assert ("erasing", "erase") == (world.status("tenant"), world.command("tenant").instruction)
    world.callback("tenant", "refused", order=world.now)
    assert ["instruction_conflict"] == world.questions()
