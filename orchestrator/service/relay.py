"""The relay: from the outbox to the bus.

A row is deleted only after the bus has taken the record, so a crash in between sends it again, under
the same id, and the receiver drops the repeat. The bus away means that the outbox grows; it drains in order
when the bus is back. Several processes may relay at once: the store gives each its own part.

A batch is published as one, and what is wrong with a part of it holds up nothing else:

* A topic that nobody has made, or that this account may not write to, is found before the first record goes
  to it. Its records stay in the outbox until somebody has made it, or given the right. A request whose
  command stays there is asked about at once (`service/unsent.py`).
* A record that is too large is found by sending the batch one by one. A command is answered in the place of
  its worker: it failed, and the officer is asked. Any other record stays in the outbox, where the alarm about
  its age tells of it, and is tried again every hour.
"""

import logging
from collections.abc import Set

from orchestrator.bus.port import Bus, BusUnavailable, Record, RecordTooLarge
from orchestrator.service.outbound import refused_command
from orchestrator.store import Outgoing, Store

_logger = logging.getLogger(__name__)

# How often is asked whether missing topics have been made.
_ASK_AGAIN = 5 * 1_000_000
# How long a record is left alone that was too large.
_ASIDE = 3600 * 1_000_000


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
        # Event ids of records that were too large, and when each is tried again.
        self._aside: dict[str, int] = {}

    @property
    def missing(self) -> frozenset[str]:
        """The topics that nothing could be written to when that was last asked; from any thread."""
        return frozenset(self._missing)

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
            except RecordTooLarge:
                return self._send(self._store.now())
            except _NotToBePublished:
                continue
            except BusUnavailable:
                # One of the topics may have been deleted, or a right taken away.
                self._known.clear()
                raise

    def _send(self, at: int | None = None) -> int:
        """Sends one batch: as one, or one by one where it is told what time it is."""
        if self._aside:
            now = self._store.now()
            self._aside = {event_id: until for event_id, until in self._aside.items() if until > now}
        with self._store.relay(self._batch, self._missing | self._aside.keys()) as rows:
            if new := {row.topic for row in rows} - self._known:
                self._look_for(new)
                if new & self._missing:
                    raise _NotToBePublished
            if rows and at is None:
                self._bus.publish(map(_record, rows))
            elif at is not None:
                rows.kept |= {row.event_id for row in rows if not self._is_sent(row, at)}
        if at is not None:
            # In memory alone: whoever starts again tries again.
            self._aside |= dict.fromkeys(rows.kept, at + _ASIDE)
        self.is_through = rows.is_all
        return len(rows) - len(rows.kept)

    def _is_sent(self, row: Outgoing, at: int) -> bool:
        """Publish one record, or what stands for it; whether it need not stay."""
        try:
            self._bus.publish([_record(row)])
        except RecordTooLarge:
            extra = {"topic": row.topic, "event_id": row.event_id, "bytes": len(row.value)}
            _logger.error("record_too_large", extra=extra)
            answer = refused_command(row, "command_too_large", at)
            if answer is None:
                return False
            self._bus.publish([answer])
        return True

    def _look_for(self, topics: Set[str]) -> None:
        missing = self._bus.missing(topics)
        self._known |= topics - missing
        if missing:
            self._missing = self._missing | missing
            self._asked_at = self._store.now()
            _logger.warning("topics_missing", extra={"topics": sorted(missing)})


def _record(row: Outgoing) -> Record:
    return Record(topic=row.topic, key=row.key, value=row.value, headers=row.headers)
