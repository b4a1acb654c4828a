"""What is really there: the records at each vendor, and what a worker would honestly answer about them.

Nothing here knows the saga. A vendor is given what a command carried and a time, changes its records, and
returns the fields of the confirmation that an honest handler would send. Sealed bytes are plain names here;
`Sealed` knows what each of them would hold.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from orchestrator.saga.model import Place, Verb

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR

#: How long the bin of a vendor that has one keeps a deleted record.
BIN = 14 * DAY
AMBIGUOUS = "ambiguous_match"
#: A worker's word for a system whose circuit is open: nobody was asked.
NOT_ASKED = "circuit_open"

Fields = dict[str, Any]


class Dice:
    """A large random number, from which small choices are taken one after the other."""

    __slots__ = ("_left",)

    def __init__(self, number: int) -> None:
        self._left = number

    def roll(self, sides: int) -> int:
        """Return a number below `sides`."""
        self._left, rolled = divmod(self._left, sides)
        return rolled

    def chance(self, one_in: int) -> bool:
        return self.roll(one_in) == 0


class Calm(Dice):
    """Dice by which nothing goes wrong: they show their highest side."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(0)

    def roll(self, sides: int) -> int:
        return sides - 1


@dataclass(slots=True, eq=False)
class Record:
    """One record at a vendor.

    `ids` are the identifiers that it carries; a child carries none and hangs on its parent. `since` is when
    it came to be there as it is now: created, brought back from the bin, or given its present identifiers.
    `owner` tells the person from others who share an address. `kept` records are kept by law.
    """

    place: str
    ids: frozenset[str]
    created: int
    since: int
    owner: Literal["subject", "other"] = "subject"
    parent: "Record | None" = None
    kept: bool = False
    state: Literal["live", "bin", "gone"] = "live"
    purge_at: int = 0


def kind_of(identifier: str) -> str:
    """Return the kind of an identifier such as `email:1`."""
    return identifier.partition(":")[0]


