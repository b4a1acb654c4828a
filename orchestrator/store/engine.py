"""Opens the database, as every role needs it.

What holds on every connection to SQLite:

* **Durable**: write-ahead log, `synchronous=FULL`. A commit that returned is on the disk.
* **Shredding**: `secure_delete` overwrites what is deleted, and sorting spills to memory, never to a
  temporary file.
* **One kind of transaction.** The driver's own guessing at BEGIN is off. A transaction is `BEGIN
  IMMEDIATE`: it has the write lock from the start, so it never fails half-way for having read first. The
  execution option `read_only=True` makes it a plain `BEGIN`, a snapshot that waits for nobody. With
  `one_statement=True` there is none: a single SELECT is a snapshot by itself.
* **In its place**: no transaction begins on a file that was moved, replaced or removed (`place.py`).
* **Private**: a new file is for its owner alone, and SQLite gives the files beside it the same mode.
* **In memory** there is one connection, and who wants it waits. A transaction inside a transaction of the
  same thread can't have it: that is a mistake in the caller, which on a file would wait for its own lock
  just so.

And to PostgreSQL, through psycopg:

* **Durable**: `synchronous_commit` is on, whatever the server's default.
* **Nobody is waited for without end**: not for a lock, not for a server that has gone silent. Nor does
  anyone keep others waiting: the server ends the transaction of a process that was stopped in the middle.
* Only single rows are locked (READ COMMITTED, `FOR UPDATE`).
* The password is neither in the URL nor kept: it is read, where the settings say, for each new connection.

Parameters of statements are kept out of errors. What the driver says about the database's condition comes
out as one of `store.errors`.
"""

import os
import sqlite3
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import QueuePool
from sqlalchemy.schema import CreateIndex, CreateTable

from orchestrator.secret import SecretRef, SecretUnavailable
from orchestrator.store.errors import NewerSchema, NoPassword, NoSchema, OlderSchema, Unreachable, typed
from orchestrator.store.place import file_of, watched
from orchestrator.store.tables import REVISION, metadata, schema_version

LOCK_TIMEOUT = 10.0
_ONCE_MORE = 0.02
_PRAGMAS = (
    "PRAGMA synchronous=FULL",
    "PRAGMA secure_delete=ON",
    "PRAGMA foreign_keys=ON",
    "PRAGMA temp_store=MEMORY",
)

#: How long, in seconds, a transaction on PostgreSQL may stand idle. Longer than a bus takes for a batch.
IDLE_LIMIT = 120
# For how long, in seconds, a silent server is believed to be there. The URL may say otherwise.
_PATIENCE = {
    "connect_timeout": "10",
    "keepalives_idle": "20",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}


