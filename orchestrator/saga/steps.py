"""The rules of one step: what a confirmation, a timer or a decision does to it.

Each rule takes the draft, the step as it is and the event, and gives the step as it becomes. Which rule
applies in which status is the
table's business (`table.py`). The driver has already absorbed the facts of a confirmation (`absorb`), so that
a rule only
decides where to go next.

Two principles run through them:

* Facts count whoever brings them. Records found or erased were found or erased, even if an older attempt says
  so late.
* What an attempt does not say counts for nothing unless it is the current one. A failure, an absence or a
  proof of an older attempt
  never moves the step.
"""

from dataclasses import replace

from orchestrator.saga.draft import Draft, RuleBroken, expect
from orchestrator.saga.events import Confirmed, Decided, Event
from orchestrator.saga.model import (
    Accepted,
    AwaitingDecision,
    AwaitingParty,
    AwaitingSubject,
    Ended,
    Erasing,
    Grade,
    Locating,
    Proving,
    Retrying,
    Step,
    Verb,
    Waiting,
)
from orchestrator.saga.rules import SystemPlan

_IN_FLIGHT: dict[str, Verb] = {"locating": "locate", "erasing": "erase", "proving": "prove"}


def plan_of(draft: Draft, step: Step) -> SystemPlan:
    """The step's configuration; a system taken out of it since keeps the defaults, so its steps can end."""
    return draft.rules.systems.get(step.system) or SystemPlan(name=step.system, kind=step.kind)


def absorb(draft: Draft, step: Step, event: Confirmed) -> Step:
    """Takes in what a confirmation states as fact, and clears the attempt that it answers."""
    outstanding = tuple(one for one in step.outstanding if one.command_id != event.command_id)
    references = step.references if event.references is None else (*step.references, event.references)
    prefix = event.verb or "answer"
    facts = {f"{prefix}.{name}": value for name, value in sorted(event.evidence.items())}
    draft.resolve("no_answer", system=step.system)
    return replace(
        step,
        outstanding=outstanding,
        references=references,
        found=max(step.found, event.found),
        erased=max(step.erased, event.erased),
        evidence={**step.evidence, **facts},
    )


def is_current(step: Step, event: Event) -> bool:
    """Whether a confirmation answers the step's latest command."""
    return isinstance(event, Confirmed) and event.command_id is not None and event.attempt == step.attempt


def _end(
    step: Step, event: Confirmed, end: Ended, *, grade: Grade | None = None, erased_at: int | None = None
) -> Step:
    graded = grade or event.grade
    return replace(
        step,
        state=replace(end, grade=graded),
        grade=graded,
        erased_at=erased_at or step.erased_at,
        failures=0,
    )


def _ask_dpo(draft: Draft, step: Step, reason: str, resume: Verb, code: str | None = None) -> Step:
    draft.escalate(reason, step.system, code)
    until = draft.now + draft.rules.waits.decision_reminder
    return replace(step, state=AwaitingDecision(resume=resume, reason=reason, until=until))


def _await_proof(draft: Draft, step: Step, due: int) -> Step:
    if due <= draft.now:
        return draft.issue(step, "prove")
    return replace(step, state=Accepted(until=due))


def _proof_due(draft: Draft, step: Step, at_the_earliest: int | None) -> int:
    schedule = plan_of(draft, step).look_again or (0,)
    offset = schedule[min(step.rounds, len(schedule) - 1)]
    return max((step.erased_at or draft.now) + offset, at_the_earliest or 0)


# --- beginning
# -----------------------------------------------------------------------------------------------------


def start(draft: Draft, step: Step, event: Event) -> Step:
    """Sends the first locate; a system that holds nothing identifiable ends here, on the record."""
    draft.resolve("predecessor_failed", system=step.system)
    plan = plan_of(draft, step)
    if plan.holds_nothing is not None:
        end = Ended(end="not_identifiable", at=draft.now, reason=plan.holds_nothing)
        return replace(step, state=end)
    return draft.issue(step, "locate")


def look_anew(draft: Draft, step: Step, event: Event) -> Step:
    """Starts over with locate: identifiers were added, or the DPO wants a reappeared record erased."""
    draft.resolve("reappeared", "identifier_missing", "failed", "no_answer", system=step.system)
    fresh = replace(step, erased_at=None, rounds=0, reopened=0, failures=0, grade=None)
    return draft.issue(fresh, "locate")


# --- answers to locate
# ---------------------------------------------------------------------------------------------


def located(draft: Draft, step: Step, event: Event) -> Step:
    """Records were found: erase them. Every batch of references ever found goes along."""
    draft.resolve("failed", "identifier_missing", system=step.system)
    return draft.issue(replace(step, failures=0), "erase")


