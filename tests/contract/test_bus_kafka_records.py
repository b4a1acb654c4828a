"""Records on Kafka: ours, other clients', and such as nobody should send."""

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from confluent_kafka import Producer as OtherProducer
from kafka.producer.sender import Sender

from orchestrator.bus.kafka import LARGEST_RECORD, KafkaBus
from orchestrator.bus.kafka_topics import Topic, wanted
from orchestrator.bus.port import BusUnavailable, Record, RecordTooLarge
from schemas import topics
from schemas.cloudevents import headers
from schemas.codec import MAX_BYTES, encode
from schemas.messages import Callback
from tests.contract.bus_suite import receive, record, unique, values
from tests.contract.kafka_bench import Factory, wall_clock
from tests.integration.kafka_server import Server, kafka

__all__ = ["kafka"]

NOW = 1_788_220_800_000_000


@pytest.fixture
def factory(kafka: Server) -> Iterator[Factory]:
    factory = Factory(kafka, partitions=3)
    yield factory
    factory.dispose()


def other(server: Server, **settings: Any) -> OtherProducer:
    """A client that is not ours (librdkafka), which spreads keys in its own way (CRC-32)."""
    return OtherProducer({"bootstrap.servers": server.address, "acks": "all", **settings})


def test_which_topics_are_missing(factory: Factory) -> None:
    """Who asks makes none of them."""
    there, missing = unique("t"), unique("t")
    factory.make([there])
    bus = KafkaBus(factory.server.settings(), wall_clock)
    for _ in range(2):
        assert {missing} == bus.missing([there, missing])
    assert {} == bus.ends([there, missing])


