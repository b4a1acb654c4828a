"""The settings of the bus between processes: Kafka, and the registry of its schemas."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from orchestrator.secret import SecretRef
from orchestrator.settings.values import Duration, Line, Section, beside_the_file, is_loopback


def _server(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError('not a broker; write it as in "kafka-1.example.com:9093"')
    return value


def _instance(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9._-]{1,100}", value) is None:
        raise ValueError("not a name that Kafka takes; use letters, digits, '.', '_' and '-'")
    return value


def _registry(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError('not the address of a registry; write it as in "https://schemas.example.com"')
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds a login; take it out and give it as username and password")
    return value.rstrip("/")


class SchemaRegistry(Section):
    """A schema registry with Confluent's REST API. With it messages are written in Confluent framing, without
    it in Avro single-object encoding, and read in either.
    """

    url: Annotated[str, AfterValidator(_registry)]
    """Where the registry is, with the path under which it has its API if that isn't "/"."""
    username: Line | None = None
    """The account to log in with (HTTP Basic)."""
    password: SecretRef | None = None
    """The account's password, by reference."""
    token: SecretRef | None = None
    """A bearer token instead, by reference; read for each call, so a file may be renewed."""
    ca_file: Annotated[Path, AfterValidator(beside_the_file)] | None = None
    """The certificates to trust instead of the system's, for a registry with a private authority."""
    auto_register: bool = True
    """Whether our schemas are registered, as `<topic>-value`; else they are looked up, and must be there."""
    timeout: Duration = timedelta(seconds=5)
    """The longest wait for an answer of the registry."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password come together; give both or neither")
        if self.username is not None and self.token is not None:
            raise ValueError("token: a login is given, too; remove one of them")
        parts = urlsplit(self.url)
        if parts.scheme == "http" and self.ca_file is not None:
            raise ValueError("ca_file: certificates need https; use it, or remove them")
        login = self.username is not None or self.token is not None
        if parts.scheme == "http" and login and not is_loopback(parts.hostname or ""):
            raise ValueError("url: passwords and tokens would travel readable by anyone; use https")
        return self


class Kafka(Section):
    """The bus between processes. Without this table one process does it all, on the bus in its database."""

    servers: Annotated[tuple[Annotated[str, AfterValidator(_server)], ...], Field(min_length=1)]
    """Brokers to ask first, each as host:port; the others are found through them."""
    security: Literal["tls", "none"] = "tls"
    """How connections are protected. With "none", passwords go only to a broker on this machine."""
    ca_file: Annotated[Path, AfterValidator(beside_the_file)] | None = None
    """The certificates to trust instead of the system's, for brokers with a private authority."""
    certificate_file: Annotated[Path, AfterValidator(beside_the_file)] | None = None
    """Our certificate with its chain (PEM), for brokers that know clients by theirs."""
    key_file: Annotated[Path, AfterValidator(beside_the_file)] | None = None
    """The key of our certificate (PEM, mode 0600)."""
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = None
    """How we log in (SASL); none for brokers that know clients by certificate or network."""
    username: Line | None = None
    """The account to log in with, for PLAIN and SCRAM."""
    password: SecretRef | None = None
    """The account's password, by reference."""
    token: SecretRef | None = None
    """For OAUTHBEARER: the token, by reference; read for each connection, so a file may be renewed."""
    instance: Annotated[str, AfterValidator(_instance)] | None = None
    """A name for this process that no other has and that it keeps: then a restart within `session` moves
    no work to others and back."""
    session: Duration = timedelta(seconds=45)
    """A reader that is not heard from for this long counts as dead, and others get its work."""
    stall: Duration = timedelta(minutes=5)
    """A reader that is heard from and asks for nothing for this long gives its work to others."""
    publish_limit: Duration = timedelta(seconds=30)
    """How long publishing tries before it reports the bus to be away; the outbox keeps what waits."""
    partitions: Annotated[int, Field(ge=1, le=1000)] = 6
    """Partitions of each topic that `radera topics apply` makes: so many processes can share its work."""
    replication: Annotated[int, Field(ge=1, le=32)] = 3
    """Copies of each topic, on as many brokers; all but one must have a record before it counts."""
    retention: Duration = timedelta(days=14)
    """How long records are kept on the topics. `retention.events` must be at least as long."""
    retention_requests: Duration = timedelta(days=7)
    """The same for the topic of requests, where a sealed request lies with its key (wrapped)."""
    retention_dead_letters: Duration = timedelta(days=90)
    """The same for the topics of dead letters, which somebody must find the time to look at."""
    schema_registry: SchemaRegistry | None = None
    """Where the topics' schemas are registered; none: they are known by their fingerprints."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        login = self.mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
        if (self.username is not None, self.password is not None) != (login, login):
            raise ValueError("mechanism: username and password go with PLAIN and SCRAM; give all or none")
        if (self.token is not None) != (self.mechanism == "OAUTHBEARER"):
            raise ValueError("mechanism: token goes with OAUTHBEARER; give both or neither")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file come together; give both or neither")
        if self.security == "none" and (self.ca_file is not None or self.certificate_file is not None):
            raise ValueError('security: certificates need "tls"; use it, or remove them')
        hosts = [server.rpartition(":")[0].strip("[]") for server in self.servers]
        if self.security == "none" and self.mechanism is not None and not all(map(is_loopback, hosts)):
            raise ValueError('security: passwords and tokens would travel readable by anyone; use "tls"')
        if self.retention_requests > self.retention:
            raise ValueError("retention_requests: longer than retention; requests are kept for days only")
        return self
