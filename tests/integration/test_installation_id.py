"""Database, key file and Kafka say whose they are: none of them serves two, or starts from nothing."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from unittest.mock import Mock

import pytest
import sqlalchemy as sa

from orchestrator.bus.kafka_owner import BusOfAnother, BusUnclaimed, claim, owner
from orchestrator.bus.port import Bus, BusUnavailable
from orchestrator.bus.sqlite import SqliteBus
from orchestrator.cli import up
from orchestrator.position import Position
from orchestrator.privacy import Keyring
from orchestrator.service.orchestrator import GROUP
from orchestrator.store import DatabaseGone, Installations, open_engine
from orchestrator.store.installation import DatabaseEmpty, DatabaseOfAnother
from orchestrator.store.tables import installation as installation_table
from schemas import topics
from tests.integration.installation import PERSON, START, Installation, installed

#: What would make, fill or read a database.
OPENING = (["submit", "--email", PERSON], ["keys", "rotate"], ["keys", "public"])


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    with installed(tmp_path, monkeypatch) as made:
        yield made


def database_of(installation: Installation) -> Path:
    return installation.file.parent / "radera.db"


def _taken_away(installation: Installation) -> Path:
    """The database is elsewhere, as when somebody moved the wrong file."""
    installation.ground.installations.settle()
    installation.ground.close()
    file, aside = database_of(installation), installation.file.parent / "aside.db"
    for one in (file, *file.parent.glob("radera.db-*")):
        one.rename(one.with_name(one.name.replace("radera.db", "aside.db")))
    return aside


def test_no_empty_database_takes_the_place_of_one_that_ran(installation: Installation) -> None:
    """Nothing makes one, and the line says what to put back. Put back, it goes on."""
    request_id = installation.submit(("email", PERSON), verified=False)
    installation.settle()
    aside = _taken_away(installation)
    with pytest.raises(DatabaseGone, match=r"radera\.db is not there"):
        installation.restart()
    for arguments in OPENING:
        result = installation.cli(*arguments)
        assert (1, True) == (result.exit_code, "is not there: put it back" in result.stderr), arguments
    assert not database_of(installation).exists()
    aside.rename(database_of(installation))
    installation.restart()
    assert [request_id] == [saga.request_id for saga in installation.sagas()]


def test_an_empty_database_is_not_the_one_that_ran(installation: Installation) -> None:
    """One with tables and nothing in it, as `radera db upgrade` makes, knows of no request that is open."""
    _taken_away(installation)
    open_engine(f"sqlite:///{database_of(installation)}").dispose()
    with pytest.raises(DatabaseEmpty):
        installation.restart()


def test_another_installations_database_is_refused(installation: Installation, tmp_path: Path) -> None:
    """Its open requests could not be read, and ours would lie beside them."""
    other = tmp_path / "other"
    other.mkdir()
    keys = Keyring.create(other / "radera.keys", START)
    engine = open_engine(f"sqlite:///{other / 'radera.db'}")
    Installations(type(installation.ground.store)(engine), keys, "other").settle()
    engine.dispose()
    _taken_away(installation)
    shutil.copy(other / "radera.db", database_of(installation))
    with pytest.raises(DatabaseOfAnother):
        installation.restart()


def test_a_database_from_before_it_had_an_id_gets_its_own(installation: Installation) -> None:
    """A backup from before the upgrade was put back: the key file remembers whose it is."""
    installation.submit(("email", PERSON), verified=False)
    installation.settle()
    own = installation.ground.installations.settle()
    with installation.ground.engine.begin() as connection:
        connection.execute(sa.delete(installation_table))
    installation.restart()
    assert own == installation.ground.installations.settle() == installation.ground.keyring.installation


def test_new_keys_are_for_a_new_database(installation: Installation) -> None:
    """A key file that was made ahead of the first start belongs to nobody yet."""
    installation.ground.close()
    for one in installation.file.parent.glob("radera.*"):
        if one != installation.file:
            one.unlink()
    assert 0 == installation.cli("keys", "create").exit_code
    installation.restart()
    assert installation.ground.installations.settle() == installation.ground.keyring.installation


# --- whose bus it is ---


@pytest.fixture
def bus(installation: Installation) -> Bus:
    return SqliteBus(installation.ground.engine, installation.ground.store.now)


def test_a_bus_belongs_to_who_claims_it_first(bus: Bus) -> None:
    """Two on one would read each other's requests, and could open none. Claiming again changes nothing."""
    assert owner(bus) is None
    claim(bus, "first")
    claim(bus, "first")
    with pytest.raises(BusOfAnother, match="belongs to another installation"):
        claim(bus, "second")
    assert ("first", 1) == (owner(bus), len(list(bus.browse([topics.INSTALLATION]))))


def test_of_two_that_claim_at_once_one_has_it(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest record counts, also for the one that saw none when it looked."""
    publish = bus.publish

    def overtaken(records: object) -> None:
        monkeypatch.undo()
        claim(bus, "first")
        publish(records)  # type: ignore[arg-type]  # as it came

    monkeypatch.setattr(bus, "publish", overtaken)
    with pytest.raises(BusOfAnother):
        claim(bus, "second")
    assert "first" == owner(bus)


@pytest.mark.parametrize("has_read", [True, False])
def test_an_orchestrator_that_has_read_before_goes_on_without_the_bus(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, has_read: bool
) -> None:
    """Its clocks go on while Kafka is away. A first start can't tell whose Kafka it is, and waits for it."""
    tried: list[None] = []

    def away(*_: object) -> None:
        tried.append(None)
        if len(tried) < 3:
            raise BusUnavailable("the bus can't be reached")

    if has_read:
        with installation.ground.store.begin() as transaction:
            transaction.set_positions(GROUP, {(topics.REQUESTS, 0): Position(1, "")})
    monkeypatch.setattr(up, "claim", away)
    stop = Event()
    monkeypatch.setattr(stop, "wait", lambda seconds: False)
    up._claim(replace(installation.ground, settings=Mock(kafka=object())), stop)
    assert (1 if has_read else 3) == len(tried)


def test_what_nobody_made_is_claimed_by_nobody(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A topic that appears by itself would have a retention, and forget whose Kafka it is."""
    monkeypatch.setattr(bus, "missing", set)
    with pytest.raises(BusUnclaimed, match="radera topics apply"):
        claim(bus, "first")
