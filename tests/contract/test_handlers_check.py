"""`check()`: what is wrong is told before anybody's data is touched, and what can't be told is not."""

from pathlib import Path
from typing import Any

import pytest

from handlers.checking import ORDER, Finding, Gap, examine
from handlers.port import Permanent, Retryable
from handlers.registry import Checkable
from handlers.sandbox.testing import ORIGIN
from tests.contract.handlers_bench import ANNA, Bench

pytestmark = pytest.mark.anyio
CONTROL = "control@example.com"
LOOKED_AT = ("superoffice", "hubspot", "teamtailor", "tenant")
ALL = (*LOOKED_AT, "google", "agency")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Anna and a control record at every vendor."""
    made = Bench(tmp_path)
    people = [{"email": ANNA}, {"email": CONTROL}]
    identities = [[{"type": "email", "value": email}] for email in (ANNA, CONTROL)]
    records = [{"id": f"user-{n}", "identities": one} for n, one in enumerate(identities)]
    made.sandbox.seed(
        {
            "superoffice": {"persons": people},
            "hubspot": {"contacts": people},
            "teamtailor": {"candidates": people},
            "tenants": [{"tenant": "bygg", "records": records}],
        }
    )
    return made


def made(bench: Bench, name: str, **changed: Any) -> Any:
    control = {"control_email": CONTROL} if name in LOOKED_AT else {}
    return getattr(bench, name)(**{**control, **changed})


async def states(handler: Any) -> dict[str, str]:
    return {one.aspect: one.state for one in await handler.check()}


async def failure(handler: Any) -> Finding:
    """The one finding that failed."""
    (one,) = [one for one in await handler.check() if one.state == "failed"]
    assert isinstance(one, Finding)
    return one


@pytest.mark.parametrize("name", ALL)
async def test_every_handler_checks_all_five_aspects_and_changes_nothing(bench: Bench, name: str) -> None:
    """In the same order for each, and without a trace at the vendor."""
    handler = made(bench, name)
    assert isinstance(handler, Checkable)
    assert list(ORDER) == [one.aspect for one in await handler.check()]
    assert [] == bench.sandbox.ledger()


@pytest.mark.parametrize("name", LOOKED_AT)
async def test_a_system_that_is_well_says_so(bench: Bench, name: str) -> None:
    """Reachable, let in, in the right account, and with the control record in sight."""
    seen = await states(made(bench, name))
    assert ["ok"] * 4 == [seen[aspect] for aspect in ("reachable", "credentials", "account", "control")]
    rights = {"superoffice": "ok", "hubspot": "ok", "teamtailor": "ok", "tenant": "ok"}
    assert rights[name] == seen["rights"]


async def test_analytics_and_agencies_say_what_cannot_be_shown(bench: Bench) -> None:
    """Google shows no role, and has nothing to look up; no mail is sent for a check."""
    seen = await states(made(bench, "google"))
    assert ("ok", "unknown", "unknown") == (seen["account"], seen["rights"], seen["control"])
    assert {"unknown"} == set((await states(made(bench, "agency"))).values())
    assert [] == bench.mails


@pytest.mark.parametrize("name", [*LOOKED_AT, "google"])
async def test_another_account_is_the_accounts_failure(bench: Bench, name: str) -> None:
    """The credentials are good, for somebody else: the setting of the pin is named, too."""
    vendor = "tenant-api" if name == "tenant" else name
    bench.sandbox.fault("wrong_account", vendor=vendor, times=None)
    handler = made(bench, name)
    one = await failure(handler)
    assert ("account", "wrong_account") == (one.aspect, one.code)
    assert one.settings
    assert "ok" == (await states(handler))["credentials"]


@pytest.mark.parametrize("name", LOOKED_AT)
async def test_a_control_record_that_is_not_found_is_a_failure(bench: Bench, name: str) -> None:
    """Deleted, or mistyped: no absence would count, and better known now than in a request."""
    one = await failure(made(bench, name, control_email="nobody@example.com"))
    assert ("control", "control_record_not_found", ("control_email",)) == (one.aspect, one.code, one.settings)


@pytest.mark.parametrize("name", LOOKED_AT)
async def test_without_a_control_record_the_check_says_what_that_means(bench: Bench, name: str) -> None:
    """It is allowed, and it is weaker."""
    handler = made(bench, name, control_email=None)
    (control,) = [one for one in await handler.check() if one.aspect == "control"]
    assert ("unknown", True) == (control.state, "control_email" in control.text)


@pytest.mark.parametrize(
    ("name", "setting", "wrong"),
    [
        ("superoffice", "client_secret", "wrong"),
        ("superoffice", "system_user_token", "wrong"),
        ("superoffice", "private_key", "no key"),
        ("superoffice", "login_certificate", "no certificate"),
        ("hubspot", "token", "wrong"),
        ("teamtailor", "token", "wrong"),
        ("tenant", "api_token", "wrong"),
        ("google", "service_account", "{}"),
    ],
)
async def test_wrong_credentials_are_told_as_that_with_their_setting(
    bench: Bench, name: str, setting: str, wrong: str
) -> None:
    """Whoever reads the line knows which value to look at."""
    one = await failure(made(bench, name, **{setting: bench.secret("wrong", wrong)}))
    assert "credentials" == one.aspect or "malformed_answer" == one.code
    assert setting in one.settings or "malformed_answer" == one.code
    assert "wrong" not in one.text.split()


async def test_a_secret_that_is_not_there_names_its_place(bench: Bench) -> None:
    """The file, and what to do; the check of the others goes on."""
    one = await failure(made(bench, "hubspot", token={"file": "/nowhere/token"}))
    assert ("credentials", "secret_unavailable", True) == (one.aspect, one.code, "/nowhere/token" in one.text)


@pytest.mark.parametrize("name", [*LOOKED_AT, "google"])
@pytest.mark.parametrize(("kind", "code"), [("refused", "unreachable"), ("500", "vendor_error")])
async def test_nobody_there_is_the_addresss_failure(bench: Bench, name: str, kind: str, code: str) -> None:
    """Nothing else was looked at, and nothing else is claimed."""
    vendor = "tenant-api" if name == "tenant" else name
    bench.sandbox.fault(kind, vendor=vendor, times=None)
    handler = made(bench, name)
    one = await failure(handler)
    assert ("reachable", code) == (one.aspect, one.code)
    seen = await states(handler)
    assert {"unknown"} == {seen[aspect] for aspect in ORDER[1:]}


async def test_missing_scopes_are_named(bench: Bench) -> None:
    """A token that may read and not write finds everybody and erases nobody."""
    bench.sandbox.seed({"hubspot": {"scopes": ["crm.objects.contacts.read"]}})
    one = await failure(made(bench, "hubspot"))
    assert ("rights", "rights_missing") == (one.aspect, one.code)
    assert "crm.objects.contacts.write" in one.text
    assert "crm.objects.contacts.read" not in one.text.replace("communication_preferences.read_write", "")


@pytest.mark.parametrize(
    ("name", "method", "path", "place"),
    [
        ("hubspot", "POST", "/search$", "secondary_addresses"),
        ("hubspot", "GET", "/associations/deals$", "deals"),
        ("teamtailor", "GET", "/candidates$", "candidates"),
        ("tenant", "POST", "/subjects/locate$", "records"),
    ],
)
async def test_a_place_that_cannot_be_read_is_named(
    bench: Bench, name: str, method: str, path: str, place: str
) -> None:
    """Each query that a look makes is made by the check, without a control record, too; what hangs on a
    contact can be asked for with one alone.
    """
    bench.sandbox.fault(
        "403", vendor="tenant-api" if name == "tenant" else name, method=method, path=path, times=None
    )
    expected = ("rights", f"place_unreadable.{place}", f"can't be read: {place}")
    for control in (CONTROL, None):
        if control is not None or place != "deals":
            one = await failure(made(bench, name, control_email=control))
            assert expected == (one.aspect, one.code, one.text)


async def test_an_archive_that_may_not_be_asked_is_a_missing_right(bench: Bench) -> None:
    """A tenant without forms, or a recycle bin that we may not read: better known before the proof."""
    bench.sandbox.fault("403", vendor="superoffice", path="RecyclePerson", times=None)
    one = await failure(made(bench, "superoffice"))
    assert ("rights", "place_unreadable.deleted_contacts") == (one.aspect, one.code)
    bench.sandbox.clear_faults()
    one = await failure(made(bench, "superoffice", submissions_archive="NoSuchArchive"))
    assert ("rights", True) == (one.aspect, "NoSuchArchive" in one.text)


@pytest.mark.parametrize("name", LOOKED_AT)
async def test_no_finding_says_whose_address_the_control_record_has(bench: Bench, name: str) -> None:
    """Nor a secret, nor an address of the vendor's."""
    for handler in (made(bench, name), made(bench, name, control_email="nobody@example.com")):
        text = str(await handler.check())
        assert [] == [word for word in ("example.com", "sandbox-", ORIGIN) if word in text]


async def test_the_first_failure_ends_the_check_and_what_it_needs_has_passed() -> None:
    """A wrong account was reached and let us in; what comes after it was not looked at."""
    looked: list[str] = []

    async def passes() -> None:
        looked.append("account")

    async def fails() -> None:
        looked.append("rights")
        raise Permanent("wrong_account")

    async def never() -> None:
        looked.append("control")

    found = await examine([("account", passes), ("rights", fails), ("control", never)], settings={})
    assert ["account", "rights"] == looked
    assert ["ok", "ok", "failed", "unknown", "unknown"] == [one.state for one in found]


async def test_a_failure_of_no_known_code_is_the_aspects_own() -> None:
    """A third party's handler has codes of its own."""

    async def fails() -> None:
        raise Retryable("helpdesk_asleep")

    async def gap() -> Gap:
        return Gap("nothing to ask")

    found = await examine([("rights", fails)], settings={"rights": ("token",)})
    assert ("rights", "helpdesk_asleep", ("token",)) == (found[3].aspect, found[3].code, found[3].settings)
    (_, _, _, rights, _) = await examine([("rights", gap)], settings={})
    assert ("unknown", "nothing to ask") == (rights.state, rights.text)
