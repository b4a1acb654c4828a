"""HubSpot: where it was looked, what hangs on a contact, and records that are another's by now."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from handlers.conformance import broken_promises
from handlers.places import PlaceUnreadable
from handlers.port import Permanent, Retryable
from handlers.results import (
    Absent,
    Accepted,
    Ambiguous,
    Located,
    NotIdentifiable,
    Proved,
    Reappeared,
    Result,
    StillAmbiguous,
    StillPresent,
)
from orchestrator.http import Clients
from orchestrator.privacy import Identifier, Identifiers
from schemas.messages import Place
from tests.contract.handlers_bench import ANNA, DAY, Bench
from tests.contract.scripted import Scripted

pytestmark = pytest.mark.anyio
CONTROL = "control@example.com"
MINUTE = 60_000_000
NEW = "new@example.com"
HANGING = ("tickets", "notes", "calls", "deals")
SEARCHED = ("contacts", "archived_contacts", "secondary_addresses")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def contact(bench: Bench, **stated: Any) -> str:
    stated = {"created_at": bench.clock() - 300 * DAY, "email": ANNA, **stated}
    ids = bench.sandbox.seed({"hubspot": {"contacts": [stated]}})
    bench.clock.pass_seconds(60)
    return ids["hubspot.contact"][-1]


def places(result: Result) -> dict[str, Place]:
    return {place.name: place for place in result.places}


def shown(request: httpx.Request, id_: str, email: str, **more: Any) -> httpx.Response:
    """A contact as HubSpot shows it."""
    properties = {"createdate": "2024-01-01T00:00:00Z", "email": email, "hs_additional_emails": "", **more}
    return httpx.Response(200, json={"id": id_, "properties": properties}, request=request)


# --- places


async def test_every_place_is_reported_with_what_it_was_searched_by(bench: Bench) -> None:
    """Two addresses and a telephone number are given; HubSpot is searched by the addresses alone, before the
    erasure and after it.
    """
    contact(bench)
    known = (Identifier("email", ANNA), Identifier("email", NEW), Identifier("phone", "+46701234567"))
    handler = bench.hubspot()
    located = await handler.locate(bench.task("locate", *known))
    await handler.erase(bench.task("erase", *known, references=located.references))
    task = bench.task("prove", *known, references=located.references, erased_at=bench.clock())
    for result in (located, await handler.prove(task)):
        assert [one.name for one in handler.places] == [one.name for one in result.places]
        for name in SEARCHED:
            expected = Place(name=name, looked=True, by={"email": 2}, not_by={"phone": 1})
            assert expected == places(result)[name]
        for name in HANGING:
            assert Place(name=name, looked=True) == places(result)[name]


async def test_places_that_the_settings_leave_out_are_told(bench: Bench) -> None:
    """No search for secondary addresses, no right to read deals: nobody may take them for searched."""
    contact(bench)
    handler = bench.hubspot(secondary="lookup", hanging=["tickets"])
    located = await handler.locate(bench.task("locate"))
    skipped = {name for name, place in places(located).items() if place.reason == "not_configured"}
    assert {"secondary_addresses", "notes", "calls", "deals"} == skipped
    assert [] == [place for place in located.places if place.looked is (place.name in skipped)]


async def test_without_an_address_no_place_was_looked_at(bench: Bench) -> None:
    """A telephone number finds nobody in HubSpot, and the report says why nothing was searched."""
    result = await bench.hubspot().locate(bench.task("locate", Identifier("phone", "+46701234567")))
    assert isinstance(result, NotIdentifiable)
    assert {(False, "no_identifier")} == {(place.looked, place.reason) for place in result.places}


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize(
    ("method", "path", "place"),
    [
        ("POST", "/contacts/search$", "secondary_addresses"),
        ("GET", "/associations/tickets$", "tickets"),
        ("GET", "/associations/deals$", "deals"),
    ],
)
async def test_a_list_that_cannot_be_read_is_never_empty(
    bench: Bench, method: str, path: str, place: str, status: int
) -> None:
    """A missing right and a missing list look like nothing found; the step names the place instead."""
    contact(bench)
    script = Scripted(bench)
    script.says(method, path, status, {"status": "error", "category": "MISSING_SCOPES"})
    with pytest.raises(PlaceUnreadable, match=f"^place_unreadable.{place}$"):
        await bench.hubspot().locate(bench.task("locate"))


@pytest.mark.parametrize("archived", ["false", "true"])
async def test_a_refused_look_up_is_never_nobody(bench: Bench, archived: str) -> None:
    """404 is HubSpot's word for nobody; 403 is none."""
    script = Scripted(bench)

    def refuse(request: httpx.Request) -> httpx.Response | None:
        is_it = request.url.params.get("archived") == archived
        return httpx.Response(403, json={}, request=request) if is_it else None

    script.answers("GET", "/contacts/", refuse)
    place = "archived_contacts" if archived == "true" else "contacts"
    with pytest.raises(PlaceUnreadable, match=f"^place_unreadable.{place}$"):
        await bench.hubspot().locate(bench.task("locate"))


