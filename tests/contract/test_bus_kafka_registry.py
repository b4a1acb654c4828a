"""Kafka with a schema registry: others' producers with their own schemas, and the registry going away."""

import json
import time
from collections.abc import Iterator
from datetime import UTC
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer as OtherProducer

from orchestrator.bus.port import BusUnavailable, Record
from orchestrator.bus.schema_registry import Registry
from orchestrator.metrics import Metrics
from orchestrator.privacy import IDENTIFIERS, Digests, Exchange, Identifiers, Keyring, unseal
from orchestrator.privacy.keyfile import Generation, Material
from orchestrator.saga.clocks import Calendar
from orchestrator.saga.rules import Rules, SystemPlan
from orchestrator.service import orchestrator as service
from orchestrator.service.inbound import Reader
from orchestrator.service.orchestrator import Orchestrator
from orchestrator.service.relay import Relay
from orchestrator.settings import SchemaRegistry
from orchestrator.store import Store, StoredKeys, open_engine
from schemas import topics
from schemas.codec import decode, encode, schema_id_of
from schemas.messages import Command, Request
from tests.contract import other_producer
from tests.contract.bus_suite import receive, unique
from tests.contract.kafka_bench import Factory, committed, wall_clock
from tests.contract.registry_stand_in import StandIn, registry_stand_in
from tests.golden.samples import SAMPLES
from tests.integration.kafka_server import Server, kafka

__all__ = ["kafka"]

PERSON = "canary.person@people.example"
REQUEST = next(sample for sample in SAMPLES if isinstance(sample, Request))


@pytest.fixture
def factory(kafka: Server) -> Iterator[Factory]:
    factory = Factory(kafka, partitions=3)
    yield factory
    factory.dispose()


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with registry_stand_in() as made:
        yield made


@pytest.fixture
def registry(stand_in: StandIn) -> Iterator[Registry]:
    made = Registry(SchemaRegistry(url=stand_in.url))
    yield made
    made.close()


def register(stand_in: StandIn, topic: str, schema: Any) -> int:
    """As another producer's serialiser does."""
    answer = httpx.post(
        f"{stand_in.url}/subjects/{topic}-value/versions",
        headers={"Content-Type": "application/vnd.schemaregistry.v1+json"},
        json={"schema": json.dumps(schema)},
    )
    assert 200 == answer.status_code
    return int(answer.json()["id"])


class Installation:
    """An orchestrator with its relay, on a topic of requests of its own, and a database in memory."""

    def __init__(self, factory: Factory, registry: Registry) -> None:
        engine = open_engine("sqlite://")
        self.store = Store(engine, wall_clock)
        self.keyring = Keyring(Material(b"d" * 32, (Generation(1, None, b"m" * 32),)))
        self.keys = StoredKeys(self.store, self.keyring)
        self.bus = factory.open(registry)
        factory.make(service.TOPICS)
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
                schemas=registry.schema,
            ),
            rules=Rules(
                calendar=Calendar(time_zone=UTC, is_public_holiday=lambda day: False),
                systems={"crm": SystemPlan(name="crm", kind=self.kind)},
            ),
            metrics=Metrics(["crm"]),
            random=lambda: 0.5,
        )
        self.relay = Relay(store=self.store, bus=self.bus)

    kind = unique("crm").replace(".", "_")[:30]

    def step(self) -> None:
        try:
            self.orchestrator.step(0.2)
            self.relay.step()
        except BusUnavailable:
            time.sleep(0.1)

    def until_known(self, request_id: str) -> None:
        deadline = time.monotonic() + 30
        while self.store.saga(request_id) is None:
            assert time.monotonic() < deadline
            self.step()
        self.step()


@pytest.fixture
def installation(
    factory: Factory, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Installation]:
    names = {name: unique(getattr(topics, name)) for name in ("REQUESTS", "CONFIRMATIONS", "DECISIONS")}
    for name, topic in names.items():
        monkeypatch.setattr(topics, name, topic)
    monkeypatch.setattr(service, "TOPICS", tuple(names.values()))
    monkeypatch.setattr(service, "GROUP", unique("orchestrator"))
    made = Installation(factory, registry)
    yield made
    made.orchestrator.close()


def produce(
    factory: Factory,
    installation: Installation,
    header: bytes,
    schema: Any = other_producer.SCHEMA,
    **said: Any,
) -> str:
    """A request from a client and an implementation that are not ours; its id."""
    public = json.loads(Exchange(installation.keyring).public_key().to_json())
    request_id, body, headers = other_producer.request(
        public, [("email", PERSON, None)], schema=schema, **said
    )
    producer = OtherProducer({"bootstrap.servers": factory.server.address, "acks": "all"})
    producer.produce(topics.REQUESTS, key=request_id, value=header + body, headers=dict(headers))
    assert 0 == producer.flush(10)
    return request_id


def is_accepted(installation: Installation, request_id: str) -> bool:
    saga = installation.store.saga(request_id)
    assert saga is not None
    clear = unseal(installation.keys.key_of(request_id), request_id, IDENTIFIERS, saga.identifiers)
    person = [one.value for one in Identifiers.from_bytes(clear)]
    return "in_progress" == saga.status and [PERSON] == person


