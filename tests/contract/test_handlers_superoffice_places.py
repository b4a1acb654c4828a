"""SuperOffice: where a look and a proof look, what can't be read, and what the recycle bin proves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from handlers.places import PlaceUnreadable
from handlers.port import Reference, Retryable
from handlers.results import (
    Absent,
    Ambiguous,
    Located,
    NotIdentifiable,
    Pending,
    Proved,
    Reappeared,
    Result,
    StillPresent,
)
from handlers.superoffice import SuperOffice
from orchestrator.privacy import Identifier
from schemas.messages import Verb
from tests.contract.handlers_bench import ANNA, DAY, Bench
from tests.contract.meddling import Meddling, refuses, rows

pytestmark = pytest.mark.anyio
BY_ADDRESS = ("contacts", "deleted_contacts", "submissions", "chats")
LISTS = {
    "contacts": "/v1/Person",
    "deleted_contacts": "RecyclePerson",
    "submissions": "FormSubmission",
    "chats": "FindChatSession",
    "tickets": "Archive/Ticket",
    "deleted_tickets": "RecycleTicket",
    "appointments": "Archive/Appointment",
    "documents": "Archive/Document",
    "sales": "Archive/Sale",
}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def person(bench: Bench, **stated: Any) -> str:
    ids = bench.sandbox.seed({"superoffice": {"persons": [{"email": ANNA, **stated}]}})
    return ids["superoffice.person"][-1]


async def removed_by_a_colleague(bench: Bench, kind: str, number: str) -> None:
    row = bench.sandbox.store.get(f"superoffice.{kind}", number)
    due_at = bench.clock() + 14 * DAY
    times = {"deleted_at": bench.clock(), "purge_at": due_at}
    bench.sandbox.store.put(f"superoffice.{kind}", number, {**(row or {}), **times})
    record: dict[str, Any] = {kind: number}
    bench.sandbox.store.later(due_at, "superoffice.purge", **record)


def looked(result: Result) -> dict[str, bool]:
    return {place.name: place.looked for place in result.places}


def whole(bench: Bench, **changed: Any) -> SuperOffice:
    """A handler for a tenant that has everything."""
    return bench.superoffice(chats_archive="FindChatSession", **changed)


# --- every place, by every identifier


async def test_every_answer_names_every_place_and_by_what_it_was_searched(bench: Bench) -> None:
    """From the look to the proof; a telephone number that nobody searched by is named beside each."""
    known = (Identifier("email", ANNA), Identifier("phone", "+46701234567"))
    every = dict.fromkeys(LISTS, True)
    handler = whole(bench)
    absent = await handler.locate(bench.task("locate", *known))
    person(bench, tickets=1)
    located = await handler.locate(bench.task("locate", *known))
    await handler.erase(bench.task("erase", *known, references=located.references))
    erased_at = bench.clock()
    references = located.references
    proofs: list[Result] = []
    for days in (0, 15):
        bench.clock.pass_days(days)
        task = bench.task("prove", *known, references=references, erased_at=erased_at)
        proofs.append(await handler.prove(task))
        references = (*references, *proofs[-1].references)
    person(bench)
    reappeared = await handler.prove(bench.task("prove", *known, references=references, erased_at=erased_at))
    still = await handler.prove(
        bench.task("prove", *known, references=(Reference(kind="person", id="2"),), erased_at=erased_at)
    )
    person(bench)
    ambiguous = await handler.locate(bench.task("locate", *known))

    results = (absent, located, *proofs, reappeared, still, ambiguous)
    assert [Absent, Located, Pending, Proved, Reappeared, StillPresent, Ambiguous] == list(map(type, results))
    for result in results:
        assert every == looked(result)
        for place in result.places:
            searched = ({"email": 1}, {"phone": 1}) if place.name in BY_ADDRESS else ({}, {})
            assert searched == (place.by, place.not_by)


async def test_what_the_tenant_does_not_have_is_told_as_not_looked_at(bench: Bench) -> None:
    """No forms, no chat, no service module, no documents and no sales: nothing of them is asked for."""
    transport = Meddling(bench)
    missing = ("submissions", "chats", "tickets", "deleted_tickets", "documents", "sales")
    handler = bench.superoffice(without=["submissions", "tickets", "documents", "sales"])
    person(bench, appointments=1)
    located = await handler.locate(bench.task("locate"))
    assert [name for name, seen in looked(located).items() if not seen] == list(missing)
    assert {"not_configured"} == {place.reason for place in located.places if not place.looked}
    assert [] == [path for name in missing for path in transport.paths(LISTS[name])]
    assert [] == [one for one in await handler.check() if one.state == "failed"]
    nobody = await handler.locate(bench.task("locate", Identifier("name", "Anna Ek")))
    assert isinstance(nobody, NotIdentifiable)
    reasons = {place.name: place.reason for place in nobody.places}
    assert ("no_identifier", "not_configured") == (reasons["contacts"], reasons["tickets"])


async def test_a_record_of_what_the_settings_call_missing_is_not_taken_for_gone(bench: Bench) -> None:
    """The settings changed while the request ran: nobody looked, so nothing is proved."""
    person(bench, tickets=1)
    references = await bench.erased(whole(bench))
    task = bench.task("prove", references=references, erased_at=bench.clock())
    with pytest.raises(Exception, match=r"^place_not_configured$"):
        await whole(bench, without=["tickets"]).prove(task)


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("place", LISTS)
async def test_a_place_that_cannot_be_read_is_named_and_never_empty(
    bench: Bench, place: str, status: int
) -> None:
    """Whether it is refused or not there, in the look and in the proof; the step is tried again."""
    person(bench, tickets=1)
    references = await bench.erased(whole(bench))
    erased_at = bench.clock()
    person(bench)
    transport = Meddling(bench)
    transport.instead = lambda request: (
        httpx.Response(status, json={}) if request.url.path.endswith(LISTS[place]) else None
    )
    for verb in ("locate", "prove"):
        task = bench.task(verb, references=references, erased_at=erased_at)
        with pytest.raises(PlaceUnreadable) as caught:
            await getattr(whole(bench), verb)(task)
        assert f"place_unreadable.{place}" == caught.value.code


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("verb", ["locate", "erase", "prove"])
async def test_a_person_who_is_listed_and_cannot_be_read_is_never_gone(
    bench: Bench, verb: Verb, status: int
) -> None:
    """The archive lists the person, and reading them answers otherwise: nothing is told, erased or proved."""
    number = person(bench, tickets=1)
    located = await bench.superoffice().locate(bench.task("locate"))
    transport = Meddling(bench)
    transport.instead = lambda request: (
        httpx.Response(status, json={})
        if request.method == "GET" and request.url.path.endswith(f"/Person/{number}")
        else None
    )
    task = bench.task(verb, references=located.references, erased_at=bench.clock())
    with pytest.raises(PlaceUnreadable, match=r"^place_unreadable\.contacts$"):
        await getattr(bench.superoffice(), verb)(task)
    assert [] == bench.effects("superoffice", "person_soft_deleted")


async def test_a_submission_that_arrives_after_the_look_is_still_present(bench: Bench) -> None:
    """It came before the erasure, with the address and no person: the proof looks where the look did."""
    person(bench)
    handler = bench.superoffice()
    located = await handler.locate(bench.task("locate"))
    arrived_at = bench.clock()
    bench.clock.pass_seconds(3600)
    await handler.erase(bench.task("erase", references=located.references))
    bench.sandbox.seed({"superoffice": {"submissions": [{"email": ANNA, "registered_at": arrived_at}]}})
    task = bench.task("prove", references=located.references, erased_at=bench.clock())
    still = await handler.prove(task)
    assert isinstance(still, StillPresent)
    assert ["submission"] == [one.kind for one in still.references]


async def test_a_submission_made_after_the_erasure_is_reported(bench: Bench) -> None:
    """It may be new consent."""
    person(bench)
    handler = bench.superoffice()
    references = await bench.erased(handler)
    erased_at = bench.clock()
    bench.clock.pass_days(1)
    bench.sandbox.seed({"superoffice": {"submissions": [{"email": ANNA}]}})
    again = await handler.prove(bench.task("prove", references=references, erased_at=erased_at))
    assert isinstance(again, Reappeared)
    assert 1 == again.count


async def test_former_employees_and_closed_requests_are_asked_for(bench: Bench) -> None:
    """Neither is returned unless asked for, by the reference of the archives."""
    person(bench)
    transport = Meddling(bench)
    await bench.superoffice().locate(bench.task("locate"))
    asked = {request.url.path.rpartition("/")[2]: request.url.params for request in transport.asked}
    assert "person,retiredPerson" == asked["Person"]["$entities"]
    assert "ticket,ticketdisplayclosed" == asked["Ticket"]["$entities"]
    assert "person,forAllUsers" == asked["RecyclePerson"]["$entities"]


async def test_chat_sessions_are_erased_where_the_settings_say_so(bench: Bench) -> None:
    """By their own deletion; left and reported otherwise."""
    person(bench, chats=2)
    handler = whole(bench, chats="erase")
    references = await bench.erased(handler)
    assert ["1", "2"] == bench.effects("superoffice", "chatsession_deleted")
    assert 3 == len(references)


# --- the recycle bin


async def test_a_person_whom_a_colleague_deleted_yesterday_is_found_in_the_bin(bench: Bench) -> None:
    """They are not absent, and not deleted again; what hangs on them goes, and it ends with the purge."""
    id_ = person(bench, tickets=1)
    await removed_by_a_colleague(bench, "person", id_)
    handler = bench.superoffice()
    located = await handler.locate(bench.task("locate"))
    assert isinstance(located, Located)
    assert ("1", ["person", "ticket"]) == (
        located.evidence["in_recycle_bin"],
        sorted(one.kind for one in located.references),
    )
    await handler.erase(bench.task("erase", references=located.references))
    assert [] == bench.effects("superoffice", "person_soft_deleted")
    assert ["1"] == bench.effects("superoffice", "ticket_deleted")
    erased_at, references = bench.clock(), located.references
    pending = await handler.prove(bench.task("prove", references=references, erased_at=erased_at))
    assert isinstance(pending, Pending)
    bench.clock.pass_days(15)
    references = (*references, *pending.references)
    proved = await handler.prove(bench.task("prove", references=references, erased_at=erased_at))
    assert isinstance(proved, Proved)
    assert "vendor_stated" == proved.grade


async def test_a_request_that_a_colleague_deleted_is_found_in_its_bin(bench: Bench) -> None:
    """It hangs on a person who is there, and lies in the bin of requests until it is purged."""
    person(bench, tickets=1)
    await removed_by_a_colleague(bench, "ticket", "1")
    handler = bench.superoffice()
    references = await bench.erased(handler)
    assert ["person", "ticket"] == sorted(one.kind for one in references)
    assert [] == bench.effects("superoffice", "ticket_deleted")
    pending = await handler.prove(bench.task("prove", references=references, erased_at=bench.clock()))
    assert isinstance(pending, Pending)
    assert ["person", "ticket"] == sorted(one.kind for one in pending.references)


async def test_a_deleted_request_has_a_proof_of_its_own(bench: Bench) -> None:
    """The person's row is purged, and the request is still in its bin: nothing is proved yet."""
    id_ = person(bench, tickets=1)
    handler = bench.superoffice()
    references = await bench.erased(handler)
    erased_at = bench.clock()
    pending = await handler.prove(bench.task("prove", references=references, erased_at=erased_at))
    references = (*references, *pending.references)
    bench.sandbox.store.drop("superoffice.person", id_)
    task = bench.task("prove", references=references, erased_at=erased_at)
    pending = await handler.prove(task)
    assert isinstance(pending, Pending)
    assert ["ticket"] == [one.kind for one in pending.references]
    bench.sandbox.store.drop("superoffice.ticket", "1")
    assert isinstance(await handler.prove(task), Proved)


