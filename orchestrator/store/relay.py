"""The way out of the outbox, for one process or several.

* A record is deleted after the bus has it. A crash in between sends it again, under the same id.
* **No cursor.** Sequence numbers are given before the commit, so that a lower one may appear after a higher
  one. What is there is what is left, whatever its number.
* **A request's records go in order.** They are written with the request's row locked, one transaction after
  another, so among themselves their numbers do tell the order; and they are in one shard, which one process
  at a time has.
* **A shard is had by an advisory lock** that lasts as long as the transaction that reads, and deletes, its
  records. The rows are read by a later statement than the one that locks: it sees what the process before
  has deleted. A process takes all shards in which something waits; once it has met another one, half of them.
* A process that is stopped in the middle loses its transaction after a while (`store.engine`), and with it
  the shards. If it wakes up, what it publishes is a repeat, and it deletes nothing.
* **Nothing holds up the others.** Topics that can't be written to, and records that the bus refused, are
  left out when records are read. A record whose headers can't be read goes without them: to its receiver it
  is what its value is, or a dead letter.
* SQLite has one shard and no such locks: it holds nothing while records are published, since the embedded
  bus writes to the same file.
"""

import logging
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import sqlalchemy as sa

from orchestrator.store import dialect
from orchestrator.store.headers import headers_from_text
from orchestrator.store.tables import SHARDS, outbox
from orchestrator.store.transaction import Outgoing

_logger = logging.getLogger(__name__)

# Our own among the database's advisory locks; the second number is the shard.
_LOCKS = 1_380_009_029

# For how long, in seconds, one that was met is believed to be there.
_LASTING = 5.0

# OFFSET keeps the locking from being done before the sorting; the outer LIMIT ends it when there are enough.
# What a server forgets to have deleted when it goes down is sent again, as after other crashes: nobody need
# wait for the disk at the end of the transaction.
_TAKE = sa.text(
    f"""
    WITH waiting AS MATERIALIZED (
        SELECT shard FROM generate_series(0, {SHARDS - 1}) AS shard
        WHERE EXISTS (
            SELECT FROM outbox
            WHERE outbox.shard = shard.shard AND topic <> ALL (:without) AND event_id <> ALL (:without)
        )
    ), wanted AS (
        SELECT CASE WHEN :shared THEN (count(*) + 1) / 2 ELSE count(*) END AS count FROM waiting
    ), taken AS (
        SELECT shard FROM (SELECT shard FROM waiting ORDER BY random() OFFSET 0) AS any_order
        WHERE pg_try_advisory_xact_lock({_LOCKS}, shard)
        LIMIT (SELECT count FROM wanted)
    )
    SELECT array(SELECT shard FROM taken) AS shards, (SELECT count FROM wanted) AS wanted,
        set_config('synchronous_commit', 'off', true)
    """  # noqa: S608 - two numbers of our own
).bindparams(sa.bindparam("without", type_=sa.ARRAY(sa.Text)))

_COLUMNS = (
    outbox.c.seq,
    outbox.c.shard,
    outbox.c.event_id,
    outbox.c.topic,
    outbox.c.key,
    outbox.c.headers,
    outbox.c.value,
)
_Row = sa.Row[tuple[int, int, str, str, str, str, bytes]]
_Rows = sa.Select[tuple[int, int, str, str, str, str, bytes]]

_OLDEST: _Rows = sa.select(*_COLUMNS).order_by(outbox.c.seq)


def _of_shards() -> _Rows:
    """The oldest of each shard, the same share of each, read along the index."""
    shards = sa.func.unnest(sa.bindparam("shards", type_=sa.ARRAY(sa.SmallInteger))).table_valued("shard")
    wanted = shards.render_derived(name="wanted")
    left_out = sa.all_(sa.bindparam("without", type_=sa.ARRAY(sa.Text)))
    is_taken = (outbox.c.topic != left_out, outbox.c.event_id != left_out)
    of_each = _OLDEST.where(outbox.c.shard == wanted.c.shard, *is_taken)
    found = of_each.limit(sa.bindparam("share", type_=sa.Integer)).lateral("found")
    return sa.select(*found.c).select_from(wanted.join(found, sa.true())).order_by(found.c.seq)


# One statement, whichever shards there are: a statement is made, and planned, but once.
_OF_SHARDS = _of_shards()


_OF_ONE: _Rows = _OLDEST.where(
    outbox.c.topic.not_in(sa.bindparam("without", expanding=True)),
    outbox.c.event_id.not_in(sa.bindparam("without", expanding=True)),
).limit(sa.bindparam("limit", type_=sa.Integer))


@cache
def _gone(dialect_name: str) -> sa.Delete:
    return sa.delete(outbox).where(dialect.among_given(dialect_name, outbox.c.seq, "sent"))


class Others:
    """Whether other processes relay, too, as far as this one has met them."""

    def __init__(self) -> None:
        self._until = 0.0

    @property
    def are_near(self) -> bool:
        return time.monotonic() < self._until

    def met(self) -> None:
        """They had shards that were wanted."""
        self._until = time.monotonic() + _LASTING


class Taken(list[Outgoing]):
    """Records in hand. `is_all` says that nothing else waited, so that there is no need to look at once.
    `kept` are the event ids of those that stay in the outbox.
    """

    def __init__(self, rows: Sequence[_Row], *, is_all: bool) -> None:
        super().__init__(map(_outgoing, rows))
        self.is_all = is_all
        self.kept: set[str] = set()


@contextmanager
def take(engine: sa.Engine, limit: int, others: Others, without: Collection[str] = ()) -> Iterator[Taken]:
    """Up to `limit` records that nobody else has in hand, without those whose topic or event id is among
    `without`. Those that are not `kept` are deleted at the end, unless an exception passes.
    """
    left_out = {"without": sorted(without)}
    if dialect.waits_for_rows(engine):
        with engine.begin() as connection:
            shared = others.are_near
            shards, wanted, _ = connection.execute(_TAKE, left_out | {"shared": shared}).one()
            if len(shards) < wanted:
                others.met()
            rows: Sequence[_Row] = []
            share = -(-limit // max(1, len(shards)))
            if shards:
                rows = connection.execute(_OF_SHARDS, {"shards": shards, "share": share} | left_out).all()
            most = max(Counter(row.shard for row in rows).values(), default=0)
            taken = Taken(rows, is_all=not shared and len(shards) == wanted and most < share)
            yield taken
            _delete(connection, rows, taken.kept)
        return
    with dialect.reading(engine).connect() as connection:
        rows = connection.execute(_OF_ONE, left_out | {"limit": limit}).all()
    taken = Taken(rows, is_all=len(rows) < limit)
    yield taken
    if rows:
        with engine.begin() as connection:
            _delete(connection, rows, taken.kept)


def waiting(connection: sa.Connection, limit: int) -> list[Outgoing]:
    """The oldest that were not sent, whoever has them in hand."""
    return [_outgoing(row) for row in connection.execute(_OLDEST.limit(limit))]


def _delete(connection: sa.Connection, rows: Sequence[_Row], kept: Collection[str]) -> None:
    done = [row.seq for row in rows if row.event_id not in kept]
    if done:
        sent = dialect.given(connection, outbox.c.seq, done)
        connection.execute(_gone(connection.dialect.name), {"sent": sent})


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
