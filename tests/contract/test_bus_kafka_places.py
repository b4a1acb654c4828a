"""A place on Kafka is more than a number: topics made anew, logs that are cut and grow again, other clusters.

Each time there are more records than the position counts, so that the offsets alone tell nothing.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from orchestrator.bus.kafka import KafkaBus
from orchestrator.bus.kafka_subscription import KafkaSubscription
from orchestrator.position import Position, mark_of
from tests.contract.bus_suite import SILENCE, receive, record, unique, values
from tests.contract.kafka_bench import Factory, committed, poll_until
from tests.integration.kafka_server import Node, Server, kafka, must_run_here
from tests.integration.ports import free_pair

__all__ = ["kafka"]

OLD = [f"old {n}" for n in range(5)]
NEW = [f"new {n}" for n in range(8)]


@pytest.fixture
def line(kafka: Server) -> Iterator[Factory]:
    factory = Factory(kafka)
    yield factory
    factory.dispose()


class Reader:
    """Reads a topic as the orchestrator does, with positions of its own, or as a worker, with the group's."""

    def __init__(self, bus: KafkaBus, topic: str, *, own: bool) -> None:
        self.bus, self.topic, self.own = bus, topic, own
        self.group = unique("g")
        self.database: dict[tuple[str, int], int] = {}

    def subscribe(self) -> KafkaSubscription:
        if not self.own:
            return self.bus.subscribe(self.group, [self.topic])
        return self.bus.subscribe(
            self.group, [self.topic], positions=lambda: dict(self.database), on_stray=self.database.update
        )

    def read(self, subscription: KafkaSubscription, number: int) -> list[str]:
        """What comes, so many records of it, each done with."""
        got = receive(subscription, number)
        for delivery in got:
            self.database[delivery.topic, delivery.partition] = delivery.following
            subscription.ack(delivery)
        return values(got)

    def read_all(self, number: int) -> list[str]:
        """The same in a life of its own, to which no more comes."""
        with self.subscribe() as subscription:
            got = self.read(subscription, number)
            assert [] == subscription.poll(SILENCE, 10)
            return got


def publish(bus: KafkaBus, topic: str, texts: list[str]) -> None:
    bus.publish([record(topic, "k", text) for text in texts])


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.message for one in caplog.records if one.name == "orchestrator.bus.kafka_marks"]


