"""Reading what topics hold now, outside of any group."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

from kafka import TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaError

from orchestrator.bus.kafka_admin import opened_admin
from orchestrator.bus.kafka_client import Consumer, Place, connection, made
from orchestrator.bus.kafka_failures import unavailable
from orchestrator.bus.kafka_records import delivery_of
from orchestrator.bus.port import BusUnavailable, Delivery
from orchestrator.position import Mark
from orchestrator.settings import Kafka

# Without a record for so long, although there are more: then the bus is away.
_PATIENCE = 15.0


def browse(
    settings: Kafka, topics: Collection[str], token: Callable[[], str] | None = None
) -> Iterator[Delivery]:
    """Every record that was there when this began and still is; no position is stored, so none moves."""
    with opened_admin(settings, token) as admin:
        ends = {place: (first, end) for place, (first, end) in admin.extent(topics).items() if first < end}
    if not ends:
        return
    with _reading(settings, token) as consumer:
        for place, (first, end) in sorted(ends.items()):
            yield from _read(consumer, place, first, end)


def others(
    settings: Kafka, marks: Mapping[Place, Mark], token: Callable[[], str] | None = None
) -> set[Place]:
    """Return those of these places where another record is now than the one that was marked there. One that
    is gone is no other.
    """
    found: set[Place] = set()
    if not marks:
        return found
    with _reading(settings, token) as consumer:
        for place, mark in sorted(marks.items()):
            for there in _read(consumer, place, mark.offset, mark.offset + 1):
                read = Mark.from_text(there.mark)
                if read is not None and mark.differs(read):
                    found.add(place)
    return found


@contextmanager
def _reading(settings: Kafka, token: Callable[[], str] | None) -> Iterator[Consumer]:
    config = connection(settings, token) | {
        "assignor": CooperativeStickyAssignor(),
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "isolation_level": "read_committed",
        "metrics_enabled": False,
    }
    consumer: Consumer = made(Consumer, config)
    try:
        yield consumer
    except KafkaError as error:
        raise unavailable("the bus failed", error) from error
    finally:
        consumer.abandon(1.0)


def _read(consumer: Consumer, place: Place, first: int, end: int) -> Iterator[Delivery]:
    partition = TopicPartition(*place)
    consumer.assign([partition])
    consumer.seek(partition, first)
    heard = time.monotonic()
    while (at := consumer.position(partition, timeout_ms=int(_PATIENCE * 1000))) is None or at < end:
        if time.monotonic() - heard > _PATIENCE:
            raise BusUnavailable("the bus does not go on")
        for record in consumer.poll(timeout_ms=500).get(partition, []):
            heard = time.monotonic()
            if record.offset < end:
                yield delivery_of(record, consumer.topic_id(place[0]))
