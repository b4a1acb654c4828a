"""SuperOffice as the settings have it: what stays and why, and several persons with one address."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from handlers.results import AMBIGUOUS, Ambiguous, Located, Proved, StillAmbiguous, StillPresent
from orchestrator.privacy import Identifier
from orchestrator.saga import records
from tests.contract.handlers_bench import ANNA, DAY, Bench

pytestmark = pytest.mark.anyio
KEEP = {"legal_basis": "legal_claims", "reason": "A dispute about the delivery is open"}
OTHER = Identifier("email", "anna.ek@example.com")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def person(bench: Bench, **stated: Any) -> str:
    ids = bench.sandbox.seed({"superoffice": {"persons": [{"email": ANNA, **stated}]}})
    return ids["superoffice.person"][-1]


async def proved(bench: Bench, handler: Any, references: Any) -> Proved:
    """The proof once the purge is over."""
    erased_at = bench.clock()
    bench.clock.pass_days(15)
    result = await handler.prove(bench.task("prove", references=references, erased_at=erased_at))
    assert isinstance(result, Proved)
    return result


# --- what stays


async def test_what_is_kept_ends_as_retained_with_the_law_and_the_reason(bench: Bench) -> None:
    """A document under dispute stays, and the record says by which law and why; the rest is gone."""
    person(bench, tickets=1, documents=2)
    handler = bench.superoffice(documents=KEEP)
    references = await bench.erased(handler)
    result = await proved(bench, handler, references)
    assert ("retained", "legal_claims") == (result.end, result.legal_basis)
    assert ("2", KEEP["reason"]) == (
        result.evidence["documents_kept"],
        result.evidence["documents_kept_reason"],
    )
    assert ["document", "document"] == [line["kind"] for line in bench.sandbox.holds(ANNA)]


async def test_a_sale_and_a_kept_document_are_both_told(bench: Bench) -> None:
    """The bookkeeping law has an end and words the step; the document stands beside it in the evidence."""
    person(bench, sales=1, documents=1)
    handler = bench.superoffice(documents=KEEP)
    result = await proved(bench, handler, await bench.erased(handler))
    assert ("bokforingslagen_7_2", "1", "1") == (
        result.legal_basis,
        result.evidence["sales_kept"],
        result.evidence["documents_kept"],
    )


async def test_what_was_kept_and_is_gone_is_retained_no_more(bench: Bench) -> None:
    """The dispute ended and somebody deleted the document: nothing is retained, and 0 says so."""
    person(bench, documents=1)
    handler = bench.superoffice(documents=KEEP)
    references = await bench.erased(handler)
    bench.sandbox.store.drop("superoffice.document", "1")
    result = await proved(bench, handler, references)
    assert ("erased", "0") == (result.end, result.evidence["documents_kept"])


async def test_what_is_left_is_counted_as_it_was_last_seen(bench: Bench) -> None:
    """One of two documents is deleted by hand after the person: the proof's count is the true one."""
    person(bench, documents=2)
    handler = bench.superoffice()
    located = await handler.locate(bench.task("locate"))
    assert "2" == located.evidence["documents_left"]
    await handler.erase(bench.task("erase", references=located.references))
    assert [] == bench.effects("superoffice", "document_deleted")
    bench.sandbox.store.drop("superoffice.document", "1")
    assert "1" == (await proved(bench, handler, located.references)).evidence["documents_left"]


async def test_a_look_by_more_addresses_counts_what_an_earlier_one_left(bench: Bench) -> None:
    """The first person is gone when the supplement comes; their document is not, and nothing leads to it."""
    person(bench, documents=1)
    handler = bench.superoffice()
    references = await bench.erased(handler)
    person(bench, email=OTHER.value, documents=1)
    both = (Identifier("email", ANNA), OTHER)
    located = await handler.locate(bench.task("locate", *both, references=references))
    assert isinstance(located, Located)
    assert "2" == located.evidence["documents_left"]


async def test_chat_sessions_are_told_as_left_where_the_tenant_has_them(bench: Bench) -> None:
    """They survive the person, and nothing is known to delete them: the record says how many there are."""
    person(bench, chats=2)
    silent = await bench.superoffice().locate(bench.task("locate"))
    assert "chats_left" not in silent.evidence
    handler = bench.superoffice(chats_archive="ChatSession")
    assert [] == [one for one in await handler.check() if one.state == "failed"]
    references = await bench.erased(handler)
    result = await proved(bench, handler, references)
    assert ("erased", "2") == (result.end, result.evidence["chats_left"])


async def test_a_count_goes_back_to_none_when_a_later_look_leaves_nothing(bench: Bench) -> None:
    """The evidence of a step is one table: a count that was not told again would stand for ever."""
    person(bench)
    located = await bench.superoffice().locate(bench.task("locate"))
    assert ("0", "0") == (located.evidence["documents_left"], located.evidence["appointments_left"])


