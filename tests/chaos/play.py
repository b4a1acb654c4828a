"""One run: requests come, everything breaks again and again, all is healed, and then all is judged."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.bus.port import BusUnavailable
from orchestrator.store import StoreError
from tests.chaos.disorder import Disorder
from tests.chaos.faults import DECK, ONCE, ONE_OF_EACH, Trouble
from tests.chaos.installation import Installation, installed, patiently
from tests.chaos.judgement import Judgement
from tests.chaos.mails import Mails
from tests.chaos.people import Person, people, settle
from tests.chaos.records import Traffic
from tests.integration.processes import tail

_TICK = 0.05
_BYSTANDERS = 5
#: How often somebody asks while the broker is away, in seconds.
_ASKS_EVERY = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of everything."""

    requests: int
    seed: int
    #: Requests that are open at a time.
    at_once: int = 120
    #: Of the records of each topic, and at least so many on each.
    poison: float = 0.01
    least_poison: int = 1
    #: Faults go on until few requests are open; without, every fault comes once.
    is_long: bool = True
    is_calm: bool = False
    has_registry: bool = False
    pause: tuple[float, float] = (4.0, 14.0)
    replicas: int = 2
    #: Seconds in which something has to move.
    patience: float = 90.0


class Broken(AssertionError):
    """Something did not hold; the text says what, with the seed and the history."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run was."""

    seconds: float
    faults: dict[str, int]
    figures: dict[str, object]


def play(plan: Plan, directory: Path, *, say: Callable[[str], None] = lambda _: None) -> Result:
    """One run, in a new folder.

    Raises:
        Broken: something that must hold does not.
    """
    with installed(directory, has_registry=plan.has_registry) as installation:
        rng = random.Random(plan.seed)
        installation.note(f"seed {plan.seed}, {plan.requests} requests")
        try:
            return _Run(plan, installation, rng, say).played()
        except Exception as error:
            text = report(plan.seed, plan.requests, installation, error)
            (directory / "report.txt").write_text(text)
            raise Broken(text) from error


