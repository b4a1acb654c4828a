"""Worlds for the tests with real processes, and what is shown of them when a test fails.

The seed is random at home and the same under CI; RADERA_TEST_SEED sets it.
"""

import os
import random
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.ci import under_ci
from tests.integration.world import World, world_in

_WORLD = pytest.StashKey[World]()


@pytest.fixture
def seed() -> int:
    """Where a test's chances come from."""
    given = os.environ.get("RADERA_TEST_SEED")
    if given is not None:
        return int(given)
    return 1 if under_ci() else random.randrange(10**6)


@pytest.fixture
def world(tmp_path: Path, seed: int, request: pytest.FixtureRequest) -> Iterator[World]:
    """A new installation with its vendors; Radera is not running yet. `@pytest.mark.parametrize` with
    `indirect` gives it other settings.
    """
    with world_in(tmp_path, seed, **getattr(request, "param", {})) as made:
        request.node.stash[_WORLD] = made
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows the seed, what was done and the end of the log."""
    report = yield
    if call.when == "call" and report.failed and _WORLD in item.stash:
        report.sections.append(("world", item.stash[_WORLD].report()))
    return report
