"""The pure function: `decide(saga, event, now, rules) -> Decision`.

No I/O, no clock, no randomness: the shell brings the time, the events their ids and random numbers. It
accepts events late, twice
and in any order. What it may do is written in `table.py` (steps, requests) and `escalations.py` (decisions);
this module
only finds the right rule for an event and freezes the result.
"""

from dataclasses import dataclass, replace

from orchestrator.saga import request, steps, table
from orchestrator.saga.clocks import due_at
from orchestrator.saga.decisions import apply_decision
from orchestrator.saga.draft import Draft, Message, expect
from orchestrator.saga.events import Confirmed, Decided, Event, RequestReceived, RequestUnreadable, TimerFired
from orchestrator.saga.model import (
    AwaitingDecision,
    AwaitingVerification,
    Closing,
    Ended,
    Finished,
    InProgress,
    NoticePending,
    Saga,
    Step,
    Waiting,
)
from orchestrator.saga.rules import MINUTE, Rules
from orchestrator.saga.timeline import Entry

#: A sender's clock may run this far ahead before its time of receipt is questioned.
CLOCK_TOLERANCE = 5 * MINUTE


class UnknownRequest(Exception):
    """An event arrived for a request that nobody has opened."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from an event, to be committed together or not at all.

    `destroys_key`: shred the request's key. `parks_event`: the event could not be applied and must be kept
    elsewhere (dead-lettered
    under this code), because it must not be lost.
    """

    saga: Saga
    messages: tuple[Message, ...]
    entries: tuple[Entry, ...]
    destroys_key: bool = False
    parks_event: str | None = None


def decide(saga: Saga | None, event: Event, now: int, rules: Rules) -> Decision:
    """Applies one event to the saga of its request.

    Args:
        saga: the request's state, or None before its first event.
        event: what happened.
        now: the current time in microseconds, UTC.
        rules: the installation's configuration.

    Raises:
        UnknownRequest: `saga` is None and the event does not open one.
        orchestrator.saga.table.RuleBroken: a rule contradicts its table.
    """
    if saga is None:
        draft = _opened(event, now, rules)
    else:
        draft = Draft(replace(saga, version=saga.version + 1), now, rules, event.event_id, event.random)
        _apply(draft, event)
    if not draft.saga.quarantined:
        request.advance(draft, event)
    return _frozen(draft)


def quarantine(saga: Saga | None, event: Event, now: int, rules: Rules) -> Decision:
    """Sets a request aside whose rule raised: it stands still, the DPO is asked, the event is parked."""
    if saga is None:
        received_at = getattr(event, "received_at", now)
        opening = RequestUnreadable(
            event_id=event.event_id, request_id=event.request_id, received_at=received_at, code="rule_failed"
        )
        return replace(decide(None, opening, now, rules), parks_event="rule_failed")
    draft = Draft(
        replace(saga, version=saga.version + 1, quarantined=True), now, rules, event.event_id, event.random
    )
    draft.note("quarantined")
    draft.escalate("quarantined")
    draft.parks_event = "rule_failed"
    return _frozen(draft)


def _frozen(draft: Draft) -> Decision:
    return Decision(
        saga=draft.saga,
        messages=tuple(draft.messages),
        entries=tuple(draft.entries),
        destroys_key=draft.destroys_key,
        parks_event=draft.parks_event,
    )


# --- opening
# -------------------------------------------------------------------------------------------------------


