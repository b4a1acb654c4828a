"""When a request ends its key goes, with every copy within reach, and what hangs on it stays in order."""

import pytest

from orchestrator.privacy import KeyDestroyed
from orchestrator.store import StoredKeys
from schemas import topics
from schemas.codec import encode
from schemas.messages import Decision
from tests.unit.service_world import DAY, NOW, World, world

__all__ = ["world"]


def cancelled(world: World) -> str:
    """A request that was cancelled; its key is destroyed with the next timers."""
    request = world.request()
    decision = Decision(
        event_id="cancel",
        request_id=request.request_id,
        action="cancel",
        reason="taken back",
        decided_by="dpo",
        decided_at=NOW,
    )
    world.publish(topics.REQUESTS, encode(request))
    world.orchestrator.step(0.0)
    world.publish(topics.DECISIONS, encode(decision))
    world.orchestrator.step(0.0)
    assert world.keys.key_of(request.request_id)
    world.now += 2 * DAY
    return request.request_id


def test_the_key_goes_with_the_request(world: World) -> None:
    """In the transaction that ends it, and no sooner."""
    request_id = cancelled(world)
    world.orchestrator.step(0.0)
    saga = world.store.saga(request_id)
    assert saga is not None
    assert "cancelled" == saga.status
    with pytest.raises(KeyDestroyed):
        world.keys.key_of(request_id)


def test_the_log_is_cut_until_no_copy_of_a_key_is_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each start, since the life before may have died over it; and after each key, as often as it
    takes: a reader may keep the log from being cut.
    """
    request_id = cancelled(world)
    answers: list[bool] = []
    asked: list[str] = []

    def shred(_: StoredKeys) -> bool:
        saga = world.store.saga(request_id)
        asked.append("none" if saga is None else saga.status)
        return answers.pop(0)

    monkeypatch.setattr(StoredKeys, "shred", shred)
    answers += [False, True]
    orchestrator = world.restarted()
    world.now -= 2 * DAY
    for _ in range(3):
        orchestrator.step(0.0)
    assert ["closing", "closing"] == asked
    world.now += 2 * DAY
    answers += [False, False, True]
    for _ in range(5):
        orchestrator.step(0.0)
    assert ["cancelled"] * 3 == asked[2:]
