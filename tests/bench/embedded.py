"""The embedded mode: the orchestrator on SQLite, with the bus in the same file.

The process is started anew for each stage, once that stage's records are there: a process stopped in its
tracks could hold the file's one lock. Time counts as in `throughput`.
"""

from tests.bench import throughput
from tests.bench.installation import Installation
from tests.bench.traffic import STAGES, prepare

_LIMIT = 600.0


def measure(made: Installation, requests: int) -> throughput.Run:
    """So many requests, from beginning to end."""
    traffic = prepare(made.config, requests)
    made.file_keys(traffic)
    seconds: dict[str, float] = {}
    applied, used, megabytes = 0, 0.0, 0.0
    for stage in STAGES:
        made.publish(traffic.stages[stage])
        since = made.ground.store.now()
        applied += len(traffic.stages[stage])
        made.start(1)
        made.await_applied(applied, _LIMIT)
        seconds[stage] = made.seconds_since(since)
        used += sum(one.cpu for one in made.replicas)
        megabytes = max(one.megabytes for one in made.replicas)
        made.stop()
    throughput.check(made, traffic)
    return throughput.Run(requests=requests, seconds=seconds, cpu=used, megabytes=megabytes)
