"""All roles of an installation in one process, on the ground they share; or some of them.

* orchestrator: events, timers, housekeeping; one thread. The outbox relay is another: while one waits for the
  database, the other works. On SQLite, where they would only wait for each other, it is the same one.
* worker: the handlers; one thread for the bus, one event loop for the vendors.
* mailbox: mail; one thread.
* HTTP: answers, callbacks, health, metrics; one thread. Where controllers ask us over OpenDSR, another one
  that calls them back, and a third for those who come by client certificate.

Stopping goes against the stream: first what takes in (HTTP), then the worker, which gives back what it can't
finish, then the orchestrator and the mailbox, and the database last.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal

from starlette.applications import Starlette
from starlette.routing import Route

from handlers.registry import Context, Handler, find
from handlers.worker import Worker
from orchestrator.bus.port import BusUnavailable
from orchestrator.cli.assembly import Ground, kinds_of, place_titles
from orchestrator.cli.opendsr import make_opendsr
from orchestrator.http import Clients
from orchestrator.intake.app import build_app, build_status_app
from orchestrator.intake.opendsr_callbacks import Callbacks
from orchestrator.intake.outbox import Outbox
from orchestrator.intake.server import Server
from orchestrator.intake.tls import Tls
from orchestrator.mailbox.mailbox import Mailbox
from orchestrator.metrics import Figures, Metrics
from orchestrator.privacy import CALLBACK_BODY, Exchange, PrivacyError
from orchestrator.service.dead_letters import DEAD_LETTER
from orchestrator.service.housekeeping import AGENCY_MAILS, Housekeeping
from orchestrator.service.inbound import Reader
from orchestrator.service.jumps import boottime
from orchestrator.service.loops import Loop
from orchestrator.service.missing import open_requests
from orchestrator.service.orchestrator import Orchestrator
from orchestrator.service.relay import Relay
from orchestrator.service.timekeeper import Timekeeper
from orchestrator.service.unopened import Unopened
from orchestrator.service.unsent import Unsent
from orchestrator.settings import micros
from orchestrator.smtp import Mailer, OnceMailer, SmtpMailer
from orchestrator.store import SeenTimes, SentMails, StoredSent, StoreError, StoreUnavailable
from schemas import topics

_logger = logging.getLogger(__name__)

#: How long a stop may take, in seconds, by role.
DRAIN = 6.0
_WAIT = 0.2
# How often housekeeping asks the database whether its hour has come, in seconds.
_ROUND = 10.0
# How often readiness holds the keyring against the database, in seconds.
_LOOK_AT_KEYS = 5.0


Role = Literal["orchestrator", "worker", "mailbox", "serve"]
ALL: tuple[Role, ...] = ("orchestrator", "worker", "mailbox", "serve")


def make_handlers(
    ground: Ground, *, clients: Clients, mailer: Mailer, systems: Collection[str] | None = None
) -> dict[str, Handler]:
    """A handler for each configured system that holds something, or for each of `systems`."""
    settings = ground.settings
    classes = find()
    made: dict[str, Handler] = {}
    for name, system in settings.systems.items():
        if system.holds_nothing or (systems is not None and name not in systems):
            continue
        context = Context(
            system=name,
            clock=ground.clock,
            clients=clients.of(name),
            kin=settings.kin_of(name),
            public_url=settings.installation.public_url,
            answer_path="/answer/",
            callback_path=f"/callbacks/{system.kind}/",
            time_zone=settings.installation.time_zone,
            controller=settings.installation.name,
            domain=settings.installation.domain,
            sender=settings.smtp.sender,
            links=ground.links,
            correlate=ground.digests.correlation,
            mailer=mailer,
        )
        made[name] = classes[system.kind](system.own, context)
    return made


def figures_of(ground: Ground) -> Figures:
    """The store's figures as the metrics want them: seconds from now."""
    now = ground.store.now()
    seen = ground.store.figures()
    return Figures(
        open_requests=seen.open_requests,
        oldest_open_age=_seconds(now, seen.oldest_received_at),
        least_time_left=None if seen.next_due_at is None else (seen.next_due_at - now) / 1e6,
        open_escalations=seen.open_escalations,
        outbox_size=seen.unsent,
        outbox_age=_seconds(now, seen.oldest_unsent_at),
        quarantined=seen.quarantined,
        unopened=seen.unopened,
        unopened_age=_seconds(now, seen.oldest_unopened_at),
    )


def _seconds(now: int, then: int | None) -> float | None:
    return None if then is None else (now - then) / 1e6


def kind_of_step(ground: Ground, request_id: str, system: str) -> str | None:
    """Return the kind of a request's system, whatever the settings have today."""
    saga = ground.store.saga(request_id)
    step = None if saga is None else saga.step(system)
    return None if step is None else step.kind