async def test_a_first_look_after_the_purge_knows_what_was_seen_at_the_erasure(bench: Bench) -> None:
    """An installation may look again after fifteen days alone: the bin was looked in when it was filled."""
    person(bench, tickets=1)
    handler = bench.superoffice()
    references = await bench.erased(handler)
    erased_at = bench.clock()
    bench.clock.pass_days(15)
    proved = await handler.prove(bench.task("prove", references=references, erased_at=erased_at))
    assert isinstance(proved, Proved)
    assert "vendor_stated" == proved.grade


async def test_a_record_never_seen_in_the_bin_is_promised_at_best(bench: Bench) -> None:
    """The bin was empty whenever we looked; the time has passed, and nobody has stated the purge."""
    person(bench)
    transport = Meddling(bench)
    transport.instead = lambda request: rows() if "RecyclePerson" in request.url.path else None
    handler = bench.superoffice()
    references = await bench.erased(handler)
    erased_at = bench.clock()
    bench.clock.pass_days(15)
    proved = await handler.prove(bench.task("prove", references=references, erased_at=erased_at))
    assert isinstance(proved, Proved)
    assert ("vendor_promised", "1") == (proved.grade, proved.evidence["never_seen_in_recycle_bin"])


async def test_a_slow_look_does_not_make_a_purge_overdue(bench: Bench) -> None:
    """The row was in the bin in its time; when the look has ended, that is over. It is looked for at once."""
    person(bench)
    handler = bench.superoffice()
    references = await bench.erased(handler)
    erased_at = bench.clock()
    bench.clock.pass_seconds(14 * 86_400 - 10)
    # The ticket of the login is renewed first; the bin is read, and what follows takes its time.
    bench.sandbox.fault("slow", vendor="superoffice", path="FormSubmission", seconds=20)
    pending = await handler.prove(bench.task("prove", references=references, erased_at=erased_at))
    assert isinstance(pending, Pending)
    assert ("in_recycle_bin", erased_at + 14 * DAY) == (pending.code, pending.look_again_at)


