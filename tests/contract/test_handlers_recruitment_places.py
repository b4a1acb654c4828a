"""Recruitment agencies: where was looked, and candidates that are another's by now."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from handlers.places import PlaceUnreadable
from handlers.port import Permanent
from handlers.results import (
    Absent,
    Ambiguous,
    CannotLook,
    Located,
    NotIdentifiable,
    Proved,
    Reappeared,
    Result,
    StillAmbiguous,
    StillPresent,
)
from orchestrator.privacy import Identifier
from schemas.messages import Place
from tests.contract.handlers_bench import ANNA, DAY, Bench
from tests.contract.scripted import Scripted

pytestmark = pytest.mark.anyio
NEW = "new@example.com"
MINUTE = 60_000_000
UNSEARCHED = Place(name="agency_files", looked=False, reason="not_searchable")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def candidate(bench: Bench, **stated: Any) -> str:
    stated = {"email": ANNA, "created_at": bench.clock() - 300 * DAY, **stated}
    return bench.sandbox.seed({"teamtailor": {"candidates": [stated]}})["teamtailor.candidate"][-1]


def rename(bench: Bench, record: str, email: str) -> None:
    row = bench.sandbox.store.get("teamtailor.candidate", record)
    assert row is not None
    bench.sandbox.store.put("teamtailor.candidate", record, {**row, "email": email})


async def test_candidates_are_reported_with_what_they_were_searched_by(bench: Bench) -> None:
    """Two addresses and a telephone number, before and after the erasure; the agency's own files are out of
    our sight all the time.
    """
    number = candidate(bench)
    known = (Identifier("email", ANNA), Identifier("email", NEW), Identifier("phone", "+46701234567"))
    handler = bench.teamtailor()
    located = await handler.locate(bench.task("locate", *known))
    bench.sandbox.store.drop("teamtailor.candidate", number)
    task = bench.task("prove", *known, references=located.references, erased_at=bench.clock())
    proved = await handler.prove(task)
    assert isinstance(proved, Proved)
    searched = Place(name="candidates", looked=True, by={"email": 2}, not_by={"phone": 1})
    assert [(searched, UNSEARCHED)] * 2 == [located.places, proved.places]


@pytest.mark.parametrize("known", [(Identifier("email", ANNA),), (Identifier("customer_id", "4711"),)])
async def test_an_agency_that_reads_mail_is_never_told_as_searched(
    bench: Bench, known: tuple[Identifier, ...]
) -> None:
    """Whether it can be asked or not, nobody of us looked."""
    result = await bench.agency().locate(bench.task("locate", *known))
    assert isinstance(result, CannotLook | NotIdentifiable)
    not_there = Place(name="candidates", looked=False, reason="not_configured")
    assert (not_there, UNSEARCHED) == result.places


async def test_teamtailor_is_not_searched_without_an_address(bench: Bench) -> None:
    """A telephone number finds nobody there, and the report says so."""
    result = await bench.teamtailor().locate(bench.task("locate", Identifier("phone", "+46701234567")))
    assert isinstance(result, NotIdentifiable)
    not_searched = Place(name="candidates", looked=False, reason="no_identifier")
    assert (not_searched, UNSEARCHED) == result.places


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("verb", ["locate", "prove"])
async def test_a_list_of_candidates_that_cannot_be_read_is_never_empty(
    bench: Bench, verb: str, status: int
) -> None:
    """A key that may not list candidates looks like nobody found; the step names the place instead."""
    Scripted(bench).says("GET", "/candidates$", status, {"errors": []})
    with pytest.raises(PlaceUnreadable, match=r"^place_unreadable.candidates$"):
        await getattr(bench.teamtailor(), verb)(bench.task("locate"))


async def test_one_candidate_that_may_not_be_read_is_not_gone(bench: Bench) -> None:
    """404 is Teamtailor's word for gone; 403 is none."""
    number = candidate(bench)
    located = await bench.teamtailor().locate(bench.task("locate"))
    Scripted(bench).says("GET", f"/candidates/{number}$", 403, {"errors": []})
    rename(bench, number, NEW)
    with pytest.raises(PlaceUnreadable, match=r"^place_unreadable.candidates$"):
        await bench.teamtailor().prove(bench.task("prove", references=located.references))


async def test_the_check_says_that_candidates_cannot_be_listed(bench: Bench) -> None:
    """Without a control record, too: better known before the first request."""
    Scripted(bench).says("GET", "/candidates$", 403, {"errors": []})
    failed = [one for one in await bench.teamtailor().check() if one.state == "failed"]
    assert [("rights", "place_unreadable.candidates")] == [(one.aspect, one.code) for one in failed]


