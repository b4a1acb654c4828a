"""A database or a key file in a bad way: it is said which and what to do, nothing is lost, and what can go on
does; when the trouble is over, so does the rest.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.bus.port import BusUnavailable
from orchestrator.privacy import KeyFileMissing
from orchestrator.service.loops import Loop
from orchestrator.store import StoreUnavailable, engine
from tests.integration.installation import PERSON, SETTINGS, Installation, installed, radera, write_settings


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    with installed(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a lock for longer than a moment."""
    usual = engine.open_engine
    monkeypatch.setattr("orchestrator.cli.assembly.open_engine", partial(usual, lock_timeout=0.05))


def until(met: Callable[[], object], limit: float = 10.0) -> None:
    """Waits for something that another thread does."""
    end = time.monotonic() + limit
    while not met():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def database(installation: Installation) -> Path:
    return installation.file.parent / "radera.db"


COMMANDS = [
    ["submit", "--email", PERSON],
    ["status"],
    ["timeline", "00000000-0000-0000-0000-000000000001"],
    ["decide", "00000000-0000-0000-0000-000000000001", "cancel", "--reason", "x"],
    ["keys", "rotate"],
]
WRITING = [COMMANDS[0], COMMANDS[3]]


# --- locked ---


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("command", WRITING)
def test_a_locked_database_is_said_to_be_locked(installation: Installation, command: list[str]) -> None:
    """One line: that another process holds it, and what to look for; exit code 1."""
    other = sqlite3.connect(database(installation), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    result = installation.cli(*command)
    other.close()
    assert 1 == result.exit_code
    assert "Another process has held the database" in result.stderr
    assert "look for a second `radera`" in result.stderr
    assert 1 == len(result.stderr.splitlines())


@pytest.mark.usefixtures("hurried")
def test_a_locked_database_can_still_be_looked_at(installation: Installation) -> None:
    """Reading waits for nobody who writes."""
    request_id = installation.submit(("email", PERSON), verified=False)
    installation.settle()
    other = sqlite3.connect(database(installation), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    results = [installation.cli("status"), installation.cli("timeline", request_id)]
    other.close()
    assert [0, 0] == [one.exit_code for one in results]


@pytest.mark.usefixtures("hurried")
def test_a_role_waits_for_a_locked_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not ready for as long, the process stays up, and then everything is carried out."""
    with installed(tmp_path, monkeypatch) as installation:
        request_id = installation.submit(("email", PERSON))
        other = sqlite3.connect(database(installation), isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        fatal: list[Exception] = []
        loop = Loop("orchestrator", lambda: installation.orchestrator.step(0.01), on_fatal=fatal.append)
        loop.start()
        until(lambda: not loop.is_ready)
        other.close()
        until(lambda: installation.ground.store.saga(request_id))
        until(lambda: loop.is_ready)
        loop.stop()
        assert loop.join(5.0)
        assert [] == fatal


# --- full ---


@contextmanager
def full(installation: Installation) -> Iterator[None]:
    """The database gets no further page."""
    with installation.ground.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    def limit(connection: Any, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    sa.event.listen(installation.ground.engine, "checkout", limit)
    yield
    sa.event.remove(installation.ground.engine, "checkout", limit)
    installation.ground.engine.dispose()


def test_a_full_disk_loses_nothing_and_is_waited_out(installation: Installation) -> None:
    """Each role says that there is no room, keeps what it has, and goes on when there is some."""
    made = [installation.submit(("email", PERSON)) for _ in range(3)]
    errors: list[Exception] = []
    with full(installation):
        for _ in range(30):
            for step in (installation.relay.step, lambda: installation.orchestrator.step(0.0)):
                try:
                    step()
                except (BusUnavailable, StoreUnavailable) as error:
                    errors.append(error)
    # The bus gives the database's own error as the cause of its own.
    causes = {str(error.__cause__ if isinstance(error, BusUnavailable) else error) for error in errors}
    assert 1 == len(causes)
    assert "There is no room left for the database" in causes.pop()
    installation.settle()
    installation.later(hours=13)
    assert ["completed"] * 3 == [installation.saga(one).status for one in made]


def test_a_full_disk_is_said_to_be_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that can't be taken in is not said to be: exit code 1 and what to do."""
    with installed(tmp_path, monkeypatch) as installation:
        usual = engine._PRAGMAS
        with installation.ground.engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        monkeypatch.setattr(engine, "_PRAGMAS", (*usual, f"PRAGMA max_page_count={pages}"))
        typed = "".join(f"customer_id={n:0>250}\n" for n in range(90))
        results = [installation.cli("submit", typed=typed) for _ in range(8)]
        refused = [one for one in results if one.exit_code]
        assert refused
        assert all("There is no room left for the database" in one.stderr for one in refused)
        assert [""] * len(refused) == [one.stdout for one in refused]


# --- not ours ---


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_is_no_database_is_named(tmp_path: Path, command: list[str]) -> None:
    """Exit code 1; the file stays as it is."""
    file = write_settings(tmp_path)
    radera("submit", "--email", PERSON, "--config", str(file))
    for path in tmp_path.glob("radera.db*"):
        path.unlink()
    (tmp_path / "radera.db").write_bytes(b"minutes of the meeting\n" * 500)
    result = radera(*command, "--config", str(file))
    assert (1, True) == (result.exit_code, "is not a SQLite database, or is damaged" in result.stderr)
    assert (tmp_path / "radera.db").read_bytes().startswith(b"minutes")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_damaged_database_is_named(installation: Installation, command: list[str]) -> None:
    """Zeros in the middle of it: exit code 1 and one line, whatever is asked."""
    file = installation.file
    installation.submit(("email", PERSON))
    installation.settle()
    with sqlite3.connect(database(installation)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    installation.close()
    path = file.parent / "radera.db"
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"\xa5" * (len(whole) - 100))
    result = radera(*command, "--config", str(file))
    assert (1, 1) == (result.exit_code, len(result.stderr.splitlines())), result.stderr
    assert "is not a SQLite database, or is damaged" in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_database_of_a_newer_version_is_left_alone(installation: Installation, command: list[str]) -> None:
    """Exit code 1 and both ways out."""
    with sqlite3.connect(database(installation)) as connection:
        connection.execute("UPDATE schema_version SET version_num = '9999'")
    connection.close()
    result = installation.cli(*command)
    assert 1 == result.exit_code
    assert "was written by a newer Radera (schema 9999;" in result.stderr
    assert "Upgrade Radera, or restore the database from before the upgrade" in result.stderr


def test_a_database_of_something_else_is_told(tmp_path: Path) -> None:
    """Tables of the same names with other columns: one line and exit code 1."""
    file = write_settings(tmp_path)
    radera("submit", "--email", PERSON, "--config", str(file))
    with sqlite3.connect(tmp_path / "radera.db") as connection:
        connection.execute("DROP TABLE timeline")
        connection.execute("DROP TABLE sagas")
        connection.execute("CREATE TABLE sagas (song TEXT)")
    connection.close()
    result = radera("status", "--config", str(file))
    assert (1, True) == (result.exit_code, "is it one of Radera's" in result.stderr), result.stderr


def test_a_read_only_database_ends_the_role_with_its_reason(installation: Installation) -> None:
    """Nothing here can mend it, so the process is told to end, and why."""
    installation.submit(("email", PERSON))

    def forbid(connection: Any, *_: object) -> None:
        connection.execute("PRAGMA query_only=ON")

    installation.orchestrator.step(0.0)
    sa.event.listen(installation.ground.engine, "checkout", forbid)
    fatal: list[Exception] = []
    loop = Loop("orchestrator", lambda: installation.ground.keys.destroy("x"), on_fatal=fatal.append)
    loop.start()
    assert loop.join(5.0)
    sa.event.remove(installation.ground.engine, "checkout", forbid)
    installation.ground.engine.dispose()
    [error] = fatal
    assert "may not be written to. Of a file, give this user the right to write it" in str(error)
    assert not loop.is_ready


# --- keys ---


def unreadable_keys(path: Path, how: str) -> str:
    """Spoils the key file; gives what is said of it."""
    match how:
        case "missing":
            path.unlink()
            return "There is no key file"
        case "exposed":
            path.chmod(0o644)
            return f"can be read by others than its owner. Run `chmod 600 {path}`"
        case _:
            path.write_text({"empty": "", "cut short": path.read_text()[:80], "nothing": "{}"}[how])
            return "is damaged. Put back its latest copy"


@pytest.mark.parametrize("how", ["missing", "exposed", "empty", "cut short", "nothing"])
@pytest.mark.parametrize("command", WRITING)
def test_a_key_file_in_a_bad_way_is_named_and_never_replaced(
    installation: Installation, how: str, command: list[str]
) -> None:
    """An installation that has requests gets no new keys: exit code 1, the file and the mend."""
    path = installation.file.parent / "radera.keys"
    said = unreadable_keys(path, how)
    result = installation.cli(*command)
    assert (1, 1) == (result.exit_code, len(result.stderr.splitlines())), result.stderr
    assert said in result.stderr
    assert (how != "missing") == path.exists()


def test_a_role_waits_for_its_keys(installation: Installation) -> None:
    """A key file that is gone for a moment, by a deployment say, costs no request and no process."""
    request_id = installation.submit(("email", PERSON))
    path = installation.file.parent / "radera.keys"
    away = path.rename(path.with_suffix(".away"))
    with pytest.raises(KeyFileMissing):
        installation.orchestrator.step(0.0)
    fatal: list[Exception] = []
    loop = Loop("orchestrator", lambda: installation.orchestrator.step(0.01), on_fatal=fatal.append)
    loop.start()
    until(lambda: not loop.is_ready)
    away.rename(path)
    until(lambda: installation.ground.store.saga(request_id))
    loop.stop()
    assert loop.join(5.0)
    assert ([], []) == (fatal, [one for one in installation.sagas() if one.source == "unreadable"])


def test_keys_in_the_environment_that_are_broken_are_named(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable and how it is written; not what stands in it."""
    monkeypatch.setenv("RADERA_MASTER_KEYS", "1:canary-key")
    result = installation.cli("submit", "--email", PERSON)
    assert (1, True) == (result.exit_code, "RADERA_MASTER_KEYS" in result.stderr), result.stderr
    assert "canary-key" not in result.stderr


def test_other_keys_than_the_databases_open_nothing(installation: Installation) -> None:
    """Keys from another installation: a known request's key does not open, and nothing is made up."""
    request_id = installation.submit(("email", PERSON), verified=False)
    installation.settle()
    path = installation.file.parent / "radera.keys"
    path.unlink()
    elsewhere = installation.file.parent / "elsewhere"
    elsewhere.mkdir()
    radera("submit", "--email", PERSON, "--config", str(write_settings(elsewhere, SETTINGS)))
    (elsewhere / "radera.keys").rename(path)
    result = installation.cli("submit", "--email", PERSON, "--id", request_id)
    assert 1 == result.exit_code
    assert 1 == len(result.stderr.splitlines())
    assert "a fault in Radera" not in result.stderr


def test_every_thread_that_waited_has_ended() -> None:
    """No loop of these tests goes on behind their backs."""
    assert [] == [one.name for one in threading.enumerate() if one.name.startswith("radera-orchestrator")]
