"""The roles as processes, and a supervisor that starts again what ended, as an operator of containers does.

* A process that ends by itself is started again after a moment, and it is noted with its exit code.
* One that was told to end by SIGTERM has to end with 0, in time; one that was not up yet may just end.
* What a process writes goes into one file, through all its lives.
* Every life has a name of its own, and what it mails comes from an address that says whose it is.
"""

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import httpx

from tests.integration.ports import free_port
from tests.integration.processes import RADERA, environment

_AGAIN_AFTER = 1.0
_STOP_LIMIT = 30.0
_LIVES = itertools.count(1)

What = Literal["started", "killed", "stopped", "woken", "told to end", "ended by itself"]


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to a life, and when, in seconds since the epoch."""

    at: float
    role: str
    life: str
    what: What


@dataclass(slots=True)
class Process:
    """One replica of a role, one life after another."""

    name: str
    role: str
    words: tuple[str, ...]
    config: Path
    log: Path
    port: int = field(default_factory=free_port)
    #: Of the address that its mail comes from; without, it is the configured one.
    domain: str | None = None
    changes: list[Change] = field(default_factory=list)
    life: str = ""
    running: subprocess.Popen[bytes] | None = None
    is_wanted: bool = False
    is_stopped: bool = False
    again_at: float = 0.0
    _began: int = 0

    @property
    def has_been_up(self) -> bool:
        """Whether this life has said that it is there."""
        with self.log.open("rb") as log:
            log.seek(self._began)
            return b"radera: " + self.words[0].encode() in log.read()

    @property
    def is_alive(self) -> bool:
        return self.running is not None and self.running.poll() is None

    def start(self) -> None:
        self.is_wanted = True
        self.life = f"{self.name}.{next(_LIVES)}"
        self.changed("started")
        sender = {} if self.domain is None else {"RADERA_SMTP__SENDER": f"{self.life}@{self.domain}"}
        self.log.touch()
        self._began = self.log.stat().st_size
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                [RADERA, *self.words, "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(RADERA_HTTP__PORT=str(self.port), PYTHONFAULTHANDLER="1", **sender),
            )

    def changed(self, what: What) -> None:
        self.changes.append(Change(time.time(), self.role, self.life, what))

    def kill(self) -> None:
        """SIGKILL; it stays down until it is started."""
        self.is_wanted = self.is_stopped = False
        if self.running is not None:
            self.changed("killed")
            self.running.kill()
            self.running.wait()

    def stop(self) -> None:
        """SIGSTOP: alive, and does nothing, not even die."""
        assert self.running is not None
        self.changed("stopped")
        self.running.send_signal(signal.SIGSTOP)
        self.is_stopped = True

    def wake(self) -> None:
        assert self.running is not None
        self.changed("woken")
        self.running.send_signal(signal.SIGCONT)
        self.is_stopped = False

    def probe(self, path: str) -> int:
        """The status of one of its own pages; 0 if nobody answers."""
        try:
            with httpx.Client(trust_env=False, timeout=15.0) as client:
                return client.get(f"http://127.0.0.1:{self.port}{path}").status_code
        except httpx.TransportError:
            return 0


@dataclass(frozen=True, slots=True)
class _Ending:
    """A life that was asked to end."""

    name: str
    running: subprocess.Popen[bytes]
    was_up: bool

    def wait(self) -> None:
        """One that does not end is made to, and says where it was; that shows as -6."""
        try:
            self.running.wait(_STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self.running.send_signal(signal.SIGABRT)
            self.running.wait()


class Fleet:
    """All processes of an installation, each with the settings of its command's account and mail from its own
    address at `domain`. `note` hears of what nobody ordered.
    """

    def __init__(
        self, configs: Mapping[str, Path], logs: Path, domain: str, note: Callable[[str], None]
    ) -> None:
        self._configs = configs
        self._logs = logs
        self._domain = domain
        self._note = note
        self.processes: dict[str, Process] = {}
        #: All that happened to any of them, in order.
        self.changes: list[Change] = []
        #: Ends that were asked for and did not come as they should.
        self.bad_ends: list[str] = []
        self._ending: list[_Ending] = []

    def add(self, role: str, *words: str, port: int | None = None) -> Process:
        """One more replica of a role, running."""
        taken = {one.name for one in self.processes.values() if one.is_wanted}
        name = next(name for n in range(1, 100) if (name := f"{role}-{n}") not in taken)
        process = self.processes.get(name)
        if process is None or process.is_alive:
            process = Process(
                name,
                role,
                words,
                self._configs[words[0]],
                self._logs / f"{name}.log",
                domain=self._domain,
                changes=self.changes,
            )
            self.processes[name] = process
        process.port = port or process.port
        process.start()
        return process

    def of(self, role: str) -> list[Process]:
        """The replicas of a role that should be there."""
        return [one for one in self.processes.values() if one.role == role and one.is_wanted]

    def victims(self) -> list[Process]:
        """Whatever runs and can be hit."""
        return [
            one for one in self.processes.values() if one.is_alive and one.is_wanted and not one.is_stopped
        ]

    def end(self, process: Process) -> None:
        """SIGTERM; that it ends well is seen later."""
        assert process.running is not None
        # The process may be started again before its end is seen.
        self._ending.append(_Ending(process.name, process.running, process.has_been_up))
        process.is_wanted = False
        process.changed("told to end")
        process.running.send_signal(signal.SIGTERM)

    def supervise(self) -> None:
        """Starts again what ended by itself; sees how those ended that were asked to."""
        now = time.monotonic()
        for process in self.processes.values():
            if not process.is_wanted or process.is_alive:
                continue
            if not process.again_at:
                assert process.running is not None
                self._note(f"{process.name} ended by itself with {process.running.returncode}")
                process.changed("ended by itself")
                process.again_at = now + _AGAIN_AFTER
            elif now >= process.again_at:
                process.again_at = 0.0
                process.start()
        for ending in list(self._ending):
            if ending.running.poll() is not None:
                self._ending.remove(ending)
                self._judge(ending)

    def end_all(self) -> None:
        """SIGTERM to all, and waits for them."""
        for process in self.processes.values():
            if process.is_alive and process.is_wanted:
                self.end(process)
        self.await_ends()

    def await_ends(self) -> None:
        """Waits for those that were asked to end."""
        for ending in self._ending:
            ending.wait()
            self._judge(ending)
        self._ending.clear()

    def discard(self) -> None:
        """Whatever they are doing."""
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                process.kill()

    def seconds(self) -> dict[str, float]:
        """Of the processor, by role, in the lives that still go on."""
        spent: dict[str, float] = {}
        for process in self.processes.values():
            if process.running is not None and process.is_alive:
                fields = Path(f"/proc/{process.running.pid}/stat").read_text().rpartition(")")[2].split()
                ticks = int(fields[11]) + int(fields[12])
                spent[process.role] = spent.get(process.role, 0.0) + ticks / os.sysconf("SC_CLK_TCK")
        return spent

    def said(self) -> Iterator[tuple[str, str]]:
        """Every line of every log, with the process's name."""
        for file in sorted(self._logs.glob("*.log")):
            for line in file.read_text(errors="replace").splitlines():
                yield file.stem, line

    def _judge(self, ending: "_Ending") -> None:
        code = ending.running.returncode
        early = code == -signal.SIGTERM and not ending.was_up
        if code and not early:
            self.bad_ends.append(f"{ending.name} ended with {code} on SIGTERM")
            self._note(self.bad_ends[-1])
