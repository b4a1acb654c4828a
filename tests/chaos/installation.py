"""An installation on servers of its own: a broker, a PostgreSQL, the vendors, and every role as processes.

Set up as the deployment guide says, by the commands that it names, with an account for each role that may do
what the role does and no more. The servers are the test's to stop, kill and start again; nobody else uses
them.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL

from handlers.registry import GROUP
from orchestrator.bus.port import BusUnavailable
from orchestrator.cli.assembly import Ground, open_ground
from orchestrator.cli.submit import identifier_of, submit_to
from orchestrator.intake import CannotSubmit
from orchestrator.saga.model import Saga
from orchestrator.settings import Kafka
from orchestrator.store import StoreError
from schemas import topics
from schemas.codec import CodecError, decode
from schemas.messages import Outcome
from tests.chaos.clock import settable_clock
from tests.chaos.fleet import Fleet
from tests.chaos.instant import KINDS, Vendor
from tests.chaos.people import AGENCY, SYSTEMS, Person
from tests.contract.registry_stand_in import registry_stand_in
from tests.integration.kafka_server import Node
from tests.integration.ports import free_pair, free_port
from tests.integration.postgresql_server import LocalServer, connect
from tests.integration.processes import RADERA, Vendors, environment, eventually, vendors

#: The systems of each group of workers; one group's topics are nobody else's.
WORKERS = {
    "crm": "instant_crm,instant_shop",
    "parties": f"instant_letters,instant_desk,{AGENCY}",
}
READ = (
    topics.REQUESTS,
    topics.CONFIRMATIONS,
    topics.DECISIONS,
    topics.OUTCOMES,
    *(name(kind) for kind in (*KINDS, "recruitment") for name in (topics.commands, topics.callbacks)),
)
#: As whom each command works, and the owner and the administrator, who is the test itself.
ACCOUNTS = {
    "orchestrator": "radera_orchestrator",
    "worker": "radera_worker",
    "mailbox": "radera_mailbox",
    "serve": "radera_serve",
    "owner": "radera_owner",
    "administrator": None,
}
_SCRIPTS = Path(__file__).parents[2] / "deploy" / "postgresql"
#: Who reads what.
GROUPS = {
    "orchestrator": (topics.REQUESTS, topics.CONFIRMATIONS, topics.DECISIONS),
    "mailbox": (topics.OUTCOMES,),
    "worker": READ[4:],
}
DOMAIN = "radera.controller.example"
SENDERS = "controller.example"
DPO = f"dpo@{SENDERS}"
NORD = "radering@agency-nord.example"
SESSION = 3.0
_TEXT = """
[installation]
name = "Controller AB"
domain = "{domain}"
public_url = "http://127.0.0.1:{http_port}"

[http]
port = {http_port}

[dpo]
address = "{dpo}"

[smtp]
host = "127.0.0.1"
port = {smtp_port}
security = "none"
sender = "radera@{senders}"
timeout = "PT2S"
retry_first = "PT0.3S"
retry_cap = "PT1S"

[retry]
first = "PT0.3S"
cap = "PT1S"
max_attempts = 30

[waits]
party_reminder = "PT2M"
max_reminders = 100

[worker]
concurrency = 16

[log]
format = "json"

[database]
url = "{database}"

[kafka]
servers = ["{kafka}"]
security = "none"
replication = 1
partitions = 4
session = "PT{session:.0f}S"
publish_limit = "PT10S"

