"""SuperOffice's archives have the columns, types and entities of its reference, and refuse the rest."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from handlers.sandbox import Sandbox
from handlers.sandbox.store import Store
from handlers.sandbox.superoffice_rows import archives
from handlers.sandbox.testing import Clock, superoffice_client, superoffice_login
from tests.contract.described import SPECS

pytestmark = pytest.mark.anyio
ANNA = "anna@example.com"
OLD = "anna.old@example.com"
IN_UTC = {"SO-TimeZone": "UTC, includeTZOffset"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sandbox(clock: Clock) -> Sandbox:
    made = Sandbox(clock=clock, sleep=clock.sleep)
    made.seed({"superoffice": {}})
    return made


@pytest.fixture
async def api(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with await superoffice_client(sandbox) as client:
        yield client


async def rows(api: httpx.AsyncClient, archive: str, filter_: str, **more: str) -> list[dict[str, Any]]:
    params = {"$filter": filter_, **{f"${name}": text for name, text in more.items()}}
    answer = await api.get(f"/v1/Archive/{archive}", params=params)
    assert 200 == answer.status_code, answer.text
    found: list[dict[str, Any]] = answer.json()["value"]
    return found


def test_columns_and_entities_are_those_of_the_reference() -> None:
    """No archive has a column, a type or an entity that SuperOffice's own doesn't have."""
    reference = json.loads((SPECS / "superoffice" / "archives.json").read_text())["providers"]
    by_name = {name.lower(): described for name, described in reference.items()}
    wrong = []
    for name, archive in archives(Store()).items():
        described = by_name[name]
        wrong += [f"{name}: {entity}" for entity in set(archive.entities) - set(described["entities"])]
        for column, served in archive.columns.items():
            kind = None if served.kind == "none" else served.kind
            if described["columns"].get(column, "no such column") != kind:
                wrong.append(f"{name}: {column}")
    assert [] == wrong


@pytest.mark.parametrize(
    "params",
    [
        {"$select": "personId,shoeSize"},
        {"$filter": "shoeSize is '4'"},
        {"$filter": "personId is '4'"},
        {"$filter": "fullName oneOf ('a')"},
        {"$filter": "personRegisteredDate eq 4"},
        {"$orderBy": "shoeSize"},
        {"$entities": "person,everybody"},
        {"$filters": "personId eq 4"},
    ],
)
async def test_what_the_reference_does_not_have_is_refused(
    api: httpx.AsyncClient, params: dict[str, str]
) -> None:
    """A column, an operator for its type, an entity or a parameter that doesn't exist is a 400."""
    assert 400 == (await api.get("/v1/Person", params=params)).status_code