def test_anothers_producer_with_its_own_schema(
    factory: Factory, stand_in: StandIn, registry: Registry, installation: Installation
) -> None:
    """Its client, its partitioner, its implementation, its schema under the topic's subject, and Confluent
    framing: the request is accepted, and what follows leaves in Confluent framing, too.
    """
    fields = [one for one in other_producer.SCHEMA["fields"] if one["name"] not in ("identifiers", "scope")]
    theirs = {
        **other_producer.SCHEMA,
        "fields": [{"name": "campaign", "type": "string", "default": ""}, *fields],
    }
    schema_id = register(stand_in, topics.REQUESTS, theirs)
    header = other_producer.confluent_header(schema_id)
    request_id = produce(factory, installation, header, theirs, campaign="spring")
    installation.until_known(request_id)

    assert is_accepted(installation, request_id)
    with factory.open().subscribe(unique("g"), [topics.commands(installation.kind)]) as subscription:
        [delivery] = receive(subscription, 1)
    ours = schema_id_of(delivery.value)
    assert ours in stand_in.subjects[f"{topics.commands(installation.kind)}-value"]
    command = decode(delivery.value, Command, registry=registry.schema)
    assert (request_id, "locate") == (command.request_id, command.verb)


def test_without_a_registry_of_its_own(factory: Factory, installation: Installation) -> None:
    """A producer that knows none writes single-object encoding, and is accepted as well."""
    header = other_producer.single_object_header(other_producer.SCHEMA)
    request_id = produce(factory, installation, header)
    installation.until_known(request_id)
    assert is_accepted(installation, request_id)


def test_a_request_whose_schema_can_not_be_had_waits(
    factory: Factory, stand_in: StandIn, installation: Installation
) -> None:
    """With the registry away nobody can tell what is in it: it is no dead letter and no escalation, and when
    the registry is back it is accepted. What is known goes on meanwhile, here and on the way out.
    """
    known = register(stand_in, topics.REQUESTS, other_producer.SCHEMA)
    first = produce(factory, installation, other_producer.confluent_header(known))
    installation.until_known(first)
    theirs = {**other_producer.SCHEMA, "doc": "Another version."}
    unseen = register(stand_in, topics.REQUESTS, theirs)
    assert unseen != known
    stand_in.stop()

    waiting = produce(factory, installation, other_producer.confluent_header(unseen))
    others = [produce(factory, installation, other_producer.confluent_header(known)) for _ in range(9)]
    deadline = time.monotonic() + 2.5
    while time.monotonic() < deadline:
        installation.step()
    passed = [one for one in others if installation.store.saga(one) is not None]
    assert None is installation.store.saga(waiting)
    assert len(passed) > 0
    assert {first, *passed} == {saga.request_id for saga in installation.store.sagas()}

    stand_in.start()
    for one in (waiting, *others):
        installation.until_known(one)
    assert all(is_accepted(installation, one) for one in (waiting, *others))
    assert 11 == len(list(installation.store.sagas()))


def test_a_schema_that_the_registry_does_not_have(
    factory: Factory, stand_in: StandIn, installation: Installation
) -> None:
    """By its own word: the request is a person's whom the officer is asked about, and what comes after it on
    its partition is accepted.
    """
    produce(factory, installation, other_producer.confluent_header(4711))
    known = register(stand_in, topics.REQUESTS, other_producer.SCHEMA)
    others = [produce(factory, installation, other_producer.confluent_header(known)) for _ in range(9)]
    for one in others:
        installation.until_known(one)
    deadline = time.monotonic() + 20
    while len(list(installation.store.sagas())) < 10 and time.monotonic() < deadline:
        installation.step()
    [unknown] = [saga for saga in installation.store.sagas() if saga.request_id not in others]
    assert [("unreadable_request", "unknown_schema")] == [
        (one.reason, one.code) for one in unknown.escalations
    ]


def test_what_waits_for_its_schema_is_not_passed_over(kafka: Server, stand_in: StandIn) -> None:
    """Not by the group's position, nor by what was published after it: another reader of the group gets it
    in its place, when it can be read.
    """
    topic, group = unique("t"), unique("g")
    schema_ids = [register(stand_in, topic, {**other_producer.SCHEMA, "doc": doc}) for doc in ("seen", "new")]
    seen, new = (other_producer.confluent_header(one) + b"body" for one in schema_ids)
    factory = Factory(kafka)
    registries = [Registry(SchemaRegistry(url=stand_in.url)) for _ in range(2)]
    registries[0].look_up(seen)
    factory.open().publish([Record(topic=topic, key="k", value=value) for value in (seen, new, seen)])
    stand_in.stop()
    with factory.open(registries[0]).subscribe(group, [topic]) as subscription:
        [first] = receive(subscription, 1)
        subscription.ack(first)
        assert [] == subscription.poll(1.0, 10)
    assert {0: 1} == committed(factory, group, topic)

    with factory.open(registries[1]).subscribe(group, [topic]) as subscription:
        assert [] == subscription.poll(3.0, 10)
        stand_in.start()
        assert [(1, new), (2, seen)] == [(one.offset, one.value) for one in receive(subscription, 2)]
    factory.dispose()
    for registry in registries:
        registry.close()


def test_records_are_framed_where_they_are_published(factory: Factory, registry: Registry) -> None:
    """Without a registry they are not; a sealed dead letter is not, with or without."""
    topic, letters = unique("t"), unique("t.dlq")
    plain, framed = factory.open(), factory.open(registry)
    for bus in (plain, framed):
        bus.publish([Record(topic=topic, key="k", value=encode(REQUEST))])
        bus.publish([Record(topic=letters, key="k", value=b"\x02sealed")])
    with factory.open().subscribe(unique("g"), [topic, letters]) as subscription:
        got = receive(subscription, 4)
    assert [None, 1] == [schema_id_of(one.value) for one in got if one.topic == topic]
    assert [b"\x02sealed"] * 2 == [one.value for one in got if one.topic == letters]
    assert [REQUEST] * 2 == [
        decode(one.value, Request, registry=registry.schema) for one in got if one.topic == topic
    ]
