"""What is kept for how long: each part of the settings counts for its own records, and for no others."""

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.saga.model import Finished, InProgress, Saga
from orchestrator.service.housekeeping import EVERY, Housekeeping
from orchestrator.settings import Retention, micros
from orchestrator.store import Asked, AskedRequests, StoredSent
from tests.unit.service_world import DAY, NOW, World, world

__all__ = ["world"]

#: Each part by itself, so that one taken for another shows.
KEPT = Retention(
    requests=timedelta(days=50),
    subject_digest=timedelta(days=40),
    events=timedelta(days=30),
    messages=timedelta(days=10),
    dead_letters=timedelta(days=20),
)
ENDED = Saga(
    request_id="ended",
    version=1,
    state=Finished(status="completed", at=NOW),
    received_at=NOW,
    due_at=NOW,
    source="web",
    subject_digest="5" * 64,
    content_digest="6" * 64,
)


def kept_after(world: World, days: int) -> dict[str, bool]:
    """What is still there after so many days."""
    trimmed: list[tuple[int, int]] = []
    house = Housekeeping(
        store=world.store, bus=world.bus, retention=KEPT, trim_bus=lambda *before: trimmed.append(before)
    )
    register = AskedRequests(world.store)
    still_open = replace(ENDED, request_id="open", state=InProgress(until=NOW + 900 * DAY))
    with world.store.begin() as transaction:
        transaction.save([ENDED, still_open])
        for consumer in ("orchestrator", "mailbox", "agency-mails"):
            transaction.insert_inbox(consumer, ["event"])
    for consumer in ("links", "dead-letters"):
        StoredSent(world.store, consumer).record("event")
    world.keys.insert("00000000-0000-4000-8000-000000000001", bytes(32))
    register.file(
        Asked(
            request_id="never",
            system="shop",
            subject_request_id="x",
            version="2",
            body=None,
            received_at=NOW,
            expected_at=NOW,
        ),
        [],
    )
    world.now += days * DAY + 1
    house.step()
    ended = world.store.saga("ended")
    assert [(world.now - micros(KEPT.messages), world.now - micros(KEPT.dead_letters))] == trimmed
    assert world.store.saga("open") == still_open
    with world.store.begin() as transaction:
        seen = {
            one: transaction.has_seen(one, "event")
            for one in ("orchestrator", "mailbox", "agency-mails", "links", "dead-letters")
        }
    return {
        **seen,
        "request": ended is not None,
        "digest": ended is not None and bool(ended.subject_digest),
        "asked": register.find("never") is not None,
        "orphan": bool(world.keys.generations()),
    }


@pytest.mark.parametrize(
    ("days", "gone"),
    [
        (29, set()),
        (30, {"orchestrator", "mailbox", "agency-mails", "asked", "orphan"}),
        (40, {"orchestrator", "mailbox", "agency-mails", "asked", "orphan", "digest"}),
        (
            50,
            {
                "orchestrator",
                "mailbox",
                "agency-mails",
                "asked",
                "orphan",
                "digest",
                "request",
                "links",
                "dead-letters",
            },
        ),
    ],
)
def test_each_part_of_the_retention_counts_for_its_own(world: World, days: int, gone: set[str]) -> None:
    """Events, then the digests, then the requests, and with them the links that were used; what is open stays
    whatever its age.
    """
    kept = kept_after(world, days)
    assert gone == {name for name, is_there in kept.items() if not is_there}


def test_the_house_is_kept_once_an_hour(world: World) -> None:
    """Not with each step: the look is a transaction."""
    trimmed: list[int] = []
    house = Housekeeping(
        store=world.store,
        bus=world.bus,
        retention=KEPT,
        trim_bus=lambda messages, _: trimmed.append(messages),
    )
    for later in (0, EVERY - 1, 1, EVERY):
        world.now += later
        house.step()
    assert 3 == len(trimmed)


def test_a_round_that_is_still_to_come_keeps_no_house_waiting(world: World) -> None:
    """It was done under a clock that has been put back since."""
    trimmed: list[int] = []
    house = Housekeeping(
        store=world.store,
        bus=world.bus,
        retention=KEPT,
        trim_bus=lambda messages, _: trimmed.append(messages),
    )
    world.now += 365 * DAY
    house.step()
    world.now -= 365 * DAY
    house.step()
    assert 2 == len(trimmed)


def test_the_house_is_not_kept_by_a_time_that_is_not_plausible(world: World) -> None:
    """And at once when it is."""
    trimmed: list[int] = []
    is_plausible = False
    house = Housekeeping(
        store=world.store,
        bus=world.bus,
        retention=KEPT,
        trim_bus=lambda messages, _: trimmed.append(messages),
        is_plausible=lambda: is_plausible,
    )
    house.step()
    assert [] == trimmed
    is_plausible = True
    house.step()
    assert 1 == len(trimmed)
