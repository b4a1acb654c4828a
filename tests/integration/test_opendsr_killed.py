"""OpenDSR over a real network, both ways, while Radera is killed again and again."""

import hashlib
import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import httpx
import pytest
from typing_extensions import override

from handlers.sandbox.asking import AskingController
from handlers.sandbox.certificates import Authority, new_key, private_pem
from orchestrator.cli.assembly import open_ground
from orchestrator.cli.submit import identifier_of, submit_to
from tests.integration.processes import eventually
from tests.integration.world import World

TOKEN = "byggab's own token"
ANNA = "anna.ost@people.example"
KILLS = 2
REQUESTS = 4


class Receiver:
    """The controller's end of its callbacks: a server of its own, which knows the controller."""

    def __init__(self, controller: AskingController) -> None:
        heard = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                url = f"http://{self.headers['Host']}{self.path}"
                with heard:
                    try:
                        status = anyio.run(controller.hear, url, dict(self.headers.items()), body)
                    except httpx.TransportError:
                        status = 503  # it was killed while its certificate was fetched
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            @override
            def log_message(self, *_: object) -> None:
                """Not on the tests' output."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        controller.callback = f"http://127.0.0.1:{self.server.server_port}/callbacks"

    @contextmanager
    def serving(self) -> Iterator[None]:
        thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.server.shutdown()
            thread.join()
            self.server.server_close()


def configure(world: World) -> AskingController:
    """Lets byggab ask, over the loopback's name; gives it as strict as it may be."""
    now = time.time_ns() // 1000
    authority, key = Authority(now), new_key("radera")
    folder = world.config.parent / "secrets"
    (folder / "opendsr-key.pem").write_text(private_pem(key))
    (folder / "opendsr.pem").write_text(authority.issue("localhost", key))
    text = world.config.read_text()
    opendsr = f"""
[opendsr]
key = {{ file = "{folder}/opendsr-key.pem" }}
certificate = {{ file = "{folder}/opendsr.pem" }}
retry_first = "PT0.5S"
retry_cap = "PT1S"

[dpo]
"""
    tokens = f'opendsr_tokens = ["{hashlib.sha256(TOKEN.encode()).hexdigest()}"]\n'
    for old, new in (
        (
            f'public_url = "http://127.0.0.1:{world.http_port}"',
            f'public_url = "http://localhost:{world.http_port}"',
        ),
        ("\n[dpo]\n", opendsr),
        (
            'tenant = "byggab"\n',
            'tenant = "byggab"\ncallback_hosts = ["127.0.0.1"]\n' + tokens,
        ),
    ):
        assert old in text
        text = text.replace(old, new)
    world.config.write_text(text + agency(world, folder))
    client = httpx.AsyncClient(
        base_url=f"http://localhost:{world.http_port}",
        trust_env=False,
        timeout=10.0,
        # Each call is on an event loop of its own, and connections belong to theirs.
        limits=httpx.Limits(max_keepalive_connections=0),
    )
    clock = lambda: time.time_ns() // 1000  # noqa: E731 - the wall's
    return AskingController(client, token=TOKEN, root=authority.root(), clock=clock)


def agency(world: World, folder: Path) -> str:
    """The settings of an agency that speaks OpenDSR, and holds Anna; it gave us its certificate."""
    world.vendors.seed(
        {
            "controllers": [
                {"tenant": "ost", "role": "agency", "delay": "PT1S", "candidates": [{"email": ANNA}]}
            ]
        }
    )
    endpoint = f"http://127.0.0.1:{world.vendors.port}/controllers/ost"
    headers = {"Authorization": "Bearer sandbox-controller-token"}
    (folder / "ost.pem").write_bytes(
        httpx.get(f"{endpoint}/certificate.pem", headers=headers, trust_env=False).content
    )
    return f"""
[systems.agency_ost]
kind = "recruitment"
channel = "opendsr"
endpoint = "{endpoint}"
endpoint_token = {{ file = "{folder}/controller" }}
controller_id = "controller-1"
certificate = {{ file = "{folder}/ost.pem" }}
allow_private_address = true
remind_after = "PT3S"
"""


def post_until_taken(controller: AskingController, people: list[str], taken: dict[str, str]) -> None:
    """What a controller does that keeps to the description: without an answer it posts the same again."""
    for email in people:
        content = controller.request(str(uuid.uuid4()), ("email", email, "raw"))
        while True:
            try:
                answer = anyio.run(controller.post, content)
            except httpx.TransportError:
                time.sleep(0.02)
                continue
            if answer.status_code == 201:
                taken[content["subject_request_id"]] = email
                break
            time.sleep(0.02)


@pytest.mark.timeout(480)
def test_what_was_accepted_is_carried_out_and_told_however_often_it_is_killed(world: World) -> None:
    """Each request that got its 201 erases its person once and is called back in order to its end, and the
    one body that is posted until it is taken is one request. An agency that was asked over OpenDSR has
    erased, by its own signed word.
    """
    rng = random.Random(world.seed)
    people = [f"person-{number}@people.example" for number in range(REQUESTS)]
    records = [
        {"id": f"asked-{number}", "identities": [{"type": "email", "value": email}]}
        for number, email in enumerate(people)
    ]
    world.vendors.seed({"tenants": [{"tenant": "byggab", "records": records}]})
    controller = configure(world)
    taken: dict[str, str] = {}
    posting = threading.Thread(target=post_until_taken, args=(controller, people, taken), daemon=True)
    with closing(open_ground(world.config)) as ground:
        own = submit_to(
            ground, [identifier_of("email", ANNA)], scope=("agency_ost",), tenant=None, source="test"
        )
    with Receiver(controller).serving():
        posting.start()
        for _ in range(KILLS):
            world.radera.start()
            time.sleep(rng.uniform(0.05, 0.8))
            world.radera.kill()
        world.radera.start()

        def told() -> set[str]:
            return {
                said["subject_request_id"]
                for said in list(controller.heard)
                if said["request_status"] == "completed"
            }

        def ended() -> bool:
            saga = world.ground.store.saga(own)
            return len(told()) == REQUESTS and saga is not None and saga.is_finished

        eventually("every request is taken, told and ended", ended, within=90)
        world.radera.stop()
    posting.join(5)
    assert (people, told()) == (sorted(taken.values()), set(taken))
    assert [] == controller.refused
    for id_ in taken:
        states = [said["request_status"] for said in controller.heard if said["subject_request_id"] == id_]
        # At least once each: a death between telling and noting it repeats.
        assert ["in_progress", "completed"] == list(dict.fromkeys(states))
        assert sorted(states, reverse=True) == states
    effects = [line["record"] for line in world.vendors.ledger() if line["effect"] == "record_erased"]
    assert sorted(f"asked-{number}" for number in range(REQUESTS)) == sorted(effects)
    asked = world.ground.store.saga(own)
    assert asked is not None
    [step] = asked.steps
    assert ("completed", "party_stated") == (asked.status, step.grade)
    assert [] == world.vendors.holds(ANNA)
    sagas = [saga for saga in world.ground.store.sagas(limit=100) if saga.request_id != own]
    assert REQUESTS == len(sagas)
    assert {("completed", "byggab")} == {(saga.status, saga.tenant) for saga in sagas}
    log = world.radera.log.read_text()
    assert [] == [email for email in (*people, ANNA) if email in log]
