"""The dead letters that nobody has dealt with, for the commands and for whoever is about to destroy a key."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from orchestrator.bus.dead_letters import REPLAYED
from orchestrator.bus.port import Bus, Delivery
from orchestrator.store import Store, StoredSent
from schemas.topics import is_of_dead_letters

#: Seals a dead letter's payload to the installation.
DEAD_LETTER: Final = "dead-letter"
#: Under which consumer's name the store remembers those that were dealt with.
DEALT_WITH: Final = "dead-letters"


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter and the name that commands know it by."""

    delivery: Delivery

    @property
    def name(self) -> str:
        return f"{self.delivery.topic}/{self.delivery.partition}/{self.delivery.offset}"

    def said(self, header: str) -> str:
        """What a header says, as text."""
        return (self.delivery.header(header) or b"").decode("ascii", "replace")

    @property
    def origin(self) -> str:
        return "/".join(self.said(f"radera-{part}") for part in ("topic", "partition", "offset"))

    @property
    def attempt(self) -> int:
        text = self.said(REPLAYED)
        return int(text) if text.isdecimal() else 0


def open_letters(store: Store, bus: Bus, topics: Collection[str] | None = None) -> Iterator[Letter]:
    """Yield the dead letters that nobody has dealt with: those of `topics`, or of every topic that the bus
    has, also of kinds that have left the settings. Raises BusUnavailable.
    """
    dealt_with = StoredSent(store, DEALT_WITH)
    for delivery in bus.browse(_all_topics(bus) if topics is None else topics):
        letter = Letter(delivery)
        if not dealt_with.seen(letter.name):
            yield letter


def _all_topics(bus: Bus) -> list[str]:
    return sorted(filter(is_of_dead_letters, bus.topics()))
