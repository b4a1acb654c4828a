"""The requests' keys, wrapped by a master key, one row each.

* A row is inserted once. Filing a key for a request that has one, or had one, changes nothing and says so:
  a replayed request can neither swap its key nor bring it back.
* Destroying leaves a tombstone that stays. It may be repeated, and a request that never had a key can be
  given one.
* What is destroyed is overwritten in the file at once (`secure_delete`), but the write-ahead log may hold
  the page as it was before. `shred` empties the log; a reader in the middle of a transaction can keep it
  from doing so, and then it says no and is called again later.
* On PostgreSQL old row versions and its log stay for a while, out of our reach. There, as for every backup,
  it is the end of the master key's generation that makes a key unreadable: see `rewrap`.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import sqlalchemy as sa

from orchestrator.privacy.keyring import (
    GenerationForgotten,
    GenerationUnknown,
    Keyring,
    Wrapped,
)
from orchestrator.privacy.keys import KeyDestroyed, KeyUnknown
from orchestrator.privacy.sealing import SealBroken
from orchestrator.store import dialect
from orchestrator.store.housekeeping import empty_log
from orchestrator.store.store import Store
from orchestrator.store.tables import subject_keys
from orchestrator.store.transaction import Filed, Transaction

_PAGE = 500
# Made once: making a statement takes longer than running it.
_KEY_OF = sa.select(subject_keys.c.generation, subject_keys.c.wrapped).where(
    subject_keys.c.request_id == sa.bindparam("request_id")
)
# What is wrong with one key alone.
_UNOPENED = (SealBroken, GenerationForgotten, GenerationUnknown)


@dataclass(frozen=True, slots=True)
class Opened:
    """How many open keys there are that can be opened, and the requests whose key no generation at hand
    opens.
    """

    count: int
    unreadable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """What `rewrap` did. `unreadable` are open requests whose key no generation at hand opens."""

    count: int
    unreadable: tuple[str, ...]


class StoredKeys:
    """`RequestKeys` on the store, and the writing side of it."""

    def __init__(self, store: Store, keyring: Keyring) -> None:
        self._store = store
        self._keyring = keyring
        self._reading = store.reading

    def key_of(self, request_id: str) -> bytes:
        """The request's key. Raises KeyUnknown or KeyDestroyed."""
        with self._reading.connect() as connection:
            row = connection.execute(_KEY_OF, {"request_id": request_id}).one_or_none()
        if row is None:
            raise KeyUnknown(request_id=request_id)
        if row.wrapped is None:
            raise KeyDestroyed(request_id=request_id)
        return self._keyring.unwrap(Wrapped(row.generation, row.wrapped), request_id)

    def keys_of(self, request_ids: Collection[str]) -> dict[str, bytes]:
        """The keys of those requests that have one which can be opened, in one question."""
        c = subject_keys.c
        found: dict[str, bytes] = {}
        with self._reading.connect() as connection:
            wanted = dialect.among(connection, c.request_id, sorted(request_ids))
            query = sa.select(c.request_id, c.generation, c.wrapped).where(wanted, c.wrapped.is_not(None))
            rows = connection.execute(query).all()
        for row in rows:
            with suppress(*_UNOPENED):
                found[row.request_id] = self._keyring.unwrap(
                    Wrapped(row.generation, row.wrapped), row.request_id
                )
        return found

    def insert(self, request_id: str, key: bytes) -> Filed:
        """File the request's key, in a transaction of its own."""
        with self._store.begin() as transaction:
            return self.insert_within(transaction, {request_id: key})[request_id]

    def insert_within(self, transaction: Transaction, keys: Mapping[str, bytes]) -> dict[str, Filed]:
        """File keys, by request id, as part of a batch."""
        transaction.share_keys()
        wrapped = {request_id: self._keyring.wrap(key, request_id) for request_id, key in keys.items()}
        return transaction.insert_keys(wrapped)

    def destroy(self, request_id: str) -> bool:
        """Destroy the request's key now, and shred it. Returns whether the log could be emptied too."""
        with self._store.begin() as transaction:
            transaction.destroy_keys([request_id], transaction.now())
        return self.shred()

    def shred(self) -> bool:
        """After keys were destroyed and that was committed: leave no copy of them in the write-ahead log."""
        return empty_log(self._store.engine)

    def generations(self) -> dict[int, int]:
        """How many keys each master key generation wraps; one that wraps none may be forgotten."""
        c = subject_keys.c
        query = sa.select(c.generation, sa.func.count().label("number")).where(c.wrapped.is_not(None))
        with self._reading.connect() as connection:
            return {row.generation: row.number for row in connection.execute(query.group_by(c.generation))}

    def open_all(self, lost: Collection[int] = ()) -> Opened:
        """Open every open key, to see whether it can be; pass over those of the generations in `lost`."""
        count, unreadable = 0, []
        for request_id, wrapped in self._open_keys():
            if wrapped.generation in lost:
                continue
            if self._can_open(request_id, wrapped):
                count += 1
            else:
                unreadable.append(request_id)
        return Opened(count, tuple(unreadable))

    def opens_any(self, generation: int) -> bool:
        """Whether any key that this generation is said to wrap can be opened with it."""
        mine = subject_keys.c.generation == generation
        return any(self._can_open(request_id, wrapped) for request_id, wrapped in self._open_keys(mine))

    def _open_keys(self, *conditions: sa.ColumnElement[bool]) -> Iterator[tuple[str, Wrapped]]:
        """Every open key, a page at a time."""
        c, after = subject_keys.c, ""
        query = sa.select(c.request_id, c.generation, c.wrapped).where(c.wrapped.is_not(None), *conditions)
        while True:
            with self._reading.connect() as connection:
                page = query.where(c.request_id > after).order_by(c.request_id).limit(_PAGE)
                rows = connection.execute(page).all()
            for row in rows:
                yield row.request_id, Wrapped(row.generation, row.wrapped)
            if len(rows) < _PAGE:
                return
            after = rows[-1].request_id

    def _can_open(self, request_id: str, wrapped: Wrapped) -> bool:
        # Whether one that is not there was declared lost would be a question to the store for each key.
        if wrapped.generation not in {one.number for one in self._keyring.generations}:
            return False
        try:
            self._keyring.unwrap(wrapped, request_id)
        except _UNOPENED:
            return False
        return True

    def rewrap(self, lost: Collection[int] = ()) -> Rewrapped:
        """Wrap every key that is not under the current generation again; pass over those of the generations
        in `lost`. Repeating it is safe.
        """
        count, unreadable, after = 0, [], ""
        while True:
            with self._store.begin() as transaction:
                transaction.share_keys()
                page = transaction.keys_to_rewrap(self._keyring.current.number, after, _PAGE)
                fresh: dict[str, Wrapped] = {}
                for request_id, wrapped in page.items():
                    if wrapped.generation in lost:
                        continue
                    # One that can't be opened must not keep the rest under a key that is about to go.
                    if not self._can_open(request_id, wrapped):
                        unreadable.append(request_id)
                        continue
                    key = self._keyring.unwrap(wrapped, request_id)
                    fresh[request_id] = self._keyring.wrap(key, request_id)
                transaction.replace_wrapping(fresh)
            count += len(fresh)
            if len(page) < _PAGE:
                return Rewrapped(count, tuple(unreadable))
            after = max(page)
