"""The pure function: `decide(saga, event, now, rules) -> Decision`.

No I/O, no clock, no randomness: the shell brings the time, the events their ids and random numbers. It
accepts events late, twice and in any order. What it may do is written in `table.py` (steps, requests) and
`escalations.py` (decisions); this module only finds the right rule for an event and freezes the result.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.saga import escalations, hearing, receipt, request, setback, steps, table, words
from orchestrator.saga.ahead import Doubt
from orchestrator.saga.clocks import due_at
from orchestrator.saga.contradictions import contradicts
from orchestrator.saga.decisions import apply_decision
from orchestrator.saga.draft import Draft, Message, SendOutcome, expect
from orchestrator.saga.events import (
    CommandsUnsent,
    Confirmed,
    Decided,
    Event,
    KeyLost,
    RequestReceived,
    RequestUnreadable,
    SystemsMissing,
    TimerFired,
)
from orchestrator.saga.model import (
    Action,
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
from orchestrator.saga.replacing import replace
from orchestrator.saga.rules import MINUTE, Rules, is_place
from orchestrator.saga.timeline import Entry

#: A sender's clock may run this far ahead before its time of receipt is questioned.
CLOCK_TOLERANCE = 5 * MINUTE


class UnknownRequest(Exception):
    """An event arrived for a request that nobody has opened."""


@dataclass(frozen=True)
class Decision:
    """What follows from an event, to be committed together or not at all.

    `destroys_key`: shred the request's key. `parks_event`: the event could not be applied and must be kept
    elsewhere (dead-lettered under this code), because it must not be lost. `offers` are the decisions that
    would be applied now, by open question, where something is said to the outside.
    """

    saga: Saga
    messages: tuple[Message, ...]
    entries: tuple[Entry, ...]
    destroys_key: bool = False
    parks_event: str | None = None
    offers: Mapping[str, tuple[Action, ...]] = field(default_factory=dict)


def decide(
    saga: Saga | None, event: Event, now: int, rules: Rules, *, doubt: Doubt | None = None
) -> Decision:
    """Applies one event to the saga of its request.

    Args:
        saga: the request's state, or None before its first event.
        event: what happened.
        now: the current time in microseconds, UTC.
        rules: the installation's configuration.
        doubt: by how much the clock is ahead, while it is not believed.

    Raises:
        UnknownRequest: `saga` is None and the event does not open one.
        orchestrator.saga.table.RuleBroken: a rule contradicts its table.
    """
    if saga is None:
        draft = _opened(event, now, rules)
    else:
        draft = Draft(
            replace(saga, version=saga.version + 1), now, rules, event.event_id, event.random, doubt
        )
        setback.put_right(draft)
        _apply(draft, event)
    if draft.saga.quarantined:
        request.stand_still(draft, event)
    else:
        request.advance(draft, event)
    if saga is not None and doubt is not None and doubt.is_resting(saga, now) and not draft.entries:
        # As it was: what was begun before the jump can be told by that.
        return Decision(saga=saga, messages=(), entries=())
    return _frozen(draft)


def quarantine(saga: Saga | None, event: Event, now: int, rules: Rules) -> Decision:
    """Sets a request aside whose rule raised: it stands still, the DPO is asked, the event is parked."""
    if saga is None:
        received_at = getattr(event, "received_at", now)
        opening = RequestUnreadable(
            event_id=event.event_id,
            request_id=event.request_id,
            received_at=received_at,
            code="rule_failed",
            received_or=getattr(event, "received_or", None),
        )
        return replace(decide(None, opening, now, rules), parks_event="rule_failed")
    draft = Draft(replace(saga, version=saga.version + 1), now, rules, event.event_id, event.random)
    draft.parks_event = "rule_failed"
    setback.put_right(draft)
    if saga.is_finished:
        draft.note("parked", trigger=_what(event))
        draft.say("corrected", code="rule_failed")
        return _frozen(draft)
    draft.saga = replace(draft.saga, quarantined=True)
    draft.note("quarantined", trigger=_what(event))
    if isinstance(event, Confirmed):
        hearing.keep_unheeded(draft, event)
    draft.escalate("quarantined")
    request.stand_still(draft, event)
    return _frozen(draft)


def _what(event: Event) -> str:
    """Return what an event that could not be applied was, for the timeline."""
    return event.kind if isinstance(event, Confirmed) else type(event).__name__.lower()


def _frozen(draft: Draft) -> Decision:
    return Decision(
        saga=draft.written(),
        messages=tuple(draft.messages),
        entries=tuple(draft.entries),
        destroys_key=draft.destroys_key,
        parks_event=draft.parks_event,
        offers=_offers(draft),
    )


def _offers(draft: Draft) -> Mapping[str, tuple[Action, ...]]:
    if not any(isinstance(message, SendOutcome) for message in draft.messages):
        return {}
    saga, configured = draft.saga, draft.rules.systems
    return {one.id: escalations.offered(saga, one, draft.now, configured) for one in saga.escalations}


# --- opening ---


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
        trace=event.trace,
    )
    draft = Draft(saga, now, rules, event.event_id, event.random)
    draft.note("received", source=event.source, capacity=event.capacity, due_at=saga.due_at)
    names = rules.scope_of(event.scope, event.capacity, event.tenant)
    unknown = [name for name in names if name not in rules.systems]
    # A controller that asks us as its processor has thereby instructed us.
    instruction: Literal["erase"] | None = "erase" if event.capacity == "processor" else None
    steps = tuple(_new_step(name, names, now, rules, instruction) for name in names)
    draft.saga = replace(draft.saga, steps=steps)
    for name in unknown:
        draft.escalate("unknown_system", name, name if is_place(name) else None)
    if not event.verified:
        draft.escalate("identity_unverified")
    if not event.identifier_kinds:
        draft.escalate("no_usable_identifier")
    if not names:
        draft.escalate("empty_scope")
    if event.received_at > now + CLOCK_TOLERANCE:
        draft.escalate("received_in_future")
    receipt.doubt(draft, event.received_or)
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
    receipt.doubt(draft, event.received_or)
    return draft


def _new_step(
    name: str, names: tuple[str, ...], now: int, rules: Rules, instruction: Literal["erase"] | None
) -> Step:
    plan = rules.systems.get(name)
    if plan is None:
        until = now + rules.waits.decision_reminder
        state = AwaitingDecision(resume="locate", reason="unknown_system", until=until)
        return Step(system=name, kind="unknown", state=state, instruction=instruction)
    return Step(
        system=name,
        kind=plan.kind,
        state=Waiting(until=now + rules.waits.review),
        after=tuple(other for other in plan.after if other in names),
        has_controller=plan.refusal_ends,
        instruction=instruction,
    )


# --- applying ---


def _apply(draft: Draft, event: Event) -> None:
    if draft.saga.quarantined and not _goes_on_in_quarantine(event):
        draft.note("parked", trigger=_what(event))
        draft.parks_event = "quarantined"
        return
    match event:
        case RequestReceived():
            _apply_repeat(draft, event)
        case RequestUnreadable():
            _apply_unreadable_repeat(draft, event)
        case KeyLost():
            _apply_lost_key(draft, event)
        case SystemsMissing():
            _apply_missing(draft, event)
        case CommandsUnsent():
            _apply_unsent(draft, event)
        case Confirmed(system=None):
            _apply_notice(draft, event)
        case Confirmed(kind="failed", code=escalations.ANSWER_KEPT):
            _apply_kept(draft, event)
        case Confirmed():
            _apply_confirmation(draft, event)
        case Decided():
            apply_decision(draft, event)
        case TimerFired():
            _apply_timers(draft, event)
        case _:
            raise TypeError(f"no rule for {type(event).__name__}")


def _goes_on_in_quarantine(event: Event) -> bool:
    """Return whether an event is applied to a request that was set aside.

    What the release can't ask for again is: decisions, timers, what the mailbox told the person, and what a
    party said. New requests and workers' answers are parked, and the workers are asked again.
    """
    match event:
        case RequestReceived():
            return False
        case Confirmed():
            return event.system is None or words.is_word(event)
        case _:
            return True


def _apply_repeat(draft: Draft, event: RequestReceived) -> None:
    """The same request again is one request; more identifiers supplement it; anything else is for the DPO."""
    if draft.saga.is_finished and not (event.content_digest and draft.saga.content_digest):
        _not_compared(draft)
    elif event.content_digest == draft.saga.content_digest:
        draft.note("duplicate")
    elif _may_supplement(draft, event):
        (_tell_elsewhere if event.only_where_told else _supplement)(draft, event)
    else:
        _conflict(draft, event.content_digest[:12])


def _apply_unreadable_repeat(draft: Draft, event: RequestUnreadable) -> None:
    if draft.saga.source == "unreadable":
        draft.note("duplicate")
    else:
        _conflict(draft, event.code)


def _apply_lost_key(draft: Draft, event: KeyLost) -> None:
    """Ask the DPO, unless nothing is to be carried out any more: then nothing needs the key."""
    if isinstance(draft.saga.state, AwaitingVerification | InProgress):
        draft.escalate("key_lost", code=str(event.generation))


def _apply_missing(draft: Draft, event: SystemsMissing) -> None:
    """Ask about systems that still have to be carried out and that nobody serves; one that is back needs no
    answer.
    """
    for one in draft.saga.escalations:
        if one.reason == escalations.SYSTEM_MISSING and one.system not in event.missing:
            draft.resolve(one.reason, system=one.system)
    for step in draft.saga.steps:
        if step.system in event.missing and not step.is_ended and not steps.is_unknown(step):
            draft.escalate(escalations.SYSTEM_MISSING, step.system)


def _apply_unsent(draft: Draft, event: CommandsUnsent) -> None:
    """Ask about a step whose latest command can't be written. Once it is, that needs no answer."""
    for step in draft.saga.steps:
        is_waiting = step.command_id in event.commands and isinstance(draft.saga.state, InProgress)
        if is_waiting and not step.is_ended:
            draft.escalate(escalations.NOT_SENT, step.system)
        else:
            draft.resolve(escalations.NOT_SENT, system=step.system)


