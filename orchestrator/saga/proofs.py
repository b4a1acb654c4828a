"""The rules of a step once something was erased: what the vendor accepted, and what a proof found.

Accepted is not erased, and an acceptance stands only until a proof finds the records still there: then
nothing is accepted any more. What an answer counts for is said in `about.py`.
"""

from orchestrator.saga import about, words
from orchestrator.saga.contradictions import answered_until, is_seen_gone
from orchestrator.saga.draft import Draft, expect
from orchestrator.saga.events import Confirmed, Event
from orchestrator.saga.model import Accepted, AwaitingDecision, Ended, Retrying, Step
from orchestrator.saga.records import erased_by, is_ambiguous, may_be_newer, sorted_in
from orchestrator.saga.refusals import tell_late
from orchestrator.saga.replacing import replace
from orchestrator.saga.steps import (
    answers,
    ask_again,
    ask_dpo,
    ask_whose,
    counted_anew,
    end,
    fresh,
    is_current,
    plan_of,
    verb_of,
)

#: The code of a question about records of which it became unclear whether they are newer than the erasure.
EARLIER_ERASURE = "earlier_erasure"

# --- answers to erase ---


def _await_proof(draft: Draft, step: Step, look_at: int | None) -> Step:
    """Waits for the next look: when the schedule says, or later if the vendor does, within our patience."""
    plan = plan_of(draft, step)
    since = step.accepted_at or draft.now
    schedule = plan.look_again or (0,)
    due = max(since + schedule[min(step.rounds, len(schedule) - 1)], min(look_at or 0, since + plan.patience))
    return draft.issue(step, "prove") if due <= draft.now else replace(step, state=Accepted(until=due))


def accepted(draft: Draft, step: Step, event: Event) -> Step:
    """The vendor said yes. That is not an end: the proof comes next, now or when it is due.

    A late yes settles a failure. It does not settle another question, nor answer a re-erasure that came
    after it, nor one that is about more.
    """
    confirmed = expect(event, Confirmed)
    state = step.state
    is_held = words.is_held(step)
    wanted = not isinstance(state, AwaitingDecision) or state.reason == "failed" or is_held
    if verb_of(step) != "erase" or not wanted or confirmed.attempt < step.erases_from:
        return step
    is_about_all = about.is_about_all(draft.saga, step, confirmed)
    if not is_about_all and not is_held:
        return ask_again(draft, step, confirmed, about.ABOUT_LESS)
    done = _marked_erased(draft, step, confirmed)
    if is_held:
        tell_late(draft, done, "times_contradict" if words.is_disputed(step) else None)
    return _await_proof(draft, done, confirmed.look_at) if is_about_all else step


def _marked_erased(draft: Draft, step: Step, event: Confirmed) -> Step:
    at = min(event.occurred_at, draft.now)
    step = erased_by(fresh(step), at, event.about)
    return replace(step, accepted_at=max(step.accepted_at or 0, at), carried=len(step.references), rounds=0)


def party_erased(draft: Draft, step: Step, event: Event) -> Step:
    """The party says it has erased. Where we can look ourselves, we do; else its word is the evidence.

    A vendor's own event may be about one record of several: it is a reason to look, and never an end.
    """
    confirmed = expect(event, Confirmed)
    step = _marked_erased(draft, step, confirmed)
    if confirmed.look_at is not None or step.knows_records or confirmed.grade == "vendor_stated":
        return _await_proof(draft, step, confirmed.look_at)
    return end(step, Ended(end="erased", at=draft.now), "party_stated")


# --- answers to prove ---


def proved(draft: Draft, step: Step, event: Event) -> Step:
    """A proof passed; the last one in the schedule ends the step.

    A vendor's own event may be about one record of several, so it is a reason to look, not an end. A look
    that it brought about before the next one was due takes none of the schedule's place.
    """
    confirmed = expect(event, Confirmed)
    if confirmed.command_id is None:
        return _look_now(draft, step)
    if not answers(step, event, "prove") or isinstance(step.state, Accepted):
        return step
    if confirmed.grade is None:
        return ask_dpo(draft, step, "failed", "prove", "no_evidence")
    short = about.shortfall(draft.saga, step, confirmed)
    if short is not None:
        return ask_again(draft, step, confirmed, short)
    if step.unsorted:
        # They were seen, and are not found any more: they may have other identifiers now.
        return draft.issue(sorted_in(fresh(step), draft.now), "prove")
    schedule = plan_of(draft, step).look_again
    is_early = step.rounds < len(schedule) and not draft.is_due(
        (step.accepted_at or 0) + schedule[step.rounds]
    )
    step = replace(fresh(step), rounds=step.rounds + (not is_early), grade=confirmed.grade)
    if step.rounds < len(schedule):
        # Where no acceptance stands, the schedule counts from the first look that found nothing.
        since = draft.now if step.accepted_at is None else step.accepted_at
        return _await_proof(draft, replace(step, accepted_at=since), None)
    ended = Ended(
        end=confirmed.end or "erased",
        at=draft.now,
        legal_basis=confirmed.legal_basis,
        retained_until=confirmed.retained_until,
    )
    return end(step, ended, confirmed.grade)


