"""Kafka that wants TLS, certificates and logins, with the settings that a user writes for it.

The broker is a real one: what it refuses, and how, no stand-in knows.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from click.testing import CliRunner
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ResourcePattern,
    ResourceType,
    UserScramCredentialUpsertion,
)

from orchestrator.bus import kafka_subscription
from orchestrator.bus.kafka import KafkaBus
from orchestrator.bus.port import BusUnavailable, TopicForbidden
from orchestrator.cli.main import main
from orchestrator.settings import Kafka
from tests.contract.bus_suite import receive, record, settle, unique, values
from tests.contract.kafka_bench import wall_clock
from tests.contract.protected_kafka import PASSWORD, SESSION, WRONG, Protected, protected, token

__all__ = ["protected"]

CA = 'ca_file = "ca.pem"\n'
CERTIFICATE = 'certificate_file = "client.pem"\nkey_file = "client-key.pem"\n'
NO_TLS = 'security = "none"\n'
PLAIN, SCRAM = 'mechanism = "PLAIN"\n', 'mechanism = "SCRAM-SHA-512"\n'
LOGIN = 'username = "radera"\npassword = { env = "KAFKA_PASSWORD" }\n'
WRONG_LOGIN = 'username = "radera"\npassword = { env = "KAFKA_WRONG_PASSWORD" }\n'
TOKEN = 'mechanism = "OAUTHBEARER"\ntoken = { env = "KAFKA_TOKEN" }\n'
OLD_TOKEN = 'mechanism = "OAUTHBEARER"\ntoken = { env = "KAFKA_OLD_TOKEN" }\n'

Given = TypeVar("Given")

#: By listener, what is to be written to be let in.
WAYS = {
    "certificate": ("SSL", CA + CERTIFICATE),
    "PLAIN": ("SASL_SSL", CA + PLAIN + LOGIN),
    "SCRAM-SHA-512": ("SASL_SSL", CA + SCRAM + LOGIN),
    "OAUTHBEARER": ("SASL_SSL", CA + TOKEN),
    "PLAIN on this machine": ("SASL_PLAINTEXT", NO_TLS + PLAIN + LOGIN),
    "SCRAM-SHA-512 on this machine": ("SASL_PLAINTEXT", NO_TLS + SCRAM + LOGIN),
}

REFUSED = "the brokers refused our login; see to kafka.username and kafka.password, or to kafka.token"
UNTRUSTED = (
    "the brokers' certificate is not trusted (unable to get local issuer certificate);"
    " name its authority in kafka.ca_file"
)
NOT_LET_IN = (
    "the brokers refused our side of TLS ({}); do they know clients by certificate? See to"
    " kafka.certificate_file and kafka.key_file"
)
HUNG_UP = (
    "the brokers hang up, or answer something else; do they want TLS (kafka.security), or a login"
    " (kafka.mechanism)?"
)
NO_TLS_THERE = (
    "TLS could not be agreed on; do the brokers speak it at this port? See to"
    " kafka.servers and kafka.security"
)
#: What is written wrongly, with the code and the text of the error.
MISTAKES = {
    "wrong password, PLAIN": ("SASL_SSL", CA + PLAIN + WRONG_LOGIN, "login_refused", REFUSED),
    "wrong password, SCRAM": ("SASL_SSL", CA + SCRAM + WRONG_LOGIN, "login_refused", REFUSED),
    "wrong password, no TLS": ("SASL_PLAINTEXT", NO_TLS + SCRAM + WRONG_LOGIN, "login_refused", REFUSED),
    "expired token": ("SASL_SSL", CA + OLD_TOKEN, "login_refused", REFUSED),
    "no token": (
        "SASL_SSL",
        CA + 'mechanism = "OAUTHBEARER"\ntoken = { env = "NOT_SET_ANYWHERE" }',
        "secret_unavailable",
        "environment variable NOT_SET_ANYWHERE is not set or empty: set it for this process",
    ),
    "mechanism that is off": (
        "SASL_PLAINTEXT",
        NO_TLS + TOKEN,
        "login_unknown",
        "the brokers take no login of this kind; see to kafka.mechanism",
    ),
    "login where none is asked for": (
        "SSL",
        CA + CERTIFICATE + PLAIN + LOGIN,
        "login_unasked",
        "the brokers take no login at this port; see to kafka.servers, or leave out kafka.mechanism",
    ),
    "no login": ("SASL_SSL", CA, "hung_up", HUNG_UP),
    "no TLS": ("SASL_SSL", NO_TLS, "hung_up", HUNG_UP),
    "TLS where there is none": (
        "SASL_PLAINTEXT",
        CA,
        "no_tls",
        NO_TLS_THERE,
    ),
    "another authority": (
        "SSL",
        'ca_file = "other-ca.pem"\n' + CERTIFICATE,
        "certificate_untrusted",
        UNTRUSTED,
    ),
    "the system's authorities": ("SSL", CERTIFICATE, "certificate_untrusted", UNTRUSTED),
    "no certificate": ("SSL", CA, "certificate_refused", NOT_LET_IN.format("bad certificate")),
    "certificate of another authority": (
        "SSL",
        CA + CERTIFICATE.replace("client.pem", "other-client.pem"),
        "certificate_refused",
        NOT_LET_IN.format("certificate unknown"),
    ),
}


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the settings say that they are."""
    monkeypatch.setenv("KAFKA_PASSWORD", PASSWORD)
    monkeypatch.setenv("KAFKA_WRONG_PASSWORD", WRONG)
    monkeypatch.setenv("KAFKA_TOKEN", token())
    monkeypatch.setenv("KAFKA_OLD_TOKEN", token(-100))


