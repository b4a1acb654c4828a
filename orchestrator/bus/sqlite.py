"""The embedded bus: topics in the SQLite file that also holds everything else.

* **Offsets are one AUTOINCREMENT counter for all topics**, so a topic's offsets have gaps and are never
  used twice. SQLite has one writer at a time and gives the number under the write lock: the order of
  offsets is the order of commits, and who sees an offset sees every lower one. That is why a reader may
  keep a cursor here, and why the bus refuses other databases. A file that is put back goes on from where it
  was, and so does all that it remembers of offsets; outside of it a record is known by its time as well.
* **Every topic has one partition, 0.** Within a process several subscriptions of one group share its
  records; a key's records stay with one of them while any is unacknowledged. Two processes in one group
  share nothing: each gets every record.
* **Readers are woken by publishers of the same bus object**, and look for what other processes published
  five times a second.
* **Nothing is deleted by reading.** `trim` deletes by age what every group has behind it, and overwrites
  it: a request's wrapped key may rest in a record. The write-ahead log keeps copies until it is emptied,
  which is the store's upkeep.
"""

import base64
import json
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from orchestrator.bus.port import (
    BusUnavailable,
    Delivery,
    Headers,
    Positions,
    Record,
    SubscriptionClosed,
    looked_up,
)
from orchestrator.bus.sharing import Line
from schemas.topics import is_ours

PARTITION = 0
PROBE_INTERVAL = 0.2
_TRIM_CHUNK = 5_000

_metadata = sa.MetaData()
_RECORDS = sa.Table(
    "bus_records",
    _metadata,
    sa.Column("offset", sa.Integer, primary_key=True),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("partition", sa.Integer, nullable=False, default=PARTITION),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("timestamp", sa.Integer, nullable=False),
    sa.Column("headers", sa.Text, nullable=False),
    sa.Column("value", sa.LargeBinary, nullable=False),
    sa.Index("bus_recordstopic", "topic", "offset"),
    sqlite_autoincrement=True,
)
_POSITIONS = sa.Table(
    "bus_positions",
    _metadata,
    sa.Column("group", sa.Text, primary_key=True),
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("next", sa.Integer, nullable=False),
)
# AUTOINCREMENT's own table: the highest offset ever given, also when its record is gone.
_HIGHEST = sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'bus_records'")


@contextmanager
def _reachable() -> Iterator[None]:
    """Whatever goes wrong in the database is the bus being unavailable; the cause is chained."""
    try:
        yield
    except SQLAlchemyError as error:
        raise BusUnavailable(f"the bus's database refused: {type(error).__name__}") from error


