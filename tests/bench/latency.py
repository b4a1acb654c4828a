"""How long a request waits until its commands are on their topics, at half of what the orchestrator can do.

Requests come evenly; the confirmations of each follow some seconds later, stage by stage, so that the load is
that of whole sagas. Both times are the broker's (LogAppendTime): of the request, and of the last of its five
`locate` commands. They are read off the topics afterwards, so that nobody who looks takes part.
"""

import statistics
import time
from dataclasses import dataclass

from orchestrator.bus.port import Record
from schemas import topics
from schemas.codec import decode
from schemas.messages import Command
from tests.bench import throughput
from tests.bench.installation import Installation
from tests.bench.traffic import EVENTS, STAGES, SYSTEMS, Traffic, prepare

_APART = 2.0
_TICK = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """In milliseconds. `behind` is how late, in seconds, the last record was handed in."""

    requests: int
    per_second: float
    p50: float
    p99: float
    slowest: float
    behind: float


def measure(made: Installation, per_second: float, seconds: float) -> Latency:
    """So many requests a second, for so long, at an orchestrator that runs already."""
    traffic = prepare(made.config, max(20, int(per_second * seconds)))
    made.file_keys(traffic)
    began = made.applied()
    behind = _hand_in(made, traffic, per_second)
    made.await_applied(began + traffic.requests * EVENTS, 120.0)
    throughput.check(made, traffic)
    waited = sorted(_waited(made, traffic))
    return Latency(
        requests=traffic.requests,
        per_second=per_second,
        p50=statistics.median(waited),
        p99=waited[int(len(waited) * 0.99)],
        slowest=waited[-1],
        behind=behind,
    )


def _hand_in(made: Installation, traffic: Traffic, per_second: float) -> float:
    """Each record at its time; gives by how much the last was late."""
    times: list[tuple[float, Record]] = []
    for number, stage in enumerate(STAGES):
        by_request: dict[str, list[Record]] = {}
        for record in traffic.stages[stage]:
            by_request.setdefault(record.key, []).append(record)
        for place, request_id in enumerate(traffic.keys):
            due = place / per_second + number * _APART
            times += [(due + system * _TICK, one) for system, one in enumerate(by_request[request_id])]
    times.sort(key=lambda one: one[0])
    began, sent = time.monotonic(), 0
    while sent < len(times):
        now = time.monotonic() - began
        due_now = sent
        while due_now < len(times) and times[due_now][0] <= now:
            due_now += 1
        if due_now > sent:
            made.publish([record for _, record in times[sent:due_now]])
            sent = due_now
        time.sleep(_TICK / 2)
    return max(0.0, time.monotonic() - began - times[-1][0])


def _waited(made: Installation, traffic: Traffic) -> list[float]:
    asked = {
        one.key: one.timestamp for one in made.ground.bus.browse([topics.REQUESTS]) if one.key in traffic.keys
    }
    kinds = {system.kind for system in made.ground.settings.systems.values()}
    sent: dict[str, list[int]] = {}
    for delivery in made.ground.bus.browse([topics.commands(kind) for kind in sorted(kinds)]):
        if delivery.key in asked and decode(delivery.value, Command).verb == "locate":
            sent.setdefault(delivery.key, []).append(delivery.timestamp)
    short = [request_id for request_id, times in sent.items() if len(times) != len(SYSTEMS)]
    if short or len(sent) != len(asked):
        raise AssertionError(f"{len(sent)} of {len(asked)} requests were carried out, {len(short)} in part")
    return [(max(sent[request_id]) - at) / 1000 for request_id, at in asked.items()]
