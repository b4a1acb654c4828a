"""Tells controllers how their requests stand: signed callbacks, repeated until they are accepted.

* What to tell follows from the request's state and from what the address accepted last, both of which are on
  the disk. A death at any moment loses nothing; it may repeat what was accepted just before.
* Each address hears of each change of state, in order. One that doesn't answer 2xx is tried again with
  growing waits, for as long as the request is kept, and keeps nobody else waiting.
* The addresses come from outside: see `orchestrator.http.guard`. What stands in the settings at the time of
  telling counts, so a host that is taken away there is told nothing more.
* The signature is made for each try, by the certificate that is in force then.
"""

import json
import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final, Protocol
from urllib.parse import urlsplit

import anyio

from orchestrator.http import CallFailed, Clients, Guard, Limits, Permanent
from orchestrator.intake.opendsr import standing_of, status_of
from orchestrator.intake.opendsr_controllers import Addresses, Controllers
from orchestrator.intake.opendsr_status import Standing, next_to_tell
from orchestrator.metrics import Metrics
from orchestrator.privacy.signatures import Signer
from orchestrator.saga.model import Finished, Saga
from orchestrator.settings import OpenDsr, micros
from orchestrator.store import Asked, BrokenDocument, Listener

_logger = logging.getLogger(__name__)

SECOND: Final = 1_000_000
DAY: Final = 86_400 * SECOND
#: How soon a change is seen while a request is open.
EVERY: Final = 3 * SECOND
#: How long after its end a request is looked at for a correction, once a day.
CORRECTED_FOR: Final = 60 * DAY
_AT_ONCE: Final = 20
_LIMITS: Final = Limits(timeout=timedelta(seconds=10), max_body=64 * 1024)
#: Longer than a turn's tries, which run side by side, can take. After a death it is as long until the next.
_HELD: Final = 30 * SECOND


class Listeners(Protocol):
    """The addresses, and what they were told."""

    def due(self, now: int, limit: int, longest: int) -> list[Listener]: ...

    def claim(self, listener: Listener, until: int) -> Listener | None: ...

    def told(self, listener: Listener, state: str, look_at: int | None) -> None: ...

    def failed(self, listener: Listener, look_at: int) -> None: ...

    def look_again(self, listener: Listener, look_at: int | None) -> None: ...


class Callbacks:
    """One role, driven by `step`, which is called by one thread. `clients` makes those of one turn."""

    def __init__(
        self,
        *,
        listeners: Listeners,
        saga: Callable[[str], Saga | None],
        controllers: Controllers,
        addresses: Addresses,
        signer: Signer,
        settings: OpenDsr,
        clients: Callable[[], Clients],
        clock: Callable[[], int],
        metrics: Metrics,
    ) -> None:
        self._listeners = listeners
        self._saga = saga
        self._controllers = controllers
        self._addresses = addresses
        self._signer = signer
        self._settings = settings
        self._clients = clients
        self._clock = clock
        self._metrics = metrics

    def step(self) -> int:
        """Looks at what is due and tells what is new; gives how many addresses it looked at."""
        longest = 2 * max(DAY, micros(self._settings.retry_cap))
        due = self._listeners.due(self._clock(), _AT_ONCE, longest)
        news: list[tuple[Listener, Standing, bytes]] = []
        for listener in due:
            try:
                saga = self._saga(listener.asked.request_id)
            except BrokenDocument:
                # The officer was told. Others' controllers hear of theirs.
                self._listeners.look_again(listener, self._clock() + EVERY)
                continue
            new = next_to_tell(listener.told, standing_of(listener.asked, saga, self._clock()))
            if new is None:
                self._listeners.look_again(listener, self._next_look(saga))
            elif (held := self._listeners.claim(listener, self._clock() + _HELD)) is not None:
                news.append((held, new, self._body(held, saga, new)))
        if news:
            anyio.run(self._tell_all, news)
        return len(due)

    def _next_look(self, saga: Saga | None) -> int | None:
        now = self._clock()
        if saga is None or not isinstance(saga.state, Finished):
            return now + EVERY
        return now + DAY if now < saga.state.at + CORRECTED_FOR else None

    def _body(self, listener: Listener, saga: Saga | None, new: Standing) -> bytes:
        asked = listener.asked
        content = status_of(asked, saga, self._controller_id(asked), self._clock())
        content |= {"request_status": new.status, "extensions": {"radera": new.extension}}
        content["status_callback_url"] = self._addresses.open(asked.request_id, listener.address)
        return json.dumps(content).encode()

    def _controller_id(self, asked: Asked) -> str:
        controller = self._controllers.named(asked.system)
        return asked.system if controller is None else controller.tenant

    # --- over the network ---

    async def _tell_all(self, news: Sequence[tuple[Listener, Standing, bytes]]) -> None:
        clients = self._clients()
        try:
            async with anyio.create_task_group() as group:
                for listener, new, body in news:
                    group.start_soon(self._tell, clients, listener, new, body)
        finally:
            await clients.aclose()

    async def _tell(self, clients: Clients, listener: Listener, new: Standing, body: bytes) -> None:
        code: str | None = None
        try:
            await self._post(clients, listener, body)
        except CallFailed as error:
            code = error.code
        except Exception:
            # The certificate, or a fault of ours: whatever it is, it must not keep the others from hearing.
            _logger.exception("opendsr_callback_broken", extra={"request_id": listener.asked.request_id})
            code = "internal"
        place = {"request_id": listener.asked.request_id, "system": listener.asked.system}
        if code is None:
            # There may be more to tell already, so the next look is at once.
            self._listeners.told(listener, new.name, self._clock())
            self._metrics.opendsr_callback("accepted")
            _logger.info("opendsr_told", extra={**place, "status": new.status})
            return
        first, cap = micros(self._settings.retry_first), micros(self._settings.retry_cap)
        wait = min(cap, first * 2 ** min(listener.tries, 30))
        self._listeners.failed(listener, self._clock() + wait)
        self._metrics.opendsr_callback("failed")
        said = {**place, "code": code, "attempt": listener.tries + 1, "seconds": wait / SECOND}
        _logger.warning("opendsr_callback_failed", extra=said)

    async def _post(self, clients: Clients, listener: Listener, body: bytes) -> None:
        asked = listener.asked
        controller = self._controllers.named(asked.system)
        if controller is None:
            raise Permanent("controller_not_configured")
        parts = urlsplit(self._addresses.open(asked.request_id, listener.address))
        client = clients.client(
            f"{parts.scheme}://{parts.netloc}",
            limits=_LIMITS,
            guard=Guard(hosts=controller.hosts, allow_private=controller.allow_private),
        )
        signed = self._signer.headers(body, self._clock(), asked.version)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        await client.call("POST", path, content=body, headers={**signed, "Content-Type": "application/json"})
