"""What a group on Kafka keeps to while its members come, go, stall and die."""

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing.connection import Connection

import pytest
from kafka import TopicPartition

from orchestrator.bus.kafka import KafkaBus
from orchestrator.bus.kafka_subscription import KafkaSubscription
from orchestrator.bus.port import BusUnavailable, Delivery, Positions
from orchestrator.settings import Kafka
from tests.contract.bus_suite import receive, record, settle, unique, values
from tests.contract.kafka_bench import Factory, committed, cut, members, owned, poll_until, wall_clock
from tests.integration.kafka_server import Server, kafka

__all__ = ["kafka"]


@pytest.fixture
def factory(kafka: Server) -> Iterator[Factory]:
    """Four partitions to share."""
    factory = Factory(kafka, partitions=4)
    yield factory
    factory.dispose()


@pytest.fixture
def line(kafka: Server) -> Iterator[Factory]:
    """One partition: who has it, has all."""
    factory = Factory(kafka)
    yield factory
    factory.dispose()


def halved(one: KafkaSubscription, other: KafkaSubscription) -> bool:
    return (len(owned(one)), len(owned(other))) == (2, 2)


def places(deliveries: list[Delivery]) -> list[tuple[int, int]]:
    return sorted((one.partition, one.offset) for one in deliveries)


def begun(bus: KafkaBus, group: str, topic: str) -> None:
    """The group has been here: it has read the first record."""
    with bus.subscribe(group, [topic]) as subscription:
        subscription.ack(receive(subscription, 1)[0])


class TestRebalance:
    """A second member comes, and goes."""

    def test_each_topic_is_shared(self, factory: Factory) -> None:
        """Whoever comes gets its part of each topic: one may have nearly all of the records."""
        busy, quiet, group = unique("t"), unique("t"), unique("g")
        factory.make([busy, quiet])
        bus = factory.open()
        one, other = bus.subscribe(group, [busy, quiet]), bus.subscribe(group, [busy, quiet])
        poll_until(lambda: len(one._shelves) == 8, one)

        poll_until(lambda: len(one._shelves) == len(other._shelves) == 4, one, other)

        for member in (one, other):
            assert {busy: 2, quiet: 2} == Counter(topic for topic, _ in member._shelves)

    def test_work_in_flight(self, factory: Factory) -> None:
        """What a member keeps stays in flight with it; what it loses goes to the other, from where it was
        acknowledged; and comes back when the other leaves, which it says: nobody waits for its session.
        """
        topic, group = unique("t"), unique("g")
        bus = factory.open()
        bus.publish([record(topic, f"k{n}", str(n)) for n in range(80)])
        one, other = bus.subscribe(group, [topic]), bus.subscribe(group, [topic])
        flying = receive(one, 80)
        done = [delivery for delivery in flying if delivery.offset < 3]
        settle(one, done)

        from_one, from_other = poll_until(lambda: halved(one, other), one, other)
        lost = [d for d in flying if d.partition in owned(other) and d not in done]
        from_other += receive(other, len(lost) - len(from_other))
        assert [] == from_one
        assert places(lost) == places(from_other)

        # Only the two that stayed count for the first, only the others for the second.
        settle(one, flying)
        settle(other, from_other[:-1])
        still = from_other[-1]
        other.close()
        assert 1 == members(factory, group)
        [came_back] = receive(one, 1)
        assert (still.partition, still.offset) == (came_back.partition, came_back.offset)
        one.ack(still)
        assert [] == one.poll(0.3, 10)
        assert 1 == bus.backlog(group, [topic])
        settle(one, [came_back])
        assert 0 == bus.backlog(group, [topic])

    def test_what_was_acknowledged_is_stored_before_it_goes(self, factory: Factory) -> None:
        """Acknowledging goes on while partitions move, and nothing that was acknowledged comes again."""
        topic, group = unique("t"), unique("g")
        bus = factory.open()
        bus.publish([record(topic, f"k{n}", str(n)) for n in range(400)])
        one, other = bus.subscribe(group, [topic]), bus.subscribe(group, [topic])
        flying = receive(one, 400)
        left = {number: [d for d in flying if d.partition == number] for number in range(4)}
        acknowledged: set[tuple[int, int]] = set()
        from_other: list[Delivery] = []
        deadline = time.monotonic() + 30
        while not halved(one, other):
            assert time.monotonic() < deadline
            for number in owned(one):
                if left[number]:
                    delivery = left[number].pop(0)
                    one.ack(delivery)
                    acknowledged.add((delivery.partition, delivery.offset))
            assert [] == one.poll(0.05, 10)
            from_other += other.poll(0.05, 1000)
        from_other += receive(other, sum(len(left[number]) for number in owned(other)) - len(from_other))

        assert acknowledged
        assert set() == acknowledged & set(places(from_other))
        one.close()
        other.close()

    def test_a_busy_member_does_not_hold_the_others_up(self, factory: Factory) -> None:
        """A member with its hands full polls for nothing, takes part, and keeps what stays with it."""
        topic, group = unique("t"), unique("g")
        bus = factory.open()
        bus.publish([record(topic, f"k{n}", str(n)) for n in range(40)])
        with bus.subscribe(group, [topic]) as one, bus.subscribe(group, [topic]) as other:
            flying = receive(one, 40)
            started = time.monotonic()
            while not halved(one, other):
                assert [] == one.poll(0.05, 0)
                other.poll(0.05, 100)
                assert time.monotonic() - started < 15

            settle(one, flying)
            kept = owned(one)
        assert {number: len([d for d in flying if d.partition == number]) for number in kept} == {
            number: at for number, at in committed(factory, group, topic).items() if number in kept
        }

    def test_polls_that_never_wait(self, factory: Factory) -> None:
        """A caller that only ever looks, without waiting, gets into the group and is served."""
        topic, group = unique("t"), unique("g")
        bus = factory.open()
        bus.publish([record(topic, "k", "1")])
        with bus.subscribe(group, [topic]) as subscription:
            deadline = time.monotonic() + 15
            got: list[Delivery] = []
            while not got and time.monotonic() < deadline:
                got = subscription.poll(0.0, 10)
                # The answers of the group come now, between two polls.
                time.sleep(0.1)
        assert ["1"] == values(got)


