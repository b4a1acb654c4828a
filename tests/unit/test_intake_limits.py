"""What intake bounds: the size of what comes in, and how much of it nobody asked for."""

from orchestrator.intake.allowance import Allowance
from tests.unit.test_intake import FORM, World, signed


def test_a_webhook_that_is_too_long_is_refused() -> None:
    """Before it is anywhere."""
    world = World()
    assert 413 == signed(world, b"x" * (64 * 1024 + 1)).status_code
    assert [] == world.bus.records


def test_links_that_are_none_of_ours_use_up_nobodys_allowance() -> None:
    """A flood of made-up links must not keep an agency from answering."""
    world = World(Allowance(per_second=0.001, burst=1, monotonic=lambda: 0.0))
    for _ in range(5):
        assert 404 == world.client.post("/answer/nonsense", content="answer=erased", headers=FORM).status_code
    path = f"/answer/{world.token()}"
    assert 200 == world.client.post(path, content="answer=erased", headers=FORM).status_code
