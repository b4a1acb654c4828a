"""Opening the database, and what goes wrong with one."""

import multiprocessing
import sqlite3
import threading
from collections.abc import Iterator
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Self

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.store.engine import database_name, open_engine
from orchestrator.store.errors import (
    DiskFull,
    Locked,
    NewerSchema,
    NotADatabase,
    OlderSchema,
    ReadOnly,
    StoreError,
    StoreUnavailable,
    StoreUnusable,
    Unreachable,
)
from orchestrator.store.tables import REVISION, inbox, metadata, schema_version, timeline


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "radera.db"


@pytest.fixture
def engine(path: Path) -> Iterator[sa.Engine]:
    engine = open_engine(f"sqlite:///{path}", lock_timeout=0.2)
    yield engine
    engine.dispose()


def seen(engine: sa.Engine, event_id: str) -> None:
    with engine.begin() as connection:
        connection.execute(sa.insert(inbox).values(consumer="c", event_id=event_id, seen_at=1))


def events(engine: sa.Engine) -> list[str]:
    with engine.execution_options(read_only=True).connect() as connection:
        return list(connection.execute(sa.select(inbox.c.event_id).order_by(inbox.c.event_id)).scalars())


def test_a_new_file_is_private(engine: sa.Engine, path: Path) -> None:
    """Nobody but the owner may read the file, or those that SQLite puts beside it."""
    seen(engine, "e")
    modes = {one.name: one.stat().st_mode & 0o777 for one in path.parent.iterdir()}

    assert {"radera.db": 0o600, "radera.db-wal": 0o600, "radera.db-shm": 0o600} == modes


class Refusing(sqlite3.Connection):
    """Refuses a file its write-ahead log, as SQLite does at times to the second of two, without a wait."""

    left = 2
    code = sqlite3.SQLITE_BUSY_RECOVERY

    def cursor(self, *_: object) -> sqlite3.Cursor:  # type: ignore[override]  # it makes but one kind
        return super().cursor(RefusingCursor)


class RefusingCursor(sqlite3.Cursor):
    def execute(self, sql: str, *parameters: Any) -> Self:
        if sql.startswith("PRAGMA journal_mode") and Refusing.left:
            Refusing.left -= 1
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = Refusing.code
            raise error
        return super().execute(sql, *parameters)


@pytest.mark.parametrize(
    ("code", "times", "goes_well"),
    [
        (sqlite3.SQLITE_BUSY, 2, True),
        (sqlite3.SQLITE_BUSY_RECOVERY, 2, True),
        (sqlite3.SQLITE_BUSY, 10_000, False),
        (sqlite3.SQLITE_READONLY, 1, False),
    ],
)
def test_who_is_refused_the_log_tries_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int, times: int, goes_well: bool
) -> None:
    """As long as it would wait for any lock, and for no other reason."""
    monkeypatch.setattr(Refusing, "left", times)
    monkeypatch.setattr(Refusing, "code", code)
    monkeypatch.setattr("sqlite3.dbapi2.connect", partial(sqlite3.connect, factory=Refusing), raising=True)
    if goes_well:
        open_engine(f"sqlite:///{path}", lock_timeout=5.0).dispose()
        assert 0 == Refusing.left
    else:
        with pytest.raises(StoreError):
            open_engine(f"sqlite:///{path}", lock_timeout=0.1)


@pytest.mark.parametrize(
    ("pragma", "expected"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),
        ("secure_delete", 1),
        ("foreign_keys", 1),
        ("temp_store", 2),
    ],
)
def test_every_connection_is_durable_and_shreds(engine: sa.Engine, pragma: str, expected: object) -> None:
    """The settings hold on a second connection as on the first."""
    reading = engine.execution_options(read_only=True)
    with reading.connect() as first, reading.connect() as second:
        got = [one.exec_driver_sql(f"PRAGMA {pragma}").scalar() for one in (first, second)]

    assert [expected, expected] == got


def test_opening_twice_keeps_what_is_there(engine: sa.Engine, path: Path) -> None:
    """The second process finds the tables and their rows."""
    seen(engine, "e")
    again = open_engine(f"sqlite:///{path}")

    assert ["e"] == events(again)
    again.dispose()


