"""What the orchestrator reads and sends: nothing is forgotten, taken for another, or said in clear."""

from typing import Final

from tests.planted.fault import Fault, fault

_READER: Final = "orchestrator.service.inbound"

FAULTS: Final[tuple[Fault, ...]] = (
    fault(
        "a request that nobody can read is a dead letter and no person's",
        f"{_READER}:Reader.unreadable",
        "event=event, dead=code",
        "event=None, dead=code",
        "tests/unit/test_service.py::test_an_unreadable_request_is_named_by_its_place",
    ),
    fault(
        "an unreadable request is dated by its reading",
        f"{_READER}:Reader.unreadable",
        "received_at=delivery.timestamp",
        "received_at=0",
        "tests/unit/test_service.py::test_an_unreadable_request_is_named_by_its_place",
    ),
    fault(
        "two unreadable requests are one",
        f"{_READER}:Reader.unreadable",
        "request_id=str(uuid.uuid5(_NAMESPACE, place))",
        "request_id=str(uuid.uuid5(_NAMESPACE, delivery.topic))",
        "tests/unit/test_service.py::test_an_unreadable_request_is_named_by_its_place",
    ),
    fault(
        "a request whose key was destroyed is nobody's trouble",
        f"{_READER}:Reader._request",
        "except KeyDestroyed:",
        "except ZeroDivisionError:",
        "tests/unit/test_service.py::test_a_request_whose_key_is_destroyed_names_nobody",
    ),
    fault(
        "a callback's request id is overruled by its correlation",
        f"{_READER}:Reader._confirmation",
        "said.correlation if said.request_id is None else None",
        "said.correlation",
        "tests/unit/test_service.py::test_a_confirmation_by_correlation_waits_for_its_request",
    ),
)
