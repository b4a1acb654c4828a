"""The dead letters that nobody has dealt with, for the commands and for whoever is about to destroy a key."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from orchestrator.bus.dead_letters import REPLAYED
from orchestrator.bus.port import Bus, Delivery
from orchestrator.store import Store, StoredSent
from schemas.topics import dead_letters, is_of_dead_letters

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

    def is_dealt_with(self, dealt_with: StoredSent) -> bool:
        """Whether somebody has dealt with this very letter, and not with one that was at its place before."""
        if dealt_with.seen(self.delivery.place):
            return True
        # As earlier versions noted it. One that was left later is another.
        noted = dealt_with.seen_at(self.name)
        return noted is not None and self.delivery.timestamp <= noted

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


def open_letters(store: Store, bus: Bus, topics: Collection[str]) -> Iterator[Letter]:
    """Yield the dead letters on these topics that nobody has dealt with. Raises BusUnavailable."""
    dealt_with = StoredSent(store, DEALT_WITH)
    for delivery in bus.browse(topics):
        letter = Letter(delivery)
        if not letter.is_dealt_with(dealt_with):
            yield letter


def letter_topics(bus: Bus, named: Collection[str]) -> list[str]:
    """Return the topics of dead letters: those of the topics that are `named`, which the bus must not pass
    over in silence where this account may not see them, and every other one that it has, also of kinds that
    have left the settings. Raises BusUnavailable.
    """
    return sorted({*map(dead_letters, named), *filter(is_of_dead_letters, bus.topics())})
