"""All roles of an installation in one process, on the ground they share.

    orchestrator   events, timers, outbox relay, housekeeping       one thread worker         handlers
    one thread for the bus, one event loop for the vendors mailbox        mail
    one thread http           answers, callbacks, health, metrics               one thread

Stopping goes against the stream: first what takes in (HTTP), then the worker, which gives back what it
can't finish, then the orchestrator and the mailbox, and the database last.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping

from handlers.registry import Context, Handler, find
from handlers.worker import Worker
from orchestrator.cli.assembly import Ground
from orchestrator.http import Clients
from orchestrator.intake import Server, build_app
from orchestrator.mailbox.mailbox import Mailbox
from orchestrator.metrics import Figures, Metrics
from orchestrator.privacy import CALLBACK_BODY
from orchestrator.service.housekeeping import Housekeeping
from orchestrator.service.inbound import Reader
from orchestrator.service.loops import Loop
from orchestrator.service.orchestrator import DEAD_LETTER, Orchestrator
from orchestrator.service.relay import Relay
from orchestrator.smtp import Mailer, SmtpMailer
from orchestrator.store import StoredSent, StoreError

_logger = logging.getLogger(__name__)

#: How long a stop may take, in seconds, by role.
DRAIN = 6.0
_WAIT = 0.2


def make_handlers(ground: Ground, *, clients: Clients, mailer: Mailer) -> dict[str, Handler]:
    """A handler for each configured system that holds something."""
    settings = ground.settings
    classes = find()
    made: dict[str, Handler] = {}
    for name, system in settings.systems.items():
        if system.holds_nothing:
            continue
        context = Context(
            system=name,
            clock=ground.store.now,
            clients=clients,
            public_url=settings.installation.public_url,
            answer_path="/answer/",
            callback_path="/callbacks/tenant/",
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
    )


def _seconds(now: int, then: int | None) -> float | None:
    return None if then is None else (now - then) / 1e6


class Roles:
    """Every role, started and stopped together. `on_fatal` hears of an error that nothing here can mend."""

    def __init__(self, ground: Ground, *, on_fatal: Callable[[Exception], None]) -> None:
        settings = ground.settings
        self._ground = ground
        self._on_fatal = on_fatal
        self._stop = threading.Event()
        kinds = [system.kind for system in settings.systems.values() if not system.holds_nothing]
        self.metrics = Metrics(kinds)
        self.metrics.watch(lambda: figures_of(ground))
        mailer = SmtpMailer(settings.smtp)
        self._orchestrator = Orchestrator(
            store=ground.store,
            bus=ground.bus,
            keys=ground.keys,
            keyring=ground.keyring,
            reader=Reader(ground.keys, ground.digests, random.random),
            rules=ground.rules,
            metrics=self.metrics,
            random=random.random,
        )
        self._relay = Relay(store=ground.store, bus=ground.bus)
        self._housekeeping = Housekeeping(
            store=ground.store, retention=settings.retention, trim_bus=ground.bus.trim
        )
        self._mailbox = Mailbox(
            bus=ground.bus,
            mailer=mailer,
            keys=ground.keys,
            sent=StoredSent(ground.store, "mailbox"),
            seal=lambda data: ground.keyring.seal_installation(DEAD_LETTER, data),
            settings=settings,
            clock=ground.store.now,
            metrics=self.metrics,
        )
        clients = Clients(clock=ground.store.now)
        self._worker = Worker(
            bus=ground.bus,
            keys=ground.keys,
            installation=ground.keyring,
            handlers=make_handlers(ground, clients=clients, mailer=mailer),
            clock=ground.store.now,
            concurrency=settings.worker.concurrency,
            call_limit=settings.waits.call_limit.total_seconds(),
            drain=DRAIN,
            metrics=self.metrics,
        )
        self._loops = (
            Loop("worker", lambda: self._worker.run(self._stop), on_fatal=on_fatal, runs_on=True),
            Loop("orchestrator", self._orchestrate, close=self._orchestrator.close, on_fatal=on_fatal),
            Loop("mailbox", self._post, close=self._mailbox.close, on_fatal=on_fatal),
        )
        app = build_app(
            settings=settings,
            bus=ground.bus,
            links=ground.links,
            digests=ground.digests,
            sent=StoredSent(ground.store, "links"),
            seal=lambda data: ground.keyring.seal_installation(CALLBACK_BODY, data),
            clock=ground.store.now,
            metrics=self.metrics,
            ready=self.readiness,
        )
        self.server = Server(app, host=settings.http.host, port=settings.http.port)

    def _orchestrate(self) -> None:
        """One turn: what is committed goes out whatever happens next, since a turn begins with the relay."""
        sent = self._relay.step()
        self._orchestrator.step(0.0 if sent else _WAIT)
        self._housekeeping.step()

    def _post(self) -> None:
        if not self._mailbox.step(_WAIT):
            self._stop.wait(0.02)

    def start(self) -> None:
        """Starts everything; returns when requests over HTTP are answered. Raises CannotListen."""
        for loop in self._loops:
            loop.start()
        self.server.start()

    def stop(self, limit: float = 9.0) -> bool:
        """Stops everything; whether all of it ended within `limit` seconds."""
        until = time.monotonic() + limit
        self._stop.set()
        ended = self.server.stop(3.0)
        for loop in self._loops:
            loop.stop()
        for loop in self._loops:
            ended = loop.join(max(0.1, until - time.monotonic())) and ended
        self._ground.bus.close()
        self._ground.engine.dispose()
        return ended

    def readiness(self) -> Mapping[str, bool]:
        """Which role is ready, and whether the store can be reached."""
        return {**{loop.name: loop.is_ready for loop in self._loops}, "store": self._reaches_store()}

    def _reaches_store(self) -> bool:
        try:
            self._ground.store.now()
        except StoreError:
            return False
        return True
