"""The simulation finds what is wrong: each of these defects, planted at one place, breaks an invariant.

One in three is tried each time, another third with each commit; `make mutants` tries all.
"""

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.simulation.planted import PLANTED, planted
from tests.simulation.schedule import Failed, run

#: Whoever sets this has all of them tried.
ALL: Final = "RADERA_TEST_ALL_DEFECTS"
_THIRDS: Final = 3


def _tried() -> list[str]:
    if os.environ.get(ALL):
        return list(PLANTED)
    counted = subprocess.run(
        ["git", "rev-list", "--count", "HEAD"],  # noqa: S607  git is found on the path, wherever it is
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    turn = int(counted.stdout) if counted.returncode == 0 else 0
    return list(PLANTED)[turn % _THIRDS :: _THIRDS]


@pytest.mark.timeout(480)
@pytest.mark.parametrize("name", _tried())
def test_a_planted_defect_is_found(name: str) -> None:
    """Within the stated number of schedules, and by the invariant that is about it; without it they hold."""
    found: Failed | None = None
    with planted(name) as defect:
        for seed in range(defect.within):
            try:
                run(seed, defect.scenario)
            except Failed as failed:
                found = failed
                break
    assert found is not None
    assert found.invariant in defect.found_by
    run(found.seed, defect.scenario)
