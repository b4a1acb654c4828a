"""The saga holds before an oracle that knows the truth, and the oracle finds what is wrong with a saga."""

import pytest

from tests.oracle.faults import FAULTS, planted
from tests.oracle.life import Life
from tests.oracle.shorten import failure, shortened, told
from tests.oracle.testimony import Word, are_out_of_order
from tests.oracle.violations import AWAITED, Violated

#: Within so many lives a planted fault is found.
WITHIN = 1000


def test_random_lives_keep_every_invariant() -> None:
    """What a person, a controller and the DPO rely on holds, whatever happens in which order."""
    for seed in range(400):
        _, violated = failure(seed)
        assert violated is None, f"seed {seed}: {violated}"


def test_a_seed_always_gives_the_same_life() -> None:
    """A life that failed can be played again."""
    for seed in range(20):
        one, other = Life(seed), Life(seed)
        one.live()
        other.live()
        assert one.history == other.history
        assert one.saga == other.saga


def _found(name: str) -> tuple[int, Violated] | None:
    """Return the first life in which the planted fault breaks an invariant that is about it."""
    excused = AWAITED - FAULTS[name].found_by
    with planted(name) as fault:
        for seed in range(WITHIN):
            violated = failure(seed, None, excused)[1]
            if violated is not None and violated.name in fault.found_by:
                return seed, violated
    return None


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str) -> None:
    """By the invariant that is about it; an invariant that can't fail would show nothing."""
    assert _found(name) is not None


def test_a_failing_life_is_made_short() -> None:
    """Whoever reads a failure finds the few events that matter, and the same invariant broken."""
    name = "ends_on_the_vendors_yes"
    found = _found(name)
    assert found is not None
    seed, violated = found
    with planted(name):
        script = shortened(seed, violated.name)
        life, again = failure(seed, script)
    assert again is not None
    assert violated.name == again.name
    assert len(script) < len(Life(seed).script)
    assert len(life.history) + 1 == len(told(life))


@pytest.mark.parametrize(
    ("said", "contradicts"),
    [
        ([(True, 20), (False, 10)], True),
        ([(True, 10), (False, 20)], False),
        ([(True, 30), (False, 20), (True, 10)], False),
        ([(False, 30), (True, 20), (True, 10)], True),
        ([(True, 20), (False, None)], False),
    ],
)
def test_words_contradict_their_times_where_another_was_the_last(
    said: list[tuple[bool, int | None]], contradicts: bool
) -> None:
    """The rule of the judge: which word is the last, by the order of arrival and by the times."""
    words = [Word(order, erases, None, said_at) for order, (erases, said_at) in enumerate(said)]
    assert contradicts == are_out_of_order(words)
