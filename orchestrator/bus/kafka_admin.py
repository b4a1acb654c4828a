"""What is asked of the brokers about topics and groups, and the making of topics."""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kafka import KafkaAdminClient, OffsetSpec, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaError,
    NotCoordinatorError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)

from orchestrator.bus.kafka_client import Place, connection, made
from orchestrator.bus.kafka_failures import unavailable
from orchestrator.bus.kafka_marks import Start, Why, id_text, start_of
from orchestrator.bus.kafka_topics import Topic
from orchestrator.bus.port import BusUnavailable
from orchestrator.position import Mark, Position
from orchestrator.settings import Kafka

_logger = logging.getLogger(__name__)

_CONNECT_MS = 5_000
# How long brokers may take to say who keeps a group's positions, in seconds.
_COORDINATOR = 10.0
_ASK_AGAIN = 0.25


#: Which of these places have another record now than the one that was marked there.
Others = Callable[[Mapping[Place, Mark]], set[Place]]


class CannotMakeTopic(Exception):
    """The brokers refused to make a topic; the message says why."""


@contextmanager
def opened_admin(settings: Kafka, token: Callable[[], str] | None = None) -> Iterator["Admin"]:
    """For a few questions.

    Raises:
        BusUnavailable: no broker answers, or not to us.
    """
    client = made(KafkaAdminClient, connection(settings, token) | {"bootstrap_timeout_ms": _CONNECT_MS})
    try:
        yield Admin(client)
    except KafkaError as error:
        raise unavailable("the bus did not answer", error) from error
    finally:
        client.close()


class Admin:
    """Questions to the brokers, and the making of topics."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def topics(self, names: Collection[str]) -> dict[str, Topic]:
        """Those of `names` that exist, as they are."""
        described = {
            one["name"]: one["partitions"]
            for one in self._client.describe_topics(sorted(names))
            if not one["error_code"]
        }
        if not described:
            return {}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in sorted(described)]
        configs = self._client.describe_configs(resources, config_filter="all")["topic"]
        return {
            name: Topic(
                name,
                len(partitions),
                min(len(one["replica_nodes"]) for one in partitions),
                {key: str(value["value"]) for key, value in configs[name].items()},
            )
            for name, partitions in described.items()
        }

    def names(self) -> list[str]:
        """Return the names of all topics that this account may see."""
        return list(self._client.list_topics())

    def missing(self, names: Collection[str]) -> set[str]:
        """Those of `names` that don't exist, or to which this account may not write.

        Raises:
            BusUnavailable: the brokers don't say.
        """
        described = self._client.describe_topics(sorted(names))
        forbidden = {one["name"] for one in described if _is_forbidden(one)}
        if forbidden:
            _logger.error("topics_forbidden", extra={"topics": sorted(forbidden)})
        rest = [one for one in described if one["name"] not in forbidden]
        return forbidden | {one["name"] for one in rest if not _exists(one["name"], one["error_code"])}

    def make(self, topic: Topic) -> None:
        """Makes a topic and waits until it can be used.

        Raises:
            CannotMakeTopic: refused, for too few brokers say.
        """
        what = {
            "num_partitions": topic.partitions,
            "replication_factor": topic.replication,
            "configs": dict(topic.config),
        }
        result = self._client.create_topics({topic.name: what}, raise_errors=False)
        for one in result["topics"]:
            # One that somebody else has just made is compared with what it should be, like any other.
            if one["error_code"] not in (0, 36):
                raise CannotMakeTopic(f"{topic.name}: {one['error_message'] or one['error_code']}")
        self._client.wait_for_topics([topic.name])

    def extent(self, topics: Collection[str]) -> dict[Place, tuple[int, int]]:
        """The first offset that each partition has, and the one after its last. A topic that doesn't exist
        has none.

        Raises:
            BusUnavailable: the brokers don't say what a topic holds, which is not the same as nothing.
        """
        places = [
            TopicPartition(one["name"], partition["partition_index"])
            for one in self._client.describe_topics(sorted(topics))
            if _exists(one["name"], one["error_code"])
            for partition in one["partitions"]
        ]
        if not places:
            return {}
        firsts = self._client.list_partition_offsets(dict.fromkeys(places, OffsetSpec.EARLIEST))
        ends = self._client.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST))
        return {tuple(place): (firsts[place].offset, ends[place].offset) for place in places}

    def ends(self, topics: Collection[str]) -> dict[Place, Position]:
        """The offset after the last record of each partition that holds any, with what marks its topic."""
        ids = self._ids(topics)
        return {
            place: Position(end, Mark(end - 1, ids.get(place[0], "")).text)
            for place, (first, end) in self.extent(topics).items()
            if first < end
        }

    def _ids(self, topics: Collection[str]) -> dict[str, str]:
        return {
            one["name"]: id_text(one.get("topic_id")) for one in self._client.describe_topics(sorted(topics))
        }

    def stored(self, group: str) -> dict[Place, Position]:
        """The positions of a group; none for one that never was."""
        positions = self._positions_of(group)
        return {
            tuple(place): Position(at.offset, at.metadata or "")
            for place, at in positions.items()
            if at.offset >= 0
        }

    def _positions_of(self, group: str) -> Any:
        until = time.monotonic() + _COORDINATOR
        while True:
            try:
                return self._client.list_group_offsets([group])[group]
            except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError):
                # New brokers make the topic of all positions when they are first asked for some.
                if time.monotonic() > until:
                    raise
                time.sleep(_ASK_AGAIN)

    def backlog(self, group: str, topics: Collection[str], others: Others) -> int:
        """How many records of these topics the group has not behind it. One whose position is none of this
        bus's has read none of those that are there, and will read them all.
        """
        stored, extent = self.stored(group), self.extent(topics)
        positions = {place: stored.get(place, first) for place, (first, _) in extent.items()}
        starts = self._starts(positions, extent, others)
        return sum(extent[place][1] - start.position for place, start in starts.items())

    def strays(self, positions: Mapping[Place, int], others: Others) -> set[Place]:
        """Those of these positions at which a reader would not begin."""
        extent = self.extent({topic for topic, _ in positions})
        starts = self._starts(positions, extent, others)
        return {place for place, start in starts.items() if start.why is not None}

    def _starts(
        self, positions: Mapping[Place, int], extent: Mapping[Place, tuple[int, int]], others: Others
    ) -> dict[Place, Start]:
        """Where a reader begins that is at these positions, which were read before the `extent`."""
        ids = self._ids({topic for topic, _ in extent})
        starts = {
            place: start_of(at, *extent[place], topic_id=ids.get(place[0], ""), is_known=True)
            for place, at in positions.items()
            if place in extent
        }
        looked_at = {place: start.look_at for place, start in starts.items()}
        marked = {
            place: mark
            for place, mark in looked_at.items()
            if mark is not None and mark.timestamp is not None
        }
        rewritten = {place: Start(extent[place][0], why=Why.REWRITTEN) for place in others(marked)}
        return starts | rewritten


def _is_forbidden(described: Mapping[str, Any]) -> bool:
    """Whether this account may not write to a topic. A broker without access rules lists every right, and one
    that says nothing of rights is believed to give them.
    """
    if described["error_code"] == TopicAuthorizationFailedError.errno:
        return True
    rights = described.get("authorized_operations") or ["WRITE"]
    return not described["error_code"] and "WRITE" not in rights


def _exists(topic: str, code: int) -> bool:
    if code in (0, UnknownTopicOrPartitionError.errno):
        return not code
    raise BusUnavailable(f"the brokers don't say what the topic {topic} holds: {for_code(code).__name__}")
