"""The transition tables: what may follow what.

A step's table maps (status, trigger) to a rule and the statuses it may lead to. Triggers are the kinds of
confirmation, the step's own timer, and what the request or the DPO does to it (`start`, `retry`, `erase`,
`waive`, `stop`, `supplement`). A confirmation that has no row in a status changes nothing but the record of
facts. `decide` drives steps and requests through these tables and refuses a rule that leads elsewhere, and
the diagrams in README.md are drawn from them.
"""

from collections.abc import Callable
from typing import NamedTuple

from orchestrator.saga import about, parties, proofs, rulings, steps
from orchestrator.saga.draft import Draft, RuleBroken
from orchestrator.saga.events import Confirmed, Event
from orchestrator.saga.model import (
    AwaitingDecision,
    AwaitingSubject,
    Ended,
    Erasing,
    Locating,
    Proving,
    RequestState,
    RequestStatus,
    Step,
    StepState,
    StepStatus,
    Waiting,
)
from orchestrator.saga.replacing import replace

Rule = Callable[[Draft, Step, Event], Step]


class Row(NamedTuple):
    """A rule, and where it may lead."""

    rule: Rule
    targets: tuple[StepStatus, ...]


_WAIVE: dict[str, Row] = {"waive": Row(rulings.waive, ("ended",))}
_ALWAYS: dict[str, Row] = {
    "stop": Row(rulings.stop, ("ended",)),
    "supplement": Row(steps.supplement, ("waiting",)),
}
_FAILURES: dict[str, Row] = {
    "failed": Row(steps.failed, ("retrying", "awaiting_decision")),
    "expired": Row(steps.expired, ("retrying", "awaiting_decision")),
}
_LOCATES_ON: dict[str, Row] = {"progress": Row(steps.went_on, ("locating", "retrying", "awaiting_decision"))}
_ERASES_ON: dict[str, Row] = {
    "progress": Row(steps.went_on, ("erasing", "proving", "awaiting_party", "retrying", "awaiting_decision"))
}
_PROVES_ON: dict[str, Row] = {"progress": Row(steps.went_on, ("proving", "retrying", "awaiting_decision"))}
_LOOKS: dict[str, Row] = {
    "located": Row(steps.located, ("erasing", "proving", "awaiting_party", "awaiting_decision")),
    "cannot_look": Row(steps.cannot_look, ("erasing", "proving", "awaiting_party")),
    "not_identifiable": Row(
        steps.not_identifiable,
        (
            "ended",
            "erasing",
            "proving",
            "awaiting_party",
            "awaiting_subject",
            "retrying",
            "awaiting_decision",
        ),
    ),
    "absent": Row(
        parties.absent,
        ("ended", "erasing", "proving", "awaiting_party", "retrying", "awaiting_decision"),
    ),
}
_PARTY: dict[str, Row] = {
    "awaiting_party": Row(parties.asked_party, ("awaiting_party",)),
    "instructed": Row(parties.instructed, ("locating", "awaiting_decision")),
    "absent": Row(parties.party_absent, ("ended", "accepted", "proving")),
    "party_erased": Row(parties.erased, ("ended", "accepted", "proving")),
    "retained": Row(parties.retained, ("ended",)),
    "refused": Row(parties.refused, ("ended", "awaiting_decision")),
}
_PROOFS: dict[str, Row] = {
    "proved": Row(proofs.proved, ("accepted", "proving", "ended", "retrying", "awaiting_decision")),
    "pending": Row(proofs.pending, ("accepted", "awaiting_decision")),
    "still_present": Row(proofs.still_present, ("proving", "retrying", "awaiting_decision")),
    "reappeared": Row(proofs.reappeared, ("awaiting_decision",)),
}
_ACCEPTED: dict[str, Row] = {
    "accepted": Row(proofs.accepted, ("accepted", "proving", "retrying", "awaiting_decision"))
}
_AFTER_ERASURE: dict[str, Row] = {
    "located": Row(steps.located_late, ("proving",)),
    "accepted": Row(steps.stays, ()),
    "instructed": Row(parties.instructed, ()),
    "refused": Row(parties.refused, ()),
    "retained": Row(parties.retained, ("ended",)),
}

