"""Several orchestrators on one PostgreSQL: each thing is done once, whoever does it, and whatever dies."""

import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from multiprocessing.connection import Connection
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL

from orchestrator.bus.port import Bus, Delivery, Positions, Record, Subscription, looked_up
from orchestrator.metrics import Metrics
from orchestrator.privacy import IDENTIFIERS, Digests, Identifier, Identifiers, Keyring, new_key, seal
from orchestrator.privacy.keyfile import Generation, Material
from orchestrator.saga.clocks import Calendar
from orchestrator.saga.rules import Rules, SystemPlan
from orchestrator.service.inbound import Reader
from orchestrator.service.loops import Loop
from orchestrator.service.orchestrator import Orchestrator
from orchestrator.service.relay import Relay
from orchestrator.store import Outgoing, Store, StoredKeys, open_engine
from orchestrator.store.migrations import upgrade
from orchestrator.store.tables import outbox
from schemas import topics
from schemas.codec import encode
from schemas.messages import Request
from tests.integration.postgresql_server import LocalServer, new_database

NOW = 1_788_170_400_000_000
DAY = 86_400 * 1_000_000
PATIENCE = 60.0


class Broker:
    """What a broker holds: partitions to be read, and what was published."""

    def __init__(self) -> None:
        self.partitions: dict[int, list[Delivery]] = defaultdict(list)
        self.published: list[Record] = []

    def feed(self, partition: int, value: bytes, key: str) -> None:
        line = self.partitions[partition]
        line.append(
            Delivery(
                topic=topics.REQUESTS,
                key=key,
                value=value,
                partition=partition,
                offset=len(line),
                timestamp=NOW,
            )
        )


class View:
    """The bus of one process, which has one partition. It keeps no position of its own."""

    def __init__(self, broker: Broker, partition: int) -> None:
        self._broker = broker
        self._partition = partition
        self._next = 0

    def publish(self, records: Iterable[Record]) -> None:
        for record in records:
            # Long enough for others to come in between.
            time.sleep(0)
            self._broker.published.append(record)

    def subscribe(
        self,
        group: str,
        topics: Collection[str],
        *,
        positions: Positions | Callable[[], Positions] | None = None,
        on_stray: Callable[[Positions], object] | None = None,
    ) -> Subscription:
        at = [after for (_, partition), after in looked_up(positions).items() if partition == self._partition]
        self._next = max(at, default=0)
        return self

    def browse(self, topics: Collection[str]) -> Iterator[Delivery]:
        return iter(())

    def ends(self, topics: Collection[str]) -> Positions:
        return {}

    def strays(self, positions: Positions) -> set[tuple[str, int]]:
        return set()

    def missing(self, topics: Collection[str]) -> set[str]:
        return set()

    def topics(self) -> set[str]:
        return set()

    def backlog(self, group: str, topics: Collection[str]) -> int:
        return len(self._broker.partitions[self._partition]) - self._next

    def poll(self, timeout: float, max_records: int) -> list[Delivery]:
        found = self._broker.partitions[self._partition][self._next : self._next + max_records]
        if not found:
            time.sleep(min(timeout, 0.01))
        self._next += len(found)
        return found

    def ack(self, delivery: Delivery) -> None:
        pass

    def holds(self, delivery: Delivery) -> bool:
        return True

    def close(self) -> None:
        pass

    def __enter__(self) -> "View":
        return self

    def __exit__(self, *error: object) -> None:
        pass


KEYRING = Keyring(Material(b"d" * 32, (Generation(1, None, b"m" * 32),)))