def open_engine(
    url: str, *, lock_timeout: float = LOCK_TIMEOUT, password: SecretRef | None = None
) -> sa.Engine:
    """An engine on the database at `url`, with our tables in it. Raises one of `store.errors`.

    SQLite gets the tables here when it has none. A server's are made by its owner, with `radera db upgrade`.
    """
    engine = bare_engine(url, lock_timeout=lock_timeout, password=password)
    try:
        _prepare(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def bare_engine(
    url: str, *, lock_timeout: float = LOCK_TIMEOUT, password: SecretRef | None = None
) -> sa.Engine:
    """The same, whatever tables there are: for migrations, and for roles that may not look."""
    target = make_url(url)
    make = _sqlite if target.get_backend_name() == "sqlite" else _postgresql
    engine = make(target, lock_timeout)
    if password is not None:
        sa.event.listen(engine, "do_connect", partial(_log_in, password, database_name(target)))
    sa.event.listen(engine, "handle_error", partial(typed, database=database_name(target)), retval=True)
    return engine


def database_name(url: URL) -> str:
    """How errors call the database: the file, or host and name; never a password."""
    return f"{url.host}/{url.database}" if url.host else url.database or ":memory:"


def _log_in(password: SecretRef, database: str, *connection: Any) -> None:
    """Gives each new connection the password as it is now: a file that was changed counts at once."""
    *_, parameters = connection
    try:
        parameters["password"] = password.read()
    except SecretUnavailable as error:
        raise NoPassword(database=database, said=error) from None


def _sqlite(url: URL, lock_timeout: float) -> sa.Engine:
    name = database_name(url)
    in_memory = name == ":memory:"
    file = file_of(url)
    if file is not None:
        _create_private(file)
    still_there = watched(file) if file is not None else None
    options: dict[str, Any] = (
        {"pool_size": 1, "max_overflow": 0} if in_memory else {"pool_size": 8, "max_overflow": 24}
    )
    engine = sa.create_engine(
        url,
        hide_parameters=True,
        poolclass=QueuePool,
        pool_timeout=lock_timeout,
        # The one connection in memory is the database, so it must not be replaced; others are cheap to keep
        # too.
        pool_recycle=-1,
        connect_args={"isolation_level": None, "timeout": lock_timeout, "check_same_thread": False},
        **options,
    )

    @sa.event.listens_for(engine, "connect")
    def prepare_connection(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        if not in_memory:
            _log_ahead(cursor, lock_timeout)
        for pragma in _PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    if still_there is not None:

        @sa.event.listens_for(engine, "do_connect")
        def look_first(*_: object) -> None:
            still_there()  # else SQLite would make an empty file where there is none any more

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        if still_there is not None:
            still_there()
        options = connection.get_execution_options()
        if not options.get("one_statement", False):
            read_only = options.get("read_only", False)
            connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _log_ahead(cursor: sqlite3.Cursor, limit: float) -> None:
    """Has the file its write-ahead log. Of two that open a new file at once one is refused, and not made to
    wait as for any other lock.
    """
    until = time.monotonic() + limit
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(_ONCE_MORE)
        else:
            return


def _postgresql(url: URL, lock_timeout: float) -> sa.Engine:
    given = url.query.get("options", ())
    options = (
        *((given,) if isinstance(given, str) else given),
        f"-c lock_timeout={int(lock_timeout * 1000)}",
        f"-c idle_in_transaction_session_timeout={IDLE_LIMIT * 1000}",
        "-c synchronous_commit=on",
    )
    query = {"application_name": "radera", **_PATIENCE, **url.query, "options": " ".join(options)}
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg", query=query),
        hide_parameters=True,
        pool_size=8,
        max_overflow=24,
        pool_timeout=lock_timeout,
    )

    @sa.event.listens_for(engine, "connect")
    def prepare_connection(connection: Any, _: object) -> None:
        # With the driver, which an installation on SQLite has no use for.
        from orchestrator.store.arrays import teach

        teach(connection)

    return engine


def _create_private(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise Unreachable(database=path) from error


def _prepare(engine: sa.Engine) -> None:
    """Create SQLite's tables where there are none; refuse a database that another version has written."""
    with engine.connect().execution_options(read_only=True) as connection:
        found = revision_of(connection)
    if found is None and engine.dialect.name == "sqlite":
        with engine.begin() as connection:
            for statement in _statements(engine.dialect.name):
                connection.exec_driver_sql(statement)
            # Another process may have been first.
            connection.execute(
                sqlite.insert(schema_version).values(version_num=REVISION).on_conflict_do_nothing()
            )
            found = revision_of(connection)
    name = database_name(engine.url)
    if found is None:
        raise NoSchema(database=name)
    # Revisions are numbered, so that a version can tell that one which it doesn't know is newer.
    if found > REVISION:
        raise NewerSchema(database=name, found=found, known=REVISION)
    if found < REVISION:
        raise OlderSchema(database=name, found=found, known=REVISION)


def revision_of(connection: sa.Connection) -> str | None:
    """The last migration that was applied to the database; None where there are no tables."""
    if not sa.inspect(connection).has_table(schema_version.name):
        return None
    return connection.execute(sa.select(sa.func.max(schema_version.c.version_num))).scalar()


@cache
def _statements(dialect_name: str) -> tuple[str, ...]:
    """The schema, compiled once for a process: simulations open thousands of databases in memory."""
    dialect = URL.create(dialect_name).get_dialect()()
    made: list[str] = []
    for table in (*metadata.sorted_tables, schema_version):
        made.append(str(CreateTable(table, if_not_exists=True).compile(dialect=dialect)))
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        made += (str(CreateIndex(index, if_not_exists=True).compile(dialect=dialect)) for index in indexes)
    return tuple(made)
