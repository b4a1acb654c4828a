"""The places of a system: where the search looked the proof must look, too, and all of them are told."""

from typing import Any

import pytest

from orchestrator.saga.clocks import DAY
from orchestrator.saga.model import Place
from orchestrator.saga.rules import HOUR, Retry, SystemPlan
from tests.unit.saga_world import CRM, TENANT, WEB, World

ROWS = Place(name="rows", looked=True, by={"email": 2})
BIN = Place(name="bin", looked=True)
CHAT = Place(name="chat", looked=False, reason="not_configured")


def started(*plans: SystemPlan, **changes: Any) -> World:
    world = World(*plans, **changes)
    world.request(tenant="acme")
    return world


def erased(world: World, *places: Place) -> World:
    world.answer("web", "located", places=places)
    world.answer("web", "accepted")
    return world


@pytest.mark.parametrize(
    "places",
    [
        pytest.param((ROWS, CHAT), id="one is not spoken of"),
        pytest.param(
            (ROWS, Place(name="bin", looked=False, reason="not_searchable"), CHAT), id="one is left out"
        ),
        pytest.param((Place(name="rows", looked=True, by={"email": 1}), BIN), id="by fewer addresses"),
        pytest.param((Place(name="rows", looked=True, by={"phone": 2}), BIN), id="by other identifiers"),
        pytest.param((), id="none is spoken of"),
    ],
)
def test_a_proof_in_fewer_places_ends_nothing(places: tuple[Place, ...]) -> None:
    """It is tried again, and then the DPO is asked; nothing that it says of the rest counts."""
    world = erased(started(WEB, retry=Retry(max_attempts=2)), ROWS, BIN, CHAT)
    world.answer("web", "proved", places=places)
    assert ("retrying", 1) == (world.status("web"), world.step("web").failures)
    world.tick()
    world.answer("web", "proved", places=places)
    one = world.question("failed")
    assert ("awaiting_decision", "proof_in_fewer_places") == (world.status("web"), one.code)
    world.dpo("retry", "failed")
    world.answer("web", "proved", places=(ROWS, BIN, CHAT))
    assert "erased" == world.status("web")


@pytest.mark.parametrize(
    "places",
    [
        pytest.param((ROWS, BIN, CHAT), id="the same"),
        pytest.param((BIN, ROWS), id="without a word of what nobody searched"),
        pytest.param((Place(name="rows", looked=True, by={"email": 3, "phone": 1}), BIN, CHAT), id="by more"),
        pytest.param((ROWS, BIN, Place(name="chat", looked=True)), id="in more"),
    ],
)
def test_a_proof_in_as_many_places_ends_the_step(places: tuple[Place, ...]) -> None:
    """More may be looked at than was searched."""
    world = erased(started(WEB), ROWS, BIN, CHAT)
    world.answer("web", "proved", places=places)
    assert "erased" == world.status("web")


def test_where_no_places_are_declared_nothing_is_compared() -> None:
    """A handler that declares none reports none, with the search and with the proof."""
    world = erased(started(WEB))
    world.answer("web", "proved", places=(ROWS,))
    assert "erased" == world.status("web")


def test_each_place_is_told_as_last_seen() -> None:
    """What the search said of a place stays until the proof says something of it."""
    world = erased(started(CRM, WEB), ROWS, BIN, CHAT)
    assert (ROWS, BIN, CHAT) == world.step("web").places
    seen = Place(name="chat", looked=True, by={"email": 2})
    unread = Place(name="bin", looked=False, reason="not_searchable")
    world.answer("web", "proved", places=(unread, seen))
    assert (ROWS, unread, seen) == world.step("web").places


def test_an_older_answer_does_not_take_back_what_a_newer_one_saw() -> None:
    """A search, or the proof itself, that was delivered twice says after the end that it left a place out."""
    world = erased(started(CRM, WEB), ROWS)
    world.answer("web", "proved", places=(ROWS, BIN))
    assert "erased" == world.status("web")
    late = Place(name="bin", looked=False, reason="not_searchable")
    for attempt, kind in ((3, "proved"), (1, "located")):
        world.answer("web", kind, attempt=attempt, places=(ROWS, late))
        assert (BIN,) == tuple(one for one in world.step("web").places if one.name == "bin")


@pytest.mark.parametrize("first", [1, 2])
def test_each_search_since_the_beginning_counts(first: int) -> None:
    """Two searches were out, and each went further in one place: the proof goes as far as both."""
    less = Place(name="rows", looked=True, by={"email": 1})
    reached = {1: (ROWS, Place(name="bin", looked=False, reason="not_searchable")), 2: (less, BIN)}
    world = started(WEB)
    world.until(world.now + 2 * DAY)
    world.dpo("retry", "no_answer")
    for attempt in (first, 3 - first):
        world.answer("web", "located", attempt=attempt, places=reached[attempt])
    world.answer("web", "accepted")
    world.answer("web", "proved", places=(less, BIN))
    assert "retrying" == world.status("web")
    world.tick()
    world.answer("web", "proved", places=(ROWS, BIN))
    assert "erased" == world.status("web")


def test_a_supplement_searches_and_proves_anew() -> None:
    """What the first search reached, by fewer identifiers, is no measure for the proof of the second."""
    world = started(CRM, WEB)
    world.answer("web", "located", places=(ROWS, BIN))
    world.supplement(tenant="acme")
    assert () == world.step("web").places
    world.answer("web", "located", attempt=1, places=(ROWS, BIN))
    assert () == world.step("web").places
    more = Place(name="rows", looked=True, by={"email": 3})
    world.answer("web", "located", places=(more,))
    world.answer("web", "accepted")
    world.answer("web", "proved", places=(more,))
    assert "erased" == world.status("web")


def test_a_controllers_step_is_measured_by_its_own_search() -> None:
    """It was passed on first, and searched once the controller had instructed us."""
    world = started(TENANT)
    world.answer("tenant", "awaiting_party", places=(CHAT,))
    world.callback("tenant", "instructed")
    world.answer("tenant", "located", places=(ROWS,))
    world.answer("tenant", "accepted")
    world.answer("tenant", "proved", places=(CHAT,))
    assert "retrying" == world.status("tenant")


def test_a_place_that_cannot_be_read_is_tried_again_and_then_asked_about_by_name() -> None:
    """It never counts as empty; the DPO reads which place it is."""
    world = started(WEB, retry=Retry(max_attempts=3))
    for _ in range(2):
        world.answer("web", "failed", code="place_unreadable.archive", retryable=True)
        assert "retrying" == world.status("web")
        world.until(world.now + HOUR)
    world.answer("web", "failed", code="place_unreadable.archive", retryable=True)
    assert "place_unreadable.archive" == world.question("failed").code
    assert ["place_unreadable.archive"] == [one.code for one in world.outcomes("escalated")]