[systems.{agency}]
kind = "recruitment"
look_again = []
channel = "mail"
address = "{nord}"
remind_after = "PT2M"
"""
_REGISTRY = """
[kafka.schema_registry]
url = "{url}"
"""
_SYSTEM = """
[systems.{name}]
kind = "{name}"
look_again = []
after = {after}
file = "{file}"
"""
# Without the mail scanner that opens each link first: its answers are delivered one after the other.
_AGENCY = {"name": "Nord", "address": NORD, "answer": "erased", "delay": "PT0.5S", "scans": False}
T = TypeVar("T")


@dataclass
class Installation:
    """The processes and the servers, and what can be seen of them from outside. `ground` sees everything;
    `desk` takes requests in, as the one whose work that is.
    """

    directory: Path
    config: Path
    configs: dict[str, Path]
    node: Node
    database: LocalServer
    vendors: dict[str, Vendor]
    outside: Vendors
    fleet: Fleet
    ground: Ground
    desk: Ground
    http_port: int
    people: list[Person] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def note(self, text: str) -> None:
        """For the report of a failure; on the disk at once."""
        line = f"{time.monotonic() - self.began:7.1f} s  {text}"
        self.notes.append(line)
        with (self.directory / "history.txt").open("a") as history:
            history.write(line + "\n")

    # --- roles ---

    def start(self, role: str) -> None:
        """One more replica of a role."""
        if role in WORKERS:
            self.fleet.add(role, "worker", "--systems", WORKERS[role])
        elif role == "serve":
            self.fleet.add(role, "serve", port=self.http_port)
        else:
            self.fleet.add(role, role)

    def start_few(self) -> None:
        """Every role once, with one worker for all systems."""
        for role in ("orchestrator", "worker", "mailbox", "serve"):
            self.start(role)

    def start_all(self, *, replicas: int = 1) -> None:
        """Every role, those that can be scaled as often as is said."""
        for role in ("orchestrator", *WORKERS, "mailbox"):
            for _ in range(replicas):
                self.start(role)
        self.start("serve")

    # --- requests ---

    def submit(self, person: Person) -> bool:
        """Submits the person's request; whether it was taken. Tried again, it is the same request."""
        try:
            submit_to(
                self.desk,
                [identifier_of("email", person.email)],
                request_id=person.request_id,
                scope=SYSTEMS,
                source="test",
            )
        except (StoreError, BusUnavailable):
            return False
        except CannotSubmit as error:
            # Its first try was taken after all, and it has ended since.
            if error.code != "request_ended":
                raise
        person.is_submitted = True
        return True

    # --- what is seen ---

    def sagas(self) -> dict[str, Saga]:
        return {saga.request_id: saga for saga in self.ground.store.sagas(limit=1_000_000)}

    def completed(self) -> int:
        """How many requests have ended."""
        count = sa.text("SELECT count(*) FROM sagas WHERE status = 'completed'")
        with self.ground.store.reading.connect() as connection:
            return int(connection.execute(count).scalar_one())

    def open_people(self) -> list[Person]:
        """Those whose request was submitted and has not ended."""
        sagas = self.sagas()
        return [
            person
            for person in self.people
            if person.is_submitted
            and (person.request_id not in sagas or not sagas[person.request_id].is_finished)
        ]

    def await_end(self, within: float) -> None:
        """Waits until every request has ended; fails with those that have not."""
        try:
            eventually("all have ended", lambda: not patiently(self.open_people), within=within, every=0.3)
        except AssertionError as error:
            said = "; ".join(f"{one.request_id} {self.where(one)}" for one in self.open_people()[:5])
            raise AssertionError(f"{error}: {said}") from None

    def where(self, person: Person) -> str:
        """How far a person's request is."""
        saga = self.ground.store.saga(person.request_id)
        if saga is None:
            return "not begun"
        steps = " ".join(f"{step.system}={step.state}" for step in saga.steps if not step.is_ended)
        questions = " ".join(f"{one.reason}({one.code})" for one in saga.escalations)
        return f"{saga.status} [{steps}] {questions} wakes at {saga.wake_at}"

    def outcomes(self) -> list[Outcome]:
        """Every outcome that was published, each event once."""
        said: dict[str, Outcome] = {}
        for delivery in self.ground.bus.browse([topics.OUTCOMES]):
            try:
                outcome = decode(delivery.value, Outcome, registry=self.ground.resolver)
            except CodecError:
                continue
            said[outcome.event_id] = outcome
        return list(said.values())

    def backlog(self) -> dict[str, int]:
        """How many records each group has not behind it."""
        return {group: self.ground.bus.backlog(group, read) for group, read in GROUPS.items()}

    @property
    def kafka(self) -> Kafka:
        kafka = self.ground.settings.kafka
        assert kafka is not None
        return kafka


