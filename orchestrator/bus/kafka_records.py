"""Records as the library reads them, and as the port has them."""

from dataclasses import dataclass
from typing import Any

from orchestrator.bus.port import Delivery
from orchestrator.position import Mark


@dataclass(frozen=True, slots=True)
class Broken:
    """Stands in the place of a record that can't be parsed. `clock` is when it was met, in microseconds."""

    topic: str
    partition: int
    offset: int
    clock: int
    key: None = None
    value: None = None
    headers: tuple[()] = ()

    @property
    def timestamp(self) -> int:
        return self.clock // 1000


def delivery_of(record: Any, topic_id: str) -> Delivery:
    """A record of the library's, as the port has it."""
    timestamp = max(record.timestamp, 0) * 1000
    known = None if isinstance(record, Broken) else timestamp
    return Delivery(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        # Others' keys may be any bytes.
        key=(record.key or b"").decode("utf-8", "backslashreplace"),
        value=record.value or b"",
        headers=tuple((name, value or b"") for name, value in record.headers),
        timestamp=timestamp,
        mark=Mark(record.offset, topic_id, known).text,
    )
