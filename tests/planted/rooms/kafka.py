"""The bus on Kafka, as far as no broker is needed: positions, shares of a group, schemas."""

from typing import Final

from tests.planted.fault import Fault, fault

_ADMIN: Final = "orchestrator.bus.kafka_admin"
_SHELF: Final = "orchestrator.bus.kafka_shelf"
_SPREAD: Final = "orchestrator.bus.kafka_spread"
_SUBSCRIPTION: Final = "orchestrator.bus.kafka_subscription"
_REGISTRY: Final = "orchestrator.bus.schema_registry"

FAULTS: Final[tuple[Fault, ...]] = (
    fault(
        "Kafka's position passes over a record that is out",
        f"{_SHELF}:Shelf.position",
        "if lowest is not None:",
        "if False:",
        "tests/unit/test_bus_kafka_parts.py::TestShelf::test_the_position_is_the_lowest_gap",
    ),
    fault(
        "an old delivery's acknowledgement counts for the new one on Kafka",
        f"{_SHELF}:Shelf.holds",
        "self._out.get(delivery.offset) is delivery",
        "delivery.offset in self._out",
        "tests/unit/test_bus_kafka_parts.py::TestShelf::test_another_delivery_of_the_same_record",
    ),
    fault(
        "a record that can't be read yet is passed over",
        f"{_SHELF}:Shelf.can_give",
        " and self.held_back is None",
        "",
        "tests/unit/test_bus_kafka_parts.py::TestShelf::test_a_record_that_waits_for_its_schema",
    ),
    fault(
        "what was done before a start is not told to the group",
        f"{_SHELF}:Shelf.begin_at",
        "self._following, self._acked = position, True",
        "self._following, self._acked = position, False",
        "tests/unit/test_bus_kafka_parts.py::TestShelf::test_what_was_done_before_is_told",
    ),
    fault(
        "a partition is handed out while another still has it",
        f"{_SPREAD}:handed_out",
        "place not in claimed or owner.get(place) == member",
        "True",
        "tests/unit/test_bus_kafka_spread.py::test_it_is_reached_in_two_rounds_and_then_stays",
    ),
    fault(
        "of two who claim a partition the last has it",
        f"{_SPREAD}:_owners",
        "if claims[place] == 1",
        "",
        "tests/unit/test_bus_kafka_spread.py::test_it_is_reached_in_two_rounds_and_then_stays",
    ),
    fault(
        "a partition is left to nobody",
        f"{_SPREAD}:spread",
        "least + (place < more)",
        "least",
        "tests/unit/test_bus_kafka_spread.py::test_every_partition_has_one_reader_of_its_topic",
    ),
    fault(
        "a position beyond Kafka's end is followed",
        f"{_SUBSCRIPTION}:KafkaSubscription._is_stray",
        "if position > end:",
        "if False:",
        "tests/unit/test_bus_kafka_positions.py::test_where_a_database_is_the_truth",
    ),
    fault(
        "another Kafka's position is followed",
        f"{_SUBSCRIPTION}:KafkaSubscription._is_stray",
        "callable(self._positions) and position and place not in stored",
        "False",
        "tests/unit/test_bus_kafka_positions.py::test_where_a_database_is_the_truth",
    ),
    fault(
        "a proxy's 404 is a schema that doesn't exist",
        f"{_REGISTRY}:Registry._fetch",
        'status == 404 and answer.get("error_code") == _NO_SCHEMA',
        "status == 404",
        "tests/contract/test_schema_registry.py::test_a_proxys_word_is_not_the_registrys",
    ),
    fault(
        "a schema is unknown when one node has not heard of it",
        f"{_REGISTRY}:Registry._is_missing",
        "times > 1",
        "times > 0",
        "tests/contract/test_schema_registry.py::test_an_id_that_is_not_there_is_asked_for_twice",
    ),
    fault(
        "a schema that is not Avro is read as one",
        f"{_REGISTRY}:Registry._fetch",
        "text if is_avro else None",
        "text",
        "tests/contract/test_schema_registry.py::test_what_we_can_not_read_with_is_an_unknown_schema",
    ),
    fault(
        "a record of another kind takes the topic's schema",
        f"{_REGISTRY}:Registry.framed",
        "kind is None or self._travels.get(record.topic, kind) is not kind",
        "kind is None",
        "tests/contract/test_schema_registry.py::test_what_does_not_belong_on_a_topic_goes_as_it_is",
    ),
    fault(
        "a registry's redirect is followed with the login",
        f"{_REGISTRY}:Registry._client",
        "follow_redirects=False",
        "follow_redirects=True",
        "tests/contract/test_schema_registry.py::test_nobody_is_followed_elsewhere_with_the_login",
    ),
    fault(
        "a topic that may not be written to is taken for one that may",
        f"{_ADMIN}:_is_forbidden",
        '"WRITE" not in rights',
        "False",
        "tests/unit/test_kafka_limits.py::test_a_topic_that_may_not_be_written_to_is_as_good_as_missing",
    ),
    fault(
        "a topic that may not be seen stops the relay",
        f"{_ADMIN}:_is_forbidden",
        'described["error_code"] == TopicAuthorizationFailedError.errno',
        "False",
        "tests/unit/test_kafka_limits.py::test_a_topic_that_may_not_be_written_to_is_as_good_as_missing",
    ),
    fault(
        "a message fills its topic's limit",
        "schemas.codec:MAX_BYTES",
        "1024 * 1024 - 16 * 1024",
        "1024 * 1024",
        "tests/unit/test_kafka_limits.py::test_a_message_leaves_room_for_all_that_is_beside_it",
    ),
)