async def test_a_scope_that_the_token_lacks_is_named_by_its_place(bench: Bench) -> None:
    """The stand-in refuses deals as HubSpot does; without them in the settings the step goes on."""
    bench.sandbox.seed({"hubspot": {"scopes": ["crm.objects.contacts.read", "tickets"]}})
    contact(bench)
    with pytest.raises(PlaceUnreadable, match=r"^place_unreadable.deals$"):
        await bench.hubspot().locate(bench.task("locate"))
    handler = bench.hubspot(hanging=["tickets", "notes", "calls"])
    assert isinstance(await handler.locate(bench.task("locate")), Located)


async def test_an_absence_says_whether_a_control_record_was_seen(bench: Bench) -> None:
    """Without one, an account that answers 404 to everything looks the same."""
    contact(bench, email=CONTROL)
    for control, said in ((None, "account"), (CONTROL, "account_and_record")):
        absent = await bench.hubspot(control_email=control).locate(bench.task("locate"))
        assert isinstance(absent, Absent)
        assert {"control": said} == absent.control.evidence()


# --- what hangs on a contact


async def test_what_hangs_on_a_contact_is_counted_and_told_as_left(bench: Bench) -> None:
    """It survives the contact; after the erasure nothing leads to it, so it is counted by its ids."""
    contact(bench, associations={"tickets": (1001, 1002), "notes": (2001,)})
    handler = bench.hubspot()
    located = await handler.locate(bench.task("locate"))
    left = {name: value for name, value in located.evidence.items() if name.endswith("_left")}
    assert {"tickets_left": "2", "notes_left": "1", "calls_left": "0", "deals_left": "0"} == left
    accepted = await handler.erase(bench.task("erase", references=located.references))
    assert isinstance(accepted, Accepted)
    assert 1 == accepted.erased
    bench.sandbox.store.drop("hubspot.object", "notes:2001")
    task = bench.task("prove", references=located.references, erased_at=bench.clock())
    proved = await handler.prove(task)
    assert isinstance(proved, Proved)
    assert ("2", "0") == (proved.evidence["tickets_left"], proved.evidence["notes_left"])


async def test_what_hangs_on_an_archived_contact_is_never_told_as_nothing(bench: Bench) -> None:
    """It leads to nothing any more. What is known of another contact's is counted; that nobody could look is
    told by the search, and by the proof, when there is no archived contact to be seen.
    """
    archived = contact(bench, associations={"tickets": (1001,)})
    live = contact(bench, email=NEW, associations={"notes": (2001,)})
    archive = bench.clients.client(
        "http://sandbox/hubspot", headers={"Authorization": "Bearer sandbox-hubspot-token"}
    )
    await archive.call("DELETE", f"/crm/objects/2026-03/contacts/{archived}")
    known = (Identifier("email", ANNA), Identifier("email", NEW))
    handler = bench.hubspot()
    located = await handler.locate(bench.task("locate", *known))
    assert {archived, live} == {one.id for one in located.references if one.kind == "contact"}
    await handler.erase(bench.task("erase", *known, references=located.references))
    task = bench.task("prove", *known, references=located.references, erased_at=bench.clock())
    proved = await handler.prove(task)
    assert isinstance(proved, Proved)
    for result in (located, proved):
        left = {name: value for name, value in result.evidence.items() if name.endswith("_left")}
        assert {"notes_left": "1"} == left
        for name in HANGING:
            assert Place(name=name, looked=True, reason="archived_contact") == places(result)[name]
        assert all(places(result)[name].looked for name in SEARCHED)


