"""The five kinds of handler as users run them: each role a process of its own, with an account of its own,
over a real Kafka and a real PostgreSQL.
"""

import hashlib
import random
import subprocess
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import eq
from pathlib import Path

import anyio
import httpx
import pytest
from click.testing import CliRunner
from psycopg.sql import SQL, Identifier
from sqlalchemy.engine import URL, make_url

from handlers.sandbox.asking import AskingController
from handlers.sandbox.certificates import Authority, new_key, private_pem
from handlers.sandbox.server import now
from orchestrator.bus.port import Record
from orchestrator.cli import dlq
from orchestrator.cli.assembly import open_ground
from orchestrator.cli.main import main
from orchestrator.intake import Producer
from orchestrator.privacy import Identifier as Given
from orchestrator.privacy.exchange import PublicKey
from orchestrator.smtp import message_id
from schemas import topics
from schemas.codec import decode
from schemas.messages import Outcome
from tests.chaos.fleet import Process
from tests.deploy.dashboard import Query, queries, variables
from tests.deploy.prometheus import Prometheus, prometheus
from tests.deploy.tools import program
from tests.integration.canaries import Aviary, Search
from tests.integration.kafka_server import Node, must_run_here
from tests.integration.people import SYSTEMS, Person
from tests.integration.ports import free_pair, free_port
from tests.integration.postgresql_server import connect, new_database, postgresql_server
from tests.integration.processes import RADERA, Radera, Vendors, command, environment, eventually, vendors
from tests.integration.settings import DOMAIN, DPO, open_accounts, write_settings
from tests.integration.world import World

__all__ = ["postgresql_server"]

SCRIPTS = Path(__file__).parents[2] / "deploy" / "postgresql"
TOKEN = "byggab's own token"
DAY = 86_400
#: Who runs as whom, with which words.
PROCESSES = {
    "orchestrator": ("radera_orchestrator", "orchestrator"),
    "crm": ("radera_worker", "worker", "--systems", "superoffice,hubspot"),
    "web": ("radera_worker", "worker", "--systems", "web_analytics,agency_nord,agency_syd"),
    "tenants": ("radera_worker", "worker", "--systems", "tenant_byggab"),
    "mailbox": ("radera_mailbox", "mailbox"),
    "serve": ("radera_serve", "serve"),
}
ROLES = Counter(words[1] for words in PROCESSES.values())
_MORE = """
[database]
url = "{database}"

[kafka]
servers = ["{kafka}"]
security = "none"
replication = 1
partitions = 2
session = "PT3S"

[opendsr]
key = {{ file = "{secrets}/opendsr-key.pem" }}
certificate = {{ file = "{secrets}/opendsr.pem" }}
"""


@dataclass(frozen=True, slots=True)
class Apart:
    """The processes, and what is around them."""

    world: World
    processes: dict[str, Process]
    database: URL
    broker: Path
    authority: Authority
    watched: Prometheus | None
    server: URL

    def outcomes(self) -> list[Outcome]:
        """Every outcome that was published, each event once."""
        said = self.world.ground.bus.browse([topics.OUTCOMES])
        return list({one.event_id: one for one in (decode(it.value, Outcome) for it in said)}.values())

    def rests(self) -> Iterator[tuple[str, bytes]]:
        """All that is left behind: logs, the broker's files, what its records hold (the files have them
        compressed), and the database's rows.
        """
        for process in self.processes.values():
            yield f"the log of {process.name}", process.log.read_bytes()
        files = sorted((self.broker / "records").glob("*/*.log"))
        for file in files:
            yield f"the broker's {file.parent.name}/{file.name}", file.read_bytes()
        names = {file.parent.name.rpartition("-")[0] for file in files}
        for one in self.world.ground.bus.browse({name for name in names if name.startswith("erasure.")}):
            yield f"a record on {one.topic}", one.key.encode() + one.value + repr(one.headers).encode()
        with connect(self.database) as connection:
            tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'"
            for (table,) in connection.execute(tables).fetchall():
                rows = SQL("SELECT t::text FROM {} AS t").format(Identifier(table))
                for (row,) in connection.execute(rows):
                    yield f"a row of {table}", str(row).encode()