@dataclass(slots=True)
class _Shared:
    """What the bus and its subscriptions have in common; everything but the engine is guarded by `news`."""

    engine: sa.Engine
    # Looking takes no write lock: the store's engine knows the option, others ignore it.
    reading: sa.Engine
    news: threading.Condition
    lines: dict[tuple[str, str], Line] = field(default_factory=dict)
    open: set["SqliteSubscription"] = field(default_factory=set)
    highest: int = 0
    probed_at: float = -PROBE_INTERVAL

    def probe(self) -> None:
        """Look, now and then, for what other processes have published."""
        now = time.monotonic()
        if now - self.probed_at < PROBE_INTERVAL:
            return
        with _reachable(), self.reading.connect() as connection:
            self.highest = max(self.highest, connection.execute(_HIGHEST).scalar() or 0)
        self.probed_at = now

    def fetch(self, topic: str, line: Line, limit: int) -> None:
        c = _RECORDS.c
        query = (
            sa.select(c.offset, c.key, c.value, c.headers, c.timestamp)
            .where(c.topic == topic, c.offset >= line.cursor)
            .order_by(c.offset)
            .limit(limit)
        )
        with _reachable(), self.reading.connect() as connection:
            rows = connection.execute(query).all()
        cursor = rows[-1].offset + 1 if rows else line.cursor
        if len(rows) < limit:
            cursor = max(cursor, self.highest + 1)
        fetched = [
            Delivery(
                topic=topic,
                partition=PARTITION,
                offset=row.offset,
                key=row.key,
                value=row.value,
                headers=_headers_from_text(row.headers),
                timestamp=row.timestamp,
                mark=str(row.timestamp),
            )
            for row in rows
        ]
        line.add(fetched, cursor)

    def starts(self, group: str, topics: Sequence[str], wanted: Positions) -> dict[str, int]:
        """Where the group starts on each topic; the rows also tell `trim` that the group exists."""
        c = _POSITIONS.c
        put = insert(_POSITIONS)
        put_if_new = put.on_conflict_do_nothing()
        put_anyway = put.on_conflict_do_update(
            index_elements=[c.group, c.topic, c.partition], set_={"next": put.excluded.next}
        )
        with _reachable(), self.engine.begin() as connection:
            highest = connection.execute(_HIGHEST).scalar() or 0
            for topic in topics:
                start = wanted.get((topic, PARTITION))
                # Beyond the end it is another bus's, and following it would pass over all that comes.
                if start is not None and start > highest + 1:
                    start = 0
                row = {"group": group, "topic": topic, "partition": PARTITION, "next": start or 0}
                connection.execute(put_if_new if start is None else put_anyway, row)
            stored = sa.select(c.topic, c.next).where(c.group == group, c.topic.in_(topics))
            return {row.topic: row.next for row in connection.execute(stored)}

    def store_positions(self, group: str, topics: Iterable[str]) -> None:
        lines = [(topic, self.lines[group, topic]) for topic in topics]
        moved = [(topic, line, line.position) for topic, line in lines if line.has_moved]
        if not moved:
            return
        c = _POSITIONS.c
        # Another process of the group may be further on; then its word stands.
        statement = (
            sa.update(_POSITIONS)
            .where(c.group == group, c.topic == sa.bindparam("of_topic"), c.next < sa.bindparam("position"))
            .values(next=sa.bindparam("position"))
        )
        with _reachable(), self.engine.begin() as connection:
            connection.execute(
                statement, [{"of_topic": topic, "position": position} for topic, _, position in moved]
            )
        for _, line, position in moved:
            line.stored = position
            line.acked = False


