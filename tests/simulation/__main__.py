"""`python -m tests.simulation`: plays schedules, and says what happened in them."""

import argparse
import sys
import time
import traceback
from collections import Counter

from tests.simulation import batch
from tests.simulation.schedule import Failed, run
from tests.simulation.troubles import TROUBLES

#: A run of so many has each trouble in it, or the trouble is none.
ENOUGH = 1000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="play this one schedule")
    parser.add_argument("--runs", type=int, default=100, help="how many schedules")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="on how many processors")
    parser.add_argument("--figure", action="store_true", help="only say how many schedules held so far")
    parser.add_argument("-v", "--verbose", action="store_true", help="print the trace (no identifiers in it)")
    chosen = parser.parse_args()
    if chosen.figure:
        return _say_figure()
    if chosen.seed is not None:
        return _play_one(chosen.seed, verbose=chosen.verbose)
    return _play_many(chosen.first, chosen.runs, chosen.jobs)


def _play_one(seed: int, *, verbose: bool) -> int:
    try:
        report = run(seed)
    except Failed as failed:
        if verbose and failed.__cause__ is not None:
            print(*failed.trace, sep="\n")
            traceback.print_exception(failed.__cause__)
        print(failed, file=sys.stderr)
        return 1
    if verbose:
        print(*report.trace, sep="\n")
    _say_counts(report.counts)
    print(f"seed {seed} held")
    return 0


def _play_many(first: int, runs: int, jobs: int) -> int:
    counts: Counter[str] = Counter()
    failures = 0
    began = time.monotonic()
    wanted = batch.parts(first, runs)
    spent = 0.0
    for number, part in enumerate(batch.played(wanted, jobs), start=1):
        counts += Counter(part.counts)
        spent += part.seconds
        for one in part.failures:
            failures += 1
            print(f"seed {one['seed']}: {one['text']}")
            print(f"  replay: python -m tests.simulation --seed {one['seed']} -v")
        if sys.stderr.isatty():
            print(f"\r{number}/{len(wanted)} parts, {failures} failed", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    _say_counts(counts)
    missing = [name for name in TROUBLES if not counts[name]] if runs >= ENOUGH else []
    for name in missing:
        print(f"never happened: {name}")
    seconds = time.monotonic() - began
    print(
        f"{runs - failures} of {runs} schedules held, from seed {first}, in {seconds:.1f} s"
        f" ({spent / max(1, runs):.3f} s each for one processor)"
    )
    _say_figure()
    return 1 if failures or missing else 0


def _say_counts(counts: Counter[str]) -> None:
    for name, count in sorted(counts.items()):
        print(f"{count:>9}  {name}")


def _say_figure() -> int:
    every, latest, failed = batch.figure()
    print(f"{every} schedules since the simulation's last change; {latest} of the product as it is,")
    print(f"of which {failed} failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
