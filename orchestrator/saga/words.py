"""What parties said about one system: a log in the order in which `serve` stored it, and how it is judged.

* Each word has its own place, whenever it is read. A word that was stored earlier than another one does not
  move the step any more, and the log keeps it.
* A controller's word is law for its data (Art. 28): "instructed" (erase) or "refused". The last one stands.
  The same word twice in a row is one; it counts anew after the other one came between.
* What a party answered by a link from before the step was begun anew is about less: it does not count. A
  controller's refusal counts all the same, to be on the safe side.
* While the controller's last word is a refusal its step is held: nothing is erased. It is held, too, where
  nobody can tell which was the last: the times in its signed words contradict our order, or an earlier
  version did not keep them.
"""

from typing import Literal

from orchestrator.saga.events import Confirmed
from orchestrator.saga.model import AwaitingDecision, Step, Word
from orchestrator.saga.replacing import replace

#: What a controller can say about its data.
LAW = frozenset({"instructed", "refused"})

#: The code of a word that stands for a refusal which an earlier version may have heard (`older.py`).
NOT_KEPT = "not_kept"

#: The questions to the DPO behind which a held step stands still.
HELD = frozenset({"instruction_conflict", "words_disputed"})

Verdict = Literal["new", "older", "repeated"]


def is_word(event: Confirmed) -> bool:
    """Return whether it came by itself, by a link or a webhook, and answers no command."""
    return event.command_id is None


def word_of(event: Confirmed) -> Word:
    """Return what the log keeps of an event.

    A word from before words were numbered is placed by its time; numbers are no smaller than times are.
    """
    return Word(
        order=event.occurred_at if event.order is None else event.order,
        said=event.kind,
        at=event.occurred_at,
        attempt=event.attempt,
        said_at=event.said_at,
        code=event.code,
        grade=event.grade,
        legal_basis=event.legal_basis,
        retained_until=event.retained_until,
        look_at=event.look_at,
    )


def event_of(word: Word, event_id: str, request_id: str, system: str) -> Confirmed:
    """Return the event that a word of the log was, for the rules that apply it later."""
    return Confirmed(
        event_id=event_id,
        request_id=request_id,
        kind=word.said,
        system=system,
        occurred_at=word.at,
        attempt=word.attempt,
        code=word.code,
        grade=word.grade,
        legal_basis=word.legal_basis,
        retained_until=word.retained_until,
        look_at=word.look_at,
        order=word.order,
        said_at=word.said_at,
    )


def log(step: Step, event: Confirmed) -> tuple[Step, Word, Verdict]:
    """Put a word into the log; return the step with it, the word, and what it means for the step."""
    word = word_of(event)
    known = next((one for one in step.words if event.order is not None and _is_same(one, word)), None)
    if known is not None:
        # Redelivered, or sent again by an operator: it matters only if it was set aside.
        return step, known, "repeated" if known.heeded else judge(step, known)
    place = sum(one.order <= word.order for one in step.words)
    step = replace(step, words=(*step.words[:place], word, *step.words[place:]))
    verdict = judge(step, word)
    return replace(step, words=_without_middles(step.words)), word, verdict


def judge(step: Step, word: Word) -> Verdict:
    """Return whether a word of the log is overtaken by a later one, or says what the one before it said."""
    if word.grade == "vendor_stated" or word.said == "proved":
        # A vendor's own event is a reason to look, whatever else was said.
        return "new"
    is_law = step.has_controller and word.said in LAW
    place = next(at for at, one in enumerate(step.words) if one is word)
    rivals = [
        (at, one)
        for at, one in enumerate(step.words)
        if at != place and _counts(step, one) and (not is_law or one.said in LAW)
    ]
    if any(at > place for at, _ in rivals):
        return "older"
    before = next((one for at, one in reversed(rivals) if at < place), None)
    if not is_law or before is None or before.said != word.said:
        return "new"
    return "repeated" if before.heeded and _is_current(step, before) else "new"


def heeded(step: Step, word: Word) -> Step:
    """Return the step with this word done with."""
    done = tuple(replace(one, heeded=True) if one is word else one for one in step.words)
    return replace(step, words=_without_middles(done))


def parked(step: Step, word: Word) -> Step:
    """Return the step with this word kept for later."""
    return replace(
        step, words=tuple(replace(one, heeded=False) if one is word else one for one in step.words)
    )


# --- a controller's last word ---


def standing(step: Step) -> Word | None:
    """Return the word of its controller that stands for this step; None where there is none."""
    return next((one for one in reversed(step.words) if _is_law(step, one)), None)


def was_instructed(step: Step) -> bool:
    """Return whether its controller ever said that what is asked now may be erased."""
    return step.instruction is not None or any(
        one.said == "instructed" and _is_law(step, one) for one in step.words
    )


def is_disputed(step: Step) -> bool:
    """Return whether nobody can tell which of its controller's words was the last."""
    last = standing(step)
    if last is not None and last.code == NOT_KEPT:
        return True
    if last is None or last.said_at is None:
        return False
    timed = [(one.said_at, one.said) for one in step.words if _is_law(step, one) and one.said_at is not None]
    latest, said = max(timed)
    return latest > last.said_at and said != last.said


def hold(step: Step) -> str | None:
    """Return why nothing may be erased for this step, as a reason to ask the DPO; None where it may."""
    last = standing(step)
    if last is None:
        return None
    if is_disputed(step):
        return "words_disputed"
    return "instruction_conflict" if last.said == "refused" else None


def is_held(step: Step) -> bool:
    """Return whether the step stands still behind a question about its controller's words."""
    return isinstance(step.state, AwaitingDecision) and step.state.reason in HELD


# --- the log ---


def _is_law(step: Step, word: Word) -> bool:
    return step.has_controller and word.said in LAW and _counts(step, word)


def _is_current(step: Step, word: Word) -> bool:
    return word.attempt >= step.asked_from


def _counts(step: Step, word: Word) -> bool:
    if word.grade == "vendor_stated" or word.said == "proved":
        return False
    return _is_current(step, word) or (step.has_controller and word.said == "refused")


def _is_same(one: Word, other: Word) -> bool:
    return (one.order, one.said, one.attempt) == (other.order, other.said, other.attempt)


def _without_middles(words: tuple[Word, ...]) -> tuple[Word, ...]:
    """Of a word that was said many times in a row the first and the last are kept: whatever comes between
    them later finds the same word before it and after it. The timeline has them all.
    """
    kept: list[Word] = []
    for word in words:
        if len(kept) > 1 and _is_told(word, kept[-1]) and _is_told(word, kept[-2]):
            kept.pop()
        kept.append(word)
    return tuple(kept)


def _is_told(word: Word, before: Word) -> bool:
    return word.heeded and before.heeded and replace(word, order=before.order, at=before.at) == before
