"""What the database does not do by itself: forgetting what is no longer needed, and keeping its log free of
old pages.
"""

import sqlite3
import time
from collections.abc import Collection
from contextlib import closing

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPICursor

from orchestrator.store import tables
from orchestrator.store.errors import StoreError
from orchestrator.store.store import Store

# While a checkpoint waits for a reader it keeps writers out, so it waits briefly and more than once.
_CHECKPOINT_WAIT_MS = 200
_CHECKPOINT_ATTEMPTS = 5
_CHECKPOINT_PAUSE = 0.05


def purge_inbox(store: Store, before: int, consumers: Collection[str]) -> int:
    """Forget events that these consumers saw before `before`; it has to be longer ago than what they read
    can come again. Returns how many.
    """
    with store.begin() as transaction:
        return transaction.purge_inbox(before, consumers)


def orphans(store: Store, before: int) -> set[str]:
    """Return the requests whose keys were filed before `before`, and of which the database has neither a saga
    nor a record that waits for the bus.
    """
    with store.begin() as transaction:
        return transaction.orphans(before)


def destroy_orphans(store: Store, request_ids: Collection[str], before: int) -> int:
    """Destroy the keys of these requests, if they still are orphans: nothing would ever end them. Returns how
    many.
    """
    with store.begin() as transaction:
        ids = transaction.orphans(before).intersection(request_ids)
        transaction.destroy_keys(ids, transaction.now())
        return len(ids)


def purge_requests(store: Store, before: int) -> int:
    """Delete finished requests that nothing has changed since `before`, with all that hangs on them but the
    key's tombstone: an old event must not revive what was ended. Returns how many.
    """
    with store.begin() as transaction:
        return transaction.purge_requests(before)


def forget_subjects(store: Store, before: int) -> int:
    """Take the keyed digest of the subject out of finished requests that nothing has changed since `before`.
    Returns how many.
    """
    with store.begin() as transaction:
        return transaction.forget_subjects(before)


def restamp(store: Store, start: int, end: int, now: int) -> None:
    """Let what is stamped between two times count as written now: the clock was behind, and what it stamped
    would be past its retention at once.
    """
    stamps = (
        tables.inbox.c.seen_at,
        tables.subject_keys.c.created_at,
        tables.sagas.c.updated_at,
        tables.opendsr_requests.c.received_at,
    )
    with store.engine.begin() as connection:
        for stamp in stamps:
            change = sa.update(stamp.table).where(stamp.between(start, end)).values({stamp.name: now})
            connection.execute(change)


def empty_log(engine: sa.Engine) -> bool:
    """Move SQLite's write-ahead log into the file and cut it to nothing, so that no page lives on as it was
    before it was overwritten. Returns whether that was possible; False while somebody reads, and always on
    PostgreSQL.
    """
    if engine.dialect.name != "sqlite":
        return False
    try:
        # Past SQLAlchemy's transactions: in one, there is nothing to checkpoint.
        with closing(engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
            (usual,) = cursor.execute("PRAGMA busy_timeout").fetchone()
            cursor.execute(f"PRAGMA busy_timeout={_CHECKPOINT_WAIT_MS}")
            try:
                return _truncate(cursor)
            finally:
                cursor.execute(f"PRAGMA busy_timeout={usual}")
    except (sqlite3.OperationalError, StoreError):
        return False


def _truncate(cursor: DBAPICursor) -> bool:
    for attempt in range(_CHECKPOINT_ATTEMPTS):
        if attempt:
            time.sleep(_CHECKPOINT_PAUSE)
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [(busy, _, _)] = cursor.fetchall()
        if not busy:
            return True
    return False
