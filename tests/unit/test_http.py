"""The outgoing client: what it turns faults into, and what it never lets through."""

import ipaddress
import logging
import ssl
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import anyio
import httpx
import pytest
from aiolimiter import AsyncLimiter
from pydantic import ValidationError
from typing_extensions import override

from orchestrator.http import (
    Answer,
    Client,
    Clients,
    Expired,
    Guard,
    GuardedTransport,
    Limits,
    Permanent,
    Retryable,
    StaticAuthority,
)
from orchestrator.secret import SecretRef, SecretUnavailable
from orchestrator.settings.values import Section

pytestmark = pytest.mark.anyio
NOW = 1_788_220_800_000_000  # 2026-09-01T00:00:00Z
SECOND = 1_000_000
Respond = Callable[[httpx.Request], httpx.Response]


class Leave:
    """A permit that counts how often it was asked, and runs out."""

    def __init__(self, times: int = 1000) -> None:
        self.asked = 0
        self._times = times

    def may_erase(self) -> None:
        self.asked += 1
        if self.asked > self._times:
            raise Expired

    def run_out(self) -> None:
        """End it now, as time does."""
        self._times = self.asked


class Renewable:
    """An authority whose first credential is refused."""

    def __init__(self) -> None:
        self.token = "old"
        self.renewed = 0

    async def headers(self) -> Mapping[str, str]:
        return {"Authorization": self.token}

    async def renew(self) -> bool:
        self.renewed += 1
        self.token = "new"
        return True


def client(respond: Respond, **more: Any) -> Client:
    transport = httpx.MockTransport(respond)
    return Client("https://vendor.example", clock=lambda: NOW, transport=transport, **more)


def answering(status: int, headers: Mapping[str, str] | None = None, body: bytes = b"{}") -> Respond:
    return lambda request: httpx.Response(status, headers=headers, content=body)


@pytest.mark.parametrize(
    ("status", "retry_after", "code", "wait"),
    [
        (429, "7", "rate_limited", 7 * SECOND),
        (429, "Tue, 01 Sep 2026 00:01:00 GMT", "rate_limited", 60 * SECOND),
        (503, "Mon, 31 Aug 2026 00:00:00 GMT", "unavailable", 0),
        (503, None, "unavailable", None),
        (429, "soon", "rate_limited", None),
        (429, "-5", "rate_limited", None),
        (429, "99999999999", "rate_limited", 7 * 24 * 3600 * SECOND),
        (500, None, "vendor_error", None),
        (502, "3", "vendor_error", 3 * SECOND),
        (408, None, "timeout", None),
    ],
)
async def test_what_may_pass_is_retryable_with_the_time_that_was_asked_for(
    status: int, retry_after: str | None, code: str, wait: int | None
) -> None:
    """Retry-After in seconds or as a date, never negative and never longer than a week."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    with pytest.raises(Retryable) as caught:
        await client(answering(status, headers)).call("GET", "/")
    assert (code, wait) == (caught.value.code, caught.value.retry_after)


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "http_400"), (404, "http_404"), (401, "credentials_refused"), (403, "credentials_refused")],
)
async def test_what_does_not_pass_is_permanent(status: int, code: str) -> None:
    """A 4xx that the handler didn't ask to see."""
    with pytest.raises(Permanent, match=f"^{code}$"):
        await client(answering(status)).call("GET", "/")


async def test_a_redirect_is_never_followed() -> None:
    """It could lead the credentials, or the deletion, elsewhere."""
    hosts: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        return httpx.Response(302, headers={"Location": "https://elsewhere.example/"})

    with pytest.raises(Permanent, match=r"^redirected$"):
        await client(respond).call("GET", "/")
    assert ["vendor.example"] == hosts


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (httpx.ConnectError("anna@example.com"), "unreachable"),
        (httpx.ReadError("anna@example.com"), "connection_lost"),
        (httpx.RemoteProtocolError("anna@example.com"), "connection_lost"),
        (httpx.ReadTimeout("anna@example.com"), "timeout"),
        (OSError("anna@example.com"), "connection_lost"),
    ],
)
async def test_no_error_of_httpx_gets_out(error: Exception, code: str) -> None:
    """Theirs carry the URL; ours carry a token, and show no cause."""

    def respond(request: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(Retryable, match=f"^{code}$") as caught:
        await client(respond).call("GET", "/people/anna@example.com")
    assert None is caught.value.__cause__
    assert caught.value.__suppress_context__


async def test_httpx_logs_nothing_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    """It would write the URL at INFO."""
    with caplog.at_level(logging.DEBUG):
        await client(answering(200)).call("GET", "/people/anna@example.com")
    assert "anna" not in caplog.text


async def test_a_slow_answer_is_given_up() -> None:
    """The limit is on the whole call, not on each read."""

    class Slow(httpx.AsyncBaseTransport):
        @override
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await anyio.sleep(5)
            return httpx.Response(200)

    limits = Limits(timeout=timedelta(milliseconds=20))
    slow = Client("https://vendor.example", clock=lambda: NOW, transport=Slow(), limits=limits)
    with pytest.raises(Retryable, match=r"^timeout$"):
        await slow.call("GET", "/")


async def test_an_answer_has_a_size() -> None:
    """More than that isn't read."""
    large = client(answering(200, body=b"x" * 100), limits=Limits(max_body=99))
    with pytest.raises(Retryable, match=r"^answer_too_large$"):
        await large.call("GET", "/")


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"\xff", b"[" * 100_000])
async def test_a_body_that_is_no_json_is_malformed(body: bytes) -> None:
    """Whatever came, the error is ours; and the answer's repr never shows it."""
    answer = await client(answering(200, body=body)).call("GET", "/")
    with pytest.raises(Retryable, match=r"^malformed_answer$"):
        answer.json()
    assert "Answer(status=200)" == repr(answer)


