"""Claims of mails, on both databases: one mailbox at a time, and none once it was sent."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator.store import SentMails, Store, open_engine
from orchestrator.store.migrations import upgrade
from orchestrator.store.tables import mails_in_hand
from tests.integration.processes import eventually

NOW = 1_790_000_000_000_000


class World:
    """A store with a clock that stands still, and two mailboxes on it."""

    def __init__(self, engine: sa.Engine) -> None:
        self.now = NOW
        self.store = Store(engine, lambda: self.now)
        self.one, self.two = (SentMails(self.store, holder=name) for name in ("one", "two"))

    def claims(self) -> int:
        with self.store.reading.connect() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(mails_in_hand)).scalar_one()


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
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql_url")
    with opened(url) as engine:
        yield World(engine)


def test_a_claim_is_one_holders_until_it_ends(world: World) -> None:
    """Its own holder may have it again; another may when its time is over, and then the first may not."""
    assert ["ours", "theirs", "ours"] == [one.claim("e", 60) for one in (world.one, world.two, world.one)]
    assert "ours" == world.two.claim("other", 60)
    world.now += 59
    assert "theirs" == world.two.claim("e", 60)
    world.now += 1
    assert ["ours", "theirs"] == [one.claim("e", 60) for one in (world.two, world.one)]


def test_what_was_recorded_is_nobodys(world: World) -> None:
    """Neither its sender's nor another's, whether it was claimed or not; and no claim of it is left."""
    assert "ours" == world.one.claim("e", 60)
    for _ in range(2):
        world.one.record("e")
    world.two.record("unclaimed")

    assert ["sent"] * 3 == [
        world.two.claim("e", 60),
        world.one.claim("e", 60),
        world.one.claim("unclaimed", 60),
    ]
    assert world.two.seen("e")
    assert 0 == world.claims()


def test_only_the_holder_releases(world: World) -> None:
    """One whose claim has ended, and went to another, does not take it away."""
    assert "ours" == world.one.claim("e", 60)
    world.now += 60
    assert "ours" == world.two.claim("e", 60)
    world.one.release("e")
    assert "theirs" == world.one.claim("e", 60)
    world.two.release("e")
    assert "ours" == world.one.claim("e", 60)


def test_processes_of_a_file_are_one_after_the_other(tmp_path: Path) -> None:
    """A new one takes up what the one before had in hand, and need not wait for the claim to end."""
    with opened(f"sqlite:///{tmp_path / 'a.db'}") as engine:
        store = Store(engine, lambda: NOW)
        assert ["ours", "ours"] == [SentMails(store).claim("e", 60), SentMails(store).claim("e", 60)]


def test_processes_on_a_server_are_side_by_side(postgresql_url: str) -> None:
    """Each has a name of its own without being given one."""
    with opened(postgresql_url) as engine:
        store = Store(engine, lambda: NOW)
        assert ["ours", "theirs"] == [SentMails(store).claim("e", 60), SentMails(store).claim("e", 60)]


def test_who_gets_the_claim_sees_what_was_recorded_with_its_end(postgresql_url: str) -> None:
    """The claim is asked for at the very moment at which its holder records: it is waited for, and then the
    record is seen. Looking first and claiming after would send the mail a second time.
    """
    with opened(postgresql_url) as engine:
        world = World(engine)
        assert "ours" == world.one.claim("e", 60)
        said: list[str] = []
        asking = threading.Thread(target=lambda: said.append(world.two.claim("e", 60)))
        with world.store.begin() as recording:
            recording.insert_inbox("mailbox", ["e"])
            recording.let_go("e")
            asking.start()
            _await_a_lock(engine)
        asking.join()

        assert ["sent"] == said


def _await_a_lock(engine: sa.Engine) -> None:
    """Until somebody in this database waits for another."""
    waiting = sa.text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        eventually("it waits", lambda: connection.execute(waiting).scalar_one() > 0, within=30, every=0.01)


def test_a_claim_from_before_the_clock_was_set_back_is_none(world: World) -> None:
    """It would keep a mail for as long as the clock was ahead."""
    world.now += 10_000
    assert "ours" == world.one.claim("e", 60)
    world.now -= 10_000
    assert "ours" == world.two.claim("e", 60)
