"""Hears what came by callback: into the step's log first, and then as far as it still matters.

A word moves the step if no later word has overtaken it. While the request is set aside only a refusal does,
because it stops what it is about; the others wait for the release. A word that speaks against an end counts
whenever it was said, since it may have been said before the end and read after it.
"""

from orchestrator.saga import request, table, words
from orchestrator.saga.contradictions import contradicts
from orchestrator.saga.draft import Draft
from orchestrator.saga.events import Confirmed
from orchestrator.saga.model import AwaitingVerification, Closing, Ended, Finished, InProgress, Step, Word
from orchestrator.saga.replacing import replace


def hear(draft: Draft, step: Step, event: Confirmed) -> None:
    """Logs a word about a step, and applies it if it is the last one."""
    was_disputed = words.is_disputed(step)
    step, word, verdict = words.log(step, event)
    draft.put(step)
    is_news = verdict == "new" or was_disputed != words.is_disputed(step)
    if is_news and draft.saga.quarantined and event.kind != "refused":
        draft.put(words.parked(step, word))
        return
    if is_news:
        _heed(draft, step, word, event)
    else:
        draft.note("ignored", system=step.system, trigger=event.kind, code=f"{verdict}_word")


def heed_parked(draft: Draft, event_id: str) -> None:
    """Applies the words that waited for the release of a request that was set aside."""
    for system in [step.system for step in draft.saga.steps]:
        while (waiting := _parked_of(draft, system)) is not None:
            step, word = waiting
            event = words.event_of(word, event_id, draft.saga.request_id, system)
            if words.judge(step, word) == "older" and not words.is_disputed(step):
                draft.put(words.heeded(step, word))
            else:
                # Also one that says what the one before it said: that one waited, too, and was passed over.
                _heed(draft, step, word, event)


def keep_unheeded(draft: Draft, event: Confirmed) -> None:
    """Logs a word at which a rule failed, so that the release finds it and nothing is done over it."""
    step = draft.saga.step(event.system or "")
    if step is not None and words.is_word(event):
        step, word, _ = words.log(step, event)
        draft.put(words.parked(step, word))
        draft.note("kept", system=step.system, trigger=event.kind, order=event.order, said_at=event.said_at)


def _parked_of(draft: Draft, system: str) -> tuple[Step, Word] | None:
    step = draft.saga.step(system)
    if step is None:
        return None
    return next(((step, word) for word in step.words if not word.heeded), None)


def _heed(draft: Draft, step: Step, word: Word, event: Confirmed) -> None:
    """What a new word does to its step, by the state of the request."""
    before = step
    asked = {one.id: one.version for one in draft.saga.escalations if one.system == step.system}
    step = words.heeded(step, word)
    is_against = contradicts(before, step, event)
    match draft.saga.state:
        case AwaitingVerification() if event.kind in words.LAW:
            step = table.apply(draft, step, event.kind, event)
        case InProgress():
            step = table.apply(draft, step, event.kind, event)
        case Closing(final="completed") if is_against:
            step = table.apply(draft, step, event.kind, event)
            if not step.is_ended:
                request.reopen(draft)
        case Finished() if is_against and event.kind == "instructed":
            # The key is destroyed: only a person can see to it.
            draft.unsettle("instructed_late", step.system)
            draft.escalate("instructed_late", step.system)
        case Finished() if is_against:
            draft.say("corrected", code=event.kind)
        case _:
            pass
    if is_against and isinstance(step.state, Ended) and step.state == before.state:
        step = replace(step, state=replace(step.state, contradicted=event.kind))
        draft.note("contradicted", system=step.system, trigger=event.kind)
    draft.put(step)
    if step.has_controller and event.kind in words.LAW:
        # What may be decided about this system has changed with its controller's word.
        draft.renew_unchanged(asked, "new_word")
