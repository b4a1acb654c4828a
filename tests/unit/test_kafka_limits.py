"""What Kafka takes from us: how much, and on which topics."""

from typing import Any

import pytest

from orchestrator.bus.kafka_admin import Admin
from orchestrator.bus.kafka_topics import wanted
from orchestrator.bus.port import BusUnavailable
from orchestrator.settings import Kafka
from schemas.codec import MAX_BYTES
from schemas.topics import CONFIRMATIONS, DECISIONS, OUTCOMES, REQUESTS, callbacks, commands

#: The longest id of an event, twice (CloudEvents and the trace), the other headers, and what Kafka frames a
#: record and its batch with. A kibibyte would do.
BESIDE = 16_000


def test_a_message_leaves_room_for_all_that_is_beside_it() -> None:
    """On every topic that messages travel on; the topics of dead letters take more."""
    topics = {one.name: one.config for one in wanted(Kafka(servers=("k:9092",)), ["x"])}
    read = [REQUESTS, CONFIRMATIONS, DECISIONS, OUTCOMES, commands("x"), callbacks("x")]
    assert BESIDE <= min(int(topics[name]["max.message.bytes"]) for name in read) - MAX_BYTES


class Brokers:
    """Brokers that describe topics so."""

    def __init__(self, **codes: tuple[int, list[str] | None]) -> None:
        self.codes = codes

    def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        return [
            {"name": name, "error_code": code, "authorized_operations": rights, "partitions": []}
            for name in names
            for code, rights in [self.codes[name]]
        ]


def test_a_topic_that_may_not_be_written_to_is_as_good_as_missing() -> None:
    """Whether its rights say so or it may not even be seen. Brokers that say nothing of rights give them."""
    all_of_them = ["READ", "WRITE", "DESCRIBE"]
    admin = Admin(
        Brokers(
            mine=(0, all_of_them),
            readable=(0, ["READ", "DESCRIBE"]),
            hidden=(29, None),
            silent=(0, None),
            unmade=(3, all_of_them),
        )
    )
    assert {"readable", "hidden", "unmade"} == admin.missing(
        ["mine", "readable", "hidden", "silent", "unmade"]
    )


def test_what_the_brokers_do_not_say_is_not_missing() -> None:
    """A topic without a leader, say, will have one."""
    with pytest.raises(BusUnavailable):
        Admin(Brokers(t=(5, ["WRITE"]))).missing(["t"])
