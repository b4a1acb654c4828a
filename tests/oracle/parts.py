"""Plays lives in parts, on several processors, and adds up what happened in them."""

import multiprocessing
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from tests.oracle.shorten import failure

#: How many lives one part has: some seconds of work.
LIVES = 200


@dataclass
class Part:
    """What came of the lives `first` up to `following`. `failed` are (seed, invariant, text)."""

    first: int
    following: int
    events: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[int, str, str]] = field(default_factory=list)


def play(first: int) -> Part:
    """Play one part."""
    part = Part(first, first + LIVES)
    for seed in range(first, part.following):
        life, violated = failure(seed)
        part.events += len(life.history)
        part.counts += life.counts
        if violated is not None:
            part.failed.append((seed, violated.name, violated.text))
    return part


def parts(first: int, jobs: int) -> Iterator[Part]:
    """Yield part after part in the order of the seeds, without an end."""
    firsts = count(first, LIVES)
    if jobs == 1:
        yield from map(play, firsts)
        return
    # A process that is begun anew has its own memory, and nothing of this one's.
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        ahead = [pool.apply_async(play, (next(firsts),)) for _ in range(2 * jobs)]
        while True:
            yield ahead.pop(0).get()
            ahead.append(pool.apply_async(play, (next(firsts),)))
