"""The worker: every command is answered, nothing is acknowledged before that, nothing personal gets out."""

import base64
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import anyio
import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from typing_extensions import override

from handlers.port import (
    CallbackBody,
    Control,
    Expired,
    Permanent,
    Reference,
    Refused,
    Retryable,
    Task,
    pack_references,
    unpack_references,
)
from handlers.results import Absent, Accepted, Instructed, Located, PartyErased, Proved, Received, Result
from handlers.worker import Worker, directly, in_thread
from orchestrator.bus.port import BusUnavailable, Delivery, Record, Subscription
from orchestrator.bus.sqlite import SqliteBus
from orchestrator.privacy import (
    CALLBACK_BODY,
    IDENTIFIERS,
    REFERENCES,
    Identifier,
    Identifiers,
    KeyDestroyed,
    Keyring,
    KeyUnknown,
    new_key,
    seal,
    unseal,
)
from orchestrator.store.engine import open_engine
from schemas import topics
from schemas.codec import decode, encode
from schemas.messages import Callback, Command, Confirmation

pytestmark = pytest.mark.anyio
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
        step = self.script[0]
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
    """A bus that is away for the first `away` publishings."""

    away = 0

    @override
    def publish(self, records: Iterable[Record]) -> None:
        if self.away:
            self.away -= 1
            raise BusUnavailable
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
            handlers={"hubspot": self.handler},
            clock=self.clock,
            **{"call_limit": 5.0, "run_blocking": directly, **more},
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

    def call_back(self, body: bytes, token: str | None = None, *, system: str | None = None) -> None:
        content = {"token": token, "headers": {"X-A": "b"}, "body": base64.b64encode(body).decode()}
        callback = Callback(
            event_id="cb:1",
            kind="hubspot",
            system=system,
            received_at=NOW,
            sealed_body=self.keyring.seal_installation(CALLBACK_BODY, json.dumps(content).encode()),
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


@pytest.fixture
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("worker")
    engine = open_engine(f"sqlite:///{folder / 'radera.db'}")
    yield Bench(engine, Keyring.create(folder / "keys", NOW))
    engine.dispose()


def control() -> Control:
    return Control.shown(pinned="account", answered="account")


def located(*ids: str, **evidence: str) -> Located:
    references = tuple(Reference(kind="contact", id=id_) for id_ in ids or ("700001",))
    return Located(references=references, evidence=evidence)


# --- answers


async def test_a_command_is_unsealed_carried_out_and_answered(bench: Bench) -> None:
    """The handler sees the person; the confirmation names the command, and its references are sealed."""
    command = bench.command()
    said = await bench.answer(command, located("700001", contacts="1"))
    assert [ANNA] == [one.value for one in bench.handler.asked[0].identifiers]
    assert ("located", 1, "hubspot", "locate", 1) == (
        said.kind,
        said.found,
        said.system,
        said.verb,
        said.attempt,
    )
    assert command.event_id == said.command_id
    assert said.sealed_references is not None
    references = unpack_references(unseal(KEY, REQUEST, REFERENCES, said.sealed_references))
    assert ["700001"] == [one.id for one in references]


async def test_all_batches_of_references_reach_the_handler_each_record_once(bench: Bench) -> None:
    """A record mentioned twice is one, with the marks of both mentions."""
    batches = (
        (Reference(kind="person", id="1"), Reference(kind="ticket", id="2")),
        (Reference(kind="person", id="1", marks=("seen_in_bin",)),),
    )
    sealed = tuple(seal(KEY, REQUEST, REFERENCES, pack_references(batch)) for batch in batches)
    command = bench.command(verb="prove", sealed_references=sealed)
    await bench.answer(command, Proved(control=control(), grade="seen_absent"))
    seen = bench.handler.asked[0].references
    assert [("person", ("seen_in_bin",)), ("ticket", ())] == [(one.kind, one.marks) for one in seen]


@pytest.mark.parametrize(
    ("step", "kind", "code", "retryable", "retry_after"),
    [
        (Retryable("rate_limited", 7), "failed", "rate_limited", True, 7),
        (Permanent("wrong_account"), "failed", "wrong_account", False, None),
        (Expired(), "expired", "expired", False, None),
        (TimeoutError(), "failed", "call_limit", True, None),
        (ValueError(f"no such person: {ANNA}"), "failed", "handler_error", True, None),
        (Accepted(erased=1, prove_at=NOW), "failed", "handler_error", True, None),
    ],
)
async def test_whatever_happens_the_command_is_answered(
    bench: Bench, step: Result | Exception, kind: str, code: str, retryable: bool, retry_after: int | None
) -> None:
    """Errors by their code; anything else, and an answer to another verb, as the handler's error."""
    said = await bench.answer(bench.command(), step)
    assert (kind, code, retryable, retry_after) == (said.kind, said.code, said.retryable, said.retry_after)


async def test_an_unexpected_error_is_logged_by_its_type_alone(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Its text may quote anything, so it stays out, and so does the traceback."""
    with caplog.at_level(logging.DEBUG):
        await bench.answer(bench.command(), ValueError(f"no such person: {ANNA}"))
    assert [vars(record)["type"] for record in caplog.records if record.message == "handler_error"] == [
        "ValueError"
    ]
    assert ANNA not in caplog.text
    assert [] == [record for record in caplog.records if record.exc_info]


async def test_a_verb_has_a_time_limit(bench: Bench) -> None:
    """A vendor that never answers is a failure that may pass."""
    bench.handler.takes = 30.0
    bench.handler.script = [located()]
    bench.send(bench.command())
    worker = bench.worker(call_limit=0.02)
    with worker.subscribe() as subscription:
        await worker.step(subscription)
    (said,) = bench.said()
    assert ("failed", "call_limit", True) == (said.kind, said.code, said.retryable)


async def test_a_command_past_its_time_is_not_begun(bench: Bench) -> None:
    """The worker was stopped and woken: no call is made, and the answer says so."""
    bench.now = NOW + 60_000_001
    said = await bench.answer(bench.command(), located())
    assert ("expired", "expired", []) == (said.kind, said.code, bench.handler.asked)


async def test_a_command_for_a_system_that_nobody_serves_is_a_failure(bench: Bench) -> None:
    """It needs a person, not another try."""
    said = await bench.answer(bench.command(system="other"), located())
    assert ("failed", "unknown_system", False) == (said.kind, said.code, said.retryable)


@pytest.mark.parametrize(
    ("error", "kind", "code", "retryable"),
    [
        (KeyDestroyed(REQUEST), "expired", "key_destroyed", False),
        (KeyUnknown(REQUEST), "failed", "key_unknown", True),
    ],
)
async def test_without_its_key_a_command_has_no_effect(
    bench: Bench, error: Exception, kind: str, code: str, retryable: bool
) -> None:
    """A request that is over, or not yet recorded: the handler is never called."""
    bench.keys.error = [error]
    said = await bench.answer(bench.command(), located())
    assert (kind, code, retryable) == (said.kind, said.code, said.retryable)
    assert [] == bench.handler.asked


async def test_a_store_that_is_away_is_waited_for(bench: Bench) -> None:
    """It says nothing about the request, so no attempt is lost."""
    bench.keys.error = [sa.exc.OperationalError("select", {}, Exception("gone"))]
    said = await bench.answer(bench.command(), located())
    assert "located" == said.kind


async def test_identifiers_sealed_for_another_request_are_not_used(bench: Bench) -> None:
    """Nobody who can write to the topic has one person erased in another's name."""
    other = "11111111-1111-4111-8111-111111111111"
    identifiers = Identifiers((Identifier("email", ANNA),)).to_bytes()
    sealed = seal(KEY, other, IDENTIFIERS, identifiers)
    said = await bench.answer(bench.command(sealed_identifiers=sealed), located())
    assert ("failed", "seal_broken", False, []) == (
        said.kind,
        said.code,
        said.retryable,
        bench.handler.asked,
    )


# --- what a confirmation may say


@pytest.mark.parametrize(
    "value",
    [ANNA, f"found {ANNA.upper()}", base64.b64encode(ANNA.encode()).decode(), "record 700001 went"],
)
async def test_evidence_that_names_the_person_or_a_record_is_withheld(bench: Bench, value: str) -> None:
    """The rest is kept, and the confirmation says that something was taken out."""
    said = await bench.answer(bench.command(), located("700001", note=value, contacts="1"))
    assert ({"contacts": "1", "evidence_withheld": "1"}, "evidence_withheld") == (said.evidence, said.code)


async def test_the_same_answer_twice_is_one_event_and_another_answer_another(bench: Bench) -> None:
    """A repeat after a crash has the same id, though the clock moved and the seal differs."""
    command = bench.command()
    first = await bench.answer(command, located("1", "2"))
    bench.now += 1_000_000
    repeat = await bench.answer(command, located("1", "2"))
    other = await bench.answer(command, located("1", "2", "3"))
    failed = await bench.answer(command, Retryable("timeout"))
    assert first.event_id == repeat.event_id
    assert 3 == len({first.event_id, other.event_id, failed.event_id})


def test_absence_cannot_be_said_without_control() -> None:
    """Neither type can be made without one, and only a comparison that held makes one."""
    with pytest.raises(TypeError):
        Absent()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Proved(grade="seen_absent")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="made by Control"):
        Control(object(), record=True)
    for pinned, answered in (("a", "b"), ("", "")):
        with pytest.raises(Permanent, match=r"^wrong_account$"):
            Control.shown(pinned=pinned, answered=answered)
    with pytest.raises(Permanent, match=r"^control_record_not_found$"):
        Control.shown(pinned="a", answered="a", record_found=False)
    with pytest.raises(ValueError, match="needs a Control"):
        Located(references=())


def test_nothing_shows_who_it_is_about() -> None:
    """Not a task, a reference or a callback."""
    task = Task(
        request_id=REQUEST,
        system="hubspot",
        verb="locate",
        attempt=1,
        identifiers=Identifiers((Identifier("email", ANNA),)),
        references=(Reference(kind="contact", id="700001"),),
        issued_at=NOW,
        not_after=NOW,
        clock=lambda: NOW,
    )
    callback = CallbackBody(token="tok3n", headers={"a": ANNA}, body=ANNA.encode(), received_at=NOW)
    shown = f"{task!r} {task.references[0]!r} {callback!r}"
    assert [] == [secret for secret in (ANNA, "700001", "tok3n") if secret in shown]


# --- the bus


async def test_an_unreadable_record_is_set_aside_sealed_and_the_rest_goes_on(bench: Bench) -> None:
    """The dead letter says where it came from and why, and shows nothing of what was in it."""
    bench.handler.script = [located()]
    raw = f"not avro, but {ANNA}".encode()
    bench.bus.publish([Record(topic=topics.commands("hubspot"), key=ANNA, value=raw)])
    bench.send(bench.command())
    worker = bench.worker()
    with worker.subscribe() as subscription:
        await worker.step(subscription)
        assert 0 == await worker.step(subscription)
    (dead,) = bench.read(topics.dead_letters(topics.commands("hubspot")))
    assert ("", b"malformed_message") == (dead.key, dead.header("radera-code"))
    assert ANNA.encode() not in dead.value
    assert raw == bench.keyring.unseal_installation("dead-letter", dead.value)
    assert ["located"] == [said.kind for said in bench.said()]


async def test_nothing_is_acknowledged_before_its_answer_is_published(bench: Bench) -> None:
    """The bus goes away after the effect: the worker keeps at it, and then acknowledges once."""
    bench.handler.script = [located()]
    bench.send(bench.command())
    bench.bus.away = 2
    worker = bench.worker()
    with worker.subscribe() as subscription:
        with anyio.move_on_after(0.05) as scope:
            await worker.step(subscription)
    assert scope.cancelled_caught
    with worker.subscribe() as subscription:
        assert 1 == await worker.step(subscription)
        assert 0 == await worker.step(subscription)
    assert ["located"] == [said.kind for said in bench.said()]
    assert 2 == len(bench.handler.asked)


async def test_no_more_are_in_flight_than_allowed(bench: Bench) -> None:
    """Ten commands of ten requests, three at a time."""
    bench.handler.script = [located()]
    bench.handler.takes = 0.01
    for number in range(10):
        request = f"{number:08d}-1111-4111-8111-111111111111"
        sealed = seal(KEY, request, IDENTIFIERS, Identifiers((Identifier("email", ANNA),)).to_bytes())
        bench.send(bench.command(request_id=request, sealed_identifiers=sealed), request)
    worker, stop = bench.worker(concurrency=3), anyio.Event()
    with worker.subscribe() as subscription:
        async with anyio.create_task_group() as group:
            group.start_soon(worker.serve, subscription, stop)
            with anyio.fail_after(10):
                await bench.handler.ended.wait()
            stop.set()
    assert 3 == bench.handler.busiest
    assert 10 == len(bench.said())


async def test_two_commands_of_one_request_are_carried_out_in_turn(bench: Bench) -> None:
    """They may be about the same records."""
    bench.handler.script = [located()]
    bench.handler.takes = 0.01
    for _ in range(3):
        bench.send(bench.command())
    worker = bench.worker()
    with worker.subscribe() as subscription:
        assert 3 == await worker.step(subscription)
    assert 1 == bench.handler.busiest


async def test_a_stop_waits_for_what_is_in_flight_and_gives_the_rest_back(bench: Bench) -> None:
    """What ends within the drain is answered; what doesn't is delivered again."""
    bench.handler.script = [located()]
    bench.handler.takes = 60.0
    bench.send(bench.command())
    worker, stop = bench.worker(drain=0.02, call_limit=120.0), anyio.Event()
    with worker.subscribe() as subscription:
        async with anyio.create_task_group() as group:
            group.start_soon(worker.serve, subscription, stop)
            with anyio.fail_after(10):
                await bench.handler.began.wait()
            stop.set()
    assert [] == bench.said()
    bench.handler.takes = 0.0
    with worker.subscribe() as subscription:
        assert 1 == await worker.step(subscription)


def test_in_production_one_thread_makes_every_call_to_the_subscription(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work is carried out elsewhere, its answers are published, and a stop ends the loop soon."""
    bench.handler.script = [located()]
    threads: set[int] = set()
    subscribe = bench.bus.subscribe

    class Watched:
        def __init__(self, inner: Subscription) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            threads.add(threading.get_ident())
            return getattr(self._inner, name)

        def __enter__(self) -> "Watched":
            return self

        def __exit__(self, *error: object) -> None:
            self._inner.close()

    for _ in range(4):
        bench.send(bench.command())
    worker = bench.worker(run_blocking=in_thread)
    monkeypatch.setattr(bench.bus, "subscribe", lambda *args, **more: Watched(subscribe(*args, **more)))
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    until = time.monotonic() + 20
    while len(bench.handler.asked) < 4 and time.monotonic() < until:
        time.sleep(0.01)
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    assert {thread.ident} == threads
    monkeypatch.undo()
    assert 4 == len(bench.said())


# --- callbacks


async def step(bench: Bench) -> None:
    worker = bench.worker()
    with worker.subscribe() as subscription:
        assert 1 == await worker.step(subscription)
        assert 0 == await worker.step(subscription)


async def test_a_callback_is_unsealed_and_its_meaning_published(bench: Bench) -> None:
    """The handler gets what was posted, byte for byte; the confirmation answers no command."""
    bench.handler.script = [PartyErased(prove_at=None)]
    bench.call_back(b"answer=erased", "tok3n")
    await step(bench)
    (body,) = bench.handler.received
    assert (b"answer=erased", "tok3n", "b") == (body.body, body.token, body.header("x-a"))
    (said,) = bench.said()
    assert ("party_erased", None, "c" * 64, "party_stated") == (
        said.kind,
        said.command_id,
        said.correlation,
        said.grade,
    )


async def test_a_callback_that_nobody_should_believe_is_dropped(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Logged with its code, acknowledged, and nothing said."""
    bench.handler.script = [Refused("signature_invalid")]
    bench.call_back(b"{}")
    await step(bench)
    assert [] == bench.said()
    assert ["signature_invalid"] == [
        vars(record)["code"] for record in caplog.records if record.message == "callback_refused"
    ]


@pytest.mark.parametrize("step_", [RuntimeError(ANNA), Retryable("x"), located()])
async def test_a_callback_that_we_fail_at_is_kept(bench: Bench, step_: Result | Exception) -> None:
    """It may be a party's one answer: it goes to the dead letters, and the rest goes on."""
    bench.handler.script = [step_]
    bench.call_back(b"{}")
    await step(bench)
    (dead,) = bench.read(topics.dead_letters(topics.callbacks("hubspot")))
    assert b"callback_error" == dead.header("radera-code")


async def test_a_callback_goes_to_the_system_that_it_names(bench: Bench) -> None:
    """Named for another system of the kind, this one's handler doesn't see it."""
    bench.handler.script = [Instructed()]
    bench.call_back(b"{}", system="other")
    await step(bench)
    assert ([], []) == (bench.handler.received, bench.said())


async def test_a_callback_not_sealed_by_us_is_set_aside(bench: Bench) -> None:
    """Whoever wrote it is at fault; the topic goes on."""
    callback = Callback(event_id="cb:1", kind="hubspot", received_at=NOW, sealed_body=b"whatever")
    bench.bus.publish([Record(topic=topics.callbacks("hubspot"), key="", value=encode(callback))])
    await step(bench)
    (dead,) = bench.read(topics.dead_letters(topics.callbacks("hubspot")))
    assert b"seal_broken" == dead.header("radera-code")
