"""`python -m tests.chaos`: the long form; see README.md beside this file."""

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import click

from tests.chaos import incidents
from tests.chaos.ordeal import Ordeal, endure
from tests.chaos.play import Broken, Plan, Result, play
from tests.chaos.single import endure_alone

#: The runs, one after another.
RUNS = ("faults", "incidents", "single")


@dataclass
class _Asked(argparse.Namespace):
    """What was asked for on the command line."""

    requests: int = 2000
    seed: int | None = None
    at_once: int = 120
    poison: float = 0.01
    calm: bool = False
    registry: bool = False
    keep: bool = False
    run: list[str] = field(default_factory=list)
    incident: list[str] = field(default_factory=list)


def main() -> int:
    """0 if all held, 1 if something did not."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    add = parser.add_argument
    add(
        "--requests",
        type=int,
        default=2000,
        help="of the run with faults; the others have at most 300 and 60",
    )
    add("--seed", type=int, default=None, help="by default a new one each time")
    add("--run", action="append", default=[], choices=RUNS, help="this run; may be repeated; by default all")
    add("--at-once", type=int, default=120, help="requests that are open at a time, in the run with faults")
    add("--poison", type=float, default=0.01, help="share of the records of each topic, in the same")
    add("--calm", action="store_true", help="without faults, to compare with; that run alone")
    add("--registry", action="store_true", help="with a schema registry, in the run with faults")
    add(
        "--incident", action="append", default=[], choices=incidents.names(), help="this one; may be repeated"
    )
    add("--keep", action="store_true", help="keep the folder also when all held")
    asked = parser.parse_args(namespace=_Asked())
    seed = random.SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    # Ended from outside, the servers are ended too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    wanted = ["faults"] if asked.calm else asked.run or (["incidents"] if asked.incident else RUNS)
    return max(_held(name, _begun(name, asked, seed), seed, asked) for name in wanted)


def _begun(name: str, asked: _Asked, seed: int) -> Callable[[Path], Result]:
    """What plays a run, given its folder."""
    if name == "faults":
        plan = Plan(
            requests=asked.requests,
            seed=seed,
            at_once=asked.at_once,
            poison=asked.poison,
            is_calm=asked.calm,
            has_registry=asked.registry,
        )
        return lambda directory: play(plan, directory, say=_say)
    if name == "incidents":
        chosen = asked.incident or incidents.names()
        ordeal = Ordeal(requests=min(asked.requests, 300), seed=seed, incidents=chosen)
        return lambda directory: endure(ordeal, directory, say=_say)
    return lambda directory: endure_alone(min(asked.requests, 60), seed, directory, say=_say)


def _held(name: str, run: Callable[[Path], Result], seed: int, asked: _Asked) -> int:
    directory = Path(tempfile.mkdtemp(prefix="radera-chaos-")) / "run"
    _say(f"{name}: seed {seed}, in {directory}")
    try:
        result = run(directory)
    except Broken as broken:
        _say(str(broken))
        return 1
    told = {"run": name, "seconds": round(result.seconds, 1), "faults": result.faults, **result.figures}
    _say(json.dumps(told, indent=2))
    if not asked.keep:
        shutil.rmtree(directory.parent)
    return 0


def _say(text: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {text}")


if __name__ == "__main__":
    sys.exit(main())