async def test_a_candidate_without_the_persons_address_is_not_named_to_the_agency(bench: Bench) -> None:
    """It has the number that was located, and another address by now: the agency would erase somebody else.
    The DPO is asked, and his "erase" counts for the address that it had then.
    """
    number = candidate(bench)
    handler = bench.teamtailor()
    located = await handler.locate(bench.task("locate"))
    rename(bench, number, NEW)
    asked = await handler.erase(bench.task("erase", references=located.references))
    assert "1" == asked.evidence["records_changed"]
    assert f"Kandidat {number}" not in bench.mails[-1].get_content()
    proving = bench.task("prove", references=located.references, erased_at=bench.clock())
    unsure = await handler.prove(proving)
    assert isinstance(unsure, StillAmbiguous)
    assert (1, "1") == (unsure.count, unsure.evidence["records_changed"])
    known: dict[str, Any] = {"references": located.references}
    assert isinstance(await handler.locate(bench.task("locate", **known)), Ambiguous)
    agreed = await handler.locate(bench.task("locate", takes_all=1, **known))
    assert isinstance(agreed, Located)
    await handler.erase(bench.task("erase", references=agreed.references))
    assert f"Kandidat {number}" in bench.mails[-1].get_content()
    assert isinstance(await handler.prove(bench.task("prove", references=agreed.references)), StillPresent)


async def test_a_number_that_answers_with_another_candidate_is_not_named(bench: Bench) -> None:
    """Two candidates were made one: the old number answers with the other's."""
    number, other = candidate(bench), candidate(bench, email="beata@example.com")
    located = await bench.teamtailor().locate(bench.task("locate"))
    attributes = {"email": "beata@example.com", "created-at": "2024-01-01T00:00:00Z"}
    answer = {"data": {"id": other, "type": "candidates", "attributes": attributes}}
    Scripted(bench).says("GET", f"/candidates/{number}$", 200, answer)
    asked = await bench.teamtailor().erase(bench.task("erase", references=located.references))
    assert "1" == asked.evidence["records_changed"]
    assert f"Kandidat {number}" not in bench.mails[-1].get_content()


async def test_several_candidates_with_one_address_are_the_dpos_to_decide(bench: Bench) -> None:
    """The DPO's word is about those that there were: one more, or another instead, is asked about again."""
    candidate(bench)
    left = candidate(bench)
    handler = bench.teamtailor()
    asked = await handler.locate(bench.task("locate"))
    assert isinstance(asked, Ambiguous)
    assert (2, "2") == (asked.count, asked.evidence["persons_of_one_address"])
    assert isinstance(await handler.locate(bench.task("locate", takes_all=2)), Located)
    candidate(bench)
    assert isinstance(await handler.locate(bench.task("locate", takes_all=2)), Ambiguous)
    bench.sandbox.store.drop("teamtailor.candidate", left)
    decided = bench.task("locate", takes_all=2, asked=asked.asked)
    assert isinstance(await bench.teamtailor().locate(decided), Ambiguous)
    assert isinstance(await bench.teamtailor(ambiguous="all").locate(bench.task("locate")), Located)


@pytest.mark.parametrize(
    ("created", "expected"),
    [(-6 * MINUTE, StillPresent), (-4 * MINUTE, Reappeared), (4 * MINUTE, Reappeared), (None, Reappeared)],
)
async def test_only_a_candidate_that_is_surely_older_is_asked_for_again(
    bench: Bench, created: int | None, expected: type[Result]
) -> None:
    """The clocks may differ by five minutes, and an unknown age is no age."""
    number = candidate(bench, created_at=bench.clock() + (created or 0))
    if created is None:
        row = {"id": number, "type": "candidates", "attributes": {"email": ANNA}}
        Scripted(bench).says("GET", "/candidates$", 200, {"data": [row]})
    result = await bench.teamtailor().prove(bench.task("prove", erased_at=bench.clock()))
    assert expected is type(result)


async def test_a_stranger_in_the_list_is_never_taken(bench: Bench) -> None:
    """A filter that the server didn't honour would name other people."""
    row = {"id": "17", "type": "candidates", "attributes": {"email": "beata@example.com"}}
    Scripted(bench).says("GET", "/candidates$", 200, {"data": [row]})
    with pytest.raises(Permanent, match=r"^filter_not_honoured$"):
        await bench.teamtailor().locate(bench.task("locate"))


async def test_nobody_is_asked_of_another_company(bench: Bench) -> None:
    """The pin is compared before the agency gets a mail that names candidates."""
    candidate(bench)
    handler = bench.teamtailor()
    located = await handler.locate(bench.task("locate"))
    bench.sandbox.fault("wrong_account", vendor="teamtailor", times=None)
    with pytest.raises(Permanent, match=r"^wrong_account$"):
        await handler.erase(bench.task("erase", references=located.references))
    assert [] == bench.mails


async def test_an_absence_says_that_no_control_record_was_seen(bench: Bench) -> None:
    """It rests on the company's key alone."""

    def nobody(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"data": []}, request=request)

    Scripted(bench).answers("GET", "/candidates$", nobody)
    absent = await bench.teamtailor().locate(bench.task("locate"))
    assert isinstance(absent, Absent)
    assert {"control": "account"} == absent.control.evidence()
