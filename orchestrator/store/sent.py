"""What a role outside the orchestrator has had its effect for, in the same inbox, under a name of its own."""

import sqlalchemy as sa

from orchestrator.store.store import Store
from orchestrator.store.tables import inbox

# Made once: making a statement takes longer than running it.
_SEEN = sa.select(sa.literal(1)).where(
    inbox.c.consumer == sa.bindparam("consumer"), inbox.c.event_id == sa.bindparam("event_id")
)


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

    def record(self, event_id: str) -> None:
        """Durable when it returns; recording twice is harmless."""
        with self._store.begin() as transaction:
            transaction.insert_inbox(self._consumer, [event_id])
