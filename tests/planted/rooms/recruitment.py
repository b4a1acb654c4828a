"""Agencies: asked as one mail says, named nobody else's candidate, believed no further than their word."""

from typing import Final

from tests.planted.fault import Fault, fault

_HANDLER: Final = "handlers.recruitment"
_TEAMTAILOR: Final = "handlers.teamtailor"
_MAIL: Final = "handlers.agency_mail"
_ANSWER: Final = "handlers.agency_answer"
_OPENDSR: Final = "handlers.agency_opendsr"
_ENDPOINT: Final = "handlers.opendsr_endpoint"

FAULTS: Final[tuple[Fault, ...]] = (
    # --- Teamtailor
    fault(
        "the first page of candidates is taken for all",
        f"{_TEAMTAILOR}:Teamtailor.candidates",
        "if not _has_next(page, number):",
        "if True:",
        "tests/contract/test_handlers_recruitment.py::test_every_page_of_candidates_is_read",
    ),
    fault(
        "a list of candidates that may not be read is empty",
        f"{_TEAMTAILOR}:Teamtailor.candidates",
        "raise PlaceUnreadable(CANDIDATES)",
        "return []",
        "tests/contract/test_handlers_recruitment_places.py::test_a_list_of_candidates_that_cannot_be_read_is_never_empty",
    ),
    fault(
        "a candidate that may not be read is gone",
        f"{_TEAMTAILOR}:Teamtailor.by_id",
        "raise PlaceUnreadable(CANDIDATES)",
        "return None",
        "tests/contract/test_handlers_recruitment_places.py::test_one_candidate_that_may_not_be_read_is_not_gone",
    ),
    fault(
        "a stranger in the list of candidates is taken",
        f"{_TEAMTAILOR}:Teamtailor.candidates",
        "if not candidate.carries(frozenset({normal(email)})):",
        "if False:",
        "tests/contract/test_handlers_recruitment_places.py::test_a_stranger_in_the_list_is_never_taken",
    ),
    fault(
        "another company's candidates are looked at",
        f"{_TEAMTAILOR}:Teamtailor.account",
        "Control.shown(pinned=self._company, answered=answered)",
        "pass",
        "tests/contract/test_handlers_recruitment_places.py::test_nobody_is_asked_of_another_company",
    ),
    fault(
        "a forged Teamtailor webhook is believed",
        f"{_TEAMTAILOR}:destroyed_candidate",
        'raise Refused("signature_invalid")',
        "pass",
        "tests/contract/test_handlers_recruitment.py::test_teamtailors_webhook_is_believed_when_signed_and_finds_its_request",
    ),
    fault(
        "an agency is asked to erase somebody else's candidate",
        f"{_HANDLER}:Recruitment._ask_for_candidates",
        "_CHANGED if is_changed else _NAMED",
        "_NAMED",
        "tests/contract/test_handlers_recruitment_places.py::test_a_candidate_without_the_persons_address_is_not_named_to_the_agency",
    ),
    fault(
        "several candidates of one address are erased unasked",
        f"{_HANDLER}:Recruitment._shared",
        'return {} if self._settings.ambiguous == "all" else sharing(candidates, _wanted(task))',
        "return {}",
        "tests/contract/test_handlers_recruitment_places.py::test_several_candidates_with_one_address_are_the_dpos_to_decide",
    ),
    fault(
        "a candidate who is still there is not told",
        f"{_HANDLER}:Recruitment.prove",
        "if there:",
        "if False:",
        "tests/contract/test_handlers_recruitment_places.py::test_only_a_candidate_that_is_surely_older_is_asked_for_again",
    ),
    fault(
        "a candidate who came back is not told",
        f"{_HANDLER}:Recruitment.prove",
        "if newer:",
        "if False:",
        "tests/contract/test_handlers_recruitment.py::test_a_candidate_who_comes_back_after_the_erasure_is_reported",
    ),
    fault(
        "an agency's word is taken where we can look",
        f"{_HANDLER}:Recruitment._answered",
        "looks = self._teamtailor is not None or self._opendsr is not None",
        "looks = False",
        "tests/contract/test_handlers_recruitment.py::test_teamtailor_shows_who_is_there_and_that_they_are_gone",
    ),
    # --- the mail and its link
    fault(
        "an agency's own files read as looked at",
        f"{_HANDLER}:Recruitment._unsearched",
        "search.skipped(FILES, NOT_SEARCHABLE)",
        "search.looked(FILES)",
        "tests/contract/test_handlers_recruitment_places.py::test_an_agency_that_reads_mail_is_never_told_as_searched",
    ),
    fault(
        "a link for one agency is another's answer",
        f"{_HANDLER}:Recruitment._answered",
        "if link.system != self._context.system:",
        "if False:",
        "tests/contract/test_handlers_recruitment.py::test_a_link_is_good_for_its_system_and_its_time_only",
    ),
    fault(
        "a link is expired by when its answer is read",
        f"{_HANDLER}:Recruitment._answered",
        "link.is_expired(callback.received_at)",
        "link.is_expired(self._context.clock())",
        "tests/contract/test_handlers_recruitment.py::test_a_link_is_good_for_its_system_and_its_time_only",
    ),
    fault(
        "an agency is asked after the command's time",
        f"{_HANDLER}:Recruitment._write",
        "task.may_erase()",
        "pass",
        "tests/contract/test_handlers_recruitment.py::test_nobody_is_asked_past_the_commands_time",
    ),
    fault(
        "a mail that is put off is given up",
        f"{_HANDLER}:Recruitment._write",
        'raise Retryable(f"mail_{error.code}") from None',
        'raise Permanent(f"mail_{error.code}") from None',
        "tests/contract/test_handlers_recruitment.py::test_mail_that_is_put_off_is_tried_again_and_mail_that_is_refused_is_not",
    ),
    fault(
        "each attempt at a mail is another mail",
        f"{_MAIL}:compose_mail",
        'f"{task.system}/{mails_before(task)}/{named}"',
        'f"{task.system}/{task.attempt}/{named}"',
        "tests/contract/test_handlers_recruitment.py::test_a_mail_whose_taking_was_lost_is_sent_again_under_its_message_id",
    ),
    fault(
        "a reminder is the first mail again",
        f"{_MAIL}:compose_mail",
        'f"{task.system}/{mails_before(task)}/{named}"',
        'f"{task.system}/{named}"',
        "tests/contract/test_handlers_recruitment.py::test_a_mail_whose_taking_was_lost_is_sent_again_under_its_message_id",
    ),
    fault(
        "an agency reads more of the person than it needs",
        f"{_MAIL}:_named",
        "if found:\n            return found\n    return []",
        "pass\nreturn [one.value for one in identifiers]",
        "tests/contract/test_handlers_recruitment.py::test_the_mail_names_the_person_once_and_nobody_in_its_headers",
        "tests/contract/test_handlers_recruitment.py::test_an_agency_reads_no_more_of_the_person_than_it_needs",
    ),
    fault(
        "what somebody typed on the page goes on as it is",
        f"{_ANSWER}:token",
        'if "@" in text or _MANY_DIGITS.search(made) or _TOKEN.fullmatch(made) is None:',
        "if _TOKEN.fullmatch(made) is None:",
        "tests/contract/test_handlers_recruitment.py::test_only_a_token_gets_through_of_what_people_type",
    ),
    fault(
        "what an agency retains ends as its last day begins",
        f"{_ANSWER}:_end_of_day",
        "+ timedelta(days=1)",
        "",
        "tests/contract/test_handlers_recruitment.py::test_a_retention_ends_with_its_last_day",
    ),
    fault(
        "retained without a law is an agency's answer",
        f"{_ANSWER}:read_answer",
        'raise Refused("legal_basis_missing")',
        'basis = "not_stated"',
        "tests/contract/test_handlers_recruitment.py::test_an_answer_that_means_nothing_is_refused",
    ),
    # --- OpenDSR
    fault(
        "an agency's answer of another's account counts",
        f"{_OPENDSR}:OpenDsrAgency._control",
        'answered=str(said.get("controller_id") or "")',
        "answered=self._controller_id",
        "tests/contract/test_handlers_agency_opendsr.py::test_what_is_said_of_anothers_account_counts_for_nothing",
    ),
    fault(
        "an agency's callback about another's account counts",
        f"{_OPENDSR}:OpenDsrAgency.receive",
        'if said.get("controller_id") != self._controller_id:',
        "if False:",
        "tests/contract/test_handlers_agency_opendsr.py::test_what_is_said_of_anothers_account_counts_for_nothing",
    ),
    fault(
        "an agency that goes on has erased",
        f"{_OPENDSR}:OpenDsrAgency.prove",
        "if not _is_end(said):",
        "if False:",
        "tests/contract/test_handlers_agency_opendsr.py::test_a_callback_that_never_came_is_made_good_by_a_look",
        "tests/contract/test_handlers_agency_opendsr.py::test_an_agency_that_goes_on_has_erased_nothing_yet",
    ),
    fault(
        "an agency's failure counts as done",
        f"{_OPENDSR}:OpenDsrAgency.prove",
        'raise Permanent("party_failed")',
        'return Proved(control=control, grade="party_stated")',
        "tests/contract/test_handlers_agency_opendsr.py::test_an_agency_that_failed_is_the_dpos_affair",
    ),
    fault(
        "an agency's word reads as our look",
        f"{_OPENDSR}:OpenDsrAgency.prove",
        'return Proved(control=control, grade="party_stated")',
        'return Proved(control=control, grade="seen_absent")',
        "tests/contract/test_handlers_agency_opendsr.py::test_an_agency_is_asked_calls_back_and_is_looked_at",
    ),
    fault(
        "an agency that lost the request has erased",
        f"{_OPENDSR}:OpenDsrAgency.prove",
        "if said is None:",
        "if said is None:\n    said = {'controller_id': self._controller_id, 'request_status': 'completed'}\n"
        "if False:",
        "tests/contract/test_handlers_agency_opendsr.py::test_a_request_that_the_agency_lost_is_made_again",
        "tests/contract/test_handlers_agency_opendsr.py::test_an_agency_that_goes_on_has_erased_nothing_yet",
    ),
    fault(
        "an unsigned answer of an agency's counts",
        f"{_ENDPOINT}:Endpoint._read",
        "await self._believe(headers, answer.body, self._clock())",
        "pass",
        "tests/contract/test_handlers_agency_opendsr.py::test_an_answer_that_is_not_the_agencys_own_counts_for_nothing",
    ),
    fault(
        "a certificate at another domain is believed",
        f"{_ENDPOINT}:Endpoint._published",
        'if (place.hostname or "").lower() != self._domain:',
        "if False:",
        "tests/contract/test_handlers_agency_opendsr.py::test_a_certificate_is_fetched_from_the_agencys_own_domain_alone",
    ),
    fault(
        "an agency's callback is sent on to another's address",
        f"{_ENDPOINT}:Endpoint.callback",
        'if isinstance(said, dict) and said.get("status_callback_url") == url:',
        "if isinstance(said, dict):",
        "tests/contract/test_handlers_agency_opendsr.py::test_a_callback_can_be_neither_altered_nor_sent_on_nor_kept",
    ),
    fault(
        "asking an agency again is another request",
        f"{_ENDPOINT}:subject_request_id",
        'f"{task.request_id}\\0{task.system}\\0"',
        'f"{task.request_id}\\0{task.system}\\0{task.attempt}"',
        "tests/contract/test_handlers_agency_opendsr.py::test_asking_again_is_the_same_request",
    ),
    fault(
        "a renewed certificate is not fetched",
        f"{_ENDPOINT}:Endpoint._believe",
        "if not had:\n                raise",
        "raise",
        "tests/contract/test_handlers_agency_opendsr.py::test_a_renewed_certificate_is_fetched_when_the_old_one_does_not_hold",
    ),
    fault(
        "a request about more people is the first request",
        f"{_ENDPOINT}:subject_request_id",
        "+ task.identifiers.to_bytes()",
        "",
        "tests/contract/test_handlers_agency_opendsr.py::test_added_identifiers_make_another_request",
    ),
)
