"""Which topics each group has read, in the same inbox, under a name of its own (`bus.kafka_remembered`)."""

from collections.abc import Collection

import sqlalchemy as sa

from orchestrator.store.store import Store
from orchestrator.store.tables import inbox


class TopicNotes:
    """Keeps names for each group, for good."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, group: str) -> set[str]:
        """Return what was noted for a group. Raises StoreError."""
        c = inbox.c
        query = sa.select(c.event_id).where(c.consumer == _consumer(group))
        with self._store.reading.connect() as connection:
            return set(connection.execute(query).scalars())

    def add(self, group: str, names: Collection[str]) -> None:
        """Note these for a group; those that are known stay. Raises StoreError."""
        with self._store.begin() as transaction:
            transaction.insert_inbox(_consumer(group), names)


def _consumer(group: str) -> str:
    return f"topics-of-{group}"
