"""What many open requests cost: throughput, and the question for due timers, as the database grows.

Open sagas are copies of some that have been asked to erase in all five systems, each under an id of its own,
with its key, its inbox row and the beginning of its timeline; their timers lie spread over the coming days.
The server copies them by itself. Statistics are brought up to date after it, as autovacuum would.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import sqlalchemy as sa

from orchestrator.store.documents import write_document
from tests.bench import throughput
from tests.bench.installation import Installation
from tests.bench.traffic import lives, prepare

_TEMPLATES = 50
_ASKED = 200
_DAY = 86_400_000_000

_COPY = (
    """
    INSERT INTO bench_ids
    SELECT gen_random_uuid()::text, n, n % :templates FROM generate_series(1, :count) AS n
    """,
    """
    INSERT INTO sagas (request_id, version, status, received_at, due_at, wake_at, open_escalations,
        quarantined, subject_digest, updated_at, document)
    SELECT id, 6, 'in_progress', received_at, due_at, wake_at + CAST(n % 1000 AS bigint) * 500000000, 0, 0,
        encode(sha256(id::bytea), 'hex'), received_at, replace(document, request_id, id)
    FROM bench_ids JOIN bench_templates USING (template)
    """,
    """
    INSERT INTO subject_keys (request_id, generation, wrapped, created_at)
    SELECT id, 1, sha256(id::bytea) || sha256(id::bytea), :now FROM bench_ids
    """,
    """
    INSERT INTO inbox (consumer, event_id, seen_at)
    SELECT 'orchestrator', 'request:' || id, :now - 1 FROM bench_ids
    """,
    """
    INSERT INTO timeline (request_id, seq, at, action, data, previous, hash)
    SELECT id, seq, :now, 'started', '{}', encode(sha256(id::bytea), 'hex'), encode(sha256(id::bytea), 'hex')
    FROM bench_ids, generate_series(1, 2) AS seq
    """,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What was seen with so many open sagas. Times of the timers' question are in milliseconds."""

    open_sagas: int
    run: throughput.Run
    due_median: float
    due_slowest: float
    megabytes: float


def measure(made: Installation, sizes: Sequence[int], requests: int) -> Iterator[Size]:
    """One size after another, in the same database."""
    _prepare_templates(made)
    traffics = [prepare(made.config, requests) for _ in sizes]
    made.start(1)
    throughput.warm(made)
    for traffic, (before, size) in zip(traffics, pairwise((0, *sizes)), strict=True):
        _fill(made, size - before)
        run = throughput.run(made, traffic)
        median, slowest = _due(made)
        database = made.number("SELECT pg_database_size(current_database())") / 1e6
        yield Size(open_sagas=size, run=run, due_median=median, due_slowest=slowest, megabytes=database)


def _prepare_templates(made: Installation) -> None:
    rows = [
        {
            "template": number,
            "request_id": life.request_id,
            "received_at": life.states[1].received_at,
            "due_at": life.states[1].due_at,
            "wake_at": (life.states[1].wake_at or 0) + _DAY,
            "document": write_document(life.states[1]),
        }
        for number, life in enumerate(lives(made.config, _TEMPLATES))
    ]
    with made.ground.engine.begin() as connection:
        connection.execute(
            sa.text(
                "CREATE TABLE bench_templates (template integer, request_id text, received_at bigint,"
                " due_at bigint, wake_at bigint, document text)"
            )
        )
        connection.execute(sa.text("CREATE TABLE bench_ids (id text, n integer, template integer)"))
        connection.execute(
            sa.text(
                "INSERT INTO bench_templates VALUES"
                " (:template, :request_id, :received_at, :due_at, :wake_at, :document)"
            ),
            rows,
        )


def _fill(made: Installation, count: int) -> None:
    """So many more open sagas."""
    given = {"count": count, "templates": _TEMPLATES, "now": made.ground.store.now()}
    with made.ground.engine.begin() as connection:
        connection.execute(sa.text("TRUNCATE bench_ids"))
        for statement in _COPY:
            connection.execute(sa.text(statement), given)
    with made.ground.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE"))
        connection.execute(sa.text("CHECKPOINT"))


def _due(made: Installation) -> tuple[float, float]:
    """The question that each turn of an orchestrator asks, while a few timers are due; nothing is changed."""
    took = []
    with made.ground.store.reading.connect() as connection:
        due = sa.text("SELECT wake_at FROM sagas ORDER BY wake_at LIMIT 1 OFFSET 10")
        moment = int(connection.execute(due).scalar_one())
    for _ in range(_ASKED):
        with made.ground.store.begin() as transaction:
            began = time.perf_counter()
            transaction.due(moment, 10)
            took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took), max(took)