async def test_former_employees_are_shown_when_asked_for(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """`retiredPerson` is an entity of its own."""
    persons = [{"email": ANNA}, {"email": ANNA, "retired": True}]
    sandbox.seed({"superoffice": {"persons": persons}})
    filter_ = f"email/emailAddress is '{ANNA}'"
    plain = await rows(api, "Person", filter_)
    both = await rows(api, "Person", filter_, entities="person,retiredPerson")
    assert [("1", "person")] == [(row["PrimaryKey"], row["EntityName"]) for row in plain]
    assert [("1", "person"), ("2", "retiredPerson")] == [
        (row["PrimaryKey"], row["EntityName"]) for row in both
    ]


async def test_what_a_colleague_deleted_is_seen_for_all_users_alone(
    sandbox: Sandbox, api: httpx.AsyncClient
) -> None:
    """Without `forAllUsers` the bin shows what one has deleted oneself; by address, too."""
    sandbox.seed({"superoffice": {"persons": [{"email": ANNA}, {"email": ANNA}]}})
    await api.delete("/v1/Person/1")
    sandbox.happens("deleted_by_colleague", vendor="superoffice", record="2")
    filter_ = f"email/emailAddress is '{ANNA}'"
    mine = await rows(api, "RecyclePerson", filter_)
    every = await rows(api, "RecyclePerson", filter_, entities="person,forAllUsers")
    assert (["1"], ["1", "2"]) == ([row["PrimaryKey"] for row in mine], [row["PrimaryKey"] for row in every])


async def test_a_deleted_request_lies_in_its_own_bin_and_can_be_opened(
    sandbox: Sandbox, clock: Clock, api: httpx.AsyncClient
) -> None:
    """It is gone from the archive, has the status Deleted by its id, and is purged in its time."""
    sandbox.seed({"superoffice": {"persons": [{"email": ANNA, "tickets": 1}]}})
    assert 204 == (await api.delete("/v1/Ticket/1")).status_code
    assert [] == await rows(api, "Ticket", "personId eq 1")
    assert ["1"] == [row["PrimaryKey"] for row in await rows(api, "RecycleTicket", "personId eq 1")]
    assert "Deleted" == (await api.get("/v1/Ticket/1")).json()["BaseStatus"]
    assert "recycle_bin" in {line["state"] for line in sandbox.holds(ANNA) if line["kind"] == "ticket"}
    clock.pass_days(14)
    _, headers = await superoffice_login(sandbox)
    api.headers.update(headers)
    assert 404 == (await api.get("/v1/Ticket/1")).status_code
    assert ["person"] == [line["kind"] for line in sandbox.holds(ANNA)]


async def test_a_submission_is_found_by_what_was_filled_in_and_names_its_person(
    sandbox: Sandbox, api: httpx.AsyncClient
) -> None:
    """The address on the form stays when the person's changes; the row leads to the person all the same."""
    sandbox.seed(
        {"superoffice": {"persons": [{"email": ANNA}], "submissions": [{"email": OLD, "person": 1}]}}
    )
    by_form = await rows(api, "FormSubmission", f"formSubmissionEmail is '{OLD}'")
    assert [(1, OLD, ANNA)] == [
        (row["personId"], row["formSubmissionEmail"], row["person/email/emailAddress"]) for row in by_form
    ]
    assert [] == await rows(api, "FormSubmission", f"formSubmissionEmail is '{ANNA}'")
    for filter_ in ("personId oneOf (1,2)", "personId equals 1", f"person/email/emailAddress is '{ANNA}'"):
        assert by_form == await rows(api, "FormSubmission", filter_), filter_


async def test_the_purge_of_a_person_unlinks_what_hung_on_them(
    sandbox: Sandbox, clock: Clock, api: httpx.AsyncClient
) -> None:
    """The content stays, held and found by what it holds itself, and no row leads to it any more."""
    children = {"tickets": 1, "form_submissions": 1, "chats": 1, "appointments": 1, "sales": 1}
    sandbox.seed({"superoffice": {"persons": [{"email": ANNA, **children}]}})
    await api.delete("/v1/Person/1")
    clock.pass_days(14)
    _, headers = await superoffice_login(sandbox)
    api.headers.update(headers)
    left = {line["kind"] for line in sandbox.holds(ANNA)}
    assert {"ticket", "form_submission", "chat", "appointment", "sale"} == left
    assert [] == await rows(api, "Ticket", "personId eq 1")
    by_form = await rows(api, "FormSubmission", f"formSubmissionEmail is '{ANNA}'")
    assert [0] == [row["personId"] for row in by_form]


async def test_a_user_of_the_system_is_not_deleted(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """403 for that record alone, and nothing changes."""
    sandbox.seed({"superoffice": {"persons": [{"email": ANNA, "associate": True}, {"email": OLD}]}})
    statuses = [(await api.delete(f"/v1/Person/{number}")).status_code for number in (1, 2)]
    shown = await rows(api, "Person", f"email/emailAddress is '{ANNA}'")
    assert ([403, 204], ["Employee"]) == (statuses, [row["associateType"] for row in shown])
    assert ["live"] == [line["state"] for line in sandbox.holds(ANNA)]


async def test_times_carry_an_offset_when_it_is_asked_for(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """In UTC, for the archives' rows and for the entity alike."""
    sandbox.seed({"superoffice": {"persons": [{"email": ANNA, "created_at": 1_788_220_800_000_000}]}})
    said = "2026-09-01T00:00:00.000+00:00"
    api.headers.update(IN_UTC)
    row = (await rows(api, "Person", "personId eq 1"))[0]
    assert said == row["personRegisteredDate"] == (await api.get("/v1/Person/1")).json()["CreatedDate"]


@pytest.mark.parametrize(("escape", "written"), [("backslash", "o\\'brien"), ("double", "o''brien")])
async def test_a_quote_is_written_as_the_tenant_has_it(
    sandbox: Sandbox, api: httpx.AsyncClient, escape: str, written: str
) -> None:
    """With a backslash or doubled, as the account is set; a bare one ends the text and is an error."""
    persons = [{"email": "o'brien@example.com"}]
    sandbox.seed({"superoffice": {"quote_escape": escape, "persons": persons}})
    found = await rows(api, "Person", f"email/emailAddress is '{written}@example.com'")
    assert ["1"] == [row["PrimaryKey"] for row in found]
    bare = {"$filter": "email/emailAddress is 'o'brien@example.com'"}
    assert 400 == (await api.get("/v1/Person", params=bare)).status_code


async def test_a_filter_may_not_be_honoured(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """The fault has the archive answer with everybody."""
    sandbox.seed({"superoffice": {"persons": [{"email": ANNA}, {"email": OLD}]}})
    sandbox.fault("ignores_filter", vendor="superoffice")
    filter_ = f"email/emailAddress is '{ANNA}'"
    assert ["1", "2"] == [row["PrimaryKey"] for row in await rows(api, "Person", filter_)]
    assert ["1"] == [row["PrimaryKey"] for row in await rows(api, "Person", filter_)]


@pytest.mark.parametrize("status", [403, 404])
async def test_an_archive_that_may_not_be_read_says_so_in_the_vendors_words(
    sandbox: Sandbox, api: httpx.AsyncClient, status: int
) -> None:
    """The fault is of one place; the others go on."""
    sandbox.fault(str(status), vendor="superoffice", path="/Archive/RecyclePerson$", times=None)
    answer = await api.get("/v1/Archive/RecyclePerson", params={"$filter": "personId eq 1"})
    assert (status, True) == (answer.status_code, answer.json()["Error"])
    assert [] == await rows(api, "FormSubmission", "personId oneOf (1)")
