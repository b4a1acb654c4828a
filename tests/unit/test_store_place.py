"""The file of a SQLite database: one process for each role, and never another file than the one opened."""

import os
import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from orchestrator.store import Occupation, Store, file_of, open_engine
from orchestrator.store.errors import Moved, Occupied


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "radera.db"


def opened(file: Path) -> sa.Engine:
    return open_engine(f"sqlite:///{file}")


def replaced(file: Path) -> None:
    copy = file.with_name("copy.db")
    shutil.copy(file, copy)
    copy.replace(file)


def moved(file: Path) -> None:
    file.rename(file.with_name("elsewhere.db"))


@pytest.mark.parametrize("trouble", [replaced, moved, Path.unlink])
def test_nothing_is_done_on_a_file_that_is_not_the_one_opened(file: Path, trouble: object) -> None:
    """What is written to a file that has no name any more is lost when the process ends."""
    engine = opened(file)
    store = Store(engine)
    store.now()
    assert callable(trouble)
    trouble(file)
    for look in (store.now, lambda: store.begin().__enter__()):
        with pytest.raises(Moved, match=r"radera\.db was moved, replaced or removed"):
            look()


@pytest.mark.parametrize("trouble", [moved, Path.unlink])
def test_no_empty_database_takes_the_place_of_one_that_is_gone(file: Path, trouble: object) -> None:
    """The next start would take an empty file for a new installation."""
    engine = opened(file)
    engine.dispose()  # so that a new connection is made
    assert callable(trouble)
    trouble(file)
    with pytest.raises(Moved):
        Store(engine).now()
    assert not file.exists()


def test_one_process_fills_a_role(file: Path) -> None:
    """A second one is told which process that is. Other roles are free, and the same of another database."""
    first = Occupation.of(file, ["orchestrator", "worker-crm"])
    with pytest.raises(Occupied, match=f"process {os.getpid()}.* as worker-crm"):
        Occupation.of(file, ["mailbox", "worker-crm"])
    Occupation.of(file, ["mailbox", "worker-web"]).end()
    Occupation.of(file.with_name("other.db"), ["orchestrator"]).end()
    first.end()
    Occupation.of(file, ["orchestrator", "worker-crm"]).end()


def test_a_lock_is_on_a_file_beside_the_database(file: Path) -> None:
    """Closing any descriptor of a SQLite file drops the locks that SQLite itself has on it."""
    Occupation.of(file, ["orchestrator"]).end()
    assert ["radera.db.orchestrator.lock"] == [one.name for one in file.parent.iterdir()]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("sqlite:////var/radera.db", Path("/var/radera.db")),
        ("sqlite:///radera.db", Path.cwd() / "radera.db"),
        ("sqlite://", None),
        ("sqlite:///:memory:", None),
        ("postgresql://db.example/radera", None),
    ],
)
def test_a_place_is_a_file(url: str, name: Path | None) -> None:
    """A server sees to its own files, and memory has none."""
    assert name == file_of(make_url(url))
