"""An installation to measure: a Kafka and a PostgreSQL on this machine, and Radera's roles as processes.

The servers are started for one measurement, with records and tables in a folder that goes with it. PostgreSQL
has the settings that it comes with, and waits for the disk at each commit; Radera is its superuser there, so
that row security is not part of what is measured. Kafka is the small node of `deploy/kafka`: half a gigabyte,
and compiled without the last optimisations.
"""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from orchestrator.bus.port import Record
from orchestrator.cli.assembly import Ground, open_ground
from tests.bench.footprint import cpu, cpu_with_children, resident
from tests.bench.traffic import Traffic
from tests.integration.kafka_server import Node
from tests.integration.ports import free_pair, free_port
from tests.integration.postgresql_server import LocalServer, new_database
from tests.integration.postgresql_server import _programs as programs
from tests.integration.processes import RADERA, Vendors, environment, vendors
from tests.integration.settings import open_accounts, write_settings

# How often is looked whether everything is done, in seconds: a measured time may be so much too long.
_LOOK = 0.05

_SETTINGS = """\
[installation]
name = "Controller AB"
domain = "radera.controller.example"
public_url = "http://127.0.0.1:8000"

[dpo]
address = "dpo@controller.example"

[smtp]
host = "127.0.0.1"
sender = "radera@controller.example"

[notices]
subject = "none"

[log]
level = "warning"
format = "json"

[systems.superoffice]
kind = "superoffice"
look_again = []
tenant = "Cust12345"
url = "http://127.0.0.1:9/superoffice"
client_secret = { file = "unused" }
system_user_token = { file = "unused" }
private_key = { file = "unused" }
login_certificate = { file = "unused" }

[systems.hubspot]
kind = "hubspot"
look_again = []
portal_id = 1234567
url = "http://127.0.0.1:9/hubspot"
token = { file = "unused" }

[systems.web_analytics]
kind = "google_analytics"
look_again = []
service_account = { file = "unused" }
property = "987654321"

[systems.agency_nord]
kind = "recruitment"
look_again = []
channel = "mail"
address = "radering@agency-nord.example"

[systems.agency_syd]
kind = "recruitment"
look_again = []
channel = "mail"
address = "erasure@agency-syd.example"
"""
_SERVERS = """
[database]
url = "{database}"

[kafka]
servers = ["{kafka}"]
security = "none"
replication = 1
"""
_PUBLISHED_AT_ONCE = 2_000


@dataclass
class Replica:
    """One process of the orchestrator."""

    config: Path
    log: Path
    words: Sequence[str] = ("orchestrator",)
    # Where it answers; who serves is called at the address in the settings.
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [RADERA, *self.words, "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(RADERA_HTTP__PORT=str(self.port)),
            )

    @property
    def pid(self) -> int:
        assert self.process is not None, "it was not started"
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    @property
    def cpu(self) -> float:
        return cpu(self.pid)

    @property
    def megabytes(self) -> float:
        return resident(self.pid)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(30)