async def test_an_archived_contact_that_a_proof_finds_first_ends_in_a_proof(bench: Bench) -> None:
    """What hangs on it can't be seen, then and later. The search saw what hung on another contact, and the
    proof that follows goes no less far than that search: it can end the step.
    """
    contact(bench, associations={"tickets": (1001,)})
    handler = bench.hubspot()
    located = await handler.locate(bench.task("locate"))
    await handler.erase(bench.task("erase", references=located.references))
    erased_at = bench.clock()
    second = contact(bench, associations={"tickets": (1002,)})
    archive = bench.clients.client(
        "http://sandbox/hubspot", headers={"Authorization": "Bearer sandbox-hubspot-token"}
    )
    await archive.call("DELETE", f"/crm/objects/2026-03/contacts/{second}")
    seen = await handler.prove(bench.task("prove", references=located.references, erased_at=erased_at))
    assert isinstance(seen, StillPresent)
    known = (*located.references, *seen.references)
    await handler.erase(bench.task("erase", references=known))
    proved = await handler.prove(bench.task("prove", references=known, erased_at=bench.clock()))
    assert isinstance(proved, Proved)
    looked = {place.name for place in located.places if place.looked}
    assert looked <= {place.name for place in proved.places if place.looked}
    assert {"archived_contact"} == {places(proved)[name].reason for name in HANGING}


async def test_what_hung_on_a_contact_that_was_archived_later_was_listed(bench: Bench) -> None:
    """A colleague archives the contact between the search and the proof: the search had seen what hangs."""
    id_ = contact(bench, associations={"tickets": (1001,)})
    handler = bench.hubspot()
    located = await handler.locate(bench.task("locate"))
    archive = bench.clients.client(
        "http://sandbox/hubspot", headers={"Authorization": "Bearer sandbox-hubspot-token"}
    )
    await archive.call("DELETE", f"/crm/objects/2026-03/contacts/{id_}")
    task = bench.task("prove", references=located.references, erased_at=bench.clock())
    seen = await handler.prove(task)
    assert isinstance(seen, StillPresent)
    assert ("1", True) == (seen.evidence["tickets_left"], places(seen)["tickets"].looked)


async def test_every_page_of_what_hangs_is_read(bench: Bench) -> None:
    """Five hundred a page, and one more."""
    contact(bench, associations={"calls": tuple(range(3000, 3501))})
    located = await bench.hubspot().locate(bench.task("locate"))
    assert "501" == located.evidence["calls_left"]


async def test_what_hangs_and_cannot_be_read_by_its_ids_is_not_gone(bench: Bench) -> None:
    """An error other than "not found" leaves out what nobody knows."""
    contact(bench, associations={"tickets": (1001,)})
    handler = bench.hubspot()
    references = await bench.erased(handler)
    script = Scripted(bench)
    error = {"category": "MISSING_SCOPES"}
    script.says("POST", "/tickets/batch/read$", 207, {"results": [], "numErrors": 1, "errors": [error]})
    task = bench.task("prove", references=references, erased_at=bench.clock())
    with pytest.raises(PlaceUnreadable, match=r"^place_unreadable.tickets$"):
        await bench.hubspot().prove(task)


# --- records that are another's by now


async def test_an_old_id_that_answers_with_another_contact_erases_nothing(bench: Bench) -> None:
    """The contact was merged into somebody else's: by the old id that one would be erased."""
    id_ = contact(bench)
    handler = bench.hubspot()
    references = (await handler.locate(bench.task("locate"))).references
    other = contact(bench, email="beata@example.com")
    script = Scripted(bench)
    script.answers("GET", f"/contacts/{id_}$", lambda request: shown(request, other, "beata@example.com"))
    handler = bench.hubspot()
    accepted = await handler.erase(bench.task("erase", references=references))
    assert isinstance(accepted, Accepted)
    assert (0, "1") == (accepted.erased, accepted.evidence["records_changed"])
    assert [] == bench.effects("hubspot", "gdpr_deleted")
    assert [] == bench.effects("hubspot", "unsubscribed")