def _apply_kept(draft: Draft, event: Confirmed) -> None:
    """Ask about an answer of a party that no worker could take; each is a question of its own."""
    draft.note("answer_kept", system=event.system)
    if draft.saga.is_finished:
        draft.say("corrected", code=escalations.ANSWER_KEPT)
        return
    draft.unsettle(escalations.ANSWER_KEPT, event.system)
    draft.escalate(escalations.ANSWER_KEPT, event.system)


def _not_compared(draft: Draft) -> None:
    """Keep a request that came under the id of one that has ended and can't be compared with it any more: it
    may be a repeat, or another person's.
    """
    draft.note("not_compared")
    draft.parks_event = "ended_not_compared"
    draft.say("corrected", code="ended_not_compared")


def _conflict(draft: Draft, code: str) -> None:
    draft.note("conflicting_request")
    draft.parks_event = "request_id_conflict"
    if draft.saga.is_finished:
        draft.say("corrected", code="request_id_conflict")
    else:
        draft.escalate("request_id_conflict", code=code)


def _may_supplement(draft: Draft, event: RequestReceived) -> bool:
    """Whether more identifiers may join: of the same open request, and as well verified as it is.

    Otherwise whoever knows a request's id could have somebody else erased with it.
    """
    saga = draft.saga
    is_open = isinstance(saga.state, AwaitingVerification | InProgress) or (
        event.only_where_told and isinstance(saga.state, Closing)
    )
    is_verified = event.verified or draft.find("identity_unverified") is not None
    # A system that a controller named and that we don't have is known by its place alone.
    named = () if event.scope is None else draft.rules.scope_of(event.scope, event.capacity, event.tenant)
    is_same = (event.capacity, event.tenant) == (saga.capacity, saga.tenant)
    is_same = is_same and {step.system for step in saga.steps}.issuperset(named)
    return event.supplements and bool(event.identifier_kinds) and is_open and is_verified and is_same


