"""The embedded bus: the contract, in a file and in memory, and what is its own."""

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator.bus import sharing, sqlite
from orchestrator.bus.port import Bus, BusUnavailable, Record
from orchestrator.bus.sqlite import PROBE_INTERVAL, SqliteBus
from orchestrator.store.engine import open_engine
from tests.contract.bus_suite import BusSuite, receive, record, settle, values


def wall_clock() -> int:
    return time.time_ns() // 1000


def publish_and_exit(url: str, records: Sequence[Record]) -> None:
    SqliteBus(open_engine(url), wall_clock).publish(records)
    # As abruptly as a process can end.
    os._exit(0)


class Factory:
    """Buses of several processes on one file; each has an engine of its own."""

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path}"
        self._engines: list[sa.Engine] = []

    def open(self) -> SqliteBus:
        self._engines.append(open_engine(self.url))
        return SqliteBus(self._engines[-1], wall_clock)

    def crash(self, bus: Bus) -> None:
        """The connections go, and nothing else is told."""
        assert isinstance(bus, SqliteBus)
        bus._engine.dispose()

    def publish_from_another_process(self, records: Sequence[Record]) -> None:
        process = multiprocessing.get_context("spawn").Process(
            target=publish_and_exit, args=(self.url, records)
        )
        process.start()
        process.join(30)
        assert 0 == process.exitcode

    def dispose(self) -> None:
        for engine in self._engines:
            engine.dispose()


class InMemory(Factory):
    """Buses on one engine in memory; another process can only be another bus object."""

    def __init__(self) -> None:
        self._engines = [open_engine("sqlite://")]

    def open(self) -> SqliteBus:
        return SqliteBus(self._engines[0], wall_clock)

    def crash(self, bus: Bus) -> None:
        """Nobody closes it, and nobody uses it again."""

    def publish_from_another_process(self, records: Sequence[Record]) -> None:
        self.open().publish(records)


class TestInAFile(BusSuite):
    """The contract on a file."""

    @pytest.fixture
    def factory(self, tmp_path: Path) -> Iterator[Factory]:
        factory = Factory(tmp_path / "radera.db")
        yield factory
        factory.dispose()


class TestInMemory(BusSuite):
    """The contract in memory, as simulations use it."""

    @pytest.fixture
    def factory(self) -> Iterator[InMemory]:
        factory = InMemory()
        yield factory
        factory.dispose()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = open_engine(f"sqlite:///{tmp_path / 'radera.db'}", lock_timeout=0.2)
    yield engine
    engine.dispose()


@pytest.fixture
def bus(engine: sa.Engine) -> SqliteBus:
    return SqliteBus(engine, wall_clock)


def stored(engine: sa.Engine, topic: str) -> list[str]:
    """The values still in the file."""
    with engine.connect() as connection:
        query = sa.text('SELECT value FROM bus_records WHERE topic = :topic ORDER BY "offset"')
        return [value.decode() for value in connection.execute(query, {"topic": topic}).scalars()]


def test_a_key_stays_with_one_subscription() -> None:
    """While a key's record is unacknowledged, the key's later records go nowhere else, or they would be
    overtaken.
    """
    bus = SqliteBus(open_engine("sqlite://"), wall_clock)
    one, other = bus.subscribe("g", ["t"]), bus.subscribe("g", ["t"])
    bus.publish([record("t", "a", "a1"), record("t", "a", "a2"), record("t", "b", "b1")])

    [a1] = one.poll(0, 1)
    assert ["b1"] == values(other.poll(0, 10))
    one.ack(a1)
    assert ["a2"] == values(other.poll(0, 10))


def test_an_empty_key_asks_for_no_order() -> None:
    """Records without a key are shared freely."""
    bus = SqliteBus(open_engine("sqlite://"), wall_clock)
    one, other = bus.subscribe("g", ["t"]), bus.subscribe("g", ["t"])
    bus.publish([record("t", "", "1"), record("t", "", "2")])

    assert ["1"] == values(one.poll(0, 1))
    assert ["2"] == values(other.poll(0, 1))


