"""No read that goes wrong makes anybody absent or gone: each read of each handler, each way to go wrong.

The reads are not listed: they are those that a look makes, by their path and what they ask by. Each is spoilt
for the whole of a look, in a system where the person is, and in one where they are not any more.
"""

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from typing_extensions import override

from handlers.port import CallFailed, Reference, Task
from handlers.results import Absent, Proved, Result
from orchestrator.http import Clients
from orchestrator.privacy import Identifier
from schemas.messages import Verb
from tests.contract.handlers_bench import ANNA, DAY, Bench, merged

pytestmark = pytest.mark.anyio
BEATA = "beata@example.com"
CLIENT = Identifier("ga_client_id", "GA1.1.1234567890.1699999999")
#: What is no read: credentials are got there, and a controller is told of the end.
LOGIN: Final = re.compile(r"/api/state/|/PartnerSystemUser/|/token$|/confirmations$")
#: Reads of one record, of which the vendor says that a 404 means that there is none.
ONE_RECORD: Final = re.compile(
    r"GET /hubspot/crm/objects/[^/]+/contacts/\* \w+$|GET /teamtailor/v1/candidates/\*$"
)
Spoil = Callable[[httpx.Request, httpx.Response], httpx.Response]


def status(code: int) -> Spoil:
    return lambda request, answer: httpx.Response(code, json={"message": "spoilt"}, request=request)


def body(content: bytes) -> Spoil:
    return lambda request, answer: httpx.Response(200, content=content, request=request)


