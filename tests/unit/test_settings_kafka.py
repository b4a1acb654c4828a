"""What may be said of Kafka, and what is refused."""

from pathlib import Path

import pytest

from orchestrator.secret import SecretRef
from orchestrator.settings import ConfigError, Kafka, load, reference

GOOD = """
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


def _kafka(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Kafka | None:
    file = tmp_path / "radera.toml"
    file.write_text(GOOD + text, encoding="utf-8")
    return load(file, {}, environ or {}).kafka


def _problems(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        _kafka(tmp_path, text)
    return str(caught.value)


def test_without_the_table_there_is_no_kafka(tmp_path: Path) -> None:
    """A small installation says nothing of it and gets the bus in its database."""
    assert _kafka(tmp_path, "") is None


def test_a_broker_and_defaults(tmp_path: Path) -> None:
    """One line is enough, and then connections are protected."""
    kafka = _kafka(tmp_path, '[kafka]\nservers = ["kafka-1.example.com:9093"]\nca_file = "ca.pem"')

    assert kafka is not None
    assert ("kafka-1.example.com:9093",) == kafka.servers
    assert "tls" == kafka.security
    assert tmp_path / "ca.pem" == kafka.ca_file


def test_from_the_environment(tmp_path: Path) -> None:
    """A container gets its brokers and its name by environment alone."""
    environ = {"RADERA_KAFKA__SERVERS": '["[::1]:9092"]', "RADERA_KAFKA__INSTANCE": "worker-0"}
    kafka = _kafka(tmp_path, "", environ)

    assert kafka is not None
    assert (("[::1]:9092",), "worker-0") == (kafka.servers, kafka.instance)


def test_a_login_by_reference(tmp_path: Path) -> None:
    """Secrets are named, never written, and don't show."""
    kafka = _kafka(
        tmp_path,
        '[kafka]\nservers = ["b:9093"]\nmechanism = "SCRAM-SHA-512"\nusername = "radera"\n'
        'password = { env = "KAFKA_PASSWORD" }',
    )

    assert kafka is not None
    assert SecretRef(env="KAFKA_PASSWORD") == kafka.password


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("servers = []", "kafka.servers: tuple should have at least 1 item"),
        ('servers = ["kafka"]', 'kafka.servers.0: not a broker; write it as in "kafka-1.example.com:9093"'),
        ('servers = ["b:1"]\nserver = "x"', "kafka.server: there is no such key; did you mean servers?"),
        ('servers = ["b:1"]\ninstance = "a b"', "kafka.instance: not a name that Kafka takes"),
        ('servers = ["b:1"]\nsession = 45', "kafka.session: not a duration"),
        ('servers = ["b:1"]\nmechanism = "PLAIN"', "kafka.mechanism: username and password go with PLAIN"),
        ('servers = ["b:1"]\nusername = "u"', "kafka.mechanism: username and password go with PLAIN"),
        ('servers = ["b:1"]\nmechanism = "OAUTHBEARER"', "kafka.mechanism: token goes with OAUTHBEARER"),
        ('servers = ["b:1"]\ncertificate_file = "c.pem"', "certificate_file and key_file come together"),
        (
            'servers = ["b:1"]\nsecurity = "none"\nca_file = "c.pem"',
            'kafka.security: certificates need "tls"',
        ),
        (
            """servers = ["127.0.0.1:1", "b:1"]
            security = "none"
            mechanism = "OAUTHBEARER"
            token = { env = "T" }""",
            "kafka.security: passwords and tokens would travel readable by anyone",
        ),
        (
            'servers = ["b:1"]\nretention_requests = "P15D"',
            "kafka.retention_requests: longer than retention; requests are kept for days only",
        ),
        (
            'servers = ["b:1"]\nretention = "P31D"',
            "retention: events shorter than kafka.retention, so a replay",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_key(tmp_path: Path, text: str, problem: str) -> None:
    """Each mistake is named where it was made, and no value is repeated."""
    told = _problems(tmp_path, f"[kafka]\n{text}")

    assert problem in told


def _registry(text: str) -> str:
    return f'servers = ["b:1"]\n[kafka.schema_registry]\n{text}'


def test_a_registry(tmp_path: Path) -> None:
    """An address is enough; its path, if it has one, is part of it. The environment can name it, too."""
    text = _registry('url = "https://schemas.example.com/apis/ccompat/v7/"\nca_file = "ca.pem"')
    kafka = _kafka(tmp_path, f"[kafka]\n{text}")
    assert kafka is not None
    assert kafka.schema_registry is not None
    assert "https://schemas.example.com/apis/ccompat/v7" == kafka.schema_registry.url
    assert kafka.schema_registry.auto_register
    assert tmp_path / "ca.pem" == kafka.schema_registry.ca_file

    environ = {"RADERA_KAFKA__SCHEMA_REGISTRY__URL": "http://registry:8081"}
    environ["RADERA_KAFKA__SCHEMA_REGISTRY__AUTO_REGISTER"] = "false"
    kafka = _kafka(tmp_path, '[kafka]\nservers = ["b:1"]', environ)
    assert kafka is not None
    assert kafka.schema_registry is not None
    assert ("http://registry:8081", False) == (
        kafka.schema_registry.url,
        kafka.schema_registry.auto_register,
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "kafka.schema_registry.url: missing; add it (Where the registry is"),
        ('url = "registry:8081"', "kafka.schema_registry.url: not the address of a registry"),
        ('url = "https://u:p@registry"', "kafka.schema_registry.url: holds a login; take it out"),
        (
            'url = "https://r"\nurls = "x"',
            "kafka.schema_registry.urls: there is no such key; did you mean url?",
        ),
        ('url = "https://r"\nusername = "u"', "kafka.schema_registry: username and password come together"),
        (
            'url = "https://r"\nusername = "u"\npassword = { env = "P" }\ntoken = { env = "T" }',
            "kafka.schema_registry.token: a login is given, too",
        ),
        (
            'url = "http://r"\ntoken = { env = "T" }',
            "kafka.schema_registry.url: passwords and tokens would travel readable by anyone",
        ),
        ('url = "http://r"\nca_file = "c.pem"', "kafka.schema_registry.ca_file: certificates need https"),
        ('url = "https://r"\npassword = "s3cret"', "kafka.schema_registry.password: a secret stands in the"),
    ],
)
def test_what_is_wrong_with_a_registry_is_told_with_its_key(tmp_path: Path, text: str, problem: str) -> None:
    """As for the brokers; no secret is repeated."""
    told = _problems(tmp_path, f"[kafka]\n{_registry(text)}")

    assert problem in told
    assert "s3cret" not in told


def test_the_reference_has_the_table(tmp_path: Path) -> None:
    """A table that may be left out is described like the others, and so is one within another."""
    made = reference({})

    assert "### `[kafka.schema_registry]`" in made
    assert "| `url` | text | needed |" in made
    assert "### `[kafka]`" in made
    assert "| `servers` | list of text | needed |" in made
