"""Reads a saga that an older version wrote: what has moved since is put in its place.

* Words were not logged: only the time of the last one was kept. What it was follows from where the step is.
  Where that can't be told, it is taken for a refusal, over which nothing is erased.
* Whose data it is was looked up in the settings.
* A question about a notice did not say about which one.
"""

from orchestrator.saga import escalations
from orchestrator.saga.model import AwaitingDecision, Ended, Escalation, NoticePending, Saga, Step, Word
from orchestrator.saga.replacing import replace

#: The kind of the systems whose data is a controller's.
_OF_CONTROLLERS = "tenant"
_NOTICES = {"notice_failed": escalations.failing, "notice_silent": escalations.silent}


def upgraded(saga: Saga) -> Saga:
    """Return the saga as the rules of today know it; one that they wrote is returned as it is."""
    if any(_is_older(step) for step in saga.steps):
        saga = replace(saga, steps=tuple(_upgraded_step(saga, step) for step in saga.steps))
    if any(one.reason in _NOTICES for one in saga.escalations):
        kept = [_upgraded_question(saga, one) for one in saga.escalations]
        saga = replace(saga, escalations=tuple(one for one in kept if one is not None))
    return saga


def _is_older(step: Step) -> bool:
    return step.answered_at is not None or (step.kind == _OF_CONTROLLERS and not step.has_controller)


def _upgraded_step(saga: Saga, step: Step) -> Step:
    if step.kind == _OF_CONTROLLERS:
        step = replace(step, has_controller=True)
    if step.answered_at is None:
        return step
    at, step = step.answered_at, replace(step, answered_at=None)
    if not step.has_controller:
        return step
    word = Word(order=at, said="instructed", at=at, attempt=step.asked_from)
    if _was_refused(saga, step):
        # The refusal came after an "erase", unless it ended the step.
        before = () if isinstance(step.state, Ended) and step.state.end == "refused" else (word,)
        return replace(step, instruction=None, words=(*before, replace(word, said="refused")))
    return replace(step, words=(word,)) if step.instruction == "erase" else step


def _was_refused(saga: Saga, step: Step) -> bool:
    match step.state:
        case Ended(end="refused") | AwaitingDecision(reason="instruction_conflict"):
            return True
    is_asked = any((one.reason, one.system) == ("refused_late", step.system) for one in saga.escalations)
    return is_asked or any(key.startswith(f"refused_late/{step.system}/") for key in saga.settled)


def _upgraded_question(saga: Saga, one: Escalation) -> Escalation | None:
    """The question about the first notice that is pending; those about others come up again by themselves."""
    if one.reason not in _NOTICES:
        return one
    pending = [notice.purpose for notice in saga.notices if isinstance(notice.state, NoticePending)]
    return replace(one, reason=_NOTICES[one.reason](pending[0])) if pending else None
