"""What the DPO's decisions do to one step. Which of them fit which question is said in `escalations.py`."""

from orchestrator.saga.draft import Draft, expect
from orchestrator.saga.events import Decided, Event
from orchestrator.saga.model import AwaitingDecision, AwaitingVerification, Ended, Step, Waiting
from orchestrator.saga.progress import NONE
from orchestrator.saga.replacing import replace
from orchestrator.saga.steps import end, fresh, is_unknown, plan_of, send, verb_of


def retry(draft: Draft, step: Step, event: Event) -> Step:
    """Once more, with fresh counters; what has not begun waits for its turn."""
    # What the DPO agreed to lasts through our own tries; another decision is a look from the beginning.
    step = replace(fresh(step), reopened=0, reminders=0, takes_all=0, agreed=(), **NONE)
    begins = isinstance(draft.saga.state, AwaitingVerification)
    if isinstance(step.state, AwaitingDecision) and (is_unknown(step) or begins):
        plan = plan_of(draft, step)
        waiting = Waiting(until=draft.now + draft.rules.waits.review)
        has_controller = plan.refusal_ends or step.has_controller
        return replace(step, kind=plan.kind, after=plan.after, has_controller=has_controller, state=waiting)
    return send(draft, step, verb_of(step))


def released(draft: Draft, step: Step, event: Event) -> Step:
    """The request was set aside, and goes on: what was asked is asked again, and every count stands."""
    return send(draft, step, verb_of(step))


def waive(draft: Draft, step: Step, event: Event) -> Step:
    """The DPO lets the step go, with a reason that stays on the record."""
    decided = expect(event, Decided)
    for one in draft.saga.escalations:
        if one.system == step.system:
            draft.close(one, by=decided.decided_by)
    return end(step, Ended(end="waived", at=draft.now, reason=decided.reason), None)


def stop(draft: Draft, step: Step, event: Event) -> Step:
    """The request was rejected or cancelled before this step ended."""
    return replace(step, state=Ended(end="stopped", at=draft.now))
