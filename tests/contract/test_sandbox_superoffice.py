"""The SuperOffice stand-in keeps SuperOffice's rules: who may ask, what a deletion leaves, when rows go."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from handlers.sandbox import Sandbox
from handlers.sandbox.signing import hmac64, read_jwt
from handlers.sandbox.testing import (
    APP_TOKEN,
    ORIGIN,
    SYSTEM_TOKEN,
    Clock,
    partner_public_pem,
    signed_system_token,
    superoffice_client,
    superoffice_login,
)

pytestmark = pytest.mark.anyio
ANNA = "anna@example.com"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sandbox(clock: Clock) -> Sandbox:
    made = Sandbox(clock=clock, sleep=clock.sleep)
    made.seed({"superoffice": {"public_key": partner_public_pem(), "system_token": SYSTEM_TOKEN}})
    return made


@pytest.fixture
async def api(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with await superoffice_client(sandbox) as client:
        yield client


def person(sandbox: Sandbox, **stated: Any) -> str:
    ids = sandbox.seed({"superoffice": {"persons": [{"email": ANNA, "name": "Anna Ek", **stated}]}})
    return ids["superoffice.person"][0]


async def found(api: httpx.AsyncClient, filter_: str, archive: str = "Person", **more: str) -> list[str]:
    answer = await api.get(f"/v1/{archive}", params={"$filter": filter_, **more})
    assert 200 == answer.status_code, answer.text
    return [row["PrimaryKey"] for row in answer.json()["value"]]


async def authenticate(sandbox: Sandbox, **changed: str) -> httpx.Response:
    asked = {
        "SignedSystemToken": signed_system_token(sandbox.clock()),
        "ApplicationToken": APP_TOKEN,
        "ContextIdentifier": "Cust12345",
        "ReturnTokenType": "JWT",
        **changed,
    }
    async with httpx.AsyncClient(transport=sandbox.transport(), base_url=ORIGIN) as client:
        return await client.post("/superoffice/Login/api/PartnerSystemUser/Authenticate", json=asked)


async def test_the_tenants_address_is_told_with_its_context(sandbox: Sandbox) -> None:
    """The state endpoint names the context and the base address of the API."""
    async with httpx.AsyncClient(transport=sandbox.transport()) as client:
        state = (await client.get(f"{ORIGIN}/superoffice/api/state/Cust12345")).json()
        unknown = await client.get(f"{ORIGIN}/superoffice/api/state/Cust1")
    expected = ("Cust12345", f"{ORIGIN}/superoffice/online3/Cust12345/api", True)
    assert expected == (state["ContextIdentifier"], state["Api"], state["IsRunning"])
    assert 404 == unknown.status_code


async def test_a_login_answers_with_a_token_signed_by_the_published_key(sandbox: Sandbox) -> None:
    """The JWT verifies with the sandbox's key and carries the ticket and the context."""
    claims = read_jwt((await authenticate(sandbox)).json()["Token"], sandbox.public_key())
    assert claims is not None
    assert "Cust12345" == claims["http://schemes.superoffice.net/identity/ctx"]
    assert claims["http://schemes.superoffice.net/identity/ticket"]
    assert read_jwt((await authenticate(sandbox)).json()["Token"], partner_public_pem()) is None


@pytest.mark.parametrize(
    "changed",
    [
        # What is signed is signed in the test: its key takes long to make for all who only collect.
        lambda now: {"ApplicationToken": "wrong"},
        lambda now: {"ContextIdentifier": "Cust1"},
        lambda now: {"SignedSystemToken": "unsigned"},
        lambda now: {"SignedSystemToken": signed_system_token(now, "another-system-user")},
        lambda now: {"SignedSystemToken": signed_system_token(now - 3_600_000_000)},
        lambda now: {"SignedSystemToken": signed_system_token(now).rpartition(".")[0] + ".AAAA"},
    ],
    ids=["app token", "context", "unsigned", "system user", "old", "signature"],
)
async def test_a_login_that_proves_nothing_is_refused(
    sandbox: Sandbox, changed: Callable[[int], dict[str, str]]
) -> None:
    """Each of the parts is checked, and the refusal is a 200 that says so."""
    answer = await authenticate(sandbox, **changed(Clock()()))
    assert (200, False, None) == (
        answer.status_code,
        answer.json()["IsSuccessful"],
        answer.json()["Token"],
    )


