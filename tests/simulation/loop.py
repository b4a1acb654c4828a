"""An event loop in which time passes only when somebody says so.

`time()` is the simulation's clock. Nothing is ever waited for: the selector answers at once, and a timer
fires in the first turn after the clock has passed it. The owner runs one turn at a time, so that tasks of
one process and the steps of others interleave as the seed has it; who doesn't turn the loop has stopped the
process.
"""

import asyncio
import heapq
import math
import selectors
import sys
from asyncio import events
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextvars import Context
from typing import Any

from typing_extensions import TypeVarTuple, Unpack, override

Args = TypeVarTuple("Args")

SECOND = 1_000_000


class Clock:
    """The time of everything in a world, in microseconds UTC; it only moves when it is told to."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance_to(self, moment: int) -> None:
        self.now = max(self.now, moment)


class _NeverWaiting(selectors.SelectSelector):
    @override
    def select(self, timeout: float | None = None) -> list[Any]:
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop on a `Clock`."""

    # asyncio's own, and the one way to know whether a turn would do anything, and to make one alone.
    _ready: deque[asyncio.Handle]
    _run_once: Callable[[], None]
    _asyncgen_firstiter_hook: Callable[[AsyncGenerator[Any, Any]], None]
    _asyncgen_finalizer_hook: Callable[[AsyncGenerator[Any, Any]], None]

    def __init__(self, clock: Clock) -> None:
        self._micros = clock
        self._origin = clock.now
        super().__init__(_NeverWaiting())
        self._turned_at, self._turned_with = -1.0, 0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._made = 0

    @override
    def time(self) -> float:
        return (self._micros.now - self._origin) / SECOND

    @override
    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Args]], object],
        *args: *Args,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = super().call_at(when, callback, *args, context=context)
        self._made += 1
        # What is due by now fires in the next turn: this one has looked at its timers already.
        heapq.heappush(
            self._timers, (max(when, math.nextafter(self._turned_at, math.inf)), self._made, handle)
        )
        return handle

    @property
    def is_ready(self) -> bool:
        """Whether a turn would do anything now."""
        due_at = self.next_due_at()
        return bool(self._ready) or (due_at is not None and due_at <= self._micros.now)

    def next_due_at(self) -> int | None:
        """When the next timer fires, in microseconds; None without one.

        A turn fires each timer that is due and was there when it began. One that it made for now is still to
        fire.
        """
        timers = self._timers
        while timers and (timers[0][2].cancelled() or self._has_fired(*timers[0][:2])):
            heapq.heappop(timers)
        return self._origin + int(timers[0][0] * SECOND) + 1 if timers else None

    def _has_fired(self, when: float, number: int) -> bool:
        return when <= self._turned_at and number <= self._turned_with

    def turn(self) -> None:
        """Runs what is ready, once: `run_forever` for one round, without what it sets up and takes down."""
        self._turned_at, self._turned_with = self.time(), self._made
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(self._asyncgen_firstiter_hook, self._asyncgen_finalizer_hook)
        events._set_running_loop(self)
        try:
            self._run_once()
        finally:
            events._set_running_loop(None)
            sys.set_asyncgen_hooks(*hooks)

    def discard(self) -> None:
        """Ends the loop of a process that is dead: its tasks are cancelled and can do nothing any more."""
        self.set_exception_handler(lambda loop, context: None)
        # Begun first: a coroutine that is thrown away before its first step is warned of.
        for _ in range(3):
            self.turn()
        for _ in range(50):
            pending = asyncio.all_tasks(self)
            if not pending:
                break
            for task in pending:
                task.cancel()
            self.turn()
        self.close()
