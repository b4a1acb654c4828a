"""`python -m tests.planted`: plants each fault in turn, and says which of them no test finds."""

import argparse
import os
import sys
import time
from collections import Counter

from tests.planted.catalogue import Progress, every, some
from tests.planted.fault import Fault
from tests.planted.trial import failing_without_a_fault, lay_foundations, try_all


def main() -> int:
    chosen, options = _chosen()
    for one in chosen:
        if one.harmless:
            print(f"stays     {one.name}: {one.harmless}")
    progress = Progress()
    trying = [one for one in chosen if not one.harmless]
    left = trying if options.again else progress.left(trying)
    print(
        f"{len(trying)} faults, {len(trying) - len(left)} of them found before and unchanged since",
        flush=True,
    )
    lay_foundations()
    failing = failing_without_a_fault(left)
    if failing:
        print(f"These tests fail without a fault:\n{failing}", file=sys.stderr)
        return 1
    began, counts, wrong = time.monotonic(), Counter[str](), list[str]()
    for fault, verdict in try_all(left, options.jobs):
        progress.note(fault, verdict)
        counts[verdict.result] += 1
        line = f"{verdict.result:<9} {verdict.seconds:>5} s  {fault.name}"
        print(line, f"by {verdict.said}" if options.verbose else "", flush=True)
        if verdict.result != "found":
            where = f"{fault.module}, {fault.within}: `{fault.was}` -> `{fault.becomes}`"
            wrong.append(f"{verdict.result}: {fault.name}\n    {where}\n    {verdict.said}")
    print(*wrong, sep="\n")
    print(f"{dict(counts)} in {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


def _chosen() -> tuple[list[Fault], argparse.Namespace]:
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=__doc__)
    parser.add_argument("-k", dest="words", default="", help="only faults with this in their name or module")
    parser.add_argument("--some", type=int, metavar="N", help="N of them: those in changed files first")
    parser.add_argument("--part", default="0/1", metavar="I/N", help="every Nth of them, from the Ith")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time")
    parser.add_argument("--again", action="store_true", help="also those that were found before")
    parser.add_argument("-v", "--verbose", action="store_true", help="say which test found each")
    options = parser.parse_args()
    faults = [one for one in every() if options.words in f"{one.name} {one.module}"]
    if options.some is not None:
        faults = some(tuple(one for one in faults if not one.harmless), options.some)
    part, parts = map(int, options.part.split("/"))
    return faults[part::parts], options


if __name__ == "__main__":
    sys.exit(main())
