"""What has to hold of this handler: the promises of every handler, and what is the vendor's own."""

import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from radera_helpdesk.helpdesk import HelpDesk, HelpDeskSettings
from stand_in import TOKEN, HelpDeskVendor

from handlers.checking import Finding
from handlers.conformance import broken_promises
from handlers.places import PlaceUnreadable
from handlers.port import CallbackBody, Permanent, Reference, Refused, Task
from handlers.registry import Context, find
from handlers.results import (
    Absent,
    Accepted,
    Ambiguous,
    Located,
    NotIdentifiable,
    Proved,
    Reappeared,
    StillAmbiguous,
    StillPresent,
    VendorPurged,
)
from orchestrator.http import Clients
from orchestrator.privacy import Digests, Identifier, Identifiers
from schemas.messages import Place, Verb

pytestmark = pytest.mark.anyio
ANNA = "anna@example.com"
CONTROL = "control@example.com"
HOOK_SECRET = "hook-secret"
NOW = 1_788_220_800_000_000
HOUR = 3_600_000_000
LONG_AGO = "2024-02-01T00:00:00Z"
LATER = "2026-09-01T01:00:00Z"
JUST_BEFORE = "2026-08-31T23:59:00Z"


@pytest.fixture
def anyio_backend() -> str:
    """Radera's own event loop."""
    return "asyncio"


