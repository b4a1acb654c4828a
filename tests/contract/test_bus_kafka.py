"""The bus on Kafka: the contract, on one partition and on several, on a real broker."""

import time
from collections.abc import Iterator
from typing import cast

import pytest

from orchestrator.bus.port import Delivery
from tests.contract.bus_suite import PATIENCE, SILENCE, BusFactory, BusSuite, receive, record, unique, values
from tests.contract.kafka_bench import Factory, owned
from tests.integration.kafka_server import Server, kafka

__all__ = ["kafka"]


class TestOnOnePartition(BusSuite):
    """The contract, where all of a topic's records are in one line."""

    @pytest.fixture
    def factory(self, kafka: Server) -> Iterator[Factory]:
        factory = Factory(kafka)
        yield factory
        factory.dispose()


class TestOnSeveralPartitions(BusSuite):
    """The contract, where only a key's records are in one line."""

    @pytest.fixture
    def factory(self, kafka: Server) -> Iterator[Factory]:
        factory = Factory(kafka, partitions=4)
        yield factory
        factory.dispose()

    def test_subscriptions_of_one_group_share(self, factory: BusFactory) -> None:
        """Once partitions are shared out, no record is with two subscriptions, and none is left out."""
        made = cast(Factory, factory)
        topic, group = unique("t"), unique("g")
        bus = made.open()
        made.make([topic])
        with bus.subscribe(group, [topic]) as one, bus.subscribe(group, [topic]) as other:
            deadline = time.monotonic() + PATIENCE
            while (len(owned(one)), len(owned(other))) != (2, 2):
                assert time.monotonic() < deadline
                assert [] == one.poll(0.05, 3) + other.poll(0.05, 3)
            bus.publish([record(topic, f"k{n}", str(n)) for n in range(40)])
            first: list[Delivery] = []
            second: list[Delivery] = []
            while len(first) + len(second) < 40 and time.monotonic() < deadline:
                first += one.poll(0.1, 3)
                second += other.poll(0.1, 3)

            assert sorted(map(str, range(40))) == sorted(values(first + second))
            assert set() == {d.partition for d in first} & {d.partition for d in second}
            assert [] == one.poll(SILENCE, 10) + other.poll(SILENCE, 10)


def test_a_key_s_records_are_on_one_partition(kafka: Server) -> None:
    """Publishers agree where a key belongs, so that its order holds whoever publishes."""
    factory = Factory(kafka, partitions=4)
    topic = unique("t")
    for n in range(3):
        factory.open().publish([record(topic, key, f"{key}{n}") for key in "abcdefgh"])
    with factory.open().subscribe(unique("g"), [topic]) as subscription:
        got = receive(subscription, 24)
    factory.dispose()

    places = {(delivery.key, delivery.partition) for delivery in got}
    assert 24 == len(got)
    assert sorted("abcdefgh") == sorted(key for key, _ in places)
    assert len({partition for _, partition in places}) > 1
