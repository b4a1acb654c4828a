"""`radera up`, or one role by itself: runs until a signal says stop."""

import gc
import logging
import signal
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path
from types import FrameType

import click
from sqlalchemy.engine import make_url

from orchestrator import log
from orchestrator.bus.kafka_owner import BusOfAnother, BusUnclaimed, claim, owner
from orchestrator.bus.port import BusUnavailable
from orchestrator.cli.assembly import Ground, ground_of, load_settings
from orchestrator.cli.loading import loading
from orchestrator.cli.opendsr import unable_to_sign
from orchestrator.cli.roles import ALL, Role, Roles
from orchestrator.cli.secrets import unavailable
from orchestrator.service.orchestrator import GROUP
from orchestrator.settings import Settings
from orchestrator.store import Occupation, StoreUnusable, file_of, watched

_logger = logging.getLogger(__name__)

# New objects before the collector of cycles looks among them. A batch makes tens of thousands of values, next
# to none of them in cycles; the default is 700.
_COLLECT_EVERY = 50_000
# How long the other roles wait for the orchestrator's first start, in seconds.
_CLAIMED_WITHIN = 60.0


class BusStuck(Exception):
    """The bus does not answer any more, and only a new process can reach it; start this one again."""

    def __str__(self) -> str:
        return " ".join((self.__doc__ or "").split())


def run(config: Path, names: tuple[Role, ...] = ALL, *, systems: Collection[str] | None = None) -> int:
    """Runs the roles until SIGTERM or SIGINT (0), or until an error that nothing here can mend (1)."""
    settings = load_settings(config)
    if systems is not None:
        _check_systems(settings, systems)
    if {"worker", "mailbox"}.intersection(names):
        # Not a reason to stay down: it is read at each use, and may be put there yet.
        for problem in unavailable(settings):
            click.echo(f"radera: {config}: {problem}", err=True)
    log.configure(settings.log.level, settings.log.format)
    stop = threading.Event()
    fatal: list[Exception] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        stop.set()

    def on_fatal(error: Exception) -> None:
        fatal.append(error)
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    database = file_of(make_url(settings.database.url))
    held = _held(settings, names, systems)
    occupation = Occupation() if database is None else Occupation.of(database, held)
    ground = ground_of(settings)
    still_there = watched(database) if database is not None else lambda: None
    ground.prepare()
    if "orchestrator" in names:
        ground.generations.take()
        _claim(ground, stop)
    elif settings.kafka is not None and names != ("serve",):
        _await_claim(ground, stop)
    for file in ground.keyring.beside:
        _logger.warning("file_beside_keys", extra={"file": str(file)})
    unsigned = unable_to_sign(ground) if "serve" in names else None
    if unsigned is not None:
        click.echo(f"radera: {config}: {unsigned}", err=True)
    with loading():
        roles = Roles(ground, names, systems=systems, on_fatal=on_fatal)
    roles.start()
    # What is there now stays: it need not be looked at again each time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY)
    what = "up" if names is ALL else ", ".join(names)
    places = [f"http://{settings.http.host}:{settings.http.port}"]
    own = None if settings.opendsr is None else settings.opendsr.mutual_tls
    if own is not None and "serve" in names:
        places.append(f"https://{own.host}:{own.port} (controllers)")
    click.echo(f"radera: {what}, {', '.join(places)}", err=True)
    # A bare wait() would not be interrupted by a signal that another thread got.
    while not stop.wait(0.5):
        if roles.is_stuck:
            on_fatal(BusStuck())
        try:
            still_there()
        except StoreUnusable as unusable:
            on_fatal(unusable)
    ended = roles.stop()
    occupation.end()
    _logger.info("stopped", extra={"code": "clean" if ended else "cut_short"})
    for problem in dict.fromkeys(map(str, fatal)):  # several roles may have met the same
        click.echo(f"radera: {problem}", err=True)
    sys.stderr.flush()
    # Cut short or not, it was asked for: what did not end is on the disk, and comes again.
    return 1 if fatal else 0


def _claim(ground: Ground, stop: threading.Event) -> None:
    """Has database, key file and Kafka say whose they are. Raises BusOfAnother, BusUnclaimed.

    While Kafka is away, one that has read from it before goes on: its clocks must not wait. A first start
    waits for it.
    """
    own = ground.installations.settle()
    if ground.settings.kafka is None:
        return
    while not stop.is_set():
        try:
            claim(ground.bus, own)
        except BusUnavailable as error:
            _logger.warning("bus_owner_not_seen", extra={"code": error.code or type(error).__name__})
            if ground.store.positions(GROUP):
                return
            stop.wait(1.0)
        else:
            return


def _await_claim(ground: Ground, stop: threading.Event) -> None:
    """Waits until the orchestrator has had Kafka belong to this installation: whoever reads before reads
    another's requests. Raises BusOfAnother, BusUnclaimed.
    """
    until = time.monotonic() + _CLAIMED_WITHIN
    _logger.info("waiting_for_the_orchestrator")
    while not stop.is_set():
        own = ground.installations.id()
        whose = None
        if own is not None:
            try:
                whose = owner(ground.bus)
            except BusUnavailable:  # is waited for without end
                until = time.monotonic() + _CLAIMED_WITHIN
        if whose is not None:
            if whose != own:
                raise BusOfAnother
            return
        if time.monotonic() > until:
            raise BusUnclaimed
        stop.wait(1.0)


def _held(settings: Settings, names: Collection[Role], systems: Collection[str] | None) -> list[str]:
    """What one process alone may do at a database in a file: each role, and the worker's for each system."""
    held: list[str] = [name for name in names if name != "worker"]
    if "worker" in names:
        served = [name for name, one in settings.systems.items() if not one.holds_nothing]
        held += (f"worker-{name}" for name in (served if systems is None else systems))
    return held


def _check_systems(settings: Settings, systems: Collection[str]) -> None:
    """A worker's systems are configured, and are all of their kinds: those share a topic, and a command for
    one that is missing would find nobody.
    """
    known = {name: one.kind for name, one in settings.systems.items() if not one.holds_nothing}
    unknown = sorted(set(systems) - set(known))
    if unknown:
        raise click.UsageError(f"no such system: {', '.join(unknown)}; configured are: {', '.join(known)}")
    kinds = {known[name] for name in systems}
    left_out = sorted(name for name, kind in known.items() if kind in kinds and name not in systems)
    if left_out:
        raise click.UsageError(f"a worker serves all systems of a kind; add: {', '.join(left_out)}")
