"""The DPO's decisions.

A decision names the escalation it answers and that escalation's version. One that no longer fits (another
version, already resolved, an action that does not belong to it, no reason where the record needs one) is
refused, and the refusal is an outcome that the DPO sees. Rejecting, cancelling and extending concern the
whole request and need no open question.
"""

from orchestrator.saga import escalations, request, table
from orchestrator.saga.draft import Draft, expect
from orchestrator.saga.events import Decided
from orchestrator.saga.model import (
    AwaitingVerification,
    Closing,
    Ended,
    Erasing,
    Escalation,
    FinalStatus,
    Finished,
    InProgress,
    Locating,
    NoticePending,
    Proving,
)
from orchestrator.saga.replacing import replace


def apply_decision(draft: Draft, event: Decided) -> None:
    """Applies a decision, or refuses it with a code that says why."""
    code = _misfit(draft, event)
    if code is not None:
        draft.note("decision_refused", action=event.action, escalation=event.escalation_id, code=code)
        draft.say("decision_refused", concerns=event.escalation_id, code=code)
        return
    draft.note(
        "decided",
        action=event.action,
        escalation=event.escalation_id,
        by=event.decided_by,
        reason=event.reason or None,
    )
    if event.action in escalations.STANDALONE:
        draft.saga = replace(draft.saga, reason=event.reason)
    match event.action:
        case "reject":
            _stop(draft, event, "rejected")
        case "cancel":
            _stop(draft, event, "cancelled")
        case "extend":
            request.inform_of_extension(draft)
        case _:
            _answer(draft, event, expect(draft.saga.escalation(event.escalation_id), Escalation))


def _misfit(draft: Draft, event: Decided) -> str | None:
    saga = draft.saga
    if isinstance(saga.state, Finished):
        return "request_ended"
    if event.action in escalations.NEEDS_REASON and not event.reason.strip():
        return "reason_missing"
    if event.escalation_id is None:
        if event.action not in escalations.STANDALONE:
            return "names_no_escalation"
    else:
        one = saga.escalation(event.escalation_id)
        if one is None:
            return "no_such_escalation"
        if one.version != event.escalation_version:
            return "other_version"
        if event.action not in escalations.actions_for(one.reason):
            return "action_does_not_fit"
        if (
            one.reason == "unknown_system"
            and event.action == "retry"
            and one.system not in draft.rules.systems
        ):
            return "still_unknown"
    if event.action in escalations.STANDALONE and isinstance(saga.state, Closing):
        return "already_closing"
    if saga.quarantined and event.action not in ("reject", "cancel"):
        one = saga.escalation(event.escalation_id)
        if one is None or one.reason != "quarantined":
            return "quarantined"
    if event.action == "extend":
        return _cannot_extend(draft)
    return None


def _cannot_extend(draft: Draft) -> str | None:
    saga = draft.saga
    if saga.extended or saga.notice("extended") is not None:
        return "already_extended"
    if saga.acted_at is not None:
        return "already_acted"
    if draft.now > saga.due_at:
        return "too_late"
    return None


def _stop(draft: Draft, event: Decided, final: FinalStatus) -> None:
    draft.saga = replace(draft.saga, quarantined=False)
    for step in draft.saga.steps:
        if not isinstance(step.state, Ended):
            draft.put(table.apply(draft, step, "stop", event))
    request.begin_closing(draft, final, "reject or cancel")


def _answer(draft: Draft, event: Decided, one: Escalation) -> None:
    """A decision on one open question."""
    step = draft.saga.step(one.system) if one.system is not None else None
    if step is not None and one.reason not in escalations.NEWS:
        draft.close(one, by=event.decided_by)
        draft.put(table.apply(draft, step, event.action, event))
        return
    match one.reason, event.action:
        case (("notice_failed" | "notice_silent"), "retry"):
            draft.close(one, by=event.decided_by)
            for notice in draft.saga.notices:
                if isinstance(notice.state, NoticePending):
                    draft.give_notice(notice.purpose)
        case (("notice_failed" | "notice_silent"), "waive"):
            draft.close(one, by=event.decided_by)
            for notice in draft.saga.notices:
                if isinstance(notice.state, NoticePending):
                    request.notice_given(draft, notice, draft.now, "otherwise")
        case "quarantined", "retry":
            draft.close(one, by=event.decided_by)
            _release(draft, event)
        case (("deadline_near" | "overdue"), "waive"):
            draft.close(one, by=event.decided_by)
            draft.settle(one.reason, code=str(draft.saga.due_at))
        case _:
            draft.close(one, by=event.decided_by)
            draft.settle(one.reason, one.system, one.code)


def _release(draft: Draft, event: Decided) -> None:
    """Lets a quarantined request go on. What was asked is asked again: the answer may have been parked."""
    draft.saga = replace(draft.saga, quarantined=False)
    if not isinstance(draft.saga.state, InProgress | AwaitingVerification):
        return
    for step in draft.saga.steps:
        if isinstance(step.state, Locating | Erasing | Proving):
            draft.put(table.apply(draft, step, "retry", event))
