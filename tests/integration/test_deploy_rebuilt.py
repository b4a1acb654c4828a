"""What `deploy/rebuilt-topics.md` says is what works: its commands are run here, in their order, on a real
Kafka that loses topics, and then everything.
"""

import shutil
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import pytest

from orchestrator.bus.kafka_admin import opened_admin
from orchestrator.cli.assembly import open_ground
from orchestrator.service.relay import Relay
from orchestrator.store import Store, TopicNotes, open_engine
from schemas import topics
from tests.deploy.page import blocks, carried_out, typed
from tests.integration.installation import PERSON
from tests.integration.kafka_server import Node, must_run_here
from tests.integration.ports import free_pair, free_port
from tests.integration.processes import Radera, eventually

# A Kafka, `radera up` and a dozen commands, each a process that starts, on a machine with other tests.
pytestmark = pytest.mark.timeout(300)

PAGE = "rebuilt-topics.md"
# The library learns within a minute that a topic is another.
WITHIN = 100.0
SETTINGS = """
[installation]
name = "Example"
domain = "radera.example.com"
public_url = "http://127.0.0.1:{port}"

[http]
port = {port}

[dpo]
address = "dpo@example.com"

[smtp]
host = "127.0.0.1"
port = 1
security = "none"
sender = "radera@example.com"

[kafka]
servers = ["{kafka}"]
security = "none"
replication = 1
partitions = 1
session = "PT3S"

[systems.crm]
kind = "hubspot"
portal_id = 1
token = {{ env = "CRM_TOKEN" }}
"""


class World:
    """An installation in one process, on a Kafka of its own."""

    def __init__(self, root: Path, node: Node) -> None:
        self.root, self.node = root, node
        folder = root / "etc/radera"
        folder.mkdir(parents=True)
        self.config = folder / "radera.toml"
        self.config.write_text(SETTINGS.format(port=free_port(), kafka=node.server.address))
        self.radera = Radera(self.config, root / "log")

    @cached_property
    def store(self) -> Store:
        return Store(open_engine(f"sqlite:///{self.config.with_name('radera.db')}"))

    def types(self, heading: str, number: int = 0, given: Mapping[str, str] | None = None) -> list[str]:
        """Carry out a block of the page; what each command prints."""
        said = []
        for line in blocks(PAGE, heading)[number]:
            for word, value in (given or {}).items():
                line = line.replace(word, value)
            said.append(carried_out(line, self.root))
        return said

    def says(self, line: str) -> str:
        """What a command says to whoever typed it, besides its result."""
        return typed(line, self.root).stderr

    def submit(self, *flags: str) -> str:
        line = f"radera submit --email {PERSON} {' '.join(flags)} --config /etc/radera/radera.toml"
        return carried_out(line, self.root).split()[0]

    def questions(self) -> dict[str, list[str]]:
        """The open questions of each request, as another process reads them."""
        sagas = self.store.sagas()
        return {saga.request_id: [one.reason for one in saga.escalations] for saga in sagas}

    def await_questions(self, request_id: str, *reasons: str) -> None:
        eventually(
            f"{request_id} has the questions {reasons}",
            lambda: list(reasons) == self.questions().get(request_id),
            within=WITHIN,
            every=0.5,
        )

    def await_log(self, what: str, topic: str) -> None:
        eventually(
            f"the log says {what} of {topic}",
            lambda: any(what in line and topic in line for line in self.radera.said().decode().splitlines()),
            within=WITHIN,
            every=0.5,
        )

    def delete(self, *names: str) -> None:
        with opened_admin(self.node.server.settings()) as admin:
            admin._client.delete_topics(list(names))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    must_run_here()
    node = Node(tmp_path / "kafka", free_pair())
    node.start()
    made = World(tmp_path, node)
    try:
        yield made
    finally:
        made.radera.discard()
        made.store.engine.dispose()
        node.end()


def test_a_topic_was_made_anew(world: World) -> None:
    """A command that can't be written is a question at once, and goes out when its topic is there."""
    commands = topics.commands("hubspot")
    world.types("All of Kafka")
    world.radera.start()
    notes = TopicNotes(world.store)
    eventually(
        "the worker reads its commands",
        lambda: any(name.startswith(f"{commands}/") for name in notes.of("worker")),
        within=WITHIN,
    )
    world.delete(commands)
    stuck = world.submit()
    world.await_questions(stuck, "command_not_sent")
    world.types("A topic, while the cluster stayed")
    world.await_questions(stuck)
    world.await_log("topic_rebuilt", commands)
    assert {stuck} == set(world.questions())
    world.radera.stop()


def test_a_request_whose_record_was_lost_is_handed_in_again(world: World) -> None:
    """Its topic was deleted with it while nobody read. It is named, handed in again by its id, and opened."""
    world.types("All of Kafka")
    world.radera.start()
    opened = world.submit("--unverified")
    world.await_questions(opened, "identity_unverified")
    world.radera.stop()
    lost = world.submit("--unverified")
    ground = open_ground(world.config)
    assert 1 == Relay(store=ground.store, bus=ground.bus).step()
    ground.close()
    world.delete(topics.REQUESTS)
    world.types("A topic, while the cluster stayed")
    world.radera.start()
    world.await_log("topic_rebuilt", topics.REQUESTS)
    assert {opened} == set(world.questions())
    assert f"{lost}: accepted on" in world.says("radera status --config /etc/radera/radera.toml")
    world.types("Handing in again", given={"REQUEST": lost, "PERSON": f"{PERSON} --unverified"})
    world.await_questions(lost, "identity_unverified")
    world.radera.stop()


def test_all_of_kafka_was_made_anew(world: World) -> None:
    """Another cluster answers at the address: it is claimed, what was opened goes on, and more comes in."""
    world.types("All of Kafka")
    world.radera.start()
    opened = world.submit("--unverified")
    world.await_questions(opened, "identity_unverified")
    world.radera.stop()
    world.node.stop()
    shutil.rmtree(world.root / "kafka/records")
    world.node.start()
    world.types("All of Kafka")
    world.radera.start()
    world.types("All of Kafka", 1)
    world.await_log("topic_rebuilt", topics.REQUESTS)
    last = world.submit("--unverified")
    world.await_questions(last, "identity_unverified")
    assert {opened, last} == set(world.questions())
    world.radera.stop()
