"""A system that doesn't answer is left alone for a while, and nobody's attempt is spent on it."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from orchestrator.http import CIRCUIT_OPEN, Clients, Permanent, Retryable, errors
from orchestrator.http.breaker import FIRST_PAUSE, LONGEST_PAUSE, OPENS_AFTER
from orchestrator.metrics import Metrics
from orchestrator.saga.steps import NOT_ASKED

pytestmark = pytest.mark.anyio
NOW = 1_788_220_800_000_000
Answer = Callable[[], httpx.Response]


class Vendor:
    """Answers as it is told, and counts who came through."""

    def __init__(self) -> None:
        self.now = NOW
        self.called = 0
        self.states: list[tuple[str, str]] = []
        self.answer: Answer = lambda: httpx.Response(500)
        transport = httpx.MockTransport(self._respond)
        self.clients = Clients(
            clock=lambda: self.now,
            transport=transport,
            on_circuit=lambda system, state: self.states.append((system, state)),
        )

    def _respond(self, request: httpx.Request) -> httpx.Response:
        self.called += 1
        return self.answer()

    async def fails(self, client: Any, times: int = 1) -> str:
        """Calls that often; the code of the last failure."""
        code = ""
        for _ in range(times):
            with pytest.raises((Retryable, Permanent)) as caught:
                await client.call("GET", "/people/anna@example.com")
            code = caught.value.code
        return code


def _no_connection() -> httpx.Response:
    raise httpx.ConnectError("anna@example.com")


@pytest.mark.parametrize(
    ("answer", "opens"),
    [
        (lambda: httpx.Response(500), True),
        (lambda: httpx.Response(503, headers={"Retry-After": "1"}), True),
        (_no_connection, True),
        (lambda: httpx.Response(429), False),
        (lambda: httpx.Response(404), False),
        (lambda: httpx.Response(401), False),
    ],
)
async def test_only_silence_and_the_vendors_own_faults_open_the_circuit(answer: Answer, opens: bool) -> None:
    """A refusal and "too many requests" are signs of life."""
    vendor = Vendor()
    vendor.answer = answer
    client = vendor.clients.of("hubspot").client("https://vendor.example")
    code = await vendor.fails(client, OPENS_AFTER + 3)
    assert opens == (CIRCUIT_OPEN == code)
    assert (OPENS_AFTER if opens else OPENS_AFTER + 3) == vendor.called


async def test_an_answer_in_between_begins_the_count_anew() -> None:
    """A vendor that fails now and then is not away, however often that was in all."""
    vendor = Vendor()
    client = vendor.clients.of("hubspot").client("https://vendor.example")
    for _ in range(3):
        vendor.answer = lambda: httpx.Response(500)
        assert "vendor_error" == await vendor.fails(client, OPENS_AFTER - 1)
        vendor.answer = lambda: httpx.Response(200)
        assert 200 == (await client.call("GET", "/")).status
    assert ["closed"] == [state for _, state in vendor.states]


async def test_one_call_tries_and_its_answer_closes_the_circuit() -> None:
    """The pause says when; until then nobody is asked, and an answer ends it for all."""
    vendor = Vendor()
    client = vendor.clients.of("hubspot").client("https://vendor.example")
    await vendor.fails(client, OPENS_AFTER)
    vendor.now += FIRST_PAUSE - 5
    with pytest.raises(Retryable) as caught:
        await client.call("GET", "/")
    assert (CIRCUIT_OPEN, 5) == (caught.value.code, caught.value.retry_after)
    vendor.now += 5
    vendor.answer = lambda: httpx.Response(200)
    assert 200 == (await client.call("GET", "/")).status
    assert ["closed", "open", "half_open", "closed"] == [state for _, state in vendor.states]


async def test_a_failed_try_begins_a_longer_pause_up_to_a_limit() -> None:
    """A vendor that is away for a day is asked every ten minutes, not every half."""
    vendor = Vendor()
    client = vendor.clients.of("hubspot").client("https://vendor.example")
    await vendor.fails(client, OPENS_AFTER)
    pauses = []
    for _ in range(7):
        with pytest.raises(Retryable) as caught:
            await client.call("GET", "/")
        pauses.append(caught.value.retry_after or 0)
        vendor.now += pauses[-1]
        assert "vendor_error" == await vendor.fails(client)
    assert [FIRST_PAUSE, FIRST_PAUSE * 2] == pauses[:2]
    assert LONGEST_PAUSE == pauses[-1]


async def test_while_one_tries_the_others_wait_and_a_try_without_leave_lets_the_next_one() -> None:
    """Half open is one call at a time; one that was never sent says nothing about the system."""

    class NoLeave:
        def may_erase(self) -> None:
            raise Permanent("expired")

    vendor = Vendor()
    client = vendor.clients.of("hubspot").client("https://vendor.example")
    await vendor.fails(client, OPENS_AFTER)
    vendor.now += FIRST_PAUSE
    waiting: list[str] = []

    async def ask(request: httpx.Request) -> httpx.Response:
        waiting.append(await vendor.fails(client))
        return httpx.Response(200)

    client._http = httpx.AsyncClient(base_url="https://vendor.example", transport=httpx.MockTransport(ask))
    with pytest.raises(Permanent, match=r"^expired$"):
        await client.erase_call(NoLeave(), "DELETE", "/")
    assert 200 == (await client.call("GET", "/")).status
    assert [CIRCUIT_OPEN] == waiting


async def test_each_system_and_each_address_has_its_own() -> None:
    """A controller that is away says nothing about the data API, nor one system about another."""
    vendor = Vendor()
    tenant = vendor.clients.of("tenant")
    controller, api = tenant.client("https://away.example"), tenant.client("https://api.example")
    other = vendor.clients.of("hubspot").client("https://away.example")
    await vendor.fails(controller, OPENS_AFTER)
    assert CIRCUIT_OPEN == await vendor.fails(controller)
    assert "vendor_error" == await vendor.fails(api)
    assert "vendor_error" == await vendor.fails(other)


async def test_the_state_is_in_the_metrics() -> None:
    """By system, from a closed set: a name that nobody configured becomes "other"."""
    metrics = Metrics(["hubspot"], ["hubspot"])
    vendor = Vendor()
    clients = Clients(
        clock=lambda: NOW, transport=httpx.MockTransport(vendor._respond), on_circuit=metrics.circuit
    )
    await vendor.fails(clients.of("hubspot").client("https://vendor.example"), OPENS_AFTER)
    clients.of("stranger")
    text = metrics.text().decode()
    assert 'radera_circuit_state{state="open",system="hubspot"} 1.0' in text
    assert 'radera_circuit_state{state="closed",system="hubspot"} 0.0' in text
    assert 'radera_circuit_state{state="closed",system="other"} 1.0' in text
    assert "stranger" not in text


def test_the_saga_knows_the_words_by_which_nobody_was_asked() -> None:
    """The core imports nothing of the client, so the tokens stand in both."""
    assert errors.NOT_ASKED == NOT_ASKED


async def test_a_clock_that_is_set_opens_and_closes_no_circuit() -> None:
    """A system is left alone by a clock that nobody sets: neither for a year, nor for no time."""
    vendor = Vendor()
    steady = NOW
    clients = Clients(
        clock=lambda: vendor.now, steady=lambda: steady, transport=httpx.MockTransport(vendor._respond)
    )
    client = clients.of("crm").client("https://vendor.example")
    vendor.now += 365 * 86_400_000_000
    await vendor.fails(client, OPENS_AFTER)
    assert CIRCUIT_OPEN == await vendor.fails(client)
    vendor.now -= 365 * 86_400_000_000
    assert CIRCUIT_OPEN == await vendor.fails(client)
    steady += FIRST_PAUSE
    vendor.answer = lambda: httpx.Response(200)
    await client.call("GET", "/people/anna@example.com")
