"""Answers that a test puts in the place of a stand-in's, where only the vendor's own word matters."""

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
from typing_extensions import override

from orchestrator.http import Clients
from tests.contract.handlers_bench import Bench

Answer = Callable[[httpx.Request], httpx.Response | None]


class Scripted(httpx.AsyncBaseTransport):
    """The way to the stand-ins, with some answers of the test's own; notes each call."""

    def __init__(self, bench: Bench) -> None:
        self.calls: list[tuple[str, str]] = []
        self._inner = bench.sandbox.transport()
        self._script: list[tuple[str, re.Pattern[str], Answer]] = []
        bench.clients = Clients(clock=bench.clock, steady=bench.clock, transport=self)

    def answers(self, method: str, path: str, answer: Answer) -> None:
        """From now on calls whose path matches are answered so; by the stand-in where `answer` gives None."""
        self._script.append((method, re.compile(path), answer))

    def says(self, method: str, path: str, status: int, content: Any = None) -> None:
        """Likewise, always the same."""
        body = b"" if content is None else json.dumps(content).encode()
        self.answers(method, path, lambda request: httpx.Response(status, content=body, request=request))

    def paths(self, method: str) -> list[str]:
        """The paths of the calls so far."""
        return [path for called, path in self.calls if called == method]

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.calls.append((request.method, request.url.path))
        for method, path, answer in reversed(self._script):
            if method == request.method and path.search(request.url.path):
                given = answer(request)
                if given is not None:
                    return given
        return await self._inner.handle_async_request(request)
