"""What goes wrong at the vendors, by the seed."""

import random
from typing import Any

from tests.simulation.installation import TENANT
from tests.simulation.loop import SECOND
from tests.simulation.people import Person
from tests.simulation.world import World

HOUR = 3600 * SECOND
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
    "a place that can't be read",
    "a filter that isn't honoured",
    "a long outage",
    "a record arrives",
    "an address is given away",
    "a colleague deletes",
    "contacts are merged",
    "a contact's age is missing",
    "opt-outs are refused",
)
#: Places of SuperOffice, each of which alone may become unreadable.
PLACES = (
    r"/Archive/RecyclePerson$",
    r"/Archive/RecycleTicket$",
    r"/Archive/FormSubmission$",
    r"/Archive/(Find)?ChatSession$",
    r"/Archive/(Ticket|Appointment|Document|Sale)$",
    r"/v1/(Archive/)?Person$",
    r"/Person/\d+/\w+$",
    r"/GetFormSubmissionEntity$",
)
#: Calls between the first look and the last erasure, after one of which something happens.
BETWEEN = r"/Archive/|/Person/|/contacts/|/candidates|/subjects/|/Marketing/|/Ticket/"
_OPT_OUT = r"/unsubscribe-all$"
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
            case "a place that can't be read":
                self._unreadable()
                return
            case "a filter that isn't honoured":
                name, match["vendor"], match["path"] = (
                    "ignores_filter",
                    "superoffice",
                    r"/v1/Person$|/Archive/",
                )
            case "a long outage":
                self._outage(vendor)
                return
            case "a record arrives":
                self._arrival()
                return
            case "an address is given away":
                self._give_away()
                return
            case "a colleague deletes":
                self._colleague()
                return
            case "contacts are merged":
                self._merge()
                return
            case "a contact's age is missing":
                name, match["vendor"], match["times"] = "ageless", "hubspot", rng.choice((5, 40))
            case "opt-outs are refused":
                name, match = rng.choice(("400", "403", "404")), {"vendor": "hubspot", "path": _OPT_OUT}
                match["times"] = rng.choice((1, 2))
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
        self._world.outages.clear()
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

    def _unreadable(self) -> None:
        """An archive, a list of children or a bin answers 403 or 404, for a while or a few times."""
        world, rng = self._world, self._rng
        place, status = rng.choice(PLACES), rng.choice(("403", "404"))
        times = rng.choice((1, 3, None))
        number = self._switch(
            "a place that can't be read", status, vendor="superoffice", path=place, times=times
        )
        if times is None:
            world.outages[number] = world.clock() + rng.choice((2, 30, 400)) * HOUR

    def _outage(self, vendor: str) -> None:
        """Nobody is there for days or weeks: the circuit opens, and stays open."""
        number = self._switch(
            "a long outage", self._rng.choice(("refused", "503")), vendor=vendor, times=None
        )
        self._world.outages[number] = self._world.clock() + self._rng.choice((3, 10, 25)) * 24 * HOUR

    def _switch(self, kind: str, name: str, **match: Any) -> str:
        self._world.counts[f"fault: {kind}"] += 1
        self._world.tell(f"fault {kind} at {match.get('vendor')}")
        return self._world.sandbox.fault(name, **match)

    def end_outages(self) -> None:
        """Those whose time has come."""
        world = self._world
        for number in [one for one, until in world.outages.items() if until <= world.clock()]:
            world.tell("an outage ends")
            world.sandbox.store.drop("faults", number)
            del world.outages[number]

    def _happens(self, kind: str, event: dict[str, Any], vendor: str | None = None) -> None:
        skip = self._rng.choice((0, 1, 2, 4, 8))
        self._switch(kind, "happens", vendor=vendor or event["vendor"], path=BETWEEN, skip=skip, event=event)

    def _arrival(self) -> None:
        """A record of the person's comes while we look, erase or prove."""
        world, rng = self._world, self._rng
        person = rng.choice(world.people)
        serial = 8_100_000 + world.counts["fault: a record arrives"] * 10
        so = sorted(
            r for v, r in person.records if v == "superoffice" and world.holds("superoffice.person", r)
        )
        form: dict[str, Any] = {"id": serial, "email": person.email}
        choices: list[tuple[str, dict[str, Any]]] = [
            ("superoffice", {"superoffice": {"submissions": [form]}}),
            ("superoffice", {"superoffice": {"persons": [{"id": serial + 1, "email": person.email}]}}),
        ]
        if so:
            led = {**form, "id": serial + 2, "person": int(so[0])}
            choices.append(("superoffice", {"superoffice": {"submissions": [led]}}))
        identities = [{"type": "email", "value": person.email}]
        tenant = {"tenant": TENANT, "records": [{"id": f"user-{serial}", "identities": identities}]}
        choices.append(("tenant-api", {"tenants": [tenant]}))
        vendor, seed = rng.choice([one for one in choices if one[0] in world.in_play] or choices)
        self._happens("a record arrives", {"what": "arrives", "seed": seed}, vendor)

    def _give_away(self) -> None:
        """The address that was searched for is another person's by the time of the erasure."""
        world, rng = self._world, self._rng
        person = rng.choice(world.people)
        vendor, table = rng.choice((("superoffice", "superoffice.person"), ("hubspot", "hubspot.contact")))
        taker = next((r for v, r in sorted(world.taker.records) if v == vendor), None)
        mine = sorted(r for v, r in person.records if v == vendor and world.holds(table, r))
        if taker is None or not mine or person.email in world.given_away:
            return
        person.renamed.add((vendor, mine[0]))
        person.given_away.add((vendor, mine[0]))
        world.given_away.add(person.email)
        event = {
            "what": "given_away",
            "vendor": vendor,
            "record": mine[0],
            "into": taker,
            "email": person.email,
        }
        self._happens("an address is given away", event)

    def _merge(self) -> None:
        """Somebody in HubSpot takes the person's contact and another for one. The one that is left may have
        lost the person's address again by the time of the erasure.
        """
        world, rng = self._world, self._rng
        person = rng.choice(world.people)
        taker = next((r for v, r in sorted(world.taker.records) if v == "hubspot"), None)
        mine = sorted(r for v, r in person.records if v == "hubspot" and world.holds("hubspot.contact", r))
        if taker is None or not mine:
            return
        event = {"what": "merged", "vendor": "hubspot", "record": mine[0], "into": taker}
        self._happens("contacts are merged", {**event, "forgets": rng.random() < 0.5})

    def _colleague(self) -> None:
        """Somebody puts the person into the bin, in SuperOffice itself."""
        world, rng = self._world, self._rng
        person = rng.choice(world.people)
        mine = sorted(r for v, r in person.records if world.holds(f"{v}.person", r))
        if mine:
            event = {"what": "deleted_by_colleague", "vendor": "superoffice", "record": rng.choice(mine)}
            self._happens("a colleague deletes", event)

    def vendors(self) -> None:
        """What is amiss with the vendors for as long as this world lasts."""
        world, rng = self._world, self._rng
        if rng.random() < world.scenario.skews:
            for vendor in VENDORS:
                world.sandbox.skew[vendor] = rng.choice((0, -2, 30, -30, 300, -300, 7200)) * SECOND
                if world.sandbox.skew[vendor]:
                    world.counts[f"the clock of {vendor} is off"] += 1
            world.counts["vendors' clocks are off"] += 1
        if rng.random() < world.scenario.slow_purges:
            world.sandbox.seed({"superoffice": {"retain_deleted": "P60D"}})
            world.counts["the bin keeps longer than the settings say"] += 1

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
