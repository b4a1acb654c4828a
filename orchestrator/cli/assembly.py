"""The composition root: from the settings to the parts of an installation.

`open_store` opens what reading needs, `open_ground` all that the roles share. Handlers are found through
the entry-point group `radera.handlers`, so that one from another package is used like our own.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from handlers.registry import declared_places, settings_models
from orchestrator.bus.port import Bus, BusUnavailable
from orchestrator.bus.sqlite import SqliteBus
from orchestrator.cli.problems import NoInstallation
from orchestrator.mailbox.places import Titles
from orchestrator.privacy import Digests, KeyFileMissing, Keyring, PartyLinks
from orchestrator.saga.rules import Rules
from orchestrator.service.rules import TENANT, rules_of
from orchestrator.settings import ConfigError, Settings, load
from orchestrator.store import (
    DatabaseGone,
    Installations,
    KnownGenerations,
    SteadyClock,
    Store,
    StoredKeys,
    StoreError,
    TopicNotes,
    database_name,
    open_engine,
    restamp,
)
from schemas import topics
from schemas.codec import Resolver
from schemas.messages import Callback, Command, Confirmation, Decision, Message, Outcome, Request

if TYPE_CHECKING:
    from orchestrator.bus.schema_registry import Registry


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What every role of an installation stands on."""

    settings: Settings
    engine: sa.Engine
    store: Store
    bus: Bus
    keyring: Keyring
    keys: StoredKeys
    generations: KnownGenerations
    installations: Installations
    digests: Digests
    links: PartyLinks
    registry: "Registry | None" = None

    @cached_property
    def rules(self) -> Rules:
        """The rules of the sagas, made when they are asked for: most commands and roles decide nothing, and
        their calendar loads the holidays of all countries, which takes a tenth of a short command's time.
        """
        return rules_of(self.settings)

    @cached_property
    def clock(self) -> SteadyClock:
        """The database's time, which outlasts a short absence: no longer than a call to a vendor may take."""
        return SteadyClock(self.store.now, self.settings.waits.call_limit.total_seconds())

    @property
    def resolver(self) -> Resolver | None:
        """Gives the schemas that others registered, where there is a registry."""
        return None if self.registry is None else self.registry.schema

    def prepare(self) -> None:
        """Has from outside what no role can begin without. Raises ConfigError, which names the setting."""
        if self.registry is None:
            return
        try:
            self.registry.prepare(records_of(self.settings))
        except BusUnavailable as error:
            raise ConfigError([str(error)]) from None

    @property
    def is_stuck(self) -> bool:
        """Whether the bus is in a way that only a new process mends."""
        return not isinstance(self.bus, SqliteBus) and bool(getattr(self.bus, "is_stuck", False))

    @property
    def changed(self) -> Mapping[str, int]:
        """When the bus last found each topic changed behind its readers' backs, in microseconds. The embedded
        bus never does: its offsets are given once.
        """
        return {} if isinstance(self.bus, SqliteBus) else dict(getattr(self.bus, "changed", {}))

    def trim_bus(self, messages: int, dead_letters: int) -> None:
        """Deletes from the embedded bus what all have read and was published before `messages`, and dead
        letters from before `dead_letters`, which nobody reads. Another bus has a retention of its own.
        """
        if isinstance(self.bus, SqliteBus):
            self.bus.trim(messages)
            letters = [topics.dead_letters(topic) for topic in topics_of(self.settings)]
            self.bus.trim(dead_letters, unread=letters)

    def restamp(self, start: int, end: int, now: int) -> None:
        """Lets what was written between two times, under a clock that was behind, count as written now."""
        restamp(self.store, start, end, now)
        if isinstance(self.bus, SqliteBus):
            self.bus.restamp(start, end, now)

    def close(self) -> None:
        """Lets go of the bus and the database."""
        self.bus.close()
        if self.registry is not None:
            self.registry.close()
        self.engine.dispose()


def kinds_of(settings: Settings) -> set[str]:
    """The handler kinds that are configured."""
    return {system.kind for system in settings.systems.values() if not system.holds_nothing}


def tenants_of(settings: Settings) -> set[str]:
    """The controllers whose data is erased on their instruction."""
    return {system.own.tenant for system in settings.systems.values() if system.kind == TENANT}


def topics_of(settings: Settings) -> list[str]:
    """The topics whose readers may leave dead letters."""
    return list(records_of(settings))


def records_of(settings: Settings) -> dict[str, type[Message]]:
    """What travels on each of those topics."""
    by_kind: dict[str, type[Message]] = {}
    for kind in sorted(kinds_of(settings)):
        by_kind |= {topics.commands(kind): Command, topics.callbacks(kind): Callback}
    return {
        topics.REQUESTS: Request,
        topics.CONFIRMATIONS: Confirmation,
        topics.DECISIONS: Decision,
        topics.OUTCOMES: Outcome,
        **by_kind,
    }