@dataclass
class Installation:
    """The settings file, and what its roles stand on."""

    config: Path
    ground: Ground
    replicas: list[Replica] = field(default_factory=list)
    # By their names, the numbers of their processes.
    servers: dict[str, int] = field(default_factory=dict)

    @property
    def servers_cpu(self) -> dict[str, float]:
        """The processor's time that each server has used, in seconds."""
        return {name: cpu_with_children(pid) for name, pid in self.servers.items()}

    def start(self, count: int) -> None:
        """So many orchestrators."""
        for number in range(count):
            replica = Replica(self.config, self.config.with_name(f"orchestrator-{number}.log"))
            replica.start()
            self.replicas.append(replica)

    def stop(self) -> None:
        for replica in self.replicas:
            replica.stop()
        self.replicas.clear()

    # --- what is handed in ---

    def file_keys(self, traffic: Traffic) -> None:
        """As intake does, which is not what is measured."""
        with self.ground.store.begin() as transaction:
            self.ground.keys.insert_within(transaction, traffic.keys)

    def publish(self, records: Sequence[Record]) -> None:
        for begun in range(0, len(records), _PUBLISHED_AT_ONCE):
            self.ground.bus.publish(records[begun : begun + _PUBLISHED_AT_ONCE])

    # --- what came of it ---

    def number(self, statement: str, **values: int) -> int:
        with self.ground.store.reading.connect() as connection:
            return int(connection.execute(sa.text(statement), values).scalar_one() or 0)

    def seconds_since(self, moment: int) -> float:
        """From the first event noted as seen after that moment until now."""
        first = self.number("SELECT min(seen_at) FROM inbox WHERE seen_at >= :moment", moment=moment)
        return (self.ground.store.now() - first) / 1e6

    def applied(self) -> int:
        """How many records the orchestrator has behind it."""
        if self.ground.settings.kafka is None:
            return self.number("SELECT count(*) FROM inbox")
        return self.number("SELECT coalesce(sum(next), 0) FROM positions WHERE \"group\" = 'orchestrator'")

    def unsent(self) -> int:
        return self.number("SELECT count(*) FROM outbox")

    def await_applied(self, count: int, limit: float) -> None:
        """Until so many records are behind it and nothing is left to be sent."""
        until = time.monotonic() + limit
        while self.applied() < count or self.unsent():
            for replica in self.replicas:
                if replica.process is not None and replica.process.poll() is not None:
                    raise AssertionError(f"an orchestrator ended: {replica.log.read_text()[-2000:]}")
            if time.monotonic() > until:
                raise AssertionError(f"{self.applied()} of {count} applied within {limit:.0f} s")
            time.sleep(_LOOK)


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that the servers' users may pass through."""
    with tempfile.TemporaryDirectory(prefix="radera-bench-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@contextmanager
def on_servers(home: Path) -> Iterator[Installation]:
    """A new installation on a Kafka and a PostgreSQL of its own."""
    with _servers(home) as where, _installed(home, _SETTINGS + where) as made:
        for name, file in (("PostgreSQL", "data/postmaster.pid"), ("Kafka", "kafka/pid")):
            made.servers[name] = int((home / file).read_text().split()[0])
        yield made


@contextmanager
def against_vendors(home: Path) -> Iterator[tuple[Installation, Vendors]]:
    """The same with the settings of the tests, which name the vendors' stand-ins."""
    (home / "vendors").mkdir()
    (home / "written").mkdir(mode=0o700)
    with _servers(home) as where, vendors(home / "vendors") as served:
        open_accounts(served)
        written = write_settings(home / "written", served, http_port=free_port(), log_level="warning")
        with _installed(home, written.read_text() + where) as made:
            yield made, served


def postgresql_version() -> str:
    """The version of the programs that are used."""
    told = subprocess.run([programs() / "postgres", "--version"], capture_output=True, text=True, check=True)
    return told.stdout.split()[2]


@contextmanager
def _servers(home: Path) -> Iterator[str]:
    """Kafka and PostgreSQL, as the settings name them."""
    with ExitStack() as stack:
        node = Node(home / "kafka", free_pair())
        node.start()
        stack.callback(node.stop)
        database = LocalServer(home, fsync="on")
        database.start()
        stack.callback(database.stop)
        url = stack.enter_context(new_database(database.url))
        yield _SERVERS.format(database=url, kafka=node.server.address)


@contextmanager
def embedded(home: Path) -> Iterator[Installation]:
    """A new installation on SQLite, with the bus in the same file."""
    with _installed(home, _SETTINGS) as made:
        yield made


@contextmanager
def _installed(home: Path, text: str) -> Iterator[Installation]:
    config = home / "radera" / "radera.toml"
    config.parent.mkdir(mode=0o700)
    config.write_text(text)
    if "[kafka]" in text:
        for words in (("keys", "create"), ("db", "upgrade"), ("topics", "apply")):
            _tell(config, *words)
    ground = open_ground(config)
    made = Installation(config, ground)
    try:
        yield made
    finally:
        made.stop()
        ground.close()


def _tell(config: Path, *words: str) -> None:
    done = subprocess.run(
        [RADERA, *words, "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    if done.returncode:
        raise AssertionError(f"radera {' '.join(words)}: {done.stderr}")
