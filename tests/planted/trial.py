"""One fault on trial: a forked process plants it, loads the product and runs the named tests.

The parent has loaded what the product is built on, and nothing of the product itself. So a child starts in no
time, and no fault outlives its trial.
"""

import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn

import pytest

from tests.planted.fault import ROOT, Broken, Fault, Schedules

Result = Literal["found", "SURVIVED", "broken"]
#: What takes long to load, and knows nothing of the product.
FOUNDATIONS = (
    "_pytest.skipping",
    "aiosmtpd.controller",
    "alembic.command",
    "anyio._backends._asyncio",
    "anyio.pytest_plugin",
    "cryptography.x509",
    "fastavro",
    "holidays",
    "httpx",
    "hypothesis",
    "kafka",
    "phonenumbers",
    "prometheus_client",
    "psycopg",
    "pydantic",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
    "starlette.applications",
    "uvicorn",
)
#: No trial takes half as long on a busy machine. A test that hangs meets its own limit, which is shorter.
LONGEST = 240.0
LONGEST_TEST = 60
OURS = ("orchestrator", "handlers", "schemas")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a fault: which test or schedule found it, or why it could not be tried."""

    result: Result
    said: str
    seconds: float


def lay_foundations() -> None:
    """Load what the product is built on, once for all trials."""
    for name in FOUNDATIONS:
        importlib.import_module(name)
    loaded = [name for name in sys.modules if name.split(".")[0] in OURS]
    if loaded:
        raise Broken(f"the product is loaded before the fault: {', '.join(sorted(loaded))}")


def try_all(faults: Iterable[Fault], jobs: int) -> Iterator[tuple[Fault, Verdict]]:
    """Try each fault in a process of its own, this many at a time; yield each verdict when it is there."""
    waiting = list(faults)
    running: dict[int, tuple[Fault, Path, float]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            fault = waiting.pop(0)
            folder = Path(tempfile.mkdtemp(prefix="planted-"))
            running[_fork(partial(_trial, fault, folder), folder)] = (fault, folder, time.monotonic())
        pid = _next_ended(running)
        fault, folder, began = running.pop(pid)
        result, said = _said(folder)
        shutil.rmtree(folder, ignore_errors=True)
        yield fault, Verdict(result, said, round(time.monotonic() - began, 1))


def failing_without_a_fault(faults: Iterable[Fault]) -> str:
    """Run every named test on the product as it is; return what fails, for it would find everything."""
    tests = sorted(
        {test for one in faults if not isinstance(one.found_by, Schedules) for test in one.found_by}
    )
    if not tests:
        return ""
    folder = Path(tempfile.mkdtemp(prefix="planted-"))
    _wait_for(_fork(lambda: _outcome(tests, folder, stop_at_first=False), folder))
    result, said = _said(folder)
    shutil.rmtree(folder, ignore_errors=True)
    return "" if result == "SURVIVED" else said


def _fork(work: Callable[[], tuple[Result, str]], folder: Path) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        _child(work, folder)
    return pid


def _child(work: Callable[[], tuple[Result, str]], folder: Path) -> NoReturn:
    status = 1
    try:
        os.setpgid(0, 0)
        with (folder / "output").open("w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        for name in [name for name in os.environ if name.startswith("PYTEST_")]:
            del os.environ[name]
        said = work()
        sys.stdout.flush()
        (folder / "verdict").write_text(json.dumps(said))
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _next_ended(running: Mapping[int, tuple[Fault, Path, float]]) -> int:
    while True:
        for pid, (_, _, began) in running.items():
            if os.waitpid(pid, os.WNOHANG)[0]:
                return pid
            if time.monotonic() - began > LONGEST:
                _wait_for(pid, kill=True)
                return pid
        time.sleep(0.02)


def _wait_for(pid: int, *, kill: bool = False) -> None:
    if kill:
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _said(folder: Path) -> tuple[Result, str]:
    verdict = folder / "verdict"
    if verdict.is_file():
        result, said = json.loads(verdict.read_text())
        return result, said
    output = folder / "output"
    return "broken", output.read_text()[-3000:] if output.is_file() else "the trial did not begin"


def _trial(fault: Fault, folder: Path) -> tuple[Result, str]:
    fault.code()
    if isinstance(fault.found_by, Schedules):
        return _try_schedules(fault, fault.found_by, folder)
    if not fault.found_by:
        return "broken", "it names no test"
    fault.plant()
    result, said = _outcome(fault.found_by, folder)
    if result != "broken" and fault.module not in sys.modules:
        return "broken", f"the named tests never load {fault.module}"
    return result, said


class _Notes:
    """What pytest says while it runs."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.uncollected: list[str] = []
        self.passed = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)
        elif report.when == "call" and report.passed:
            self.passed += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.uncollected.append(report.nodeid)


def _outcome(tests: Iterable[str], folder: Path, *, stop_at_first: bool = True) -> tuple[Result, str]:
    notes = _Notes()
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--timeout={LONGEST_TEST}"]
    options += ["--basetemp", str(folder / "tmp"), "--rootdir", str(ROOT)]
    # The foundations are loaded before pytest could have its way with them.
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    options += ["-x"] if stop_at_first else []
    status = pytest.main([*options, *(str(ROOT / test) for test in tests)], plugins=[notes])
    if notes.uncollected or status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        sys.stdout.flush()
        return "broken", (folder / "output").read_text()[-3000:]
    if notes.failed:
        return "found", ", ".join(notes.failed)
    if not notes.passed:
        return "broken", f"every named test was skipped: {', '.join(tests)}"
    return "SURVIVED", f"{notes.passed} tests passed"


def _try_schedules(fault: Fault, bound: Schedules, folder: Path) -> tuple[Result, str]:
    """Play schedules with the fault until one breaks an invariant; then play that one without it."""
    result, said = _nested(lambda: _play(fault, bound), folder / "with")
    if result != "found":
        return result, said
    seed, _, invariant = said.partition(" ")
    if invariant not in bound.invariants:
        return "SURVIVED", f"seed {seed} broke `{invariant}`, which is not what the fault is about"
    clean, why = _nested(lambda: _play(None, bound, int(seed)), folder / "without")
    if clean != "SURVIVED":
        return "broken", f"seed {seed} fails without the fault too: {why}"
    return "found", f"seed {seed} broke `{invariant}`"


def _nested(work: Callable[[], tuple[Result, str]], folder: Path) -> tuple[Result, str]:
    folder.mkdir()
    pid = os.fork()
    if not pid:
        _child(work, folder)
    os.waitpid(pid, 0)
    return _said(folder)


def _play(fault: Fault | None, bound: Schedules, only: int | None = None) -> tuple[Result, str]:
    if fault is not None:
        fault.plant()
    scenario: Any = importlib.import_module("tests.simulation.scenario")
    schedule: Any = importlib.import_module("tests.simulation.schedule")
    for seed in range(bound.within) if only is None else (only,):
        try:
            schedule.run(seed, scenario.Scenario(**bound.trouble))
        except schedule.Failed as failed:
            return "found", f"{seed} {failed.invariant}"
    return "SURVIVED", f"{bound.within} schedules held"