@pytest.mark.parametrize("given", ["leave", "keep", {"legal_basis": "x"}, {"reason": "because"}])
def test_keeping_without_a_law_and_a_reason_is_no_setting(bench: Bench, given: Any) -> None:
    """Nor is the word of older versions; the error names what to write."""
    with pytest.raises(ValidationError) as caught:
        bench.superoffice(documents=given)
    text = str(caught.value)
    assert any(word in text for word in ('write "report"', "legal_basis", "reason"))


# --- several persons with one address


async def test_all_persons_with_the_address_go_where_the_settings_say_so(bench: Bench) -> None:
    """Duplicates are common, and a duplicate that is left is a person still held."""
    person(bench)
    person(bench)
    located = await bench.superoffice(ambiguous="all").locate(bench.task("locate"))
    assert isinstance(located, Located)
    assert 2 == len(located.references)


async def test_by_default_it_asks_and_gives_no_reference_away(bench: Bench) -> None:
    """A shared address: the DPO hears how many and how old they are, and nothing can be erased by mistake."""
    person(bench, created_at=bench.clock() - 700 * DAY)
    person(bench, created_at=bench.clock() - DAY)
    result = await bench.superoffice().locate(bench.task("locate"))
    assert isinstance(result, Ambiguous)
    assert (2, ()) == (result.count, result.references)
    assert ("2", "2024-10-01", "2026-08-31") == (
        result.evidence["persons_of_one_address"],
        result.evidence["created_first"],
        result.evidence["created_last"],
    )


async def test_the_dpos_erase_means_as_many_as_he_was_told_of(bench: Bench) -> None:
    """He agreed to two. A third who has the address by then is a new question, and an instruction is none."""
    ids = {person(bench), person(bench)}
    handler = bench.superoffice()
    assert isinstance(await handler.locate(bench.task("locate", instruction="erase")), Ambiguous)
    located = await handler.locate(bench.task("locate", takes_all=2))
    await handler.erase(bench.task("erase", references=located.references))
    assert ids == set(bench.effects("superoffice", "person_soft_deleted"))
    person(bench), person(bench), person(bench)
    more = await handler.locate(bench.task("locate", takes_all=2))
    assert isinstance(more, Ambiguous)
    assert 3 == more.count


async def test_the_dpos_erase_is_about_those_persons_and_not_about_as_many(bench: Bench) -> None:
    """One of the two has left, and a stranger has come: he is asked again, and the stranger stays."""
    person(bench)
    left = person(bench)
    asked = await bench.superoffice().locate(bench.task("locate"))
    assert isinstance(asked, Ambiguous)
    bench.sandbox.store.drop("superoffice.person", left)
    person(bench)
    again = await bench.superoffice().locate(bench.task("locate", takes_all=2, asked=asked.asked))
    assert isinstance(again, Ambiguous)
    assert (2, ()) == (again.count, again.references)
    agreed = await bench.superoffice().locate(bench.task("locate", takes_all=2, asked=again.asked))
    assert isinstance(agreed, Located)


async def test_one_person_with_two_addresses_and_two_with_one_each_are_no_question(bench: Bench) -> None:
    """Ambiguous is one address on several persons, not several addresses of one request."""
    person(bench, additional_emails=[OTHER.value])
    located = await bench.superoffice().locate(bench.task("locate", Identifier("email", ANNA), OTHER))
    assert isinstance(located, Located)
    bench.sandbox.store.drop("superoffice.person", "1")
    person(bench)
    person(bench, email=OTHER.value)
    located = await bench.superoffice().locate(bench.task("locate", Identifier("email", ANNA), OTHER))
    assert isinstance(located, Located)
    assert 2 == len(located.references)


async def test_a_proof_that_finds_several_it_never_knew_asks_too(bench: Bench) -> None:
    """They are older than the erasure and were missed. Even one alone may be somebody else: the address was
    another person's, too, who has been erased.
    """
    person(bench)
    handler = bench.superoffice()
    references = await bench.erased(handler)
    erased_at = bench.clock()
    for count in (1, 2):
        person(bench, created_at=erased_at - DAY)
        still = await handler.prove(bench.task("prove", references=references, erased_at=erased_at))
        assert isinstance(still, StillAmbiguous)
        assert (count, ()) == (still.count, still.references)
    agreed = bench.task("prove", references=references, erased_at=erased_at, takes_all=2)
    assert isinstance(await handler.prove(agreed), StillPresent)


def test_the_saga_knows_the_word_for_it() -> None:
    """The core imports nothing of the handlers, so the token stands in both."""
    assert AMBIGUOUS == records.AMBIGUOUS


# --- the address in a filter


@pytest.mark.parametrize("email", ["o'brien@example.com", "''@example.com", "a'or'1'eq'1@example.com"])
async def test_a_quote_in_an_address_finds_its_person_and_nobody_else(bench: Bench, email: str) -> None:
    """Unescaped it would be a malformed filter, or somebody else's."""
    person(bench)
    wanted = person(bench, email=email)
    located = await bench.superoffice().locate(bench.task("locate", Identifier("email", email)))
    assert isinstance(located, Located)
    assert [wanted] == [one.id for one in located.references]