def _opened(event: Event, now: int, rules: Rules) -> Draft:
    if isinstance(event, RequestUnreadable):
        return _opened_unreadable(event, now, rules)
    if not isinstance(event, RequestReceived):
        raise UnknownRequest(event.request_id)
    # Counting from a time that has not come would put the deadline too late: the earlier one is the safe one.
    received_at = min(event.received_at, now)
    saga = Saga(
        request_id=event.request_id,
        version=1,
        state=AwaitingVerification(until=now + rules.waits.review),
        received_at=received_at,
        due_at=due_at(received_at, rules.calendar),
        source=event.source,
        capacity=event.capacity,
        tenant=event.tenant,
        language=event.language,
        content_digest=event.content_digest,
        subject_digest=event.subject_digest,
        identifiers=event.identifiers,
        identifier_kinds=event.identifier_kinds,
    )
    draft = Draft(saga, now, rules, event.event_id, event.random)
    draft.note("received", source=event.source, capacity=event.capacity, due_at=saga.due_at)
    names = rules.scope_of(event.scope, event.capacity, event.tenant)
    unknown = [name for name in names if name not in rules.systems]
    draft.saga = replace(draft.saga, steps=tuple(_new_step(name, names, now, rules) for name in names))
    for name in unknown:
        draft.escalate("unknown_system", name)
    if not event.verified:
        draft.escalate("identity_unverified")
    if not event.identifier_kinds:
        draft.escalate("no_usable_identifier")
    if not names:
        draft.escalate("empty_scope")
    if event.received_at > now + CLOCK_TOLERANCE:
        draft.escalate("received_in_future")
    return draft


def _opened_unreadable(event: RequestUnreadable, now: int, rules: Rules) -> Draft:
    received_at = min(event.received_at, now)
    saga = Saga(
        request_id=event.request_id,
        version=1,
        state=AwaitingVerification(until=now + rules.waits.review),
        received_at=received_at,
        due_at=due_at(received_at, rules.calendar),
        source="unreadable",
    )
    draft = Draft(saga, now, rules, event.event_id, event.random)
    draft.note("received", source="unreadable", code=event.code, due_at=saga.due_at)
    draft.escalate("unreadable_request", code=event.code)
    return draft


def _new_step(name: str, names: tuple[str, ...], now: int, rules: Rules) -> Step:
    plan = rules.systems.get(name)
    if plan is None:
        until = now + rules.waits.decision_reminder
        state = AwaitingDecision(resume="locate", reason="unknown_system", until=until)
        return Step(system=name, kind="unknown", state=state)
    return Step(
        system=name,
        kind=plan.kind,
        state=Waiting(until=now + rules.waits.review),
        after=tuple(other for other in plan.after if other in names),
    )


# --- applying
# ------------------------------------------------------------------------------------------------------


def _apply(draft: Draft, event: Event) -> None:
    if draft.saga.quarantined and isinstance(event, RequestReceived | Confirmed):
        draft.note("parked")
        draft.parks_event = "quarantined"
        return
    match event:
        case RequestReceived():
            _apply_repeat(draft, event)
        case RequestUnreadable():
            draft.note("duplicate")
        case Confirmed(system=None):
            _apply_notice(draft, event)
        case Confirmed():
            _apply_confirmation(draft, event)
        case Decided():
            apply_decision(draft, event)
        case TimerFired():
            _apply_timers(draft, event)
        case _:
            raise TypeError(f"no rule for {type(event).__name__}")


def _apply_repeat(draft: Draft, event: RequestReceived) -> None:
    """The same request again is one request; more identifiers supplement it; anything else is for the DPO."""
    saga = draft.saga
    if event.content_digest == saga.content_digest:
        draft.note("duplicate")
        return
    if not event.supplements or not isinstance(saga.state, AwaitingVerification | InProgress):
        draft.note("conflicting_request")
        draft.parks_event = "request_id_conflict"
        if saga.is_finished:
            draft.say("corrected", code="request_id_conflict")
        else:
            draft.escalate("request_id_conflict", code=event.content_digest[:12])
        return
    draft.saga = replace(
        saga,
        identifiers=event.identifiers,
        identifier_kinds=event.identifier_kinds,
        content_digest=event.content_digest,
        subject_digest=event.subject_digest,
    )
    draft.note("supplemented")
    draft.resolve("no_usable_identifier", "nothing_identifiable")
    for step in draft.saga.steps:
        if not (isinstance(step.state, AwaitingDecision) and step.state.reason == "unknown_system"):
            draft.put(table.apply(draft, step, "supplement", event))


