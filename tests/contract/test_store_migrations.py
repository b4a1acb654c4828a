"""Migrations: from every schema there ever was to the present one, on both databases."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from click.testing import CliRunner
from sqlalchemy.engine import URL

from orchestrator.cli.main import main
from orchestrator.privacy import KeyDestroyed, Keyring, Wrapped, new_key
from orchestrator.store import SentMails, Store, StoredKeys, StoredSent, migrations
from orchestrator.store.documents import write_document
from orchestrator.store.engine import bare_engine, open_engine
from orchestrator.store.errors import NewerSchema, NoSchema, OlderSchema
from orchestrator.store.migrations import Upgraded, upgrade
from orchestrator.store.store import TimelineCheck
from orchestrator.store.tables import REVISION, metadata, schema_version, timeline
from tests.contract.store_suite import NOW, chain, saga
from tests.integration.postgresql_server import new_database

SCRIPTS = ScriptDirectory(str(Path(migrations.__file__).parent))
REVISIONS = sorted(script.revision for script in SCRIPTS.walk_revisions())
ENTRY = ("seq", "at", "action", "data", "previous", "hash")
EXAMPLE = Path(__file__).parents[2] / "deploy" / "examples" / "smartdok.toml"


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Makes databases without tables."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            paths = iter(range(10))
            yield lambda: f"sqlite:///{tmp_path / f'{next(paths)}.db'}"
        else:
            server: URL = request.getfixturevalue("postgresql_server")
            yield lambda: stack.enter_context(new_database(server))


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    return new_url()


@contextmanager
def connected(url: str) -> Iterator[sa.Connection]:
    engine = bare_engine(url)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def differences(url: str) -> list[object]:
    """What Alembic would change to get from the database to `store.tables`."""
    with connected(url) as connection:
        # The tables' one foreign key is SQLite's alone, for which Alembic has no words.
        is_sqlite = connection.dialect.name == "sqlite"
        options = {
            "version_table": schema_version.name,
            "compare_type": True,
            "compare_server_default": True,
            "include_object": lambda _, __, kind, reflected, ___: (
                is_sqlite or reflected or kind != "foreign_key_constraint"
            ),
        }
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def statements(url: str) -> list[str]:
    """What the file's tables and indexes were made with."""
    with connected(url) as connection:
        made = connection.exec_driver_sql(
            "SELECT sql FROM sqlite_master "
            "WHERE sql IS NOT NULL AND tbl_name <> 'schema_version' ORDER BY name"
        )
        return [" ".join(str(one).split()) for one in made.scalars()]


def mark(url: str, revision: str) -> None:
    with connected(url) as connection:
        connection.execute(sa.update(schema_version).values(version_num=revision))


def test_revisions_are_numbered_in_one_line() -> None:
    """Each follows the one before, and the newest is the one that the tables name."""
    assert [f"{number:04}" for number in range(1, len(REVISIONS) + 1)] == REVISIONS
    assert [None, *REVISIONS[:-1]] == [SCRIPTS.get_revision(one).down_revision for one in REVISIONS]
    assert [REVISION] == SCRIPTS.get_heads()


def test_the_newest_is_what_the_tables_say(url: str) -> None:
    """After all migrations there is nothing left to migrate."""
    assert Upgraded(None, REVISION) == upgrade(url)

    assert [] == differences(url)
    open_engine(url).dispose()


def test_a_difference_would_be_found(url: str) -> None:
    """The comparison above does see a missing index and a column too many."""
    upgrade(url)
    with connected(url) as connection:
        connection.exec_driver_sql("DROP INDEX sagas_wake_at")
        connection.exec_driver_sql("ALTER TABLE correlations ADD COLUMN extra TEXT")

    assert {"add_index", "remove_column"} == {difference[0] for difference in differences(url)}  # type: ignore[index]  # Alembic's are tuples, and untyped


