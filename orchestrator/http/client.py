"""The outgoing HTTP client that every handler uses.

The rules it keeps, so that no handler can forget them:

* An erasing call needs a permit. It is asked after the wait for the rate limit, and again when the first byte
  is about to go: after the waits for a connection, for the name, for TCP and for TLS. The repeat that follows
  a renewed credential asks anew. A call that is too late is not sent, and ends as `Expired`. To ask costs a
  question to the database, so that no other call does.
* A wait of our own, for a free connection or for a name (`resolving`), takes nothing of the time that the
  system has. In vain, it is `NotAsked` and nothing that the system did.
* Every failure becomes `Retryable` or `Permanent` with a code of one token. httpx's own exceptions carry
  the URL, and a URL can carry an address, so none of them leaves this module, not even as a cause. Its
  loggers write URLs and are cut off.
* No redirect is followed: it could lead the credentials, or the deletion, to another host.
* An answer is bounded in time and in size.
* A refused credential is renewed once where there is a way to, by one call for all (`credentials`). After
  that a person must mend it. A missing right (403) is no reason to log in.
* No cookie is kept from one call to the next: it would vouch beside the credential that took its place.
* A system that doesn't answer is left alone for a while (`breaker`), and so is an account whose vendor said
  for how long (`waiting`).
* What the answers prove is kept for the evidence, and nothing else of them (`calls`).
"""

import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Literal

import anyio
import httpx
from aiolimiter import AsyncLimiter

from orchestrator.http.breaker import Breaker, Verdict, uptime
from orchestrator.http.calls import call_headers, record_answer
from orchestrator.http.credentials import Authority, Credentials
from orchestrator.http.errors import NO_FREE_CONNECTION, NotAsked, Permanent, Permit, Retryable
from orchestrator.http.resolving import Resolve, Resolver, limited, resolve_by
from orchestrator.http.sending import just_before
from orchestrator.http.tracing import trace_headers
from orchestrator.http.waiting import MAX_RETRY_AFTER, Wait, retry_after

Kind = Literal["look", "erasure"]
SECOND = 1_000_000
#: How soon to try again what found no connection free, in micros.
_SOON = 30 * SECOND
#: What says that nobody is there.
_SILENCE = frozenset({"timeout", "unreachable", "connection_lost", "name_not_resolved"})
#: What says, with Retry-After, that nothing of an account's is answered before.
_LATER = frozenset({429, 503})

