"""The transition tables: what may follow what.

A step's table maps (status, trigger) to a rule and the statuses it may lead to. Triggers are the kinds of
confirmation, the step's own
timer, and what the request does to it (`start`, `retry`, `erase`, `waive`, `stop`, `supplement`). A
confirmation that has no row in a
status changes nothing but the record of facts. `decide` drives steps through this table and refuses a rule
that leads
elsewhere, and the diagram in README.md is drawn from it.
"""

from collections.abc import Callable
from typing import NamedTuple

from orchestrator.saga import steps
from orchestrator.saga.draft import Draft, RuleBroken
from orchestrator.saga.events import Event
from orchestrator.saga.model import RequestStatus, Step, StepStatus

Rule = Callable[[Draft, Step, Event], Step]


class Row(NamedTuple):
    """A rule, and where it may lead."""

    rule: Rule
    targets: tuple[StepStatus, ...]


_ASKED_ANSWERS: dict[str, Row] = {
    "party_erased": Row(steps.party_erased, ("accepted", "proving", "ended")),
    "retained": Row(steps.retained, ("ended",)),
    "refused": Row(steps.refused, ("ended", "awaiting_decision", "erasing", "awaiting_party", "retrying")),
}
_ALWAYS: dict[str, Row] = {
    "waive": Row(steps.waive, ("ended",)),
    "stop": Row(steps.stop, ("ended",)),
}
_FAILURES: dict[str, Row] = {
    "failed": Row(steps.failed, ("retrying", "awaiting_decision")),
    "expired": Row(steps.expired, ("retrying",)),
}
_SUPPLEMENT: dict[str, Row] = {"supplement": Row(steps.look_anew, ("locating",))}
_PROOFS: dict[str, Row] = {
    "located": Row(steps.located, ("erasing",)),
    "accepted": Row(steps.stays, ()),
    "refused": Row(steps.refused_late, ()),
    "still_present": Row(steps.still_present, ("retrying", "awaiting_decision")),
}

