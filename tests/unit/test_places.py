"""Which places a verb looked at, and by what."""

import pytest

from handlers.places import NOT_CONFIGURED, DeclaredPlace, PlaceUnreadable, Search
from orchestrator.privacy import Identifier, Identifiers
from schemas.messages import Place

ANNA = Identifier("email", "anna@people.example")
OLD = Identifier("email", "anna@old.example")
PHONE = Identifier("phone", "+46701234567")
PEOPLE = DeclaredPlace(name="people", title={"en": "people"}, by=frozenset({"email"}))
NOTES = DeclaredPlace(name="notes", title={"en": "notes"})


def search() -> Search:
    return Search((PEOPLE, NOTES), Identifiers((ANNA, OLD, PHONE)))


def test_what_a_place_was_not_searched_by_is_told() -> None:
    """A telephone number that nobody searched by must not read as searched."""
    looking = search()
    looking.looked("people", [ANNA, OLD])
    looking.looked("notes")
    people, notes = looking.report()
    assert Place(name="people", looked=True, by={"email": 2}, not_by={"phone": 1}) == people
    assert Place(name="notes", looked=True) == notes


def test_one_of_two_addresses_is_not_both() -> None:
    """An address that was left out is counted as left out."""
    looking = search()
    looking.looked("people", [ANNA])
    looking.skipped("notes", NOT_CONFIGURED)
    people, notes = looking.report()
    assert {"email": 1, "phone": 1} == people.not_by
    assert Place(name="notes", looked=False, reason="not_configured") == notes


def test_a_place_that_was_looked_at_twice_was_looked_at_by_both() -> None:
    """One address in each call: neither is told as left out, and none is counted twice."""
    looking = search()
    looking.looked("notes")
    for one in (ANNA, OLD, OLD):
        looking.looked("people", [one])
    people, _ = looking.report()
    assert Place(name="people", looked=True, by={"email": 2}, not_by={"phone": 1}) == people


def test_a_place_that_was_not_read_to_its_end_says_why() -> None:
    """It was looked at as far as the vendor shows it, and nobody may take it for wholly read."""
    looking = search()
    looking.looked("people", [ANNA, OLD])
    looking.looked("notes", but="archived_person")
    _, notes = looking.report()
    assert Place(name="notes", looked=True, reason="archived_person") == notes


def test_a_place_left_out_is_no_report() -> None:
    """A handler that forgets a place fails, and does not pass for one that looked everywhere."""
    looking = search()
    looking.looked("people", [ANNA, OLD])
    with pytest.raises(ValueError, match="notes"):
        looking.report()


def test_a_place_that_is_not_declared_is_refused() -> None:
    """The list that everybody is told from has every place in it."""
    with pytest.raises(ValueError, match="attic"):
        search().looked("attic")


def test_an_unreadable_place_is_named() -> None:
    """The DPO reads which place it was."""
    assert "place_unreadable.notes" == PlaceUnreadable("notes").code
