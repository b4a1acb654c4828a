"""Whatever a handler raises, or leaves behind, is its own command's fault: its neighbours notice nothing."""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from typing_extensions import override

from handlers.port import CallbackBody, Expired, Permanent, Refused, Retryable, Task
from handlers.results import Accepted, PartyErased, Received, Result
from handlers.worker import in_thread
from orchestrator.privacy import IDENTIFIERS, Identifier, Identifiers, seal
from orchestrator.store import StoreUnavailable
from schemas import topics
from schemas.codec import decode
from schemas.messages import Confirmation
from tests.contract.worker_bench import ANNA, KEY, NOW, Bench, Scripted, located

pytestmark = pytest.mark.anyio


class PanicError(BaseException):
    """As `pyo3_runtime.PanicException`, which is no Exception either."""


async def cancels_itself() -> None:
    """As a library does that gives up its own task."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await anyio.sleep(10)


async def awaits_a_cancelled_task() -> None:
    """As who shares a task with another that gave it up."""
    task = asyncio.create_task(anyio.sleep(10))
    task.cancel()
    await task


async def exits_in_a_task() -> None:
    """asyncio ends the whole loop for this."""
    await asyncio.create_task(raising(SystemExit(3)))


async def exits_in_a_group() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(raising, SystemExit(3))


async def raising(error: BaseException) -> None:
    raise error


Act = Callable[[], Awaitable[None]]

#: What a handler does instead of answering, with the code of the failure.
FAULTS: dict[str, tuple[Act, str]] = {
    "panic": (lambda: raising(PanicError("about Anna")), "handler_panic"),
    "exit": (lambda: raising(SystemExit(3)), "handler_panic"),
    "interrupt": (lambda: raising(KeyboardInterrupt()), "handler_panic"),
    "generator_exit": (lambda: raising(GeneratorExit()), "handler_panic"),
    "exit_in_a_task": (exits_in_a_task, "handler_panic"),
    "exit_in_a_group": (exits_in_a_group, "handler_panic"),
    "group_of_panics": (lambda: raising(BaseExceptionGroup("x", [PanicError()])), "handler_panic"),
    "cancelled": (lambda: raising(asyncio.CancelledError()), "handler_cancelled"),
    "cancels_itself": (cancels_itself, "handler_cancelled"),
    "cancelled_task": (awaits_a_cancelled_task, "handler_cancelled"),
    "group_of_errors": (lambda: raising(ExceptionGroup("x", [KeyError(), Retryable("x")])), "handler_error"),
    "memory": (lambda: raising(MemoryError()), "handler_error"),
    "recursion": (lambda: raising(RecursionError()), "handler_error"),
}


class Acting(Scripted):
    """A handler that does `act` for one request, after its neighbours have begun; they take a while."""

    act: Act
    faulty: str
    neighbours: int = 0
    have_begun: int = 0
    was_cancelled: int = 0

    def __init__(self) -> None:
        super().__init__()
        self.all_have_begun = anyio.Event()

    async def _acting(self, task: Task) -> Result:
        self.asked.append(task)
        if task.request_id != self.faulty:
            self.have_begun += 1
            if self.have_begun == self.neighbours:
                self.all_have_begun.set()
            try:
                await anyio.sleep(0.1)
            except asyncio.CancelledError:
                self.was_cancelled += 1
                raise
            return located()
        with anyio.fail_after(5):
            await self.all_have_begun.wait()
        await self.act()
        return located()

    locate = erase = prove = _acting


def requests(bench: Bench, count: int) -> list[str]:
    """Send so many commands, of a request each."""
    ids = [f"{number:08d}-1111-4111-8111-111111111111" for number in range(count)]
    for request in ids:
        sealed = seal(KEY, request, IDENTIFIERS, Identifiers((Identifier("email", ANNA),)).to_bytes())
        bench.send(bench.command(request_id=request, sealed_identifiers=sealed), request)
    return ids


def served(bench: Bench, enough: Callable[[], bool], **more: Any) -> None:
    """Run a worker as in production, until that is enough or ten seconds are over."""
    worker, stop = bench.worker(run_blocking=in_thread, drain=2.0, **more), threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        # As the loop of a role does: whatever ends it, it begins anew.
        while not stop.is_set():
            try:
                worker.run(stop)
            except Exception as error:
                failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until = time.monotonic() + 10
    while not enough() and time.monotonic() < until:
        time.sleep(0.02)
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    assert [] == failed


def told(said: list[Confirmation]) -> list[tuple[str, str | None, bool]]:
    return sorted((one.kind, one.code, one.retryable) for one in said)


@pytest.mark.parametrize("name", FAULTS)
def test_what_a_handler_raises_is_its_own_commands_fault(
    bench: Bench, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One command of four: it is answered with a code of its own, acknowledged and logged by its type alone.
    Its neighbours are asked once, and none is cancelled in the middle of its call.
    """
    act, code = FAULTS[name]
    bench.handler = handler = Acting()
    first, *_ = requests(bench, 4)
    handler.act, handler.faulty, handler.neighbours = act, first, 3
    answers: list[Confirmation] = []

    def enough() -> bool:
        answers.extend(bench.said())
        return len(answers) >= 4

    with caplog.at_level(logging.INFO):
        served(bench, enough)
    assert sorted([("failed", code, True), *[("located", None, False)] * 3]) == told(answers)
    assert (4, 0) == (len(handler.asked), handler.was_cancelled)
    assert [code] == [vars(one)["code"] for one in caplog.records if one.message == "handler_error"]
    assert "Anna" not in caplog.text
    with bench.worker().subscribe() as subscription:
        assert [] == subscription.poll(0.0, 10)


