"""The HubSpot handler against its stand-in."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from handlers.port import Expired, Permanent, Refused, Retryable
from handlers.results import Absent, Accepted, Located, NotIdentifiable, Proved, Reappeared, StillPresent
from orchestrator.http import NotAsked
from orchestrator.privacy import Identifier
from tests.contract.handlers_bench import ANNA, DAY, HOUR, Bench

pytestmark = pytest.mark.anyio
CONTROL = "control@example.com"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def contact(bench: Bench, **stated: Any) -> str:
    ids = bench.sandbox.seed({"hubspot": {"contacts": [{"email": ANNA, **stated}]}})
    return ids["hubspot.contact"][-1]


async def test_a_contact_is_opted_out_erased_for_good_and_proved(bench: Bench) -> None:
    """The erasure is gdpr-delete, never the archiving DELETE, and the proof names the purge."""
    id_ = contact(bench)
    handler = bench.hubspot()
    references = await bench.erased(handler)
    assert [id_] == bench.effects("hubspot", "unsubscribed")
    assert [id_] == bench.effects("hubspot", "gdpr_deleted")
    assert [] == bench.effects("hubspot", "contact_archived")
    proved = await handler.prove(bench.task("prove", references=references, erased_at=bench.clock()))
    assert isinstance(proved, Proved)
    assert ("seen_absent", "2026-10-01T00:00:00Z") == (proved.grade, proved.evidence["purged_by"])


async def test_a_contact_is_found_by_a_secondary_address_and_opted_out_of_all(bench: Bench) -> None:
    """The person gives one address; the contact is under another; mail ends for both."""
    contact(bench, email="anna.ek@example.com", additional_emails=[ANNA])
    await bench.erased(bench.hubspot())
    assert 2 == len(bench.effects("hubspot", "unsubscribed"))
    assert 1 == len(bench.effects("hubspot", "gdpr_deleted"))


@pytest.mark.parametrize(("secondary", "found"), [("search", True), ("lookup", False)])
async def test_where_a_lookup_finds_no_secondary_address_a_search_does(
    bench: Bench, secondary: str, found: bool
) -> None:
    """HubSpot doesn't say whether it does; with the search it doesn't matter."""
    bench.sandbox.seed({"hubspot": {"secondary_lookup": False}})
    contact(bench, email="anna.ek@example.com", additional_emails=[ANNA])
    bench.clock.pass_seconds(60)
    located = await bench.hubspot(secondary=secondary).locate(bench.task("locate"))
    assert found == isinstance(located, Located)


async def test_a_search_that_matches_loosely_brings_in_nobody_else(bench: Bench) -> None:
    """CONTAINS_TOKEN finds anna+1@example.com and x.anna@example.com.au too: neither has the address."""
    bench.sandbox.seed({"hubspot": {"secondary_lookup": False}})
    for near in ("x-anna@example.com", "anna@example.com.au"):
        contact(bench, email="other@example.com", additional_emails=[near])
    wanted = contact(bench, email="anna.ek@example.com", additional_emails=["a@example.com", ANNA])
    bench.clock.pass_seconds(60)
    located = await bench.hubspot().locate(bench.task("locate"))
    assert [wanted] == [one.id for one in located.references]


async def test_every_page_of_a_search_is_read(bench: Bench) -> None:
    """The one who has the address comes after a hundred who only look like it."""
    bench.sandbox.seed({"hubspot": {"secondary_lookup": False}})
    for number in range(100):
        contact(bench, email=f"o{number}@example.com", additional_emails=["x-anna@example.com"])
    wanted = contact(bench, email="anna.ek@example.com", additional_emails=[ANNA])
    bench.clock.pass_seconds(60)
    located = await bench.hubspot(calls_per_ten_seconds=190).locate(bench.task("locate"))
    assert [wanted] == [one.id for one in located.references]


async def test_searches_keep_below_the_accounts_five_in_a_second(bench: Bench) -> None:
    """Several people at once, by handlers that share the account: the stand-in refuses the sixth search in
    any second, and none is refused.
    """
    handlers = [bench.hubspot(), bench.hubspot()]
    outcomes = []

    async def locate(number: int) -> None:
        person = Identifier("email", f"p{number}@example.com")
        outcomes.append(await handlers[number % 2].locate(bench.task("locate", person)))

    async with anyio.create_task_group() as tasks:
        for number in range(7):
            tasks.start_soon(locate, number)
    assert [Absent] * 7 == [type(one) for one in outcomes]


@pytest.mark.parametrize(
    ("stated", "hours"), [({}, 21), ({"time_zone": "America/New_York"}, 4), ({"time_zone": "UTC"}, 24)]
)
async def test_a_daily_limit_on_the_very_first_call_waits_for_a_midnight_that_is_the_accounts(
    bench: Bench, stated: dict[str, Any], hours: int
) -> None:
    """The account could not say its zone yet: the settings' counts, or else the installation's; once it has
    said it (Stockholm, here), that one.
    """
    handler = bench.hubspot(**stated)
    bench.sandbox.fault("429", vendor="hubspot", policy="DAILY")
    with pytest.raises(Retryable, match=r"^daily_limit$") as caught:
        await handler.locate(bench.task("locate"))
    assert hours * HOUR == caught.value.retry_after
    bench.clock.now += 6 * HOUR
    await handler.locate(bench.task("locate"))
    bench.sandbox.fault("429", vendor="hubspot", policy="DAILY")
    with pytest.raises(Retryable, match=r"^daily_limit$") as caught:
        await handler.locate(bench.task("locate"))
    assert 16 * HOUR == caught.value.retry_after


async def test_a_search_that_lags_behind_finds_nobody_who_is_gone(bench: Bench) -> None:
    """For some seconds a search shows the erased contact; reading it by id says that it is gone."""
    contact(bench)
    bench.clock.pass_seconds(60)
    handler = bench.hubspot()
    references = await bench.erased(handler)
    proved = await handler.prove(bench.task("prove", references=references, erased_at=bench.clock()))
    assert isinstance(proved, Proved)


async def test_paths_carry_the_version_that_the_settings_name(bench: Bench) -> None:
    """A new version is a line in the settings, in every path that has one."""
    contact(bench)
    seen: list[str] = []
    handler = bench.hubspot(version="2027-09")
    for client in (handler._records._client, handler._records._searches):
        client._http.event_hooks["request"].append(_noted(seen))
    references = await bench.erased(handler)
    await handler.prove(bench.task("prove", references=references, erased_at=bench.clock()))
    assert [] == [path for path in seen if "/2027-09/" not in path]
    assert {"account-info", "crm", "communication-preferences"} == {one.split("/")[2] for one in seen}


def _noted(seen: list[str]) -> Any:
    async def note(request: Any) -> None:
        seen.append(request.url.path)

    return note


async def test_an_archived_contact_is_still_held_and_is_erased(bench: Bench) -> None:
    """Somebody had archived the contact; for 90 days that is a person still held."""
    id_ = contact(bench)
    handler = bench.hubspot()
    archive = bench.clients.client(
        "http://sandbox/hubspot", headers={"Authorization": "Bearer sandbox-hubspot-token"}
    )
    await archive.call("DELETE", f"/crm/objects/2026-03/contacts/{id_}")
    await bench.erased(handler)
    assert [id_] == bench.effects("hubspot", "gdpr_deleted")


async def test_nothing_found_is_absent_only_with_the_control_contact_in_sight(bench: Bench) -> None:
    """A token without the right to read finds nobody, the control contact among them."""
    bench.sandbox.seed({"hubspot": {"contacts": [{"email": CONTROL}]}})
    handler = bench.hubspot(control_email=CONTROL)
    assert isinstance(await handler.locate(bench.task("locate")), Absent)
    bench.sandbox.fault("no_rights", vendor="hubspot", path="contacts", times=None)
    for verb in ("locate", "prove"):
        with pytest.raises(Permanent, match=r"^control_record_not_found$"):
            await getattr(handler, verb)(bench.task("locate"))


@pytest.mark.parametrize("verb", ["locate", "erase", "prove"])
async def test_a_token_for_another_account_reads_as_nothing(bench: Bench, verb: str) -> None:
    """Another portal answers: an error for every verb, and no effect in it."""
    contact(bench)
    handler = bench.hubspot()
    references = (await handler.locate(bench.task("locate"))).references
    bench.sandbox.fault("wrong_account", vendor="hubspot", times=None)
    with pytest.raises(Permanent, match=r"^wrong_account$"):
        await getattr(handler, verb)(bench.task("locate", references=references))
    assert [] == bench.effects("hubspot", "gdpr_deleted")


async def test_a_contact_that_got_another_address_beside_the_persons_is_erased_all_the_same(
    bench: Bench,
) -> None:
    """The erasure goes by id, and opts the new address out, too."""
    id_ = contact(bench, additional_emails=["anna.ek@example.com"])
    known = (Identifier("email", ANNA), Identifier("email", "anna.ek@example.com"))
    handler = bench.hubspot()
    references = (await handler.locate(bench.task("locate", *known))).references
    bench.sandbox.fault("rename", vendor="hubspot", path="details", record=id_, email="new@example.com")
    await handler.erase(bench.task("erase", *known, references=references))
    assert [id_] == bench.effects("hubspot", "gdpr_deleted")
    assert 2 == len(bench.sandbox.ledger(vendor="hubspot", effect="unsubscribed"))


async def test_a_lost_answer_is_repeated_and_counted_as_repeated(bench: Bench) -> None:
    """The erasure happened and its answer was lost; the next attempt says so."""
    contact(bench)
    handler = bench.hubspot()
    references = (await handler.locate(bench.task("locate"))).references
    bench.sandbox.fault("lost_response", vendor="hubspot", path="gdpr-delete")
    with pytest.raises(Retryable, match=r"^connection_lost$"):
        await handler.erase(bench.task("erase", references=references))
    accepted = await handler.erase(bench.task("erase", references=references))
    assert isinstance(accepted, Accepted)
    assert (1, "1") == (accepted.erased, accepted.evidence["repeated"])


async def test_a_contact_that_a_sync_makes_anew_is_reported_and_not_erased(bench: Bench) -> None:
    """SuperOffice still holds the person, and its sync makes the contact again: the DPO decides."""
    bench.sandbox.seed({"superoffice": {"persons": [{"email": ANNA}]}})
    contact(bench)
    handler = bench.hubspot()
    bench.sandbox.fault("recreate", vendor="hubspot", path="gdpr-delete", seconds=3600)
    references = await bench.erased(handler)
    erased_at = bench.clock()
    bench.clock.pass_days(1)
    again = await handler.prove(bench.task("prove", references=references, erased_at=erased_at))
    assert isinstance(again, Reappeared)
    assert 1 == len(bench.effects("hubspot", "gdpr_deleted"))


async def test_a_contact_older_than_the_erasure_reopens(bench: Bench) -> None:
    """A contact that was there all along, and was missed, is still present."""
    contact(bench)
    handler = bench.hubspot()
    references = await bench.erased(handler)
    erased_at = bench.clock()
    missed = contact(bench, created_at=erased_at - DAY)
    still = await handler.prove(bench.task("prove", references=references, erased_at=erased_at))
    assert isinstance(still, StillPresent)
    assert [missed] == [one.id for one in still.references]


@pytest.mark.parametrize(
    ("kind", "more", "code", "retry_after"),
    [
        ("429", {}, "rate_limited", None),
        ("429", {"retry_after": 10}, "rate_limited", 10_000_000),
        ("429", {"policy": "DAILY"}, "daily_limit", 22 * HOUR),
        ("423", {}, "locked", 2_000_000),
        ("477", {"retry_after": 30}, "migrating", 30_000_000),
        ("500", {}, "vendor_error", None),
        ("reset", {}, "connection_lost", None),
        ("malformed", {}, "malformed_answer", None),
    ],
)
async def test_a_fault_that_may_pass_is_retryable(
    bench: Bench, kind: str, more: dict[str, Any], code: str, retry_after: int | None
) -> None:
    """Each with its code; a spent daily limit waits for the account's midnight, 22 hours from 02:00."""
    contact(bench)
    handler = bench.hubspot()
    await handler.locate(bench.task("locate"))
    bench.sandbox.fault(kind, vendor="hubspot", path="contacts/anna", **more)
    with pytest.raises(Retryable) as caught:
        await handler.locate(bench.task("locate"))
    assert (code, retry_after) == (caught.value.code, caught.value.retry_after)
    bench.clock.now += retry_after or 0
    assert isinstance(await handler.locate(bench.task("locate")), Located)