@pytest.fixture
def apart(tmp_path: Path, postgresql_server: URL) -> Iterator[Apart]:
    """Everything set up as the guides say, and up."""
    must_run_here()
    with ExitStack() as stack:
        node = Node(tmp_path / "broker", free_pair())
        stack.callback(node.end)
        node.start()
        database = make_url(stack.enter_context(new_database(postgresql_server)))
        served = stack.enter_context(vendors(tmp_path / "vendors"))
        open_accounts(served)
        authority = Authority(now())
        port = free_port()
        config_of = _configs(tmp_path / "radera", served, database, node.server.address, port, authority)
        _install(database, config_of)
        ground = open_ground(config_of["radera_orchestrator"])
        stack.callback(ground.close)
        processes = {
            name: Process(name, name, tuple(words), config_of[role], tmp_path / f"{name}.log")
            for name, (role, *words) in PROCESSES.items()
        }
        processes["serve"].port = port
        for process in processes.values():
            stack.callback(process.kill)
            process.start()
        watched = None
        with suppress(pytest.skip.Exception):  # the test says so when all else has been seen
            targets = {f"127.0.0.1:{one.port}": one.words[0] for one in processes.values()}
            watched = stack.enter_context(prometheus(tmp_path, targets))
        for process in processes.values():
            eventually(f"{process.name} is ready", _is_ready(process), within=90, every=0.2)
        unused = Radera(config_of["radera_orchestrator"], tmp_path / "unused.log")
        world = World(0, tmp_path / "radera", served, unused, ground, port)
        yield Apart(world, processes, database, tmp_path / "broker", authority, watched, postgresql_server)


def _is_ready(process: Process) -> Callable[[], bool]:
    return lambda: process.probe("/readyz") == 200


def _configs(
    home: Path, served: Vendors, database: URL, kafka: str, port: int, authority: Authority
) -> dict[str, Path]:
    """The settings of each account: the same but for the account."""
    home.mkdir(mode=0o700)
    text = write_settings(home, served, http_port=port, log_level="debug").read_text()
    secrets, key = home / "secrets", new_key("radera")
    (secrets / "opendsr-key.pem").touch(mode=0o600)
    (secrets / "opendsr-key.pem").write_text(private_pem(key))
    (secrets / "opendsr.pem").write_text(authority.issue("localhost", key))
    asks = f'opendsr_tokens = ["{hashlib.sha256(TOKEN.encode()).hexdigest()}"]\n'
    for old, new in (
        (f'public_url = "http://127.0.0.1:{port}"', f'public_url = "http://localhost:{port}"'),
        ('tenant = "byggab"\n', f'tenant = "byggab"\n{asks}'),
    ):
        assert old in text
        text = text.replace(old, new)
    made = {}
    for role in {"radera_owner", *(role for role, *_ in PROCESSES.values())}:
        made[role] = home / f"{role}.toml"
        url = _as(database, role).render_as_string(hide_password=False)
        made[role].write_text(text + _MORE.format(database=url, kafka=kafka, secrets=secrets))
    return made


def _as(database: URL, role: str) -> URL:
    return database.update_query_dict({"options": f"-crole={role}"})


def _install(database: URL, config_of: Mapping[str, Path]) -> None:
    with connect(database) as connection:
        # Roles belong to the server, where another test may be at the same.
        connection.execute("SELECT pg_advisory_lock(1)")
        connection.execute((SCRIPTS / "roles.sql").read_bytes())
        connection.execute("SELECT pg_advisory_unlock(1)")
    _told(config_of["radera_owner"], "keys", "create")
    _told(config_of["radera_owner"], "db", "upgrade")
    with connect(_as(database, "radera_owner")) as owner:
        owner.execute((SCRIPTS / "grants.sql").read_bytes())
    _told(config_of["radera_orchestrator"], "topics", "apply")


