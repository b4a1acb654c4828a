"""What a vendor says of when to call again is kept to by all that use the account, within reason."""

import logging

import httpx
import pytest

from orchestrator.http import Client, Clients, NotAsked, Retryable
from orchestrator.http.waiting import LONGEST, MAX_RETRY_AFTER

pytestmark = pytest.mark.anyio
NOW = 1_788_220_800_000_000  # 2026-09-01T00:00:00Z
SECOND = 1_000_000


class Vendor:
    """Says "not now" with the header that it is given, and counts who asked."""

    def __init__(self, retry_after: str = "3600", status: int = 429) -> None:
        self.retry_after, self.status = retry_after, status
        self.steady = 0
        self.asked = 0
        transport = httpx.MockTransport(self._respond)
        self.clients = Clients(clock=lambda: NOW, steady=lambda: self.steady, transport=transport)

    def _respond(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        return httpx.Response(self.status, headers={"Retry-After": self.retry_after}, json={})

    def client(self, system: str = "crm", account: str | None = "vendor/1") -> Client:
        return self.clients.of(system).client("https://vendor.example", account=account)

    async def wait(self, client: Client) -> tuple[str, int | None]:
        """Call; the code and the wait of the failure."""
        with pytest.raises(Retryable) as caught:
            await client.call("GET", "/people/anna@example.com")
        return caught.value.code, caught.value.retry_after


async def test_not_for_an_hour_is_asked_once_and_not_a_hundred_times() -> None:
    """Whichever system of the account the commands are for; after the hour somebody asks again."""
    vendor = Vendor()
    clients = [vendor.client("crm"), vendor.client("desk")]
    assert ("rate_limited", 3600 * SECOND) == await vendor.wait(clients[0])
    vendor.steady += 600 * SECOND
    for number in range(100):
        assert ("told_to_wait", 3000 * SECOND) == await vendor.wait(clients[number % 2])
    assert 1 == vendor.asked
    vendor.steady += 3000 * SECOND
    assert "rate_limited" == (await vendor.wait(clients[0]))[0]


async def test_another_account_is_not_told_to_wait() -> None:
    """Nor, without accounts, another system at the same address."""
    vendor = Vendor(status=503)
    await vendor.wait(vendor.client())
    assert "unavailable" == (await vendor.wait(vendor.client(account="vendor/2")))[0]
    assert "unavailable" == (await vendor.wait(vendor.client("desk", account=None)))[0]
    assert "unavailable" == (await vendor.wait(vendor.client("crm", account=None)))[0]
    assert "told_to_wait" == (await vendor.wait(vendor.client("crm", account=None)))[0]


@pytest.mark.parametrize("given", ["0", "2", "Mon, 31 Aug 2026 00:00:00 GMT", "soon", ""])
async def test_a_short_wait_stops_nobody_else(given: str) -> None:
    """It is over before others call, and the back-off is there for whoever was told."""
    vendor = Vendor(given)
    for _ in range(3):
        assert "rate_limited" == (await vendor.wait(vendor.client()))[0]
    assert 3 == vendor.asked


@pytest.mark.parametrize("given", ["9" * 4400, "9" * 16, "Mon, 31 Aug 99999 00:00:00 GMT", "1e9"])
async def test_what_is_no_time_is_ignored(given: str) -> None:
    """Python refuses to read 4,400 digits; the call fails as it would have without them."""
    vendor = Vendor(given)
    assert ("rate_limited", None) == await vendor.wait(vendor.client())
    assert ("rate_limited", None) == await vendor.wait(vendor.client())


async def test_a_huge_wait_is_bounded_and_told(caplog: pytest.LogCaptureFixture) -> None:
    """The statutory clock goes on: a week is the longest, and meanwhile one asks now and then."""
    vendor = Vendor("999999999")
    with caplog.at_level(logging.WARNING):
        assert ("rate_limited", MAX_RETRY_AFTER) == await vendor.wait(vendor.client())
    [told] = [one for one in caplog.records if one.getMessage() == "retry_after_bounded"]
    assert ("crm", 7 * 24 * 3600) == (told.__dict__["system"], told.__dict__["seconds"])
    vendor.steady += LONGEST - 1
    assert ("told_to_wait", 1) == await vendor.wait(vendor.client())
    vendor.steady += 1
    assert "rate_limited" == (await vendor.wait(vendor.client()))[0]


async def test_what_a_vendor_says_in_its_own_words_is_kept_to_as_well() -> None:
    """A daily limit comes without the header; the handler knows when the day ends."""
    vendor = Vendor()
    client = vendor.client()
    client.hold(60 * SECOND)
    with pytest.raises(NotAsked, match=r"^told_to_wait$"):
        await client.call("GET", "/")
    assert 0 == vendor.asked
