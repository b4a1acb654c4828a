"""The people of a world: who asks, who stands by, and what the vendors hold of each.

Every identifier is a canary: it has a form that nothing else has, so that it can be looked for everywhere
at the end. So have the vendors' ids of the records.
"""

import random
from dataclasses import dataclass, field
from typing import Any

from handlers.sandbox.core import Sandbox
from orchestrator.privacy import Identifier, Identifiers
from orchestrator.privacy.identifiers import Kind
from tests.simulation.installation import TENANT, VENDORS

DAY = 86_400_000_000
#: What the ledger calls the vendors of tables whose names begin otherwise.
TABLES = {"agency": "agencies", "tenant": "tenant-api"}
_CHILDREN = ("tickets", "form_submissions", "appointments", "chats", "documents", "sales")


@dataclass(slots=True)
class Person:
    """Somebody known to some vendors. `records` are (vendor, id) of all that is theirs."""

    number: int
    email: str
    phone: str
    name: str
    client_id: str
    tenant_id: str
    held: tuple[str, ...]
    records: set[tuple[str, str]] = field(default_factory=set)
    later: dict[tuple[str, str], int] = field(default_factory=dict)
    """Records made when those of the beginning were being erased, and when: they may be new consent."""
    renamed: set[tuple[str, str]] = field(default_factory=set)
    given_away: set[tuple[str, str]] = field(default_factory=set)
    """Records whose address went to somebody else: no look by what the person gave leads to them any more."""
    twins: set[str] = field(default_factory=set)
    """Two persons in SuperOffice with the one address: whose they are is the DPO's to say."""
    known_as: list[str] = field(default_factory=list)
    """Addresses that are theirs, too, and that they don't give."""
    traits: set[str] = field(default_factory=set)
    """What is unusual about them, as the table in the README calls it."""

    def values(self) -> list[str]:
        """Everything they are known by."""
        return [self.email, self.phone, self.client_id, self.tenant_id]

    def canaries(self) -> list[str]:
        """What must not be readable anywhere when their request has ended."""
        ids = [record for _, record in self.records if len(record) >= 6]
        known = [self.email, self.email.partition("@")[0], self.phone, self.name, self.client_id]
        return [*known, *self.known_as, *ids]

    def identifiers(self, kinds: tuple[Kind, ...]) -> Identifiers:
        known: dict[Kind, str] = {
            "email": self.email,
            "phone": self.phone,
            "name": self.name,
            "ga_client_id": self.client_id,
            "tenant_user_id": self.tenant_id,
        }
        return Identifiers(tuple(Identifier(kind, known[kind]) for kind in kinds))


def make(number: int, rng: random.Random, *, share: float) -> Person:
    """A person of whom each vendor holds something with the probability `share`."""
    serial = f"{rng.randrange(10**6):06d}{number}"
    return Person(
        number=number,
        email=f"kanarie{serial}@people.example",
        phone=f"+4670{rng.randrange(10**7):07d}",
        name=f"Kanarie Vingsson{serial}",
        client_id=f"{rng.randrange(10**9, 10**10)}.{rng.randrange(10**9, 10**10)}",
        tenant_id=f"anstalld-{serial}",
        held=tuple(system for system in VENDORS if system != "survey" and rng.random() < share),
    )


