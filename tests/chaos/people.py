"""Made-up people who ask to be erased, and what every system holds of them."""

import random
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.chaos.instant import KINDS

if TYPE_CHECKING:
    from tests.chaos.installation import Installation

_NAMESPACE = uuid.UUID("6ba7b814-9dad-11d1-80b4-00c04fd430c8")
AGENCY = "agency_nord"
SYSTEMS = (*KINDS, AGENCY)
#: Of so many, who comes in disorder.
_OF = 20
_COMES = {3: "decided", 9: "told", 15: "supplemented"}


@dataclass(slots=True)
class Person:
    """One person, known by an address, or by two. `records` are what each system holds, and `comes` how the
    request does (see `disorder`).
    """

    email: str
    request_id: str
    records: dict[str, list[str]] = field(default_factory=dict)
    is_submitted: bool = False
    comes: str = "plain"
    other_email: str | None = None

    @property
    def asks_by(self) -> list[list[str]]:
        """The addresses of each request that is made under the one id, in the order in which they come."""
        return [[self.email]] if self.other_email is None else [[self.email, self.other_email], [self.email]]

    def address_of(self, record: str) -> str:
        """The address under which a record is held."""
        is_other = self.other_email is not None and record.endswith("/0")
        return self.other_email if is_other and self.other_email else self.email

    @property
    def ends(self) -> dict[str, str]:
        """How the step of each system has to end."""
        # The agency says that it erased, and nobody can look.
        return {system: "erased" if self.records[system] else "absent" for system in KINDS} | {
            AGENCY: "erased"
        }


def people(rng: random.Random, count: int, *, in_disorder: bool = False) -> list[Person]:
    """Each known to most of the systems. In disorder, some have what speaks of their request come first."""
    crowd = [_person(rng, number) for number in range(count)]
    for number, person in enumerate(crowd if in_disorder else ()):
        person.comes = _COMES.get(number % _OF, "plain")
        if person.comes == "supplemented":
            person.other_email = f"privat.{person.email}"
    return crowd


def settle(installation: "Installation", crowd: list[Person]) -> None:
    """Puts their records at the vendors."""
    for system, vendor in installation.vendors.items():
        vendor.settle(
            [(record, person.address_of(record)) for person in crowd for record in person.records[system]]
        )


def _person(rng: random.Random, number: int) -> Person:
    email = f"kund.{number:05}.{rng.randrange(10**6):06}@people.example"
    person = Person(email, str(uuid.uuid5(_NAMESPACE, email)))
    for system in KINDS:
        many = rng.choice([0, 1, 1, 1, 2, 3])
        person.records[system] = [f"{system}/{number}/{one}" for one in range(many)]
    return person
