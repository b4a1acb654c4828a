"""What an idle installation costs: `python -m tests.bench.footprint [--runs 5]`.

Starts `radera up` with a configuration that has every kind of system, and measures from the start of the
process until `/readyz` says yes, and the memory that it holds once it has been idle for some seconds. The
medians are held against their goals; it exits with 1 when one is missed, so run it on a quiet machine.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tests.integration.processes import Radera
from tests.integration.world import world_in

MOST_MEGABYTES = 150.0
MOST_SECONDS = 3.0
_IDLE = 3.0


def resident(pid: int) -> float:
    """The memory that a process holds (VmRSS), in megabytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError("the system doesn't tell a process's memory")


def cpu(pid: int) -> float:
    """The processor's time that a process has used, in seconds: what a busy machine does not change."""
    return _spent(_stat(Path(f"/proc/{pid}")), 2)


def cpu_with_children(pid: int) -> float:
    """The same with that of its children, those that have ended included."""
    spent = _spent(_stat(Path(f"/proc/{pid}")), 4)
    for process in Path("/proc").iterdir():
        with suppress(OSError):  # it may end while it is looked at
            if process.name.isdigit() and int((fields := _stat(process))[1]) == pid:
                spent += _spent(fields, 2)
    return spent


def _stat(process: Path) -> list[str]:
    """What follows the process's name: proc_pid_stat(5) from its third field on."""
    return (process / "stat").read_text().rpartition(")")[2].split()


def _spent(fields: list[str], count: int) -> float:
    """utime and stime, and with a count of four those of children that have ended."""
    return sum(map(int, fields[11 : 11 + count])) / os.sysconf("SC_CLK_TCK")


def answers_ready(port: int) -> bool:
    """Whether `/readyz` says yes. By the lightest client there is: what asks must not take the processor from
    what is measured.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=5.0)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def measure(radera: Radera, is_ready: Callable[[], bool]) -> tuple[float, float, float]:
    """One run: seconds until ready, seconds of the processor until then, megabytes when idle."""
    began = time.monotonic()
    radera.spawn()
    while not is_ready():
        time.sleep(0.02)
    ready, used = time.monotonic() - began, cpu(radera.pid)
    time.sleep(_IDLE)
    held = resident(radera.pid)
    radera.stop()
    return ready, used, held


@click.command()
@click.option("--runs", type=click.IntRange(1), default=5, show_default=True, help="How often to measure.")
def main(runs: int) -> None:
    """Measures the start and the idle memory of `radera up`."""
    with tempfile.TemporaryDirectory() as directory, world_in(Path(directory), 0) as world:
        rows = [measure(world.radera, lambda: answers_ready(world.http_port)) for _ in range(runs)]
    ready, used, held = (statistics.median(column) for column in zip(*rows, strict=True))
    table = Table("", "median", "least", "most", "goal", title=f"radera up, idle, {runs} runs")
    for name, median, column, goal in (
        ("start to ready, s", ready, 0, f"< {MOST_SECONDS:.0f}"),
        ("  of it on the processor, s", used, 1, ""),
        ("memory (RSS), MB", held, 2, f"< {MOST_MEGABYTES:.0f}"),
    ):
        values = [row[column] for row in rows]
        table.add_row(name, f"{median:.2f}", f"{min(values):.2f}", f"{max(values):.2f}", goal)
    Console().print(table)
    sys.exit(ready >= MOST_SECONDS or held >= MOST_MEGABYTES)


if __name__ == "__main__":
    main()
