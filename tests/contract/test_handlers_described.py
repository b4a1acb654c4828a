"""Handlers and stand-ins against the vendors' own descriptions: whole erasures, call by call."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typing_extensions import override

from handlers.port import Permanent
from handlers.results import Located, Pending, Proved
from orchestrator.http import Clients
from orchestrator.privacy import Identifier
from tests.contract import described
from tests.contract.described import Description
from tests.contract.handlers_bench import ANNA, Bench

pytestmark = pytest.mark.anyio
CONTROL = "control@example.com"
#: What no description that we may carry has: the way in, and who we are.
SUPEROFFICE_ELSE = (
    "/api/state/",
    "/Login/api/PartnerSystemUser/Authenticate",
    "/api/v1/User/currentPrincipal",
)
#: Described in files that we have none of.
NOT_DESCRIBED = ("/api/v1/Appointment/", "/api/v1/Document/", "/api/v1/Sale/")


class Recording(httpx.AsyncBaseTransport):
    """Notes each call and its answer."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.calls: list[tuple[httpx.Request, httpx.Response]] = []
        self._inner = inner

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        await response.aread()
        await request.aread()
        self.calls.append((request, response))
        return response


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def recorded(bench: Bench) -> Recording:
    recording = Recording(bench.sandbox.transport())
    bench.clients = Clients(clock=bench.clock, steady=bench.clock, transport=recording)
    return recording


def faults(
    recording: Recording, description: Description, path_of: Callable[[httpx.URL], str | None]
) -> set[str]:
    found: set[str] = set()
    for request, response in recording.calls:
        path = path_of(request.url)
        if path is not None:
            found |= set(description.faults(path, request, response))
    return found


def superoffice_path(url: httpx.URL) -> str | None:
    """The path as the description has it; None for what none describes."""
    path = url.raw_path.decode("ascii").partition("?")[0].removeprefix("/superoffice")
    if path.startswith(SUPEROFFICE_ELSE):
        return None
    _, _, rest = path.lstrip("/").partition("/")  # the subdomain
    own = "/" + rest.partition("/")[2]  # the tenant
    return None if own.startswith((*SUPEROFFICE_ELSE, *NOT_DESCRIBED)) else own


def google_path(url: httpx.URL) -> str | None:
    path = url.raw_path.decode("ascii").removeprefix("/google")
    return None if path == "/token" else path


async def erased_from_superoffice(bench: Bench) -> None:
    """Everything that the handler ever asks: children of all kinds, pages, the bin, the purge, a repeat."""
    person = {
        "email": ANNA,
        "tickets": 2,
        "form_submissions": 1,
        "appointments": 1,
        "documents": 1,
        "sales": 1,
        "consents": ["EMARKETING"],
    }
    seed = {
        "page": 1,
        "persons": [person, {"email": ANNA}, {"email": CONTROL}],
        "submissions": [{"email": ANNA}],
    }
    bench.sandbox.seed({"superoffice": seed})
    handler = bench.superoffice(control_email=CONTROL, appointments="erase")
    assert [] == [one for one in await handler.check() if one.state == "failed"]
    located = await handler.locate(bench.task("locate", takes_all=2))
    assert isinstance(located, Located)
    for _ in range(2):
        await handler.erase(bench.task("erase", references=located.references))
    erased_at = bench.clock()
    task = bench.task("prove", references=located.references, erased_at=erased_at)
    assert isinstance(await handler.prove(task), Pending)
    bench.clock.pass_days(15)
    assert isinstance(await handler.prove(task), Proved)


async def test_superoffice_is_asked_and_answers_as_it_describes_itself(bench: Bench) -> None:
    """From the check to the proof; no call rests on an answer that it doesn't describe."""
    recording = recorded(bench)
    await erased_from_superoffice(bench)
    assert set() == faults(recording, described.superoffice(), superoffice_path)
    asked = {superoffice_path(request.url) for request, _ in recording.calls}
    assert len(asked - {None}) > 10


