"""Calls to an address that a tenant or an agency gave us.

Such an address comes from outside, even when the operator typed it in, and must not become a way into our
own network. So: https only; hosts from an allow-list; the name is resolved once, every address it has must
be public, and the connection goes to the one that was checked (a second resolution could answer
differently); certificates are checked against the name. Redirects are refused by the client.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import httpx
from typing_extensions import override

from orchestrator.http.errors import Permanent, Retryable
from orchestrator.http.resolving import Resolve, Resolver

#: Whose last 32 bits are an address of IPv4, to which the connection may go: mapped, compatible, translated
#: ones (RFC 4291, 2.5.5; RFC 2765, 2.1), and those of a network that translates for IPv6 (RFC 6052, 2.1).
_WITH_IPV4: Final = tuple(
    ipaddress.IPv6Network(one) for one in ("::ffff:0:0/96", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96")
)


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a name. `Clients` puts the system's own resolver in its place."""
    return await Resolver()(host, port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What an outside address must keep to."""

    hosts: frozenset[str]
    allow_private: bool = False
    """For a controller on our own network, and for the demonstration: also lifts the demand for https."""
    resolve: Resolve | None = resolve
    """None when a transport is injected that connects to nothing."""

    def check(self, url: httpx.URL) -> None:
        """Refuse by what the address says, before any name is looked up."""
        if url.scheme != "https" and not (self.allow_private and url.scheme == "http"):
            raise Permanent("address_not_https")
        if url.host.lower() not in self.hosts:
            raise Permanent("host_not_allowed")
        if url.userinfo:
            raise Permanent("address_invalid")

    async def address(self, url: httpx.URL) -> str | None:
        """The one address to connect to; None where nothing is to be resolved."""
        if self.resolve is None:
            return None
        found = await self.resolve(url.host, url.port or (443 if url.scheme == "https" else 80))
        if not found:
            raise Retryable("name_not_resolved")
        if not self.allow_private and not all(map(_is_public, found)):
            raise Permanent("address_not_public")
        return found[0]


def _is_public(text: str) -> bool:
    """Return whether an address leads out of our own network; one of IPv4 within IPv6 is judged as itself."""
    ip = ipaddress.ip_address(text.split("%", 1)[0])
    if isinstance(ip, ipaddress.IPv6Address):
        # Tunnels of 6to4 and Teredo end at an address of IPv4 (RFC 3056, RFC 4380). Versions of Python differ
        # in whether they call those public; nobody has to be reached by one.
        if ip.is_site_local or ip.sixtofour is not None or ip.teredo is not None:
            return False
        if any(ip in network for network in _WITH_IPV4):
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.is_global and not ip.is_multicast


class GuardedTransport(httpx.AsyncBaseTransport):
    """Lets through only what the guard allows, and connects to the address that was checked."""

    def __init__(self, guard: Guard, inner: httpx.AsyncBaseTransport) -> None:
        self._guard = guard
        self._inner = inner

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._guard.check(request.url)
        address = await self._guard.address(request.url)
        if address is not None:
            # The Host header was set from the name before this; TLS gets the name for SNI and for the
            # certificate check.
            request.extensions = {**request.extensions, "sni_hostname": request.url.host}
            request.url = request.url.copy_with(host=address)
        return await self._inner.handle_async_request(request)

    @override
    async def aclose(self) -> None:
        await self._inner.aclose()