def plant(sandbox: Sandbox, person: Person, rng: random.Random, now: int, *, asks: bool = True) -> None:
    """Puts the person's records into the stand-ins, some time ago. Who asks for nothing is not unusual."""
    base = 7_100_000 + person.number * 10_000 + rng.randrange(1000)
    made = now - rng.randrange(30, 900) * DAY
    parts: dict[str, Any] = {}
    if "superoffice" in person.held:
        parts["superoffice"] = _superoffice(person, base, made, rng, asks=asks)
    if "hubspot" in person.held:
        contact = {"id": base + 20, "email": person.email, "created_at": made}
        parts["hubspot"] = {"contacts": [contact]}
    if "analytics" in person.held:
        parts["google"] = {"visitors": [{"client_id": person.client_id, "email": person.email}]}
    candidate = {"email": person.email, "name": person.name, "created_at": made}
    if "agency_tt" in person.held:
        parts["teamtailor"] = {"candidates": [{**candidate, "id": base + 30}]}
    if "agency_mail" in person.held:
        agency = {
            "name": "mail",
            "address": "mail@agency.example",
            "candidates": [{**candidate, "id": base + 40}],
        }
        parts["agencies"] = [agency]
    if "tenant" in person.held:
        identities = [
            {"type": "email", "value": person.email},
            {"type": "tenant_user_id", "value": person.tenant_id},
        ]
        children = [{"id": f"tidrapport-{base}-{n}", "type": "timesheet"} for n in range(rng.randrange(3))]
        record = {"id": f"user-{base}", "identities": identities, "children": children, "created_at": made}
        parts["tenants"] = [{"tenant": TENANT, "records": [record]}]
    if not parts:
        return
    for table, ids in sandbox.seed(parts).items():
        vendor = table.partition(".")[0]
        person.records |= {(TABLES.get(vendor, vendor), number) for number in ids}
    if "in a colleague's bin" in person.traits:
        sandbox.happens("deleted_by_colleague", vendor="superoffice", record=str(base))


def plant_taker(sandbox: Sandbox, person: Person, now: int) -> None:
    """Puts somebody with nothing but a name and an address where addresses can change hands."""
    seed = {
        "superoffice": {
            "persons": [{"name": person.name, "email": person.email, "created_at": now - 90 * DAY}]
        },
        "hubspot": {"contacts": [{"email": person.email, "created_at": now - 90 * DAY}]},
    }
    for table, ids in sandbox.seed(seed).items():
        person.records |= {(table.partition(".")[0], number) for number in ids}


def _superoffice(person: Person, base: int, made: int, rng: random.Random, *, asks: bool) -> dict[str, Any]:
    def children(kind: int, most: int) -> list[dict[str, Any]]:
        return [{"id": base + 100 * kind + n, "registered_at": made} for n in range(rng.randrange(most))]

    row: dict[str, Any] = {
        "id": base,
        "name": person.name,
        "email": person.email,
        "phones": [person.phone],
        "created_at": made,
        "consents": ["EMARKETING"] if rng.random() < 0.5 else [],
        "tickets": children(1, 3),
        "form_submissions": children(2, 2),
        "appointments": children(3, 2),
        "chats": children(7, 2),
    }
    if rng.random() < 0.1:
        row["sales"] = [{"id": base + 400, "bookkeeping": True, "registered_at": made}]
    if rng.random() < 0.2:
        row["documents"] = [{"id": base + 600, "registered_at": made}]
    part: dict[str, Any] = {"persons": [row]}
    if rng.random() < 0.2:
        part["submissions"] = [{"id": base + 500, "email": person.email, "registered_at": made}]
    trait = rng.choices((None, *UNUSUAL), (70, 10, 6, 5, 4, 5))[0] if asks else None
    if trait is not None:
        person.traits.add(trait)
    match trait:
        case "two persons with the address":
            part["persons"].append({**row, "id": base + 50, **dict.fromkeys(_CHILDREN, ())})
            person.twins = {str(base), str(base + 50)}
        case "a form leads to another address":
            row["email"] = f"ny-{person.email}"
            person.known_as.append(row["email"])
            led = {"id": base + 510, "email": person.email, "person": base, "registered_at": made}
            part["submissions"] = [led]
        case "a former employee":
            row["retired"] = True
        case "a user of the system":
            row["associate"] = True
    return part


UNUSUAL = (
    "two persons with the address",
    "a form leads to another address",
    "a former employee",
    "a user of the system",
    "in a colleague's bin",
)
