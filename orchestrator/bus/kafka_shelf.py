"""What a subscription has read of one partition: what waits to be delivered, and what is out.

The group's position is the lowest record that is out; with none, the lowest that waits; with none, the one
after the last delivered. Offsets rise and may have gaps. Each position carries the mark of a record that was
read (`kafka_marks`), and now and then that record is read once more to see that it still is the same.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from orchestrator.bus.kafka_marks import Start
from orchestrator.bus.port import Delivery
from orchestrator.position import Mark, Position, mark_of

# More is not read ahead.
_MOST_WAITING = 500
_MOST_WAITING_BYTES = 4 << 20
# Records that are out and not acknowledged: beyond this no more are delivered.
OUTSTANDING_LIMIT = 10_000


class Schemas(Protocol):
    """What is known of others' schemas."""

    def knows(self, value: bytes) -> bool:
        """Whether nothing must be asked before the record can be read; at once."""

    def look_up(self, value: bytes) -> None:
        """Asks, which may take its time, unless that was done just now."""


class Shelf:
    """One partition's records, for as long as the partition stays with the subscription. One that is not
    `deliverable` yet holds back those behind it, as order and the position ask for. `topic_id` is the topic's
    as it was when the partition came.
    """

    def __init__(
        self,
        deliverable: Callable[[bytes], bool] = lambda _: True,
        *,
        topic_id: str = "",
        start: Start | None = None,
    ) -> None:
        self._deliverable = deliverable
        self.topic_id = topic_id
        # The offset before which all was read, the record to compare before more is taken, the last one read.
        self._read_to = 0 if start is None else int(start.position)
        self._look_at = None if start is None else start.look_at
        self._newest = None if start is None else Mark.from_text(mark_of(start.position))
        # Where reading began without a mark: the same position with the one that was found for it.
        self.adopted: Position | None = None
        self._waiting: deque[Delivery] = deque()
        self._bytes = 0
        self._out: dict[int, Delivery] = {}
        self._following: Position | None = None
        self._acked = False
        self.stored: int | None = None

    def begin_at(self, position: int) -> None:
        """All before this is done. The group may not know: who did it was killed before it said so."""
        self._following, self._acked = Position(position, mark_of(position)), True

    @property
    def position(self) -> Position | None:
        """None before anything was read."""
        # Delivered in order, so the first that is out is the lowest.
        lowest = next(iter(self._out.values()), None)
        if lowest is not None:
            return lowest.position
        return self._waiting[0].position if self._waiting else self._following

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

    def add(self, deliveries: Iterable[Delivery]) -> bool:
        """Whether these follow what was read before. If they do not, none of them is taken."""
        for delivery in deliveries:
            found = Mark.from_text(delivery.mark)
            if not self._may_follow(delivery.offset, found):
                return False
            if delivery.offset < self._read_to:
                continue
            self._read_to, self._newest = delivery.offset + 1, found
            self._waiting.append(delivery)
            self._bytes += len(delivery.value)
        return True

    def _may_follow(self, offset: int, found: Mark | None) -> bool:
        """Compares the first record with the one that is looked for; one that is gone makes no difference."""
        wanted, self._look_at = self._look_at, None
        if wanted is None:
            return True
        if offset < wanted.offset:
            # The library has gone back by itself: it does so where what was asked for is not there any more.
            return False
        if offset > wanted.offset or found is None:
            return True
        if wanted.differs(found):
            return False
        if self._newest is None:
            self._newest = found
            self.adopted = Position(self._read_to, found.text)
            self.begin_at(self.adopted)
        return True

    # --- is it still the same? ---

    def look_back(self) -> int | None:
        """Have the last record that was read compared once more, and return its offset, from which to read.
        None where there is nothing to compare, or that is under way.
        """
        if self._newest is None or self._newest.timestamp is None or self._look_at is not None:
            return None
        self._look_at = self._newest
        return self._newest.offset

    def is_ahead_of(self, offset: int) -> bool:
        """Whether the library, which reads next at this offset, has gone back by itself: it does so, and says
        nothing, where what it read is not there any more.
        """
        return offset < (self._read_to if self._look_at is None else self._look_at.offset)

    def take(self) -> Delivery:
        delivery = self._waiting.popleft()
        self._bytes -= len(delivery.value)
        self._out[delivery.offset] = delivery
        self._following = delivery.following
        return delivery

    def holds(self, delivery: Delivery) -> bool:
        """Whether it is the very delivery that is out: one from before the partition was lost is another."""
        return self._out.get(delivery.offset) is delivery

    def ack(self, delivery: Delivery) -> None:
        if self.holds(delivery):
            del self._out[delivery.offset]
            self._acked = True
