"""The trace that calls to vendors carry on: the command's, with a parent of its own for each call.

It names a trace, which is a random number, and nobody. What else is known of the trace stays here.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count

from schemas.traceparent import HEADER, traceparent

_calls: ContextVar[Iterator[str] | None] = ContextVar("calls of the command in hand", default=None)


@contextmanager
def in_trace(trace: str | None, cause: str) -> Iterator[None]:
    """Calls made within, also by tasks that are started within, belong to the trace; `cause` is the
    command's id. With no trace they carry none.
    """
    calls = None if trace is None else (traceparent(trace, f"{cause}/call/{n}") for n in count(1))
    before = _calls.set(calls)
    try:
        yield
    finally:
        _calls.reset(before)


def trace_headers() -> Mapping[str, str]:
    """The headers of the next call."""
    calls = _calls.get()
    return {} if calls is None else {HEADER: next(calls)}
