"""What an answer counts for, what a proof shows, what is acted on: nothing is reported that nobody saw."""

from typing import Final

from tests.planted.fault import Fault, fault

_ABOUT: Final = "orchestrator.saga.about"
_MODEL: Final = "orchestrator.saga.model"
_DRAFT: Final = "orchestrator.saga.draft"
_STEPS: Final = "orchestrator.saga.steps"
_PROOFS: Final = "orchestrator.saga.proofs"
_RECORDS: Final = "orchestrator.saga.records"
_PARTIES: Final = "orchestrator.saga.parties"
_TABLE: Final = "orchestrator.saga.table"
_REQUEST: Final = "orchestrator.saga.request"
_CONTRADICTIONS: Final = "orchestrator.saga.contradictions"

_COUNTS: Final = "tests/unit/test_saga_about.py"
_NEWER: Final = "tests/unit/test_saga_newer.py"
_WORDS: Final = "tests/unit/test_saga_words.py"
_PLACES: Final = "tests/unit/test_saga_places.py"
_ACTED: Final = "tests/unit/test_saga_acted.py"
_SYSTEMS: Final = "tests/unit/test_saga_systems.py"
_OLD: Final = "tests/unit/test_saga_documents.py"

FAULTS: Final[tuple[Fault, ...]] = (
    fault(
        "another end goes unsaid, as a repeat of the first",
        f"{_DRAFT}:Draft.say_end",
        "final, *ends)",
        "final)",
        "tests/unit/test_saga_request.py::test_the_same_end_is_the_same_mail",
    ),
    fault(
        "the same end is mailed twice",
        f"{_DRAFT}:Draft.say_end",
        "final, *ends)",
        "final, self._cause)",
        "tests/unit/test_saga_request.py::test_the_same_end_is_the_same_mail",
    ),
    # --- what an answer is about
    fault(
        "the saga marks sealed bytes in another way than the worker",
        f"{_ABOUT}:mark",
        "[:32]",
        "[:31]",
        f"{_COUNTS}::test_the_saga_and_the_messages_make_the_same_mark",
    ),
    fault(
        "an answer about other identifiers is about the person",
        f"{_ABOUT}:is_about_the_person",
        "event.about[:1] == (mark(saga.identifiers),)",
        "bool(event.about)",
        f"{_COUNTS}::test_a_proof_that_names_another_person_ends_nothing",
    ),
    fault(
        "an answer about one record of two is about all",
        f"{_ABOUT}:is_about_all",
        "all(mark(one) in named for one in step.references)",
        "(not step.references or any(mark(one) in named for one in step.references))",
        f"{_COUNTS}::test_an_acceptance_of_fewer_records_does_not_answer_the_larger_erasure",
    ),
    fault(
        "an acceptance of the first erasure ends the second",
        f"{_PROOFS}:accepted",
        "is_about_all = about.is_about_all(draft.saga, step, confirmed)",
        "is_about_all = True",
        f"{_COUNTS}::test_an_acceptance_of_fewer_identifiers_does_not_answer_the_larger_erasure",
        f"{_COUNTS}::test_an_acceptance_of_fewer_records_does_not_answer_the_larger_erasure",
    ),
    fault(
        "a yes from before the proof answers the erasure after it",
        f"{_PROOFS}:still_present",
        "accepted_at=None, erases_from=step.attempt + 1",
        "accepted_at=None",
        f"{_COUNTS}::test_the_yes_to_the_first_erasure_does_not_answer_the_one_after_a_proof",
    ),
    fault(
        "a late yes to an attempt that carried everything is passed over",
        f"{_PROOFS}:accepted",
        "confirmed.attempt < step.erases_from",
        "confirmed.attempt < step.attempt",
        f"{_COUNTS}::test_a_late_yes_to_an_attempt_that_carried_all_counts_while_the_next_one_is_out",
    ),
    fault(
        "an absence that names nothing stands for the look that is still to come",
        f"{_STEPS}:absent",
        """if not about.is_about_the_person(draft.saga, confirmed):
            return ask_again(draft, step, confirmed, about.ABOUT_LESS)""",
        "",
        f"{_COUNTS}::test_an_absence_that_names_nothing_is_no_look_where_records_are_known",
    ),
    fault(
        "a worker that names nothing says that nobody can be identified",
        f"{_STEPS}:not_identifiable",
        """if not about.is_about_the_person(draft.saga, confirmed):
            return ask_again(draft, step, confirmed, about.ABOUT_LESS)""",
        "",
        f"{_COUNTS}::test_an_answer_that_names_nothing_is_a_fact_and_ends_nothing",
    ),
    fault(
        "a worker that names nothing is asked for ever",
        f"{_STEPS}:_send_anew",
        "if retry.is_spent(step.expiries):",
        "if False:",
        f"{_COUNTS}::test_workers_that_never_say_what_they_are_about_are_a_matter_for_the_dpo",
    ),
    fault(
        "an answer that falls short settles the DPO's question",
        f"{_STEPS}:ask_again",
        "isinstance(step.state, Retrying | AwaitingDecision)",
        "isinstance(step.state, Retrying)",
        f"{_COUNTS}::test_an_answer_that_names_nothing_settles_no_question",
    ),
    fault(
        "the table lets a rule make up an end",
        f"{_TABLE}:_check_end",
        "if not is_shown or state.grade is None:",
        "if False:",
        f"{_COUNTS}::test_no_rule_can_make_up_an_end",
    ),
    fault(
        "the table takes any answer for one that shows an end",
        f"{_TABLE}:_check_end",
        "and about.shortfall(draft.saga, after, event) is None",
        "",
        f"{_COUNTS}::test_no_rule_can_make_up_an_end",
    ),
    fault(
        "a vendor's event about one record ends the step",
        f"{_PROOFS}:party_erased",
        'or confirmed.grade == "vendor_stated"',
        "",
        f"{_COUNTS}::test_a_vendors_own_event_never_ends_a_step",
    ),
    fault(
        "a party's word from a worker that names nothing counts",
        f"{_PARTIES}:_is_stale",
        "return not about.is_about_all(draft.saga, step, event)",
        "return False",
        f"{_COUNTS}::test_a_partys_word_from_a_worker_that_names_nothing_ends_nothing",
    ),
    # --- records that are named late
    fault(
        "records found while erasing are in no command",
        f"{_STEPS}:found_more",
        "return _erase(draft, step) if expect(event, Confirmed).references in step.references else step",
        "return step",
        f"{_COUNTS}::test_records_that_an_older_proof_saw_while_an_erasure_is_out_go_out_with_another",
        f"{_COUNTS}::test_an_acceptance_of_fewer_records_does_not_answer_the_larger_erasure",
    ),
    fault(
        "a party is not asked for records that turned up since",
        f"{_STEPS}:found_while_asking",
        'if verb_of(step) == "erase" else located(draft, step, event)',
        "if False else located(draft, step, event)",
        f"{_COUNTS}::test_a_party_that_is_being_asked_is_asked_for_what_turned_up_since",
    ),
    fault(
        "an acceptance answers records that no erasure carried",
        f"{_PROOFS}:still_present",
        """if len(step.references) <= step.carried:
            return step""",
        "return step",
        f"{_COUNTS}::test_records_that_an_older_proof_saw_are_carried_by_an_erasure",
        f"{_COUNTS}::test_records_that_an_older_proof_saw_overturn_an_absence",
    ),
    fault(
        "an end answers records that its proof did not look at",
        f"{_CONTRADICTIONS}:contradicts",
        "return is_news or brings or",
        "return is_news or",
        f"{_COUNTS}::test_records_that_an_older_proof_saw_are_looked_at_after_the_end",
    ),
    fault(
        "a step that ended partly retained is deaf",
        f"{_CONTRADICTIONS}:is_seen_gone",
        'return ended.grade != "party_stated"',
        "return False",
        f"{_COUNTS}::test_what_stays_by_law_does_not_make_deaf",
    ),
    fault(
        "what a party retains is erased when it is seen",
        f"{_CONTRADICTIONS}:is_seen_gone",
        'return ended.grade != "party_stated"',
        "return True",
        f"{_COUNTS}::test_what_a_party_retains_may_be_seen",
    ),
    # --- what is newer than the erasure
    fault(
        "a proof goes out without the time of the erasure",
        f"{_DRAFT}:Draft.command",
        "step = replace(step, erased_at=received_at, created_by=())",
        "pass",
        f"{_ACTED}::test_a_proof_that_follows_no_erasure_takes_the_receipt_for_its_time",
    ),
    fault(
        "the yes that is read last tells what is newer",
        f"{_RECORDS}:erased_by",
        "if at < step.erased_at else step",
        "if False else step",
        f"{_COUNTS}::test_the_earliest_yes_tells_what_is_newer",
    ),
    fault(
        "a proof that took a later time for that of the erasure has newer records erased",
        f"{_RECORDS}:erased_by",
        "replace(step, erased_at=at, proves_from=step.attempt + 1)",
        "replace(step, erased_at=at)",
        f"{_COUNTS}::test_a_proof_that_took_a_later_time_for_that_of_the_erasure_leads_to_another",
    ),
    fault(
        "a record that may be newer than an erasure read late goes out with the next command",
        f"{_STEPS}:_erase",
        '"prove" if records.must_be_proved_first(step) else "erase"',
        '"erase"',
        f"{_NEWER}::test_a_record_that_an_earlier_erasure_makes_a_newer_one_is_proved_anew_before_it_is_erased",
    ),
    fault(
        "a record that may be newer than an erasure read late is erased after the next proof",
        f"{_PROOFS}:still_present",
        "if may_be_newer(step):",
        "if False:",
        f"{_NEWER}::test_a_record_that_an_earlier_erasure_makes_a_newer_one_is_proved_anew_before_it_is_erased",
    ),
    fault(
        "a search's time counts, and not that an erasure carried what it found",
        f"{_RECORDS}:erased_by",
        "min(time, at) if mark(sealed) in named else time",
        "time",
        f"{_NEWER}::test_what_the_earlier_erasure_carried_itself_is_no_newer_one",
    ),
    fault(
        "a search that ran after an erasure is taken for one before it",
        f"{_RECORDS}:taken_in",
        "(erased_at is None or event.occurred_at <= erased_at):\n        created_by = event.occurred_at",
        "(erased_at is None or event.occurred_at <= erased_at):\n        created_by = 0",
        f"{_NEWER}::test_records_that_a_search_saw_after_an_erasure_are_proved_before_they_are_erased",
    ),
    fault(
        "a proof that follows no erasure makes newer records of all that are known",
        f"{_DRAFT}:Draft.command",
        "erased_at=received_at, created_by=()",
        "erased_at=received_at",
        f"{_NEWER}::test_what_was_known_before_a_proof_that_follows_no_erasure_is_no_newer_record",
    ),
    fault(
        "a record that was seen after an erasure and is not found any more is forgotten",
        f"{_PROOFS}:proved",
        "if step.unsorted:",
        "if False:",
        f"{_NEWER}::test_a_record_that_is_not_found_any_more_is_looked_at_before_the_step_ends",
    ),
    fault(
        "a record that was seen after an erasure and is looked at by itself counts as an older one",
        f"{_RECORDS}:sorted_in",
        "[created_by] * len(step.unsorted)",
        "[0] * len(step.unsorted)",
        f"{_NEWER}::test_a_record_that_is_not_found_any_more_is_looked_at_before_the_step_ends",
    ),
    fault(
        "what was seen after an erasure is forgotten when the person asks anew",
        f"{_STEPS}:_anew",
        "fresh(records.sorted_in(step, draft.now))",
        "replace(fresh(step), unsorted=())",
        f"{_NEWER}::test_what_was_seen_after_an_erasure_is_erased_when_the_person_asks_anew",
    ),
    fault(
        "records of which nobody knows whether they are newer are passed over by an erasure",
        f"{_RECORDS}:must_be_proved_first",
        "or (bool(step.unsorted) and not step.references)",
        "",
        f"{_NEWER}::test_where_no_record_is_known_a_proof_comes_before_an_erasure",
    ),
    fault(
        "a search that finds nothing ends a step whose records were seen after the erasure",
        f"{_MODEL}:Step.knows_records",
        "bool(self.references or self.unsorted)",
        "bool(self.references)",
        f"{_NEWER}::test_where_no_record_is_known_a_proof_comes_before_an_erasure",
    ),
    fault(
        "a record seen after an erasure is erased unlooked",
        f"{_STEPS}:located",
        'return draft.issue(fresh(step), "prove")',
        "pass",
        f"{_COUNTS}::test_records_seen_after_an_erasure_are_told_from_new_ones_first",
    ),
    # --- after the end
    fault(
        "a controller's erase after the end is mailed, and nobody has to answer for it",
        "orchestrator.saga.hearing:_heed",
        'case Finished() if is_against and event.kind == "instructed":',
        "case Finished() if False:",
        f"{_WORDS}::test_erase_after_the_end_is_a_question_that_the_dpo_ends_with_a_reason",
    ),
    fault(
        "a controller's second change of mind after the end is passed over",
        "orchestrator.saga.hearing:_heed",
        'draft.unsettle("instructed_late", step.system)',
        "pass",
        f"{_WORDS}::test_each_change_of_mind_after_the_end_is_asked_about",
    ),
    fault(
        "a question after the end never reminds",
        f"{_MODEL}:Saga.wake_at",
        "return min((until for _, until in waits(self)), default=None)",
        "return None if self.is_finished else min(until for _, until in waits(self))",
        f"{_WORDS}::test_erase_after_the_end_is_a_question_that_the_dpo_ends_with_a_reason",
    ),
    fault(
        "a question after the end is in no figure",
        "orchestrator.store.store:Store.figures",
        "where(s.wake_at.is_not(None))",
        "where(s.status.not_in(FINAL_STATUSES))",
        "tests/contract/test_store_sqlite.py::TestUpkeep::test_a_question_after_the_end_is_counted_and_listed",
    ),
    fault(
        "a question after the end is not listed with the open ones",
        "orchestrator.store.store:Store.sagas",
        "is_wanted | c.wake_at.is_not(None) if also_waiting else is_wanted",
        "is_wanted",
        "tests/contract/test_store_sqlite.py::TestUpkeep::test_a_question_after_the_end_is_counted_and_listed",
    ),
    # --- places
    fault(
        "a proof that left a place out ends the step",
        f"{_ABOUT}:_goes_as_far",
        "if one.looked}",
        "}",
        f"{_PLACES}::test_a_proof_in_fewer_places_ends_nothing",
    ),
    fault(
        "a proof by fewer addresses ends the step",
        f"{_ABOUT}:_goes_as_far",
        "looked[one.name].by.get(kind, 0) >= n",
        "looked[one.name].by.get(kind, 0) > 0",
        f"{_PLACES}::test_a_proof_in_fewer_places_ends_nothing",
    ),
    fault(
        "a proof that looked where nobody searched ends nothing",
        f"{_ABOUT}:_goes_as_far",
        "for one in searched if one.looked",
        "for one in searched",
        f"{_PLACES}::test_a_proof_in_as_many_places_ends_the_step",
    ),
    fault(
        "of two searches the later one counts alone",
        f"{_ABOUT}:furthest",
        "elif one.looked:",
        "elif not one.looked:",
        f"{_PLACES}::test_each_search_since_the_beginning_counts",
    ),
    fault(
        "an older answer takes back what a newer one saw of a place",
        f"{_STEPS}:_with_places",
        "is_current(step, event) and not step.is_ended",
        "True",
        f"{_PLACES}::test_an_older_answer_does_not_take_back_what_a_newer_one_saw",
    ),
    fault(
        "a proof is measured by the search before a supplement",
        f"{_STEPS}:_anew",
        "searched=(),",
        "",
        f"{_PLACES}::test_a_supplement_searches_and_proves_anew",
    ),
    fault(
        "a proof in fewer places is asked for without an end",
        f"{_STEPS}:ask_again",
        "if short == about.FEWER_PLACES:",
        "if False:",
        f"{_PLACES}::test_a_proof_in_fewer_places_ends_nothing",
    ),
    # --- acted
    fault(
        "a step that retries its erasure counts as acted on",
        f"{_MODEL}:Step.is_acted_on",
        'Retrying(verb="prove")',
        "Retrying()",
        f"{_ACTED}::test_a_step_that_erases_again_is_not_acted_on",
    ),
    fault(
        "a step whose erasure lies with the DPO counts as acted on",
        f"{_MODEL}:Step.is_acted_on",
        'AwaitingDecision(resume="prove")',
        "AwaitingDecision()",
        f"{_ACTED}::test_a_step_that_erases_again_is_not_acted_on",
    ),
    fault(
        "a look with nothing accepted counts as acted on",
        f"{_MODEL}:Step.is_acted_on",
        "return self.accepted_at is not None",
        "return True",
        f"{_ACTED}::test_a_proof_counts_only_with_an_acceptance",
    ),
    fault(
        "what was acted on stays so when the records are found again",
        f"{_REQUEST}:_act_when_done",
        "withdraw_acted(draft)",
        "pass",
        f"{_ACTED}::test_an_erasure_that_failed_after_the_letter_is_acted_on_no_more",
    ),
    fault(
        "the person's only letter says under way",
        f"{_REQUEST}:withdraw_acted",
        'drop_notice(draft, "acted", given=True)',
        "pass",
        f"{_ACTED}::test_what_the_person_was_told_is_told_anew_when_it_holds_again",
    ),
    fault(
        "an alarm that was waived stays silent after the word is withdrawn",
        f"{_REQUEST}:withdraw_acted",
        "draft.unsettle(reason)",
        "pass",
        f"{_ACTED}::test_an_alarm_that_was_waived_comes_again_when_the_word_is_withdrawn",
    ),
    # --- the DPO's decision, and a system that is left alone
    fault(
        "the DPO's agreement is about all that was ever found",
        f"{_STEPS}:look_anew",
        "step.state.records or step.found",
        "step.found",
        f"{_SYSTEMS}::test_the_decision_is_about_as_many_records_as_the_question",
    ),
    fault(
        "the DPO's agreement is about as many records, whichever they are",
        f"{_STEPS}:look_anew",
        "(step.state.asked,)",
        "()",
        f"{_SYSTEMS}::test_the_decision_comes_with_the_records_that_were_asked_about",
    ),
    fault(
        "what the DPO is asked about is taken for the person's",
        f"{_RECORDS}:taken_in",
        " or is_ambiguous(event)",
        "",
        f"{_SYSTEMS}::test_what_a_proof_asks_about_is_not_erased_with_the_rest",
    ),
    fault(
        "the DPO's agreement stays with the step",
        "orchestrator.saga.rulings:retry",
        "return send(draft, step, verb_of(step))",
        "return draft.issue(replace(step, takes_all=step.found), verb_of(step))",
        f"{_SYSTEMS}::test_the_decision_counts_for_the_look_that_follows_it_and_no_other",
    ),
    fault(
        "what the DPO agreed to in an earlier version is carried along",
        f"{_DRAFT}:Draft._instruction",
        "return step.instruction if is_controllers else None",
        "return step.instruction",
        f"{_OLD}::test_what_the_dpo_once_agreed_to_is_carried_along_no_more",
    ),
    fault(
        "a system that is left alone is waited for without an end",
        f"{_STEPS}:_left_alone",
        "if draft.is_due(last):",
        "if False:",
        f"{_SYSTEMS}::test_a_system_that_is_left_alone_for_long_is_asked_about",
    ),
    fault(
        "each pause of a system begins the wait anew",
        f"{_STEPS}:_left_alone",
        "step.unasked_since if step.unasked_since is not None else draft.now",
        "draft.now",
        f"{_SYSTEMS}::test_a_system_that_is_left_alone_for_long_is_asked_about",
    ),
    fault(
        "a system that answered in between is asked about for its old pause",
        f"{_STEPS}:fresh",
        "unasked_since=None",
        "unasked_since=step.unasked_since",
        f"{_SYSTEMS}::test_a_system_that_answered_in_between_is_waited_for_anew",
    ),
    # --- work that is larger than one attempt
    fault(
        "what earlier attempts have done is forgotten",
        "orchestrator.saga.draft:Draft.command",
        "*step.agreed, *progress)",
        "*step.agreed)",
        "tests/unit/test_saga_progress.py::test_the_next_attempt_goes_on_at_once_and_is_told_what_is_done",
    ),
    fault(
        "an attempt that did part of the work is a failed one",
        "orchestrator.saga.steps:went_on",
        "if not progress.has_gone_on(step, confirmed):",
        "if True:",
        "tests/unit/test_saga_progress.py::test_progress_is_no_failed_attempt_however_often",
    ),
    fault(
        "an attempt that did nothing is tried again for ever",
        "orchestrator.saga.steps:went_on",
        "if not progress.has_gone_on(step, confirmed):",
        "if False:",
        "tests/unit/test_saga_progress.py::test_an_attempt_without_progress_is_a_failed_one",
    ),
    fault(
        "part of the work passes for all of it",
        "orchestrator.saga.steps:went_on",
        "return send(draft, step, verb_of(step))",
        'return send(draft, step, "prove")',
        "tests/unit/test_saga_progress.py::test_the_next_attempt_goes_on_at_once_and_is_told_what_is_done",
    ),
    fault(
        "what one proof saw counts for the next",
        "orchestrator.saga.progress:taken_in",
        "agreed=(), **NONE)",
        "agreed=())",
        "tests/unit/test_saga_progress.py::test_only_the_answer_completes_a_verb_and_a_proof_covers_every_reference",
    ),
    fault(
        "the first part of an erasure tells nobody what is newer",
        "orchestrator.saga.progress:has_erased",
        "or (event.done > 0 and event.erased > 0)",
        "",
        "tests/unit/test_saga_progress.py::test_the_first_part_tells_what_is_newer",
    ),
)
