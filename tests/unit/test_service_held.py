"""What topics held, and whether it is read: a log that was cut while nobody read it is not read."""

from collections.abc import Collection
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.bus.port import Bus, BusUnavailable, Positions, Record
from orchestrator.bus.sqlite import SqliteBus
from orchestrator.position import Mark, Position, mark_of
from orchestrator.service.early import Early
from orchestrator.service.held import Held, held
from orchestrator.service.housekeeping import Housekeeping
from orchestrator.service.needed import what_needs_keys
from orchestrator.service.orchestrator import GROUP
from schemas import topics
from schemas.codec import encode
from tests.unit.service_world import DAY, NOW, World, world
from tests.unit.test_service_orphans import KEPT

__all__ = ["world"]

PLACE = (topics.REQUESTS, 0)
BEFORE = Position(9, Mark(8, "a", 1).text)


class CutLog(SqliteBus):
    """A bus whose topic of requests was cut, and grew again, while no orchestrator ran: it holds a record
    that nobody has read, and ends before the position, or where that is.
    """

    #: How the looks followed each other.
    looks: list[str]

    def ends(self, topics: Collection[str]) -> Positions:
        self.looks = [*getattr(self, "looks", []), "ends"]
        return {PLACE: Position(9, Mark(8, "a").text)} if PLACE[0] in topics else {}

    def strays(self, positions: Positions) -> set[tuple[str, int]]:
        self.looks = [*getattr(self, "looks", []), f"strays {dict(positions)}"]
        return {place for place, at in positions.items() if mark_of(at) == BEFORE.mark}


def stands_at(world: World, position: Position) -> None:
    with world.store.begin() as transaction:
        transaction.set_positions(GROUP, {PLACE: position})


def waiting(world: World, bus: Bus) -> tuple[str, ...]:
    """What a rotation finds that was not read."""
    ticks = iter(range(10_000))
    needs = what_needs_keys(
        world.store, bus, world.keys, named=(), workers="w", patience=-1.0, now=lambda: next(ticks)
    )
    return needs.waiting


def test_a_rotation_waits_for_a_log_that_was_cut_and_grew_again(world: World) -> None:
    """The position reaches the end, and is of records that are gone: what is there now was not read. It is
    once the orchestrator has put its position right, and has come to the end.
    """
    bus = CutLog(world.engine, lambda: world.now)
    stands_at(world, BEFORE)
    assert (topics.REQUESTS,) == waiting(world, bus)
    assert [f"strays { ({PLACE: 9}) }", "ends"] == bus.looks[:2]
    stands_at(world, Position(9, Mark(8, "a", 2).text))
    assert () == waiting(world, bus)


@pytest.mark.parametrize(
    ("at", "unread"),
    [
        (BEFORE, {PLACE}),
        (Position(0), {PLACE}),
        (Position(5, Mark(4, "a", 2).text), {PLACE}),
        (Position(9, Mark(8, "a", 2).text), set()),
        (Position(12, Mark(11, "a", 2).text), set()),
    ],
)
def test_a_stray_position_has_read_nothing_until_it_is_put_right(
    at: Position, unread: set[tuple[str, int]]
) -> None:
    """Whatever its number. After that the ends tell, as they do elsewhere."""
    there = Held({PLACE: Position(9, Mark(8, "a").text)}, {PLACE: BEFORE})
    assert unread == there.unread({PLACE: at})


def test_positions_are_taken_before_the_ends(world: World) -> None:
    """Else one that has moved on meanwhile would be taken for one beyond the end. Of other topics' positions
    nothing is asked.
    """
    bus = CutLog(world.engine, lambda: world.now)
    there = held(bus, [topics.REQUESTS], {PLACE: BEFORE, ("other", 0): 3})
    assert ["strays {('erasure.requests.v1', 0): 9}", "ends"] == bus.looks
    assert {PLACE: BEFORE} == there.strays


def test_housekeeping_keeps_the_key_of_a_request_on_a_log_that_was_cut(world: World) -> None:
    """It was not read, wherever the position stands."""
    request = world.request()
    record = Record(topic=topics.REQUESTS, key=request.request_id, value=encode(request))
    world.bus.publish([record])
    stands_at(world, BEFORE)
    world.now += 40 * DAY
    Housekeeping(store=world.store, bus=CutLog(world.engine, lambda: world.now), retention=KEPT).step()
    assert world.keys.key_of(request.request_id)


def test_an_answer_waits_for_requests_on_a_log_that_was_cut() -> None:
    """Its request may be among those that nobody has read."""
    there = Held({PLACE: Position(9, Mark(8, "a").text)}, {PLACE: BEFORE})
    seen: dict[tuple[str, int], Position] = {PLACE: BEFORE}
    early = Early(held=lambda: there, positions=lambda: seen, clock=lambda: NOW)
    place = SimpleNamespace(topic=topics.CONFIRMATIONS, partition=0)
    one = cast(Any, SimpleNamespace(delivery=place, generation=None, correlation=None))
    early.keep([one], [one], {})
    assert [] == early.ripe(lambda _: True, 10)
    seen[PLACE] = Position(9, Mark(8, "a", 2).text)
    assert [one] == early.ripe(lambda _: True, 10)


def test_a_bus_that_does_not_tell_is_not_taken_for_one_that_agrees(world: World) -> None:
    """What can't be compared is not the same."""

    class Silent(CutLog):
        def strays(self, positions: Positions) -> set[tuple[str, int]]:
            raise BusUnavailable("no leader")

    with pytest.raises(BusUnavailable):
        held(Silent(world.engine, lambda: world.now), [topics.REQUESTS], {PLACE: BEFORE})