class TestPositions:
    """The consumer's own, on each assignment."""

    def test_a_database_that_is_older_than_the_group(self, factory: Factory) -> None:
        """Restored from a backup, it gets again what it has forgotten, whichever member reads it."""
        topic, group = unique("t"), unique("g")
        bus = factory.open()
        bus.publish([record(topic, f"k{n}", str(n)) for n in range(80)])
        with bus.subscribe(group, [topic]) as subscription:
            settle(subscription, receive(subscription, 80))
        assert 0 == bus.backlog(group, [topic])
        ends = committed(factory, group, topic)
        database = {(topic, number): 1 for number in range(4)}

        one = bus.subscribe(group, [topic], positions=lambda: dict(database))
        again = receive(one, 76)
        assert sorted((n, at) for n, end in ends.items() for at in range(1, end)) == places(again)
        settle(one, again)

        database.update(dict.fromkeys(database, 4))
        other = bus.subscribe(group, [topic], positions=lambda: dict(database))
        from_one, from_other = poll_until(lambda: halved(one, other), one, other)
        wanted = sorted((n, at) for n in owned(other) for at in range(4, ends[n]))
        from_other += receive(other, len(wanted) - len(from_other))
        assert wanted == places(from_other)
        assert [] == from_one
        one.close()
        other.close()

    def test_a_database_that_is_ahead_of_the_group(self, line: Factory) -> None:
        """What it has already done does not come again, also not after another member had the partition."""
        topic, group = unique("t"), unique("g")
        bus = line.open()
        bus.publish([record(topic, "k", str(n)) for n in range(10)])
        begun(bus, group, topic)
        with bus.subscribe(group, [topic], positions=lambda: {(topic, 0): 7}) as subscription:
            assert ["7", "8", "9"] == values(receive(subscription, 3))
            assert [] == subscription.poll(0.3, 10)

    def test_what_was_done_by_one_that_was_killed_is_told(self, line: Factory) -> None:
        """The group learns how far it is, though nothing new comes: else it would be behind for ever."""
        topic, group = unique("t"), unique("g")
        bus = line.open()
        bus.publish([record(topic, "k", str(n)) for n in range(10)])
        begun(bus, group, topic)
        with bus.subscribe(group, [topic], positions=lambda: {(topic, 0): 10}) as subscription:
            poll_until(lambda: committed(line, group, topic) == {0: 10}, subscription)
        assert 0 == bus.backlog(group, [topic])

    def test_a_mapping_counts_once(self, factory: Factory) -> None:
        """Positions of the time of subscribing are old when a partition comes back: the group's count."""
        topic, group = unique("t"), unique("g")
        bus = factory.open()
        bus.publish([record(topic, f"k{n}", str(n)) for n in range(40)])
        old: Positions = {(topic, number): 0 for number in range(4)}
        one = bus.subscribe(group, [topic], positions=old)
        settle(one, receive(one, 40))
        with bus.subscribe(group, [topic]) as other:
            poll_until(lambda: halved(one, other), one, other)

        [again] = poll_until(lambda: len(owned(one)) == 4, one)
        assert [] == again + one.poll(0.3, 100)
        one.close()

    def test_positions_beyond_the_end_are_put_right(self, line: Factory) -> None:
        """Nothing is read before they are, and what comes later below them is not passed over, whether they
        are the database's or the group's own. Until it is read it waits, whoever asks.
        """
        topic, group = unique("t"), unique("g")
        bus = line.open()
        line.make([topic])
        database: dict[tuple[str, int], int] = {(topic, 0): 5}
        answers = [ConnectionError]

        def put_right(positions: Positions) -> None:
            if answers:
                raise answers.pop()
            database.update(positions)

        with bus.subscribe(group, [topic], positions=lambda: database, on_stray=put_right) as subscription:
            with pytest.raises(ConnectionError):
                receive(subscription, 1)
            poll_until(lambda: committed(line, group, topic) == {0: 0}, subscription)
            assert {(topic, 0): 0} == database
            # As a broker has it that kept the group's position and lost the records.
            assert subscription._consumer is not None
            subscription._consumer.store({(topic, 0): 5}, 5)
        bus.publish([record(topic, "k", str(n)) for n in range(3)])
        assert 3 == bus.backlog(group, [topic])
        database[topic, 0] = 4
        with bus.subscribe(group, [topic], positions=lambda: database, on_stray=put_right) as subscription:
            assert ["0", "1", "2"] == values(receive(subscription, 3))
        assert {(topic, 0): 0} == database

    def test_positions_of_another_bus_lose_nothing(self, line: Factory) -> None:
        """Where the group never was, a database's position is of another bus, though this one has grown past
        it: all of the topic is read.
        """
        topic = unique("t")
        bus = line.open()
        bus.publish([record(topic, "k", str(n)) for n in range(8)])
        database = {(topic, 0): 5}
        with bus.subscribe(
            unique("g"), [topic], positions=lambda: database, on_stray=database.update
        ) as subscription:
            assert [str(n) for n in range(8)] == values(receive(subscription, 8))
        assert {(topic, 0): 0} == database

    def test_a_partition_that_grows_shorter_while_it_is_read(self, line: Factory) -> None:
        """The records are gone, and others will have their numbers: database and group are put right though
        nothing new comes yet.
        """
        topic, group = unique("t"), unique("g")
        bus = line.open()
        bus.publish([record(topic, "k", str(n)) for n in range(5)])
        database = {(topic, 0): 0}
        with bus.subscribe(
            group, [topic], positions=lambda: database, on_stray=database.update
        ) as subscription:
            settle(subscription, receive(subscription, 5))
            database[topic, 0] = 5
            line.remake(topic)
            poll_until(lambda: committed(line, group, topic) == {0: 0}, subscription)
            assert {(topic, 0): 0} == database

    def test_records_that_went_unread_are_told_of(
        self, line: Factory, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The topic's retention has taken them: reading goes on after the gap, and not in silence."""
        topic = unique("t")
        bus = line.open()
        bus.publish([record(topic, "k", str(n)) for n in range(4)])
        line.admin._client.delete_records({TopicPartition(topic, 0): 3})
        with bus.subscribe(unique("g"), [topic], positions={(topic, 0): 1}) as subscription:
            assert ["3"] == values(receive(subscription, 1))
        told = [one for one in caplog.records if one.message == "records_gone_unread"]
        assert [(0, 1, 3)] == [(one.partition, one.offset, one.end) for one in told]  # type: ignore[attr-defined]  # what the log was given as `extra`

    def test_a_database_that_cannot_be_asked(self, line: Factory) -> None:
        """Its error is the caller's to handle, and the next poll asks again; nothing is read before."""
        topic, group = unique("t"), unique("g")
        bus = line.open()
        bus.publish([record(topic, "k", "1"), record(topic, "k", "2")])
        begun(bus, group, topic)
        away = True

        def positions() -> Positions:
            if away:
                raise ConnectionError
            return {(topic, 0): 1}

        with bus.subscribe(group, [topic], positions=positions) as subscription:
            with pytest.raises(ConnectionError):
                receive(subscription, 1)
            with pytest.raises(ConnectionError):
                subscription.poll(0.1, 10)
            away = False
            assert ["2"] == values(receive(subscription, 1))


class TestAwayForAWhile:
    """Members that do not poll, or cannot."""

    def test_a_slow_handler(self, line: Factory) -> None:
        """Heartbeats go on while nobody polls: longer than a session, the work stays where it is."""
        topic, group = unique("t"), unique("g")
        bus = line.open()
        bus.publish([record(topic, "k", "1")])
        with bus.subscribe(group, [topic]) as subscription:
            flying = receive(subscription, 1)
            member = subscription._member
            time.sleep(line.server.session + 1.5)
            settle(subscription, flying)
            assert (member, {0: 1}) == (subscription._member, committed(line, group, topic))

    def test_a_stalled_handler(self, line: Factory) -> None:
        """Who doesn't poll for too long gives its work to others, and its late acknowledgement is nothing."""
        topic, group = unique("t"), unique("g")
        bus = line.open(stall=timedelta(seconds=line.server.session + 1))
        bus.publish([record(topic, "k", "1"), record(topic, "k", "2")])
        stalled = bus.subscribe(group, [topic])
        flying = receive(stalled, 2)
        with bus.subscribe(group, [topic]) as other:
            assert ["1", "2"] == values(receive(other, 2))
            for delivery in flying:
                stalled.ack(delivery)
            poll_until(lambda: bool(stalled._member) and owned(other) == {0}, stalled, other)
            assert {} == committed(line, group, topic)
        stalled.close()

    def test_a_process_that_was_stopped_and_woken(self, line: Factory) -> None:
        """A zombie's acknowledgements do not count, and it delivers nothing of what it had read."""
        topic, group = unique("t"), unique("g")
        bus = line.open()
        bus.publish([record(topic, "k", str(n)) for n in range(50)])
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        zombie = context.Process(target=live_on, args=(line.server.settings(), group, topic, theirs))
        zombie.start()
        assert zombie.pid is not None
        try:
            assert 5 == ours.recv()
            os.kill(zombie.pid, signal.SIGSTOP)
            with bus.subscribe(group, [topic]) as other:
                got = receive(other, 50)
                assert [str(n) for n in range(50)] == values(got)
                settle(other, got[:2])
                os.kill(zombie.pid, signal.SIGCONT)
                ours.send("go on")
                poll_until(lambda: ours.poll(), other)
                delivered = ours.recv()
                assert [] == delivered
                assert {0: 2} == committed(line, group, topic)
        finally:
            zombie.kill()
            zombie.join(10)
            ours.close()
            theirs.close()


def live_on(settings: Kafka, group: str, topic: str, pipe: Connection) -> None:
    """Takes five of many, is stopped, and goes on as if nothing had been."""
    subscription = KafkaBus(settings, wall_clock).subscribe(group, [topic])
    flying = receive(subscription, 5)
    pipe.send(len(flying))
    pipe.recv()
    for delivery in flying:
        subscription.ack(delivery)
    pipe.send(values(subscription.poll(0, 10) + subscription.poll(0.5, 10)))
    pipe.recv()


class TestNamedMembers:
    """Static membership: processes that keep a name."""

    def test_a_restart_moves_nothing(self, factory: Factory) -> None:
        """A process that dies and is back within its session has its partitions, and nobody else's moved."""
        topic, group = unique("t"), unique("g")
        bus = factory.open(instance="b")
        dying = factory.open(instance="a", session=timedelta(seconds=15))
        bus.publish([record(topic, f"k{n}", str(n)) for n in range(40)])
        one, other = dying.subscribe(group, [topic]), bus.subscribe(group, [topic])
        poll_until(lambda: halved(one, other), one, other)
        had, others = owned(one), owned(other)
        factory.crash(dying)

        back = factory.open(instance="a", session=timedelta(seconds=15)).subscribe(group, [topic])
        started = time.monotonic()
        poll_until(lambda: len(owned(back)) == 2, back, other)
        assert time.monotonic() - started < 10
        assert (had, others) == (owned(back), owned(other))

    def test_two_processes_of_one_name(self, line: Factory) -> None:
        """The newer one takes the older one's place; the older one says so, and that only its end helps."""
        topic, group = unique("t"), unique("g")
        older, newer = line.open(instance="a"), line.open(instance="a")
        older.publish([record(topic, "k", "1")])
        first = older.subscribe(group, [topic])
        assert ["1"] == values(receive(first, 1))

        second = newer.subscribe(group, [topic])
        got: list[Delivery] = []
        deadline = time.monotonic() + 20

        def go_on() -> None:
            while time.monotonic() < deadline:
                got.extend(second.poll(0.05, 10))
                first.poll(0.05, 10)

        with pytest.raises(BusUnavailable, match="another process"):
            go_on()
        assert (True, False) == (older.is_stuck, newer.is_stuck)
        with pytest.raises(BusUnavailable, match="another process"):
            older.subscribe(group, [topic]).poll(0, 1)
        assert ["1"] == values(got + receive(second, 1 - len(got)))


def test_a_dead_member_leaves_its_work(line: Factory) -> None:
    """After its session, and not before: the group can't tell sooner."""
    topic, group = unique("t"), unique("g")
    bus = line.open()
    bus.publish([record(topic, "k", str(n)) for n in range(3)])
    dying = bus.subscribe(group, [topic])
    settle(dying, receive(dying, 3)[:1])
    cut(dying)
    died = time.monotonic()
    with bus.subscribe(group, [topic]) as heir:
        assert ["1", "2"] == values(receive(heir, 2))
        assert time.monotonic() - died > line.server.session / 2
