"""Where a run's chances come from: a new seed each time at home, the same under CI; RADERA_TEST_SEED sets
it.
"""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.installation import Installation, installed
from tests.ci import cannot_run, under_ci
from tests.integration.kafka_server import CannotStart, must_run_here
from tests.integration.postgresql_server import NoServer


@pytest.fixture
def seed() -> int:
    given = os.environ.get("RADERA_TEST_SEED")
    if given is not None:
        return int(given)
    return 1 if under_ci() else random.randrange(10**6)


@contextmanager
def servers() -> Iterator[None]:
    """Skips what needs servers of its own where there can be none; under CI that is a failure."""
    must_run_here()
    try:
        yield
    except (CannotStart, NoServer) as why:
        cannot_run(str(why))


@pytest.fixture
def here() -> Iterator[None]:
    """Servers can be started on this machine."""
    with servers():
        yield


@pytest.fixture
def installation(tmp_path: Path, here: None, request: pytest.FixtureRequest) -> Iterator[Installation]:
    """Servers that run, and no role yet. `@pytest.mark.parametrize` with `indirect` changes the settings."""
    changes: Any = getattr(request, "param", ())
    with installed(tmp_path / "run", changes=changes) as made:
        yield made
