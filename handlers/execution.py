"""One record from the bus: read, unsealed, carried out, and turned into the records that answer it.

The rules:

* Whatever happens, a command that can be read is answered: with what the handler found, or with a failure.
  A record that can't be read goes to the dead letters, its payload sealed to the installation. Nothing here
  raises for what a record holds; only for a store that is away (`outages`), which is no answer to anything.
* A destroyed key means that the request is over. The command is answered `expired`, which never reads as an
  effect.
* A command past `not_after` is not begun. While it runs, each erasing call asks again (`Task.may_erase`).
* Handlers' errors carry codes. Of any other exception the type's name is logged, and nothing else: its text
  can quote anything.
* A callback that nobody should believe is counted and dropped. One that we could not read for reasons of
  our own is kept as a dead letter.
"""

import base64
import binascii
import json
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from hashlib import sha256
from typing import Any, Protocol

import anyio

from handlers.confirming import (
    confirm_callback,
    confirm_command,
    confirm_expiry,
    confirm_failure,
    personal_to,
    with_proof,
)
from handlers.port import (
    CallbackBody,
    Expired,
    Permanent,
    Refused,
    Retryable,
    Task,
    known_and_asked,
    unpack_references,
)
from handlers.registry import Handler
from handlers.results import Received, Result
from orchestrator.bus.dead_letters import dead_letter_headers
from orchestrator.bus.port import Delivery, Record
from orchestrator.http import in_trace, recorded
from orchestrator.privacy import (
    CALLBACK_BODY,
    IDENTIFIERS,
    REFERENCES,
    GenerationForgotten,
    GenerationUnknown,
    Identifiers,
    IdentifiersBroken,
    KeyDestroyed,
    KeyUnknown,
    PrivacyError,
    RequestKeys,
    SealBroken,
    seal,
    unseal,
)
from orchestrator.secret import SecretUnavailable
from schemas import topics
from schemas.cloudevents import headers
from schemas.codec import CodecError, Resolver, UnknownSchema, decode, encode
from schemas.messages import Callback, Command, Confirmation
from schemas.traceparent import HEADER, trace_of

