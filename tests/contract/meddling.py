"""A way to a stand-in on which a test changes what is asked or answered, and notes it."""

import json
from collections.abc import Callable
from typing import Any

import httpx
from typing_extensions import override

from orchestrator.http import Clients
from tests.contract.handlers_bench import Bench

Answer = Callable[[httpx.Request], httpx.Response | None]


class Meddling(httpx.AsyncBaseTransport):
    """Passes calls on, but for those that the test answers itself, or asks otherwise."""

    def __init__(self, bench: Bench) -> None:
        self.asked: list[httpx.Request] = []
        self.instead: Answer = lambda request: None
        self.otherwise: Callable[[httpx.Request], httpx.Request] = lambda request: request
        self.changed: Callable[[httpx.Request, Any], Any] = lambda request, body: body
        self._inner = bench.sandbox.transport()
        bench.clients = Clients(clock=bench.clock, steady=bench.clock, transport=self)

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.instead(request)
        if answer is not None:
            return answer
        answer = await self._inner.handle_async_request(self.otherwise(request))
        body = await answer.aread()
        if not body or "json" not in answer.headers.get("content-type", ""):
            return answer
        return httpx.Response(answer.status_code, json=self.changed(request, json.loads(body)))

    def paths(self, part: str) -> list[str]:
        """Return the paths that were asked with this part in them."""
        return [request.url.path for request in self.asked if part in request.url.path]


def rows(*given: dict[str, Any]) -> httpx.Response:
    """Return a page of an archive with these rows and no next one."""
    return httpx.Response(200, json={"odata.metadata": "", "value": list(given)})


def refuses(part: str, status: int) -> Answer:
    """Answer every call to a path with this part in it with the status."""
    return lambda request: httpx.Response(status, json={}) if part in request.url.path else None
