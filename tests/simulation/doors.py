"""The doors of the installation, and the list that those outside keep of what a door has accepted.

Who is thanked at a door relies on it. `Doors` is where requests, answers and decisions come in: the outbox of
the database, as at the product's own doors.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from orchestrator.bus.port import Record
from orchestrator.intake.outbox import Outbox


class Thanked(NamedTuple):
    """A party's answer that a door has taken, under the number that it got there."""

    request_id: str
    system: str
    order: int


@dataclass(slots=True)
class Accepted:
    """What was accepted, as those outside have noted it."""

    requests: list[str] = field(default_factory=list)
    answers: list[Thanked] = field(default_factory=list)


class Doors:
    """Where things are taken in; they are safe when this returns. `between` is called when what comes in is
    sealed and not yet stored: whatever may happen to a process that a database keeps waiting.
    """

    def __init__(self, outbox: Outbox, woken: Callable[[], None]) -> None:
        self._outbox = outbox
        self._woken = woken
        self.between: Callable[[], None] = lambda: None

    def publish(self, records: Iterable[Record]) -> None:
        self.between()
        self._outbox.publish(records)
        self._woken()

    def publish_word(self, request_id: str, system: str, word: Callable[[int, int], Record]) -> None:
        self.between()
        self._outbox.publish_word(request_id, system, word)
        self._woken()