def _supplement(draft: Draft, event: RequestReceived) -> None:
    draft.saga = replace(
        draft.saga,
        identifiers=event.identifiers,
        identifier_kinds=event.identifier_kinds,
        content_digest=event.content_digest,
        subject_digest=event.subject_digest,
        notice_identifiers=b"",
    )
    draft.note("supplemented")
    draft.resolve("no_usable_identifier", "nothing_identifiable")
    draft.unsettle("nothing_identifiable")
    request.withdraw_acted(draft)
    request.tell_again(draft)
    for step in draft.saga.steps:
        draft.put(table.apply(draft, step, "supplement", event))
    # Whatever is still asked was asked about fewer identifiers.
    for one in draft.saga.escalations:
        draft.renew(one, "supplemented")


def _tell_elsewhere(draft: Draft, event: RequestReceived) -> None:
    """The address that the person is told at was added. Nobody is looked for by it, so no step begins anew;
    what could not be told is told now.
    """
    draft.saga = replace(
        draft.saga, notice_identifiers=event.identifiers, content_digest=event.content_digest
    )
    draft.note("notice_address_added")
    unverified = draft.find("identity_unverified")
    if unverified is not None:
        draft.renew(unverified, "notice_address_added")
    request.tell_again(draft)


def _apply_notice(draft: Draft, event: Confirmed) -> None:
    """The mailbox's word on a notice to the subject."""
    for notice in draft.saga.notices:
        state = notice.state
        if not isinstance(state, NoticePending):
            continue
        if event.kind == "notice_sent" and event.command_id in (state.command_id, *state.earlier):
            request.notice_given(draft, notice, event.occurred_at, "mailed")
            return
        if event.kind == "notice_failed" and event.command_id == state.command_id:
            draft.resolve(escalations.silent(notice.purpose))
            draft.escalate(escalations.failing(notice.purpose), code=event.code)
            return
    draft.note("ignored", trigger=event.kind)


