"""What intake keeps apart: two parties who say the same, two requests under one id, and what is ours."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.bus.port import Record
from orchestrator.intake import CannotSubmit, Intake, Producer
from orchestrator.intake.outbox import Outbox
from orchestrator.privacy import Exchange, Identifier, Keyring
from orchestrator.privacy.keyfile import Generation, Material
from orchestrator.settings import System
from orchestrator.store import Outgoing, Store, open_engine
from orchestrator.store.tables import outbox
from schemas.codec import decode
from schemas.messages import Request
from tests.unit.test_intake import FORM, NOW, PERSON, REQUEST, Bus, Hooked, Keys, Own, World

OTHER_REQUEST = "7d9f4c1e-0000-4000-8000-000000000002"


# --- callbacks ---


def test_two_parties_who_answer_the_same_are_two_events() -> None:
    """Each about its own request or attempt: taken for one, the second would never be heard."""
    world = World(more={"another": System(kind="recruitment", own=Own())})
    tokens = [
        world.links.make(REQUEST, "another", 1, NOW + 1),
        world.links.make(REQUEST, "agency", 1, NOW + 1),
        world.links.make(OTHER_REQUEST, "agency", 1, NOW + 1),
        world.links.make(REQUEST, "agency", 2, NOW + 1),
    ]
    for token in tokens:
        assert 200 == world.client.post(f"/answer/{token}", content="answer=erased", headers=FORM).status_code
    assert 4 == len({callback.event_id for _, callback, _ in world.callbacks()})


def test_two_vendors_who_post_the_same_are_two_events() -> None:
    """An empty batch of one vendor's is not another's."""
    world = World(more={"analytics": System(kind="google_analytics", own=Hooked())})
    for kind in ("superoffice", "google_analytics"):
        answer = world.client.post(f"/callbacks/{kind}", content=b"[]", headers={"X-A-Signature": "s"})
        assert 202 == answer.status_code
    assert 2 == len({callback.event_id for _, callback, _ in world.callbacks()})


# --- submitting ---


def submitted(keys: Keys, **given: Any) -> Request:
    bus = Bus()
    intake = Intake(keys=keys, bus=bus, clock=lambda: NOW, systems={"crm", "shop"}, tenants={"acme", "other"})
    identifiers = given.pop("identifiers", [Identifier("email", PERSON)])
    intake.submit(identifiers, source="cli", request_id=REQUEST, **{"verified": True, **given})
    [record] = bus.records
    return decode(record.value, Request)


@pytest.mark.parametrize(
    "other",
    [
        {"identifiers": [Identifier("email", "somebody.else@example.org")]},
        {"identifiers": [Identifier("email", PERSON), Identifier("name", "Canary Person")]},
        {"scope": ("crm",)},
        {"scope": ("crm", "shop")},
        {"verified": False},
        {"capacity": "processor", "tenant": "acme"},
        {"language": "sv"},
    ],
)
def test_another_request_under_the_same_id_is_another_event(other: dict[str, Any]) -> None:
    """It is for the saga to judge, which an event that passes for a repeat never reaches."""
    keys = Keys()
    assert submitted(keys).event_id != submitted(keys, **other).event_id


def test_the_same_request_put_in_other_words_is_the_same_event() -> None:
    """Neither the order of the systems nor that of the identifiers asks for something else."""
    keys = Keys()
    person, name = Identifier("email", PERSON), Identifier("name", "Canary Person")
    one = submitted(keys, identifiers=[person, name], scope=("crm", "shop"))
    other = submitted(keys, identifiers=[name, person], scope=("shop", "crm", "shop"))
    assert one.event_id == other.event_id


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"capacity": "processor", "tenant": "nobody"}, "unknown_tenant"),
        ({"scope": ("crm", "nowhere")}, "unknown_system"),
    ],
)
def test_a_name_that_the_settings_do_not_know_is_refused(given: dict[str, Any], code: str) -> None:
    """One that vanished silently would be a system that nobody erased from."""
    with pytest.raises(CannotSubmit) as caught:
        submitted(Keys(), **given)
    assert code == caught.value.code


def test_an_id_has_one_spelling() -> None:
    """In capitals it would be another request, with a key and a clock of its own."""
    intake = Intake(keys=Keys(), bus=Bus(), clock=lambda: NOW)
    with pytest.raises(CannotSubmit) as caught:
        intake.submit([Identifier("email", PERSON)], source="cli", verified=True, request_id=REQUEST.upper())
    assert "bad_id" == caught.value.code


def test_a_producer_that_asks_twice_sends_two_events() -> None:
    """Each under a key of its own: the orchestrator looks into both, and finds out whether they are one."""
    keyring = Keyring(Material(b"d" * 32, (Generation(1, None, b"m" * 32),)))
    producer = Producer(Exchange(keyring).public_key(), source="form")
    made = [
        producer.request([Identifier("email", PERSON)], verified=True, request_id=REQUEST) for _ in range(2)
    ]
    assert 2 == len({decode(one.record.value, Request).event_id for one in made})


# --- what is ours ---


@pytest.fixture
def store() -> Iterator[Store]:
    engine = open_engine("sqlite://")
    yield Store(engine, lambda: NOW)
    engine.dispose()


def test_what_is_taken_in_is_in_the_outbox_when_it_is_said_to_be(store: Store) -> None:
    """Each time it comes, and under a name that can't be a record's of the orchestrator."""
    record = Record(topic="t", key="k", value=b"v", headers=(("a", b"\xff"),))
    taken = Outbox(store)
    for _ in range(2):
        taken.publish([record])
    with store.begin() as transaction:
        transaction.enqueue([Outgoing(event_id="command:1", topic="t", key="k", value=b"ours")])
    with store.engine.connect() as connection:
        ids = list(connection.execute(sa.select(outbox.c.event_id).order_by(outbox.c.seq)).scalars())
    assert (3, "command:1") == (len(set(ids)), ids[-1])
    assert all(one.startswith("taken:") for one in ids[:-1])
    with store.relay(10) as records:
        assert [(record.topic, record.key, record.value, record.headers)] * 2 == [
            (one.topic, one.key, one.value, one.headers) for one in records[:-1]
        ]


def test_a_body_is_kept_to_the_byte() -> None:
    """A signature is over the bytes as they came."""
    world = World()
    body = bytes(range(256))
    answer = world.client.post("/callbacks/superoffice", content=body, headers={"X-A-Signature": "s"})
    assert 202 == answer.status_code
    [(_, _, content)] = world.callbacks()
    assert body == base64.b64decode(content["body"])
