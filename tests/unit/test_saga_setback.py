"""A clock that was ahead and is put back: nothing waits for the time that it was ahead."""

import pytest

from orchestrator.saga.clocks import DAY, due_at
from orchestrator.saga.model import NoticePending, waits
from orchestrator.saga.rules import HOUR, MINUTE
from tests.unit.saga_world import AGENCY, CRM, MARKETING, START, SWEDEN, WEB, World

YEAR = 365 * DAY
#: No wait of these systems is longer: a reminder to an agency, or a vendor's purge.
LONGEST = 31 * DAY


def furthest(world: World) -> int:
    """How far ahead the furthest wait lies."""
    return max(until for _, until in waits(world.open)) - world.now


def returned(world: World) -> World:
    """The shell lets a timer fire for each request of which the latest event is later than now."""
    at = world.now
    world.tick_now()
    assert at == world.now
    return world


def asked_agency() -> World:
    world = World(AGENCY)
    world.request()
    world.answer("agency", "cannot_look")
    world.answer("agency", "awaiting_party", look_at=world.now + 7 * DAY)
    return world


def test_a_step_that_waits_for_a_party_waits_no_longer_than_it_ever_does() -> None:
    """An agency that was asked, or reminded, under a clock one year ahead is reminded in a week."""
    world = asked_agency()
    world.now += YEAR
    world.tick()
    world.answer("agency", "awaiting_party", look_at=world.now + 7 * DAY)
    world.now -= YEAR
    assert YEAR < furthest(world)
    returned(world)
    assert LONGEST > furthest(world)
    assert world.now + world.rules.waits.party_reminder == world.step("agency").state.until  # type: ignore[union-attr]  # it has not ended


@pytest.mark.parametrize("state", ["locating", "retrying", "erasing", "accepted", "proving", "notice"])
def test_no_wait_lies_further_ahead_than_its_kind_ever_does(state: str) -> None:
    """Whatever was waiting when the clock came back."""
    world = World(CRM, MARKETING)
    world.request()
    world.now += YEAR
    match state:
        case "locating":
            world.tick()
        case "retrying":
            world.answer("crm", "failed", code="timeout", retryable=True)
        case "erasing":
            world.answer("crm", "located")
        case "accepted":
            world.erase("crm")
            world.answer("crm", "proved")
        case "proving":
            world.erase("crm")
        case _:
            world.erase("crm")
            world.finish("marketing")
    world.now -= YEAR
    assert YEAR < furthest(world)
    returned(world)
    assert LONGEST > furthest(world)
    assert world.open.wake_at is not None
    assert all(
        one.not_after <= world.now + world.rules.waits.command_lifetime
        for step in world.open.steps
        for one in step.outstanding
    )


def test_each_look_of_the_schedule_is_still_to_come() -> None:
    """An acceptance under the clock that was ahead counts from its return: no look is passed over, and none
    waits for a year.
    """
    world = World(CRM)
    world.request()
    world.now += YEAR
    world.erase("crm")
    world.answer("crm", "proved")
    world.now -= YEAR
    returned(world)
    back = world.now
    assert back == world.step("crm").accepted_at
    # The look that is due now is an early one, and takes none of the schedule's place.
    world.answer("crm", "proved")
    assert "accepted" == world.status("crm")
    assert back + 14 * DAY == world.open.steps[0].state.until  # type: ignore[union-attr]  # it has not ended
    world.now = back + 14 * DAY
    world.tick()
    world.answer("crm", "proved")
    assert "erased" == world.status("crm")


def test_what_came_after_an_erasure_of_unknown_time_is_not_taken_for_old() -> None:
    """The proof is told a time before the erasure, so that a record made since then may be new consent."""
    world = World(CRM)
    world.request()
    world.now += HOUR
    world.answer("crm", "located")
    located_at = world.now
    world.now += YEAR
    world.answer("crm", "accepted", erased=1)
    world.now -= YEAR
    world.now += DAY
    returned(world)
    assert located_at == world.step("crm").erased_at
    world.answer("crm", "proved")
    world.until(world.now + 14 * DAY)
    assert located_at == world.command("crm").erased_at


def test_alarms_that_came_too_early_go_and_come_again_in_their_time() -> None:
    """Also one that the DPO has acknowledged under the clock that was ahead."""
    world = World(CRM)
    world.request()
    world.now += YEAR
    world.tick()
    world.dpo("waive", "overdue")
    world.now -= YEAR
    returned(world)
    assert {"overdue", "deadline_near"}.isdisjoint(world.questions())
    world.until(world.open.due_at - 6 * DAY)
    assert "deadline_near" in world.questions()
    world.until(world.open.due_at + HOUR)
    assert "overdue" in world.questions()


def test_questions_and_letters_are_waited_for_no_longer_either() -> None:
    """A reminder to the DPO, and the alarm about a letter that nobody confirmed."""
    world = World(WEB)
    world.request()
    world.now += YEAR
    world.answer("web", "absent")
    world.now -= YEAR
    returned(world)
    [notice] = world.open.notices
    assert isinstance(notice.state, NoticePending)
    assert notice.state.until <= world.now + world.rules.waits.notice_alarm
    assert all(
        one.remind_at <= world.now + world.rules.waits.decision_reminder for one in world.open.escalations
    )


