"""The rules of a step where a party must answer: an agency, or the controller whose data it is.

Its answers come by callback, on their own, early or late, and are kept in the step's log (`words.py`). These
rules see a word only if it is the last one there. A controller's word is law for its data (Art. 28): refuse
after erase goes to the DPO, and nothing more is erased; erase after refuse lets the step go on, or reopens
it until the request is completed.

A party answers what it was asked. When the step has been begun anew since, with more identifiers, that was
about less: such an answer is noted, and neither ends the step nor instructs us. A reminder, or a retry,
asks the same again and makes no older link void.
"""

from orchestrator.saga import about, steps, words
from orchestrator.saga.draft import Draft, expect
from orchestrator.saga.events import Confirmed, Event
from orchestrator.saga.model import (
    AwaitingDecision,
    AwaitingParty,
    AwaitingSubject,
    AwaitingVerification,
    Ended,
    Locating,
    Step,
    Waiting,
)
from orchestrator.saga.proofs import party_erased
from orchestrator.saga.refusals import LATE, tell_late
from orchestrator.saga.replacing import replace
from orchestrator.saga.steps import answers, ask_dpo, end, fresh, verb_of


def asked_party(draft: Draft, step: Step, event: Event) -> Step:
    """The agency or controller has been asked; the handler says when to remind."""
    if not answers(step, event, "locate", "erase"):
        return step
    confirmed = expect(event, Confirmed)
    look_at = confirmed.look_at or 0
    until = look_at if look_at > draft.now else draft.now + draft.rules.waits.party_reminder
    asked_at = step.asked_at or confirmed.occurred_at
    return replace(fresh(step), state=AwaitingParty(verb=verb_of(step), until=until), asked_at=asked_at)


def remind_party(draft: Draft, step: Step, event: Event) -> Step:
    """Reminds, so many times; then the DPO takes it from there."""
    state = expect(step.state, AwaitingParty)
    waits = draft.rules.waits
    if step.reminders >= waits.max_reminders:
        return ask_dpo(draft, step, "party_silent", state.verb)
    step = draft.command(step, state.verb, reminder=True)
    later = replace(state, until=draft.now + waits.party_reminder)
    return replace(step, state=later, reminders=step.reminders + 1)


# --- what the party was asked ---


def _is_about_less(step: Step, event: Confirmed) -> bool:
    """Whether the party answers an asking from before the step was begun anew.

    The vendor's own event answers no asking, and is a reason to look, not an end.
    """
    is_vendors = (event.kind, event.grade) == ("party_erased", "vendor_stated")
    return event.attempt < step.asked_from and not is_vendors


def _left(draft: Draft, step: Step, event: Confirmed) -> Step:
    """The step as it is; the record says why."""
    draft.note(
        "ignored", system=step.system, trigger=event.kind, status=step.state.status, code="asked_anew_since"
    )
    return step


# --- a controller's word ---


def instructed(draft: Draft, step: Step, event: Event) -> Step:
    """The controller says erase: from here on its data may be touched."""
    confirmed = expect(event, Confirmed)
    state = step.state
    if not step.has_controller:
        return step
    if _is_about_less(step, confirmed):
        return _left(draft, step, confirmed)
    if words.is_disputed(step):
        return _disputed(draft, step)
    was_held = words.is_held(step)
    if step.instruction == "erase" and not was_held:
        return step
    step = _allowed(draft, step)
    if isinstance(draft.saga.state, AwaitingVerification) and (was_held or isinstance(state, Ended)):
        return replace(step, state=Waiting(until=draft.now + draft.rules.waits.review))
    if was_held:
        return steps.send(draft, step, verb_of(step))
    if isinstance(state, Ended):
        return steps.send(draft, step, "locate" if step.erased_at is None else "prove")
    if isinstance(state, Waiting | AwaitingSubject) or verb_of(step) == "prove":
        # Remembered until the step starts, or kept for what the proof may find.
        return step
    if isinstance(state, AwaitingDecision) and state.reason not in ("party_silent", "failed"):
        return step
    return steps.send(draft, step, "locate")


def _allowed(draft: Draft, step: Step) -> Step:
    """The step may erase, and a refusal from before this word is no news any more."""
    draft.resolve(*LATE, system=step.system)
    for reason in LATE:
        draft.unsettle(reason, step.system)
    return replace(fresh(step), instruction="erase", reminders=0)


def instructed_after_end(draft: Draft, step: Step, event: Event) -> Step:
    """A controller may change its mind until the request is completed; what the DPO let go begins, too."""
    match expect(step.state, Ended).end:
        case "refused" | "waived":
            return instructed(draft, step, event)
        case _ if words.is_disputed(step):
            return _disputed(draft, step)
        case _:
            return _allowed(draft, step) if step.has_controller else step


