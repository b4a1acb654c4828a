"""SuperOffice: a number that answers with another person is a question, and no dead end."""

from pathlib import Path
from typing import Any

import pytest

from handlers.port import Reference
from handlers.results import Accepted, Ambiguous, Located, Proved, Result, StillAmbiguous
from tests.contract.handlers_bench import ANNA, DAY, Bench, merged
from tests.contract.meddling import Meddling

pytestmark = pytest.mark.anyio
BEATA = "beata@example.com"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def person(bench: Bench, **stated: Any) -> str:
    stated = {"email": ANNA, "created_at": bench.clock() - 300 * DAY, **stated}
    ids = bench.sandbox.seed({"superoffice": {"persons": [stated]}})
    return ids["superoffice.person"][-1]


def merge(bench: Bench, old: str, into: str) -> Meddling:
    """From now on the old number answers with the other person, as long as the archive lists it."""
    transport = Meddling(bench)
    survivor = bench.sandbox.store.get("superoffice.person", into)
    assert survivor is not None
    emails = [{"Value": email} for email in survivor["emails"]]
    transport.changed = lambda request, body: (
        {**body, "PersonId": int(into), "Emails": emails}
        if request.method == "GET" and request.url.path.endswith(f"/Person/{old}")
        else body
    )
    return transport


def told(result: Result) -> dict[str, str]:
    names = ("persons_of_one_address", "persons_led_to", "records_changed")
    return {name: result.evidence[name] for name in names}


async def located(bench: Bench) -> tuple[Reference, ...]:
    return (await bench.superoffice().locate(bench.task("locate"))).references


async def test_a_number_that_answers_with_a_stranger_is_asked_about_and_the_answer_ends_it(
    bench: Bench,
) -> None:
    """Anna's number answers with Beata. Neither is erased, and the proof asks the DPO about the one who
    answered. His retry asks the same, his "erase" takes exactly her.
    """
    mine, other = person(bench, tickets=1), person(bench, email=BEATA)
    references = await located(bench)
    merge(bench, mine, other)
    handler = bench.superoffice()
    accepted = await handler.erase(bench.task("erase", references=references))
    assert isinstance(accepted, Accepted)
    assert (0, {"records_changed": "2"}) == (accepted.erased, accepted.evidence)
    references = merged(*references, *accepted.references)

    proving = bench.task("prove", references=references, erased_at=bench.clock())
    expected = {"persons_of_one_address": "0", "persons_led_to": "0", "records_changed": "1"}
    still = await handler.prove(proving)
    retried = await handler.locate(bench.task("locate", references=references))
    assert isinstance(still, StillAmbiguous)
    assert isinstance(retried, Ambiguous)
    for asked in (still, retried):
        assert ([other], ()) == ([one.id for one in asked.asked], asked.references)
        assert expected == told(asked)
    assert [] == bench.sandbox.ledger()

    agreed = await handler.locate(bench.task("locate", references=references, asked=still.asked, takes_all=1))
    assert isinstance(agreed, Located)
    assert other in {one.id for one in agreed.references}
    references = merged(*references, *agreed.references)
    accepted = await handler.erase(bench.task("erase", references=references))
    assert {"repeated": "1"} == accepted.evidence
    assert ["1"] == bench.effects("superoffice", "ticket_deleted")
    assert [other] == bench.effects("superoffice", "person_soft_deleted")


async def test_the_survivor_of_a_merge_with_the_persons_address_goes_by_its_own_number(bench: Bench) -> None:
    """Both of Anna's rows are one by now. The old number erases nothing; the survivor is the person's, and
    located by the number that it has.
    """
    mine = person(bench, email="anna.ek@example.com")
    references = (Reference(kind="person", id=mine),)
    survivor = person(bench)
    merge(bench, mine, survivor)
    handler = bench.superoffice()
    found = await handler.locate(bench.task("locate", references=references))
    assert isinstance(found, Located)
    assert [survivor] == [one.id for one in found.references if one.kind == "person"]
    accepted = await handler.erase(bench.task("erase", references=(*references, *found.references)))
    assert {"repeated": "1"} == accepted.evidence
    assert [survivor] == bench.effects("superoffice", "person_soft_deleted")


async def test_a_row_with_the_address_that_answers_with_another_person_is_asked_about(bench: Bench) -> None:
    """The archive lists Anna, and reading her shows Beata: never "nothing", and nobody is erased unasked."""
    mine, other = person(bench), person(bench, email=BEATA)
    merge(bench, mine, other)
    asked = await bench.superoffice().locate(bench.task("locate"))
    assert isinstance(asked, Ambiguous)
    assert [other] == [one.id for one in asked.asked]
    assert "1" == asked.evidence["records_changed"]
    # The proof of an erasure that came before finds the same, and asks.
    known = (Reference(kind="person", id="77"),)
    still = await bench.superoffice().prove(bench.task("prove", references=known, erased_at=bench.clock()))
    assert isinstance(still, StillAmbiguous)
    assert [other] == [one.id for one in still.asked]


@pytest.mark.parametrize("made", [-10 * DAY, DAY])
async def test_who_answers_to_a_known_number_is_asked_about_however_young(bench: Bench, made: int) -> None:
    """The survivor may have been made after the erasure: it is no new consent, but what became of a record
    that was to be erased.
    """
    mine = person(bench)
    references = await located(bench)
    other = person(bench, email=BEATA, created_at=bench.clock() + made)
    merge(bench, mine, other)
    proof = bench.task("prove", references=references, erased_at=bench.clock())
    asked = await bench.superoffice().prove(proof)
    assert isinstance(asked, StillAmbiguous)
    assert [other] == [one.id for one in asked.asked]


async def test_a_number_that_answers_with_a_number_that_nobody_has_is_asked_about(bench: Bench) -> None:
    """The archive lists Anna, and what answers is listed nowhere: the question is about what answered."""
    mine = person(bench)
    references = await located(bench)
    transport = Meddling(bench)
    transport.changed = lambda request, body: (
        {**body, "PersonId": 4711, "Emails": []} if request.url.path.endswith(f"/Person/{mine}") else body
    )
    handler = bench.superoffice()
    found = await handler.locate(bench.task("locate", references=references))
    assert isinstance(found, Ambiguous)
    assert ["4711"] == [one.id for one in found.asked]
    still = await handler.prove(bench.task("prove", references=references, erased_at=bench.clock()))
    assert isinstance(still, StillAmbiguous)
    assert [] == bench.sandbox.ledger()


async def test_a_merge_that_is_over_leaves_nothing_to_ask(bench: Bench) -> None:
    """The old number is listed no more, and Beata is nobody's lead: what was the person's is gone."""
    mine = person(bench)
    references = await located(bench)
    person(bench, email=BEATA)
    handler = bench.superoffice()
    accepted = await handler.erase(bench.task("erase", references=references))
    bench.clock.pass_days(15)
    bench.sandbox.store.drop("superoffice.person", mine)
    known = merged(*references, *accepted.references)
    erased_at = bench.clock() - 15 * DAY
    proved = await handler.prove(bench.task("prove", references=known, erased_at=erased_at))
    assert isinstance(proved, Proved)


async def test_a_control_record_that_answers_with_another_person_controls_nothing(bench: Bench) -> None:
    """The planted record was merged into somebody else's: it shows no more that people can be seen."""
    control = person(bench, email="control@example.com")
    merge(bench, control, person(bench, email=BEATA))
    with pytest.raises(Exception, match=r"^control_record_not_found$"):
        await bench.superoffice(control_email="control@example.com").locate(bench.task("locate"))
