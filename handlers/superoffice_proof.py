"""What a second look at SuperOffice proves: gone, still there, come back, or not yet purged.

* Whatever is there of the records that were to be erased is still present. So is what the first look missed,
  if it was surely made before the erasure; anything else that is new may be new consent.
* Whoever has none of the person's addresses any more, or has a record now that was to be erased, may be
  somebody else: the DPO is asked before anything is erased again.
* A person whom the first look missed may be somebody else, where the erasure concerned another person already
  or where several have one address.
* A person or a request is waited for while it lies in the recycle bin. One that was seen there since its
  deletion and has left it was purged, by the vendor's own word. When the time in the bin has passed, the rest
  is promised.
"""

from collections.abc import Awaitable, Callable, Container
from dataclasses import dataclass, field
from typing import Final

from handlers.port import Control, Reference, Task
from handlers.results import Pending, Proved, Reappeared, Result, StillAmbiguous, StillPresent
from handlers.superoffice_look import Found, Key, key
from handlers.superoffice_records import PERSON, SUBMISSION, TICKET, Child, Person, Records
from handlers.superoffice_settings import SuperOfficeSettings
from handlers.superoffice_staying import Staying
from handlers.times import micros, to_iso
from schemas.messages import Grade, Place

IN_BIN: Final = "seen_in_bin"
ERASED_MARK: Final = "erased"
DAY: Final = 24 * 3600 * 1_000_000
#: Kinds whose date may be that of the day alone.
_DATED: Final = frozenset({"appointment", "document"})
Show = Callable[[], Awaitable[Control]]


@dataclass(slots=True)
class Unknown:
    """What the first look did not find. `new` counts the records that may be new consent."""

    persons: list[Person] = field(default_factory=list)
    children: list[Reference] = field(default_factory=list)
    new: int = 0


@dataclass(slots=True)
class Bins:
    """Which of the deleted lie in the recycle bin; which were not seen there yet, or never."""

    due_at: int
    binned: list[Reference] = field(default_factory=list)
    unseen: int = 0
    never_seen: int = 0
    are_concerned: bool = False