async def test_google_is_asked_and_answers_as_it_describes_itself(bench: Bench) -> None:
    """Each kind of id once; no difference at all."""
    recording = recorded(bench)
    known = (
        Identifier("ga_client_id", "1234567890.1699999999"),
        Identifier("ga_user_id", "u-17"),
        Identifier("ga_app_instance_id", "0" * 32),
        Identifier("email", ANNA),
        Identifier("phone", "+46701234567"),
    )
    kinds = ["client_id", "user_id", "app_instance_id", "user_provided_data"]
    handler = bench.google(identify_by=kinds)
    await handler.check()
    await handler.locate(bench.task("locate", *known))
    accepted = await handler.erase(bench.task("erase", *known))
    await handler.prove(bench.task("prove", *known, references=accepted.references, erased_at=bench.clock()))
    assert set() == faults(recording, described.google(), google_path)
    assert 9 == len([request for request, _ in recording.calls if google_path(request.url)])


# --- that it would be noticed


def _with(request: httpx.Request, **changed: Any) -> httpx.Request:
    return httpx.Request(
        changed.get("method", request.method),
        changed.get("url", request.url),
        content=changed.get("content", request.content),
    )


Change = Callable[[httpx.Request, httpx.Response], tuple[httpx.Request, httpx.Response]]


def _answer(response: httpx.Response, **more: Any) -> httpx.Response:
    return httpx.Response(response.status_code, json={**json.loads(response.content), **more})


BROKEN: dict[str, tuple[str, Change]] = {
    "a query that is not described": (
        "it takes no $where",
        lambda q, a: (_with(q, url=q.url.copy_merge_params({"$where": "1"})), a),
    ),
    "an id that is no number": (
        "not a whole number",
        lambda q, a: (_with(q, url=q.url.copy_with(path=f"{q.url.path}x")), a),
    ),
    "another method": ("no such operation", lambda q, a: (_with(q, method="PATCH"), a)),
    "a body where none belongs": ("takes no body", lambda q, a: (_with(q, content=b"{}"), a)),
    "a property that is not described": ("no such property", lambda q, a: (q, _answer(a, Invented=1))),
    "a property of another type": ("not of type integer", lambda q, a: (q, _answer(a, PersonId="1"))),
    "a time that is none": ("not a time", lambda q, a: (q, _answer(a, CreatedDate="yesterday"))),
    "a status that is not described": ("answers no 418", lambda q, a: (q, httpx.Response(418))),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_what_superoffice_does_not_describe_is_noticed(bench: Bench, name: str) -> None:
    """A description that lets everything by would prove nothing."""
    recording = recorded(bench)
    bench.sandbox.seed({"superoffice": {"persons": [{"email": ANNA}]}})
    await bench.superoffice().locate(bench.task("locate"))
    request, response = next(
        (q, a) for q, a in recording.calls if q.url.path.rpartition("/")[0].endswith("/Person")
    )
    said, change = BROKEN[name]
    recording.calls = [change(request, response)]
    (fault,) = faults(recording, described.superoffice(), superoffice_path)
    assert said in fault


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"email": ANNA}, "no such property"),
        ({"clientId": 5}, "not of type string"),
        ([], "not of type object"),
    ],
)
async def test_what_google_does_not_describe_is_noticed(bench: Bench, body: Any, said: str) -> None:
    """The same for a body that it takes."""
    recording = recorded(bench)
    client = Identifier("ga_client_id", "1234567890.1699999999")
    await bench.google().erase(bench.task("erase", client))
    request, response = recording.calls[-1]
    recording.calls = [(_with(request, content=json.dumps(body).encode()), response)]
    (fault,) = faults(recording, described.google(), google_path)
    assert said in fault


async def test_a_stand_in_refuses_what_is_not_described(bench: Bench) -> None:
    """A misspelt query reaches nobody: the stand-in is as strict as the description."""
    handler = bench.superoffice()
    with pytest.raises(Permanent, match=r"^http_400$"):
        await handler._api.ask("GET", "Person", {"$where": "1"})
