"""One batch of events in one database transaction: what the orchestrator reads and writes of it.

The methods stand in the order in which a batch calls them. Each costs a fixed handful of statements,
whatever the size of the batch, and ids are always taken in sorted order, so that two processes with
overlapping batches wait for each other rather than deadlock.

* The inbox says which events are new to a consumer. Everything that the transaction does for an old event
  is to leave it out.
* A saga's row is made before it is locked: a row that doesn't exist can't be locked, and two processes
  would both begin the request.
* The outbox takes each event id once; a repeat changes nothing.
* A transaction has one time: the database's, at its first question for it. Where single rows are locked it
  is asked for anew once `load` has them, so that no request's time runs backwards: ask `now` after that.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import sqlalchemy as sa

from orchestrator.position import mark_of
from orchestrator.privacy.keyring import Wrapped
from orchestrator.saga.ahead import Doubt
from orchestrator.saga.model import Saga
from orchestrator.saga.timeline import Entry
from orchestrator.store import dialect, statements, tables
from orchestrator.store.bare import bare
from orchestrator.store.documents import FINAL_STATUSES, documents, read_document, write_document
from orchestrator.store.headers import headers_to_text

# How long a saga that can't be read, or carried on, is left alone: an hour.
_ASIDE = 3600 * 1_000_000

# The columns of what is written most, in the order of the rows.
_OF_SAGA = (
    "request_id",
    "version",
    "status",
    "received_at",
    "due_at",
    "wake_at",
    "acted_at",
    "open_escalations",
    "quarantined",
    "subject_digest",
    "updated_at",
    "document",
)
_OF_ENTRY = ("request_id", "seq", "at", "action", "data", "previous", "hash")
_OF_RECORD = ("event_id", "shard", "topic", "key", "headers", "value", "created_at")


#: How the ids of outbox rows begin that were taken in from outside; the rest are the orchestrator's.
TAKEN: Final = "taken:"

#: How the ids of events begin that tell a request of its lost key.
KEY_LOST: Final = "key-lost/"

#: What became of a key that was to be filed: it is the request's now ("new"), or it isn't, since the
#: request has one ("known") or had one ("destroyed").
Filed = Literal["new", "known", "destroyed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A record to be published, as the outbox keeps it."""

    event_id: str
    topic: str
    key: str
    value: bytes = field(repr=False)
    headers: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """Which request and system a vendor's record id or a party's link token, hashed, belongs to."""

    digest: str
    request_id: str
    system: str


