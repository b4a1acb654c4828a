"""Migrations: from every schema there ever was to the present one, on both databases."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from click.testing import CliRunner
from sqlalchemy.engine import URL

from orchestrator.cli.main import main
from orchestrator.store import migrations
from orchestrator.store.engine import bare_engine, open_engine
from orchestrator.store.errors import NewerSchema, NoSchema, OlderSchema
from orchestrator.store.migrations import Upgraded, upgrade
from orchestrator.store.tables import REVISION, metadata, schema_version
from tests.integration.postgresql_server import new_database

SCRIPTS = ScriptDirectory(str(Path(migrations.__file__).parent))
REVISIONS = sorted(script.revision for script in SCRIPTS.walk_revisions())
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
def test_from_every_schema_there_was(url: str, revision: str) -> None:
    """A database left at any revision is told to be upgraded, and is then as a new one."""
    assert Upgraded(None, revision) == upgrade(url, revision)
    assert revision == migrations.current(url)
    if revision != REVISION:
        with pytest.raises(OlderSchema, match="radera db upgrade"):
            open_engine(url)

    assert Upgraded(revision, REVISION) == upgrade(url)
    assert REVISION == migrations.current(url)
    assert [] == differences(url)


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
