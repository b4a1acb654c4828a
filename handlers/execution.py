"""One record from the bus: read, unsealed, carried out, and turned into the records that answer it.

The rules:

* Whatever happens, a command that can be read is answered: with what the handler found, or with a failure.
  A record that can't be read goes to the dead letters, its payload sealed to the installation. Nothing here
  raises for what a record holds; only for a store that is away (`outages`), which is no answer to anything.
* A destroyed key means that the request is over. The command is answered `expired`, which never reads as an
  effect.
* An attempt that ends before its verb is answered says what it has settled: the next one goes on from there.
* A command past `not_after` is not begun. While it runs, each erasing call asks again (`Task.may_erase`).
* A system that isn't known here may be known to the worker that replaces this one. The answer says so, and
  the saga sends the command again after a while: a wait that survives a restart, is bounded, and costs no
  attempt.
* Handlers' errors carry codes. Of any other exception the type's name is logged, and nothing else: its text
  can quote anything. One that is no `Exception`, and a cancellation of its own, are the command's fault, too
  (`apart`).
"""

import logging
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Protocol

import anyio

from handlers.apart import Apart, HandlerCancelled, HandlerPanic, type_of
from handlers.callbacks import Callbacks
from handlers.confirming import (
    confirm_command,
    confirm_expiry,
    confirm_failure,
    confirm_progress,
    personal_to,
    record_of,
    with_progress,
    with_proof,
)
from handlers.letters import InstallationSeal, Letters
from handlers.port import (
    Expired,
    Permanent,
    Retryable,
    RoundOver,
    Task,
    known_and_asked,
    known_and_settled,
    unpack_references,
)
from handlers.registry import Handler
from handlers.results import Result
from orchestrator.bus.port import Delivery, Record
from orchestrator.http import in_trace, recorded
from orchestrator.privacy import (
    IDENTIFIERS,
    REFERENCES,
    GenerationForgotten,
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
from schemas.codec import CodecError, Resolver, UnknownSchema, decode
from schemas.messages import Callback, Command, Confirmation
from schemas.traceparent import HEADER, trace_of

FIRST_WAIT = 0.1
LONGEST_WAIT = 10.0
#: The part of an attempt's time after which it ends where it can, so that the call in hand is not cut off.
ROUND = 0.75
LONGEST_RETRY = 366 * 24 * 3600 * 1_000_000
#: When a command for a system that isn't known here shall come again, in microseconds.
ASK_AGAIN_ABOUT_UNKNOWN = 10 * 60 * 1_000_000
#: Codes of what stands for an answer that can't be given.
TOO_LARGE = "answer_too_large"
OUR_FAULT = "worker_error"
_TOKEN = re.compile(r"[a-z0-9][a-z0-9_.-]{0,79}")
_logger = logging.getLogger(__name__)


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
        self._handlers = handlers
        self._clock = clock
        self._call_limit = call_limit
        self._run_blocking = run_blocking
        self._metrics = metrics
        self._letters = Letters(installation, metrics)
        self._callbacks = Callbacks(
            installation=installation,
            handlers=handlers,
            clock=clock,
            call_limit=call_limit,
            letters=self._letters,
            metrics=metrics,
            outages=outages,
        )
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
            return [self._letters.dead(delivery, "unknown_schema")]
        except CodecError:
            return [self._letters.dead(delivery, "malformed_message")]
        if isinstance(message, Callback):
            return await self._callbacks.answer(delivery, message)
        trace = trace_of(delivery.header(HEADER))
        with in_trace(trace, message.event_id):
            return [await self._command(message, trace)]

    def instead(self, delivery: Delivery, code: str) -> list[Record]:
        """Return what stands for records that can't answer this one: the bus takes them in no size
        (`TOO_LARGE`), or we failed at making or publishing them (`OUR_FAULT`), which may pass.
        """
        try:
            command = decode(delivery.value, Command, registry=self._schemas)
        except CodecError:
            return [self._letters.dead(delivery, code)]
        confirmation = self._failed(command, code, retryable=code == OUR_FAULT)
        _logger.error(code, extra=_named(command))
        return [record_of(confirmation, self._clock(), trace_of(delivery.header(HEADER)))]

    # --- commands

    async def _command(self, command: Command, trace: str | None) -> Record:
        began_at = anyio.current_time()
        confirmation = await self._answer(command)
        try:
            record = record_of(confirmation, self._clock(), trace)
        except CodecError:
            # More references than a message can hold: a person has to look at what the vendor answers.
            confirmation = self._failed(command, TOO_LARGE, retryable=False)
            record = record_of(confirmation, self._clock(), trace)
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
            _logger.error("system_not_known", extra={**_named(command), "kind": command.kind})
            return self._failed(
                command, "unknown_system", retryable=True, retry_after=ASK_AGAIN_ABOUT_UNKNOWN
            )
        if self._clock() > command.not_after:
            return confirm_expiry(command, "expired", now=self._clock())
        apart = Apart(self._call_limit, outages=self._outages, about=_named(command))
        try:
            key = await self._key(command.request_id)
            known, task = self._known(command, key), self._task(command, key, apart)
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
            confirmation = await self._carry_out(command, handler, task, known, key, apart)
        if confirmation.kind in ("failed", "expired"):
            confirmation = with_progress(confirmation, task.rounds, self._sealing(command, key))
        return with_proof(confirmation, calls.evidence(), personal_to(known, (*task.references, *task.asked)))

    async def _carry_out(
        self, command: Command, handler: Handler, task: Task, known: Identifiers, key: bytes, apart: Apart
    ) -> Confirmation:
        async def verb() -> Confirmation:
            result = await _verb(handler, task)
            if command.verb not in result.answers:
                raise TypeError(f"{type(result).__name__} does not answer {command.verb}")
            return confirm_command(
                command,
                result,
                now=self._clock(),
                seal=self._sealing(command, key),
                identifiers=known,
                references=(*task.references, *task.asked),
            )

        try:
            return await apart.run(verb)
        except self._outages:
            raise
        except RoundOver:
            return confirm_progress(command, task.rounds, now=self._clock(), seal=self._sealing(command, key))
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
            code = _code_of(error)
            _logger.error("handler_error", extra={**_named(command), "type": type_of(error), "code": code})
            return self._failed(command, code, retryable=True)

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

    def _task(self, command: Command, key: bytes, apart: Apart) -> Task:
        parts = [unseal(key, command.request_id, REFERENCES, part) for part in command.sealed_references]
        known, asked = known_and_asked(unpack_references(*parts))
        references, rounds = known_and_settled(known)
        until = anyio.current_time() + ROUND * self._call_limit
        rounds.is_over = lambda: anyio.current_time() >= until
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
            in_force=apart.is_in_force,
            instruction=command.instruction,
            reminder=command.reminder,
            capacity=command.capacity,
            tenant=command.tenant,
            language=command.language,
            erased_at=command.erased_at,
            accepted_at=command.accepted_at,
            takes_all=command.takes_all,
            asked=asked,
            rounds=rounds,
        )

    def _sealing(self, command: Command, key: bytes) -> Callable[[bytes], bytes]:
        return lambda clear: seal(key, command.request_id, REFERENCES, clear)

    def _failed(
        self, command: Command, code: str, *, retryable: bool, retry_after: int | None = None
    ) -> Confirmation:
        # A third party's handler may not keep to tokens, and what it said instead could be anything.
        code = code if _TOKEN.fullmatch(code) else "handler_error"
        wait = None if retry_after is None else min(max(retry_after, 0), LONGEST_RETRY)
        return confirm_failure(command, code, now=self._clock(), retryable=retryable, retry_after=wait)


def _named(command: Command) -> dict[str, str]:
    """What names a command in the log."""
    return {"request_id": command.request_id, "system": command.system, "verb": command.verb}


def _code_of(error: Exception) -> str:
    match error:
        case HandlerPanic():
            return "handler_panic"
        case HandlerCancelled():
            return "handler_cancelled"
        case _:
            return "handler_error"


async def _verb(handler: Handler, task: Task) -> Result:
    match task.verb:
        case "locate":
            return await handler.locate(task)
        case "erase":
            return await handler.erase(task)
        case "prove":
            return await handler.prove(task)