async def test_a_contact_without_the_persons_addresses_is_asked_about(bench: Bench) -> None:
    """It has the id that was located and another address: a new one of Anna's, or Beata's. The DPO is asked,
    and his "erase" counts for the address that it had then.
    """
    id_ = contact(bench)
    handler = bench.hubspot()
    references = (await handler.locate(bench.task("locate"))).references
    bench.sandbox.fault("rename", vendor="hubspot", path="details", record=id_, email=NEW)
    accepted = await handler.erase(bench.task("erase", references=references))
    assert "1" == accepted.evidence["records_changed"]
    proving = bench.task("prove", references=references, erased_at=bench.clock())
    asked = await handler.prove(proving)
    assert isinstance(asked, StillAmbiguous)
    assert (1, "1") == (asked.count, asked.evidence["records_changed"])
    assert () == asked.references
    assert isinstance(await handler.locate(bench.task("locate", references=references)), Ambiguous)
    agreed = await handler.locate(bench.task("locate", references=references, takes_all=1))
    assert isinstance(agreed, Located)
    assert isinstance(await handler.prove(bench.task("prove", references=agreed.references)), StillPresent)
    bench.sandbox.fault("rename", vendor="hubspot", path="details", record=id_, email="third@example.com")
    again = await handler.erase(bench.task("erase", references=agreed.references))
    assert "1" == again.evidence["records_changed"]
    bench.sandbox.fault("rename", vendor="hubspot", path="details", record=id_, email=NEW)
    await handler.erase(bench.task("erase", references=agreed.references))
    assert [id_] == bench.effects("hubspot", "gdpr_deleted")


async def test_a_survivor_of_a_merge_that_has_the_persons_address_is_erased_by_its_own_id(
    bench: Bench,
) -> None:
    """Both old ids answer with a third. It has Anna's address, so that it is found, judged, and erased as
    what it is; the old ids erase nothing.
    """
    old = contact(bench)
    handler = bench.hubspot()
    references = (await handler.locate(bench.task("locate"))).references
    bench.sandbox.store.drop("hubspot.contact", old)
    survivor = contact(bench, email=NEW, additional_emails=[ANNA])
    script = Scripted(bench)
    properties = {"hs_additional_emails": ANNA}
    script.answers("GET", f"/contacts/{old}$", lambda request: shown(request, survivor, NEW, **properties))
    handler = bench.hubspot()
    accepted = await handler.erase(bench.task("erase", references=references))
    assert isinstance(accepted, Accepted)
    assert {"repeated": "1"} == accepted.evidence
    assert [] == bench.effects("hubspot", "gdpr_deleted")
    still = await handler.prove(bench.task("prove", references=references, erased_at=bench.clock()))
    assert isinstance(still, StillPresent)
    assert [survivor] == [one.id for one in still.references if one.kind == "contact"]
    await handler.erase(bench.task("erase", references=(*references, *still.references)))
    assert [survivor] == bench.effects("hubspot", "gdpr_deleted")


async def test_a_look_up_that_answers_with_a_stranger_takes_nobody(bench: Bench) -> None:
    """The row has to carry the address that it was asked for by."""
    script = Scripted(bench)
    script.answers("GET", "/contacts/[^/]+$", lambda request: shown(request, "17", "beata@example.com"))
    with pytest.raises(Permanent, match=r"^filter_not_honoured$"):
        await bench.hubspot().locate(bench.task("locate"))


async def test_several_contacts_with_one_address_are_the_dpos_to_decide(bench: Bench) -> None:
    """One has the address as its own and the other as a secondary one. The DPO's word is about as many as
    there were: one more is asked about again.
    """
    contact(bench)
    contact(bench, email="shared@example.com", additional_emails=[ANNA])
    handler = bench.hubspot()
    asked = await handler.locate(bench.task("locate"))
    assert isinstance(asked, Ambiguous)
    assert (2, "2") == (asked.count, asked.evidence["persons_of_one_address"])
    assert [one.name for one in handler.places] == [one.name for one in asked.places]
    taken = await handler.locate(bench.task("locate", takes_all=2))
    assert isinstance(taken, Located)
    assert 2 == len([one for one in taken.references if one.kind == "contact"])
    contact(bench, email="third@example.com", additional_emails=[ANNA])
    assert isinstance(await handler.locate(bench.task("locate", takes_all=2)), Ambiguous)
    assert isinstance(await bench.hubspot(ambiguous="all").locate(bench.task("locate")), Located)


