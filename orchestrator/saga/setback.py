"""What becomes of a request whose latest event is later than now: the clock was set back.

Waits that were begun under the clock that was ahead would last for as long as it was ahead. Of those that lie
further away than their kind ever waits, what is ours to do is due now; whoever is to answer us has the whole
time again. Times of what was done are not known any more. They are put where they do no harm: an acceptance
counts from now, so that each look of the schedule is still to come. An erasure counts from before it was
sent, so that nothing newer is taken for old.
"""

from orchestrator.saga import escalations, receipt
from orchestrator.saga.clocks import SECOND
from orchestrator.saga.draft import Draft
from orchestrator.saga.model import (
    Accepted,
    AwaitingDecision,
    AwaitingParty,
    AwaitingSubject,
    Ended,
    Erasing,
    Finished,
    Locating,
    NoticePending,
    Proving,
    Retrying,
    Step,
    StepState,
    Waiting,
)
from orchestrator.saga.records import erased_by
from orchestrator.saga.replacing import replace
from orchestrator.saga.rules import LONGEST_RETRY_AFTER, MINUTE, Rules

#: By how much the time may go back without a word: two servers' clocks differ.
TOLERANCE = MINUTE


def put_right(draft: Draft) -> None:
    """Pull back what lies too far ahead, if the clock was set back since the latest event."""
    saga, now, waits = draft.saga, draft.now, draft.rules.waits
    if saga.as_of <= now + TOLERANCE:
        return
    draft.note("clock_set_back", seconds=(saga.as_of - now) // SECOND)
    asked = tuple(
        replace(one, remind_at=now) if one.remind_at > now + waits.decision_reminder else one
        for one in saga.escalations
    )
    draft.saga = replace(saga, escalations=asked)
    if isinstance(saga.state, Finished):
        return
    for step in saga.steps:
        draft.put(_step(draft, step))
    for notice in saga.notices:
        state = notice.state
        if isinstance(state, NoticePending) and state.until > now + waits.notice_alarm:
            draft.put_notice(replace(notice, state=replace(state, until=now + waits.notice_alarm)))
    if saga.received_at > now + TOLERANCE:
        receipt.doubt(draft, now)
    _take_back_alarms(draft)


def _take_back_alarms(draft: Draft) -> None:
    """An alarm that came too early goes; one that was acknowledged too early comes again in its time."""
    due = draft.saga.alarmed_by
    too_early = {
        "overdue": draft.now <= due,
        "deadline_near": draft.now < due - draft.rules.waits.deadline_warning,
    }
    for reason in escalations.ALARMS:
        if too_early[reason]:
            draft.resolve(reason, by="clock_set_back")
            draft.unsettle(reason)


def _step(draft: Draft, step: Step) -> Step:
    now, lifetime = draft.now, draft.rules.waits.command_lifetime
    if step.erased_at is not None and step.erased_at > now:
        # The records that it was about had been seen by then.
        known = (draft.saga.received_at, *step.created_by)
        step = erased_by(step, max((at for at in known if at <= now), default=now))
    step = replace(
        step,
        accepted_at=_not_after(step.accepted_at, now),
        asked_at=_not_after(step.asked_at, now),
        unasked_since=_not_after(step.unasked_since, now),
        created_by=tuple(min(at, now) for at in step.created_by),
        outstanding=tuple(
            replace(one, not_after=min(one.not_after, now + lifetime)) for one in step.outstanding
        ),
    )
    state = step.state
    if isinstance(state, Ended):
        return step
    longest = _longest(state, step, draft.rules)
    if state.until <= now + longest:
        return step
    is_ours = isinstance(state, Waiting | Retrying | Accepted | AwaitingDecision)
    return replace(step, state=replace(state, until=now if is_ours else now + longest))


def _not_after(at: int | None, now: int) -> int | None:
    return None if at is None else min(at, now)


def _longest(state: StepState, step: Step, rules: Rules) -> int:
    """Return how long a step waits in this state at most, in micros."""
    waits, plan = rules.waits, rules.systems.get(step.system)
    match state:
        case Locating() | Erasing() | Proving():
            return waits.silence_alarm
        case Retrying():
            return max(rules.retry.cap, LONGEST_RETRY_AFTER, waits.circuit_alarm)
        case Accepted():
            return max(rules.retry.cap, *(() if plan is None else (plan.patience, *plan.look_again)))
        case AwaitingParty():
            return waits.party_reminder
        case AwaitingSubject():
            return waits.subject_answer
        case AwaitingDecision():
            return waits.decision_reminder
        case Waiting() | Ended():
            return waits.review
