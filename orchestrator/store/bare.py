"""What is known of a request whose saved state can't be read.

Its row has columns beside the document, which say when it came, when it is due and whether it has ended, and
its timeline goes on. What is missing is who it is about and what its systems are: nothing more can be done
for it, but it can be told of, and the officer can end it.
"""

from typing import Final

import sqlalchemy as sa

from orchestrator.saga.model import Escalation, Finished, InProgress, Saga
from orchestrator.saga.timeline import GENESIS
from orchestrator.store import tables
from orchestrator.store.documents import FINAL_STATUSES

#: The one question about such a request, and its code.
QUESTION: Final = "quarantined"
CODE: Final = "broken_document"


def bare(connection: sa.Connection, request_id: str) -> Saga | None:
    """The request as a saga without systems, set aside and with one question; None where there is no row with
    a document.
    """
    c, t = tables.sagas.c, tables.timeline.c
    query = sa.select(
        c.version, c.status, c.received_at, c.due_at, c.acted_at, c.subject_digest, c.updated_at
    ).where(c.request_id == request_id, c.document.is_not(None))
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    last = sa.select(t.seq, t.hash).where(t.request_id == request_id).order_by(t.seq.desc()).limit(1)
    seq, head = connection.execute(last).one_or_none() or (0, GENESIS)
    is_final = row.status in FINAL_STATUSES
    question = Escalation(
        id="e1",
        version=1,
        reason=QUESTION,
        system=None,
        code=CODE,
        raised_at=row.updated_at,
        remind_at=row.updated_at,
    )
    return Saga(
        request_id=request_id,
        version=row.version,
        state=Finished(status=row.status, at=row.updated_at)
        if is_final
        else InProgress(until=row.updated_at),
        received_at=row.received_at or 0,
        due_at=row.due_at or 0,
        source="unreadable",
        subject_digest=row.subject_digest or "",
        escalations=() if is_final else (question,),
        raised=1,
        acted_at=row.acted_at,
        quarantined=not is_final,
        seq=seq,
        head=head,
    )