class SqliteBus:
    """The bus on a SQLite engine, usually the store's. `clock` gives the timestamps of records."""

    def __init__(self, engine: sa.Engine, clock: Callable[[], int]) -> None:
        if engine.dialect.name != "sqlite":
            raise ValueError(f"the embedded bus runs on SQLite only, not on {engine.dialect.name}")
        self._engine = engine
        self._clock = clock
        self._shared = _Shared(engine, engine.execution_options(read_only=True), threading.Condition())
        with _reachable(), engine.begin() as connection:
            for table in _metadata.sorted_tables:
                connection.execute(CreateTable(table, if_not_exists=True))
                for index in table.indexes:
                    connection.execute(CreateIndex(index, if_not_exists=True))

    def publish(self, records: Iterable[Record]) -> None:
        now = self._clock()
        rows = [
            {
                "topic": record.topic,
                "key": record.key,
                "headers": _headers_to_text(record.headers),
                "value": record.value,
                "timestamp": now,
            }
            for record in records
        ]
        if not rows:
            return
        with _reachable(), self._engine.begin() as connection:
            connection.execute(sa.insert(_RECORDS), rows)
            highest = connection.execute(_HIGHEST).scalar_one()
        shared = self._shared
        with shared.news:
            shared.highest = max(shared.highest, highest)
            shared.news.notify_all()

    def subscribe(
        self,
        group: str,
        topics: Collection[str],
        *,
        positions: Positions | Callable[[], Positions] | None = None,
        on_stray: Callable[[Positions], object] | None = None,
    ) -> "SqliteSubscription":
        """Join `group`; `positions` move no topic that an open subscription of the group reads already."""
        topics = tuple(dict.fromkeys(topics))
        # Before the lock: looking them up may wait for the database.
        wanted = looked_up(positions)
        if callable(positions):
            wanted = {(topic, PARTITION): 0 for topic in topics} | dict(wanted)
        shared = self._shared
        with shared.news:
            fresh = [topic for topic in topics if (group, topic) not in shared.lines]
            starts = shared.starts(group, fresh, wanted) if fresh else {}
            shared.lines.update({(group, topic): Line(start) for topic, start in starts.items()})
            subscription = SqliteSubscription(shared, group, topics)
            for topic in topics:
                shared.lines[group, topic].readers.add(subscription)
            shared.open.add(subscription)
        places = {(topic, PARTITION): start for topic, start in starts.items()}
        stray = {place: start for place, start in places.items() if start < wanted.get(place, 0)}
        if stray and on_stray is not None:
            # After the lock, for the same reason.
            try:
                on_stray(stray)
            except BaseException:
                subscription.close()
                raise
        return subscription

    def trim(self, before: int, *, unread: Collection[str] = ()) -> int:
        """Delete the records that are older than `before` and that every group of their topic has behind it.

        A topic that no group has ever read is kept whole, since its first reader may yet come, unless
        `unread` names it. Returns how many were deleted.
        """
        floors = sa.select(_POSITIONS.c.topic, sa.func.min(_POSITIONS.c.next)).group_by(_POSITIONS.c.topic)
        with _reachable():
            with self._shared.reading.connect() as connection:
                limits: dict[str, int | None] = dict.fromkeys(unread)
                limits.update((topic, floor) for topic, floor in connection.execute(floors))
            return sum(self._trim_topic(topic, floor, before) for topic, floor in limits.items())

    def restamp(self, start: int, end: int, now: int) -> None:
        """Let the records that are stamped between two times count as published now."""
        stamp = _RECORDS.c.timestamp
        change = sa.update(_RECORDS).where(stamp.between(start, end)).values(timestamp=now)
        with _reachable(), self._engine.begin() as connection:
            connection.execute(change)

    def browse(self, topics: Collection[str]) -> Iterator[Delivery]:
        c = _RECORDS.c
        query = (
            sa.select(c.topic, c.offset, c.key, c.value, c.headers, c.timestamp)
            .where(c.topic.in_(sorted(topics)))
            .order_by(c.offset)
        )
        with _reachable(), self._shared.reading.connect() as connection:
            rows = connection.execute(query).all()
        for row in rows:
            yield Delivery(
                topic=row.topic,
                key=row.key,
                value=row.value,
                headers=_headers_from_text(row.headers),
                partition=PARTITION,
                offset=row.offset,
                timestamp=row.timestamp,
                mark=str(row.timestamp),
            )

    def ends(self, topics: Collection[str]) -> Positions:
        """The offset after the last record of each of these topics."""
        c = _RECORDS.c
        query = sa.select(c.topic, sa.func.max(c.offset)).where(c.topic.in_(sorted(topics))).group_by(c.topic)
        with _reachable(), self._shared.reading.connect() as connection:
            return {(topic, PARTITION): last + 1 for topic, last in connection.execute(query)}

    def strays(self, positions: Positions) -> set[tuple[str, int]]:
        """None: an offset is given once."""
        return set()

    def missing(self, topics: Collection[str]) -> set[str]:
        """None: a topic is there when something is published to it."""
        return set()

    def topics(self) -> set[str]:
        """Return those of our topics that hold any records."""
        c = _RECORDS.c
        with _reachable(), self._shared.reading.connect() as connection:
            names = connection.execute(sa.select(c.topic).distinct()).scalars()
            return {name for name in names if is_ours(name)}

    def backlog(self, group: str, topics: Collection[str]) -> int:
        """How many records of these topics the group has not behind it, as far as its stored positions
        tell.
        """
        r, p = _RECORDS.c, _POSITIONS.c
        behind = sa.and_(p.topic == r.topic, p.group == group)
        query = (
            sa.select(sa.func.count())
            .select_from(_RECORDS.outerjoin(_POSITIONS, behind))
            .where(r.topic.in_(sorted(topics)), r.offset >= sa.func.coalesce(p.next, 0))
        )
        with _reachable(), self._shared.reading.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def close(self) -> None:
        for subscription in tuple(self._shared.open):
            subscription.close()

    # --- retention ---

    def _trim_topic(self, topic: str, floor: int | None, before: int) -> int:
        c = _RECORDS.c
        old = sa.select(c.offset).where(c.topic == topic, c.timestamp < before).limit(_TRIM_CHUNK)
        if floor is not None:
            old = old.where(c.offset < floor)
        statement = sa.delete(_RECORDS).where(c.offset.in_(old.scalar_subquery()))
        deleted = 0
        while True:
            with self._engine.begin() as connection:
                connection.exec_driver_sql("PRAGMA secure_delete=ON")
                count = connection.execute(statement).rowcount
            deleted += count
            if count < _TRIM_CHUNK:
                return deleted