async def test_the_dpos_erase_is_about_those_contacts_and_not_about_as_many(bench: Bench) -> None:
    """One of the two has left, and a stranger has come: he is asked again, and the stranger stays."""
    contact(bench)
    left = contact(bench, email="shared@example.com", additional_emails=[ANNA])
    asked = await bench.hubspot().locate(bench.task("locate"))
    assert isinstance(asked, Ambiguous)
    bench.sandbox.store.drop("hubspot.contact", left)
    contact(bench, email="third@example.com", additional_emails=[ANNA])
    again = await bench.hubspot().locate(bench.task("locate", takes_all=2, asked=asked.asked))
    assert isinstance(again, Ambiguous)
    assert (2, ()) == (again.count, again.references)
    agreed = await bench.hubspot().locate(bench.task("locate", takes_all=2, asked=again.asked))
    assert isinstance(agreed, Located)


async def test_the_dpos_erase_is_about_a_contact_as_it_was_then(bench: Bench) -> None:
    """It has another address by now, so that it may be another person's."""
    id_ = contact(bench)
    references = (await bench.hubspot().locate(bench.task("locate"))).references
    bench.sandbox.fault("rename", vendor="hubspot", path="details", record=id_, email=NEW)
    asked = await bench.hubspot().locate(bench.task("locate", references=references))
    assert isinstance(asked, Ambiguous)
    bench.sandbox.fault("rename", vendor="hubspot", path="details", record=id_, email="third@example.com")
    decided = bench.task("locate", references=references, takes_all=1, asked=asked.asked)
    assert isinstance(await bench.hubspot().locate(decided), Ambiguous)
    bench.sandbox.fault("rename", vendor="hubspot", path="details", record=id_, email=NEW)
    assert isinstance(await bench.hubspot().locate(decided), Located)


async def test_an_instruction_is_no_answer_to_who_is_meant(bench: Bench) -> None:
    """A controller's "erase" says nothing of how many people share an address."""
    contact(bench)
    contact(bench, email="shared@example.com", additional_emails=[ANNA])
    located = await bench.hubspot().locate(bench.task("locate", instruction="erase"))
    assert isinstance(located, Ambiguous)


async def test_what_a_look_missed_and_several_share_is_asked_about(bench: Bench) -> None:
    """After the erasure two older contacts turn up with one address."""
    contact(bench)
    handler = bench.hubspot()
    references = await bench.erased(handler)
    contact(bench, email="one@example.com", additional_emails=[ANNA])
    contact(bench, email="two@example.com", additional_emails=[ANNA])
    task = bench.task("prove", references=references, erased_at=bench.clock())
    asked = await handler.prove(task)
    assert isinstance(asked, StillAmbiguous)
    assert 2 == asked.count


# --- old and new


@pytest.mark.parametrize(
    ("created", "expected"),
    [
        (-6 * MINUTE, StillPresent),
        (-4 * MINUTE, Reappeared),
        (4 * MINUTE, Reappeared),
        (None, Reappeared),
    ],
)
async def test_only_a_contact_that_is_surely_older_is_erased_again(
    bench: Bench, created: int | None, expected: type[Result]
) -> None:
    """HubSpot's clock may be five minutes behind ours, and who knows no age knows no order: it may be new."""
    contact(bench)
    references = await bench.erased(bench.hubspot())
    erased_at = bench.clock()
    bench.clock.pass_days(1)
    again = contact(bench, created_at=erased_at + (created or 0))
    script = Scripted(bench)
    if created is None:
        script.answers(
            "GET", r"/contacts/[^/]+$", lambda request: shown(request, again, ANNA, createdate=None)
        )
    result = await bench.hubspot().prove(bench.task("prove", references=references, erased_at=erased_at))
    assert expected is type(result)


async def test_how_far_the_clocks_may_differ_is_a_setting(bench: Bench) -> None:
    """An hour, say, where the account's clock is known to be off."""
    contact(bench)
    references = await bench.erased(bench.hubspot())
    erased_at = bench.clock()
    contact(bench, created_at=erased_at - 30 * MINUTE)
    task = bench.task("prove", references=references, erased_at=erased_at)
    assert isinstance(await bench.hubspot(clock_skew="PT1H").prove(task), Reappeared)


