"""What waits for its turn holds no hand, is bounded, and is begun by nobody who has lost it."""

from typing import Any

import anyio
import anyio.lowlevel
import pytest
from typing_extensions import override

from handlers import turns
from handlers.port import Task
from handlers.results import Result
from handlers.turns import Turns
from handlers.worker import Worker, directly
from orchestrator.bus.port import Delivery
from orchestrator.privacy import IDENTIFIERS, Identifier, Identifiers, seal
from tests.contract.worker_bench import ANNA, KEY, NOW, REQUEST, Bench, Scripted, located

pytestmark = pytest.mark.anyio
TWELVE = [f"hubspot_{number}" for number in range(12)]


class Slow(Scripted):
    """A handler that answers one request when it is let go, and others at once."""

    def __init__(self) -> None:
        super().__init__()
        self.others_are_done = anyio.Event()
        self.let_go = anyio.Event()
        self.others = 0

    @override
    async def _do(self, task: Task) -> Result:
        self.asked.append(task)
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        if task.request_id == REQUEST:
            await self.let_go.wait()
        else:
            self.others += 1
            if self.others == 20:
                self.others_are_done.set()
        self.busy -= 1
        return located()

    locate = erase = prove = _do


def worker_of(bench: Bench, handler: Scripted, **more: Any) -> Worker:
    return Worker(
        bus=bench.bus,
        keys=bench.keys,
        installation=bench.keyring,
        handlers=dict.fromkeys(TWELVE, handler),
        clock=bench.clock,
        run_blocking=directly,
        **more,
    )


async def test_waiting_siblings_hold_no_hands(bench: Bench) -> None:
    """One request has twelve systems of a kind, and the first doesn't answer yet: the commands of twenty
    other requests, which came after them, are all carried out meanwhile.
    """
    handler = Slow()
    for system in TWELVE:
        bench.send(bench.command(system=system))
    for number in range(20):
        request = f"{number:08d}-1111-4111-8111-111111111111"
        sealed = seal(KEY, request, IDENTIFIERS, Identifiers((Identifier("email", ANNA),)).to_bytes())
        bench.send(bench.command(system=TWELVE[0], request_id=request, sealed_identifiers=sealed), request)
    worker, stop = worker_of(bench, handler, concurrency=4), anyio.Event()
    with worker.subscribe() as subscription:
        async with anyio.create_task_group() as group:
            group.start_soon(worker.serve, subscription, stop)
            with anyio.fail_after(10):
                await handler.others_are_done.wait()
            assert [REQUEST] == [one.request_id for one in handler.asked if one.request_id == REQUEST]
            handler.let_go.set()
            with anyio.fail_after(10):
                while len(handler.asked) < 32:  # noqa: ASYNC110 - nothing tells of it
                    await anyio.sleep(0.01)
            stop.set()
    assert 32 == len(bench.said())
    assert handler.busiest <= 4


def delivery(key: str, offset: int, value: bytes = b"") -> Delivery:
    return Delivery(
        topic="erasure.commands.crm.v1", key=key, value=value, partition=0, offset=offset, timestamp=NOW
    )


def test_a_hand_goes_from_one_of_a_request_to_the_next() -> None:
    """And is free after the last of them. Records without a key are nobody's siblings."""
    made = Turns(2)
    one, two, three = (delivery("a", offset) for offset in range(3))
    assert (True, False, False) == (made.take(one), made.take(two), made.take(three))
    assert 1 == made.free
    assert (True, 0) == (made.take(delivery("", 7)), made.free)
    assert (two, three, None) == (made.end(one), made.end(two), made.end(three))
    assert 1 == made.free
    assert True is made.take(delivery("", 8))


def test_a_flood_for_one_request_is_taken_in_bounds() -> None:
    """In number and in bytes, though hands are free: all that waits is in the memory that all share."""
    made, large = Turns(2), Turns(2)
    made.take(delivery("a", 0))
    taken = 0
    while made.free:
        taken += 1
        assert taken < 1000
        made.take(delivery("a", taken))
    assert 2 * turns.WAITING_FOR_EACH == taken
    large.take(delivery("a", 0))
    large.take(delivery("a", 1, bytes(turns.MOST_BYTES)))
    assert 0 == large.free


def test_what_went_to_another_reader_is_not_begun() -> None:
    """Its partition went while it waited: two workers on one command are one too many."""
    made = Turns(2)
    one, two, three = (delivery("a", offset) for offset in range(3))
    for each in (one, two, three):
        made.take(each)
    made.keep(lambda each: each is not two)
    assert (three, None) == (made.end(one), made.end(three))


async def test_what_waits_at_a_stop_is_given_back(bench: Bench) -> None:
    """Nothing new is begun then, also not what waited for its turn."""
    handler = Slow()
    for system in TWELVE[:3]:
        bench.send(bench.command(system=system))
    worker, stop = worker_of(bench, handler, drain=5.0), anyio.Event()
    with worker.subscribe() as subscription:
        async with anyio.create_task_group() as group:
            group.start_soon(worker.serve, subscription, stop)
            with anyio.fail_after(10):
                while not handler.asked:  # noqa: ASYNC110 - nothing tells of it
                    await anyio.sleep(0.01)
            await anyio.sleep(0.01)
            stop.set()
            await anyio.lowlevel.checkpoint()
            await anyio.sleep(0.1)
            handler.let_go.set()
    assert (1, 1) == (len(handler.asked), len(bench.said()))
    with worker.subscribe() as subscription:
        assert 2 == len(subscription.poll(0.0, 10))
