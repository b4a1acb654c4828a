"""The orchestrator's role: each event has its effect once, nothing is lost, nobody holds up the others."""

from typing import Final

from tests.planted.fault import Fault, fault

_ORCHESTRATOR: Final = "orchestrator.service.orchestrator"

FAULTS: Final[tuple[Fault, ...]] = (
    fault(
        "a dead letter's payload lies in clear",
        f"{_ORCHESTRATOR}:Orchestrator._sealed",
        "self._keyring.seal_installation(DEAD_LETTER, data)",
        "data",
        "tests/unit/test_service_reading.py::test_a_request_that_nobody_can_read_is_a_person_and_a_dead_letter",
    ),
    fault(
        "a batch that failed is acknowledged",
        f"{_ORCHESTRATOR}:Orchestrator._consume",
        "if not isinstance(error, BrokenDocument): raise",
        "if not isinstance(error, BrokenDocument):\n    return list(deliveries)",
        "tests/unit/test_service.py::test_what_was_not_committed_comes_again",
    ),
    fault(
        "a bad event takes its batch along",
        f"{_ORCHESTRATOR}:Orchestrator._consume",
        'extra={"count": len(inbound)}) waiting = self._commit_each(inbound, last)',
        'extra={"count": len(inbound)})',
        "tests/unit/test_service.py::test_what_has_waited_is_not_lost_when_a_batch_falls_apart",
    ),
    fault(
        "an event that comes twice in one batch counts twice",
        f"{_ORCHESTRATOR}:Orchestrator._apply",
        "event.event_id in new and event.event_id not in seen",
        "event.event_id in new",
        "tests/unit/test_service.py::test_an_event_counts_once_within_a_batch",
    ),
    fault(
        "an early event is noted as seen",
        f"{_ORCHESTRATOR}:Orchestrator._commit",
        "tx.forget_inbox(GROUP, [one.event.event_id for one in batch.early if one.event is not None])",
        "pass",
        "tests/unit/test_service.py::test_a_confirmation_that_overtakes_its_request_waits_for_it",
    ),
    fault(
        "an answer is applied before the request of its batch",
        f"{_ORCHESTRATOR}:Orchestrator._consume",
        'inbound.sort(key=lambda one: one.type != "request")',
        'inbound.sort(key=lambda one: one.type == "request")',
        "tests/unit/test_service.py::test_what_waits_for_its_request_is_not_behind_the_positions",
    ),
    fault(
        "the positions are not stored with the effects",
        f"{_ORCHESTRATOR}:Orchestrator._commit",
        "tx.set_positions(GROUP, positions)",
        "pass",
        "tests/unit/test_service.py::test_what_was_not_committed_comes_again",
    ),
    fault(
        "a request that fails even alone is a dead letter only",
        f"{_ORCHESTRATOR}:Orchestrator._commit_alone",
        'if one.type == "request":',
        'if one.type == "nothing":',
        "tests/integration/test_bad_input_rules.py::test_a_request_that_cannot_be_saved_is_a_person_all_the_same",
    ),
    fault(
        "the key of a request that ended is kept",
        f"{_ORCHESTRATOR}:Orchestrator._write",
        "if destroyed:",
        "if not destroyed:",
        "tests/unit/test_service_ends.py::test_the_key_goes_with_the_request",
    ),
    fault(
        "a destroyed key is left in the log",
        f"{_ORCHESTRATOR}:Orchestrator._write",
        "self._unshredded = True",
        "pass",
        "tests/unit/test_service_ends.py::test_the_log_is_cut_until_no_copy_of_a_key_is_left",
    ),
    fault(
        "the log is not cut after a start",
        f"{_ORCHESTRATOR}:Orchestrator.__init__",
        "self._unshredded = True",
        "self._unshredded = False",
        "tests/unit/test_service_ends.py::test_the_log_is_cut_until_no_copy_of_a_key_is_left",
    ),
    fault(
        "a log that could not be cut is forgotten",
        f"{_ORCHESTRATOR}:Orchestrator._shred",
        "if self._unshredded and self._keys.shred():",
        "if self._unshredded and (self._keys.shred() or True):",
        "tests/unit/test_service_ends.py::test_the_log_is_cut_until_no_copy_of_a_key_is_left",
    ),
    fault(
        "an event that is parked is lost",
        f"{_ORCHESTRATOR}:Orchestrator._apply",
        "if decision.parks_event is not None:",
        "if False:",
        "tests/unit/test_service_reading.py::test_whoever_names_others_or_asks_for_something_else_supplements_nothing",
    ),
    fault(
        "correlations of an answer are not filed",
        f"{_ORCHESTRATOR}:Orchestrator._write",
        "tx.correlate(batch.correlations)",
        "pass",
        "tests/integration/test_bad_input_records.py::test_a_callback_that_came_too_early_counts_when_it_is_repeated",
    ),
)