class Transaction:
    """An open transaction; `Store.begin` makes it, commits it, and rolls it back when an exception passes."""

    def __init__(self, connection: sa.Connection, clock: Callable[[], int] | None) -> None:
        self._connection = connection
        self._clock = clock
        self._now: int | None = None

    def now(self) -> int:
        """The time of this transaction."""
        if self._now is None:
            self._now = self._clock() if self._clock is not None else dialect.now(self._connection)
        return self._now

    def insert_inbox(self, consumer: str, event_ids: Iterable[str]) -> set[str]:
        """Note the events as seen by `consumer`; returns those that it had not seen."""
        now = self.now()
        rows = [(consumer, event_id, now) for event_id in sorted(set(event_ids))]
        if not rows:
            return set()
        names = ("consumer", "event_id", "seen_at")
        new = self._put(tables.inbox, names, rows, statements.returning_new(tables.inbox.c.event_id))
        return set(new.scalars())

    def forget_inbox(self, consumer: str, event_ids: Iterable[str]) -> None:
        """Take back that the events were seen: they were not applied, and may be when they come again."""
        c = tables.inbox.c
        for some in statements.chunks(sorted(set(event_ids))):
            seen = sa.delete(tables.inbox).where(c.consumer == consumer, c.event_id.in_(some))
            self._connection.execute(seen)

    def has_seen(self, consumer: str, event_id: str) -> bool:
        """Whether the event is noted as seen by `consumer`."""
        c = tables.inbox.c
        seen = sa.select(sa.literal(1)).where(c.consumer == consumer, c.event_id == event_id)
        return self._connection.execute(seen).first() is not None

    def has_received(self, request_id: str, at: int) -> bool:
        """Whether there is a saga of that id whose request was received at that time."""
        c = tables.sagas.c
        found = sa.select(sa.literal(1)).where(c.request_id == request_id, c.received_at == at)
        return self._connection.execute(found).first() is not None

    def take_in_hand(self, event_id: str, holder: str, until: int) -> bool:
        """Claim a mail until then, unless another holder's claim goes on; whether it is claimed now.

        A claim that goes on for more than twice as long as this one was made before the clock was set back.
        """
        c = tables.mails_in_hand.c
        from_ahead = c.until > until + (until - self.now())
        ended = sa.or_(c.until <= self.now(), from_ahead, c.holder == holder)
        self._connection.execute(sa.delete(tables.mails_in_hand).where(c.event_id == event_id, ended))
        rows, names = [(event_id, holder, until)], ("event_id", "holder", "until")
        return bool(self._put(tables.mails_in_hand, names, rows, statements.returning_new(c.event_id)).all())

    def let_go(self, event_id: str, holder: str | None = None) -> None:
        """End the claim of a mail, by this holder or by any."""
        c = tables.mails_in_hand.c
        claim = sa.delete(tables.mails_in_hand).where(c.event_id == event_id)
        self._connection.execute(claim if holder is None else claim.where(c.holder == holder))

    def insert_missing_sagas(self, request_ids: Iterable[str]) -> None:
        """Make rows to lock for requests that were never heard of."""
        now = self.now()
        rows = [(request_id, 0, now) for request_id in sorted(set(request_ids))]
        if rows:
            self._put(tables.sagas, ("request_id", "version", "updated_at"), rows)

    def load(self, request_ids: Iterable[str]) -> dict[str, Saga | None]:
        """Lock the sagas and read them; None for a request without a state, with or without a row."""
        wanted = sorted(set(request_ids))
        found: dict[str, Saga | None] = dict.fromkeys(wanted)
        query = statements.locking(self._connection.dialect.name)
        for some in statements.chunks(wanted):
            values = dialect.given(self._connection, tables.sagas.c.request_id, some)
            for row in self._connection.execute(query, {"some": values}):
                found[row.request_id] = read_document(row.request_id, row.document)
        if dialect.waits_for_rows(self._connection):
            # Who was waited for wrote at a later time than this transaction's beginning.
            self._now = None
        return found

    def load_bare(self, request_id: str) -> Saga | None:
        """Lock a saga whose document can't be read, and return what is known of it without; see `bare`."""
        values = dialect.given(self._connection, tables.sagas.c.request_id, [request_id])
        self._connection.execute(statements.locking(self._connection.dialect.name), {"some": values})
        return bare(self._connection, request_id)

    def due(self, now: int, limit: int, broken: list[str] | None = None) -> list[Saga]:
        """Lock and read sagas whose timer has come, the longest overdue first; what others hold is passed
        over, and so is one that can't be read: it is set aside, or it would stop the timers of all. Its id is
        put into `broken`.
        """
        broken = [] if broken is None else broken
        found = documents(self._connection.execute(statements.DUE, {"now": now, "limit": limit}), broken)
        for request_id in broken:
            self.set_aside(request_id, now)
        return found

    def set_aside(self, request_id: str, now: int) -> None:
        """Count the saga as quarantined and let its timer rest a while, without a look at its document."""
        c = tables.sagas.c
        change = sa.update(tables.sagas).where(c.request_id == request_id)
        self._connection.execute(change.values(quarantined=1, wake_at=now + _ASIDE))

    def of_subject(self, subject_digest: str) -> list[Saga]:
        """Every saga about the same subject that can be read, oldest request first; not locked."""
        c = tables.sagas.c
        query = (
            sa.select(c.request_id, c.document)
            .where(c.subject_digest == subject_digest)
            .order_by(c.received_at, c.request_id)
        )
        return documents(self._connection.execute(query), [])

    def save(self, sagas: Iterable[Saga], doubt: Doubt | None = None) -> None:
        """Write the sagas' new states. Under a clock in `doubt` they are looked at again when that says."""
        now = self.now()
        rows = [
            (
                saga.request_id,
                saga.version,
                saga.status,
                saga.received_at,
                saga.alarmed_by,
                saga.wake_at if doubt is None else doubt.wake_at(saga, now),
                saga.acted_at,
                len(saga.escalations),
                int(saga.quarantined),
                saga.subject_digest or None,
                now,
                write_document(saga),
            )
            for _, saga in sorted({saga.request_id: saga for saga in sagas}.items())
        ]
        self._upsert(tables.sagas, _OF_SAGA, rows)

    def append_timeline(self, entries: Iterable[tuple[str, Entry]]) -> None:
        """Add (request id, entry) pairs. An entry whose place is taken is a fork of the chain, and raises."""
        rows = [
            (request_id, entry.seq, entry.at, entry.action, entry.data, entry.previous, entry.hash)
            for request_id, entry in entries
        ]
        if rows:
            self._put(tables.timeline, _OF_ENTRY, rows, statements.as_it_is)

    def enqueue(self, outgoing: Iterable[Outgoing]) -> None:
        """Put records into the outbox, in this order."""
        now = self.now()
        rows = [
            (
                one.event_id,
                dialect.shard_of(self._connection, one.key),
                one.topic,
                one.key,
                headers_to_text(one.headers),
                one.value,
                now,
            )
            for one in outgoing
        ]
        if rows:
            self._put(tables.outbox, _OF_RECORD, rows)

    def number_word(self, request_id: str, system: str) -> int:
        """Return the number of a party's next word about a system of a request.

        It is this transaction's time, or one more than the last number, if that is larger. Whoever takes in
        another word about the same waits here until this transaction has ended.
        """
        names = ("request_id", "system", "latest")
        rows = [(request_id, system, self.now())]
        put = self._put(
            tables.words_taken, names, rows, statements.counting_on(self._connection.dialect.name)
        )
        return int(put.scalar_one())

    def correlate(self, correlations: Iterable[Correlation]) -> None:
        """Remember for callbacks to come. A later request about the same record takes its callbacks over."""
        now = self.now()
        latest = {one.digest: one for one in correlations}
        rows = [(digest, one.request_id, one.system, now) for digest, one in sorted(latest.items())]
        self._upsert(tables.correlations, ("digest", "request_id", "system", "created_at"), rows)

    def resolve(self, digests: Iterable[str]) -> dict[str, tuple[str, str]]:
        """The (request id, system) of each digest that is known."""
        c = tables.correlations.c
        found: dict[str, tuple[str, str]] = {}
        for some in statements.chunks(sorted(set(digests))):
            query = sa.select(c.digest, c.request_id, c.system).where(self._among(c.digest, some))
            found.update(
                (row.digest, (row.request_id, row.system)) for row in self._connection.execute(query)
            )
        return found

    def insert_keys(self, keys: Mapping[str, Wrapped]) -> dict[str, Filed]:
        """File wrapped keys, by request id, for requests that have none and never had one."""
        if not keys:
            return {}
        now = self.now()
        c = tables.subject_keys.c
        names = ("request_id", "generation", "wrapped", "created_at")
        rows = [
            (request_id, wrapped.generation, wrapped.blob, now)
            for request_id, wrapped in sorted(keys.items())
        ]
        new = set(
            self._put(tables.subject_keys, names, rows, statements.returning_new(c.request_id)).scalars()
        )
        filed: dict[str, Filed] = {request_id: "new" if request_id in new else "known" for request_id in keys}
        for some in statements.chunks(sorted(keys.keys() - new)):
            query = sa.select(c.request_id).where(self._among(c.request_id, some), c.wrapped.is_(None))
            filed.update(
                (request_id, "destroyed") for request_id in self._connection.execute(query).scalars()
            )
        return filed

    def destroy_keys(self, request_ids: Iterable[str], at: int) -> None:
        """Leave tombstones in place of the keys, also of keys that were never filed; the first time stands.

        After the commit, `StoredKeys.shred` takes what is left of them out of the write-ahead log.
        """
        rows = [(request_id, at, at) for request_id in sorted(set(request_ids))]
        if not rows:
            return
        names = ("request_id", "created_at", "destroyed_at")
        self._put(tables.subject_keys, names, rows, statements.leaving_a_tombstone)

    def set_positions(self, group: str, positions: Mapping[tuple[str, int], int]) -> None:
        """The next offset that `group` reads, by (topic, partition)."""
        rows = [(group, *place, int(at), mark_of(at) or None) for place, at in sorted(positions.items())]
        self._upsert(tables.positions, ("group", "topic", "partition", "next", "mark"), rows)

    # --- upkeep ---

    def share_keys(self) -> None:
        """Keys are about to be wrapped and filed: until the end of the transaction no master key may go."""
        dialect.lock_table(self._connection, tables.subject_keys, "ROW EXCLUSIVE")

    def own_keys(self) -> None:
        """Wait for all who are filing keys, and let nobody file one until the end of the transaction: a
        master key that wraps none may go now.
        """
        dialect.lock_table(self._connection, tables.subject_keys, "SHARE")

    def with_lost_keys(self, consumer: str, limit: int) -> dict[str, int]:
        """Return up to `limit` open requests whose key is under a generation that was declared lost, with the
        generation, if `consumer` has not seen an event of that.
        """
        known = tables.key_generations.c
        lost = self._connection.execute(sa.select(known.number).where(known.lost_at.is_not(None)))
        numbers = list(lost.scalars())
        if not numbers:
            return {}
        c, sagas, seen = tables.subject_keys.c, tables.sagas.c, tables.inbox.c
        event_id = sa.literal(KEY_LOST) + c.request_id + "/" + sa.cast(c.generation, sa.Text)
        query = (
            sa.select(c.request_id, c.generation)
            .join_from(tables.subject_keys, tables.sagas, sagas.request_id == c.request_id)
            .where(
                c.wrapped.is_not(None),
                c.generation.in_(numbers),
                sagas.document.is_not(None),
                sagas.status.not_in(FINAL_STATUSES),
                ~sa.exists().where(seen.consumer == consumer, seen.event_id == event_id),
            )
            .order_by(c.request_id)
            .limit(limit)
        )
        return {row.request_id: row.generation for row in self._connection.execute(query)}

    def check_rights_to_rotate(self) -> None:
        """Ask the database whether this account may do what a rotation does; raise NotAllowed if not."""
        self.own_keys()
        self.keys_to_rewrap(0, "", 1)
        known = tables.key_generations
        nothing = sa.select(known.c.number, known.c.digest, known.c.first_seen_at).where(sa.false())
        names = ["number", "digest", "first_seen_at"]
        self._connection.execute(sa.insert(known).from_select(names, nothing))

    def keys_to_rewrap(self, current: int, after: str, limit: int) -> dict[str, Wrapped]:
        """Lock and read keys of another generation than `current`, in the order of request ids, from beyond
        `after`.
        """
        c = tables.subject_keys.c
        query = (
            sa.select(c.request_id, c.generation, c.wrapped)
            .where(c.wrapped.is_not(None), c.generation != current, c.request_id > after)
            .order_by(c.request_id)
            .limit(limit)
            .with_for_update()
        )
        return {
            row.request_id: Wrapped(row.generation, row.wrapped) for row in self._connection.execute(query)
        }

    def replace_wrapping(self, keys: Mapping[str, Wrapped]) -> None:
        """The same keys, wrapped by another generation; a destroyed one stays destroyed."""
        if not keys:
            return
        c = tables.subject_keys.c
        change = (
            sa.update(tables.subject_keys)
            .where(c.request_id == sa.bindparam("of_request"), c.wrapped.is_not(None))
            .values(generation=sa.bindparam("new_generation"), wrapped=sa.bindparam("new_blob"))
        )
        rows = [
            {"of_request": request_id, "new_generation": wrapped.generation, "new_blob": wrapped.blob}
            for request_id, wrapped in sorted(keys.items())
        ]
        self._connection.execute(change, rows)

    def purge_inbox(self, before: int, consumers: Collection[str]) -> int:
        """Delete the rows of these consumers that are older than `before`. Returns how many."""
        c = tables.inbox.c
        statement = sa.delete(tables.inbox).where(c.consumer.in_(sorted(consumers)), c.seen_at < before)
        return self._connection.execute(statement).rowcount

    def orphans(self, before: int) -> set[str]:
        """The requests whose keys were filed before `before`, and of which there is neither a saga nor a
        record in the outbox.
        """
        c, sagas = tables.subject_keys.c, tables.sagas.c
        has_saga = sa.exists().where(sagas.request_id == c.request_id)
        in_outbox = c.request_id.in_(sa.select(tables.outbox.c.key))
        orphans = sa.select(c.request_id).where(
            c.wrapped.is_not(None), c.created_at < before, ~has_saga, ~in_outbox
        )
        return set(self._connection.execute(orphans).scalars())

    def purge_requests(self, before: int) -> int:
        """Delete requests that are finished and were last changed earlier than `before`, with their
        timelines, their correlations, and what a controller asked and is told; the keys' tombstones stay.
        The numbers of parties' words that are as old go, too. Returns how many requests.
        """
        c = tables.sagas.c
        old = (
            sa.select(c.request_id)
            .where(c.status.in_(FINAL_STATUSES), c.updated_at < before)
            .order_by(c.request_id)
            .with_for_update()
        )
        ids = sorted(self._connection.execute(old).scalars())
        # A number is no smaller than the time, so that those of long ago are of no use to any word to come.
        words = tables.words_taken
        self._connection.execute(sa.delete(words).where(words.c.latest < before))
        for some in statements.chunks(ids):
            for table in (
                tables.timeline,
                tables.correlations,
                tables.opendsr_callbacks,
                tables.opendsr_requests,
                tables.sagas,
            ):
                self._connection.execute(sa.delete(table).where(self._among(table.c.request_id, some)))
        return len(ids)

    def forget_subjects(self, before: int) -> int:
        """Take the digests of the subject out of finished requests last changed earlier than `before`, those
        of what a controller posted, and their correlations. Returns how many.
        """
        c = tables.sagas.c
        old = (
            sa.select(c.request_id, c.document)
            .where(c.status.in_(FINAL_STATUSES), c.updated_at < before, c.subject_digest.is_not(None))
            .order_by(c.request_id)
            .with_for_update()
        )
        # One that can't be read keeps its digests until it is mended, or gone.
        sagas = documents(self._connection.execute(old), [])
        for saga in sagas:
            blank = replace(saga, subject_digest="", content_digest="")
            # `updated_at` stays: it says when the request ended, and the retention counts from it.
            self._connection.execute(
                sa.update(tables.sagas)
                .where(c.request_id == saga.request_id)
                .values(subject_digest=None, document=write_document(blank))
            )
        for some in statements.chunks([saga.request_id for saga in sagas]):
            correlations = tables.correlations
            self._connection.execute(
                sa.delete(correlations).where(self._among(correlations.c.request_id, some))
            )
            asked = tables.opendsr_requests
            self._connection.execute(
                sa.update(asked).where(self._among(asked.c.request_id, some)).values(body=None)
            )
        return len(sagas)

    # --- statements ---

    def _among(self, column: sa.Column[str], some: Sequence[str]) -> sa.ColumnElement[bool]:
        return dialect.among(self._connection, column, some)

    def _upsert(self, table: sa.Table, names: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
        if rows:
            self._put(table, names, rows, statements.replacing(table, names))

    def _put(
        self,
        table: sa.Table,
        names: tuple[str, ...],
        rows: Sequence[tuple[object, ...]],
        then: dialect.Then | None = None,
    ) -> sa.CursorResult[Any]:
        return dialect.put(self._connection, table, names, rows, then or statements.leaving_what_is_there)
