"""The installation of one random life: its systems, what lies in them, and who asks to be erased."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date
from random import Random

from orchestrator.saga.clocks import Calendar
from orchestrator.saga.draft import SendCommand
from orchestrator.saga.model import Capacity
from orchestrator.saga.rules import Retry, Rules, SystemPlan, Waits
from tests.oracle.truth import DAY, HOUR, SECOND, Agency, Analytics, Record, Sealed, Tenant, Vendor

REQUEST = "3f1c2b9e-0000-4000-8000-000000000001"
#: 1 June 2026, 09:00 UTC.
START = 1_780_304_400 * SECOND
TENANT = "acme"
GHOST = "ghost"

#: All that the person could give; most is given at once, or comes with a supplement.
POOL = ("email:1", "email:2", "phone:1", "client:1", "client:2")

_SEARCHED = {
    "people": frozenset({"email", "phone"}),
    "forms": frozenset({"email"}),
    "tickets": frozenset[str](),
}


def _never(day: date) -> bool:
    return False


CALENDAR = Calendar(time_zone=UTC, is_public_holiday=_never)


@dataclass(slots=True, eq=False)
class Sent:
    """A command as it was sent. `runs` counts how often a worker carried it out; `erased_at` is the first
    erasure that the saga had been told of by then.
    """

    command: SendCommand
    identifiers: bytes
    at: int
    runs: int = 0
    erased_at: int | None = None

    @property
    def system(self) -> str:
        return self.command.system


@dataclass
class World:
    """What is outside the saga.

    `later` are systems that are named and not configured at first. `left_alone` says until when a system's
    circuit is open, so that nobody is asked. `asked` are the commands by which each party was asked, oldest
    first.
    """

    sealed: Sealed
    rules: Rules
    vendors: dict[str, Vendor]
    scope: tuple[str, ...] | None
    capacity: Capacity
    tenant: str | None
    first: frozenset[str]
    verified: bool
    received_at: int
    later: dict[str, SystemPlan] = field(default_factory=dict)
    left_alone: dict[str, int] = field(default_factory=dict)
    asked: dict[str, list[Sent]] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    by_id: dict[str, Sent] = field(default_factory=dict)

    def link(self, system: str, attempt: int) -> Sent | None:
        """Return the command by which a party was asked, from the attempt that its link names."""
        return next((one for one in self.asked.get(system, ()) if one.command.attempt == attempt), None)

    def is_controllers(self, system: str) -> bool:
        plan = self.rules.systems.get(system)
        return plan is not None and plan.refusal_ends

    def note_asked(self, sent: Sent) -> None:
        """Remember that a party was asked; a controller's link names the first asking about the same."""
        asked = self.asked.setdefault(sent.system, [])
        is_known = any(one is sent for one in asked)
        is_same = self.is_controllers(sent.system) and any(
            one.identifiers == sent.identifiers for one in asked
        )
        if not (is_known or is_same):
            asked.append(sent)


# --- making one ---


def _crm(sealed: Sealed, random: Random) -> tuple[SystemPlan, Vendor]:
    plan = SystemPlan(name="crm", kind="superoffice", look_again=(0, 14 * DAY), patience=30 * DAY)
    unread = ("archive",) if random.random() < 0.3 else ()
    return plan, Vendor(sealed, _SEARCHED, unread=unread, has_bin=True)


def _marketing(sealed: Sealed, random: Random) -> tuple[SystemPlan, Vendor]:
    after = ("crm",) if random.random() < 0.5 else ()
    plan = SystemPlan(name="marketing", kind="hubspot", after=after)
    return plan, Vendor(sealed, {**_SEARCHED, "archive": frozenset({"email"})})


def _web(sealed: Sealed, random: Random) -> tuple[SystemPlan, Vendor]:
    plan = SystemPlan(name="web", kind="google_analytics", asks_subject=random.random() < 0.6)
    return plan, Analytics(sealed, {})


