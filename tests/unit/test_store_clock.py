"""The time while the database is away."""

from collections.abc import Callable

import pytest

from orchestrator.store import SteadyClock, StoreUnavailable

LIMIT = 120.0
NOW = 1_790_000_000_000_000


class World:
    """The database's answers, and this machine's seconds."""

    def __init__(self) -> None:
        self.answer: int | None = NOW
        self.seconds = 1_000.0

    def ask(self) -> int:
        if self.answer is None:
            raise StoreUnavailable(database="d")
        return self.answer


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A world whose seconds pass when it is told so."""
    made = World()
    monkeypatch.setattr("time.monotonic", lambda: made.seconds)
    return made


def test_it_goes_on_while_the_database_is_away(world: World) -> None:
    """By as much as has passed here; and the database's own time counts again once it is back."""
    clock = SteadyClock(world.ask, LIMIT)
    seen = [clock()]
    world.answer = None
    world.seconds += 1.5
    seen.append(clock())
    world.seconds += 118.5
    seen.append(clock())
    world.answer = NOW + 7
    seen.append(clock())
    assert [NOW, NOW + 1_500_000, NOW + 120_000_000, NOW + 7] == seen


@pytest.mark.parametrize("before", [lambda clock: None, lambda clock: clock()])
def test_it_does_not_go_on_from_nothing_nor_for_ever(
    world: World, before: Callable[[SteadyClock], object]
) -> None:
    """Without an answer, or with one that is too old, the question fails as the database does."""
    clock = SteadyClock(world.ask, LIMIT)
    before(clock)
    world.answer = None
    world.seconds += LIMIT + 0.1
    with pytest.raises(StoreUnavailable):
        clock()
