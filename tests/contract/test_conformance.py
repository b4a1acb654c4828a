"""The trial of a handler finds what is wrong with one, and nothing wrong with one that is right."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, ClassVar

import httpx
import pytest
from pydantic import BaseModel
from typing_extensions import override

from handlers.conformance import broken_promises
from handlers.places import DeclaredPlace, PlaceUnreadable, Search
from handlers.port import CallbackBody, Control, Reference, Refused, Retryable, Task
from handlers.results import (
    Absent,
    Accepted,
    Located,
    Proved,
    Received,
    Result,
    StillPresent,
    VendorPurged,
)
from orchestrator.http import Client, Clients
from orchestrator.privacy import Identifier, Identifiers
from schemas.messages import Language, Place
from tests.contract.handlers_bench import ANNA

pytestmark = pytest.mark.anyio
NOW = 1_788_220_800_000_000
RECORD = "record-700001"
UNREADABLE = frozenset({403, 404})


TITLE: dict[Language, str] = {"en": "notes", "sv": "anteckningar", "nb": "notater"}
NOTES = DeclaredPlace(name="notes", title=TITLE, by=frozenset({"email"}))
DRAFTS = DeclaredPlace(name="drafts", title=TITLE, by=frozenset({"email"}))


class Right:
    """A handler for lists of notes and drafts, as it should be."""

    kind: ClassVar[str] = "notes"
    Settings: ClassVar[type[BaseModel]] = BaseModel
    places: ClassVar[tuple[DeclaredPlace, ...]] = (NOTES, DRAFTS)

    def __init__(self, settings: Any, context: Any) -> None:
        self.client: Client = context
        self.clock: Callable[[], int] = settings

    async def account(self) -> Control:
        answered = (await self.client.call("GET", "/account")).object().get("id")
        return Control.shown(pinned="ours", answered=str(answered))

    def emails(self, task: Task, verb: str) -> tuple[Identifier, ...]:
        return task.identifiers.of_kind("email")

    async def rows(self, place: str, email: Identifier) -> AsyncIterator[Reference]:
        answer = await self.client.call("GET", f"/{place}", params={"of": email.value}, accept=UNREADABLE)
        if answer.status in UNREADABLE:
            raise PlaceUnreadable(place)
        rows = answer.object().get("rows")
        if not isinstance(rows, list):
            raise Retryable("malformed_answer")
        for row in rows:
            yield Reference(kind="note", id=row)

    async def look(self, task: Task, search: Search, verb: str) -> list[Reference]:
        found: list[Reference] = []
        for place in ("notes", "drafts"):
            for email in self.emails(task, verb):
                found += [row async for row in self.rows(place, email)]
            search.looked(place, self.emails(task, verb))
        return found

    async def locate(self, task: Task) -> Result:
        search = Search(self.places, task.identifiers)
        control = await self.account()
        found = await self.look(task, search, "locate")
        if not found:
            return Absent(control=control, places=search.report())
        return Located(references=tuple(found), places=search.report())

    async def erase(self, task: Task) -> Result:
        await self.account()
        gone = frozenset({404})
        for note in task.references:
            await self.client.erase_call(task, "DELETE", f"/notes/{note.id}", accept=gone)
        return Accepted(erased=len(task.references), prove_at=self.clock())

    async def prove(self, task: Task) -> Result:
        search = Search(self.places, task.identifiers)
        control = await self.account()
        there = await self.look(task, search, "prove")
        if there:
            return StillPresent(references=tuple(there), places=search.report())
        return Proved(control=control, grade="seen_absent", places=search.report())

    async def receive(self, callback: CallbackBody) -> Received:
        raise Refused("no_callbacks")


class Undeclared(Right):
    """Says of no place that it has it."""

    places = ()

    @override
    async def look(self, task: Task, search: Search, verb: str) -> list[Reference]:
        emails = self.emails(task, verb)
        return [row for email in emails for row in [one async for one in self.rows("notes", email)]]


class Untitled(Right):
    """Has no name for a place in the language of some."""

    places = (DeclaredPlace(name="notes", title={"en": "notes", "nb": " "}, by=frozenset({"email"})), DRAFTS)


class Silent(Right):
    """Looks, and doesn't say where."""

    @override
    async def locate(self, task: Task) -> Result:
        return replace(await super().locate(task), places=())

    @override
    async def prove(self, task: Task) -> Result:
        return replace(await super().prove(task), places=())


class Inventive(Right):
    """Tells of a place that nobody knows."""

    @override
    async def prove(self, task: Task) -> Result:
        proved = await super().prove(task)
        return replace(proved, places=(*proved.places, Place(name="attic", looked=True)))


