"""Telling the officer of requests whose saved state can't be read, once each.

Nothing can be done for such a request but to put its state back, or to end it. Its data may still lie in
every system, and its month runs on: so the officer is mailed, without what only the state knows.
"""

from collections.abc import Iterable
from typing import Final

from orchestrator.saga.draft import SendOutcome
from orchestrator.saga.model import Action, Saga
from orchestrator.service.outbound import SOURCE, outcome_of
from orchestrator.store import Outgoing, Transaction
from schemas import topics
from schemas.cloudevents import headers
from schemas.codec import encode

#: The inbox's consumer under which it is noted that the officer was told.
TOLD: Final = "broken-documents"
CODE: Final = "broken_document"
#: The one decision that needs no saved state.
OFFERED: Final[tuple[Action, ...]] = ("cancel",)


def tell_of(tx: Transaction, request_ids: Iterable[str]) -> None:
    """Send an outcome about each of these requests, unless one was sent for the same version of its state."""
    for request_id in sorted(set(request_ids)):
        saga = tx.load_bare(request_id)
        if saga is None:
            continue
        event_id = f"broken:{request_id}:{saga.version}"
        if tx.insert_inbox(TOLD, [event_id]):
            tx.enqueue([_outcome(saga, event_id, tx.now())])


def _outcome(saga: Saga, event_id: str, now: int) -> Outgoing:
    said = SendOutcome(event_id=event_id, kind="corrected", code=CODE)
    for one in saga.escalations:
        said = SendOutcome(event_id=event_id, kind="escalated", concerns=one.id, code=CODE)
    outcome = outcome_of(saga, said, now, {one.id: OFFERED for one in saga.escalations})
    return Outgoing(
        event_id=event_id,
        topic=topics.OUTCOMES,
        key=saga.request_id,
        value=encode(outcome),
        headers=headers(outcome, event_id=event_id, source=SOURCE, at=now),
    )
