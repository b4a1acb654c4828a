"""How many requests an orchestrator carries out a second, on Kafka and PostgreSQL.

The stages of all requests are published while the orchestrators are stopped in their tracks (SIGSTOP), then
let go. Time counts from the first event that was noted as seen until the last record is seen to be sent, both
by the database's clock; what nobody waits for in between (the publishing) is left out.
"""

import signal
import time
from dataclasses import dataclass, field

from orchestrator.service.orchestrator import TOPICS
from schemas import topics
from tests.bench.installation import Installation
from tests.bench.traffic import EVENTS, STAGES, Traffic, prepare

_LIMIT = 900.0
_SETTLING = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What was seen. `cpu` is the orchestrators' own time on the processors; `servers` has that of each."""

    requests: int
    seconds: dict[str, float]
    cpu: float
    megabytes: float
    servers: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    @property
    def sagas_per_second(self) -> float:
        return self.requests / self.total


def warm(made: Installation, count: int = 60) -> None:
    """Lets everybody join the group, and do everything once."""
    run(made, prepare(made.config, count))
    time.sleep(_SETTLING)


def run(made: Installation, traffic: Traffic) -> Run:
    """The traffic through all stages; the orchestrators run already."""
    began = made.applied()
    made.file_keys(traffic)
    seconds: dict[str, float] = {}
    used, servers = sum(one.cpu for one in made.replicas), made.servers_cpu
    for stage in STAGES:
        for one in made.replicas:
            one.signal(signal.SIGSTOP)
        made.publish(traffic.stages[stage])
        since = made.ground.store.now()
        for one in made.replicas:
            one.signal(signal.SIGCONT)
        began += len(traffic.stages[stage])
        made.await_applied(began, _LIMIT)
        seconds[stage] = made.seconds_since(since)
    check(made, traffic)
    return Run(
        requests=traffic.requests,
        seconds=seconds,
        cpu=sum(one.cpu for one in made.replicas) - used,
        megabytes=max(one.megabytes for one in made.replicas),
        servers={name: spent - servers[name] for name, spent in made.servers_cpu.items()},
    )


def check(made: Installation, traffic: Traffic) -> None:
    """Everything was carried out, and nothing else happened: otherwise nothing was measured."""
    ids = sorted(traffic.keys)
    for request_id in (ids[0], ids[len(ids) // 2], ids[-1]):
        saga = made.ground.store.saga(request_id)
        if saga is None or saga.status != "completed":
            raise AssertionError(f"{request_id} is {saga and saga.status}")
    if made.ground.bus.ends([topics.dead_letters(topic) for topic in TOPICS]):
        raise AssertionError("there are dead letters")


__all__ = ["EVENTS", "Run", "check", "run", "warm"]