def _look_now(draft: Draft, step: Step) -> Step:
    match step.state:
        case Accepted() | AwaitingDecision(reason="proof_overdue"):
            return draft.issue(step, "prove")
        case _:
            return step


def pending(draft: Draft, step: Step, event: Event) -> Step:
    """The vendor has yet to purge: look again when it says, else ever less often, and not for ever."""
    if not answers(step, event, "prove"):
        return step
    confirmed = expect(event, Confirmed)
    since = step.accepted_at or draft.now
    last = since + plan_of(draft, step).patience
    if draft.is_due(last + 1):
        return ask_dpo(draft, step, "proof_overdue", "prove")
    retry = draft.rules.retry
    soonest = draft.now + min(retry.cap, max(retry.first, (draft.now - since) // 4))
    until = max(soonest, min(confirmed.look_at or 0, last + 1))
    return replace(fresh(step), state=Accepted(until=until))


def still_present(draft: Draft, step: Step, event: Event) -> Step:
    """The same records, or older ones, are still there: erase again, and after some tries ask.

    What a proof saw before the latest acceptance has been answered by it, but for records that no erasure
    has carried yet. After an end that has been proved, these are looked at first. So is what was seen by a
    proof that took a later time for that of the erasure. Where records that are known may be newer than the
    erasure, the DPO is asked.
    """
    confirmed = expect(event, Confirmed)
    state = step.state
    match state:
        case AwaitingDecision(reason=reason) if reason not in ("failed", "proof_overdue"):
            return counted_anew(draft, step, confirmed)
        case Ended():
            answered_at, wanted = answered_until(state), is_seen_gone(state)
        case _:
            answered_at, wanted = step.accepted_at or 0, verb_of(step) == "prove"
    if not wanted:
        return step
    if confirmed.attempt < step.proves_from:
        looks = is_current(step, event) or isinstance(state, Accepted | Ended)
        return draft.issue(fresh(step), "prove") if looks else step
    if not is_current(step, event) and confirmed.occurred_at <= answered_at:
        if len(step.references) <= step.carried:
            return step
        if isinstance(state, Ended) and step.erased_at is not None:
            return draft.issue(fresh(step), "prove")
    step = replace(step, accepted_at=None, erases_from=step.attempt + 1)
    if is_ambiguous(confirmed):
        return ask_whose(draft, step, confirmed)
    step = replace(fresh(step), reopened=step.reopened + 1, rounds=0, grade=None)
    hold = words.hold(step)
    if hold is not None:
        return ask_dpo(draft, step, hold, "erase")
    if may_be_newer(step):
        # The proof can't tell: to it, all that a command carries is known.
        return ask_dpo(draft, step, "reappeared", "prove", EARLIER_ERASURE)
    if step.reopened > draft.rules.waits.max_reopened:
        return ask_dpo(draft, step, "still_present", "erase")
    wait = draft.rules.retry.delay(step.reopened, draft.random, None)
    return replace(step, state=Retrying(verb="erase", until=draft.now + wait))


def reappeared(draft: Draft, step: Step, event: Event) -> Step:
    """A record newer than the erasure may be new consent: never erased by itself."""
    return ask_dpo(draft, step, "reappeared", "prove") if answers(step, event, "prove") else step


def reappeared_late(draft: Draft, step: Step, event: Event) -> Step:
    """Seen after the step's end, by a proof that ran twice, or for long."""
    state = expect(step.state, Ended)
    if not is_seen_gone(state) or expect(event, Confirmed).occurred_at <= answered_until(state):
        return step
    return ask_dpo(draft, step, "reappeared", "prove")