class _Run:
    def __init__(
        self, plan: Plan, installation: Installation, rng: random.Random, say: Callable[[str], None]
    ) -> None:
        self._plan = plan
        self._installation = installation
        self._say = say
        self._rng = rng
        self._traffic = Traffic(installation.kafka, random.Random(rng.random()))
        self._trouble = Trouble(
            installation,
            random.Random(rng.random()),
            self._traffic,
            deck=DECK if plan.is_long else ONE_OF_EACH,
            once=ONCE if plan.is_long else {},
            pause=plan.pause,
        )
        self._disorder = Disorder(installation)
        crowd = people(rng, plan.requests + _BYSTANDERS, in_disorder=True)
        installation.people, self._bystanders = crowd[:-_BYSTANDERS], crowd[-_BYSTANDERS:]
        self._waiting: list[Person] = []
        self._open = 0
        self._looked_at = self._asked_at = 0.0
        self._said_at = time.monotonic()

    def played(self) -> Result:
        installation, plan = self._installation, self._plan
        installation.start_all(replicas=plan.replicas)
        settle(installation, installation.people + self._bystanders)
        self._waiting = list(reversed(installation.people))
        installation.note(f"{plan.requests} people are known to the vendors")
        began = time.monotonic()
        self._break_everything()
        self._trouble.heal()
        self._traffic.poison_up_to(plan.poison, least=plan.least_poison)
        self._await_rest()
        took = time.monotonic() - began
        installation.note("at rest")
        spent = installation.fleet.seconds()
        judgement = Judgement(installation, self._trouble, self._bystanders, self._disorder)
        wrong = judgement.wrong()
        installation.fleet.end_all()
        wrong += [line for line in judgement.processes() if line not in wrong]
        self._traffic.close()
        if wrong:
            raise AssertionError("\n".join(wrong))
        return Result(took, dict(self._trouble.done), self._figures() | {"processor": spent})

    # --- trouble ---

    def _break_everything(self) -> None:
        deals = sum(self._trouble.deck.values())
        while self._more(deals):
            self._submit()
            self._traffic.read_along()
            if not self._trouble.is_broker_away:
                self._traffic.poison_up_to(self._plan.poison)
            dealt = sum(self._trouble.done.values())
            self._trouble.turn(more=not self._plan.is_calm and (self._plan.is_long or dealt < deals))
            self._tell()
            if not self._trouble.is_broker_away:
                self._disorder.turn()
            time.sleep(_TICK)
        self._installation.note("all requests are in, and most of them have ended")

    def _more(self, deals: int) -> bool:
        dealt = sum(self._trouble.done.values())
        if self._waiting or (dealt < deals and not self._plan.is_calm):
            return True
        self._look()
        return self._plan.is_long and self._open > self._plan.at_once // 4

    def _submit(self) -> None:
        """As many as there is room for; in the short form spread over the faults."""
        self._look()
        share = 1.0
        if not self._plan.is_long:
            share = (sum(self._trouble.done.values()) + 1) / (sum(self._trouble.deck.values()) * 0.8)
        due = min(self._plan.requests, int(self._plan.requests * share) + 1)
        asked = self._plan.requests - len(self._waiting)
        room = min(self._plan.at_once - self._open, due - asked)
        if self._trouble.is_broker_away:
            # Nothing ends meanwhile, and people go on asking.
            room = int(time.monotonic() - self._asked_at >= _ASKS_EVERY)
        for _ in range(min(room, 20)):
            if not self._waiting:
                return
            person = self._next()
            if not self._take(person):
                return
            self._waiting.remove(person)
            self._open += 1
            self._asked_at = time.monotonic()

    def _next(self) -> Person:
        """Who asks next. Who goes to the broker without us can't while it is away."""
        likely = reversed(self._waiting)
        if self._trouble.is_broker_away:
            return next((one for one in likely if one.comes == "plain"), self._waiting[-1])
        return next(likely)

    def _take(self, person: Person) -> bool:
        if person.comes == "plain":
            return self._installation.submit(person)
        return self._disorder.submit(person)

    def _look(self) -> None:
        if time.monotonic() - self._looked_at < 0.5:
            return
        try:
            ended = self._installation.completed()
        except StoreError:
            return
        self._open = self._plan.requests - len(self._waiting) - ended
        self._looked_at = time.monotonic()

    def _tell(self) -> None:
        if time.monotonic() - self._said_at > 10.0:
            self._said_at = time.monotonic()
            asked = self._plan.requests - len(self._waiting)
            faults = sum(self._trouble.done.values())
            self._say(f"{asked} requests submitted, {self._open} open, {faults} faults")

    # --- rest ---

    def _await_rest(self) -> None:
        """Until nothing has anything to do; fails when nothing moves for a while before that."""
        state: tuple[object, ...] = ()
        moved_at = time.monotonic()
        while (now := self._state()) != (0, 0, 0):
            self._installation.fleet.supervise()
            self._traffic.read_along()
            self._disorder.turn()
            self._open = now[0]
            self._tell()
            if (*now, sum(self._traffic.seen.values())) != state:
                state = (*now, sum(self._traffic.seen.values()))
                moved_at = time.monotonic()
            if time.monotonic() - moved_at > self._plan.patience:
                return  # the judgement says what is missing
            time.sleep(0.5)

    def _state(self) -> tuple[int, int, int]:
        """Open requests, records unsent, records unread; the later are asked for when the former are none."""
        installation = self._installation
        try:
            if open_people := len(installation.open_people()):
                return open_people, -1, -1
            unsent = installation.ground.store.figures().unsent
            return 0, unsent, sum(installation.backlog().values())
        except (StoreError, BusUnavailable):
            return -1, -1, -1

    def _figures(self) -> dict[str, object]:
        ledger = [line for vendor in self._installation.vendors.values() for line in vendor.ledger()]
        mails = [mail.message for mail in Mails(self._installation, self._trouble.away).taken]
        return {
            "records": dict(self._traffic.seen),
            "copies": self._traffic.copies,
            "rotations": {
                "done": sum("is current" in said for _, said in self._trouble.rotations),
                "refused": sum("is current" not in said for _, said in self._trouble.rotations),
            },
            "in disorder": self._disorder.figures(),
            "poison": sum(self._traffic.poison.values()),
            "vendor effects": sum(not repeated for _, _, repeated in ledger),
            "vendor effects repeated": sum(repeated for _, _, repeated in ledger),
            "mails": len(mails),
            "mails repeated": len(mails) - len(set(mails)),
            "ended by themselves": [one for one in self._installation.notes if "by itself" in one],
        }


def report(seed: int, requests: int, installation: Installation, error: Exception) -> str:
    """What a run that did not hold leaves to read."""
    history = "\n".join(installation.notes[-60:])
    logs = "\n".join(
        f"--- {process.name}\n{_last(process.log)}" for process in installation.fleet.processes.values()
    )
    try:
        missing = "\n".join(
            f"{person.request_id}: {installation.where(person)}"
            for person in patiently(installation.open_people, within=10.0)[:10]
        )
    except (StoreError, BusUnavailable) as unreachable:
        missing = f"(the servers can't be asked: {unreachable})"
    said = str(error) or repr(error)
    head = f"seed {seed}, {requests} requests: {type(error).__name__}\n{said}"
    kept = f"everything is kept in {installation.directory}"
    return f"{head}\n--- still open\n{missing}\n--- history\n{history}\n{logs}\n{kept}"


def _last(log: Path) -> str:
    """The end of a log, without what the bus's library says of a broker that is away."""
    lines = [line for line in tail(log, 400).splitlines() if '"third_party"' not in line]
    return "\n".join(lines[-12:])
