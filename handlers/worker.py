"""The worker: takes commands and callbacks from the bus, has them carried out, publishes the answers, and
acknowledges.

The rules:

* A record is acknowledged when its answer is safely published, and not before. While the bus is away the
  worker backs off and tries to publish again; a restart repeats the command, which handlers bear. An answer
  that the bus takes in no size gives way to one that says so: the vendor is not asked again for its sake.
* One record's fault is its own. Whatever carrying it out raises, it is answered or kept, and nobody else's is
  cancelled or given back for it.
* What is raised for a store that is away (`outages`) says nothing about a record: it is carried out again
  when the store is back. Were it answered, an attempt would be lost, and with a callback the answer of a
  party that was given a link to answer once.
* At most `concurrency` records are in flight, and no more are polled than that. Two records of one request
  for one topic are carried out one after the other; the later one holds no hand while it waits (`turns`).
* A subscription belongs to one thread. `run` keeps the caller's thread for it and carries out the work in
  another, which has the event loop; `serve` does all of it in one event loop, for a simulation with a clock
  of its own; `step` is one round of `serve`.
* On a stop: nothing new is begun, what is in flight has `drain` seconds to end, and the rest is given back
  unacknowledged.
"""

import logging
import queue
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import Future
from threading import Event
from time import monotonic
from typing import Any, TypeVar

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup
from anyio.from_thread import start_blocking_portal

from handlers.execution import OUR_FAULT, TOO_LARGE, Execution, WorkerMetrics
from handlers.letters import InstallationSeal
from handlers.registry import Handler
from handlers.turns import Turns
from orchestrator.bus.port import Bus, BusUnavailable, Delivery, Record, RecordTooLarge, Subscription
from orchestrator.privacy import GenerationUnknown, RequestKeys
from schemas import topics
from schemas.codec import Resolver

GROUP = "worker"
FIRST_WAIT = 0.1
LONGEST_WAIT = 10.0
POLL = 0.5
#: How often publishing may fail in a way that is no outage of the bus, before the answer gives way.
MOST_FAULTS = 3
_logger = logging.getLogger(__name__)

T = TypeVar("T")
#: What ends a task, a loop or a process, and is no fault of a record.
_ENDS = (CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit)


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
        self._turns = Turns(concurrency)

    def subscribe(self) -> Subscription:
        """Join the group; for `step` and `serve`, whose caller owns the subscription."""
        return self._bus.subscribe(self._group, self._topics)

    # --- one record

    async def handle(self, delivery: Delivery) -> None:
        """Carry out one record and publish its answer; when this returns, the record may be acknowledged."""
        records = await self._carried_out(delivery)
        fault = await self._publish(records) if records else None
        while fault is not None:
            # What stands for the answer is published, or waited for: letting go of the record would lose it.
            fault = await self._publish(self._execution.instead(delivery, fault))
            if fault is not None:
                await anyio.sleep(LONGEST_WAIT)

    async def _in_turn(self, delivery: Delivery, ended: Callable[[Delivery], object]) -> None:
        """Carry out a record, and then those that wait for it, one after the other; `ended` hears of each."""
        turn: Delivery | None = delivery
        while turn is not None:
            try:
                await self.handle(turn)
                ended(turn)
            except BaseException:
                self._turns.give_up(turn)
                raise
            turn = self._turns.end(turn)

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
            except _ENDS:
                raise
            except BaseException as error:
                # A fault of ours, or a panic in a library of ours.
                _logger.error("worker_error", extra={"type": type(error).__name__})
                return self._execution.instead(delivery, OUR_FAULT)
            await anyio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)

    async def _publish(self, records: list[Record]) -> str | None:
        """Publish the records when the bus takes them; return why it never will, or None."""
        wait, faults = FIRST_WAIT, 0
        while True:
            try:
                await self._run_blocking(lambda: self._bus.publish(records))
                return None
            except RecordTooLarge:
                return TOO_LARGE
            except BusUnavailable as error:
                _logger.warning("publish_failed", extra={"code": error.code, "seconds": wait})
            except Exception as error:
                faults += 1
                _logger.error("worker_error", extra={"type": type(error).__name__, "failures": faults})
                if faults >= MOST_FAULTS:
                    return OUR_FAULT
            await anyio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)

    # --- one event loop for everything

    async def step(self, subscription: Subscription, *, max_records: int | None = None) -> int:
        """One round: poll without waiting, carry out what came, acknowledge; how many records there were."""
        deliveries = subscription.poll(0.0, max_records or self._concurrency)
        async with anyio.create_task_group() as group:
            for delivery in deliveries:
                if self._turns.take(delivery):
                    group.start_soon(self._in_turn, delivery, subscription.ack)
        return len(deliveries)

    async def serve(self, subscription: Subscription, stop: anyio.Event, *, idle: float = 0.05) -> None:
        """Go on until `stop`, then drain. `idle` is the wait between two polls that brought nothing."""
        async with anyio.create_task_group() as group:
            while not stop.is_set():
                if not self._begin(subscription, group):
                    with anyio.move_on_after(idle):
                        await stop.wait()
            self._turns.keep(lambda _: False)
            group.cancel_scope.deadline = anyio.current_time() + self._drain

    def _begin(self, subscription: Subscription, group: TaskGroup) -> int:
        free = self._turns.free
        if not free:
            return 0
        try:
            deliveries = subscription.poll(0.0, free)
        except BusUnavailable as error:
            _logger.warning("poll_failed", extra={"code": error.code})
            return 0
        for delivery in deliveries:
            if self._turns.take(delivery):
                group.start_soon(self._in_turn, delivery, subscription.ack)
        return len(deliveries)

    # --- a thread for the subscription

    def run(self, stop: Event) -> None:
        """Serve until `stop` is set; blocks. This thread makes every call to the subscription."""
        ended: queue.SimpleQueue[Delivery | Future[None]] = queue.SimpleQueue()
        flying: set[Future[None]] = set()
        turns = self._turns = Turns(self._concurrency)
        with start_blocking_portal() as portal, self.subscribe() as subscription:

            def begin(delivery: Delivery) -> None:
                if turns.take(delivery):
                    future: Future[None] = portal.start_task_soon(self._in_turn, delivery, ended.put)
                    flying.add(future)
                    future.add_done_callback(ended.put)

            def settle(timeout: float) -> None:
                """Acknowledge what has ended; waits for the first."""
                while flying:
                    try:
                        one = ended.get(timeout=timeout) if timeout else ended.get_nowait()
                    except queue.Empty:
                        return
                    timeout = 0.0
                    if isinstance(one, Delivery):
                        subscription.ack(one)
                        continue
                    flying.discard(one)
                    error = CancelledError() if one.cancelled() else one.exception()
                    if error is not None:
                        _logger.error("worker_error", extra={"type": type(error).__name__})
                        raise RuntimeError("the worker failed; its records are given back") from None

            try:
                wait = FIRST_WAIT
                while not stop.is_set():
                    settle(0.0 if turns.free else POLL)
                    free = turns.free
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
                    if turns.has_waiting:
                        # What went to another reader with its partition is that one's to begin.
                        turns.keep(subscription.holds)
                turns.keep(lambda _: False)
                until = monotonic() + self._drain
                while flying and monotonic() < until:
                    settle(min(POLL, max(0.01, until - monotonic())))
            finally:
                for future in list(flying):
                    future.cancel()
                if flying:
                    _logger.warning("worker_gave_back", extra={"count": len(flying)})
