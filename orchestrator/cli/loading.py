"""What a command loads, and what it need not.

A third of the time to load is for nothing: the garbage collector looks again and again through all that is
being loaded, of which nothing can go; and httpx loads a command line of its own, with rich and a highlighter
of programs, wherever those are installed. What is loaded stays, so the collector is told to leave it out
afterwards, too: else it looks through all of it once more as it is switched on, and at the end of the process
several times, which is another third of what a short command takes.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """While modules are loaded."""
    # None stands for a module that can't be imported, and httpx does without this one.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # typeshed knows modules alone
    was_on = gc.isenabled()
    known = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > known:
            gc.freeze()
        if was_on:
            gc.enable()
