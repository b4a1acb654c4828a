"""What is broken, drawn from a seed.

A deck holds every fault, the frequent ones several times; it is shuffled and dealt, again and again. The
same seed deals the same faults with the same pauses. Whom a fault hits can depend on who is up at the moment;
the history says it.

What takes its time ends by itself later: a stopped process is woken, a role that was scaled out is scaled
in. `heal` ends everything at once.

Some come once in a run, in the first deck: the broker stays away for minutes. Until it is back nothing else
is broken, so that what is seen then is what the roles do about it by themselves.
"""

import heapq
import itertools
import random
import subprocess
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.fleet import Process
from tests.chaos.installation import SESSION, WORKERS, Installation, begun
from tests.chaos.records import Traffic

ROLES = ("orchestrator", *WORKERS, "mailbox")

#: How often each fault is in a deck.
DECK = {
    "kill_orchestrator": 5,
    "kill_worker": 5,
    "kill_mailbox": 4,
    "kill_serve": 1,
    "stop": 5,
    "scale": 3,
    "broker": 2,
    "database": 2,
    "slow": 3,
    "vendor_fails": 4,
    "mail_fails": 3,
    "copies": 4,
    "rotate": 2,
}
ONE_OF_EACH = dict.fromkeys(DECK, 1)
#: What is in the first deck of a long run, too.
ONCE = {"broker_for_minutes": 1}

#: The longest that a rotation may take, in seconds.
_ROTATES = 120.0

_MAIL: tuple[dict[str, Any], ...] = (
    {"vendor": "mail", "kind": "451", "times": 6},
    {"vendor": "mail", "kind": "reset", "times": 3},
    {"vendor": "mail", "kind": "lost_response", "times": 3},
    {"vendor": "mail", "kind": "slow", "seconds": 1.0, "times": 3},
)


@dataclass(frozen=True, slots=True)
class Spell:
    """A time without a broker, in seconds since the epoch."""

    began: float
    ended: float


def dealt(rng: random.Random, deck: dict[str, int], once: dict[str, int]) -> Iterator[str]:
    """Faults without end, a shuffled deck after another; the first one with what is dealt once."""
    first = deck | once
    for one in itertools.chain([first], itertools.repeat(deck)):
        cards = [name for name, times in one.items() for _ in range(times)]
        rng.shuffle(cards)
        yield from cards


