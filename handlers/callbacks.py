"""One callback from the bus: given to the systems that it may be for, and turned into records that say it.

The rules:

* Each system of the callback's kind is asked, or the one that it names. What one fails at or refuses is no
  other's matter: another account's genuine webhook is taken all the same.
* A callback that nobody should believe is counted and dropped.
* One that a system failed at for reasons of our own is kept as a dead letter, unless another system took the
  whole of it.
* A party's answer that no system here could be given is kept, too, and the officer is asked: the party was
  thanked, and answers once.
"""

import base64
import binascii
import json
import logging
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Protocol

from handlers.apart import Apart, type_of
from handlers.confirming import confirm_callback, record_of
from handlers.letters import CountsLetters, InstallationSeal, Letters, is_request_id
from handlers.port import CallbackBody, Refused
from handlers.registry import Handler
from handlers.results import Received
from orchestrator.bus.port import Delivery, Record
from orchestrator.privacy import CALLBACK_BODY, GenerationUnknown, PrivacyError
from schemas.messages import Callback, Confirmation

#: Why a party's answer reached no system, though it may be good: none has its name, its link names another
#: one than it was given, or its certificate is out of force by our clock, which may be wrong.
_NOT_GIVEN = frozenset({"no_handler", "link_for_another_system", "link_invalid", "certificate_not_in_force"})
_logger = logging.getLogger(__name__)


class CountsCallbacks(CountsLetters, Protocol):
    """Counts callbacks by their kind and what became of them."""

    def callback(self, kind: str, result: str) -> None: ...


class Callbacks:
    """Reads callbacks for `handlers`. Each may take `call_limit` seconds for it."""

    def __init__(
        self,
        *,
        installation: InstallationSeal,
        handlers: Mapping[str, Handler],
        clock: Callable[[], int],
        call_limit: float,
        letters: Letters,
        metrics: CountsCallbacks | None,
        outages: tuple[type[Exception], ...],
    ) -> None:
        self._installation = installation
        self._handlers = handlers
        self._clock = clock
        self._call_limit = call_limit
        self._letters = letters
        self._metrics = metrics
        self._outages = outages

    async def answer(self, delivery: Delivery, callback: Callback) -> list[Record]:
        """Return the records that say what the callback said."""
        try:
            body = self._body(callback)
        except GenerationUnknown:
            raise  # waited for: a change of keys reaches one process after another
        except (PrivacyError, ValueError, KeyError, TypeError, AttributeError) as error:
            code = "seal_broken" if isinstance(error, PrivacyError) else "malformed"
            return [self._letters.dead(delivery, code)]
        refusal, has_failed = "no_handler", False
        said: list[Confirmation] = []
        for system, handler in self._handlers.items():
            if handler.kind != callback.kind or callback.system not in (None, system):
                continue
            try:
                heard, is_whole = await self._heard(callback, system, handler, body)
            except self._outages:
                raise
            except Refused as error:
                refusal = error.code
            except Exception as error:
                _logger.error("callback_error", extra={"system": system, "type": type_of(error)})
                has_failed = True
            else:
                said += heard
                if is_whole:
                    has_failed = False
                    break
        records = [record_of(one, self._clock()) for one in said]
        if has_failed:
            records.append(self._letters.dead(delivery, "callback_error"))
        if said:
            self._count(callback.kind, "accepted")
        if records:
            return records
        if callback.system is not None and refusal in _NOT_GIVEN:
            return self._kept(delivery, callback, refusal)
        self._count(callback.kind, "refused")
        _logger.warning(
            "callback_refused", extra={"kind": callback.kind, "code": refusal, "event_id": callback.event_id}
        )
        return []

    async def _heard(
        self, callback: Callback, system: str, handler: Handler, body: CallbackBody
    ) -> tuple[list[Confirmation], bool]:
        """Return what one system says of it, and whether that is all of it: a batch may concern other systems
        of the kind, and each takes its own.
        """

        async def receive() -> tuple[list[Confirmation], bool]:
            received = await handler.receive(body)
            if isinstance(received, Received):
                return [self._confirmed(callback, received)], True
            return [self._confirmed(callback, one, is_one_of_several=True) for one in received], False

        about = {"system": system, "event_id": callback.event_id}
        return await Apart(self._call_limit, outages=self._outages, about=about).run(receive)

    def _confirmed(
        self, callback: Callback, received: Received, *, is_one_of_several: bool = False
    ) -> Confirmation:
        if "receive" not in received.result.answers:
            raise TypeError(f"{type(received.result).__name__} does not answer a callback")
        return confirm_callback(callback, received, now=self._clock(), is_one_of_several=is_one_of_several)

    def _kept(self, delivery: Delivery, callback: Callback, code: str) -> list[Record]:
        """What stands for a party's answer that no system here could be given: a dead letter, and a word that
        has the officer asked.
        """
        kept = [self._letters.dead(delivery, code)]
        if is_request_id(delivery.key):
            said = Confirmation(
                event_id=f"kept:{sha256(callback.event_id.encode()).hexdigest()[:32]}",
                request_id=delivery.key,
                system=callback.system,
                kind="failed",
                occurred_at=self._clock(),
                code="answer_kept",
            )
            kept.append(record_of(said, self._clock()))
        return kept

    def _body(self, callback: Callback) -> CallbackBody:
        clear = self._installation.unseal_installation(CALLBACK_BODY, callback.sealed_body)
        content = json.loads(clear)
        token, given = content["token"], content["headers"]
        if not (token is None or isinstance(token, str)) or not isinstance(given, dict):
            raise ValueError("token is a text or null, headers an object")
        try:
            body = base64.b64decode(content["body"], validate=True)
        except binascii.Error:
            raise ValueError("body is base64") from None
        return CallbackBody(
            token=token,
            headers={str(name): str(value) for name, value in given.items()},
            body=body,
            received_at=callback.received_at,
            system=callback.system,
        )

    def _count(self, kind: str, result: str) -> None:
        if self._metrics is not None:
            self._metrics.callback(kind, result)