def _told(config: Path, *words: str) -> str:
    """One `radera` command, which has to go well."""
    done = subprocess.run(
        [RADERA, *words, "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert 0 == done.returncode, (words, done.stderr)
    return done.stdout


@contextmanager
def _listening(asking: AskingController) -> Iterator[None]:
    """The controller hears what it is told at its address."""

    class Heard(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(anyio.run(asking.hear, str(asking.callback), dict(self.headers), body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing is said of it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Heard) as server:
        asking.callback = f"http://127.0.0.1:{server.server_port}/heard"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.timeout(480)  # six processes and three servers begin
def test_every_role_apart(apart: Apart) -> None:
    """Requests from a producer outside and from a tenant's controller are carried out in SuperOffice,
    HubSpot and Google Analytics, by an agency that answers its mail and at a tenant whose controller decides:
    each effect is there once, nobody holds anything any more, each request has one completion, mailed once,
    and the controller heard of its own, signed. A Prometheus that scrapes every process answers each question
    of the dashboard. No identifier is in a log, in the database or at the broker.
    What nobody can read is a dead letter, which the operator deals with under serve's account.
    """
    aviary, world = Aviary(random.Random()), apart.world
    anna, berit, carl = (_person(aviary, number) for number in (1, 2, 3))
    carl.scope = carl.held = ("tenant_byggab",)
    world.settle([anna, berit, carl])
    producer = Producer(PublicKey.from_json(_told(world.config, "keys", "public")), source="web_form")
    for person in (anna, berit):
        given = [Given(kind, value) for kind, value in person.identifiers]  # type: ignore[arg-type] # kinds as texts
        made = producer.request(given, verified=True, scope=person.scope, tenant="byggab")
        person.request_id = producer.publish(world.ground.bus, made)
    asking = AskingController(
        httpx.AsyncClient(
            base_url=f"http://localhost:{world.http_port}",
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        ),
        token=TOKEN,
        root=apart.authority.root(),
        clock=now,
    )
    with _listening(asking):
        anyio.run(asking.ask, str(uuid.uuid4()), ("email", carl.email, "raw"))
        eventually("it has begun", lambda: len(world.ground.store.sagas()) == 3, within=40)
        known = {anna.request_id, berit.request_id}
        [carl.request_id] = [
            saga.request_id for saga in world.ground.store.sagas() if saga.request_id not in known
        ]
        world.await_end(240)
        eventually("the controller has heard of it", lambda: len(asking.heard) == 2, within=30)

    world.check_effects()
    world.check_nobody_is_held()
    for person in world.people:
        saga = world.saga(person)
        assert saga is not None
        ends = {step.system: getattr(step.state, "end", step.state.status) for step in saga.steps}
        assert ("completed", person.ends, ()) == (saga.status, ends, saga.escalations)
        assert world.ground.store.verify_timeline(person.request_id).is_intact
    assert (["in_progress", "completed"], []) == (
        [said["request_status"] for said in asking.heard],
        asking.refused,
    )
    completed = [one for one in apart.outcomes() if one.kind == "completed"]
    assert sorted(one.request_id for one in world.people) == sorted(one.request_id for one in completed)
    wanted = {message_id(DOMAIN, one.request_id, one.event_id) for one in completed}
    eventually(
        "they are mailed", lambda: wanted <= {str(one["message-id"]) for one in world.mails()}, within=20
    )
    mailed = Counter(str(one["message-id"]) for one in world.mails() if one["to"] == DPO)
    assert dict.fromkeys(wanted, 1) == {one: mailed[one] for one in wanted}

    if apart.watched:
        _check_the_dashboard(apart.watched, world.config.with_name("radera_serve.toml"), aviary)
    # Not before: each is an alert.
    _check_dead_letters(apart)
    _check_another_installation(apart)
    for process in apart.processes.values():
        assert process.running is not None
        process.running.terminate()
    assert {0} == {process.running.wait(30) for process in apart.processes.values() if process.running}
    search, seen = Search(aviary.canaries), set()
    for where, data in apart.rests():
        assert [] == list(search.look(where, data))
        seen |= {
            (where.split()[1], one.request_id) for one in world.people if one.request_id.encode() in data
        }
    # What may be there is found in each of them.
    assert {(place, one.request_id) for place in ("log", "record", "row") for one in world.people} <= seen
    if apart.watched is None:
        program("prometheus")


def _check_the_dashboard(watched: Prometheus, config: Path, aviary: Aviary) -> None:
    """No panel is empty, no variable has nothing to choose from, every rule can be evaluated, and the figures
    are those of all processes together.
    """
    # This one waits for its person to be verified, so that something is open and a question asked.
    waits = command(config, "submit", "--unverified", given=f"email={aviary.email('somebody else')}\n")
    assert 0 == waits.returncode, waits.stderr
    kinds = ["google_analytics", "hubspot", "recruitment", "superoffice", "tenant"]
    figures: dict[str, Callable[[float], bool]] = {
        "radera:open_requests:max": lambda it: it == 1,
        "max(radera_open_escalations)": lambda it: it == 1,
        "radera:least_time_left_seconds:min": lambda it: 27 * DAY < it < 36 * DAY,
        'sum(radera_commands_total{result="proved"})': lambda it: it >= len(kinds),
        'sum(radera_mails_total{to="dpo",result="sent"})': lambda it: it >= 3,
        **{f'sum(up{{role="{role}"}})': partial(eq, n) for role, n in ROLES.items()},
        "sum(up)": partial(eq, len(PROCESSES)),
    }

    def figure(asked: str) -> bool:
        return figures[asked](watched.value(asked))

    def is_answered(query: Query) -> bool:
        return bool(watched.query(query.filled()))

    # Each within a while: where a process is late with one answer there is a gap until the next.
    for asked in figures:
        eventually(asked, partial(figure, asked), within=20)
    for query in queries():
        eventually(str(query), partial(is_answered, query), within=20)
    eventually(
        "each rule was evaluated", lambda: {"ok"} == {rule["health"] for rule in watched.rules()}, within=30
    )
    assert [] == [name for name, label, series in variables() if not watched.label_values(label, series)]
    assert kinds == watched.label_values("kind", "radera_commands_total")
    assert [] == watched.query('ALERTS{alertstate="firing"}')
    assert [] == watched.query('{__name__=~"radera_.+_created"}')


def _check_another_installation(apart: Apart) -> None:
    """It is refused on this Kafka: each would read the other's requests, and could open none of them."""
    with new_database(apart.server) as other:
        home = apart.world.config.parent / "other"
        home.mkdir()
        text = apart.world.config.read_text().replace(
            _as(apart.database, "radera_orchestrator").render_as_string(hide_password=False),
            make_url(other).render_as_string(hide_password=False),
        )
        config = home / "radera.toml"
        config.write_text(text)
        _told(config, "keys", "create")
        _told(config, "db", "upgrade")
        done = subprocess.run(
            [RADERA, "orchestrator", "--config", str(config)],
            capture_output=True,
            text=True,
            check=False,
            env=environment(),
            timeout=60,
        )
        assert 1 == done.returncode
        assert "This Kafka belongs to another installation of Radera" in done.stderr


def _check_dead_letters(apart: Apart) -> None:
    """There is one; sent again it comes back, as one that was sent again, and is let go."""
    browse, dead = apart.world.ground.bus.browse, topics.dead_letters(topics.DECISIONS)
    apart.world.ground.bus.publish(
        [Record(topic=topics.DECISIONS, key="", value=b"no avro", headers=(("ce_id", b"stranger:1"),))]
    )
    eventually("it is there", lambda: len(list(browse([dead]))) == 1, within=20)
    with (
        closing(open_ground(apart.processes["serve"].config)) as ground,
        pytest.MonkeyPatch.context() as patch,
    ):
        # In this process, and opened once: four more take four seconds of a processor.
        patch.setattr(dlq, "open_ground", lambda _: ground)
        assert f"{dead}/0/0" in _said("list")
        assert "malformed_message" in _said("show", f"{dead}/0/0")
        assert f"replayed to {topics.DECISIONS}\n" == _said("replay", f"{dead}/0/0")
        eventually("it comes back", lambda: len(list(browse([dead]))) == 2, within=20)
        assert f"discarded {dead}/0/1\n" == _said("discard", f"{dead}/0/1")
        assert dead not in _said("list")
    attempts = [letter.header("radera-attempt") for letter in browse([dead])]
    assert [b"0", b"1"] == attempts
    [again] = [one for one in browse([topics.DECISIONS]) if one.header("radera-attempt") is not None]
    assert (b"no avro", (("ce_id", b"stranger:1"), ("radera-attempt", b"1"))) == (again.value, again.headers)


def _said(*words: str) -> str:
    done = CliRunner().invoke(main, ["dlq", *words, "--config", "unread"])
    assert 0 == done.exit_code, done.output
    return done.output


def _person(aviary: Aviary, number: int) -> Person:
    """Somebody whom every system holds."""
    who = f"person {number}"
    return Person(
        number=number,
        email=aviary.email(who),
        phone=aviary.phone(who),
        name=aviary.name(who),
        ga_client_id=aviary.cookie(who),
        scope=SYSTEMS,
        held=SYSTEMS,
    )
