"""The worker: takes commands and callbacks from the bus, has them carried out, publishes the answers, and
acknowledges.

The rules:

* A record is acknowledged when its answer is safely published, and not before. While the bus is away the
  worker backs off and tries to publish again; a restart repeats the command, which handlers bear. An answer
  that the bus takes in no size gives way to one that says so: the vendor is not asked again for its sake.
* What is raised for a store that is away (`outages`) says nothing about a record: it is carried out again
  when the store is back. Were it answered, an attempt would be lost, and with a callback the answer of a
  party that was given a link to answer once.
* At most `concurrency` records are in flight, and no more are polled than can be begun. Two records of one
  request for one topic are carried out one after the other.
* A subscription belongs to one thread. `run` keeps the caller's thread for it and carries out the work in
  another, which has the event loop; `serve` does all of it in one event loop, for a simulation with a clock
  of its own; `step` is one round of `serve`.
* On a stop: nothing new is begun, what is in flight has `drain` seconds to end, and the rest is given back
  unacknowledged.
"""

import logging
import queue
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import Future
from threading import Event
from time import monotonic
from typing import Any, TypeVar

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup
from anyio.from_thread import start_blocking_portal

from handlers.execution import Execution, InstallationSeal, WorkerMetrics
from handlers.registry import Handler
from orchestrator.bus.port import Bus, BusUnavailable, Delivery, Record, RecordTooLarge, Subscription
from orchestrator.privacy import GenerationUnknown, RequestKeys
from schemas import topics
from schemas.codec import Resolver

GROUP = "worker"
FIRST_WAIT = 0.1
LONGEST_WAIT = 10.0
POLL = 0.5
_logger = logging.getLogger(__name__)

T = TypeVar("T")


async def in_thread(function: Callable[[], T]) -> T:
    """Run what blocks (the database, the bus) in a thread of its own."""
    return await to_thread.run_sync(function)


async def directly(function: Callable[[], T]) -> T:
    """Run what blocks at once, for a simulation in one thread."""
    return function()


