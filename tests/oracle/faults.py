"""Faults to plant in the saga, each at one place, and the invariants that may find each."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from orchestrator.saga import about, decide, decisions, request, steps, table
from orchestrator.saga.clocks import due_at
from orchestrator.saga.draft import Draft
from orchestrator.saga.events import Confirmed, Decided, Event
from orchestrator.saga.model import Closing, Ended, Finished, Step
from orchestrator.saga.replacing import replace

Patch = pytest.MonkeyPatch


def _row(patch: Patch, status: Any, trigger: str, rule: table.Rule) -> None:
    """Put another rule into a row, which may lead anywhere."""
    row = table.STEP_TABLE[status][trigger]
    anywhere: Any = tuple(table.STEP_TABLE)
    patch.setitem(table.STEP_TABLE[status], trigger, row._replace(rule=rule, targets=anywhere))


def unverified_supplement_joins(patch: Patch) -> None:
    patch.setattr(decide, "_may_supplement", lambda draft, event: bool(event.identifier_kinds))


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


def proof_without_what_was_found(patch: Patch) -> None:
    real = Draft.command

    def bare(self: Draft, step: Step, verb: Any, **rest: Any) -> Step:
        if verb != "prove":
            return real(self, step, verb, **rest)
        return replace(real(self, replace(step, references=()), verb, **rest), references=step.references)

    patch.setattr(Draft, "command", bare)
    # Whatever a proof is about counts.
    patch.setattr(about, "shortfall", lambda saga, step, event: None)


def rule_that_raises(patch: Patch) -> None:
    _row(patch, "waiting", "instructed", steps.alarm_silence)


def newer_records_are_erased(patch: Patch) -> None:
    def eager(draft: Draft, step: Step, event: Event) -> Step:
        assert isinstance(event, Confirmed)
        return draft.issue(steps._anew(step), "locate")

    _row(patch, "proving", "reappeared", eager)


def ends_on_the_vendors_yes(patch: Patch) -> None:
    def gullible(draft: Draft, step: Step, event: Event) -> Step:
        return steps.end(step, Ended(end="erased", at=draft.now), "seen_absent")

    _row(patch, "erasing", "accepted", gullible)
    # The table looks at no end.
    patch.setattr(table, "_check_end", lambda draft, before, after, event: None)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, and the invariants that may find it."""

    plant: Callable[[Patch], None]
    found_by: frozenset[str]


FAULTS: dict[str, Fault] = {
    plant.__name__: Fault(plant, frozenset(found_by))
    for plant, *found_by in (
        (unverified_supplement_joins, "unverified"),
        (key_goes_while_attempts_are_out, "key"),
        (timer_left_in_the_past, "no_timer"),
        (question_without_a_telling, "untold"),
        (question_forgotten, "no_question"),
        (question_left_open_by_its_decision, "decided_twice"),
        (extension_counts_untold, "dates"),
        (month_of_thirty_days, "dates"),
        (erases_while_closing, "closed"),
        (party_that_never_answers_is_waited_for, "stuck"),
        (proof_without_what_was_found, "unproved"),
        (rule_that_raises, "raises"),
        (newer_records_are_erased, "consent"),
        (ends_on_the_vendors_yes, "unproved", "prove_time"),
        (older_decision_counts, "stale_decision", "decided_twice"),
    )
}


@contextmanager
def planted(name: str) -> Iterator[Fault]:
    """Give the saga one fault for a while."""
    with pytest.MonkeyPatch.context() as patch:
        FAULTS[name].plant(patch)
        yield FAULTS[name]
