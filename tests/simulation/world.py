"""One world: the product's roles on one database and one bus, the vendors, the people, and a clock.

A role can die and be started again: its objects are thrown away and made anew on what is durable.
"""

import asyncio
import functools
import logging
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import sqlalchemy as sa

from handlers.port import Task
from handlers.registry import Context, Handler, find
from handlers.sandbox.core import Sandbox
from handlers.sandbox.store import normal
from handlers.worker import Worker, directly
from orchestrator.bus.port import BusUnavailable
from orchestrator.http import Clients
from orchestrator.intake.outbox import Outbox
from orchestrator.mailbox.mailbox import Mailbox
from orchestrator.metrics import Metrics
from orchestrator.privacy import Exchange, Keyring
from orchestrator.saga.model import Ended, Saga, Step
from orchestrator.service.dead_letters import DEAD_LETTER
from orchestrator.service.inbound import Reader
from orchestrator.service.orchestrator import Orchestrator
from orchestrator.service.relay import Relay
from orchestrator.store import KnownGenerations, SentMails, StoredKeys, open_engine
from orchestrator.store import tables as store_tables
from tests.simulation import installation, looking, people
from tests.simulation.bus import StubBus
from tests.simulation.doors import Accepted, Doors
from tests.simulation.keyrings import HeldFile
from tests.simulation.leads import Look, leads
from tests.simulation.lives import Fuse, Killed, Life
from tests.simulation.loop import Clock, VirtualLoop
from tests.simulation.people import Person
from tests.simulation.ports import LivingKeys, LivingMailer, LivingStore, LivingTransport, LogLines, Mail
from tests.simulation.scenario import Scenario

#: 2026-06-01T00:00:00Z; worlds begin somewhere in the year after it.
EPOCH = 1_780_272_000_000_000
_engine: sa.Engine | None = None


def _database() -> sa.Engine:
    """One database in memory for the process, emptied for each world: opening one costs more than a world."""
    global _engine
    if _engine is None:
        _engine = open_engine("sqlite://")
    with _engine.begin() as connection:
        for table in reversed(store_tables.metadata.sorted_tables):
            if table is not store_tables.schema_version:
                connection.execute(sa.delete(table))
    return _engine


_handler_classes = functools.cache(find)


@functools.cache
def _metrics() -> Metrics:
    return Metrics(sorted(set(installation.KINDS.values())))


class Word(NamedTuple):
    """A controller's word, as it was stored on arrival."""

    order: int
    at: int
    said: str
    said_at: int | None
    """The time that the controller itself names, if it does."""


