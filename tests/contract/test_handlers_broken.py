"""Each rule of a vendor's is kept by the stand-in: a handler that breaks it doesn't get through.

A case is a rule, a scene in which it matters, and a way to break it in the handler. The scene must hold as
the handler is, and must not when the rule is broken; otherwise the stand-in would let the mistake by, and so
would every other test.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from handlers import (
    google_analytics,
    google_login,
    hubspot,
    hubspot_records,
    hubspot_webhook,
    port,
    shown,
    superoffice,
    superoffice_api,
    superoffice_login,
    superoffice_proof,
    superoffice_records,
    superoffice_staying,
    tenant_records,
)
from handlers.places import PlaceUnreadable
from handlers.port import CallFailed, Permanent, Refused, Retryable
from handlers.results import Ambiguous, Located, Proved, Reappeared
from handlers.sandbox.signing import hubspot_headers
from orchestrator.privacy import Identifier
from tests.contract.handlers_bench import ANNA, DAY, PUBLIC, Bench

pytestmark = pytest.mark.anyio
Scene = Callable[[Bench], Awaitable[None]]
Break = Callable[[pytest.MonkeyPatch], None]
CLIENT = Identifier("ga_client_id", "GA1.1.1234567890.1699999999")
CASES: dict[str, tuple[Scene, Break]] = {}


def put(owner: Any, name: str, value: Any) -> Break:
    """Breaks by putting something else in a name's place."""
    return lambda patch: patch.setattr(owner, name, value)


def rule(name: str, how: Break) -> Callable[[Scene], Scene]:
    """The scene is one of this rule, which is broken so."""

    def noted(scene: Scene) -> Scene:
        CASES[name] = (scene, how)
        return scene

    return noted


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def person(bench: Bench, **stated: Any) -> str:
    ids = bench.sandbox.seed({"superoffice": {"persons": [{"email": ANNA, **stated}]}})
    return ids["superoffice.person"][-1]


def contact(bench: Bench, **stated: Any) -> str:
    ids = bench.sandbox.seed({"hubspot": {"contacts": [{"email": ANNA, **stated}]}})
    bench.clock.pass_seconds(60)
    return ids["hubspot.contact"][-1]


async def nothing(*args: Any, **kwargs: Any) -> None:
    return None


