"""Faults to plant in the saga, each at one place, and the invariants that may find each."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from orchestrator.saga import (
    about,
    decide,
    decisions,
    escalations,
    parties,
    receipt,
    records,
    request,
    steps,
    table,
    words,
)
from orchestrator.saga.clocks import due_at
from orchestrator.saga.draft import Draft, SendCommand
from orchestrator.saga.events import Confirmed, Decided, Event
from orchestrator.saga.model import Closing, Ended, Finished, Notice, Saga, Step
from orchestrator.saga.replacing import replace

Patch = pytest.MonkeyPatch


def _row(patch: Patch, status: Any, trigger: str, rule: table.Rule) -> None:
    """Put another rule into a row, which may lead anywhere."""
    row = table.STEP_TABLE[status][trigger]
    anywhere: Any = tuple(table.STEP_TABLE)
    patch.setitem(table.STEP_TABLE[status], trigger, row._replace(rule=rule, targets=anywhere))


def unverified_supplement_joins(patch: Patch) -> None:
    patch.setattr(decide, "_may_supplement", lambda draft, event: bool(event.identifier_kinds))


def later_receipt_counts_for_the_alarms(patch: Patch) -> None:
    patch.setattr(Saga, "alarmed_by", property(lambda saga: max(saga.due_at, saga.due_or or 0)))


def receipt_settled_with_the_old_due_date(patch: Patch) -> None:
    real = receipt.settle

    def settle(draft: Draft, *, is_other: bool) -> None:
        due = draft.saga.due_at
        real(draft, is_other=is_other)
        draft.saga = replace(draft.saga, due_at=due)

    patch.setattr(receipt, "settle", settle)


def key_goes_while_attempts_are_out(patch: Patch) -> None:
    def impatient(draft: Draft) -> None:
        closing = draft.saga.state
        assert isinstance(closing, Closing)
        draft.saga = replace(draft.saga, state=Finished(status=closing.final, at=draft.now))
        draft.destroys_key = True

    patch.setattr(request, "_finish_when_quiet", impatient)


def timer_left_in_the_past(patch: Patch) -> None:
    _row(patch, "retrying", "timer", steps.stays)


def question_without_a_telling(patch: Patch) -> None:
    real = Draft.say

    def silent(self: Draft, kind: Any, **rest: Any) -> str:
        if kind == "escalated":
            return ""
        return real(self, kind, **rest)

    patch.setattr(Draft, "say", silent)


def question_forgotten(patch: Patch) -> None:
    def forgetful(draft: Draft, step: Step, reason: str, resume: Any, code: str | None = None) -> Step:
        after = real(draft, step, reason, resume, code)
        draft.resolve(reason, system=step.system)
        return after

    real = steps.ask_dpo
    patch.setattr(steps, "ask_dpo", forgetful)


def question_left_open_by_its_decision(patch: Patch) -> None:
    patch.setattr(Draft, "close", lambda self, one, by: None)


def extension_counts_untold(patch: Patch) -> None:
    def hasty(draft: Draft) -> None:
        later = due_at(draft.saga.received_at, draft.rules.calendar, months=3)
        draft.saga = replace(draft.saga, due_at=later, extended=True)

    patch.setattr(request, "inform_of_extension", hasty)


def month_of_thirty_days(patch: Patch) -> None:
    patch.setattr(decide, "due_at", lambda received_at, where, months=1: received_at + 30 * 86_400_000_000)


def erases_while_closing(patch: Patch) -> None:
    def busy(draft: Draft) -> None:
        for step in draft.saga.steps:
            if step.references:
                draft.put(draft.command(step, "erase"))
        real(draft)

    real = request._finish_when_quiet
    patch.setattr(request, "_finish_when_quiet", busy)


def older_decision_counts(patch: Patch) -> None:
    real = decisions._misfit

    def lax(draft: Draft, event: Decided) -> str | None:
        one = draft.saga.escalation(event.escalation_id)
        return real(
            draft, event if one is None else dataclasses.replace(event, escalation_version=one.version)
        )

    patch.setattr(decisions, "_misfit", lax)


def party_that_never_answers_is_waited_for(patch: Patch) -> None:
    def patient(draft: Draft, step: Step, event: Event) -> Step:
        until = draft.now + draft.rules.waits.party_reminder
        return replace(step, state=replace(step.state, until=until))

    _row(patch, "locating", "timer", patient)
    _row(patch, "locating", "failed", steps.stays)


def rule_that_raises(patch: Patch) -> None:
    _row(patch, "waiting", "instructed", steps.alarm_silence)


def newer_records_are_erased(patch: Patch) -> None:
    def eager(draft: Draft, step: Step, event: Event) -> Step:
        assert isinstance(event, Confirmed)
        return draft.issue(steps._anew(draft, step), "locate")

    _row(patch, "proving", "reappeared", eager)


def answers_about_fewer_people_count(patch: Patch) -> None:
    patch.setattr(about, "is_about_the_person", lambda saga, event: True)
    patch.setattr(about, "is_about_all", lambda saga, step, event: True)
    patch.setattr(about, "shortfall", lambda saga, step, event: None)


def references_of_a_proof_are_dropped(patch: Patch) -> None:
    real = records.taken_in

    def forgetful(step: Step, event: Confirmed) -> Step:
        return step if event.kind == "still_present" else real(step, event)

    patch.setattr(records, "taken_in", forgetful)


def ends_on_the_vendors_yes(patch: Patch) -> None:
    def gullible(draft: Draft, step: Step, event: Event) -> Step:
        return replace(step, state=Ended(end="erased", at=draft.now), grade="vendor_promised")

    _row(patch, "erasing", "accepted", gullible)
    patch.setattr(table, "_check_end", lambda draft, before, after, event: None)


def refusal_holds_nothing(patch: Patch) -> None:
    patch.setattr(words, "hold", lambda step: None)
    for status, rows in table.STEP_TABLE.items():
        if "refused" in rows:
            _row(patch, status, "refused", steps.stays)


def words_in_the_order_of_reading(patch: Patch) -> None:
    real = words.word_of

    def read(event: Confirmed) -> Any:
        return dataclasses.replace(real(event), order=next(numbers))

    numbers = itertools.count(10**17)
    patch.setattr(words, "word_of", read)


def times_in_words_are_not_compared(patch: Patch) -> None:
    patch.setattr(words, "is_disputed", lambda step: False)


def change_of_mind_is_ignored(patch: Patch) -> None:
    _row(patch, "ended", "instructed", steps.stays)


def late_refusal_is_not_told(patch: Patch) -> None:
    patch.setattr(parties, "tell_late", lambda draft, step, code: None)


def parties_are_parked_in_quarantine(patch: Patch) -> None:
    patch.setattr(decide, "_goes_on_in_quarantine", lambda event: not isinstance(event, Confirmed))


def timeline_without_words(patch: Patch) -> None:
    real = Draft.note

    def discreet(self: Draft, action: str, /, **data: Any) -> None:
        real(self, action, **{name: value for name, value in data.items() if name != "trigger"})

    patch.setattr(Draft, "note", discreet)


def answer_of_the_dpo_is_taken_along(patch: Patch) -> None:
    real = Draft.command

    def lavish(self: Draft, step: Step, verb: Any, **rest: Any) -> Step:
        return real(self, replace(step, takes_all=step.takes_all or 7), verb, **rest)

    patch.setattr(Draft, "command", lavish)


def question_keeps_its_version(patch: Patch) -> None:
    patch.setattr(Draft, "renew", lambda self, one, why: None)


def everything_is_offered(patch: Patch) -> None:
    patch.setattr(escalations, "offered", lambda saga, one, now, known: escalations.actions_for(one.reason))


def questions_are_not_found(patch: Patch) -> None:
    patch.setattr(Draft, "find", lambda self, reason, system=None: None)


def any_mail_tells_everything(patch: Patch) -> None:
    real = request.notice_given

    def generous(draft: Draft, notice: Notice, at: int, how: str) -> None:
        for one in draft.saga.notices:
            real(draft, one, at, how)

    patch.setattr(request, "notice_given", generous)


def acted_stands_for_good(patch: Patch) -> None:
    patch.setattr(request, "withdraw_acted", lambda draft: None)


def alarms_come_with_the_review(patch: Patch) -> None:
    patch.setattr(request, "_next_alarm", lambda draft: draft.now + draft.rules.waits.review)


def proof_without_its_time(patch: Patch) -> None:
    real = Draft.command

    def vague(self: Draft, step: Step, verb: Any, **rest: Any) -> Step:
        after = real(self, step, verb, **rest)
        sent = self.messages[-1]
        if isinstance(sent, SendCommand):
            self.messages[-1] = dataclasses.replace(sent, accepted_at=None)
        return after

    patch.setattr(Draft, "command", vague)


def unknown_systems_vanish(patch: Patch) -> None:
    real = Draft.escalate

    def selective(self: Draft, reason: str, system: str | None = None, code: str | None = None) -> None:
        if reason != "unknown_system":
            real(self, reason, system, code)

    patch.setattr(Draft, "escalate", selective)


def open_circuit_is_waited_for(patch: Patch) -> None:
    def patient(draft: Draft, step: Step, event: Confirmed) -> Step:
        return steps._again(draft, step, event.retry_after or 0)

    patch.setattr(steps, "_left_alone", patient)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, and the invariants that may find it."""

    plant: Callable[[Patch], None]
    found_by: frozenset[str]


