"""Many schedules: in parts, on several processors, resumed where they were left.

A part is a range of seeds, played by one process to its end, whatever fails in it. What came of it goes as
one line into a file below `build/`, together with digests of the simulation's and the product's own texts: a
later run of the same texts leaves out the parts that the file has. Parts of older texts stay in the file:
they tell how many schedules held since the simulation last changed.
"""

import gc
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.simulation.schedule import Failed, run

ROOT = Path(__file__).parents[2]
FILE = ROOT / "build" / "simulation.jsonl"
PART = 50
#: What stands beside the simulation without a part in a schedule.
NOT_PLAYED = ("planted.py", "batch.py", "troubles.py", "__main__.py")
#: Whole worlds are garbage at their end; to look for it within one takes longer than it frees.
_COLLECT_EVERY = 10


@dataclass(frozen=True, slots=True)
class Part:
    """What came of a range of seeds."""

    first: int
    count: int
    simulation: str
    product: str
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)

    @property
    def seeds(self) -> range:
        return range(self.first, self.first + self.count)


def digest(*folders: str) -> str:
    """What the Python texts in these folders are, without their tests."""
    known = sha256()
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            if not file.name.startswith("test_") and file.name not in (
                "planted.py",
                "batch.py",
                "__main__.py",
            ):
                known.update(f"{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
    return known.hexdigest()[:16]


def simulation() -> str:
    """The simulation as it is now: what it plays, and the vendors' stand-ins that it plays with."""
    return digest("tests/simulation", "handlers/sandbox")


def product() -> str:
    return digest("orchestrator", "handlers", "schemas")


def play(part: Part) -> Part:
    """Plays a part's seeds, each of them."""
    began = time.monotonic()
    counts: Counter[str] = Counter()
    failures: list[dict[str, Any]] = []
    gc.disable()
    try:
        for number, seed in enumerate(part.seeds):
            try:
                counts += run(seed).counts
            except Failed as failed:
                counts["schedules"] += 1
                failures.append({"seed": seed, "invariant": failed.invariant, "text": str(failed.cause)})
            if number % _COLLECT_EVERY == _COLLECT_EVERY - 1:
                gc.collect()
    finally:
        gc.enable()
    seconds = round(time.monotonic() - began, 3)
    done = {"seconds": seconds, "counts": dict(counts), "failures": failures}
    return Part(**{**asdict(part), **done})


def known(file: Path = FILE) -> list[Part]:
    """The parts that were played before; a line that a stopped run left half-written is none."""
    found = []
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            found.append(Part(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found


def parts(first: int, runs: int) -> list[Part]:
    """The range in parts whose bounds don't depend on where it begins, so that they are found again."""
    made = []
    now, texts = simulation(), product()
    while runs > 0:
        count = min(runs, PART - first % PART)
        made.append(Part(first, count, now, texts))
        first, runs = first + count, runs - count
    return made


def played(wanted: Sequence[Part], jobs: int, file: Path = FILE) -> Iterator[Part]:
    """Each part with what came of it, as it is done; those that the file has come first."""
    before = {(one.first, one.count, one.simulation, one.product): one for one in known(file)}
    left = []
    for part in wanted:
        done = before.get((part.first, part.count, part.simulation, part.product))
        if done is not None:
            yield done
        else:
            left.append(part)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lines:
        for part in _each(left, jobs):
            lines.write(json.dumps(asdict(part)) + "\n")
            lines.flush()
            yield part


def _each(left: Sequence[Part], jobs: int) -> Iterator[Part]:
    if jobs == 1:
        yield from map(play, left)
        return
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=os.nice, initargs=(5,)
    ) as pool:
        try:
            for future in as_completed([pool.submit(play, part) for part in left]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def figure(file: Path = FILE) -> tuple[int, int, int]:
    """How many different seeds the simulation as it is has played, how many of them of the product as it is,
    and how many failed.
    """
    now, texts = simulation(), product()
    seeds: set[int] = set()
    latest: set[int] = set()
    failed: set[int] = set()
    for part in known(file):
        if part.simulation != now:
            continue
        seeds.update(part.seeds)
        if part.product == texts:
            latest.update(part.seeds)
            failed.update(one["seed"] for one in part.failures)
    return len(seeds), len(latest), len(failed)