async def test_an_object_is_asked_for_where_one_is_needed() -> None:
    """A list in its place is malformed."""
    with pytest.raises(Retryable, match=r"^malformed_answer$"):
        Answer(200, {}, b"[]").object()


async def test_an_erasing_call_asks_its_permit_right_before_each_sending() -> None:
    """Also before the repeat that follows a renewed credential."""
    sent: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers["Authorization"])
        return httpx.Response(401 if request.headers["Authorization"] == "old" else 204)

    permit = Leave()
    await client(respond, authority=Renewable()).erase_call(permit, "DELETE", "/1")
    assert (2, ["old", "new"]) == (permit.asked, sent)
    once = Leave(times=1)
    with pytest.raises(Expired):
        await client(respond, authority=Renewable()).erase_call(once, "DELETE", "/1")
    assert ["old", "new", "old"] == sent


async def test_a_permit_that_ran_out_while_waiting_for_the_rate_limit_stops_the_call() -> None:
    """The permit is asked after the wait, however long that takes: before it, the time was not over yet."""
    sent: list[str] = []
    permit = Leave()

    class Slow(AsyncLimiter):
        @override
        async def acquire(self, amount: float = 1) -> None:
            permit.run_out()

    def respond(request: httpx.Request) -> httpx.Response:
        sent.append(request.url.path)
        return httpx.Response(204)

    with pytest.raises(Expired):
        await client(respond, rate=Slow(1)).erase_call(permit, "DELETE", "/1")
    assert [] == sent


async def test_a_credential_is_renewed_once() -> None:
    """Refused again, it is for a person to mend; a fixed one isn't tried twice."""
    authority = Renewable()
    with pytest.raises(Permanent, match=r"^credentials_refused$"):
        await client(answering(401), authority=authority).call("GET", "/")
    assert 1 == authority.renewed
    asked: list[int] = []

    def respond(request: httpx.Request) -> httpx.Response:
        asked.append(1)
        return httpx.Response(401)

    with pytest.raises(Permanent, match=r"^credentials_refused$"):
        await client(respond, authority=StaticAuthority(lambda: {"Authorization": "x"})).call("GET", "/")
    assert [1] == asked


# --- addresses from outside


async def resolved_to(*addresses: str) -> Guard:
    async def resolve(host: str, port: int) -> tuple[str, ...]:
        return addresses

    return Guard(hosts=frozenset({"controller.example"}), resolve=resolve)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "192.168.1.1",
        "::1",
        "fe80::1",
        "fec0::1",
        "fd00::1",
        "224.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:100.64.0.1",
        "::ffff:224.0.0.1",
        "::10.0.0.1",
        "::ffff:0:10.0.0.1",
        "64:ff9b::10.0.0.1",
        "2002:a00:1::1",
        "2002:5db8:d822::1",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",
        "0.0.0.0",  # noqa: S104 - an address to refuse
    ],
)
async def test_a_name_that_leads_into_our_own_network_is_refused(address: str) -> None:
    """One private address among public ones suffices: the connection could go there."""
    guard = await resolved_to("93.184.216.34", address)
    with pytest.raises(Permanent, match=r"^address_not_public$"):
        await guard.address(httpx.URL("https://controller.example/"))


