"""The requests' keys at rest, and the attack on what is left of destroyed ones."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa

from orchestrator.privacy.keyring import GenerationForgotten, Keyring, Wrapped
from orchestrator.privacy.sealing import new_key
from orchestrator.store import tables
from orchestrator.store.engine import open_engine
from orchestrator.store.housekeeping import empty_log
from orchestrator.store.keys import StoredKeys
from orchestrator.store.store import Store

NOW = 1_790_000_000_000_000


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    directory = tmp_path / "keys"
    directory.mkdir(mode=0o700)
    return Keyring.create(directory / "radera.keys", NOW)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir()
    return directory / "radera.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(open_engine(f"sqlite:///{path}"), lambda: NOW)
    yield store
    store.engine.dispose()


@pytest.fixture
def keys(store: Store, keyring: Keyring) -> StoredKeys:
    return StoredKeys(store, keyring)


def wrapped_in(connection: sa.Connection, request_id: str) -> bytes:
    c = tables.subject_keys.c
    found = connection.execute(sa.select(c.wrapped).where(c.request_id == request_id)).scalar_one()
    assert isinstance(found, bytes)
    return found


def on_disk(path: Path) -> bytes:
    """Everything that is in the database's files: itself, the log and the shared memory."""
    return b"".join(one.read_bytes() for one in sorted(path.parent.iterdir()))


def test_an_earlier_backup_opens_nothing_after_rotation(
    store: Store, keys: StoredKeys, keyring: Keyring, path: Path, tmp_path: Path
) -> None:
    """A copy of the database from before, with the key file of today, does not give the key of a request that
    ended.
    """
    keys.insert("ended", new_key())
    assert keys.shred()
    shutil.copy(path, tmp_path / "backup.db")
    keys.destroy("ended")
    first = keyring.current.number
    keyring.rotate(NOW)
    keys.rewrap()
    keyring.forget([first], NOW)

    backup = Store(open_engine(f"sqlite:///{tmp_path / 'backup.db'}"), lambda: NOW)
    with pytest.raises(GenerationForgotten):
        StoredKeys(backup, keyring).key_of("ended")
    backup.engine.dispose()


# --- the attack ---


def test_a_destroyed_key_is_nowhere_on_the_disk(store: Store, keys: StoredKeys, path: Path) -> None:
    """After destroying and shredding, no file holds a part of the wrapped key; before, the log still did."""
    keys.insert("r", new_key())
    with store.engine.connect() as connection:
        wrapped = wrapped_in(connection, "r")
    assert wrapped in on_disk(path)

    with store.begin() as transaction:
        transaction.destroy_keys(["r"], NOW)
    assert wrapped in on_disk(path)
    assert keys.shred()

    parts = {wrapped[n : n + 8] for n in range(len(wrapped) - 8)}
    left = on_disk(path)
    assert [] == [part for part in parts if part in left]


def test_no_reader_can_keep_it_unnoticed(store: Store, keys: StoredKeys, path: Path) -> None:
    """While somebody reads an old state the log can't be emptied; we are told, and later it works."""
    keys.insert("r", new_key())
    with store.engine.connect() as connection:
        wrapped = wrapped_in(connection, "r")
    with store.engine.execution_options(read_only=True).begin() as reader:
        reader.execute(sa.select(tables.subject_keys)).all()
        assert not keys.destroy("r")
        assert wrapped in on_disk(path)

    assert keys.shred()
    assert wrapped not in on_disk(path)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_remains_of_a_long_life(store: Store, path: Path, seed: int) -> None:
    """Keys filed, rewrapped and destroyed by the hundred, in any order: pages split and merge, and none keeps
    a copy.
    """
    rng = random.Random(seed)
    live: dict[str, Wrapped] = {}
    gone: list[bytes] = []
    for generation in range(1, 25):
        fresh = {
            str(UUID(int=rng.getrandbits(128))): Wrapped(generation, rng.randbytes(61)) for _ in range(40)
        }
        with store.begin() as transaction:
            transaction.insert_keys(fresh)
        live.update(fresh)
        ended = rng.sample(sorted(live), rng.randint(0, len(live)))
        with store.begin() as transaction:
            transaction.destroy_keys(ended, NOW)
        gone += [live.pop(request_id).blob for request_id in ended]
        if rng.random() < 0.3:
            gone += [wrapped.blob for wrapped in live.values()]
            live = {request_id: Wrapped(generation + 1, rng.randbytes(61)) for request_id in live}
            with store.begin() as transaction:
                transaction.replace_wrapping(live)
        if rng.random() < 0.5:
            assert empty_log(store.engine)
    assert empty_log(store.engine)

    left = on_disk(path)
    assert all(wrapped.blob in left for wrapped in live.values())
    assert len(gone) > 500
    assert [] == [blob for blob in gone if any(blob[n : n + 12] in left for n in (0, 16, 32, 49))]


def test_emptying_the_log_leaves_the_connection_as_it_was(store: Store) -> None:
    """Whoever gets the connection next waits for locks as long as everybody."""
    assert empty_log(store.engine)
    with store.engine.connect() as connection:
        assert 10_000 == connection.exec_driver_sql("PRAGMA busy_timeout").scalar()


def test_a_log_that_is_not_there_was_not_emptied(store: Store, path: Path) -> None:
    """Whatever keeps the log from being emptied is a no, not an end of the process."""
    store.engine.dispose()
    shutil.rmtree(path.parent)

    assert not empty_log(store.engine)


def test_in_memory_there_is_no_log(keyring: Keyring) -> None:
    """Destroying works the same where there are no files."""
    keys = StoredKeys(Store(open_engine("sqlite://"), lambda: NOW), keyring)
    keys.insert("r", new_key())

    assert keys.destroy("r")
