"""Logins: one for all who need it, none that can't help, and nothing kept that vouches besides."""

from collections.abc import Mapping

import anyio
import anyio.lowlevel
import httpx
import pytest

from orchestrator.http import Client, Permanent
from orchestrator.http.credentials import PATIENCE

pytestmark = pytest.mark.anyio
NOW = 1_788_220_800_000_000  # 2026-09-01T00:00:00Z


class Door:
    """An authority that counts its logins; `refuses` them, or gives what the vendor takes, or does not."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.logins = 0
        self.token = "token-0"
        self.refuses = refuses

    async def headers(self) -> Mapping[str, str]:
        return {"Authorization": self.token}

    async def renew(self) -> bool:
        self.logins += 1
        await anyio.lowlevel.checkpoint()
        if self.refuses:
            raise Permanent("credentials_refused")
        self.token = f"token-{self.logins}"
        return True


class Vendor:
    """Takes the tokens that it is told to, and answers others as it is told to."""

    def __init__(self, *takes: str, refusal: httpx.Response | None = None) -> None:
        self.takes = set(takes)
        self.refusal = refusal or httpx.Response(401)
        self.seen: list[httpx.Request] = []
        self.steady = 0

    async def respond(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        await anyio.lowlevel.checkpoint()
        if request.headers["Authorization"] in self.takes:
            return httpx.Response(200, json={})
        refusal = self.refusal
        return httpx.Response(refusal.status_code, headers=refusal.headers, json={})

    def client(self, door: Door) -> Client:
        return Client(
            "https://vendor.example",
            clock=lambda: NOW,
            steady=lambda: self.steady,
            transport=httpx.MockTransport(self.respond),
            authority=door,
        )


async def many(client: Client, times: int = 50) -> list[str]:
    """So many commands at once; the codes of those that failed."""
    failed: list[str] = []

    async def command() -> None:
        try:
            await client.call("GET", "/")
        except Permanent as error:
            failed.append(error.code)

    async with anyio.create_task_group() as group:
        for _ in range(times):
            group.start_soon(command)
    return failed


async def test_fifty_commands_with_a_revoked_token_log_in_once() -> None:
    """The first that is refused renews it for all; the others see that theirs counts no more."""
    door, vendor = Door(), Vendor("token-1")
    assert [] == await many(vendor.client(door))
    assert 1 == door.logins


async def test_a_new_token_that_is_refused_at_once_is_not_renewed_by_each() -> None:
    """The vendor gives tokens and takes none: a person has to mend it, and may need some time."""
    door, vendor = Door(), Vendor()
    client = vendor.client(door)
    for _ in range(4):
        assert {"credentials_refused"} == set(await many(client))
    assert 1 == door.logins
    vendor.steady += PATIENCE
    vendor.takes = {"token-2"}
    assert [] == await many(client)
    assert 2 == door.logins


async def test_a_refused_login_is_not_repeated_by_each() -> None:
    """An account may be locked for too many; after a while one tries again."""
    door, vendor = Door(refuses=True), Vendor()
    client = vendor.client(door)
    for _ in range(4):
        assert ["credentials_refused"] * 50 == await many(client)
    assert 1 == door.logins
    vendor.steady += PATIENCE
    door.refuses, vendor.takes = False, {"token-2"}
    assert [] == await many(client)


async def test_a_token_that_served_is_renewed_when_it_is_refused() -> None:
    """What was taken once may end: each time one login, and no wait."""
    door, vendor = Door(), Vendor("token-0")
    client = vendor.client(door)
    for number in range(3):
        vendor.takes = {f"token-{number}"}
        assert [] == await many(client, 5)
    assert 2 == door.logins


@pytest.mark.parametrize(
    ("challenge", "logins"),
    [("", 0), ('Bearer error="insufficient_scope"', 0), ('Bearer error="invalid_token"', 1)],
)
async def test_a_missing_right_is_no_reason_to_log_in(challenge: str, logins: int) -> None:
    """A 403 is about what was asked, unless it says that it is about the token."""
    door = Door()
    vendor = Vendor("token-1", refusal=httpx.Response(403, headers={"WWW-Authenticate": challenge}))
    assert (["credentials_refused"] if not logins else []) == await many(vendor.client(door), 1)
    assert logins == door.logins


async def test_no_cookie_goes_along_with_a_later_call() -> None:
    """It would vouch for an account whose token was replaced, and grow with each answer."""
    seen: list[str | None] = []

    def respond(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("Cookie"))
        return httpx.Response(200, headers={"Set-Cookie": f"s{len(seen)}=secret; Path=/"}, json={})

    client = Client("https://vendor.example", clock=lambda: NOW, transport=httpx.MockTransport(respond))
    for _ in range(3):
        await client.call("GET", "/")
    assert [None] * 3 == seen
    assert 0 == len(client._http.cookies)
