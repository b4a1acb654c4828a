"""One look at everything that SuperOffice may hold of a person. `locate` and `prove` look in the same places.

* Every lead is followed: up from a record to the person it names, and down to what hangs on that person. What
  an earlier look found is a lead, too.
* A person who was reached by a lead, and carries none of the addresses that were given, may be somebody else.
  So may several persons with one address. What is in question is told here; the verbs ask.
* After a merge a number answers with another person. That person is read by their own number, and what hangs
  on the old number counts as theirs.
"""

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field

from handlers.addresses import normal
from handlers.places import NO_IDENTIFIER, NOT_CONFIGURED, Search
from handlers.port import Permanent, Reference, Task
from handlers.superoffice_records import (
    CHAT,
    CONTACTS,
    DELETED_CONTACTS,
    PERSON,
    PLACES,
    SUBMISSION,
    Child,
    Person,
    Records,
)
from orchestrator.privacy import Identifiers

Key = tuple[str, str]


def key(reference: Reference) -> Key:
    return reference.kind, reference.id


@dataclass(slots=True)
class Found:
    """What a look found. `wanted` are the addresses that the person gave."""

    wanted: frozenset[str] = field(repr=False)
    stays: Callable[[str], bool]
    """Whether the settings let a kind of record stay."""
    persons: dict[str, Person] = field(default_factory=dict, repr=False)
    children: dict[Key, Child] = field(default_factory=dict, repr=False)
    merged: dict[str, str] = field(default_factory=dict, repr=False)
    """Numbers that answered with another person, and that person's own."""

    def answered(self, number: str, person: Person) -> None:
        """Note who answers to a number."""
        id_ = person.shown.id
        if id_ != number:
            self.merged[number] = id_
        if person.is_live or id_ not in self.persons:
            self.persons[id_] = person

    def owner(self, child: Child) -> str:
        """Return the number of the person on whom a record hangs, as that person has it now."""
        return self.merged.get(str(child.owner), str(child.owner))

    def add(self, child: Child) -> None:
        known = self.children.get(key(child.reference))
        if known is None or not known.is_live:
            self.children[key(child.reference)] = child

    def doomed(self, owner: str | None = None) -> list[Child]:
        """Return the live records that are to be erased; those that hang on one person, if it is named."""
        return [
            child
            for child in self.children.values()
            if child.is_live and not self.stays(child.reference.kind) and owner in (None, self.owner(child))
        ]

    def is_touched(self, person: Person) -> bool:
        """Return whether an erasure would take away something of the person's."""
        return person.is_live or bool(self.doomed(person.shown.id))

    def is_led_to(self, person: Person) -> bool:
        """Return whether only a lead says that the person is meant."""
        return not person.shown.carries(self.wanted)

    def is_changed(self, person: Person, known: Container[str]) -> bool:
        """Return whether a known person, or a number with an address of the person's, became this one."""
        is_meant = person.shown.id in known or person.shown.id in self.merged.values()
        return is_meant and self.is_led_to(person)

    def are_shared(self, persons: Iterable[Person]) -> bool:
        """Return whether several of these, of whom something would be taken away, have one address."""
        touched = [person for person in persons if self.is_touched(person)]
        return any(sum(address in one.shown.values for one in touched) > 1 for address in self.wanted)

    def binned(self) -> list[Reference]:
        """Return the persons and requests that lie in the recycle bin."""
        persons = [one.shown.reference() for one in self.persons.values() if not one.is_live]
        return [*persons, *(one.reference for one in self.children.values() if not one.is_live)]


def addresses(identifiers: Identifiers) -> list[str]:
    return [normal(identifier.value) for identifier in identifiers.of_kind("email")]


async def look(records: Records, task: Task, search: Search, stays: Callable[[str], bool]) -> Found:
    """Look in every place, by every address and by what is known already; tell the search."""
    emails = addresses(task.identifiers)
    found = Found(frozenset(emails), stays)
    by = task.identifiers.of_kind("email")
    for email in emails:
        async for number, shown in records.persons_by_address(email):
            found.answered(str(number), await _own(records, number, Person(shown, is_live=True)))
    search.looked(CONTACTS, by)
    for email in emails:
        async for shown in records.binned_by_address(email):
            found.answered(shown.id, Person(shown, is_live=False))
    search.looked(DELETED_CONTACTS, by)
    unproved: list[Child] = []
    for kind in (SUBMISSION, CHAT):
        if kind in records.archives:
            for email in emails:
                async for child, carried in records.children_by_address(kind, email):
                    found.add(child)
                    if not carried:
                        unproved.append(child)
            search.looked(records.archives[kind].place, by)
    await _follow(records, task, found)
    for child in unproved:
        owner = found.persons.get(found.owner(child))
        if owner is None or found.is_led_to(owner):
            raise Permanent("filter_not_honoured")
    for archive in (*records.archives.values(), *records.bins.values()):
        if not archive.addresses:
            search.looked(archive.place)
    for place in not_configured(records):
        search.skipped(place, NOT_CONFIGURED)
    return found


async def _follow(records: Records, task: Task, found: Found) -> None:
    """Follow what was found, and what is known, up to the persons and down to their records."""
    # They may have come to somebody else since they were located. What stays leads to nobody.
    leading = [
        one
        for one in task.references
        if one.kind != PERSON and key(one) not in found.children and not found.stays(one.kind)
    ]
    for known in await records.there(leading):
        found.add(known)
    leads = {str(child.owner) for child in found.children.values() if child.owner}
    leads |= {reference.id for reference in task.of_kind(PERSON)}
    for lead in sorted(leads - found.persons.keys(), key=int):
        person = await records.person(int(lead))
        if person is not None:
            found.answered(lead, await _own(records, int(lead), person))
    for number in sorted({*found.persons, *found.merged}, key=int):
        async for child in records.children(int(number)):
            found.add(child)


async def _own(records: Records, number: int, person: Person) -> Person:
    """Return the person who answers to a number, read by the number that they have themselves."""
    seen = {str(number)}
    while person.shown.id not in seen:
        seen.add(person.shown.id)
        own = await records.person(int(person.shown.id))
        if own is None:
            # Listed nowhere: what can be told of them is what answered.
            break
        person = own
    return person


def not_configured(records: Records) -> list[str]:
    """Return the places that the tenant does not have."""
    known = {one.place for one in (*records.archives.values(), *records.bins.values())}
    return [place.name for place in PLACES if place.name not in known]


def nowhere(records: Records, search: Search) -> None:
    """Tell the search that there was nothing to look for."""
    missing = not_configured(records)
    for place in PLACES:
        search.skipped(place.name, NOT_CONFIGURED if place.name in missing else NO_IDENTIFIER)