def load_settings(config: Path) -> Settings:
    """The settings, with each handler's own part checked by its model. Raises ConfigError."""
    return load(config, settings_models())


def place_titles() -> Titles:
    """Return what the handlers' places are called, by kind of system and language."""
    return {kind: {place.name: place.title for place in places} for kind, places in declared_places().items()}


def open_store(config: Path) -> Store:
    """The store alone, for reading. Raises NoInstallation where there is none: looking must not make one."""
    return store_of(load_settings(config), config)


def store_of(settings: Settings, config: Path) -> Store:
    """The same, from settings that were read from `config`."""
    if _is_new(settings):
        raise NoInstallation(f"{config}: there is no database yet; `radera up` makes it")
    return Store(open_engine(settings.database.url, password=settings.database.password))


def open_ground(config: Path, *, checked: bool = True) -> Ground:
    """Everything that the roles share."""
    return ground_of(load_settings(config), checked=checked)


def ground_of(settings: Settings, *, checked: bool = True) -> Ground:
    """The same, from settings that were read. A new installation gets its database and its keys here.

    Raises what `Installations.check` and `KnownGenerations.check` raise, unless the keyring is not to be
    `checked`: a keyring that is not the database's seals and wraps what nobody can open.
    """
    if settings.kafka is None and not settings.database.url.startswith("sqlite"):
        raise ConfigError(["kafka: missing; the embedded bus needs SQLite, so PostgreSQL goes with [kafka]"])
    is_new = _is_new(settings)
    keyring = _keyring(settings, create=is_new)
    name = database_name(make_url(settings.database.url))
    if is_new and keyring.installation is not None:
        raise DatabaseGone(keys=keyring.name, database=name)
    engine = open_engine(settings.database.url, password=settings.database.password)
    store = Store(engine)
    keys = StoredKeys(store, keyring)
    generations = KnownGenerations(store, keyring, keys)
    keyring.learn_of_losses(generations.lost)
    installations = Installations(store, keyring, name)
    if checked:
        try:
            installations.check()
            generations.check()
        except BaseException:
            engine.dispose()
            raise
    bus, registry = _bus(settings, engine, store)
    return Ground(
        settings=settings,
        engine=engine,
        store=store,
        bus=bus,
        registry=registry,
        keyring=keyring,
        keys=keys,
        generations=generations,
        installations=installations,
        digests=Digests(keyring.digest_key),
        links=PartyLinks(keyring.digest_key),
    )


def _bus(settings: Settings, engine: sa.Engine, store: Store) -> "tuple[Bus, Registry | None]":
    """Kafka where the settings name it, with the registry that they may name, else the bus in the SQLite
    file.
    """
    if settings.kafka is None:
        return SqliteBus(engine, store.now), None
    # Its client takes memory and time that the embedded default has no use for.
    from orchestrator.bus.kafka import KafkaBus
    from orchestrator.bus.schema_registry import Registry

    named = settings.kafka.schema_registry
    registry = None if named is None else Registry(named)
    return KafkaBus(settings.kafka, store.now, registry=registry, notes=_Notes(TopicNotes(store))), registry


class _Notes:
    """What the database remembers of topics; where it is away, or forbids it, nothing is read either."""

    def __init__(self, notes: TopicNotes) -> None:
        self._notes = notes

    def of(self, group: str) -> set[str]:
        with _as_bus():
            return self._notes.of(group)

    def add(self, group: str, names: Collection[str]) -> None:
        with _as_bus():
            self._notes.add(group, names)


@contextmanager
def _as_bus() -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        text = f"the database doesn't tell which topics were read ({error})"
        raise BusUnavailable(text, code="topics_not_remembered") from error


def _is_new(settings: Settings) -> bool:
    url = make_url(settings.database.url)
    return url.get_backend_name() == "sqlite" and not Path(url.database or "").exists()


def _keyring(settings: Settings, *, create: bool) -> Keyring:
    """The keys from the secrets that the settings name, from the environment, or from the file, which is made
    for a new installation and never for an old one: new keys beside an old database would open nothing in it.
    """
    import os
    import time

    if settings.keys.master is not None and settings.keys.digest is not None:
        return Keyring.from_secrets(settings.keys.master, settings.keys.digest, os.environ)
    from_environment = Keyring.from_environment(os.environ)
    if from_environment is not None:
        return from_environment
    try:
        return Keyring.from_file(settings.keys.file)
    except KeyFileMissing:
        if not create:
            raise
    return Keyring.create(settings.keys.file, time.time_ns() // 1000)
