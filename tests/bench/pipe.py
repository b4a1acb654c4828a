"""The raw pipe: what the same records cost without any logic, to hold the orchestrator against.

The same records are read through the same adapter of the bus, in batches of the same size; for each batch the
same number of bytes is written in one transaction, and then the same number of records, of the same sizes and
with as many headers, is published. The bytes go into one table without a key or an index, in the fastest way
that the store knows, and what is published is not read back from the database. It is a bound that nothing
with a memory can reach.
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path

import sqlalchemy as sa

from orchestrator.bus.port import Record
from orchestrator.cli.assembly import Ground, open_ground
from orchestrator.service.orchestrator import TOPICS
from orchestrator.store import dialect
from orchestrator.store.headers import headers_to_text
from schemas import topics
from tests.bench.installation import Installation
from tests.bench.traffic import EVENTS, Traffic
from tests.integration.processes import environment

_BATCH = 500
_IDLE = 5.0
_SETTLING = 8.0
_SAMPLE = 2_000
_TABLE = sa.Table("bench_pipe", sa.MetaData(), sa.Column("data", sa.Text, nullable=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What the orchestrator wrote of `events`: whole documents, and the bytes of all other rows."""

    events: int
    documents: int
    document_bytes: int
    other_bytes: int
    records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PipeRun:
    """What was seen of the raw pipe."""

    requests: int
    seconds: float
    cpu: float

    @property
    def sagas_per_second(self) -> float:
        return self.requests / self.seconds


def written(made: Installation) -> Written:
    """As the database has it, by the database's own count of rows."""
    made.number("SELECT count(*) FROM (SELECT pg_stat_force_next_flush()) AS told")
    time.sleep(1.5)
    out = sent(made.ground)
    sagas = "SELECT n_tup_ins + n_tup_upd FROM pg_stat_user_tables WHERE relname = 'sagas'"
    other = (
        "SELECT (SELECT sum(length(consumer) + length(event_id) + 8) FROM inbox)"
        " + (SELECT sum(length(request_id) + 16 + length(action) + length(data::text) + 128) FROM timeline)"
    )
    return Written(
        events=made.number("SELECT count(*) FROM inbox"),
        documents=made.number(sagas),
        document_bytes=made.number("SELECT avg(length(document)) FROM sagas"),
        other_bytes=made.number(other) + sum(map(_outbox_bytes, out)),
        records=len(out),
    )


def sent(ground: Ground) -> list[Record]:
    """What the orchestrator has published."""
    kinds = {system.kind for system in ground.settings.systems.values()}
    return [
        Record(topic=one.topic, key=one.key, value=one.value, headers=one.headers)
        for one in ground.bus.browse([topics.OUTCOMES, *(topics.commands(kind) for kind in sorted(kinds))])
    ]


def _outbox_bytes(record: Record) -> int:
    """The size of its row while it waited: its parts, its id, two numbers and a small one."""
    event_id = dict(record.headers)["ce_id"]
    headers = headers_to_text(record.headers)
    return len(event_id) + len(record.topic) + len(record.key) + len(headers) + len(record.value) + 18


def run(made: Installation, traffic: Traffic, count: int, warm: int) -> PipeRun:
    """All that is on the topics, through so many pipes side by side; the first `warm` events don't count."""
    with made.ground.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS bench_pipe"))
        connection.execute(sa.text("CREATE TABLE bench_pipe (data text NOT NULL)"))
    said = json.dumps(asdict(written(made)))
    events = traffic.requests * EVENTS + warm
    words = [sys.executable, "-m", "tests.bench.pipe", str(made.config), said, str(events)]
    pipes = [
        subprocess.Popen(
            words, stdout=subprocess.PIPE, text=True, env=environment(), cwd=Path(__file__).parents[2]
        )
        for _ in range(count)
    ]
    told = [json.loads(pipe.communicate()[0]) for pipe in pipes]
    if not all(one["events"] for one in told):
        raise AssertionError("a pipe had no share of the records")
    seconds = max(one["ended"] for one in told) - min(one["began"] for one in told)
    moved = sum(one["events"] for one in told)
    if moved != events:
        raise AssertionError(f"{moved} of {events} records went through the pipe")
    return PipeRun(requests=moved // EVENTS, seconds=seconds, cpu=sum(one["cpu"] for one in told))


def main(config: Path, wrote: Written, events: int) -> None:
    """One pipe, until nothing more comes."""
    ground = open_ground(config)
    with ground.store.reading.connect() as connection:
        document = str(
            connection.execute(
                sa.text("SELECT document FROM sagas WHERE document IS NOT NULL LIMIT 1")
            ).scalar()
        )
    sample = sent(ground)[:_SAMPLE]
    document = document.ljust(wrote.document_bytes, " ")[: wrote.document_bytes]
    other = (document * 4)[: wrote.other_bytes // wrote.events]
    documents_each, records_each = wrote.documents / wrote.events, wrote.records / wrote.events
    records = cycle(sample)
    group = f"pipe-{events}"
    moved, began, ended, used, spent = 0, 0.0, 0.0, 0.0, 0.0
    subscription = ground.bus.subscribe(group, TOPICS)
    # Nothing is taken before the others have joined: one that came late would find nothing left.
    settled = time.monotonic() + _SETTLING
    while time.monotonic() < settled:
        subscription.poll(0.2, 0)
    last = time.monotonic()
    while time.monotonic() - last < _IDLE:
        batch = subscription.poll(0.2, _BATCH)
        if not batch:
            continue
        if not moved:
            began, used = time.time(), time.process_time()
        with ground.engine.begin() as connection:
            rows = [other] * len(batch) + [document] * round(documents_each * len(batch))
            dialect.put(connection, _TABLE, ("data",), [(row,) for row in rows], _plain)
        ground.bus.publish(list(islice(records, round(records_each * len(batch)))))
        for delivery in batch:
            subscription.ack(delivery)
        moved += len(batch)
        last, ended = time.monotonic(), time.time()
        spent = time.process_time() - used
    subscription.close()
    ground.close()
    sys.stdout.write(json.dumps({"events": moved, "began": began, "ended": ended, "cpu": spent}))


def _plain(put: dialect.Insert) -> sa.Insert:
    return put


if __name__ == "__main__":
    main(Path(sys.argv[1]), Written(**json.loads(sys.argv[2])), int(sys.argv[3]))