def refused(draft: Draft, step: Step, event: Event) -> Step:
    """A controller's refusal ends the step, unless it said erase before; another party's goes to the DPO.

    A refusal about less ends nothing. Where it asks the DPO it does so all the same, to be on the safe side.
    """
    confirmed = expect(event, Confirmed)
    if words.is_disputed(step):
        return _disputed(draft, step)
    if not step.has_controller:
        if verb_of(step) == "prove":
            return _told_late(draft, step, confirmed.code)
        return ask_dpo(draft, step, "party_refused", verb_of(step), confirmed.code)
    was_instructed = words.was_instructed(step)
    step = replace(step, instruction=None)
    if verb_of(step) == "prove":
        return _told_late(draft, step, confirmed.code)
    if was_instructed:
        return ask_dpo(draft, step, "instruction_conflict", verb_of(step), confirmed.code)
    if _is_about_less(step, confirmed):
        return _left(draft, step, confirmed)
    return end(step, Ended(end="refused", at=draft.now, reason=confirmed.code), "party_stated")


def refused_early(draft: Draft, step: Step, event: Event) -> Step:
    """Before its system was touched only a controller can refuse; an agency has not been asked."""
    return refused(draft, step, event) if step.has_controller else step


def refused_after_end(draft: Draft, step: Step, event: Event) -> Step:
    """What is done can't be undone, so the DPO hears of it."""
    if words.is_disputed(step):
        return _disputed(draft, step)
    if step.has_controller:
        step = replace(step, instruction=None)
    if _is_done(step):
        return _told_late(draft, step, expect(event, Confirmed).code)
    return step


def _is_done(step: Step) -> bool:
    """Whether something was erased there, or nothing is left to be."""
    is_gone = isinstance(step.state, Ended) and step.state.end in ("erased", "absent", "anonymised")
    return is_gone or step.erased_at is not None


def _told_late(draft: Draft, step: Step, code: str | None) -> Step:
    tell_late(draft, step, code)
    return step


def _disputed(draft: Draft, step: Step) -> Step:
    """The times in the controller's words contradict our order: nobody can tell which was its last.

    A new word of the controller settles it.
    """
    step = replace(step, instruction=None)
    state = step.state
    if verb_of(step) == "prove" or _is_done(step):
        tell_late(draft, step, "times_contradict")
    if verb_of(step) == "prove" or (isinstance(state, Ended) and state.end != "refused"):
        return step
    return ask_dpo(draft, step, "words_disputed", verb_of(step))


# --- a party that says what it did ---


def _is_stale(draft: Draft, step: Step, event: Confirmed) -> bool:
    """An answer may overtake the news of the asking; but after an earlier asking, it may be about less."""
    if event.command_id is not None:
        return not about.is_about_all(draft.saga, step, event)
    was_asked = step.asked_at is not None or bool(step.references)
    return (isinstance(step.state, Locating) and was_asked) or _is_about_less(step, event)


def erased(draft: Draft, step: Step, event: Event) -> Step:
    """The party has erased."""
    confirmed = expect(event, Confirmed)
    return (
        _left(draft, step, confirmed)
        if _is_stale(draft, step, confirmed)
        else party_erased(draft, step, event)
    )


def absent(draft: Draft, step: Step, event: Event) -> Step:
    """A worker's absence, or a party's."""
    if expect(event, Confirmed).command_id is not None:
        return steps.absent(draft, step, event)
    return party_absent(draft, step, event)


def party_absent(draft: Draft, step: Step, event: Event) -> Step:
    """The party says that it holds nothing. A worker's own absence is a matter for `steps.absent`."""
    confirmed = expect(event, Confirmed)
    if confirmed.command_id is not None:
        return step
    if _is_stale(draft, step, confirmed):
        return _left(draft, step, confirmed)
    if step.knows_records:
        return party_erased(draft, step, event)
    return end(step, Ended(end="absent", at=draft.now), "party_stated")


def retained(draft: Draft, step: Step, event: Event) -> Step:
    """The party keeps the records on a legal basis, until a day."""
    confirmed = expect(event, Confirmed)
    if _is_stale(draft, step, confirmed):
        return _left(draft, step, confirmed)
    ended = Ended(
        end="retained",
        at=draft.now,
        legal_basis=confirmed.legal_basis,
        retained_until=confirmed.retained_until,
    )
    return end(step, ended, confirmed.grade or "party_stated")


def retained_late(draft: Draft, step: Step, event: Event) -> Step:
    """A party takes back its own word; what we have seen with our own eyes stays."""
    state = expect(step.state, Ended)
    is_its_word = state.end in ("erased", "absent") and state.grade == "party_stated"
    return retained(draft, step, event) if is_its_word else step