def _apply_confirmation(draft: Draft, event: Confirmed) -> None:
    step = draft.saga.step(expect(event.system, str))
    if step is None or steps.is_unknown(step):
        draft.note("unasked", system=event.system, trigger=event.kind)
        draft.parks_event = "system_not_asked"
        if draft.saga.is_finished:
            draft.say("corrected", code="unasked_confirmation")
        else:
            draft.escalate("unasked_confirmation", event.system, event.kind)
        return
    before = step
    asked = {one.id: one.version for one in draft.saga.escalations if one.system == step.system}
    was_out = any(one.command_id == event.command_id for one in step.outstanding)
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
        done=event.done or None,
        code=event.code,
        command=event.command_id,
        order=event.order,
        said_at=event.said_at,
    )
    if words.is_word(event):
        hearing.hear(draft, step, event)
        return
    is_against = contradicts(before, step, event)
    if event.kind in ("failed", "expired") and not was_out:
        # Delivered twice: the first answer said what there is to say.
        draft.note("ignored", system=event.system, trigger=event.kind, status=step.state.status)
        return
    match draft.saga.state:
        case InProgress():
            step = table.apply(draft, step, event.kind, event)
        case Closing(final="completed") if is_against:
            step = table.apply(draft, step, event.kind, event)
            if not step.is_ended:
                request.reopen(draft)
        case Finished() if is_against:
            draft.say("corrected", code=event.kind)
        case _:
            pass
    if is_against and isinstance(step.state, Ended) and step.state == before.state:
        step = replace(step, state=replace(step.state, contradicted=event.kind))
        draft.note("contradicted", system=event.system, trigger=event.kind)
    draft.put(step)
    if step.references != before.references:
        # What is decided about this system would be about these records, too.
        draft.renew_unchanged(asked, "found_more")


def _apply_timers(draft: Draft, event: TimerFired) -> None:
    """Every wait that is due, and no other: a timer that fires twice or early finds nothing to do."""
    request.remind(draft)
    if draft.saga.quarantined or draft.saga.is_finished:
        return
    for step in draft.saga.steps:
        state = step.state
        if isinstance(state, Ended) or not draft.is_due(state.until) or isinstance(draft.saga.state, Closing):
            continue
        draft.put(table.apply(draft, step, "timer", event))
