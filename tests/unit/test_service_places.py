"""What is remembered about a place on the bus is about the record that was there, not about its number."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.bus.port import Bus, Delivery
from orchestrator.position import Mark, Position, reaches
from orchestrator.saga.events import RequestUnreadable
from orchestrator.service.dead_letters import DEALT_WITH, open_letters
from orchestrator.service.early import Early
from orchestrator.service.held import Held
from orchestrator.service.outbound import dead_letter
from orchestrator.store import StoredSent
from orchestrator.store.tables import sagas
from schemas import topics
from tests.unit.service_world import NOW, World, count, delivered, world

__all__ = ["world"]

OLD = Mark(7, "a", NOW - 5).text
NEW = Mark(7, "b", NOW).text


def at_the_place(mark: str, *, later: int = 0, topic: str = topics.REQUESTS) -> Delivery:
    """A record that can't be read, at one and the same offset."""
    return replace(delivered(topic, b"rubbish"), mark=mark, timestamp=NOW - 5 + later)


def test_a_new_unreadable_request_at_an_old_place_is_opened(world: World) -> None:
    """The topic was made anew, and its offsets began again: it is another person's."""
    world.orchestrator._consume([at_the_place(OLD)])
    world.orchestrator._consume([at_the_place(NEW, later=5)])
    world.orchestrator._consume([at_the_place(NEW, later=5), at_the_place(OLD)])
    assert 2 == count(world, sagas)


def test_an_unreadable_request_of_an_earlier_version_is_not_opened_twice(world: World) -> None:
    """Its id was made of the offset alone. Whatever came there since was published at another time."""
    world.orchestrator._consume([at_the_place("")])
    world.orchestrator._consume([at_the_place(OLD)])
    assert 1 == count(world, sagas)
    world.orchestrator._consume([at_the_place(NEW, later=5)])
    assert 2 == count(world, sagas)


def test_a_record_that_could_not_be_parsed_is_named_alike_each_time(world: World) -> None:
    """It has no time of its own, and is dated by when it was met."""
    mark = Mark(7, "a").text
    first, again = (world.reader.read(at_the_place(mark, later=later)).event for later in (0, 9))
    assert isinstance(first, RequestUnreadable)
    assert isinstance(again, RequestUnreadable)
    assert (first.event_id, first.request_id) == (again.event_id, again.request_id)


def test_dead_letters_of_two_records_at_one_place_are_two() -> None:
    """While the first waits in the outbox, the second must not pass for it."""
    ids = {dead_letter(at_the_place(mark), "code", bytes, "").event_id for mark in (OLD, NEW, NEW)}
    assert 2 == len(ids)


class _Letters:
    """A bus that holds these."""

    def __init__(self, *letters: Delivery) -> None:
        self._letters = letters

    def browse(self, _: Collection[str]) -> Iterator[Delivery]:
        yield from self._letters


def still_open(world: World, letter: Delivery) -> bool:
    return bool(list(open_letters(world.store, cast(Bus, _Letters(letter)), [letter.topic])))


def test_a_new_dead_letter_at_a_discarded_ones_place_is_listed(world: World) -> None:
    """And the discarded one is not."""
    letter = at_the_place(OLD, topic=topics.dead_letters(topics.REQUESTS))
    assert still_open(world, letter)
    StoredSent(world.store, DEALT_WITH).record(letter.place)
    assert not still_open(world, letter)
    assert still_open(world, replace(letter, mark=NEW))


def test_a_letter_that_an_earlier_version_discarded(world: World) -> None:
    """It was noted by its offset alone: what was left there afterwards is another."""
    letter = at_the_place(OLD, topic=topics.dead_letters(topics.REQUESTS))
    StoredSent(world.store, DEALT_WITH).record(f"{letter.topic}/2/7")
    assert not still_open(world, letter)
    assert still_open(world, replace(letter, mark=NEW, timestamp=NOW + 1))


@pytest.mark.parametrize(
    ("position", "has_read"),
    [
        (Position(9, Mark(8, "a").text), True),
        (Position(7, Mark(6, "a").text), False),
        (Position(9, Mark(8, "b").text), False),
        (9, True),
    ],
)
def test_whoever_read_another_topic_has_not_read_this(position: int, has_read: bool) -> None:
    """A key is needed, and an early answer waits, until the topic that is there now was read."""
    end = Position(8, Mark(7, "a").text)
    assert has_read == reaches(position, end)
    place = (topics.REQUESTS, 0)
    early = Early(held=lambda: Held({place: end}), positions=lambda: {place: position}, clock=lambda: NOW)
    waits = cast(
        Any,
        SimpleNamespace(
            delivery=at_the_place(OLD, topic=topics.CONFIRMATIONS), generation=None, correlation=None
        ),
    )
    early.keep([waits], [waits], {})
    assert has_read == bool(early.ripe(lambda _: True, 10))
