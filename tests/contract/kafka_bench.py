"""What tests of the bus on Kafka stand on: topics of a test's own, and processes that end as they like."""

import multiprocessing
import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack

from orchestrator.bus.kafka import KafkaBus
from orchestrator.bus.kafka_admin import Admin, opened_admin
from orchestrator.bus.kafka_remembered import Notes
from orchestrator.bus.kafka_subscription import KafkaSubscription
from orchestrator.bus.kafka_topics import Topic
from orchestrator.bus.port import Bus, Delivery, Record
from orchestrator.bus.schema_registry import Registry
from orchestrator.settings import Kafka
from tests.integration.kafka_server import Server


def wall_clock() -> int:
    return time.time_ns() // 1000


def publish_and_exit(settings: Kafka, records: Sequence[Record]) -> None:
    KafkaBus(settings, wall_clock).publish(records)
    # As abruptly as a process can end.
    os._exit(0)


class Notebook:
    """What an installation's database remembers of topics."""

    def __init__(self) -> None:
        self.names: dict[str, set[str]] = {}

    def of(self, group: str) -> set[str]:
        return set(self.names.get(group, ()))

    def add(self, group: str, names: Collection[str]) -> None:
        self.names.setdefault(group, set()).update(names)


class MakingBus(KafkaBus):
    """Makes the topics that it publishes to; the real one finds them made."""

    def __init__(
        self,
        settings: Kafka,
        make: Callable[[Collection[str]], None],
        registry: Registry | None = None,
        notes: Notes | None = None,
    ) -> None:
        super().__init__(settings, wall_clock, registry=registry, notes=notes)
        self._make = make

    def publish(self, records: Iterable[Record]) -> None:
        batch = list(records)
        self._make({record.topic for record in batch})
        super().publish(batch)

    def missing(self, topics: Collection[str]) -> set[str]:
        self._make(topics)
        return super().missing(topics)


class Factory:
    """Buses of several processes on one broker."""

    def __init__(self, server: Server, partitions: int = 1) -> None:
        self.server = server
        self._partitions = partitions
        self._made: set[str] = set()
        self._stack = ExitStack()
        self._buses: list[KafkaBus] = []
        self._admin: Admin | None = None
        self.notes = Notebook()

    @property
    def admin(self) -> Admin:
        if self._admin is None:
            self._admin = self._stack.enter_context(opened_admin(self.server.settings()))
        return self._admin

    def make(self, names: Collection[str], config: dict[str, str] | None = None) -> None:
        for name in set(names) - self._made:
            self.admin.make(Topic(name, self._partitions, 1, config or {}))
            self._made.add(name)

    def remake(self, name: str) -> None:
        """The topic loses its records, and its offsets begin anew."""
        self.admin._client.delete_topics([name])
        self._made.discard(name)
        self.make([name])

    def open(self, registry: Registry | None = None, **settings: object) -> MakingBus:
        bus = MakingBus(self.server.settings(**settings), self.make, registry, self.notes)
        self._buses.append(bus)
        return bus

    def crash(self, bus: Bus) -> None:
        """The connections go, and nobody is told that the group is left."""
        assert isinstance(bus, KafkaBus)
        for subscription in bus._open:
            cut(subscription)
        if bus._producer is not None:
            bus._producer.abandon()

    def publish_from_another_process(self, records: Sequence[Record]) -> None:
        self.make({record.topic for record in records})
        process = multiprocessing.get_context("spawn").Process(
            target=publish_and_exit, args=(self.server.settings(), records)
        )
        process.start()
        process.join(30)
        assert 0 == process.exitcode

    def dispose(self) -> None:
        for bus in self._buses:
            bus.close()
        self._stack.close()


def cut(subscription: KafkaSubscription) -> None:
    """The process behind a subscription dies: from now on it is silent."""
    consumer, subscription._consumer = subscription._consumer, None
    if consumer is not None:
        consumer._client.close()


def owned(subscription: KafkaSubscription) -> set[int]:
    """The partitions that a subscription has now."""
    return {partition for _, partition in subscription._shelves}


def committed(factory: Factory, group: str, topic: str) -> dict[int, int]:
    """The group's stored position on each partition."""
    return {number: at for (name, number), at in factory.admin.stored(group).items() if name == topic}


def members(factory: Factory, group: str) -> int:
    """How many the group has, as its broker knows it."""
    return len(factory.admin._client.describe_groups([group])[group]["members"])


def poll_until(
    done: Callable[[], bool], *subscriptions: KafkaSubscription, at_once: int = 100
) -> list[list[Delivery]]:
    """Polls them in turn until it is done; what each of them got."""
    got: list[list[Delivery]] = [[] for _ in subscriptions]
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        for mine, subscription in zip(got, subscriptions, strict=True):
            mine += subscription.poll(0.05, at_once)
    return got