def located_late(draft: Draft, step: Step, event: Event) -> Step:
    """An end that says nothing was there is overturned by records found; any other end stays."""
    state = expect(step.state, Ended)
    if state.end in ("absent", "not_identifiable"):
        return draft.issue(replace(step, failures=0, grade=None), "erase")
    return step


def absent(draft: Draft, step: Step, event: Event) -> Step:
    """Nothing held, shown with the control in place."""
    if not is_current(step, event):
        return step
    confirmed = expect(event, Confirmed)
    return _end(step, confirmed, Ended(end="absent", at=draft.now))


def cannot_look(draft: Draft, step: Step, event: Event) -> Step:
    """Only the party itself can look: ask it."""
    if not is_current(step, event):
        return step
    return draft.issue(replace(step, failures=0), "erase")


def not_identifiable(draft: Draft, step: Step, event: Event) -> Step:
    """Art. 11: we can't tell the person apart there; where the person can help, they are asked first."""
    if not is_current(step, event):
        return step
    confirmed = expect(event, Confirmed)
    if plan_of(draft, step).asks_subject:
        draft.escalate("identifier_missing", step.system)
        until = draft.now + draft.rules.waits.subject_answer
        return replace(step, state=AwaitingSubject(missing=confirmed.missing, until=until))
    return replace(step, state=Ended(end="not_identifiable", at=draft.now, missing=confirmed.missing))


# --- answers to erase
# ----------------------------------------------------------------------------------------------


def accepted(draft: Draft, step: Step, event: Event) -> Step:
    """The vendor said yes. That is not an end: the proof comes next, now or when it is due."""
    confirmed = expect(event, Confirmed)
    draft.resolve("failed", system=step.system)
    step = replace(step, erased_at=step.erased_at or confirmed.occurred_at, failures=0)
    return _await_proof(draft, step, _proof_due(draft, step, confirmed.look_at))


def accepted_while_asking(draft: Draft, step: Step, event: Event) -> Step:
    """A late success settles a failure, but no other question."""
    state = expect(step.state, AwaitingDecision)
    if state.reason == "failed" and state.resume == "erase":
        return accepted(draft, step, event)
    return step


def stays(draft: Draft, step: Step, event: Event) -> Step:
    """The facts are absorbed; the step stays where it is."""
    return step


# --- a party that must answer
# --------------------------------------------------------------------------------------


def asked_party(draft: Draft, step: Step, event: Event) -> Step:
    """The agency or controller has been asked; the handler says when to remind."""
    if not is_current(step, event):
        return step
    confirmed = expect(event, Confirmed)
    until = confirmed.look_at or draft.now + draft.rules.waits.party_reminder
    verb = confirmed.verb or "erase"
    asked_at = step.asked_at or confirmed.occurred_at
    return replace(step, state=AwaitingParty(verb=verb, until=until), asked_at=asked_at, failures=0)


def instructed(draft: Draft, step: Step, event: Event) -> Step:
    """The controller says erase: from here on its data may be touched. The same instruction twice is one."""
    if step.instruction == "erase":
        return step
    draft.resolve("party_silent", "failed", system=step.system)
    return draft.issue(replace(step, instruction="erase", failures=0, reminders=0), "locate")


def instructed_early(draft: Draft, step: Step, event: Event) -> Step:
    """Remembered until the step starts."""
    return replace(step, instruction="erase")


def instructed_after_refusal(draft: Draft, step: Step, event: Event) -> Step:
    """A controller may change its mind from refuse to erase until the request is completed."""
    state = expect(step.state, Ended)
    return instructed(draft, step, event) if state.end == "refused" else step


def refused(draft: Draft, step: Step, event: Event) -> Step:
    """A controller's refusal ends the step, unless its data is already being erased; an agency's goes to the
    DPO.
    """
    confirmed = expect(event, Confirmed)
    if not plan_of(draft, step).refusal_ends:
        return _ask_dpo(draft, step, "party_refused", "erase", confirmed.code)
    if step.instruction == "erase":
        draft.escalate("instruction_conflict", step.system, confirmed.code)
        return step
    draft.resolve("party_silent", "failed", system=step.system)
    end = Ended(end="refused", at=draft.now, reason=confirmed.code)
    return _end(step, confirmed, end, grade="party_stated")


def refused_late(draft: Draft, step: Step, event: Event) -> Step:
    """Refuse after erase: what is done can't be undone, so the DPO hears of it."""
    if plan_of(draft, step).refusal_ends and step.instruction == "erase":
        draft.escalate("instruction_conflict", step.system, expect(event, Confirmed).code)
    return step


