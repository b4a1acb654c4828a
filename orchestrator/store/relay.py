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
* **Nothing holds up the others.** Topics that nobody has made are left out when records are read. A record
  whose headers can't be read goes without them: to its receiver it is what its value is, or a dead letter.
* SQLite has one shard and no such locks: it holds nothing while records are published, since the embedded
  bus writes to the same file.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from orchestrator.store import dialect
from orchestrator.store.tables import SHARDS, outbox
from orchestrator.store.transaction import TAKEN, Outgoing, headers_from_text

_logger = logging.getLogger(__name__)

# Our own among the database's advisory locks; the second number is the shard.
_LOCKS = 1_380_009_029

# OFFSET keeps the locking from being done before the sorting; the outer LIMIT ends it when there are enough.
_TAKE = sa.text(
    f"""
    WITH waiting AS MATERIALIZED (
        SELECT shard FROM generate_series(0, {SHARDS - 1}) AS shard
        WHERE EXISTS (SELECT FROM outbox WHERE outbox.shard = shard.shard AND sent_at IS NULL
                      AND topic <> ALL (:without))
    )
    SELECT shard FROM (SELECT shard FROM waiting ORDER BY random() OFFSET 0) AS any_order
    WHERE pg_try_advisory_xact_lock({_LOCKS}, shard)
    LIMIT (SELECT (count(*) + 1) / 2 FROM waiting)
    """  # noqa: S608 - two numbers of our own
).bindparams(sa.bindparam("without", type_=ARRAY(sa.Text)))

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

_UNSENT: _Rows = sa.select(*_COLUMNS).where(outbox.c.sent_at.is_(None)).order_by(outbox.c.seq)


def _of_shards() -> _Rows:
    """The oldest of each shard, the same share of each, read along the index."""
    shards = sa.func.unnest(sa.bindparam("shards", type_=ARRAY(sa.SmallInteger))).table_valued("shard")
    wanted = shards.render_derived(name="wanted")
    known = outbox.c.topic != sa.all_(sa.bindparam("without", type_=ARRAY(sa.Text)))
    of_each = _UNSENT.where(outbox.c.shard == wanted.c.shard, known)
    found = of_each.limit(sa.bindparam("share", type_=sa.Integer)).lateral("found")
    return sa.select(*found.c).select_from(wanted.join(found, sa.true())).order_by(found.c.seq)


# One statement, whichever shards there are: a statement is made, and planned, but once.
_OF_SHARDS = _of_shards()


@contextmanager
def take(
    engine: sa.Engine, limit: int, clock: Callable[[], int] | None, without: Collection[str] = ()
) -> Iterator[list[Outgoing]]:
    """Up to `limit` records that nobody else has in hand, for other topics than `without`. They are marked
    at the end, unless an exception passes.
    """
    if dialect.waits_for_rows(engine):
        with engine.begin() as connection:
            left_out = {"without": sorted(without)}
            shards = connection.execute(_TAKE, left_out).scalars().all()
            rows: Sequence[_Row] = []
            if shards:
                share = -(-limit // len(shards))
                rows = connection.execute(_OF_SHARDS, {"shards": shards, "share": share} | left_out).all()
            yield [_outgoing(row) for row in rows]
            if rows:
                # Marks that a server loses when it goes down have records sent again, as other crashes do:
                # nobody need wait for the disk.
                connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
            _mark(connection, rows, clock)
        return
    with dialect.reading(engine).connect() as connection:
        unsent = _UNSENT.where(outbox.c.topic.not_in(sorted(without))) if without else _UNSENT
        rows = connection.execute(unsent.limit(limit)).all()
    yield [_outgoing(row) for row in rows]
    if rows:
        with engine.begin() as connection:
            _mark(connection, rows, clock)


def waiting(connection: sa.Connection, limit: int) -> list[Outgoing]:
    """The oldest that were not sent, whoever has them in hand."""
    return [_outgoing(row) for row in connection.execute(_UNSENT.limit(limit))]


def _mark(connection: sa.Connection, rows: Sequence[_Row], clock: Callable[[], int] | None) -> None:
    taken = [row.seq for row in rows if row.event_id.startswith(TAKEN)]
    if taken:
        connection.execute(sa.delete(outbox).where(dialect.among(connection, outbox.c.seq, taken)))
    if len(taken) < len(rows):
        now = clock() if clock is not None else dialect.now(connection)
        # By number alone: the index of what is unsent, which would be taken otherwise, is full of what has
        # just been sent.
        sent = dialect.among(connection, outbox.c.seq, [row.seq for row in rows])
        connection.execute(sa.update(outbox).where(sent).values(sent_at=now))


def _outgoing(row: _Row) -> Outgoing:
    try:
        headers = headers_from_text(row.headers)
        # A name that is none, or that UTF-8 doesn't have, the bus would refuse together with all around it.
        "".join([name for name, _ in headers]).encode()
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        _logger.warning("outbox_headers_unreadable", extra={"seq": row.seq, "topic": row.topic})
        headers = ()
    return Outgoing(
        event_id=row.event_id,
        topic=row.topic,
        key=row.key,
        value=row.value,
        headers=headers,
    )
