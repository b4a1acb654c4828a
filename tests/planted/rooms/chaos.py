"""The judge of `make chaos`: what is lost is found, or the run proves nothing."""

from typing import Final

from tests.planted.fault import Fault, fault

_KEPT: Final = "tests.chaos.kept"
_FOUND: Final = "tests/chaos/test_kept.py::test_what_is_lost_is_found"

FAULTS: Final[tuple[Fault, ...]] = (
    fault(
        "a request that was never opened is passed over",
        f"{_KEPT}:_of_request",
        'yield "was taken, and never opened"',
        "pass",
        _FOUND,
    ),
    fault(
        "an answer that is missing is passed over where the request has ended",
        f"{_KEPT}:_of_request",
        "if request_id in seen.thanked and not opened.answers",
        'if request_id in seen.thanked and opened.status != "completed" and not opened.answers',
        _FOUND,
    ),
    fault(
        "another request's dead letter excuses an answer that is missing",
        f"{_KEPT}:_of_request",
        "request_id not in seen.kept",
        "not seen.kept",
        _FOUND,
    ),
    fault(
        "any mail to the officer counts as the one about the end",
        f"{_KEPT}:_of_request",
        'if "completed" not in told',
        "if not told",
        _FOUND,
    ),
    fault(
        "a question without a mail counts as asked",
        f"{_KEPT}:_of_request",
        'if opened.questions and "escalated" not in told',
        "if opened.questions and not opened.events",
        _FOUND,
    ),
    fault(
        "a key that is gone is passed over",
        f"{_KEPT}:_of_request",
        "if request_id in seen.unreadable",
        "if request_id in seen.unreadable and not opened.events",
        _FOUND,
    ),
    fault(
        "a request that stands still counts as one that goes on",
        f"{_KEPT}:_of_request",
        "elif not opened.questions",
        'elif not opened.questions and opened.status != "in_progress"',
        _FOUND,
    ),
)
