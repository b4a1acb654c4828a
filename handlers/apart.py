"""One verb of one handler, run apart: whatever it raises or leaves behind is its own command's fault.

The rules:

* A verb runs in a task of its own. What it raises comes back as an `Exception`: a panic of a library and
  `SystemExit` as `HandlerPanic`, a cancellation that the verb made itself as `HandlerCancelled`, and of a
  group of exceptions the one that weighs most.
* The tasks that a verb makes, and that these make, are known. When it ends, or its time is over, it loses
  its permit at once, and then the tasks that are left are cancelled.
* asyncio ends its loop for `SystemExit` and `KeyboardInterrupt` in any task, and with it every neighbour. In
  a verb's tasks they never get so far. No signal is lost by it: Python raises one in the main thread alone,
  which is not the loop's.
* What does not end when it is cancelled is left to itself after `GRACE` seconds, without a permit.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final, TypeVar

import anyio
from typing_extensions import override

from handlers.port import Expired, Permanent, Refused, Retryable

#: How long what was cancelled may take to end, in seconds, and when it is cancelled once more.
GRACE: Final = 2.0
_AGAIN: Final = 0.5
_logger = logging.getLogger(__name__)

T = TypeVar("T")
_Tasks = set["asyncio.Task[Any]"]
_TASKS: ContextVar[_Tasks | None] = ContextVar("tasks of the verb", default=None)


class HandlerPanic(Exception):
    """A handler raised what is no Exception; `type` is the name of what it raised."""

    def __init__(self, type_: str) -> None:
        super().__init__(type_)
        self.type = type_


class HandlerCancelled(Exception):
    """A handler cancelled itself, or awaited what was cancelled."""


class Apart:
    """One run of a verb, with at most `limit` seconds. `outages` weigh more than any other exception;
    `about` names the command in the log.
    """

    def __init__(
        self, limit: float, *, outages: tuple[type[Exception], ...] = (), about: Mapping[str, Any]
    ) -> None:
        self._limit = limit
        self._outages = outages
        self._about = about
        self._tasks: _Tasks = set()
        self._is_over = False

    def is_in_force(self) -> bool:
        """Return whether the verb still runs, and within its time: without that nothing may be erased."""
        return not self._is_over

    async def run(self, verb: Callable[[], Awaitable[T]]) -> T:
        """Return what the verb returns, or raise the `Exception` that stands for what it raised.

        Raises:
            TimeoutError: the verb had not ended in time.
        """
        loop = asyncio.get_running_loop()
        _know_tasks(loop)
        context = copy_context()
        context.run(_TASKS.set, self._tasks)
        task = loop.create_task(_awaited(verb), context=context)
        is_late = False
        try:
            await asyncio.wait({task}, timeout=self._limit)
            is_late = not task.done()
        finally:
            self._is_over = True
            with anyio.CancelScope(shield=True):
                await self._end_tasks()
        if not task.done():
            raise TimeoutError
        if task.cancelled():
            raise TimeoutError if is_late else HandlerCancelled
        error = task.exception()
        if error is None:
            return task.result()
        raise max(map(_as_exception, _leaves(error)), key=self._weight) from None

    async def _end_tasks(self) -> None:
        until = anyio.current_time() + GRACE
        while left := {task for task in self._tasks if not task.done()}:
            if anyio.current_time() >= until:
                _logger.error("handler_does_not_end", extra={**self._about, "count": len(left)})
                return
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=_AGAIN)

    def _weight(self, error: Exception) -> tuple[int, int]:
        """Return how much an exception weighs: what a person has to mend more than what may pass."""
        if isinstance(error, self._outages):
            return 7, 0
        match error:
            case Permanent():
                return 6, 0
            case Expired():
                return 3, 0
            case TimeoutError():
                return 2, 0
            case Retryable():
                return 1, error.retry_after or 0
            case HandlerCancelled() | Refused():
                return 0, 0
            case HandlerPanic():
                return 5, 0
            case _:
                return 4, 0


async def _awaited(verb: Callable[[], Awaitable[T]]) -> T:
    return await verb()


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


def _as_exception(error: BaseException) -> Exception:
    if isinstance(error, asyncio.CancelledError):
        return HandlerCancelled()
    return error if isinstance(error, Exception) else HandlerPanic(type(error).__name__)


def type_of(error: Exception) -> str:
    """Return the name of the type of what was raised, which is all that the log may say of it."""
    return error.type if isinstance(error, HandlerPanic) else type(error).__name__


# --- the tasks of a verb ---


def _know_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Have the loop note each task with the verb that makes it; once for each loop."""
    before = loop.get_task_factory()
    if not isinstance(before, _Factory):
        loop.set_task_factory(_Factory(before))


class _Factory:
    """Makes the tasks of a loop, as `before` did; a verb's are noted, and contain what they raise."""

    def __init__(self, before: Any) -> None:
        self._before = before

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, *, context: Context | None = None, **more: Any
    ) -> Any:
        tasks = _TASKS.get() if context is None else context.get(_TASKS)
        if tasks is not None:
            coroutine = _Contained(coroutine)
        if context is not None:
            more["context"] = context
        made = (self._before or _task)(loop, coroutine, **more)
        if tasks is not None:
            tasks.add(made)
            made.add_done_callback(lambda done: _ended(done, tasks))
        return made


def _ended(task: "asyncio.Task[Any]", tasks: _Tasks) -> None:
    tasks.discard(task)
    if not task.cancelled():
        # Looked at, so that asyncio doesn't tell of it: nobody awaits what was left behind.
        task.exception()


def _task(loop: asyncio.AbstractEventLoop, coroutine: Any, **more: Any) -> "asyncio.Task[Any]":
    return asyncio.Task(coroutine, loop=loop, **more)


class _Contained(Coroutine[Any, Any, Any]):
    """A coroutine that raises a `HandlerPanic` in place of what would end the loop."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        # Its name and its state, by which anyio knows it.
        return getattr(self._inner, name)

    @override
    def __await__(self) -> Any:
        return self._inner.__await__()

    @override
    def send(self, value: Any, /) -> Any:
        try:
            return self._inner.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise HandlerPanic(type(error).__name__) from None

    @override
    def throw(self, *error: Any) -> Any:
        try:
            return self._inner.throw(*error)
        except (SystemExit, KeyboardInterrupt) as raised:
            raise HandlerPanic(type(raised).__name__) from None

    @override
    def close(self) -> None:
        self._inner.close()
