"""From what a saga decided to the records that say it.

The core sends bare messages; here they get what the saga knows (who, since when, how far), their Avro form
and headers. An outcome shows the saga as it is after the decision.
"""

from collections.abc import Callable, Mapping
from hashlib import sha256

from orchestrator.bus.dead_letters import dead_letter_headers
from orchestrator.bus.port import Delivery, Record
from orchestrator.saga.decide import Decision
from orchestrator.saga.draft import SendCommand, SendOutcome
from orchestrator.saga.model import Action, Ended, Saga, Step, weakest
from orchestrator.store import Outgoing
from schemas import topics
from schemas.cloudevents import headers
from schemas.codec import CodecError, decode, encode
from schemas.messages import Command, Confirmation, EscalationOutcome, Outcome, Place, SystemOutcome

SOURCE = "orchestrator"


def outgoing(decision: Decision, now: int) -> list[Outgoing]:
    """The records that a decision sends, in order."""
    return [
        _command(decision.saga, message, now)
        if isinstance(message, SendCommand)
        else _outcome(decision, message, now)
        for message in decision.messages
    ]


def _command(saga: Saga, sent: SendCommand, now: int) -> Outgoing:
    command = Command(
        event_id=sent.event_id,
        request_id=saga.request_id,
        system=sent.system,
        kind=sent.kind,
        verb=sent.verb,
        attempt=sent.attempt,
        issued_at=now,
        not_after=sent.not_after,
        language=saga.language,
        capacity=saga.capacity,
        tenant=saga.tenant,
        instruction=sent.instruction,
        reminder=sent.reminder,
        erased_at=sent.erased_at,
        accepted_at=sent.accepted_at,
        found=sent.found,
        takes_all=sent.takes_all,
        sealed_identifiers=saga.identifiers,
        sealed_references=sent.references,
    )
    return Outgoing(
        event_id=sent.event_id,
        topic=topics.commands(sent.kind),
        key=saga.request_id,
        value=encode(command),
        headers=headers(command, event_id=command.event_id, source=SOURCE, at=now, trace=saga.trace),
    )


def _outcome(decision: Decision, sent: SendOutcome, now: int) -> Outgoing:
    saga = decision.saga
    outcome = outcome_of(saga, sent, now, decision.offers)
    return Outgoing(
        event_id=sent.event_id,
        topic=topics.OUTCOMES,
        key=saga.request_id,
        value=encode(outcome),
        headers=headers(outcome, event_id=outcome.event_id, source=SOURCE, at=now, trace=saga.trace),
    )


def outcome_of(saga: Saga, sent: SendOutcome, now: int, offers: Mapping[str, tuple[Action, ...]]) -> Outcome:
    """The saga as the outside sees it; `offers` are the decisions that would be applied, by question."""
    return Outcome(
        event_id=sent.event_id,
        request_id=saga.request_id,
        kind=sent.kind,
        occurred_at=now,
        language=saga.language,
        status=saga.status,
        received_at=saga.received_at,
        due_at=saga.due_at,
        acted_at=saga.acted_at,
        grade=weakest([step.grade for step in saga.steps if step.is_ended and step.grade is not None]),
        systems=tuple(system_outcome(step) for step in saga.steps),
        escalations=tuple(
            EscalationOutcome(
                escalation_id=one.id,
                version=one.version,
                reason=one.reason,
                system=one.system,
                code=one.code,
                raised_at=one.raised_at,
                actions=offers.get(one.id, ()),
            )
            for one in saga.escalations
        ),
        concerns=sent.concerns,
        code=sent.code,
        reason=saga.reason,
        timeline_head=saga.head,
        sealed_identifiers=saga.all_identifiers if sent.kind == "notice" else None,
    )


def system_outcome(step: Step) -> SystemOutcome:
    """One step as a line of an outcome: its end if it has one, else its status."""
    state = step.state
    if not isinstance(state, Ended):
        return SystemOutcome(
            system=step.system,
            status=state.status,
            found=step.found,
            erased=step.erased,
            evidence=step.evidence,
            places=_places(step),
        )
    return SystemOutcome(
        system=step.system,
        status=state.end,
        grade=state.grade,
        found=step.found,
        erased=step.erased,
        legal_basis=state.legal_basis,
        retained_until=state.retained_until,
        missing=state.missing,
        reason=state.contradicted or state.reason,
        evidence=step.evidence,
        places=_places(step),
    )


def _places(step: Step) -> tuple[Place, ...]:
    return tuple(
        Place(name=one.name, looked=one.looked, by=one.by, not_by=one.not_by, reason=one.reason)
        for one in step.places
    )


def refused_command(row: Outgoing, code: str, at: int) -> Record | None:
    """The answer to a command that can't be sent, in its worker's place: it failed, and to try the same again
    is of no use. None for a record that is no command.
    """
    try:
        command = decode(row.value, Command)
    except CodecError:
        return None
    answer = Confirmation(
        event_id=f"unsent:{sha256(command.event_id.encode()).hexdigest()[:32]}",
        request_id=command.request_id,
        system=command.system,
        command_id=command.event_id,
        verb=command.verb,
        attempt=command.attempt,
        kind="failed",
        occurred_at=at,
        code=code,
    )
    sent = headers(answer, event_id=answer.event_id, source=SOURCE, at=at)
    return Record(topic=topics.CONFIRMATIONS, key=answer.request_id or "", value=encode(answer), headers=sent)


def dead_letter(delivery: Delivery, code: str, seal: Callable[[bytes], bytes], key: str) -> Outgoing:
    """A record that could not be applied, kept beside its topic: sealed, with where it came from and why."""
    return Outgoing(
        event_id=f"dead:{delivery.place}:{code}",
        topic=topics.dead_letters(delivery.topic),
        key=key,
        value=seal(delivery.value),
        headers=dead_letter_headers(delivery, code, seal),
    )