class Process:
    """An orchestrator with connections of its own."""

    def __init__(self, url: str, broker: Broker, partition: int, clock: Callable[[], int] | None) -> None:
        self.engine = open_engine(url)
        self.store = Store(self.engine, clock)
        self.bus: Bus = View(broker, partition)
        self.keys = StoredKeys(self.store, KEYRING)
        self.relay = Relay(store=self.store, bus=self.bus, batch=40)
        self.orchestrator = Orchestrator(
            store=self.store,
            bus=self.bus,
            keys=self.keys,
            keyring=KEYRING,
            reader=Reader(self.keys, Digests(KEYRING.digest_key), lambda: 0.5),
            rules=Rules(
                calendar=Calendar(time_zone=UTC, is_public_holiday=lambda day: False),
                systems={"crm": SystemPlan(name="crm", kind="crm")},
            ),
            metrics=Metrics(["crm"]),
            random=lambda: 0.5,
            batch=7,
        )

    def request(self, request_id: str, event_id: str) -> bytes:
        """A request under that id, its key filed if it has none; what is sealed is always the same person."""
        self.keys.insert(request_id, new_key())
        key = self.keys.key_of(request_id)
        clear = Identifiers((Identifier("email", "person@people.example"),)).to_bytes()
        return encode(
            Request(
                event_id=event_id,
                request_id=request_id,
                received_at=NOW,
                source="test",
                verified=True,
                sealed_identifiers=seal(key, request_id, IDENTIFIERS, clear),
            )
        )

    def turn(self) -> None:
        """As the role does it."""
        sent = self.relay.step()
        self.orchestrator.step(0.0 if sent else 0.05)


class World:
    def __init__(self, url: str) -> None:
        self.url = url
        self.now = NOW
        self.broker = Broker()
        self._made: list[Process] = []

    def process(self, partition: int, **fields: Any) -> Process:
        clock = fields.get("clock", lambda: self.now)
        self._made.append(Process(self.url, self.broker, partition, clock))
        return self._made[-1]

    def end(self) -> None:
        for process in self._made:
            process.engine.dispose()


@pytest.fixture
def world(postgresql_url: str) -> Iterator[World]:
    upgrade(postgresql_url)
    made = World(postgresql_url)
    yield made
    made.end()


def at_once(*steps: Callable[[], Any]) -> list[Any]:
    """What each gave; all begin at the same moment."""
    barrier = threading.Barrier(len(steps))

    def run(step: Callable[[], Any]) -> Any:
        barrier.wait(10)
        return step()

    with ThreadPoolExecutor(len(steps)) as threads:
        return list(threads.map(run, steps))


def until_nothing(step: Callable[[], int]) -> list[int]:
    done = []
    while count := step():
        done.append(count)
    return done


# --- sagas ---


def test_a_timer_fires_once(world: World) -> None:
    """Two processes fire what is due side by side, and each saga wakes for one of them."""
    a, b = world.process(0), world.process(1)
    ids = [str(uuid.uuid4()) for _ in range(60)]
    for request_id in ids:
        world.broker.feed(0, a.request(request_id, f"request:{request_id}"), request_id)
    for _ in range(10):
        a.orchestrator.step(0.0)
    world.now += 3 * DAY
    before = {one.request_id: one.version for one in a.store.due(world.now, 100)}
    assert set(ids) == set(before)

    fired = at_once(
        lambda: until_nothing(a.orchestrator.fire_timers), lambda: until_nothing(b.orchestrator.fire_timers)
    )

    assert len(ids) == sum(fired[0]) + sum(fired[1])
    assert {one: version + 1 for one, version in before.items()} == {
        one: saga.version for one in ids if (saga := a.store.saga(one))
    }
    assert all(a.store.verify_timeline(one).is_intact for one in ids)


def test_first_events_at_once_make_one_saga(world: World) -> None:
    """The same new request, from two partitions in the same moment: one is the beginning, the other a
    repeat.
    """
    processes = [world.process(0), world.process(1)]
    ids = [str(uuid.uuid4()) for _ in range(40)]
    for request_id in ids:
        for partition, process in enumerate(processes):
            value = process.request(request_id, f"request:{request_id}:{partition}")
            world.broker.feed(partition, value, request_id)

    def take_all(process: Process) -> None:
        while process.orchestrator.step(0.0):
            pass

    at_once(*(lambda process=process: take_all(process) for process in processes))

    store = processes[0].store
    told = [[entry.action for entry in store.timeline(one)] for one in ids]
    assert [1] * 40 == [actions.count("received") for actions in told]
    assert [1] * 40 == [actions.count("command_sent") for actions in told]
    assert all(store.verify_timeline(one).is_intact for one in ids)
    assert {(topics.REQUESTS, 0): 40, (topics.REQUESTS, 1): 40} == store.positions("orchestrator")


