"""The rules of a step where a party must answer: an agency, or the controller whose data it is.

Its answers come by callback, on their own, early or late. A controller's word is law for its data (Art.
28): the same word twice is one; an older word never overrides a newer one; refuse after erase goes to the
DPO, and nothing more is erased meanwhile; erase after refuse reopens the step until the request is
completed.

A party answers what it was asked. When the step has been begun anew since, with more identifiers, that was
about less: such an answer is noted, and neither ends the step nor instructs us. A reminder, or a retry,
asks the same again and makes no older link void.
"""

from orchestrator.saga import about, steps
from orchestrator.saga.draft import Draft, expect
from orchestrator.saga.events import Confirmed, Event
from orchestrator.saga.model import (
    AwaitingDecision,
    AwaitingParty,
    AwaitingVerification,
    Ended,
    Locating,
    Step,
    Waiting,
)
from orchestrator.saga.proofs import party_erased
from orchestrator.saga.replacing import replace
from orchestrator.saga.steps import answers, ask_dpo, end, fresh, plan_of, verb_of


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


# --- a controller's instruction ---


def _is_older_word(step: Step, event: Confirmed) -> bool:
    return event.occurred_at < (step.answered_at or 0)


def instructed(draft: Draft, step: Step, event: Event) -> Step:
    """The controller says erase: from here on its data may be touched."""
    confirmed = expect(event, Confirmed)
    state = step.state
    if _is_older_word(step, confirmed) or not plan_of(draft, step).refusal_ends:
        return step
    if _is_about_less(step, confirmed):
        return _left(draft, step, confirmed)
    is_conflict = isinstance(state, AwaitingDecision) and state.reason == "instruction_conflict"
    if step.instruction == "erase" and not is_conflict:
        return replace(step, answered_at=confirmed.occurred_at)
    step = replace(fresh(step), instruction="erase", answered_at=confirmed.occurred_at, reminders=0)
    if isinstance(draft.saga.state, AwaitingVerification) and (is_conflict or isinstance(state, Ended)):
        return replace(step, state=Waiting(until=draft.now + draft.rules.waits.review))
    if is_conflict:
        return draft.issue(step, verb_of(step))
    if isinstance(state, AwaitingDecision) and state.reason not in ("party_silent", "failed"):
        return step
    return draft.issue(step, "locate")


def instructed_early(draft: Draft, step: Step, event: Event) -> Step:
    """Remembered until the step starts."""
    confirmed = expect(event, Confirmed)
    if _is_older_word(step, confirmed):
        return step
    if _is_about_less(step, confirmed):
        return _left(draft, step, confirmed)
    return replace(step, instruction="erase", answered_at=confirmed.occurred_at)


def instructed_after_refusal(draft: Draft, step: Step, event: Event) -> Step:
    """A controller may change its mind from refuse to erase until the request is completed."""
    return instructed(draft, step, event) if expect(step.state, Ended).end == "refused" else step


def refused(draft: Draft, step: Step, event: Event) -> Step:
    """A controller's refusal ends the step, unless it said erase before; another party's goes to the DPO.

    A refusal about less ends nothing. Where it asks the DPO it does so all the same, to be on the safe side.
    """
    confirmed = expect(event, Confirmed)
    if _is_older_word(step, confirmed):
        return step
    ends = plan_of(draft, step).refusal_ends and step.instruction is None and verb_of(step) != "prove"
    if ends and _is_about_less(step, confirmed):
        return _left(draft, step, confirmed)
    step = replace(step, answered_at=confirmed.occurred_at)
    if verb_of(step) == "prove":
        draft.escalate("refused_late", step.system, confirmed.code)
        return step
    if not plan_of(draft, step).refusal_ends:
        return ask_dpo(draft, step, "party_refused", verb_of(step), confirmed.code)
    if step.instruction == "erase":
        return ask_dpo(draft, step, "instruction_conflict", verb_of(step), confirmed.code)
    return end(step, Ended(end="refused", at=draft.now, reason=confirmed.code), "party_stated")


def refused_early(draft: Draft, step: Step, event: Event) -> Step:
    """Before its system was touched only a controller can refuse; an agency has not been asked."""
    return refused(draft, step, event) if plan_of(draft, step).refusal_ends else step


def refused_after_end(draft: Draft, step: Step, event: Event) -> Step:
    """What is done can't be undone, so the DPO hears of it."""
    confirmed = expect(event, Confirmed)
    if expect(step.state, Ended).end in ("erased", "absent", "anonymised") and not _is_older_word(
        step, confirmed
    ):
        draft.escalate("refused_late", step.system, confirmed.code)
    return step


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
    if step.references:
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
