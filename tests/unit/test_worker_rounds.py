"""An attempt that ends before its verb is answered tells what it did, and the next one goes on from there."""

import json
from collections.abc import Callable

import pytest

from handlers.port import ERASED, REPEATED, Reference, Retryable, Task, pack_references, squeezed
from handlers.results import Accepted, Result
from orchestrator.privacy import REFERENCES, seal, unseal
from schemas.messages import Command, Confirmation
from tests.contract.worker_bench import KEY, NOW, REQUEST, Bench

pytestmark = pytest.mark.anyio
KNOWN = tuple(Reference(kind="contact", id=f"{700_000 + n}") for n in range(10))


def erase(bench: Bench, *more: bytes) -> Command:
    """The command to erase the ten, with what earlier attempts have settled."""
    known = seal(KEY, REQUEST, REFERENCES, pack_references(KNOWN))
    return bench.command(verb="erase", sealed_references=(known, *more))


def erasing(erased: list[str], ends: Callable[[Task], None]) -> Callable[[Task], Result]:
    """A handler's `erase` that takes one record after another, and what befalls it after each."""

    def carried_out(task: Task) -> Result:
        for one in task.rounds.left(task.references):
            outcome = REPEATED if one.id in erased else ERASED
            erased.append(one.id)
            task.rounds.settle(one.marked("seen"), outcome)
            ends(task)
        counts = task.rounds.counts()
        return Accepted(erased=counts[ERASED] + counts[REPEATED], prove_at=NOW)

    return carried_out


def over_after(number: int) -> Callable[[Task], None]:
    """The time of an attempt is over once it has settled so many records."""
    seen = [0]

    def ends(task: Task) -> None:
        seen[0] += 1
        task.rounds.is_over = lambda: seen[0] >= number - 1

    return ends


def settled(said: Confirmation) -> list[list[object]]:
    assert said.sealed_references is not None
    rows: list[list[object]] = json.loads(unseal(KEY, REQUEST, REFERENCES, said.sealed_references))
    return rows


async def test_an_attempt_whose_time_is_over_tells_what_it_has_done(bench: Bench) -> None:
    """Counts in clear, the records sealed; nothing is called a failure, and nothing accepted."""
    said = await bench.answer(erase(bench), erasing([], over_after(4)))
    assert ("progress", 4, 4, None) == (said.kind, said.done, said.erased, said.code)
    assert [["settled:erased:contact", one.id, None, ["seen"]] for one in KNOWN[:4]] == settled(said)
    assert not any(one.id in said.model_dump_json(exclude={"sealed_references"}) for one in KNOWN)


async def test_the_next_attempt_does_nothing_twice_and_accepts_all(bench: Bench) -> None:
    """However many attempts it takes: each record is erased once, and the yes is for all of them."""
    erased: list[str] = []
    said = await bench.answer(erase(bench), erasing(erased, over_after(3)))
    kinds = [said.kind]
    while said.sealed_references is not None and len(kinds) < 6:
        said = await bench.answer(erase(bench, said.sealed_references), erasing(erased, over_after(3)))
        kinds.append(said.kind)
    assert (["progress"] * 3 + ["accepted"], 10) == (kinds, said.erased)
    assert sorted(one.id for one in KNOWN) == sorted(erased)


async def test_every_reference_stays_known_whatever_is_settled(bench: Bench) -> None:
    """A handler that knows nothing of attempts is given all of them, as ever, and one that does, too."""
    part = seal(
        KEY, REQUEST, REFERENCES, pack_references((Reference(kind="settled:erased:contact", id="700003"),))
    )
    await bench.answer(erase(bench, part), Accepted(erased=10, prove_at=NOW))
    [task] = bench.handler.asked
    assert KNOWN == task.references
    assert [one for one in KNOWN if one.id != "700003"] == task.rounds.left(task.references)


async def test_a_fault_on_the_way_keeps_what_was_done(bench: Bench) -> None:
    """The failure says why the attempt ended, and on which records there is nothing left to do."""

    def fails(task: Task) -> None:
        if len(task.rounds.settled(ERASED)) == 5:
            raise Retryable("rate_limited", 7_000_000)

    said = await bench.answer(erase(bench), erasing([], fails))
    assert ("failed", "rate_limited", 7_000_000, 5, 5) == (
        said.kind,
        said.code,
        said.retry_after,
        said.done,
        said.erased,
    )
    assert [one.id for one in KNOWN[:5]] == [row[1] for row in settled(said)]


async def test_a_fault_before_anything_was_done_is_as_it_was(bench: Bench) -> None:
    """What earlier attempts did is no progress of this one, and is not told again."""
    part = seal(
        KEY, REQUEST, REFERENCES, pack_references((Reference(kind="settled:erased:contact", id="700003"),))
    )
    said = await bench.answer(erase(bench, part), Retryable("timeout"))
    assert ("failed", 0, None) == (said.kind, said.done, said.sealed_references)


async def test_ten_thousand_records_fit_into_one_message(bench: Bench) -> None:
    """The records, what is noted of them and what is settled go into one command, with room to spare."""
    many = tuple(
        Reference(kind="appointment", id=str(7 * n), created_at=NOW - n * 977) for n in range(10_000)
    )
    noted = tuple(
        one.marked(f"erased.{NOW + n}").marked(f"seen_in_bin.{NOW + n}") for n, one in enumerate(many)
    )
    parts = tuple(
        seal(KEY, REQUEST, REFERENCES, squeezed(pack_references(one))) for one in (many, noted, noted)
    )
    assert sum(map(len, parts)) < 900_000
    await bench.answer(bench.command(verb="prove", sealed_references=parts), Retryable("timeout"))
    assert noted == bench.handler.asked[0].references
