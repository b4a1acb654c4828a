"""`python -m tests.exploration`: searches every state of `decide` that can be reached, to a depth."""

import argparse
import multiprocessing
import sys

from tests.exploration.search import SPACES, searched


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.exploration", description=__doc__)
    parser.add_argument("--depth", type=int, default=5, help="how many events deep")
    parser.add_argument("--often", type=int, default=1, help="how often a request is supplemented")
    parser.add_argument("--jobs", type=int, default=2, help="how many processes")
    parser.add_argument("--seconds", type=float, help="of the processor, for each space at most")
    parser.add_argument("--only", choices=SPACES, help="this space alone")
    chosen = parser.parse_args()
    names = [chosen.only] if chosen.only is not None else list(SPACES)
    states, failed = 0, 0
    with multiprocessing.get_context("spawn").Pool(min(chosen.jobs, len(names))) as pool:
        started = [
            pool.apply_async(searched, (name, chosen.depth, chosen.often, chosen.seconds)) for name in names
        ]
        for one in started:
            name, found, seconds = one.get()
            states += found.states
            failed += len(found.broken)
            reach = "all there are" if found.exhausted else f"to {found.depth} events"
            text = f"{name:<22} {found.states:>8} states {found.moves:>9} moves, {reach}, {seconds:.0f} s"
            print(text, flush=True)
            for (invariant, said), path in found.broken.items():
                print(f"    {invariant}: {said}\n        {' > '.join(path)}", flush=True)
    print(f"{states} states")
    if failed:
        print(f"{failed} faults", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
