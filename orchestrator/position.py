"""How far a consumer has read on a partition of the bus.

An offset is not enough where offsets come again: after a topic was made anew, or a log was cut and grew
again, the same number belongs to another record. So a position carries a mark of a record that was read, and
from the mark the bus tells whether its partition is still the same (`bus.kafka_marks`).
"""

from dataclasses import dataclass
from typing import Self


class Position(int):
    """The next offset to read. `mark` is the bus's; empty where the bus needs none, or none is known."""

    mark: str

    def __new__(cls, offset: int, mark: str = "") -> Self:
        """Make one; it compares and counts as its offset."""
        made = super().__new__(cls, offset)
        made.mark = mark
        return made


def mark_of(position: int) -> str:
    """Return the mark of a position; empty for a bare offset."""
    return position.mark if isinstance(position, Position) else ""


@dataclass(frozen=True, slots=True)
class Mark:
    """What is remembered of one record. `timestamp` is in microseconds; None is not known."""

    offset: int
    topic_id: str = ""
    timestamp: int | None = None

    @property
    def text(self) -> str:
        """The mark as it is stored, with a position and in the names of what came from its place."""
        return f"{self.offset}:{self.topic_id}:{'' if self.timestamp is None else self.timestamp}"

    @classmethod
    def from_text(cls, text: str) -> Self | None:
        """Read a stored mark. None for other text: whoever moves a group's position may leave a note."""
        parts = text.split(":")
        try:
            offset, topic_id, timestamp = parts
            return cls(int(offset), topic_id, int(timestamp) if timestamp else None)
        except ValueError:
            return None

    def differs(self, other: "Mark") -> bool:
        """Whether the two can't be of the same record, although they are at the same place."""
        if None not in (self.timestamp, other.timestamp) and self.timestamp != other.timestamp:
            return True
        return is_other_topic(self.topic_id, other.topic_id)


def is_other_topic(known: str, now: str) -> bool:
    """Whether a topic was made anew, by its ids; one that is not known says nothing."""
    return bool(known and now) and known != now


def reaches(position: int, end: int) -> bool:
    """Whether whoever is at `position` has read all before `end`; not where they are of different topics."""
    mine, other = Mark.from_text(mark_of(position)), Mark.from_text(mark_of(end))
    if mine is not None and other is not None and is_other_topic(mine.topic_id, other.topic_id):
        return False
    return position >= end