def test_processes_may_open_a_new_file_at_once(path: Path) -> None:
    """Whoever is second finds the tables made, and nobody fails."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=open_engine, args=(f"sqlite:///{path}",)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)

    assert [0, 0, 0] == [process.exitcode for process in processes]


def test_the_schema_is_what_the_tables_say(engine: sa.Engine) -> None:
    """Every table and every index of `tables` is in the file."""
    found = sa.inspect(engine)
    indexes = {index["name"] for table in metadata.tables for index in found.get_indexes(table)}

    assert {*metadata.tables, schema_version.name} == set(found.get_table_names())
    assert {index.name for table in metadata.tables.values() for index in table.indexes} <= indexes


class TestInMemory:
    """One connection that everybody shares."""

    def test_threads_see_one_database_and_take_turns(self) -> None:
        """Concurrent transactions neither mix nor fail."""
        engine = open_engine("sqlite://")

        def work(name: str) -> None:
            for n in range(50):
                seen(engine, f"{name}{n:02}")

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [f"{name}{n:02}" for name in "abcd" for n in range(50)] == events(engine)

    def test_databases_are_apart(self) -> None:
        """Two engines in memory are two databases."""
        one, other = open_engine("sqlite://"), open_engine("sqlite:///:memory:")
        seen(one, "e")

        assert [] == events(other)

    def test_a_transaction_within_a_transaction_does_not_hang(self) -> None:
        """The mistake is told, since the connection can't be had twice."""
        engine = open_engine("sqlite://", lock_timeout=0.05)
        with engine.begin(), pytest.raises(SQLAlchemyError):
            engine.connect()


class TestTransactions:
    """What BEGIN does."""

    def test_writers_have_the_lock_from_the_start(self, engine: sa.Engine) -> None:
        """A transaction that will write waits before it reads, so that what it read still holds when it
        writes.
        """
        with engine.begin(), pytest.raises(Locked):
            engine.connect().begin()

    def test_readers_wait_for_nobody(self, engine: sa.Engine) -> None:
        """A reader sees the state before an open transaction's changes."""
        seen(engine, "before")
        with engine.begin() as connection:
            connection.execute(sa.insert(inbox).values(consumer="c", event_id="during", seen_at=1))
            assert ["before"] == events(engine)
        assert ["before", "during"] == events(engine)

    def test_a_reader_sees_one_moment(self, engine: sa.Engine) -> None:
        """Between two reads of one transaction nothing changes."""
        with engine.execution_options(read_only=True).begin() as connection:
            count = sa.select(sa.func.count()).select_from(inbox)
            first = connection.execute(count).scalar()
            seen(engine, "e")
            assert first == connection.execute(count).scalar()

    def test_an_exception_rolls_back(self, engine: sa.Engine) -> None:
        """Schema changes too: nothing is committed behind the transaction's back."""

        def fail_at_the_end(connection: sa.Connection) -> None:
            connection.exec_driver_sql("CREATE TABLE extra (x)")
            connection.execute(sa.insert(inbox).values(consumer="c", event_id="e", seen_at=1))
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError), engine.begin() as connection:
            fail_at_the_end(connection)

        assert [] == events(engine)
        assert not sa.inspect(engine).has_table("extra")


def hold_the_lock(url: str, held: Event, release: Event) -> None:
    engine = open_engine(url)
    with engine.begin():
        held.set()
        release.wait(30)


