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
from sqlalchemy.exc import DBAPIError, SQLAlchemyError


class StoreError(SQLAlchemyError):
    """Something is wrong with the database {database}."""

    def __init__(self, **fields: object) -> None:
        said = cleandoc(self.__doc__ or type(self).__name__)  # python -OO takes the docstrings away
        super().__init__(" ".join(said.split()).format(**fields))


class StoreUnavailable(StoreError):
    """The database {database} can't be used at the moment. Nothing is lost; it is tried again."""


class Locked(StoreUnavailable):
    """Another process has held the database {database} locked for too long. It is tried again; if this
    lasts, look for a second `radera` or a tool that has it open.
    """


class Collided(StoreUnavailable):
    """Two processes were in each other's way in the database {database}, and one had to give in. It is tried
    again.
    """


class Full(StoreUnavailable):
    """The server of the database {database} takes no more connections. Raise its `max_connections`, or run
    fewer processes; it is tried again.
    """


class DiskFull(StoreUnavailable):
    """There is no room left for the database {database}. Make room on its disk; nothing is lost, and it
    goes on by itself.
    """


class Unreachable(StoreUnavailable):
    """The database {database} can't be opened or read. Check that its directory exists, that this user may
    write there, and that the disk is up.
    """


class ServerAway(StoreUnavailable):
    """The server of the database {database} can't be reached, or has cut us off: {said}. Check that it is
    up, and that the name, the user and the password are right; it is tried again.
    """


class NoPassword(StoreUnavailable):
    """The password for the database {database} can't be had: {said}. It is tried again."""


class StoreUnusable(StoreError):
    """The database {database} can't be used as it is."""


class ReadOnly(StoreUnusable):
    """The database {database} may not be written to. Of a file, give this user the right to write it and its
    directory; of a server, name the primary and not a standby.
    """


class NotAllowed(StoreUnusable):
    """This process's user may not do in the database {database} what its role has to do. Give it the role,
    and the role its rights: see deploy/postgresql.
    """


class Moved(StoreUnusable):
    """The database {database} was moved, replaced or removed while this process had it open, so it ends. All
    that it has said was done is in the file that was there before: put that file back, or go on with the one
    that is there now, and start `radera` again.
    """


class Occupied(StoreUnusable):
    """Another `radera` (process {process}) works on the database {database} as {role}. Two would carry out
    everything twice: stop the other one first, or name a database of its own for this one.
    """


class NoSchema(StoreUnusable):
    """The database {database} has no tables of Radera. Make them, as its owner: `radera db upgrade`."""


class OlderSchema(StoreUnusable):
    """The database {database} was written by an older Radera (schema {found}; this one needs {known}). Stop
    every role, make a backup, and run `radera db upgrade`.
    """


class NotADatabase(StoreUnusable):
    """The file {database} is not a SQLite database, or is damaged. Name the right file, or restore it from a
    backup.
    """


class NewerSchema(StoreUnusable):
    """The database {database} was written by a newer Radera (schema {found}; this one knows {known}). Upgrade
    Radera, or restore the database from before the upgrade.
    """


class BrokenDocument(StoreUnusable):
    """The saved state of request {request_id} can't be read. It was written by another version, or changed by
    hand.
    """

    def __init__(self, *, request_id: str) -> None:
        super().__init__(request_id=request_id)
        self.request_id = request_id


# PostgreSQL's conditions, by SQLSTATE or its class (the first two characters).
_BY_STATE: dict[str, type[StoreError]] = {
    "08": ServerAway,
    "57": ServerAway,  # shut down, crashed or starting; a statement that was cancelled
    "58": ServerAway,  # its disk
    "25P03": ServerAway,  # the transaction stood idle for too long
    "53": Full,
    "53100": DiskFull,
    "40": Collided,  # deadlock, serialization
    "55P03": Locked,
    "25006": ReadOnly,
    "42501": NotAllowed,
}

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


def typed(context: ExceptionContext, database: str) -> BaseException | None:
    """Our error for one of the driver's, or None where it is not about the database's condition."""
    error = context.original_exception
    if isinstance(error, sqlite3.Error):
        # The low byte is the kind; the rest only tells which system call failed.
        kind = _BY_CODE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
        return kind(database=database) if kind is not None else None
    state = getattr(error, "sqlstate", None) or ""
    kind = _BY_STATE.get(state) or _BY_STATE.get(state[:2])
    if kind is not None and kind is not ServerAway:
        return kind(database=database)
    if kind is ServerAway or context.is_disconnect or type(error).__name__ == "OperationalError":
        return ServerAway(database=database, said=_reason(error))
    return _without_values(context.sqlalchemy_exception, error) if state else None


def _reason(error: BaseException) -> str:
    """What the server, or the way to it, says about its condition."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def _without_values(wrapped: object, error: BaseException) -> BaseException | None:
    """The same error without the server's DETAIL, which quotes the row."""
    said = getattr(getattr(error, "diag", None), "message_primary", None) or type(error).__name__
    error.args = (said,)
    if not isinstance(wrapped, DBAPIError):
        return None
    return type(wrapped)(wrapped.statement, None, error, hide_parameters=True)