class World:
    """What a schedule plays with. `trace` is what happened, without a word about anybody."""

    def __init__(self, seed: int, scenario: Scenario) -> None:
        self.seed = seed
        self.scenario = scenario
        self.rng = random.Random(f"{seed}/world")
        start = EPOCH + self.rng.randrange(365 * 86_400) * 1_000_000
        if scenario.hour is not None:
            start += scenario.hour * 3_600_000_000 - start % 86_400_000_000
        self.clock = Clock(start)
        self.engine = _database()
        self.bus = StubBus(self.clock, random.Random(f"{seed}/bus"))
        self.sandbox = Sandbox(clock=self.clock, sleep=asyncio.sleep, deliver=None)
        self.sandbox.seed(installation.accounts(self.clock()))
        self.fuse = Fuse()
        self.fuse.kills = self._kill
        self.kills_everything = True
        self.people: list[Person] = []
        self.bystanders: list[Person] = []
        self.mails: list[Mail] = []
        self.sagas: dict[str, Saga] = {}
        self.trace: list[str] = []
        self.counts: Counter[str] = Counter()
        self.log = LogLines()
        self.metrics = _metrics()
        self.on_commit: list[Callable[[Saga], None]] = []
        self.lives: dict[str, Life] = {}
        self.frozen_until = 0
        self.freezes: tuple[int, int] | None = None
        """After how many more looks, and for how long, the worker will be stopped."""
        self.looks: defaultdict[tuple[str, str], list[Look]] = defaultdict(list)
        """The looks of a request at a system, of those that came to an end."""
        self.untrue: list[str] = []
        """Reports of places that the calls belie."""
        self.outages: dict[str, int] = {}
        """Faults that last, and when they end."""
        self.taker = people.make(7, random.Random(f"{seed}/taker"), share=0.0)
        """Somebody who asks for nothing, and to whom other people's addresses may go."""
        self.given_away: set[str] = set()
        self.failing: set[str] = set()
        """Requests of which a rule fails at their next confirmation."""
        self.words: dict[str, list[Word]] = {}
        """What controllers said about each request, as it was stored."""
        self.idle_at: list[int] = []
        """When everybody had done all that there was to do."""
        self.spells: list[str] = []
        self.in_play: tuple[str, ...] = ()
        """The vendors that hold something of a request's scope: where faults have something to hit."""
        self._product_rng = random.Random(f"{seed}/product")
        self._transport_rng = random.Random(f"{seed}/transport")
        self.key_file = HeldFile(installation.material())
        self._keyrings: dict[str, Keyring] = {}
        self.keyrings_are_one = self.rng.random() < 0.3
        # What the world itself does in the product's name (intake, the console) never dies half-way.
        self.outside = Life("outside", Fuse())
        self.store = LivingStore(self.engine, self.clock, self.outside, self._committed)
        self.keyring = self._keyring_of("serve", self.store)
        self.keys = StoredKeys(self.store, self.keyring)
        self.doors = Doors(Outbox(self.store), self._is_to_relay)
        self.accepted = Accepted()
        self.relay_is_due = True
        self.start_orchestrator()
        self.start_worker()
        self.start_mailbox()

    # --- what happened ---

    def _looks(self, task: Task) -> Callable[[], None]:
        """A look begins; what is called when it has come to an end."""
        addresses = frozenset(normal(one.value) for one in task.identifiers.of_kind("email"))
        began, before = self.clock(), leads(self.sandbox.store, task.system, addresses)

        def ended() -> None:
            after = leads(self.sandbox.store, task.system, addresses)
            look = Look(began, self.clock(), before.throughout(after))
            self.looks[task.request_id, task.system].append(look)

        return ended

    def tell(self, text: str) -> None:
        self.trace.append(f"{self.clock.now / 1e6:.6f} {text}")

    def _committed(self, saga: Saga) -> None:
        self.sagas[saga.request_id] = saga
        steps = " ".join(f"{step.system}={_state(step)}" for step in saga.steps)
        questions = " ".join(f"{one.id}@{one.version}:{one.reason}" for one in saga.escalations)
        self.tell(f"saga {saga.request_id[:8]} v{saga.version} {saga.status} {steps} {questions}".rstrip())
        for hear in self.on_commit:
            hear(saga)

    def holds(self, table: str, record: str) -> bool:
        return self.sandbox.store.get(table, record) is not None

    def take_generations(self) -> None:
        """The database learns of the master keys, as at the orchestrator's start."""
        KnownGenerations(self.store, self.keyring, self.keys).take()

    def _is_to_relay(self) -> None:
        self.relay_is_due = True

    # --- roles ---

    def _keyring_of(self, role: str, store: LivingStore) -> Keyring:
        """The keyring of a process that starts: its own, or in one process with all roles the one of all."""
        name = "all" if self.keyrings_are_one else role
        if name == role or name not in self._keyrings:
            self._keyrings[name] = self.key_file.keyring()
        keyring = self._keyrings[name]
        keyring.learn_of_losses(KnownGenerations(store, keyring, StoredKeys(store, keyring)).lost)
        return keyring

    def start_orchestrator(self) -> None:
        life = self.lives["orchestrator"] = Life("orchestrator", self.fuse)
        store = LivingStore(self.engine, self.clock, life, self._committed)
        keyring = self._keyring_of("orchestrator", store)
        keys = LivingKeys(store, keyring)
        bus = self.bus.of(life)
        self.orchestrator = Orchestrator(
            store=store,
            bus=bus,
            keys=keys,
            keyring=keyring,
            reader=Reader(keys, installation.digests(), self._product_rng.random, Exchange(keyring)),
            rules=installation.rules(),
            metrics=self.metrics,
            random=self._product_rng.random,
            batch=self._product_rng.choice((1, 3, 100)),
        )
        self.relay_batch = self._product_rng.choice((1, 5, 500))
        self.relay = Relay(store=store, bus=bus, batch=self.relay_batch)

    def start_worker(self) -> None:
        life = self.lives["worker"] = Life("worker", self.fuse)
        self.loop = VirtualLoop(self.clock)
        self.frozen_until = 0
        self.freezes = None
        store = LivingStore(self.engine, self.clock, life, self._committed)
        rng = self._transport_rng
        transport = LivingTransport(self.sandbox, life, rng, self.counts, self._stops_after_look)

        def circuit(_: str, state: str) -> None:
            self.counts[f"circuit: {state}"] += 1

        clients = Clients(clock=self.clock, steady=self.clock, transport=transport, on_circuit=circuit)
        mailer = LivingMailer(self.sandbox, life, self.mails)
        classes = _handler_classes()
        handlers: dict[str, Handler] = {}
        for name, system in installation.settings().systems.items():
            if system.holds_nothing:
                continue
            context = Context(
                system=name,
                clock=self.clock,
                clients=clients.of(name),
                kin=installation.kin(name),
                public_url=installation.PUBLIC,
                controller="Controller AB",
                domain="radera.controller.example",
                sender="radera@controller.example",
                links=installation.links(),
                correlate=installation.digests().correlation,
                mailer=mailer,
                run_blocking=_call,
            )
            handler = classes[system.kind](system.own, context)
            handlers[name] = looking.watch(handler, self._looks, self.untrue.append)
        keyring = self._keyring_of("worker", store)
        self.worker = Worker(
            bus=self.bus.of(life),
            keys=StoredKeys(store, keyring),
            installation=keyring,
            handlers=handlers,
            clock=self.clock,
            metrics=self.metrics,
            run_blocking=directly,
        )
        self.rounds: list[asyncio.Task[int]] = []
        self.worker_subscription = self.worker.subscribe()

    def start_mailbox(self) -> None:
        life = self.lives["mailbox"] = Life("mailbox", self.fuse)
        store = LivingStore(self.engine, self.clock, life, self._committed)
        keyring = self._keyring_of("mailbox", store)
        self.mailbox = Mailbox(
            bus=self.bus.of(life),
            mailer=LivingMailer(self.sandbox, life, self.mails),
            keys=StoredKeys(store, keyring),
            sent=SentMails(store),
            seal=lambda data: keyring.seal_installation(DEAD_LETTER, data),
            settings=installation.settings(),
            clock=self.clock,
            metrics=self.metrics,
        )

    def freeze(self, micros: int) -> None:
        """Stops the worker, which doesn't know of it when it is woken."""
        self.counts["worker stopped and woken"] += 1
        self.tell(f"worker stopped for {micros // 3_600_000_000} hours")
        self.frozen_until = self.clock() + micros

    def _stops_after_look(self) -> bool:
        if self.freezes is None:
            return False
        left, micros = self.freezes
        self.freezes = (left - 1, micros) if left else None
        if not left:
            self.freeze(micros)
        return not left

    # --- deaths ---

    def _kill(self, role: str) -> None:
        doomed = list(self.lives) if self.kills_everything else [role]
        self.tell(f"killed: {' '.join(doomed)}")
        self.counts["process killed" if self.kills_everything else "role killed"] += 1
        for name in doomed:
            self.lives[name].is_alive = False

    def bury_and_restart(self) -> None:
        """Starts what is dead anew."""
        if not self.lives["orchestrator"].is_alive:
            self.start_orchestrator()
        if not self.lives["mailbox"].is_alive:
            self.start_mailbox()
        if not self.lives["worker"].is_alive:
            self.loop.discard()
            self.start_worker()

    # --- steps of the roles ---

    def step(self, role: str, act: Callable[[], Any]) -> Any:
        """One step of a role, whatever becomes of it; None when it died or the bus was away."""
        try:
            return act()
        except Killed:
            return None
        except BusUnavailable:
            self.counts["bus unavailable"] += 1
            return None
        finally:
            self.bury_and_restart()

    def begin_round(self, most: int) -> None:
        """The worker polls, and begins what came."""
        round_ = self.worker.step(self.worker_subscription, max_records=most)
        self.rounds.append(self.loop.create_task(round_))

    def turn(self, times: int) -> None:
        """The worker's loop runs for some turns."""
        for _ in range(times):
            is_stopped = self.clock() < self.frozen_until
            if is_stopped or not self.loop.is_ready or not self.lives["worker"].is_alive:
                break
            self.loop.turn()
        for task in [task for task in self.rounds if task.done()]:
            self.rounds.remove(task)
            error = task.exception() if not task.cancelled() else None
            if error is not None and self.lives["worker"].is_alive and not _is_away(error):
                raise error

    def close(self) -> None:
        for life in self.lives.values():
            life.is_alive = False
        self.loop.discard()
        self.sandbox.close()
        logging.getLogger().removeHandler(self.log)


async def _call(function: Callable[..., None], *args: Any) -> None:
    function(*args)


def _is_away(error: BaseException) -> bool:
    """Whether a round ended because the bus was away, for which the worker's owner polls again."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_away, error.exceptions))
    return isinstance(error, BusUnavailable)


def _state(step: Step) -> str:
    return step.state.end if isinstance(step.state, Ended) else step.state.status