class Proof:
    """One proof, from what one look found."""

    def __init__(
        self, settings: SuperOfficeSettings, records: Records, staying: Staying, task: Task, found: Found
    ) -> None:
        self._settings = settings
        self._records = records
        self._staying = staying
        self._task = task
        self._found = found
        self._known = {key(reference): reference for reference in task.references}

    async def judged(self, now: int, places: tuple[Place, ...], show: Show) -> Result:
        """Return what the look says; `show` shows the account once more, after everything was read."""
        there = await self._there()
        unknown = await self._unknown()
        bins = await self._bins({key(reference) for reference in there}, now)
        staying = await self._left()
        control = await show()
        asked = self._asked(unknown.persons)
        whom = tuple(person.shown.agreed() for person in asked)
        if not self._task.may_take(whom):
            known = {reference.id for reference in self._task.of_kind(PERSON)}
            evidence = {**control.evidence(), **questioned(self._found, asked, known)}
            return StillAmbiguous(asked=whom, evidence=evidence, places=places)
        if there or unknown.persons or unknown.children:
            missed = [one for person in unknown.persons for one in self._of(person)]
            references = {key(one): one for one in (*there, *missed, *unknown.children)}
            return StillPresent(references=tuple(references.values()), places=places)
        if unknown.new:
            return Reappeared(count=unknown.new, evidence=control.evidence(), places=places)
        if bins.binned or bins.unseen:
            is_due = now >= bins.due_at
            return Pending(
                look_again_at=now + DAY if is_due else bins.due_at,
                references=tuple(bins.binned),
                code="purge_overdue" if is_due else "in_recycle_bin",
                evidence={"in_recycle_bin": str(len(bins.binned)), **control.evidence()},
                places=places,
            )
        return self._proved(control, bins, staying, places)

    async def _there(self) -> list[Reference]:
        """Return the records that were to be erased, and are there."""
        there: list[Reference] = []
        unread: list[Reference] = []
        for known, reference in self._known.items():
            if self._staying.stays(reference.kind):
                continue
            if reference.kind == PERSON:
                person = self._found.persons.get(reference.id)
                is_there = person is not None and person.is_live
            else:
                is_there = known in self._found.children and self._found.children[known].is_live
                unread += [reference] if known not in self._found.children else []
            there += [reference] if is_there else []
        return [*there, *(child.reference for child in await self._records.there(unread))]

    async def _unknown(self) -> Unknown:
        unknown = Unknown()
        taken: set[str] = set()
        for number, person in self._found.persons.items():
            if (PERSON, number) in self._known or not person.is_live:
                continue
            taken.add(number)
            if self._is_older(person.shown.created_at):
                unknown.persons.append(person)
            else:
                unknown.new += 1
        for child in self._found.doomed():
            if key(child.reference) in self._known or self._found.owner(child) in taken:
                continue
            if not await self._was_missed(child):
                unknown.new += 1
                continue
            unknown.children.append(child.reference)
            owner = self._found.persons.get(self._found.owner(child))
            if owner is not None and (PERSON, owner.shown.id) not in self._known:
                taken.add(owner.shown.id)
                unknown.persons.append(owner)
        return unknown

    async def _was_missed(self, child: Child) -> bool:
        reference = child.reference
        if reference.kind == SUBMISSION:
            return self._is_older(await self._records.submitted_at(reference))
        return self._is_older(reference.created_at, DAY if reference.kind in _DATED else 0)

    def _is_older(self, created_at: int | None, precision: int = 0) -> bool:
        """Return whether it was surely made before the erasure: an unknown age is not."""
        erased_at = self._task.erased_at
        if created_at is None or erased_at is None:
            return False
        return created_at + precision < erased_at - micros(self._settings.clock_skew)

    def _asked(self, missed: list[Person]) -> list[Person]:
        """Return those who may be somebody else: persons who changed, and whom the first look missed."""
        changed = self._changed()
        if changed:
            return list({person.shown.id: person for person in (*changed, *missed)}.values())
        is_led = any(self._found.is_led_to(person) for person in missed)
        is_shared = self._found.are_shared(missed) or bool(self._task.of_kind(PERSON))
        return missed if is_led or (self._settings.ambiguous == "ask" and is_shared) else []

    def _changed(self) -> list[Person]:
        """Return whoever is known, answers to a known number, or has a known record, without an address that
        was given or agreed to.
        """
        doomed = self._found.doomed()
        owners = {self._found.owner(child) for child in doomed if key(child.reference) in self._known}
        survivors = self._found.merged.values()
        changed: list[Person] = []
        for number, person in self._found.persons.items():
            reference = self._known.get((PERSON, number))
            is_theirs = reference is not None and person.shown.is_still(reference, self._found.wanted)
            is_meant = reference is not None or number in survivors
            is_concerned = number in owners or (is_meant and person.is_live)
            if is_concerned and self._found.is_led_to(person) and not is_theirs:
                changed.append(person)
        return changed

    def _of(self, person: Person) -> list[Reference]:
        """Return a missed person's references, those included that stay: nothing will lead to them."""
        shown = person.shown.agreed() if self._found.is_led_to(person) else person.shown.reference()
        children = self._found.children.values()
        return [shown, *(one.reference for one in children if self._found.owner(one) == person.shown.id)]

    async def _bins(self, there: set[Key], now: int) -> Bins:
        began_at = self._task.accepted_at or self._task.erased_at or now
        bins = Bins(due_at=began_at + micros(self._settings.retain_deleted))
        found = {key(reference): reference for reference in self._found.binned()}
        deleted = {one: known for one, known in self._known.items() if known.kind in self._records.bins}
        known = {one: reference for one, reference in {**found, **deleted}.items() if one not in there}
        unseen = [r for one, r in known.items() if one not in found and r.kind == TICKET]
        binned = await self._records.binned(unseen)
        for one, reference in known.items():
            bins.are_concerned = True
            if one in found or one in binned:
                was_seen = was_seen_since(reference, began_at)
                bins.binned.append(reference if was_seen else reference.marked(f"{IN_BIN}.{now}"))
            elif was_seen_since(reference, began_at):
                continue
            elif now < bins.due_at:
                bins.unseen += 1
            else:
                bins.never_seen += 1
        return bins

    async def _left(self) -> list[Reference]:
        """Return what the settings let stay, and is there."""
        stays = self._staying.stays
        left = {
            one: child.reference for one, child in self._found.children.items() if stays(child.reference.kind)
        }
        others = [one for known, one in self._known.items() if known not in left and stays(one.kind)]
        return [*left.values(), *(child.reference for child in await self._records.there(others))]

    def _proved(
        self, control: Control, bins: Bins, staying: list[Reference], places: tuple[Place, ...]
    ) -> Proved:
        grade: Grade = "vendor_stated" if bins.are_concerned else "seen_absent"
        evidence = {"recycle_bin": "empty"} if bins.are_concerned else {}
        if bins.never_seen:
            grade = "vendor_promised"
            evidence["never_seen_in_recycle_bin"] = str(bins.never_seen)
        basis = self._staying.basis(staying)
        return Proved(
            control=control,
            grade=grade,
            end="erased" if basis is None else "retained",
            legal_basis=basis,
            retained_until=self._staying.kept_until(staying, otherwise=self._task.issued_at),
            evidence={**evidence, **self._staying.told(staying)},
            places=places,
        )


def was_seen_since(reference: Reference, began_at: int) -> bool:
    """Return whether the record was seen in the bin since it was last erased; at `began_at`, without a mark.

    What lay in the bin before it was deleted again says nothing about now.
    """
    return max(_times(reference, IN_BIN), default=-1) >= max(_times(reference, ERASED_MARK), default=began_at)


def is_noted(reference: Reference) -> bool:
    """Return whether an erasure that was accepted has noted the record."""
    return bool(_times(reference, ERASED_MARK))


def _times(reference: Reference, name: str) -> list[int]:
    marks = (mark.partition(".") for mark in reference.marks)
    return [int(time) for kind, _, time in marks if kind == name]


def questioned(found: Found, asked: list[Person], known: Container[str]) -> dict[str, str]:
    """Return what the DPO can tell several persons apart by, without a word about who they are.

    `known` are the numbers of the persons who were located before.
    """
    changed = sum(found.is_changed(person, known) for person in asked)
    led_to = sum(found.is_led_to(person) for person in asked) - changed
    created = [to_iso(one.shown.created_at)[:10] for one in asked if one.shown.created_at is not None]
    days = {"created_first": min(created), "created_last": max(created)} if created else {}
    counts = {
        "persons_of_one_address": len(asked) - led_to - changed,
        "persons_led_to": led_to,
        "records_changed": changed,
    }
    return {**{name: str(count) for name, count in counts.items()}, **days}
