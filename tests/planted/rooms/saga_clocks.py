"""A request's clocks, letters and questions, and what goes on while it is set aside."""

from typing import Final

from tests.planted.fault import Fault, fault

_DECIDE: Final = "orchestrator.saga.decide"
_DECISIONS: Final = "orchestrator.saga.decisions"
_QUESTIONS: Final = "orchestrator.saga.escalations"
_REQUEST: Final = "orchestrator.saga.request"
_CLOCKS: Final = "orchestrator.saga.clocks"
_DRAFT: Final = "orchestrator.saga.draft"
_STEPS: Final = "orchestrator.saga.steps"
_TABLE: Final = "orchestrator.saga.table"

FAULTS: Final[tuple[Fault, ...]] = (
    # --- clocks
    fault(
        "the warning comes a day late",
        f"{_REQUEST}:_next_alarm",
        "saga.alarmed_by - waits.deadline_warning, saga.alarmed_by + 1",
        "saga.alarmed_by - waits.deadline_warning + 86_400_000_000, saga.alarmed_by + 1",
        "tests/unit/test_saga_documents.py::test_a_request_that_still_counts_as_acted_on_is_withdrawn",
    ),
    fault(
        "a request is overdue a moment too late",
        f"{_REQUEST}:_next_alarm",
        "saga.alarmed_by + 1)",
        "saga.alarmed_by + 3_600_000_000)",
        "tests/unit/test_saga_documents.py::test_a_request_that_still_counts_as_acted_on_is_withdrawn",
    ),
    fault(
        "nobody hears that a request is overdue",
        f"{_REQUEST}:alarm",
        'draft.escalate("overdue")',
        "pass",
        "tests/unit/test_saga_documents.py::test_a_request_that_still_counts_as_acted_on_is_withdrawn",
    ),
    fault(
        "overdue is not alarmed in quarantine",
        f"{_REQUEST}:stand_still",
        "alarm(draft)",
        "pass",
        "tests/unit/test_saga_quarantine.py::test_the_alarms_come_on_time_in_quarantine",
    ),
    fault(
        "in quarantine nobody learns that the person was told",
        f"{_REQUEST}:stand_still",
        "_act_when_done(draft, event)",
        "pass",
        "tests/unit/test_saga_quarantine.py::test_a_notice_that_was_mailed_is_known_as_mailed_in_quarantine",
    ),
    fault(
        "a clock stops when the request closes untold",
        f"{_REQUEST}:_is_waited_for",
        'any(isinstance(one.state, NoticePending) and one.purpose != "extended" for one in saga.notices)',
        "False",
        "tests/unit/test_saga_told.py::test_while_closing_no_second_end_is_offered",
    ),
    fault(
        "an extension holds although it was told too late",
        f"{_REQUEST}:notice_given",
        "if at <= draft.saga.due_at:",
        "if True:",
        "tests/unit/test_saga_request.py::test_an_extension_told_too_late_is_void",
    ),
    fault(
        "a period has a day less",
        f"{_CLOCKS}:due_at",
        "last_day(received_at, months, where) + timedelta(days=1)",
        "last_day(received_at, months, where)",
        "tests/unit/test_saga_clocks.py::test_due_at_the_last_microsecond_of_the_day",
    ),
    fault(
        "a last day on a Saturday is the last day",
        f"{_CLOCKS}:Calendar.is_working_day",
        "day.weekday() < 5",
        "day.weekday() < 6",
        "tests/unit/test_saga_clocks.py::test_one_month_from_receipt",
    ),
    fault(
        "a public holiday is a working day",
        f"{_CLOCKS}:Calendar.is_working_day",
        " and not self.is_public_holiday(day)",
        "",
        "tests/unit/test_saga_clocks.py::test_one_month_from_receipt",
    ),
    fault(
        "a month that is too short runs into the next",
        f"{_CLOCKS}:add_months",
        "date(year, month + 1, min(day.day, last))",
        "date(year, month + 1, 1) + timedelta(days=day.day - 1)",
        "tests/unit/test_saga_clocks.py::test_one_month_from_receipt",
    ),
    fault(
        "days are those of UTC",
        f"{_CLOCKS}:last_day",
        "astimezone(where.time_zone)",
        "astimezone(UTC)",
        "tests/unit/test_saga_clocks.py::test_one_month_from_receipt",
    ),
    fault(
        "a due date ends at midnight in UTC",
        f"{_CLOCKS}:due_at",
        "tzinfo=where.time_zone",
        "tzinfo=UTC",
        "tests/unit/test_saga_clocks.py::test_due_at_the_last_microsecond_of_the_day",
    ),
    # --- notices
    fault(
        "a waiver settles every notice",
        f"{_DECISIONS}:_answer_about_notice",
        'request.notice_given(draft, notice, draft.now, "otherwise")',
        "for each in draft.saga.notices:\n    request.notice_given(draft, each, draft.now, 'otherwise')",
        "tests/unit/test_saga_told.py::test_a_decision_settles_the_letter_that_it_names_and_no_other",
    ),
    fault(
        "a mail sent under an earlier asking told nobody",
        f"{_DECIDE}:_apply_notice",
        "event.command_id in (state.command_id, *state.earlier)",
        "event.command_id == state.command_id",
        "tests/unit/test_saga_request.py::test_a_mail_sent_for_an_earlier_asking_told_the_person",
    ),
    fault(
        "an old mail's failure fails the new one",
        f"{_DECIDE}:_apply_notice",
        'event.kind == "notice_failed" and event.command_id == state.command_id',
        'event.kind == "notice_failed"',
        "tests/unit/test_saga_told.py::test_a_retry_sends_the_letter_that_it_names",
    ),
    fault(
        "a mailbox that stays silent is not alarmed",
        f"{_REQUEST}:remind",
        "draft.escalate(escalations.silent(notice.purpose))",
        "pass",
        "tests/unit/test_saga_older.py::test_a_question_about_two_letters_becomes_one_about_the_first",
    ),
    fault(
        "a notice that failed is not tried at the new address",
        f"{_REQUEST}:tell_again",
        "draft.give_notice(notice.purpose)",
        "pass",
        "tests/unit/test_saga_told_at.py::test_a_notice_that_waits_for_an_address_has_it_from_any_supplement",
    ),
    fault(
        "a processor writes to a controller's person",
        f"{_REQUEST}:_informs_subject",
        'draft.saga.capacity == "controller" and',
        "",
        "tests/unit/test_saga_parties.py::test_a_controller_that_asks_us_has_instructed_us",
    ),
    # --- questions and decisions
    fault(
        "a decision on another version is applied",
        f"{_DECISIONS}:_misfit",
        "elif one.version != event.escalation_version:",
        "elif False:",
        "tests/unit/test_saga_decisions.py::test_the_same_question_with_another_code_is_a_new_version",
    ),
    fault(
        "a refused decision is told to nobody",
        f"{_DECISIONS}:apply_decision",
        'draft.say("decision_refused", concerns=event.escalation_id, code=code)',
        "pass",
        "tests/unit/test_saga_decisions.py::test_what_does_not_fit_is_refused",
    ),
    fault(
        "a processor's DPO overrules the controller",
        f"{_QUESTIONS}:misfit",
        "if step is not None and _overrules(saga, step, one, action):",
        "if False:",
        "tests/unit/test_saga_older.py::test_a_conflict_still_holds",
    ),
    fault(
        "a processor's DPO has the controller's refusal erased by a retry",
        f"{_QUESTIONS}:_overrules",
        'if action == "erase" or (action == "retry" and one.reason in words.HELD):',
        'if action == "erase":',
        "tests/unit/test_saga_older.py::test_a_refusal_that_the_officer_went_on_over_is_not_read_as_an_instruction",
    ),
    fault(
        "a decision is offered that would be refused",
        f"{_QUESTIONS}:offered",
        "if misfit(saga, one, action, now, configured) is None)",
        ")",
        "tests/unit/test_saga_quarantine.py::test_in_quarantine_nothing_but_its_release_or_its_end_is_offered",
    ),
    fault(
        "a request in quarantine takes decisions on its systems",
        f"{_QUESTIONS}:misfit",
        'if saga.quarantined and not is_release and action not in ("reject", "cancel"):',
        "if False:",
        "tests/unit/test_saga_quarantine.py::test_in_quarantine_nothing_but_its_release_or_its_end_is_offered",
    ),
    fault(
        "the release from quarantine does not ask again for a proof",
        f"{_DECISIONS}:_release",
        "isinstance(step.state, Locating | Erasing | Proving)",
        "isinstance(step.state, Locating | Erasing)",
        "tests/unit/test_saga_quarantine.py::test_what_was_out_is_asked_for_again_at_the_release",
    ),
    fault(
        "the release from quarantine asks for nothing again",
        f"{_DECISIONS}:_release",
        'draft.put(table.apply(draft, step, "released", event))',
        "pass",
        "tests/unit/test_saga_quarantine.py::test_what_was_out_is_asked_for_again_at_the_release",
    ),
    fault(
        "the release from quarantine hears no word",
        f"{_DECISIONS}:_release",
        "hearing.heed_parked(draft, event.event_id)",
        "pass",
        "tests/unit/test_saga_quarantine.py::test_what_an_agency_answers_in_quarantine_is_not_lost",
    ),
    fault(
        "a cancelled request goes on in its systems",
        f"{_DECISIONS}:_stop",
        'draft.put(table.apply(draft, step, "stop", event))',
        "pass",
        "tests/unit/test_saga_decisions.py::test_a_request_can_be_ended_at_any_question",
    ),
    fault(
        "a question whose matter changed keeps its version",
        f"{_DRAFT}:Draft.renew",
        "version=one.version + 1",
        "version=one.version",
        "tests/unit/test_saga_versions.py::test_another_count_of_records_raises_the_version",
    ),
    fault(
        "a question is never repeated",
        f"{_REQUEST}:remind",
        'draft.say("reminded", concerns=one.id)',
        "pass",
        "tests/unit/test_saga_decisions.py::test_raised_once_and_said",
    ),
    fault(
        "a question that went missing is never asked again",
        f"{_STEPS}:wait_for_dpo",
        "if draft.find(state.reason, step.system) is None:",
        "if False:",
        "tests/unit/test_saga_older.py::test_a_refusal_that_the_officer_went_on_over_is_not_read_as_an_instruction",
    ),
    fault(
        "a worker that stays silent is not alarmed",
        f"{_STEPS}:alarm_silence",
        'draft.escalate("no_answer", step.system, verb_of(step))',
        "pass",
        "tests/unit/test_saga_decisions.py::test_raised_once_and_said",
    ),
    # --- quarantine and timers
    fault(
        "a timer fires before its time",
        f"{_DECIDE}:_apply_timers",
        "not draft.is_due(state.until) or",
        "",
        "tests/unit/test_saga_request.py::test_a_slow_purge_makes_no_request_overdue",
    ),
    # --- the record
    fault(
        "a rule may lead where its table doesn't",
        f"{_TABLE}:apply",
        "if after.state.status != step.state.status and after.state.status not in row.targets:",
        "if False:",
        "tests/unit/test_saga_request.py::test_a_rule_that_leaves_its_table_is_a_fault",
    ),
)
