"""The HubSpot stand-in keeps HubSpot's rules: what erases, what archives, what messages give away."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from handlers.sandbox import Sandbox
from handlers.sandbox.testing import Clock, hubspot_client

pytestmark = pytest.mark.anyio
ANNA = "anna@example.com"
CONTACTS = "/crm/objects/2026-03/contacts"
BY_EMAIL = {"idProperty": "email", "properties": "email,firstname,hs_additional_emails"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sandbox(clock: Clock) -> Sandbox:
    return Sandbox(clock=clock, sleep=clock.sleep)


@pytest.fixture
async def api(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with hubspot_client(sandbox) as client:
        yield client


def contact(sandbox: Sandbox, **stated: Any) -> str:
    return sandbox.seed({"hubspot": {"contacts": [{"email": ANNA, **stated}]}})["hubspot.contact"][0]


def states(sandbox: Sandbox, email: str = ANNA) -> list[str]:
    return [line["state"] for line in sandbox.holds(email)]


async def test_a_token_that_is_missing_or_wrong_is_401(sandbox: Sandbox) -> None:
    """Nothing is told to a stranger."""
    async with hubspot_client(sandbox, "wrong") as stranger:
        answer = await stranger.get("/account-info/v3/details")
    assert (401, "INVALID_AUTHENTICATION") == (answer.status_code, answer.json()["category"])


async def test_the_sixth_search_within_a_second_is_refused(api: httpx.AsyncClient, clock: Clock) -> None:
    """In HubSpot's words, without a hint of when to come again; a second after the first there is room."""
    asked = {"filterGroups": [], "properties": [], "sorts": [], "limit": 1, "after": "0"}

    async def search() -> httpx.Response:
        return await api.post(f"{CONTACTS}/search", json=asked)

    answers = []
    for _ in range(6):
        answers.append(await search())
        clock.pass_seconds(0.1)
    assert [200] * 5 + [429] == [one.status_code for one in answers]
    assert "retry-after" not in answers[-1].headers
    said = answers[-1].json()
    assert ("RATE_LIMIT", "SECONDLY") == (said["errorType"], said["policyName"])
    clock.pass_seconds(0.4)
    assert [200, 429] == [(await search()).status_code for _ in range(2)]


@pytest.mark.parametrize("version", ["v3", "2026-03"])
async def test_the_account_says_which_portal_it_is(api: httpx.AsyncClient, version: str) -> None:
    """The number that a handler pins."""
    assert 1234567 == (await api.get(f"/account-info/{version}/details")).json()["portalId"]


@pytest.mark.parametrize("base", [CONTACTS, "/crm/v3/objects/contacts"])
async def test_a_contact_is_found_by_its_address(sandbox: Sandbox, api: httpx.AsyncClient, base: str) -> None:
    """With `idProperty=email` and not without, in any case, with the properties asked for."""
    id_ = contact(sandbox, properties={"firstname": "Anna", "phone": "1"})
    answer = (await api.get(f"{base}/ANNA%40example.com", params=BY_EMAIL)).json()
    assert (id_, ANNA, "Anna") == (
        answer["id"],
        answer["properties"]["email"],
        answer["properties"]["firstname"],
    )
    assert "phone" not in answer["properties"]
    assert 404 == (await api.get(f"{base}/{ANNA}")).status_code
    assert 400 == (await api.get(f"{base}/{ANNA}", params={"idProperty": "phone"})).status_code


async def test_errors_quote_the_address_and_carry_a_correlation_id(api: httpx.AsyncClient) -> None:
    """That is what makes `message` unfit for a log."""
    error = (await api.get(f"{CONTACTS}/{ANNA}", params=BY_EMAIL)).json()
    assert ANNA in error["message"]
    assert 36 == len(error["correlationId"])