@pytest.mark.parametrize("address", ["2002:a00:1::1", "2001:0:4136:e378:8000:63bf:f5ff:fffe"])
async def test_the_tunnels_are_refused_whatever_python_calls_them(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its versions differ in what they take for global."""
    monkeypatch.setattr(ipaddress.IPv6Address, "is_global", property(lambda ip: True))
    guard = await resolved_to(address)
    with pytest.raises(Permanent, match=r"^address_not_public$"):
        await guard.address(httpx.URL("https://controller.example/"))


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2600::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]
)
async def test_a_public_address_is_called_however_it_is_written(address: str) -> None:
    """A network of IPv6 alone reaches the rest of the world by addresses of IPv4 within its own."""
    guard = await resolved_to(address)
    assert address == await guard.address(httpx.URL("https://controller.example/"))


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    """Resolved once; the name stays in Host and in TLS."""
    seen: list[httpx.Request] = []

    def respond(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=b"{}")

    transport = GuardedTransport(await resolved_to("93.184.216.34"), httpx.MockTransport(respond))
    guarded = Client("https://controller.example", clock=lambda: NOW, transport=transport)
    await guarded.call("GET", "/v2/requests")
    assert "93.184.216.34" == seen[0].url.host
    assert "controller.example" == seen[0].headers["Host"]
    assert "controller.example" == seen[0].extensions["sni_hostname"]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://controller.example/", "address_not_https"),
        ("https://other.example/", "host_not_allowed"),
        ("https://user:pass@controller.example/", "address_invalid"),
        ("ftp://controller.example/", "address_not_https"),
    ],
)
async def test_an_address_that_is_not_as_agreed_is_refused(url: str, code: str) -> None:
    """By its text, before any name is looked up."""
    with pytest.raises(Permanent, match=f"^{code}$"):
        (await resolved_to()).check(httpx.URL(url))


async def test_a_factory_closes_what_it_made() -> None:
    """A closed client makes no calls any more."""
    clients = Clients(clock=lambda: NOW, transport=httpx.MockTransport(answering(200)))
    made = clients.client("https://vendor.example")
    await clients.aclose()
    with pytest.raises(RuntimeError):
        await made.call("GET", "/")


# --- secrets by reference


class Holder(Section):
    token: SecretRef


def test_a_secret_is_read_from_where_it_is_said_to_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """From a variable, or from a file without the line feed at its end."""
    monkeypatch.setenv("VENDOR_TOKEN", "from-variable")
    path = tmp_path_factory.mktemp("secrets") / "token"
    path.write_text("from-file\n")
    assert "from-variable" == SecretRef.model_validate({"env": "VENDOR_TOKEN"}).read()
    assert "from-file" == SecretRef.model_validate({"file": path}).read()


def test_a_secret_in_the_settings_is_refused_and_not_repeated() -> None:
    """The message says what to write instead, and doesn't quote what was written."""
    with pytest.raises(ValidationError) as caught:
        Holder.model_validate({"token": "s3cr3t-value"})
    assert "s3cr3t" not in str(caught.value)
    assert "environment variable or a file" in str(caught.value)


@pytest.mark.parametrize("given", [{}, {"env": "A", "file": "/b"}, {"env": "A", "other": "c"}])
def test_a_secret_is_in_one_place(given: dict[str, str]) -> None:
    """Neither, both, or something else is refused."""
    with pytest.raises(ValidationError):
        SecretRef.model_validate(given)


def test_a_secret_that_is_not_there_says_where_it_should_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The variable or the file is named, and what to do."""
    monkeypatch.delenv("VENDOR_TOKEN", raising=False)
    with pytest.raises(SecretUnavailable, match="VENDOR_TOKEN is not set"):
        SecretRef.model_validate({"env": "VENDOR_TOKEN"}).read()
    folder = tmp_path_factory.mktemp("secrets")
    with pytest.raises(SecretUnavailable, match="create it"):
        SecretRef.model_validate({"file": folder / "none"}).read()
    (folder / "empty").write_text("\n")
    with pytest.raises(SecretUnavailable, match="is empty"):
        SecretRef.model_validate({"file": folder / "empty"}).read()


async def test_whom_to_trust_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many systems a process has: each reading takes longer than all else that a client needs. An
    address from outside is judged without the environment, which may name authorities of our own network.
    """
    read: list[bool] = []
    real = httpx.create_ssl_context

    def reading(*, trust_env: bool) -> ssl.SSLContext:
        read.append(trust_env)
        return real(trust_env=trust_env)

    monkeypatch.setattr(httpx, "create_ssl_context", reading)
    clients = Clients(clock=lambda: NOW)
    for system in ("crm", "desk"):
        own = clients.of(system)
        own.client("https://vendor.example")
        own.client("https://controller.example", guard=Guard(hosts=frozenset({"controller.example"})))
    await clients.aclose()

    assert [False, True] == sorted(read)
