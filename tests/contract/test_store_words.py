"""The numbers of parties' words, on both databases: what was stored later has the larger one."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator.bus.port import Record
from orchestrator.intake.outbox import Outbox
from orchestrator.store import Store, open_engine, purge_requests
from orchestrator.store.migrations import upgrade
from orchestrator.store.tables import words_taken
from tests.integration.processes import eventually

NOW = 1_790_000_000_000_000


class World:
    """A store whose clock can be set, and what was taken in."""

    def __init__(self, engine: sa.Engine) -> None:
        self.now = NOW
        self.store = Store(engine, lambda: self.now)
        self.outbox = Outbox(self.store)
        self.numbers: list[int] = []

    def say(self, request_id: str = "r", system: str = "s") -> int:
        """A word is stored; gives its number."""

        def word(order: int, at: int) -> Record:
            self.numbers.append(order)
            return Record(topic="t", key=request_id, value=str(order).encode(), headers=())

        self.outbox.publish_word(request_id, system, word)
        return self.numbers[-1]


@contextmanager
def opened(url: str) -> Iterator[sa.Engine]:
    """The database with our tables in it."""
    upgrade(url)
    engine = open_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'radera.db'}"
    else:
        url = request.getfixturevalue("postgresql_url")
    with opened(url) as engine:
        yield engine


def test_each_word_has_a_larger_number_than_the_one_before(engine: sa.Engine) -> None:
    """At one moment, too, and each system of each request by itself. It is no smaller than the time."""
    world = World(engine)
    assert [NOW, NOW + 1, NOW + 2] == [world.say() for _ in range(3)]
    assert [NOW, NOW] == [world.say(system="other"), world.say(request_id="other")]
    world.now = NOW + 50
    assert NOW + 50 == world.say()


def test_a_clock_that_is_set_back_gives_no_smaller_number(engine: sa.Engine) -> None:
    """A refusal that is stored after an "erase" must never count as the older one."""
    world = World(engine)
    first = world.say()
    world.now = NOW - 3_600_000_000
    assert first < world.say()


def test_a_database_that_is_put_back_gives_no_number_again(engine: sa.Engine) -> None:
    """Kafka still holds the words that were numbered since the backup was made."""
    world = World(engine)
    world.say()
    with engine.connect() as connection:
        backup = connection.execute(sa.select(words_taken)).one()
    world.now += 1_000_000
    since = world.say()
    with engine.begin() as connection:
        connection.execute(sa.update(words_taken).values(latest=backup.latest))
    world.now += 1_000_000
    assert since < world.say()


def test_the_number_is_stored_with_its_word_or_not_at_all(engine: sa.Engine) -> None:
    """A record that can't be made takes no number, and the words leave in the order of their numbers."""
    world = World(engine)

    def broken(order: int, at: int) -> Record:
        raise ZeroDivisionError

    world.say()
    with pytest.raises(ZeroDivisionError):
        world.outbox.publish_word("r", "s", broken)
    assert NOW + 1 == world.say()
    assert [str(NOW).encode(), str(NOW + 1).encode()] == [one.value for one in world.store.unsent(10)]


def test_two_at_once_have_two_numbers_in_the_order_of_their_commits(engine: sa.Engine) -> None:
    """Whoever comes second waits for the first, which is stored first and has the smaller number."""
    world = World(engine)
    with world.store.begin() as first:
        order = first.number_word("r", "s")
        second = threading.Thread(target=world.say)
        second.start()
        if engine.dialect.name == "postgresql":
            eventually("the second waits", lambda: _waits(engine), within=20)
        assert [] == world.numbers
    second.join(30)
    assert [order + 1] == world.numbers


def _waits(engine: sa.Engine) -> bool:
    with engine.connect() as connection:
        waiting = connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(waiting.scalar_one())


def test_old_numbers_are_thrown_away(engine: sa.Engine) -> None:
    """A number is no smaller than the time, so that those of long ago are of no use to any word to come."""
    world = World(engine)
    world.say("old")
    world.now += 100
    world.say("young")
    purge_requests(world.store, NOW + 100)
    with engine.connect() as connection:
        left = list(connection.execute(sa.select(words_taken.c.request_id)).scalars())
    assert ["young"] == left
    assert NOW + 100 == world.say("old")
