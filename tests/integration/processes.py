"""Radera and the vendors' stand-ins as processes of their own, to be watched, signalled and killed.

* The stand-ins outlive every death of Radera: what their ledger says is what happened.
* What a process writes goes into one file, through all its lives. A test that fails shows its end.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

RADERA = str(Path(sys.executable).with_name("radera"))
READY = b"radera: up, "
TAIL = 80


def eventually(what: str, holds: Callable[[], bool], *, within: float, every: float = 0.05) -> None:
    """Waits until `holds()`; fails with `what` when it does not within so many seconds."""
    until = time.monotonic() + within
    while not holds():
        if time.monotonic() > until:
            raise AssertionError(f"not within {within:.0f} s: {what}")
        time.sleep(every)


def environment(**changed: str) -> dict[str, str]:
    """Ours, without what would change the settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RADERA_")}
    return {**kept, **changed}


class Radera:
    """`radera up`, one life after another, with one configuration."""

    def __init__(self, config: Path, log: Path) -> None:
        self.config = config
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def spawn(self) -> None:
        """Starts it, and does not wait."""
        assert not self.is_alive, "it is running already"
        self.log.touch()
        self._began = self.log.stat().st_size
        temporary = self.log.parent / "tmp"
        temporary.mkdir(exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [RADERA, "up", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(TMPDIR=str(temporary), SQLITE_TMPDIR=str(temporary), PYTHONFAULTHANDLER="1"),
            )

    def start(self, within: float = 40.0) -> None:
        """Starts it; returns when it says that it is up."""
        self.spawn()
        self.await_ready(within)

    def await_ready(self, within: float = 40.0) -> None:
        def is_up() -> bool:
            assert self.is_alive, f"it ended with {self._running().returncode} instead of being up"
            return self.is_ready

        eventually("radera up is ready", is_up, within=within, every=0.01)

    @property
    def is_ready(self) -> bool:
        return READY in self.said()

    def said(self) -> bytes:
        """What this life has written so far."""
        with self.log.open("rb") as log:
            log.seek(self._began)
            return log.read()

    def kill(self) -> None:
        """SIGKILL, at once."""
        process = self._running()
        process.kill()
        process.wait()

    def signal(self, number: signal.Signals) -> None:
        self._running().send_signal(number)

    def wait(self, within: float) -> int:
        """Waits for the end; gives the exit code."""
        try:
            return self._running().wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"radera up did not end within {within:.0f} s") from None

    def stop(self) -> None:
        """Ends it decently, and fails if it doesn't."""
        self.signal(signal.SIGTERM)
        code = self.wait(30.0)
        assert code == 0, f"radera up ended with {code}"

    def abort(self) -> None:
        """Ends it so that it writes where each of its threads was; for the report of a failure."""
        if self.is_alive:
            self.signal(signal.SIGABRT)
            self._running().wait()

    def discard(self) -> None:
        """Whatever it is doing."""
        if self.is_alive:
            self.kill()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was never started"
        return self._process


class Vendors:
    """The stand-ins, served by `tests.integration.vendors`, and their controls."""

    def __init__(self, process: subprocess.Popen[str], control: httpx.Client, mail: Path) -> None:
        self._process = process
        self._control = control
        self._mail = mail
        self.port = 0
        self.smtp_port = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    def seed(self, seed: dict[str, Any]) -> dict[str, list[str]]:
        ids: dict[str, list[str]] = self._post("seed", seed)["ids"]
        return ids

    def fault(self, kind: str, **match: Any) -> None:
        self._post("faults", {"kind": kind, **match})

    def clear_faults(self) -> None:
        self._control.delete("/_sandbox/faults").raise_for_status()

    def ledger(self) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = self._get("ledger")["ledger"]
        return lines

    def holds(self, *identifiers: str) -> list[dict[str, Any]]:
        held: list[dict[str, Any]] = self._post("holds", {"identifiers": list(identifiers)})["holds"]
        return held

    def pending(self) -> list[dict[str, Any]]:
        jobs: list[dict[str, Any]] = self._get("pending")["pending"]
        return jobs

    def public_key(self) -> str:
        return self._control.get("/_sandbox/superoffice/key.pem").text

    def mails(self) -> list[bytes]:
        """Every mail that was taken, as it came."""
        return [file.read_bytes() for file in sorted(self._mail.glob("*.eml"))]

    def _get(self, path: str) -> dict[str, Any]:
        answer = self._control.get(f"/_sandbox/{path}")
        answer.raise_for_status()
        content: dict[str, Any] = answer.json()
        return content

    def _post(self, path: str, content: dict[str, Any]) -> dict[str, Any]:
        answer = self._control.post(f"/_sandbox/{path}", json=content)
        answer.raise_for_status()
        said: dict[str, Any] = answer.json()
        return said


@contextmanager
def vendors(directory: Path) -> Iterator[Vendors]:
    """The stand-ins in a process of their own, with everything they hold in `directory`."""
    command = [sys.executable, "-m", "tests.integration.vendors", str(directory)]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env=environment()) as process:
        try:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            assert ["sandbox", "ready"] == words[:2], "the stand-ins did not start"
            with httpx.Client(base_url=words[2], trust_env=False, timeout=30.0) as control:
                served = Vendors(process, control, directory / "mail")
                served.port = httpx.URL(words[2]).port or 0
                served.smtp_port = httpx.URL(words[3]).port or 0
                yield served
        finally:
            process.kill()


_HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another process holds the database's write lock, as a tool does that somebody left open."""
    holder = [sys.executable, "-c", _HOLD, str(database)]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert "held\n" == process.stdout.readline()
            yield
        finally:
            process.kill()


def command(config: Path, *words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """One run of a `radera` command to its end, `given` on its standard input."""
    length = 2 if words[0] in ("keys", "config") else 1
    return subprocess.run(
        [RADERA, *words[:length], "--config", str(config), *words[length:]],
        input=given if given is not None else "",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(),
    )


def contents(path: Path) -> bytes:
    """What is in a file, read by another process: nothing if there is no such file.

    A process that closes a database's file drops all its locks on it, also those of its own connections
    (POSIX), and whoever stops next takes the log away under them.
    """
    return subprocess.run(["/bin/cat", str(path)], capture_output=True, check=False).stdout


def copy(path: Path, target: Path) -> None:
    """A copy of a file, if there is one; in the same way."""
    if path.exists():
        target.write_bytes(contents(path))


def tail(file: Path, lines: int = TAIL) -> str:
    """The end of a log, for a failure's message."""
    if not file.exists():
        return "(nothing was written)"
    return "\n".join(file.read_text(errors="replace").splitlines()[-lines:])
