"""What is kept of the calls made for one command, and what never is."""

import httpx
import pytest

from orchestrator.http import Clients, Limits, Retryable, recorded

pytestmark = pytest.mark.anyio
NOW = 1_788_220_800_000_000  # 2026-09-01T00:00:00Z
ID = "5eeded00-0000-4000-8000-000000000001"


class Leave:
    def may_erase(self) -> None:
        pass


def clients(*answers: httpx.Response, seen: list[httpx.Request] | None = None) -> Clients:
    left = list(answers)

    def respond(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        return left.pop(0)

    return Clients(clock=lambda: NOW, transport=httpx.MockTransport(respond))


async def test_the_erasing_calls_are_the_evidence() -> None:
    """A look that follows the erasure takes nothing of its proof away."""
    client = clients(
        httpx.Response(200, headers={"x-request-id": "a-look-before"}),
        httpx.Response(204, headers={"x-hubspot-correlation-id": ID}),
        httpx.Response(200, headers={"x-request-id": "a-look-after"}),
    ).client("https://vendor.example")
    with recorded("command-1") as calls:
        await client.call("GET", "/")
        await client.erase_call(Leave(), "DELETE", "/")
        await client.call("GET", "/")
    assert {
        "vendor_calls": "3",
        "vendor_status": "204",
        "vendor_answered_at": "2026-09-01T00:00:00Z",
        "vendor_correlation": ID,
    } == calls.evidence()


async def test_a_failure_is_kept_with_the_id_that_its_body_names() -> None:
    """HubSpot's support asks for the correlationId of an error; its message may quote the address."""
    body = {"message": "anna@example.com is unknown", "correlationId": ID}
    client = clients(httpx.Response(500, json=body)).client("https://vendor.example")
    with recorded("command-1") as calls, pytest.raises(Retryable):
        await client.call("GET", "/")
    assert ("500", ID) == (calls.evidence()["vendor_status"], calls.evidence()["vendor_correlation"])
    assert "anna" not in str(calls.evidence())


@pytest.mark.parametrize(
    "given", ["anna@example.com", "Anna Ek", "<script>", "short", "a" * 200, "", "id\twith tab"]
)
async def test_what_has_not_the_form_of_an_id_is_none(given: str) -> None:
    """A header comes from the other side, which may put anything there."""
    answer = httpx.Response(200, headers={"x-request-id": given})
    client = clients(answer).client("https://vendor.example")
    with recorded("command-1") as calls:
        await client.call("GET", "/")
    assert "vendor_correlation" not in calls.evidence()


async def test_each_call_has_an_id_that_a_repeat_has_too() -> None:
    """Derived from the command's: two calls differ, and the same command again gives the same two."""
    seen: list[httpx.Request] = []
    client = clients(*[httpx.Response(200) for _ in range(5)], seen=seen).client("https://vendor.example")
    for cause in ("command-1", "command-1", "command-2"):
        with recorded(cause):
            await client.call("GET", "/")
            if cause == "command-1":
                await client.call("GET", "/")
    first, second, again, once_more, other = [request.headers["x-request-id"] for request in seen]
    assert (first, second) == (again, once_more)
    assert 3 == len({first, second, other})


async def test_outside_a_command_nothing_is_sent_along_or_kept() -> None:
    """A check has no command, and no evidence."""
    seen: list[httpx.Request] = []
    await clients(httpx.Response(200), seen=seen).client("https://vendor.example").call("GET", "/")
    assert "x-request-id" not in seen[0].headers
    with recorded("command-1") as calls:
        pass
    assert {} == calls.evidence()


def test_systems_of_one_account_share_its_rate() -> None:
    """The vendor counts by account; another account, or another rate, counts by itself."""
    made = clients()
    limits = Limits(calls=10)
    one = made.of("a").client("https://vendor.example", limits=limits, account="google/key")
    two = made.of("b").client("https://vendor.example", limits=limits, account="google/key")
    other = made.of("c").client("https://vendor.example", limits=limits, account="google/other")
    assert one._rate is two._rate
    assert one._rate is not other._rate
