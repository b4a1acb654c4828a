"""A record as the vendor shows it now, compared with what was located.

Vendors merge records, and people change addresses. So before a record is erased, it is read, and these must
hold:

* It answers with the id that was asked for. One that was merged into another answers with the other's id.
* It carries a value that the person gave. If it carries none, it may have become somebody else's: the DPO is
  asked, and his "erase" counts for the values that it carried when he was asked.
* An erasure takes all that was found. So where one record is in question, all are that this request did not
  locate before, and the answer counts for these: a record that joins them later is a new question.
* Found again after an erasure, it is taken for an old one only if it was made before the erasure by more than
  the two clocks may differ. A record whose age is unknown may be new consent.
"""

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from handlers.port import GONE, Reference, Rounds, Task
from handlers.times import to_iso

_AGREED = "agreed."


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One record, with the id that it answered with and the values by which people are found in it."""

    kind: str
    id: str = field(repr=False)
    values: frozenset[str] = field(repr=False)
    created_at: int | None = None

    def carries(self, wanted: frozenset[str]) -> bool:
        """Return whether it carries one of the values that the person gave."""
        return not self.values.isdisjoint(wanted)

    def is_still(self, reference: Reference, wanted: frozenset[str]) -> bool:
        """Return whether it is the record that was located, and still the person's."""
        if (self.kind, self.id) != (reference.kind, reference.id):
            return False
        return self.carries(wanted) or self._agreement() in reference.marks

    def is_surely_older(self, erased_at: int | None, skew: int) -> bool:
        """Return whether it was made before the erasure, whichever of the two clocks is ahead."""
        return self.created_at is not None and erased_at is not None and self.created_at < erased_at - skew

    def reference(self) -> Reference:
        """Return what the saga keeps of it."""
        return Reference(kind=self.kind, id=self.id, created_at=self.created_at)

    def agreed(self) -> Reference:
        """Return what the saga keeps of it when the DPO said that it is the person's as it is now."""
        return self.reference().marked(self._agreement())

    def _agreement(self) -> str:
        # It travels and rests sealed, with the reference.
        content = "\0".join(sorted(self.values))
        return f"{_AGREED}{hashlib.sha256(content.encode()).hexdigest()[:16]}"


S = TypeVar("S", bound=Shown)


async def follow(
    references: Iterable[Reference],
    theirs: dict[str, S],
    wanted: frozenset[str],
    read: Callable[[str], Awaitable[S | None]],
    rounds: Rounds | None = None,
) -> dict[str, S]:
    """Read what was located before, by its id. With `rounds`, of which there can be more than one attempt can
    read: what earlier attempts of the verb found to be gone is not read again.

    What is the person's is added to `theirs`, which has what the look found. Return the rest: records that
    answered to a reference, and that the DPO has to be asked about.
    """
    changed: dict[str, S] = {}
    rounds = Rounds() if rounds is None else rounds
    for reference in rounds.left(references):
        shown = theirs.get(reference.id) or await read(reference.id)
        if shown is None:
            rounds.settle(reference, GONE)
            continue
        if shown.is_still(reference, wanted) or shown.carries(wanted):
            theirs[shown.id] = shown
        else:
            changed[shown.id] = shown
    return {id_: one for id_, one in changed.items() if id_ not in theirs}


def sharing(records: Iterable[S], wanted: frozenset[str]) -> dict[str, S]:
    """Return the records that have a value of the person's together with another record."""
    known = tuple(records)
    shared: dict[str, S] = {}
    for value in wanted:
        having = {one.id: one for one in known if value in one.values}
        shared |= having if len(having) > 1 else {}
    return shared


def in_question(
    task: Task, theirs: Iterable[S], shared: Mapping[str, S], changed: Mapping[str, S]
) -> dict[str, S]:
    """Return those of the person's records that the DPO is asked about, beside those that changed."""
    if not (shared or changed or task.asked):
        return {}
    known = {(reference.kind, reference.id) for reference in task.references}
    return {**shared, **{one.id: one for one in theirs if (one.kind, one.id) not in known}}


def told_apart(shared: Iterable[Shown], changed: Iterable[Shown]) -> dict[str, str]:
    """Return by what the DPO can tell the records apart, as evidence, without a word about who they are.

    A count of 0 is told, too: it replaces what an earlier question told.
    """
    of_one, others = tuple(shared), tuple(changed)
    told = {"persons_of_one_address": str(len(of_one)), "records_changed": str(len(others))}
    times = [one.created_at for one in (*of_one, *others) if one.created_at is not None]
    if times:
        told |= {"created_first": to_iso(min(times))[:10], "created_last": to_iso(max(times))[:10]}
    return told
