"""What was measured, as a file for programs (`results.json`) and as a table for people (README.md).

Figures of one part replace those of that part alone, each with its own date, so that parts can be measured
apart. The prose around the table stays.
"""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.integration.kafka_server import SCRIPT

_HERE = Path(__file__).parent
RESULTS, PAGE = _HERE / "results.json", _HERE / "README.md"
_BEGIN, _END = "<!-- results -->", "<!-- end of results -->"

#: A line of the table: what, the figure, its goal, and whether that is reached (None: there is none).
Line = tuple[str, str, str, bool | None]


def circumstances(sizes: Mapping[str, object], postgresql: str) -> dict[str, Any]:
    """When and where, with which versions and sizes, and how busy the machine was before."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    pom = SCRIPT.with_name("pom.xml").read_text()
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "processors": os.cpu_count(),
        "memory_gb": round(memory, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "commit": _commit(),
        "python": platform.python_version(),
        "kafka": pom.partition("<kafka.version>")[2].partition("<")[0],
        "postgresql": postgresql,
        "libraries": {
            name: version(name) for name in ("kafka-python", "psycopg", "sqlalchemy", "fastavro", "pydantic")
        },
        "sizes": dict(sizes),
    }


def _commit() -> str:
    """What was measured."""
    if _git("rev-parse", "--is-inside-work-tree").returncode:
        return "of no repository"
    changed = _git("diff", "--quiet", "HEAD", "--", "../../orchestrator", "../../handlers", "../../schemas")
    return _git("rev-parse", "--short", "HEAD").stdout.strip() + (
        " and changes" if changed.returncode else ""
    )


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    git = shutil.which("git") or "false"
    return subprocess.run([git, *words], cwd=_HERE, capture_output=True, text=True, check=False)


def keep(part: str, around: Mapping[str, Any], figures: Any, lines: list[Line]) -> None:
    """Writes the figures of a part into both files."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[part] = {"circumstances": around, "figures": figures, "lines": lines}
    RESULTS.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    after = rest.partition(_END)[2]
    PAGE.write_text(f"{before}{_BEGIN}\n\n{page(results)}\n{_END}{after}")


def page(results: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    said = []
    for part, result in results.items():
        around = result["circumstances"]
        said.append(f"### {part}\n")
        said.append("| what | measured | goal | reached |\n| --- | --- | --- | --- |")
        for what, figure, goal, reached in result["lines"]:
            word = "" if reached is None else "yes" if reached else "no"
            said.append(f"| {what} | {figure} | {goal} | {word} |")
        sizes = ", ".join(f"{name} {value}" for name, value in around["sizes"].items())
        libraries = ", ".join(f"{name} {number}" for name, number in around["libraries"].items())
        said.append(
            f"\n{around['date']}; {around['processors']} processors, {around['memory_gb']} GB, load"
            f" before {around['load_before']}; {sizes}. Radera {around['commit']}, Python {around['python']},"
            f" Kafka {around['kafka']}, PostgreSQL {around['postgresql']}, {libraries}.\n"
        )
    return "\n".join(said)