def test_what_is_given_back_comes_before_what_waits() -> None:
    """A record that a closed subscription held is not overtaken by its key's later ones."""
    bus = SqliteBus(open_engine("sqlite://"), wall_clock)
    one, other = bus.subscribe("g", ["t"]), bus.subscribe("g", ["t"])
    bus.publish([record("t", "a", "a1"), record("t", "a", "a2")])
    assert ["a1"] == values(one.poll(0, 1))
    assert [] == other.poll(0, 10)

    one.close()

    assert ["a1", "a2"] == values(other.poll(0, 10))


@pytest.mark.parametrize("most", [0, 1, 2])
def test_no_more_is_given_of_what_was_given_back(most: int) -> None:
    """Also of records that were read already, a reader gets as many as it has hands for."""
    bus = SqliteBus(open_engine("sqlite://"), wall_clock)
    one, other = bus.subscribe("g", ["t"]), bus.subscribe("g", ["t"])
    bus.publish([record("t", "", f"{n}") for n in range(4)])
    assert 4 == len(one.poll(0, 4))
    one.close()

    assert most == len(other.poll(0, most))


def test_an_acknowledgement_wakes_who_waits_for_the_key() -> None:
    """A subscription that waits gets the key's next record as soon as the key is free."""
    bus = SqliteBus(open_engine("sqlite://"), wall_clock)
    one, other = bus.subscribe("g", ["t"]), bus.subscribe("g", ["t"])
    bus.publish([record("t", "a", "a1"), record("t", "a", "a2")])
    [a1] = one.poll(0, 1)
    assert [] == other.poll(0, 1)
    arrived: list[float] = []
    waiting = threading.Thread(target=lambda: arrived.extend(time.monotonic() for _ in other.poll(10, 1)))
    waiting.start()
    # In the middle between two looks.
    time.sleep(PROBE_INTERVAL * 1.5)

    acknowledged = time.monotonic()
    one.ack(a1)
    waiting.join(5)

    assert arrived[0] - acknowledged < PROBE_INTERVAL / 2


def test_news_of_another_process_come_once() -> None:
    """A record that was read by the way, before the look that would have told of it, is not read again."""
    engine = open_engine("sqlite://")
    here, elsewhere = SqliteBus(engine, wall_clock), SqliteBus(engine, wall_clock)
    subscription = here.subscribe("g", ["t"])
    assert [] == subscription.poll(0, 10)
    here.publish([record("t", "k", "1")])
    elsewhere.publish([record("t", "k", "2")])

    assert ["1", "2"] == values(subscription.poll(0, 10))
    assert [] == subscription.poll(PROBE_INTERVAL * 2, 10)


def test_one_topic_that_cannot_be_read_keeps_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was taken from other topics before the failure is delivered; the next poll says what is wrong."""
    bus = SqliteBus(open_engine("sqlite://"), wall_clock)
    bus.publish([record("good", "k", "1"), record("bad", "k", "2")])
    subscription = bus.subscribe("g", ["bad", "good"])
    fetch = sqlite._Shared.fetch

    def failing(self: sqlite._Shared, topic: str, line: sharing.Line, limit: int) -> None:
        if topic == "bad":
            raise BusUnavailable
        fetch(self, topic, line, limit)

    monkeypatch.setattr(sqlite._Shared, "fetch", failing)
    assert ["1"] == values(subscription.poll(0, 10))
    with pytest.raises(BusUnavailable):
        subscription.poll(0, 10)
    monkeypatch.undo()
    assert ["2"] == values(subscription.poll(0, 10))


def test_reading_ahead_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer that acknowledges nothing is not handed the whole topic, and goes on when it does
    acknowledge.
    """
    monkeypatch.setattr(sharing, "OUTSTANDING_LIMIT", 10)
    bus = SqliteBus(open_engine("sqlite://"), wall_clock)
    bus.publish([record("t", str(n), str(n)) for n in range(25)])
    subscription = bus.subscribe("g", ["t"])

    got = subscription.poll(0, 5) + subscription.poll(0, 5) + subscription.poll(0, 5)
    assert [str(n) for n in range(10)] == values(got)
    for delivery in got[:3]:
        subscription.ack(delivery)
    assert ["10", "11", "12"] == values(subscription.poll(0, 3) + subscription.poll(0, 3))