@pytest.mark.parametrize(("finds", "expected"), [(True, [200, []]), (False, [404, ["live"]])])
async def test_a_secondary_address_finds_or_does_not_by_the_setting(
    sandbox: Sandbox, api: httpx.AsyncClient, finds: bool, expected: list[Any]
) -> None:
    """HubSpot doesn't say which; whichever is set holds for the look-up and for the erasure alike."""
    sandbox.seed({"hubspot": {"secondary_lookup": finds, "purge": "PT0S"}})
    contact(sandbox, additional_emails=["a.ek@example.com"])
    status = (await api.get(f"{CONTACTS}/a.ek@example.com", params=BY_EMAIL)).status_code
    asked = {"objectId": "a.ek@example.com", "idProperty": "email"}
    await api.post(f"{CONTACTS}/gdpr-delete", json=asked)
    assert expected == [status, states(sandbox)]


async def test_archiving_is_no_erasure(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """DELETE hides the contact and the person is still held."""
    id_ = contact(sandbox)
    assert 204 == (await api.delete(f"{CONTACTS}/{id_}")).status_code
    assert 404 == (await api.get(f"{CONTACTS}/{id_}")).status_code
    assert 200 == (await api.get(f"{CONTACTS}/{ANNA}", params={**BY_EMAIL, "archived": "true"})).status_code
    assert ["archived"] == states(sandbox)
    assert ["contact_archived"] == [line["effect"] for line in sandbox.ledger()]


async def test_gdpr_delete_puts_the_contact_out_of_reach_and_purges_later(
    sandbox: Sandbox, api: httpx.AsyncClient, clock: Clock
) -> None:
    """404 at once, archived or not; off the servers only after the purge."""
    id_ = contact(sandbox)
    assert 204 == (await api.post(f"{CONTACTS}/gdpr-delete", json={"objectId": id_})).status_code
    for archived in ("false", "true"):
        answer = await api.get(f"{CONTACTS}/{ANNA}", params={**BY_EMAIL, "archived": archived})
        assert 404 == answer.status_code
    assert ["purging"] == states(sandbox)
    clock.pass_days(30)
    assert [] == states(sandbox)
    effects = [(line["effect"], line["record"]) for line in sandbox.ledger()]
    assert [("gdpr_deleted", id_), ("contact_purged", id_)] == effects


async def test_gdpr_delete_reaches_archived_contacts(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """Somebody archived the contact first; the erasure still erases it."""
    id_ = contact(sandbox)
    await api.delete(f"{CONTACTS}/{id_}")
    await api.post(f"{CONTACTS}/gdpr-delete", json={"objectId": ANNA, "idProperty": "email"})
    assert ["purging"] == states(sandbox)


async def test_gdpr_delete_of_an_unknown_address_is_accepted_and_repeats_are_told_apart(
    sandbox: Sandbox, api: httpx.AsyncClient
) -> None:
    """It goes on the block list; only the ledger knows which call did it."""
    asked = {"objectId": ANNA, "idProperty": "email"}
    statuses = [(await api.post(f"{CONTACTS}/gdpr-delete", json=asked)).status_code for _ in range(2)]
    assert [204, 204] == statuses
    assert [(None, False), (None, True)] == [(line["record"], line["repeated"]) for line in sandbox.ledger()]


@pytest.mark.parametrize("asked", [{"objectId": 1}, {}, {"objectId": "1", "mode": "hard"}, []])
async def test_gdpr_delete_of_the_wrong_shape_is_refused(
    sandbox: Sandbox, api: httpx.AsyncClient, asked: object
) -> None:
    """`objectId` is a text; a number erases nobody."""
    contact(sandbox)
    assert 400 == (await api.post(f"{CONTACTS}/gdpr-delete", json=asked)).status_code
    assert (["live"], []) == (states(sandbox), sandbox.ledger())


async def test_opting_out_needs_the_channel(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """`channel=EMAIL` is required; a repeat is a 200 and noted as one."""
    contact(sandbox)
    path = f"/communication-preferences/2026-03/statuses/{ANNA}/unsubscribe-all"
    asked = [{}, {"channel": "EMAIL"}, {"channel": "EMAIL"}]
    assert [400, 200, 200] == [(await api.post(path, params=params)).status_code for params in asked]
    assert [False, True] == [line["repeated"] for line in sandbox.ledger(effect="unsubscribed")]


async def test_search_needs_all_five_fields_and_lags(
    sandbox: Sandbox, api: httpx.AsyncClient, clock: Clock
) -> None:
    """A contact just made is not found yet, and one just erased still is."""
    id_ = contact(sandbox)
    filters = [{"propertyName": "email", "operator": "EQ", "value": ANNA}]
    asked = {"filterGroups": [{"filters": filters}], "properties": ["email"], "sorts": [], "limit": 10}
    assert 400 == (await api.post(f"{CONTACTS}/search", json=asked)).status_code

    async def total() -> int:
        answer = await api.post(f"{CONTACTS}/search", json={**asked, "after": "0"})
        return int(answer.json()["total"])

    totals = [await total()]
    clock.pass_seconds(5)
    totals.append(await total())
    await api.post(f"{CONTACTS}/gdpr-delete", json={"objectId": id_})
    totals.append(await total())
    clock.pass_seconds(5)
    totals.append(await total())
    assert [0, 1, 1, 0] == totals


@pytest.mark.parametrize(("master", "expected"), [(True, ["live"]), (False, [])])
async def test_a_sync_recreates_the_contact_while_superoffice_holds_the_person(
    sandbox: Sandbox, api: httpx.AsyncClient, clock: Clock, master: bool, expected: list[str]
) -> None:
    """The new contact has another id and a later creation date; without the master nothing comes back."""
    if master:
        sandbox.seed({"superoffice": {"persons": [{"email": ANNA}]}})
    id_ = contact(sandbox)
    sandbox.fault("recreate", seconds=60)
    assert 200 == (await api.get(f"{CONTACTS}/{ANNA}", params=BY_EMAIL)).status_code
    await api.post(f"{CONTACTS}/gdpr-delete", json={"objectId": id_})
    clock.pass_seconds(60)
    held = [line for line in sandbox.holds(ANNA) if line["vendor"] == "hubspot" and line["state"] == "live"]
    assert expected == [line["state"] for line in held]
    assert id_ not in [line["record"] for line in held]


@pytest.mark.parametrize("forgets", [False, True])
async def test_a_merged_contact_answers_as_the_other(
    api: httpx.AsyncClient, sandbox: Sandbox, forgets: bool
) -> None:
    """Its old id is the other's from then on, and so are its addresses, unless the other loses them."""
    old, into = contact(sandbox), contact(sandbox, email="bo@example.com")
    sandbox.happens("merged", vendor="hubspot", record=old, into=into, forgets=forgets)
    shown = (await api.get(f"{CONTACTS}/{old}", params={"properties": "hs_additional_emails"})).json()
    assert into == shown["id"]
    assert ("" if forgets else ANNA) == shown["properties"]["hs_additional_emails"]
    assert ["live"] == states(sandbox)
    assert 204 == (await api.post(f"{CONTACTS}/gdpr-delete", json={"objectId": old})).status_code
    assert ["purging"] == states(sandbox, "bo@example.com")


async def test_times_are_those_of_the_vendors_clock(api: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """A clock that is ahead shows later times; with the fault `ageless` none is shown."""
    known = contact(sandbox, created_at=0)
    sandbox.skew["hubspot"] = 30_000_000
    shown = (await api.get(f"{CONTACTS}/{known}")).json()
    assert ["1970-01-01T00:00:30.000Z"] * 2 == [shown["createdAt"], shown["properties"]["createdate"]]
    sandbox.fault("ageless", vendor="hubspot")
    shown = (await api.get(f"{CONTACTS}/{known}")).json()
    assert set() == {"createdAt", "createdate"} & {*shown, *shown["properties"]}
