"""One at a time, over all processes of an installation: the rotation of master keys."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from orchestrator.store.errors import Occupied
from orchestrator.store.place import Occupation, file_of

# Our own among the database's advisory locks; the second number says what is done alone.
_LOCKS = 1_380_009_031
_ROTATION = 1


@contextmanager
def rotating_alone(engine: sa.Engine) -> Iterator[bool]:
    """Hold the lock under which master keys are rotated. Yield False, at once, where another process has it.

    PostgreSQL has it as an advisory lock, which ends with the connection; a file of SQLite has it beside it,
    as the roles have theirs. It lasts for longer than a transaction may.
    """
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            lock = sa.func.pg_try_advisory_lock(_LOCKS, _ROTATION)
            held = bool(connection.execute(sa.select(lock)).scalar_one())
            try:
                yield held
            finally:
                if held:
                    connection.execute(sa.select(sa.func.pg_advisory_unlock(_LOCKS, _ROTATION)))
        return
    file = file_of(engine.url)
    try:
        occupation = Occupation() if file is None else Occupation.of(file, ["rotation"])
    except Occupied:
        yield False
        return
    try:
        yield True
    finally:
        occupation.end()