async def test_a_daily_limit_is_asked_about_once_for_the_whole_account(bench: Bench) -> None:
    """HubSpot names no time, but its day's end is known: until then no command asks, nor a search."""
    handler = bench.hubspot()
    bench.sandbox.fault("429", vendor="hubspot", policy="DAILY", times=None)
    with pytest.raises(Retryable, match=r"^daily_limit$"):
        await handler.locate(bench.task("locate"))
    bench.sandbox.clear_faults()
    for _ in range(5):
        with pytest.raises(NotAsked, match=r"^told_to_wait$"):
            await handler.locate(bench.task("locate"))
    with pytest.raises(NotAsked, match=r"^told_to_wait$"):
        await handler._records.by_further_addresses(["anna@example.com"], {})


async def test_a_wrong_token_is_for_a_person_to_mend(bench: Bench) -> None:
    """A 401 cannot be renewed with a fixed token."""
    with pytest.raises(Permanent, match=r"^credentials_refused$"):
        await bench.hubspot(token=bench.secret("wrong", "wrong")).locate(bench.task("locate"))


async def test_nothing_is_erased_past_the_commands_time(bench: Bench) -> None:
    """Opting out took too long: the erasure isn't sent."""
    contact(bench)
    handler = bench.hubspot()
    references = (await handler.locate(bench.task("locate"))).references
    bench.sandbox.fault("slow", vendor="hubspot", path="unsubscribe-all", seconds=20)
    with pytest.raises(Expired):
        await handler.erase(bench.task("erase", references=references, life=10_000_000))
    assert [] == bench.effects("hubspot", "gdpr_deleted")


async def test_what_it_cannot_do_it_says(bench: Bench) -> None:
    """No address, nothing to erase, no webhook: each has its answer."""
    handler = bench.hubspot()
    result = await handler.locate(bench.task("locate", Identifier("phone", "+46701234567")))
    assert isinstance(result, NotIdentifiable)
    with pytest.raises(Permanent, match=r"^nothing_to_erase$"):
        await handler.erase(bench.task("erase"))
    with pytest.raises(Refused, match=r"^webhook_not_configured$"):
        await handler.receive(bench.callback(b"{}", {}))
