"""A broker that is killed, stopped, woken and brought back, while records go in and out."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

import pytest

from orchestrator.bus.port import BusUnavailable, Delivery
from tests.contract.bus_suite import receive, record, settle, unique, values
from tests.contract.kafka_bench import Factory, MakingBus
from tests.integration.kafka_server import Node, node

__all__ = ["node"]


@pytest.fixture
def factory(node: Node) -> Iterator[Factory]:
    factory = Factory(node.server, partitions=2)
    yield factory
    factory.dispose()


def test_killed_and_restarted_under_load(factory: Factory, node: Node) -> None:
    """Nothing that was published is lost, each key keeps its order, and both sides recover by themselves."""
    topic, group = unique("t"), unique("g")
    bus = factory.open(publish_limit=timedelta(seconds=3))
    factory.make([topic])
    published: list[int] = []
    stop = threading.Event()
    refusals = []

    def publish() -> None:
        n = 0
        while not stop.is_set():
            try:
                bus.publish([record(topic, "k", str(n))])
            except BusUnavailable as error:
                refusals.append(error)
            else:
                published.append(n)
                n += 1

    publisher = threading.Thread(target=publish)
    got: list[Delivery] = []
    with bus.subscribe(group, [topic]) as subscription:
        publisher.start()
        got += receive(subscription, 20)
        node.kill()
        away = time.monotonic()
        outage: list[BusUnavailable] = []
        while time.monotonic() - away < 13:
            try:
                got += subscription.poll(0.5, 100)
            except BusUnavailable as error:
                outage.append(error)
        assert refusals
        assert outage
        node.start()
        before = len(published)
        deadline = time.monotonic() + 40
        while (len(published) < before + 20 or len(values(got)) < len(published)) and (
            time.monotonic() < deadline
        ):
            if len(published) >= before + 20:
                stop.set()
            try:
                got += subscription.poll(0.5, 100)
            except BusUnavailable:
                time.sleep(0.1)
        stop.set()
        publisher.join(20)
        got += subscription.poll(1.0, 1000)

    seen = [int(value) for value in values(got)]
    first = list(dict.fromkeys(seen))
    assert published == list(range(len(published)))
    assert set(published) <= set(seen)
    assert sorted(first) == first
    assert not bus.is_stuck


def test_work_in_flight_survives_a_restart(factory: Factory, node: Node) -> None:
    """A broker that is away for less than a session costs nothing: what is in flight stays, and counts."""
    topic, group = unique("t"), unique("g")
    bus = factory.open(session=timedelta(seconds=30))
    bus.publish([record(topic, "k", str(n)) for n in range(6)])
    with bus.subscribe(group, [topic]) as subscription:
        flying = receive(subscription, 6)
        node.stop()
        node.start()
        for delivery in flying[:4]:
            subscription.ack(delivery)
        deadline = time.monotonic() + 30
        left = 6
        while left > 2:
            assert time.monotonic() < deadline
            try:
                assert [] == subscription.poll(0.2, 10)
                left = bus.backlog(group, [topic])
            except BusUnavailable:
                time.sleep(0.1)
        bus.publish([record(topic, "k", "6")])
        assert ["6"] == values(receive(subscription, 1))


def test_a_broker_that_hangs(factory: Factory, node: Node) -> None:
    """No answer at all, with connections open: publishing and polling end in time, and recover after."""
    topic, group = unique("t"), unique("g")
    bus: MakingBus = factory.open(publish_limit=timedelta(seconds=3))
    bus.publish([record(topic, "k", "1")])
    with bus.subscribe(group, [topic]) as subscription:
        settle(subscription, receive(subscription, 1))
        node.signal(signal.SIGSTOP)
        try:
            started = time.monotonic()
            with pytest.raises(BusUnavailable):
                super(MakingBus, bus).publish([record(topic, "k", "lost?")])
            assert time.monotonic() - started < 6
            started = time.monotonic()
            with suppress(BusUnavailable):
                assert [] == subscription.poll(0.5, 10)
            assert time.monotonic() - started < 8
        finally:
            node.signal(signal.SIGCONT)
        deadline = time.monotonic() + 30
        got: list[str] = []
        published = False
        while "2" not in got and time.monotonic() < deadline:
            try:
                if not published:
                    super(MakingBus, bus).publish([record(topic, "k", "2")])
                    published = True
                got += values(subscription.poll(0.5, 10))
            except BusUnavailable:
                time.sleep(0.1)
        assert "2" in got


def test_closing_while_the_broker_is_away(factory: Factory, node: Node) -> None:
    """A process can end at any time, in good time; what it could not store comes again."""
    topic, group = unique("t"), unique("g")
    bus = factory.open()
    bus.publish([record(topic, "k", "1")])
    subscription = bus.subscribe(group, [topic])
    [delivery] = receive(subscription, 1)
    subscription.ack(delivery)
    node.stop()
    try:
        started = time.monotonic()
        bus.close()
        assert time.monotonic() - started < 8
    finally:
        node.start()
    with factory.open().subscribe(group, [topic]) as subscription:
        assert ["1"] == values(receive(subscription, 1))


def test_starting_while_the_broker_is_away(factory: Factory, node: Node) -> None:
    """Subscribing does not fail; polling says what is wrong until the broker is there, and then goes on."""
    topic, group = unique("t"), unique("g")
    factory.open().publish([record(topic, "k", "1")])
    bus = factory.open()
    node.stop()
    try:
        subscription = bus.subscribe(group, [topic])
        started = time.monotonic()
        with pytest.raises(BusUnavailable):
            subscription.poll(0.1, 1)
        assert time.monotonic() - started < 5
    finally:
        node.start()
    deadline = time.monotonic() + 20
    got: list[str] = []
    while not got and time.monotonic() < deadline:
        try:
            got = values(subscription.poll(0.5, 10))
        except BusUnavailable:
            time.sleep(0.1)
    assert ["1"] == got
