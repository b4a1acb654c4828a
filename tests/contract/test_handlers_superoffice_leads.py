"""SuperOffice: whom a record leads to, whose a record is, and what is asked before anything is erased."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from handlers.port import Permanent, Reference, Retryable
from handlers.results import (
    Accepted,
    Ambiguous,
    Located,
    Reappeared,
    StillAmbiguous,
    StillPresent,
)
from orchestrator.privacy import Identifier
from tests.contract.handlers_bench import ANNA, DAY, HOUR, Bench, merged
from tests.contract.meddling import Meddling, rows

pytestmark = pytest.mark.anyio
NEW = "anna.ny@example.com"
BEATA = "beata@example.com"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def person(bench: Bench, **stated: Any) -> str:
    ids = bench.sandbox.seed({"superoffice": {"persons": [{"email": ANNA, **stated}]}})
    return ids["superoffice.person"][-1]


def submission(bench: Bench, owner: str = "0", **stated: Any) -> str:
    """A form submission with Anna's address, that names a person."""
    ids = bench.sandbox.seed({"superoffice": {"submissions": [{"email": ANNA, **stated}]}})
    number = ids["superoffice.formsubmission"][-1]
    owned(bench, number, owner)
    return number


def owned(bench: Bench, number: str, owner: str, kind: str = "formsubmission") -> None:
    row = bench.sandbox.store.get(f"superoffice.{kind}", number)
    assert row is not None
    about = [one for one in row["about"] if not one.startswith("#person:")]
    bench.sandbox.store.put(
        f"superoffice.{kind}", number, {**row, "person": owner, "about": [*about, f"#person:{owner}"]}
    )


def kinds(references: tuple[Reference, ...]) -> list[tuple[str, str]]:
    return sorted((one.kind, one.id) for one in references)


# --- a lead is followed


async def test_a_submission_leads_to_the_person_who_has_another_address_by_now(bench: Bench) -> None:
    """The old address is on a form alone; the person and their request are never "nothing", and never
    erased unasked. Once the DPO says that it is the same person, all of it goes.
    """
    id_ = person(bench, email=NEW, tickets=1)
    form = submission(bench, id_)
    handler = bench.superoffice()

    asked = await handler.locate(bench.task("locate"))
    assert isinstance(asked, Ambiguous)
    assert (1, ()) == (asked.count, asked.references)
    assert ("0", "1") == (asked.evidence["persons_of_one_address"], asked.evidence["persons_led_to"])

    located = await handler.locate(bench.task("locate", takes_all=1))
    assert isinstance(located, Located)
    assert [("person", id_), ("submission", form), ("ticket", "1")] == kinds(located.references)
    accepted = await handler.erase(bench.task("erase", references=located.references))
    assert isinstance(accepted, Accepted)
    assert {"recycle_bin"} == {line["state"] for line in bench.sandbox.holds(NEW, ANNA)}


async def test_it_is_asked_even_where_all_persons_of_an_address_go(bench: Bench) -> None:
    """`ambiguous = "all"` is about persons who have the address. This one has not."""
    submission(bench, person(bench, email=NEW))
    assert isinstance(await bench.superoffice(ambiguous="all").locate(bench.task("locate")), Ambiguous)


async def test_a_chat_session_leads_to_its_person_too(bench: Bench) -> None:
    """It shows the address that its person had, and the person has another."""
    id_ = person(bench, email=NEW)
    transport = Meddling(bench)
    chat = {"chatSessionId": 7, "personId": int(id_), "person/email/emailAddress": ANNA}
    transport.instead = lambda request: rows(chat) if "FindChatSession" in request.url.path else None
    asked = await bench.superoffice(chats_archive="FindChatSession").locate(bench.task("locate"))
    assert isinstance(asked, Ambiguous)
    assert "1" == asked.evidence["persons_led_to"]


async def test_what_an_earlier_look_found_is_a_lead(bench: Bench) -> None:
    """The person was located, then got another address: looking anew doesn't lose them."""
    id_ = person(bench)
    handler = bench.superoffice()
    located = await handler.locate(bench.task("locate"))
    bench.sandbox.store.drop("superoffice.person", id_)
    person(bench, id=int(id_), email=NEW)
    again = await handler.locate(bench.task("locate", references=located.references))
    assert isinstance(again, Ambiguous)


async def test_a_submission_that_names_nobody_who_is_there_is_just_a_submission(bench: Bench) -> None:
    """Its person is gone: there is nobody to ask about."""
    form = submission(bench, "4711")
    located = await bench.superoffice().locate(bench.task("locate"))
    assert [("submission", form)] == kinds(located.references)