@pytest.mark.parametrize("name", FAULTS)
async def test_what_a_handler_raises_for_a_callback_is_that_callbacks_fault(bench: Bench, name: str) -> None:
    """It is kept, as after any fault of ours, and nothing else comes to harm."""
    act, _ = FAULTS[name]

    class Receiving(Scripted):
        @override
        async def receive(self, callback: CallbackBody) -> Received:
            await act()
            raise AssertionError

    bench.handler = Receiving()
    bench.call_back(b"{}")
    worker = bench.worker()
    with worker.subscribe() as subscription:
        assert 1 == await worker.step(subscription)
        assert 0 == await worker.step(subscription)
    (dead,) = bench.read(topics.dead_letters(topics.callbacks("hubspot")))
    assert b"callback_error" == dead.header("radera-code")


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([Retryable("rate_limited", 7)], ("failed", "rate_limited", True, 7)),
        ([Retryable("timeout"), Retryable("rate_limited", 7)], ("failed", "rate_limited", True, 7)),
        ([Retryable("timeout"), Permanent("wrong_account")], ("failed", "wrong_account", False, None)),
        ([Retryable("timeout"), Expired()], ("expired", "expired", False, None)),
        ([Expired(), Permanent("wrong_account")], ("failed", "wrong_account", False, None)),
        ([ExceptionGroup("y", [Permanent("wrong_account")])], ("failed", "wrong_account", False, None)),
        ([TimeoutError()], ("failed", "call_limit", True, None)),
    ],
)
async def test_a_group_of_exceptions_says_what_its_weightiest_says(
    bench: Bench, errors: list[Exception], expected: tuple[str, str, bool, int | None]
) -> None:
    """Calls made side by side fail side by side. What a person has to mend weighs most."""

    def raise_them(task: Task) -> Result:
        raise ExceptionGroup("x", errors)

    said = await bench.answer(bench.command(), raise_them)
    assert expected == (said.kind, said.code, said.retryable, said.retry_after)