async def test_what_has_no_bin_is_seen_to_be_gone(bench: Bench) -> None:
    """A form submission goes at once: it needs no word of the vendor's."""
    bench.sandbox.seed({"superoffice": {"submissions": [{"email": ANNA}]}})
    handler = bench.superoffice()
    references = await bench.erased(handler)
    proved = await handler.prove(bench.task("prove", references=references, erased_at=bench.clock()))
    assert isinstance(proved, Proved)
    assert ("seen_absent", "account") == (proved.grade, proved.control.evidence()["control"])


async def test_a_person_whom_a_colleague_deletes_in_between_is_waited_for(bench: Bench) -> None:
    """A duplicate that the look had not found lies in the bin by the time of the proof."""
    bench.sandbox.seed({"superoffice": {"submissions": [{"email": ANNA}]}})
    handler = bench.superoffice()
    references = await bench.erased(handler)
    erased_at = bench.clock()
    await removed_by_a_colleague(bench, "person", person(bench, created_at=erased_at - DAY))
    pending = await handler.prove(bench.task("prove", references=references, erased_at=erased_at))
    assert isinstance(pending, Pending)
    references = (*references, *pending.references)
    bench.clock.pass_days(15)
    proved = await handler.prove(bench.task("prove", references=references, erased_at=erased_at))
    assert isinstance(proved, Proved)
    assert "vendor_stated" == proved.grade


