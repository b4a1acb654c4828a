"""Another service hands a request in over Kafka, knowing the public key alone; and SIGTERM leaves no member
behind in any group.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner

from handlers.worker import GROUP as WORKERS
from orchestrator.bus.kafka_admin import Admin, opened_admin
from orchestrator.cli.assembly import Ground, open_ground
from orchestrator.cli.main import main
from orchestrator.intake import producer
from orchestrator.mailbox.mailbox import GROUP as MAILBOX
from orchestrator.privacy import Exchange
from orchestrator.service.orchestrator import GROUP as ORCHESTRATORS
from tests.integration.installation import write_settings
from tests.integration.kafka_server import Node, Server, node
from tests.integration.ports import free_port
from tests.integration.processes import Radera, environment, eventually

__all__ = ["node"]

GROUPS = (ORCHESTRATORS, WORKERS, MAILBOX)
# The session is longer than the test: who is in a group without a process was left behind.
SETTINGS = """
[installation]
name = "Controller AB"
domain = "radera.controller.example"
public_url = "http://127.0.0.1:8089"

[http]
port = {http}

[dpo]
address = "dpo@controller.example"

[smtp]
host = "127.0.0.1"
port = {smtp}
security = "none"
sender = "radera@controller.example"

[systems.agency]
kind = "recruitment"
channel = "mail"
address = "radering@agency.example"

[kafka]
servers = ["{kafka}"]
security = "none"
replication = 1
partitions = 1
session = "PT1M"
"""
_GIVEN = "import json, sys; public_key, servers, address = json.load(sys.stdin)\n"
_TOLD = (
    "\nprint(made.request_id, *sys.modules.keys() & {'sqlalchemy', 'orchestrator.store', 'orchestrator.cli'})"
)
# The indented lines of the module's text.
_EXAMPLE = re.compile(r"^    from .+?(?=^\S)", re.DOTALL | re.MULTILINE)


@pytest.fixture
def radera(node: Node, tmp_path: Path) -> Iterator[Radera]:
    """`radera up` on a Kafka of its own: it has the topics and groups that every installation has."""
    text = SETTINGS.format(http=free_port(), smtp=free_port(), kafka=node.server.address)
    radera = Radera(write_settings(tmp_path, text), tmp_path / "radera.log")
    made = CliRunner().invoke(main, ["topics", "apply", "--config", str(radera.config)])
    assert 0 == made.exit_code, made.output
    yield radera
    radera.discard()


def test_from_the_public_key_alone(radera: Radera, node: Node, tmp_path: Path) -> None:
    """A service with a plain client, no secret and no database, does what the module's example says: the
    request is accepted. Then SIGTERM ends all roles, and no group waits for a session of theirs to end.
    """
    radera.start()
    ground = open_ground(radera.config)
    try:
        request_id = _handed_in(ground, node.server, tmp_path)
        eventually("the request is there", lambda: ground.store.saga(request_id) is not None, within=20)
        saga = ground.store.saga(request_id)
        assert saga is not None
        # Only who could open it knows what it has.
        assert ("in_progress", ("email",)) == (saga.status, saga.identifier_kinds)
    finally:
        ground.close()

    with opened_admin(node.server.settings()) as admin:
        eventually("each role is in its group", lambda: _members(admin) == [1, 1, 1], within=20)
        radera.stop()
        assert [0, 0, 0] == _members(admin)


def _handed_in(ground: Ground, kafka: Server, directory: Path) -> str:
    """By a process that knows the public key, the person and where the broker is; gives the request's id."""
    example = dedent(_EXAMPLE.search(producer.__doc__ or "").group())  # type: ignore[union-attr]  # it has one
    given = [Exchange(ground.keyring).public_key().to_json(), [kafka.address], "canary.person@people.example"]
    service = subprocess.run(
        [sys.executable, "-c", _GIVEN + example + _TOLD],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=directory,
        env=environment(),
    )
    request_id, *loaded = service.stdout.split()
    assert [] == loaded
    return request_id


def _members(admin: Admin) -> list[int]:
    """How many each group has."""
    told = admin._client.describe_groups(list(GROUPS))
    return [len(told[group]["members"]) for group in GROUPS]
