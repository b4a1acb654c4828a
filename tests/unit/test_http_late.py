"""No erasing call leaves after its time, whatever it waits for between the permit and the first byte."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from handlers.sandbox.certificates import Authority, new_key, private_pem
from orchestrator.http import Client, Clients, Expired, Guard, Limits, NotAsked, Retryable, about_to_send
from orchestrator.http.resolving import Resolve

pytestmark = pytest.mark.anyio
NOW = 1_788_220_800_000_000  # 2026-09-01T00:00:00Z
HOST = "vendor.example"


class Leave:
    """A permit that ends when it is told to."""

    def __init__(self) -> None:
        self.is_over = False
        self.asked = 0

    def may_erase(self) -> None:
        self.asked += 1
        if self.is_over:
            raise Expired

    def end(self, *_: object) -> None:
        self.is_over = True


class Vendor:
    """A server on loopback that notes the calls that reach it, and answers when it may."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.called = asyncio.Event()
        self.port = 0

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            while line := await reader.readline():
                self.calls.append(line.decode().rpartition(" ")[0])
                self.called.set()
                while (await reader.readline()).strip():
                    pass
                await self.may_answer.wait()
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                await writer.drain()


@asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Vendor]:
    vendor = Vendor()
    server = await asyncio.start_server(vendor.converse, "127.0.0.1", 0, ssl=tls)
    vendor.port = server.sockets[0].getsockname()[1]
    try:
        yield vendor
    finally:
        vendor.may_answer.set()
        server.close()


@pytest.fixture
def certified(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's side of TLS, and a client's that believes it."""
    authority, key = Authority(NOW), new_key("vendor")
    (tmp_path / "vendor.pem").write_text(authority.issue(HOST, key) + private_pem(key))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "vendor.pem")
    return server, ssl.create_default_context(cadata=authority.root())


def guarded(port: int, resolve: Resolve) -> Client:
    """A client of the vendor by a name that `resolve` finds."""
    guard = Guard(hosts=frozenset({HOST}), allow_private=True, resolve=resolve)
    return Clients(clock=lambda: NOW).client(f"http://{HOST}:{port}", guard=guard)


def plain(port: int, **limits: Any) -> Client:
    return Client(f"http://127.0.0.1:{port}", clock=lambda: NOW, limits=Limits(**limits))


async def test_a_permit_that_ends_during_the_handshake_stops_the_call(
    certified: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    """TLS is slow: by then the time is over, and the vendor never hears of the call."""
    permit = Leave()
    server_side, trust = certified
    server_side.sni_callback = permit.end
    async with serving(server_side) as vendor:
        trust.check_hostname = False
        async with aclosing(
            Client(f"https://localhost:{vendor.port}", clock=lambda: NOW, trust=trust)
        ) as client:
            with pytest.raises(Expired):
                await client.erase_call(permit, "POST", "/delete")
            assert [] == vendor.calls
            permit.is_over, server_side.sni_callback = False, None
            await client.erase_call(permit, "POST", "/delete")
            assert ["POST /delete"] == vendor.calls


async def test_a_permit_that_ends_while_a_name_is_looked_up_stops_the_call() -> None:
    """A slow guard is a wait as any other."""
    permit = Leave()

    async def resolve(host: str, port: int) -> Sequence[str]:
        permit.end()
        return ["127.0.0.1"]

    async with serving() as vendor, aclosing(guarded(vendor.port, resolve)) as client:
        with pytest.raises(Expired):
            await client.erase_call(permit, "POST", "/delete")
        assert [] == vendor.calls
        assert 204 == (await client.call("GET", "/")).status


async def test_a_permit_that_ends_while_a_connection_is_waited_for_stops_the_call() -> None:
    """All connections are taken; when one is free, the time is over."""
    permit = Leave()
    async with serving() as vendor, aclosing(plain(vendor.port, connections=1)) as client:
        vendor.may_answer.clear()

        async def late() -> None:
            with pytest.raises(Expired):
                await client.erase_call(permit, "POST", "/delete")

        async with anyio.create_task_group() as group:
            group.start_soon(client.call, "GET", "/")
            await vendor.called.wait()
            group.start_soon(late)
            await anyio.wait_all_tasks_blocked()
            permit.end()
            vendor.may_answer.set()
        assert ["GET /"] == vendor.calls


async def test_a_look_asks_no_permit_and_an_erasing_call_asks_when_it_leaves() -> None:
    """To ask costs a question to the database; only what takes something away has to."""
    permit = Leave()
    async with serving() as vendor, aclosing(plain(vendor.port)) as client:
        await client.call("GET", "/")
        assert 0 == permit.asked
        await client.erase_call(permit, "DELETE", "/1")
        assert 2 == permit.asked


async def test_a_transport_without_connections_asks_too() -> None:
    """What stands in for the network says when a call leaves."""
    permit = Leave()
    sent: list[str] = []

    async def respond(request: httpx.Request) -> httpx.Response:
        permit.end()
        await about_to_send(request)
        sent.append(request.url.path)
        return httpx.Response(204)

    client = Client("https://vendor.example", clock=lambda: NOW, transport=httpx.MockTransport(respond))
    with pytest.raises(Expired):
        await client.erase_call(permit, "POST", "/delete")
    assert [] == sent
    await client.call("GET", "/")
    assert ["/"] == sent


@pytest.mark.parametrize("when", ["of ours", "of the pool's"])
async def test_no_free_connection_is_no_silence_of_the_vendors(when: str) -> None:
    """Nobody was asked: it has a code of its own, and opens no circuit, however often."""

    async def respond(request: httpx.Request) -> httpx.Response:
        if when == "of the pool's":
            raise httpx.PoolTimeout("anna@example.com")
        await anyio.sleep_forever()
        return httpx.Response(204)

    states: list[str] = []
    clients = Clients(
        clock=lambda: NOW,
        transport=httpx.MockTransport(respond),
        on_circuit=lambda _, state: states.append(state),
    )
    limits = Limits(connections=1, timeout=timedelta(seconds=0.02))
    async with aclosing(clients.of("crm").client("https://vendor.example", limits=limits)) as client:
        if when == "of ours":
            await client._connections.acquire()
        for _ in range(10):
            with pytest.raises(NotAsked, match=r"^no_free_connection$"):
                await client.call("GET", "/")
    assert ["closed"] == states


async def test_connections_that_all_are_taken_are_waited_for_no_longer_than_a_call_may_take() -> None:
    """The wait has the limit of a call, and the call its whole limit after the wait."""
    answered: list[str] = []

    async def respond(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/slow":
            await anyio.sleep_forever()
        answered.append(request.url.path)
        return httpx.Response(204)

    limits = Limits(connections=2, timeout=timedelta(seconds=0.05))
    transport = httpx.MockTransport(respond)
    async with aclosing(
        Client("https://vendor.example", clock=lambda: NOW, transport=transport, limits=limits)
    ) as client:
        for _ in range(2):
            with pytest.raises(Retryable, match=r"^timeout$"):
                await client.call("GET", "/slow")
        await client.call("GET", "/quick")
    assert ["/quick"] == answered
