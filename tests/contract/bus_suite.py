"""What every bus must do, whatever carries it.

An adapter's test module subclasses `BusSuite` and gives it a fixture `factory`. Topics and groups are new
in each test, since a broker keeps them. Nothing here knows offsets by number or expects an answer at once.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol
from uuid import uuid4

import pytest

from orchestrator.bus.port import Bus, Delivery, Record, Subscription, SubscriptionClosed

PATIENCE = 15.0
SILENCE = 0.4


class BusFactory(Protocol):
    """One bus, as several processes see it."""

    def open(self) -> Bus:
        """A process's own bus object."""
        ...

    def crash(self, bus: Bus) -> None:
        """That process dies, without closing anything."""
        ...

    def publish_from_another_process(self, records: Sequence[Record]) -> None:
        """Returns when the other process has published and ended."""
        ...


def unique(name: str) -> str:
    return f"{name}.{uuid4().hex}"


def record(topic: str, key: str, value: str) -> Record:
    return Record(topic=topic, key=key, value=value.encode())


def receive(subscription: Subscription, count: int, *, at_once: int = 100) -> list[Delivery]:
    """The next `count` deliveries; fewer only when they don't come in good time."""
    deadline = time.monotonic() + PATIENCE
    received: list[Delivery] = []
    while len(received) < count and time.monotonic() < deadline:
        received += subscription.poll(0.5, min(at_once, count - len(received)))
    return received


def values(deliveries: Sequence[Delivery]) -> list[str]:
    return [delivery.value.decode() for delivery in deliveries]


def settle(subscription: Subscription, deliveries: Sequence[Delivery]) -> None:
    """Acknowledge, and give the bus its chance to store the position."""
    for delivery in deliveries:
        subscription.ack(delivery)
    subscription.poll(0, 1)