async def test_a_store_that_is_away_in_a_group_costs_no_attempt(bench: Bench) -> None:
    """As alone: the command is carried out again."""
    away = [True]

    def answer(task: Task) -> Result:
        if away.pop() if away else False:
            raise ExceptionGroup("x", [Retryable("timeout"), StoreUnavailable(database="d")])
        return located()

    bench.handler.script = [answer]
    bench.send(bench.command())
    worker = bench.worker(outages=(StoreUnavailable,))
    with worker.subscribe() as subscription, anyio.fail_after(5):
        await worker.step(subscription)
    assert ["located"] == [said.kind for said in bench.said()]


# --- what a handler leaves behind ---


class Leaving(Scripted):
    """A handler that answers and leaves a task behind."""

    is_stubborn = False
    left_over: str = ""
    calls_after: int = 0
    task: Task | None = None

    async def _leaving(self, task: Task) -> Result:
        self.task = task
        self._left = asyncio.create_task(self._goes_on(task))
        await anyio.lowlevel.checkpoint()
        return Accepted(erased=1, prove_at=NOW)

    async def _goes_on(self, task: Task) -> None:
        self.left_over = "runs"
        try:
            await anyio.sleep(30)
        except asyncio.CancelledError:
            self.left_over = "cancelled"
            if not self.is_stubborn:
                raise
            with suppress(Expired):
                task.may_erase()
                self.calls_after += 1

    locate = erase = prove = _leaving


async def test_what_a_handler_leaves_behind_ends_with_its_command(bench: Bench) -> None:
    """The answer is about what was done by then; nothing of the command goes on after it."""
    bench.handler = handler = Leaving()
    said = await bench.answer(bench.command(verb="erase"))
    assert ("accepted", "cancelled") == (said.kind, handler.left_over)


async def test_a_commands_permit_ends_with_it(bench: Bench) -> None:
    """A task that will not end, or a thread that can't be ended, erases nothing after the answer."""
    bench.handler = handler = Leaving()
    handler.is_stubborn = True
    await bench.answer(bench.command(verb="erase"))
    assert ("cancelled", 0) == (handler.left_over, handler.calls_after)
    assert handler.task is not None
    with pytest.raises(Expired):
        handler.task.may_erase()


async def test_a_task_made_by_a_task_that_was_left_ends_too(bench: Bench) -> None:
    """However deep."""
    ended: list[str] = []

    async def deep(levels: int) -> None:
        task = asyncio.create_task(deep(levels - 1)) if levels else None
        try:
            await anyio.sleep(30)
        finally:
            ended.append(str(levels))
            del task

    class Deep(Scripted):
        @override
        async def _do(self, task: Task) -> Result:
            self.left = asyncio.create_task(deep(2))
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            return located()

        locate = erase = prove = _do

    bench.handler = Deep()
    await bench.answer(bench.command())
    assert ["0", "1", "2"] == sorted(ended)