# --- the check, beforehand


def failure(findings: Any) -> Any:
    [one] = [one for one in findings if one.state == "failed"]
    return one


async def test_the_check_makes_every_query_that_a_look_makes(bench: Bench) -> None:
    """Same lists, same columns, same operators: what the look asks was asked before, for nobody."""
    person(bench, tickets=1, form_submissions=1)
    transport = Meddling(bench)
    handler = whole(bench)

    def asked() -> set[tuple[str, ...]]:
        """Each query, without the values that it filters by."""
        queries = [(request.url.path, request.url.params) for request in transport.asked]
        return {
            (path, given["$select"], given.get("$entities", ""), *given["$filter"].split()[:2])
            for path, given in queries
            if "$filter" in given
        }

    await handler.check()
    before = asked()
    transport.asked.clear()
    references = (await handler.locate(bench.task("locate"))).references
    await handler.erase(bench.task("erase", references=references))
    await handler.prove(bench.task("prove", references=references, erased_at=bench.clock()))
    assert set() == asked() - before


async def test_a_refused_column_is_named_by_the_check(bench: Bench) -> None:
    """The operator reads which list and which column, before a person's request meets it."""
    transport = Meddling(bench)
    transport.instead = lambda request: (
        httpx.Response(400, json={})
        if request.url.params.get("$filter", "").startswith("formSubmissionEmail")
        else None
    )
    one = failure(await bench.superoffice().check())
    assert ("rights", "query_refused") == (one.aspect, one.code)
    assert "Archive/FormSubmission by formSubmissionEmail" in one.text


@pytest.mark.parametrize("status", [403, 404])
async def test_a_place_that_cannot_be_read_is_named_by_the_check(bench: Bench, status: int) -> None:
    """With the settings by which a tenant says that it has none."""
    Meddling(bench).instead = refuses("RecycleTicket", status)
    one = failure(await bench.superoffice().check())
    assert "place_unreadable.deleted_tickets" == one.code
    assert "without" in one.settings


async def test_a_filter_that_is_ignored_is_named_by_the_check(bench: Bench) -> None:
    """The query was for nobody, and answers with somebody."""
    Meddling(bench).instead = lambda request: (
        rows({"formSubmissionId": 1}) if "FormSubmission" in request.url.path else None
    )
    one = failure(await bench.superoffice().check())
    assert "filter_not_honoured" == one.code
    assert "Archive/FormSubmission" in one.text


async def test_a_quote_that_the_server_reads_otherwise_is_named_by_the_check(bench: Bench) -> None:
    """Before somebody called O'Brien asks."""
    one = failure(await bench.superoffice(quote_escape="double").check())
    assert ("quote_refused", ("quote_escape",)) == (one.code, one.settings)


