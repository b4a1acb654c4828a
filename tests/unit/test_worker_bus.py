"""The worker on its bus: nothing is acknowledged before its answer is safe, and nothing stops the rest."""

import threading
import time
from typing import Any

import anyio
import pytest
import sqlalchemy as sa
from typing_extensions import override

from handlers.port import (
    CallbackBody,
    Refused,
    Retryable,
)
from handlers.results import Instructed, PartyErased, Received, Result, VendorPurged
from handlers.worker import in_thread
from orchestrator.bus.port import BusUnavailable, Delivery, Record, Subscription
from orchestrator.privacy import (
    IDENTIFIERS,
    Identifier,
    Identifiers,
    Keyring,
    seal,
)
from orchestrator.privacy.keyfile import Generation, Material
from schemas import topics
from schemas.codec import encode
from schemas.messages import Callback
from tests.contract.worker_bench import ANNA, KEY, NOW, Bench, Scripted, located

pytestmark = pytest.mark.anyio


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


async def test_nothing_is_acknowledged_before_its_answer_is_published(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """The bus goes away after the effect: the worker keeps at it, logs why, and then acknowledges once."""
    bench.handler.script = [located()]
    bench.send(bench.command())
    bench.bus.away = 2
    worker = bench.worker()
    with worker.subscribe() as subscription:
        with anyio.move_on_after(0.05) as scope:
            await worker.step(subscription)
    assert scope.cancelled_caught
    assert {"login_refused"} == codes(caplog, "publish_failed")
    with worker.subscribe() as subscription:
        assert 1 == await worker.step(subscription)
        assert 0 == await worker.step(subscription)
    assert ["located"] == [said.kind for said in bench.said()]
    assert 2 == len(bench.handler.asked)


def codes(caplog: pytest.LogCaptureFixture, action: str) -> set[str]:
    """What was logged as the reason of it."""
    return {vars(record)["code"] for record in caplog.records if record.message == action}


def test_who_may_not_read_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that the brokers refuse waits, and its log says for what."""
    stop = threading.Event()

    def refuse(*_: object) -> list[Delivery]:
        stop.set()
        raise BusUnavailable("see to kafka.password", code="login_refused")

    worker = bench.worker(run_blocking=in_thread)
    subscription = bench.bus.subscribe("g", ["t"])
    monkeypatch.setattr(subscription, "poll", refuse)
    monkeypatch.setattr(bench.bus, "subscribe", lambda *_, **__: subscription)
    worker.run(stop)
    assert {"login_refused"} == codes(caplog, "poll_failed")


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


async def test_a_callback_is_not_lost_to_a_store_that_is_away(bench: Bench) -> None:
    """A party answers once. That we could not tell the time is no reason to set its answer aside."""
    away = sa.exc.OperationalError("select", {}, Exception("gone"))
    bench.handler.script = [away, PartyErased(prove_at=None)]
    bench.call_back(b"{}", "token")
    worker = bench.worker(outages=(sa.exc.OperationalError,))
    with worker.subscribe() as subscription:
        await worker.step(subscription)
    assert ["party_erased"] == [said.kind for said in bench.said()]
    assert [] == bench.read(topics.dead_letters(topics.callbacks("hubspot")))


async def test_a_callback_goes_to_the_system_that_it_names(bench: Bench) -> None:
    """Named for another system of the kind, this one's handler doesn't see it."""
    bench.handler.script = [Instructed()]
    bench.call_back(b"{}", system="other")
    await step(bench)
    assert ([], []) == (bench.handler.received, bench.said())


async def test_a_callback_that_one_system_refuses_may_be_anothers(bench: Bench) -> None:
    """Two accounts of one vendor share an address: whichever is asked first, its no speaks for itself."""
    refusing, taking = Scripted(), Scripted()
    refusing.script = [Refused("wrong_account")]
    taking.script = [Instructed()]
    worker = bench.worker(handlers={"swedish": refusing, "norwegian": taking})
    bench.call_back(b"{}")
    with worker.subscribe() as subscription:
        await worker.step(subscription)
    assert ["instructed"] == [said.kind for said in bench.said()]


class Batched(Scripted):
    """A handler whose vendor speaks in batches, of which it takes its own."""

    mine: tuple[str, ...] = ()

    @override
    async def receive(self, callback: CallbackBody) -> Any:
        if not self.mine:
            raise Refused("wrong_account")
        return tuple(Received(result=VendorPurged(), correlation=one) for one in self.mine)


async def batch(bench: Bench, **mine: tuple[str, ...]) -> list[tuple[str, str | None]]:
    """What two systems of one kind say to one callback: ids and correlations."""
    handlers: dict[str, Any] = {}
    for system, correlations in mine.items():
        handlers[system] = Batched()
        handlers[system].mine = correlations
    worker = bench.worker(handlers=handlers)
    bench.call_back(b"[]")
    with worker.subscribe() as subscription:
        await worker.step(subscription)
    return [(said.event_id, said.correlation) for said in bench.said()]


async def test_each_event_of_a_batch_is_a_confirmation_of_its_own(bench: Bench) -> None:
    """Each system takes its own; a repeat of the batch says the same under the same ids."""
    one, two, three = "a" * 64, "b" * 64, "c" * 64
    said = await batch(bench, swedish=(one, two), norwegian=(three,), danish=())
    assert [one, two, three] == [correlation for _, correlation in said]
    assert 3 == len({event_id for event_id, _ in said})
    again = await batch(bench, swedish=(one, two), norwegian=(three,), danish=())
    assert said == again


async def test_a_batch_that_is_nobodys_is_dropped(bench: Bench) -> None:
    """All of it was of other accounts."""
    assert [] == await batch(bench, swedish=(), norwegian=())


async def test_a_callback_not_sealed_by_us_is_set_aside(bench: Bench) -> None:
    """Whoever wrote it is at fault; the topic goes on."""
    callback = Callback(event_id="cb:1", kind="hubspot", received_at=NOW, sealed_body=b"whatever")
    bench.bus.publish([Record(topic=topics.callbacks("hubspot"), key="", value=encode(callback))])
    await step(bench)
    (dead,) = bench.read(topics.dead_letters(topics.callbacks("hubspot")))
    assert b"seal_broken" == dead.header("radera-code")


async def test_a_callback_waits_for_a_master_key_that_is_not_known_yet(bench: Bench) -> None:
    """Another process has sealed it under a key that this one has not yet: it is no dead letter."""
    later = Keyring(Material(b"d" * 32, (Generation(7, None, b"m" * 32),)))
    mine, bench.keyring = bench.keyring, later
    bench.call_back(b"said")
    bench.keyring = mine
    worker = bench.worker()
    with worker.subscribe() as subscription, anyio.move_on_after(0.3):
        await worker.step(subscription)
    assert [] == bench.read(topics.dead_letters(topics.callbacks("hubspot")))
    assert [] == bench.handler.received

    bench.keyring = later
    worker = bench.worker()
    with worker.subscribe() as subscription:
        await worker.step(subscription)
    assert 1 == len(bench.handler.received)


async def test_a_callback_under_a_lost_master_key_is_kept(bench: Bench) -> None:
    """It waits no longer and holds up nobody; a keyring that is found may open it yet."""
    later = Keyring(Material(b"d" * 32, (Generation(7, None, b"m" * 32),)))
    mine, bench.keyring = bench.keyring, later
    bench.call_back(b"said")
    bench.keyring = mine
    mine.learn_of_losses(lambda: {7})
    worker = bench.worker()
    with worker.subscribe() as subscription:
        await worker.step(subscription)
    [letter] = bench.read(topics.dead_letters(topics.callbacks("hubspot")))
    assert b"seal_broken" == letter.header("radera-code")
