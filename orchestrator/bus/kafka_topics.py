"""The topics that an installation needs, and how far those that exist are what it needs.

* **A time to live for everything** but the one record that says whose Kafka this is. Requests, which carry
  their key, are kept for days only; the rest as long as `retention` says; dead letters longer, since a person
  has to find the time for them.
* **The broker dates the records.** A producer's clock that is wrong would otherwise keep records for ever,
  or delete them at once, and would date the statutory period of an unreadable request.
* **Segments are rolled at least daily**, because nothing is deleted before its segment is: without it a
  quiet topic keeps its records for long past their time.
* **lz4 is what rests there**, whatever a producer sends, so that no reader needs another codec.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from orchestrator.settings import Kafka
from schemas import topics

# The default of brokers, said so that it can be relied on; a dead letter holds a record, and more.
_LARGEST = 1_048_588
_LARGEST_DEAD = (2 << 20) + (64 << 10)
_DAY = timedelta(days=1)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it should be, or as it is."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str] = field(default_factory=dict)


def wanted(settings: Kafka, kinds: Collection[str]) -> list[Topic]:
    """Every topic that an installation with handlers of these kinds uses."""
    read = [topics.REQUESTS, topics.CONFIRMATIONS, topics.DECISIONS, topics.OUTCOMES]
    read += [name(kind) for kind in sorted(set(kinds)) for name in (topics.commands, topics.callbacks)]
    found = []
    for name in read:
        kept = settings.retention_requests if name == topics.REQUESTS else settings.retention
        found.append(_topic(settings, name, settings.partitions, kept, _LARGEST))
        dead = topics.dead_letters(name)
        found.append(_topic(settings, dead, 1, settings.retention_dead_letters, _LARGEST_DEAD))
    return [*found, _kept_for_good(settings, topics.INSTALLATION)]


def _kept_for_good(settings: Kafka, name: str) -> Topic:
    config = {
        "cleanup.policy": "compact",
        "min.insync.replicas": str(max(1, settings.replication - 1)),
    }
    return Topic(name, 1, settings.replication, config)


def _topic(settings: Kafka, name: str, partitions: int, kept: timedelta, largest: int) -> Topic:
    config = {
        "cleanup.policy": "delete",
        "compression.type": "lz4",
        "max.message.bytes": str(largest),
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": str(max(1, settings.replication - 1)),
        "retention.ms": str(kept // _MILLISECOND),
        "segment.ms": str(min(_DAY, kept) // _MILLISECOND),
    }
    return Topic(name, partitions, settings.replication, config)


def differences(want: Topic, have: Topic | None) -> list[str]:
    """What is not as it should be, one line for each."""
    if have is None:
        return ["is missing"]
    told = []
    if have.partitions != want.partitions:
        told.append(f"has {have.partitions} partitions, not {want.partitions}")
    if have.replication != want.replication:
        told.append(f"has {have.replication} copies, not {want.replication}")
    told += [
        f"{key} is {have.config.get(key, 'not known')}, not {value}"
        for key, value in sorted(want.config.items())
        if have.config.get(key) != value
    ]
    return told