@pytest.mark.parametrize("revision", REVISIONS)
def test_from_every_schema_there_was(url: str, revision: str, tmp_path: Path) -> None:
    """A database left at any revision, with a request under way in it, is told to be upgraded, and is then as
    a new one; and the request goes on where it was.
    """
    assert Upgraded(None, revision) == upgrade(url, revision)
    assert revision == migrations.current(url)
    if revision != REVISION:
        with pytest.raises(OlderSchema, match="radera db upgrade"):
            open_engine(url)
    keyring = Keyring.create(tmp_path / "radera.keys", NOW)
    key = new_key()
    fill(url, keyring.wrap(key, "r"))

    assert Upgraded(revision, REVISION) == upgrade(url)
    assert REVISION == migrations.current(url)
    assert [] == differences(url)
    engine = open_engine(url)
    try:
        check_filled(engine, keyring, key, claimed=revision >= "0004")
        # A word that is taken in now is a later one than all that were numbered.
        with Store(engine, lambda: NOW).begin() as transaction:
            assert NOW + (6 if revision >= "0005" else 0) == transaction.number_word("r", "tenant")
    finally:
        engine.dispose()


def fill(url: str, wrapped: Wrapped) -> None:
    """Rows in all tables that the database has, as they were written then: of the request "r", which is
    open, and of "ended". Where the outbox knows of what was sent, it holds a record that was, and one that
    was not.
    """
    entries = chain(3)
    open_saga = replace(saga("r"), seq=3, head=entries[-1].hash)
    outbox = {"topic": "t", "key": "r", "value": b"v", "headers": '["ce_id", "\\u00ff"]', "created_at": NOW}
    rows: dict[str, list[dict[str, object]]] = {
        "sagas": [
            {"request_id": "r", "version": 7, "status": "in_progress", "received_at": 10}
            | {"due_at": 1000, "wake_at": 100, "open_escalations": 0, "quarantined": 0}
            | {"subject_digest": "5" * 64, "updated_at": NOW, "document": write_document(open_saga)}
        ],
        "timeline": [{"request_id": "r"} | {name: getattr(one, name) for name in ENTRY} for one in entries],
        "inbox": [{"consumer": "mailbox", "event_id": "e", "seen_at": NOW}],
        "mails_in_hand": [{"event_id": "m", "holder": "h", "until": NOW + 1}],
        "words_taken": [{"request_id": "r", "system": "tenant", "latest": NOW + 5}],
        "positions": [{"group": "orchestrator", "topic": "t", "partition": 3, "next": 41}],
        "outbox": [{"event_id": "unsent", "shard": 5, **outbox}],
        "subject_keys": [
            {"request_id": "r", "generation": wrapped.generation, "wrapped": wrapped.blob, "created_at": NOW},
            {"request_id": "ended", "created_at": NOW, "destroyed_at": NOW},
        ],
        "installation": [{"number": 1, "id": "own", "made_at": NOW}],
        "key_generations": [{"number": wrapped.generation, "digest": "d", "first_seen_at": NOW}],
        "clock_seen": [
            {"id": 1, "at": NOW, "even_for": 0, "unwatched": 0, "ahead": 0, "jumped_at": 0, "jumps": 2}
        ],
        "correlations": [{"digest": "d", "request_id": "r", "system": "crm", "created_at": NOW}],
        "opendsr_requests": [
            {"request_id": "r", "system": "tenant", "subject_request_id": "s", "version": "2.0"}
            | {"body": "b", "received_at": NOW, "expected_at": NOW}
        ],
        "opendsr_callbacks": [{"request_id": "r", "number": 1, "address": b"a", "tries": 0, "look_at": NOW}],
    }
    with connected(url) as connection:
        there = sa.MetaData()
        there.reflect(connection)
        if "sent_at" in there.tables["outbox"].c:
            rows["outbox"] += [{"event_id": "sent", "shard": 5, "sent_at": NOW, **outbox}]
        assert set(there.tables) - {schema_version.name} <= set(rows)
        for table in there.sorted_tables:
            for row in rows.get(table.name, []):
                connection.execute(sa.insert(table).values(row))


def check_filled(engine: sa.Engine, keyring: Keyring, key: bytes, *, claimed: bool) -> None:
    """Everything is there, by the doors that the roles use; what had been sent is not."""
    store = Store(engine, lambda: NOW)
    keys = StoredKeys(store, keyring)
    assert replace(saga("r"), seq=3, head=chain(3)[-1].hash) == store.saga("r")
    assert ["r"] == [one.request_id for one in store.due(NOW, 10)]
    assert TimelineCheck(
        request_id="r", length=3, head=chain(3)[-1].hash, broken_at=None
    ) == store.verify_timeline("r")
    assert StoredSent(store, "mailbox").seen("e")
    assert ("theirs" if claimed else "ours") == SentMails(store, holder="another").claim("m", 1)
    assert {("t", 3): 41} == store.positions("orchestrator")
    assert [("unsent", (("ce_id", b"\xff"),))] == [(one.event_id, one.headers) for one in store.unsent(10)]
    assert key == keys.key_of("r")
    with pytest.raises(KeyDestroyed):
        keys.key_of("ended")
    with store.begin() as transaction:
        assert {"d": ("r", "crm")} == transaction.resolve(["d"])
    [entry] = chain(1)
    with pytest.raises(sa.exc.IntegrityError), engine.begin() as connection:
        connection.execute(
            sa.insert(timeline).values(request_id="nobody", **{name: getattr(entry, name) for name in ENTRY})
        )


