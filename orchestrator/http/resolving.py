"""Looks names up, for one system, within bounds.

* A name server that is away may hold a look-up for minutes, and nothing can end it. So a system has a few
  places for its own, in threads of its own: another system's names are found all the same.
* A look-up, with the wait for a place, has a limit. What takes longer is a wait of our own, and told as such.
* That a name has no address is an answer. That nobody answered is none, and says nothing about the system.
"""

import asyncio
import contextlib
import ipaddress
import math
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Final

import anyio
import httpcore
import httpx
from typing_extensions import override

from orchestrator.http.errors import RESOLVER_BUSY, RESOLVER_SILENT, NotAsked, Retryable

SECOND: Final = 1_000_000
PLACES: Final = 4
#: For how long a look-up is waited for, in seconds.
LIMIT: Final = 10.0
#: How soon to try again, in micros.
_SOON: Final = 60 * SECOND
#: How long one address is tried alone before the next is tried beside it (RFC 8305, 5), in seconds.
_NEXT: Final = 0.25
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
Lookup = Callable[..., Iterable[tuple[Any, ...]]]

_limit: ContextVar[anyio.CancelScope | None] = ContextVar("limit of the call in hand", default=None)


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """End a call that takes longer than that. Raises TimeoutError."""
    with anyio.fail_after(seconds) as scope:
        before = _limit.set(scope)
        try:
            yield
        finally:
            _limit.reset(before)


@contextlib.contextmanager
def _on_our_own_time() -> Iterator[None]:
    """Take nothing of the time that the other side has for its answer."""
    scope = _limit.get()
    if scope is None:
        yield
        return
    began_at, deadline = anyio.current_time(), scope.deadline
    scope.deadline = math.inf
    try:
        yield
    finally:
        scope.deadline = deadline + anyio.current_time() - began_at


class Resolver:
    """A `Resolve` for one system, in one event loop."""

    def __init__(self, *, places: int = PLACES, limit: float = LIMIT, lookup: Lookup | None = None) -> None:
        self._places = anyio.Semaphore(places, fast_acquire=True)
        self._limit = limit
        self._lookup = lookup or socket.getaddrinfo

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a name. Raises NotAsked, Retryable."""
        with contextlib.suppress(ValueError):
            return [str(ipaddress.ip_address(host))]
        code = RESOLVER_BUSY
        with _on_our_own_time(), anyio.move_on_after(self._limit):
            await self._places.acquire()
            code = RESOLVER_SILENT
            try:
                found = await self._begin(host, port)
            except socket.gaierror as error:
                if error.errno != socket.EAI_AGAIN:
                    raise Retryable("name_not_resolved") from None
            except (OSError, UnicodeError):
                raise Retryable("name_not_resolved") from None
            else:
                return [entry[4][0] for entry in found]
        raise NotAsked(code, _SOON)

    def _begin(self, host: str, port: int) -> "asyncio.Future[Iterable[tuple[Any, ...]]]":
        """Look a name up in a thread. Its place is free when it ends, whoever still waits for it."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Iterable[tuple[Any, ...]]] = loop.create_future()

        def ended(found: Iterable[tuple[Any, ...]] | Exception) -> None:
            self._places.release()
            if answer.done():
                return
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def look() -> None:
            found: Iterable[tuple[Any, ...]] | Exception
            try:
                found = self._lookup(host, port, type=socket.SOCK_STREAM)
            except Exception as error:
                found = error
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(ended, found)

        # No process waits for it at its end.
        threading.Thread(target=look, name="look-up", daemon=True).start()
        return answer


class ResolvingBackend(httpcore.AsyncNetworkBackend):
    """Makes connections to the addresses that a resolver finds."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._inner = httpcore.AnyIOBackend()

    @override
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        async def connect(address: str) -> httpcore.AsyncNetworkStream:
            return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)

        return await _first(connect, await self._resolve(host, port))

    @override
    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return await self._inner.connect_unix_socket(path, timeout, socket_options)

    @override
    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


async def _first(
    connect: Callable[[str], Awaitable[httpcore.AsyncNetworkStream]], addresses: Sequence[str]
) -> httpcore.AsyncNetworkStream:
    """Return the connection to whichever address is reached first. Raises what the last failed with."""
    made: list[httpcore.AsyncNetworkStream] = []
    errors: list[Exception] = [httpcore.ConnectError()]

    async def attempt(address: str, failed: anyio.Event) -> None:
        try:
            stream = await connect(address)
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            errors.append(error)
            failed.set()
            return
        if made:
            await stream.aclose()
            return
        made.append(stream)
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for address in addresses:
            failed = anyio.Event()
            group.start_soon(attempt, address, failed)
            with anyio.move_on_after(_NEXT):
                await failed.wait()
    if not made:
        raise errors[-1] from None
    return made[0]


def resolve_by(http: httpx.AsyncClient, resolve: Resolve) -> None:
    """Have the connections of httpx's own transports, proxies' too, made by a resolver of ours."""
    for transport in (http._transport, *http._mounts.values()):  # noqa: SLF001 - httpx names no way to them
        if isinstance(transport, httpx.AsyncHTTPTransport):
            # httpx takes no backend; httpcore, on which it stands, does.
            transport._pool._network_backend = ResolvingBackend(resolve)  # noqa: SLF001 - see above