def left_kinds(ground: Ground) -> set[str]:
    """The kinds that have left the settings, and whose parties may still answer: those with a topic on Kafka.
    On the embedded bus a topic appears with its first record, so there it is those of open requests.
    """
    found = {kind for topic in ground.bus.topics() if (kind := topics.kind_of_callbacks(topic)) is not None}
    if ground.settings.kafka is None:
        found |= {step.kind for saga in open_requests(ground.store) for step in saga.steps}
    return found - kinds_of(ground.settings) - {"unknown", "holds_nothing"}


class Roles:
    """Some or all of the roles, started and stopped together.

    Every process answers `/healthz`, `/readyz` and `/metrics`; only one that serves takes anything in over
    HTTP. `systems` narrows the worker to those; they must be all the configured systems of their kinds,
    because a kind's workers share one topic. `on_fatal` hears of an error that nothing here can mend.
    """

    def __init__(
        self,
        ground: Ground,
        names: Collection[Role] = ALL,
        *,
        systems: Collection[str] | None = None,
        on_fatal: Callable[[Exception], None],
    ) -> None:
        settings = ground.settings
        self._ground = ground
        self._on_fatal = on_fatal
        self._stop = threading.Event()
        self._keys_looked_at = -_LOOK_AT_KEYS
        self._keys_are_there = False
        self.metrics = Metrics(sorted(kinds_of(settings)), sorted(settings.systems))
        self.metrics.watch_bus(lambda: ground.changed)
        mailer = SmtpMailer(settings.smtp)
        make: Mapping[Role, Callable[[], Sequence[Loop]]] = {
            "worker": lambda: [self._worker(mailer, systems)],
            "orchestrator": self._orchestrator,
            "mailbox": lambda: [self._mailbox(mailer)],
        }
        self._loops = [loop for name, loops in make.items() if name in names for loop in loops()]
        opendsr = make_opendsr(ground, self.metrics) if "serve" in names else None
        if opendsr is not None:
            self._loops.append(self._callbacks(opendsr.callbacks))
        if "orchestrator" in names:
            self.metrics.watch(lambda: figures_of(ground))
        more = opendsr.endpoints.routes() if opendsr is not None else []
        app = self._intake(more) if "serve" in names else build_status_app(self.metrics, self.readiness)
        self.server = Server(app, host=settings.http.host, port=settings.http.port)
        self._for_controllers = self._mutual_tls(more)

    # --- the roles ---

    def _orchestrator(self) -> list[Loop]:
        ground = self._ground
        keep = ground.settings.retention
        timekeeper = Timekeeper(
            SeenTimes(ground.store),
            steady=boottime,
            patience=micros(keep.plausible_after),
            longest=micros(keep.plausible_after_jump),
            metrics=self.metrics,
            restamp=ground.restamp,
        )
        orchestrator = Orchestrator(
            store=ground.store,
            bus=ground.bus,
            keys=ground.keys,
            keyring=ground.keyring,
            reader=Reader(
                ground.keys,
                ground.digests,
                random.random,
                Exchange(ground.keyring),
                schemas=ground.resolver,
                region=ground.settings.installation.country,
                takes_clear=ground.settings.intake.clear_identifiers,
            ),
            rules=ground.rules,
            metrics=self.metrics,
            random=random.random,
            timekeeper=timekeeper,
            steady=boottime,
        )
        relay = Relay(store=ground.store, bus=ground.bus)
        housekeeping = Housekeeping(
            store=ground.store,
            bus=ground.bus,
            retention=ground.settings.retention,
            trim_bus=ground.trim_bus,
            is_plausible=lambda: timekeeper.is_plausible,
        )

        unopened = Unopened(ground.store)
        unsent = Unsent(ground.store, orchestrator.ask)
        apart = ground.settings.kafka is not None
        committed = threading.Event()
        looked_at = -_ROUND
        has_asked = False

        def turn() -> None:
            nonlocal looked_at, has_asked
            is_round = time.monotonic() - looked_at >= _ROUND
            if is_round:
                looked_at = time.monotonic()
                timekeeper.keep()
            if not has_asked:
                orchestrator.ask_about_missing_systems()
                has_asked = True
            try:
                # What is committed goes out whatever happens next, since a turn begins with the relay.
                sent = 0 if apart else relay.step()
                if orchestrator.step(0.0 if sent else _WAIT):
                    committed.set()
            except BusUnavailable:
                # The clocks go on; what they send waits in the outbox.
                orchestrator.fire_timers()
                raise
            if is_round:
                housekeeping.step()
                unopened.step()
                unsent.step(relay.missing)
                orchestrator.ask_about_lost_keys()

        def send() -> None:
            # Before the look: what is committed during it is looked for at once.
            committed.clear()
            if not relay.step() or relay.is_through:
                # Others put records there, too.
                committed.wait(_WAIT)

        loops = [Loop("orchestrator", turn, close=orchestrator.close, on_fatal=self._on_fatal)]
        return [*loops, Loop("relay", send, on_fatal=self._on_fatal)] if apart else loops

    def _worker(self, mailer: Mailer, systems: Collection[str] | None) -> Loop:
        ground, settings = self._ground, self._ground.settings
        once = OnceMailer(
            mailer,
            StoredSent(ground.store, AGENCY_MAILS),
            digest=lambda name: ground.digests.correlation(AGENCY_MAILS, name),
            outages=(StoreUnavailable,),
        )

        def run() -> None:
            # Anew for each life: connections and locks belong to the event loop that they were made in.
            clients = Clients(clock=ground.clock, steady=boottime, on_circuit=self.metrics.circuit)
            worker = Worker(
                bus=ground.bus,
                keys=ground.keys,
                installation=ground.keyring,
                handlers=make_handlers(ground, clients=clients, mailer=once, systems=systems),
                clock=ground.clock,
                concurrency=settings.worker.concurrency,
                call_limit=settings.waits.call_limit.total_seconds(),
                drain=DRAIN,
                metrics=self.metrics,
                schemas=ground.resolver,
                outages=(StoreUnavailable,),
                left=left_kinds(ground) if systems is None else (),
            )
            worker.run(self._stop)

        return Loop("worker", run, on_fatal=self._on_fatal, runs_on=True)

    def _mailbox(self, mailer: Mailer) -> Loop:
        ground = self._ground
        mailbox = Mailbox(
            bus=ground.bus,
            mailer=mailer,
            keys=ground.keys,
            sent=SentMails(ground.store),
            seal=lambda data: ground.keyring.seal_installation(DEAD_LETTER, data),
            settings=ground.settings,
            clock=ground.store.now,
            steady=boottime,
            metrics=self.metrics,
            schemas=ground.resolver,
            titles=place_titles(),
        )

        def turn() -> None:
            if not mailbox.step(_WAIT):
                # With its hands full the mailbox does not poll, and so does not wait by itself.
                self._stop.wait(0.02)

        return Loop("mailbox", turn, close=mailbox.close, on_fatal=self._on_fatal)

    def _callbacks(self, callbacks: Callbacks) -> Loop:
        def turn() -> None:
            if not callbacks.step():
                self._stop.wait(_WAIT)

        return Loop("opendsr", turn, on_fatal=self._on_fatal)

    def _intake(self, more: Sequence[Route]) -> Starlette:
        ground = self._ground
        return build_app(
            settings=ground.settings,
            bus=Outbox(ground.store),
            links=ground.links,
            digests=ground.digests,
            sent=StoredSent(ground.store, "links"),
            seal=lambda data: ground.keyring.seal_installation(CALLBACK_BODY, data),
            clock=ground.store.now,
            metrics=self.metrics,
            ready=self.readiness,
            more=more,
            kind_of=lambda request_id, system: kind_of_step(ground, request_id, system),
        )

    def _mutual_tls(self, routes: Sequence[Route]) -> Server | None:
        """Where controllers come in by client certificate."""
        opendsr = self._ground.settings.opendsr
        own = None if opendsr is None else opendsr.mutual_tls
        if own is None or not routes:
            return None
        app = Starlette(routes=routes)
        return Server(app, host=own.host, port=own.port, tls=Tls(own), section="opendsr.mutual_tls")

    # --- together ---

    def start(self) -> None:
        """Starts everything; returns when requests over HTTP are answered. Raises CannotListen."""
        for loop in self._loops:
            loop.start()
        self.server.start()
        if self._for_controllers is not None:
            self._for_controllers.start()

    def stop(self, limit: float = 7.0) -> bool:
        """Stops everything; whether all of it ended within `limit` seconds."""
        until = time.monotonic() + limit
        self._stop.set()
        servers = [one for one in (self.server, self._for_controllers) if one is not None]
        for server in servers:
            server.begin_stop()  # both at once, so that they share their time
        ended = True
        for server in servers:
            ended = server.stop(3.0) and ended
        for loop in self._loops:
            loop.stop()
        for loop in self._loops:
            ended = loop.join(max(0.1, until - time.monotonic())) and ended
        self._ground.close()
        return ended

    @property
    def is_stuck(self) -> bool:
        """Whether only a new process helps; a supervisor starts it."""
        return self._ground.is_stuck

    def readiness(self) -> Mapping[str, bool]:
        """Which role is ready, whether controllers are answered, and whether the store can be reached."""
        own = self._for_controllers
        return {
            **{loop.name: loop.is_ready for loop in self._loops},
            **({"mutual_tls": own.is_serving} if own is not None else {}),
            "store": self._reaches_store(),
            "keys": self._has_its_keys(),
        }

    def _has_its_keys(self) -> bool:
        """Whether the keyring is the database's, as of the last look."""
        if time.monotonic() - self._keys_looked_at >= _LOOK_AT_KEYS:
            try:
                self._ground.generations.check()
                self._keys_are_there = True
            except (PrivacyError, StoreError) as error:
                self._keys_are_there = False
                if isinstance(error, PrivacyError):
                    _logger.error("keys_not_the_databases", extra={"code": type(error).__name__})
            self._keys_looked_at = time.monotonic()
        return self._keys_are_there

    def _reaches_store(self) -> bool:
        try:
            self._ground.store.now()
        except StoreError:
            return False
        return True