async def test_the_proof_follows_leads_as_the_look_did(bench: Bench) -> None:
    """The form came between the look and the erasure, and names somebody with another address."""
    person(bench)
    handler = bench.superoffice()
    references = await bench.erased(handler)
    erased_at = bench.clock()
    submission(bench, person(bench, email=NEW, created_at=erased_at - DAY), registered_at=erased_at - HOUR)
    still = await handler.prove(bench.task("prove", references=references, erased_at=erased_at))
    assert isinstance(still, StillAmbiguous)
    assert (1, ()) == (still.count, still.references)


# --- whose own values carry what was asked for


def _without_filter(request: httpx.Request) -> httpx.Request:
    """What a server does that doesn't know a filter: it answers with everything."""
    url = request.url.copy_remove_param("$filter")
    return httpx.Request(request.method, url, headers=request.headers, content=request.content)


@pytest.mark.parametrize(
    "archive", ["/v1/Person", "RecyclePerson", "FormSubmission", "FindChatSession", "Archive/Ticket", "Sale"]
)
async def test_a_server_that_ignores_a_filter_has_nobody_elses_record_taken(
    bench: Bench, archive: str
) -> None:
    """Whatever the list: rows of others are no finding and no erasure, but a fault."""
    person(bench)
    stranger = {"tickets": 1, "form_submissions": 1, "chats": 1, "sales": 1}
    deleted = person(bench, email=BEATA, **stranger)
    person(bench, email=BEATA, **stranger)
    row = bench.sandbox.store.get("superoffice.person", deleted)
    bench.sandbox.store.put("superoffice.person", deleted, {**(row or {}), "deleted_at": bench.clock()})
    transport = Meddling(bench)
    transport.otherwise = lambda request: (
        _without_filter(request) if request.url.path.endswith(archive) else request
    )
    with pytest.raises(Permanent, match=r"^filter_not_honoured$"):
        await bench.superoffice(chats_archive="FindChatSession").locate(bench.task("locate"))
    assert [] == bench.sandbox.ledger()


async def test_a_record_asked_for_by_number_answers_with_that_number(bench: Bench) -> None:
    """Before its deletion a record is looked at; an answer about another one stops the erasure."""
    person(bench, tickets=1)
    handler = bench.superoffice()
    located = await handler.locate(bench.task("locate"))
    transport = Meddling(bench)
    other = {"ticketId": 99, "personId": 1}
    transport.instead = lambda request: rows(other) if "Archive/Ticket" in request.url.path else None
    handler = bench.superoffice()
    with pytest.raises(Permanent, match=r"^filter_not_honoured$"):
        await handler.erase(bench.task("erase", references=located.references))
    assert [] == bench.effects("superoffice", "ticket_deleted")


async def test_a_quote_is_escaped_with_a_backslash_or_doubled_where_the_setting_says_so(
    bench: Bench,
) -> None:
    """The description of the API has the backslash. A backslash in the address is one, too."""
    transport = Meddling(bench)
    transport.instead = lambda request: (
        rows() if "/v1/" in request.url.path and "currentPrincipal" not in request.url.path else None
    )
    odd = Identifier("email", "o'br\\ien@example.com")
    await bench.superoffice().locate(bench.task("locate", odd))
    asked = [request.url.params.get("$filter") for request in transport.asked]
    assert r"email/emailAddress is 'o\'br\\ien@example.com'" in asked
    transport.asked.clear()
    await bench.superoffice(quote_escape="double").locate(bench.task("locate", odd))
    asked = [request.url.params.get("$filter") for request in transport.asked]
    assert r"email/emailAddress is 'o''br\ien@example.com'" in asked


# --- what is compared before an erasing call


async def test_a_person_who_was_reassigned_is_left_alone_and_the_rest_goes(bench: Bench) -> None:
    """The number is somebody else's by now, after a merge, say: neither they nor their request is touched."""
    handler = bench.superoffice()
    submission(bench)
    mine, other = person(bench), person(bench, email="anna.ek@example.com", tickets=1)
    both = (Identifier("email", ANNA), Identifier("email", "anna.ek@example.com"))
    located = await handler.locate(bench.task("locate", *both))
    row = bench.sandbox.store.get("superoffice.person", other)
    bench.sandbox.store.put("superoffice.person", other, {**(row or {}), "emails": [BEATA]})
    accepted = await handler.erase(bench.task("erase", *both, references=located.references))
    assert isinstance(accepted, Accepted)
    assert (2, {"records_changed": "2"}) == (accepted.erased, accepted.evidence)
    assert {mine, "1"} == {note.id for note in accepted.references}
    assert [mine] == bench.effects("superoffice", "person_soft_deleted")
    assert ["1"] == bench.effects("superoffice", "formsubmission_deleted")
    assert [] == bench.effects("superoffice", "ticket_deleted")
    references = merged(*located.references, *accepted.references)
    asked = await handler.prove(bench.task("prove", *both, references=references, erased_at=bench.clock()))
    assert isinstance(asked, StillAmbiguous)
    assert 1 == asked.count