STEP_TABLE: dict[StepStatus, dict[str, Row]] = {
    "waiting": {
        "start": Row(steps.start, ("locating", "ended")),
        "retry": Row(steps.start, ("locating", "ended")),
        "instructed": Row(steps.instructed_early, ()),
        "timer": Row(steps.rearm, ()),
        **_ALWAYS,
    },
    "locating": {
        "located": Row(steps.located, ("erasing",)),
        "absent": Row(steps.absent, ("ended",)),
        "cannot_look": Row(steps.cannot_look, ("erasing",)),
        "not_identifiable": Row(steps.not_identifiable, ("ended", "awaiting_subject")),
        "awaiting_party": Row(steps.asked_party, ("awaiting_party",)),
        "instructed": Row(steps.instructed, ("locating",)),
        "refused": Row(steps.refused, ("ended", "awaiting_decision")),
        "timer": Row(steps.alarm_silence, ()),
        "retry": Row(steps.retry, ("locating",)),
        **_FAILURES,
        **_SUPPLEMENT,
        **_ALWAYS,
    },
    "erasing": {
        "accepted": Row(steps.accepted, ("accepted", "proving")),
        "awaiting_party": Row(steps.asked_party, ("awaiting_party",)),
        "absent": Row(steps.party_absent, ("ended",)),
        "located": Row(steps.located, ("erasing",)),
        "timer": Row(steps.alarm_silence, ()),
        "retry": Row(steps.retry, ("erasing",)),
        **_ASKED_ANSWERS,
        **_FAILURES,
        **_SUPPLEMENT,
        **_ALWAYS,
    },
    "proving": {
        "proved": Row(steps.proved, ("accepted", "ended")),
        "pending": Row(steps.pending, ("accepted", "awaiting_decision")),
        "reappeared": Row(steps.reappeared, ("awaiting_decision",)),
        "timer": Row(steps.alarm_silence, ()),
        "retry": Row(steps.retry, ("proving",)),
        **_PROOFS,
        **_FAILURES,
        **_SUPPLEMENT,
        **_ALWAYS,
    },
    "accepted": {
        "timer": Row(steps.prove, ("proving",)),
        "proved": Row(steps.prove_now, ("proving",)),
        **_PROOFS,
        **_SUPPLEMENT,
        **_ALWAYS,
    },
    "retrying": {
        "timer": Row(steps.try_again, ("locating", "erasing", "proving")),
        "located": Row(steps.located, ("erasing",)),
        "accepted": Row(steps.accepted, ("accepted", "proving")),
        "absent": Row(steps.party_absent, ("ended",)),
        "instructed": Row(steps.instructed, ("locating",)),
        **_ASKED_ANSWERS,
        **_SUPPLEMENT,
        **_ALWAYS,
    },
    "awaiting_party": {
        "instructed": Row(steps.instructed, ("locating",)),
        "awaiting_party": Row(steps.asked_party, ("awaiting_party",)),
        "absent": Row(steps.party_absent, ("ended",)),
        "accepted": Row(steps.accepted, ("accepted", "proving")),
        "located": Row(steps.located, ("erasing",)),
        "timer": Row(steps.remind_party, ("awaiting_party", "awaiting_decision")),
        "failed": Row(steps.failed, ("awaiting_party", "awaiting_decision")),
        "expired": Row(steps.expired, ("awaiting_party",)),
        **_ASKED_ANSWERS,
        **_SUPPLEMENT,
        **_ALWAYS,
    },
    "awaiting_subject": {
        "timer": Row(steps.give_up_on_subject, ("ended",)),
        "retry": Row(steps.look_anew, ("locating",)),
        "located": Row(steps.located, ("erasing",)),
        **_SUPPLEMENT,
        **_ALWAYS,
    },
    "awaiting_decision": {
        "retry": Row(steps.retry, ("locating", "erasing", "proving", "ended")),
        "erase": Row(steps.look_anew, ("locating",)),
        "timer": Row(steps.wait_for_dpo, ()),
        "located": Row(steps.located, ("erasing",)),
        "accepted": Row(steps.accepted_while_asking, ("accepted", "proving")),
        "absent": Row(steps.party_absent, ("ended",)),
        "instructed": Row(steps.instructed, ("locating",)),
        **_ASKED_ANSWERS,
        **_SUPPLEMENT,
        **_ALWAYS,
    },
    "ended": {
        "located": Row(steps.located_late, ("erasing",)),
        "still_present": Row(steps.still_present_late, ("erasing",)),
        "instructed": Row(steps.instructed_after_refusal, ("locating",)),
        "refused": Row(steps.refused_late, ()),
        **_SUPPLEMENT,
    },
}

#: What a request's own status may become, and on which occasion.
REQUEST_TABLE: dict[RequestStatus, dict[str, RequestStatus]] = {
    "awaiting_verification": {"settled": "in_progress", "reject or cancel": "closing"},
    "in_progress": {"every step ended with evidence": "closing", "reject or cancel": "closing"},
    "closing": {
        "answers in, notices given": "completed",
        "answers in, rejection told": "rejected",
        "answers in": "cancelled",
        "contradicted": "in_progress",
    },
    "completed": {},
    "rejected": {},
    "cancelled": {},
}


def apply(draft: Draft, step: Step, trigger: str, event: Event) -> Step:
    """Runs the table's rule for a trigger; a step stays as it is where there is no row.

    Raises:
        RuleBroken: the rule broke its own table.
    """
    row = STEP_TABLE[step.state.status].get(trigger)
    if row is None:
        draft.note("ignored", system=step.system, trigger=trigger, status=step.state.status)
        return step
    after = row.rule(draft, step, event)
    if after.state.status != step.state.status and after.state.status not in row.targets:
        raise RuleBroken(f"{step.state.status} --{trigger}--> {after.state.status}")
    if after.state != step.state:
        draft.note(
            "step",
            system=step.system,
            trigger=trigger,
            before=step.state.status,
            after=after.state.status,
            end=getattr(after.state, "end", None),
            grade=getattr(after.state, "grade", None),
        )
    return after
