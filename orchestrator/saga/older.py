"""Reads a saga that an older version wrote: what has moved since is put in its place.

* Words were not logged: only the time of the last one was kept. What it was follows from where the step is.
  Where a refusal can't be ruled out the step is held, and the DPO asks the controller anew.
* Whose data it is was looked up in the settings.
* A question about a notice did not say about which one.
"""

from orchestrator.saga import escalations, words
from orchestrator.saga.model import (
    AwaitingDecision,
    Ended,
    Escalation,
    NoticePending,
    Saga,
    Step,
    Waiting,
    Word,
)
from orchestrator.saga.replacing import replace
from orchestrator.saga.steps import verb_of

#: The kind of the systems whose data is a controller's.
_OF_CONTROLLERS = "tenant"
_NOTICES = {"notice_failed": escalations.failing, "notice_silent": escalations.silent}


def upgraded(saga: Saga) -> Saga:
    """Return the saga as the rules of today know it; one that they wrote is returned as it is."""
    steps = tuple(_upgraded_step(saga, step) for step in saga.steps)
    if steps != saga.steps:
        saga = replace(saga, steps=steps)
    if any(one.reason in _NOTICES for one in saga.escalations):
        kept = [_upgraded_question(saga, one) for one in saga.escalations]
        saga = replace(saga, escalations=tuple(one for one in kept if one is not None))
    return saga


def _upgraded_step(saga: Saga, step: Step) -> Step:
    if step.kind == _OF_CONTROLLERS and not step.has_controller:
        step = replace(step, has_controller=True)
    at = step.answered_at
    if at is not None:
        step = replace(step, answered_at=None)
    if not step.has_controller or step.words:
        return step
    told_late = _refused_late(saga, step)
    known = at if at is not None else told_late
    if known is None:
        return step
    word = Word(order=known, said="instructed", at=known, attempt=step.asked_from)
    refusal = replace(word, said="refused")
    if isinstance(step.state, Ended) and step.state.end == "refused":
        return replace(step, instruction=None, words=(refusal,))
    if told_late is not None or _is_conflict(step):
        return _held(replace(step, instruction=None, words=(word, refusal)))
    if step.instruction is None:
        return step
    if _may_have_been_overruled(saga):
        return _held(replace(step, instruction=None, words=(word, replace(refusal, code=words.NOT_KEPT))))
    return replace(step, words=(word,))


def _held(step: Step) -> Step:
    """The step where today's rules would have left it. Its timer finds the question missing, and asks it."""
    state, verb = step.state, verb_of(step)
    if verb == "prove" or isinstance(state, Ended | AwaitingDecision | Waiting):
        return step
    reason = words.hold(step) or "instruction_conflict"
    return replace(step, state=AwaitingDecision(resume=verb, reason=reason, until=state.until))


def _is_conflict(step: Step) -> bool:
    return isinstance(step.state, AwaitingDecision) and step.state.reason == "instruction_conflict"


def _refused_late(saga: Saga, step: Step) -> int | None:
    """Return when the DPO was told of a refusal that came late; None where there was none."""
    for one in saga.escalations:
        if (one.reason, one.system) == ("refused_late", step.system):
            return one.raised_at
    if any(key.startswith(f"refused_late/{step.system}/") for key in saga.settled):
        # When it was, nobody kept; it was not before the step's end, or else its erasure.
        return step.state.at if isinstance(step.state, Ended) else step.erased_at or saga.received_at
    return None


def _may_have_been_overruled(saga: Saga) -> bool:
    """Whether a question was closed of which nothing is kept.

    It may have been about a refusal: an earlier version let the DPO go on over one, and kept "erase".
    """
    return saga.raised > len(saga.escalations) + len(saga.settled)


def _upgraded_question(saga: Saga, one: Escalation) -> Escalation | None:
    """The question about the first notice that is pending; those about others come up again by themselves."""
    if one.reason not in _NOTICES:
        return one
    pending = [notice.purpose for notice in saga.notices if isinstance(notice.state, NoticePending)]
    return replace(one, reason=_NOTICES[one.reason](pending[0])) if pending else None
