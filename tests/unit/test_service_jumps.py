"""A jump of the clock is told from a suspended machine, from NTP, and from a time when nobody watched."""

import pytest

from orchestrator.service.jumps import TOLERANCE, Jump, Watch, boottime
from orchestrator.store import Seen

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
YEAR = 365 * DAY
NOW = 1_788_170_400_000_000


class Machine:
    """The database's clock, and the one that nobody sets."""

    def __init__(self, known: Seen | None = None, now: int = NOW) -> None:
        self.now = now
        self.steady = 5 * DAY
        self.watch = Watch(known, patience=HOUR, longest=7 * DAY)
        self.first = self.look()

    def look(self) -> Jump | None:
        return self.watch.look(self.now, self.steady)

    def passes(self, time: int) -> Jump | None:
        """Time passes, on both clocks."""
        self.now += time
        self.steady += time
        return self.look()

    def runs(self, time: int) -> None:
        """Time passes, with a look each ten minutes."""
        for _ in range(0, time, 10 * MINUTE):
            assert self.passes(10 * MINUTE) is None

    def set(self, by: int) -> Jump | None:
        """Somebody sets the clock."""
        self.now += by
        return self.passes(SECOND)

    def restarted(self, *, now: int) -> "Machine":
        """Another process, with what this one has seen; a machine that was started since counts anew."""
        return Machine(self.watch.seen, now)

    @property
    def ahead(self) -> int:
        assert self.watch.seen is not None
        return self.watch.seen.ahead


@pytest.mark.parametrize("by", [YEAR, -YEAR, HOUR, -HOUR, 2 * MINUTE, -2 * MINUTE])
def test_a_jump_is_seen_forward_and_back(by: int) -> None:
    """Of a year as of minutes, and once only."""
    machine = Machine()
    assert Jump(by=by, is_return=False) == machine.set(by)
    assert by == machine.ahead
    assert machine.passes(MINUTE) is None


@pytest.mark.parametrize("by", [TOLERANCE, -TOLERANCE])
def test_a_clock_that_is_slewed_does_not_jump(by: int) -> None:
    """NTP sets it by less than that at once."""
    machine = Machine()
    assert machine.set(by) is None
    assert 0 == machine.ahead


def test_a_suspended_machine_is_no_jump() -> None:
    """The clock that nobody sets counts on meanwhile."""
    machine = Machine()
    machine.runs(HOUR)
    assert machine.passes(20 * DAY) is None
    assert machine.watch.is_plausible


def test_the_steady_clock_is_of_this_machine_and_counts_on() -> None:
    """In micros."""
    before = boottime()
    assert 0 < before <= boottime() < before + MINUTE


def test_the_time_is_plausible_after_an_hour() -> None:
    """Of a process that is there for the first time, too."""
    machine = Machine()
    assert not machine.watch.is_plausible
    machine.runs(50 * MINUTE)
    assert not machine.watch.is_plausible
    machine.runs(10 * MINUTE)
    assert machine.watch.is_plausible


@pytest.mark.parametrize(("by", "while_"), [(2 * MINUTE, HOUR), (-3 * DAY, 3 * DAY), (YEAR, 7 * DAY)])
def test_after_a_jump_it_is_plausible_when_it_ran_evenly_for_as_long(by: int, while_: int) -> None:
    """At least an hour, at most a week; then it is believed."""
    machine = Machine()
    machine.runs(2 * HOUR)
    machine.set(by)
    machine.runs(while_ - 10 * MINUTE)
    assert (False, by) == (machine.watch.is_plausible, machine.ahead)
    machine.runs(10 * MINUTE)
    assert (True, 0) == (machine.watch.is_plausible, machine.ahead)


def test_a_time_that_returned_is_plausible_after_an_hour() -> None:
    """It is the one that was believed."""
    machine = Machine()
    machine.set(YEAR)
    machine.runs(DAY)
    assert Jump(by=-YEAR, is_return=True) == machine.set(-YEAR)
    assert 0 == machine.ahead
    assert not machine.watch.is_plausible
    machine.runs(HOUR)
    assert machine.watch.is_plausible


