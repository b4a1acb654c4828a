"""`radera decide`: the DPO's decision, checked against the request as it is before it is sent.

The check here is for a quick answer. The orchestrator applies the decision to the request as it is then,
and refuses it, by mail, if it no longer fits.
"""

import re
import uuid
from collections.abc import Container
from pathlib import Path
from typing import cast, get_args

import click

from orchestrator.bus.port import Record
from orchestrator.cli.assembly import Ground, open_ground
from orchestrator.cli.status import known
from orchestrator.intake.outbox import Outbox
from orchestrator.privacy import (
    IDENTIFIERS,
    Identifiers,
    PrivacyError,
    find_personal,
    looks_personal,
    unseal,
)
from orchestrator.saga import escalations
from orchestrator.saga.decide import decide
from orchestrator.saga.draft import SendOutcome
from orchestrator.saga.events import Decided
from orchestrator.saga.model import Action, Saga
from orchestrator.service.broken import OFFERED
from orchestrator.store import BrokenDocument, Store
from schemas import topics
from schemas.cloudevents import headers
from schemas.codec import encode
from schemas.messages import Decision

LONGEST_REASON = 500

#: What each refusal means, and what to do about it.
REFUSALS = {
    "request_ended": "the request has ended; there is nothing left to decide",
    "reason_missing": 'this decision needs a reason for the record: add --reason "..."',
    "names_no_escalation": "name the question it answers: add --escalation ID@VERSION (see `radera status`)",
    "no_such_escalation": "that question is not open; see `radera status` for those that are",
    "other_version": "that question has changed since; read it again with `radera status`",
    "action_does_not_fit": "that decision does not fit that question; `radera status` lists those that do",
    "still_unknown": "the system is still not configured; add it to the settings and restart, or waive",
    "already_closing": "the request is closing already",
    "already_extended": "the period has been extended already; the law allows it once",
    "already_acted": "the request was acted on in time; there is nothing to extend",
    "quarantined": "the request is set aside, since a rule failed on it; answer that question first",
    "controller_refused": "the controller refused to have this erased; only its own new word changes that",
    "named_by_controller": "the controller named a system that is not configured; only it can name another",
    "too_late": "the first month is over; an extension had to be told within it",
}


def unfit(reason: str) -> str | None:
    """Return what is wrong with a reason that stays on the record, or None."""
    if len(reason) > LONGEST_REASON or not reason.isprintable():
        return f"the reason is to be one line of text of at most {LONGEST_REASON} characters"
    if reason.strip() in ("…", "..."):
        return "the reason is still the placeholder from the mail; write why, it stays on the record"
    if reason and looks_personal(reason):
        return (
            "the reason seems to hold a person's address or number, and it stays on record for years; "
            "say it without"
        )
    return None


def run(
    config: Path, request_id: str, action: str, *, escalation: str | None, reason: str, decided_by: str
) -> int:
    """Sends the decision; 1 when it does not fit the request, 2 when it can't be read."""
    ground = open_ground(config)
    saga = _saga(ground.store, request_id, action)
    if saga is None:
        return 1
    if problem := unfit(reason):
        return _no(problem, 2)
    if reason and _names_subject(ground, saga, reason):
        return _no("the reason names the person, and it stays on record for years; say it without", 2)
    if action not in get_args(Action):
        return _no(f"there is no decision {action!r}", 2)
    now = ground.store.now()
    named = _named(saga, cast(Action, action), escalation, now, ground.settings.systems)
    if isinstance(named, str):
        return _no(named, 2)
    event = Decided(
        event_id=f"decision:{uuid.uuid4()}",
        request_id=request_id,
        action=cast(Action, action),
        escalation_id=named[0],
        escalation_version=named[1],
        reason=reason,
        decided_by=decided_by,
        decided_at=now,
    )
    for message in decide(saga, event, now, ground.rules).messages:
        if isinstance(message, SendOutcome) and message.kind == "decision_refused":
            return _no(REFUSALS.get(message.code or "", f"refused: {message.code}"), 1)
    decision = Decision(
        event_id=event.event_id,
        request_id=request_id,
        action=event.action,
        escalation_id=event.escalation_id,
        escalation_version=event.escalation_version,
        reason=reason,
        decided_by=decided_by,
        decided_at=now,
    )
    sent = headers(decision, event_id=decision.event_id, source="cli", at=now)
    record = Record(topic=topics.DECISIONS, key=request_id, value=encode(decision), headers=sent)
    Outbox(ground.store).publish([record])
    about = f" on {event.escalation_id}@{event.escalation_version}" if event.escalation_id else ""
    click.echo(f"{action}{about}: recorded; a running `radera up` applies it")
    return 0


def _saga(store: Store, request_id: str, action: str) -> Saga | None:
    """The request; where its saved state can't be read, what is enough to cancel it."""
    try:
        return known(store, request_id)
    except BrokenDocument:
        if action not in OFFERED:
            raise
        return store.bare(request_id)


def _names_subject(ground: Ground, saga: Saga, reason: str) -> bool:
    """Whether the reason quotes the person whom the request is about; without the key nobody can tell."""
    try:
        key = ground.keys.key_of(saga.request_id)
        sealed = unseal(key, saga.request_id, IDENTIFIERS, saga.all_identifiers)
        return find_personal(reason, Identifiers.from_bytes(sealed))
    except PrivacyError:
        return False


def _named(
    saga: Saga, action: Action, escalation: str | None, now: int, configured: Container[str]
) -> tuple[str | None, int | None] | str:
    """The question meant: as given, or the only one that the action fits. A text says what is wrong."""
    if escalation is not None:
        parts = re.fullmatch(r"([A-Za-z0-9]{1,20})@([0-9]{1,9})", escalation)
        if parts is None:
            return "write the escalation as ID@VERSION, as in --escalation e1@1"
        return parts[1], int(parts[2])
    if action in escalations.STANDALONE:
        return None, None
    asked = [one for one in saga.escalations if action in escalations.actions_for(one.reason)]
    # One that is not offered at present is refused with its own reason.
    fitting = [one for one in asked if action in escalations.offered(saga, one, now, configured)] or asked
    if len(fitting) > 1:
        listed = ", ".join(f"{one.id}@{one.version} ({one.reason})" for one in fitting)
        return f"several questions are open that it fits; name one with --escalation: {listed}"
    return (fitting[0].id, fitting[0].version) if fitting else (None, None)


def _no(text: str, code: int) -> int:
    click.echo(f"radera: {text}", err=True)
    return code
