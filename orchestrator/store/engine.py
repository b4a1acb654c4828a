"""Opens the database, as every role needs it.

What holds on every connection to SQLite:

* **Durable**: write-ahead log, `synchronous=FULL`. A commit that returned is on the disk.
* **Shredding**: `secure_delete` overwrites what is deleted, and sorting spills to memory, never to a
  temporary file.
* **One kind of transaction.** The driver's own guessing at BEGIN is off. A transaction is `BEGIN
  IMMEDIATE`: it has the write lock from the start, so it never fails half-way for having read first. The
  execution option `read_only=True` makes it a plain `BEGIN`, a snapshot that waits for nobody.
* **Private**: a new file is for its owner alone, and SQLite gives the files beside it the same mode.
* **In memory** there is one connection, and who wants it waits. A transaction inside a transaction of the
  same thread can't have it: that is a mistake in the caller, which on a file would wait for its own lock
  just so.

Parameters of statements are kept out of errors. What the driver says about the database's condition comes
out as one of `store.errors`.
"""

import os
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import QueuePool
from sqlalchemy.schema import CreateIndex, CreateTable

from orchestrator.store.dialect import insert
from orchestrator.store.errors import NewerSchema, Unreachable, typed
from orchestrator.store.tables import SCHEMA_VERSION, metadata, schema_version

LOCK_TIMEOUT = 10.0
_PRAGMAS = (
    "PRAGMA synchronous=FULL",
    "PRAGMA secure_delete=ON",
    "PRAGMA foreign_keys=ON",
    "PRAGMA temp_store=MEMORY",
)


def open_engine(url: str, *, lock_timeout: float = LOCK_TIMEOUT) -> sa.Engine:
    """An engine on the database at `url`, with our tables in it. Raises one of `store.errors`."""
    target = make_url(url)
    is_sqlite = target.get_backend_name() == "sqlite"
    engine = _sqlite(target, lock_timeout) if is_sqlite else sa.create_engine(target, hide_parameters=True)

    @sa.event.listens_for(engine, "handle_error", retval=True)
    def handle_error(context: sa.engine.ExceptionContext) -> BaseException | None:
        return typed(context, database_name(target))

    try:
        _prepare(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def database_name(url: URL) -> str:
    """How errors call the database: the file, or host and name; never a password."""
    return f"{url.host}/{url.database}" if url.host else url.database or ":memory:"


def _sqlite(url: URL, lock_timeout: float) -> sa.Engine:
    name = database_name(url)
    in_memory = name == ":memory:"
    if not in_memory and not name.startswith("file:"):
        _create_private(Path(name))
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
        for pragma in _PRAGMAS if in_memory else ("PRAGMA journal_mode=WAL", *_PRAGMAS):
            cursor.execute(pragma)
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        read_only = connection.get_execution_options().get("read_only", False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _create_private(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise Unreachable(database=path) from error


def _prepare(engine: sa.Engine) -> None:
    """Create what is missing, in one transaction; refuse a database that a newer version has written."""
    with engine.connect().execution_options(read_only=True) as connection:
        found = _version(connection)
    if found is None:
        with engine.begin() as connection:
            for statement in _statements(engine.dialect.name):
                connection.exec_driver_sql(statement)
            # Another process may have been first.
            put = insert(engine, schema_version).values(id=1, version=SCHEMA_VERSION).on_conflict_do_nothing()
            connection.execute(put)
            found = _version(connection)
    if found is not None and found > SCHEMA_VERSION:
        raise NewerSchema(database=database_name(engine.url), found=found, known=SCHEMA_VERSION)


def _version(connection: sa.Connection) -> int | None:
    if not sa.inspect(connection).has_table(schema_version.name):
        return None
    found = connection.execute(sa.select(sa.func.max(schema_version.c.version))).scalar()
    return int(found) if found is not None else None


@cache
def _statements(dialect_name: str) -> tuple[str, ...]:
    """The schema, compiled once for a process: simulations open thousands of databases in memory."""
    dialect = URL.create(dialect_name).get_dialect()()
    made: list[str] = []
    for table in metadata.sorted_tables:
        made.append(str(CreateTable(table, if_not_exists=True).compile(dialect=dialect)))
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        made += (str(CreateIndex(index, if_not_exists=True).compile(dialect=dialect)) for index in indexes)
    return tuple(made)