def party_erased(draft: Draft, step: Step, event: Event) -> Step:
    """The party says it has erased. Where we can look ourselves (`look_at`), we do; else its word is the
    evidence.
    """
    confirmed = expect(event, Confirmed)
    draft.resolve("party_silent", "party_refused", "failed", system=step.system)
    step = replace(step, erased_at=confirmed.occurred_at, failures=0)
    if confirmed.look_at is not None:
        return _await_proof(draft, step, _proof_due(draft, step, confirmed.look_at))
    return _end(step, confirmed, Ended(end="erased", at=draft.now), grade="party_stated")


def party_absent(draft: Draft, step: Step, event: Event) -> Step:
    """The party says that it holds nothing. A worker's own absence is a matter for `absent`."""
    confirmed = expect(event, Confirmed)
    if confirmed.command_id is not None:
        return step
    draft.resolve("party_silent", "party_refused", "failed", system=step.system)
    return _end(step, confirmed, Ended(end="absent", at=draft.now), grade="party_stated")


def retained(draft: Draft, step: Step, event: Event) -> Step:
    """The party keeps the records on a legal basis, until a day."""
    confirmed = expect(event, Confirmed)
    draft.resolve("party_silent", "party_refused", "failed", system=step.system)
    end = Ended(
        end="retained",
        at=draft.now,
        legal_basis=confirmed.legal_basis,
        retained_until=confirmed.retained_until,
    )
    return _end(step, confirmed, end, grade=confirmed.grade or "party_stated")


# --- answers to prove
# ----------------------------------------------------------------------------------------------


def proved(draft: Draft, step: Step, event: Event) -> Step:
    """A proof passed; the last one in the schedule ends the step."""
    if not is_current(step, event):
        return step
    confirmed = expect(event, Confirmed)
    step = replace(step, rounds=step.rounds + 1, failures=0, grade=confirmed.grade)
    if step.rounds < len(plan_of(draft, step).look_again):
        return replace(step, state=Accepted(until=max(_proof_due(draft, step, None), draft.now)))
    end = Ended(
        end=confirmed.end or "erased",
        at=draft.now,
        legal_basis=confirmed.legal_basis,
        retained_until=confirmed.retained_until,
    )
    return _end(step, confirmed, end)


def prove_now(draft: Draft, step: Step, event: Event) -> Step:
    """A vendor's event says it has purged a record. It may be one of several, so it is a reason to look, not
    an end.
    """
    return draft.issue(step, "prove") if expect(event, Confirmed).command_id is None else step


def pending(draft: Draft, step: Step, event: Event) -> Step:
    """The vendor has yet to purge; look again when it says, but not for ever."""
    if not is_current(step, event):
        return step
    confirmed = expect(event, Confirmed)
    if draft.now > (step.erased_at or draft.now) + plan_of(draft, step).patience:
        return _ask_dpo(draft, step, "proof_overdue", "prove")
    soonest = draft.now + draft.rules.retry.first
    return replace(step, state=Accepted(until=max(confirmed.look_at or 0, soonest)), failures=0)


def still_present(draft: Draft, step: Step, event: Event) -> Step:
    """The same records, or older ones, are still there: erase again, and after some tries ask."""
    confirmed = expect(event, Confirmed)
    if not is_current(step, event) and confirmed.occurred_at <= (step.erased_at or 0):
        return step
    step = replace(step, reopened=step.reopened + 1, rounds=0, failures=0, grade=None)
    if step.reopened > draft.rules.waits.max_reopened:
        return _ask_dpo(draft, step, "still_present", "erase")
    wait = draft.rules.retry.delay(step.reopened, draft.random, None)
    return replace(step, state=Retrying(verb="erase", until=draft.now + wait))


def still_present_late(draft: Draft, step: Step, event: Event) -> Step:
    """Seen after the end: the end was wrong. Seen before it: the end already answered it."""
    state = expect(step.state, Ended)
    if expect(event, Confirmed).occurred_at <= state.at or state.end not in (
        "erased",
        "absent",
        "anonymised",
    ):
        return step
    return draft.issue(replace(step, rounds=0, reopened=step.reopened + 1, grade=None), "erase")


def reappeared(draft: Draft, step: Step, event: Event) -> Step:
    """A record newer than the erasure may be new consent: never erased by itself."""
    if not is_current(step, event):
        return step
    return _ask_dpo(draft, step, "reappeared", "prove")


# --- failures
# ------------------------------------------------------------------------------------------------------