class TestErrors:
    """Each says what is wrong with which database, and what mends it."""

    def test_locked_by_another_process(self, engine: sa.Engine, path: Path) -> None:
        """While another process writes for too long we are told so; when it is done, we go on."""
        context = multiprocessing.get_context("spawn")
        held, release = context.Event(), context.Event()
        process = context.Process(target=hold_the_lock, args=(f"sqlite:///{path}", held, release))
        process.start()
        assert held.wait(30)

        with pytest.raises(Locked, match=str(path)) as caught:
            seen(engine, "e")
        release.set()
        process.join(30)
        seen(engine, "e")

        assert isinstance(caught.value, StoreUnavailable)
        assert ["e"] == events(engine)

    def test_waiting_for_the_lock(self, path: Path) -> None:
        """A writer that is done in time is waited for."""
        engine = open_engine(f"sqlite:///{path}", lock_timeout=10)
        context = multiprocessing.get_context("spawn")
        held, release = context.Event(), context.Event()
        process = context.Process(target=hold_the_lock, args=(f"sqlite:///{path}", held, release))
        process.start()
        assert held.wait(30)
        threading.Timer(0.3, release.set).start()

        seen(engine, "e")

        process.join(30)
        assert ["e"] == events(engine)
        engine.dispose()

    def test_read_only(self, engine: sa.Engine, path: Path) -> None:
        """Reading works; the first attempt to write says what is wrong."""
        seen(engine, "e")
        read_only = open_engine(f"sqlite:///file:{path}?mode=ro&uri=true")

        assert ["e"] == events(read_only)
        with pytest.raises(ReadOnly) as caught:
            seen(read_only, "f")
        assert isinstance(caught.value, StoreUnusable)
        read_only.dispose()

    def test_disk_full(self, engine: sa.Engine) -> None:
        """The transaction is gone as a whole, and when there is room again it goes through."""
        with engine.begin() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 3}")
        rows = [{"consumer": "c", "event_id": f"{n:0200}", "seen_at": 1} for n in range(200)]

        with pytest.raises(DiskFull) as caught, engine.begin() as connection:
            connection.execute(sa.insert(inbox), rows)
        assert isinstance(caught.value, StoreUnavailable)
        assert [] == events(engine)

        with engine.begin() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=100000")
            connection.execute(sa.insert(inbox), rows)
        assert 200 == len(events(engine))

    def test_not_a_database(self, path: Path) -> None:
        """A file of something else is refused, and left as it is."""
        path.write_bytes(b"a photo album, say " * 500)

        with pytest.raises(NotADatabase, match=str(path)):
            open_engine(f"sqlite:///{path}")
        assert b"a photo album, say " * 500 == path.read_bytes()

    def test_damaged(self, path: Path) -> None:
        """A page overwritten from outside is found out when it is read."""
        engine = open_engine(f"sqlite:///{path}")
        for n in range(300):
            seen(engine, f"{n:0100}")
        engine.dispose()
        damaged = bytearray(path.read_bytes())
        damaged[8192:] = b"\xa5" * (len(damaged) - 8192)
        path.write_bytes(damaged)

        with pytest.raises(NotADatabase):
            events(open_engine(f"sqlite:///{path}"))

    def test_no_such_directory(self, tmp_path: Path) -> None:
        """The directory is not made: a mistyped path must not become a second, empty database."""
        with pytest.raises(Unreachable, match="does/not/exist"):
            open_engine(f"sqlite:///{tmp_path}/does/not/exist/radera.db")

    @pytest.mark.parametrize(("found", "kind"), [("0000", OlderSchema), ("9999", NewerSchema)])
    def test_written_by_another_version(
        self, engine: sa.Engine, path: Path, found: str, kind: type[StoreError]
    ) -> None:
        """A database with another schema is refused with both numbers, and left as it is."""
        with engine.begin() as connection:
            connection.execute(sa.update(schema_version).values(version_num=found))

        with pytest.raises(kind, match=rf"schema {found}; this one (knows|needs) {REVISION}") as caught:
            open_engine(f"sqlite:///{path}")
        assert isinstance(caught.value, StoreUnusable)

    def test_what_is_no_condition_of_the_database_stays_itself(self, engine: sa.Engine) -> None:
        """A broken rule is a mistake in the program, and not to be retried."""
        seen(engine, "e")
        with pytest.raises(sa.exc.IntegrityError):
            seen(engine, "e")

    def test_parameters_are_not_in_errors(self, engine: sa.Engine) -> None:
        """What was to be written is not in the message of the failure to write it."""
        seen(engine, "secret-event")
        with pytest.raises(sa.exc.IntegrityError) as caught:
            seen(engine, "secret-event")
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("kind", [Locked, DiskFull, Unreachable, ReadOnly, NotADatabase, StoreError])
    def test_messages_are_sentences_about_a_file(self, kind: type[StoreError]) -> None:
        """The docstring is the message, on one line, with the file's name in it."""
        message = str(kind(database="/var/lib/radera/radera.db"))

        assert "/var/lib/radera/radera.db" in message
        assert message.endswith(".")
        assert "\n" not in message
        assert "{" not in message

    def test_a_password_is_never_named(self) -> None:
        """Errors call a server's database by host and name."""
        url = sa.make_url("postgresql://radera:hemligt@db.internal:5432/radera")
        assert "db.internal/radera" == database_name(url)


def test_the_driver_supports_what_is_used() -> None:
    """RETURNING came with SQLite 3.35."""
    assert sqlite3.sqlite_version_info >= (3, 35)


def test_only_a_timeline_has_data_in_json() -> None:
    """All JSON is written as the timeline's hashes want it (`dialect.put`): another column of the type would
    be given that form unasked.
    """
    columns = [column for table in metadata.sorted_tables for column in table.columns]
    assert [timeline.c.data] == [column for column in columns if isinstance(column.type, sa.JSON)]