@dataclass
class Trouble:
    """Breaks an installation, one fault after another, and lets it be mended. Belongs to one thread."""

    installation: Installation
    rng: random.Random
    traffic: Traffic
    deck: dict[str, int] = field(default_factory=lambda: dict(DECK))
    once: dict[str, int] = field(default_factory=dict)
    #: Seconds between two faults.
    pause: tuple[float, float] = (0.5, 4.0)
    done: Counter[str] = field(default_factory=Counter)
    away: list[Spell] = field(default_factory=list)
    is_broker_away: bool = False
    #: How each rotation ended, and what it printed.
    rotations: list[tuple[int, str]] = field(default_factory=list)
    _agenda: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _number: Iterator[int] = field(default_factory=itertools.count)
    _next_at: float = 0.0
    _faults: Iterator[str] | None = None
    _waiting: deque[str] = field(default_factory=deque)
    _rotating: list["subprocess.Popen[str]"] = field(default_factory=list)

    def turn(self, *, more: bool) -> None:
        """What is due now: the ends of faults, and, with `more`, the next fault."""
        now = time.monotonic()
        while self._agenda and self._agenda[0][0] <= now:
            heapq.heappop(self._agenda)[2]()
        if more and now >= self._next_at and not self.is_broker_away:
            self._faults = self._faults or dealt(self.rng, self.deck, self.once)
            name = next(self._faults)
            self.strike(name)
            self._next_at = time.monotonic() + self.rng.uniform(*self.pause)
        self.installation.fleet.supervise()
        self._see_to_rotations()

    def strike(self, name: str) -> None:
        """One fault, now."""
        self.done[name] += 1
        strikes: dict[str, Callable[[], None]] = {
            "kill_orchestrator": lambda: self._kill("orchestrator"),
            "kill_worker": lambda: self._kill(*WORKERS),
            "kill_mailbox": lambda: self._kill("mailbox"),
            "kill_serve": lambda: self._kill("serve"),
            "stop": self._stop,
            "scale": self._scale,
            "broker": self._broker,
            "broker_for_minutes": self._broker_for_minutes,
            "database": self._database,
            "slow": self._slow,
            "vendor_fails": self._vendor_fails,
            "mail_fails": self._mail_fails,
            "copies": self._copies,
            "rotate": self._rotate,
        }
        strikes[name]()

    def heal(self) -> None:
        """Ends what still goes on."""
        self._end_all()
        self.installation.outside.clear_faults()
        for vendor in self.installation.vendors.values():
            vendor.clear()
        self._see_to_rotations(to_the_end=True)
        self._note("healed")

    # --- processes ---

    def _victim(self, *roles: str) -> Process | None:
        victims = [one for one in self.installation.fleet.victims() if one.role in roles]
        return self.rng.choice(victims) if victims else None

    def _kill(self, *roles: str) -> None:
        victim = self._victim(*roles)
        back = self.rng.choice([0.0, 0.0, self.rng.uniform(0.5, 5.0)])
        if victim is None:
            self._note(f"nobody to kill of {', '.join(roles)}")
            return
        self._note(f"SIGKILL {victim.name}, back after {back:.1f} s")
        victim.kill()
        self._later(back, lambda: self._back(victim))

    def _back(self, process: Process) -> None:
        if not process.is_wanted:
            process.start()

    def _stop(self) -> None:
        """A zombie: out of its group for long, and then awake with work in hand."""
        victim = self._victim(*ROLES)
        while_ = self.rng.uniform(1.4, 3.0) * SESSION
        if victim is None:
            return
        self._note(f"SIGSTOP {victim.name} for {while_:.1f} s")
        victim.stop()
        self._later(while_, lambda: self._wake(victim))

    def _wake(self, process: Process) -> None:
        if process.is_alive and process.is_stopped:
            self._note(f"SIGCONT {process.name}")
            process.wake()

    def _scale(self) -> None:
        role = self.rng.choice(ROLES)
        kept, while_ = len(self.installation.fleet.of(role)), self.rng.uniform(4.0, 10.0)
        self._note(f"scaling {role} from {kept} to 3 for {while_:.1f} s, then to 1")
        for _ in range(3 - kept):
            self.installation.start(role)
        self._later(while_, lambda: self._scale_in(role, 1))
        if kept > 1:
            self._later(while_ + 5.0, lambda: self._scale_out(role, kept))

    def _scale_in(self, role: str, count: int) -> None:
        here = [one for one in self.installation.fleet.of(role) if one.is_alive and not one.is_stopped]
        for process in here[count:]:
            self._note(f"SIGTERM {process.name}")
            self.installation.fleet.end(process)

    def _scale_out(self, role: str, count: int) -> None:
        for _ in range(count - len(self.installation.fleet.of(role))):
            self.installation.start(role)

    # --- servers ---

    def _broker(self) -> None:
        away = self.rng.uniform(0.0, 6.0)
        self._note(f"SIGKILL of the broker, back after {away:.1f} s")
        began = time.time()
        self.installation.node.kill()
        time.sleep(away)
        self._broker_back(began)

    def _broker_for_minutes(self) -> None:
        """Longer than anybody tries to publish, while requests go on coming in."""
        self._end_all()
        away = self.rng.uniform(120.0, 180.0)
        self._note(f"SIGKILL of the broker, back after {away:.0f} s")
        began = time.time()
        self.installation.node.kill()
        self.is_broker_away = True
        self._later(away, lambda: self._broker_back(began))

    def _broker_back(self, began: float) -> None:
        self.installation.node.start()
        self.is_broker_away = False
        self.away.append(Spell(began, time.time()))
        self._note("the broker is back")

    def _database(self) -> None:
        away = self.rng.uniform(0.0, 5.0)
        self._note(f"immediate stop of the database, back after {away:.1f} s")
        self.installation.database.stop()
        time.sleep(away)
        self.installation.database.start()
        self._note("the database is back")

    # --- vendors and records ---

    def _slow(self) -> None:
        name = self.rng.choice(sorted(self.installation.vendors))
        seconds = self.rng.uniform(1.2, 2.5) * SESSION
        kind = self.rng.choice(["slow", "slow_after"])
        self._note(f"{name} takes {seconds:.1f} s for some calls ({kind}), and a worker dies meanwhile")
        self.installation.vendors[name].fault(kind, 6, seconds)
        # What makes it matter: the workers' group changes while calls are under way.
        self._later(1.0, lambda: self._kill(*WORKERS))

    def _vendor_fails(self) -> None:
        name = self.rng.choice(sorted(self.installation.vendors))
        kind = self.rng.choice(["lost", "fails"])
        self._note(f"{name}: {kind}")
        self.installation.vendors[name].fault(kind, 5)

    def _mail_fails(self) -> None:
        fault = self.rng.choice(_MAIL)
        self._note(f"the mail server: {fault}")
        self.installation.outside.fault(**fault)

    def _copies(self) -> None:
        count = self.traffic.send_copies(self.rng.randrange(20, 80))
        self._note(f"{count} copies of earlier records, in any order")

    # --- keys ---

    def _rotate(self) -> None:
        """What the rotation before replaced is destroyed, whatever else happens meanwhile. Poison among the
        dead letters is no loss.
        """
        words = ["keys", "rotate", "--keep", "0", "--lose-dead-letters"]
        self._note("a rotation begins")
        self._rotating.append(begun(self.installation.configs["orchestrator"], *words))

    def _see_to_rotations(self, *, to_the_end: bool = False) -> None:
        for rotating in list(self._rotating):
            if to_the_end or rotating.poll() is not None:
                self._rotating.remove(rotating)
                said = rotating.communicate(timeout=_ROTATES)[0]
                self.rotations.append((rotating.returncode, said))
                self._note(f"the rotation ended with {rotating.returncode}: {said.strip()[-200:]}")

    # --- the rest ---

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (time.monotonic() + seconds, next(self._number), action))

    def _end_all(self) -> None:
        while self._agenda:
            heapq.heappop(self._agenda)[2]()

    def _note(self, text: str) -> None:
        self.installation.note(text)
