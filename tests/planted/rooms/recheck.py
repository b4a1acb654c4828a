"""The recheck: every fault of an ended request is listed by its own sign, and a right end by none."""

from typing import Final

from tests.planted.fault import Fault, fault

_RECHECK: Final = "orchestrator.service.recheck"
_TESTS: Final = "tests/unit/test_recheck.py"

FAULTS: Final[tuple[Fault, ...]] = (
    fault(
        "an answer from before a supplement is not listed",
        f"{_RECHECK}:_of_step",
        "if told.supplemented > answered:",
        "if False:",
        f"{_TESTS}::test_the_acceptance_of_the_first_erasure_ended_the_second",
    ),
    fault(
        "an answer counts from when it was read",
        f"{_RECHECK}:_Told.about",
        'return self._sent_at.get(answer.data.get("attempt"), answer.seq)',
        "return answer.seq",
        f"{_TESTS}::test_the_acceptance_of_the_first_erasure_ended_the_second",
    ),
    fault(
        "records that no erasure carried are not listed",
        f"{_RECHECK}:_of_step",
        "told.latest(_sees) > answered",
        "False",
        f"{_TESTS}::test_records_that_no_erasure_carried",
    ),
    fault(
        "an erasure after a refusal is not listed",
        f"{_RECHECK}:_was_refused",
        'one.seq > last.seq and one.data.get("verb") == "erase"',
        "False",
        f"{_TESTS}::test_an_erasure_after_a_refusal",
    ),
    fault(
        "what was acted on and then not erased is not listed",
        f"{_RECHECK}:_was_there_after_acting",
        'one.seq > acted and one.data.get("trigger") == "still_present"',
        "False",
        f"{_TESTS}::test_acted_on_and_then_not_erased",
    ),
    fault(
        "more people than the officer agreed to are not listed",
        f"{_RECHECK}:_was_erased_unasked",
        "if agreed is not None and count > agreed:",
        "if False:",
        f"{_TESTS}::test_more_people_than_the_officer_agreed_to",
    ),
    fault(
        "an end without places is not listed",
        f"{_RECHECK}:_of_step",
        'if (is_erased or state.end == "absent") and state.grade in _LOOKED and not says_where:',
        "if False:",
        f"{_TESTS}::test_a_handler_that_did_not_say_where_it_looked",
    ),
    fault(
        "a lead that was not followed is not listed",
        f"{_RECHECK}:_of_old_proof",
        'yield "lead_not_followed"',
        "pass",
        f"{_TESTS}::test_superoffices_bin_and_leads",
    ),
    fault(
        "a purge that nobody saw is not listed",
        f"{_RECHECK}:_of_old_proof",
        'yield "bin_never_seen"',
        "pass",
        f"{_TESTS}::test_superoffices_bin_and_leads",
    ),
    fault(
        "a proof without its time is not listed",
        f"{_RECHECK}:_of_old_proof",
        "if is_erased and step.erased_at is None:",
        "if False:",
        f"{_TESTS}::test_a_proof_that_did_not_know_when",
    ),
    fault(
        "a verification of fewer identifiers is not listed",
        f"{_RECHECK}:_was_verified_about_less",
        "return supplemented > asked > 0",
        "return False",
        f"{_TESTS}::test_a_verification_about_less",
    ),
    fault(
        "words that were set aside are not listed",
        f"{_RECHECK}:_of_request",
        'yield "words_set_aside"',
        "pass",
        f"{_TESTS}::test_words_that_were_set_aside",
    ),
    fault(
        "two notices by one decision are not listed",
        f"{_RECHECK}:_was_told_by_one_decision",
        "if told > 1:",
        "if told > 2:",
        f"{_TESTS}::test_two_notices_by_one_decision",
    ),
)