class LooksLess(Right):
    """Leaves a place out when it looks again."""

    @override
    async def look(self, task: Task, search: Search, verb: str) -> list[Reference]:
        found = await super().look(task, search, verb)
        if verb == "prove":
            search.skipped("drafts", "not_searchable")
        return found


class NeverLooks(Right):
    """Leaves a searchable place out of the search and of the proof, and gives a reason for it."""

    reason: ClassVar[str]

    @override
    async def look(self, task: Task, search: Search, verb: str) -> list[Reference]:
        found = await super().look(task, search, verb)
        search.skipped("drafts", self.reason)
        return found


class LeavesOut(NeverLooks):
    """Says that the settings leave the place out. They don't."""

    reason = "not_configured"


class LacksNothing(NeverLooks):
    """Says that nothing was given to search by. An address was."""

    reason = "no_identifier"


class CannotSearch(NeverLooks):
    """Says that the place can't be searched. Its declaration says by what."""

    reason = "not_searchable"


class TooBusy(NeverLooks):
    """Has a reason of its own, which excuses nothing where there is something to search by."""

    reason = "too_busy"


class OneOfTwo(Right):
    """Searches by the first address, and says so."""

    @override
    def emails(self, task: Task, verb: str) -> tuple[Identifier, ...]:
        return task.identifiers.of_kind("email")[:1]


class ProvesByOne(Right):
    """Searches by every address, and looks again by the last."""

    @override
    def emails(self, task: Task, verb: str) -> tuple[Identifier, ...]:
        known = task.identifiers.of_kind("email")
        return known if verb == "locate" else known[-1:]


class ClaimsAll(Right):
    """Searches by the last address, and says that it was by all."""

    @override
    async def look(self, task: Task, search: Search, verb: str) -> list[Reference]:
        emails = task.identifiers.of_kind("email")
        found = [row async for row in self.rows("notes", emails[-1])]
        for place in ("notes", "drafts"):
            search.looked(place, emails)
        return found


class EmptyWhenUnreadable(Right):
    """Takes a list that it may not read for an empty one."""

    @override
    async def rows(self, place: str, email: Identifier) -> AsyncIterator[Reference]:
        answer = await self.client.call("GET", f"/{place}", params={"of": email.value}, accept=UNREADABLE)
        if answer.status in UNREADABLE:
            return
        rows = answer.object().get("rows")
        if not isinstance(rows, list):
            raise Retryable("malformed_answer")
        for row in rows:
            yield Reference(kind="note", id=row)


class LateEraser(Right):
    """Takes away without asking for leave."""

    @override
    async def erase(self, task: Task) -> Result:
        await self.account()
        for note in task.references:
            await self.client.call("DELETE", f"/notes/{note.id}", accept=frozenset({404}))
        return Accepted(erased=len(task.references), prove_at=self.clock())


class Anywhere(Right):
    """Takes whatever account answers for its own."""

    @override
    async def account(self) -> Control:
        return Control.shown(pinned="ours", answered="ours")


class Impatient(Right):
    """Takes a note that is gone for an error."""

    @override
    async def erase(self, task: Task) -> Result:
        await self.account()
        for note in task.references:
            await self.client.erase_call(task, "DELETE", f"/notes/{note.id}")
        return Accepted(erased=len(task.references), prove_at=self.clock())


class Credulous(Right):
    """Reads what it can't read as an empty list, and believes everybody."""

    @override
    async def rows(self, place: str, email: Identifier) -> AsyncIterator[Reference]:
        answer = await self.client.call(
            "GET", f"/{place}", params={"of": email.value}, accept=frozenset({401, 500})
        )
        try:
            rows = json.loads(answer.body).get("rows", [])
        except ValueError:
            rows = []
        for row in rows:
            yield Reference(kind="note", id=row)

    @override
    async def receive(self, callback: CallbackBody) -> Received:
        return Received(result=VendorPurged(), correlation="c" * 64)


class Talkative(Right):
    """Says whom it is about."""

    @override
    async def erase(self, task: Task) -> Result:
        done = await super().erase(task)
        return Accepted(
            erased=1, prove_at=self.clock(), evidence={"of": RECORD, "by": str(len(done.evidence))}
        )


class Brittle(Right):
    """Lets what it doesn't understand through as it is."""

    @override
    async def receive(self, callback: CallbackBody) -> Received:
        said = json.loads(callback.body)["event"]
        raise Refused(str(said))


