"""The store: sagas, timelines, the inbox and the outbox, in one SQL database.

Writing is done in a `Transaction`. Reading here takes no locks and may be a moment old; whoever is going to
change what they read loads it in a transaction. Neither may be asked for while a transaction of the same
thread is open: in memory there is one connection.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from orchestrator.position import Position
from orchestrator.saga.model import Saga
from orchestrator.saga.timeline import GENESIS, Entry, link
from orchestrator.store import dialect, tables
from orchestrator.store.bare import bare
from orchestrator.store.documents import FINAL_STATUSES, documents
from orchestrator.store.relay import Others, Taken, take, waiting
from orchestrator.store.transaction import Outgoing, Transaction
from schemas import topics


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What there is to do, for metrics. Times are of the oldest, None where there is none; `next_due_at` is
    of the requests that were not yet acted on.
    """

    open_requests: int
    oldest_received_at: int | None
    next_due_at: int | None
    next_wake_at: int | None
    open_escalations: int
    quarantined: int
    unsent: int
    oldest_unsent_at: int | None
    unopened: int
    oldest_unopened_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineCheck:
    """Whether a timeline's chain holds, up to the head that the saga knows. `broken_at` is the first seq that
    doesn't fit.
    """

    request_id: str
    length: int
    head: str
    broken_at: int | None

    @property
    def is_intact(self) -> bool:
        return self.broken_at is None


