"""Agencies, controllers, tenants and Teamtailor: who answers what, when, and what has happened by then."""

import json
from collections.abc import Mapping
from email.message import EmailMessage
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from handlers.sandbox import Sandbox
from handlers.sandbox.signing import hmac64
from handlers.sandbox.testing import ORIGIN, Clock, teamtailor_client

pytestmark = pytest.mark.anyio
ANNA = "anna@example.com"
LINK = "https://radera.example/answer/abc"
AGENCY = "privacy@agency.example"
REQUEST = "0b3b6d1e-5f0a-4c0e-9d6b-3f1f6f9f0a01"


class Radera:
    """Our side: what the parties sent us, and what we answered them."""

    def __init__(self, *statuses: int) -> None:
        self.sent: list[tuple[str, str, str]] = []
        self.headers: list[Mapping[str, str]] = []
        self._statuses = list(statuses)

    async def __call__(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        self.sent.append((method, url, body.decode()))
        self.headers.append(headers)
        return self._statuses.pop(0) if self._statuses else 200


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def radera() -> Radera:
    return Radera()


@pytest.fixture
def sandbox(clock: Clock, radera: Radera) -> Sandbox:
    return Sandbox(clock=clock, sleep=clock.sleep, deliver=radera)


def mail(text: str = f"Please erase {ANNA}.\n\n{LINK}\n\nThank you.\n", to: str = AGENCY) -> bytes:
    message = EmailMessage()
    message["To"], message["Subject"] = to, f"Radera {REQUEST}"
    message.set_content(text)
    return message.as_bytes()


def agency(sandbox: Sandbox, **stated: Any) -> None:
    candidates = [{"email": ANNA}, {"email": "bo@example.com"}]
    sandbox.seed({"agencies": [{"name": "agency", "address": AGENCY, "candidates": candidates, **stated}]})


def client(sandbox: Sandbox, token: str | None) -> httpx.AsyncClient:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(transport=sandbox.transport(), base_url=ORIGIN, headers=headers)


# --- agencies ---


async def test_an_agencys_scanner_opens_the_link_before_anybody_answers(
    sandbox: Sandbox, clock: Clock, radera: Radera
) -> None:
    """First a GET at once, then after the delay one POST of the form; what it says is true by then."""
    agency(sandbox)
    sandbox.accept_mail(mail())
    await sandbox.tick()
    assert ([("GET", LINK, "")], ["live"]) == (radera.sent, [line["state"] for line in sandbox.holds(ANNA)])
    clock.pass_days(2)
    await sandbox.tick()
    assert ("POST", LINK, "answer=erased") == radera.sent[-1]
    assert ([], 1) == (sandbox.holds(ANNA), len(sandbox.holds("bo@example.com")))
    clock.pass_days(30)
    await sandbox.tick()
    assert 2 == len(radera.sent)


@pytest.mark.parametrize(
    ("person", "left"),
    [("joanna@example.com", 2), ("ANNA@example.com", 1), ("anna@example.com.", 1), ("Bo Al", 1), ("anna", 2)],
)
async def test_an_agency_erases_whom_the_mail_names_and_nobody_else(
    sandbox: Sandbox, clock: Clock, person: str, left: int
) -> None:
    """A whole address or a whole name, whatever the case; never a part of another's."""
    candidates = [{"email": ANNA, "name": "Anna Ek"}, {"email": "bo@example.com", "name": "Bo Al"}]
    agency(sandbox, candidates=candidates)
    sandbox.accept_mail(mail(f"Erase this person:\n\n  {person}\n\n{LINK}\n"))
    clock.pass_days(2)
    assert left == len(sandbox.holds(ANNA, "bo@example.com"))


async def test_an_agency_can_say_that_it_keeps_something(
    sandbox: Sandbox, clock: Clock, radera: Radera
) -> None:
    """The form carries the basis, the date and the reason, and nothing is erased."""
    basis = {"legal_basis": "diskrimineringslagen", "retained_until": "2028-09-01", "reason": "defence"}
    agency(sandbox, answer="retained", **basis)
    sandbox.accept_mail(mail())
    clock.pass_days(2)
    await sandbox.tick()
    expected = {"answer": ["retained"], **{name: [value] for name, value in basis.items()}}
    assert expected == parse_qs(radera.sent[-1][2])
    assert 1 == len(sandbox.holds(ANNA))


async def test_a_reminder_with_the_same_link_is_answered_once(
    sandbox: Sandbox, clock: Clock, radera: Radera
) -> None:
    """The agency doesn't answer a page twice."""
    agency(sandbox, scans=False)
    for _ in range(2):
        sandbox.accept_mail(mail())
    clock.pass_days(3)
    await sandbox.tick()
    assert [("POST", LINK, "answer=erased")] == radera.sent


async def test_an_agency_may_never_answer_or_only_after_reminders(
    sandbox: Sandbox, clock: Clock, radera: Radera
) -> None:
    """Without an answer seeded none comes; with `ignores` the mails before are read and left."""
    agency(sandbox, answer=None)
    quick = "quick@agency.example"
    sandbox.seed({"agencies": [{"name": "slow", "address": quick, "ignores": 1, "scans": False}]})
    for to in (AGENCY, quick):
        sandbox.accept_mail(mail(to=to))
    clock.pass_days(30)
    await sandbox.tick()
    assert [("GET", LINK, "")] == radera.sent
    sandbox.accept_mail(mail(to=quick))
    clock.pass_days(2)
    await sandbox.tick()
    assert ("POST", LINK, "answer=erased") == radera.sent[-1]


async def test_mail_to_nobody_or_without_one_link_moves_nobody(
    sandbox: Sandbox, clock: Clock, radera: Radera
) -> None:
    """The link is the only URL on a line of its own; a mail with two is not understood."""
    agency(sandbox)
    for text, to in [
        (f"{LINK}\n", "dpo@example.com"),
        (f"see {LINK}\n", AGENCY),
        (f"{LINK}\n{LINK}\n", AGENCY),
    ]:
        sandbox.accept_mail(mail(text, to))
    clock.pass_days(30)
    await sandbox.tick()
    assert ([], 3) == (radera.sent, len(sandbox.mail()))


async def test_an_answer_that_did_not_arrive_is_sent_again(clock: Clock) -> None:
    """A 503 is tried again later; a refusal of the link is the end of it."""
    radera = Radera(503, 200, 410)
    sandbox = Sandbox(clock=clock, deliver=radera)
    agency(sandbox, scans=False, delay="PT0S")
    sandbox.accept_mail(mail())
    for _ in range(3):
        await sandbox.tick()
        clock.pass_seconds(60)
    sandbox.accept_mail(mail(f"{ANNA}\n{LINK}2\n"))
    for _ in range(3):
        await sandbox.tick()
        clock.pass_seconds(600)
    assert 3 == len(radera.sent)
    said = [(line["effect"], line["status"]) for line in sandbox.ledger() if "said" in line["effect"]]
    assert [("said_erased", 200), ("said_erased", 410)] == said
    assert [503] == [line["status"] for line in sandbox.ledger(effect="failed_to_say_erased")]


# --- Teamtailor ---


async def test_teamtailor_checks_the_key_and_the_version(sandbox: Sandbox) -> None:
    """401 for a wrong key, 406 for a version that isn't served, and the company says who it is."""
    async with teamtailor_client(sandbox) as api, teamtailor_client(sandbox, "2") as old:
        shown = (await api.get("/v1/company")).json()["data"]
        refused = await api.get("/v1/company", headers={"Authorization": "Token token=wrong"})
        assert ("company-1", 401) == (shown["id"], refused.status_code)
        assert 406 == (await old.get("/v1/company")).status_code


async def test_teamtailor_pages_hold_thirty_at_most(sandbox: Sandbox) -> None:
    """More is cut to 30, and links lead through all of them."""
    sandbox.seed(
        {"teamtailor": {"candidates": [{"email": ANNA} for _ in range(65)] + [{"email": "bo@example.com"}]}}
    )
    address: str | None = "/v1/candidates"
    params: dict[str, str] | None = {"filter[email]": ANNA.upper(), "page[size]": "100"}
    sizes, ids = [], set()
    async with teamtailor_client(sandbox) as api:
        while address:
            page = (await api.get(address, params=params)).json()
            sizes.append(len(page["data"]))
            ids |= {row["id"] for row in page["data"]}
            address, params = page["links"].get("next"), None
    assert ([30, 30, 5], 65) == (sizes, len(ids))


async def test_teamtailor_has_no_deletion_and_no_unknown_filter(sandbox: Sandbox) -> None:
    """A candidate cannot be deleted through the API, and a mistyped filter doesn't list everybody."""
    sandbox.seed({"teamtailor": {"candidates": [{"email": ANNA}]}})
    async with teamtailor_client(sandbox) as api:
        assert 404 == (await api.delete("/v1/candidates/1")).status_code
        assert 400 == (await api.get("/v1/candidates", params={"filter[mail]": ANNA})).status_code
        assert 422 == (await api.get("/v1/candidates", params={"filter[email]": ""})).status_code
        assert 200 == (await api.get("/v1/candidates/1")).status_code


async def test_an_agency_removes_the_candidate_in_teamtailor(
    sandbox: Sandbox, clock: Clock, radera: Radera
) -> None:
    """Its answer "erased" is true in Teamtailor too, and the signed webhook says which candidate went."""
    hook = {"url": "http://radera/tt", "secret": "s3cret"}
    sandbox.seed(
        {"teamtailor": {"webhook": hook, "candidates": [{"email": ANNA}, {"email": "bo@example.com"}]}}
    )
    agency(sandbox, teamtailor_company="company-1", scans=False)
    sandbox.accept_mail(mail())
    clock.pass_days(2)
    await sandbox.tick()
    (_, url, body), headers = radera.sent[0], radera.headers[0]
    stamp = clock() // 1_000_000
    signature = f"t={stamp},v2={hmac64('s3cret', f'{stamp}.{body}'.encode())}"
    assert (hook["url"], "1", signature) == (url, json.loads(body)["id"], headers["TT-Signature"])
    async with teamtailor_client(sandbox) as api:
        assert 404 == (await api.get("/v1/candidates/1")).status_code
        assert 200 == (await api.get("/v1/candidates/2")).status_code


# --- controllers ---


def opendsr(**changed: Any) -> dict[str, Any]:
    identity = {"identity_type": "email", "identity_value": ANNA, "identity_format": "raw"}
    return {
        "regulation": "gdpr",
        "subject_request_id": REQUEST,
        "subject_request_type": "erasure",
        "submitted_time": "2026-09-01T00:00:00Z",
        "subject_identities": [identity],
        "status_callback_urls": ["http://radera/callback/1"],
        **changed,
    }


def controller(sandbox: Sandbox, **stated: Any) -> None:
    sandbox.seed({"controllers": [{"tenant": "acme", "token": "t", **stated}]})


REQUESTS = "/controllers/acme/v2/requests"


async def test_a_request_twice_is_one_and_another_body_is_a_conflict(sandbox: Sandbox, clock: Clock) -> None:
    """201 with the first answer again, 409 for the same id with other content."""
    controller(sandbox)
    async with client(sandbox, "t") as api:
        first = await api.post(REQUESTS, json=opendsr())
        clock.pass_seconds(60)
        again = await api.post(REQUESTS, json=opendsr())
        other = await api.post(REQUESTS, json=opendsr(regulation="ccpa"))
    assert (201, 201, 409) == (first.status_code, again.status_code, other.status_code)
    assert first.json() == again.json()
    assert [False, True] == [line["repeated"] for line in sandbox.ledger(effect="request_received")]


@pytest.mark.parametrize(
    "changed",
    [
        {"regulation": "lgpd"},
        {"subject_request_id": REQUEST.upper()},
        {"subject_request_type": "delete"},
        {"submitted_time": "2026-09-01"},
        {"submitted_time": 1788220800},
        {"subject_identities": []},
        {"subject_identities": [{"identity_type": "email", "identity_value": ANNA}]},
        {"status_callback_urls": "http://radera/callback/1"},
    ],
)
async def test_a_request_of_the_wrong_shape_is_refused(sandbox: Sandbox, changed: dict[str, Any]) -> None:
    """400 with OpenDSR's error body, which quotes nobody."""
    controller(sandbox)
    async with client(sandbox, "t") as api:
        answer = await api.post(REQUESTS, json=opendsr(**changed))
    assert (400, 400) == (answer.status_code, answer.json()["error"]["code"])
    assert ANNA not in answer.text


async def test_a_controller_lets_in_those_with_its_token(sandbox: Sandbox) -> None:
    """401 without, 404 for a controller that doesn't exist."""
    controller(sandbox)
    async with client(sandbox, None) as stranger:
        statuses = [
            (await stranger.post(path, json=opendsr())).status_code
            for path in (REQUESTS, "/controllers/b/v2")
        ]
    assert [401, 404] == statuses


@pytest.mark.parametrize(
    ("instruction", "reason", "status"), [("erase", None, "completed"), ("refuse", "legal_hold", "cancelled")]
)
async def test_a_controller_instructs_after_its_delay(
    sandbox: Sandbox, clock: Clock, radera: Radera, instruction: str, reason: str | None, status: str
) -> None:
    """The callback goes to the first URL, once, with the instruction under our own domain."""
    controller(sandbox, instruction=instruction, reason=reason, callback_headers={"X-Key": "k"})
    async with client(sandbox, "t") as api:
        await api.post(REQUESTS, json=opendsr())
        await sandbox.tick()
        assert [] == radera.sent
        clock.pass_seconds(3600)
        await sandbox.tick()
        await sandbox.tick()
        shown = (await api.get(f"{REQUESTS}/{REQUEST}")).json()
        too_late = await api.delete(f"{REQUESTS}/{REQUEST}")
    [(method, url, body)] = radera.sent
    said = json.loads(body)
    assert ("POST", "http://radera/callback/1", "k") == (method, url, radera.headers[0]["X-Key"])
    assert (REQUEST, status) == (said["subject_request_id"], said["request_status"])
    assert {"radera": {"instruction": instruction, "reason": reason}} == said["extensions"]
    assert (status, 409) == (shown["request_status"], too_late.status_code)


async def test_a_controller_may_need_reminding(sandbox: Sandbox, clock: Clock, radera: Radera) -> None:
    """With `ignores` the first askings move nothing; the next one starts its delay, once."""
    controller(sandbox, instruction="erase", ignores=1)
    async with client(sandbox, "t") as api:
        sent = []
        for _ in range(3):
            await api.post(REQUESTS, json=opendsr())
            clock.pass_days(7)
            await sandbox.tick()
            sent.append(len(radera.sent))
    assert [0, 1, 1] == sent


async def test_a_controller_without_instruction_says_nothing(
    sandbox: Sandbox, clock: Clock, radera: Radera
) -> None:
    """It waits to be reminded for ever; its request can still be cancelled."""
    controller(sandbox)
    async with client(sandbox, "t") as api:
        await api.post(REQUESTS, json=opendsr())
        clock.pass_days(90)
        await sandbox.tick()
        assert 202 == (await api.delete(f"{REQUESTS}/{REQUEST}")).status_code
    assert [] == radera.sent


async def test_an_agency_with_an_endpoint_erases_before_it_says_so(
    sandbox: Sandbox, clock: Clock, radera: Radera
) -> None:
    """`completed`, with no instruction for us, and its candidates gone."""
    controller(sandbox, role="agency", candidates=[{"email": ANNA}, {"email": "bo@example.com"}])
    async with client(sandbox, "t") as api:
        await api.post(REQUESTS, json=opendsr())
    clock.pass_seconds(3600)
    await sandbox.tick()
    said = json.loads(radera.sent[0][2])
    assert ("completed", False) == (said["request_status"], "extensions" in said)
    assert ([], 1) == (sandbox.holds(ANNA), len(sandbox.holds("bo@example.com")))


async def test_a_confirmation_is_taken_back_for_a_known_request(sandbox: Sandbox) -> None:
    """202 and in the ledger, a repeat as a repeat; an unknown request is 404."""
    controller(sandbox)
    told = {"subject_request_id": REQUEST, "request_status": "completed"}
    async with client(sandbox, "t") as api:
        before = await api.post("/controllers/acme/v2/confirmations", json=told)
        await api.post(REQUESTS, json=opendsr())
        after = [await api.post("/controllers/acme/v2/confirmations", json=told) for _ in range(2)]
    assert [404, 202, 202] == [answer.status_code for answer in (before, *after)]
    noted = [(line["status"], line["repeated"]) for line in sandbox.ledger(effect="confirmation_received")]
    assert [("completed", False), ("completed", True)] == noted


# --- tenants ---


async def test_a_tenants_records_are_located_erased_and_proved(sandbox: Sandbox) -> None:
    """Children are records of their own: located with the parent, left where only the parent was named."""
    identities = [{"type": "email", "value": ANNA}]
    record = {"id": "u1", "identities": identities, "children": [{"id": "t1", "type": "timesheet"}]}
    sandbox.seed({"tenants": [{"tenant": "acme", "token": "t", "records": [record]}, {"tenant": "b"}]})
    base = "/tenant-api/acme/subjects"
    async with client(sandbox, "t") as api:
        account = (await api.get("/tenant-api/acme/account")).json()
        located = (await api.post(f"{base}/locate", json={"identities": identities})).json()["records"]
        erased = (await api.post(f"{base}/erase", json={"records": ["u1", "u9"]})).json()
        proof = await api.post(f"{base}/prove", json={"records": ["u1", "t1"], "identities": identities})
        foreign = await api.post("/tenant-api/b/subjects/locate", json={"identities": identities})
    assert ({"tenant": "acme"}, 401) == (account, foreign.status_code)
    assert [("u1", "user"), ("t1", "timesheet")] == [(row["id"], row["type"]) for row in located]
    assert {"erased": ["u1"], "missing": ["u9"]} == erased
    assert ["t1"] == [row["id"] for row in proof.json()["present"]]
    assert [("record_erased", "u1")] == [(line["effect"], line["record"]) for line in sandbox.ledger()]


async def test_a_tenant_sees_its_own_records_alone(sandbox: Sandbox) -> None:
    """The same person in two tenants is two people to the API, and so is the same record id."""
    identities = [{"type": "email", "value": ANNA}]
    records = [{"id": "u1", "identities": identities}]
    sandbox.seed({"tenants": [{"tenant": name, "token": name, "records": records} for name in ("acme", "b")]})
    async with client(sandbox, "b") as api:
        await api.post("/tenant-api/b/subjects/erase", json={"records": ["u1"]})
        located = (await api.post("/tenant-api/b/subjects/locate", json={"identities": identities})).json()
    assert ({"records": []}, ["acme"]) == (located, [line["account"] for line in sandbox.holds(ANNA)])


@pytest.mark.parametrize(
    ("verb", "asked"),
    [
        ("locate", {"identities": []}),
        ("locate", {"identities": [{"type": "email"}]}),
        ("locate", {"email": ANNA}),
        ("erase", {"records": [1]}),
        ("erase", {"records": ["u1"], "all": True}),
        ("prove", {"records": ["u1"]}),
    ],
)
async def test_a_tenants_api_refuses_what_it_does_not_define(
    sandbox: Sandbox, verb: str, asked: dict[str, Any]
) -> None:
    """400 and nothing erased."""
    record = {"id": "u1", "identities": [{"type": "email", "value": ANNA}]}
    sandbox.seed({"tenants": [{"tenant": "acme", "token": "t", "records": [record]}]})
    async with client(sandbox, "t") as api:
        assert 400 == (await api.post(f"/tenant-api/acme/subjects/{verb}", json=asked)).status_code
    assert 1 == len(sandbox.holds(ANNA))
