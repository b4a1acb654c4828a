"""`python -m tests.oracle`: plays random lives of requests, and says what in them was wrong."""

import argparse
import sys
import time
from collections import Counter

from tests.oracle.parts import parts
from tests.oracle.shorten import failure, shortened, told

#: How often the way to go on is printed, in events.
_EVERY = 100_000
#: So many failing lives are listed for each invariant.
_LISTED = 5


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="how many events at least")
    parser.add_argument("--jobs", type=int, default=2, help="how many processes")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="play this one life, made short if it fails")
    chosen = parser.parse_args()
    return _one(chosen.seed) if chosen.seed is not None else _many(chosen.events, chosen.jobs, chosen.first)


def _one(seed: int) -> int:
    life, violated = failure(seed)
    if violated is not None:
        life, again = failure(seed, shortened(seed, violated.name))
        violated = again or violated
    print(*told(life), sep="\n")
    print(violated or "held")
    return int(violated is not None)


def _many(wanted: int, jobs: int, first: int) -> int:
    began = time.monotonic()
    events, printed, following = 0, 0, first
    counts: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    try:
        for part in parts(first, jobs):
            events += part.events
            counts += part.counts
            following = part.following
            for seed, name, text in part.failed:
                failed[name] += 1
                if failed[name] <= _LISTED:
                    print(f"seed {seed}: {name}: {text}", flush=True)
                    print(f"    replay: python -m tests.oracle --seed {seed}", flush=True)
            if events >= wanted:
                break
            if events >= printed + _EVERY:
                printed = events
                print(f"{events:>9} events, {following - first} lives; go on FROM={following}", flush=True)
    except KeyboardInterrupt:
        print("stopped")
    for name, times in sorted(counts.items()):
        print(f"{times:>9}  {name}")
    seconds = time.monotonic() - began
    lives = following - first
    print(f"{events} events in {lives} lives, {seconds:.0f} s ({seconds / max(events, 1) * 1e6:.0f} µs each)")
    print(f"go on FROM={following}")
    if failed:
        broken = ", ".join(f"{name} in {times}" for name, times in failed.most_common())
        print(f"{failed.total()} lives failed: {broken}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