def _agency(sealed: Sealed, random: Random) -> tuple[SystemPlan, Vendor]:
    return SystemPlan(name="agency", kind="recruitment"), Agency(sealed, _SEARCHED)


def _candidates(sealed: Sealed, random: Random) -> tuple[SystemPlan, Vendor]:
    return SystemPlan(name="candidates", kind="recruitment"), Agency(sealed, _SEARCHED, can_look=True)


def _tenant(sealed: Sealed, random: Random) -> tuple[SystemPlan, Vendor]:
    plan = SystemPlan(name="tenant", kind="tenant", tenant=TENANT, refusal_ends=True)
    return plan, Tenant(sealed, _SEARCHED)


_MAKERS: dict[str, Callable[[Sealed, Random], tuple[SystemPlan, Vendor]]] = {
    "crm": _crm,
    "marketing": _marketing,
    "web": _web,
    "agency": _agency,
    "candidates": _candidates,
    "tenant": _tenant,
}
PAPER = SystemPlan(name="paper", kind="paper", holds_nothing="no_identifiers_kept")


def make_world(random: Random) -> World:
    """Return a small installation, a person's records in it, and the person's request."""
    sealed = Sealed()
    names = random.sample(sorted(_MAKERS), random.choice((1, 1, 1, 2, 2, 3)))
    made = {name: _MAKERS[name](sealed, random) for name in names}
    plans = {name: plan for name, (plan, _) in made.items()}
    if random.random() < 0.08:
        plans["paper"] = PAPER
    later = {}
    if random.random() < 0.05:
        later = {GHOST: SystemPlan(name=GHOST, kind="hubspot")}
    is_processor = "tenant" in names and random.random() < 0.4
    scope = None if random.random() < 0.3 and not later else (*plans, *later)
    world = World(
        sealed=sealed,
        rules=_rules(random, plans),
        vendors={name: vendor for name, (_, vendor) in made.items()},
        scope=() if random.random() < 0.01 else scope,
        capacity="processor" if is_processor else "controller",
        tenant=TENANT if is_processor or random.random() < 0.5 else None,
        first=frozenset() if random.random() < 0.02 else _given(random),
        verified=random.random() < 0.8,
        received_at=START + random.choice((0, 0, 0, 0, -20 * DAY, -40 * DAY, 3 * DAY)),
        later=later,
    )
    if random.random() < 0.05:
        world.left_alone = {names[0]: START + 9 * DAY}
    if later:
        world.vendors[GHOST] = Vendor(sealed, _SEARCHED)
    for vendor in world.vendors.values():
        for _ in range(random.choice((0, 1, 1, 2, 3))):
            add_record(vendor, random.randrange(2**60), START - 30 * DAY)
    return world


def _given(random: Random) -> frozenset[str]:
    return frozenset({"email:1", *random.sample(POOL, random.choice((0, 0, 1, 2)))})


def _rules(random: Random, plans: dict[str, SystemPlan]) -> Rules:
    waits = Waits(
        max_reopened=random.choice((1, 2)),
        max_reminders=1,
        subject_answer=random.choice((HOUR, 9 * DAY)),
    )
    return Rules(
        calendar=CALENDAR,
        systems=plans,
        retry=Retry(max_attempts=random.choice((2, 3))),
        waits=waits,
        notify_subject=random.random() < 0.7,
    )


def add_record(vendor: Vendor, number: int, now: int) -> None:
    """Put one more record at a vendor: the person's, or of another who shares an address."""
    random = Random(number)
    if isinstance(vendor, Analytics):
        return
    place = random.choice(("people", "people", "forms", "archive"))
    is_others = random.random() < 0.08
    ids = frozenset(random.sample(POOL[:3], random.choice((1, 1, 2))))
    record = vendor.add(
        Record(
            place=place,
            ids=ids,
            created=now,
            since=now,
            owner="other" if is_others else "subject",
            kept=not is_others and random.random() < 0.06,
        )
    )
    if place == "people" and random.random() < 0.4:
        vendor.add(Record("tickets", frozenset(), now, now, owner=record.owner, parent=record))
