"""The bus between processes, on Apache Kafka. It is tried with the one version in `deploy/kafka/pom.xml`.

* **Publishing is durable when it returns:** every record is acknowledged by all replicas in step. The
  producer is idempotent, so its own retries neither double nor reorder. One that has failed is given up,
  with whatever it had not sent, so that nothing of it arrives late and out of order.
* **Nothing is made on the way.** A topic that is missing is an error here; `radera topics apply` makes it.
* **A key's records are on one partition** as long as the number of partitions stays and they come from us.
  Others' producers may spread keys in their own way, which then is their order.
* **Only committed records are read**, where others use transactions.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from kafka import ConsumerRebalanceListener
from kafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)

from orchestrator.bus.kafka_admin import opened_admin
from orchestrator.bus.kafka_browse import browse, others
from orchestrator.bus.kafka_client import Consumer, Place, Producer, connection, made
from orchestrator.bus.kafka_failures import unavailable
from orchestrator.bus.kafka_marks import Why
from orchestrator.bus.kafka_remembered import Notes, Remembered
from orchestrator.bus.kafka_spread import SpreadAssignor
from orchestrator.bus.kafka_subscription import KafkaSubscription
from orchestrator.bus.kafka_watch import Watch
from orchestrator.bus.port import (
    BusUnavailable,
    Delivery,
    Positions,
    Record,
    RecordTooLarge,
    TopicForbidden,
)
from orchestrator.bus.schema_registry import Registry
from orchestrator.position import Mark
from orchestrator.settings import Kafka
from schemas.topics import is_ours

# A dead letter holds the record that it is about, so it may be larger than what other topics take.
LARGEST_RECORD = 2 << 20
_LARGEST_REQUEST = LARGEST_RECORD + (64 << 10)
# Joining a group for longer than this is tried again by the next poll.
_SHORTEST_CONNECT = 2.0
_LONGEST_HEARTBEAT = 3.0
# A topic that was made anew is known by its id within this time.
_METADATA_AGE_MS = 60_000


class KafkaBus:
    """A process's access to Kafka. `token` overrides where the settings say that the OAUTHBEARER token is; a
    `registry` has the ids under which our schemas are published; `notes` outlast what Kafka knows of groups.
    """

    def __init__(
        self,
        settings: Kafka,
        clock: Callable[[], int],
        *,
        token: Callable[[], str] | None = None,
        registry: Registry | None = None,
        notes: Notes | None = None,
    ) -> None:
        self._registry = registry
        self._notes = notes
        self._settings = settings
        self._clock = clock
        self._token = token
        self._limit = settings.publish_limit.total_seconds()
        self._watch = Watch()
        self._fenced = False
        #: When a topic was last found to have lost records or to be another, in microseconds.
        self.changed: dict[str, int] = {}
        self._lock = threading.Lock()
        self._producer: Producer | None = None
        self._open: dict[KafkaSubscription, tuple[str, int]] = {}

    @property
    def is_stuck(self) -> bool:
        """Whether only a new process helps: a call has not come back long after its deadline, or another
        process has joined under this one's name.
        """
        return self._fenced or self._watch.is_overdue

    # --- publishing ---

    def publish(self, records: Iterable[Record]) -> None:
        batch = list(records)
        if not batch:
            return
        if self._registry is not None:
            batch = [self._registry.framed(record) for record in batch]
        for record in batch:
            if _size(record) > LARGEST_RECORD:
                raise RecordTooLarge(f"a record for {record.topic} has {_size(record)} bytes")
        with self._watch.call(2 * self._limit):
            self._publish(batch, time.monotonic() + self._limit)

    def _publish(self, batch: Sequence[Record], deadline: float) -> None:
        producer = self._sending(deadline)
        sent = []
        with producer.together():
            for record in batch:
                if time.monotonic() > deadline:
                    raise BusUnavailable("the bus took too long")
                key = record.key.encode() or None
                try:
                    sent.append(
                        producer.send(
                            record.topic,
                            key=key,
                            value=record.value,
                            headers=list(record.headers),
                            partition=producer.partition_of(record.topic, key),
                        )
                    )
                except KafkaTimeoutError:
                    # What was handed over before it goes out in order, ahead of the next try.
                    text = f"no broker knows the topic {record.topic}: make it, or wait"
                    raise BusUnavailable(text) from None
                except (KafkaError, ValueError) as error:
                    raise _unavailable(error) from None
        try:
            for one in sent:
                one.get(timeout=max(0.0, deadline - time.monotonic()))
        except Exception as error:
            why = producer.refusal or error
            self._give_up(producer)
            if isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError):
                raise RecordTooLarge("the bus refused a record for its size") from None
            raise _unavailable(why) from None

    def _sending(self, deadline: float) -> Producer:
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise BusUnavailable("the bus can't be reached")
        try:
            if self._producer is None:
                self._producer = self._new_producer()
            return self._producer
        finally:
            self._lock.release()

    def _new_producer(self) -> Producer:
        half = self._limit / 2
        config = connection(self._settings, self._token) | {
            "acks": "all",
            "enable_idempotence": True,
            "compression_type": "lz4",
            "linger_ms": 0,
            "batch_size": 128 << 10,
            "max_request_size": _LARGEST_REQUEST,
            "max_block_ms": int(half * 1000),
            "bootstrap_timeout_ms": int(half * 1000),
            "request_timeout_ms": int(min(10.0, half) * 1000),
            "delivery_timeout_ms": int(self._limit * 1000),
            "metrics_enabled": False,
        }
        producer: Producer = made(Producer, config)
        return producer

    def _give_up(self, producer: Producer) -> None:
        with self._lock:
            if self._producer is producer:
                self._producer = None
        producer.abandon()

    # --- reading ---

    def subscribe(
        self,
        group: str,
        topics: Collection[str],
        *,
        positions: Positions | Callable[[], Positions] | None = None,
        on_stray: Callable[[Positions], object] | None = None,
    ) -> KafkaSubscription:
        """A reader of `topics`. It joins the group when it first polls, and again after a failure."""
        names = tuple(dict.fromkeys(topics))
        with self._lock:
            taken = {number for other, number in self._open.values() if other == group}
            number = next(n for n in range(len(taken) + 1) if n not in taken)
            subscription = KafkaSubscription(
                join=lambda listener, limit: self._joined(group, number, names, listener, limit),
                positions=positions,
                session=self._settings.session.total_seconds(),
                clock=self._clock,
                watch=self._watch,
                on_fenced=self._was_fenced,
                on_closed=self._was_closed,
                on_stray=on_stray,
                on_changed=self._was_changed,
                remembered=Remembered(self._notes, group, keeps_positions=positions is None),
                schemas=self._registry,
            )
            self._open[subscription] = (group, number)
        return subscription

    def _joined(
        self,
        group: str,
        number: int,
        topics: Sequence[str],
        listener: ConsumerRebalanceListener,
        limit: float,
    ) -> Consumer:
        if self._fenced:
            raise BusUnavailable("another process has taken this one's place in the group")
        session = self._settings.session.total_seconds()
        instance = self._settings.instance
        config = connection(self._settings, self._token) | {
            "group_id": group,
            "group_instance_id": f"{instance}.{group}.{number}" if instance is not None else None,
            "assignor": SpreadAssignor(),
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "isolation_level": "read_committed",
            "session_timeout_ms": int(session * 1000),
            "heartbeat_interval_ms": int(min(_LONGEST_HEARTBEAT, session / 4) * 1000),
            "metadata_max_age_ms": _METADATA_AGE_MS,
            "max_poll_interval_ms": int(self._settings.stall.total_seconds() * 1000),
            "bootstrap_timeout_ms": int(max(limit, _SHORTEST_CONNECT) * 1000),
            "metrics_enabled": False,
        }
        consumer: Consumer = made(Consumer, config)
        listener.consumer = consumer
        consumer.subscribe(list(topics), listener=listener)
        return consumer

    def _was_changed(self, topic: str, why: Why) -> None:
        if why is not Why.ANOTHER_BUS:
            self.changed[topic] = self._clock()

    def _was_fenced(self) -> None:
        self._fenced = True

    def _was_closed(self, subscription: KafkaSubscription) -> None:
        with self._lock:
            self._open.pop(subscription, None)

    def backlog(self, group: str, topics: Collection[str]) -> int:
        """How many records of these topics the group has not behind it, as far as its stored positions
        tell.
        """
        with self._watch.call(self._limit), opened_admin(self._settings, self._token) as admin:
            return admin.backlog(group, topics, self._others)

    def ends(self, topics: Collection[str]) -> Positions:
        with self._watch.call(self._limit), opened_admin(self._settings, self._token) as admin:
            return admin.ends(topics)

    def strays(self, positions: Positions) -> set[tuple[str, int]]:
        with self._watch.call(self._limit), opened_admin(self._settings, self._token) as admin:
            return admin.strays(positions, self._others)

    def _others(self, marks: Mapping[Place, Mark]) -> set[Place]:
        return others(self._settings, marks, self._token)

    def missing(self, topics: Collection[str]) -> set[str]:
        with self._watch.call(self._limit), opened_admin(self._settings, self._token) as admin:
            return admin.missing(topics)

    def topics(self) -> set[str]:
        """Return those of our topics that there are, as far as this account may see them."""
        with self._watch.call(self._limit), opened_admin(self._settings, self._token) as admin:
            return set(filter(is_ours, admin.names()))

    def browse(self, topics: Collection[str]) -> Iterator[Delivery]:
        return browse(self._settings, topics, self._token)

    def close(self) -> None:
        for subscription in tuple(self._open):
            subscription.close()
        with self._lock:
            producer, self._producer = self._producer, None
        if producer is not None:
            # Nothing waits in it: publishing returns when everything is sent.
            with suppress(Exception):
                producer.abandon()


def _unavailable(error: Exception) -> BusUnavailable:
    """The library's text may quote records; its type tells enough."""
    if isinstance(error, TopicAuthorizationFailedError):
        return TopicForbidden()
    return unavailable("the bus did not take the records", error)


def _size(record: Record) -> int:
    headers = sum(len(name) + len(value) for name, value in record.headers)
    return len(record.key) + len(record.value) + headers