def patiently(ask: Callable[[], T], *, within: float = 60.0) -> T:
    """An answer from servers that may be down at the moment."""
    until = time.monotonic() + within
    while True:
        try:
            return ask()
        except (StoreError, BusUnavailable):
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def begun(config: Path, *words: str) -> "subprocess.Popen[str]":
    """Starts one `radera` command, and does not wait; both of its streams come as one."""
    return subprocess.Popen(
        [RADERA, *words, "--config", str(config)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(PYTHONPATH=os.environ["PYTHONPATH"]),
    )


def told(config: Path, *words: str) -> str:
    """One `radera` command, which has to go well."""
    done = subprocess.run(
        [RADERA, *words, "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(PYTHONPATH=os.environ["PYTHONPATH"]),
    )
    assert 0 == done.returncode, (words, done.stdout, done.stderr)
    return done.stdout


@contextmanager
def installed(
    directory: Path,
    *,
    changes: tuple[tuple[str, str], ...] = (),
    has_registry: bool = False,
    broker: str = "",
    has_settable_clock: bool = False,
) -> Iterator[Installation]:
    """Servers that run, vendors, the database and the topics; no role runs yet. `changes` are made in the
    text of the settings; with a registry its schemas are what the records name. `broker` are more settings of
    the broker's own, and the database's clock may be one that can be set.

    Raises:
        CannotStart, NoServer: a server can't be had here.
    """
    home, logs = directory / "radera", directory / "logs"
    home.mkdir(mode=0o700, parents=True)
    logs.mkdir()
    with ExitStack() as stack:
        stack.enter_context(_shipped(directory / "shipped"))
        database = stack.enter_context(_database(has_settable_clock=has_settable_clock))
        (directory / "broker.properties").write_text(broker)
        node = Node(directory / "kafka", free_pair(), KAFKA_SETTINGS=str(directory / "broker.properties"))
        node.start()
        stack.callback(node.end)
        outside = stack.enter_context(vendors(directory / "vendors"))
        outside.seed({"agencies": [_AGENCY]})
        http_port = free_port()
        text = _TEXT.format(
            domain=DOMAIN,
            senders=SENDERS,
            dpo=DPO,
            nord=NORD,
            agency=AGENCY,
            http_port=http_port,
            smtp_port=outside.smtp_port,
            database="{database}",
            kafka=node.server.address,
            session=SESSION,
        )
        instant = {name: Vendor(directory / f"{name}.db") for name in KINDS}
        for name, vendor in instant.items():
            vendor.make()
            after = '["instant_crm"]' if name == "instant_shop" else "[]"
            text += _SYSTEM.format(name=name, after=after, file=vendor.file)
        if has_registry:
            text += _REGISTRY.format(url=stack.enter_context(registry_stand_in()).url)
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        configs = _configs(home, text, database)
        run_script(database, "roles.sql")
        for whose, *words in (
            ("owner", "keys", "create"),
            ("owner", "db", "upgrade"),
            ("orchestrator", "topics", "apply"),
        ):
            told(configs[whose], *words)
        run_script(database, "grants.sql", ACCOUNTS["owner"])
        ground, desk = open_ground(configs["administrator"]), open_ground(configs["serve"])
        stack.callback(ground.close)
        stack.callback(desk.close)
        notes: list[str] = []
        installation = Installation(
            directory=directory,
            config=configs["administrator"],
            configs=configs,
            node=node,
            database=database,
            vendors=instant,
            outside=outside,
            fleet=Fleet(configs, logs, SENDERS, lambda text: installation.note(text)),
            ground=ground,
            desk=desk,
            http_port=http_port,
            notes=notes,
        )
        stack.callback(installation.fleet.discard)
        yield installation


def _configs(home: Path, text: str, database: LocalServer) -> dict[str, Path]:
    """The settings of each account: the same but for the account."""
    made = {}
    for whose, role in ACCOUNTS.items():
        made[whose] = home / f"{whose}.toml"
        url = _as(database, role).render_as_string(hide_password=False)
        made[whose].write_text(text.replace("{database}", url))
    return made


def _as(database: LocalServer, role: str | None) -> URL:
    url = database.url.set(database="radera")
    return url if role is None else url.update_query_dict({"options": f"-crole={role}"})


def run_script(database: LocalServer, name: str, role: str | None = None) -> None:
    """One of the deployment's."""
    with connect(_as(database, role)) as connection:
        connection.execute((_SCRIPTS / name).read_bytes())


@contextmanager
def _shipped(folder: Path) -> Iterator[None]:
    """The handlers of `instant` as an installed package, for every process that is started in here."""
    root = Path(__file__).resolve().parents[2]
    package = folder / "radera_instant-1.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: radera-instant\nVersion: 1\n")
    points = "".join(f"{kind} = tests.chaos.instant:{made.__name__}\n" for kind, made in KINDS.items())
    (package / "entry_points.txt").write_text(f"[{GROUP}]\n{points}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(root)]))
        patch.syspath_prepend(str(folder))
        yield


@contextmanager
def _database(*, has_settable_clock: bool) -> Iterator[LocalServer]:
    # Not below the test's own folder: the server's user may not pass through it.
    home = Path(tempfile.mkdtemp(prefix="radera-chaos-postgresql-"))
    home.chmod(0o755)
    try:
        server = LocalServer(home)
        if has_settable_clock:
            server.more = settable_clock(home)
        server.start()
        try:
            create_database(server)
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(home)


def create_database(server: LocalServer) -> None:
    """An empty one, in place of what was there."""
    with connect(server.url) as connection:
        connection.execute("DROP DATABASE IF EXISTS radera WITH (FORCE)")
        connection.execute("CREATE DATABASE radera")
