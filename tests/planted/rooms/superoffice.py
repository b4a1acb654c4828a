"""SuperOffice: everything of the person is found, only theirs is erased, and nothing is gone unseen."""

from typing import Final

from tests.planted.fault import Fault, fault

_HANDLER: Final = "handlers.superoffice"
_API: Final = "handlers.superoffice_api"
_LOGIN: Final = "handlers.superoffice_login"
_LOOK: Final = "handlers.superoffice_look"
_PROOF: Final = "handlers.superoffice_proof"
_RECORDS: Final = "handlers.superoffice_records"
_STAYING: Final = "handlers.superoffice_staying"
_CHECK: Final = "handlers.superoffice_check"

FAULTS: Final[tuple[Fault, ...]] = (
    # --- the front door and the tenant
    fault(
        "SuperOffice's ticket is not renewed",
        f"{_LOGIN}:SystemUser.renew",
        "return True",
        "return False",
        "tests/contract/test_handlers_superoffice.py::test_an_expired_ticket_is_renewed",
    ),
    fault(
        "SuperOffice's login may be anybody's",
        f"{_LOGIN}:verified_claims",
        'key.verify(_unpadded(signature), f"{head}.{payload}".encode(), padding.PKCS1v15(), hashes.SHA256())',
        "pass",
        "tests/contract/test_handlers_superoffice.py::test_wrong_credentials_are_for_a_person_to_mend",
    ),
    fault(
        "an unsigned login is taken",
        f"{_LOGIN}:verified_claims",
        'if header.get("alg") != "RS256":',
        'if header.get("alg") == "none": return json.loads(_unpadded(payload))\nif False:',
        "tests/contract/test_handlers_superoffice.py::test_an_answer_to_the_login_without_a_signature_is_refused",
    ),
    fault(
        "a login for another tenant is taken",
        f"{_LOGIN}:SystemUser._authenticate",
        "if claims[CONTEXT_CLAIM] != self.context:",
        "if False:",
        "tests/contract/test_handlers_superoffice.py::test_a_login_says_when_by_whom_and_for_which_tenant_it_was_made",
    ),
    fault(
        "a login that doesn't say for which tenant is taken",
        f"{_LOGIN}:SystemUser._authenticate",
        'if not claims.get("iss") or not claims.get("aud") or CONTEXT_CLAIM not in claims:',
        "claims.setdefault(CONTEXT_CLAIM, self.context)\nif False:",
        "tests/contract/test_handlers_superoffice.py::test_a_login_says_when_by_whom_and_for_which_tenant_it_was_made",
    ),
    fault(
        "a login from yesterday is taken",
        f"{_LOGIN}:SystemUser._authenticate",
        "<= ends * SECOND + _SKEW",
        "",
        "tests/contract/test_handlers_superoffice.py::test_a_login_says_when_by_whom_and_for_which_tenant_it_was_made",
    ),
    fault(
        "a tenant that is stopped is asked",
        f"{_LOGIN}:discover",
        'if state.get("IsRunning") is not True:',
        "if False:",
        "tests/contract/test_handlers_superoffice.py::test_a_tenant_that_is_not_running_is_waited_for",
    ),
    fault(
        "a tenant that moved is asked where it was",
        f"{_API}:Api.ask",
        "self._tenant = None",
        "pass",
        "tests/contract/test_handlers_superoffice.py::test_a_tenant_that_moves_is_asked_for_again",
    ),
    fault(
        "a tenant's address is valid for ever",
        f"{_API}:Api._api",
        "or self._tenant.valid_until <= now",
        "",
        "tests/contract/test_handlers_superoffice.py::test_the_tenants_address_is_asked_for_when_it_is_valid_no_longer",
    ),
    fault(
        "calls to SuperOffice go without the application's token",
        f"{_LOGIN}:SystemUser.headers",
        ', "SO-AppToken": self.client_secret.read()',
        "",
        "tests/contract/test_handlers_superoffice.py::test_a_submission_that_nobody_answered_is_found_and_erased",
    ),
    fault(
        "SuperOffice's times come in the tenant's zone",
        f"{_API}:Api._api",
        "headers=_IN_UTC,",
        "",
        "tests/contract/test_handlers_superoffice_leads.py::test_every_call_to_the_tenant_asks_for_utc_with_an_offset",
    ),
    fault(
        "somebody of another tenant is deleted",
        f"{_API}:Api.account",
        "Control.shown(pinned=self._settings.tenant, answered=answered)",
        "pass",
        "tests/contract/test_handlers_superoffice.py::test_nothing_is_deleted_in_another_tenant",
    ),
    # --- lists
    fault(
        "SuperOffice's first page is taken for all",
        f"{_API}:Api.rows",
        "if not following:",
        "if True:",
        "tests/contract/test_handlers_superoffice.py::test_every_page_and_every_address_is_searched",
    ),
    fault(
        "a SuperOffice list that may not be read is empty",
        f"{_API}:Api.rows",
        "raise PlaceUnreadable(query.place)",
        "return",
        "tests/contract/test_handlers_superoffice_places.py::test_a_place_that_cannot_be_read_is_named_and_never_empty[tickets-403]",
    ),
    fault(
        "a link to the next page leads the ticket to another host",
        f"{_API}:Api._same_place",
        "elsewhere or led.username or",
        "led.username or",
        "tests/contract/test_handlers_superoffice_places.py::test_a_link_that_leads_elsewhere_is_not_followed",
    ),
    fault(
        "a quote in an address ends the filter",
        f"{_RECORDS}:Records._quoted",
        'return text.replace("\'", f"{self._escape}\'")',
        "return text",
        "tests/contract/test_handlers_superoffice_settings.py::test_a_quote_in_an_address_finds_its_person_and_nobody_else",
    ),
    fault(
        "a server that ignores a filter has a stranger erased",
        f"{_RECORDS}:Records.persons_by_address",
        "if shown.id == str(number) and not shown.carries(frozenset({email})):",
        "if False:",
        "tests/contract/test_handlers_superoffice_leads.py::test_a_server_that_ignores_a_filter_has_nobody_elses_record_taken[/v1/Person]",
    ),
    fault(
        "a stranger's record is taken for what hangs on the person",
        f"{_RECORDS}:Records._owned",
        "if child.owner != person:",
        "if False:",
        "tests/contract/test_handlers_superoffice_leads.py::test_a_server_that_ignores_a_filter_has_nobody_elses_record_taken[Archive/Ticket]",
    ),
    fault(
        "a person who is listed and can't be read is gone",
        f"{_RECORDS}:Records.live",
        "return None if row is None else await self._read(number)",
        "try:\n    return None if row is None else await self._read(number)\n"
        "except PlaceUnreadable:\n    return None",
        "tests/contract/test_handlers_superoffice_places.py::test_a_person_who_is_listed_and_cannot_be_read_is_never_gone",
    ),
    fault(
        "only what one deleted oneself is seen in the bin",
        f"{_RECORDS}:bins",
        'entities="person,forAllUsers"',
        'entities="person"',
        "tests/contract/test_handlers_superoffice_places.py::test_a_person_whom_a_colleague_deleted_yesterday_is_found_in_the_bin",
    ),
    fault(
        "former employees are not looked for",
        f"{_RECORDS}:archives",
        'entities="person,retiredPerson"',
        'entities="person"',
        "tests/contract/test_handlers_superoffice_places.py::test_former_employees_and_closed_requests_are_asked_for",
    ),
    fault(
        "closed requests are not looked for",
        f"{_RECORDS}:archives",
        'entities="ticket,ticketdisplayclosed"',
        'entities="ticket"',
        "tests/contract/test_handlers_superoffice_places.py::test_former_employees_and_closed_requests_are_asked_for",
    ),
    # --- leads, up and down
    fault(
        "what hangs on a person is not followed down",
        f"{_LOOK}:_follow",
        "async for child in records.children(int(number)):",
        "async for child in records.children(0):",
        "tests/contract/test_handlers_superoffice_leads.py::test_a_submission_leads_to_the_person_who_has_another_address_by_now",
        "tests/contract/test_handlers_superoffice_places.py::test_former_employees_and_closed_requests_are_asked_for",
    ),
    fault(
        "a submission does not lead up to its person",
        f"{_LOOK}:_follow",
        "{str(child.owner) for child in found.children.values() if child.owner}",
        "set[str]()",
        "tests/contract/test_handlers_superoffice_leads.py::test_a_submission_leads_to_the_person_who_has_another_address_by_now",
    ),
    fault(
        "what an earlier look found is no lead",
        f"{_LOOK}:_follow",
        "for known in await records.there(leading):",
        "for known in ():",
        "tests/contract/test_handlers_superoffice_leads.py::test_a_record_that_came_to_somebody_else_is_left_alone",
    ),
    fault(
        "a person who was only led to is erased unasked",
        f"{_LOOK}:Found.is_led_to",
        "return not person.shown.carries(self.wanted)",
        "return False",
        "tests/contract/test_handlers_superoffice_leads.py::test_a_submission_leads_to_the_person_who_has_another_address_by_now",
    ),
    fault(
        "several persons of one address are erased unasked",
        f"{_LOOK}:Found.are_shared",
        "for one in touched) > 1",
        "for one in touched) > 2",
        "tests/contract/test_handlers_superoffice_settings.py::test_by_default_it_asks_and_gives_no_reference_away",
    ),
    fault(
        "a person in the bin is not looked for",
        f"{_LOOK}:look",
        "found.answered(shown.id, Person(shown, is_live=False))",
        "pass",
        "tests/contract/test_handlers_superoffice_places.py::test_a_person_whom_a_colleague_deleted_yesterday_is_found_in_the_bin",
    ),
    fault(
        "rights that were lost during the look make an absence",
        f"{_HANDLER}:SuperOffice.locate",
        "control = await self._control()\n        asked",
        "control = Control.shown(pinned=self._settings.tenant, answered=self._settings.tenant)\nasked",
        "tests/contract/test_handlers_superoffice.py::test_rights_lost_during_the_look_are_no_short_list",
    ),
    # --- taking away
    fault(
        "the person goes before what hangs on them",
        f"{_HANDLER}:SuperOffice.erase",
        "for part in rounds.parts(children, READ_AHEAD):",
        "for person in persons:\n    await self._records.delete(task, person)\n"
        "for part in rounds.parts(children, READ_AHEAD):",
        "tests/contract/test_handlers_superoffice.py::test_the_person_goes_last",
    ),
    fault(
        "a newsletter's consent outlives its person",
        f"{_HANDLER}:SuperOffice.erase",
        "if self._settings.newsletter_purpose is not None:",
        "if False:",
        "tests/contract/test_handlers_superoffice.py::test_a_person_goes_with_what_hangs_on_them_and_not_before_the_purge_is_it_proved",
    ),
    fault(
        "a person who is somebody else by now is deleted",
        f"{_HANDLER}:SuperOffice._is_still",
        "if shown.is_still(person, wanted):",
        "if True:",
        "tests/contract/test_handlers_superoffice_leads.py::test_a_person_who_was_reassigned_is_left_alone_and_the_rest_goes",
    ),
    fault(
        "a record that came to somebody else is deleted",
        f"{_HANDLER}:SuperOffice._still_hangs",
        "changed.add(key(child.reference))\n        return False",
        "return True",
        "tests/contract/test_handlers_superoffice_leads.py::test_a_record_that_came_to_somebody_else_is_left_alone",
    ),
    fault(
        "a record that may not be deleted counts as erased",
        f"{_HANDLER}:SuperOffice._delete",
        "{GONE: REPEATED, REFUSED: _REFUSED}",
        "{GONE: REPEATED}",
        "tests/contract/test_handlers_superoffice_leads.py::test_a_record_that_may_not_be_deleted_holds_up_no_other",
    ),
    fault(
        "what SuperOffice may not delete is no failure",
        f"{_HANDLER}:SuperOffice.erase",
        'raise Permanent("record_refused")',
        "pass",
        "tests/contract/test_handlers_superoffice_leads.py::test_a_record_that_may_not_be_deleted_holds_up_no_other",
    ),
    fault(
        "records that nobody may see any more count as erased",
        f"{_HANDLER}:SuperOffice.erase",
        "# Who may not see a record finds it gone.\n            await self._control()",
        "pass",
        "tests/contract/test_handlers_superoffice_leads.py::test_nothing_seen_at_the_erasure_is_no_erasure_without_rights",
    ),
    # --- the proof
    fault(
        "what lies in the recycle bin counts as erased",
        f"{_PROOF}:Proof.judged",
        "if bins.binned or bins.unseen:",
        "if False:",
        "tests/contract/test_handlers_superoffice_places.py::test_a_deleted_request_has_a_proof_of_its_own",
    ),
    fault(
        "a record never seen in the bin becomes the vendor's word",
        f"{_PROOF}:Proof._proved",
        'grade = "vendor_promised"',
        "pass",
        "tests/contract/test_handlers_superoffice_places.py::test_a_record_never_seen_in_the_bin_is_promised_at_best",
    ),
    fault(
        "a sighting from before the erasure proves the purge",
        f"{_PROOF}:was_seen_since",
        "max(_times(reference, ERASED_MARK), default=began_at)",
        "0",
        "tests/contract/test_handlers_superoffice.py::test_a_second_deletion_begins_the_wait_for_the_purge_anew",
    ),
    fault(
        "what the look missed is no reason to erase again",
        f"{_PROOF}:Proof._is_older",
        "return created_at + precision < erased_at - micros(self._settings.clock_skew)",
        "return False",
        "tests/contract/test_handlers_superoffice_places.py::test_a_submission_that_arrives_after_the_look_is_still_present",
    ),
    fault(
        "a person of unknown age is erased as an old one",
        f"{_PROOF}:Proof._is_older",
        "if created_at is None or erased_at is None:\n            return False",
        "if created_at is None or erased_at is None:\n    return True",
        "tests/contract/test_handlers_superoffice_leads.py::test_an_unknown_age_is_never_taken_for_an_old_one",
    ),
    fault(
        "what was to be erased and is there is not told",
        f"{_PROOF}:Proof._there",
        "there += [reference] if is_there else []",
        "pass",
        "tests/contract/test_handlers_superoffice_leads.py::test_a_record_that_may_not_be_deleted_holds_up_no_other",
    ),
    fault(
        "the proof doesn't ask about a person who changed",
        f"{_PROOF}:Proof._changed",
        "return changed",
        "return []",
        "tests/contract/test_handlers_superoffice_leads.py::test_a_person_who_was_reassigned_is_left_alone_and_the_rest_goes",
    ),
    fault(
        "a deleted request's bin is not looked into",
        f"{_PROOF}:Proof._bins",
        "if known.kind in self._records.bins}",
        'if known.kind == "person"}',
        "tests/contract/test_handlers_superoffice_places.py::test_a_deleted_request_has_a_proof_of_its_own",
    ),
    # --- what stays, and what comes in
    fault(
        "a sale is deleted",
        f"{_STAYING}:Staying.stays",
        "return kind == SALE or",
        "return",
        "tests/contract/test_handlers_superoffice.py::test_a_sale_is_kept_and_said_to_be_kept_until_the_law_lets_it_go",
    ),
    fault(
        "what was kept reads as erased",
        f"{_PROOF}:Proof._proved",
        'end="erased" if basis is None else "retained"',
        'end="erased"',
        "tests/contract/test_handlers_superoffice.py::test_a_sale_is_kept_and_said_to_be_kept_until_the_law_lets_it_go",
    ),
    fault(
        "a forged SuperOffice webhook is believed",
        f"{_HANDLER}:SuperOffice.receive",
        "if not webhook_is_genuine(self._settings.webhook_secret.read(), callback.body, signature):",
        "if False:",
        "tests/contract/test_handlers_superoffice.py::test_the_purge_webhook_is_believed_when_signed_and_finds_its_request",
    ),
    fault(
        "another tenant's webhook is believed",
        f"{_HANDLER}:SuperOffice.receive",
        "if tenant != self._settings.tenant:",
        "if False:",
        "tests/contract/test_handlers_superoffice.py::test_another_tenants_purge_is_not_ours",
    ),
    fault(
        "a soft deletion's webhook ends the step",
        f"{_HANDLER}:SuperOffice.receive",
        'if event != "person.deleted":',
        "if False:",
        "tests/contract/test_handlers_superoffice.py::test_the_purge_webhook_is_believed_when_signed_and_finds_its_request",
    ),
)
