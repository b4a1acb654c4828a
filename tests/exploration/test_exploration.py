"""The states nearest to the beginning hold, and the search finds what doesn't."""

import pytest

from tests.exploration.search import SPACES, Found, Search
from tests.oracle.faults import planted
from tests.oracle.violations import AWAITED

#: So deep are the small spaces searched here, and the large ones one event less; `make explore` goes deeper.
DEPTH = 3
_LARGE = [name for name, space in SPACES.items() if len(space.plans) > 1 or len(space.troubles) > 2]


def _searched(name: str, depth: int = DEPTH, excused: frozenset[str] = AWAITED) -> Found:
    return Search(SPACES[name], excused).run(depth=depth)


@pytest.mark.parametrize("name", SPACES)
def test_every_state_near_the_beginning_holds(name: str) -> None:
    """Nothing refused is erased, and no state is without a way on, after any few events."""
    found = _searched(name, DEPTH - (name in _LARGE))
    assert {} == found.broken
    assert found.states > 40
    assert found.moves > found.states


@pytest.mark.parametrize(
    ("fault", "space", "invariant"),
    [
        ("refusal_holds_nothing", "tenant-as-processor", "refused"),
        ("timer_left_in_the_past", "automatic", "no_timer"),
        ("question_forgotten", "automatic", "no_question"),
        ("everything_is_offered", "automatic", "offer_refused"),
        ("extension_counts_untold", "automatic-extended", "dates"),
        ("receipt_settled_with_the_old_due_date", "automatic-doubted", "dates"),
        ("rule_that_raises", "tenant", "raises"),
    ],
)
def test_a_planted_fault_is_found(fault: str, space: str, invariant: str) -> None:
    """Each check can fail; the path that is printed leads there."""
    with planted(fault):
        found = _searched(space, excused=AWAITED - {invariant})
    paths = [path for (name, _), path in found.broken.items() if name == invariant]
    assert paths
    assert len(paths[0]) <= DEPTH + 1


def test_the_same_search_sees_the_same_states() -> None:
    """A search is a function of its space: its figures can be compared."""
    one, other = _searched("agency", 2), _searched("agency", 2)
    assert (one.states, one.moves) == (other.states, other.moves)