async def test_what_the_officer_agrees_to_of_a_person_who_changed_is_erased(bench: Bench) -> None:
    """Anna has a new address since the search. The DPO says that it is she."""
    number = person(bench, tickets=1)
    handler = bench.superoffice()
    located = await handler.locate(bench.task("locate"))
    row = bench.sandbox.store.get("superoffice.person", number)
    bench.sandbox.store.put("superoffice.person", number, {**(row or {}), "emails": ["anna@new.example"]})
    accepted = await handler.erase(bench.task("erase", references=located.references))
    assert "2" == accepted.evidence["records_changed"]
    known = merged(*located.references, *accepted.references)
    asked = await handler.prove(bench.task("prove", references=known, erased_at=bench.clock()))
    assert isinstance(asked, StillAmbiguous)
    assert isinstance(await handler.locate(bench.task("locate", references=known)), Ambiguous)
    agreed = await handler.locate(bench.task("locate", references=known, takes_all=1))
    assert isinstance(agreed, Located)
    known = merged(*known, *agreed.references)
    proof = bench.task("prove", references=known, erased_at=bench.clock())
    assert isinstance(await handler.prove(proof), StillPresent)
    await handler.erase(bench.task("erase", references=known))
    assert [number] == bench.effects("superoffice", "person_soft_deleted")


@pytest.mark.parametrize("kind", ["ticket", "formsubmission"])
async def test_a_record_that_came_to_somebody_else_is_left_alone(bench: Bench, kind: str) -> None:
    """A colleague moved the request, or answered the form, between the look and the erasure."""
    id_ = person(bench, tickets=1)
    form = submission(bench)
    stranger = person(bench, email=BEATA)
    handler = bench.superoffice()
    located = await handler.locate(bench.task("locate"))
    owned(bench, "1" if kind == "ticket" else form, stranger, kind)
    accepted = await handler.erase(bench.task("erase", references=located.references))
    assert isinstance(accepted, Accepted)
    assert (2, {"records_changed": "1"}) == (accepted.erased, accepted.evidence)
    known = merged(*located.references, *accepted.references)
    asked = await handler.prove(bench.task("prove", references=known, erased_at=bench.clock()))
    assert isinstance(asked, StillAmbiguous)
    assert 1 == asked.count
    assert isinstance(await handler.locate(bench.task("locate", references=known)), Ambiguous)
    assert [] == bench.effects("superoffice", f"{kind}_deleted")
    assert [id_] == bench.effects("superoffice", "person_soft_deleted")


async def test_an_answer_about_another_person_than_the_one_asked_for_is_no_consent(bench: Bench) -> None:
    """A merged record answers with the other's number: nobody is deleted on the strength of it."""
    id_ = person(bench)
    located = await bench.superoffice().locate(bench.task("locate"))
    transport = Meddling(bench)
    transport.changed = lambda request, body: (
        {**body, "PersonId": 4711} if request.url.path.endswith(f"/Person/{id_}") else body
    )
    accepted = await bench.superoffice().erase(bench.task("erase", references=located.references))
    assert isinstance(accepted, Accepted)
    assert (0, {"records_changed": "1"}) == (accepted.erased, accepted.evidence)
    assert [] == bench.sandbox.ledger()


async def test_a_record_that_may_not_be_deleted_holds_up_no_other(bench: Bench) -> None:
    """A person who is a user of SuperOffice is refused alone: that is no sign of wrong credentials. What was
    erased beside them is known, and the refusal is told when nothing else is left.
    """
    person(bench, tickets=1)
    handler = bench.superoffice()
    located = await handler.locate(bench.task("locate"))
    bench.sandbox.fault("403", vendor="superoffice", method="DELETE", path=r"/Person/\d+$", times=None)
    accepted = await handler.erase(bench.task("erase", references=located.references))
    assert isinstance(accepted, Accepted)
    assert (1, {"records_refused": "1"}) == (accepted.erased, accepted.evidence)
    assert ["ticket"] == [note.kind for note in accepted.references]
    known = merged(*located.references, *accepted.references)
    proof = bench.task("prove", references=known, erased_at=bench.clock())
    assert isinstance(await handler.prove(proof), StillPresent)
    with pytest.raises(Permanent, match=r"^record_refused$"):
        await handler.erase(bench.task("erase", references=known))
    assert ["1"] == bench.effects("superoffice", "ticket_deleted")


