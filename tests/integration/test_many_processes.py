"""Every role in processes of its own, events over Kafka, state in PostgreSQL, schemas in a registry: the same
requests and ends.

Two orchestrators, two workers with systems of their own, a mailbox and the HTTP side. Orchestrators, workers
and the mailbox are killed while requests run, and started again.
"""

import random
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.bus.port import Delivery
from orchestrator.cli.assembly import Ground, open_ground, topics_of
from orchestrator.cli.submit import identifier_of, submit_to
from orchestrator.smtp import message_id
from schemas import topics
from schemas.codec import decode, schema_id_of
from schemas.messages import Outcome
from tests.contract.conftest import postgresql_server, postgresql_url
from tests.contract.registry_stand_in import registry_stand_in
from tests.integration.kafka_server import Node, node
from tests.integration.people import Person, make_people
from tests.integration.processes import RADERA, Vendors, environment, eventually, free_port, vendors
from tests.integration.settings import DOMAIN, open_accounts, write_settings

__all__ = ["node", "postgresql_server", "postgresql_url"]

WORKERS = ("superoffice,hubspot,web_analytics", "agency_nord,agency_syd,tenant_byggab")
_SERVERS = """
[database]
url = "{database}"

[kafka]
servers = ["{kafka}"]
security = "none"
replication = 1
partitions = 4
session = "PT{session:.0f}S"

[kafka.schema_registry]
url = "{registry}"
"""


@dataclass
class Process:
    """One role's process, one life after another."""

    name: str
    words: tuple[str, ...]
    config: Path
    log: Path
    port: int = field(default_factory=free_port)
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                [RADERA, *self.words, "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(RADERA_HTTP__PORT=str(self.port)),
            )

    def end(self, number: signal.Signals) -> int:
        assert self.running is not None
        self.running.send_signal(number)
        return self.running.wait(30)


@dataclass
class Installation:
    """The processes, and what the test sees of them."""

    processes: dict[str, Process]
    vendors: Vendors
    ground: Ground

    def submit(self, person: Person) -> None:
        person.request_id = submit_to(
            self.ground,
            [identifier_of(kind, value) for kind, value in person.identifiers],
            scope=person.scope,
            tenant=person.tenant,
            source="test",
        )

    def ended(self) -> Counter[str]:
        return Counter(saga.status for saga in self.ground.store.sagas(limit=1000))

    def completions(self) -> list[Outcome]:
        """Every completion that was published, each event once."""
        found = {
            outcome.event_id: outcome
            for delivery in self.ground.bus.browse([topics.OUTCOMES])
            if (outcome := decode(delivery.value, Outcome, registry=self.ground.resolver)).kind == "completed"
        }
        return list(found.values())

    def unframed(self) -> set[str]:
        """Topics with a record that names no schema of the registry."""
        names = topics_of(self.ground.settings)
        return {one.topic for one in self.ground.bus.browse(names) if schema_id_of(one.value) is None}

    def dead_letters(self) -> list[Delivery]:
        names = [topics.dead_letters(topic) for topic in topics_of(self.ground.settings)]
        return list(self.ground.bus.browse(names))


@pytest.fixture
def installation(tmp_path: Path, node: Node, postgresql_url: str) -> Iterator[Installation]:
    """Set up as the deployment guide says, by the commands that it names."""
    home = tmp_path / "radera"
    home.mkdir(mode=0o700)
    with ExitStack() as stack:
        served = stack.enter_context(vendors(tmp_path / "vendors"))
        open_accounts(served)
        serve_port = free_port()
        config = write_settings(home, served, http_port=serve_port)
        more = _SERVERS.format(
            database=postgresql_url,
            kafka=node.server.address,
            session=node.server.session,
            registry=stack.enter_context(registry_stand_in()).url,
        )
        config.write_text(config.read_text() + more)
        for words in (("keys", "create"), ("db", "upgrade"), ("topics", "apply"), ("topics", "check")):
            told = [RADERA, *words, "--config", str(config)]
            done = subprocess.run(told, capture_output=True, text=True, check=False, env=environment())
            assert 0 == done.returncode, (words, done.stdout, done.stderr)
        named = {
            "orchestrator-1": ("orchestrator",),
            "orchestrator-2": ("orchestrator",),
            "worker-1": ("worker", "--systems", WORKERS[0]),
            "worker-2": ("worker", "--systems", WORKERS[1]),
            "mailbox": ("mailbox",),
            "serve": ("serve",),
        }
        processes = {
            name: Process(name, words, config, tmp_path / f"{name}.log") for name, words in named.items()
        }
        processes["serve"].port = serve_port
        ground = open_ground(config)
        stack.callback(ground.close)
        for process in processes.values():
            process.start()
            stack.callback(_discard, process)
        yield Installation(processes, served, ground)


def _discard(process: Process) -> None:
    if process.running is not None and process.running.poll() is None:
        process.running.kill()
        process.running.wait()


@pytest.mark.timeout(400)  # a killed reader's records wait for its session to time out, each time
def test_roles_in_processes_of_their_own_survive_being_killed(installation: Installation) -> None:
    """Every request ends as it should, the vendors did everything once, each completion is mailed."""
    rng = random.Random(7)
    people = make_people(rng, 12)
    for person in people:
        person.settle(installation.vendors)
    for number, person in enumerate(people):
        installation.submit(person)
        if number % 3 == 2:
            victim = rng.choice(["orchestrator-1", "orchestrator-2", "worker-1", "worker-2", "mailbox"])
            installation.processes[victim].end(signal.SIGKILL)
            installation.processes[victim].start()

    eventually(
        "all requests have ended",
        lambda: installation.ended() == {"completed": len(people)},
        within=240.0,
        every=0.3,
    )
    for person in people:
        saga = installation.ground.store.saga(person.request_id)
        assert saga is not None
        assert person.ends == {step.system: getattr(step.state, "end", None) for step in saga.steps}
        assert installation.ground.store.verify_timeline(person.request_id).is_intact
        left = {(line["kind"], line["state"]) for line in installation.vendors.holds(person.email)}
        assert person.leaves == left
    done = Counter(
        (line["vendor"], line["effect"], str(line["record"]))
        for line in installation.vendors.ledger()
        if line["vendor"] not in ("mail", "controllers") and not line["repeated"]
    )
    expected = {effect for person in people for effect in person.effects}
    assert set() == expected - set(done)
    assert {} == {effect: times for effect, times in done.items() if times > 1 and effect in expected}

    eventually(
        "each request has one completion, which is mailed",
        lambda: len(installation.completions()) == len(people) and not _unmailed(installation),
        within=60.0,
    )
    assert (set(), []) == (installation.unframed(), installation.dead_letters())
    for process in installation.processes.values():
        assert 0 == process.end(signal.SIGTERM), process.name


def _unmailed(installation: Installation) -> set[str]:
    ids = {message_id(DOMAIN, one.request_id, one.event_id) for one in installation.completions()}
    sent = b"\n".join(installation.vendors.mails()).decode("utf-8", "replace")
    return {one for one in ids if one not in sent}
