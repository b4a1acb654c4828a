"""A system that doesn't answer is left alone for a while, and nobody's attempt is spent on it."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from orchestrator.http import CIRCUIT_OPEN, Breaker, Clients, Permanent, Retryable, errors
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
        self.answers: dict[str, Answer] = {}
        transport = httpx.MockTransport(self._respond)
        self.clients = Clients(
            clock=lambda: self.now,
            steady=lambda: self.now,
            transport=transport,
            on_circuit=lambda system, state: self.states.append((system, state)),
        )

    def may_erase(self) -> None:
        """Leave for every erasing call."""

    def _respond(self, request: httpx.Request) -> httpx.Response:
        self.called += 1
        return self.answers.get(request.method, self.answer)()

    async def fails(self, client: Any, times: int = 1, *, erasing: bool = False) -> str:
        """Calls that often; the code of the last failure."""
        code = ""
        for _ in range(times):
            path = "/people/anna@example.com"
            called = client.erase_call(self, "DELETE", path) if erasing else client.call("GET", path)
            with pytest.raises((Retryable, Permanent)) as caught:
                await called
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
    is_over = True

    class Leave:
        def may_erase(self) -> None:
            if is_over:
                raise Permanent("expired")

    vendor = Vendor()
    client = vendor.clients.of("hubspot").client("https://vendor.example")
    await vendor.fails(client, OPENS_AFTER, erasing=True)
    vendor.now += FIRST_PAUSE
    waiting: list[str] = []

    async def ask(request: httpx.Request) -> httpx.Response:
        if not waiting:
            waiting.append("asks")
            waiting.append(await vendor.fails(client, erasing=True))
        return httpx.Response(200)

    client._http = httpx.AsyncClient(base_url="https://vendor.example", transport=httpx.MockTransport(ask))
    with pytest.raises(Permanent, match=r"^expired$"):
        await client.erase_call(Leave(), "DELETE", "/")
    is_over = False
    assert 200 == (await client.erase_call(Leave(), "DELETE", "/")).status
    assert ["asks", CIRCUIT_OPEN] == waiting


async def test_looks_that_are_answered_hide_no_erasures_that_are_not() -> None:
    """What can be read may not be erasable: each kind of call has a circuit of its own."""
    vendor = Vendor()
    vendor.answers["GET"] = lambda: httpx.Response(200)
    client = vendor.clients.of("hubspot").client("https://vendor.example")
    for _ in range(OPENS_AFTER):
        await client.call("GET", "/people/anna@example.com")
        assert "vendor_error" == await vendor.fails(client, erasing=True)
    assert CIRCUIT_OPEN == await vendor.fails(client, erasing=True)
    assert ["closed", "open"] == [state for _, state in vendor.states]
    assert 200 == (await client.call("GET", "/")).status


@pytest.mark.parametrize("is_answered", [True, False])
async def test_a_call_from_before_says_nothing_of_how_it_is_since(is_answered: bool) -> None:
    """It was on its way while the circuit opened: it neither closes it nor opens it again."""
    steady = 0
    states: list[str] = []
    breaker = Breaker(lambda: steady, changed=states.append)
    with breaker.call() as old:
        for _ in range(OPENS_AFTER):
            with breaker.call() as verdict:
                verdict.answered = False
        steady += FIRST_PAUSE
        with breaker.call() as trial:
            trial.answered = None
        old.answered = is_answered
    assert ["open", "half_open"] == states
    with breaker.call() as verdict:
        verdict.answered = True
    assert ["open", "half_open", "closed"] == states


async def test_the_clock_that_is_taken_by_default_is_one_that_nobody_sets() -> None:
    """A clock that goes back keeps no circuit open for an hour."""
    now = NOW
    transport = httpx.MockTransport(lambda request: httpx.Response(500))
    client = Clients(clock=lambda: now, transport=transport).of("crm").client("https://vendor.example")
    for _ in range(OPENS_AFTER):
        with pytest.raises(Retryable, match=r"^vendor_error$"):
            await client.call("GET", "/")
    now -= 3600 * 1_000_000
    with pytest.raises(Retryable, match=rf"^{CIRCUIT_OPEN}$") as caught:
        await client.call("GET", "/")
    assert 0 < (caught.value.retry_after or 0) <= FIRST_PAUSE


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
    assert errors.NOT_ASKED | {"unknown_system"} == NOT_ASKED


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
