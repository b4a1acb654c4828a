"""A Kafka that lets nobody in unasked: with TLS of a private authority, client certificates and logins.

One node of `deploy/kafka` for the whole run, with three listeners beside the usual one: "SSL" knows clients
by certificate, "SASL_SSL" and, without TLS, "SASL_PLAINTEXT" by login. Settings are written as users write
them.
"""

import base64
import json
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from handlers.sandbox.certificates import Authority, new_key, private_pem
from orchestrator.bus.kafka_admin import opened_admin
from orchestrator.bus.kafka_topics import Topic
from orchestrator.settings import Kafka, load
from tests.ci import cannot_run
from tests.contract.bus_suite import unique
from tests.integration import keepers
from tests.integration.kafka_server import (
    CannotStart,
    Server,
    folder_of_the_run,
    kept_node,
    must_run_here,
    once,
)
from tests.integration.ports import free_pair, free_port

#: Those of the account "radera" that every login is for.
PASSWORD = "right-s3cret"
WRONG = "wrong-s3cret"
#: How long a login by token, or as "changing", counts on a connection, in milliseconds.
SESSION = 1500

_INSTALLATION = """
[installation]
name = "Example"
domain = "radera.example.com"
public_url = "https://radera.example.com"

[dpo]
address = "dpo@example.com"

[smtp]
host = "mail.example.com"
sender = "radera@example.com"

[systems.archive]
kind = "holds_nothing"
reason = "paper"
"""

_MORE = """
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},SSL://127.0.0.1:{SSL},\
SASL_SSL://127.0.0.1:{SASL_SSL},SASL_PLAINTEXT://127.0.0.1:{SASL_PLAINTEXT}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SSL://localhost:{SSL},SASL_SSL://localhost:{SASL_SSL},\
SASL_PLAINTEXT://127.0.0.1:{SASL_PLAINTEXT}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL,\
SASL_PLAINTEXT:SASL_PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
listener.name.ssl.ssl.client.auth=required
listener.name.sasl_ssl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512,OAUTHBEARER
listener.name.sasl_plaintext.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.sasl_ssl.oauthbearer.connections.max.reauth.ms={session}
listener.name.sasl_plaintext.scram-sha-512.connections.max.reauth.ms={session}
listener.name.sasl_ssl.oauthbearer.sasl.jaas.config=\
org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
super.users=User:ANONYMOUS
"""
_LOGINS = """
listener.name.{listener}.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_radera="{password}";
listener.name.{listener}.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
"""
_ACCOUNTS = """\
# Who may log in by SCRAM.
SCRAM-SHA-512=[name=radera,password={password}]
SCRAM-SHA-512=[name=changing,password={password}]
"""


@dataclass(frozen=True)
class Protected:
    """The node, and the files that its clients have."""

    folder: Path
    ports: dict[str, int]

    @property
    def open(self) -> Server:
        """Its listener that knows everybody."""
        return Server(f"127.0.0.1:{self.ports['port']}", 3.0)

    def at(self, listener: str, host: str = "localhost") -> str:
        """The line of the settings that names it."""
        return f'servers = ["{host}:{self.ports[listener]}"]\n'

    def file(self, name: str, text: str | None = None) -> Path:
        """One of its files; with a text, written anew."""
        path = self.folder / name
        if text is not None:
            path.write_text(text)
        return path

    def settings(self, table: str, folder: Path) -> Kafka:
        """Those of a file in `folder` with this table. Waits are short."""
        kafka = load(self.written(table, folder), {}, {}).kafka
        assert kafka is not None
        return kafka

    def written(self, table: str, folder: Path) -> Path:
        """A file of settings with this table, and the certificates that it may name beside it."""
        for name in ("ca.pem", "other-ca.pem", "client.pem", "client-key.pem", "other-client.pem"):
            (folder / name).write_bytes((self.folder / name).read_bytes())
        file = folder / f"{unique('radera')}.toml"
        file.write_text(
            f'{_INSTALLATION}\n[kafka]\nreplication = 1\nsession = "PT6S"\npublish_limit = "PT6S"\n{table}'
        )
        return file

    def topic(self) -> str:
        """A new one."""
        name = unique("t")
        with opened_admin(self.open.settings()) as admin:
            admin.make(Topic(name, 1, 1, {}))
        return name


def token(seconds: float = 3600) -> str:
    """One that Kafka's own check takes, and that nobody signed. Less than nothing: it has expired."""

    def part(claims: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()

    now = time.time()
    issued = min(now, now + seconds) - 1
    return f"{part({'alg': 'none'})}.{part({'sub': 'radera', 'iat': issued, 'exp': now + seconds})}."


def _started(folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    now = time.time_ns() // 1000
    ours, others = Authority(now, "Authority of brokers"), Authority(now, "Another authority")
    (folder / "ca.pem").write_text(ours.root())
    (folder / "other-ca.pem").write_text(others.root())
    key = new_key("broker")
    (folder / "broker.pem").write_text(private_pem(key) + ours.issue("localhost", key))
    key = new_key("radera")
    (folder / "client-key.pem").write_text(private_pem(key))
    (folder / "client.pem").write_text(ours.issue("radera.example.com", key, client=True))
    (folder / "other-client.pem").write_text(others.issue("radera.example.com", key, client=True))

    port, login = free_pair(), free_pair()
    ports = {"port": port, "controller": port + 1, "SSL": free_port()}
    ports |= {"SASL_SSL": login, "SASL_PLAINTEXT": login + 1}
    more = _MORE.format(folder=folder, session=SESSION, **ports)
    for listener in ("sasl_ssl", "sasl_plaintext"):
        more += _LOGINS.format(listener=listener, password=PASSWORD)
    (folder / "more.properties").write_text(more)
    (folder / "accounts").write_text(_ACCOUNTS.format(password=PASSWORD))
    files = {"KAFKA_SETTINGS": str(folder / "more.properties"), "KAFKA_ACCOUNTS": str(folder / "accounts")}
    kept_node(folder / "kafka", keepers.owner(), port, **files)
    return json.dumps({"folder": str(folder), "ports": ports})


@pytest.fixture(scope="session")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Protected:
    """The node, running; one for all tests of a run."""
    must_run_here()
    folder = folder_of_the_run(tmp_path_factory)
    try:
        told = json.loads(once(folder, "protected", lambda: _started(folder / "protected")))
    except CannotStart as error:
        cannot_run(str(error))
    return Protected(Path(told["folder"]), told["ports"])
