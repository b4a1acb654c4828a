"""What we answer over HTTP: agencies' answers, callbacks, health and metrics.

* What comes in is sealed to the installation at once and put into the outbox (see `outbox`) for the handler,
  which alone decides whether to believe it; a 2xx means that it is safe there, and nothing more.
* Opening a link does nothing, since mail scanners open links: only POST answers. A link is answered once; a
  controller's or a vendor's callback may come as often as it likes, since they repeat themselves.
* Each word of a party that is stored is one of its own, with a number that says in which order they were
  stored (see `outbox`): a controller may change its mind back to what it said first.
* A link outlives its system's name in the settings: the party answers all the same, and what nobody can take
  is kept (see `handlers.execution`). Its kind is then the one that the request knows.
* Bodies are bounded while they are read, and so is how many there are in a time.
* No path with a token is logged, none is sent on as a referrer, and no page says anything about a person.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date
from typing import Final, Protocol, TypeVar
from urllib.parse import parse_qs

import anyio
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from orchestrator.bus.port import BusUnavailable, Record
from orchestrator.intake import callbacks, page
from orchestrator.intake.allowance import Allowance
from orchestrator.intake.reading import LONGEST_BODY, read_body
from orchestrator.metrics import CONTENT_TYPE, Metrics
from orchestrator.privacy.digest import Digests
from orchestrator.privacy.links import InvalidLink, Link, PartyLinks
from orchestrator.settings import Settings
from orchestrator.store import StoreError
from schemas.messages import Language

_logger = logging.getLogger(__name__)
T = TypeVar("T")

LONGEST_FORM: Final = 4 * 1024
_LONGEST_HEADER: Final = 8 * 1024
_KEPT_HEADERS: Final = (
    "content-type",
    "x-hubspot-request-timestamp",
    "x-opendsr-processor-domain",
    "x-opengdpr-processor-domain",
)


class Publisher(Protocol):
    """The publishing half of a bus, which numbers what parties say."""

    def publish(self, records: list[Record]) -> None: ...

    def publish_word(self, request_id: str, system: str, word: Callable[[int, int], Record]) -> None: ...


class Sent(Protocol):
    """Remembers which links were answered."""

    def seen(self, event_id: str) -> bool: ...

    def record(self, event_id: str) -> None: ...


def build_app(
    *,
    settings: Settings,
    bus: Publisher,
    links: PartyLinks,
    digests: Digests,
    sent: Sent,
    seal: Callable[[bytes], bytes],
    clock: Callable[[], int],
    metrics: Metrics,
    ready: Callable[[], Mapping[str, bool]],
    allowance: Allowance | None = None,
    more: Sequence[Route] = (),
    kind_of: Callable[[str, str], str | None] = lambda request_id, system: None,
) -> Starlette:
    """The application. `seal` seals a callback to the installation; `ready` says which role is ready; `more`
    is what it answers besides; `kind_of` tells the kind of a request's system that has left the settings.
    """
    intake = _Intake(
        settings,
        bus,
        links,
        digests,
        sent,
        seal,
        clock,
        metrics,
        allowance or Allowance(per_second=20, burst=100),
        kind_of,
    )

    return Starlette(
        routes=[
            *_status_routes(metrics, ready),
            Route("/answer/{token}", _guarded(intake.show, intake.not_now), methods=["GET"]),
            Route("/answer/{token}", _guarded(intake.answer, intake.not_now), methods=["POST"]),
            Route("/callbacks/{kind}", _guarded(intake.webhook, intake.not_now), methods=["POST"]),
            Route("/callbacks/{kind}/{token}", _guarded(intake.callback, intake.not_now), methods=["POST"]),
            *more,
        ]
    )


def build_status_app(metrics: Metrics, ready: Callable[[], Mapping[str, bool]]) -> Starlette:
    """The application of a process that takes nothing in: health and metrics."""
    return Starlette(routes=_status_routes(metrics, ready))


def _status_routes(metrics: Metrics, ready: Callable[[], Mapping[str, bool]]) -> list[Route]:
    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        state = dict(await to_thread.run_sync(ready))
        return JSONResponse(state, 200 if all(state.values()) else 503)

    async def metrics_page(_: Request) -> Response:
        return Response(await to_thread.run_sync(metrics.text), media_type=CONTENT_TYPE)

    return [
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/metrics", metrics_page, methods=["GET"]),
    ]


Endpoint = Callable[[Request], Awaitable[Response]]


def _guarded(endpoint: Endpoint, not_now: Callable[[Request], Response]) -> Endpoint:
    """Whatever fails (the store, the keyring), the caller is asked to come again, and gets no traceback."""

    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except (BusUnavailable, StoreError) as error:
            _logger.warning("intake_unavailable", extra={"code": type(error).__name__})
        except Exception:
            _logger.exception("intake_failed")
        return not_now(request)

    return guarded


class _Intake:
    """The endpoints that take something in."""

    def __init__(
        self,
        settings: Settings,
        bus: Publisher,
        links: PartyLinks,
        digests: Digests,
        sent: Sent,
        seal: Callable[[bytes], bytes],
        clock: Callable[[], int],
        metrics: Metrics,
        allowance: Allowance,
        kind_of: Callable[[str, str], str | None],
    ) -> None:
        self._kind_of_step = kind_of
        self._settings = settings
        self._bus = bus
        self._links = links
        self._digests = digests
        self._sent = sent
        self._seal = seal
        self._clock = clock
        self._metrics = metrics
        self._allowance = allowance
        self._answering = anyio.Lock()
        # Kinds whose vendors were given a secret to sign webhooks with; nobody else has a reason to post.
        self._hooked = frozenset(
            one.kind
            for one in settings.systems.values()
            if getattr(one.own, "webhook_secret", None) is not None
        )

    # --- agencies ---

    async def show(self, request: Request) -> Response:
        """The page behind a link; looking at it changes nothing."""
        link = self._link(request.path_params["token"])
        if link is None or await self._kind_of(link) is None:
            return self._say(None, "unknown", 404)
        refusal = await _in_thread(lambda: self._refusal(link, request.path_params["token"]))
        if refusal is not None:
            return self._say(link, *refusal)
        return self._page(self._form(link), 200)

    async def answer(self, request: Request) -> Response:
        """An agency's answer, once."""
        token = request.path_params["token"]
        link = self._link(token)
        kind = None if link is None else await self._kind_of(link)
        if link is None or kind is None:
            return self._say(None, "unknown", 404)
        if not self._allowance.take():
            return self._say(link, "busy", 429)
        body = await read_body(request, LONGEST_FORM)
        # One at a time, so that a link that is answered twice at once is taken once.
        async with self._answering:
            refusal = await _in_thread(lambda: self._refusal(link, token))
            if refusal is not None:
                return self._say(link, *refusal)
            if body is None or not _is_answer(body):
                return self._page(self._form(link, wrong=True), 422)
            await self._pass_on(kind, request, body, token=token, link=link)
            await _in_thread(lambda: self._sent.record(self._used(token)))
        return self._say(link, "thanks", 200)

    def _form(self, link: Link, *, wrong: bool = False) -> str:
        return page.form(
            self._language(link),
            controller=self._settings.installation.name,
            request_id=link.request_id,
            wrong=wrong,
        )

    def _link(self, token: str) -> Link | None:
        try:
            return self._links.read(token)
        except InvalidLink:
            return None

    async def _kind_of(self, link: Link) -> str | None:
        """The kind of the link's system: by the settings, else by the request that asked it."""
        system = self._settings.systems.get(link.system)
        if system is not None:
            return system.kind
        return await _in_thread(lambda: self._kind_of_step(link.request_id, link.system))

    def _refusal(self, link: Link, token: str) -> tuple[str, int] | None:
        if self._sent.seen(self._used(token)):
            return "used", 410
        return ("expired", 410) if link.is_expired(self._clock()) else None

    def _used(self, token: str) -> str:
        return f"link:{self._digests.correlation('link', token)}"

    def _language(self, link: Link | None) -> Language:
        system = self._settings.systems.get(link.system) if link is not None else None
        language: Language = getattr(
            system.own if system is not None else None, "language", self._settings.installation.language
        )
        return language

    def _say(self, link: Link | None, name: str, status: int) -> Response:
        return self._page(page.message(self._language(link), name), status)

    def _page(self, text: str, status: int) -> Response:
        return HTMLResponse(text, status, headers=dict(page.HEADERS))

    # --- callbacks ---

    async def callback(self, request: Request) -> Response:
        """A controller's instruction, at the address that it was given."""
        kind, token = request.path_params["kind"], request.path_params["token"]
        link = self._link(token)
        if link is None or await self._kind_of(link) != kind:
            return self._refuse(kind, "unknown_link", 404)
        if await _in_thread(lambda: link.is_expired(self._clock())):
            return self._refuse(kind, "link_expired", 410)
        return await self._take(request, kind, token=token, link=link, json_only=True)

    async def webhook(self, request: Request) -> Response:
        """A vendor's webhook; whether it is genuine is for the handler to say."""
        kind = request.path_params["kind"]
        if kind not in self._hooked:
            return self._refuse(kind, "unknown_kind", 404)
        if not any("signature" in name for name in request.headers):
            return self._refuse(kind, "unsigned", 401)
        return await self._take(request, kind)

    async def _take(
        self,
        request: Request,
        kind: str,
        *,
        token: str | None = None,
        link: Link | None = None,
        json_only: bool = False,
    ) -> Response:
        if not self._allowance.take():
            return self._refuse(kind, "too_many", 429)
        body = await read_body(request, LONGEST_BODY)
        if body is None:
            return self._refuse(kind, "too_long", 413)
        if json_only and not _is_json(body):
            return self._refuse(kind, "not_json", 400)
        await self._pass_on(kind, request, body, token=token, link=link)
        return JSONResponse({}, 202, headers={"Cache-Control": "no-store"})

    def _refuse(self, kind: str, code: str, status: int) -> Response:
        self._metrics.callback(kind, "refused")
        extra = {"Retry-After": "1"} if status == 429 else {}
        return JSONResponse({"error": code}, status, headers={"Cache-Control": "no-store", **extra})

    # --- both ---

    async def _pass_on(
        self, kind: str, request: Request, body: bytes, *, token: str | None, link: Link | None
    ) -> None:
        """Seals it and makes it safe, or raises."""
        kept = _kept(request)
        await _in_thread(lambda: self._take_in(kind, kept, body, token=token, link=link))
        self._metrics.callback(kind, "accepted")

    def _take_in(
        self, kind: str, kept: Mapping[str, str], body: bytes, *, token: str | None, link: Link | None
    ) -> None:
        sealed = self._seal(callbacks.content_of(token, kept, body))
        if link is None:
            self._bus.publish([callbacks.webhook(kind, sealed, body, self._digests, self._clock())])
            return
        self._bus.publish_word(
            link.request_id, link.system, lambda order, at: callbacks.word(kind, link, sealed, order, at)
        )

    def not_now(self, request: Request) -> Response:
        """What was brought is not safe, and whoever brought it is asked to come again."""
        link = self._link(request.path_params.get("token", ""))
        is_page = "kind" not in request.path_params
        system = self._settings.systems.get(link.system) if is_page and link is not None else None
        kind = "" if system is None else system.kind
        if request.method == "POST":
            self._metrics.callback(request.path_params.get("kind", kind), "unavailable")
        kept = {**page.HEADERS, "Retry-After": "30"}
        if is_page:
            return HTMLResponse(page.message(self._language(link), "unavailable"), 503, headers=kept)
        return JSONResponse({"error": "unavailable"}, 503, headers=kept)


async def _in_thread(call: Callable[[], T]) -> T:
    return await to_thread.run_sync(call)


def _kept(request: Request) -> dict[str, str]:
    """The headers that a handler needs to know whose callback it is."""
    return {
        name: value
        for name, value in request.headers.items()
        if (name in _KEPT_HEADERS or "signature" in name) and len(value) <= _LONGEST_HEADER
    }


def _is_json(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False


def _is_answer(body: bytes) -> bool:
    """Whether the handler will understand the form: a link is used up only by an answer that counts."""
    try:
        fields = parse_qs(body.decode("ascii"), max_num_fields=20)
    except ValueError:
        return False
    if any(len(values) != 1 for values in fields.values()):
        return False
    said = {name: values[0] for name, values in fields.items()}
    answer = said.get("answer")
    if answer == "retained":
        return said.get("legal_basis") in page.BASES and _is_day(said.get("retained_until", ""))
    if answer == "refused":
        return said.get("reason") in page.REASONS
    return answer in page.ANSWERS


def _is_day(text: str) -> bool:
    try:
        return not text or date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
