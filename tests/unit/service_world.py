"""An orchestrator on a database in memory, for tests of what its role does."""

import uuid
from collections.abc import Iterable
from datetime import UTC
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.bus.port import Delivery, Record
from orchestrator.bus.sqlite import SqliteBus
from orchestrator.metrics import Metrics
from orchestrator.privacy import IDENTIFIERS, Digests, Identifier, Identifiers, Keyring, new_key, seal
from orchestrator.privacy.keyfile import Generation, Material
from orchestrator.saga.clocks import Calendar
from orchestrator.saga.rules import Rules, SystemPlan
from orchestrator.service.inbound import Reader
from orchestrator.service.orchestrator import Orchestrator
from orchestrator.service.relay import Relay
from orchestrator.store import Store, StoredKeys, open_engine
from schemas.codec import encode
from schemas.messages import Confirmation, Request

NOW = 1_788_170_400_000_000
DAY = 86_400 * 1_000_000
PERSON = "canary.person@people.example"
BEGUN = ["received", "started", "command_sent", "step"]


class World:
    """An orchestrator on a database in memory, with a clock that stands still."""

    def __init__(self) -> None:
        self.now = NOW
        self.engine = open_engine("sqlite://")
        self.store = Store(self.engine, lambda: self.now)
        self.bus = SqliteBus(self.engine, lambda: self.now)
        self.keyring = Keyring(Material(b"d" * 32, (Generation(1, None, b"m" * 32),)))
        self.keys = StoredKeys(self.store, self.keyring)
        self.reader = Reader(self.keys, Digests(self.keyring.digest_key), lambda: 0.5)
        self.metrics = Metrics(["crm"])
        self.relay = Relay(store=self.store, bus=self.bus)
        self.orchestrator = self.restarted()

    def restarted(self) -> Orchestrator:
        """Another orchestrator, as after a death."""
        self.orchestrator = Orchestrator(
            store=self.store,
            bus=self.bus,
            keys=self.keys,
            keyring=self.keyring,
            reader=self.reader,
            rules=Rules(
                calendar=Calendar(time_zone=UTC, is_public_holiday=lambda day: False),
                systems={"crm": SystemPlan(name="crm", kind="crm")},
            ),
            metrics=self.metrics,
            random=lambda: 0.5,
        )
        return self.orchestrator

    def request(self, **fields: Any) -> Request:
        request_id = str(uuid.uuid4())
        key = new_key()
        self.keys.insert(request_id, key)
        clear = Identifiers((Identifier("email", PERSON),)).to_bytes()
        return Request(
            **{
                "event_id": f"request:{request_id}",
                "request_id": request_id,
                "received_at": NOW,
                "source": "test",
                "verified": True,
                "sealed_identifiers": seal(key, request_id, IDENTIFIERS, clear),
                **fields,
            }
        )

    def publish(self, topic: str, *values: bytes) -> None:
        self.bus.publish([Record(topic=topic, key="", value=value) for value in values])

    def located(self, request_id: str, command_id: str) -> bytes:
        return encode(
            Confirmation(
                event_id=f"{command_id}/located",
                request_id=request_id,
                system="crm",
                command_id=command_id,
                verb="locate",
                kind="located",
                found=1,
                occurred_at=NOW,
            )
        )

    def actions(self, request_id: str) -> list[str]:
        return [entry.action for entry in self.store.timeline(request_id)]

    def records(self, topic: str) -> list[Delivery]:
        with self.bus.subscribe(f"look {uuid.uuid4()}", [topic]) as subscription:
            return subscription.poll(0.0, 1000)


@pytest.fixture
def world() -> Iterable[World]:
    made = World()
    yield made
    made.engine.dispose()


def delivered(topic: str, value: bytes, *, key: str = "", offset: int = 7) -> Delivery:
    return Delivery(topic=topic, key=key, value=value, partition=2, offset=offset, timestamp=NOW - 5)


def count(world: World, table: sa.Table) -> int:
    with world.engine.connect() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
