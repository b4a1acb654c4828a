"""Faults strike whom they name, as often as they say, and the ledger stays exact through each of them."""

import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pydantic
import pytest

from handlers.sandbox import Sandbox
from handlers.sandbox.testing import (
    ORIGIN,
    SERVICE_ACCOUNT,
    Clock,
    google_client,
    hubspot_client,
    superoffice_client,
    teamtailor_client,
)

pytestmark = pytest.mark.anyio
ANNA = "anna@example.com"
DETAILS = "/account-info/v3/details"
ERASE = "/crm/objects/2026-03/contacts/gdpr-delete"
BY_EMAIL = {"idProperty": "email"}
CONTACT = f"/crm/objects/2026-03/contacts/{ANNA}"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sandbox(clock: Clock) -> Sandbox:
    made = Sandbox(clock=clock, sleep=clock.sleep)
    made.seed(
        {
            "hubspot": {"contacts": [{"email": ANNA}]},
            "superoffice": {"persons": [{"email": ANNA}]},
            "google": {"service_accounts": [{"email": SERVICE_ACCOUNT}], "visitors": [{"client_id": "1.2"}]},
            "teamtailor": {"candidates": [{"email": ANNA}]},
            "tenants": [
                {
                    "tenant": "acme",
                    "records": [{"id": "u1", "identities": [{"type": "email", "value": ANNA}]}],
                }
            ],
        }
    )
    return made


