"""Where everything that is taken in goes first: the database's outbox, from which the relay publishes it.

* **Always, not only while the broker is away.** Whoever takes in asks the database in any case (the time,
  the links that were used, the keys), so the broker would be a second thing that can fail and nothing else:
  with it gone, or hanging, callers notice nothing. And what has a detour now and then must know when to go
  back, or a controller's second word overtakes its first; on one way a key's records keep their order.
* What is taken is safe when `publish` returns. Nobody is told so before.
* Each record is a row of its own, whose id begins with `TAKEN`: what comes twice goes out twice, under the id
  that its message has, and its receiver tells whether it still matters. By the prefix the database sees to it
  that whoever serves can't take the place of a record of the orchestrator's (`deploy/postgresql`).

**A party's word gets a number,** by which it is judged whenever it is read: workers carry out callbacks side
by side, and a topic may be read anew from an older position. The number is right for one system of one
request, and says nothing about others:

* It is taken in the transaction that stores the word, from a row that only these two share. The row stays
  locked until the commit, so that the next word's number is larger, and is committed later.
* It is the database's time in microseconds, or one more than the number before, if that is larger. So it
  never goes back: not when the clock is set back, and not when the database is put back from a backup while
  Kafka still holds words that were numbered since. A sequence would give out the same numbers once more
  then, and a controller's new refusal would count as older than the "erase" before it.
* Numbers compare with times: a word from before there were numbers is placed by when it was stored.
"""

import uuid
from collections.abc import Callable, Iterable

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
        rows = [_row(record) for record in records]
        try:
            with self._store.begin() as transaction:
                transaction.enqueue(rows)
        except StoreUnavailable as error:
            raise BusUnavailable("the database took nothing in") from error

    def publish_word(self, request_id: str, system: str, word: Callable[[int, int], Record]) -> None:
        """Take in what a party said about a system of a request. `word` makes its record from its number and
        the time. Durable when it returns.

        Raises:
            BusUnavailable: the database is away; nothing was taken.
        """
        try:
            with self._store.begin() as transaction:
                order = transaction.number_word(request_id, system)
                transaction.enqueue([_row(word(order, transaction.now()))])
        except StoreUnavailable as error:
            raise BusUnavailable("the database took nothing in") from error


def _row(record: Record) -> Outgoing:
    return Outgoing(
        event_id=f"{TAKEN}{uuid.uuid4()}",
        topic=record.topic,
        key=record.key,
        value=record.value,
        headers=record.headers,
    )
