"""A Kafka for the tests: the one that is named, else one in a container, else one of `deploy/kafka`.

Where none can be had, the tests that need it are skipped, visibly; under CI they fail. One node serves all
workers of a run. It is stopped, and its records removed, when the run's first process is gone, however it
went.

A test that stops its broker, or reads its files, has a node of `deploy/kafka` to itself (`Node`) and can do
with nothing else.
"""

import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.settings import Kafka
from tests.ci import cannot_run
from tests.integration import containers, keepers
from tests.integration.ports import free_pair

NAMED = "RADERA_TEST_KAFKA"
SCRIPT = Path(__file__).parents[2] / "deploy" / "kafka" / "kafka"
IMAGE = "apache/kafka:4.3.1"

# Ends the node with the process that it was started for.
_KEEPER = """
import os, subprocess, sys, time
keep, stop = int(sys.argv[1]), sys.argv[2:]
while True:
    try:
        os.kill(keep, 0)
    except ProcessLookupError:
        break
    time.sleep(0.5)
subprocess.run(stop, check=False)
"""


class CannotStart(Exception):
    """There is no way to have a Kafka here; the message says what is missing."""


@dataclass(frozen=True)
class Server:
    """A broker to use. Sessions shorter than `session` are refused by it."""

    address: str
    session: float

    def settings(self, **others: object) -> Kafka:
        """As an installation on this machine would have them, with every wait short."""
        given: dict[str, object] = {
            "servers": [self.address],
            "security": "none",
            "replication": 1,
            "session": timedelta(seconds=self.session),
            "publish_limit": timedelta(seconds=10),
        }
        return Kafka.model_validate(given | others)


