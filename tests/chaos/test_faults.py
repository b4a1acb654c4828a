"""Every fault once, while requests run: the short form of `make chaos`."""

from pathlib import Path

import pytest

from tests.chaos.play import Plan, play


@pytest.mark.timeout(600)  # a dead reader's records wait for its session to time out, each time
def test_everything_breaks_once(tmp_path: Path, here: None, seed: int) -> None:
    """Processes are killed and stopped, broker and database too, readers come and go, vendors and mail fail,
    records come twice and in any order, some are poison, master keys are rotated: every request ends as it
    should, every effect is there once, every completion is told and mailed, every poison record is a dead
    letter, nothing is stuck.
    """
    plan = Plan(
        requests=40,
        seed=seed,
        at_once=40,
        least_poison=2,
        is_long=False,
        has_registry=True,
        replicas=1,
        pause=(0.2, 1.0),
        patience=60.0,
    )
    result = play(plan, tmp_path / "run")
    assert 13 == len(result.faults)
