"""Made-up people, what the stand-ins hold of them, and what has to be left of it."""

import random
from dataclasses import dataclass, field
from typing import Any

from tests.integration.processes import Vendors

#: An effect at a vendor: the vendor, what it did, and the record's number there.
Effect = tuple[str, str, str]

SYSTEMS = ("superoffice", "hubspot", "web_analytics", "agency_nord", "tenant_byggab")
_GIVEN = ("Åsa", "Björn", "Cecilia", "Dag", "Eyvør", "Frøydis", "Gunnar", "Hjördis", "Ingvild", "Jón")
_FAMILY = ("Ångström", "Bø", "Côté", "Dahlgren", "Ekelöf", "Falkås", "Grønli", "Håkansson", "Ihse")


@dataclass(slots=True)
class Person:
    """One person. `ends` is how the step of each system in scope has to end, `effects` what it does there."""

    number: int
    email: str
    phone: str
    name: str
    ga_client_id: str
    scope: tuple[str, ...]
    gives_cookie: bool = True
    keeps_sale: bool = False
    held: tuple[str, ...] = ()
    ends: dict[str, str] = field(default_factory=dict)
    effects: set[Effect] = field(default_factory=set)
    request_id: str = ""

    @property
    def identifiers(self) -> list[tuple[str, str]]:
        """What the person gives with the request."""
        given = [("email", self.email), ("phone", self.phone), ("name", self.name)]
        return [*given, ("ga_client_id", f"GA1.1.{self.ga_client_id}")] if self.gives_cookie else given

    @property
    def tenant(self) -> str | None:
        return "byggab" if "tenant_byggab" in self.scope else None

    @property
    def leaves(self) -> set[tuple[str, str]]:
        """What may still be held in the end, as the outcome says: the kinds of record and their states."""
        left = {("sale", "bookkeeping")} if self.keeps_sale else set()
        if "web_analytics" in self.scope:
            # Without the cookie nobody can tell whose visits they were (Art. 11).
            left.add(("visitor", "submitted" if self.gives_cookie else "live"))
        return left

    def settle(self, vendors: Vendors) -> None:
        """Puts the person's records at the vendors, and notes what has to become of them."""
        ids = vendors.seed(self._seed())
        for system in self.scope:
            self.ends[system] = self._end(system)
        if "superoffice" in self.scope:
            for person in ids.get("superoffice.person", ()):
                for effect in ("consent_removed", "person_soft_deleted", "person_purged"):
                    self.effects.add(("superoffice", effect, person))
            for kind in ("ticket", "formsubmission"):
                for child in ids.get(f"superoffice.{kind}", ()):
                    self.effects.add(("superoffice", f"{kind}_deleted", child))
            # A deleted request lies in a bin of its own first.
            for ticket in ids.get("superoffice.ticket", ()):
                self.effects.add(("superoffice", "ticket_purged", ticket))
        if "hubspot" in self.scope:
            for contact in ids.get("hubspot.contact", ()):
                for effect in ("unsubscribed", "gdpr_deleted", "contact_purged"):
                    self.effects.add(("hubspot", effect, contact))
        if "web_analytics" in self.scope and self.gives_cookie:
            for visitor in ids.get("google.visitor", ()):
                self.effects.add(("google", "deletion_submitted", visitor))
        if "agency_nord" in self.scope:
            for candidate in ids.get("agency.candidate", ()):
                self.effects.add(("agencies", "candidate_erased", candidate))
        if "tenant_byggab" in self.scope:
            for record in ids.get("tenant.record", ()):
                self.effects.add(("tenant-api", "record_erased", record))

    def _end(self, system: str) -> str:
        if system == "web_analytics":
            return "erased" if self.gives_cookie else "not_identifiable"
        if system == "agency_nord":
            return "erased"  # its own word: we can't look
        if system not in self.held:
            return "absent"
        return "retained" if system == "superoffice" and self.keeps_sale else "erased"

    def _seed(self) -> dict[str, Any]:
        seed: dict[str, Any] = {}
        if "superoffice" in self.held:
            person = {
                "name": self.name,
                "email": self.email,
                "phones": [self.phone],
                "consents": ["EMARKETING"],
                "tickets": 1 + self.number % 2,
                "form_submissions": 1,
                "sales": [{"title": "Order", "bookkeeping": True}] if self.keeps_sale else [],
            }
            seed["superoffice"] = {"persons": [person]}
        if "hubspot" in self.held:
            seed["hubspot"] = {"contacts": [{"email": self.email}]}
        if "web_analytics" in self.held:
            visitor = {"client_id": self.ga_client_id, "email": self.email}
            seed["google"] = {"visitors": [visitor]}
        if "agency_nord" in self.held:
            # An agency's account is stated whole; what is left out keeps its value.
            candidates = [{"email": self.email, "name": self.name}]
            seed["agencies"] = [
                {"name": "Nord", "address": "radering@agency-nord.example", "candidates": candidates}
            ]
        if "tenant_byggab" in self.held:
            record = {
                "id": f"user-{self.number}",
                "identities": [{"type": "email", "value": self.email}],
                "children": [{"id": f"timesheet-{self.number}", "type": "timesheet"}],
            }
            seed["tenants"] = [{"tenant": "byggab", "records": [record]}]
        return seed


def make_people(rng: random.Random, count: int, *, first: int = 1) -> list[Person]:
    """People with requests over all kinds of system, most of them known there and some not."""
    return [_person(rng, number) for number in range(first, first + count)]


def make_bystander(rng: random.Random, number: int) -> Person:
    """Somebody whom every vendor knows and who asks for nothing."""
    person = _person(rng, number)
    person.scope, person.held, person.keeps_sale = (), SYSTEMS, False
    return person


def _person(rng: random.Random, number: int) -> Person:
    # Each system in turn is in the scope for certain, so that none is left out by chance.
    wanted = {SYSTEMS[number % len(SYSTEMS)], *(system for system in SYSTEMS if rng.random() < 0.45)}
    scope = tuple(system for system in SYSTEMS if system in wanted)
    gives_cookie = scope == ("web_analytics",) or rng.random() < 0.8
    held = [system for system in scope if rng.random() < 0.85 or system == "web_analytics"]
    return Person(
        number=number,
        email=f"kund.{number:03}.{rng.randrange(10**6):06}@people.example",
        phone=f"+4670{rng.randrange(10**6, 10**7)}",
        name=f"{rng.choice(_GIVEN)} {rng.choice(_FAMILY)} {_letters(rng)}",
        ga_client_id=f"{rng.randrange(10**9, 10**10)}.{rng.randrange(16 * 10**8, 17 * 10**8)}",
        scope=scope,
        gives_cookie=gives_cookie,
        keeps_sale="superoffice" in held and rng.random() < 0.15,
        held=tuple(held),
    )


def _letters(rng: random.Random) -> str:
    """A made-up surname, so that no name is part of another's."""
    return "".join(rng.choice("bdfgklmnprst") + rng.choice("aeiouyåö") for _ in range(4)).title()
