"""Telling the person: one question for each letter, and the statutory period in every state."""

import pytest

from orchestrator.saga.clocks import DAY
from orchestrator.saga.model import NoticePending
from orchestrator.saga.rules import HOUR, MINUTE
from tests.unit.saga_world import CRM, WEB, World


def two_letters(kind: str = "notice_failed") -> World:
    """The letter of what was done and that of the extension are both on their way, and both fail."""
    world = World(CRM)
    world.request()
    world.dpo("extend")
    world.answer("crm", "absent")
    for notice in world.open.notices:
        if kind == "notice_failed" and isinstance(notice.state, NoticePending):
            world.mailbox(kind, command_id=notice.state.command_id, code="no_address")
    if kind == "silence":
        world.until(world.now + 2 * DAY)
    return world


def pending(world: World) -> set[str]:
    return {one.purpose for one in world.open.notices if isinstance(one.state, NoticePending)}


def test_a_decision_settles_the_letter_that_it_names_and_no_other() -> None:
    """Told of the extension by telephone is not told of what was done."""
    world = two_letters()
    assert {"extended_notice_failed", "acted_notice_failed"} == set(world.questions())
    due_at = world.open.due_at
    world.dpo("waive", "extended_notice_failed")
    assert ({"acted"}, ["acted_notice_failed"]) == (pending(world), world.questions())
    assert (True, None) == (world.open.extended, world.open.acted_at)
    assert due_at < world.open.due_at


def test_waiving_the_letter_of_what_was_done_does_not_extend_the_period() -> None:
    """Nobody told the person of an extension; it has become pointless, and the date stays."""
    world = two_letters()
    due_at = world.open.due_at
    world.dpo("waive", "acted_notice_failed")
    assert (False, due_at, set()) == (world.open.extended, world.open.due_at, pending(world))
    assert [] == world.questions()


def test_a_retry_sends_the_letter_that_it_names() -> None:
    """And not the other one once more."""
    world = two_letters()
    sent = [one.code for one in world.outcomes("notice")]
    world.dpo("retry", "acted_notice_failed")
    assert [*sent, "acted"] == [one.code for one in world.outcomes("notice")]
    assert ["extended_notice_failed"] == world.questions()


def test_each_silent_letter_has_a_question_of_its_own() -> None:
    """And loses it when its own mail is confirmed."""
    world = two_letters("silence")
    assert {"extended_notice_silent", "acted_notice_silent"} == set(world.questions())
    told = next(one.state for one in world.open.notices if one.purpose == "extended")
    assert isinstance(told, NoticePending)
    world.mailbox(command_id=told.command_id)
    assert ["acted_notice_silent"] == world.questions()


def test_a_rejection_that_the_person_has_not_heard_of_has_its_alarms() -> None:
    """Closing waits for the letter, and the period runs meanwhile (Art. 12(4))."""
    world = World(WEB)
    world.request()
    world.until(world.open.due_at - 10 * DAY)
    world.dpo("reject")
    world.mailbox("notice_failed", code="no_address")
    world.until(world.open.due_at - 7 * DAY + HOUR)
    assert ("closing", {"rejected_notice_failed", "deadline_near"}) == (
        world.open.status,
        set(world.questions()),
    )
    world.until(world.open.due_at + MINUTE)
    assert {"rejected_notice_failed", "overdue"} == set(world.questions())
    assert {"rejected_notice_failed": ("retry", "waive"), "overdue": ("waive",)} == world.offers()
    world.dpo("waive", "rejected_notice_failed")
    assert ("rejected", []) == (world.open.status, world.questions())


def test_an_alarm_that_was_open_stays_while_a_rejection_is_told() -> None:
    """It is not closed and put again; it goes when the person knows."""
    world = World(WEB)
    world.request()
    world.until(world.open.due_at + HOUR)
    one = world.question("overdue")
    world.dpo("reject")
    assert one.id == world.question("overdue").id
    world.mailbox()
    assert [] == world.questions()


def test_a_cancellation_owes_nobody_a_letter() -> None:
    """It closes without an alarm."""
    world = World(WEB)
    world.request()
    world.until(world.open.due_at - HOUR)
    world.dpo("cancel")
    world.until(world.open.due_at + DAY)
    assert ("cancelled", []) == (world.open.status, world.questions())


@pytest.mark.parametrize("action", ["reject", "cancel", "extend"])
def test_while_closing_no_second_end_is_offered(action: str) -> None:
    """What is offered is accepted."""
    world = World(WEB)
    world.request()
    world.until(world.open.due_at - 2 * DAY)
    world.dpo("reject")
    assert action not in world.offers()["deadline_near"]