def failed(draft: Draft, step: Step, event: Event) -> Step:
    """The current attempt failed: again later, or a question to the DPO. An older attempt's failure says
    nothing.
    """
    if not is_current(step, event):
        return step
    confirmed = expect(event, Confirmed)
    verb = confirmed.verb or "locate"
    failures = step.failures + 1
    step = replace(step, failures=failures)
    retry = draft.rules.retry
    if not confirmed.retryable or retry.is_spent(failures):
        return _ask_dpo(draft, step, "failed", verb, confirmed.code)
    until = draft.now + retry.delay(failures, draft.random, confirmed.retry_after)
    if isinstance(step.state, AwaitingParty):
        # The reminder did not go out, so it does not count as one.
        state = replace(step.state, until=until)
        return replace(step, state=state, reminders=max(0, step.reminders - 1))
    return replace(step, state=Retrying(verb=verb, until=until))


def expired(draft: Draft, step: Step, event: Event) -> Step:
    """The command lay too long and nothing was done: send it anew. Silence is no attempt, so no failure is
    counted.
    """
    if not is_current(step, event):
        return step
    verb = expect(event, Confirmed).verb or "locate"
    until = draft.now + draft.rules.retry.first
    if isinstance(step.state, AwaitingParty):
        return replace(step, state=replace(step.state, until=until), reminders=max(0, step.reminders - 1))
    return replace(step, state=Retrying(verb=verb, until=until))


# --- timers
# --------------------------------------------------------------------------------------------------------


def rearm(draft: Draft, step: Step, event: Event) -> Step:
    """Waits on: what it waits for is looked at again after every event."""
    expect(step.state, Waiting)
    return replace(step, state=Waiting(until=draft.now + draft.rules.waits.review))


def alarm_silence(draft: Draft, step: Step, event: Event) -> Step:
    """No answer for long: the command still stands, and the DPO is told once."""
    state = step.state
    if not isinstance(state, Locating | Erasing | Proving):
        raise RuleBroken(f"no command is out in {state.status}")
    draft.escalate("no_answer", step.system, _IN_FLIGHT[state.status])
    return replace(step, state=replace(state, until=draft.now + draft.rules.waits.silence_alarm))


def try_again(draft: Draft, step: Step, event: Event) -> Step:
    """The back-off is over."""
    state = expect(step.state, Retrying)
    return draft.issue(step, state.verb)


def prove(draft: Draft, step: Step, event: Event) -> Step:
    """The proof is due."""
    return draft.issue(step, "prove")


def remind_party(draft: Draft, step: Step, event: Event) -> Step:
    """Reminds, so many times; then the DPO takes it from there."""
    state = expect(step.state, AwaitingParty)
    waits = draft.rules.waits
    if step.reminders >= waits.max_reminders:
        return _ask_dpo(draft, step, "party_silent", state.verb)
    step = draft.command(step, state.verb, reminder=True)
    later = replace(state, until=draft.now + waits.party_reminder)
    return replace(step, state=later, reminders=step.reminders + 1)


def give_up_on_subject(draft: Draft, step: Step, event: Event) -> Step:
    """The person did not supply what was missing."""
    state = expect(step.state, AwaitingSubject)
    draft.resolve("identifier_missing", system=step.system)
    end = Ended(end="not_identifiable", at=draft.now, missing=state.missing)
    return replace(step, state=end)


def wait_for_dpo(draft: Draft, step: Step, event: Event) -> Step:
    """The escalation reminds by itself; a question that went missing is asked again."""
    state = expect(step.state, AwaitingDecision)
    if not any(one.system == step.system for one in draft.saga.escalations):
        draft.escalate(state.reason, step.system)
    until = draft.now + draft.rules.waits.decision_reminder
    return replace(step, state=replace(state, until=until))


# --- the DPO's decisions
# -------------------------------------------------------------------------------------------


def retry(draft: Draft, step: Step, event: Event) -> Step:
    """Once more, with fresh counters."""
    step = replace(step, failures=0, reopened=0, reminders=0)
    state = step.state
    if isinstance(state, AwaitingDecision):
        plan = draft.rules.systems.get(step.system)
        if state.reason == "unknown_system" and plan is not None:
            return start(draft, replace(step, kind=plan.kind, after=plan.after), event)
        return draft.issue(step, state.resume)
    if state.status in _IN_FLIGHT:
        return draft.issue(step, _IN_FLIGHT[state.status])
    return start(draft, step, event)


def waive(draft: Draft, step: Step, event: Event) -> Step:
    """The DPO lets the step go, with a reason that stays on the record."""
    decided = expect(event, Decided)
    for one in draft.saga.escalations:
        if one.system == step.system:
            draft.close(one, by=decided.decided_by)
    return replace(step, state=Ended(end="waived", at=draft.now, reason=decided.reason))


def stop(draft: Draft, step: Step, event: Event) -> Step:
    """The request was rejected or cancelled before this step ended."""
    return replace(step, state=Ended(end="stopped", at=draft.now))
