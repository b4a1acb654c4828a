"""Controllers ask us, their processor, over OpenDSR 2.0 and, as it was called before, OpenGDPR 1.0.

* Whoever asks is known by its bearer token or its client certificate, and reaches the one tenant that this is
  for. The id that it chose for its request leads to ours by a keyed digest of tenant and id: nobody can guess
  another's, nor tell one that is another's from one that isn't there.
* 201 is answered when the request is safe (see `outbox`) and no sooner. It is filed, then published, then
  marked as published; a death in between leaves a request that the controller was not told of, posts again,
  and has published again, which is found to be the same.
* The same body under the same id is the same request, answered as the first time. While nobody has opened it
  it is published again, too: its record may be lost. Another body takes the place of one that was never
  published, since its controller was never told that we have it.
* Otherwise another body is a conflict (409), and so is a request that was cancelled: whoever changes its mind
  asks under a new id. Long after its end the digest of a body is gone, and nothing can be compared with it;
  then the answer (409) says when it ended. The specification is silent on all of this, and on an unknown id
  (404).
* The identifiers pass through the memory of this process and no further than into their seal.
* Every answer to a controller is signed. One that can't be signed is not given: the controller comes again.
* A request can be cancelled while it is pending, before any system was asked for anything (409 after that).
"""

import base64
import hashlib
import json
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import anyio
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orchestrator.bus.port import BusUnavailable, Record
from orchestrator.intake.allowance import Allowance
from orchestrator.intake.opendsr_controllers import Addresses, Controller, Controllers
from orchestrator.intake.opendsr_request import COMPARED, ID, KINDS, Malformed, Posted, read
from orchestrator.intake.opendsr_status import PENDING, Standing, is_cancelling, rfc3339, standing
from orchestrator.intake.producer import Producer
from orchestrator.intake.reading import LONGEST_BODY, read_body
from orchestrator.intake.submit import Publisher
from orchestrator.intake.tls import client_names, shows_certificate
from orchestrator.metrics import Metrics
from orchestrator.privacy.digest import Digests
from orchestrator.privacy.signatures import Signer
from orchestrator.saga.model import Finished, Saga
from orchestrator.store import Asked
from schemas import topics
from schemas.cloudevents import headers
from schemas.codec import encode
from schemas.messages import Decision, Language

_logger = logging.getLogger(__name__)

SOURCE: Final = "opendsr"
#: By major version: what it calls itself, and its requests.
VERSIONS: Final = {"2": ("2.0", "requests"), "1": ("1.0", "opengdpr_requests")}
CERTIFICATE_PATH: Final = "/opendsr/certificate.pem"
_OPENING: Final = 3.0  # seconds that a cancellation waits for its request to be opened
_KEPT_AWAY: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Register(Protocol):
    """What controllers asked so far."""

    def file(self, asked: Asked, addresses: list[bytes]) -> Asked: ...

    def replace(self, asked: Asked, addresses: list[bytes], before: Asked) -> Asked | None: ...

    def find(self, request_id: str) -> Asked | None: ...

    def mark_published(self, request_id: str, at: int, body: str | None = None) -> bool: ...


class _Refusal(Exception):
    """An answer that is an error; `said` is for people, where the reason alone does not say it."""

    def __init__(
        self, status: int, field: str, reason: str, retry_after: int | None = None, said: str | None = None
    ) -> None:
        super().__init__(reason)
        self.said = said
        self.status = status
        self.field = field
        self.reason = reason
        self.retry_after = retry_after


_NO_SUCH: Final = ("subject_request_id", "unknown")