async def test_the_purge_runs_from_the_latest_acceptance(bench: Bench) -> None:
    """Erased again on the tenth day, the contact may lie on HubSpot's servers for ten days more."""
    contact(bench)
    handler = bench.hubspot()
    references = await bench.erased(handler)
    times = {"erased_at": bench.clock(), "accepted_at": bench.clock() + 10 * DAY}
    proved = await handler.prove(bench.task("prove", references=references, **times))
    assert "2026-10-11T00:01:00Z" == proved.evidence["purged_by"]


# --- what HubSpot says against it


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_a_refused_opt_out_never_stops_the_erasure(bench: Bench, status: int) -> None:
    """Nobody subscribed, or opted out before: the contact goes all the same, and the evidence says so."""
    id_ = contact(bench)
    references = (await bench.hubspot().locate(bench.task("locate"))).references
    script = Scripted(bench)
    script.says("POST", "/unsubscribe-all$", status, {"status": "error", "message": ANNA})
    accepted = await bench.hubspot().erase(bench.task("erase", references=references))
    assert {"opt_outs_refused": "1"} == accepted.evidence
    assert [id_] == bench.effects("hubspot", "gdpr_deleted")


async def test_an_opt_out_that_tells_errors_is_a_refused_one(bench: Bench) -> None:
    """200, and it was not done."""
    contact(bench)
    references = (await bench.hubspot().locate(bench.task("locate"))).references
    script = Scripted(bench)
    script.says("POST", "/unsubscribe-all$", 200, {"status": "COMPLETE", "errors": [{"category": "OTHER"}]})
    accepted = await bench.hubspot().erase(bench.task("erase", references=references))
    assert {"opt_outs_refused": "1"} == accepted.evidence


@pytest.mark.parametrize(
    "said",
    [{"numErrors": 1}, {"errors": [{"category": "VALIDATION_ERROR"}]}, {"status": "X", "numErrors": 2}],
)
async def test_a_yes_that_tells_errors_is_none(bench: Bench, said: dict[str, Any]) -> None:
    """Multi-status, or a 200 with errors: nothing was accepted, and it is tried again."""
    contact(bench)
    references = (await bench.hubspot().locate(bench.task("locate"))).references
    script = Scripted(bench)
    for status in (200, 207):
        script.says("POST", "/gdpr-delete$", status, said)
        with pytest.raises(Retryable, match=r"^vendor_error$"):
            await bench.hubspot().erase(bench.task("erase", references=references))


async def test_a_yes_that_is_no_answer_of_hubspots_is_none(bench: Bench) -> None:
    """A proxy's page with 200 says nothing of the contact."""
    contact(bench)
    references = (await bench.hubspot().locate(bench.task("locate"))).references
    script = Scripted(bench)
    page = b"<html>maintenance</html>"
    script.answers(
        "POST", "/gdpr-delete$", lambda request: httpx.Response(200, content=page, request=request)
    )
    with pytest.raises(Retryable, match=r"^malformed_answer$"):
        await bench.hubspot().erase(bench.task("erase", references=references))


class Stage:
    """An account with Anna and a ticket of hers, as `conformance` wants it."""

    def __init__(self, folder: Path) -> None:
        self.identifiers = Identifiers((Identifier("email", ANNA),))
        self._bench = Bench(folder)
        self.transport = self._bench.sandbox.transport()
        contact(self._bench, associations={"tickets": (1001,)})

    def clock(self) -> int:
        return self._bench.clock()

    def handler(self, clients: Clients) -> Any:
        self._bench.clients = clients
        return self._bench.hubspot()

    def effects(self) -> list[str]:
        return self._bench.effects("hubspot", "gdpr_deleted")

    def change_account(self) -> None:
        self._bench.sandbox.fault("wrong_account", vendor="hubspot", times=None)


async def test_it_keeps_what_a_handler_promises(tmp_path: Path) -> None:
    """Every place is titled and reported, and searched by each address; the faults have a matrix of their
    own.
    """
    assert [] == await broken_promises(lambda: Stage(tmp_path), faults=())
