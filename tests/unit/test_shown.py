"""Whether a record that answers is the located one, still the person's, and older than an erasure."""

import pytest

from handlers.port import Reference
from handlers.shown import Shown, follow, sharing, told_apart

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


async def followed(theirs: dict[str, Shown], *answers: tuple[str, Shown | None]) -> dict[str, Shown]:
    """What is asked about after references that answer so."""
    there = dict(answers)

    async def read(id_: str) -> Shown | None:
        return there[id_]

    references = [Reference(kind="contact", id=id_) for id_ in there]
    return await follow(references, theirs, WANTED, read)


@pytest.mark.anyio
async def test_a_reference_is_followed_to_what_it_answers_with() -> None:
    """Gone is nothing; the person's is theirs under its own id; anybody else's is asked about."""
    theirs: dict[str, Shown] = {}
    stranger = shown("3", "beata@people.example")
    asked = await followed(theirs, ("1", None), ("2", shown("9")), ("3", stranger))
    assert {"3": stranger} == asked
    assert {"9"} == set(theirs)


@pytest.mark.anyio
async def test_what_another_reference_shows_to_be_the_persons_is_not_asked_about() -> None:
    """Two old ids answer with one survivor, which the look found by its address."""
    survivor = shown("9")
    theirs = {"9": survivor}
    assert {} == await followed(theirs, ("1", survivor), ("2", survivor))
    assert {"9": survivor} == theirs


def test_records_share_an_address_when_both_have_it() -> None:
    """Two records with an address each are one person's; two with the same one may be two people's."""
    old = "old@people.example"
    both, one, other = shown("1", ANNA, old), shown("2", ANNA), shown("3", old)
    assert {} == sharing([one, other], frozenset({ANNA, old}))
    assert {"1", "2"} == set(sharing([both, one], frozenset({ANNA, old})))
    assert {"1", "2", "3"} == set(sharing([both, one, other], frozenset({ANNA, old})))


def test_records_are_told_apart_without_a_word_about_whose_they_are() -> None:
    """How many, and from which days."""
    first, second = shown("1", created_at=1_550_000_000_000_000), shown("2", created_at=ERASED_AT)
    told = {
        "persons_of_one_address": "1",
        "records_changed": "1",
        "created_first": "2019-02-12",
        "created_last": "2026-09-01",
    }
    assert told == told_apart([first], [second])
    assert {"persons_of_one_address": "0", "records_changed": "0"} == told_apart([], [])
