"""The planted faults are in order, and the tests find those that are tried each time."""

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.planted.catalogue import every
from tests.planted.fault import ROOT, Broken, Schedules

#: `make mutants` tries all.
TRIED = 20
ENOUGH = 150
PARTS = 4


def test_there_are_enough_faults_each_under_a_name_of_its_own() -> None:
    """A fault is known by its name, in the progress that is kept and in what is printed."""
    names = Counter(one.name for one in every())
    assert [] == [name for name, times in names.items() if times > 1]
    assert ENOUGH <= len(names)


def test_every_fault_can_be_planted() -> None:
    """Code moves: a fault whose place is gone would be tried no more, and nobody would notice."""
    broken = []
    for fault in every():
        try:
            fault.code()
        except Broken as error:
            broken.append(f"{fault.name}: {error}")
    assert [] == broken


def test_every_fault_names_tests_that_are_there() -> None:
    """Or says why no test can find it; not both."""
    assert [] == [one.name for one in every() if bool(one.found_by) == bool(one.harmless)]
    tests = {test for one in every() if not isinstance(one.found_by, Schedules) for test in one.found_by}
    assert [] == [test for test in sorted(tests) if not _exists(test)]


def _exists(test: str) -> bool:
    name, _, rest = test.partition("::")
    return rest.partition("[")[0] in _defined(name)


@cache
def _defined(name: str) -> frozenset[str]:
    """The tests of a module, as pytest names them; those of its classes with what a suite gives them."""
    path = ROOT / name
    body = ast.parse(path.read_text()).body if path.is_file() else []
    classes = [one for one in body if isinstance(one, ast.ClassDef)]
    inherited = _inherited(path)
    return frozenset(
        {*_functions(body)}
        | {f"{one.name}::{test}" for one in classes for test in (*_functions(one.body), *inherited)}
    )


def _functions(body: list[ast.stmt]) -> list[str]:
    return [one.name for one in body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]


def _inherited(path: Path) -> set[str]:
    """The tests of the suites beside it, which a module's classes may be made of."""
    return {
        name
        for suite in sorted(path.parent.glob("*_suite.py"))
        for name in re.findall(r"def (test_\w+)", suite.read_text())
    }


@pytest.mark.timeout(480)
@pytest.mark.parametrize("part", range(PARTS))
def test_the_tests_find_what_is_planted(part: int) -> None:
    """Twenty each time, those in changed files first. A test that no longer finds its fault is no test."""
    program = [sys.executable, "-m", "tests.planted", "--again", "--jobs=1"]
    tried = subprocess.run(
        [*program, f"--some={TRIED}", f"--part={part}/{PARTS}"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == tried.returncode, tried.stdout + tried.stderr
