"""What SQLite and PostgreSQL spell differently; everything else in the store is one text for both."""

from typing import cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

# Milliseconds: SQLite's clock has no finer digit before 3.42.
_NOW_SQLITE = sa.text("SELECT CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000")
_NOW_POSTGRESQL = sa.text("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)")


Insert = sqlite.Insert


def insert(bind: sa.Engine | sa.Connection, table: sa.Table) -> Insert:
    """The database's own INSERT, which knows ON CONFLICT."""
    if bind.dialect.name == "postgresql":
        # Both have the same methods with the same arguments, and no common type that says so.
        return cast(Insert, postgresql.insert(table))
    return sqlite.insert(table)


def now(connection: sa.Connection) -> int:
    """The database's clock, in microseconds, UTC."""
    statement = _NOW_POSTGRESQL if connection.dialect.name == "postgresql" else _NOW_SQLITE
    return int(connection.execute(statement).scalar_one())
