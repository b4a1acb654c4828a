"""What a handler deliberately left, as its evidence counts it.

A step can end "erased" while the settings let some of a person's records be, or while an id of the person was
known for some properties alone. Whoever reads only the status would take the whole for erased; so everything
that tells a status tells this beside it.

* `<verb>.<kind>s_left` counts records of a kind that were found and left.
* `<verb>.properties_without_id` counts properties to which nothing was submitted.
* What is kept by law is no part of this: the status "retained" tells it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from orchestrator.mailbox import words

_LEFT: Final = "_left"
_WITHOUT_ID: Final = "properties_without_id"


@dataclass(frozen=True, slots=True)
class Left:
    """What was left in one system; false if nothing was."""

    records: tuple[tuple[str, int], ...]
    """Kind, in the plural, and count."""
    unsubmitted: int
    """Properties to which nothing was submitted."""

    def __bool__(self) -> bool:
        return bool(self.records or self.unsubmitted)

    def counted(self, language: str) -> str:
        """The records by kind: "3 appointments, 1 document"."""
        names = words.LEFT[language]
        return ", ".join(
            f"{count} {names.get(f'{kind}.{count}') or names.get(kind, kind)}" for kind, count in self.records
        )


def left_of(evidence: Mapping[str, str]) -> Left:
    """What a step's evidence counts as left. Of two counts of a kind, the larger is told."""
    records: dict[str, int] = {}
    unsubmitted = 0
    for fact, value in sorted(evidence.items()):
        name = fact.rpartition(".")[2]
        count = int(value) if value.isascii() and value.isdecimal() else 0
        if name == _WITHOUT_ID:
            unsubmitted = max(unsubmitted, count)
        elif name.endswith(_LEFT) and count:
            kind = name.removesuffix(_LEFT)
            records[kind] = max(records.get(kind, 0), count)
    return Left(tuple(records.items()), unsubmitted)