@contextmanager
def opened(settings: Kafka, read: Callable[[], str] | None = None) -> Iterator[KafkaBus]:
    bus = KafkaBus(settings, wall_clock, token=read)
    try:
        yield bus
    finally:
        bus.close()


def through(settings: Kafka, topic: str, what: str) -> list[str]:
    """What a new process reads from the topic when it has published this."""
    with opened(settings) as bus:
        bus.publish([record(topic, "k", what)])
        with bus.subscribe(unique("g"), [topic]) as subscription:
            return values(receive(subscription, 1))


@pytest.mark.parametrize("way", WAYS)
def test_a_record_goes_through(way: str, protected: Protected, tmp_path: Path) -> None:
    """It is published and read with nothing but what the reference of the settings names."""
    listener, table = WAYS[way]
    host = "localhost" if "ca_file" in table else "127.0.0.1"
    settings = protected.settings(protected.at(listener, host) + table, tmp_path)
    topic = protected.topic()

    assert [way] == through(settings, topic, way)
    with opened(settings) as bus:
        assert set() == bus.missing([topic])
        assert [way.encode()] == [one.value for one in bus.browse([topic])]


def test_each_mistake_is_told(protected: Protected, tmp_path: Path) -> None:
    """By the setting to mend, with a code for the log, and without a secret; all at once, since each tries
    for a while.
    """
    topic = protected.topic()
    settings = {
        mistake: protected.settings(protected.at(listener) + table, tmp_path)
        for mistake, (listener, table, _, _) in MISTAKES.items()
    }

    def told(mistake: str) -> tuple[str | None, str]:
        with opened(settings[mistake]) as bus:
            with pytest.raises(BusUnavailable) as caught:
                bus.publish([record(topic, "k", "refused")])
            return caught.value.code, str(caught.value)

    expected = {
        mistake: (code, f"the bus can't be reached: {text}")
        for mistake, (_, _, code, text) in MISTAKES.items()
    }
    with ThreadPoolExecutor(len(MISTAKES)) as pool:
        assert expected == dict(zip(MISTAKES, pool.map(told, MISTAKES), strict=True))


def test_a_broker_by_another_name(protected: Protected, tmp_path: Path) -> None:
    """A certificate is for a host, and no other is taken for it. A reader hears of it like a writer."""
    settings = protected.settings(protected.at("SSL", "127.0.0.1") + CA + CERTIFICATE, tmp_path)
    with opened(settings) as bus, pytest.raises(BusUnavailable) as caught:
        bus.subscribe(unique("g"), [unique("t")]).poll(0, 1)
    assert (
        "the bus can't be reached: the brokers' certificate is for another host (IP address mismatch,"
        " certificate is not valid for '127.0.0.1'); name them in kafka.servers as it does"
    ) == str(caught.value)


def test_the_operator_is_told(protected: Protected, tmp_path: Path) -> None:
    """`radera topics check` tries the connection, and says in one line what to mend."""
    file = protected.written(protected.at("SASL_SSL") + CA + SCRAM + WRONG_LOGIN, tmp_path)
    result = CliRunner().invoke(main, ["topics", "check", "--config", str(file)])
    assert 1 == result.exit_code
    assert [f"radera: the bus can't be reached: {REFUSED}"] == result.output.splitlines()


def test_each_connection_has_a_token_of_its_time(protected: Protected, tmp_path: Path) -> None:
    """One that has expired meanwhile is refused when a producer connects anew, and a renewed one is taken."""
    file = tmp_path / "token"
    file.write_text(token())
    table = f'{CA}mechanism = "OAUTHBEARER"\ntoken = {{ file = "{file}" }}\n'
    settings = protected.settings(protected.at("SASL_SSL") + table, tmp_path)
    topic = protected.topic()
    with opened(settings) as bus:
        bus.publish([record(topic, "k", "1")])
    with opened(settings) as bus:
        file.write_text(token(-100))
        with pytest.raises(BusUnavailable, match="refused our login"):
            bus.publish([record(topic, "k", "2")])
        file.write_text(token() + "\n")
        bus.publish([record(topic, "k", "3")])
        with bus.subscribe(unique("g"), [topic]) as subscription:
            assert ["1", "3"] == values(receive(subscription, 2))