@pytest.mark.parametrize("by", [HOUR, 3 * DAY])
def test_waits_that_are_not_too_long_are_left_alone(by: int) -> None:
    """A clock that was an hour ahead is no reason to remind an agency a week early."""
    world = asked_agency()
    until = world.open.steps[0].state.until  # type: ignore[union-attr]  # it has not ended
    world.now += by
    world.feed(world.request_event())
    world.now -= by
    returned(world)
    assert until == world.open.steps[0].state.until  # type: ignore[union-attr]  # it has not ended


def test_a_minute_is_no_jump() -> None:
    """Two servers' clocks may differ by as much."""
    world = asked_agency()
    world.now += MINUTE
    world.feed(world.request_event())
    world.now -= MINUTE
    world.tick_now()
    assert "clock_set_back" not in [entry.action for entry in world.entries]


def test_a_closing_request_ends_when_its_commands_can_act_no_longer() -> None:
    """It waited for the year in which a command that was issued ahead might still be carried out."""
    world = World(CRM)
    world.request()
    world.now += YEAR
    world.answer("crm", "located")
    world.dpo("cancel")
    world.now -= YEAR
    returned(world)
    assert world.open.wake_at is not None
    world.until(world.now + DAY)
    assert "cancelled" == world.open.status


# --- the day of receipt ---


def doubted(other: int = START - 3 * DAY) -> World:
    world = World(CRM)
    world.request(received_or=other)
    return world


def test_a_receipt_under_the_wrong_clock_is_a_question() -> None:
    """It names the other day. The dates stay, and the earlier one counts for the alarms."""
    world = doubted()
    assert ["receipt_in_doubt"] == world.questions()
    assert "2026-05-29" == world.question("receipt_in_doubt").code
    assert (START, due_at(START, SWEDEN)) == (world.open.received_at, world.open.due_at)
    due_or = due_at(START - 3 * DAY, SWEDEN)
    assert due_or < world.open.due_at
    world.until(due_or + HOUR)
    assert "overdue" in world.questions()


def test_the_recorded_day_counts_where_it_is_the_earlier_one() -> None:
    """A clock that was behind: the other day is a later one."""
    world = doubted(START + 200 * DAY)
    world.until(world.open.due_at + HOUR)
    assert "overdue" in world.questions()


def test_the_dpo_moves_the_receipt_to_the_other_day() -> None:
    """With the due date, and without the alarms of the day that did not hold."""
    other = START + 200 * DAY
    world = doubted(other)
    world.until(world.open.due_at + HOUR)
    world.dpo("verify", "receipt_in_doubt")
    assert (other, due_at(other, SWEDEN)) == (world.open.received_at, world.open.due_at)
    assert {"receipt_in_doubt", "overdue", "deadline_near"}.isdisjoint(world.questions())
    world.until(world.open.due_at + HOUR)
    assert "overdue" in world.questions()


def test_the_dpo_keeps_the_recorded_day() -> None:
    """The other one is not heard of again."""
    world = doubted()
    due = world.open.due_at
    world.dpo("waive", "receipt_in_doubt")
    assert (START, due, None) == (world.open.received_at, world.open.due_at, world.open.received_or)
    world.until(due_at(START - 3 * DAY, SWEDEN) + HOUR)
    assert "overdue" not in world.questions()


def test_another_time_of_the_same_day_is_no_question() -> None:
    """The period runs in days."""
    assert [] == doubted(START - HOUR).questions()


def test_a_request_dated_in_a_time_that_is_still_to_come_is_asked_about() -> None:
    """The clock was ahead when it was taken in, and nobody knew."""
    world = World(CRM)
    world.now += YEAR
    world.request()
    world.now -= YEAR
    returned(world)
    assert "receipt_in_doubt" in world.questions()
    assert due_at(START, SWEDEN) == world.open.alarmed_by
    world.until(due_at(START, SWEDEN) + HOUR)
    assert "overdue" in world.questions()


def test_an_extension_counts_from_either_day() -> None:
    """While nobody knows which holds, the earlier of both ends is watched."""
    world = doubted()
    world.dpo("extend")
    world.mailbox()
    assert due_at(START - 3 * DAY, SWEDEN, months=3) == world.open.alarmed_by
    world.dpo("verify", "receipt_in_doubt")
    assert due_at(START - 3 * DAY, SWEDEN, months=3) == world.open.due_at


def test_an_extension_that_was_told_too_late_for_the_other_day_is_void() -> None:
    """Art. 12(3): within one month of the receipt."""
    world = doubted()
    world.until(due_at(START - 3 * DAY, SWEDEN) + HOUR)
    world.dpo("extend")
    world.mailbox()
    assert world.open.extended
    world.dpo("verify", "receipt_in_doubt")
    assert due_at(START - 3 * DAY, SWEDEN) == world.open.due_at
    assert "extension_void" in [entry.action for entry in world.entries]


def test_a_proof_without_an_erasure_counts_from_the_earlier_receipt() -> None:
    """All that was created since then may be new consent."""
    world = doubted()
    world.answer("crm", "located")
    world.answer("crm", "absent")
    world.dpo("cancel")
    assert all(one.erased_at is None or one.erased_at <= START - 3 * DAY for one in world.commands("crm"))
