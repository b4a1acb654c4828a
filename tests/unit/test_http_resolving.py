"""Names: a name server that is away holds up its own system only, and is not the vendor's silence."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import anyio
import httpcore
import pytest

from orchestrator.http import Client, Clients, Guard, Limits, NotAsked, Retryable
from orchestrator.http.resolving import Resolver, _first

pytestmark = pytest.mark.anyio
NOW = 1_788_220_800_000_000  # 2026-09-01T00:00:00Z


class Names:
    """A name server: it answers for each name but those that begin with "dead", until it is back."""

    def __init__(self) -> None:
        self.is_back = threading.Event()
        self.asked: list[str] = []
        self.error: Exception | None = None

    def look_up(self, host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        if host.startswith("dead"):
            assert self.is_back.wait(60)
        if self.error is not None:
            raise self.error
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """The name server that the whole process has."""
    known = Names()
    monkeypatch.setattr(socket, "getaddrinfo", known.look_up)
    yield known
    known.is_back.set()


@contextlib.asynccontextmanager
async def vendor() -> AsyncIterator[int]:
    """A server on loopback that answers each call with 204; its port."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while (await reader.readline()).strip():
                pass
            writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            await writer.drain()

    server = await asyncio.start_server(converse, sock=socket.create_server(("127.0.0.1", 0)))
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.mark.parametrize("guarded", [False, True])
async def test_names_that_nobody_finds_hold_up_no_other_system(names: Names, guarded: bool) -> None:
    """However many: each system has places of its own, and the process's other threads are not among them."""
    clients = Clients(clock=lambda: NOW)

    def of(system: str, host: str, port: int) -> Client:
        guard = Guard(hosts=frozenset({host}), allow_private=True) if guarded else None
        return clients.of(system).client(f"http://{host}:{port}", guard=guard)

    async with vendor() as port, anyio.create_task_group() as dead:
        for number in range(40):
            dead.start_soon(of("away", f"dead-{number}.example", port).call, "GET", "/")
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(10):
            assert 204 == (await of("crm", "crm.example", port).call("GET", "/")).status
        assert 4 == sum(name.startswith("dead") for name in names.asked)
        dead.cancel_scope.cancel()
    names.is_back.set()
    await clients.aclose()


async def test_a_look_up_is_not_waited_for_without_an_end() -> None:
    """One that takes too long keeps its place until it ends; who finds no place is told that."""
    names = Names()
    resolver = Resolver(places=1, limit=0.05, lookup=names.look_up)
    for code in ("resolver_silent", "resolver_busy", "resolver_busy"):
        with pytest.raises(NotAsked, match=f"^{code}$"):
            await resolver("dead.example", 443)
    assert ["dead.example"] == names.asked
    names.is_back.set()
    patient = Resolver(lookup=names.look_up)
    assert ["127.0.0.1"] == await patient("dead.example", 443)
    with anyio.fail_after(10):
        await resolver._places.acquire()


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (socket.gaierror(socket.EAI_NONAME, "anna"), Retryable, "name_not_resolved"),
        (socket.gaierror(socket.EAI_AGAIN, "anna"), NotAsked, "resolver_silent"),
        (UnicodeError("anna"), Retryable, "name_not_resolved"),
    ],
)
async def test_no_address_is_an_answer_and_no_answer_is_none(
    error: Exception, kind: type[Retryable], code: str
) -> None:
    """Only of the first the vendor knows; the name server's own text is not repeated."""
    names = Names()
    names.error = error
    with pytest.raises(kind, match=f"^{code}$") as caught:
        await Resolver(lookup=names.look_up)("vendor.example", 443)
    assert kind is type(caught.value)
    assert caught.value.__cause__ is None


async def test_an_address_is_not_looked_up() -> None:
    """It is one already."""
    names = Names()
    assert ["::1"] == await Resolver(lookup=names.look_up)("::1", 443)
    assert [] == names.asked


async def test_a_name_that_is_not_found_in_time_opens_no_circuit(names: Names) -> None:
    """Nobody asked the system. One whose name has no address is away, as before."""
    states: list[str] = []
    clients = Clients(clock=lambda: NOW, on_circuit=lambda _, state: states.append(state))
    client = clients.of("crm").client("http://vendor.example")
    names.error = socket.gaierror(socket.EAI_AGAIN, "")
    for _ in range(10):
        with pytest.raises(NotAsked, match=r"^resolver_silent$"):
            await client.call("GET", "/")
    assert ["closed"] == states
    names.error = socket.gaierror(socket.EAI_NONAME, "")
    for _ in range(5):
        with pytest.raises(Retryable, match=r"^name_not_resolved$"):
            await client.call("GET", "/")
    assert ["closed", "open"] == states
    await clients.aclose()


async def test_a_slow_name_server_takes_nothing_of_the_vendors_time(names: Names) -> None:
    """A call has its limit from when the name is known: the wait before it is ours."""
    limits = Limits(timeout=timedelta(seconds=0.2))
    async with vendor() as port, anyio.create_task_group() as group:
        client = Client(f"http://dead.example:{port}", clock=lambda: NOW, limits=limits)
        answers: list[int] = []

        async def call() -> None:
            answers.append((await client.call("GET", "/")).status)

        group.start_soon(call)
        await anyio.sleep(0.3)
        names.is_back.set()
    assert [204] == answers
    await client.aclose()


class Stream(httpcore.AsyncMockStream):
    """A connection that knows to which address it goes."""

    def __init__(self, address: str) -> None:
        super().__init__([])
        self.address = address


def reached(*addresses: str, fails: tuple[str, ...] = ()) -> Callable[[str], Any]:
    """Connect to these at once, fail at once for those, and wait for ever for others."""

    async def connect(address: str) -> Stream:
        if address in fails:
            raise httpcore.ConnectError
        if address not in addresses:
            await anyio.sleep_forever()
        return Stream(address)

    return connect


@pytest.mark.parametrize("first", ["fails", "hangs"])
async def test_one_address_that_is_not_reached_does_not_hide_the_next(first: str) -> None:
    """A network that has no way for IPv6 says so, or says nothing."""
    with anyio.fail_after(10):
        stream = await _first(reached("192.0.2.1", fails=("fails",)), [first, "192.0.2.1", "192.0.2.2"])
    assert isinstance(stream, Stream)
    assert "192.0.2.1" == stream.address


async def test_when_no_address_is_reached_the_system_is_unreachable() -> None:
    """It is the other side's silence, then."""
    with pytest.raises(httpcore.ConnectError):
        await _first(reached(fails=("a", "b")), ["a", "b"])