class BusSuite:
    """The contract of `orchestrator.bus.port`."""

    def test_publishing_is_durable(self, factory: BusFactory) -> None:
        """What was published before a crash is read after it."""
        topic, group = unique("t"), unique("g")
        dying = factory.open()
        dying.publish([record(topic, "a", "1"), record(topic, "a", "2")])
        factory.crash(dying)

        with factory.open().subscribe(group, [topic]) as subscription:
            assert ["1", "2"] == values(receive(subscription, 2))

    def test_a_record_arrives_as_it_was_published(self, factory: BusFactory) -> None:
        """Topic, key, value, and headers with their order, repeats and bytes come through unchanged."""
        topic, group = unique("t"), unique("g")
        headers = (("ce_id", b"\x00\xff"), ("x", b""), ("ce_id", "å".encode()))
        sent = Record(topic=topic, key="nyckel-ö", value=b"\x00\xc3\x01\xff", headers=headers)
        bus = factory.open()
        before = time.time_ns() // 1000
        bus.publish([sent])
        after = time.time_ns() // 1000

        with bus.subscribe(group, [topic]) as subscription:
            [got] = receive(subscription, 1)

        assert sent == Record(topic=got.topic, key=got.key, value=got.value, headers=got.headers)
        assert b"\x00\xff" == got.header("ce_id")
        assert got.header("absent") is None
        # A broker may keep milliseconds only.
        assert before - 1000 <= got.timestamp <= after + 1000

    @pytest.mark.parametrize("value", [b"", bytes(range(256)) * 3000], ids=["empty", "750 kB"])
    def test_values_of_any_size(self, factory: BusFactory, value: bytes) -> None:
        """An empty value is a value, and a big one comes whole."""
        topic = unique("t")
        bus = factory.open()
        bus.publish([Record(topic=topic, key="k", value=value)])

        with bus.subscribe(unique("g"), [topic]) as subscription:
            [got] = receive(subscription, 1)

        assert value == got.value
        assert () == got.headers

    def test_publishing_nothing(self, factory: BusFactory) -> None:
        """No records are nothing to do."""
        topic = unique("t")
        bus = factory.open()
        bus.publish([])

        with bus.subscribe(unique("g"), [topic]) as subscription:
            assert [] == subscription.poll(SILENCE, 10)

    def test_a_poll_gives_no_more_than_asked_for(self, factory: BusFactory) -> None:
        """`max_records` is a limit, and the rest comes with the next polls."""
        topic = unique("t")
        bus = factory.open()
        bus.publish([record(topic, "k", str(n)) for n in range(7)])

        with bus.subscribe(unique("g"), [topic]) as subscription:
            sizes = []
            got: list[Delivery] = []
            deadline = time.monotonic() + PATIENCE
            while len(got) < 7 and time.monotonic() < deadline:
                some = subscription.poll(0.5, 3)
                sizes.append(len(some))
                got += some

        assert [str(n) for n in range(7)] == values(got)
        assert max(sizes) <= 3

    def test_unacknowledged_records_come_again_after_close(self, factory: BusFactory) -> None:
        """At least once: closing without an acknowledgement gives the records back."""
        topic, group = unique("t"), unique("g")
        bus = factory.open()
        bus.publish([record(topic, "k", "1"), record(topic, "k", "2")])
        with bus.subscribe(group, [topic]) as subscription:
            receive(subscription, 2)

        with bus.subscribe(group, [topic]) as subscription:
            assert ["1", "2"] == values(receive(subscription, 2))

    def test_unacknowledged_records_come_again_after_a_crash(self, factory: BusFactory) -> None:
        """At least once: what a dead process had not acknowledged, another one gets, and only that."""
        topic, group = unique("t"), unique("g")
        dying = factory.open()
        dying.publish([record(topic, "k", str(n)) for n in range(4)])
        subscription = dying.subscribe(group, [topic])
        got = receive(subscription, 4)
        settle(subscription, got[:2])
        factory.crash(dying)

        with factory.open().subscribe(group, [topic]) as subscription:
            assert ["2", "3"] == values(receive(subscription, 2))
            assert [] == subscription.poll(SILENCE, 10)

    def test_acknowledged_records_do_not_come_again(self, factory: BusFactory) -> None:
        """A group's position survives closing, also of the bus."""
        topic, group = unique("t"), unique("g")
        bus = factory.open()
        bus.publish([record(topic, "k", "1"), record(topic, "k", "2")])
        subscription = bus.subscribe(group, [topic])
        for delivery in receive(subscription, 2):
            subscription.ack(delivery)
        bus.close()

        bus = factory.open()
        bus.publish([record(topic, "k", "3")])
        with bus.subscribe(group, [topic]) as subscription:
            assert ["3"] == values(receive(subscription, 1))

    def test_acknowledging_out_of_order_commits_the_lowest_gap(self, factory: BusFactory) -> None:
        """A record that was passed over comes again, whatever was acknowledged after it."""
        topic, group = unique("t"), unique("g")
        dying = factory.open()
        dying.publish([record(topic, "k", str(n)) for n in range(5)])
        subscription = dying.subscribe(group, [topic])
        got = receive(subscription, 5)
        settle(subscription, [got[4], got[0], got[2]])
        factory.crash(dying)

        with factory.open().subscribe(group, [topic]) as subscription:
            again = values(receive(subscription, 4))

        assert "1" == again[0]
        assert {"1", "3"} <= set(again)
        assert "0" not in again

    def test_filling_the_gap_commits_everything(self, factory: BusFactory) -> None:
        """When the last of several is acknowledged, in whatever order, none comes again."""
        topic, group = unique("t"), unique("g")
        dying = factory.open()
        dying.publish([record(topic, "k", str(n)) for n in range(5)])
        subscription = dying.subscribe(group, [topic])
        got = receive(subscription, 5)
        settle(subscription, [got[3], got[4], got[1], got[2], got[0]])
        factory.crash(dying)

        with factory.open().subscribe(group, [topic]) as subscription:
            assert [] == subscription.poll(SILENCE, 10)

    def test_acknowledging_twice_or_late_is_harmless(self, factory: BusFactory) -> None:
        """An acknowledgement of what a subscription no longer holds changes nothing."""
        topic, group = unique("t"), unique("g")
        bus = factory.open()
        bus.publish([record(topic, "k", "1"), record(topic, "k", "2")])
        subscription = bus.subscribe(group, [topic])
        first, second = receive(subscription, 2)
        subscription.ack(first)
        subscription.ack(first)
        subscription.close()
        subscription.ack(second)
        subscription.close()

        with bus.subscribe(group, [topic]) as subscription:
            assert ["2"] == values(receive(subscription, 1))

    def test_a_subscription_holds_its_own_deliveries_alone(self, factory: BusFactory) -> None:
        """The same record, delivered again to another reader, is the other's to deal with."""
        topic, group = unique("t"), unique("g")
        bus = factory.open()
        bus.publish([record(topic, "k", "1")])
        first = bus.subscribe(group, [topic])
        [before] = receive(first, 1)
        assert first.holds(before)
        first.close()
        with bus.subscribe(group, [topic]) as second:
            [again] = receive(second, 1)
            assert before.offset == again.offset
            assert [False, True] == [second.holds(one) for one in (before, again)]
            second.ack(again)
            assert not second.holds(again)

    def test_a_closed_subscription_says_so(self, factory: BusFactory) -> None:
        """Polling after closing is a mistake of the caller's, not an empty topic."""
        subscription = factory.open().subscribe(unique("g"), [unique("t")])
        subscription.close()

        with pytest.raises(SubscriptionClosed):
            subscription.poll(0, 1)

    def test_records_of_a_key_keep_their_order(self, factory: BusFactory) -> None:
        """Several publishers at once: each key's records come in the order in which they were published."""
        topic = unique("t")
        bus = factory.open()

        def publish(key: str) -> None:
            for n in range(0, 30, 3):
                bus.publish([record(topic, key, f"{key}{m}") for m in range(n, n + 3)])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(publish, "abcd"))

        with bus.subscribe(unique("g"), [topic]) as subscription:
            got = receive(subscription, 120, at_once=7)

        for key in "abcd":
            assert [f"{key}{n}" for n in range(30)] == [v for v in values(got) if v.startswith(key)]

    def test_groups_are_independent(self, factory: BusFactory) -> None:
        """Every group gets every record, from the oldest, also when it comes late."""
        topic, early, late = unique("t"), unique("g"), unique("g")
        bus = factory.open()
        with bus.subscribe(early, [topic]) as subscription:
            bus.publish([record(topic, "k", "1"), record(topic, "k", "2")])
            got = receive(subscription, 2)
            settle(subscription, got)
            assert ["1", "2"] == values(got)

        with bus.subscribe(late, [topic]) as subscription:
            assert ["1", "2"] == values(receive(subscription, 2))

    def test_subscriptions_of_one_group_share(self, factory: BusFactory) -> None:
        """In one process no record is with two subscriptions of a group at once, and none is left out."""
        topic, group = unique("t"), unique("g")
        bus = factory.open()
        with bus.subscribe(group, [topic]) as one, bus.subscribe(group, [topic]) as other:
            bus.publish([record(topic, f"k{n}", str(n)) for n in range(40)])
            got: list[Delivery] = []
            deadline = time.monotonic() + PATIENCE
            while len(got) < 40 and time.monotonic() < deadline:
                got += one.poll(0.1, 3) + other.poll(0.1, 3)
            assert sorted(map(str, range(40))) == sorted(values(got))
            assert [] == one.poll(SILENCE, 10) + other.poll(SILENCE, 10)

    def test_a_closed_subscription_leaves_its_records_to_the_others(self, factory: BusFactory) -> None:
        """What one subscription held when it was closed goes to another one of the group."""
        topic, group = unique("t"), unique("g")
        bus = factory.open()
        one = bus.subscribe(group, [topic])
        bus.publish([record(topic, "k", str(n)) for n in range(3)])
        first = receive(one, 3)[0]
        with bus.subscribe(group, [topic]) as other:
            one.ack(first)
            one.close()
            assert ["1", "2"] == values(receive(other, 2))

    def test_a_subscription_to_several_topics(self, factory: BusFactory) -> None:
        """Records of all its topics come, each topic with a position of its own, and none of other topics."""
        first, second, foreign, group = unique("t"), unique("t"), unique("t"), unique("g")
        dying = factory.open()
        dying.publish([record(topic, "k", topic) for topic in (first, foreign, second, first)])
        subscription = dying.subscribe(group, [first, second])
        got = receive(subscription, 3)
        assert sorted([first, first, second]) == sorted(values(got))
        assert sorted([first, first, second]) == sorted(delivery.topic for delivery in got)
        settle(subscription, [delivery for delivery in got if delivery.topic == first])
        factory.crash(dying)

        with factory.open().subscribe(group, [first, second]) as subscription:
            assert [second] == values(receive(subscription, 1))
            assert [] == subscription.poll(SILENCE, 10)

    def test_a_busy_topic_does_not_hold_up_a_quiet_one(self, factory: BusFactory) -> None:
        """One record in one topic is seen while another topic has hundreds waiting."""
        busy, quiet = unique("busy"), unique("quiet")
        bus = factory.open()
        bus.publish([record(busy, f"k{n}", str(n)) for n in range(300)])
        bus.publish([record(quiet, "k", "quiet")])

        with bus.subscribe(unique("g"), [busy, quiet]) as subscription:
            assert "quiet" in values(receive(subscription, 50, at_once=5))

    def test_the_consumers_own_positions_rewind(self, factory: BusFactory) -> None:
        """A consumer whose database was restored from a backup gets again what it has forgotten."""
        topic, group = unique("t"), unique("g")
        bus = factory.open()
        bus.publish([record(topic, "k", str(n)) for n in range(4)])
        with bus.subscribe(group, [topic]) as subscription:
            got = receive(subscription, 4)
            settle(subscription, got)
        positions = {(topic, got[2].partition): got[2].offset}

        with bus.subscribe(group, [topic], positions=positions) as subscription:
            assert ["2", "3"] == values(receive(subscription, 2))

    def test_the_consumers_own_positions_skip(self, factory: BusFactory) -> None:
        """A consumer that committed effects before the bus committed its position does not get them again."""
        topic, group = unique("t"), unique("g")
        bus = factory.open()
        bus.publish([record(topic, "k", str(n)) for n in range(4)])
        with bus.subscribe(group, [topic]) as subscription:
            got = receive(subscription, 4)
        positions = {(topic, got[1].partition): got[1].offset + 1}

        with bus.subscribe(group, [topic], positions=positions) as subscription:
            assert ["2", "3"] == values(receive(subscription, 2))
            assert [] == subscription.poll(SILENCE, 10)

    def test_the_consumers_own_positions_are_looked_up(self, factory: BusFactory) -> None:
        """Positions given as a function are those of the time when they are needed."""
        topic, group = unique("t"), unique("g")
        bus = factory.open()
        bus.publish([record(topic, "k", str(n)) for n in range(3)])
        with bus.subscribe(group, [topic]) as subscription:
            got = receive(subscription, 3)
            settle(subscription, got[:1])
        positions = {(topic, got[2].partition): got[2].offset}

        with bus.subscribe(group, [topic], positions=lambda: positions) as subscription:
            assert ["2"] == values(receive(subscription, 1))
            assert [] == subscription.poll(SILENCE, 10)

    def test_a_partition_that_the_consumer_does_not_know_begins_at_the_oldest(
        self, factory: BusFactory
    ) -> None:
        """A backup from before its first record knows no position there; the bus's own is ahead of it."""
        topic, group = unique("t"), unique("g")
        bus = factory.open()
        bus.publish([record(topic, "k", str(n)) for n in range(3)])
        with bus.subscribe(group, [topic]) as subscription:
            settle(subscription, receive(subscription, 3))

        with bus.subscribe(group, [topic], positions=dict) as subscription:
            assert ["0", "1", "2"] == values(receive(subscription, 3))

    def test_a_poll_for_nothing(self, factory: BusFactory) -> None:
        """A busy reader polls for no records: it gets none, loses none, and its position is stored."""
        topic, group = unique("t"), unique("g")
        dying = factory.open()
        dying.publish([record(topic, "k", str(n)) for n in range(3)])
        subscription = dying.subscribe(group, [topic])
        [first] = receive(subscription, 1)
        subscription.ack(first)
        assert [] == subscription.poll(0, 0)
        assert [] == subscription.poll(SILENCE, 0)
        assert ["1"] == values(receive(subscription, 1))
        factory.crash(dying)

        with factory.open().subscribe(group, [topic]) as subscription:
            assert ["1", "2"] == values(receive(subscription, 2))

    def test_looking_moves_nothing(self, factory: BusFactory) -> None:
        """Browsing shows every record that there is, in order, and takes none from any group."""
        first, second, empty, group = unique("t"), unique("t"), unique("t"), unique("g")
        bus = factory.open()
        bus.publish([record(topic, "k", f"{n}") for n in range(3) for topic in (first, second)])
        with bus.subscribe(group, [first]) as subscription:
            settle(subscription, receive(subscription, 3)[:1])

        seen = list(bus.browse([first, second, empty]))
        for topic in (first, second):
            assert ["0", "1", "2"] == [d.value.decode() for d in seen if d.topic == topic]
        assert [] == list(bus.browse([empty]))
        with bus.subscribe(group, [first]) as subscription:
            assert ["1", "2"] == values(receive(subscription, 2))

    def test_the_backlog_is_what_a_group_has_before_it(self, factory: BusFactory) -> None:
        """Counted by the positions that are stored; a group that never was has everything before it."""
        topic, group = unique("t"), unique("g")
        bus = factory.open()
        assert 0 == bus.backlog(group, [topic])
        bus.publish([record(topic, "k", str(n)) for n in range(3)])
        assert 3 == bus.backlog(group, [topic])
        with bus.subscribe(group, [topic]) as subscription:
            settle(subscription, receive(subscription, 3)[:2])
            assert 1 == bus.backlog(group, [topic])
        other = unique("g")
        with bus.subscribe(other, [topic]) as subscription:
            settle(subscription, receive(subscription, 3))
            assert [1, 0] == [bus.backlog(one, [topic]) for one in (group, other)]

    def test_the_ends_are_where_a_reader_of_all_is(self, factory: BusFactory) -> None:
        """By partition, and none where there is nothing; they grow with what is published."""
        topic, empty = unique("t"), unique("t")
        bus = factory.open()
        assert {} == bus.ends([topic, empty])
        bus.publish([record(topic, f"k{n}", str(n)) for n in range(5)])
        ends = bus.ends([topic, empty])
        with bus.subscribe(unique("g"), [topic]) as subscription:
            got = receive(subscription, 5)
        read: dict[tuple[str, int], int] = {}
        for one in got:
            place = (one.topic, one.partition)
            read[place] = max(read.get(place, 0), one.offset + 1)
        assert read == ends
        bus.publish([record(topic, "k0", "5")])
        assert sum(ends.values()) < sum(bus.ends([topic]).values())

    def test_our_topics(self, factory: BusFactory) -> None:
        """Those that there are, whatever wrote to them; no other application's is among them."""
        bus = factory.open()
        callbacks = f"erasure.callbacks.{uuid4().hex}.v1"
        ours = {callbacks, f"{callbacks}.dlq"}
        names = [*ours, unique("erasure.callbacks"), unique("orders.dlq")]
        bus.publish([record(name, "a", "1") for name in names])

        assert ours == bus.topics().intersection(names)

    def test_a_waiting_poll_is_woken(self, factory: BusFactory) -> None:
        """A record that is published while a poll waits ends the waiting."""
        topic = unique("t")
        bus = factory.open()
        with bus.subscribe(unique("g"), [topic]) as subscription, ThreadPoolExecutor(1) as pool:
            subscription.poll(0, 1)
            polling = pool.submit(subscription.poll, PATIENCE, 10)
            time.sleep(0.1)
            bus.publish([record(topic, "k", "news")])
            assert ["news"] == values(polling.result(PATIENCE))

    def test_a_poll_waits_no_longer_than_asked(self, factory: BusFactory) -> None:
        """An empty topic gives the caller its thread back in time."""
        with factory.open().subscribe(unique("g"), [unique("t")]) as subscription:
            subscription.poll(0, 1)
            started = time.monotonic()
            assert [] == subscription.poll(0.3, 10)
            assert 0.25 <= time.monotonic() - started < 2.0

    def test_publishing_from_another_process(self, factory: BusFactory) -> None:
        """Records of another process come to a subscription that was open already, in order."""
        topic = unique("t")
        with factory.open().subscribe(unique("g"), [topic]) as subscription:
            assert [] == subscription.poll(0, 10)
            factory.publish_from_another_process([record(topic, "k", str(n)) for n in range(20)])
            assert [str(n) for n in range(20)] == values(receive(subscription, 20))
