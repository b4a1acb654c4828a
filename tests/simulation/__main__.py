"""`python -m tests.simulation`: plays schedules, and says what happened in them."""

import argparse
import sys
import time
import traceback
from collections import Counter

from tests.simulation.schedule import Failed, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="play this one schedule")
    parser.add_argument("--runs", type=int, default=100, help="how many schedules")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    parser.add_argument("-v", "--verbose", action="store_true", help="print the trace (no identifiers in it)")
    chosen = parser.parse_args()
    seeds = range(chosen.first, chosen.first + chosen.runs) if chosen.seed is None else (chosen.seed,)
    counts: Counter[str] = Counter()
    began = time.monotonic()
    for seed in seeds:
        try:
            report = run(seed)
        except Failed as failed:
            if chosen.verbose and failed.__cause__ is not None:
                print(*failed.trace, sep="\n")
                traceback.print_exception(failed.__cause__)
            print(failed, file=sys.stderr)
            return 1
        counts += report.counts
        if chosen.verbose:
            print(*report.trace, sep="\n")
    seconds = time.monotonic() - began
    for name, count in sorted(counts.items()):
        print(f"{count:>9}  {name}")
    print(f"{len(seeds)} schedules held in {seconds:.1f} s ({seconds / len(seeds):.3f} s each)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