# --- the relay ---


def outgoing(key: str, number: int) -> Outgoing:
    return Outgoing(event_id=f"{key}/{number:04}", topic="t", key=key, value=b"v")


def test_each_record_leaves_once_and_in_order(world: World) -> None:
    """Three relays empty one outbox while it is being filled: nothing twice, nothing left, each request's
    records in the order in which they were written.
    """
    processes = [world.process(n) for n in range(3)]
    writers = [world.process(n + 3).store for n in range(2)]
    sent: list[tuple[str, str]] = []
    written = threading.Event()

    def write(store: Store, mine: int) -> None:
        for number in range(60):
            with store.begin() as transaction:
                keys = [f"{mine}-{n}" for n in range(12)]
                transaction.enqueue([outgoing(key, number) for key in keys])

    def write_all() -> None:
        at_once(*(lambda n=n, store=store: write(store, n) for n, store in enumerate(writers)))
        written.set()

    def relay(store: Store) -> int:
        count = 0
        while True:
            last = written.is_set()
            with store.relay(25) as records:
                time.sleep(0.001)
                sent.extend((record.key, record.event_id) for record in records)
            count += len(records)
            if last and not store.unsent(1):
                return count

    counts = at_once(write_all, *(lambda p=p: relay(p.store) for p in processes))[1:]

    by_key: dict[str, list[str]] = defaultdict(list)
    for key, event_id in sent:
        by_key[key].append(event_id)
    assert 2 * 12 * 60 == sum(counts)
    assert {key: sorted(set(events)) for key, events in by_key.items()} == by_key
    assert {60} == {len(events) for events in by_key.values()}
    assert min(counts) > 0


def test_one_alone_takes_everything_and_leaves_half_to_those_it_has_met(world: World) -> None:
    """It sends in one go what came in one, until another was there first; then it leaves some to that one."""
    one, other = world.process(0).store, world.process(1).store
    keys = [str(n) for n in range(200)]

    def fill(number: int) -> None:
        with one.begin() as transaction:
            transaction.enqueue([outgoing(key, number) for key in keys])

    def taken(store: Store) -> int:
        with store.relay(1000) as records:
            return len(records)

    fill(0)
    with one.relay(1000) as records:
        assert sorted(keys) == sorted(record.key for record in records)
        assert records.is_all
        fill(1)
        with other.relay(1000) as none:
            assert ([], False) == (none, none.is_all)
    assert 0 < taken(other) < 200
    assert 0 < taken(one) < 200


def relay_and_stay(url: str, told: Connection) -> None:
    with Store(open_engine(url), lambda: NOW).relay(1000) as records:
        told.send([record.event_id for record in records])
        time.sleep(PATIENCE)


def test_a_relay_that_dies_with_records_in_hand(world: World) -> None:
    """While it lives nobody else has them; when it is killed, the next one sends them again, in order."""
    store = world.process(0).store
    keys = [str(n) for n in range(30)]
    with store.begin() as transaction:
        transaction.enqueue([outgoing(key, number) for number in range(3) for key in keys])
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=relay_and_stay, args=(world.url, there))
    process.start()
    assert here.poll(PATIENCE)
    held = set(here.recv())

    others: list[str] = []
    while True:
        with store.relay(1000) as records:
            others += [record.event_id for record in records]
        if not records:
            break
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(PATIENCE)
    again: list[str] = []
    until = time.monotonic() + PATIENCE
    while store.unsent(1) and time.monotonic() < until:
        with store.relay(1000) as records:
            again += [record.event_id for record in records]

    assert held
    assert set() == held & set(others)
    assert held == set(again)
    assert 90 == len(others) + len(again)
    for key in keys:
        expected = [outgoing(key, number).event_id for number in range(3)]
        assert expected == [one for one in others + again if one.startswith(f"{key}/")]


def test_a_record_that_the_bus_did_not_take_stays(world: World) -> None:
    """An exception within leaves every record as it was, for anybody to send."""
    store, other = world.process(0).store, world.process(1).store
    with store.begin() as transaction:
        transaction.enqueue([outgoing("k", number) for number in range(3)])

    def fail() -> None:
        with store.relay(10) as records:
            assert 3 == len(records)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with other.relay(10) as records:
        assert [outgoing("k", number) for number in range(3)] == records
    assert [] == store.unsent(1)