class Worker:
    """Serves the systems of `handlers`, which must be all the systems of their kinds that this group
    serves.
    """

    def __init__(
        self,
        *,
        bus: Bus,
        keys: RequestKeys,
        installation: InstallationSeal,
        handlers: Mapping[str, Handler],
        clock: Callable[[], int],
        concurrency: int = 8,
        call_limit: float = 120.0,
        drain: float = 30.0,
        group: str = GROUP,
        metrics: WorkerMetrics | None = None,
        run_blocking: Callable[[Callable[[], Any]], Awaitable[Any]] = in_thread,
        schemas: Resolver | None = None,
        outages: tuple[type[Exception], ...] = (),
        left: Collection[str] = (),
    ) -> None:
        """`left` are kinds that no system has any more: what their parties still answer is kept."""
        self._bus = bus
        self._outages = outages
        self._concurrency = concurrency
        self._drain = drain
        self._group = group
        self._run_blocking = run_blocking
        self._execution = Execution(
            keys=keys,
            installation=installation,
            handlers=handlers,
            clock=clock,
            call_limit=call_limit,
            run_blocking=run_blocking,
            metrics=metrics,
            schemas=schemas,
            outages=outages,
            left=left,
        )
        kinds = sorted({handler.kind for handler in handlers.values()})
        self._topics = [name(kind) for kind in kinds for name in (topics.commands, topics.callbacks)]
        self._topics += [topics.callbacks(kind) for kind in sorted(left)]
        self._turns: dict[tuple[str, str], tuple[anyio.Lock, list[int]]] = {}

    def subscribe(self) -> Subscription:
        """Join the group; for `step` and `serve`, whose caller owns the subscription."""
        return self._bus.subscribe(self._group, self._topics)

    # --- one record

    async def handle(self, delivery: Delivery) -> None:
        """Carry out one record and publish its answer; when this returns, the record may be acknowledged."""
        place = (delivery.topic, delivery.key or f"{delivery.partition}/{delivery.offset}")
        lock, waiting = self._turns.setdefault(place, (anyio.Lock(), []))
        waiting.append(delivery.offset)
        try:
            async with lock:
                records = await self._carried_out(delivery)
                if records and not await self._publish(records):
                    await self._publish_instead(self._execution.too_large(delivery))
        finally:
            waiting.remove(delivery.offset)
            if not waiting:
                self._turns.pop(place, None)

    async def _carried_out(self, delivery: Delivery) -> list[Record]:
        wait = FIRST_WAIT
        while True:
            try:
                return await self._execution.carry_out(delivery)
            except self._outages as error:
                _logger.warning("store_unavailable", extra={"type": type(error).__name__, "seconds": wait})
            except GenerationUnknown as error:
                # A change of keys reaches one process after another.
                _logger.warning(
                    "master_key_not_there", extra={"generation": error.details["number"], "seconds": wait}
                )
            await anyio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)

    async def _publish(self, records: list[Record]) -> bool:
        """Publish the records when the bus takes them; False where it never will, for their size."""
        wait = FIRST_WAIT
        while True:
            try:
                await self._run_blocking(lambda: self._bus.publish(records))
                return True
            except RecordTooLarge:
                return False
            except BusUnavailable as error:
                _logger.warning("publish_failed", extra={"code": error.code, "seconds": wait})
                await anyio.sleep(wait)
                wait = min(wait * 2, LONGEST_WAIT)

    async def _publish_instead(self, records: list[Record]) -> None:
        """Publish what stands for an answer that was too large, until its topic takes at least that: letting
        go of the record would lose it.
        """
        while True:
            if await self._publish(records):
                return
            await anyio.sleep(LONGEST_WAIT)

    # --- one event loop for everything

    async def step(self, subscription: Subscription, *, max_records: int | None = None) -> int:
        """One round: poll without waiting, carry out what came, acknowledge; how many records there were."""
        deliveries = subscription.poll(0.0, max_records or self._concurrency)
        async with anyio.create_task_group() as group:
            for delivery in deliveries:
                group.start_soon(self._handle_and_ack, subscription, delivery)
        return len(deliveries)

    async def serve(self, subscription: Subscription, stop: anyio.Event, *, idle: float = 0.05) -> None:
        """Go on until `stop`, then drain. `idle` is the wait between two polls that brought nothing."""
        free = anyio.Semaphore(self._concurrency)
        async with anyio.create_task_group() as group:
            while not stop.is_set():
                begun = await self._begin(subscription, group, free)
                if not begun:
                    with anyio.move_on_after(idle):
                        await stop.wait()
            with anyio.move_on_after(self._drain):
                for _ in range(self._concurrency):
                    await free.acquire()
            group.cancel_scope.cancel()

    async def _begin(self, subscription: Subscription, group: TaskGroup, free: anyio.Semaphore) -> int:
        if not free.value:
            return 0
        try:
            deliveries = subscription.poll(0.0, free.value)
        except BusUnavailable as error:
            _logger.warning("poll_failed", extra={"code": error.code})
            return 0
        for delivery in deliveries:
            free.acquire_nowait()
            group.start_soon(self._handle_and_ack, subscription, delivery, free)
        return len(deliveries)

    async def _handle_and_ack(
        self, subscription: Subscription, delivery: Delivery, free: anyio.Semaphore | None = None
    ) -> None:
        try:
            await self.handle(delivery)
            subscription.ack(delivery)
        finally:
            if free is not None:
                free.release()

    # --- a thread for the subscription

    def run(self, stop: Event) -> None:
        """Serve until `stop` is set; blocks. This thread makes every call to the subscription."""
        ended: queue.SimpleQueue[tuple[Delivery, Future[None]]] = queue.SimpleQueue()
        flying: dict[Future[None], Delivery] = {}
        with start_blocking_portal() as portal, self.subscribe() as subscription:

            def begin(delivery: Delivery) -> None:
                future: Future[None] = portal.start_task_soon(self.handle, delivery)
                flying[future] = delivery
                future.add_done_callback(lambda done: ended.put((delivery, done)))

            def settle(timeout: float) -> None:
                """Acknowledge what has ended; waits for the first."""
                while flying:
                    try:
                        delivery, done = ended.get(timeout=timeout) if timeout else ended.get_nowait()
                    except queue.Empty:
                        return
                    del flying[done]
                    if not done.cancelled() and done.exception() is None:
                        subscription.ack(delivery)
                    elif not done.cancelled():
                        _logger.error("worker_error", extra={"type": type(done.exception()).__name__})
                        raise RuntimeError("the worker failed; its records are given back") from None
                    timeout = 0.0

            try:
                wait = FIRST_WAIT
                while not stop.is_set():
                    settle(POLL if len(flying) >= self._concurrency else 0.0)
                    free = self._concurrency - len(flying)
                    # With work in flight the poll is short, so that what ends is acknowledged soon. With no
                    # hands free it asks for nothing, which keeps this reader, and its work, in the group.
                    try:
                        for delivery in subscription.poll(
                            0.0 if not free else POLL / 5 if flying else POLL, free
                        ):
                            begin(delivery)
                        wait = FIRST_WAIT
                    except BusUnavailable as error:
                        _logger.warning("poll_failed", extra={"code": error.code, "seconds": wait})
                        stop.wait(wait)
                        wait = min(wait * 2, LONGEST_WAIT)
                until = monotonic() + self._drain
                while flying and monotonic() < until:
                    settle(min(POLL, max(0.01, until - monotonic())))
            finally:
                for future in list(flying):
                    future.cancel()
                if flying:
                    _logger.warning("worker_gave_back", extra={"count": len(flying)})
