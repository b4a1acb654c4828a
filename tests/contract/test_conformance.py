"""The trial of a handler finds what is wrong with one, and nothing wrong with one that is right."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

import httpx
import pytest
from pydantic import BaseModel
from typing_extensions import override

from handlers.conformance import broken_promises
from handlers.places import DeclaredPlace
from handlers.port import CallbackBody, Control, Reference, Refused, Retryable, Task
from handlers.results import Accepted, Located, Proved, Received, Result, StillPresent, VendorPurged
from orchestrator.http import Client, Clients
from orchestrator.privacy import Identifier, Identifiers
from tests.contract.handlers_bench import ANNA

pytestmark = pytest.mark.anyio
NOW = 1_788_220_800_000_000
RECORD = "record-700001"


class Right:
    """A handler for a list of notes, as it should be."""

    kind: ClassVar[str] = "notes"
    Settings: ClassVar[type[BaseModel]] = BaseModel
    places: ClassVar[tuple[DeclaredPlace, ...]] = ()

    def __init__(self, settings: Any, context: Any) -> None:
        self.client: Client = context
        self.clock: Callable[[], int] = settings

    async def account(self) -> Control:
        answered = (await self.client.call("GET", "/account")).object().get("id")
        return Control.shown(pinned="ours", answered=str(answered))

    async def rows(self) -> AsyncIterator[Reference]:
        rows = (await self.client.call("GET", "/notes")).object().get("rows")
        if not isinstance(rows, list):
            raise Retryable("malformed_answer")
        for row in rows:
            yield Reference(kind="note", id=row)

    async def locate(self, task: Task) -> Result:
        await self.account()
        return Located(references=tuple([row async for row in self.rows()]))

    async def erase(self, task: Task) -> Result:
        await self.account()
        gone = frozenset({404})
        for note in task.references:
            await self.client.erase_call(task, "DELETE", f"/notes/{note.id}", accept=gone)
        return Accepted(erased=len(task.references), prove_at=self.clock())

    async def prove(self, task: Task) -> Result:
        control = await self.account()
        there = [row async for row in self.rows()]
        if there:
            return StillPresent(references=tuple(there))
        return Proved(control=control, grade="seen_absent")

    async def receive(self, callback: CallbackBody) -> Received:
        raise Refused("no_callbacks")


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
    async def rows(self) -> AsyncIterator[Reference]:
        answer = await self.client.call("GET", "/notes", accept=frozenset({401, 500}))
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
                return httpx.Response(200, json={"rows": self._notes})
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
        (Credulous, "malformed at call 2: locate raised ValueError"),
        (Credulous, "receive believed rubbish that nobody signed"),
        (Talkative, "something that was said names the person or a record"),
        (Brittle, "receive raised JSONDecodeError for rubbish"),
    ],
)
async def test_what_is_wrong_is_said(handler: type[Right], said: str) -> None:
    """Each flaw that a port's rule is there for is found, and named by the rule."""
    broken = await broken_promises(lambda: NotesStage(handler))
    assert [] != [one for one in broken if said in one], broken
