"""What can be wrong with the database, whose fault it is, and what mends it.

An error's docstring is its message; `{database}` is the file, or the host and name. `StoreUnavailable`
passes by itself or when something outside is put right: back off and try again. `StoreUnusable` does not:
the process should end and say why.

They derive from SQLAlchemy's own base, because they replace its errors wherever the engine is used, and who
only wants to know that "the database failed" can catch that.
"""

import sqlite3
from inspect import cleandoc

from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import OperationalError, SQLAlchemyError


class StoreError(SQLAlchemyError):
    """Something is wrong with the database {database}."""

    def __init__(self, **fields: object) -> None:
        said = cleandoc(self.__doc__ or type(self).__name__)  # python -OO takes the docstrings away
        super().__init__(" ".join(said.split()).format(**fields))


class StoreUnavailable(StoreError):
    """The database {database} can't be used at the moment. Nothing is lost; it is tried again."""


class Locked(StoreUnavailable):
    """Another process has held the database {database} locked for too long. It is tried again; if this
    lasts, look for a second `radera` or a tool that has the file open.
    """


class DiskFull(StoreUnavailable):
    """There is no room left for the database {database}. Make room on its disk; nothing is lost, and it
    goes on by itself.
    """


class Unreachable(StoreUnavailable):
    """The database {database} can't be opened or read. Check that its directory exists, that this user may
    write there, and that the disk (or the server) is up.
    """


class StoreUnusable(StoreError):
    """The database {database} can't be used as it is."""


class ReadOnly(StoreUnusable):
    """The database {database} may not be written to. Give this user the right to write the file and its
    directory.
    """


class NotADatabase(StoreUnusable):
    """The file {database} is not a SQLite database, or is damaged. Name the right file, or restore it from a
    backup.
    """


class NewerSchema(StoreUnusable):
    """The database {database} was written by a newer Radera (schema {found}; this one knows {known}). Upgrade
    Radera, or restore the database from before the upgrade."""


class BrokenDocument(StoreUnusable):
    """The saved state of request {request_id} can't be read. It was written by another version, or changed by
    hand.
    """


_BY_CODE: dict[int, type[StoreError]] = {
    sqlite3.SQLITE_BUSY: Locked,
    sqlite3.SQLITE_LOCKED: Locked,
    sqlite3.SQLITE_FULL: DiskFull,
    sqlite3.SQLITE_CANTOPEN: Unreachable,
    sqlite3.SQLITE_IOERR: Unreachable,
    sqlite3.SQLITE_PERM: Unreachable,
    sqlite3.SQLITE_READONLY: ReadOnly,
    sqlite3.SQLITE_NOTADB: NotADatabase,
    sqlite3.SQLITE_CORRUPT: NotADatabase,
}


def typed(context: ExceptionContext, database: str) -> StoreError | None:
    """Our error for one of the driver's, or None where it is not about the database's condition."""
    code = getattr(context.original_exception, "sqlite_errorcode", None)
    if isinstance(code, int):
        # The low byte is the kind; the rest only tells which system call failed.
        kind = _BY_CODE.get(code & 0xFF)
        return kind(database=database) if kind is not None else None
    lost = context.is_disconnect or isinstance(context.sqlalchemy_exception, OperationalError)
    return Unreachable(database=database) if lost else None
