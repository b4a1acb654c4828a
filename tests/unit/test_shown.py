"""Whether a record that answers is the located one, still the person's, and older than an erasure."""

import pytest

from handlers.port import Reference
from handlers.shown import Shown

ANNA = "anna@people.example"
WANTED = frozenset({ANNA})
LOCATED = Reference(kind="contact", id="17")
MINUTE = 60_000_000
ERASED_AT = 1_788_220_800_000_000


def shown(id_: str = "17", *values: str, created_at: int | None = None) -> Shown:
    return Shown(kind="contact", id=id_, values=frozenset(values or (ANNA,)), created_at=created_at)


def test_a_record_with_its_id_and_an_address_of_the_persons_is_theirs() -> None:
    """Another address beside it changes nothing."""
    assert shown("17", ANNA, "other@people.example").is_still(LOCATED, WANTED)


def test_a_record_that_answers_with_another_id_is_another() -> None:
    """Two records were merged: the survivor was never located, whatever address it has."""
    assert not shown("99").is_still(LOCATED, WANTED)


def test_a_record_without_an_address_of_the_persons_may_be_anybodys() -> None:
    """It has the id that was located, and belongs to somebody else by now."""
    assert not shown("17", "beata@people.example").is_still(LOCATED, WANTED)


def test_what_the_dpo_agreed_to_counts_for_those_values_and_no_others() -> None:
    """The DPO said that Beata's address is Anna's new one; a third address was never agreed to."""
    renamed = shown("17", "beata@people.example")
    agreed = renamed.agreed()
    assert renamed.is_still(agreed, WANTED)
    assert not shown("17", "cecilia@people.example").is_still(agreed, WANTED)
    assert "beata" not in "".join(agreed.marks)


@pytest.mark.parametrize(
    ("created_at", "older"),
    [
        (ERASED_AT - 6 * MINUTE, True),
        (ERASED_AT - 5 * MINUTE, False),
        (ERASED_AT - 4 * MINUTE, False),
        (ERASED_AT + MINUTE, False),
        (None, False),
    ],
)
def test_only_a_record_that_is_surely_older_is_taken_for_an_old_one(
    created_at: int | None, older: bool
) -> None:
    """The clocks may differ by five minutes, and an unknown age is no age."""
    assert older == shown(created_at=created_at).is_surely_older(ERASED_AT, 5 * MINUTE)


def test_without_the_time_of_the_erasure_nothing_is_older() -> None:
    """Nobody can tell old from new then."""
    assert not shown(created_at=1).is_surely_older(None, 0)
