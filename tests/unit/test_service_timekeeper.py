"""What the watch over the time keeps in the database, for the next process and for others."""

from orchestrator.metrics import Metrics
from orchestrator.saga.ahead import Doubt
from orchestrator.service.timekeeper import Timekeeper
from orchestrator.store import Seen, SeenTimes, Store, open_engine

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
YEAR = 365 * 24 * HOUR
NOW = 1_788_170_400_000_000


class World:
    """A database, its clock, and the clock that nobody sets."""

    def __init__(self) -> None:
        self.now, self.steady = NOW, HOUR
        self.times = SeenTimes(Store(open_engine("sqlite://"), lambda: self.now))
        self.metrics = Metrics()

    def keeper(self) -> Timekeeper:
        """The watch of one process, which has begun."""
        keeper = Timekeeper(
            self.times, steady=lambda: self.steady, patience=HOUR, longest=7 * 24 * HOUR, metrics=self.metrics
        )
        keeper.keep()
        return keeper

    def passes(self, time: int) -> None:
        self.now += time
        self.steady += time

    def known(self) -> Seen:
        known = self.times.load()
        assert known is not None
        return known


def test_what_was_seen_is_kept_each_minute_and_at_once_when_it_jumped() -> None:
    """A process that dies leaves no more than a minute unwatched."""
    world = World()
    keeper = world.keeper()
    assert NOW == world.known().at
    world.passes(59 * SECOND)
    keeper.keep()
    assert NOW == world.known().at
    world.passes(SECOND)
    keeper.keep()
    assert (NOW + MINUTE, MINUTE) == (world.known().at, world.known().even_for)
    world.now += YEAR
    keeper.keep()
    assert (YEAR, 1) == (world.known().ahead, world.known().jumps)


def test_two_processes_count_a_jump_once() -> None:
    """Each sees it; the first one writes it down."""
    world = World()
    one, other = world.keeper(), world.keeper()
    world.now += YEAR
    one.keep()
    other.keep()
    assert (YEAR, 1) == (world.known().ahead, world.known().jumps)
    world.passes(2 * MINUTE)
    other.keep()
    one.keep()
    assert (YEAR, 1) == (world.known().ahead, world.known().jumps)
    assert world.now - YEAR == one.otherwise(world.now) == other.otherwise(world.now)


def test_a_jump_there_and_back_between_two_looks_is_heard_of_from_the_process_that_saw_it() -> None:
    """The other one saw nothing, and would go on destroying."""
    world = World()
    one, other = world.keeper(), world.keeper()
    world.passes(2 * HOUR)
    one.keep()
    other.keep()
    was_plausible = other.is_plausible
    world.now += YEAR
    one.keep()
    world.now -= YEAR
    one.keep()
    world.passes(MINUTE)
    other.keep()
    assert (True, False) == (was_plausible, other.is_plausible)
    assert (2, 0) == (world.known().jumps, world.known().ahead)


def test_a_look_that_took_long_says_nothing() -> None:
    """When the database gave its answer nobody knows."""
    world = World()
    keeper = world.keeper()
    begun = keeper.begun()
    world.steady += 2 * MINUTE
    keeper.look(world.now, begun)
    assert keeper.otherwise(world.now) is None
    world.now += 2 * MINUTE
    keeper.keep()
    assert 0 == world.known().jumps


def test_it_is_known_that_the_time_went_back() -> None:
    """At the start nobody knows. Forward is not back."""
    world = World()
    keeper = world.keeper()
    assert keeper.went_back
    keeper.went_back = False
    world.now += YEAR
    keeper.keep()
    assert not keeper.went_back
    world.now -= YEAR
    keeper.keep()
    assert keeper.went_back


def test_nothing_is_plausible_before_the_first_look() -> None:
    """A process that has just begun throws nothing away."""
    world = World()
    keeper = Timekeeper(world.times, steady=lambda: 0, patience=0, longest=0, metrics=world.metrics)
    assert not keeper.is_plausible


def doubt(keeper: Timekeeper) -> Doubt | None:
    return keeper.doubt


def test_a_jump_is_in_doubt_until_the_time_is_believed() -> None:
    """Forward alone: what a clock that is behind makes wait is pulled back. Another process is told."""
    world = World()
    keeper = world.keeper()
    assert None is doubt(keeper)
    world.now += 2 * HOUR
    keeper.keep()
    assert Doubt(ahead=2 * HOUR, since=NOW + 2 * HOUR) == doubt(keeper) == doubt(world.keeper())
    for _ in range(13):
        world.passes(10 * MINUTE)
        keeper.keep()
    assert keeper.is_plausible
    assert None is doubt(keeper)
    world.now -= 5 * HOUR
    keeper.keep()
    assert None is doubt(keeper)
    assert world.known().ahead < 0


def test_a_jump_that_returned_is_in_doubt_no_more() -> None:
    """The waits are what they were."""
    world = World()
    keeper = world.keeper()
    world.now += YEAR
    keeper.keep()
    world.now -= YEAR
    keeper.keep()
    assert None is doubt(keeper)
