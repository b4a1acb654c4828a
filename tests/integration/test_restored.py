"""The database locked by somebody else, or put back from a backup: seen, borne, and nothing is lost."""

import random
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.people import Person, make_people
from tests.integration.processes import eventually, locked
from tests.integration.settings import NORD, SYD
from tests.integration.world import World


def test_locked_while_running(world: World) -> None:
    """Somebody holds the database for longer than our patience. We say that we aren't ready and that we are
    alive; when it is free again all goes on by itself, and nothing is lost.
    """
    rng = random.Random(world.seed)
    world.settle_bystanders(rng, 2)
    world.settle(make_people(rng, 10))
    for person in world.people:
        world.submit(person)
    world.radera.start()
    assert (200, 200) == (world.probe("/healthz"), world.probe("/readyz"))

    with locked(world.database):
        began = time.monotonic()
        # A turn may wait for the lock twice, ten seconds each: to publish, and then to look at the timers.
        eventually("we are not ready", lambda: world.probe("/readyz") == 503, within=30)
        world.note(f"not ready after {time.monotonic() - began:.1f} s")
        for _ in range(10):
            assert (200, 503) == (world.probe("/healthz"), world.probe("/readyz"))
            time.sleep(0.1)
        assert world.open_people()
    eventually("we are ready again", lambda: world.probe("/readyz") == 200, within=20)

    world.await_end(240)
    world.await_mails(20)
    assert world.radera.is_alive
    assert b"role_waits" in world.radera.said()
    _check(world)


def test_locked_while_starting(world: World) -> None:
    """A restart meets a database that somebody holds for some seconds: it waits, and then carries on."""
    rng = random.Random(world.seed)
    world.settle(make_people(rng, 5))
    for person in world.people:
        world.submit(person)
    world.radera.start()
    time.sleep(0.3)
    world.radera.kill()

    with locked(world.database):
        world.radera.spawn()
        time.sleep(5.0)
        assert world.radera.is_alive
        assert not world.radera.is_ready
    world.radera.await_ready()

    world.await_end(240)
    world.await_mails(20)
    _check(world)


@pytest.mark.timeout(600)
def test_put_back_from_a_backup(world: World, tmp_path: Path) -> None:
    """The database of some moments ago is put back after everything has ended: what it doesn't know of is
    carried out again, to the same end, and changes nothing at the vendors.
    """
    rng = random.Random(world.seed)
    world.settle_bystanders(rng, 2)
    world.settle(make_people(rng, 15))
    for person in world.people:
        world.submit(person)
    world.radera.start()
    eventually("some requests have ended", lambda: len(world.open_people()) < 12, within=60)
    backup = tmp_path / "backup.db"
    _back_up(world.database, backup)
    world.await_end(240)
    world.await_mails(20)
    done = world.first_effects()
    world.radera.stop()

    _put_back(world, backup)
    again = [person.request_id for person in world.open_people()]
    world.note(f"put back: {len(again)} requests are open again")
    assert again
    world.radera.start()
    world.await_end(240)
    world.await_mails(20)

    # A controller may be told in other words what it was told before; nothing else is done a second time.
    vendors = {effect for effect in world.first_effects() - done if effect[0] != "controllers"}
    assert set() == vendors
    _check(world, has_forgotten=True)


@pytest.mark.timeout(480)
def test_put_back_from_before_a_controllers_answer(world: World, tmp_path: Path) -> None:
    """A controller's answer is lost with the database that it came to. It is reminded, and says it again."""
    person = make_people(random.Random(world.seed), 1)[0]
    person.scope = person.held = ("tenant_byggab",)
    person.keeps_sale = False
    world.settle([person])
    world.submit(person)
    world.radera.start()
    eventually("the controller was asked", lambda: _is_asked(world, person), within=60, every=0.01)
    backup = tmp_path / "backup.db"
    _back_up(world.database, backup)
    world.await_end(240)
    world.radera.stop()

    _put_back(world, backup)
    assert [person] == world.open_people()
    world.radera.start()
    world.await_end(240)
    world.await_mails(20)
    _check(world, has_forgotten=True)


def _is_asked(world: World, person: Person) -> bool:
    saga = world.saga(person)
    return saga is not None and saga.steps[0].state.status == "awaiting_party"


def test_commands_that_are_read_again(world: World) -> None:
    """The bus has its commands read from the oldest, as after records were lost: what was done is done again,
    to the same end, and no agency gets a second mail.
    """
    world.settle(make_people(random.Random(world.seed), 8))
    for person in world.people:
        world.submit(person)
    world.radera.start()
    eventually("agencies were asked", lambda: len(_asked_by_mail(world)) > 1, within=60)
    world.radera.stop()
    before = _asked_by_mail(world)
    assert len(before) == len(set(before))

    world.ground.engine.dispose()
    with closing(sqlite3.connect(world.database)) as database, database:
        done = database.execute("UPDATE bus_positions SET next = 0 WHERE \"group\" = 'worker'")
        assert done.rowcount
    world.radera.start()
    world.await_end(240)
    world.await_mails(20)
    after = _asked_by_mail(world)
    assert set(before) <= set(after)
    assert len(after) == len(set(after))
    _check(world)


def _asked_by_mail(world: World) -> list[str]:
    """The Message-IDs of the mails to agencies, as often as each was sent."""
    return [str(mail["message-id"]) for mail in world.mails() if str(mail["to"]) in (NORD, SYD)]


def _put_back(world: World, backup: Path) -> None:
    world.ground.engine.dispose()
    for name in ("radera.db-wal", "radera.db-shm"):
        (world.directory / name).unlink(missing_ok=True)
    shutil.copyfile(backup, world.database)


def _back_up(database: Path, copy: Path) -> None:
    """A backup while everybody works, as SQLite makes it."""
    with (
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)


def _check(world: World, *, has_forgotten: bool = False) -> None:
    """All requests are completed, once, and nobody else was touched."""
    sagas = [world.saga(person) for person in world.people]
    assert {"completed"} == {saga.status for saga in sagas if saga is not None}
    world.check_effects(has_forgotten=has_forgotten)
    world.check_nobody_is_held()
    world.check_records()
