"""`deploy/openapi/tenant-data.yaml` says what a product offers: the handler asks it so, and the stand-in
answers so.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator
from typing_extensions import override

from handlers.port import Permanent, Retryable
from handlers.results import Accepted, Located, Proved, StillPresent
from handlers.sandbox.testing import ORIGIN
from orchestrator.http import Clients
from orchestrator.privacy import Identifier
from tests.contract.handlers_bench import ANNA, Bench

pytestmark = pytest.mark.anyio

DOCUMENT: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[2] / "deploy" / "openapi" / "tenant-data.yaml").read_text(encoding="utf-8")
)
BASE = "/tenant-api/bygg"
TOLD: dict[str, Any] = {"instruction": "erase"}


class Described(httpx.AsyncBaseTransport):
    """Lets calls through and notes what they did that the description doesn't allow."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.asked: set[str] = set()
        self.faults: list[str] = []
        self._inner = inner

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        await response.aread()
        path = request.url.path
        if path.startswith(BASE):
            self.asked.add(path.removeprefix(BASE))
            self.faults += faults(path.removeprefix(BASE), request, response)
        return response


def faults(path: str, request: httpx.Request, response: httpx.Response) -> Iterator[str]:
    """What a call did that the description doesn't allow, or that it says nothing of."""
    stated = DOCUMENT["paths"].get(path, {}).get(request.method.lower())
    if stated is None:
        yield f"{request.method} {path}: no such operation"
        return
    if not request.headers.get("authorization", "").startswith("Bearer "):
        yield f"{path}: no token"
    if "requestBody" in stated:
        yield from _schema_faults(path, stated["requestBody"], request.content)
    elif request.content:
        yield f"{path}: it takes no body"
    answer = stated["responses"].get(str(response.status_code), stated["responses"]["default"])
    if "$ref" in answer:
        answer = DOCUMENT["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    yield from _schema_faults(f"{path} {response.status_code}", answer, response.content)


def _schema_faults(where: str, stated: dict[str, Any], body: bytes) -> Iterator[str]:
    """No property that isn't described, either, though a product may have more."""
    if "content" not in stated:
        return
    schema = stated["content"]["application/json"]["schema"]
    components = _closed(DOCUMENT["components"])
    validator = Draft202012Validator(
        {**schema, "components": components}, format_checker=Draft202012Validator.FORMAT_CHECKER
    )
    for error in validator.iter_errors(json.loads(body)):
        yield f"{where}: {error.message}"


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _closed(one) for name, one in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        made["additionalProperties"] = False
    return made


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    record = {
        "id": "user-1",
        "identities": [{"type": "email", "value": ANNA}, {"type": "customer_id", "value": "K-7"}],
        "children": [{"id": "diary-1", "type": "diary"}],
    }
    made.sandbox.seed(
        {"controllers": [{"tenant": "bygg"}], "tenants": [{"tenant": "bygg", "records": [record]}]}
    )
    return made


@pytest.fixture
def described(bench: Bench) -> Described:
    transport = Described(bench.sandbox.transport())
    bench.clients = Clients(clock=bench.clock, steady=bench.clock, transport=transport)
    return transport


async def test_an_erasure_is_asked_and_answered_as_described(bench: Bench, described: Described) -> None:
    """All four operations, with a control record, children and a repeat."""
    handler = bench.tenant(control_email=ANNA, hashed_identities=True)
    who = [Identifier("email", ANNA), Identifier("customer_id", "K-7"), Identifier("phone", "+46701234567")]
    who += [Identifier("email_sha256", "0" * 64), Identifier("customer_id_sha256", "f" * 64)]
    located = await handler.locate(bench.task("locate", *who, **TOLD))
    assert isinstance(located, Located)
    still = await handler.prove(bench.task("prove", *who, references=located.references, **TOLD))
    assert isinstance(still, StillPresent)
    handler = bench.tenant()
    for _ in range(2):
        erased = await handler.erase(bench.task("erase", *who, references=located.references, **TOLD))
        assert isinstance(erased, Accepted)
    proved = await handler.prove(bench.task("prove", *who, references=located.references, **TOLD))
    assert isinstance(proved, Proved)
    assert set(DOCUMENT["paths"]) == described.asked
    assert [] == described.faults


async def test_errors_are_as_described(bench: Bench, described: Described) -> None:
    """A token that is not good, and a fault of the product's."""
    with pytest.raises(Permanent, match=r"^credentials_refused$"):
        await bench.tenant(api_token=bench.secret("wrong", "wrong")).locate(bench.task("locate", **TOLD))
    bench.sandbox.fault("500", vendor="tenant-api")
    with pytest.raises(Retryable, match=r"^vendor_error$"):
        await bench.tenant().locate(bench.task("locate", **TOLD))
    assert [] == described.faults


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/subjects/locate", {}),
        ("/subjects/locate", {"identities": []}),
        ("/subjects/locate", {"identities": [{"type": "email"}]}),
        ("/subjects/locate", {"identities": [{"type": "email", "value": ANNA}], "records": []}),
        ("/subjects/erase", {"records": [7]}),
        ("/subjects/erase", {"records": "user-1"}),
        ("/subjects/prove", {"records": ["user-1"]}),
    ],
)
async def test_what_is_not_described_is_refused(bench: Bench, path: str, content: Any) -> None:
    """The stand-in takes no more than the description allows, so that a handler that strays is noticed."""
    async with httpx.AsyncClient(
        transport=bench.sandbox.transport(),
        base_url=f"{ORIGIN}{BASE}",
        headers={"Authorization": "Bearer sandbox-tenant-token"},
    ) as client:
        answer = await client.post(path, json=content)
        assert 400 == answer.status_code
        found = list(faults(path, answer.request, answer))
    assert found
    assert [] == [one for one in found if " 400: " in one]


@pytest.mark.parametrize(
    ("path", "status", "content"),
    [
        ("/account", 200, {"tenant": ""}),
        ("/account", 200, {"tenant": "bygg", "more": 1}),
        ("/account", 401, {"code": "unauthorized"}),
        ("/nothing", 200, {}),
        ("/account", 200, []),
    ],
)
def test_an_answer_that_strays_is_noticed(path: str, status: int, content: Any) -> None:
    """Or these tests would say nothing."""
    request = httpx.Request("GET", f"{ORIGIN}{BASE}{path}", headers={"Authorization": "Bearer t"})
    assert list(faults(path, request, httpx.Response(status, json=content)))
