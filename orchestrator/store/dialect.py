"""What SQLite and PostgreSQL spell differently; everything else in the store is one text for both.

SQLite's writers take turns from their first statement on, so that there is nothing more to lock: what is a
lock on PostgreSQL is nothing here, and the outbox is one shard.
"""

import zlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal, cast

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from orchestrator.saga.timeline import canonical
from orchestrator.store.tables import SHARDS

# Milliseconds: SQLite's clock has no finer digit before 3.42.
_NOW_SQLITE = sa.text("SELECT CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000")
_NOW_POSTGRESQL = sa.text("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)")


Insert = sqlite.Insert
#: What is added to an INSERT, such as what it does about rows that are there.
Then = Callable[[Insert], sa.Insert]


def waits_for_rows(bind: sa.Engine | sa.Connection) -> bool:
    """Whether writers go on side by side and lock single rows."""
    return bind.dialect.name == "postgresql"


def put(
    connection: sa.Connection,
    table: sa.Table,
    names: tuple[str, ...],
    rows: Sequence[tuple[object, ...]],
    then: Then,
) -> sa.CursorResult[Any]:
    """Insert the rows, in their order, as one statement; `names` are of the columns that they have, `then`
    adds what follows a conflict.

    Statements are made once for each `then`, which is therefore a function that stays: making one costs more
    than running it.
    """
    if connection.dialect.name != "postgresql":
        return connection.execute(
            _from_rows(table, then), [dict(zip(names, row, strict=True)) for row in rows]
        )
    arrays = {
        # The one column of this type holds a timeline's data.
        _BIND + name: _array(sa.Text(), [canonical(value) for value in values])
        if isinstance(table.c[name].type, sa.JSON)
        else _array(table.c[name].type, values)
        for name, values in zip(names, zip(*rows, strict=True), strict=True)
    }
    return connection.execute(_from_arrays_then(table, names, then), arrays)


def _array(kind: sa.types.TypeEngine[Any], items: Sequence[Any]) -> object:
    # Its driver takes memory and time that the embedded default has no use for.
    from orchestrator.store.arrays import Array

    return Array(kind, items)


# Names of bound values that are not those of columns.
_BIND = "all_"


@cache
def _from_rows(table: sa.Table, then: Then) -> sa.Insert:
    return then(sqlite.insert(table))


@cache
def _from_arrays_then(table: sa.Table, names: tuple[str, ...], then: Then) -> sa.Insert:
    return then(_from_arrays(table, names))


def _from_arrays(table: sa.Table, names: tuple[str, ...]) -> Insert:
    """An INSERT whose text doesn't depend on the number of rows: one array for each column.

    A placeholder for each value would have the driver look for thousands of them in the statement.
    """
    from sqlalchemy.dialects import postgresql  # loads all its drivers' dialects, which SQLite never needs

    carried = {
        name: sa.Text() if isinstance(table.c[name].type, sa.JSON) else table.c[name].type for name in names
    }
    arrays = (sa.bindparam(_BIND + name, type_=sa.types.NullType()) for name in names)
    columns = (sa.column(name, carried[name]) for name in names)
    rows = sa.func.unnest(*arrays).table_valued(*columns, with_ordinality="nth").render_derived()
    values = (
        sa.cast(rows.c[name], sa.JSON) if isinstance(table.c[name].type, sa.JSON) else rows.c[name]
        for name in names
    )
    chosen = sa.select(*values).order_by(rows.c.nth)
    # Both have the same methods with the same arguments, and no common type that says so.
    return cast(Insert, postgresql.insert(table).from_select(names, chosen))


def among(
    bind: sa.Engine | sa.Connection, column: sa.Column[Any], values: Sequence[object]
) -> sa.ColumnElement[bool]:
    """Whether the column has one of the values."""
    return _among(bind.dialect.name, column, value=given(bind, column, values))


def among_given(dialect_name: str, column: sa.Column[Any], key: str) -> sa.ColumnElement[bool]:
    """The same for a statement that is made once, and executed with `given` values under `key`: making one
    takes longer than running it.
    """
    return _among(dialect_name, column, key)


def _among(
    dialect_name: str, column: sa.Column[Any], key: str | None = None, value: object = None
) -> sa.ColumnElement[bool]:
    is_later = key is not None
    if dialect_name == "postgresql":
        return column == sa.any_(sa.bindparam(key, value, required=is_later, type_=sa.types.NullType()))
    return column.in_(sa.bindparam(key, value, required=is_later, expanding=True))


def given(bind: sa.Engine | sa.Connection, column: sa.Column[Any], values: Sequence[object]) -> object:
    """The values as `among_given` wants them."""
    return _array(column.type, values) if bind.dialect.name == "postgresql" else values


def now(connection: sa.Connection) -> int:
    """The database's clock, in microseconds, UTC."""
    statement = _NOW_POSTGRESQL if connection.dialect.name == "postgresql" else _NOW_SQLITE
    return int(connection.execute(statement).scalar_one())


def reading(engine: sa.Engine) -> sa.Engine:
    """The engine for reads of one statement, which wait for nobody and begin nothing."""
    if engine.dialect.name == "postgresql":
        # BEGIN and ROLLBACK would be two more questions to the server.
        return engine.execution_options(isolation_level="AUTOCOMMIT")
    return engine.execution_options(read_only=True, one_statement=True)


def one_moment(connection: sa.Connection) -> None:
    """Let all reads of a connection of `reading` see the same moment. It is said before the first of them."""
    if connection.dialect.name == "postgresql":
        connection.execution_options(isolation_level="REPEATABLE READ")
    else:
        connection.execution_options(one_statement=False)


def lock_table(connection: sa.Connection, table: sa.Table, mode: Literal["ROW EXCLUSIVE", "SHARE"]) -> None:
    """Lock the table until the end of the transaction."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"LOCK TABLE {table.name} IN {mode} MODE")


def shard_of(bind: sa.Engine | sa.Connection, key: str) -> int:
    """The part of the outbox that the key's records are in."""
    return zlib.crc32(key.encode()) % SHARDS if bind.dialect.name == "postgresql" else 0