class NotesStage:
    """An account with one note of Anna's."""

    def __init__(self, handler: type[Right]) -> None:
        self.identifiers = Identifiers((Identifier("email", ANNA),))
        self.transport: httpx.AsyncBaseTransport = httpx.MockTransport(self._answer)
        self._handler = handler
        self._account = "ours"
        self._notes = [RECORD]
        self._effects: list[str] = []

    def clock(self) -> int:
        return NOW

    def handler(self, clients: Clients) -> Right:
        return self._handler(self.clock, clients.client("http://notes.example"))

    def effects(self) -> list[str]:
        return self._effects

    def change_account(self) -> None:
        self._account = "theirs"

    def _answer(self, request: httpx.Request) -> httpx.Response:
        match request.method, request.url.path.strip("/").split("/"):
            case "GET", ["account"]:
                return httpx.Response(200, json={"id": self._account})
            case "GET", ["notes"]:
                rows = self._notes if request.url.params.get("of") == ANNA else []
                return httpx.Response(200, json={"rows": rows})
            case "GET", ["drafts"]:
                return httpx.Response(200, json={"rows": []})
            case "DELETE", ["notes", id_] if id_ in self._notes:
                self._notes.remove(id_)
                self._effects.append(id_)
                return httpx.Response(204)
        return httpx.Response(404)


async def test_a_handler_that_is_right_breaks_no_promise() -> None:
    """Whatever goes wrong at the vendor, there is nothing to say about it."""
    assert [] == await broken_promises(lambda: NotesStage(Right))


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (LateEraser, "a command that is too old was carried out"),
        (Anywhere, "locate with another account's credentials answered Located"),
        (Impatient, "a repeated erase raised Permanent"),
        (Credulous, "malformed at call 2: locate answered Absent"),
        (Credulous, "receive believed rubbish that nobody signed"),
        (Talkative, "something that was said names the person or a record"),
        (Brittle, "receive raised JSONDecodeError for rubbish"),
        (Undeclared, "no places are declared"),
        (Untitled, "the place notes has no title in sv"),
        (Untitled, "the place notes has no title in nb"),
        (Silent, "locate doesn't report the place notes"),
        (Silent, "prove doesn't report the place drafts"),
        (Inventive, "prove reports attic, which is not declared"),
        (LooksLess, "prove doesn't look in the place drafts, where locate looked"),
        (LeavesOut, "locate skips the place drafts as not_configured, and the stage doesn't leave it out"),
        (LeavesOut, "prove skips the place drafts as not_configured, and the stage doesn't leave it out"),
        (LacksNothing, "locate skips the place drafts as no_identifier, and 1 email was given"),
        (CannotSearch, "prove skips the place drafts as not_searchable, and declares that it is by email"),
        (TooBusy, "locate skips the place drafts as too_busy, and is searched by email"),
        (OneOfTwo, "with identifiers before the person's: locate answered Absent instead of Located"),
        (OneOfTwo, "with identifiers after the person's: locate searches the place notes by 1 of 2 email"),
        (ProvesByOne, "prove searches the place notes by 1 of 2 email"),
        (ProvesByOne, "prove searches the place notes by less than locate did"),
        (ClaimsAll, "with identifiers after the person's: locate answered Absent instead of Located"),
        (EmptyWhenUnreadable, "403 at call 2: locate answered Absent"),
        (EmptyWhenUnreadable, "404 at call 2: locate answered Absent"),
    ],
)
async def test_what_is_wrong_is_said(handler: type[Right], said: str) -> None:
    """Each flaw that a port's rule is there for is found, and named by the rule."""
    broken = await broken_promises(lambda: NotesStage(handler))
    assert [] != [one for one in broken if said in one], broken


class ByNothing(Right):
    """Has a place that nothing can be searched by, one by telephone number, and one that is left out."""

    places = (
        NOTES,
        DRAFTS,
        DeclaredPlace(name="backups", title=TITLE),
        DeclaredPlace(name="attachments", title=TITLE),
        DeclaredPlace(name="calls", title=TITLE, by=frozenset({"phone"})),
    )

    @override
    async def look(self, task: Task, search: Search, verb: str) -> list[Reference]:
        found = await super().look(task, search, verb)
        search.skipped("drafts", "not_configured")
        search.skipped("backups", "not_searchable")
        search.skipped("attachments", "archived_note")
        search.skipped("calls", "no_identifier")
        return found


async def test_a_reason_that_holds_excuses_a_place() -> None:
    """The stage leaves one out, one is searched by a number that nobody gave, and two by nothing."""
    assert [] == await broken_promises(lambda: NotesStage(ByNothing), faults=(), left_out=("drafts",))


async def test_a_place_that_is_said_to_be_left_out_is_not_looked_at() -> None:
    """Whoever writes the stage is wrong about the settings, or the handler doesn't heed them."""
    broken = await broken_promises(lambda: NotesStage(Right), faults=(), left_out=("drafts", "attic"))
    assert "locate looks in the place drafts, which the stage leaves out" in broken
    assert "the stage leaves out attic, which is not declared" in broken
