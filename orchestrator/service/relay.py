"""The relay: from the outbox to the bus.

A row is deleted only after the bus has taken the record, so a crash in between sends it again, under
the same id, and the receiver drops the repeat. The bus away means that the outbox grows; it drains in order
when the bus is back. Several processes may relay at once: the store gives each its own part.

A batch is published as one. So that a topic that nobody has made holds up nothing but its own records, it is
asked for before the first of them goes to it; while it is missing they stay in the outbox.
"""

import logging
from collections.abc import Set

from orchestrator.bus.port import Bus, BusUnavailable, Record
from orchestrator.store import Store

_logger = logging.getLogger(__name__)

# How often is asked whether missing topics have been made.
_ASK_AGAIN = 5 * 1_000_000


class _NotToBePublished(Exception):
    """What was read has records in it for topics that are missing."""


class Relay:
    """Publishes what the orchestrator has committed. Belongs to one thread."""

    def __init__(self, *, store: Store, bus: Bus, batch: int = 500) -> None:
        self._store = store
        self._bus = bus
        self._batch = batch
        #: Whether the last step left nothing in the outbox that it could have sent.
        self.is_through = False
        self._known: set[str] = set()
        self._missing: set[str] = set()
        self._asked_at = 0

    def step(self) -> int:
        """Sends one batch; gives how many.

        Raises:
            BusUnavailable: the bus took nothing that is relied on; the rows stay.
            StoreError: the database failed; what was published is published again.
        """
        if self._missing and self._store.now() - self._asked_at >= _ASK_AGAIN:
            again, self._missing = self._missing, set()
            self._look_for(again)
        while True:
            try:
                return self._send()
            except _NotToBePublished:
                continue
            except BusUnavailable:
                # One of the topics may have been deleted.
                self._known.clear()
                raise

    def _send(self) -> int:
        with self._store.relay(self._batch, self._missing) as rows:
            if new := {row.topic for row in rows} - self._known:
                self._look_for(new)
                if new & self._missing:
                    raise _NotToBePublished
            if rows:
                self._bus.publish(
                    Record(topic=row.topic, key=row.key, value=row.value, headers=row.headers) for row in rows
                )
        self.is_through = rows.is_all
        return len(rows)

    def _look_for(self, topics: Set[str]) -> None:
        missing = self._bus.missing(topics)
        self._known |= topics - missing
        if missing:
            self._missing |= missing
            self._asked_at = self._store.now()
            _logger.warning("topics_missing", extra={"topics": sorted(missing)})