async def test_a_handler_that_will_not_be_cancelled_holds_no_hand_for_ever(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Its command is answered when its time is over, and it has lost its permit by then."""
    let_go = anyio.Event()
    permits: list[bool] = []

    class Stubborn(Scripted):
        @override
        async def _do(self, task: Task) -> Result:
            while not let_go.is_set():
                try:
                    await let_go.wait()
                except asyncio.CancelledError:
                    try:
                        task.may_erase()
                    except Expired:
                        permits.append(False)
                    else:
                        permits.append(True)
            return located()

        locate = erase = prove = _do

    bench.handler = Stubborn()
    bench.send(bench.command())
    worker = bench.worker(call_limit=0.02)
    # Long after it should have been left to itself.
    asyncio.get_running_loop().call_later(10, let_go.set)
    with worker.subscribe() as subscription:
        await worker.step(subscription)
    let_go.set()
    await anyio.lowlevel.checkpoint()
    (said,) = bench.said()
    assert ("failed", "call_limit", True) == (said.kind, said.code, said.retryable)
    assert {False} == set(permits)
    assert 1 == sum(one.message == "handler_does_not_end" for one in caplog.records)


async def test_what_one_left_behind_takes_nothing_from_its_neighbour(bench: Bench) -> None:
    """Tasks are told apart by the command that made them, also where two verbs run side by side."""

    class Both(Scripted):
        @override
        async def _do(self, task: Task) -> Result:
            work = asyncio.create_task(anyio.sleep(0.02))
            if len(self.asked) % 2:
                self.asked.append(task)
                return located()
            self.asked.append(task)
            await work
            return located()

        locate = erase = prove = _do

    bench.handler = Both()
    requests(bench, 4)
    worker = bench.worker()
    with worker.subscribe() as subscription:
        assert 4 == await worker.step(subscription)
    assert ["located"] * 4 == [said.kind for said in bench.said()]


# --- faults of our own ---


def test_a_fault_of_our_own_is_one_records_fault(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where carrying out fails outside of any handler, say in a library that unseals: the command is
    answered, and its neighbours go on.
    """
    bench.handler = handler = Acting()
    first, *_ = requests(bench, 4)
    handler.faulty, handler.neighbours = "nobody", 0
    key_of = bench.keys.key_of

    def panics(request_id: str) -> bytes:
        if request_id == first:
            raise PanicError
        return key_of(request_id)

    monkeypatch.setattr(bench.keys, "key_of", panics)
    answers: list[Confirmation] = []

    def enough() -> bool:
        answers.extend(bench.said())
        return len(answers) >= 4

    served(bench, enough)
    assert sorted([("failed", "worker_error", True), *[("located", None, False)] * 3]) == told(answers)
    assert (3, 0) == (len(handler.asked), handler.was_cancelled)


async def test_a_callback_that_we_can_not_carry_out_is_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a party's one answer."""
    bench.handler.script = [PartyErased(prove_at=None)]
    bench.call_back(b"{}", "token")

    def panics(purpose: str, sealed: bytes) -> bytes:
        raise PanicError

    monkeypatch.setattr(bench.keyring, "unseal_installation", panics)
    worker = bench.worker()
    with worker.subscribe() as subscription:
        await worker.step(subscription)
    (dead,) = bench.read(topics.dead_letters(topics.callbacks("hubspot")))
    assert b"worker_error" == dead.header("radera-code")


async def test_an_answer_that_can_not_be_published_gives_way(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that the bus's client fails at, and not the brokers, is tried a few times; then the command is
    answered without it, and nobody else's is held up.
    """
    publish = bench.bus.publish
    tried: list[int] = []

    def fails_at_located(records: Any) -> None:
        batch = list(records)
        if any(decode(one.value, Confirmation).kind == "located" for one in batch):
            tried.append(1)
            raise KeyError("no such partition")
        publish(batch)

    monkeypatch.setattr("handlers.worker.FIRST_WAIT", 0.001)
    bench.handler.script = [located()]
    bench.send(bench.command())
    monkeypatch.setattr(bench.bus, "publish", fails_at_located)
    worker = bench.worker()
    with worker.subscribe() as subscription, anyio.fail_after(5):
        await worker.step(subscription)
    (said,) = bench.said()
    assert ("failed", "worker_error", True, 3) == (said.kind, said.code, said.retryable, len(tried))


def test_a_refusal_in_a_group_is_a_refusal(bench: Bench) -> None:
    """Nobody's webhook becomes a dead letter because two looks were made side by side."""

    class Receiving(Scripted):
        @override
        async def receive(self, callback: CallbackBody) -> Received:
            raise ExceptionGroup("x", [Refused("signature_invalid")])

    bench.handler = Receiving()
    bench.call_back(b"{}")
    worker = bench.worker()
    with worker.subscribe() as subscription:
        anyio.run(worker.step, subscription)
    assert [] == bench.read(topics.dead_letters(topics.callbacks("hubspot")))
