"""What a subscription has read of one partition: what waits to be delivered, and what is out.

The group's position is the lowest record that is out; with none, the lowest that waits; with none, the one
after the last delivered. Offsets rise and may have gaps.
"""

from collections import deque
from collections.abc import Callable, Iterable

from orchestrator.bus.port import Delivery

# More is not read ahead.
_MOST_WAITING = 500
_MOST_WAITING_BYTES = 4 << 20
# Records that are out and not acknowledged: beyond this no more are delivered.
OUTSTANDING_LIMIT = 10_000


class Shelf:
    """One partition's records, for as long as the partition stays with the subscription. One that is not
    `deliverable` yet holds back those behind it, as order and the position ask for.
    """

    def __init__(self, deliverable: Callable[[bytes], bool] = lambda _: True) -> None:
        self._deliverable = deliverable
        self._waiting: deque[Delivery] = deque()
        self._bytes = 0
        self._out: dict[int, Delivery] = {}
        self._following: int | None = None
        self._acked = False
        self.stored: int | None = None

    def begin_at(self, position: int) -> None:
        """All before this is done. The group may not know: who did it was killed before it said so."""
        self._following, self._acked = position, True

    @property
    def position(self) -> int | None:
        """None before anything was read."""
        # Delivered in order, so the first that is out is the lowest.
        lowest = next(iter(self._out), None)
        if lowest is not None:
            return lowest
        return self._waiting[0].offset if self._waiting else self._following

    @property
    def has_moved(self) -> bool:
        """Whether there is a position to store that isn't stored."""
        return self._acked and self.position != self.stored

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits and nothing is out."""
        return not self._waiting and not self._out

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= _MOST_WAITING or self._bytes >= _MOST_WAITING_BYTES

    @property
    def can_give(self) -> bool:
        return bool(self._waiting) and len(self._out) < OUTSTANDING_LIMIT and self.held_back is None

    @property
    def held_back(self) -> bytes | None:
        """What the next record holds, where it can't be delivered yet."""
        if not self._waiting or self._deliverable(self._waiting[0].value):
            return None
        return self._waiting[0].value

    def add(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self._waiting.append(delivery)
            self._bytes += len(delivery.value)

    def take(self) -> Delivery:
        delivery = self._waiting.popleft()
        self._bytes -= len(delivery.value)
        self._out[delivery.offset] = delivery
        self._following = delivery.offset + 1
        return delivery

    def holds(self, delivery: Delivery) -> bool:
        """Whether it is the very delivery that is out: one from before the partition was lost is another."""
        return self._out.get(delivery.offset) is delivery

    def ack(self, delivery: Delivery) -> None:
        if self.holds(delivery):
            del self._out[delivery.offset]
            self._acked = True