def test_what_is_published_together_goes_out_together(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's thread is woken once, when all is handed over, however many partitions it is for; also
    where one of the topics was unknown to it, which it has to look up first.
    """
    woken: list[Sender] = []
    wake = Sender.wakeup

    def wakeup(sender: Sender) -> None:
        woken.append(sender)
        wake(sender)

    monkeypatch.setattr(Sender, "wakeup", wakeup)
    known, new = unique("t"), unique("t")
    factory.make([known, new])
    bus = factory.open()
    bus.publish([record(known, "k", "first")])
    woken.clear()
    bus.publish([record(known, f"k{n}", f"{n}") for n in range(30)])
    assert 1 == len(woken)
    bus.publish([record(known, "k", "last"), record(new, "k", "new")])

    with bus.subscribe(unique("g"), [known, new]) as subscription:
        got = values(receive(subscription, 33))
    assert sorted(["first", "last", "new", *(f"{n}" for n in range(30))]) == sorted(got)


class TestOthers:
    """What other producers do."""

    def test_another_client(self, factory: Factory) -> None:
        """Keys, values and headers as bytes, compressed in its way and spread by its own partitioner."""
        topic = unique("t")
        factory.make([topic], {"compression.type": "lz4"})
        producer = other(factory.server, **{"compression.type": "zstd", "linger.ms": 20})
        for n in range(30):
            producer.produce(topic, key=f"k{n % 5}", value=f"{n}".encode(), headers=[("ce_id", b"\xff\x00")])
        assert 0 == producer.flush(10)

        with factory.open().subscribe(unique("g"), [topic]) as subscription:
            got = receive(subscription, 30)

        assert sorted(range(30)) == sorted(int(d.value) for d in got)
        for key in ("k0", "k1", "k2", "k3", "k4"):
            mine = [d for d in got if d.key == key]
            assert 1 == len({d.partition for d in mine})
            assert sorted(int(d.value) for d in mine) == [int(d.value) for d in mine]
        assert {(("ce_id", b"\xff\x00"),)} == {d.headers for d in got}

    def test_what_is_not_there_reads_as_empty(self, factory: Factory) -> None:
        """No key, no value, a header without a value: each is the empty one."""
        topic = unique("t")
        factory.make([topic])
        producer = other(factory.server)
        producer.produce(topic, value=None, key=b"tombstone", headers=[("h", None)])
        producer.produce(topic, value=b"keyless")
        assert 0 == producer.flush(10)

        with factory.open().subscribe(unique("g"), [topic]) as subscription:
            got = sorted(receive(subscription, 2), key=lambda d: d.key)

        assert [("", b"keyless", ()), ("tombstone", b"", (("h", b""),))] == [
            (d.key, d.value, d.headers) for d in got
        ]

    def test_a_key_of_any_bytes(self, factory: Factory) -> None:
        """A key that is no text can be written wherever text can, and the record is read."""
        topic = unique("t")
        factory.make([topic])
        producer = other(factory.server)
        producer.produce(topic, key=b"\xff\xfe", value=b"x")
        assert 0 == producer.flush(10)

        with factory.open().subscribe(unique("g"), [topic]) as subscription:
            [got] = receive(subscription, 1)

        assert b"\\xff\\xfe" == got.key.encode("ascii")

    def test_what_was_never_committed_is_not_read(self, factory: Factory) -> None:
        """A transaction that was taken back is nobody's request; the offsets that it used are passed over."""
        topic, group = unique("t"), unique("g")
        factory.make([topic])
        producer = other(factory.server, **{"transactional.id": unique("tx")})
        producer.init_transactions(20)
        producer.begin_transaction()
        producer.produce(topic, key=b"k", value=b"taken back")
        producer.flush(10)
        producer.abort_transaction(20)
        producer.begin_transaction()
        producer.produce(topic, key=b"k", value=b"meant")
        producer.commit_transaction(20)
        factory.open().publish([record(topic, "k", "ours")])

        with factory.open().subscribe(group, [topic]) as subscription:
            assert {"meant", "ours"} == set(values(receive(subscription, 2)))
            assert [] == subscription.poll(0.3, 10)

    def test_a_header_that_is_no_text(self, factory: Factory) -> None:
        """It does not stop the partition: the record comes empty, in its place, and the rest after it."""
        topic, group = unique("t"), unique("g")
        bus = factory.open()
        bus.publish([record(topic, "k", "0"), record(topic, "k", "1")])
        broken = Record(topic=topic, key="k", value=b"2", headers=((_Untext("x"), b""),))
        bus.publish([broken])
        bus.publish([record(topic, "k", "3")])
        before = wall_clock()

        with bus.subscribe(group, [topic]) as subscription:
            got = receive(subscription, 4)
            for delivery in got:
                subscription.ack(delivery)
        assert ["0", "1", "", "3"] == values(got)
        assert [got[0].offset + n for n in range(4)] == [d.offset for d in got]
        assert got[2].timestamp >= before - 60_000_000
        assert 0 == bus.backlog(group, [topic])


class _Untext(str):
    """A name of a header that our client would not send."""

    def encode(self, *_: object) -> bytes:
        return b"\xff"


class TestSizes:
    """Up to a limit, and then refused for good rather than tried for ever."""

    @pytest.mark.timeout(60)
    def test_a_dead_letter_may_be_larger_than_what_it_is_about(self, factory: Factory) -> None:
        """The largest record that a topic takes fits, with its seal, into the topic of dead letters."""
        topic = unique("t") + ".dlq"
        factory.admin.make(Topic(topic, 1, 1, {"max.message.bytes": str(LARGEST_RECORD + 65536)}))
        factory._made.add(topic)
        value = bytes(range(256)) * 4200
        bus = factory.open()
        bus.publish([Record(topic=topic, key="k", value=value)])
        with bus.subscribe(unique("g"), [topic]) as subscription:
            assert [value] == [d.value for d in receive(subscription, 1)]

    def test_too_large(self, factory: Factory) -> None:
        """Refused at once, by us or by the broker, with an error that says trying again won't help; and the
        bus goes on.
        """
        topic, group = unique("t"), unique("g")
        bus = factory.open()
        started = time.monotonic()
        for size in (LARGEST_RECORD, 1_500_000):
            with pytest.raises(RecordTooLarge):
                bus.publish([Record(topic=topic, key="k", value=os.urandom(size))])
        bus.publish([record(topic, "k", "after")])

        assert time.monotonic() - started < 5
        with bus.subscribe(group, [topic]) as subscription:
            assert ["after"] == values(receive(subscription, 1))

    def test_the_largest_message_of_ours_fits_its_topic(self, factory: Factory) -> None:
        """With the longest key and headers that we give a record, and nothing that could be compressed."""
        topic = unique("t")
        (as_applied,) = (
            one
            for one in wanted(factory.server.settings(replication=1), ["x"])
            if one.name == topics.CONFIRMATIONS
        )
        factory.admin.make(Topic(topic, 1, 1, as_applied.config))
        factory._made.add(topic)
        trace = f"{'a' * 32}-01"
        said = Callback(event_id="c" * 200, kind="k" * 80, received_at=NOW, sealed_body=b"")
        spare = MAX_BYTES - len(encode(said.model_copy(update={"sealed_body": bytes(MAX_BYTES // 2)})))
        body = os.urandom(MAX_BYTES // 2 + spare)
        value = encode(said.model_copy(update={"sealed_body": body}))
        assert MAX_BYTES == len(value)
        sent = headers(said, event_id=said.event_id, source="s" * 80, at=NOW, trace=trace)
        factory.open().publish([Record(topic=topic, key="d" * 64, value=value, headers=sent)])


class TestMissingTopics:
    """Topics are made on purpose only."""

    def test_publishing_to_it(self, factory: Factory) -> None:
        """Fails in time with its name, makes nothing, and goes on when the topic is made."""
        topic = unique("t")
        bus = factory.open(publish_limit=timedelta(seconds=4))
        started = time.monotonic()
        with pytest.raises(BusUnavailable, match=topic):
            super(type(bus), bus).publish([record(topic, "k", "1")])
        assert time.monotonic() - started < 6
        assert {} == factory.admin.topics([topic])

        bus.publish([record(topic, "k", "2")])
        with bus.subscribe(unique("g"), [topic]) as subscription:
            assert ["2"] == values(receive(subscription, 1))

    def test_reading_it(self, factory: Factory) -> None:
        """It is empty, and is not made by waiting for it."""
        topic = unique("t")
        with factory.open().subscribe(unique("g"), [topic]) as subscription:
            assert [] == subscription.poll(1.5, 10)
        assert {} == factory.admin.topics([topic])


def test_reading_ahead_is_bounded(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that acknowledges nothing is not handed a whole topic, and goes on when it does."""
    monkeypatch.setattr("orchestrator.bus.kafka_shelf.OUTSTANDING_LIMIT", 10)
    topic = unique("t")
    bus = factory.open()
    bus.publish([record(topic, "k", str(n)) for n in range(25)])
    with bus.subscribe(unique("g"), [topic]) as subscription:
        got = receive(subscription, 10)
        assert [] == subscription.poll(0.5, 100)
        for delivery in got[:3]:
            subscription.ack(delivery)
        assert ["10", "11", "12"] == values(receive(subscription, 3))
        assert [] == subscription.poll(0.3, 100)


def test_waiting_costs_little(factory: Factory) -> None:
    """A process in which nothing happens uses little CPU, however many readers wait."""
    topic = unique("t")
    factory.make([topic])
    bus = factory.open()
    readers = [bus.subscribe(unique("g"), [topic]) for _ in range(3)]
    for reader in readers:
        reader.poll(1.0, 10)
    before = time.process_time()
    for reader in readers:
        assert [] == reader.poll(1.0, 10)

    assert time.process_time() - before < 0.6