class OpenDsr:
    """The endpoints. `producer` makes one that seals to the installation as its keys are now; `saga` reads a
    request's state; `due_at` is when the law wants a request answered that was received then.
    """

    def __init__(
        self,
        *,
        controllers: Controllers,
        register: Register,
        saga: Callable[[str], Saga | None],
        addresses: Addresses,
        digests: Digests,
        producer: Callable[[], Producer],
        bus: Publisher,
        signer: Signer,
        due_at: Callable[[int], int],
        public_url: str,
        language: Language,
        clock: Callable[[], int],
        metrics: Metrics,
        allowance: Allowance | None = None,
    ) -> None:
        self._controllers = controllers
        self._register = register
        self._saga = saga
        self._addresses = addresses
        self._digests = digests
        self._producer = producer
        self._bus = bus
        self._signer = signer
        self._due_at = due_at
        self._public_url = public_url
        self._language = language
        self._clock = clock
        self._metrics = metrics
        self._allowance = allowance or Allowance(per_second=20, burst=100)

    def routes(self) -> list[Route]:
        """Where it answers."""
        found = [Route(CERTIFICATE_PATH, self._answered("2", self.certificate), methods=["GET"])]
        for version, (_, requests) in VERSIONS.items():
            one = f"/v{version}/{requests}/{{id}}"
            found += [
                Route(f"/v{version}/discovery", self._answered(version, self.discovery), methods=["GET"]),
                Route(f"/v{version}/{requests}", self._answered(version, self.create), methods=["POST"]),
                Route(one, self._answered(version, self.status), methods=["GET"]),
                Route(one, self._answered(version, self.cancel), methods=["DELETE"]),
            ]
        return found

    # --- for anybody ---

    async def certificate(self, request: Request, version: str) -> Response:
        """What our signatures are verified with."""
        pem = await to_thread.run_sync(lambda: self._signer.certificate(self._clock()))
        return Response(pem, media_type="application/x-pem-file")

    async def discovery(self, request: Request, version: str) -> Response:
        """What we support. Nobody has to say who asks, so that it holds for every controller."""
        formats = ("raw", COMPARED) if self._controllers.all_take_hashes else ("raw",)
        content = {
            "api_version": VERSIONS[version][0],
            "supported_identities": [
                {"identity_type": type_, "identity_format": format_}
                for type_ in sorted(KINDS)
                for format_ in formats
            ],
            "supported_subject_request_types": ["erasure"],
            "processor_certificate": f"{self._public_url}{CERTIFICATE_PATH}",
        }
        return await self._signed(200, content, version)

    # --- for controllers ---

    async def create(self, request: Request, version: str) -> Response:
        """A request for one of the controller's people."""
        controller = await self._controller(request)
        body = await self._body(request)
        now = await to_thread.run_sync(self._clock)
        try:
            posted = read(
                body,
                version,
                now,
                controller.hosts,
                private=controller.allow_private,
                hashed=controller.hashed,
            )
        except Malformed as error:
            raise _Refusal(400, error.field, error.reason) from None
        asked = await to_thread.run_sync(lambda: self._accept(controller, posted, body, version, now))
        content: dict[str, Any] = {
            "controller_id": controller.tenant,
            "expected_completion_time": rfc3339(asked.expected_at),
            "received_time": rfc3339(asked.received_at),
            "encoded_request": base64.b64encode(body).decode(),
            "subject_request_id": asked.subject_request_id,
            "api_version": VERSIONS[version][0],
        }
        left_out = {
            "passed_over": list(posted.passed_over),
            "not_configured": list(posted.not_among(controller.systems)),
        }
        if any(left_out.values()):
            content["extensions"] = {"radera": {name: names for name, names in left_out.items() if names}}
        return await self._signed(201, content, version)

    def _accept(self, controller: Controller, posted: Posted, body: bytes, version: str, now: int) -> Asked:
        """The request as it was filed first; safe when this returns."""
        request_id = self._id_of(controller, posted.subject_request_id)
        digest = self._digests.correlation("opendsr/body", hashlib.sha256(body).hexdigest())
        mine = Asked(
            request_id=request_id,
            system=controller.system,
            subject_request_id=posted.subject_request_id,
            version=version,
            body=digest,
            received_at=now,
            expected_at=self._due_at(posted.submitted_at),
        )
        addresses = [self._addresses.seal(request_id, one) for one in posted.addresses]
        asked = self._register.file(mine, addresses)
        saga = None if asked == mine else self._saga(request_id)
        if asked.body != digest:
            asked = self._in_the_place_of(asked, saga, mine, addresses)
        if is_cancelling(saga):
            # It was taken back since: asked once more under its id it would seem taken, and nothing done.
            raise _Refusal(409, "subject_request_id", "cancelled_before")
        if saga is None:
            self._publish(controller, posted, request_id)
        is_repeat = asked.published_at is not None
        if not is_repeat and not self._register.mark_published(request_id, self._clock(), digest):
            # Another body came at the same time, and took the place of this one.
            raise _Refusal(503, "request", "unavailable", retry_after=30)
        self._metrics.opendsr_request("repeated" if is_repeat else "accepted")
        _logger.info("opendsr_accepted", extra={"request_id": request_id, "system": controller.system})
        return asked

    def _in_the_place_of(self, asked: Asked, saga: Saga | None, mine: Asked, addresses: list[bytes]) -> Asked:
        """Another body under the id of a request: it is taken where that one was never published."""
        if saga is None and asked.published_at is None:
            replaced = self._register.replace(mine, addresses, asked)
            if replaced is None:
                raise _Refusal(503, "request", "unavailable", retry_after=30)
            return replaced
        if asked.body is None and saga is not None and isinstance(saga.state, Finished):
            said = f"ended on {rfc3339(saga.state.at)[:10]}, not compared"
            raise _Refusal(409, "subject_request_id", "ended_not_compared", said=said)
        raise _Refusal(409, "subject_request_id", "used_for_another_request")

    def _publish(self, controller: Controller, posted: Posted, request_id: str) -> None:
        made = self._producer().request(
            posted.identifiers,
            verified=True,  # by the controller, whose customers' or employees' data it is
            request_id=request_id,
            received_at=posted.submitted_at,
            capacity="processor",
            tenant=controller.tenant,
            language=self._language,
            scope=posted.scope(controller.systems),
        )
        self._bus.publish([made.record])

    async def status(self, request: Request, version: str) -> Response:
        """How a request stands."""
        asked, saga = await self._found(await self._controller(request), request)
        now = await to_thread.run_sync(self._clock)
        content = status_of(asked, saga, self._tenant(asked), now)
        return await self._signed(200, content, version)

    async def cancel(self, request: Request, version: str) -> Response:
        """The controller takes its request back."""
        controller = await self._controller(request)
        asked, saga = await self._found(controller, request)
        until = anyio.current_time() + _OPENING
        while saga is None and anyio.current_time() < until:
            # On its way and not read yet: what cancels it travels on another topic, and must not overtake it.
            await anyio.sleep(0.1)
            saga = await self._read(asked.request_id)
        if saga is None:
            raise _Refusal(503, "request", "not_opened_yet", retry_after=10)
        if not is_cancelling(saga):
            if standing(saga).status != PENDING:
                raise _Refusal(409, "request_status", "not_pending")
            await to_thread.run_sync(lambda: self._publish_cancellation(asked.request_id))
            self._metrics.opendsr_request("cancelled")
        content = {
            "controller_id": controller.tenant,
            "subject_request_id": asked.subject_request_id,
            "received_time": rfc3339(await to_thread.run_sync(self._clock)),
            "api_version": VERSIONS[version][0],
        }
        return await self._signed(202, content, version)

    def _publish_cancellation(self, request_id: str) -> None:
        now = self._clock()
        decision = Decision(
            event_id=f"opendsr-cancel:{request_id}",
            request_id=request_id,
            action="cancel",
            reason="The controller took its request back.",
            decided_by="controller",
            decided_at=now,
        )
        sent = headers(decision, event_id=decision.event_id, source=SOURCE, at=now)
        self._bus.publish(
            [Record(topic=topics.DECISIONS, key=request_id, value=encode(decision), headers=sent)]
        )

    # --- who, what, whose ---

    async def _controller(self, request: Request) -> Controller:
        if not self._allowance.take():
            raise _Refusal(429, "request", "too_many", retry_after=1)
        names: frozenset[str] = frozenset()
        if shows_certificate(request.scope):
            # The database's time: only where it counts, and not while everybody waits.
            names = client_names(request.scope, await to_thread.run_sync(self._clock))
        controller = self._controllers.of(request.headers.get("authorization", ""), names)
        if controller is None:
            raise _Refusal(401, "authorization", "bearer_token")
        return controller

    def _tenant(self, asked: Asked) -> str:
        controller = self._controllers.named(asked.system)
        return asked.system if controller is None else controller.tenant

    def _id_of(self, controller: Controller, subject_request_id: str) -> str:
        """Our id of a controller's request: derived, so that the same is the same, and keyed."""
        digest = self._digests.correlation(f"opendsr/{controller.system}", subject_request_id)
        return str(uuid.UUID(hex=digest[:32], version=4))

    async def _found(self, controller: Controller, request: Request) -> tuple[Asked, Saga | None]:
        id_ = request.path_params["id"]
        if not ID.fullmatch(id_):
            raise _Refusal(404, *_NO_SUCH)
        request_id = self._id_of(controller, id_)
        asked = await to_thread.run_sync(lambda: self._register.find(request_id))
        if asked is None or asked.system != controller.system or asked.published_at is None:
            raise _Refusal(404, *_NO_SUCH)  # also where nobody was told yet that we have it
        return asked, await self._read(request_id)

    async def _read(self, request_id: str) -> Saga | None:
        return await to_thread.run_sync(lambda: self._saga(request_id))

    async def _body(self, request: Request) -> bytes:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise _Refusal(415, "content_type", "application_json")
        body = await read_body(request, LONGEST_BODY)
        if body is None:
            raise _Refusal(413, "body", "too_long")
        return body

    # --- answering ---

    def _answered(
        self, version: str, endpoint: Callable[[Request, str], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Whatever fails, the caller gets an error in OpenDSR's form, and no traceback."""

        async def answered(request: Request) -> Response:
            try:
                return await endpoint(request, version)
            except _Refusal as error:
                refusal = error
            except BusUnavailable:
                self._metrics.opendsr_request("unavailable")
                _logger.warning("opendsr_unavailable", extra={"code": "bus"})
                refusal = _Refusal(503, "request", "unavailable", retry_after=30)
            except Exception:
                self._metrics.opendsr_request("unavailable")
                _logger.exception("opendsr_failed")
                refusal = _Refusal(503, "request", "unavailable", retry_after=30)
            if refusal.status < 429:
                self._metrics.opendsr_request("refused")
            return await self._refused(refusal, version)

        return answered

    async def _refused(self, refusal: _Refusal, version: str) -> Response:
        content = error_of(refusal.status, refusal.field, refusal.reason, refusal.said)
        extra: dict[str, str] = {}
        if refusal.retry_after is not None:
            extra["Retry-After"] = str(refusal.retry_after)
        if refusal.status == 401:
            extra["WWW-Authenticate"] = "Bearer"
        if refusal.status in (401, 429, 503):
            # To a stranger, or in trouble: signing for nobody costs time, and may be what fails.
            return _plain(refusal.status, content, extra)
        return await self._signed(refusal.status, content, version, extra)

    async def _signed(
        self, status: int, content: dict[str, Any], version: str, extra: dict[str, str] | None = None
    ) -> Response:
        body = json.dumps(content).encode()
        try:
            signed = await to_thread.run_sync(lambda: self._signer.headers(body, self._clock(), version))
        except Exception:
            self._metrics.opendsr_request("unavailable")
            _logger.exception("opendsr_unsigned")
            return _plain(503, error_of(503, "request", "unavailable"), {"Retry-After": "30"})
        kept = {**_KEPT_AWAY, **signed, **(extra or {})}
        return Response(body, status, headers=kept, media_type="application/json")


def standing_of(asked: Asked, saga: Saga | None, at: int) -> Standing:
    """How a request of a controller's stands."""
    return standing(saga, at - (asked.published_at or at))


def status_of(asked: Asked, saga: Saga | None, controller_id: str, at: int) -> dict[str, Any]:
    """What is said of a request when its controller asks."""
    now = standing_of(asked, saga, at)
    content: dict[str, Any] = {
        "controller_id": controller_id,
        "expected_completion_time": rfc3339(asked.expected_at),
        "subject_request_id": asked.subject_request_id,
        "request_status": now.status,
        "api_version": VERSIONS[asked.version][0],
    }
    if now.extension:
        content["extensions"] = {"radera": now.extension}
    return content


def error_of(status: int, field: str, reason: str, said: str | None = None) -> dict[str, Any]:
    """OpenDSR's form of an error (7.6); it never repeats what was given."""
    message = f"{field}: {said or reason.replace('_', ' ')}"
    detail = {"domain": field, "reason": reason, "message": message}
    return {"error": {"code": status, "message": message, "errors": [detail]}}


def _plain(status: int, content: dict[str, Any], extra: dict[str, str]) -> Response:
    body = json.dumps(content).encode()
    return Response(body, status, headers={**_KEPT_AWAY, **extra}, media_type="application/json")
