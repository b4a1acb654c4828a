"""The simulation finds what is wrong: each of these defects, planted at one place, breaks an invariant."""

import pytest

from tests.simulation.planted import PLANTED, planted
from tests.simulation.schedule import Failed, run


@pytest.mark.timeout(200)
@pytest.mark.parametrize("name", PLANTED)
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
