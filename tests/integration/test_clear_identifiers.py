"""Identifiers in clear: refused unless a setting allows them, and even then nowhere but on their topic."""

import io
import logging
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from orchestrator import log
from orchestrator.bus.port import Record
from orchestrator.bus.sqlite import SqliteBus
from orchestrator.cli.main import main
from orchestrator.metrics import Metrics
from orchestrator.privacy import IDENTIFIERS, Digests, Exchange, Identifiers, Keyring, KeyUnknown, unseal
from orchestrator.saga.clocks import Calendar
from orchestrator.saga.model import Saga
from orchestrator.saga.rules import Rules, SystemPlan
from orchestrator.service.dead_letters import DEAD_LETTER
from orchestrator.service.inbound import Reader
from orchestrator.service.orchestrator import Orchestrator
from orchestrator.service.relay import Relay
from orchestrator.settings import load
from orchestrator.store import Store, StoredKeys, open_engine
from schemas import topics
from schemas.codec import encode
from schemas.messages import ClearIdentifier, Request
from tests.integration.canaries import Aviary, Search
from tests.integration.test_topics import SETTINGS

NOW = 1_788_170_400_000_000
REQUEST_ID = "0d7f0f2a-7f63-4a8e-9d3b-2f1f6b1c9a10"
OTHERS = [topics.commands("crm"), topics.OUTCOMES, topics.dead_letters(topics.REQUESTS)]


class World:
    """An orchestrator, its database in one folder and the bus in another, where clear records lie."""

    def __init__(self, folder: Path, *, takes_clear: bool) -> None:
        self.stored = folder / "stored"
        bus = folder / "bus"
        for one in (self.stored, bus):
            one.mkdir()
        self.engine = open_engine(f"sqlite:///{self.stored / 'radera.db'}")
        self.bus_engine = open_engine(f"sqlite:///{bus / 'bus.db'}")
        self.bus = SqliteBus(self.bus_engine, lambda: NOW)
        self.store = Store(self.engine, lambda: NOW)
        self.keyring = Keyring.create(folder / "radera.keys", 1)
        self.keys = StoredKeys(self.store, self.keyring)
        self.metrics = Metrics(["crm"])
        self.logged = io.StringIO()
        self.orchestrator = Orchestrator(
            store=self.store,
            bus=self.bus,
            keys=self.keys,
            keyring=self.keyring,
            reader=Reader(
                self.keys,
                Digests(self.keyring.digest_key),
                lambda: 0.5,
                Exchange(self.keyring),
                region="SE",
                takes_clear=takes_clear,
            ),
            rules=Rules(
                calendar=Calendar(time_zone=UTC, is_public_holiday=lambda day: False),
                systems={"crm": SystemPlan(name="crm", kind="crm")},
            ),
            metrics=self.metrics,
            random=lambda: 0.5,
        )
        self.relay = Relay(store=self.store, bus=self.bus)

    def take(self, request: Request) -> Saga:
        self.bus.publish([Record(topic=topics.REQUESTS, key="", value=encode(request))])
        self.orchestrator.step(0.0)
        self.relay.step()
        [saga] = self.store.sagas()
        return saga

    def shown(self) -> Iterator[tuple[str, bytes]]:
        """All that there is besides the topic of requests."""
        for path in self.stored.iterdir():
            yield path.name, path.read_bytes()
        for delivery in self.bus.browse(OTHERS):
            yield delivery.topic, delivery.key.encode() + delivery.value + repr(delivery.headers).encode()
        yield "the log", self.logged.getvalue().encode()
        yield "the metrics", self.metrics.text()

    def close(self) -> None:
        self.orchestrator.close()
        for engine in (self.engine, self.bus_engine):
            engine.dispose()


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(tmp_path, takes_clear=request.param)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    log.configure("debug", "json", made.logged)
    yield made
    root.handlers[:], root.level = handlers, level
    made.close()


@pytest.fixture
def aviary() -> Aviary:
    return Aviary(random.Random())


def in_clear(aviary: Aviary, *more: ClearIdentifier, **fields: object) -> Request:
    """As a person typed it."""
    items = (
        ClearIdentifier(kind="email", value=f" {aviary.email('p').upper()}"),
        ClearIdentifier(kind="phone", value=aviary.phone("p")),
        ClearIdentifier(kind="name", value=aviary.name("p")),
        ClearIdentifier(kind="ga_client_id", value=f"GA1.1.{aviary.cookie('p')}", site="example.com"),
        ClearIdentifier(kind="customer_id", value=aviary.customer_id("p")),
        *more,
    )
    return Request.model_validate(
        {
            "event_id": "shop:1",
            "request_id": REQUEST_ID,
            "received_at": NOW,
            "source": "shop",
            "verified": True,
            "sealed_identifiers": b"",
            "identifiers": items,
            **fields,
        }
    )


def found(world: World, aviary: Aviary) -> list[tuple[str, str]]:
    search = Search(aviary.canaries)
    return [(one.where, one.canary) for where, data in world.shown() for one in search.look(where, data)]


@pytest.mark.parametrize("world", [False], indirect=True)
def test_by_default_they_are_refused(world: World, aviary: Aviary) -> None:
    """As a request that can't be read: kept sealed, with a question to the officer, no key filed, and the
    person nowhere to be found.
    """
    request = in_clear(aviary)
    saga = world.take(request)
    assert REQUEST_ID != saga.request_id
    assert [("unreadable_request", "clear_identifiers")] == [
        (one.reason, one.code) for one in saga.escalations
    ]
    [letter] = world.bus.browse([topics.dead_letters(topics.REQUESTS)])
    assert b"clear_identifiers" == letter.header("radera-code")
    assert encode(request) == world.keyring.unseal_installation(DEAD_LETTER, letter.value)
    assert [] == list(world.bus.browse([topics.commands("crm")]))
    with pytest.raises(KeyUnknown):
        world.keys.key_of(REQUEST_ID)
    assert [] == found(world, aviary)
    assert "" != world.logged.getvalue()


