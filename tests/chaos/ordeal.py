"""One run of incidents: requests come in without a pause, one thing after another has to be put back, and at
the end whatever a door had taken is accounted for.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from orchestrator.bus.port import BusUnavailable
from orchestrator.smtp import message_id
from orchestrator.store import StoreError
from schemas import topics
from tests.chaos.caller import Caller
from tests.chaos.clock import can_be_set
from tests.chaos.faults import ROLES
from tests.chaos.incidents import BROKER, LOSING, Incidents, names
from tests.chaos.installation import DOMAIN, DPO, GROUPS, READ, SESSION, Installation, installed, patiently
from tests.chaos.judgement import own_errors
from tests.chaos.kept import Opened, Seen, lost
from tests.chaos.mails import Mails
from tests.chaos.operators import Operator
from tests.chaos.people import AGENCY, Person, people, settle
from tests.chaos.play import Broken, Result, report
from tests.integration.processes import eventually

#: Commands and reminders come due within seconds: what a topic lost is asked again.
CHANGES: Final = (
    (
        "[waits]\n",
        (
            '[waits]\ncommand_lifetime = "PT40S"\ncall_limit = "PT5S"\nreview = "PT30S"\n'
            'silence_alarm = "PT1M"\nnotice_alarm = "PT1M"\n'
        ),
    ),
    ('party_reminder = "PT2M"', 'party_reminder = "PT30S"'),
    ('remind_after = "PT2M"', 'remind_after = "PT30S"'),
    (f'session = "PT{SESSION:.0f}S"', 'session = "PT10S"'),
)
_AGENCY: Final = {"name": "Nord", "address": "radering@agency-nord.example", "answer": None}
_BYSTANDERS = 5
#: The longest that anything may take, in seconds, on a machine that has much else to do.
_LONG = 300.0
#: Seconds between two requests while an incident goes on.
_PACE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordeal:
    """How much of everything. `incidents` are played in the order that the seed gives."""

    requests: int
    seed: int
    incidents: Sequence[str] = field(default_factory=names)
    #: Seconds within which all must have ended after the last incident.
    patience: float = 600.0


def endure(ordeal: Ordeal, directory: Path, *, say: Callable[[str], None] = lambda _: None) -> Result:
    """One run, in a new folder.

    Raises:
        Broken: something that must hold does not.
    """
    with installed(
        directory, changes=CHANGES, broker=BROKER, has_settable_clock=can_be_set()
    ) as installation:
        installation.note(f"seed {ordeal.seed}, {ordeal.requests} requests: {', '.join(ordeal.incidents)}")
        run = _Run(ordeal, installation, say)
        try:
            return run.endured()
        except Exception as error:
            text = report(ordeal.seed, ordeal.requests, installation, error)
            (directory / "report.txt").write_text(text)
            raise Broken(text) from error
        finally:
            run.caller.end()


class _Run:
    def __init__(self, ordeal: Ordeal, installation: Installation, say: Callable[[str], None]) -> None:
        self._ordeal = ordeal
        self._installation = installation
        self._say = say
        self._rng = random.Random(ordeal.seed)
        crowd = people(self._rng, ordeal.requests + _BYSTANDERS)
        self._bystanders = crowd[ordeal.requests :]
        installation.people = crowd[: ordeal.requests]
        self.caller = Caller(
            installation, list(reversed(installation.people)), random.Random(self._rng.random())
        )
        self._operator = Operator(installation)
        self._incidents = Incidents(
            installation, self._operator, self.caller, random.Random(self._rng.random())
        )

    def endured(self) -> Result:
        installation, ordeal = self._installation, self._ordeal
        installation.outside.seed({"agencies": [_AGENCY]})
        settle(installation, installation.people + self._bystanders)
        self._operator.up()
        self.caller.start()
        began = time.monotonic()
        order = list(ordeal.incidents)
        self._rng.shuffle(order)
        share = ordeal.requests // (len(order) + 1)
        for name in order:
            self._let_in(share)
            self._say(f"{name}: {len(self.caller.taken)} requests taken, {self._open()} open")
            self._incidents.play(name)
            self._see_to_what_is_lost(name)
            self._kill_one()
        self._let_in(ordeal.requests - share * len(order))
        self.caller.pace = 0.0
        self._await_end()
        took = time.monotonic() - began
        wrong = self._wrong()
        installation.fleet.end_all()
        wrong += [f"processes: {line}" for line in installation.fleet.bad_ends]
        if wrong:
            raise AssertionError("\n".join(wrong))
        return Result(took, dict(self._incidents.counted), self._figures())

    # --- the callers ---

    def _let_in(self, share: int) -> None:
        """Lets the callers come, and returns when the half of them has come; the others take their time."""
        self.caller.pace = 0.0
        self.caller.allowed += share
        left = self.caller.allowed - share // 2
        eventually(
            "requests are taken in",
            lambda: self._lives() and self.caller.allowed <= left,
            within=_LONG,
            every=0.2,
        )
        self.caller.pace = _PACE

    def _lives(self) -> bool:
        if self.caller.failure is not None:
            raise self.caller.failure
        self._installation.fleet.supervise()
        return True

    def _kill_one(self) -> None:
        """The orchestrator or another dies, besides."""
        victims = [one for one in self._installation.fleet.victims() if one.role in ROLES]
        if victims:
            victim = self._rng.choice(victims)
            self._installation.note(f"SIGKILL {victim.name}")
            victim.kill()
            victim.start()

    def _see_to_what_is_lost(self, name: str) -> None:
        """As the guide says: what `status` lists as not opened is handed in again under its id, and producers
        outside hand in again what they published about the time of the trouble. After an incident that loses
        nothing none of that is needed, but for what lay in a database that was put aside.
        """
        installation = self._installation
        with self.caller.silent():
            eventually("all that is there is read", self._is_read, within=_LONG, every=0.5)
            sagas = installation.sagas()
            # Who was told to come again and has not come yet was accounted for then.
            coming = {one.request_id for one in self.caller.waiting}
            missing = {one for one in dict(self.caller.taken) if one not in sagas and one not in coming}
            listed = self._operator.radera("serve", "status")
            unheard = set()
            for request_id in sorted(missing):
                is_listed = f"{request_id}: accepted on" in listed
                is_owed = request_id in self._incidents.aside or (
                    name in LOSING and (is_listed or self.caller.taken[request_id].door == "topic")
                )
                if not is_owed:
                    unheard.add(request_id)
            assert not unheard, f"after {name}, lost without a word: {sorted(unheard)}"
            if name in LOSING:
                self.caller.ask_again |= {
                    one
                    for one in dict(self.caller.thanked)
                    if one in sagas and not sagas[one].is_finished and not self._answers(one)
                }
            else:
                self.caller.ask_again |= self._incidents.aside & set(self.caller.thanked)
        self.caller.hand_in_again(sorted(missing))
        self._incidents.counted["handed in again"] = self.caller.handed_in_again
        installation.note(f"{len(missing)} are handed in again")

    def _is_read(self) -> bool:
        self._lives()
        try:
            if self._installation.ground.store.figures().unsent:
                return False
            return not self._installation.ground.bus.backlog("orchestrator", GROUPS["orchestrator"])
        except (StoreError, BusUnavailable):
            return False

    # --- the end ---

    def _open(self) -> int:
        return len(patiently(self._installation.open_people))

    def _await_end(self) -> None:
        """Until all have ended and nothing is on its way; the judgement says what has not."""
        until = time.monotonic() + self._ordeal.patience
        while time.monotonic() < until:
            self._lives()
            # What a topic lost is not sent again by itself: the officer is asked, and has it sent.
            for reason in ("no_answer", "acted_notice_silent"):
                self._incidents.decide(reason, "retry")
            if not self.caller.waiting and not self._open() and self._rests():
                return
            time.sleep(0.5)

    def _rests(self) -> bool:
        try:
            unsent = self._installation.ground.store.figures().unsent
            return not unsent and not any(self._installation.backlog().values())
        except (StoreError, BusUnavailable):
            return False

    def _wrong(self) -> list[str]:
        wrong = [f"lost: {line}" for line in lost(self._seen())]
        for person in self._installation.people:
            check = self._installation.ground.store.verify_timeline(person.request_id)
            if not check.is_intact:
                wrong.append(f"timelines: {person.request_id} is broken at {check.broken_at}")
        wrong += [f"logs: {line}" for line in own_errors(self._installation.fleet)]
        if not self._rests():
            wrong.append(f"rest: something is on its way: {self._installation.backlog()}")
        return wrong

    def _seen(self) -> Seen:
        installation = self._installation
        events: dict[str, dict[str, str]] = {}
        for one in patiently(installation.outcomes):
            events.setdefault(one.request_id, {})[one.event_id] = one.kind
        mailed = {mail.message for mail in Mails(installation, []).taken if mail.to == DPO}
        opened = {
            request_id: Opened(
                saga.status,
                tuple(one.reason for one in saga.escalations),
                self._answers(request_id),
                events.get(request_id, {}),
            )
            for request_id, saga in installation.sagas().items()
        }
        letters = installation.ground.bus.browse([topics.dead_letters(one) for one in READ])
        return Seen(
            taken=set(self.caller.taken),
            thanked=set(self.caller.thanked),
            opened=opened,
            mailed={
                event_id
                for request_id, its in events.items()
                for event_id in its
                if message_id(DOMAIN, request_id, event_id) in mailed
            },
            kept={one.key for one in letters if one.key},
            unreadable=self._incidents.unreadable(),
            held={one.request_id: self._held(one) for one in installation.people},
            bystanders=[record for one in self._bystanders for record in self._gone(one)],
        )

    def _held(self, person: Person) -> list[str]:
        return [
            record
            for system, vendor in self._installation.vendors.items()
            for record in person.records[system]
            if record in vendor.left()
        ]

    def _gone(self, person: Person) -> list[str]:
        every = [record for records in person.records.values() for record in records]
        return sorted(set(every) - set(self._held(person)))

    def _answers(self, request_id: str) -> int:
        """How many of the agency's answers the timeline has."""
        said = {"system": AGENCY, "trigger": "party_erased"}
        entries = self._installation.ground.store.timeline(request_id)
        return sum(one.action == "confirmed" and said.items() <= one.data.items() for one in entries)

    def _figures(self) -> dict[str, object]:
        mails = [mail.message for mail in Mails(self._installation, []).taken]
        doors = [one.door for one in self.caller.taken.values()]
        return {
            "taken": {door: doors.count(door) for door in sorted(set(doors))},
            "thanked": len(self.caller.thanked),
            "mails": len(mails),
            "mails repeated": len(mails) - len(set(mails)),
            "clock": "set" if can_be_set() else "not set: there is no libfaketime here",
            "ended by themselves": [one for one in self._installation.notes if "by itself" in one],
        }
