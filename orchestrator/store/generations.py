"""What the database knows of the master keys, so that it notices a keyring that is not its own.

* It keeps each generation's number with a digest of the key, which opens nothing. The keyring may have more
  generations than the database knows: one that was put back from a backup learns of them again.
* `check` is asked by every process before it does anything, and by readiness. It refuses a keyring in which a
  generation that an open request's key needs is missing, or is another key; one that shares no generation
  with the database; and one of whose keys opens none of what was wrapped under its number.
* `take` is for `radera up` and the orchestrator. It records generations only after every open key was opened
  with this keyring: a digest of a wrong key would have the right one refused.
* A generation that was declared lost is not asked for any more.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import sqlalchemy as sa

from orchestrator.privacy.errors import PrivacyError
from orchestrator.privacy.keyring import Keyring
from orchestrator.store import dialect
from orchestrator.store.keys import StoredKeys
from orchestrator.store.store import Store
from orchestrator.store.tables import key_generations

_logger = logging.getLogger(__name__)


class GenerationMissing(PrivacyError):
    """Master key generation {number}, first used on {since}, is not in the keyring, and the keys of {count}
    open requests need it: put back the latest keyring, which has it. If it is lost for good, say so with
    `radera keys lost {number} --reason …`; the DPO is then asked about each of these requests."""


class GenerationGone(PrivacyError):
    """Master key generation {number} was destroyed on {since}, and the keys of {count} open requests need it:
    the database is older than that rotation. Put back a backup that was made after it. If there is none, say
    so with `radera keys lost {number} --reason …`; the DPO is then asked about each of these requests."""


class GenerationDiffers(PrivacyError):
    """Master key generation {number} in the keyring is another key than the one that this database has known
    under that number since {since}: put back the keyring that belongs to this database. If its key is lost
    for good, say so with `radera keys lost {number} --reason …`."""


class KeyringForeign(PrivacyError):
    """The keyring has none of the master key generations that this database knows ({numbers}): put back the
    keyring that belongs to it. If they are lost for good, say so with `radera keys lost NUMBER --reason …`
    for each."""


@dataclass(frozen=True, slots=True)
class KnownGeneration:
    """A generation as the database knows it; the last three are set when it was declared lost."""

    number: int
    digest: str = field(repr=False)
    first_seen_at: int
    lost_at: int | None = None
    lost_by: str | None = None
    lost_reason: str | None = None


class KnownGenerations:
    """The generations of one installation: what the database knows of them, held against the keyring."""

    def __init__(self, store: Store, keyring: Keyring, keys: StoredKeys) -> None:
        self._store = store
        self._keyring = keyring
        self._keys = keys

    def all(self) -> dict[int, KnownGeneration]:
        """Return every generation that the database knows, by its number."""
        with self._store.reading.connect() as connection:
            rows = connection.execute(sa.select(key_generations)).all()
        return {row.number: KnownGeneration(*row) for row in rows}

    def lost(self) -> frozenset[int]:
        """Return the generations that were declared lost."""
        c = key_generations.c
        with self._store.reading.connect() as connection:
            return frozenset(connection.execute(sa.select(c.number).where(c.lost_at.is_not(None))).scalars())

    def check(self) -> None:
        """Raise GenerationMissing, GenerationGone, GenerationDiffers or KeyringForeign, or return."""
        known = self.all()
        lost = {number for number, one in known.items() if one.lost_at is not None}
        present = [one.number for one in self._keyring.generations]
        gone = {one.number: one.forgotten_at for one in self._keyring.forgotten}
        needed = {number: count for number, count in self._keys.generations().items() if number not in lost}
        for number, count in sorted(needed.items()):
            if number in gone:
                raise GenerationGone(number=number, since=_day(gone[number]), count=count)
            if number not in present:
                since = known[number].first_seen_at if number in known else None
                raise GenerationMissing(number=number, since=_day(since), count=count)
        for number in present:
            if number in known and number not in lost:
                self._check_digest(known[number])
            elif number in needed and number not in known and not self._keys.opens_any(number):
                raise GenerationDiffers(number=number, since=_day(None))
        wanted = known.keys() - lost
        if wanted and wanted.isdisjoint([*present, *gone]):
            raise KeyringForeign(numbers=", ".join(map(str, sorted(wanted))))

    def take(self) -> None:
        """Record the generations that the database does not know yet, if every open key can be opened."""
        known = self.all()
        fresh = [one.number for one in self._keyring.generations if one.number not in known]
        if not fresh:
            return
        opened = self._keys.open_all(self.lost())
        if opened.unreadable:
            _logger.warning("generations_not_recorded", extra={"count": len(opened.unreadable)})
            return
        self.record({number: self._keyring.digest_of(number) for number in fresh})
        for number in fresh:
            _logger.info("generation_recorded", extra={"generation": number, "count": opened.count})

    def holds(self, number: int) -> bool:
        """Whether the keyring has this generation, and with the key that the database knows."""
        known = self.all().get(number)
        present = {one.number for one in self._keyring.generations}
        return number in present and known is not None and self._keyring.digest_of(number) == known.digest

    def declare_lost(self, number: int, *, by: str, reason: str) -> None:
        """Declare a generation lost: nobody waits for it any more, and the DPO is asked about what it takes
        along. One that is not known is recorded without a digest.
        """
        now = self._store.now()
        change = sa.update(key_generations).where(key_generations.c.number == number)
        with self._store.engine.begin() as connection:
            names = ("number", "digest", "first_seen_at")
            dialect.put(connection, key_generations, names, [(number, "", now)], _unless_known)
            connection.execute(change.values(lost_at=now, lost_by=by, lost_reason=reason))

    def record(self, digests: Mapping[int, str]) -> None:
        """Record generations, by number, unless they are known."""
        now = self._store.now()
        rows = [(number, digest, now) for number, digest in sorted(digests.items())]
        names = ("number", "digest", "first_seen_at")
        with self._store.engine.begin() as connection:
            dialect.put(connection, key_generations, names, rows, _unless_known)

    def _check_digest(self, known: KnownGeneration) -> None:
        if self._keyring.digest_of(known.number) != known.digest:
            raise GenerationDiffers(number=known.number, since=_day(known.first_seen_at))


def _unless_known(put: dialect.Insert) -> sa.Insert:
    return put.on_conflict_do_nothing()


def _day(at: int | None) -> str:
    return "an unknown day" if at is None else datetime.fromtimestamp(at / 1e6, UTC).date().isoformat()