@pytest.fixture
async def api(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with hubspot_client(sandbox) as client:
        yield client


async def erase(api: httpx.AsyncClient) -> httpx.Response:
    return await api.post(ERASE, json={"objectId": ANNA, "idProperty": "email"})


async def test_a_fault_strikes_the_calls_that_it_names(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """By vendor, method and path, after `skip` calls, for `times` calls."""
    sandbox.fault("503", vendor="hubspot", method="GET", path="details$", skip=1, times=2)
    sandbox.fault("500", vendor="google")
    statuses = [(await api.get(DETAILS)).status_code for _ in range(4)]
    assert [200, 503, 503, 200] == statuses
    assert 200 == (await api.get(CONTACT, params=BY_EMAIL)).status_code


async def test_a_fault_can_last_until_it_is_cleared(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """`times` None is for ever."""
    sandbox.fault("500", times=None)
    assert 3 * [500] == [(await api.get(DETAILS)).status_code for _ in range(3)]
    sandbox.clear_faults()
    assert 200 == (await api.get(DETAILS)).status_code


async def test_a_fault_that_nobody_knows_is_refused(sandbox: Sandbox) -> None:
    """A mistyped fault must not make a test pass."""
    for stated in ({"kind": "slwo"}, {"kind": "200"}, {"kind": "slow", "sconds": 3}):
        with pytest.raises(pydantic.ValidationError):
            sandbox.fault(**stated)


async def test_limits_are_said_in_the_vendors_own_words(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """HubSpot names the policy; Retry-After only where asked for; Google has two ways of saying it."""
    sandbox.fault("429", vendor="hubspot", policy="DAILY")
    sandbox.fault("429", vendor="hubspot", retry_after=7)
    daily, rolling = await api.get(DETAILS), await api.get(DETAILS)
    assert ("RATE_LIMIT", "DAILY") == (daily.json()["errorType"], daily.json()["policyName"])
    assert (False, "7") == ("retry-after" in daily.headers, rolling.headers["retry-after"])
    async with await google_client(sandbox) as google:
        sandbox.fault("403", vendor="google")
        sandbox.fault("429", vendor="google", policy="DAILY")
        error = (await google.get("/v1alpha/properties/987654321")).json()["error"]
        assert (403, "rateLimitExceeded") == (error["code"], error["errors"][0]["reason"])
        error = (await google.get("/v1alpha/properties/987654321")).json()["error"]
        assert (429, "RESOURCE_EXHAUSTED") == (error["code"], error["status"])


@pytest.mark.parametrize(("kind", "error"), [("reset", httpx.ReadError), ("refused", httpx.ConnectError)])
async def test_a_connection_broken_before_the_effect_has_none(
    sandbox: Sandbox, api: httpx.AsyncClient, kind: str, error: type[Exception]
) -> None:
    """The contact is untouched and the ledger empty."""
    sandbox.fault(kind, path="gdpr-delete")
    with pytest.raises(error):
        await erase(api)
    assert [] == sandbox.ledger()
    assert 200 == (await api.get(CONTACT, params=BY_EMAIL)).status_code


@pytest.mark.parametrize("kind", ["lost_response", "malformed"])
async def test_an_answer_lost_or_cut_comes_after_one_effect(
    sandbox: Sandbox, api: httpx.AsyncClient, kind: str
) -> None:
    """The first call did it; the repeat is noted as a repeat."""
    sandbox.fault(kind, path="gdpr-delete")
    if kind == "lost_response":
        with pytest.raises(httpx.ReadError):
            await erase(api)
    else:
        assert b"{" == (await erase(api)).content
    assert 204 == (await erase(api)).status_code
    assert [False, True] == [line["repeated"] for line in sandbox.ledger(effect="gdpr_deleted")]


@pytest.mark.parametrize("after", [False, True])
async def test_a_slow_vendor_acts_before_or_after_the_wait(
    sandbox: Sandbox, api: httpx.AsyncClient, clock: Clock, after: bool
) -> None:
    """The wait is the injected one, and the effect is dated on the side of it that was asked for."""
    start = clock()
    sandbox.fault("slow", path="gdpr-delete", seconds=30, after_effect=after)
    await erase(api)
    waited = 30_000_000
    assert (start + waited, start + (0 if after else waited)) == (clock(), sandbox.ledger()[0]["at"])


async def test_the_wrong_account_answers_and_holds_nobody(sandbox: Sandbox) -> None:
    """Each vendor names another account than the pinned one, and finds no one there."""
    sandbox.fault("wrong_account", times=None)
    async with httpx.AsyncClient(transport=sandbox.transport()) as anyone:
        state = (await anyone.get(f"{ORIGIN}/superoffice/api/state/Cust12345")).json()
    assert "Cust00000" == state["ContextIdentifier"]
    async with await superoffice_client(sandbox) as superoffice:
        answer = (await superoffice.get("/v1/User/currentPrincipal")).json()
        assert "Cust00000" == answer["DatabaseContextIdentifier"]
        assert [] == (await superoffice.get("/v1/Person")).json()["value"]
        assert 404 == (await superoffice.delete("/v1/Person/1")).status_code
    async with hubspot_client(sandbox) as hubspot:
        assert 99999999 == (await hubspot.get(DETAILS)).json()["portalId"]
        assert 404 == (await hubspot.get(CONTACT, params=BY_EMAIL)).status_code
        await erase(hubspot)
    async with await google_client(sandbox) as google:
        shown = (await google.get("/v1alpha/properties/987654321")).json()
        assert "properties/999999999" == shown["name"]
        await google.post("/v1alpha/properties/987654321:submitUserDeletion", json={"clientId": "1.2"})
    async with teamtailor_client(sandbox) as teamtailor:
        assert "elsewhere" == (await teamtailor.get("/v1/company")).json()["data"]["id"]
        assert [] == (await teamtailor.get("/v1/candidates")).json()["data"]
    headers = {"Authorization": "Bearer sandbox-tenant-token"}
    async with httpx.AsyncClient(transport=sandbox.transport(), base_url=ORIGIN, headers=headers) as tenant:
        assert {"tenant": "elsewhere"} == (await tenant.get("/tenant-api/acme/account")).json()
        await tenant.post("/tenant-api/acme/subjects/erase", json={"records": ["u1"]})
    assert {"live"} == {line["state"] for line in sandbox.holds(ANNA, "1.2")}
    assert 5 == len(sandbox.holds(ANNA, "1.2"))


async def test_a_lack_of_rights_looks_like_absence_for_the_control_record_too(sandbox: Sandbox) -> None:
    """Lists are empty and records not found, for everybody: only a control record gives it away."""
    sandbox.fault("no_rights", times=None)
    async with await superoffice_client(sandbox) as superoffice:
        assert [] == (await superoffice.get("/v1/Person")).json()["value"]
        assert (
            "Cust12345"
            == (await superoffice.get("/v1/User/currentPrincipal")).json()["DatabaseContextIdentifier"]
        )
    async with hubspot_client(sandbox) as hubspot:
        assert 404 == (await hubspot.get(CONTACT, params=BY_EMAIL)).status_code
        await erase(hubspot)
    async with teamtailor_client(sandbox) as teamtailor:
        assert [] == (await teamtailor.get("/v1/candidates")).json()["data"]
    assert {"live"} == {line["state"] for line in sandbox.holds(ANNA)}


async def test_the_ledger_names_no_identifier(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """Whatever is done, the lines speak of records by number."""
    sandbox.fault("rename", vendor="hubspot", record="1", email="new@example.com")
    await api.get(CONTACT, params=BY_EMAIL)
    await api.post(f"/communication-preferences/2026-03/statuses/{ANNA}/unsubscribe-all?channel=EMAIL")
    await erase(api)
    await api.post(ERASE, json={"objectId": "1"})
    effects = [line["effect"] for line in sandbox.ledger()]
    assert ["renamed", "unsubscribed", "gdpr_deleted", "gdpr_deleted"] == effects
    assert "@" not in str(sandbox.ledger())


async def test_what_is_seeded_again_replaces_the_record_and_keeps_settings(sandbox: Sandbox) -> None:
    """The same id is the same record; settings not stated stay as they were."""
    sandbox.seed({"hubspot": {"token": "new-token"}})
    sandbox.seed({"hubspot": {"contacts": [{"id": 1, "email": "b@example.com"}, {"email": "c@example.com"}]}})
    held: list[Any] = [
        [line["record"] for line in sandbox.holds(who)] for who in ("b@example.com", "c@example.com")
    ]
    assert [["1"], ["2"]] == held
    async with hubspot_client(sandbox, "new-token") as api:
        assert 200 == (await api.get(DETAILS)).status_code


async def test_a_path_without_a_vendor_is_not_found(sandbox: Sandbox) -> None:
    """A mistyped base address is told as such."""
    async with httpx.AsyncClient(transport=sandbox.transport(), base_url=ORIGIN) as client:
        assert [404, 404] == [(await client.get(path)).status_code for path in ("/", "/hubsput/x")]


async def test_two_sandboxes_told_the_same_do_the_same() -> None:
    """Ids come from counters: the same clock, seeds and calls give the same ledger."""

    async def run() -> list[Any]:
        sandbox = Sandbox(clock=Clock())
        sandbox.seed({"hubspot": {"contacts": [{"email": ANNA}]}})
        async with hubspot_client(sandbox) as api:
            errors = [(await api.get(f"/crm/objects/2026-03/contacts/{n}")).json() for n in ("8", "9")]
            await erase(api)
        return [errors, sandbox.ledger()]

    assert await run() == await run()


async def test_a_request_in_process_takes_well_below_a_millisecond(sandbox: Sandbox) -> None:
    """The simulation makes millions; the best of several batches, so that a busy machine doesn't fail it."""
    request = httpx.Request(
        "GET", f"{ORIGIN}/hubspot{DETAILS}", headers={"Authorization": "Bearer sandbox-hubspot-token"}
    )

    async def batch() -> float:
        start = time.perf_counter()
        for _ in range(100):
            await sandbox.handle(request)
        return (time.perf_counter() - start) / 100

    assert min([await batch() for _ in range(5)]) < 0.001
