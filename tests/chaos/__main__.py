"""`python -m tests.chaos`: the long form; see README.md beside this file."""

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import click

from tests.chaos.play import Broken, Plan, play


def main() -> int:
    """0 if all held, 1 if something did not."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=None, help="by default a new one each time")
    parser.add_argument("--at-once", type=int, default=120, help="requests that are open at a time")
    parser.add_argument("--poison", type=float, default=0.01, help="share of the records of each topic")
    parser.add_argument("--calm", action="store_true", help="without faults, to compare with")
    parser.add_argument("--registry", action="store_true", help="with a schema registry")
    parser.add_argument("--keep", action="store_true", help="keep the folder also when all held")
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    plan = Plan(
        requests=asked.requests,
        seed=seed,
        at_once=asked.at_once,
        poison=asked.poison,
        is_calm=asked.calm,
        has_registry=asked.registry,
    )
    directory = Path(tempfile.mkdtemp(prefix="radera-chaos-")) / "run"
    _say(f"seed {seed}, {asked.requests} requests, in {directory}")
    # Ended from outside, the servers are ended too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        result = play(plan, directory, say=_say)
    except Broken as broken:
        _say(str(broken))
        return 1
    _say(
        json.dumps({"seconds": round(result.seconds, 1), "faults": result.faults, **result.figures}, indent=2)
    )
    if not asked.keep:
        shutil.rmtree(directory.parent)
    return 0


def _say(text: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {text}")


if __name__ == "__main__":
    sys.exit(main())
