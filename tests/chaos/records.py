"""What strangers and accidents put on the topics: copies of records, in any order, and poison.

* A copy is a record once more, byte for byte, later than it was, on the same partition.
* Poison is a record that nobody can read: noise, an unknown schema, a record cut short, nothing at all, or a
  great deal of nothing. It bears a header by which it is found again at the end.
"""

import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaProducer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaError

from orchestrator.bus.kafka_admin import opened_admin
from orchestrator.bus.kafka_client import Consumer, connection, made
from orchestrator.bus.port import BusUnavailable
from orchestrator.settings import Kafka
from tests.chaos.installation import READ

MARK = "chaos-poison"
_KEPT = 4000
_LIMIT = 10.0
_MAGIC = b"\xc3\x01"
_CONFLUENT = b"\x00"


@dataclass
class Traffic:
    """Reads along, and adds its own. Belongs to one thread; a broker that is away is no failure here."""

    settings: Kafka
    rng: random.Random
    copies: int = 0
    poison: dict[str, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    _kept: list[Any] = field(default_factory=list)
    _consumer: Consumer | None = None
    _producer: Any = None

    def read_along(self) -> None:
        """Takes note of what was published since; remembers some of it."""
        with suppress(KafkaError, BusUnavailable):
            consumer = self._consumer = self._consumer or self._reader()
            until = time.monotonic() + 1.0
            while time.monotonic() < until:
                got = consumer.poll(timeout_ms=50, max_records=2000)
                if not got:
                    return
                for place, records in got.items():
                    self.seen[place.topic] = self.seen.get(place.topic, 0) + len(records)
                    for record in records:
                        self._keep(record)

    def send_copies(self, count: int) -> int:
        """So many of the remembered, in any order."""
        chosen = [self.rng.choice(self._kept) for _ in range(count)] if self._kept else []
        sent = self._send(
            [
                {
                    "topic": one.topic,
                    "key": one.key,
                    "value": one.value,
                    "headers": list(one.headers),
                    "partition": one.partition,
                }
                for one in chosen
            ]
        )
        self.copies += sent
        return sent

    def poison_up_to(self, share: float, *, least: int = 0) -> int:
        """Brings the poison on each topic to this share of what was seen there, and to `least`."""
        batch = [
            self._poison(topic, number)
            for topic in READ
            for number in range(self.poison.get(topic, 0), max(least, int(self.seen.get(topic, 0) * share)))
        ]
        sent = self._send(batch)
        for one in batch[:sent]:
            self.poison[one["topic"]] = self.poison.get(one["topic"], 0) + 1
        return sent

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.abandon(1.0)
        if self._producer is not None:
            self._producer.close(timeout=1.0)

    # --- the inside ---

    def _keep(self, record: Any) -> None:
        if len(self._kept) < _KEPT:
            self._kept.append(record)
        else:
            self._kept[self.rng.randrange(_KEPT)] = record

    def _poison(self, topic: str, number: int) -> dict[str, Any]:
        whole = [one.value for one in self._kept if one.topic == topic and _is_whole(one.value)]
        make: list[Callable[[], bytes | None]] = [
            lambda: b"\x07" + self.rng.randbytes(self.rng.randrange(200)),
            lambda: _MAGIC + self.rng.randbytes(8 + self.rng.randrange(100)),
            lambda: None,
            lambda: b"\x07" * 900_000 if number % 7 == 0 else b"{}",
        ]
        if whole:
            make.append(lambda: _cut(self.rng.choice(whole)))
        key = self.rng.choice([b"", b"somebody@people.example", self.rng.randbytes(5), b"\xff\xfe"])
        return {
            "topic": topic,
            "key": key,
            "value": make[number % len(make)](),
            "headers": [(MARK, b"%d" % number)],
        }

    def _send(self, batch: list[dict[str, Any]]) -> int:
        """How many were taken; one whose answer is lost may be there all the same."""
        sent = 0
        try:
            producer = self._producer = self._producer or self._writer()
            for future in [producer.send(**one) for one in batch]:
                future.get(timeout=_LIMIT)
                sent += 1
        except KafkaError:
            if self._producer is not None:
                self._producer.close(timeout=0.0)
            self._producer = None
        return sent

    def _writer(self) -> Any:
        return made(
            KafkaProducer,
            connection(self.settings)
            | {"acks": "all", "max_request_size": 2 << 20, "max_block_ms": 5000, "delivery_timeout_ms": 8000}
            | {"request_timeout_ms": 5000, "bootstrap_timeout_ms": 5000, "metrics_enabled": False},
        )

    def _reader(self) -> Consumer:
        with opened_admin(self.settings) as admin:
            places = [TopicPartition(*place) for place in admin.extent(READ)]
        consumer: Consumer = made(
            Consumer,
            connection(self.settings)
            | {"assignor": CooperativeStickyAssignor(), "enable_auto_commit": False}
            | {"auto_offset_reset": "earliest", "metrics_enabled": False},
        )
        consumer.assign(places)
        return consumer


def _is_whole(value: bytes | None) -> bool:
    return value is not None and value.startswith((_MAGIC, _CONFLUENT)) and len(value) > 60


def _cut(value: bytes) -> bytes:
    """Its beginning: the schema's number and some of the fields."""
    return value[: 10 + (len(value) - 10) // 3]
