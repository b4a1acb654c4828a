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


@dataclass(slots=True)
class Person:
    """One person, known by an address. `records` are what each system holds."""

    email: str
    request_id: str
    records: dict[str, list[str]] = field(default_factory=dict)
    is_submitted: bool = False

    @property
    def ends(self) -> dict[str, str]:
        """How the step of each system has to end."""
        # The agency says that it erased, and nobody can look.
        return {system: "erased" if self.records[system] else "absent" for system in KINDS} | {
            AGENCY: "erased"
        }


def people(rng: random.Random, count: int) -> list[Person]:
    """Each known to most of the systems."""
    return [_person(rng, number) for number in range(count)]


def settle(installation: "Installation", crowd: list[Person]) -> None:
    """Puts their records at the vendors."""
    for system, vendor in installation.vendors.items():
        vendor.settle([(record, person.email) for person in crowd for record in person.records[system]])


def _person(rng: random.Random, number: int) -> Person:
    email = f"kund.{number:05}.{rng.randrange(10**6):06}@people.example"
    person = Person(email, str(uuid.uuid5(_NAMESPACE, email)))
    for system in KINDS:
        many = rng.choice([0, 1, 1, 1, 2, 3])
        person.records[system] = [f"{system}/{number}/{one}" for one in range(many)]
    return person