async def nobody(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
    found: tuple[Any, ...] = ()
    for one in found:
        yield one


# --- SuperOffice


async def _first_page(self: Any, query: superoffice_api.Query) -> AsyncIterator[dict[str, Any]]:
    for row in (await self.ask("GET", query.path, query.params)).object()["value"]:
        yield row


@rule("SuperOffice gives pages", put(superoffice_api.Api, "rows", _first_page))
async def _pages(bench: Bench) -> None:
    bench.sandbox.seed({"superoffice": {"page": 2, "persons": [{"email": ANNA} for _ in range(3)]}})
    located = await bench.superoffice().locate(bench.task("locate", takes_all=3))
    assert 3 == len(located.references)


@rule("a quote is escaped", put(superoffice_records.Records, "_quoted", lambda self, text: text))
async def _quotes(bench: Bench) -> None:
    person(bench, email="o'brien@example.com")
    brien = Identifier("email", "o'brien@example.com")
    assert isinstance(await bench.superoffice().locate(bench.task("locate", brien)), Located)


@rule("what hangs on a person survives them", put(superoffice_records.Records, "children", nobody))
async def _children(bench: Bench) -> None:
    person(bench, tickets=1, form_submissions=1)
    await bench.erased(bench.superoffice())
    held = {line["kind"]: line["state"] for line in bench.sandbox.holds(ANNA)}
    assert {"person": "recycle_bin", "ticket": "recycle_bin"} == held


def _persons_first(patch: pytest.MonkeyPatch) -> None:
    whole = superoffice_records.Records.delete

    async def delete(self: Any, task: Any, reference: Any) -> int:
        for each in task.of_kind("person"):
            await whole(self, task, each)
        raise Retryable("killed")

    patch.setattr(superoffice_records.Records, "delete", delete)


@rule("the person goes last", _persons_first)
async def _order(bench: Bench) -> None:
    person(bench, tickets=1)
    handler = bench.superoffice()
    references = (await handler.locate(bench.task("locate"))).references
    bench.sandbox.fault("500", vendor="superoffice", method="DELETE", path="/Ticket/")
    with pytest.raises(CallFailed):
        await handler.erase(bench.task("erase", references=references))
    bench.clock.pass_days(15)
    assert isinstance(await handler.locate(bench.task("locate")), Located)


@rule("a consent ends before its person", put(superoffice_records.Records, "withdraw_consent", nothing))
async def _consent(bench: Bench) -> None:
    person(bench, consents=["EMARKETING"])
    await bench.erased(bench.superoffice())
    assert ["consent_removed", "person_soft_deleted"] == [line["effect"] for line in bench.sandbox.ledger()]


async def _no(self: Any) -> bool:
    return False


@rule("a ticket ends", put(superoffice_login.SystemUser, "renew", _no))
async def _ticket(bench: Bench) -> None:
    person(bench)
    handler = bench.superoffice()
    await handler.locate(bench.task("locate"))
    bench.clock.pass_seconds(7 * 3600)
    await handler.locate(bench.task("locate"))


@rule("a tenant moves", put(superoffice_api, "MOVED", 999))
async def _moved(bench: Bench) -> None:
    handler = bench.superoffice()
    await handler.locate(bench.task("locate"))
    bench.sandbox.seed({"superoffice": {"subdomain": "online9"}})
    with pytest.raises(Retryable):
        await handler.locate(bench.task("locate"))
    await handler.locate(bench.task("locate"))


@rule(
    "the address is valid until a time",
    lambda patch: patch.setattr(
        superoffice_api,
        "discover",
        _forever(superoffice_login.discover),
    ),
)
async def _valid_until(bench: Bench) -> None:
    handler = bench.superoffice()
    await handler.locate(bench.task("locate"))
    bench.clock.pass_seconds(3700)
    bench.sandbox.seed({"superoffice": {"subdomain": "online9"}})
    await handler.locate(bench.task("locate"))


def _forever(discover: Any) -> Any:
    async def asked(client: Any, tenant: str) -> superoffice_login.Tenant:
        found = await discover(client, tenant)
        return superoffice_login.Tenant(found.context, found.api, 2**62)

    return asked


async def _whatever_its_state(client: Any, tenant: str) -> superoffice_login.Tenant:
    state = (await client.call("GET", f"/api/state/{tenant}")).object()
    return superoffice_login.Tenant(state["ContextIdentifier"], state["Api"], 2**62)


@rule("a tenant may be stopped", put(superoffice_api, "discover", _whatever_its_state))
async def _running(bench: Bench) -> None:
    bench.sandbox.seed({"superoffice": {"running": False}})
    with pytest.raises(Retryable, match=r"^tenant_not_running$"):
        await bench.superoffice().locate(bench.task("locate"))


def _unverified(token: str, public_key: str) -> dict[str, Any]:
    return dict(json.loads(superoffice_login._unpadded(token.split(".")[1])))


@rule("the login's answer is signed", put(superoffice_login, "verified_claims", _unverified))
async def _signed(bench: Bench) -> None:
    other = bench.secret("other", superoffice_other_key())
    with pytest.raises(Permanent, match=r"^login_signature_invalid$"):
        await bench.superoffice(login_certificate=other).locate(bench.task("locate"))


def superoffice_other_key() -> str:
    from handlers.sandbox.testing import partner_public_pem

    return partner_public_pem()


async def _without_token(self: Any) -> Mapping[str, str]:
    headers = await _HEADERS(self)
    return {name: value for name, value in headers.items() if name != "SO-AppToken"}


_HEADERS = superoffice_login.SystemUser.headers


@rule("calls carry the application's token", put(superoffice_login.SystemUser, "headers", _without_token))
async def _app_token(bench: Bench) -> None:
    await bench.superoffice().locate(bench.task("locate"))


async def _no_bins(self: Any, there: Any, now: int) -> superoffice_proof.Bins:
    return superoffice_proof.Bins(due_at=now)


@rule("a deletion is soft", put(superoffice_proof.Proof, "_bins", _no_bins))
async def _soft(bench: Bench) -> None:
    person(bench)
    handler = bench.superoffice()
    references = await bench.erased(handler)
    for _ in range(4):
        task = bench.task("prove", references=references, erased_at=bench.clock() - 5 * DAY)
        if isinstance(await handler.prove(task), Proved):
            break
        bench.clock.pass_days(5)
    assert [] == bench.sandbox.holds(ANNA)


@rule("a sale is kept", put(superoffice_staying.Staying, "stays", lambda self, kind: False))
async def _sale(bench: Bench) -> None:
    person(bench, sales=({"bookkeeping": True},))
    handler = bench.superoffice()
    located = await handler.locate(bench.task("locate"))
    accepted = await handler.erase(bench.task("erase", references=located.references))
    assert "records_refused" not in accepted.evidence


@rule("a webhook is signed", put(superoffice, "webhook_is_genuine", lambda *args: True))
async def _webhook(bench: Bench) -> None:
    body = json.dumps({"Event": "person.deleted", "PrimaryKey": 1, "ContextIdentifier": "Cust12345"}).encode()
    with pytest.raises(Refused):
        await bench.superoffice().receive(bench.callback(body, {"X-SuperOffice-Signature": "forged"}))


def _any_account(patch: pytest.MonkeyPatch) -> None:
    def shown(*, pinned: str, answered: str, record_found: bool | None = None) -> port.Control:
        return port.Control(port._WITNESS, record=bool(record_found))

    patch.setattr(port.Control, "shown", shown)


@rule("the account is the pinned one", _any_account)
async def _account(bench: Bench) -> None:
    for vendor, handler in (("superoffice", bench.superoffice()), ("hubspot", bench.hubspot())):
        bench.sandbox.fault("wrong_account", vendor=vendor, times=None)
        with pytest.raises(Permanent, match=r"^wrong_account$"):
            await handler.locate(bench.task("locate"))


# --- HubSpot


def _asking(change: Callable[[str, str, Any], tuple[str, str, Any]]) -> Break:
    """Breaks by changing what is asked."""

    def broken(patch: pytest.MonkeyPatch) -> None:
        whole = hubspot_records.Records._ask

        async def ask(self: Any, method: str, path: str, **more: Any) -> Any:
            method, path, more["json"] = change(method, path, more.get("json"))
            return await whole(self, method, path, **more)

        patch.setattr(hubspot_records.Records, "_ask", ask)

    return broken


def _archives(method: str, path: str, body: Any) -> tuple[str, str, Any]:
    if path.endswith("/gdpr-delete"):
        return "DELETE", path.replace("gdpr-delete", body["objectId"]), None
    return method, path, body


@rule("a DELETE only archives", _asking(_archives))
async def _erased(bench: Bench) -> None:
    contact(bench)
    await bench.erased(bench.hubspot())
    assert ["purging"] == [line["state"] for line in bench.sandbox.holds(ANNA)]


def _number(method: str, path: str, body: Any) -> tuple[str, str, Any]:
    return method, path, {"objectId": int(body["objectId"])} if path.endswith("/gdpr-delete") else body


@rule("objectId is a text", _asking(_number))
async def _object_id(bench: Bench) -> None:
    contact(bench)
    await bench.erased(bench.hubspot())


def _four_fields(method: str, path: str, body: Any) -> tuple[str, str, Any]:
    if path.endswith("/search"):
        body = {name: value for name, value in body.items() if name != "after"}
    return method, path, body


@rule("a search needs all five fields", _asking(_four_fields))
async def _search(bench: Bench) -> None:
    await bench.hubspot().locate(bench.task("locate"))


def _undated(method: str, path: str, body: Any) -> tuple[str, str, Any]:
    return method, path.replace("/2026-03/", "/latest/"), body


@rule("paths are dated", _asking(_undated))
async def _dated(bench: Bench) -> None:
    contact(bench)
    assert isinstance(await bench.hubspot().locate(bench.task("locate")), Located)


@rule("opted out before erased", put(hubspot_records.Records, "opt_out", nothing))
async def _opted_out(bench: Bench) -> None:
    contact(bench)
    await bench.erased(bench.hubspot())
    assert ["unsubscribed", "gdpr_deleted"] == [line["effect"] for line in bench.sandbox.ledger()]


async def _alone(self: Any, email: str) -> list[str]:
    return []


@rule("a look-up may find no secondary address", put(hubspot_records.Records, "_searched", _alone))
async def _secondary(bench: Bench) -> None:
    bench.sandbox.seed({"hubspot": {"secondary_lookup": False}})
    contact(bench, email="anna.ek@example.com", additional_emails=[ANNA])
    assert isinstance(await bench.hubspot().locate(bench.task("locate")), Located)


@rule("the daily limit ends at midnight", put(hubspot_records.Records, "_until_midnight", lambda self: 0))
async def _daily(bench: Bench) -> None:
    bench.sandbox.fault("429", vendor="hubspot", policy="DAILY")
    with pytest.raises(Retryable) as caught:
        await bench.hubspot().locate(bench.task("locate"))
    assert (caught.value.retry_after or 0) > 3_600_000_000


async def _forged(bench: Bench, *, secret: str, late: int) -> None:
    body = json.dumps(
        [{"objectId": 1, "portalId": 1234567, "subscriptionType": "contact.privacyDeletion"}]
    ).encode()
    handler = bench.hubspot(webhook_secret=bench.secret("hook", "hook-secret"))
    headers = hubspot_headers(secret, f"{PUBLIC}/callbacks/hubspot", body, bench.clock() - late)
    with pytest.raises(Refused):
        await handler.receive(bench.callback(body, headers))


@rule("HubSpot signs its webhooks", put(hubspot, "is_genuine", lambda *args: True))
async def _hubspot_webhook(bench: Bench) -> None:
    await _forged(bench, secret="another", late=0)


@rule("a webhook is stale after five minutes", put(hubspot_webhook, "_WINDOW", 2**62))
async def _stale(bench: Bench) -> None:
    await _forged(bench, secret="hook-secret", late=301_000_000)


# --- Google Analytics


def visitor(bench: Bench, **stated: Any) -> None:
    bench.sandbox.seed({"google": {"visitors": [stated]}})


async def submitted(bench: Bench, identifier: Identifier, by: str) -> None:
    """The one visitor is found by what is submitted."""
    await bench.google(identify_by=[by]).erase(bench.task("erase", identifier))
    assert ["visitor-1"] == bench.effects("google", "deletion_submitted")


@rule("an address is normalised", put(google_analytics, "normalised_email", lambda value: value))
async def _email(bench: Bench) -> None:
    visitor(bench, provided=["annaek@gmail.com"])
    await submitted(bench, Identifier("email", "Anna.Ek@gmail.com"), "user_provided_data")


@rule("a number is normalised", put(google_analytics, "normalised_phone", lambda value: value))
async def _phone(bench: Bench) -> None:
    visitor(bench, provided=["+46701234567"])
    await submitted(bench, Identifier("phone", "+46 70-123 45 67"), "user_provided_data")


@rule("the cookie is not the client id", put(google_analytics, "client_id", lambda value: value))
async def _cookie(bench: Bench) -> None:
    visitor(bench, client_id="1234567890.1699999999")
    await submitted(bench, CLIENT, "client_id")


def _two_at_once(patch: pytest.MonkeyPatch) -> None:
    whole = google_analytics.GoogleAnalytics._ask

    async def ask(self: Any, method: str, path: str, **more: Any) -> Any:
        more["json"] = more.get("json") and {**more["json"], "userId": "u-17", "clientId": "1.2"}
        return await whole(self, method, path, **more)

    patch.setattr(google_analytics.GoogleAnalytics, "_ask", ask)


@rule("exactly one id at a time", _two_at_once)
async def _one(bench: Bench) -> None:
    await bench.google().erase(bench.task("erase", CLIENT))


@rule(
    "a spent quota waits for California's next day",
    put(google_analytics.GoogleAnalytics, "_until_midnight", lambda self: 3_600_000_000),
)
async def _quota(bench: Bench) -> None:
    bench.sandbox.seed({"google": {"daily_quota": 1}})
    handler = bench.google()
    await handler.erase(bench.task("erase", CLIENT))
    with pytest.raises(Retryable) as caught:
        await handler.erase(bench.task("erase", CLIENT))
    bench.clock.now += caught.value.retry_after or 0
    await handler.erase(bench.task("erase", CLIENT))


@rule("the scope allows deletions", put(google_analytics, "SCOPE", "https://example.com/readonly"))
async def _scope(bench: Bench) -> None:
    await bench.google().locate(bench.task("locate", CLIENT))


@rule("an assertion lives for an hour at most", put(google_login, "LIFE", 7200))
async def _assertion(bench: Bench) -> None:
    await bench.google().locate(bench.task("locate", CLIENT))


def _told_nothing(self: Any, identifiers: Any) -> dict[str, str]:
    return {}


@rule(
    "an id that no property takes is told", put(google_analytics.GoogleAnalytics, "_untaken", _told_nothing)
)
async def _untaken(bench: Bench) -> None:
    elsewhere = Identifier("ga_client_id", "1234567890.1699999999", "nowhere.example")
    located = await bench.google().locate(bench.task("locate", elsewhere))
    assert "1" == located.evidence.get("client_ids_without_property")


# --- places, and records that are another's by now


def _empty(answer: Any, place: str) -> dict[str, Any]:
    return {"results": []} if answer.status in (403, 404) else answer.object()


@rule("a list that can't be read is not empty", put(hubspot_records, "_listed", _empty))
async def _unreadable(bench: Bench) -> None:
    contact(bench)
    bench.sandbox.seed({"hubspot": {"scopes": ["crm.objects.contacts.read", "tickets"]}})
    with pytest.raises(PlaceUnreadable):
        await bench.hubspot().locate(bench.task("locate"))


async def _nothing_hangs(self: Any, contact: Any, kind: str) -> list[str]:
    return []


@rule("what hangs on a contact is left", put(hubspot_records.Records, "hanging_on", _nothing_hangs))
async def _hanging(bench: Bench) -> None:
    contact(bench, associations={"tickets": (1001,)})
    located = await bench.hubspot().locate(bench.task("locate"))
    assert "1" == located.evidence["tickets_left"]


def _always(self: Any, *args: Any) -> bool:
    return True


async def _rename_and_erase(bench: Bench, handler: Any, record: str) -> None:
    references = (await handler.locate(bench.task("locate"))).references
    vendor = type(handler).kind if type(handler).kind == "hubspot" else "teamtailor"
    bench.sandbox.fault(
        "rename", vendor=vendor, path="details|company", record=record, email="new@example.com"
    )
    await handler.erase(bench.task("erase", references=references, system="agency"))


@rule("a contact may be another's by now", put(shown.Shown, "is_still", _always))
async def _changed_contact(bench: Bench) -> None:
    await _rename_and_erase(bench, bench.hubspot(), contact(bench))
    assert [] == bench.effects("hubspot", "gdpr_deleted")


@rule("a candidate may be another's by now", put(shown.Shown, "is_still", _always))
async def _changed_candidate(bench: Bench) -> None:
    ids = bench.sandbox.seed({"teamtailor": {"candidates": [{"email": ANNA}]}})
    (record,) = ids["teamtailor.candidate"]
    await _rename_and_erase(bench, bench.teamtailor(), record)
    assert f"Kandidat {record}" not in bench.mails[-1].get_content()


def _old_unless_newer(self: Any, erased_at: int | None, skew: int) -> bool:
    return not (erased_at is not None and (self.created_at or 0) > erased_at)


@rule("clocks differ", put(shown.Shown, "is_surely_older", _old_unless_newer))
async def _skew(bench: Bench) -> None:
    contact(bench)
    references = await bench.erased(bench.hubspot())
    erased_at = bench.clock()
    contact(bench, created_at=erased_at - 60_000_000)
    task = bench.task("prove", references=references, erased_at=erased_at)
    assert isinstance(await bench.hubspot().prove(task), Reappeared)


def _nobody_shares(records: Any, wanted: Any) -> dict[str, Any]:
    return {}


@rule("an address may be several people's", put(hubspot, "sharing", _nobody_shares))
async def _several(bench: Bench) -> None:
    contact(bench)
    contact(bench, email="shared@example.com", additional_emails=[ANNA])
    assert isinstance(await bench.hubspot().locate(bench.task("locate")), Ambiguous)


def _all_theirs(rows: Any, references: Any, leads: Any, wanted: Any) -> Any:
    return tenant_records.Look(rows, {}, frozenset(), wanted)


@rule("a tenant's record is led to", put(tenant_records, "_sorted", _all_theirs))
async def _led_to(bench: Bench) -> None:
    identities = [{"type": "email", "value": ANNA}]
    user = {"id": "user-1", "identities": identities}
    bench.sandbox.seed({"tenants": [{"tenant": "bygg", "records": [user]}]})
    row = bench.sandbox.store.get("tenant.record", "bygg:user-1")
    assert row is not None
    # Found by an old address, it is another person's by now.
    other = [{"type": "email", "value": "beata@example.com"}]
    bench.sandbox.store.put("tenant.record", "bygg:user-1", {**row, "identities": other})
    with pytest.raises(Permanent, match=r"^filter_not_honoured$"):
        await bench.tenant().locate(bench.task("locate", instruction="erase"))


# --- the tests


@pytest.mark.parametrize("name", CASES)
async def test_the_handler_keeps_the_rule(bench: Bench, name: str) -> None:
    """As it is, the scene holds."""
    scene, _ = CASES[name]
    await scene(bench)


@pytest.mark.parametrize("name", CASES)
async def test_a_handler_that_breaks_the_rule_does_not_get_through(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The same scene, with the one rule broken: the stand-in refuses, or the person is still there."""
    scene, broken = CASES[name]
    broken(monkeypatch)
    with pytest.raises((AssertionError, CallFailed, Refused, pytest.fail.Exception)):
        await scene(bench)