def test_a_new_file_is_as_if_migrated(tmp_path: Path) -> None:
    """The embedded database, made at once, is the same to the letter, and marked, so that it can be upgraded
    later.
    """
    made, migrated = f"sqlite:///{tmp_path / 'made.db'}", f"sqlite:///{tmp_path / 'migrated.db'}"
    open_engine(made).dispose()
    upgrade(migrated)

    assert statements(migrated) == statements(made)
    assert REVISION == migrations.current(made)
    assert Upgraded(REVISION, REVISION) == upgrade(made)


def test_ids_sort_by_bytes(postgresql_url: str) -> None:
    """Every column that rows are taken by in order sorts as Python does, on a server that sorts otherwise."""
    upgrade(postgresql_url)
    with connected(postgresql_url) as connection:
        keys = connection.exec_driver_sql(
            "SELECT attrelid::regclass || '.' || attname FROM pg_index "
            "JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey) "
            "JOIN pg_class ON pg_class.oid = indrelid "
            "WHERE relnamespace = 'public'::regnamespace AND indisprimary AND atttypid = 'text'::regtype "
            "AND attcollation <> (SELECT oid FROM pg_collation WHERE collname = 'C')"
        ).all()
        swedish = connection.exec_driver_sql("SELECT 'a' < 'B'").scalar()

    assert swedish
    assert [] == keys


def test_a_server_gets_no_tables_by_itself(postgresql_url: str) -> None:
    """Who opens an empty database on a server is told the command, and leaves it empty."""
    with pytest.raises(NoSchema, match="radera db upgrade"):
        open_engine(postgresql_url)
    assert None is migrations.current(postgresql_url)


def test_a_newer_schema_is_left_alone(url: str) -> None:
    """Neither opening nor upgrading touches what a later version has made."""
    upgrade(url)
    mark(url, "9999")

    with pytest.raises(NewerSchema):
        open_engine(url)
    with pytest.raises(NewerSchema):
        upgrade(url)
    assert "9999" == migrations.current(url)


def test_an_upgrade_that_fails_changed_nothing(url: str) -> None:
    """A table in the way stops it, and none of the others is there."""
    with connected(url) as connection:
        connection.exec_driver_sql("CREATE TABLE correlations (mine INTEGER)")

    with pytest.raises(sa.exc.DBAPIError):
        upgrade(url)
    with connected(url) as connection:
        assert ["correlations"] == sa.inspect(connection).get_table_names()


def test_two_upgrades_at_once(url: str) -> None:
    """One does it, the other finds it done."""
    done: list[Upgraded] = []
    threads = [threading.Thread(target=lambda: done.append(upgrade(url))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {Upgraded(None, REVISION), Upgraded(REVISION, REVISION)} == set(done)


def test_the_command(new_url: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`radera db` makes the tables and says where they are; what is wrong is one line, not a traceback."""

    def radera(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["db", *arguments, "--config", str(EXAMPLE)])
        return done.exit_code, done.output

    url = new_url()
    monkeypatch.setenv("RADERA_DATABASE__URL", url)
    steps = [radera(verb) for verb in ("current", "upgrade", "current", "upgrade")]
    mark(url, "9999")
    code, said = radera("upgrade")

    assert [1, 0, 0, 0] == [code for code, _ in steps]
    assert [
        f"schema none; this version needs {REVISION}",
        f"from schema none to {REVISION}",
        f"schema {REVISION}; this version needs {REVISION}",
        f"schema {REVISION}; nothing to do",
    ] == [said.strip().split(": ", 1)[1] for _, said in steps]
    assert (1, True, 1) == (code, said.startswith("radera: "), len(said.splitlines()))
