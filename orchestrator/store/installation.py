"""Which installation a database is of.

Database, key file and Kafka each carry the installation's id. The start compares them. It notices two
installations on one of them, and an empty database in the place of one that ran.
"""

import uuid

import sqlalchemy as sa

from orchestrator.privacy.errors import PrivacyError
from orchestrator.privacy.keyring import Keyring
from orchestrator.store import dialect
from orchestrator.store.store import Store
from orchestrator.store.tables import installation, key_generations, subject_keys


class DatabaseGone(PrivacyError):
    """The key file {keys} belongs to a database that has been in use, and {database} is not there: put it
    back, or name the place where it is now. An empty one would know of no request that is open. To begin
    anew, name a new key file too (`keys.file`)."""


class DatabaseEmpty(PrivacyError):
    """The key file {keys} belongs to a database that has been in use, and {database} is empty: put back the
    database, or name the right one. To begin anew, name a new key file too (`keys.file`)."""


class DatabaseOfAnother(PrivacyError):
    """The key file {keys} and the database {database} belong to two installations: use the key file of this
    database, or the database of this key file."""


class Installations:
    """The id of the installation, in the database and in the key file."""

    def __init__(self, store: Store, keyring: Keyring, database: str) -> None:
        self._store = store
        self._keyring = keyring
        self._names = {"keys": keyring.name, "database": database}

    def id(self) -> str | None:
        """Return the id that the database carries, or None before the first start."""
        with self._store.reading.connect() as connection:
            return connection.execute(sa.select(installation.c.id)).scalar_one_or_none()

    def check(self) -> None:
        """Raise DatabaseOfAnother or DatabaseEmpty, or return."""
        known, own = self.id(), self._keyring.installation
        if own is None or known == own:
            return
        if known is not None:
            raise DatabaseOfAnother(**self._names)
        if not self._was_used():
            raise DatabaseEmpty(**self._names)

    def settle(self) -> str:
        """Give the database an id, if it has none, and the key file the database's. Return it.

        A database that was put back from before it had one gets the id that its key file remembers.
        """
        row = (1, self._keyring.installation or str(uuid.uuid4()), self._store.now())
        with self._store.engine.begin() as connection:
            dialect.put(connection, installation, ("number", "id", "made_at"), [row], _unless_there)
        settled = self.id()
        if settled is None:
            raise RuntimeError("the id that was written is not there")
        self._keyring.belong_to(settled)
        return settled

    def _was_used(self) -> bool:
        # A request's key leaves a tombstone, so that its row is there as long as the database is.
        with self._store.reading.connect() as connection:
            return any(
                connection.execute(sa.select(sa.exists().select_from(table))).scalar_one()
                for table in (key_generations, subject_keys)
            )


def _unless_there(put: dialect.Insert) -> sa.Insert:
    return put.on_conflict_do_nothing()
