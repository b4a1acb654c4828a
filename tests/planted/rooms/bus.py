"""The embedded bus and dead letters: at least once, in a key's order, and nothing passed over."""

from typing import Final

from tests.planted.fault import Fault, fault

_LINE: Final = "orchestrator.bus.sharing"
_SQLITE: Final = "orchestrator.bus.sqlite"

FAULTS: Final[tuple[Fault, ...]] = (
    fault(
        "a poll gives one more than was asked for",
        f"{_LINE}:Line.take",
        "len(taken) == limit",
        "len(taken) == limit + 1",
        "tests/contract/test_bus_sqlite.py::test_no_more_is_given_of_what_was_given_back",
    ),
    fault(
        "a position passes over a record that is out",
        f"{_LINE}:Line.position",
        "next(iter(self._outstanding), self.cursor)",
        "next(reversed(self._outstanding), self.cursor)",
        "tests/contract/test_bus_sqlite.py::TestInAFile::test_unacknowledged_records_come_again_after_a_crash",
    ),
    fault(
        "two readers have records of one key",
        f"{_LINE}:Line.take",
        "len(taken) == limit or owner is not reader",
        "len(taken) == limit",
        "tests/contract/test_bus_sqlite.py::test_a_key_stays_with_one_subscription",
    ),
    fault(
        "a key is free after its first acknowledgement",
        f"{_LINE}:Line._release",
        "if count > 1:",
        "if count > 2:",
        "tests/contract/test_bus_sqlite.py::TestInAFile::test_publishing_is_durable",
    ),
    fault(
        "what is given back comes last",
        f"{_LINE}:Line.give_back",
        "self._waiting.sort(key=lambda delivery: delivery.offset)",
        "pass",
        "tests/contract/test_bus_sqlite.py::test_what_is_given_back_comes_before_what_waits",
    ),
    fault(
        "what is given back keeps its reader",
        f"{_LINE}:Line.give_back",
        "self._release(delivery.key)",
        "pass",
        "tests/contract/test_bus_sqlite.py::TestInAFile::test_a_closed_subscription_leaves_its_records_to_the_others",
    ),
    fault(
        "reading ahead is unbounded",
        f"{_LINE}:Line.is_full",
        "len(self._outstanding) >= OUTSTANDING_LIMIT",
        "False",
        "tests/contract/test_bus_sqlite.py::test_reading_ahead_is_bounded",
    ),
    fault(
        "a reader begins after the record at its position",
        f"{_SQLITE}:_Shared.fetch",
        "c.offset >= line.cursor",
        "c.offset > line.cursor",
        "tests/contract/test_bus_sqlite.py::TestInAFile::test_a_poll_gives_no_more_than_asked_for",
    ),
    fault(
        "a group starts at the end",
        f"{_SQLITE}:_Shared.starts",
        '"next": start or 0',
        '"next": start if start is not None else highest + 1',
        "tests/contract/test_bus_sqlite.py::TestInAFile::test_publishing_is_durable",
    ),
    fault(
        "a position beyond the end is followed",
        f"{_SQLITE}:_Shared.starts",
        "start is not None and start > highest + 1",
        "False",
        "tests/contract/test_bus_sqlite.py::test_positions_of_another_bus_lose_nothing",
    ),
    fault(
        "the consumer's positions rewind nothing",
        f"{_SQLITE}:_Shared.starts",
        "put_if_new if start is None else put_anyway",
        "put_if_new",
        "tests/contract/test_bus_sqlite.py::TestInAFile::test_the_consumers_own_positions_rewind",
    ),
)