#: A command that failed may have been delivered twice and succeed after all, and a party answers when it
#: likes. So a step that retries, or whose failure lies with the DPO, takes every answer its verb can have.
LATE_ANSWERS: dict[str, Row] = {
    **_LOOKS,
    **_ACCEPTED,
    **_PARTY,
    **_PROOFS,
    "progress": Row(
        steps.went_on,
        ("locating", "erasing", "proving", "awaiting_party", "retrying", "awaiting_decision"),
    ),
    "absent": Row(
        parties.absent,
        ("ended", "erasing", "accepted", "proving", "awaiting_party", "retrying", "awaiting_decision"),
    ),
}

STEP_TABLE: dict[StepStatus, dict[str, Row]] = {
    "waiting": {
        "start": Row(steps.start, ("locating", "ended", "awaiting_decision")),
        "retry": Row(steps.start, ("locating", "ended")),
        "instructed": Row(parties.instructed, ("awaiting_decision",)),
        "refused": Row(parties.refused_early, ("ended", "awaiting_decision")),
        "timer": Row(steps.rearm, ()),
        **_WAIVE,
        **_ALWAYS,
    },
    "locating": {
        **_PARTY,
        **_LOOKS,
        **_LOCATES_ON,
        "timer": Row(steps.alarm_silence, ()),
        "retry": Row(rulings.retry, ("locating",)),
        "released": Row(rulings.released, ("locating",)),
        **_FAILURES,
        **_WAIVE,
        **_ALWAYS,
    },
    "erasing": {
        **_PARTY,
        **_ACCEPTED,
        **_ERASES_ON,
        "located": Row(steps.found_more, ("erasing", "proving")),
        "still_present": Row(steps.found_more, ("erasing", "proving")),
        "instructed": Row(parties.instructed, ("awaiting_decision",)),
        "refused": Row(parties.refused, ("awaiting_decision",)),
        "timer": Row(steps.alarm_silence, ()),
        "retry": Row(rulings.retry, ("erasing", "proving")),
        "released": Row(rulings.released, ("erasing", "proving")),
        **_FAILURES,
        **_WAIVE,
        **_ALWAYS,
    },
    "proving": {
        **_PROOFS,
        **_AFTER_ERASURE,
        **_PROVES_ON,
        "timer": Row(steps.alarm_silence, ()),
        "retry": Row(rulings.retry, ("proving",)),
        "released": Row(rulings.released, ("proving",)),
        **_FAILURES,
        **_WAIVE,
        **_ALWAYS,
    },
    "accepted": {
        **_AFTER_ERASURE,
        "proved": Row(proofs.proved, ("proving",)),
        "still_present": Row(proofs.still_present, ("proving", "retrying", "awaiting_decision")),
        "timer": Row(steps.prove, ("proving",)),
        **_ALWAYS,
    },
    "retrying": {
        "timer": Row(steps.try_again, ("locating", "erasing", "proving", "awaiting_party")),
        **LATE_ANSWERS,
        **_ALWAYS,
    },
    "awaiting_party": {
        **_PARTY,
        **_ACCEPTED,
        "located": Row(steps.found_while_asking, ("erasing", "proving", "awaiting_decision")),
        "still_present": Row(steps.found_while_asking, ("erasing", "proving", "awaiting_decision")),
        "timer": Row(parties.remind_party, ("awaiting_decision",)),
        "progress": Row(steps.went_on, ("awaiting_decision",)),
        "failed": Row(steps.failed, ("awaiting_decision",)),
        "expired": Row(steps.expired, ("awaiting_decision",)),
        **_ALWAYS,
    },
    "awaiting_subject": {
        "located": Row(steps.located, ("erasing", "proving", "awaiting_party", "awaiting_decision")),
        "instructed": Row(parties.instructed, ("awaiting_decision",)),
        "refused": Row(parties.refused_early, ("ended", "awaiting_decision")),
        "timer": Row(steps.give_up_on_subject, ("ended", "erasing", "proving", "awaiting_party")),
        "retry": Row(steps.look_anew, ("locating",)),
        **_WAIVE,
        **_ALWAYS,
    },
    "awaiting_decision": {
        "retry": Row(rulings.retry, ("waiting", "locating", "erasing", "proving", "awaiting_party")),
        "erase": Row(steps.look_anew, ("locating",)),
        "timer": Row(steps.wait_for_dpo, ()),
        **LATE_ANSWERS,
        "instructed": Row(parties.instructed, ("waiting", "locating", "erasing", "proving")),
        **_WAIVE,
        **_ALWAYS,
    },
    "ended": {
        "located": Row(steps.located_late, ("erasing", "proving", "awaiting_party", "awaiting_decision")),
        "still_present": Row(proofs.still_present, ("proving", "retrying", "awaiting_decision")),
        "reappeared": Row(proofs.reappeared_late, ("awaiting_decision",)),
        "instructed": Row(
            parties.instructed_after_end, ("waiting", "locating", "proving", "awaiting_decision")
        ),
        "refused": Row(parties.refused_after_end, ("awaiting_decision",)),
        "retained": Row(parties.retained_late, ()),
        "supplement": Row(steps.supplement, ("waiting",)),
    },
}