def test_a_jump_that_is_not_all_the_way_back_is_no_return() -> None:
    """A part of it is left."""
    machine = Machine()
    machine.set(YEAR)
    assert Jump(by=-DAY, is_return=False) == machine.set(-DAY)
    assert YEAR - DAY == machine.ahead


def test_a_start_soon_after_is_no_gap() -> None:
    """A restart does not begin the hour anew."""
    machine = Machine()
    machine.runs(HOUR)
    again = machine.restarted(now=machine.now + 5 * MINUTE)
    assert again.first is None
    assert again.watch.is_plausible


@pytest.mark.parametrize(("gap", "while_"), [(2 * HOUR, 2 * HOUR), (3 * DAY, 3 * DAY), (YEAR, 7 * DAY)])
def test_a_start_long_after_is_plausible_later_and_no_alarm(gap: int, while_: int) -> None:
    """Nobody can tell a machine that was off from a clock that is ahead."""
    machine = Machine()
    machine.runs(HOUR)
    again = machine.restarted(now=machine.now + gap)
    assert again.first is None
    again.runs(while_ - 10 * MINUTE)
    assert not again.watch.is_plausible
    again.runs(10 * MINUTE)
    assert again.watch.is_plausible


def test_a_start_before_the_time_last_seen_is_a_jump() -> None:
    """Time does not run backwards."""
    machine = Machine()
    again = machine.restarted(now=NOW - YEAR)
    assert Jump(by=-YEAR, is_return=False) == again.first
    assert -YEAR == again.ahead


@pytest.mark.parametrize("is_running", [True, False])
def test_a_start_under_a_clock_that_is_ahead_is_told_by_its_return(is_running: bool) -> None:
    """Whether the process was there when the clock was put back, or began after it."""
    machine = Machine()
    machine.runs(HOUR)
    wrong = machine.restarted(now=machine.now + YEAR)
    wrong.runs(HOUR)
    if is_running:
        jump = wrong.set(-YEAR)
    else:
        wrong = wrong.restarted(now=wrong.now - YEAR + MINUTE)
        jump = wrong.first
    assert jump is not None
    assert jump.is_return
    assert 0 == wrong.ahead
    wrong.runs(2 * HOUR)
    assert wrong.watch.is_plausible


def test_a_clock_that_was_behind_and_was_put_right_between_two_processes() -> None:
    """It returns at the start."""
    machine = Machine()
    machine.set(-YEAR)
    again = machine.restarted(now=machine.now + YEAR + MINUTE)
    assert again.first is not None
    assert again.first.is_return
    assert 0 == again.ahead


def test_what_the_time_was_by_the_clock_that_was_believed() -> None:
    """Of a moment since the jump; what was said before it stands, and so does all when the time returns."""
    machine = Machine()
    assert machine.watch.otherwise(NOW) is None
    machine.set(YEAR)
    assert machine.now - YEAR == machine.watch.otherwise(machine.now)
    assert machine.watch.otherwise(NOW) is None
    machine.set(-YEAR)
    assert machine.watch.otherwise(machine.now) is None


@pytest.mark.parametrize("is_running", [True, False])
def test_what_was_said_while_the_clock_was_behind(is_running: bool) -> None:
    """It is known after the return, too: by then it looks like a time long ago."""
    machine = Machine()
    machine.set(-YEAR)
    machine.runs(HOUR)
    said = machine.now
    machine.runs(HOUR)
    if is_running:
        jump = machine.set(YEAR)
    else:
        machine = machine.restarted(now=machine.now + YEAR + MINUTE)
        jump = machine.first
    assert jump is not None
    assert jump.behind is not None
    assert jump.behind[0] <= said <= jump.behind[1]
    assert said + YEAR == machine.watch.otherwise(said)
    assert machine.watch.otherwise(machine.now) is None
    assert machine.watch.otherwise(said - DAY) is None


def test_what_another_process_saw_is_taken_over() -> None:
    """Two of them see the same jump, and it counts once."""
    machine, other = Machine(), Machine()
    machine.set(YEAR)
    other.set(YEAR)
    assert machine.watch.seen is not None
    other.watch.adopt(machine.watch.seen)
    assert YEAR == other.ahead
    assert not other.watch.is_plausible
    other.runs(DAY)
    assert YEAR == other.ahead
