"""Where handlers get their clients, so that a test or a simulation can put its own transport under all
of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import httpx

from orchestrator.http.client import Authority, Client, Limits
from orchestrator.http.guard import Guard, GuardedTransport


class Clients:
    """Makes and closes the clients of one process."""

    def __init__(
        self, *, clock: Callable[[], int], transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._clock = clock
        self._transport = transport
        self._made: list[Client] = []

    def client(
        self,
        base_url: str,
        *,
        authority: Authority | None = None,
        headers: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        guard: Guard | None = None,
    ) -> Client:
        """A client of its own connections and rate; with `guard`, for an address from outside."""
        transport = self._transport
        if guard is not None:
            if transport is not None:
                guard = replace(guard, resolve=None)
            inner = transport or httpx.AsyncHTTPTransport(
                limits=httpx.Limits(max_connections=(limits or Limits()).connections), trust_env=False
            )
            transport = GuardedTransport(guard, inner)
        made = Client(
            base_url,
            clock=self._clock,
            transport=transport,
            authority=authority,
            headers=headers,
            limits=limits,
        )
        self._made.append(made)
        return made

    async def aclose(self) -> None:
        for made in self._made:
            await made.aclose()
        self._made.clear()
