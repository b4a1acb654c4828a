"""Where handlers get their clients, so that a test or a simulation can put its own transport under all
of them.

What belongs to a system is kept here and shared by its clients, and what belongs to an account by all the
systems that use it: a vendor counts calls by account, however many systems of ours make them.
"""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

import httpx
from aiolimiter import AsyncLimiter

from orchestrator.http.breaker import Breaker, State, uptime
from orchestrator.http.client import Client, Kind, Limits
from orchestrator.http.credentials import Authority
from orchestrator.http.guard import Guard, GuardedTransport, resolve
from orchestrator.http.resolving import Resolver
from orchestrator.http.waiting import Wait

_KINDS: tuple[Kind, ...] = ("look", "erasure")
_ORDER: tuple[State, ...] = ("closed", "half_open", "open")
OnCircuit = Callable[[str, State], None]
"""Hears of a system's circuit: the system's name and the worst state of its addresses."""


@dataclass(slots=True)
class _Shared:
    """What the clients of one process have in common."""

    made: list[Client] = field(default_factory=list)
    breakers: dict[tuple[str, str, Kind], Breaker] = field(default_factory=dict)
    waits: dict[tuple[str, str], Wait] = field(default_factory=dict)
    resolvers: dict[str, Resolver] = field(default_factory=dict)
    rates: dict[tuple[str, int, float], AsyncLimiter] = field(default_factory=dict)
    trust: dict[bool, ssl.SSLContext] = field(default_factory=dict)


class Clients:
    """Makes and closes the clients of one process; `of` gives those of one system, which have a breaker."""

    def __init__(
        self,
        *,
        clock: Callable[[], int],
        steady: Callable[[], int] = uptime,
        transport: httpx.AsyncBaseTransport | None = None,
        on_circuit: OnCircuit | None = None,
    ) -> None:
        self._clock = clock
        # How long a system is left alone: no clock that is set concerns it.
        self._steady = steady
        self._transport = transport
        self._on_circuit = on_circuit
        self._shared = _Shared()
        self._system: str | None = None

    def of(self, system: str) -> "Clients":
        """The same, for one system's handler."""
        own = Clients(
            clock=self._clock,
            steady=self._steady,
            transport=self._transport,
            on_circuit=self._on_circuit,
        )
        own._shared, own._system = self._shared, system
        if self._on_circuit is not None:
            self._on_circuit(system, self._worst(system))
        return own

    def client(
        self,
        base_url: str,
        *,
        authority: Authority | None = None,
        headers: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        guard: Guard | None = None,
        account: str | None = None,
    ) -> Client:
        """A client of its own connections; with `guard`, for an address from outside.

        `account` names the account by which the vendor counts calls: clients that name the same one, and the
        same rate, share it, and what the vendor says of when to call again. Without it the rate is the
        client's own.
        """
        transport = self._transport
        if guard is not None:
            if transport is not None:
                guard = replace(guard, resolve=None)
            elif guard.resolve is resolve:
                guard = replace(guard, resolve=self._resolver(base_url))
            inner = transport or httpx.AsyncHTTPTransport(
                verify=self._trust(environment=False),
                limits=httpx.Limits(max_connections=(limits or Limits()).connections),
                trust_env=False,
            )
            transport = GuardedTransport(guard, inner)
        made = Client(
            base_url,
            clock=self._clock,
            transport=transport,
            authority=authority,
            headers=headers,
            limits=limits,
            rate=self._rate(account, limits or Limits()),
            breakers=self._breakers(base_url),
            wait=self._wait(account, base_url),
            steady=self._steady,
            trust=self._trust(environment=True) if transport is None else None,
            resolve=self._resolver(base_url),
        )
        self._shared.made.append(made)
        return made

    async def aclose(self) -> None:
        for made in self._shared.made:
            await made.aclose()
        self._shared.made.clear()

    def _rate(self, account: str | None, limits: Limits) -> AsyncLimiter | None:
        if limits.calls is None:
            return None
        if account is None:
            return AsyncLimiter(limits.calls, limits.per.total_seconds())
        key = (account, limits.calls, limits.per.total_seconds())
        return self._shared.rates.setdefault(key, AsyncLimiter(*key[1:]))

    def _trust(self, *, environment: bool) -> ssl.SSLContext:
        """The authorities that are believed, read once; with `environment`, those that it names."""
        if environment not in self._shared.trust:
            self._shared.trust[environment] = httpx.create_ssl_context(trust_env=environment)
        return self._shared.trust[environment]

    def _resolver(self, base_url: str) -> Resolver:
        """One for each system, and for each host of those that are none's: dead names hold up no others."""
        whose = self._system or urlsplit(base_url).hostname or ""
        return self._shared.resolvers.setdefault(whose, Resolver())

    def _wait(self, account: str | None, base_url: str) -> Wait:
        """One for each account; without one, for each address of a system."""
        key = ("", account) if account is not None else (self._system or "", urlsplit(base_url).netloc)
        return self._shared.waits.setdefault(key, Wait(self._steady, self._system))

    def _breakers(self, base_url: str) -> Mapping[Kind, Breaker]:
        """Some for each address of a system: a controller that is away says nothing about the data API."""
        system = self._system
        if system is None:
            return {}

        def changed(_: State) -> None:
            if self._on_circuit is not None:
                self._on_circuit(system, self._worst(system))

        found: dict[Kind, Breaker] = {}
        for kind in _KINDS:
            key = (system, urlsplit(base_url).netloc, kind)
            found[kind] = self._shared.breakers.setdefault(key, Breaker(self._steady, changed=changed))
        return found

    def _worst(self, system: str) -> State:
        states = [one.state for (name, *_), one in self._shared.breakers.items() if name == system]
        return max(states, key=_ORDER.index, default="closed")