class Sealed:
    """What each of the sealed bytes holds: identifiers, or references of records."""

    def __init__(self) -> None:
        self._identifiers: dict[bytes, frozenset[str]] = {b"": frozenset()}
        self._records: dict[bytes, tuple[Record, ...]] = {}
        self._marks: dict[bytes, str] = {}

    def seal_identifiers(self, identifiers: frozenset[str]) -> bytes:
        sealed = b"identifiers %d" % len(self._identifiers)
        self._identifiers[sealed] = identifiers
        return sealed

    def seal_records(self, records: Iterable[Record]) -> bytes:
        sealed = b"references %d" % len(self._records)
        self._records[sealed] = tuple(records)
        return sealed

    def identifiers(self, sealed: bytes) -> frozenset[str]:
        return self._identifiers[sealed]

    def records(self, sealed: bytes) -> tuple[Record, ...]:
        return self._records[sealed]

    def mark(self, sealed: bytes) -> str:
        """Return the name that a worker gives to sealed bytes: 32 hex digits of their SHA-256."""
        mark = self._marks.get(sealed)
        if mark is None:
            mark = self._marks[sealed] = hashlib.sha256(sealed).hexdigest()[:32]
        return mark


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is told by a command. `earlier` are the records in its sealed references."""

    verb: Verb
    identifiers: frozenset[str]
    earlier: tuple[Record, ...]
    instructed: bool
    takes_all: int
    erased_at: int | None


@dataclass
class Vendor:
    """A system that a worker can search, erase from and look at again.

    `searched` says by which kinds of identifier each place is searched; a place with none is reached from
    what was found elsewhere. `unread` are places where nobody looks. With `has_bin`, a deleted record lies in
    a bin first.
    """

    sealed: Sealed
    searched: dict[str, frozenset[str]]
    unread: tuple[str, ...] = ()
    has_bin: bool = False
    records: list[Record] = field(default_factory=list)
    erased: list[tuple[Record, int]] = field(default_factory=list)

    answers_by_callback: ClassVar[bool] = False

    def add(self, record: Record) -> Record:
        self.records.append(record)
        return record

    # --- what is there ---

    def live(self) -> list[Record]:
        return [record for record in self.records if record.state == "live"]

    def pass_time(self, now: int) -> None:
        """Purge what has lain in the bin long enough."""
        for record in self.records:
            if record.state == "bin" and record.purge_at <= now:
                record.state = "gone"

    def found(self, identifiers: frozenset[str]) -> list[Record]:
        """Return the live records that a search leads to: those found, their parents, and their children."""
        reached: list[Record] = []
        for record in self.records:
            if record.state != "live" or record.place in self.unread:
                continue
            kinds = self.searched.get(record.place, frozenset())
            if any(kind_of(one) in kinds for one in record.ids & identifiers):
                reached.append(record)
        roots = {record.parent or record for record in reached}
        return [
            record
            for record in self.records
            if record.state == "live"
            and record.place not in self.unread
            and (record in roots or record.parent in roots or record in reached)
        ]

    def places(self, identifiers: frozenset[str]) -> tuple[Place, ...]:
        """Return what a look by these identifiers reports about each place."""
        report = []
        for name, kinds in self.searched.items():
            by: dict[str, int] = {}
            not_by: dict[str, int] = {}
            for one in identifiers:
                kind = kind_of(one)
                if kinds:
                    counted = by if kind in kinds else not_by
                    counted[kind] = counted.get(kind, 0) + 1
            report.append(Place(name=name, looked=True, by=by, not_by=not_by))
        report += [Place(name=name, looked=False, reason="not_configured") for name in self.unread]
        return tuple(report)

    # --- what a worker does and answers ---

    def carry_out(self, order: Order, now: int, dice: Dice) -> Fields:
        self.pass_time(now)
        if order.verb == "locate":
            return self.locate(order, now)
        if order.verb == "erase":
            return self.erase(order, now, dice)
        return self.prove(order, now)

    def locate(self, order: Order, now: int) -> Fields:
        found = self.found(order.identifiers)
        places = self.places(order.identifiers)
        if not found:
            return {"kind": "absent", "grade": "seen_absent", "places": places}
        count = _ambiguous(found, order.takes_all)
        if count:
            return {"kind": "located", "found": count, "code": AMBIGUOUS, "places": places}
        sealed = self.sealed.seal_records(found)
        return {"kind": "located", "found": len(found), "references": sealed, "places": places}

    def erase(self, order: Order, now: int, dice: Dice) -> Fields:
        """Erase what the command refers to; a failure in the middle leaves the rest."""
        targets = [record for record in order.earlier if record.state == "live" and not record.kept]
        if targets and dice.chance(12):
            self._delete(targets[: len(targets) // 2], now)
            return {"kind": "failed", "code": "timeout", "retryable": True}
        self._delete(targets, now)
        return {
            "kind": "accepted",
            "erased": len(order.earlier),
            "look_at": now + (BIN if self.has_bin else 0),
        }

    def _delete(self, records: Iterable[Record], now: int) -> None:
        for record in records:
            record.state = "bin" if self.has_bin else "gone"
            record.purge_at = now + BIN
            self.erased.append((record, now))

    def prove(self, order: Order, now: int) -> Fields:
        places = self.places(order.identifiers)
        found = set(self.found(order.identifiers))
        found.update(record for record in order.earlier if record.state == "live")
        kept = [record for record in found if record.kept]
        there: list[Record] = []
        newer: list[Record] = []
        for record in found:
            if record.kept:
                continue
            is_new = order.erased_at is not None and record.created > order.erased_at
            (newer if is_new and record not in order.earlier else there).append(record)
        if there:
            strangers = [record for record in there if record not in order.earlier]
            count = _ambiguous(strangers, 0)
            if count:
                return {"kind": "still_present", "found": count, "code": AMBIGUOUS, "places": places}
            sealed = self.sealed.seal_records(there)
            return {"kind": "still_present", "found": len(there), "references": sealed, "places": places}
        if newer:
            return {"kind": "reappeared", "found": len(newer), "places": places}
        binned = [record for record in order.earlier if record.state == "bin"]
        if binned:
            look_at = max(record.purge_at for record in binned)
            return {"kind": "pending", "look_at": look_at, "code": "in_bin", "places": places}
        grade = "vendor_stated" if self.has_bin else "seen_absent"
        if kept:
            ended = {"end": "retained", "legal_basis": "bookkeeping"}
            return {"kind": "proved", "grade": grade, "places": places, **ended}
        return {"kind": "proved", "grade": grade, "places": places, "end": "erased"}


def _ambiguous(found: list[Record], takes_all: int) -> int:
    """Return how many records could be several people's; 0 where they are one person's or agreed to."""
    roots = [record for record in found if record.parent is None]
    if any(record.owner == "other" for record in roots) and len(roots) > takes_all:
        return len(roots)
    return 0


@dataclass
class Analytics(Vendor):
    """Erases by the identifiers themselves; there is nothing to look at. `submitted` is what it was given."""

    submitted: dict[str, int] = field(default_factory=dict)

    def known(self, identifiers: frozenset[str]) -> list[str]:
        return sorted(one for one in identifiers if kind_of(one) == "client")

    def places(self, identifiers: frozenset[str]) -> tuple[Place, ...]:
        return (Place(name="property", looked=False, reason="not_searchable"),)

    def locate(self, order: Order, now: int) -> Fields:
        places = self.places(order.identifiers)
        if not self.known(order.identifiers):
            return {"kind": "not_identifiable", "missing": ("client",), "places": places}
        return {"kind": "cannot_look", "places": places}

    def erase(self, order: Order, now: int, dice: Dice) -> Fields:
        known = self.known(order.identifiers)
        if not known:
            return {"kind": "failed", "code": "nothing_to_erase", "retryable": False}
        some = known[: len(known) // 2] if dice.chance(12) else known
        self.submitted.update((one, now) for one in some)
        if some != known:
            return {"kind": "failed", "code": "daily_limit", "retryable": True, "retry_after": 6 * HOUR}
        return {
            "kind": "accepted",
            "erased": len(known),
            "look_at": now,
            "references": self.sealed.seal_records(()),
        }

    def prove(self, order: Order, now: int) -> Fields:
        places = self.places(order.identifiers)
        if order.erased_at is None and not order.earlier:
            return {"kind": "failed", "code": "nothing_submitted", "retryable": False}
        return {"kind": "proved", "grade": "vendor_promised", "end": "erased", "places": places}


@dataclass
class Agency(Vendor):
    """Erases by itself when it was asked; with `can_look` its records can be read, before and after."""

    can_look: bool = False

    answers_by_callback: ClassVar[bool] = True

    def locate(self, order: Order, now: int) -> Fields:
        if self.can_look:
            return super().locate(order, now)
        return {"kind": "cannot_look", "places": self._unseen()}

    def erase(self, order: Order, now: int, dice: Dice) -> Fields:
        note = self.sealed.seal_records(())
        return {"kind": "awaiting_party", "look_at": now + 7 * DAY, "references": note}

    def prove(self, order: Order, now: int) -> Fields:
        if self.can_look:
            return super().prove(order, now)
        return {"kind": "failed", "code": "cannot_look", "retryable": False}

    def _unseen(self) -> tuple[Place, ...]:
        return tuple(Place(name=name, looked=False, reason="not_searchable") for name in self.searched)

    def answer(self, asked_about: frozenset[str], now: int, dice: Dice) -> Fields:
        """Do what the party was asked, and say so: erased, nothing held, kept by law, or refused."""
        held = [record for record in self.live() if record.ids & asked_about]
        held += [record for record in self.live() if record.parent in held]
        if dice.chance(10):
            return {"kind": "refused", "code": "we_refuse"}
        if any(record.kept for record in held):
            self._delete([record for record in held if not record.kept], now)
            basis = {"legal_basis": "bookkeeping", "retained_until": now + 400 * DAY}
            return {"kind": "retained", "grade": "party_stated", "end": "retained", **basis}
        look_at = now if self.can_look else None
        if not held and not self.can_look:
            return {"kind": "absent", "grade": "party_stated"}
        self._delete(held, now)
        return {"kind": "party_erased", "grade": "party_stated", "look_at": look_at}


@dataclass
class Tenant(Vendor):
    """A controller's data: the request is passed on, and nothing is looked up before its word."""

    def carry_out(self, order: Order, now: int, dice: Dice) -> Fields:
        if order.verb == "locate" and not order.instructed:
            note = self.sealed.seal_records(())
            return {"kind": "awaiting_party", "look_at": now + 7 * DAY, "references": note}
        if order.verb == "erase" and not order.instructed:
            return {"kind": "failed", "code": "not_instructed", "retryable": False}
        return super().carry_out(order, now, dice)