# Both write URLs, httpcore headers, too. A handler that somebody attaches to them later gets nothing, either.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)
    logging.getLogger(_name).propagate = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What we allow ourselves towards one system."""

    timeout: timedelta = timedelta(seconds=30)
    connections: int = 10
    calls: int | None = None
    """At most so many calls in `per`; None: no limit of our own."""
    per: timedelta = timedelta(seconds=10)
    max_body: int = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Its repr shows the status only: a body can quote anything."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise Retryable("malformed_answer") from None

    def object(self) -> dict[str, Any]:
        """The body as a JSON object."""
        value = self.json()
        if not isinstance(value, dict):
            raise Retryable("malformed_answer")
        return value


class Client:
    """Calls to one system. Use `erase_call` for every call that takes something away, `call` for the rest."""

    def __init__(
        self,
        base_url: str,
        *,
        clock: Callable[[], int],
        transport: httpx.AsyncBaseTransport | None = None,
        authority: Authority | None = None,
        headers: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        rate: AsyncLimiter | None = None,
        breakers: Mapping[Kind, Breaker] | None = None,
        wait: Wait | None = None,
        steady: Callable[[], int] = uptime,
        trust: ssl.SSLContext | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        """`rate` and `wait` are shared with others who use the same account; without them they are this
        client's own. `breakers` are shared by the clients of one address. Nobody sets the clock `steady`.
        `resolve` finds the addresses of names.

        `trust` is best shared by all: to read the authorities takes longer than all else here.
        """
        self._clock = clock
        self._limits = limits or Limits()
        self._credentials = Credentials(authority, steady) if authority is not None else None
        self._breakers = breakers or {}
        self._wait = wait or Wait(steady)
        seconds = self._limits.timeout.total_seconds()
        self._http = httpx.AsyncClient(
            base_url=base_url,
            headers={"User-Agent": "radera", "Accept": "application/json", **(headers or {})},
            timeout=seconds,
            limits=httpx.Limits(max_connections=self._limits.connections),
            transport=transport,
            verify=True if trust is None else trust,
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            trust_env=transport is None,
        )
        resolve_by(self._http, resolve or Resolver())
        self._base = str(self._http.base_url)
        self._connections = anyio.Semaphore(self._limits.connections, fast_acquire=True)
        self._rate = rate
        if rate is None and self._limits.calls is not None:
            self._rate = AsyncLimiter(self._limits.calls, self._limits.per.total_seconds())

    async def aclose(self) -> None:
        await self._http.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        content: bytes | None = None,
        data: Mapping[str, str] | None = None,
        accept: frozenset[int] = frozenset(),
    ) -> Answer:
        """Send, and return a 2xx or a status in `accept`, which the caller handles itself; anything else
        raises.
        """
        request = _Prepared(method, path, params, headers or {}, json, content, data)
        return await self._send(request, accept, None)

    async def erase_call(
        self,
        permit: Permit,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        accept: frozenset[int] = frozenset(),
    ) -> Answer:
        """As `call`, for what takes something away: `permit` is asked before each sending, and once more when
        the first byte goes.
        """
        request = _Prepared(method, path, params, headers or {}, json, None, None)
        return await self._send(request, accept, permit)

    async def _send(self, request: "_Prepared", accept: frozenset[int], permit: Permit | None) -> Answer:
        answer, vouched = await self._once(request, permit)
        if self._credentials is not None and answer.status not in accept and _is_refused(answer):
            await self._credentials.renew(vouched)
            answer, _ = await self._once(request, permit)
        if 200 <= answer.status < 300 or answer.status in accept:
            return answer
        raise self._failure(answer)

    async def _once(self, request: "_Prepared", permit: Permit | None) -> tuple[Answer, Mapping[str, str]]:
        """Make the call; return the answer, and what vouched for the call."""
        breaker = self._breakers.get("look" if permit is None else "erasure")
        if breaker is not None:
            # Before the wait for the rate, which would be for nothing; and again when it is over.
            breaker.check()
        self._wait.check()
        vouched = {} if self._credentials is None else await self._credentials.headers()
        if self._rate is not None:
            await self._rate.acquire()
        async with self._connection():
            with ExitStack() as stack:
                self._wait.check()
                verdict = stack.enter_context(breaker.call()) if breaker is not None else Verdict()
                if permit is not None:
                    permit.may_erase()
                try:
                    answer = await self._exchange(request, vouched, permit)
                except NotAsked:
                    raise
                except Retryable as error:
                    verdict.answered = error.code not in _SILENCE
                    raise
                verdict.answered = answer.status < 500
        self._heard(answer)
        if self._credentials is not None and not _is_refused(answer):
            self._credentials.took(vouched)
        erasing = permit is not None
        record_answer(answer.status, answer.headers, answer.body, self._clock(), erasing=erasing)
        return answer, vouched

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[None]:
        """Wait for one of our connections to be free. Its call's time begins after that."""
        with anyio.move_on_after(self._limits.timeout.total_seconds()) as waited:
            await self._connections.acquire()
        if waited.cancelled_caught:
            raise NotAsked(NO_FREE_CONNECTION, _SOON)
        try:
            yield
        finally:
            self._connections.release()

    async def _exchange(
        self, request: "_Prepared", vouched: Mapping[str, str], permit: Permit | None
    ) -> Answer:
        async with _translated():
            with limited(self._limits.timeout.total_seconds()):
                async with self._http.stream(
                    request.method,
                    self._address(request.path, request.params),
                    headers={**trace_headers(), **call_headers(), **vouched, **request.headers},
                    json=request.json,
                    content=request.content,
                    data=request.data,
                    extensions=None if permit is None else just_before(permit.may_erase),
                ) as response:
                    body = await self._bounded(response)
                    return Answer(response.status_code, response.headers, body)

    def _address(self, path: str, params: Mapping[str, str] | None) -> httpx.URL:
        """Where a path leads, as httpx would have it from its base and the parameters.

        Left to itself it parses the address three times on the way, which is most of what it does for a call.
        """
        is_plain = path.startswith("/") and not path.startswith("//") and not any(one in path for one in "?#")
        if is_plain and self._base.endswith("/") and "://" in self._base:
            whole = self._base + path.lstrip("/")
            return httpx.URL(whole) if params is None else httpx.URL(whole, params=params)
        return self._http.build_request("GET", path, params=params).url

    async def _bounded(self, response: httpx.Response) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > self._limits.max_body:
                raise Retryable("answer_too_large")
            parts.append(part)
        return b"".join(parts)

    def _failure(self, answer: Answer) -> Retryable | Permanent:
        status = answer.status
        if status == 429:
            return Retryable("rate_limited", self.retry_after(answer))
        if status == 503:
            return Retryable("unavailable", self.retry_after(answer))
        if status >= 500:
            return Retryable("vendor_error", self.retry_after(answer))
        if status in (408, 425):
            return Retryable("timeout", self.retry_after(answer))
        if status in (401, 403):
            return Permanent("credentials_refused")
        if 300 <= status < 400:
            return Permanent("redirected")
        return Permanent(f"http_{status}")

    def retry_after(self, answer: Answer) -> int | None:
        """The wait that the other side asked for, in micros; at most a week of it."""
        asked = retry_after(answer.headers.get("retry-after", ""), self._clock())
        return None if asked is None else min(asked, MAX_RETRY_AFTER)

    def hold(self, wait: int) -> None:
        """Let nobody call this account for so many micros: the vendor said so, in words of its own."""
        self._wait.told(wait)

    def _heard(self, answer: Answer) -> None:
        """Remember for the account that it is not to be called for a while."""
        asked = retry_after(answer.headers.get("retry-after", ""), self._clock())
        if answer.status in _LATER and asked is not None:
            self._wait.told(asked)


def _is_refused(answer: Answer) -> bool:
    """Return whether what vouched for a call was refused, and not what was asked for: a 403 says that only
    where it says so (RFC 6750, 3.1).
    """
    challenge = answer.headers.get("www-authenticate", "").lower()
    return answer.status == 401 or (answer.status == 403 and "invalid_token" in challenge)


@dataclass(frozen=True, slots=True)
class _Prepared:
    method: str
    path: str
    params: Mapping[str, str] | None = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    json: Any = field(repr=False)
    content: bytes | None = field(repr=False)
    data: Mapping[str, str] | None = field(repr=False)


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    """Turn what httpx and the time limit raise into ours; `from None`, because theirs carry the URL."""
    try:
        yield
    except httpx.PoolTimeout:
        raise NotAsked(NO_FREE_CONNECTION, _SOON) from None
    except (TimeoutError, httpx.TimeoutException):
        raise Retryable("timeout") from None
    except httpx.ConnectError:
        raise Retryable("unreachable") from None
    except (httpx.UnsupportedProtocol, httpx.InvalidURL):
        raise Permanent("address_invalid") from None
    except httpx.DecodingError:
        raise Retryable("malformed_answer") from None
    except (httpx.HTTPError, httpx.StreamError, OSError):
        raise Retryable("connection_lost") from None