class SqliteSubscription:
    """A reader on a `SqliteBus`; see the port."""

    def __init__(self, shared: _Shared, group: str, topics: tuple[str, ...]) -> None:
        self._shared = shared
        self._group = group
        self._topics = topics
        self._first = 0
        self._held: dict[tuple[str, int], Delivery] = {}
        self._closed = False

    def poll(self, timeout: float, max_records: int) -> list[Delivery]:
        deadline = time.monotonic() + timeout
        shared = self._shared
        with shared.news:
            if not self._closed:
                shared.store_positions(self._group, self._topics)
            while True:
                if self._closed:
                    raise SubscriptionClosed
                if taken := self._take(max_records):
                    return taken
                left = deadline - time.monotonic()
                if left <= 0:
                    return []
                shared.news.wait(min(left, PROBE_INTERVAL))

    def ack(self, delivery: Delivery) -> None:
        shared = self._shared
        with shared.news:
            if self._held.pop((delivery.topic, delivery.offset), None) is None:
                return
            line = shared.lines[self._group, delivery.topic]
            line.done(delivery)
            if line.has_waiting and len(line.readers) > 1:
                shared.news.notify_all()

    def holds(self, delivery: Delivery) -> bool:
        with self._shared.news:
            return self._held.get((delivery.topic, delivery.offset)) is delivery

    def close(self) -> None:
        shared = self._shared
        with shared.news:
            if self._closed:
                return
            self._closed = True
            shared.open.discard(self)
            # A position that could not be stored costs repeats, which every reader is ready for.
            with suppress(BusUnavailable):
                shared.store_positions(self._group, self._topics)
            for topic in self._topics:
                line = shared.lines[self._group, topic]
                line.readers.discard(self)
                line.give_back(one for one in self._held.values() if one.topic == topic)
                if not line.readers:
                    del shared.lines[self._group, topic]
            self._held.clear()
            shared.news.notify_all()

    def _take(self, max_records: int) -> list[Delivery]:
        shared = self._shared
        shared.probe()
        taken: list[Delivery] = []
        # The topics take turns at being first, so that a flood in one holds up none of the others.
        self._first = (self._first + 1) % max(len(self._topics), 1)
        try:
            for topic in self._topics[self._first :] + self._topics[: self._first]:
                line = shared.lines[self._group, topic]
                taken += line.take(self, max_records - len(taken))
                while len(taken) < max_records and line.cursor <= shared.highest and not line.is_full:
                    shared.fetch(topic, line, max_records - len(taken))
                    taken += line.take(self, max_records - len(taken))
        except BusUnavailable:
            # What was taken is on nobody's list yet: deliver it, and let the next poll say what is wrong.
            if not taken:
                raise
        self._held.update(((one.topic, one.offset), one) for one in taken)
        return taken

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _headers_to_text(headers: Headers) -> str:
    return (
        json.dumps([[name, base64.b64encode(value).decode()] for name, value in headers]) if headers else ""
    )


def _headers_from_text(text: str) -> Headers:
    return tuple((name, base64.b64decode(value)) for name, value in json.loads(text)) if text else ()
