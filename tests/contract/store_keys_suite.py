"""What every store must do with keys, and with what is old enough to be forgotten.

A database's test module subclasses the suites and gives them a fixture `url`, of a database with our tables
and nothing in them.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator.privacy.keyring import Keyring
from orchestrator.privacy.keys import KeyDestroyed, KeyUnknown, RequestKeys
from orchestrator.privacy.sealing import SealBroken, new_key
from orchestrator.saga.model import Finished, InProgress, Saga
from orchestrator.saga.timeline import GENESIS, append
from orchestrator.store import (
    Correlation,
    Store,
    StoredKeys,
    destroy_orphans,
    forget_subjects,
    open_engine,
    orphans,
    purge_requests,
    tables,
)
from orchestrator.store.transaction import Transaction

NOW = 1_790_000_000_000_000
OPEN = Saga(
    request_id="open",
    version=1,
    state=InProgress(until=9),
    received_at=1,
    due_at=9,
    source="web",
    subject_digest="5" * 64,
    content_digest="6" * 64,
)
ENDED = replace(OPEN, request_id="ended", state=Finished(status="completed", at=2))


class Clock:
    now = 100

    def __call__(self) -> int:
        return self.now


def correlations(store: Store) -> set[str]:
    with store.begin() as transaction:
        return set(transaction.resolve(["o" * 64, "e" * 64]))


def wrapped_in(connection: sa.Connection, request_id: str) -> bytes:
    c = tables.subject_keys.c
    found = connection.execute(sa.select(c.wrapped).where(c.request_id == request_id)).scalar_one()
    assert isinstance(found, bytes)
    return found


class KeysSuite:
    """The requests' keys at rest."""

    @pytest.fixture
    def keyring(self, tmp_path: Path) -> Keyring:
        directory = tmp_path / "keys"
        directory.mkdir(mode=0o700)
        return Keyring.create(directory / "radera.keys", NOW)

    @pytest.fixture
    def store(self, url: str) -> Iterator[Store]:
        engine = open_engine(url)
        yield Store(engine, lambda: NOW)
        engine.dispose()

    @pytest.fixture
    def keys(self, store: Store, keyring: Keyring) -> StoredKeys:
        return StoredKeys(store, keyring)

    def test_a_key_comes_back(self, keys: StoredKeys) -> None:
        """What was filed is what is given, through the port that workers have."""
        key = new_key()
        assert "new" == keys.insert("r", key)

        port: RequestKeys = keys
        assert key == port.key_of("r")

    def test_a_key_is_never_overwritten(self, keys: StoredKeys) -> None:
        """A second key for the same request changes nothing, and the caller is told."""
        first = new_key()
        keys.insert("r", first)

        assert "known" == keys.insert("r", new_key())
        assert first == keys.key_of("r")

    def test_a_key_that_never_was_is_unknown(self, keys: StoredKeys) -> None:
        """A message before its request is something else than a message after its end."""
        with pytest.raises(KeyUnknown):
            keys.key_of("r")

    def test_a_destroyed_key_cannot_come_back(self, keys: StoredKeys) -> None:
        """A replayed request finds the tombstone."""
        keys.insert("r", new_key())
        keys.destroy("r")

        assert "destroyed" == keys.insert("r", new_key())
        with pytest.raises(KeyDestroyed):
            keys.key_of("r")

    def test_a_key_can_be_destroyed_before_it_is_filed(self, keys: StoredKeys) -> None:
        """A request that ended without a key leaves a tombstone as well."""
        keys.destroy("r")

        assert "destroyed" == keys.insert("r", new_key())

    def test_destroying_again_keeps_the_first_time(self, store: Store, keys: StoredKeys) -> None:
        """The certificate's date doesn't move."""
        keys.insert("r", new_key())
        for at in (NOW + 1, NOW + 2):
            with store.begin() as transaction:
                transaction.destroy_keys(["r"], at)

        with store.engine.connect() as connection:
            assert [NOW + 1] == list(
                connection.execute(sa.select(tables.subject_keys.c.destroyed_at)).scalars()
            )

    def test_filing_a_batch(self, store: Store, keys: StoredKeys) -> None:
        """Each key of a batch has its own answer, and the batch is part of the caller's transaction."""
        keys.insert("known", new_key())
        keys.destroy("destroyed")
        batch = {request_id: new_key() for request_id in ("known", "destroyed", "new")}

        def file_and_fail(transaction: Transaction) -> None:
            keys.insert_within(transaction, batch)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError), store.begin() as transaction:
            file_and_fail(transaction)
        with store.begin() as transaction:
            filed = keys.insert_within(transaction, batch)

        assert {"known": "known", "destroyed": "destroyed", "new": "new"} == filed
        assert batch["new"] == keys.key_of("new")

    def test_a_key_is_bound_to_its_request(self, store: Store, keys: StoredKeys) -> None:
        """A wrapped key moved to another request's row opens nothing."""
        keys.insert("r", new_key())
        keys.insert("other", new_key())
        with store.engine.begin() as connection:
            moved = sa.update(tables.subject_keys).where(tables.subject_keys.c.request_id == "other")
            connection.execute(moved.values(wrapped=wrapped_in(connection, "r")))

        with pytest.raises(SealBroken):
            keys.key_of("other")

    def test_rewrapping(self, store: Store, keys: StoredKeys, keyring: Keyring) -> None:
        """After a rotation open keys move to the new generation, destroyed ones stay so, and the old one can
        be forgotten.
        """
        kept = {f"r{n}": new_key() for n in range(1201)}
        with store.begin() as transaction:
            keys.insert_within(transaction, kept)
        keys.destroy("gone")
        first, second = keyring.current.number, keyring.rotate(NOW).number

        done = keys.rewrap()

        assert (1201, ()) == (done.count, done.unreadable)
        assert {second: 1201} == keys.generations()
        assert 0 == keys.rewrap().count
        keyring.forget([first], NOW)
        assert kept == {request_id: keys.key_of(request_id) for request_id in kept}
        with pytest.raises(KeyDestroyed):
            keys.key_of("gone")

    def test_one_key_that_cannot_be_opened_does_not_keep_the_rest(
        self, store: Store, keys: StoredKeys, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A damaged row is reported, and all others are moved before their generation goes."""
        monkeypatch.setattr("orchestrator.store.keys._PAGE", 1)
        for request_id in ("a", "b", "c"):
            keys.insert(request_id, new_key())
        with store.engine.begin() as connection:
            damaged = sa.update(tables.subject_keys).where(tables.subject_keys.c.request_id == "b")
            connection.execute(damaged.values(wrapped=b"damaged"))
        first, second = keyring.current.number, keyring.rotate(NOW).number

        done = keys.rewrap()

        assert (2, ("b",)) == (done.count, done.unreadable)
        assert {first: 1, second: 2} == keys.generations()

    def test_a_key_destroyed_meanwhile_stays_destroyed(
        self, store: Store, keys: StoredKeys, keyring: Keyring
    ) -> None:
        """A wrapping made for a key that was destroyed before it was written brings nothing back."""
        keys.destroy("r")
        with store.begin() as transaction:
            transaction.replace_wrapping({"r": keyring.wrap(new_key(), "r")})

        with pytest.raises(KeyDestroyed):
            keys.key_of("r")
        assert {} == keys.generations()


class RetentionSuite:
    """What the store forgets, and what it keeps."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def store(self, url: str, clock: Clock) -> Iterator[Store]:
        """One open request and one that ended, each with a timeline and a correlation."""
        engine = open_engine(url)
        store = Store(engine, clock)
        with store.begin() as transaction:
            transaction.save([OPEN, ENDED])
            for saga in (OPEN, ENDED):
                entry = append(GENESIS, 1, 1, "received", {})
                transaction.append_timeline([(saga.request_id, entry)])
                digest = saga.request_id[0] * 64
                transaction.correlate(
                    [Correlation(digest=digest, request_id=saga.request_id, system="hubspot")]
                )
        yield store
        engine.dispose()

    def test_subjects_are_forgotten(self, store: Store) -> None:
        """A finished request loses its digests and correlations after their time; an open one keeps them."""
        assert 0 == forget_subjects(store, before=100)
        assert 1 == forget_subjects(store, before=101)
        assert 0 == forget_subjects(store, before=101)

        ended, still_open = store.saga("ended"), store.saga("open")
        assert ended is not None
        assert ("", "") == (ended.subject_digest, ended.content_digest)
        assert OPEN == still_open
        assert {"o" * 64} == correlations(store)
        assert 1 == len(store.timeline("ended"))

    def test_keys_of_no_request_are_destroyed(self, store: Store, clock: Clock, tmp_path: Path) -> None:
        """A key whose request was never opened would outlive everything; one of a known request stays."""
        keys = StoredKeys(store, Keyring.create(tmp_path / "radera.keys", 1))
        for request_id in ("orphan", "open"):
            keys.insert(request_id, bytes(32))

        assert set() == orphans(store, before=clock.now)
        assert {"orphan"} == orphans(store, before=clock.now + 1)
        assert 1 == destroy_orphans(store, ["orphan", "open"], before=clock.now + 1)
        with pytest.raises(KeyDestroyed):
            keys.key_of("orphan")
        assert bytes(32) == keys.key_of("open")

    def test_requests_are_purged(self, store: Store) -> None:
        """A finished request goes with its timeline after its time; an open one never does."""
        assert 0 == purge_requests(store, before=100)
        assert 1 == purge_requests(store, before=101)

        assert None is store.saga("ended")
        assert [] == store.timeline("ended")
        assert OPEN == store.saga("open")
        assert 1 == len(store.timeline("open"))

    def test_purging_leaves_tombstones(self, store: Store) -> None:
        """An event of a purged request must not bring its key back."""
        with store.begin() as transaction:
            transaction.destroy_keys(["ended"], 3)
        purge_requests(store, before=101)

        with store.engine.connect() as connection:
            rows = connection.exec_driver_sql(
                "SELECT request_id, wrapped, destroyed_at FROM subject_keys"
            ).all()
        assert [("ended", None, 3)] == [tuple(row) for row in rows]

    def test_forgetting_keeps_the_time_of_the_end(self, store: Store, clock: Clock) -> None:
        """The retention of a request counts from its end, not from when its subject was forgotten."""
        clock.now = 500
        forget_subjects(store, before=500)

        assert 1 == purge_requests(store, before=101)
