"""`make bench`: what Radera can do on this machine, held against its goals.

Everything is measured on servers of its own, one part after another; nobody else should be using the machine.
`--only` names a part, and may be repeated; `--quick` goes through the same steps with sizes that prove
nothing, and writes nothing.
"""

import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tests.bench import embedded, growth, latency, logic, memory, pipe, report, throughput
from tests.bench.installation import embedded as on_sqlite
from tests.bench.installation import folder, on_servers, postgresql_version
from tests.bench.report import Line
from tests.bench.traffic import EVENTS, prepare

_WARM = 60


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    throughput: int = 3_000
    growth: int = 2_000
    open_sagas: tuple[int, ...] = (1_000, 100_000, 1_000_000)
    latency_seconds: float = 30.0
    embedded: int = 600
    memory: int = 200


QUICK = Sizes(throughput=120, growth=60, open_sagas=(200, 2_000), latency_seconds=5.0, embedded=60, memory=6)
Measured = tuple[Any, list[Line]]


def _throughput(sizes: Sizes) -> Measured:
    """One orchestrator and two, each with as many raw pipes over the same records."""
    figures: dict[str, Any] = {}
    lines: list[Line] = []
    for count in (1, 2):
        with folder() as home, on_servers(home) as made:
            traffic = prepare(made.config, sizes.throughput)
            made.start(count)
            throughput.warm(made, _WARM)
            run = throughput.run(made, traffic)
            made.stop()
            raw = pipe.run(made, traffic, count, _WARM * EVENTS)
            ratio = run.sagas_per_second / raw.sagas_per_second
            figures[f"replicas_{count}"] = {
                "run": asdict(run),
                "written": asdict(pipe.written(made)),
                "pipe": asdict(raw),
                "ratio": ratio,
            }
        name = "one orchestrator" if count == 1 else "two orchestrators"
        lines += [
            (
                f"{name}, sagas/s",
                f"{run.sagas_per_second:.0f}",
                "≥ 200",
                run.sagas_per_second >= 200,
            ),
            (f"{name}, against as many raw pipes", f"{ratio:.2f}", "≥ 0.6", ratio >= 0.6),
            (f"raw pipe beside it ({count}), sagas/s", f"{raw.sagas_per_second:.0f}", "", None),
            (f"{name}, processor's time a saga", f"{run.cpu / run.requests * 1000:.1f} ms", "", None),
            *(
                (
                    f"{server} beside it, processor's time a saga",
                    f"{spent / run.requests * 1000:.1f} ms",
                    "",
                    None,
                )
                for server, spent in run.servers.items()
            ),
            ("raw pipe, processor's time a saga", f"{raw.cpu / raw.requests * 1000:.1f} ms", "", None),
        ]
    one, two = (figures[f"replicas_{count}"]["run"] for count in (1, 2))
    gain = sum(one["seconds"].values()) / sum(two["seconds"].values())
    lines.append(("two orchestrators against one", f"{gain:.2f}", "", None))
    with folder() as home, on_sqlite(home) as made:
        figures["logic"] = alone = logic.measure(made.config)
    lines.append(("what is read, decided and said, by itself, a saga", f"{alone:.1f} ms", "", None))
    return figures, lines


def _growth(sizes: Sizes) -> Measured:
    with folder() as home, on_servers(home) as made:
        seen = list(growth.measure(made, sizes.open_sagas, sizes.growth))
    first, last = seen[0], seen[-1]
    lines: list[Line] = [
        (
            f"{one.open_sagas:,} open sagas, sagas/s",
            f"{one.run.sagas_per_second:.0f} ({one.run.sagas_per_second / first.run.sagas_per_second:.2f})",
            "≥ 0.9 of the first" if one is last else "",
            one.run.sagas_per_second >= 0.9 * first.run.sagas_per_second if one is last else None,
        )
        for one in seen
    ]
    lines.append(
        (
            f"due timers among {last.open_sagas:,} waiting, median",
            f"{last.due_median:.1f} ms",
            "< 5 ms",
            last.due_median < 5,
        )
    )
    lines.append(("  the slowest of them", f"{last.due_slowest:.1f} ms", "", None))
    return [asdict(one) for one in seen], lines


def _latency(sizes: Sizes) -> Measured:
    """At a quarter and at half of what one orchestrator was just seen to do."""
    with folder() as home, on_servers(home) as made:
        traffic = prepare(made.config, max(100, sizes.throughput // 4))
        made.start(1)
        throughput.warm(made, _WARM)
        most = throughput.run(made, traffic).sagas_per_second
        seen: list[latency.Latency] = []
        for part in (4, 2):
            time.sleep(5.0)
            seen.append(latency.measure(made, most / part, sizes.latency_seconds))
    lines: list[Line] = []
    for one, share in zip(seen, ("a quarter", "half"), strict=True):
        of = f"request to commands at {share} of that, {one.per_second:.0f}/s"
        lines += [
            (f"{of}, p50", f"{one.p50:.0f} ms", "", None),
            (f"{of}, p99", f"{one.p99:.0f} ms", "< 100 ms", one.p99 < 100),
        ]
    return [asdict(one) for one in seen], [("one orchestrator, sagas/s", f"{most:.0f}", "", None), *lines]


def _embedded(sizes: Sizes) -> Measured:
    with folder() as home, on_sqlite(home) as made:
        run = embedded.measure(made, sizes.embedded)
    return asdict(run), [("orchestrator on SQLite, sagas/s", f"{run.sagas_per_second:.0f}", "", None)]


def _memory(sizes: Sizes) -> Measured:
    with folder() as home:
        held = memory.measure(home, sizes.memory)
    return held, [(f"{role}, most memory", f"{most:.0f} MB", "", None) for role, most in held.items()]


PARTS: dict[str, Callable[[Sizes], Measured]] = {
    "throughput": _throughput,
    "growth": _growth,
    "latency": _latency,
    "embedded": _embedded,
    "memory": _memory,
}


def _told(part: str, sizes: Sizes) -> dict[str, object]:
    """The sizes that matter to a part."""
    if part == "growth":
        return {"requests": sizes.growth, "open sagas": "/".join(map(str, sizes.open_sagas))}
    if part == "latency":
        return {"seconds": sizes.latency_seconds}
    return {"requests": getattr(sizes, part)}


@click.command()
@click.option("--only", type=click.Choice(list(PARTS)), multiple=True, help="A part; all when left out.")
@click.option("--quick", is_flag=True, help="Small sizes, to see that it works; nothing is written.")
@click.option(
    "--open-sagas", type=click.IntRange(1), default=1_000_000, show_default=True, help="The most for growth."
)
def main(only: tuple[str, ...], quick: bool, open_sagas: int) -> None:
    """Measures, and writes tests/bench/results.json and the table in tests/bench/README.md."""
    # Ended from outside it takes its servers and processes with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    full = Sizes(open_sagas=(*(one for one in Sizes().open_sagas if one < open_sagas), open_sagas))
    sizes = QUICK if quick else full
    console = Console()
    for part in only or PARTS:
        around = report.circumstances(_told(part, sizes), postgresql_version())
        began = time.monotonic()
        figures, lines = PARTS[part](sizes)
        table = Table("", "measured", "goal", "", title=f"{part}, {time.monotonic() - began:.0f} s")
        for what, figure, goal, reached in lines:
            table.add_row(what, figure, goal, "" if reached is None else "reached" if reached else "missed")
        console.print(table)
        if not quick:
            report.keep(part, around, figures, lines)


if __name__ == "__main__":
    main()
