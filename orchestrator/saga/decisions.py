"""The DPO's decisions.

A decision names the escalation it answers and that escalation's version. One that no longer fits (another
version, already resolved, an action that does not belong to it, no reason where the record needs one) is
refused, and the refusal is an outcome that the DPO sees. Rejecting, cancelling and extending concern the
whole request and need no open question.
"""

from orchestrator.saga import escalations, hearing, receipt, request, table
from orchestrator.saga.draft import Draft, expect
from orchestrator.saga.events import Decided
from orchestrator.saga.model import (
    AwaitingVerification,
    Ended,
    Erasing,
    Escalation,
    FinalStatus,
    Finished,
    InProgress,
    Locating,
    NoticePending,
    NoticePurpose,
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


def _misfit(draft: Draft, event: Decided) -> escalations.Misfit | None:
    saga = draft.saga
    one = saga.escalation(event.escalation_id)
    if isinstance(saga.state, Finished) and one is None:
        return "request_ended"
    if event.action in escalations.NEEDS_REASON and not event.reason.strip():
        return "reason_missing"
    if event.escalation_id is None:
        if event.action not in escalations.STANDALONE:
            return "names_no_escalation"
    elif one is None:
        return "no_such_escalation"
    elif one.version != event.escalation_version:
        return "other_version"
    return escalations.misfit(saga, one, event.action, draft.now, draft.rules.systems)


def _stop(draft: Draft, event: Decided, final: FinalStatus) -> None:
    draft.saga = replace(draft.saga, quarantined=False)
    for step in draft.saga.steps:
        if not isinstance(step.state, Ended):
            draft.put(table.apply(draft, step, "stop", event))
    request.begin_closing(draft, final, "reject or cancel")
    # What parties said while it was set aside may speak against the end.
    hearing.heed_parked(draft, event.event_id)


def _answer(draft: Draft, event: Decided, one: Escalation) -> None:
    """A decision on one open question."""
    step = draft.saga.step(one.system) if one.system is not None else None
    if step is not None and one.reason not in escalations.NEWS:
        draft.close(one, by=event.decided_by)
        draft.put(table.apply(draft, step, event.action, event))
        return
    if one.reason in escalations.NOTICES:
        draft.close(one, by=event.decided_by)
        _answer_about_notice(draft, event, escalations.NOTICES[one.reason])
        return
    match one.reason, event.action:
        case "quarantined", "retry":
            draft.close(one, by=event.decided_by)
            _release(draft, event)
        case "receipt_in_doubt", _:
            draft.close(one, by=event.decided_by)
            receipt.settle(draft, is_other=event.action == "verify")
        case (("deadline_near" | "overdue"), "waive"):
            draft.close(one, by=event.decided_by)
            draft.settle(one.reason, code=str(draft.saga.alarmed_by))
        case _:
            draft.close(one, by=event.decided_by)
            draft.settle(one.reason, one.system, one.code)


def _answer_about_notice(draft: Draft, event: Decided, purpose: NoticePurpose) -> None:
    """A decision settles the notice that its question names, and no other."""
    notice = draft.saga.notice(purpose)
    if notice is None or not isinstance(notice.state, NoticePending):
        return
    if event.action == "retry":
        draft.give_notice(purpose)
    else:
        request.notice_given(draft, notice, draft.now, "otherwise")


def _release(draft: Draft, event: Decided) -> None:
    """Lets a quarantined request go on.

    What parties said meanwhile is applied first. Then what was asked is asked again: the answer may have been
    parked.
    """
    draft.saga = replace(draft.saga, quarantined=False)
    before = draft.saga.steps
    hearing.heed_parked(draft, event.event_id)
    if not isinstance(draft.saga.state, InProgress | AwaitingVerification):
        return
    for was, step in zip(before, draft.saga.steps, strict=True):
        if isinstance(step.state, Locating | Erasing | Proving) and step.attempt == was.attempt:
            draft.put(table.apply(draft, step, "released", event))
