"""Two processes at one database, and a database that goes away under one: nothing is done twice or lost."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.people import make_people
from tests.integration.ports import free_port
from tests.integration.processes import Radera, command
from tests.integration.world import World


def _elsewhere(world: World, tmp_path: Path) -> Radera:
    """A second `radera up` on the same database, at a port of its own."""
    config = world.directory / "second.toml"
    text = world.config.read_text().replace(f"port = {world.http_port}", f"port = {free_port()}")
    config.write_text(text)
    return Radera(config, tmp_path / "second.log")


def test_a_second_process_is_refused(world: World, tmp_path: Path) -> None:
    """It would carry out every command twice. The line says which process is there; commands are welcome."""
    world.radera.start()
    second = _elsewhere(world, tmp_path)
    second.spawn()
    assert 1 == second.wait(30.0)
    assert f"Another `radera` (process {world.radera.pid}) works on".encode() in second.said()
    assert b"Traceback" not in second.said()
    assert world.radera.is_alive
    assert 0 == command(world.config, "status").returncode
    world.radera.kill()
    second.start()  # the kernel has let go of a killed process's locks
    second.stop()


def _removed(file: Path) -> None:
    file.rename(file.with_name("aside.db"))


def _replaced(file: Path) -> None:
    copy = file.with_name("copy.db")
    copy.write_bytes(file.read_bytes())
    copy.replace(file)


@pytest.mark.parametrize("trouble", [_removed, _replaced])
def test_a_database_that_goes_away_ends_the_process(world: World, trouble: Callable[[Path], None]) -> None:
    """It says why. Nothing is taken in meanwhile, and no empty database is left in the place."""
    world.radera.start()
    person = make_people(random.Random(world.seed), 1)[0]
    world.submit(person)
    trouble(world.database)
    assert 1 == world.radera.wait(30.0)
    assert b"was moved, replaced or removed while this process had it open" in world.radera.said()
    assert 1 == world.radera.said().count(b"radera: The database")
    assert b"Traceback" not in world.radera.said()
    assert (trouble is _replaced) == world.database.exists()
