"""From the tables of an older version to those of this one.

* Revisions are numbered, "0001" onwards, each in a module of `versions` that says what it changes. They are
  never changed once released, and import nothing of ours: the tables they make are those of their time.
* The newest leads to exactly what `store.tables` says, which a test compares on both databases;
  `tables.REVISION` names it. A new database in a file is made from `tables` and marked as being there.
* An upgrade is one transaction: it is done, or it was not. Two at once wait for each other.
* There is no way down. An older version of Radera goes with the backup from before.
"""

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from orchestrator.secret import SecretRef
from orchestrator.store.engine import bare_engine, database_name, revision_of
from orchestrator.store.errors import NewerSchema
from orchestrator.store.tables import REVISION

# Our own among the database's advisory locks.
_LOCK = 1_380_009_030


@dataclass(frozen=True, slots=True)
class Upgraded:
    """From where to where; None is a database without tables."""

    before: str | None
    after: str


def current(url: str, *, password: SecretRef | None = None) -> str | None:
    """The revision that the database is at; None where there are no tables."""
    engine = bare_engine(url, password=password)
    try:
        with engine.connect().execution_options(read_only=True) as connection:
            return revision_of(connection)
    finally:
        engine.dispose()


def upgrade(url: str, to: str = REVISION, *, password: SecretRef | None = None) -> Upgraded:
    """Bring the database to the revision `to`. Raises one of `store.errors`; then nothing was changed."""
    engine = bare_engine(url, password=password)
    try:
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            before = revision_of(connection)
            if before is not None and before > REVISION:
                raise NewerSchema(database=database_name(engine.url), found=before, known=REVISION)
            if before is None or before < to:
                command.upgrade(_config(connection), to)
            return Upgraded(before, max(before or "", to))
    finally:
        engine.dispose()


def _config(connection: sa.Connection) -> Config:
    config = Config()
    # A path is a template in a Config, where "%" has a meaning.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
