"""What a role outside the orchestrator has had its effect for, in the same inbox, under a name of its own.

Mails are claimed, too, since handing one over takes its time, and its outcome can come to another mailbox
meanwhile:

* A mail is claimed, handed over, and recorded; recording ends the claim. Whoever finds it claimed waits, and
  whoever then gets the claim looks whether it was recorded: it is sent once, whoever had it in hand.
* A claim ends by itself, so that the mail of a process that died is sent by another.
* A holder claims its own again. A file has one process, so whoever claims there is the one that did before.
"""

import uuid
from typing import Final, Literal

import sqlalchemy as sa
from typing_extensions import override

from orchestrator.store import dialect
from orchestrator.store.store import Store
from orchestrator.store.tables import inbox

# Made once: making a statement takes longer than running it.
_SEEN = sa.select(sa.literal(1)).where(
    inbox.c.consumer == sa.bindparam("consumer"), inbox.c.event_id == sa.bindparam("event_id")
)

#: Who sends mails.
MAILBOX: Final = "mailbox"
_THE_ONLY_ONE: Final = "the only one"

#: Whose a mail is that somebody wants to hand over.
Claim = Literal["ours", "theirs", "sent"]


class StoredSent:
    """Remembers the events of one consumer, such as the mails that were sent or the links that were used."""

    def __init__(self, store: Store, consumer: str) -> None:
        self._store = store
        self._consumer = consumer

    def seen(self, event_id: str) -> bool:
        """Whether it was recorded."""
        wanted = {"consumer": self._consumer, "event_id": event_id}
        with self._store.reading.connect() as connection:
            return connection.execute(_SEEN, wanted).first() is not None

    def seen_at(self, event_id: str) -> int | None:
        """When it was recorded, in microseconds; None if it was not."""
        c = inbox.c
        query = sa.select(c.seen_at).where(c.consumer == self._consumer, c.event_id == event_id)
        with self._store.reading.connect() as connection:
            return connection.execute(query).scalar()

    def record(self, event_id: str) -> None:
        """Durable when it returns; recording twice is harmless."""
        with self._store.begin() as transaction:
            transaction.insert_inbox(self._consumer, [event_id])


class SentMails(StoredSent):
    """Remembers which mails were sent, and which somebody has in hand. `holder` is one process's name."""

    def __init__(self, store: Store, *, holder: str | None = None) -> None:
        super().__init__(store, MAILBOX)
        usual = uuid.uuid4().hex if dialect.waits_for_rows(store.engine) else _THE_ONLY_ONE
        self._holder = usual if holder is None else holder

    def claim(self, event_id: str, lasting: int) -> Claim:
        """Asks for a mail, for so many microseconds. "ours" is to be recorded or released; "theirs" somebody
        else has in hand; "sent" was recorded.
        """
        with self._store.begin() as transaction:
            if not transaction.take_in_hand(event_id, self._holder, transaction.now() + lasting):
                return "theirs"
            # Asked after the claim is had: who had it before has recorded by now what it sent.
            if not transaction.has_seen(self._consumer, event_id):
                return "ours"
            transaction.let_go(event_id)
            return "sent"

    def release(self, event_id: str) -> None:
        """It was not sent, and whoever wants it may have it."""
        with self._store.begin() as transaction:
            transaction.let_go(event_id, self._holder)

    @override
    def record(self, event_id: str) -> None:
        with self._store.begin() as transaction:
            transaction.insert_inbox(self._consumer, [event_id])
            transaction.let_go(event_id)