FAULTS: dict[str, Fault] = {
    plant.__name__: Fault(plant, frozenset(found_by))
    for plant, *found_by in (
        (answers_about_fewer_people_count, "about_less", "unproved", "wrong_end"),
        (references_of_a_proof_are_dropped, "wrong_end", "about_less", "unproved"),
        (ends_on_the_vendors_yes, "wrong_end", "unproved"),
        (refusal_holds_nothing, "refused"),
        (words_in_the_order_of_reading, "refused"),
        (times_in_words_are_not_compared, "contradiction"),
        (change_of_mind_is_ignored, "word_lost"),
        (late_refusal_is_not_told, "deaf"),
        (parties_are_parked_in_quarantine, "parked"),
        (timeline_without_words, "unrecorded"),
        (unverified_supplement_joins, "unverified"),
        (later_receipt_counts_for_the_alarms, "alarms"),
        (receipt_settled_with_the_old_due_date, "dates"),
        (newer_records_are_erased, "consent"),
        (answer_of_the_dpo_is_taken_along, "counted"),
        (question_keeps_its_version, "stale_decision"),
        (older_decision_counts, "stale_decision", "decided_twice"),
        (question_left_open_by_its_decision, "decided_twice"),
        (everything_is_offered, "offer_refused"),
        (question_forgotten, "no_question"),
        (questions_are_not_found, "asked_twice"),
        (question_without_a_telling, "untold"),
        (timer_left_in_the_past, "no_timer"),
        (extension_counts_untold, "dates"),
        (month_of_thirty_days, "dates"),
        (any_mail_tells_everything, "told"),
        (acted_stands_for_good, "acted"),
        (alarms_come_with_the_review, "alarms"),
        (proof_without_its_time, "prove_time"),
        (erases_while_closing, "closed"),
        (key_goes_while_attempts_are_out, "key"),
        (unknown_systems_vanish, "scope"),
        (open_circuit_is_waited_for, "left_alone"),
        (party_that_never_answers_is_waited_for, "stuck"),
        (rule_that_raises, "raises"),
    )
}


@contextmanager
def planted(name: str) -> Iterator[Fault]:
    """Give the saga one fault for a while."""
    with pytest.MonkeyPatch.context() as patch:
        FAULTS[name].plant(patch)
        yield FAULTS[name]
