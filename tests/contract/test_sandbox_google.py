"""The Google stand-in keeps Google's rules: who may submit, exactly one id, a quota, one answer for all."""

from collections.abc import AsyncIterator

import httpx
import pytest

from handlers.sandbox import Sandbox
from handlers.sandbox.google import GRANT
from handlers.sandbox.testing import (
    ORIGIN,
    SERVICE_ACCOUNT,
    Clock,
    google_assertion,
    google_client,
    partner_public_pem,
)

pytestmark = pytest.mark.anyio
CLIENT = "1234567890.1699999999"
SUBMIT = "/v1alpha/properties/987654321:submitUserDeletion"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sandbox(clock: Clock) -> Sandbox:
    made = Sandbox(clock=clock, sleep=clock.sleep)
    account = {"email": SERVICE_ACCOUNT, "public_key": partner_public_pem(), "properties": ["987654321"]}
    visitor = {"client_id": CLIENT, "email": "anna@example.com", "provided": ["annaek@gmail.com"]}
    made.seed({"google": {"service_accounts": [account], "visitors": [visitor]}})
    return made


@pytest.fixture
async def api(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with await google_client(sandbox) as client:
        yield client


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"iss": "stranger@example.com"}, "invalid_grant"),
        ({"aud": "https://example.com"}, "invalid_grant"),
        ({"scope": "https://www.googleapis.com/auth/analytics.readonly"}, "invalid_scope"),
        ({"exp": 1}, "invalid_grant"),
        ({"exp": 1_788_220_800 + 7200}, "invalid_grant"),
    ],
)
async def test_an_assertion_is_checked_in_each_part(
    sandbox: Sandbox, clock: Clock, changed: dict[str, object], error: str
) -> None:
    """Issuer, audience, scope and lifetime; no token otherwise."""
    form = {"grant_type": GRANT, "assertion": google_assertion(clock(), **changed)}
    async with httpx.AsyncClient(transport=sandbox.transport(), base_url=ORIGIN) as client:
        answer = await client.post("/google/token", data=form)
    assert (400, error) == (answer.status_code, answer.json()["error"])


async def test_an_assertion_signed_by_another_key_is_refused(sandbox: Sandbox, clock: Clock) -> None:
    """The signature is verified with the service account's own key."""
    account = {"email": SERVICE_ACCOUNT, "public_key": sandbox.public_key()}
    sandbox.seed({"google": {"service_accounts": [account]}})
    form = {"grant_type": GRANT, "assertion": google_assertion(clock())}
    async with httpx.AsyncClient(transport=sandbox.transport(), base_url=ORIGIN) as client:
        assert 400 == (await client.post("/google/token", data=form)).status_code


async def test_a_token_ends_after_an_hour(api: httpx.AsyncClient, clock: Clock) -> None:
    """Then it is 401."""
    assert 200 == (await api.get("/v1alpha/properties/987654321")).status_code
    clock.pass_seconds(3600)
    assert 401 == (await api.get("/v1alpha/properties/987654321")).status_code


async def test_a_property_says_its_name_to_those_who_may_see_it(
    sandbox: Sandbox, api: httpx.AsyncClient
) -> None:
    """What a handler pins; another property is forbidden."""
    sandbox.seed({"google": {"property": "5", "name": "other.example"}})
    shown = (await api.get("/v1alpha/properties/987654321")).json()
    assert ("properties/987654321", "smartdok.example") == (shown["name"], shown["displayName"])
    assert 403 == (await api.get("/v1alpha/properties/5")).status_code


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"clientId": CLIENT, "userId": "u"},
        {"clientId": ""},
        {"clientId": 5},
        {"visitorId": CLIENT},
        {"userProvidedData": "neither"},
    ],
)
async def test_anything_but_exactly_one_id_is_refused(
    sandbox: Sandbox, api: httpx.AsyncClient, asked: dict[str, object]
) -> None:
    """400, no effect, and no quota spent."""
    answer = await api.post(SUBMIT, json=asked)
    assert (400, "INVALID_ARGUMENT") == (answer.status_code, answer.json()["error"]["status"])
    assert [] == sandbox.ledger()


async def test_a_submission_is_answered_alike_for_the_known_and_the_unknown(
    sandbox: Sandbox, api: httpx.AsyncClient
) -> None:
    """Only the time is told; the ledger knows who was meant, by number and not by id."""
    answers = [(await api.post(SUBMIT, json={"clientId": id_})).json() for id_ in (CLIENT, "9.9", CLIENT)]
    assert 3 * [{"deletionRequestTime": "2026-09-01T00:00:00.000Z"}] == answers
    noted = [(line["record"], line["repeated"]) for line in sandbox.ledger()]
    assert [("visitor-1", False), (None, False), ("visitor-1", True)] == noted
    assert CLIENT not in str(sandbox.ledger())


async def test_provided_data_matches_as_google_normalises_it(
    sandbox: Sandbox, api: httpx.AsyncClient
) -> None:
    """Dots before @gmail.com are Google's to ignore and ours to remove: with them nobody matches."""
    await api.post(SUBMIT, json={"userProvidedData": "anna.ek@gmail.com"})
    assert ["live"] == [line["state"] for line in sandbox.holds(email="anna@example.com")]
    await api.post(SUBMIT, json={"userProvidedData": "annaek@gmail.com"})
    assert ["submitted"] == [line["state"] for line in sandbox.holds(email="anna@example.com")]


async def test_a_submitted_visitor_leaves_at_the_purge(
    sandbox: Sandbox, api: httpx.AsyncClient, clock: Clock
) -> None:
    """Promised at once, gone months later."""
    await api.post(SUBMIT, json={"clientId": CLIENT})
    clock.pass_days(62)
    before = sandbox.holds_person({"ga_client_id": CLIENT})
    clock.pass_days(1)
    assert (["submitted"], []) == (
        [line["state"] for line in before],
        sandbox.holds_person({"ga_client_id": [CLIENT]}),
    )


async def test_the_quota_is_spent_for_the_day_and_new_after_californian_midnight(
    sandbox: Sandbox, clock: Clock
) -> None:
    """2026-09-01T00:00Z is five in the afternoon of 31 August there: seven hours until the next day."""
    sandbox.seed({"google": {"daily_quota": 2}})
    statuses = []
    for wait in (0, 0, 0, 7 * 3600 - 1, 1):
        clock.pass_seconds(wait)
        async with await google_client(sandbox) as api:
            statuses.append((await api.post(SUBMIT, json={"clientId": CLIENT})).status_code)
    assert [200, 200, 429, 429, 200] == statuses