def test_positions_of_another_bus_lose_nothing(bus: SqliteBus) -> None:
    """Positions beyond the end are of a bus that was used before this one. They are put right where they
    come from, and the topic is read from its beginning; while they can't be, it is not read at all.
    """
    bus.publish([record("t", "k", "1")])
    positions = {("t", 0): 50_000}

    with pytest.raises(ZeroDivisionError):
        bus.subscribe("g", ["t"], positions=lambda: positions, on_stray=lambda _: 1 // 0)
    with bus.subscribe("g", ["t"], positions=lambda: positions, on_stray=positions.update) as subscription:
        assert {("t", 0): 0} == positions
        assert ["1"] == values(receive(subscription, 1))


def test_only_sqlite() -> None:
    """Cursors over a sequence are wrong where several writers commit, so other databases are refused."""
    mock = sa.create_mock_engine("postgresql://", lambda *_: None)
    with pytest.raises(ValueError, match="SQLite only"):
        SqliteBus(mock, wall_clock)  # type: ignore[arg-type]  # an engine as far as it is looked at


def test_a_publisher_in_this_process_is_heard_at_once(bus: SqliteBus) -> None:
    """A waiting poll is woken by publishing, and does not find out by looking now and then."""
    arrived: list[float] = []
    with bus.subscribe("g", ["t"]) as subscription:
        subscription.poll(0, 1)
        waiting = threading.Thread(
            target=lambda: arrived.extend(time.monotonic() for _ in subscription.poll(10, 1))
        )
        waiting.start()
        # In the middle between two looks.
        time.sleep(PROBE_INTERVAL * 1.5)
        published = time.monotonic()
        bus.publish([record("t", "k", "1")])
        waiting.join(5)

    assert arrived[0] - published < PROBE_INTERVAL / 2


def test_waiting_costs_next_to_nothing(bus: SqliteBus) -> None:
    """A process in which nothing happens uses no noticeable CPU, however many readers wait."""
    subscriptions = [bus.subscribe(f"g{n}", ["a", "b", "c"]) for n in range(6)]
    waiting = [threading.Thread(target=one.poll, args=(2.0, 10)) for one in subscriptions]
    before = time.process_time()
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join()

    assert time.process_time() - before < 0.2


def test_looking_and_finding_nothing_writes_nothing(engine: sa.Engine, bus: SqliteBus) -> None:
    """Readers of quiet topics take no write lock because of what goes on in others."""
    subscription = bus.subscribe("g", ["quiet"])
    bus.publish([record("busy", "k", "1")])
    statements: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))

    for _ in range(3):
        assert [] == subscription.poll(0, 10)

    assert [] == [one for one in statements if not one.startswith(("SELECT", "BEGIN")) or "IMMEDIATE" in one]


def test_a_locked_database_is_a_bus_unavailable(engine: sa.Engine, bus: SqliteBus) -> None:
    """Nothing was published, the caller is told to try again, and trying again works."""
    with engine.begin(), pytest.raises(BusUnavailable):
        bus.publish([record("t", "k", "1")])
    bus.publish([record("t", "k", "2")])

    with bus.subscribe("g", ["t"]) as subscription:
        assert ["2"] == values(receive(subscription, 1))


