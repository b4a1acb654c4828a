"""What of the bus on Kafka can be told without a broker."""

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from kafka import OffsetSpec
from kafka.partitioner.default import DefaultPartitioner

from handlers.sandbox.certificates import Authority, new_key
from orchestrator.bus.kafka import KafkaBus
from orchestrator.bus.kafka_admin import Admin
from orchestrator.bus.kafka_client import connection, partition_among
from orchestrator.bus.kafka_shelf import Shelf
from orchestrator.bus.kafka_topics import Topic, differences, wanted
from orchestrator.bus.kafka_watch import Watch
from orchestrator.bus.port import BusUnavailable, Delivery, SubscriptionClosed
from orchestrator.settings import Kafka
from schemas import topics


def delivery(offset: int, size: int = 1) -> Delivery:
    return Delivery(topic="t", key="k", value=bytes(size), partition=0, offset=offset, timestamp=0)


def settings(**given: Any) -> Kafka:
    return Kafka.model_validate({"servers": ["broker.example.com:9093"], **given})


class Cluster:
    """Knows one topic of twelve partitions."""

    def topics(self) -> set[str]:
        return {"t"}

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(12))

    available_partitions_for_topic = partitions_for_topic


@given(st.binary(min_size=1))
def test_a_key_has_the_partition_that_the_library_gives_it(key: bytes) -> None:
    """A request's records stay where those of earlier versions, and of other clients, are."""
    expected = DefaultPartitioner().partition("t", None, key, None, None, Cluster())
    assert expected == partition_among(Cluster().partitions_for_topic("t"), key)


class TestShelf:
    """The position of a partition, out of what was read, delivered and acknowledged."""

    def test_the_position_is_the_lowest_gap(self) -> None:
        """In whatever order records are acknowledged, and across offsets that nobody has."""
        shelf = Shelf()
        positions = [shelf.position]
        shelf.add([delivery(offset) for offset in (10, 11, 15, 16, 20)])
        positions.append(shelf.position)
        assert [None, 10] == positions
        first, second, third, fourth = (shelf.take() for _ in range(4))
        assert (10, False) == (shelf.position, shelf.has_moved)

        shelf.ack(third)
        assert 10 == shelf.position
        shelf.ack(first)
        assert (11, True) == (shelf.position, shelf.has_moved)
        shelf.ack(second)
        assert 16 == shelf.position
        shelf.ack(fourth)
        assert 20 == shelf.position
        shelf.ack(shelf.take())
        assert 21 == shelf.position
        shelf.stored = 21
        assert (21, False) == (shelf.position, shelf.has_moved)

    def test_what_was_done_before_is_told(self) -> None:
        """Who begins at a position of its own has it stored, also where nothing more comes."""
        shelf = Shelf()
        shelf.begin_at(7)
        assert (7, True) == (shelf.position, shelf.has_moved)
        shelf.stored = 7
        assert not shelf.has_moved
        shelf.add([delivery(9)])
        shelf.ack(shelf.take())
        assert (10, True) == (shelf.position, shelf.has_moved)

    def test_another_delivery_of_the_same_record(self) -> None:
        """One from before the partition was lost is not what is out now."""
        shelf = Shelf()
        shelf.add([delivery(5)])
        shelf.take()
        shelf.ack(delivery(5))
        assert (5, False) == (shelf.position, shelf.has_moved)

    def test_full(self) -> None:
        """By number, or by bytes: big records are not read ahead by the hundred."""
        shelf = Shelf()
        told = []
        shelf.add([delivery(offset) for offset in range(499)])
        told.append(shelf.is_full)
        shelf.add([delivery(499)])
        told.append(shelf.is_full)
        shelf.take()
        told.append(shelf.is_full)
        shelf.add([delivery(500, 5 << 20)])
        told.append(shelf.is_full)
        assert [False, True, False, True] == told

    def test_a_record_that_waits_for_its_schema(self) -> None:
        """It holds back those behind it, and the position; when it can be read all go, in order."""
        known = {b"known"}
        shelf = Shelf(lambda value: value in known)
        shelf.add([replace(delivery(n), value=b"known" if n != 6 else b"new") for n in (5, 6, 7)])
        shelf.ack(shelf.take())
        assert (False, b"new", 6) == (shelf.can_give, shelf.held_back, shelf.position)
        known.add(b"new")
        assert (True, None) == (shelf.can_give, shelf.held_back)
        assert [6, 7] == [shelf.take().offset for _ in range(2)]
        assert (False, None) == (shelf.can_give, shelf.held_back)


class TestWatch:
    """Slow is not stuck."""

    def test_a_call_that_does_not_come_back(self) -> None:
        """Told while it is under way past its limit and some grace, and no longer."""
        watch = Watch(grace=0.05)
        told = []
        with watch.call(0.05), watch.call(10):
            told.append(watch.is_overdue)
            time.sleep(0.15)
            told.append(watch.is_overdue)
        told.append(watch.is_overdue)
        assert [False, True, False] == told