async def test_a_login_of_the_wrong_shape_is_a_bad_request(sandbox: Sandbox) -> None:
    """Another token type than JWT is not given."""
    assert 400 == (await authenticate(sandbox, ReturnTokenType="XML")).status_code


async def test_a_ticket_slides_and_dies_of_disuse(
    sandbox: Sandbox, clock: Clock, api: httpx.AsyncClient
) -> None:
    """A ticket lives for six hours after its last use, and no longer."""
    for _ in range(3):
        clock.pass_seconds(5 * 3600)
        assert 200 == (await api.get("/v1/User/currentPrincipal")).status_code
    clock.pass_seconds(6 * 3600)
    assert 401 == (await api.get("/v1/User/currentPrincipal")).status_code


async def test_credentials_and_subdomain_are_checked_on_each_call(sandbox: Sandbox) -> None:
    """No ticket 401, wrong application token 403, wrong subdomain 421, another tenant's path 404."""
    base, headers = await superoffice_login(sandbox)
    async with httpx.AsyncClient(transport=sandbox.transport()) as client:
        asked: list[tuple[str, dict[str, str]]] = [
            (base, {"SO-AppToken": APP_TOKEN}),
            (base, {**headers, "SO-AppToken": "wrong"}),
            (base.replace("online3", "online2"), headers),
            (base.replace("Cust12345", "Cust1"), headers),
        ]
        statuses = [(await client.get(f"{url}/v1/Person", headers=sent)).status_code for url, sent in asked]
    assert [401, 403, 421, 404] == statuses


