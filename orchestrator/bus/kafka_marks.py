"""Tells whether a partition is still the one that a position was taken from.

* A **mark** is what is remembered of one record: its offset, its topic's id, and the time at which it was
  published. A topic that is made anew, also on another cluster, has another id. A log that was cut and grew
  again has another record at the same offset, published at another time.
* The record that a mark was taken from is read once more and compared, before anything behind it is
  delivered. Where it is gone, by retention or compaction, that tells nothing, and makes no difference.
* What is not known is not compared: brokers before 2.8 tell no ids of topics, and a record that could not be
  parsed has no time.
"""

import logging
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

from orchestrator.position import Mark, is_other_topic, mark_of

_logger = logging.getLogger(__name__)


def id_text(topic_id: UUID | str | None) -> str:
    """Return a topic's id as text; empty where the brokers did not tell it."""
    text = str(topic_id or "").replace("-", "")
    return text if text.strip("0") else ""


class Why(Enum):
    """Why a position is not followed; the value is what the log says."""

    ANOTHER_BUS = "position_of_another_bus"
    BEYOND_END = "position_beyond_end"
    REBUILT = "topic_rebuilt"
    REWRITTEN = "log_rewritten"
    FORGOTTEN = "position_forgotten"


@dataclass(frozen=True, slots=True)
class Start:
    """Where reading begins: at `position`, after the record of `look_at` was compared. `why` is set where
    this is in place of a position that was not followed.
    """

    position: int
    look_at: Mark | None = None
    why: Why | None = None

    @property
    def seek(self) -> int:
        """The offset to read from."""
        return self.position if self.look_at is None else min(self.position, self.look_at.offset)


def start_of(position: int, first: int, end: int, *, topic_id: str, is_known: bool) -> Start:
    """Return where to begin on a partition that has the records from `first` to before `end`. `is_known`: the
    bus has a position of this group's there, so the one given may be this bus's though it has no mark.
    """
    mark = Mark.from_text(mark_of(position))
    why = None
    if mark is not None and is_other_topic(mark.topic_id, topic_id):
        why = Why.REBUILT
    elif position > end or (mark is not None and mark.offset >= end):
        why = Why.BEYOND_END
    elif mark is None and position and not is_known:
        # Or somebody died before the first moment was over, or the group's positions have expired.
        why = Why.ANOTHER_BUS
    if why is not None:
        return Start(first, why=why)
    if position < first:
        return Start(first)
    look_at = Mark(position - 1) if mark is None else mark
    known = mark is None or mark.timestamp is not None
    return Start(position, look_at if known and look_at.offset >= first else None)


def tell(why: str, place: tuple[str, int], position: int, other: int) -> None:
    """Log that records went unread, or are read again; `deploy/README.md` says what to do."""
    topic, partition = place
    level = logging.WARNING if why == Why.ANOTHER_BUS.value else logging.ERROR
    extra = {"topic": topic, "partition": partition, "offset": int(position), "end": other}
    _logger.log(level, why, extra=extra)