def test_a_lower_number_that_comes_late_is_not_missed(world: World) -> None:
    """A transaction that took its numbers first and commits last still has its records sent."""
    store, other = world.process(0).store, world.process(1).store
    with store.begin() as transaction:
        transaction.enqueue([outgoing("early", 0)])
        with other.begin() as second:
            second.enqueue([outgoing("late", 0)])
        late = numbers(other)
        with other.relay(10) as records:
            assert [outgoing("late", 0)] == records
    assert numbers(store)["early"] < late["late"]
    with other.relay(10) as records:
        assert [outgoing("early", 0)] == records


def numbers(store: Store) -> dict[str, int]:
    """Those of the records that wait, by their keys."""
    with store.reading.connect() as connection:
        return {row.key: row.seq for row in connection.execute(sa.select(outbox.c.key, outbox.c.seq))}


# --- master keys ---


def test_no_master_key_goes_under_a_key_that_is_being_filed(world: World) -> None:
    """Who is about to destroy master keys waits for those who are filing keys, and then sees what they filed;
    who comes after waits in turn.
    """
    filing, rotating, late = (world.process(n) for n in range(3))
    seen: list[dict[int, int]] = []
    order: list[str] = []

    def rotate() -> None:
        with rotating.store.begin() as transaction:
            transaction.own_keys()
            seen.append(rotating.keys.generations())
            time.sleep(0.3)
            order.append("rotated")

    def file_late() -> None:
        late.keys.insert("late", new_key())
        order.append("filed late")

    with filing.store.begin() as transaction:
        filing.keys.insert_within(transaction, {"r": new_key()})
        rotation = threading.Thread(target=rotate)
        rotation.start()
        time.sleep(0.3)
        another = threading.Thread(target=file_late)
        another.start()
        time.sleep(0.3)
        order.append("filed")
    rotation.join(10)
    another.join(10)

    assert ["filed", "rotated", "filed late"] == order
    assert [{1: 1}] == seen


# --- the server goes away ---


def test_a_restart_under_load(own_postgresql: LocalServer) -> None:
    """The server is killed in the middle of the work and comes back. The loops wait, go on by themselves, and
    every request is opened and commanded once.
    """
    server: URL = own_postgresql.url
    with new_database(server) as url:
        upgrade(url)
        world = World(url)
        processes = [world.process(n, clock=None) for n in range(2)]
        ids = [str(uuid.uuid4()) for _ in range(300)]
        values = [processes[0].request(one, f"request:{one}") for one in ids]
        fatal: list[Exception] = []
        loops = [
            Loop(f"orchestrator-{n}", process.turn, close=process.orchestrator.close, on_fatal=fatal.append)
            for n, process in enumerate(processes)
        ]
        for loop in loops:
            loop.start()
        for n, (one, value) in enumerate(zip(ids, values, strict=True)):
            world.broker.feed(n % 2, value, one)
            if n in (100, 200):
                own_postgresql.stop()
                assert _comes(lambda: not any(loop.is_ready for loop in loops))
                own_postgresql.start()
        store = processes[0].store
        assert _comes(lambda: all(loop.is_ready for loop in loops))
        assert _comes(lambda: 300 == store.figures().open_requests and not store.unsent(1))
        for loop in loops:
            loop.stop()
        assert all(loop.join(PATIENCE) for loop in loops)

        commands = [record for record in world.broker.published if record.topic == topics.commands("crm")]
        assert [] == fatal
        assert set(ids) == {record.key for record in commands}
        # What was published and not yet marked when the server died is published again: two batches, twice.
        assert len(ids) <= len(commands) <= len(ids) + 4 * 40
        assert all(store.verify_timeline(one).is_intact for one in ids)
        told = [[entry.action for entry in store.timeline(one)].count("command_sent") for one in ids]
        assert [1] * 300 == told
        world.end()


def _comes(true: Callable[[], bool]) -> bool:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            if true():
                return True
        except sa.exc.SQLAlchemyError:
            pass
        time.sleep(0.05)
    return False