async def test_a_search_follows_pages_to_the_end(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """Each page links to the next, and together they hold every person once, in the order asked for."""
    sandbox.seed({"superoffice": {"page": 2, "persons": [{"email": ANNA} for _ in range(5)]}})
    address: str | None = "/v1/Person"
    params: dict[str, str] | None = {
        "$filter": f"email/emailAddress is '{ANNA}'",
        "$orderBy": "personId desc",
    }
    pages = []
    while address:
        answer = (await api.get(address, params=params)).json()
        pages.append([row["personId"] for row in answer["value"]])
        address, params = answer.get("odata.nextLink"), None
    assert [[5, 4], [3, 2], [1]] == pages


async def test_quotes_in_a_filter_are_escaped(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """With a backslash before it; a bare one ends the text: the filter is an error and no wider search."""
    id_ = person(sandbox, email="o'brien@example.com")
    assert [id_] == await found(api, "email/emailAddress is 'o\\'brien@example.com'")
    answer = await api.get("/v1/Person", params={"$filter": "email/emailAddress is 'o'brien@example.com'"})
    assert (400, True) == (answer.status_code, answer.json()["Error"])


async def test_filters_compare_as_said(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """Texts compare without case, numbers as numbers, clauses together, functions by their names."""
    first, second = person(sandbox), person(sandbox, email="bo@example.com", name="Bo Al")
    assert [first] == await found(api, "email/emailAddress is 'ANNA@example.com'")
    assert [second] == await found(api, f"personId gt {first} and startswith(fullName, 'bo')")
    assert [first, second] == await found(api, "substringof('EXAMPLE', email/emailAddress)")
    assert [] == await found(api, f"personId eq {first} and fullName is 'Bo Al'")
    for wrong in (
        "shoeSize eq 4",
        "personId eq",
        "personId eq 1 or personId eq 2",
        "personId about 1",
        "personId is 'x",
    ):
        assert 400 == (await api.get("/v1/Person", params={"$filter": wrong})).status_code, wrong


async def test_a_deletion_is_soft_until_the_background_rule_runs(
    sandbox: Sandbox, clock: Clock, api: httpx.AsyncClient
) -> None:
    """204 moves the row to the recycle bin; only `retain_deleted` later has the vendor let go of it."""
    id_ = person(sandbox)
    assert 204 == (await api.delete(f"/v1/Person/{id_}")).status_code
    assert [] == await found(api, f"email/emailAddress is '{ANNA}'")
    assert [id_] == await found(api, f"personId eq {id_}", "Archive/RecyclePerson")
    assert ["recycle_bin"] == [line["state"] for line in sandbox.holds(ANNA)]
    clock.pass_days(14)
    _, headers = await superoffice_login(sandbox)
    api.headers.update(headers)
    assert [] == await found(api, f"personId eq {id_}", "Archive/RecyclePerson")
    assert [] == sandbox.holds(ANNA)
    effects = [(line["effect"], line["record"]) for line in sandbox.ledger(vendor="superoffice")]
    assert [("person_soft_deleted", id_), ("person_purged", id_)] == effects


async def test_the_bin_is_not_emptied_before_its_time(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """`DeleteExpired` removes what has expired, and nothing that hasn't."""
    id_ = person(sandbox)
    await api.delete(f"/v1/Person/{id_}")
    assert 200 == (await api.post("/v1/Agents/Person/DeleteExpired")).status_code
    assert [id_] == await found(api, f"personId eq {id_}", "Archive/RecyclePerson")


async def test_a_missing_person_is_a_404_with_the_error_body(
    sandbox: Sandbox, api: httpx.AsyncClient
) -> None:
    """A deletion repeated is a 404 and no second effect."""
    id_ = person(sandbox)
    await api.delete(f"/v1/Person/{id_}")
    answer = await api.delete(f"/v1/Person/{id_}")
    assert (404, "SoNotFoundException") == (answer.status_code, answer.json()["ErrorType"])
    assert 1 == len(sandbox.ledger(effect="person_soft_deleted"))


async def test_a_stale_if_unmodified_since_stops_the_deletion(
    sandbox: Sandbox, api: httpx.AsyncClient
) -> None:
    """412 changes nothing."""
    id_ = person(sandbox)
    headers = {"If-Unmodified-Since": "Mon, 31 Aug 2026 00:00:00 GMT"}
    assert 412 == (await api.delete(f"/v1/Person/{id_}", headers=headers)).status_code
    assert ["live"] == [line["state"] for line in sandbox.holds(ANNA)]
    headers = {"If-Unmodified-Since": "Tue, 01 Sep 2026 00:00:00 GMT"}
    assert 204 == (await api.delete(f"/v1/Person/{id_}", headers=headers)).status_code


async def test_what_hangs_on_a_person_survives_the_person(
    sandbox: Sandbox, clock: Clock, api: httpx.AsyncClient
) -> None:
    """Tickets, submissions, appointments, documents and sales stay through deletion and purge."""
    children = {"tickets": 2, "form_submissions": 1, "appointments": 1, "documents": 1, "sales": 1}
    id_ = person(sandbox, **children)
    listed = [
        len((await api.get(f"/v1/Person/{id_}/{kind}")).json()["value"])
        for kind in ("Tickets", "Activities", "Documents", "Sales")
    ]
    assert [2, 1, 1, 1] == listed
    assert ["1"] == await found(api, f"personId oneOf ({id_})", "Archive/FormSubmission")
    await api.delete(f"/v1/Person/{id_}")
    clock.pass_days(15)
    kinds = sorted(line["kind"] for line in sandbox.holds(ANNA))
    assert ["appointment", "document", "form_submission", "sale", "ticket", "ticket"] == kinds


async def test_children_go_by_their_own_deletions(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """Each kind has its call; a second one finds nothing."""
    person(sandbox, tickets=1, form_submissions=1, appointments=1, documents=1, sales=1)
    submission = "/v1/Agents/Marketing/DeleteFormSubmissionEntity?formSubmissionEntityId=1"
    for path in ("Ticket/1", "Appointment/1", "Document/1", "Sale/1"):
        # A deleted request can still be opened until it is purged.
        again = [204, 200] if path == "Ticket/1" else [404, 404]
        assert [200, 204, *again] == [
            (await api.request(method, f"/v1/{path}")).status_code
            for method in ("GET", "DELETE", "DELETE", "GET")
        ], path
    assert [204, 404] == [(await api.post(submission)).status_code for _ in range(2)]
    held = [(line["kind"], line["state"]) for line in sandbox.holds(ANNA)]
    assert [("person", "live"), ("ticket", "recycle_bin")] == held


async def test_a_sale_under_the_bookkeeping_law_refuses_to_go(
    sandbox: Sandbox, api: httpx.AsyncClient
) -> None:
    """403, still held, and nothing in the ledger."""
    person(sandbox, sales=[{"bookkeeping": True}])
    assert 403 == (await api.delete("/v1/Sale/1")).status_code
    assert ["live", "bookkeeping"] == [line["state"] for line in sandbox.holds(ANNA)]
    assert [] == sandbox.ledger()


async def test_a_submission_that_became_nobodys_is_found_by_address(
    sandbox: Sandbox, api: httpx.AsyncClient
) -> None:
    """A form that nobody answered holds an address without a person."""
    sandbox.seed({"superoffice": {"submissions": [{"email": ANNA}]}})
    assert ["1"] == await found(api, f"formSubmissionEmail is '{ANNA}'", "Archive/FormSubmission")
    assert ["form_submission"] == [line["kind"] for line in sandbox.holds(ANNA)]


async def test_withdrawing_consent_is_noted_once_as_done_and_then_as_repeated(
    sandbox: Sandbox, api: httpx.AsyncClient
) -> None:
    """204 both times; the ledger tells them apart."""
    id_ = person(sandbox, consents=["EMARKETING"])
    path = f"/v1/Person/{id_}/Consent/EMARKETING"
    before = (await api.get(path)).json()
    assert [204, 204] == [(await api.delete(path)).status_code for _ in range(2)]
    assert (True, False) == (before, (await api.get(path)).json())
    assert [False, True] == [line["repeated"] for line in sandbox.ledger(effect="consent_removed")]


async def test_webhooks_are_signed_and_sent_in_order(sandbox: Sandbox, clock: Clock) -> None:
    """The address changes between a look and a deletion; the id stays, and the person is still held."""
    sent: list[tuple[str, str, bool]] = []
    said: list[Any] = []

    async def deliver(method: str, url: str, body: bytes, headers: Any) -> int:
        genuine = headers["X-SuperOffice-Signature"] == hmac64("s3cret", body)
        sent.append((url, headers["X-SuperOffice-Event"], genuine))
        said.append(json.loads(body))
        return 200

    sandbox.deliver = deliver
    hook = {"url": "http://radera/callbacks/1", "secret": "s3cret"}
    sandbox.seed({"superoffice": {"webhook": hook, "retain_deleted": "PT1H"}})
    id_ = person(sandbox)
    async with await superoffice_client(sandbox) as api:
        await api.delete(f"/v1/Person/{id_}")
    await sandbox.tick()
    clock.pass_seconds(3600)
    await sandbox.tick()
    url = hook["url"]
    assert [(url, "person.softdeleted", True), (url, "person.deleted", True)] == sent
    told = [(one["Event"], one["PrimaryKey"], one["ContextIdentifier"]) for one in said]
    assert [("person.softdeleted", 1, "Cust12345"), ("person.deleted", 1, "Cust12345")] == told


async def test_renaming_keeps_the_id_and_still_counts_as_the_person(
    sandbox: Sandbox, api: httpx.AsyncClient
) -> None:
    """The address changes between a look and a deletion; the id doesn't, and the person is still held."""
    id_ = person(sandbox)
    sandbox.fault("rename", vendor="superoffice", path="/Person$", record=id_, email="new@example.com")
    assert [id_] == await found(api, f"email/emailAddress is '{ANNA}'")
    assert [] == await found(api, f"email/emailAddress is '{ANNA}'")
    assert [id_] == await found(api, "email/emailAddress is 'new@example.com'")
    assert [id_] == [line["record"] for line in sandbox.holds(ANNA)]
