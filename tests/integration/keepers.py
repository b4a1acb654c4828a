"""Processes that keep a server for a whole test run, and end it when the run is over, however it came to
its end: even when nobody was left to end anything.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


class _Keeper(subprocess.Popen[bytes]):
    """Outlives us. Left to itself, its object would warn of that at our end, when no filter hears it."""

    def __del__(self) -> None:
        """Nothing is missed."""


_begun: list[_Keeper] = []


class Ended(Exception):
    """The keeper could not start its server; the message is the last that it said."""


def owner() -> int:
    """The process that all of this run's have in common."""
    return os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()


def begin(note: Path, module: str, *words: str) -> str:
    """Runs `module` as a keeper; returns what it notes of its server once that answers. Raises Ended."""
    log = note.with_suffix(".log")
    with log.open("wb") as output:
        keeper = _Keeper(
            [sys.executable, "-m", module, *words, str(note), str(owner())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            start_new_session=True,
        )
    _begun.append(keeper)
    while not note.exists():
        if keeper.poll() is not None:
            lines = log.read_text().splitlines()
            raise Ended(lines[-1] if lines else "its keeper ended")
        time.sleep(0.05)
    return note.read_text()


def keep(note: Path, process: int, said: str) -> None:
    """In the keeper: notes what is to be known of the server, and returns when `process` has ended."""
    written = note.with_suffix(".new")
    written.write_text(said)
    written.rename(note)
    while _lives(process):
        time.sleep(0.5)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
