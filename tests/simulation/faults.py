"""What goes wrong at the vendors, by the seed."""

import random
from typing import Any

from tests.simulation.people import Person
from tests.simulation.world import World

VENDORS = ("superoffice", "hubspot", "google", "teamtailor", "controllers", "tenant-api")
KINDS = (
    "429",
    "429 with a time",
    "429 for the day",
    "500",
    "503",
    "slow",
    "very slow",
    "slow after the effect",
    "reset",
    "refused",
    "outage",
    "lost_response",
    "malformed",
    "wrong_account",
    "no_rights",
    "recreate",
    "rename",
)
_ERASING = r"gdpr-delete$|:submitUserDeletion$|/subjects/erase$|/Delete|/Person/\d+$|/Ticket/\d+$|/requests$"


class Trouble:
    """Switches faults on, and lets people come back."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._rng = rng

    def vendor(self) -> None:
        world, rng = self._world, self._rng
        kind = rng.choice(world.scenario.faults or KINDS)
        vendor = rng.choice(world.in_play or VENDORS)
        times = rng.choice((1, 1, 2, 5))
        match: dict[str, Any] = {"vendor": vendor, "times": times, "skip": rng.choice((0, 0, 1, 3))}
        if kind in ("lost_response", "malformed", "slow after the effect", "reset"):
            match["path"] = rng.choice((None, _ERASING))
        name = kind
        match kind:
            case "429 with a time":
                name, match["retry_after"] = "429", rng.choice((1, 60, 7200, 200_000))
            case "429 for the day":
                name, match["policy"], match["vendor"] = "429", "DAILY", rng.choice(("hubspot", "google"))
            case "slow":
                match["seconds"] = rng.choice((1.0, 10.0, 25.0))
            case "very slow":
                name, match["seconds"] = "slow", rng.choice((40.0, 600.0))
            case "slow after the effect":
                name, match["seconds"], match["after_effect"] = "slow", rng.choice((5.0, 40.0)), True
            case "outage":
                # Long enough for the circuit to open, and for tries to fail.
                name, match["times"] = rng.choice(("refused", "503")), rng.choice((8, 30))
            case "wrong_account" | "no_rights":
                self.spell(kind, (vendor,))
                return
            case "recreate":
                match = {"vendor": "hubspot", "seconds": rng.choice((5.0, 4000.0, 90_000.0))}
            case "rename":
                self._rename()
                return
            case _:
                pass
        world.counts[f"fault: {kind}"] += 1
        world.tell(f"fault {kind} at {match.get('vendor')}")
        world.sandbox.fault(name, **match)

    def spell(self, kind: str, vendors: tuple[str, ...]) -> None:
        """Credentials that are wrong for a while: from any moment on, until no command is under way.

        A control that is shown before and after a look vouches for it, but can't for a right that goes and
        comes back in between.
        """
        world = self._world
        for vendor in vendors:
            world.counts[f"fault: {kind}"] += 1
            world.tell(f"fault {kind} at {vendor}, for a while")
            world.spells.append(world.sandbox.fault(kind, vendor=vendor, times=None))

    def end_spells(self) -> None:
        self._world.tell("credentials are right again")
        for number in self._world.spells:
            self._world.sandbox.store.drop("faults", number)
        self._world.spells.clear()

    def clear(self) -> None:
        """No more faults; a spell ends when no command is under way."""
        for row in self._world.sandbox.store.rows("faults"):
            if row["id"] not in self._world.spells:
                self._world.sandbox.store.drop("faults", row["id"])

    def _rename(self) -> None:
        """Somebody's address changes between the look and the erasure."""
        world, rng = self._world, self._rng
        person = rng.choice(world.people)
        vendor, table, path = rng.choice(
            (
                ("superoffice", "superoffice.person", r"/Person/{}$"),
                ("hubspot", "hubspot.contact", r"/contacts/{}$"),
                ("teamtailor", "teamtailor.candidate", r"/candidates/{}$"),
            )
        )
        for record in sorted(number for place, number in person.records if place == vendor):
            row = world.sandbox.store.get(table, record)
            if row is None:
                continue
            world.counts["fault: rename"] += 1
            world.tell(f"fault rename at {vendor}")
            person.renamed.add((vendor, record))
            new = f"ny-{person.email}"
            world.sandbox.fault("rename", vendor=vendor, path=path.format(record), record=record, email=new)
            return

    def mail(self) -> None:
        rng = self._rng
        kind = rng.choice(("451", "550", "reset", "lost_response"))
        self._world.counts[f"mail fault: {kind}"] += 1
        self._world.tell(f"mail fault {kind}")
        self._world.sandbox.fault(kind, vendor="mail", times=rng.choice((1, 1, 3)))

    def reappear(self) -> None:
        """A person whose records went makes a new one: it may be new consent."""
        world, rng = self._world, self._rng
        person = rng.choice(world.people)
        erased = {line["vendor"] for line in world.sandbox.ledger() if line["record"] in _ids(person)}
        now = world.clock()
        if "hubspot" in erased and rng.random() < 0.6:
            self._return(person, {"hubspot": {"contacts": [{"email": person.email, "created_at": now}]}})
        elif "superoffice" in erased:
            new = {"name": person.name, "email": person.email, "created_at": now}
            self._return(person, {"superoffice": {"persons": [new]}})

    def _return(self, person: Person, seed: dict[str, Any]) -> None:
        world = self._world
        world.counts["person came back"] += 1
        world.tell("person came back")
        for table, ids in world.sandbox.seed(seed).items():
            person.later |= {(table.partition(".")[0], number): world.clock() for number in ids}

    def parties(self) -> None:
        """How the agencies and the controller of this world behave."""
        world, rng = self._world, self._rng
        stubborn = world.scenario.stubborn
        early = rng.random() < world.scenario.early_callbacks

        def answer(choices: tuple[str | None, ...]) -> str | None:
            return rng.choice(choices) if rng.random() < stubborn else "erased"

        agencies = []
        for name in ("mail", "tt"):
            said = answer(("nothing_held", "retained", "refused", None))
            agency: dict[str, Any] = {
                "name": name,
                "address": f"{name}@agency.example",
                "answer": said,
                "delay": f"PT{0 if early else rng.choice((600, 86_400, 5 * 86_400))}S",
                "ignores": rng.choice((0, 0, 1, 3)),
                "scans": rng.random() < 0.7,
            }
            if said == "retained":
                agency |= {"legal_basis": "national_archive_act", "retained_until": "2031-12-31"}
            if said == "refused":
                agency["reason"] = "legal_claim"
            if name == "tt":
                agency["teamtailor_company"] = "company-1"
            agencies.append(agency)
        instruction = rng.choice(("refuse", None)) if rng.random() < stubborn else "erase"
        controller = {
            "tenant": "byggab",
            "instruction": instruction,
            "reason": "contract_runs",
            "delay": f"PT{0 if early else rng.choice((60, 3600, 3 * 86_400))}S",
        }
        world.sandbox.seed({"agencies": agencies, "controllers": [controller]})
        world.counts[f"controller: {instruction}"] += 1
        for agency in agencies:
            world.counts[f"agency: {agency['answer']}"] += 1


def _ids(person: Person) -> set[str]:
    return {record for _, record in person.records}