class TestConnection:
    """From the settings to what the library asks for."""

    def test_protected_by_default(self) -> None:
        """Certificates and names are verified."""
        config = connection(settings())

        context = config["ssl_context"]
        assert "SSL" == config["security_protocol"]
        assert (ssl.CERT_REQUIRED, True) == (context.verify_mode, context.check_hostname)

    def test_a_password(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Read when it is needed, so that a new one counts for the next connection."""
        given = settings(mechanism="SCRAM-SHA-512", username="radera", password={"env": "KAFKA_PASSWORD"})
        monkeypatch.setenv("KAFKA_PASSWORD", "old")
        connection(given)
        monkeypatch.setenv("KAFKA_PASSWORD", "new")

        config = connection(given)
        assert ("SASL_SSL", "SCRAM-SHA-512") == (config["security_protocol"], config["sasl_mechanism"])
        assert ("radera", "new") == (config["sasl_plain_username"], config["sasl_plain_password"])

    def test_a_token(self, tmp_path: Path) -> None:
        """Read for each connection, from where the settings say or by whoever is handed in."""
        file = tmp_path / "token"
        given = settings(mechanism="OAUTHBEARER", token={"file": file})
        provider = connection(given)["sasl_oauth_token_provider"]
        file.write_text("one")
        assert "one" == provider.token()
        file.write_text("two\n")
        assert "two" == provider.token()
        assert "mine" == connection(given, lambda: "mine")["sasl_oauth_token_provider"].token()

    def test_without_protection(self) -> None:
        """Only where the settings say so."""
        assert "PLAINTEXT" == connection(settings(security="none"))["security_protocol"]

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (
                {"mechanism": "PLAIN", "username": "u", "password": {"env": "NOT_SET_ANYWHERE"}},
                "environment variable NOT_SET_ANYWHERE is not set",
            ),
            (
                {"ca_file": "/nowhere/ca.pem"},
                r"^kafka.ca_file can't be used \(No such file or directory\): mend the file",
            ),
            ({"ca_file": __file__}, r"^kafka.ca_file can't be used \(not PEM\): mend the file"),
            (
                {"certificate_file": "/nowhere/c.pem", "key_file": "/nowhere/k.pem"},
                r"^kafka.certificate_file or kafka.key_file can't be used \(No such file or directory\)",
            ),
        ],
    )
    def test_what_is_missing_is_named(self, given: dict[str, Any], said: str) -> None:
        """It may come yet: a mounted secret, say. Until then the bus is unavailable, and says why."""
        bus = KafkaBus(settings(**given), lambda: 0)
        with pytest.raises(BusUnavailable, match=said):
            bus.subscribe("g", ["t"]).poll(0, 1)

    def test_a_key_with_a_password(self, tmp_path: Path) -> None:
        """Nobody is there to type it; OpenSSL would ask the terminal, and wait."""
        key = new_key("client")
        locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"a password"))
        (tmp_path / "c.pem").write_text(Authority(0).issue("client.example.com", key, client=True))
        (tmp_path / "k.pem").write_bytes(locked)
        given = settings(certificate_file=tmp_path / "c.pem", key_file=tmp_path / "k.pem")
        with pytest.raises(BusUnavailable, match="key with a password") as caught:
            connection(given)
        assert "certificate_unusable" == caught.value.code


def accepted(server: socket.socket) -> Iterator[socket.socket]:
    """The connections that wait to be taken."""
    server.settimeout(0.1)
    with suppress(TimeoutError):
        while True:
            yield server.accept()[0]


def is_over(connection: socket.socket) -> bool:
    """Whether the other side has closed it."""
    connection.settimeout(1)
    with connection, suppress(TimeoutError):
        while connection.recv(4096):
            pass
        return True
    return False


class TestAway:
    """Without a broker."""

    def test_one_that_hangs_before_tls(self) -> None:
        """It takes connections and says nothing: publishing and polling end in their time, and leave no
        connection behind.
        """
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            given = settings(servers=[f"127.0.0.1:{port}"], publish_limit=timedelta(seconds=1))
            bus = KafkaBus(given, lambda: 0)
            started = time.monotonic()
            with pytest.raises(BusUnavailable, match="can't be reached"):
                bus.publish([delivery(0)])
            with pytest.raises(BusUnavailable, match="can't be reached"):
                bus.subscribe("g", ["t"]).poll(0, 1)
            assert time.monotonic() - started < 5
            over = [is_over(connection) for connection in accepted(silent)]
            assert [True, True] == over
            bus.close()

    def test_polling(self) -> None:
        """Says so in time, again and again, and closing ends it."""
        bus = KafkaBus(settings(servers=["127.0.0.1:1"], security="none"), lambda: 0)
        subscription = bus.subscribe("g", ["t"])
        started = time.monotonic()
        with pytest.raises(BusUnavailable, match="can't be reached"):
            subscription.poll(0, 1)
        bus.close()
        with pytest.raises(SubscriptionClosed):
            subscription.poll(0, 1)
        assert time.monotonic() - started < 5
        assert not bus.is_stuck

    def test_publishing(self) -> None:
        """Fails within its limit; publishing nothing needs no broker."""
        given = settings(servers=["127.0.0.1:1"], security="none", publish_limit=timedelta(seconds=2))
        bus = KafkaBus(given, lambda: 0)
        bus.publish([])
        started = time.monotonic()
        with pytest.raises(BusUnavailable, match="can't be reached"):
            bus.publish([delivery(0)])
        assert time.monotonic() - started < 3


class Brokers:
    """They hold two records of each topic on one partition, and of some they have an error to tell."""

    def __init__(self, **errors: int) -> None:
        self._errors = errors

    def describe_topics(self, names: Sequence[str]) -> list[dict[str, Any]]:
        codes = {name: self._errors.get(name, 0) for name in names}
        return [
            {"name": name, "error_code": code, "partitions": [] if code else [{"partition_index": 0}]}
            for name, code in codes.items()
        ]

    def list_partition_offsets(self, asked: dict[Any, OffsetSpec]) -> dict[Any, Any]:
        return {
            place: SimpleNamespace(offset=2 if spec == OffsetSpec.LATEST else 0)
            for place, spec in asked.items()
        }

    def list_group_offsets(self, groups: Sequence[str]) -> dict[str, dict[Any, Any]]:
        return {group: {} for group in groups}


class TestExtent:
    """How much topics hold; on it rests what waits for a request, and whether a key may be destroyed."""

    def test_a_topic_that_does_not_exist_holds_nothing(self) -> None:
        """Others are counted beside it."""
        admin = Admin(Brokers(missing=3))
        assert {("t", 0): (0, 2)} == admin.extent(["missing", "t"])
        assert 2 == admin.backlog("g", ["missing", "t"], lambda _: set())

    def test_which_topics_are_missing(self) -> None:
        """Those that don't exist, and not those of which the brokers don't tell."""
        assert {"missing"} == Admin(Brokers(missing=3)).missing(["missing", "t"])
        with pytest.raises(BusUnavailable):
            Admin(Brokers(missing=3, t=5)).missing(["missing", "t"])

    @pytest.mark.parametrize(("code", "name"), [(5, "LeaderNotAvailable"), (29, "TopicAuthorizationFailed")])
    def test_a_topic_of_which_the_brokers_do_not_tell(self, code: int, name: str) -> None:
        """What they don't tell is not nothing."""
        admin = Admin(Brokers(t=code))
        for ask in (
            lambda: admin.extent(["t", "u"]),
            lambda: admin.backlog("g", ["t", "u"], lambda _: set()),
        ):
            with pytest.raises(BusUnavailable, match=f"topic t holds: {name}"):
                ask()


class TestTopics:
    """What an installation needs, and how what is there differs."""

    def test_every_topic_has_its_dead_letters(self) -> None:
        """One commands and one callbacks topic for each kind, and a .dlq beside each that is read in turn."""
        names = {topic.name for topic in wanted(settings(), ["hubspot", "tenant", "hubspot"])}

        names.remove(topics.INSTALLATION)
        assert 16 == len(names)
        assert {topics.commands("hubspot"), topics.callbacks("tenant")} <= names
        assert {topics.dead_letters(name) for name in names if not name.endswith(".dlq")} <= names

    def test_a_record_counts_when_all_but_one_copy_have_it(self) -> None:
        """With a single copy, that one."""
        for copies, needed in ((3, "2"), (2, "1"), (1, "1")):
            given = wanted(settings(replication=copies), [])
            assert {needed} == {topic.config["min.insync.replicas"] for topic in given}

    def test_differences(self) -> None:
        """Each is one line; what the settings say nothing of is nobody's business."""
        want = Topic("t", 6, 3, {"retention.ms": "1"})
        assert ["is missing"] == differences(want, None)
        assert [] == differences(want, Topic("t", 6, 3, {"retention.ms": "1", "flush.ms": "5"}))
        assert ["has 3 partitions, not 6", "has 1 copies, not 3", "retention.ms is not known, not 1"] == (
            differences(want, Topic("t", 3, 1, {}))
        )


def test_an_installation_without_kafka_does_not_load_it() -> None:
    """The library takes a quarter of a second to load; whoever runs the embedded bus doesn't pay for it."""
    code = "import sys, orchestrator.cli.main, orchestrator.cli.assembly; sys.exit('kafka' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode
