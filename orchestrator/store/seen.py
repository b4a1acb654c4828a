"""The time last seen, and what is known of it: one row, which all orchestrators share."""

from dataclasses import asdict, dataclass

import sqlalchemy as sa

from orchestrator.store import dialect, statements
from orchestrator.store.store import Store
from orchestrator.store.tables import clock_seen

_ROW = 1
_NAMES = ("at", "even_for", "unwatched", "ahead", "jumped_at", "jumps")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of the time, all in micros.

    `at` is the database's time when it was last looked at, `even_for` how long it has run evenly since it
    jumped or was watched again, and `unwatched` for how long nobody had watched it by then. `ahead` is by how
    much it is ahead of the time that was last believed, below 0 behind it, and `jumped_at` what it said right
    after the jump. `jumps` counts.
    """

    at: int
    even_for: int = 0
    unwatched: int = 0
    ahead: int = 0
    jumped_at: int = 0
    jumps: int = 0


class SeenTimes:
    """The row of one installation, and the time itself."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def now(self) -> int:
        """The database's time."""
        return self._store.now()

    def load(self) -> Seen | None:
        """Return what was saved last; None in a database that nobody has watched yet."""
        query = sa.select(*(clock_seen.c[name] for name in _NAMES)).where(clock_seen.c.id == _ROW)
        with self._store.reading.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else Seen(**row._asdict())

    def save(self, seen: Seen, known_jumps: int) -> bool:
        """Save it, unless another process has saved a jump that this one doesn't know of."""
        values = asdict(seen)
        c = clock_seen.c
        with self._store.engine.begin() as connection:
            change = sa.update(clock_seen).where(c.id == _ROW, c.jumps == known_jumps).values(**values)
            if connection.execute(change).rowcount:
                return True
            rows = [(_ROW, *values.values())]
            put = dialect.put(connection, clock_seen, ("id", *values), rows, statements.returning_new(c.id))
            return bool(put.all())
