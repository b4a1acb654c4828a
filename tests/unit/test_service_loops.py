"""How a role runs: it waits out what passes, ends for what doesn't, and survives every fault of ours."""

import threading
import time
from collections.abc import Callable

import pytest

from orchestrator import log
from orchestrator.bus.port import BusUnavailable
from orchestrator.privacy import KeyFileMissing
from orchestrator.service import loops
from orchestrator.service.loops import Loop
from orchestrator.store.errors import BrokenDocument, DiskFull, Locked, NotADatabase


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(loops, "_LONGEST_PAUSE", 0.004)


class Role:
    """A step that does as told: raises each trouble in turn, then works; and what became of it."""

    def __init__(self, *trouble: Exception) -> None:
        self.trouble = list(trouble)
        self.steps = 0
        self.ended_in: list[str] = []
        self.fatal: list[Exception] = []
        self.worked = threading.Event()

    def step(self) -> None:
        self.steps += 1
        if self.trouble:
            raise self.trouble.pop(0)
        self.worked.set()
        time.sleep(0.001)

    def close(self) -> None:
        self.ended_in.append(threading.current_thread().name)

    def loop(self) -> Loop:
        return Loop("test", self.step, close=self.close, on_fatal=self.fatal.append)


def until(met: Callable[[], object]) -> None:
    end = time.monotonic() + 5
    while not met():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.001)


@pytest.mark.parametrize(
    "error",
    [
        Locked(database="x"),
        DiskFull(database="x"),
        BusUnavailable("away"),
        KeyFileMissing(file="x"),
        BrokenDocument(request_id="x"),
        ValueError(),
    ],
)
def test_a_role_goes_on_after_trouble(error: Exception) -> None:
    """Whether it passes by itself or is a fault of ours: the role tries again, and is ready afterwards."""
    role = Role(error, error, error)
    loop = role.loop()
    loop.start()
    assert role.worked.wait(5)
    until(lambda: loop.is_ready)
    loop.stop()
    assert loop.join(5)
    assert ([], ["radera-test"]) == (role.fatal, role.ended_in)


def test_the_log_says_what_to_mend(caplog: pytest.LogCaptureFixture) -> None:
    """Of a bus that is away for a reason: its code, and none of the text."""
    role = Role(BusUnavailable("see to kafka.password", code="login_refused"))
    loop = role.loop()
    loop.start()
    assert role.worked.wait(5)
    loop.stop()
    assert loop.join(5)
    [told] = [log.entry(record) for record in caplog.records if record.message == "role_waits"]
    assert ("BusUnavailable", "login_refused") == (told["code"], told["reason"])
    assert "kafka.password" not in str(told)


def test_a_role_in_trouble_is_not_ready() -> None:
    """From the first failure to the first success."""
    gate = threading.Event()

    def step() -> None:
        if not gate.is_set():
            raise Locked(database="x")
        time.sleep(0.001)

    loop = Loop("test", step, on_fatal=lambda error: None)
    loop.start()
    until(lambda: not loop.is_ready)
    gate.set()
    until(lambda: loop.is_ready)
    loop.stop()
    assert loop.join(5)
    assert not loop.is_ready


def test_pauses_grow_up_to_a_bound_and_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice as long each time, never longer than the bound, and short again after a success."""
    pauses: list[float] = []
    done = threading.Event()
    troubles: list[Exception | None] = [Locked(database="x")] * 4
    troubles += [None, Locked(database="x")]

    def step() -> None:
        if not troubles:
            done.set()
            return
        error = troubles.pop(0)
        if error is not None:
            raise error

    loop = Loop("test", step, on_fatal=lambda error: None)
    monkeypatch.setattr(loop._stop, "wait", pauses.append)
    loop.start()
    assert done.wait(5)
    loop.stop()
    assert loop.join(5)
    assert [0.001, 0.002, 0.004, 0.004, 0.001] == pauses


def test_what_nothing_here_can_mend_ends_the_role() -> None:
    """Whoever runs the process hears why, once; the role closes and is not ready."""
    role = Role(NotADatabase(database="x"))
    loop = role.loop()
    loop.start()
    assert loop.join(5)
    assert (["NotADatabase"], ["radera-test"], 1) == (
        [type(error).__name__ for error in role.fatal],
        role.ended_in,
        role.steps,
    )
    assert not loop.is_ready


def test_a_role_that_hangs_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that doesn't come back for long shows; one that is meant to run on does not."""
    monkeypatch.setattr(loops, "STALE_AFTER", 0.0)
    release = threading.Event()
    hanging = Loop("hanging", release.wait, on_fatal=lambda error: None)
    running = Loop("running", release.wait, on_fatal=lambda error: None, runs_on=True)
    for loop in (hanging, running):
        loop.start()
    assert (False, True) == (hanging.is_ready, running.is_ready)
    for loop in (hanging, running):
        loop.stop()
    release.set()
    assert (True, True) == (hanging.join(5), running.join(5))


def test_a_close_that_fails_does_not_escape() -> None:
    """At the end there is nobody to tell but the log."""

    def fail() -> None:
        raise ValueError

    loop = Loop("test", lambda: time.sleep(0.001), close=fail, on_fatal=lambda error: None)
    loop.start()
    loop.stop()
    assert loop.join(5)