@pytest.mark.parametrize("own", [True, False], ids=["the database's position", "the group's position"])
class TestReadBefore:
    """What was read, and where, is from before the trouble."""

    def test_a_topic_made_anew(self, line: Factory, own: bool, caplog: pytest.LogCaptureFixture) -> None:
        """It has outgrown the position: all that it has is read, the alarm is raised, and the position is
        right from then on. A group's positions Kafka forgets together with the topic, and the database
        remembers which one was read.
        """
        topic, bus = unique("t"), line.open()
        reader = Reader(bus, topic, own=own)
        publish(bus, topic, OLD)
        assert OLD == reader.read_all(5)
        line.remake(topic)
        publish(bus, topic, NEW)
        assert NEW == reader.read_all(8)
        assert (["topic_rebuilt"], {topic}) == (told(caplog), set(bus.changed))
        assert [] == reader.read_all(0)
        assert ["topic_rebuilt"] == told(caplog)

    def test_a_topic_made_anew_that_was_not_read_to_its_end(
        self, line: Factory, own: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What nobody had read of it is gone, and the new one holds nothing yet: all the same the alarm is
        raised.
        """
        topic, bus = unique("t"), line.open()
        reader = Reader(bus, topic, own=own)
        line.make([topic])
        assert [] == reader.read_all(0)
        publish(bus, topic, OLD)
        line.remake(topic)
        assert [] == reader.read_all(0)
        assert (["topic_rebuilt"], {topic}) == (told(caplog), set(bus.changed))

    def test_a_log_that_was_cut_and_grew_again(
        self, line: Factory, own: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The topic is the same, and the record at the place that was read is another: its time tells."""
        topic, bus = unique("t"), line.open()
        reader = Reader(bus, topic, own=own)
        publish(bus, topic, OLD)
        with reader.subscribe() as subscription:
            reader.read(subscription, 5)
            read = cast(Position, reader.database[topic, 0])
            # As if what is there now had been published at another time.
            offset, topic_id, timestamp = read.mark.split(":")
            other = Position(read, f"{offset}:{topic_id}:{int(timestamp) - 1000}")
            poll_until(lambda: {0: 5} == committed(line, reader.group, topic), subscription)
            assert subscription._consumer is not None
            subscription._consumer.store({(topic, 0): other}, 5)
        reader.database[topic, 0] = other
        assert 5 == other
        publish(bus, topic, NEW)
        assert [*OLD, *NEW] == reader.read_all(13)
        assert ["log_rewritten"] == told(caplog)

    def test_retention_took_the_record_before(
        self, line: Factory, own: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Nothing can be compared, and nothing is wrong: reading goes on where it was."""
        topic, bus = unique("t"), line.open()
        reader = Reader(bus, topic, own=own)
        publish(bus, topic, OLD)
        reader.read_all(5)
        line.admin._client.delete_records({TopicPartition(topic, 0): 5})
        publish(bus, topic, NEW)
        assert NEW == reader.read_all(8)
        assert ([], {}) == (told(caplog), bus.changed)

    def test_while_it_is_read(self, line: Factory, own: bool, caplog: pytest.LogCaptureFixture) -> None:
        """The library goes on at its offset in the new topic; what was before it is read all the same."""
        topic, bus = unique("t"), line.open()
        reader = Reader(bus, topic, own=own)
        publish(bus, topic, OLD)
        with reader.subscribe() as subscription:
            reader.read(subscription, 5)
            line.remake(topic)
            publish(bus, topic, NEW)
            seen: set[str] = set()

            def is_all_seen() -> bool:
                seen.update(reader.read(subscription, 0))
                for delivery in subscription.poll(0.05, 10):
                    seen.add(delivery.value.decode())
                    reader.database[topic, 0] = delivery.following
                    subscription.ack(delivery)
                return seen == set(NEW)

            poll_until(is_all_seen)
            poll_until(lambda: {0: 8} == committed(line, reader.group, topic), subscription)
        assert {topic} == set(bus.changed)

    def test_a_position_without_a_mark(
        self, line: Factory, own: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An earlier version's position gets its mark when reading begins there, though nothing new comes."""
        topic, bus = unique("t"), line.open()
        reader = Reader(bus, topic, own=own)
        publish(bus, topic, OLD)
        with reader.subscribe() as subscription:
            reader.read(subscription, 5)
            poll_until(lambda: {0: 5} == committed(line, reader.group, topic), subscription)
            assert subscription._consumer is not None
            subscription._consumer.store({(topic, 0): 5}, 5)
        reader.database[topic, 0] = 5

        def marks() -> list[str]:
            known = reader.database if own else line.admin.stored(reader.group)
            return [mark_of(position)[:2] for position in known.values()]

        assert [""] == marks()
        with reader.subscribe() as subscription:
            poll_until(lambda: ["4:"] == marks(), subscription)


def test_a_group_s_position_that_is_gone(line: Factory, caplog: pytest.LogCaptureFixture) -> None:
    """It was deleted, or Kafka has let it expire: the topic is read again from its oldest record, and that is
    said.
    """
    topic, bus = unique("t"), line.open()
    reader = Reader(bus, topic, own=False)
    publish(bus, topic, OLD)
    assert OLD == reader.read_all(5)
    assert [] == reader.read_all(0)
    line.admin._client.delete_groups([reader.group])
    assert OLD == reader.read_all(5)
    assert (["position_forgotten"], {topic}) == (told(caplog), set(bus.changed))
    assert [] == reader.read_all(0)
    assert ["position_forgotten"] == told(caplog)


class TestUnread:
    """Nobody reads, and still it is told what was not read: keys are destroyed by it."""

    def read_by_a_group(self, line: Factory) -> tuple[KafkaBus, Reader, Position]:
        topic, bus = unique("t"), line.open()
        reader = Reader(bus, topic, own=True)
        publish(bus, topic, OLD)
        with reader.subscribe() as subscription:
            reader.read(subscription, 5)
            poll_until(lambda: {0: 5} == committed(line, reader.group, topic), subscription)
        return bus, reader, cast(Position, reader.database[topic, 0])

    def stored(self, line: Factory, reader: Reader, position: Position) -> None:
        """The group stands there, though nobody of it is left."""
        place = TopicPartition(reader.topic, 0)
        line.admin._client.alter_group_offsets(
            reader.group, {place: OffsetAndMetadata(int(position), position.mark, -1)}
        )

    def test_what_was_read_is_read(self, line: Factory) -> None:
        """Also where retention has taken it since."""
        bus, reader, read = self.read_by_a_group(line)
        place = (reader.topic, 0)
        assert (set(), 0) == (bus.strays({place: read}), bus.backlog(reader.group, [reader.topic]))
        line.admin._client.delete_records({TopicPartition(reader.topic, 0): 5})
        assert (set(), 0) == (bus.strays({place: read}), bus.backlog(reader.group, [reader.topic]))

    def test_a_topic_made_anew(self, line: Factory) -> None:
        """With as many records as were read of the one before."""
        bus, reader, read = self.read_by_a_group(line)
        place = (reader.topic, 0)
        line.remake(reader.topic)
        publish(bus, reader.topic, OLD)
        assert {place} == bus.strays({place: read})
        self.stored(line, reader, read)
        assert 5 == bus.backlog(reader.group, [reader.topic])

    def test_a_log_that_was_cut(self, line: Factory) -> None:
        """It ends before what was read."""
        bus, reader, read = self.read_by_a_group(line)
        beyond = Position(6, f"5:{read.mark.split(':')[1]}:1000")
        assert {(reader.topic, 0)} == bus.strays({(reader.topic, 0): beyond})
        self.stored(line, reader, beyond)
        assert 5 == bus.backlog(reader.group, [reader.topic])

    def test_a_log_that_was_cut_and_grew_by_as_much(self, line: Factory) -> None:
        """The record at the place that was read is another: its time tells."""
        bus, reader, read = self.read_by_a_group(line)
        offset, topic_id, timestamp = read.mark.split(":")
        other = Position(read, f"{offset}:{topic_id}:{int(timestamp) - 1000}")
        assert {(reader.topic, 0)} == bus.strays({(reader.topic, 0): other})
        self.stored(line, reader, other)
        assert 5 == bus.backlog(reader.group, [reader.topic])


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A broker whose disk can be put back."""
    must_run_here()
    made = Node(tmp_path_factory.mktemp("node") / "data", free_pair())
    made.start()
    yield made
    made.end()


def test_a_disk_that_was_put_back_and_another_cluster(
    node: Node, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A broker whose disk is put back from a copy has lost the newest records, and gives their numbers to
    others. A cluster that is set up anew at the same address has the same topics, by name.
    """
    topic = unique("t")
    line = Factory(node.server)
    line.make([topic])
    bus = KafkaBus(node.server.settings(), lambda: 1)
    publish(bus, topic, OLD[:3])
    shutil.copytree(node._data, tmp_path / "copy", ignore=shutil.ignore_patterns("pid"))
    publish(bus, topic, OLD[3:])
    reader = Reader(bus, topic, own=True)
    assert OLD == reader.read_all(5)
    bus.close()

    node.stop()
    shutil.rmtree(node._data)
    shutil.copytree(tmp_path / "copy", node._data)
    node.start()
    reader.bus = bus = KafkaBus(node.server.settings(), lambda: 1)
    publish(bus, topic, NEW)
    assert [*OLD[:3], *NEW] == reader.read_all(11)
    assert ["log_rewritten"] == told(caplog)
    bus.close()
    line.dispose()

    node.stop()
    shutil.rmtree(node._data)
    node.start()
    line = Factory(node.server)
    line.make([topic])
    reader.bus = bus = KafkaBus(node.server.settings(), lambda: 1)
    more = [*OLD, *NEW]
    publish(bus, topic, more)
    assert more == reader.read_all(13)
    assert ["log_rewritten", "topic_rebuilt"] == told(caplog)
    bus.close()
    line.dispose()