def _apply_notice(draft: Draft, event: Confirmed) -> None:
    """The mailbox's word on a notice to the subject."""
    for notice in draft.saga.notices:
        state = notice.state
        if not isinstance(state, NoticePending) or state.command_id != event.command_id:
            continue
        if event.kind == "notice_sent":
            request.notice_given(draft, notice, event.occurred_at, "mailed")
        else:
            draft.resolve("notice_silent")
            draft.escalate("notice_failed", code=event.code)
        return
    draft.note("ignored", trigger=event.kind)


#: A later fact that speaks against a reported end.
_CONTRADICTIONS: dict[str, frozenset[str]] = {
    "absent": frozenset({"located", "still_present", "reappeared", "retained", "refused"}),
    "erased": frozenset({"still_present", "reappeared", "retained", "refused"}),
    "anonymised": frozenset({"still_present", "reappeared"}),
    "not_identifiable": frozenset({"located", "accepted", "still_present"}),
    "waived": frozenset({"accepted", "party_erased"}),
    "refused": frozenset({"accepted", "party_erased"}),
    "stopped": frozenset({"accepted", "party_erased"}),
}


def _apply_confirmation(draft: Draft, event: Confirmed) -> None:
    step = draft.saga.step(expect(event.system, str))
    if step is None:
        draft.note("unasked", system=event.system, trigger=event.kind)
        draft.parks_event = "system_not_asked"
        if draft.saga.is_finished:
            draft.say("corrected", code="unasked_confirmation")
        else:
            draft.escalate("unasked_confirmation", event.system, event.kind)
        return
    before = step
    step = steps.absorb(draft, step, event)
    draft.put(step)
    draft.note(
        "confirmed",
        system=event.system,
        trigger=event.kind,
        verb=event.verb,
        attempt=event.attempt,
        found=event.found,
        erased=event.erased,
        code=event.code,
        command=event.command_id,
    )
    contradicts = _contradicts(before, event)
    match draft.saga.state:
        case Finished():
            if contradicts and isinstance(step.state, Ended):
                draft.put(replace(step, state=replace(step.state, contradicted=event.kind)))
                draft.note("contradicted", system=event.system, trigger=event.kind)
                draft.say("corrected", code=event.kind)
        case Closing(final="completed"):
            after = table.apply(draft, step, event.kind, event) if contradicts else step
            if not after.is_ended:
                request.reopen(draft)
            draft.put(after)
        case InProgress():
            draft.put(table.apply(draft, step, event.kind, event))
        case _:
            pass


def _contradicts(step: Step, event: Confirmed) -> bool:
    state = step.state
    return (
        isinstance(state, Ended)
        and event.kind in _CONTRADICTIONS.get(state.end, ())
        and (event.occurred_at > state.at or event.kind in ("located", "accepted", "party_erased"))
    )


def _apply_timers(draft: Draft, event: TimerFired) -> None:
    """Every wait that is due, and no other: a timer that fires twice or early finds nothing to do."""
    if draft.saga.is_finished:
        return
    request.remind(draft)
    if draft.saga.quarantined:
        _hold(draft)
        return
    for step in draft.saga.steps:
        state = step.state
        if isinstance(state, Ended) or state.until > draft.now or isinstance(draft.saga.state, Closing):
            continue
        draft.put(table.apply(draft, step, "timer", event))


def _hold(draft: Draft) -> None:
    """A quarantined request keeps its reminders but nothing else: its own waits move out of the way."""
    until = draft.now + draft.rules.waits.decision_reminder
    for step in draft.saga.steps:
        if not isinstance(step.state, Ended):
            draft.put(replace(step, state=replace(step.state, until=max(step.state.until, until))))
    state = draft.saga.state
    if not isinstance(state, Finished):
        draft.saga = replace(draft.saga, state=replace(state, until=max(state.until, until)))