@pytest.mark.parametrize("world", [True], indirect=True)
def test_where_they_are_allowed_they_are_sealed_before_anything_is_stored(
    world: World, aviary: Aviary
) -> None:
    """In the form in which we look for them, under a key of the request; and in clear nowhere."""
    request = in_clear(aviary)
    saga = world.take(request)
    assert (REQUEST_ID, "in_progress") == (saga.request_id, saga.status)
    clear = unseal(world.keys.key_of(REQUEST_ID), REQUEST_ID, IDENTIFIERS, saga.identifiers)
    wanted = {
        (
            "email" if one.kind == "email" else one.kind,
            one.value.lower() if one.kind == "email" else one.value,
        )
        for one in aviary.canaries
    }
    assert wanted == {(one.kind, one.value) for one in Identifiers.from_bytes(clear)}
    assert 1 == len(list(world.bus.browse([topics.commands("crm")])))
    assert [] == found(world, aviary)
    # The same once more is the same request: nothing is asked anew.
    assert 0 < world.take(request.model_copy(update={"event_id": "shop:2"})).version
    assert 1 == len(list(world.bus.browse([topics.commands("crm")])))
    assert [] == found(world, aviary)


@pytest.mark.parametrize("world", [True], indirect=True)
@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ((ClearIdentifier(kind="email", value="no address"),), {}),
        ((ClearIdentifier(kind="shoe_size", value="43"),), {}),
        ((ClearIdentifier(kind="name", value="Kanarie", site="example.com"),), {}),
        ((), {"sealed_identifiers": b"\x01sealed, too"}),
        ((), {"wrapped_key": b"w", "key_generation": 1}),
    ],
)
def test_what_is_wrong_with_them_is_a_question(
    world: World, aviary: Aviary, more: tuple[ClearIdentifier, ...], fields: dict[str, object]
) -> None:
    """One that nobody could be found by, of no known kind, or beside a sealed one: the request is not taken
    in part, and nothing of it gets out.
    """
    saga = world.take(in_clear(aviary, *more, **fields))
    assert ["identifiers_broken"] == [one.code for one in saga.escalations]
    assert [] == found(world, aviary)


@pytest.mark.parametrize("world", [True], indirect=True)
def test_one_that_comes_after_the_end_revives_nothing(world: World, aviary: Aviary) -> None:
    """The key of a request that has ended stays destroyed."""
    request = in_clear(aviary)
    world.take(request)
    world.keys.destroy(REQUEST_ID)
    world.take(request.model_copy(update={"event_id": "shop:2"}))
    with sa.create_engine(f"sqlite:///{world.stored / 'radera.db'}").connect() as connection:
        [key] = connection.execute(sa.text("select destroyed_at from subject_keys")).scalars()
    assert None is not key
    assert [] == found(world, aviary)


@pytest.mark.parametrize("world", [True], indirect=True)
def test_read_again_into_a_database_from_before_it(world: World, aviary: Aviary) -> None:
    """The database is put back from before the request: it gets the key that it had, and what others sealed
    with that opens. Neither another request nor another person has it; and when its generation is over,
    nobody can make it again.
    """
    request = in_clear(aviary)
    world.take(request)
    had = world.keys.key_of(REQUEST_ID)

    def read_again(like: Request) -> bytes:
        keys = StoredKeys(Store(open_engine("sqlite://"), lambda: NOW), world.keyring)
        reader = Reader(
            keys,
            Digests(world.keyring.digest_key),
            lambda: 0.5,
            Exchange(world.keyring),
            region="SE",
            takes_clear=True,
        )
        [delivery] = world.bus.browse([topics.REQUESTS])
        reader.read(replace(delivery, value=encode(like)))
        return keys.key_of(like.request_id)

    assert had == read_again(request)
    assert had != read_again(request.model_copy(update={"request_id": REQUEST_ID.replace("0", "1")}))
    assert had != read_again(in_clear(Aviary(random.Random())))
    world.keyring.rotate(NOW)
    assert had != read_again(request)


def test_a_clear_request_shows_in_no_repr(aviary: Aviary) -> None:
    """Neither the message nor its parts name the person when they are shown."""
    request = in_clear(aviary)
    search = Search(aviary.canaries)
    assert [] == list(search.look("repr", repr((request, request.identifiers)).encode()))


def test_the_setting_is_off(tmp_path: Path) -> None:
    """And is a plain yes or no."""
    file = tmp_path / "radera.toml"
    file.write_text(SETTINGS, encoding="utf-8")
    assert not load(file, {}, {}).intake.clear_identifiers
    file.write_text(SETTINGS + "\n[intake]\nclear_identifiers = true\n", encoding="utf-8")
    assert load(file, {}, {}).intake.clear_identifiers
    file.write_text(SETTINGS + "\n[intake]\nclear_identifier = true\n", encoding="utf-8")
    ended = CliRunner().invoke(main, ["config", "check", "--config", str(file)])
    assert 2 == ended.exit_code
    assert re.search(r"intake\.clear_identifier: .*did you mean clear_identifiers\?", ended.output)
