"""How the subscriptions of one group share a topic's records out among themselves.

A line is in memory only and has no lock of its own. Its rules:

* A record is with one subscription at a time, until it is acknowledged or given back.
* While a key's record is unacknowledged, the key's later records go to the same subscription only. The
  empty key is nobody's.
* The group's position is the lowest record not acknowledged, or, with none, the next one to read.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence

from orchestrator.bus.port import Delivery

# Records read and not yet acknowledged: beyond this, reading waits for acknowledgements.
OUTSTANDING_LIMIT = 10_000


class Line:
    """What a group still has to do on one topic.

    `cursor` is the next offset to read from the bus, `stored` the position that the bus has on disk.
    Offsets are added in rising order.
    """

    def __init__(self, start: int) -> None:
        self.stored = start
        self.acked = False
        self.cursor = start
        self.readers: set[Hashable] = set()
        self._outstanding: OrderedDict[int, None] = OrderedDict()
        self._waiting: list[Delivery] = []
        self._owners: dict[str, tuple[Hashable, int]] = {}

    @property
    def position(self) -> int:
        return next(iter(self._outstanding), self.cursor)

    @property
    def has_moved(self) -> bool:
        """Whether the position is worth storing: passing over other topics' records alone is not."""
        return self.acked and self.position != self.stored

    @property
    def is_full(self) -> bool:
        return len(self._outstanding) >= OUTSTANDING_LIMIT

    @property
    def has_waiting(self) -> bool:
        return bool(self._waiting)

    def add(self, fetched: Sequence[Delivery], cursor: int) -> None:
        self._outstanding.update((delivery.offset, None) for delivery in fetched)
        self._waiting += fetched
        self.cursor = cursor

    def take(self, reader: Hashable, limit: int) -> list[Delivery]:
        """Up to `limit` of the waiting records that this reader may have."""
        taken: list[Delivery] = []
        left: list[Delivery] = []
        for delivery in self._waiting:
            owner, count = self._owners.get(delivery.key, (reader, 0))
            if len(taken) == limit or owner is not reader:
                left.append(delivery)
                continue
            if delivery.key:
                self._owners[delivery.key] = (reader, count + 1)
            taken.append(delivery)
        self._waiting = left
        return taken

    def done(self, delivery: Delivery) -> None:
        del self._outstanding[delivery.offset]
        self.acked = True
        self._release(delivery.key)

    def give_back(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self._release(delivery.key)
            self._waiting.append(delivery)
        self._waiting.sort(key=lambda delivery: delivery.offset)

    def _release(self, key: str) -> None:
        if key:
            owner, count = self._owners.pop(key)
            if count > 1:
                self._owners[key] = (owner, count - 1)