async def test_nothing_seen_at_the_erasure_is_no_erasure_without_rights(bench: Bench) -> None:
    """Whose rights were lost finds every record gone already: the control record tells."""
    person(bench, tickets=1)
    bench.sandbox.seed({"superoffice": {"persons": [{"email": "control@example.com"}]}})
    handler = bench.superoffice(control_email="control@example.com")
    located = await handler.locate(bench.task("locate"))
    bench.sandbox.fault("no_rights", vendor="superoffice", path="/v1/", times=None)
    with pytest.raises(Permanent, match=r"^control_record_not_found$"):
        await handler.erase(bench.task("erase", references=located.references))


# --- newer, older, and nobody knows


@pytest.mark.parametrize(
    ("made", "expected"),
    [(-HOUR, StillAmbiguous), (-HOUR // 30, Reappeared), (HOUR // 30, Reappeared), (HOUR, Reappeared)],
)
async def test_within_the_skew_of_the_clocks_a_record_may_be_new(
    bench: Bench, made: int, expected: type
) -> None:
    """Two minutes before the erasure by SuperOffice's clock may be after it by ours: the DPO is asked."""
    person(bench)
    handler = bench.superoffice()
    references = await bench.erased(handler)
    erased_at = bench.clock()
    person(bench, created_at=erased_at + made)
    result = await handler.prove(bench.task("prove", references=references, erased_at=erased_at))
    assert isinstance(result, expected)


@pytest.mark.parametrize(("skew", "expected"), [("PT1M", StillAmbiguous), ("PT2H", Reappeared)])
async def test_the_skew_is_a_setting(bench: Bench, skew: str, expected: type) -> None:
    """A record made an hour and a half before the erasure."""
    person(bench)
    handler = bench.superoffice(clock_skew=skew)
    references = await bench.erased(handler)
    erased_at = bench.clock()
    person(bench, created_at=erased_at - 3 * HOUR // 2)
    result = await handler.prove(bench.task("prove", references=references, erased_at=erased_at))
    assert isinstance(result, expected)


async def test_an_unknown_age_is_never_taken_for_an_old_one(bench: Bench) -> None:
    """Neither without the person's date of creation, nor without the time of the erasure."""
    person(bench)
    transport = Meddling(bench)
    handler = bench.superoffice(ambiguous="all")
    references = await bench.erased(handler)
    erased_at = bench.clock()
    person(bench, created_at=erased_at - 30 * DAY)
    task = bench.task("prove", references=references, erased_at=erased_at)
    assert isinstance(await handler.prove(task), StillPresent)
    assert isinstance(await handler.prove(bench.task("prove", references=references)), Reappeared)
    transport.changed = lambda request, body: (
        {**body, "CreatedDate": None} if isinstance(body, dict) and "CreatedDate" in body else body
    )
    assert isinstance(await handler.prove(task), Reappeared)


@pytest.mark.parametrize("given", ["2026-08-31T12:00:00", "yesterday", 7])
async def test_a_time_without_an_offset_is_no_time(bench: Bench, given: Any) -> None:
    """It could be the tenant's own: an hour more or less would be erased unasked, or left."""
    person(bench)
    transport = Meddling(bench)
    transport.changed = lambda request, body: (
        {**body, "CreatedDate": given} if isinstance(body, dict) and "CreatedDate" in body else body
    )
    with pytest.raises(Retryable, match=r"^malformed_answer$"):
        await bench.superoffice().locate(bench.task("locate"))


async def test_every_call_to_the_tenant_asks_for_utc_with_an_offset(bench: Bench) -> None:
    """Otherwise the times are in the tenant's own zone, and don't say so."""
    person(bench, tickets=1)
    transport = Meddling(bench)
    handler = bench.superoffice()
    references = await bench.erased(handler)
    await handler.prove(bench.task("prove", references=references, erased_at=bench.clock()))
    zones = {request.headers.get("SO-TimeZone") for request in transport.asked if "/v1/" in request.url.path}
    assert {"UTC, includeTZOffset"} == zones