class Store:
    """The store on an engine of `open_engine`. `clock` replaces the database's, in simulations."""

    def __init__(self, engine: sa.Engine, clock: Callable[[], int] | None = None) -> None:
        self.engine = engine
        self.reading = dialect.reading(engine)
        self._clock = clock
        self._others = Others()

    def now(self) -> int:
        """The time, in microseconds, UTC: the database's clock, which all processes share. Needs no right to
        any table.
        """
        if self._clock is not None:
            return self._clock()
        with self.reading.connect() as connection:
            return dialect.now(connection)

    @contextmanager
    def begin(self) -> Iterator[Transaction]:
        """A transaction: committed at the end, rolled back as a whole when an exception passes."""
        with self.engine.begin() as connection:
            yield Transaction(connection, self._clock)

    # --- sagas ---

    def saga(self, request_id: str) -> Saga | None:
        with self.reading.connect() as connection:
            return _saga(connection, request_id)

    def bare(self, request_id: str) -> Saga | None:
        """What is known of a saga without its document; see `store.bare`."""
        with self.reading.connect() as connection:
            return bare(connection, request_id)

    def ended_at(self, request_id: str) -> int | None:
        """When the request's key was destroyed, which is when it ended; None where that is not known."""
        c = tables.subject_keys.c
        with self.reading.connect() as connection:
            return connection.execute(sa.select(c.destroyed_at).where(c.request_id == request_id)).scalar()

    def sagas(
        self,
        statuses: Collection[str] | None = None,
        *,
        also_waiting: bool = False,
        limit: int = 100,
        offset: int = 0,
        broken: list[str] | None = None,
    ) -> list[Saga]:
        """Sagas in any of `statuses` (None: in any), those due first first; see `documents` for `broken`.

        `also_waiting` adds those that wait for something: one that has ended may have an open question.
        """
        c = tables.sagas.c
        query = sa.select(c.request_id, c.document).where(c.document.is_not(None))
        if statuses is not None:
            is_wanted = c.status.in_(sorted(statuses))
            query = query.where(is_wanted | c.wake_at.is_not(None) if also_waiting else is_wanted)
        query = query.order_by(c.due_at, c.request_id).limit(limit).offset(offset)
        with self.reading.connect() as connection:
            return documents(connection.execute(query), broken)

    def ended(self, broken: list[str], *, page: int = 500) -> Iterator[Saga]:
        """Yield every request that has ended, by id, reading a page at a time; see `documents` for
        `broken`.
        """
        c, after = tables.sagas.c, ""
        while True:
            query = (
                sa.select(c.request_id, c.document)
                .where(c.status.in_(FINAL_STATUSES), c.request_id > after)
                .order_by(c.request_id)
                .limit(page)
            )
            with self.reading.connect() as connection:
                rows = [*connection.execute(query)]
            yield from documents(rows, broken)
            if len(rows) < page:
                return
            after = rows[-1].request_id

    def due(self, now: int, limit: int) -> list[Saga]:
        """Sagas whose timer has come, not locked; `Transaction.due` is for acting on them."""
        c = tables.sagas.c
        query = (
            sa.select(c.request_id, c.document)
            .where(c.wake_at <= now)
            .order_by(c.wake_at, c.request_id)
            .limit(limit)
        )
        with self.reading.connect() as connection:
            return documents(connection.execute(query))

    def changed_after(self, at: int, after: str, limit: int) -> list[str]:
        """The ids of sagas that wait and were last changed later than `at`, from beyond `after`."""
        c = tables.sagas.c
        query = (
            sa.select(c.request_id)
            .where(c.updated_at > at, c.wake_at.is_not(None), c.request_id > after)
            .order_by(c.request_id)
            .limit(limit)
        )
        with self.reading.connect() as connection:
            return list(connection.execute(query).scalars())

    def next_wake_at(self) -> int | None:
        """When the next timer fires."""
        with self.reading.connect() as connection:
            return connection.execute(sa.select(sa.func.min(tables.sagas.c.wake_at))).scalar()

    def unopened(self, *, in_outbox: bool = True) -> dict[str, int]:
        """The requests that were accepted and have no state yet, and since when: their key is filed, or their
        record waits for the bus, which serve's account may not see.
        """
        k, o = tables.subject_keys.c, tables.outbox.c
        keys = sa.select(k.request_id, k.created_at).where(k.wrapped.is_not(None), ~_opened(k.request_id))
        records = sa.select(o.key, o.created_at).where(o.topic == topics.REQUESTS, ~_opened(o.key))
        found: dict[str, int] = {}
        with self.reading.connect() as connection:
            for query in (keys, records) if in_outbox else (keys,):
                for request_id, at in connection.execute(query):
                    found[request_id] = min(at, found.get(request_id, at))
        return found

    def figures(self) -> Figures:
        s, o = tables.sagas.c, tables.outbox.c
        open_sagas = sa.select(
            sa.func.count(),
            sa.func.min(s.received_at),
            sa.func.min(sa.case((s.acted_at.is_(None), s.due_at))),
            sa.func.min(s.wake_at),
            sa.func.coalesce(sa.func.sum(s.quarantined), 0),
        ).where(s.status.not_in(FINAL_STATUSES))
        # A question may be open after the end. A request without any timer has none.
        questions = sa.select(sa.func.coalesce(sa.func.sum(s.open_escalations), 0)).where(
            s.wake_at.is_not(None)
        )
        unsent = sa.select(sa.func.count(), sa.func.min(o.created_at))
        with self.reading.connect() as connection:
            open_requests, oldest, next_due_at, next_wake_at, quarantined = connection.execute(
                open_sagas
            ).one()
            escalations = connection.execute(questions).scalar_one()
            waiting, oldest_unsent_at = connection.execute(unsent).one()
        unopened = self.unopened()
        return Figures(
            unopened=len(unopened),
            oldest_unopened_at=min(unopened.values(), default=None),
            open_requests=open_requests,
            oldest_received_at=oldest,
            next_due_at=next_due_at,
            next_wake_at=next_wake_at,
            open_escalations=int(escalations),
            quarantined=int(quarantined),
            unsent=waiting,
            oldest_unsent_at=oldest_unsent_at,
        )

    # --- the timeline ---

    def timeline(self, request_id: str) -> list[Entry]:
        with self.reading.connect() as connection:
            return _timeline(connection, request_id)

    def verify_timeline(self, request_id: str) -> TimelineCheck:
        """Recompute the hash chain: each entry by itself, its place, and that the saga's head is the last of
        them.
        """
        with self.reading.connect() as connection:
            # Both reads have to see the same moment.
            dialect.one_moment(connection)
            entries = _timeline(connection, request_id)
            saga = _saga(connection, request_id)
        previous, broken_at = GENESIS, None
        for seq, entry in enumerate(entries, start=1):
            expected = link(previous, seq, entry.at, entry.action, entry.data)
            if (entry.seq, entry.previous, entry.hash) != (seq, previous, expected):
                broken_at = seq
                break
            previous = entry.hash
        known = (saga.seq, saga.head) if saga is not None else (0, GENESIS)
        if broken_at is None and known != (len(entries), previous):
            broken_at = min(known[0], len(entries)) + 1 if known[0] != len(entries) else len(entries)
        return TimelineCheck(request_id=request_id, length=len(entries), head=previous, broken_at=broken_at)

    # --- the bus's side ---

    def positions(self, group: str) -> dict[tuple[str, int], Position]:
        """The next offset that `group` reads, by (topic, partition)."""
        c = tables.positions.c
        query = sa.select(c.topic, c.partition, c.next, c.mark).where(c.group == group)
        with self.reading.connect() as connection:
            rows = connection.execute(query).all()
        return {(row.topic, row.partition): Position(row.next, row.mark or "") for row in rows}

    def unsent(self, limit: int) -> list[Outgoing]:
        """The outbox's oldest records that were not sent, to be looked at; `relay` is for sending them."""
        with self.reading.connect() as connection:
            return waiting(connection, limit)

    def unsent_topics(self, until: int) -> set[str]:
        """Return the topics of the records that were put into the outbox at `until` or before, and were not
        sent.
        """
        c = tables.outbox.c
        with self.reading.connect() as connection:
            query = sa.select(c.topic).where(c.created_at <= until).distinct()
            return set(connection.execute(query).scalars())

    def unsent_commands(self) -> list[tuple[str, str, str]]:
        """Return the commands that were not sent, each with its topic, request id and event id."""
        c = tables.outbox.c
        query = sa.select(c.topic, c.key, c.event_id).where(c.topic.like(topics.commands("%")))
        with self.reading.connect() as connection:
            return [(topic, key, event_id) for topic, key, event_id in connection.execute(query)]

    @contextmanager
    def relay(self, limit: int, without: Collection[str] = ()) -> Iterator[Taken]:
        """Up to `limit` records of the outbox, without those whose topic or event id is among `without`, to
        be published within; see `store.relay`. At the end those are deleted that are not `kept`, unless an
        exception passes.
        """
        with take(self.engine, limit, self._others, without) as records:
            yield records


def _saga(connection: sa.Connection, request_id: str) -> Saga | None:
    c = tables.sagas.c
    query = sa.select(c.request_id, c.document).where(c.request_id == request_id)
    return next(iter(documents(connection.execute(query))), None)


def _timeline(connection: sa.Connection, request_id: str) -> list[Entry]:
    c = tables.timeline.c
    query = (
        sa.select(c.seq, c.at, c.action, c.data, c.previous, c.hash)
        .where(c.request_id == request_id)
        .order_by(c.seq)
    )
    return [Entry(*row) for row in connection.execute(query)]


def _opened(request_id: sa.Column[Any]) -> sa.Exists:
    c = tables.sagas.c
    return sa.exists().where(c.request_id == request_id, c.document.is_not(None))
