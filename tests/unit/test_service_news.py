"""What a vendor says unasked, about a record whose request isn't known yet, or is nobody's."""

import pytest

from orchestrator.service import early
from orchestrator.service.early import NEWS_PATIENCE
from orchestrator.store.tables import inbox
from schemas import topics
from schemas.codec import encode
from schemas.messages import Confirmation
from tests.unit.service_world import NOW, World, count, world

__all__ = ["world"]

CONTACT = "c" * 64


def news(number: int = 1, correlation: str = CONTACT) -> bytes:
    """A vendor's signed word that it purged a record, as a worker passes it on."""
    return encode(
        Confirmation(
            event_id=f"news:{number}",
            request_id=None,
            system=None,
            correlation=correlation,
            kind="proved",
            grade="vendor_stated",
            end="erased",
            occurred_at=NOW,
        )
    )


def found(request_id: str) -> bytes:
    """The search's answer, which says by what correlation its record is known."""
    return encode(
        Confirmation(
            event_id="cmd/located",
            request_id=request_id,
            system="crm",
            command_id="cmd",
            verb="locate",
            kind="located",
            found=1,
            correlations=(CONTACT,),
            occurred_at=NOW,
        )
    )


def letters(world: World) -> int:
    world.relay.step()
    return len(world.records(topics.dead_letters(topics.CONFIRMATIONS)))


def unasked(world: World) -> float | None:
    return world.metrics.registry.get_sample_value("radera_callbacks_unasked_total")


def begun(world: World) -> str:
    request = world.request()
    world.publish(topics.REQUESTS, encode(request))
    world.orchestrator.step(0.0)
    return request.request_id


def test_news_that_comes_before_its_record_is_known_counts(world: World) -> None:
    """The webhook came while the search was being stored. It waits, and counts when its time is over."""
    request_id = begun(world)
    world.publish(topics.CONFIRMATIONS, news())
    world.orchestrator.step(0.0)
    world.now += 30_000_000
    world.publish(topics.CONFIRMATIONS, found(request_id))
    world.orchestrator.step(0.0)
    before = len(world.actions(request_id))
    world.now += NEWS_PATIENCE
    world.orchestrator.step(0.0)
    told = [entry.data.get("trigger") for entry in world.store.timeline(request_id)[before:]]
    assert "proved" in told
    assert (0, 0) == (unasked(world), letters(world))


def test_news_about_nobody_who_asked_is_counted_and_dropped(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """People are deleted at a vendor for reasons of its own: no dead letter, no alarm, nothing kept."""
    begun(world)
    world.publish(topics.CONFIRMATIONS, news(1), news(2))
    world.orchestrator.step(0.0)
    assert 0 == unasked(world)
    world.now += NEWS_PATIENCE - 1
    world.orchestrator.step(0.0)
    assert 0 == unasked(world)
    seen = count(world, inbox)
    world.now += 1
    with caplog.at_level("INFO"):
        world.orchestrator.step(0.0)
    assert (2, 0, seen) == (unasked(world), letters(world), count(world, inbox))
    assert [2] == [vars(one)["count"] for one in caplog.records if one.message == "callbacks_unasked"]
    # Its place is behind it: nothing of it is read again.
    world.orchestrator.close()
    world.restarted().step(0.0)
    world.now += NEWS_PATIENCE
    world.orchestrator.step(0.0)
    assert 2 == unasked(world)


def test_news_survives_a_restart_while_it_waits(world: World) -> None:
    """It is read again, since no position has passed it, and waits anew."""
    request_id = begun(world)
    world.publish(topics.CONFIRMATIONS, news())
    world.orchestrator.step(0.0)
    world.orchestrator.close()
    world.restarted().step(0.0)
    world.publish(topics.CONFIRMATIONS, found(request_id))
    world.orchestrator.step(0.0)
    world.now += NEWS_PATIENCE
    world.orchestrator.step(0.0)
    assert 0 == unasked(world)
    assert "proved" in [entry.data.get("trigger") for entry in world.store.timeline(request_id)]


def test_dropped_news_counts_when_it_is_repeated(world: World) -> None:
    """The vendor says it again, after a search that took very long: it is not taken for one that was seen."""
    request_id = begun(world)
    world.publish(topics.CONFIRMATIONS, news())
    world.orchestrator.step(0.0)
    world.now += NEWS_PATIENCE
    world.orchestrator.step(0.0)
    assert 1 == unasked(world)
    world.publish(topics.CONFIRMATIONS, found(request_id))
    world.orchestrator.step(0.0)
    world.publish(topics.CONFIRMATIONS, news())
    world.orchestrator.step(0.0)
    assert "proved" in [entry.data.get("trigger") for entry in world.store.timeline(request_id)]


def test_a_flood_of_news_is_held_in_bounds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody deletes people at a vendor by the thousand: the oldest wait no longer, and others' answers are
    not held up.
    """
    monkeypatch.setattr(early, "MOST_NEWS", 3)
    begun(world)
    world.publish(topics.CONFIRMATIONS, *(news(number) for number in range(10)))
    world.orchestrator.step(0.0)
    world.orchestrator.step(0.0)
    assert (7, 0) == (unasked(world), letters(world))