def test_a_connection_outlives_its_token(protected: Protected, tmp_path: Path) -> None:
    """A broker wants a new token before the old one ends. It gets one, and who reads notices nothing."""
    asked = []

    def read() -> str:
        asked.append(time.monotonic())
        return token(SESSION / 1000)

    settings = protected.settings(protected.at("SASL_SSL") + CA + TOKEN, tmp_path)
    topic = protected.topic()
    with opened(settings, read) as bus, bus.subscribe(unique("g"), [topic]) as subscription:
        bus.publish([record(topic, "k", "1")])
        settle(subscription, receive(subscription, 1))
        connected, consumer = len(asked), subscription._consumer
        deadline = time.monotonic() + 20
        while len(asked) < 2 * connected:
            assert time.monotonic() < deadline
            assert [] == subscription.poll(0.1, 10)
        bus.publish([record(topic, "k", "2")])
        assert ["2"] == values(receive(subscription, 1))
        assert consumer is subscription._consumer


def test_a_password_is_changed(protected: Protected, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads is refused from then on, says so, and goes on by itself when the file has the new one."""
    # The time after which a group that nobody answers for is told of.
    monkeypatch.setattr(kafka_subscription, "_SILENCE", 2.0)
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    login = f'username = "changing"\npassword = {{ file = "{file}" }}\n'
    settings = protected.settings(
        protected.at("SASL_PLAINTEXT", "127.0.0.1") + NO_TLS + SCRAM + login, tmp_path
    )
    settings = settings.model_copy(update={"publish_limit": timedelta(seconds=2)})
    topic = protected.topic()
    with opened(settings) as bus, bus.subscribe(unique("g"), [topic]) as subscription:
        bus.publish([record(topic, "k", "1")])
        settle(subscription, receive(subscription, 1))
        change_password(protected, "changing", "new-s3cret")
        deadline = time.monotonic() + 30
        # Until it is to be made anew; by then no connection has a session from before.
        while subscription._consumer is not None:
            assert time.monotonic() < deadline
            with suppress(BusUnavailable):
                time.sleep(0.1)
                assert [] == subscription.poll(0.1, 10)
        with pytest.raises(BusUnavailable) as caught:
            subscription.poll(0.1, 10)
        assert "login_refused" == caught.value.code
        with pytest.raises(BusUnavailable) as caught:
            bus.publish([record(topic, "k", "lost")])
        assert "login_refused" == caught.value.code
        file.write_text("new-s3cret")
        until_taken(lambda: bus.publish([record(topic, "k", "2")]))
        assert ["2"] == values(until_taken(lambda: subscription.poll(0.5, 10)))


def until_taken(call: Callable[[], Given]) -> Given:
    """What it gives in the end; as the roles do, it tries again where the bus is not there."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(BusUnavailable):
            given = call()
            if given != []:
                return given
        time.sleep(0.1)
    pytest.fail("nothing was taken")


def change_password(protected: Protected, user: str, password: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=[protected.open.address])
    try:
        done = admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion(user, "SCRAM-SHA-512", password)]
        )
        assert {user: None} == done
    finally:
        admin.close()


def comes_true(is_so: Callable[[], bool]) -> None:
    """Brokers take a moment to hear of a right."""
    until = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.1)


class TestRights:
    """What an account may not do, while everything else goes on."""

    def test_a_topic_that_may_not_be_written_to(self, protected: Protected, tmp_path: Path) -> None:
        """It is told apart before anything is published to it; publishing says that a right is missing; and
        once the right is given both go on.
        """
        listener, login = WAYS["PLAIN"]
        mine, forbidden = protected.topic(), protected.topic()
        with opened(protected.settings(protected.at(listener) + login, tmp_path)) as bus:
            with denied(protected, forbidden, ACLOperation.WRITE):
                comes_true(lambda: {forbidden} == bus.missing([mine, forbidden]))
                with pytest.raises(TopicForbidden):
                    bus.publish([record(mine, "k", "1"), record(forbidden, "k", "1")])
                bus.publish([record(mine, "k", "2")])
            with denied(protected, forbidden, ACLOperation.DESCRIBE):
                comes_true(lambda: {forbidden} == bus.missing([mine, forbidden]))
            comes_true(lambda: set() == bus.missing([mine, forbidden]))
            bus.publish([record(forbidden, "k", "3")])


@contextmanager
def denied(protected: Protected, topic: str, operation: ACLOperation) -> Iterator[None]:
    """Take a right to a topic away from the account for a while, and leave it the others."""
    resource = ResourcePattern(ResourceType.TOPIC, topic)
    no = ("User:radera", "*", operation, ACLPermissionType.DENY, resource)
    admin = KafkaAdminClient(bootstrap_servers=protected.open.address)
    try:
        admin.create_acls([ACL(*no), ACL("User:*", "*", ACLOperation.ALL, ACLPermissionType.ALLOW, resource)])
        yield
        admin.delete_acls([ACLFilter(*no)])
    finally:
        admin.close()
