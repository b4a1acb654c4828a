"""The relay: from the outbox to the bus.

A row is marked sent only after the bus has taken the record, so a crash in between sends it again, under
the same id, and the receiver drops the repeat. The bus away means that the outbox grows; it drains in order
when the bus is back. Several processes may relay at once: the store gives each its own part.
"""

from orchestrator.bus.port import Bus, Record
from orchestrator.store import Store


class Relay:
    """Publishes what the orchestrator has committed. Belongs to one thread."""

    def __init__(self, *, store: Store, bus: Bus, batch: int = 500) -> None:
        self._store = store
        self._bus = bus
        self._batch = batch

    def step(self) -> int:
        """Sends one batch; gives how many.

        Raises:
            BusUnavailable: the bus took nothing that is relied on; the rows stay.
            StoreError: the database failed; what was published is published again.
        """
        with self._store.relay(self._batch) as rows:
            if rows:
                self._bus.publish(
                    Record(topic=row.topic, key=row.key, value=row.value, headers=row.headers) for row in rows
                )
        return len(rows)