class Bench:
    """A workspace with Anna and her tickets, Beata, and the control record; and the handler for it."""

    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.vendor = HelpDeskVendor()
        for id_, email in (("p1", ANNA), ("p2", "beata@example.com"), ("p0", CONTROL)):
            self.vendor.people[id_] = {"email": email, "created_at": LONG_AGO}
        self.vendor.tickets = {"t1": "p1", "t2": "p1", "t3": "p1", "t9": "p2"}
        self._folder = folder

    def handler(self, clients: Clients | None = None, **changed: Any) -> HelpDesk:
        """As a settings file has it."""
        settings = {
            "workspace": "acme",
            "token": self._secret("token", TOKEN),
            "webhook_secret": self._secret("hook", HOOK_SECRET),
            "control_email": CONTROL,
            "calls_per_second": 50,
            **changed,
        }
        context = Context(
            system="support",
            clock=lambda: self.now,
            clients=clients or Clients(clock=lambda: self.now, transport=self.vendor.transport()),
            correlate=Digests(bytes(32)).correlation,
        )
        return HelpDesk(HelpDeskSettings.model_validate(settings), context)

    def _secret(self, name: str, value: str) -> dict[str, str]:
        path = self._folder / name
        path.write_text(value)
        return {"file": str(path)}

    def task(
        self, verb: Verb, references: tuple[Reference, ...] = (), *kinds: Identifier, **more: Any
    ) -> Task:
        stated = {"not_after": self.now + HOUR, **more}
        return Task(
            request_id="0b7c8f5e-3f5d-4c7e-9a51-6f0c2d1e4a77",
            system="support",
            verb=verb,
            attempt=1,
            identifiers=Identifiers(kinds or (Identifier("email", ANNA),)),
            references=references,
            issued_at=self.now,
            clock=lambda: self.now,
            **stated,
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


class Stage(Bench):
    """The workspace as `conformance` wants it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.identifiers = Identifiers((Identifier("email", ANNA),))
        self.transport = self.vendor.transport()

    def clock(self) -> int:
        return self.now

    def effects(self) -> list[str]:
        return self.vendor.effects

    def change_account(self) -> None:
        self.vendor.workspace = "somebody-else"


async def test_it_keeps_what_a_handler_promises(tmp_path: Path) -> None:
    """Every promise of the port, with each fault at each call."""
    assert [] == await broken_promises(lambda: Stage(tmp_path))


async def test_a_person_goes_with_all_that_hangs_on_them(bench: Bench) -> None:
    """Every page of tickets is found, children go first, it is seen to be done; nobody else is touched."""
    handler = bench.handler()
    references = (await handler.locate(bench.task("locate"))).references
    await handler.erase(bench.task("erase", references))
    result = await handler.prove(bench.task("prove", references, erased_at=NOW))
    assert isinstance(result, Proved)
    assert "seen_absent" == result.grade
    assert ["ticket t1", "ticket t2", "ticket t3", "person p1"] == bench.vendor.effects
    assert {"p2", "p0"} == set(bench.vendor.people)
    assert {"t9"} == set(bench.vendor.tickets)


async def test_an_absence_needs_the_control_record(bench: Bench) -> None:
    """Nobody is found and the control record is: absent. Neither is found: we don't see people."""
    handler = bench.handler()
    nobody = Identifier("email", "nobody@example.com")
    assert isinstance(await handler.locate(bench.task("locate", (), nobody)), Absent)
    del bench.vendor.people["p0"]
    with pytest.raises(Permanent, match="control_record_not_found"):
        await handler.locate(bench.task("locate", (), nobody))


async def test_an_erasure_can_be_repeated(bench: Bench) -> None:
    """After a lost answer the same command comes again: what is gone counts as erased, and as repeated."""
    handler = bench.handler()
    references = (await handler.locate(bench.task("locate"))).references
    for repeated in (None, "4"):
        accepted = await handler.erase(bench.task("erase", references))
        assert isinstance(accepted, Accepted)
        assert (4, repeated) == (accepted.erased, accepted.evidence.get("repeated"))
    assert 4 == len(bench.vendor.effects)


async def test_what_comes_back_is_told_apart(bench: Bench) -> None:
    """Older than the erasure: still present, to be erased again. Newer, or made when the clocks may differ:
    it may be new consent.
    """
    handler = bench.handler()
    references = (await handler.locate(bench.task("locate"))).references
    await handler.erase(bench.task("erase", references))
    for created_at, expected in ((LONG_AGO, StillPresent), (LATER, Reappeared), (JUST_BEFORE, Reappeared)):
        bench.vendor.people["p7"] = {"email": ANNA, "created_at": created_at}
        result = await handler.prove(bench.task("prove", references, erased_at=NOW))
        assert isinstance(result, expected)


async def test_a_filter_that_is_not_honoured_names_nobody(bench: Bench) -> None:
    """A server that ignores the filter would have us erase other people."""
    handler = bench.handler(control_email=None)
    real = bench.vendor.answer

    def other(method: str, target: str, headers: Any) -> tuple[int, Any]:
        status, content = real(method, target, headers)
        if target.partition("?")[0].endswith("/people"):
            content = {"rows": [{"id": "p0", **bench.vendor.people["p0"]}]}
        return status, content

    bench.vendor.answer = other  # type: ignore[method-assign] # this vendor ignores the filter
    with pytest.raises(Permanent, match="filter_not_honoured"):
        await handler.locate(bench.task("locate"))


async def test_every_place_is_reported_with_what_it_was_searched_by(bench: Bench) -> None:
    """Before the erasure and after it; a telephone number, by which nobody can be found, is not told as
    searched.
    """
    handler = bench.handler()
    known = (Identifier("email", ANNA), Identifier("phone", "+46701234567"))
    located = await handler.locate(bench.task("locate", (), *known))
    await handler.erase(bench.task("erase", located.references, *known))
    proved = await handler.prove(bench.task("prove", located.references, *known, erased_at=NOW))
    people = Place(name="people", looked=True, by={"email": 1}, not_by={"phone": 1})
    assert [(people, Place(name="tickets", looked=True))] * 2 == [located.places, proved.places]


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize(("end", "place"), [("/people", "people"), ("/p1/tickets", "tickets")])
async def test_a_list_that_cannot_be_read_is_never_empty(
    bench: Bench, end: str, place: str, status: int
) -> None:
    """A right that is missing looks like nothing found; the place is named instead."""
    real = bench.vendor.answer

    def refuses(method: str, target: str, headers: Any) -> tuple[int, Any]:
        is_it = target.partition("?")[0].endswith(end)
        return (status, {"error": "no"}) if is_it else real(method, target, headers)

    bench.vendor.answer = refuses  # type: ignore[method-assign] # this vendor refuses the list
    with pytest.raises(PlaceUnreadable, match=f"^place_unreadable.{place}$"):
        await bench.handler(control_email=None).locate(bench.task("locate"))


async def test_several_people_with_one_address_are_the_dpos_to_decide(bench: Bench) -> None:
    """His word is about those that there were: with one more, or another in its place, he is asked again."""
    bench.vendor.people["p2"]["email"] = ANNA
    handler = bench.handler()
    asked = await handler.locate(bench.task("locate"))
    assert isinstance(asked, Ambiguous)
    assert (2, ()) == (asked.count, asked.references)
    assert isinstance(await handler.locate(bench.task("locate", takes_all=2)), Located)
    bench.vendor.people["p3"] = {"email": ANNA, "created_at": LONG_AGO}
    assert isinstance(await handler.locate(bench.task("locate", takes_all=2)), Ambiguous)
    del bench.vendor.people["p2"]
    assert isinstance(await handler.locate(bench.task("locate", takes_all=2, asked=asked.asked)), Ambiguous)
    assert isinstance(await bench.handler(ambiguous="all").locate(bench.task("locate")), Located)


async def test_who_is_somebody_else_by_now_is_not_erased(bench: Bench) -> None:
    """The located person has another address, and keeps their tickets. The DPO is asked; if it is the same
    person, his "erase" has them found as they are now.
    """
    handler = bench.handler()
    references = (await handler.locate(bench.task("locate"))).references
    bench.vendor.people["p1"]["email"] = "new@example.com"
    accepted = await handler.erase(bench.task("erase", references))
    assert isinstance(accepted, Accepted)
    assert (0, {"records_changed": "4"}) == (accepted.erased, accepted.evidence)
    assert [] == bench.vendor.effects
    asked = await handler.prove(bench.task("prove", references, erased_at=NOW))
    assert isinstance(asked, StillAmbiguous)
    agreed = await handler.locate(bench.task("locate", references, takes_all=asked.count))
    await handler.erase(bench.task("erase", agreed.references))
    assert ["ticket t1", "ticket t2", "ticket t3", "person p1"] == bench.vendor.effects


async def test_a_ticket_that_is_another_persons_by_now_stays(bench: Bench) -> None:
    """It was moved to Beata: what was reached by a reference has to carry it."""
    handler = bench.handler()
    references = (await handler.locate(bench.task("locate"))).references
    bench.vendor.tickets["t2"] = "p2"
    await handler.erase(bench.task("erase", references))
    assert ["ticket t1", "ticket t3", "person p1"] == bench.vendor.effects
    asked = await handler.prove(bench.task("prove", references, erased_at=NOW))
    assert isinstance(asked, StillAmbiguous)


async def test_whom_it_cannot_know_it_says(bench: Bench) -> None:
    """Without an address nobody can be told apart, and the person can be asked for one (Art. 11)."""
    result = await bench.handler().locate(bench.task("locate", (), Identifier("phone", "+46701234567")))
    assert isinstance(result, NotIdentifiable)
    assert ("email",) == result.missing
    with pytest.raises(Permanent, match="nothing_to_erase"):
        await bench.handler().erase(bench.task("erase"))


def _callback(body: bytes, secret: str = HOOK_SECRET) -> CallbackBody:
    signature = hmac.digest(secret.encode(), body, "sha256").hex()
    return CallbackBody(token=None, headers={"x-helpdesk-signature": signature}, body=body, received_at=NOW)


async def test_a_signed_event_leads_to_the_step_that_it_is_about(bench: Bench) -> None:
    """It has the correlation that the acceptance announced, and no id in clear."""
    handler = bench.handler()
    references = (await handler.locate(bench.task("locate"))).references
    accepted = await handler.erase(bench.task("erase", references))
    said = {"event": "person.purged", "workspace": "acme", "person": "p1"}
    received = await handler.receive(_callback(json.dumps(said).encode()))
    assert isinstance(received.result, VendorPurged)
    assert (received.correlation,) == accepted.correlations


@pytest.mark.parametrize(
    ("changed", "secret", "code"),
    [
        ({}, "another-secret", "signature_invalid"),
        ({"workspace": "somebody-else"}, HOOK_SECRET, "wrong_account"),
        ({"event": "person.created"}, HOOK_SECRET, "event_not_used"),
        ({"person": None, "event": None}, HOOK_SECRET, "event_not_used"),
    ],
)
async def test_an_event_that_nobody_should_believe(
    bench: Bench, changed: dict[str, Any], secret: str, code: str
) -> None:
    """Forged, another's, or about something else: refused with a code, and never an error."""
    said = {"event": "person.purged", "workspace": "acme", "person": "p1", **changed}
    with pytest.raises(Refused, match=code):
        await bench.handler().receive(_callback(json.dumps(said).encode(), secret))


def _states(findings: tuple[Finding, ...]) -> dict[str, str]:
    return {one.aspect: one.state for one in findings}


async def test_a_system_can_be_checked_before_any_request(bench: Bench) -> None:
    """Everything that can be shown is shown, and what is wrong names the settings that mend it."""
    assert {
        "reachable": "ok",
        "credentials": "ok",
        "account": "ok",
        "rights": "unknown",
        "control": "ok",
    } == _states(await bench.handler().check())
    bench.vendor.workspace = "somebody-else"
    failed = [one for one in await bench.handler().check() if one.state == "failed"]
    assert [("account", ("workspace", "token"))] == [(one.aspect, one.settings) for one in failed]
    assert [] == bench.vendor.effects


def test_radera_finds_it() -> None:
    """Installed, it is a kind like any other."""
    assert "radera_helpdesk.helpdesk" == find()["helpdesk"].__module__
