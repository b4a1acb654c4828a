"""Google Analytics: every id reaches the property that takes it; nothing is promised that nobody asked."""

from typing import Final

from tests.planted.fault import Fault, fault

_GOOGLE: Final = "handlers.google_analytics"
_LOGIN: Final = "handlers.google_login"

FAULTS: Final[tuple[Fault, ...]] = (
    fault(
        "a Google client id of no property vanishes",
        f"{_GOOGLE}:GoogleAnalytics._untaken",
        'told |= {f"{name}s_{why}": str(whys[why]) for why in _WHYS}',
        "pass",
        "tests/contract/test_handlers_google.py::test_an_id_that_no_property_takes_is_told_and_not_only_left_out",
    ),
    fault(
        "an id of a sister property is one of no property",
        f"{_GOOGLE}:GoogleAnalytics._why_not",
        'return "elsewhere" if self._takers(identifier) else "without_property"',
        'return "without_property"',
        "tests/contract/test_handlers_google.py::test_an_id_that_no_property_takes_is_told_and_not_only_left_out",
        "tests/contract/test_handlers_google.py::test_an_id_of_a_sister_property_names_the_systems_that_take_it",
    ),
    fault(
        "nobody hears which system takes an id",
        f"{_GOOGLE}:GoogleAnalytics._untaken",
        'told[f"{name}s_elsewhere_in"] = where',
        "pass",
        "tests/contract/test_handlers_google.py::test_an_id_of_a_sister_property_names_the_systems_that_take_it",
    ),
    fault(
        "a client id goes to every site's property",
        f"{_GOOGLE}:_takes",
        'return None in (identifier.site, settings.site) or identifier.site == (settings.site or "").lower()',
        "return True",
        "tests/contract/test_handlers_google.py::test_a_client_id_goes_to_its_sites_property",
    ),
    fault(
        "the whole cookie is submitted",
        f"{_GOOGLE}:client_id",
        "return found.group(1) if found is not None else None",
        "return value",
        "tests/contract/test_handlers_google.py::test_a_visitor_is_submitted_by_client_id_and_promised",
        "tests/contract/test_handlers_google.py::test_identifiers_take_the_form_that_google_matches",
    ),
    fault(
        "an address is submitted as it was typed",
        f"{_GOOGLE}:normalised_email",
        'local = local.replace(".", "")',
        "pass",
        "tests/contract/test_handlers_google.py::test_identifiers_take_the_form_that_google_matches",
    ),
    fault(
        "a number is submitted as it was typed",
        f"{_GOOGLE}:normalised_phone",
        '"".join(character for character in value if character.isascii() and character.isdigit())',
        "value.removeprefix('+')",
        "tests/contract/test_handlers_google.py::test_identifiers_take_the_form_that_google_matches",
    ),
    fault(
        "only the first of several ids is submitted",
        f"{_GOOGLE}:GoogleAnalytics.erase",
        "for field, value in ids:",
        "for field, value in ids[:1]:",
        "tests/contract/test_handlers_google.py::test_several_ids_are_several_submissions",
    ),
    fault(
        "two ids go in one submission",
        f"{_GOOGLE}:GoogleAnalytics._submit",
        "json={field: value}",
        'json={field: value, "userId": "u-17", "clientId": "1.2"}',
        "tests/contract/test_handlers_google.py::test_a_visitor_is_submitted_by_client_id_and_promised",
    ),
    fault(
        "any property is the right one",
        f"{_GOOGLE}:GoogleAnalytics._pinned",
        "return Control.shown(pinned=pinned, answered=answered)",
        "return Control.shown(pinned=pinned, answered=pinned)",
        "tests/contract/test_handlers_google.py::test_another_property_than_the_pinned_one_is_an_error",
    ),
    fault(
        "a mistyped property's name is not compared",
        f"{_GOOGLE}:GoogleAnalytics._pinned",
        "if name is not None:",
        "if False:",
        "tests/contract/test_handlers_google.py::test_a_mistyped_property_is_noticed_by_its_name",
    ),
    fault(
        "what was never submitted is promised",
        f"{_GOOGLE}:GoogleAnalytics.prove",
        'raise Permanent("nothing_submitted")',
        "pass",
        "tests/contract/test_handlers_google.py::test_what_was_never_submitted_is_never_promised",
    ),
    fault(
        "Google's promise reads as a look",
        f"{_GOOGLE}:GoogleAnalytics.prove",
        'grade="vendor_promised"',
        'grade="seen_absent"',
        "tests/contract/test_handlers_google.py::test_a_visitor_is_submitted_by_client_id_and_promised",
    ),
    fault(
        "a spent quota is wrong credentials",
        f"{_GOOGLE}:GoogleAnalytics._ask",
        "if answer.status == 403 and not reasons & RATE_REASONS:",
        "if answer.status == 403:",
        "tests/contract/test_handlers_google.py::test_a_fault_that_may_pass_is_retryable",
    ),
    fault(
        "a spent quota waits for UTC's midnight",
        f"{_GOOGLE}:GoogleAnalytics._until_midnight",
        "zone = ZoneInfo(self._settings.quota_zone)",
        "zone = UTC",
        "tests/contract/test_handlers_google.py::test_the_next_day_is_californias_also_when_its_clocks_change",
    ),
    fault(
        "Google is asked with a scope that only reads",
        f"{_GOOGLE}:SCOPE",
        "https://www.googleapis.com/auth/analytics.edit",
        "https://www.googleapis.com/auth/analytics.readonly",
        "tests/contract/test_handlers_google.py::test_a_visitor_is_submitted_by_client_id_and_promised",
    ),
    fault(
        "an assertion outlives an hour",
        f"{_LOGIN}:LIFE",
        "3600",
        "7200",
        "tests/contract/test_handlers_google.py::test_a_visitor_is_submitted_by_client_id_and_promised",
    ),
    fault(
        "a token that has ended is used",
        f"{_LOGIN}:ServiceAccount.headers",
        "if self._token is None or self.clock() >= self._ends_at - MARGIN:",
        "if self._token is None:",
        "tests/contract/test_handlers_google.py::test_a_token_is_fetched_anew_when_it_has_ended",
    ),
    fault(
        "the visitors of a property read as looked for",
        f"{_GOOGLE}:GoogleAnalytics._unsearchable",
        "search.skipped(place.name, NOT_SEARCHABLE)",
        "search.looked(place.name)",
        "tests/contract/test_handlers_google.py::test_analytics_says_that_it_cannot_be_searched",
    ),
)
