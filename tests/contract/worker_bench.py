"""A workbench for the worker's tests: a bus in a file, keys, and a handler that does as it is told."""

import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import anyio
import sqlalchemy as sa
from pydantic import BaseModel
from typing_extensions import override

from handlers.places import DeclaredPlace
from handlers.port import (
    CallbackBody,
    Control,
    Reference,
    Task,
)
from handlers.results import Located, Received, Result
from handlers.worker import Worker, directly
from orchestrator.bus.port import BusUnavailable, Delivery, Record
from orchestrator.bus.sqlite import SqliteBus
from orchestrator.privacy import (
    CALLBACK_BODY,
    IDENTIFIERS,
    Identifier,
    Identifiers,
    Keyring,
    new_key,
    seal,
)
from schemas import topics
from schemas.codec import decode, encode
from schemas.messages import Callback, Command, Confirmation

NOW = 1_788_220_800_000_000
ANNA = "anna@example.com"
REQUEST = "0b7c8f5e-3f5d-4c7e-9a51-6f0c2d1e4a77"
KEY = new_key()
Answer = Callable[[Task], Result]


@dataclass
class Scripted:
    """A handler that does as the test says, and notes what it was asked."""

    kind: ClassVar[str] = "hubspot"
    Settings: ClassVar[type[BaseModel]] = BaseModel
    places: ClassVar[tuple[DeclaredPlace, ...]] = ()
    settings: Any = None
    context: Any = None
    script: list[Result | Exception | Answer] = field(default_factory=list)
    asked: list[Task] = field(default_factory=list)
    received: list[CallbackBody] = field(default_factory=list)
    takes: float = 0.0
    busy: int = 0
    busiest: int = 0
    began: anyio.Event = field(default_factory=anyio.Event)
    ended: anyio.Event = field(default_factory=anyio.Event)
    ends_with: int = 10

    async def _do(self, task: Task) -> Result:
        self.asked.append(task)
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        self.began.set()
        try:
            if self.takes:
                await anyio.sleep(self.takes)
            step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            if isinstance(step, Exception):
                raise step
            return step if isinstance(step, Result) else step(task)
        finally:
            self.busy -= 1
            self.ends_with -= 1
            if not self.ends_with:
                self.ended.set()

    locate = erase = prove = _do

    async def receive(self, callback: CallbackBody) -> Received:
        self.received.append(callback)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, Exception):
            raise step
        assert isinstance(step, Result)
        return Received(result=step, correlation="c" * 64)


class Keys:
    """Request keys, or what stands in their place."""

    def __init__(self) -> None:
        self.error: list[Exception] = []

    def key_of(self, request_id: str) -> bytes:
        if self.error:
            raise self.error.pop(0)
        return KEY


class Flaky(SqliteBus):
    """A bus that refuses the first `away` publishings."""

    away = 0

    @override
    def publish(self, records: Iterable[Record]) -> None:
        if self.away:
            self.away -= 1
            raise BusUnavailable(code="login_refused")
        super().publish(records)


class Bench:
    def __init__(self, engine: sa.Engine, keyring: Keyring) -> None:
        self.now = NOW
        self.bus = Flaky(engine, self.clock)
        self.keys = Keys()
        self.keyring = keyring
        self.handler = Scripted()
        self.commands = 0

    def clock(self) -> int:
        return self.now

    def worker(self, **more: Any) -> Worker:
        return Worker(
            bus=self.bus,
            keys=self.keys,
            installation=self.keyring,
            **{
                "handlers": {"hubspot": self.handler},
                "clock": self.clock,
                "call_limit": 5.0,
                "run_blocking": directly,
                **more,
            },
        )

    def command(self, **changed: Any) -> Command:
        self.commands += 1
        identifiers = Identifiers((Identifier("email", ANNA),)).to_bytes()
        stated: dict[str, Any] = {
            "event_id": f"cmd:{self.commands}",
            "request_id": REQUEST,
            "system": "hubspot",
            "kind": "hubspot",
            "verb": "locate",
            "attempt": 1,
            "issued_at": NOW,
            "not_after": NOW + 60_000_000,
            "sealed_identifiers": seal(KEY, REQUEST, IDENTIFIERS, identifiers),
            **changed,
        }
        return Command(**stated)

    def send(self, command: Command, key: str = REQUEST) -> None:
        self.bus.publish([Record(topic=topics.commands("hubspot"), key=key, value=encode(command))])

    def call_back(
        self, body: bytes, token: str | None = None, *, system: str | None = None, **stated: Any
    ) -> None:
        content = {"token": token, "headers": {"X-A": "b"}, "body": base64.b64encode(body).decode()}
        callback = Callback(
            event_id="cb:1",
            kind="hubspot",
            system=system,
            sealed_body=self.keyring.seal_installation(CALLBACK_BODY, json.dumps(content).encode()),
            **{"received_at": NOW, **stated},
        )
        self.bus.publish([Record(topic=topics.callbacks("hubspot"), key="", value=encode(callback))])

    def read(self, topic: str) -> list[Delivery]:
        with self.bus.subscribe(f"reader-of-{topic}", [topic]) as subscription:
            found = subscription.poll(0.0, 100)
            for delivery in found:
                subscription.ack(delivery)
            return found

    def said(self) -> list[Confirmation]:
        return [decode(one.value, Confirmation) for one in self.read(topics.CONFIRMATIONS)]

    async def answer(self, command: Command, *script: Result | Exception | Answer) -> Confirmation:
        """Carry one command out and give its one confirmation."""
        self.handler.script = list(script)
        self.send(command)
        worker = self.worker()
        with worker.subscribe() as subscription:
            assert 1 == await worker.step(subscription)
        (said,) = self.said()
        return said


def control() -> Control:
    return Control.shown(pinned="account", answered="account")


def located(*ids: str, **evidence: str) -> Located:
    references = tuple(Reference(kind="contact", id=id_) for id_ in ids or ("700001",))
    return Located(references=references, evidence=evidence)