def cut(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
    """The first half of what was said."""
    return httpx.Response(200, content=answer.content[: len(answer.content) // 2], request=request)


def unfollowable(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
    """An empty page that says that there are more, and not where."""
    said = json.loads(answer.content or b"null")
    if isinstance(said, dict) and "value" in said:
        said |= {"value": [], "odata.nextLink": 2}
    elif isinstance(said, dict) and "results" in said:
        said |= {"results": [], "paging": {"next": {"link": "https://api.hubapi.com/"}}}
    elif isinstance(said, dict) and isinstance(said.get("data"), list):
        said |= {"data": [], "links": {"next": str(request.url)}}
    else:
        return status(500)(request, answer)
    return httpx.Response(200, json=said, request=request)


def another(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
    """A record that nobody asked for, in the form of the one that was asked for."""
    text = re.sub(r"\b\d{1,9}\b", "4711", answer.text.replace(ANNA, BEATA))
    return httpx.Response(answer.status_code, content=text.encode(), request=request)


SPOILT: Final[dict[str, Spoil]] = {
    **{str(code): status(code) for code in (401, 403, 404, 410, 429, 500)},
    "empty": body(b""),
    "empty object": body(b"{}"),
    "empty list": body(b"[]"),
    "cut": cut,
    "unfollowable": unfollowable,
}


class Spoiling(httpx.AsyncBaseTransport):
    """The way to the stand-ins, on which the reads of one shape are spoilt; notes the shapes."""

    def __init__(self, bench: Bench) -> None:
        self.shapes: dict[str, None] = {}
        self.struck = 0
        self.at = ""
        self.how: Spoil = lambda request, answer: answer
        self._inner = bench.sandbox.transport()

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._inner.handle_async_request(request)
        await answer.aread()
        shape = shape_of(request)
        if LOGIN.search(request.url.path):
            return answer
        self.shapes[shape] = None
        if shape != self.at:
            return answer
        self.struck += 1
        return self.how(request, answer)


def shape_of(request: httpx.Request) -> str:
    """What a read asks, without the values that it asks by."""
    path = re.sub(r"/\d+(?=/|$)|/[^/]*@[^/]*", "/*", request.url.path)
    by = request.url.params.get("$filter", "").partition(" ")[0]
    archived = request.url.params.get("archived", "")
    return f"{request.method} {path} {by}{archived}".strip()


class Shop:
    """One system, with the person in it or gone, and what is known of them."""

    def __init__(self, folder: Path, kind: str, *, is_gone: bool) -> None:
        self.bench, self.kind, self._is_gone = Bench(folder), kind, is_gone
        self.bench.clock.pass_days(1)
        self.references: tuple[Reference, ...] = ()
        self.erased_at = 0

    def handler(self, transport: Spoiling) -> Any:
        self.bench.clients = Clients(clock=self.bench.clock, steady=self.bench.clock, transport=transport)
        made: dict[str, Callable[[], Any]] = {
            "hubspot": self.bench.hubspot,
            "superoffice": lambda: self.bench.superoffice(chats_archive="FindChatSession"),
            "teamtailor": self.bench.teamtailor,
            "tenant": self.bench.tenant,
            "google": self.bench.google,
        }
        return made[self.kind]()

    async def settle(self) -> None:
        """The person is found, and erased where they are to be gone."""
        self._seed()
        handler = self.handler(Spoiling(self.bench))
        located = await handler.locate(self.task("locate"))
        self.references = located.references
        self.erased_at = self.bench.clock()
        if self.kind == "google":
            self.references = (Reference(kind="deletion", id="1/clientId", created_at=self.erased_at),)
        elif self._is_gone and self.kind == "teamtailor":
            [candidate] = self.references
            self.bench.sandbox.store.drop("teamtailor.candidate", candidate.id)
        elif self._is_gone:
            accepted = await handler.erase(self.task("erase"))
            self.references = merged(*self.references, *accepted.references)
        if self._is_gone:
            self.bench.clock.pass_days(15)

    def _seed(self) -> None:
        made, seed = {"created_at": self.bench.clock() - 300 * DAY}, self.bench.sandbox.seed
        match self.kind:
            case "hubspot":
                contact = {"email": ANNA, "associations": {"tickets": (1001,)}, **made}
                seed({"hubspot": {"contacts": [contact]}})
            case "superoffice":
                more = {"tickets": 1, "form_submissions": 1, "chats": 1, "appointments": 1, "documents": 1}
                seed({"superoffice": {"persons": [{"email": ANNA, **more, **made}]}})
            case "teamtailor":
                seed({"teamtailor": {"candidates": [{"email": ANNA, **made}]}})
            case "tenant":
                record = {"id": "user-1", "identities": [{"type": "email", "value": ANNA}], **made}
                tenants = [{"tenant": "bygg", "records": [record]}]
                seed({"controllers": [{"tenant": "bygg"}], "tenants": tenants})
        self.bench.clock.pass_seconds(60)

    def task(self, verb: Verb) -> Task:
        more: dict[str, Any] = {"instruction": "erase"} if self.kind == "tenant" else {}
        known = (CLIENT,) if self.kind == "google" else ()
        if verb == "prove":
            more["erased_at"] = self.erased_at
        references = () if verb == "locate" else self.references
        return self.bench.task(verb, *known, references=references, **more)

    async def look(self, verb: Verb, at: str = "", how: Spoil | None = None) -> tuple[str, Spoiling]:
        """What a look says, with the reads of one shape spoilt: a result's name, or a failure's code."""
        transport = Spoiling(self.bench)
        transport.at, transport.how = at, how or transport.how
        handler = self.handler(transport)
        ask: Callable[[Task], Awaitable[Result]] = getattr(handler, verb)
        try:
            result = await ask(self.task(verb))
        except CallFailed as error:
            return error.code, transport
        return type(result).__name__, transport


def spoilt_reads(shapes: dict[str, None], *, is_gone: bool) -> Iterator[tuple[str, str, Spoil]]:
    """Each read with each way to spoil it."""
    for shape in shapes:
        for name, how in SPOILT.items():
            if name == "404" and ONE_RECORD.match(shape):
                # The vendor's word for nobody.
                continue
            yield shape, name, how
        if not is_gone:
            yield shape, "another", another


@pytest.mark.parametrize("is_gone", [False, True], ids=["there", "gone"])
@pytest.mark.parametrize("verb", ["locate", "prove"])
@pytest.mark.parametrize("kind", ["hubspot", "superoffice", "teamtailor", "tenant", "google"])
async def test_a_read_that_goes_wrong_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, verb: Verb, is_gone: bool
) -> None:
    """Whichever read it is, and however it goes wrong: the look fails, asks, or finds; it never ends."""
    # So many looks in a second are not what is tried here.
    monkeypatch.setattr("handlers.sandbox.hubspot.SEARCHES", 10**6)
    shop = Shop(tmp_path, kind, is_gone=is_gone)
    await shop.settle()
    calm, transport = await shop.look(verb)
    if is_gone and (kind, verb) != ("google", "locate"):
        assert (Absent if verb == "locate" else Proved).__name__ == calm
    wrong: list[str] = []
    for shape, name, how in spoilt_reads(transport.shapes, is_gone=is_gone):
        said, spoilt = await shop.look(verb, shape, how)
        assert spoilt.struck, shape
        if said in (Absent.__name__, Proved.__name__):
            wrong.append(f"{name} at {shape}: {said}")
    assert [] == wrong