def test_failing_to_store_a_position_costs_repeats_alone(engine: sa.Engine, bus: SqliteBus) -> None:
    """When the database refuses, closing still gives the records back, and they come again."""
    bus.publish([record("t", "k", "1")])
    subscription = bus.subscribe("g", ["t"])
    [delivery] = receive(subscription, 1)
    subscription.ack(delivery)
    with engine.begin():
        with pytest.raises(BusUnavailable):
            subscription.poll(0, 1)
        subscription.close()

    with bus.subscribe("g", ["t"]) as subscription:
        assert ["1"] == values(receive(subscription, 1))


def test_the_slower_of_two_processes_does_not_set_the_group_back(tmp_path: Path) -> None:
    """Two processes of one group each get everything; the position is that of the one that got further."""
    factory = Factory(tmp_path / "radera.db")
    fast, slow = factory.open(), factory.open()
    fast.publish([record("t", "k", "1"), record("t", "k", "2")])
    ahead, behind = fast.subscribe("g", ["t"]), slow.subscribe("g", ["t"])
    [one, two], [first, _] = receive(ahead, 2), receive(behind, 2)
    settle(ahead, [one, two])
    settle(behind, [first])
    fast.close()
    slow.close()

    with factory.open().subscribe("g", ["t"]) as subscription:
        assert [] == subscription.poll(0, 10)
    factory.dispose()


class TestTrim:
    """Retention."""

    def test_what_is_old_and_read_goes(self, engine: sa.Engine) -> None:
        """Deleted are records older than the limit that every group of the topic has behind it."""
        now = 0
        bus = SqliteBus(engine, lambda: now)
        for now in (10, 20, 30):
            bus.publish([record("t", "k", str(now))])
        fast, slow = bus.subscribe("fast", ["t"]), bus.subscribe("slow", ["t"])
        settle(fast, receive(fast, 3))
        settle(slow, receive(slow, 3)[:1])

        assert 0 == bus.trim(10)
        assert ["10", "20", "30"] == stored(engine, "t")
        assert 1 == bus.trim(31)
        assert ["20", "30"] == stored(engine, "t")
        slow.close()
        with bus.subscribe("slow", ["t"]) as slow:
            settle(slow, receive(slow, 2))
        assert 1 == bus.trim(30)
        assert ["30"] == stored(engine, "t")

    def test_a_topic_without_readers_is_kept(self, engine: sa.Engine, bus: SqliteBus) -> None:
        """Its first reader may yet come; only who names the topic gives that up."""
        bus.publish([record("commands", "k", "1"), record("dlq", "k", "2")])

        assert 1 == bus.trim(wall_clock() + 1, unread=["dlq"])

        assert ["1"] == stored(engine, "commands")
        assert [] == stored(engine, "dlq")

    def test_naming_a_topic_does_not_overrule_its_readers(self, engine: sa.Engine, bus: SqliteBus) -> None:
        """A topic that turns out to have a reader is trimmed no further than the reader has come."""
        bus.publish([record("dlq", "k", "1")])
        bus.subscribe("g", ["dlq"])

        assert 0 == bus.trim(wall_clock() + 1, unread=["dlq"])

    def test_offsets_are_not_used_again(self, bus: SqliteBus) -> None:
        """After everything was deleted, new records still come after the group's position."""
        bus.publish([record("t", "k", "1")])
        with bus.subscribe("g", ["t"]) as subscription:
            settle(subscription, receive(subscription, 1))
        assert 1 == bus.trim(wall_clock() + 1)
        bus.publish([record("t", "k", "2")])

        with bus.subscribe("g", ["t"]) as subscription:
            assert ["2"] == values(receive(subscription, 1))

    def test_more_than_one_transaction_takes(self, engine: sa.Engine, bus: SqliteBus) -> None:
        """A long backlog goes in parts, and goes whole."""
        bus.publish([record("t", "k", str(n)) for n in range(12_000)])
        assert 12_000 == bus.trim(wall_clock() + 1, unread=["t"])
        assert [] == stored(engine, "t")