DEAD_LETTER = "dead-letter"
SOURCE = "worker"
FIRST_WAIT = 0.1
LONGEST_WAIT = 10.0
LONGEST_RETRY = 366 * 24 * 3600 * 1_000_000
_TOKEN = re.compile(r"[a-z0-9][a-z0-9_.-]{0,79}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_logger = logging.getLogger(__name__)


#: Why a party's answer reached no system: none has its name, or its link names another one than it was given.
_NOT_GIVEN = frozenset({"no_handler", "link_for_another_system", "link_invalid"})


class InstallationSeal(Protocol):
    """Seals to, and opens for, the installation itself."""

    def seal_installation(self, purpose: str, data: bytes) -> bytes: ...

    def unseal_installation(self, purpose: str, sealed: bytes) -> bytes: ...


class WorkerMetrics(Protocol):
    """What a worker counts; `orchestrator.metrics.Metrics` does."""

    def command_done(self, kind: str, verb: str, result: str, seconds: float) -> None: ...

    def callback(self, kind: str, result: str) -> None: ...

    def dead_letter(self, topic: str) -> None: ...


class Execution:
    """Carries out what the bus delivers."""

    def __init__(
        self,
        *,
        keys: RequestKeys,
        installation: InstallationSeal,
        handlers: Mapping[str, Handler],
        clock: Callable[[], int],
        call_limit: float,
        run_blocking: Callable[[Callable[[], bytes]], Awaitable[bytes]],
        metrics: WorkerMetrics | None = None,
        schemas: Resolver | None = None,
        outages: tuple[type[Exception], ...] = (),
        left: Collection[str] = (),
    ) -> None:
        self._schemas = schemas
        self._outages = outages
        self._keys = keys
        self._installation = installation
        self._handlers = handlers
        self._clock = clock
        self._call_limit = call_limit
        self._run_blocking = run_blocking
        self._metrics = metrics
        kinds = {handler.kind for handler in handlers.values()}
        self._callback_topics = {topics.callbacks(kind) for kind in kinds.union(left)}

    async def carry_out(self, delivery: Delivery) -> list[Record]:
        """The records that answer this one; when they are safely published, it may be acknowledged."""
        try:
            if delivery.topic in self._callback_topics:
                message: Callback | Command = decode(delivery.value, Callback, registry=self._schemas)
            else:
                message = decode(delivery.value, Command, registry=self._schemas)
        except UnknownSchema:
            return [self._dead(delivery, "unknown_schema")]
        except CodecError:
            return [self._dead(delivery, "malformed_message")]
        if isinstance(message, Callback):
            return await self._callback(delivery, message)
        trace = trace_of(delivery.header(HEADER))
        with in_trace(trace, message.event_id):
            return [await self._command(message, trace)]

    def too_large(self, delivery: Delivery) -> list[Record]:
        """What stands for records that answer this one and that the bus takes in no size."""
        try:
            command = decode(delivery.value, Command, registry=self._schemas)
        except CodecError:
            return [self._dead(delivery, "answer_too_large")]
        confirmation = self._failed(command, "answer_too_large", retryable=False)
        _logger.error(
            "answer_too_large",
            extra={"request_id": command.request_id, "system": command.system, "verb": command.verb},
        )
        return [_record(confirmation, self._clock(), trace_of(delivery.header(HEADER)))]

    # --- commands

    async def _command(self, command: Command, trace: str | None) -> Record:
        began_at = anyio.current_time()
        confirmation = await self._answer(command)
        try:
            record = _record(confirmation, self._clock(), trace)
        except CodecError:
            # More references than a message can hold: a person has to look at what the vendor answers.
            confirmation = self._failed(command, "answer_too_large", retryable=False)
            record = _record(confirmation, self._clock(), trace)
        seconds = anyio.current_time() - began_at
        if self._metrics is not None:
            self._metrics.command_done(command.kind, command.verb, confirmation.kind, seconds)
        _logger.info(
            "command_done",
            extra={
                "request_id": command.request_id,
                "system": command.system,
                "verb": command.verb,
                "attempt": command.attempt,
                "kind": confirmation.kind,
                "code": confirmation.code,
            },
        )
        return record

    async def _answer(self, command: Command) -> Confirmation:
        handler = self._handlers.get(command.system)
        if handler is None or handler.kind != command.kind:
            return self._failed(command, "unknown_system", retryable=False)
        if self._clock() > command.not_after:
            return confirm_expiry(command, "expired", now=self._clock())
        try:
            key = await self._key(command.request_id)
            known, task = self._known(command, key), self._task(command, key)
        except KeyDestroyed:
            return confirm_expiry(command, "key_destroyed", now=self._clock())
        except KeyUnknown:
            return self._failed(command, "key_unknown", retryable=True)
        except (SealBroken, IdentifiersBroken):
            return self._failed(command, "seal_broken", retryable=False)
        except GenerationForgotten:
            return self._failed(command, "key_lost", retryable=False)
        except PrivacyError:
            # One that is not known yet: a change of keys reaches one process after another.
            return self._failed(command, "key_unusable", retryable=True)
        except (ValueError, TypeError):
            return self._failed(command, "references_broken", retryable=False)
        with recorded(command.event_id) as calls:
            confirmation = await self._carry_out(command, handler, task, known, key)
        return with_proof(confirmation, calls.evidence(), personal_to(known, (*task.references, *task.asked)))

    async def _carry_out(
        self, command: Command, handler: Handler, task: Task, known: Identifiers, key: bytes
    ) -> Confirmation:
        try:
            with anyio.fail_after(self._call_limit):
                result = await _verb(handler, task)
            if command.verb not in result.answers:
                raise TypeError(f"{type(result).__name__} does not answer {command.verb}")
            return confirm_command(
                command,
                result,
                now=self._clock(),
                seal=lambda clear: seal(key, command.request_id, REFERENCES, clear),
                identifiers=known,
                references=(*task.references, *task.asked),
            )
        except self._outages:
            raise
        except Retryable as error:
            return self._failed(command, error.code, retryable=True, retry_after=error.retry_after)
        except Permanent as error:
            return self._failed(command, error.code, retryable=False)
        except Expired:
            return confirm_expiry(command, "expired", now=self._clock())
        except TimeoutError:
            return self._failed(command, "call_limit", retryable=True)
        except SecretUnavailable as error:
            _logger.error(
                "secret_unavailable", extra={"system": command.system, "type": type(error).__name__}
            )
            return self._failed(command, "secret_unavailable", retryable=True)
        except Exception as error:
            _logger.error(
                "handler_error",
                extra={
                    "request_id": command.request_id,
                    "system": command.system,
                    "verb": command.verb,
                    "type": type(error).__name__,
                },
            )
            return self._failed(command, "handler_error", retryable=True)

    async def _key(self, request_id: str) -> bytes:
        """The request's key. A store that is away is waited for: it says nothing about the request."""
        wait = FIRST_WAIT
        while True:
            try:
                return await self._run_blocking(lambda: self._keys.key_of(request_id))
            except PrivacyError:
                raise
            except Exception as error:
                _logger.warning("keys_unavailable", extra={"type": type(error).__name__, "seconds": wait})
            await anyio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)

    def _known(self, command: Command, key: bytes) -> Identifiers:
        """Return all that the person is known by, and told at: no evidence may have any of it."""
        return Identifiers.from_bytes(
            unseal(key, command.request_id, IDENTIFIERS, command.sealed_identifiers)
        )

    def _task(self, command: Command, key: bytes) -> Task:
        parts = [unseal(key, command.request_id, REFERENCES, part) for part in command.sealed_references]
        references, asked = known_and_asked(unpack_references(*parts))
        return Task(
            request_id=command.request_id,
            system=command.system,
            verb=command.verb,
            attempt=command.attempt,
            # No handler looks for anybody by the address that the person is told at.
            identifiers=self._known(command, key).searched,
            references=references,
            issued_at=command.issued_at,
            not_after=command.not_after,
            clock=self._clock,
            instruction=command.instruction,
            reminder=command.reminder,
            capacity=command.capacity,
            tenant=command.tenant,
            language=command.language,
            erased_at=command.erased_at,
            accepted_at=command.accepted_at,
            takes_all=command.takes_all,
            asked=asked,
        )

    def _failed(
        self, command: Command, code: str, *, retryable: bool, retry_after: int | None = None
    ) -> Confirmation:
        # A third party's handler may not keep to tokens, and what it said instead could be anything.
        code = code if _TOKEN.fullmatch(code) else "handler_error"
        wait = None if retry_after is None else min(max(retry_after, 0), LONGEST_RETRY)
        return confirm_failure(command, code, now=self._clock(), retryable=retryable, retry_after=wait)

    # --- callbacks

    async def _callback(self, delivery: Delivery, callback: Callback) -> list[Record]:
        try:
            body = self._body(callback)
        except GenerationUnknown:
            raise  # waited for: a change of keys reaches one process after another
        except (PrivacyError, ValueError, KeyError, TypeError, AttributeError) as error:
            return [self._dead(delivery, "seal_broken" if isinstance(error, PrivacyError) else "malformed")]
        refusal = "no_handler"
        records: list[Record] = []
        for system, handler in self._handlers.items():
            if handler.kind != callback.kind or callback.system not in (None, system):
                continue
            try:
                with anyio.fail_after(self._call_limit):
                    received = await handler.receive(body)
                if isinstance(received, Received):
                    return self._accepted(callback, [self._received(callback, received)])
                # A batch may concern other systems of the kind, too: each takes its own.
                said = [self._received(callback, one, is_one_of_several=True) for one in received]
                records += [_record(one, self._clock()) for one in said]
            except self._outages:
                raise
            except Refused as error:
                refusal = error.code
                continue
            except Exception as error:
                _logger.error("callback_error", extra={"system": system, "type": type(error).__name__})
                return [*records, self._dead(delivery, "callback_error")]
        if records:
            self._count(callback.kind, "accepted")
            return records
        if callback.system is not None and refusal in _NOT_GIVEN:
            return self._kept(delivery, callback, refusal)
        self._count(callback.kind, "refused")
        _logger.warning(
            "callback_refused", extra={"kind": callback.kind, "code": refusal, "event_id": callback.event_id}
        )
        return []

    def _kept(self, delivery: Delivery, callback: Callback, code: str) -> list[Record]:
        """What stands for a party's answer that no system here could be given: a dead letter, and a word that
        has the officer asked. The party was thanked, and answers once.
        """
        kept = [self._dead(delivery, code)]
        if _UUID.fullmatch(delivery.key):
            said = Confirmation(
                event_id=f"kept:{sha256(callback.event_id.encode()).hexdigest()[:32]}",
                request_id=delivery.key,
                system=callback.system,
                kind="failed",
                occurred_at=self._clock(),
                code="answer_kept",
            )
            kept.append(_record(said, self._clock()))
        return kept

    def _accepted(self, callback: Callback, said: list[Confirmation]) -> list[Record]:
        records = [_record(one, self._clock()) for one in said]
        self._count(callback.kind, "accepted")
        return records

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

    def _received(
        self, callback: Callback, received: Received, *, is_one_of_several: bool = False
    ) -> Confirmation:
        if "receive" not in received.result.answers:
            raise TypeError(f"{type(received.result).__name__} does not answer a callback")
        return confirm_callback(callback, received, now=self._clock(), is_one_of_several=is_one_of_several)

    # --- the rest

    def _count(self, kind: str, result: str) -> None:
        if self._metrics is not None:
            self._metrics.callback(kind, result)

    def _dead(self, delivery: Delivery, code: str) -> Record:
        if self._metrics is not None:
            self._metrics.dead_letter(delivery.topic)
        place: dict[str, Any] = {
            "topic": delivery.topic,
            "partition": delivery.partition,
            "offset": delivery.offset,
        }
        _logger.error("dead_letter", extra={**place, "code": code})
        return Record(
            topic=topics.dead_letters(delivery.topic),
            # A stranger's record may be keyed by a name.
            key=delivery.key if _UUID.fullmatch(delivery.key) else "",
            value=self._sealed(delivery.value),
            headers=dead_letter_headers(delivery, code, self._sealed),
        )

    def _sealed(self, data: bytes) -> bytes:
        return self._installation.seal_installation(DEAD_LETTER, data)


async def _verb(handler: Handler, task: Task) -> Result:
    match task.verb:
        case "locate":
            return await handler.locate(task)
        case "erase":
            return await handler.erase(task)
        case "prove":
            return await handler.prove(task)


def _record(confirmation: Confirmation, now: int, trace: str | None = None) -> Record:
    return Record(
        topic=topics.CONFIRMATIONS,
        key=confirmation.request_id or confirmation.correlation or "",
        value=encode(confirmation),
        headers=headers(confirmation, event_id=confirmation.event_id, source=SOURCE, at=now, trace=trace),
    )