#: What a request's own status may become, and on which occasion.
REQUEST_TABLE: dict[RequestStatus, dict[str, tuple[RequestStatus, ...]]] = {
    "awaiting_verification": {"settled": ("in_progress",), "reject or cancel": ("closing",)},
    "in_progress": {"every step ended": ("closing",), "reject or cancel": ("closing",)},
    "closing": {
        "quiet": ("completed", "rejected", "cancelled"),
        "contradicted": ("in_progress",),
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
    _check_end(draft, step, after, event)
    asked, asks = _question(step.state), _question(after.state)
    if asked != asks:
        draft.resolve(*asked[0], system=step.system)
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


#: Ends that say something of the person's records.
CLAIMS = frozenset({"erased", "absent", "anonymised", "retained"})


def _check_end(draft: Draft, before: Step, after: Step, event: Event) -> None:
    """Refuse an end that says something of the records, unless an answer shows it, and is about all of them.

    Every end passes here, so that no rule can make one up.
    """
    state = after.state
    if not isinstance(state, Ended) or state.end not in CLAIMS or state == before.state:
        return
    is_shown = isinstance(event, Confirmed) and about.shortfall(draft.saga, after, event) is None
    if not is_shown or state.grade is None:
        raise RuleBroken(f"{after.system} would end {state.end} with nothing that shows it")
    if after.unsorted and state.grade != "party_stated":
        raise RuleBroken(f"{after.system} would end {state.end} with records that no proof looked at")


def _question(state: StepState) -> tuple[tuple[str, ...], int]:
    """What the DPO may be asked while a step is in this state; the questions go when the state does."""
    match state:
        case AwaitingDecision():
            return (state.reason,), 0
        case AwaitingSubject():
            return ("identifier_missing",), 0
        case Waiting():
            return ("predecessor_failed",), 0
        case Locating() | Erasing() | Proving():
            return ("no_answer", "command_not_sent"), state.attempt
        case _:
            return (), 0


def move(draft: Draft, occasion: str, state: RequestState) -> None:
    """Changes the request's own state.

    Raises:
        RuleBroken: the table does not know this way.
    """
    status = draft.saga.status
    if state.status not in REQUEST_TABLE[status].get(occasion, ()):
        raise RuleBroken(f"{status} --{occasion}--> {state.status}")
    draft.saga = replace(draft.saga, state=state)
