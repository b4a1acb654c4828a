"""The way out of the outbox, for one process or several.

* A record is marked as sent after the bus has it. A crash in between sends it again, under the same id.
* What was taken in (`intake.outbox`) is not marked but deleted: nothing asks for it any more, and it may hold
  a key that was wrapped to the installation.
* **No cursor.** Sequence numbers are given before the commit, so that a lower one may appear after a higher
  one. What is not marked is what is left, whatever its number.
* **A request's records go in order.** They are written with the request's row locked, one transaction after
  another, so among themselves their numbers do tell the order; and they are in one shard, which one process
  at a time has.
* **A shard is had by an advisory lock** that lasts as long as the transaction that reads, and marks, its
  records. The rows are read by a later statement than the one that locks: it sees what the process before
  has marked. A process that finds several shards waiting takes half of them, for another may be there.
* A process that is stopped in the middle loses its transaction after a while (`store.engine`), and with it
  the shards. If it wakes up, what it publishes is a repeat, and it marks nothing.
* SQLite has one shard and no such locks: it holds nothing while records are published, since the embedded
  bus writes to the same file.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import sqlalchemy as sa

from orchestrator.store import dialect
from orchestrator.store.tables import SHARDS, outbox
from orchestrator.store.transaction import TAKEN, Outgoing, headers_from_text

# Our own among the database's advisory locks; the second number is the shard.
_LOCKS = 1_380_009_029

# OFFSET keeps the locking from being done before the sorting; the outer LIMIT ends it when there are enough.
_TAKE = sa.text(
    f"""
    WITH waiting AS MATERIALIZED (
        SELECT shard FROM generate_series(0, {SHARDS - 1}) AS shard
        WHERE EXISTS (SELECT FROM outbox WHERE outbox.shard = shard.shard AND sent_at IS NULL)
    )
    SELECT shard FROM (SELECT shard FROM waiting ORDER BY random() OFFSET 0) AS any_order
    WHERE pg_try_advisory_xact_lock({_LOCKS}, shard)
    LIMIT (SELECT (count(*) + 1) / 2 FROM waiting)
    """  # noqa: S608 - two numbers of our own
)

_COLUMNS = (
    outbox.c.seq,
    outbox.c.event_id,
    outbox.c.topic,
    outbox.c.key,
    outbox.c.headers,
    outbox.c.value,
)
_Row = sa.Row[tuple[int, str, str, str, str, bytes]]
_Rows = sa.Select[tuple[int, str, str, str, str, bytes]]


@contextmanager
def take(engine: sa.Engine, limit: int, clock: Callable[[], int] | None) -> Iterator[list[Outgoing]]:
    """Up to `limit` records that nobody else has in hand. They are marked at the end, unless an exception
    passes.
    """
    if dialect.waits_for_rows(engine):
        with engine.begin() as connection:
            # Marks that a server lost when it went down have records sent again, as other crashes do; nobody
            # needs to wait for the disk.
            connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
            shards = connection.execute(_TAKE).scalars().all()
            rows = connection.execute(_of_shards(tuple(shards), limit)).all() if shards else []
            yield [_outgoing(row) for row in rows]
            _mark(connection, rows, clock)
        return
    with dialect.reading(engine).connect() as connection:
        rows = connection.execute(_of_shards((0,), limit)).all()
    yield [_outgoing(row) for row in rows]
    if rows:
        with engine.begin() as connection:
            _mark(connection, rows, clock)


def waiting(connection: sa.Connection, limit: int) -> list[Outgoing]:
    """The oldest that were not sent, whoever has them in hand."""
    query: _Rows = sa.select(*_COLUMNS).where(outbox.c.sent_at.is_(None)).order_by(outbox.c.seq).limit(limit)
    return [_outgoing(row) for row in connection.execute(query)]


@cache
def _of_shards(shards: tuple[int, ...], limit: int) -> _Rows:
    """The oldest of each shard, the same share of each, read along the index."""
    c = outbox.c
    share = -(-limit // len(shards))
    of_each = [
        sa.select(*_COLUMNS)
        .where(c.shard == shard, c.sent_at.is_(None))
        .order_by(c.seq)
        .limit(share)
        .subquery()
        for shard in shards
    ]
    if len(of_each) == 1:
        return sa.select(*of_each[0].c)
    together = sa.union_all(*(sa.select(*one.c) for one in of_each)).subquery()
    return sa.select(*together.c).order_by(together.c.seq)


def _mark(connection: sa.Connection, rows: Sequence[_Row], clock: Callable[[], int] | None) -> None:
    taken = [row.seq for row in rows if row.event_id.startswith(TAKEN)]
    if taken:
        connection.execute(sa.delete(outbox).where(dialect.among(connection, outbox.c.seq, taken)))
    if len(taken) < len(rows):
        now = clock() if clock is not None else dialect.now(connection)
        sent = dialect.among(connection, outbox.c.seq, [row.seq for row in rows])
        connection.execute(sa.update(outbox).where(sent, outbox.c.sent_at.is_(None)).values(sent_at=now))


def _outgoing(row: _Row) -> Outgoing:
    return Outgoing(
        event_id=row.event_id,
        topic=row.topic,
        key=row.key,
        value=row.value,
        headers=headers_from_text(row.headers),
    )
