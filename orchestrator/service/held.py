"""What topics held at one time, and whether all of it is read.

The ends of the topics alone don't tell. A log that was cut while nobody read it ends before the position of
its reader, or has grown again by as much, and nothing that it holds now was read. So the positions are taken
before the ends, and those that are none of this bus's (see `bus.port`) count as having read nothing until
the reader has put them right.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from orchestrator.bus.port import Bus, Positions
from orchestrator.position import mark_of, reaches


@dataclass(frozen=True, slots=True)
class Held:
    """The ends of topics, and the positions of their reader that were none of this bus's, as they stood."""

    ends: Positions = field(default_factory=dict)
    strays: Positions = field(default_factory=dict)

    def unread(self, positions: Positions) -> set[tuple[str, int]]:
        """Return the places of which a reader that is at `positions` now has not read all that was there."""
        return {place for place, end in self.ends.items() if not self._is_read(place, positions, end)}

    def _is_read(self, place: tuple[str, int], positions: Positions, end: int) -> bool:
        at, stray = positions.get(place, 0), self.strays.get(place)
        if stray is not None and (at, mark_of(at)) == (stray, mark_of(stray)):
            return False
        return reaches(at, end)


def held(bus: Bus, topics: Collection[str], positions: Positions) -> Held:
    """Return what the topics hold. `positions` are their reader's, read before. Raises BusUnavailable."""
    mine = {place: at for place, at in positions.items() if place[0] in topics}
    strays = bus.strays(mine) if mine else set()
    return Held(bus.ends(topics), {place: mine[place] for place in strays})
