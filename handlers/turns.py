"""Whose turn it is: which of the records that a worker holds are carried out, and which wait.

* Two records of one request for one topic are carried out one after the other. The later one waits.
* What waits holds no hand: as many others are carried out meanwhile as the worker has hands.
* What waits is bounded, in number and in bytes. Beyond it the worker takes no more, whatever hands are free:
  a flood for one request must not fill the memory that all share.
* What waits and is no longer this worker's to acknowledge, or was given back at a stop, is not begun.
"""

from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Final

from orchestrator.bus.port import Delivery

#: How many records may wait for each hand, and how many bytes in all.
WAITING_FOR_EACH: Final = 32
MOST_BYTES: Final = 16 << 20

_Place = tuple[str, str]


class Turns:
    """Keeps the turns of a worker with so many `hands`. Safe from any thread."""

    def __init__(self, hands: int) -> None:
        self._hands = hands
        self._lock = Lock()
        self._lines: dict[_Place, deque[Delivery]] = {}

    @property
    def free(self) -> int:
        """How many more records may be taken: none of them could find that all hands are busy."""
        with self._lock:
            waiting = [one for line in self._lines.values() for one in line]
            if sum(len(one.value) for one in waiting) >= MOST_BYTES:
                return 0
            room = self._hands * WAITING_FOR_EACH - len(waiting)
            return max(0, min(self._hands - len(self._lines), room))

    @property
    def has_waiting(self) -> bool:
        """Whether any record waits for its turn."""
        with self._lock:
            return any(self._lines.values())

    def take(self, delivery: Delivery) -> bool:
        """Return whether the record may be begun now; if not, `end` will return it when it is its turn."""
        place = _place(delivery)
        with self._lock:
            line = self._lines.get(place)
            if line is None:
                self._lines[place] = deque()
                return True
            line.append(delivery)
            return False

    def end(self, delivery: Delivery) -> Delivery | None:
        """Return the record whose turn it is now that this one has ended; None gives the hand back."""
        place = _place(delivery)
        with self._lock:
            line = self._lines[place]
            if line:
                return line.popleft()
            del self._lines[place]
            return None

    def give_up(self, delivery: Delivery) -> None:
        """Give the hand back of a record that was given up, and forget those that waited for it."""
        with self._lock:
            self._lines.pop(_place(delivery), None)

    def keep(self, holds: Callable[[Delivery], bool]) -> None:
        """Forget of what waits all but that which `holds`."""
        with self._lock:
            for place, line in self._lines.items():
                self._lines[place] = deque(one for one in line if holds(one))


def _place(delivery: Delivery) -> _Place:
    return delivery.topic, delivery.key or f"{delivery.partition}/{delivery.offset}"
