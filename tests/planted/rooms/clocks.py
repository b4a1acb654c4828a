"""Clocks that jump: they are noticed, nothing waits for ever, and nothing is thrown away."""

from typing import Final

from tests.planted.fault import Fault, fault

_JUMPS: Final = "orchestrator.service.jumps"
_KEEPER: Final = "orchestrator.service.timekeeper"
_KEEPING: Final = "orchestrator.service.housekeeping"
_ORCHESTRATOR: Final = "orchestrator.service.orchestrator"
_SETBACK: Final = "orchestrator.saga.setback"
_RECEIPT: Final = "orchestrator.saga.receipt"
_MODEL: Final = "orchestrator.saga.model"
_ROLES: Final = "orchestrator.cli.roles"
_OF_JUMPS: Final = "tests/unit/test_service_jumps.py"
_OF_KEEPER: Final = "tests/unit/test_service_timekeeper.py"
_OF_SETBACK: Final = "tests/unit/test_saga_setback.py"
_OF_ALL: Final = "tests/integration/test_clocks.py"

FAULTS: Final[tuple[Fault, ...]] = (
    # --- a clock that is ahead
    fault(
        "what a jump alone made due is done at once",
        "orchestrator.service.timekeeper:Timekeeper.doubt",
        "if seen is None or seen.ahead <= 0:",
        "if True:",
        "tests/integration/test_clocks.py::test_nobody_is_reminded_under_a_clock_that_is_ahead",
    ),
    fault(
        "what a clock that is behind makes wait is held as well",
        "orchestrator.service.timekeeper:Timekeeper.doubt",
        "if seen is None or seen.ahead <= 0:",
        "if seen is None or not seen.ahead:",
        "tests/unit/test_service_timekeeper.py::test_a_jump_is_in_doubt_until_the_time_is_believed",
    ),
    fault(
        "a step's wait ends by the jump alone",
        "orchestrator.saga.decide:_apply_timers",
        "not draft.is_due(state.until)",
        "state.until > draft.now",
        "tests/unit/test_saga_ahead.py::test_what_is_due_by_the_jump_alone_is_not_done",
    ),
    fault(
        "a request that is closing ends by the jump alone",
        "orchestrator.saga.request:_finish_when_quiet",
        "max(map(draft.ends_at, may_act_until), default=0)",
        "max(may_act_until, default=0)",
        "tests/unit/test_saga_ahead.py::test_what_is_due_by_the_jump_alone_is_not_done",
    ),
    fault(
        "the DPO is reminded by the jump alone",
        "orchestrator.saga.request:remind",
        "if draft.is_due(one.remind_at):",
        "if one.remind_at <= draft.now:",
        "tests/unit/test_saga_ahead.py::test_what_is_due_by_the_jump_alone_is_not_done",
    ),
    fault(
        "the mailbox is silent by the jump alone",
        "orchestrator.saga.request:remind",
        "draft.is_due(notice.state.until)",
        "notice.state.until <= draft.now",
        "tests/unit/test_saga_ahead.py::test_what_is_due_by_the_jump_alone_is_not_done",
    ),
    fault(
        "what is begun under a clock that is ahead stands still",
        "orchestrator.saga.ahead:Doubt.ends_at",
        "as_of < self.since or until < self.since",
        "True",
        "tests/unit/test_saga_ahead.py::test_what_is_begun_since_the_jump_goes_on_by_the_clock_as_it_is",
    ),
    fault(
        "a held request forgets that its waits are older than the jump",
        "orchestrator.saga.decide:decide",
        "doubt.is_resting(saga, now) and not draft.entries:",
        "False:",
        "tests/unit/test_saga_ahead.py::test_a_held_request_stays_as_it_was",
    ),
    fault(
        "a held request is looked at all the time",
        "orchestrator.store.transaction:Transaction.save",
        "saga.wake_at if doubt is None else doubt.wake_at(saga, now)",
        "saga.wake_at",
        "tests/integration/test_clocks.py::test_a_held_request_is_not_looked_at_all_the_time",
    ),
    fault(
        "a jump back is no jump",
        f"{_JUMPS}:Watch.look",
        "abs(by) > TOLERANCE",
        "by > TOLERANCE",
        f"{_OF_JUMPS}::test_a_jump_is_seen_forward_and_back",
    ),
    fault(
        "a suspended machine is a jump",
        f"{_JUMPS}:Watch.look",
        "now - seen.at - passed",
        "now - seen.at",
        f"{_OF_JUMPS}::test_a_suspended_machine_is_no_jump",
    ),
    fault(
        "a time that has just jumped is plausible",
        f"{_JUMPS}:Watch.is_plausible",
        "max(abs(seen.ahead), seen.unwatched)",
        "seen.unwatched",
        f"{_OF_JUMPS}::test_after_a_jump_it_is_plausible_when_it_ran_evenly_for_as_long",
    ),
    fault(
        "a start under a clock that is far ahead is plausible within the hour",
        f"{_JUMPS}:Watch._begin",
        "unwatched=max(seen.unwatched, gap)",
        "unwatched=0",
        f"{_OF_JUMPS}::test_a_start_long_after_is_plausible_later_and_no_alarm",
    ),
    fault(
        "a start under an earlier time is not noticed",
        f"{_JUMPS}:Watch._begin",
        "gap < -TOLERANCE",
        "False",
        f"{_OF_JUMPS}::test_a_start_before_the_time_last_seen_is_a_jump",
    ),
    fault(
        "the time never returns",
        f"{_JUMPS}:Watch._jumped",
        "abs(rest) <= TOLERANCE",
        "False",
        f"{_OF_JUMPS}::test_a_time_that_returned_is_plausible_after_an_hour",
    ),
    fault(
        "what was received while the clock was behind is dated long ago, and nobody asks",
        f"{_JUMPS}:Watch.otherwise",
        "return at + self._behind[2]",
        "return None",
        f"{_OF_JUMPS}::test_what_was_said_while_the_clock_was_behind",
    ),
    fault(
        "a process does not hear of a jump that another one saw",
        f"{_KEEPER}:Timekeeper.keep",
        "if not self._times.save(seen, self._known_jumps):",
        "if not self._times.save(seen, self._known_jumps) and False:",
        f"{_OF_KEEPER}::test_a_jump_there_and_back_between_two_looks_is_heard_of_from_the_process_that_saw_it",
    ),
    fault(
        "an answer that was under way for long is taken for the time now",
        f"{_KEEPER}:Timekeeper.look",
        "or steady - begun > _LONGEST_LOOK",
        "",
        f"{_OF_KEEPER}::test_a_look_that_took_long_says_nothing",
    ),
    fault(
        "the house is kept by a clock that is a year ahead",
        f"{_KEEPING}:Housekeeping.step",
        "or not self._is_plausible()",
        "",
        f"{_OF_ALL}::test_one_round_of_housekeeping_throws_nothing_away",
    ),
    fault(
        "the house is not kept until the time that it was kept last comes again",
        f"{_KEEPING}:Housekeeping.step",
        "0 <= now - self._done_at < EVERY",
        "now - self._done_at < EVERY",
        "tests/unit/test_service_keeping.py::test_a_round_that_is_still_to_come_keeps_no_house_waiting",
    ),
    fault(
        "requests that wait for a year are not looked for when the time returns",
        f"{_ORCHESTRATOR}:Orchestrator.step",
        "and self._timekeeper.went_back:",
        "and False:",
        f"{_OF_ALL}::test_no_step_waits_for_a_year",
    ),
    fault(
        "requests that wait for a year are not looked for at a start",
        f"{_KEEPER}:Timekeeper.__init__",
        "self.went_back = True",
        "self.went_back = False",
        f"{_OF_ALL}::test_no_step_waits_for_a_year_after_a_start",
        f"{_OF_KEEPER}::test_it_is_known_that_the_time_went_back",
    ),
    fault(
        "a request that is opened under a wrong clock is no question",
        f"{_ORCHESTRATOR}:Orchestrator._dated",
        "self._timekeeper.otherwise(event.received_at)",
        "None",
        f"{_OF_ALL}::test_a_day_of_receipt_under_the_wrong_clock_is_a_question",
    ),
    fault(
        "a step waits for as long as the clock was ahead",
        f"{_SETBACK}:_step",
        "state.until <= now + longest",
        "True",
        f"{_OF_SETBACK}::test_no_wait_lies_further_ahead_than_its_kind_ever_does",
    ),
    fault(
        "a look of the schedule waits for as long as the clock was ahead",
        f"{_SETBACK}:_step",
        "accepted_at=_not_after(step.accepted_at, now)",
        "accepted_at=step.accepted_at",
        f"{_OF_SETBACK}::test_each_look_of_the_schedule_is_still_to_come",
    ),
    fault(
        "new consent since an erasure under a wrong clock is taken for old",
        f"{_SETBACK}:_step",
        "step = erased_by(",
        "erased_by(",
        f"{_OF_SETBACK}::test_what_came_after_an_erasure_of_unknown_time_is_not_taken_for_old",
    ),
    fault(
        "an alarm that was acknowledged too early does not come in its time",
        f"{_SETBACK}:_take_back_alarms",
        "draft.unsettle(reason)",
        "pass",
        f"{_OF_SETBACK}::test_alarms_that_came_too_early_go_and_come_again_in_their_time",
    ),
    fault(
        "a clock that differs by seconds pulls waits back",
        f"{_SETBACK}:put_right",
        "saga.as_of <= now + TOLERANCE",
        "saga.as_of <= now",
        f"{_OF_SETBACK}::test_a_minute_is_no_jump",
    ),
    fault(
        "a request that is dated in a time to come is no question",
        f"{_SETBACK}:put_right",
        "receipt.doubt(draft, now)",
        "pass",
        f"{_OF_SETBACK}::test_a_request_dated_in_a_time_that_is_still_to_come_is_asked_about",
    ),
    fault(
        "the alarms go by the later day of receipt",
        f"{_MODEL}:Saga.alarmed_by",
        "min(self.due_at, self.due_or)",
        "max(self.due_at, self.due_or)",
        f"{_OF_SETBACK}::test_a_receipt_under_the_wrong_clock_is_a_question",
    ),
    fault(
        "the day of receipt moves without its due date",
        f"{_RECEIPT}:_take_other",
        "due_at=due",
        "due_at=saga.due_at",
        f"{_OF_SETBACK}::test_the_dpo_moves_the_receipt_to_the_other_day",
    ),
    fault(
        "an extension that was told too late holds",
        f"{_RECEIPT}:_take_other",
        "and told.state.at <= first",
        "",
        f"{_OF_SETBACK}::test_an_extension_that_was_told_too_late_for_the_other_day_is_void",
    ),
    fault(
        "a mail that was put off waits by a clock that can be set",
        f"{_ROLES}:Roles._mailbox",
        "steady=boottime,",
        "",
        f"{_OF_ALL}::test_the_roles_are_made_with_the_clock_that_nobody_sets",
    ),
    fault(
        "a system is left alone by a clock that can be set",
        "orchestrator.http.factory:Clients._breakers",
        "Breaker(self._steady,",
        "Breaker(self._clock,",
        "tests/unit/test_http_breaker.py::test_a_clock_that_is_set_opens_and_closes_no_circuit",
    ),
    fault(
        "a mail is claimed for as long as the clock was ahead",
        "orchestrator.store.transaction:Transaction.take_in_hand",
        "from_ahead, c.holder == holder",
        "c.holder == holder",
        "tests/contract/test_store_mails.py::test_a_claim_from_before_the_clock_was_set_back_is_none",
    ),
    fault(
        "what was written under a clock that was behind is thrown away when the time returns",
        f"{_KEEPER}:Timekeeper.keep",
        "self._restamp(*self._behind, seen.at)",
        "pass",
        f"{_OF_ALL}::test_what_was_written_under_a_clock_that_was_behind_is_kept_as_long_as_ever",
    ),
)
