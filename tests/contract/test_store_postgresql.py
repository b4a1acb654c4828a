"""The contract of the store, on PostgreSQL, and what can be wrong with a server."""

import socket
import threading
import time
import traceback
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

from orchestrator.store import dialect
from orchestrator.store.engine import open_engine
from orchestrator.store.errors import (
    Collided,
    DiskFull,
    Full,
    Locked,
    NotAllowed,
    ReadOnly,
    ServerAway,
    StoreError,
    StoreUnavailable,
)
from orchestrator.store.migrations import upgrade
from orchestrator.store.store import Store
from orchestrator.store.tables import inbox, metadata
from tests.contract.store_keys_suite import KeysSuite, RetentionSuite
from tests.contract.store_suite import NOW, StoreSuite
from tests.contract.store_upkeep_suite import UpkeepSuite
from tests.integration.postgresql_server import connect, new_database


@pytest.fixture(scope="module")
def database(postgresql_server: URL) -> Iterator[str]:
    """A database with our tables."""
    with new_database(postgresql_server) as url:
        upgrade(url)
        yield url


@pytest.fixture
def url(database: str) -> Iterator[str]:
    """The same for each test, and empty again after it."""
    yield database
    with connect(make_url(database)) as connection:
        connection.execute(f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY".encode())


class TestStore(StoreSuite):
    """What holds of every store."""

    statements_of_a_batch = 10


class TestKeys(KeysSuite):
    """What holds of every store's keys."""


class TestRetention(RetentionSuite):
    """What every store forgets."""


class TestUpkeep(UpkeepSuite):
    """What every store keeps apart."""


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    engine = open_engine(url, lock_timeout=0.3)
    yield engine
    engine.dispose()


def seen(engine: sa.Engine, event_id: str) -> None:
    with engine.begin() as connection:
        connection.execute(sa.insert(inbox).values(consumer="c", event_id=event_id, seen_at=1))


class TestErrors:
    """Each says what is wrong with which database, and whether it passes."""

    @pytest.mark.parametrize(
        ("state", "kind"),
        [
            ("08006", ServerAway),
            ("57P01", ServerAway),
            ("57P02", ServerAway),
            ("57P03", ServerAway),
            ("58030", ServerAway),
            ("25P03", ServerAway),
            ("53300", Full),
            ("53100", DiskFull),
            ("40001", Collided),
            ("40P01", Collided),
            ("55P03", Locked),
            ("25006", ReadOnly),
            ("42501", NotAllowed),
        ],
    )
    def test_conditions(self, engine: sa.Engine, state: str, kind: type[StoreError]) -> None:
        """What the server says by its code comes out as ours, on one line, with the database's name."""
        raising = f"DO $$ BEGIN RAISE EXCEPTION 'a condition' USING ERRCODE = '{state}'; END $$"
        name = f"{engine.url.host}/{engine.url.database}"
        with pytest.raises(kind, match=name) as caught, engine.begin() as connection:
            connection.exec_driver_sql(raising)

        assert kind is type(caught.value)
        assert "\n" not in str(caught.value)

    def test_nobody_listens(self) -> None:
        """A server that is down is waited for; no password is ever named."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with pytest.raises(ServerAway, match="can't be reached") as caught:
            open_engine(f"postgresql://radera:hemligt@127.0.0.1:{port}/radera")

        assert isinstance(caught.value, StoreUnavailable)
        assert "hemligt" not in str(caught.value)

    def test_what_the_server_refuses_is_told(self, database: str) -> None:
        """Who has the name wrong reads so in the error."""
        with pytest.raises(ServerAway, match='database "nowhere" does not exist'):
            open_engine(make_url(database).set(database="nowhere").render_as_string(False))

    def test_cut_off(self, engine: sa.Engine, database: str) -> None:
        """A connection that the administrator ends is told once; the next transaction has a new one."""
        seen(engine, "before")
        with connect(make_url(database)) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = 'radera'"
            )

        with pytest.raises(ServerAway):
            seen(engine, "during")
        seen(engine, "after")
        with engine.connect() as connection:
            assert {"before", "after"} == set(connection.execute(sa.select(inbox.c.event_id)).scalars())

    def test_waiting_for_a_lock(self, engine: sa.Engine) -> None:
        """Who waits for a row too long gives up, and may try again."""
        with engine.begin() as connection:
            connection.execute(sa.insert(inbox).values(consumer="c", event_id="e", seen_at=1))
            with pytest.raises(Locked):
                seen(engine, "e")

    def test_a_deadlock(self, url: str) -> None:
        """One of the two gives in and may try again; the other goes through."""
        engine = open_engine(url)
        store = Store(engine, lambda: NOW)
        with store.begin() as transaction:
            transaction.insert_missing_sagas(["a", "b"])
        first, barrier = "ab", threading.Barrier(2)
        errors: list[StoreError] = []

        def lock(order: str) -> None:
            try:
                with store.begin() as transaction:
                    transaction.load([order[0]])
                    barrier.wait(10)
                    transaction.load([order[1]])
            except StoreError as error:
                errors.append(error)

        threads = [threading.Thread(target=lock, args=(order,)) for order in (first, first[::-1])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        engine.dispose()

        assert [Collided] == [type(error) for error in errors]

    def test_a_stopped_process_keeps_nobody_waiting(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The server ends a transaction in which nothing happens; its locks are free, and it commits
        nothing.
        """
        monkeypatch.setattr("orchestrator.store.engine.IDLE_LIMIT", 1)
        stopped, other = open_engine(url), open_engine(url)

        def stop_in_the_middle(connection: sa.Connection) -> None:
            connection.execute(sa.insert(inbox).values(consumer="c", event_id="e", seen_at=1))
            time.sleep(2)
            seen(other, "e")

        with pytest.raises(ServerAway), stopped.begin() as connection:
            stop_in_the_middle(connection)
        stopped.dispose()
        other.dispose()

    def test_rows_are_not_in_errors(self, engine: sa.Engine) -> None:
        """What a broken rule was broken with is neither in the message nor in what caused it."""
        value = "secret-event"
        seen(engine, value)
        with pytest.raises(sa.exc.IntegrityError) as caught:
            seen(engine, value)
        with pytest.raises(sa.exc.IntegrityError) as missing, engine.begin() as connection:
            connection.exec_driver_sql("INSERT INTO inbox (consumer, event_id) VALUES ('c', %s)", (value,))

        for error in (caught.value, missing.value):
            told = "".join(traceback.format_exception(error))
            assert "violates" in told
            assert value not in told


class TestConnections:
    """What every connection is set to."""

    @pytest.mark.parametrize(
        ("setting", "expected"),
        [
            ("synchronous_commit", "on"),
            ("lock_timeout", "300ms"),
            ("idle_in_transaction_session_timeout", "2min"),
            ("application_name", "radera"),
            ("transaction_isolation", "read committed"),
            ("client_encoding", "UTF8"),
        ],
    )
    def test_settings(self, engine: sa.Engine, setting: str, expected: str) -> None:
        """Durable, and never waiting or keeping others waiting without end."""
        with engine.connect() as connection:
            assert expected == connection.exec_driver_sql(f"SHOW {setting}").scalar()

    def test_the_urls_own_options_stay(self, url: str) -> None:
        """What an administrator puts into the URL holds beside ours."""
        given = {"options": "-cstatement_timeout=7s", "application_name": "mine"}
        engine = open_engine(make_url(url).update_query_dict(given).render_as_string(False))
        with engine.connect() as connection:
            shown = [
                connection.exec_driver_sql(f"SHOW {setting}").scalar()
                for setting in ("statement_timeout", "application_name", "synchronous_commit")
            ]
        engine.dispose()

        assert ["7s", "mine", "on"] == shown

    def test_a_read_leaves_no_transaction_open(self, engine: sa.Engine) -> None:
        """Reads of one statement neither begin nor hold anything."""
        store = Store(engine)
        store.now()
        with store.reading.connect() as connection:
            connection.execute(sa.select(inbox)).all()
            state = connection.connection.dbapi_connection.info.transaction_status.name  # type: ignore[union-attr]  # the driver's own
        assert "IDLE" == state


def test_time_does_not_run_backwards_for_a_request(url: str) -> None:
    """Who had to wait for a saga has a later time than who had it before."""
    engine = open_engine(url)
    store = Store(engine)
    with store.begin() as transaction:
        transaction.insert_missing_sagas(["r"])
    times: list[int] = []

    def second() -> None:
        with store.begin() as transaction:
            transaction.insert_inbox("c", ["e"])
            transaction.load(["r"])
            times.append(transaction.now())

    with store.begin() as transaction:
        transaction.load(["r"])
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        first = dialect.now(transaction._connection)
    thread.join()
    engine.dispose()

    assert first < times[0]
