"""Where everything that is taken in goes first: the database's outbox, from which the relay publishes it.

* **Always, not only while the broker is away.** Whoever takes in asks the database in any case (the time,
  the links that were used, the keys), so the broker would be a second thing that can fail and nothing else:
  with it gone, or hanging, callers notice nothing. And what has a detour now and then must know when to go
  back, or a controller's second word overtakes its first; on one way a key's records keep their order.
* What is taken is safe when `publish` returns. Nobody is told so before.
* Each record is a row of its own, whose id begins with `TAKEN`: what comes twice goes out twice, under the id
  that its message has, and its receiver tells whether it still matters. By the prefix the database sees to it
  that whoever serves can't take the place of a record of the orchestrator's (`deploy/postgresql`).
"""

import uuid
from collections.abc import Iterable

from orchestrator.bus.port import BusUnavailable, Record
from orchestrator.store import TAKEN, Outgoing, Store, StoreUnavailable


class Outbox:
    """The publishing half of a bus."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def publish(self, records: Iterable[Record]) -> None:
        """Durable when it returns.

        Raises:
            BusUnavailable: the database is away; nothing was taken.
        """
        rows = [
            Outgoing(
                event_id=f"{TAKEN}{uuid.uuid4()}",
                topic=record.topic,
                key=record.key,
                value=record.value,
                headers=record.headers,
            )
            for record in records
        ]
        try:
            with self._store.begin() as transaction:
                transaction.enqueue(rows)
        except StoreUnavailable as error:
            raise BusUnavailable("the database took nothing in") from error