async def test_a_bin_that_is_kept_longer_than_the_setting_says_is_a_finding(bench: Bench) -> None:
    """A tenant keeps deleted rows for sixty days: after fourteen, no proof would be worth its name."""
    bench.sandbox.seed({"superoffice": {"retain_deleted": "P60D"}})
    id_ = person(bench)
    row = bench.sandbox.store.get("superoffice.person", id_)
    long_ago = bench.clock() - 59 * DAY
    bench.sandbox.store.put("superoffice.person", id_, {**(row or {}), "deleted_at": long_ago})
    one = failure(await bench.superoffice().check())
    assert ("rights", "retention_longer", ("retain_deleted",)) == (one.aspect, one.code, one.settings)
    assert "59 days" in one.text
    findings = await bench.superoffice(retain_deleted="P60D").check()
    assert [] == [one for one in findings if one.state == "failed"]


async def test_rows_of_the_bin_without_a_time_are_told_as_not_compared(bench: Bench) -> None:
    """The bin is filled, and tells no times: the check must not pass for one that compared them."""
    id_ = person(bench)
    await removed_by_a_colleague(bench, "person", id_)
    transport = Meddling(bench)
    transport.instead = lambda request: (
        rows({"PrimaryKey": id_, "personId": int(id_)})
        if "RecyclePerson" in request.url.path and "$filter" not in request.url.params
        else None
    )
    told = " ".join(one.text for one in await bench.superoffice().check() if one.aspect == "rights")
    assert "tells no times, so that retain_deleted can't be compared" in told


async def test_time_alone_states_no_purge_where_the_tenant_keeps_rows_longer(bench: Bench) -> None:
    """Sixty days at the vendor, fourteen in our settings: the person lies in the bin, and nobody says that
    they are gone before they have left it.
    """
    bench.sandbox.seed({"superoffice": {"retain_deleted": "P60D"}})
    person(bench, tickets=1)
    handler = bench.superoffice(retain_deleted="P14D")
    references = await bench.erased(handler)
    erased_at = bench.clock()
    said: list[str | None] = []
    for days in (13, 2, 30, 14, 2):
        bench.clock.pass_days(days)
        result = await handler.prove(bench.task("prove", references=references, erased_at=erased_at))
        said.append(result.code if isinstance(result, Pending) else result.report()["grade"])
        references = (*references, *result.references)
    assert ["in_recycle_bin", *(["purge_overdue"] * 3), "vendor_stated"] == said


# --- the next page


def _link(form: str, link: str) -> str:
    parts = urlsplit(link)
    forms: Mapping[str, str] = {
        "relative to the host": f"{parts.path}?{parts.query}",
        "relative to the list": f"Person?{parts.query}",
        "only the query": f"?{parts.query}",
        "another case": link.replace(parts.netloc, parts.netloc.upper()),
        "the default port": link.replace(parts.netloc, f"{parts.netloc}:80"),
        "another host": link.replace(parts.netloc, "evil.example"),
        "another port": link.replace(parts.netloc, f"{parts.netloc}:8443"),
        "another scheme": link.replace("http://", "https://"),
        "another tenant": link.replace("Cust12345", "Cust99999"),
        "a name before the host": link.replace("http://", "http://somebody@"),
    }
    return forms[form]


@pytest.mark.parametrize(
    "form",
    [
        "relative to the host",
        "relative to the list",
        "only the query",
        "another case",
        "the default port",
    ],
)
async def test_a_link_to_the_next_page_may_be_written_in_any_way(bench: Bench, form: str) -> None:
    """It leads to the same place, and the page is read."""
    bench.sandbox.seed({"superoffice": {"page": 2, "persons": [{"email": ANNA} for _ in range(5)]}})
    _relink(bench, form)
    located = await bench.superoffice().locate(bench.task("locate", takes_all=5))
    assert 5 == len(located.references)


@pytest.mark.parametrize(
    "form", ["another host", "another port", "another scheme", "another tenant", "a name before the host"]
)
async def test_a_link_that_leads_elsewhere_is_not_followed(bench: Bench, form: str) -> None:
    """Our credentials go to the tenant and to nobody else."""
    bench.sandbox.seed({"superoffice": {"page": 2, "persons": [{"email": ANNA} for _ in range(5)]}})
    transport = _relink(bench, form)
    with pytest.raises(Retryable, match=r"^malformed_answer$"):
        await bench.superoffice().locate(bench.task("locate"))
    assert "evil.example" not in {request.url.host for request in transport.asked}


def _relink(bench: Bench, form: str) -> Meddling:
    transport = Meddling(bench)

    def relinked(request: httpx.Request, body: Any) -> Any:
        if isinstance(body, dict) and "odata.nextLink" in body:
            return {**body, "odata.nextLink": _link(form, body["odata.nextLink"])}
        return body

    transport.changed = relinked
    return transport