class Node:
    """A node of `deploy/kafka`, for a test that does things to its broker; `more` are variables that its
    script takes.
    """

    def __init__(self, data: Path, port: int, **more: str) -> None:
        self.server = Server(f"127.0.0.1:{port}", 3.0)
        self._data = data
        self._environ = os.environ | {"KAFKA_DATA": str(data), "KAFKA_PORT": str(port)} | more

    def _run(self, verb: str) -> None:
        done = subprocess.run([SCRIPT, verb], env=self._environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotStart(done.stderr.strip())

    def start(self) -> None:
        self._run("start")

    def stop(self) -> None:
        self._run("stop")

    def kill(self) -> None:
        """As a power cut would."""
        pid = int((self._data / "pid").read_text())
        os.kill(pid, 9)
        while _is_alive(pid):
            time.sleep(0.01)

    def end(self) -> None:
        """For good, and so at once: nobody reads what it would still put in order."""
        # Numbers of processes are given again: what was killed before may be another's by now.
        with suppress(FileNotFoundError, ProcessLookupError):
            pid = int((self._data / "pid").read_text())
            if b"kafka.Kafka" in Path(f"/proc/{pid}/cmdline").read_bytes():
                self.kill()

    def signal(self, number: int) -> None:
        """Sends it. A stop has come about for each thread when this returns: nothing is answered any more."""
        pid = int((self._data / "pid").read_text())
        os.kill(pid, number)
        while number == signal.SIGSTOP and not all(map(_is_stopped, Path(f"/proc/{pid}/task").iterdir())):
            time.sleep(0.001)


def _state(task: Path) -> str:
    return (task / "stat").read_text().rpartition(")")[2].split()[0]


def _is_stopped(task: Path) -> bool:
    return _state(task) == "T"


def _is_alive(pid: int) -> bool:
    try:
        return _state(Path(f"/proc/{pid}")) != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone before, and while, it is read
        return False


def can_run_here() -> bool:
    """Whether `deploy/kafka` has what it needs."""
    return bool(shutil.which("java") and shutil.which("mvn"))


def must_run_here() -> None:
    """Skips a test whose broker has to be a process of this machine where there can be none."""
    if not can_run_here():
        cannot_run("no broker of its own: no named one will do, nor a container; install a JDK and Maven")


def _keep(process: int, *stop: str | Path) -> None:
    # Through a shell, so that it is nobody's child and outlives us.
    keeper = [sys.executable, "-c", _KEEPER, str(process), *map(str, stop)]
    background = ["/bin/sh", "-c", '"$@" </dev/null >/dev/null 2>&1 &', "sh"]
    subprocess.run([*background, *keeper], check=True, start_new_session=True)


def _recipe(port: int) -> containers.Recipe:
    settings = {
        "NODE_ID": "1",
        "PROCESS_ROLES": "broker,controller",
        "CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "LISTENERS": "PLAINTEXT://0.0.0.0:9092,CONTROLLER://0.0.0.0:9093",
        "ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "AUTO_CREATE_TOPICS_ENABLE": "false",
        "GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
    }
    return containers.Recipe(IMAGE, 9092, {f"KAFKA_{key}": value for key, value in settings.items()})


def keep_container(note: Path, process: int) -> None:
    """Runs a Kafka in a container for as long as `process` lives. Raises NoContainer."""
    server = Server(f"127.0.0.1:{(port := free_pair())}", 3.0)
    with containers.running(_recipe(port), port, lambda: answers(server)):
        keepers.keep(note, process, server.address)


def _in_container(folder: Path) -> Server:
    return Server(keepers.begin(folder / "kafka-container", "tests.integration.kafka_server"), 3.0)


def _of_this_machine(folder: Path, process: int) -> Server:
    if not can_run_here():
        raise CannotStart(
            f"no Kafka: name one in {NAMED} (host:port), start Docker, or install a JDK and Maven"
        )
    return kept_node(folder / "kafka", process, free_pair())


def kept_node(data: Path, process: int, port: int, **more: str) -> Server:
    """A node of `deploy/kafka`, started, that ends with `process`."""
    node = Node(data, port, **more)
    node.start()
    # Through a shell, since the records go only when nobody writes them any more.
    stop = 'KAFKA_DATA="$1" "$2" stop; rm -rf "$1"'
    _keep(process, "/bin/sh", "-c", stop, "sh", data, SCRIPT)
    return node.server


def folder_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for all of its workers."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def once(folder: Path, name: str, start: Callable[[], str]) -> str:
    """What `start` says of what it has started: done by the first of a run's workers, and heard by all."""
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        note = folder / f"{name}.address"
        if not note.exists():
            note.write_text(start())
        return note.read_text()


def answers(server: Server) -> bool:
    """Whether a broker answers there. A container's port takes connections before there is one."""
    host, _, port = server.address.rpartition(":")
    # What each broker is asked first: which versions of the protocol it speaks.
    asked = struct.pack(">ihhih", 10, 18, 0, 1, -1)
    try:
        with socket.create_connection((host, int(port)), timeout=1) as connection:
            connection.sendall(asked)
            return len(connection.recv(8)) > 0
    except OSError:
        return False


def _awaited(server: Server) -> Server:
    until = time.monotonic() + 60
    while not answers(server):
        if time.monotonic() > until:
            raise CannotStart(f"no Kafka answers at {server.address}")
        time.sleep(0.1)
    return server


def shared_server(folder: Path) -> Server:
    """The run's broker, started if it was not. Raises CannotStart."""
    named = os.environ.get(NAMED)
    if named:
        # The shortest session that brokers take by default.
        return _awaited(Server(named, 6.0))

    def start() -> str:
        return containers.first(
            lambda: _in_container(folder), lambda: _awaited(_of_this_machine(folder, keepers.owner()))
        ).address

    return Server(once(folder, "kafka", start), 3.0)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A broker that all tests share; groups and topics are each test's own."""
    try:
        return shared_server(folder_of_the_run(tmp_path_factory))
    except CannotStart as error:
        cannot_run(str(error))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A broker of the test's own, running."""
    must_run_here()
    made = Node(tmp_path_factory.mktemp("node"), free_pair())
    made.start()
    yield made
    made.end()


if __name__ == "__main__":
    try:
        keep_container(Path(sys.argv[1]), int(sys.argv[2]))
    except containers.NoContainer as why:
        sys.exit(str(why))
