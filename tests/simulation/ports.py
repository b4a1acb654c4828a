"""What stands between the product and the world: each port asks whether its process is alive, and tells what
it does.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from typing import NamedTuple

import httpx
import sqlalchemy as sa
from typing_extensions import override

from handlers.sandbox.core import Sandbox
from orchestrator.log import entry
from orchestrator.privacy import Keyring
from orchestrator.saga.ahead import Doubt
from orchestrator.saga.model import Saga
from orchestrator.smtp import Leave, MailDeferred, MailRefused, always
from orchestrator.smtp.message import wire
from orchestrator.store import Store, StoredKeys, Transaction
from orchestrator.store.relay import Taken
from tests.simulation import looking
from tests.simulation.lives import Killed, Life


class _Watched(Transaction):
    """A transaction that remembers which sagas it wrote."""

    def __init__(self, connection: sa.Connection, clock: Callable[[], int] | None) -> None:
        super().__init__(connection, clock)
        self.saved: list[Saga] = []

    @override
    def save(self, sagas: Iterable[Saga], doubt: Doubt | None = None) -> None:
        batch = list(sagas)
        super().save(batch, doubt)
        self.saved += batch


class LivingStore(Store):
    """The store of one process. `committed` hears of every saga that was saved for good."""

    def __init__(
        self, engine: sa.Engine, clock: Callable[[], int], life: Life, committed: Callable[[Saga], None]
    ) -> None:
        super().__init__(engine, clock)
        self._life = life
        self._committed = committed
        self.open: sa.Connection | None = None

    @override
    @contextmanager
    def begin(self) -> Iterator[Transaction]:
        self._life.check()
        with self.engine.begin() as connection:
            transaction = _Watched(connection, self._clock)
            self.open = connection
            try:
                yield transaction
                self._life.before("commit")
            finally:
                self.open = None
        for saga in transaction.saved:
            self._committed(saga)
        self._life.after("commit")

    @override
    @contextmanager
    def relay(self, limit: int, without: Collection[str] = ()) -> Iterator[Taken]:
        self._life.check()
        with super().relay(limit, without) as rows:
            yield rows
            if rows:
                self._life.before("commit")
        if rows:
            self._life.after("commit")


class OneConnection:
    """Reading through the transaction that is open, if one is: in memory there is no second connection."""

    def __init__(self, store: LivingStore) -> None:
        self._store = store
        self._real = store.reading

    @contextmanager
    def connect(self) -> Iterator[sa.Connection]:
        if self._store.open is not None:
            yield self._store.open
            return
        with self._real.connect() as connection:
            yield connection


class LivingKeys(StoredKeys):
    """The keys, which must not be asked for within a transaction: they would wait for its connection."""

    def __init__(self, store: LivingStore, keyring: Keyring) -> None:
        super().__init__(store, keyring)
        self._living = store

    @override
    def key_of(self, request_id: str) -> bytes:
        if self._living.open is not None:
            raise AssertionError("a key was asked for within a transaction")
        return super().key_of(request_id)


class Mail(NamedTuple):
    """A mail that the server took: as it was made, and as it came over the line."""

    at: int
    recipient: str
    message: EmailMessage
    data: bytes


class LivingMailer:
    """The mail server: agencies' mail goes to the sandbox, all of it is kept."""

    def __init__(self, sandbox: Sandbox, life: Life, kept: list[Mail]) -> None:
        self._sandbox = sandbox
        self._life = life
        self._kept = kept

    def send(self, message: EmailMessage, recipient: str, may_send: Leave = always) -> None:
        self._life.before("mail")
        may_send()
        data = wire(message, recipient)
        struck = self._sandbox.strike_mail()
        for fault in struck:
            kind = fault["kind"]
            if kind == "reset":
                raise MailDeferred("lost")
            if kind.isdigit():
                code = int(kind)
                raise (MailRefused if code >= 500 else MailDeferred)("content", code)
        self._kept.append(Mail(self._sandbox.clock(), recipient, message, data))
        if recipient.endswith("@agency.example"):
            self._sandbox.accept_mail(data, [recipient])
        self._life.after("mail")
        if any(fault["kind"] == "lost_response" for fault in struck):
            raise MailDeferred("lost")


class LivingTransport(httpx.AsyncBaseTransport):
    """The way to the vendors.

    What takes something away leaves at once: between the permit and the wire there is no place to stop. What
    only looks, and every answer, may take some turns of the loop, so that others come in between and a
    process can be stopped there.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        life: Life,
        rng: random.Random,
        done: Counter[str],
        stops: Callable[[], bool],
    ) -> None:
        """`stops` says, after a look was answered, whether the process is stopped before it can act on it."""
        self._sandbox = sandbox
        self._life = life
        self._rng = rng
        self._done = done
        self._stops = stops

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._life.check()
        looking.note(request)
        looks = is_look(request)
        if looks:
            for _ in range(self._rng.choice((0, 0, 1, 3))):
                await asyncio.sleep(0)
        if looks:
            self._life.check()
        else:
            self._life.before("effect")
        self._done["calls"] += 1
        self._done["effects under way"] += not looks
        try:
            response = await self._sandbox.handle(request)
        finally:
            self._done["effects under way"] -= not looks
        if not looks:
            looking.note_answer(response.status_code)
            self._life.after("effect")
        for _ in range(self._rng.choice((0, 0, 1, 3))):
            await asyncio.sleep(0)
        if looks and self._stops():
            await asyncio.sleep(0)
        self._life.check()
        return response


def is_look(request: httpx.Request) -> bool:
    """Whether a call takes nothing away, whoever makes it."""
    path = request.url.path
    return request.method == "GET" or path.endswith(
        ("/Authenticate", "/token", "/locate", "/prove", "/confirmations", "/GetFormSubmissionEntity")
    )


class RuleFails(Exception):
    """A rule of the saga raises, since the world says so."""


#: Errors that are the world's, not the product's.
_EXPECTED = frozenset({"dead_letter", "dpo_mail_refused", "system_not_known"})


class LogLines(logging.Handler):
    """Every line that was logged, as it would have been written."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []
        self.errors: list[str] = []

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(repr(entry(record)))
        made_by_us = record.exc_info is not None and record.exc_info[0] is RuleFails
        # To a worker its own death looks like a panic; what it makes of it goes nowhere.
        has_died = vars(record).get("type") == Killed.__name__
        expected = made_by_us or has_died or record.getMessage() in _EXPECTED
        if record.levelno >= logging.ERROR and not expected:
            self.errors.append(self.lines[-1])
