"""A controller that hands its request in again, and requests that we lost or can't read."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy as sa

from orchestrator.intake import Producer
from orchestrator.privacy import Exchange, Identifier
from orchestrator.service.housekeeping import Housekeeping
from orchestrator.store import StoreUnavailable, Transaction
from orchestrator.store.tables import outbox, sagas
from schemas import topics
from schemas.codec import decode
from schemas.messages import Outcome
from tests.integration.opendsr_world import CALLBACK, PERSON, World, world_in


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with world_in(tmp_path, monkeypatch) as made:
        yield made


def run(call: Callable[..., Any], *arguments: Any) -> Any:
    return anyio.run(call, *arguments)


def test_a_request_that_cannot_be_read_keeps_nobody_from_hearing(world: World) -> None:
    """Its own controller hears nothing, since nobody knows; the next one's address is told all the same."""
    controller = world.controller()
    ids = []
    for _ in range(2):
        ids.append(world.ask(controller))
        world.installation.settle()
        world.clock.now += 1
    first = world.installation.sagas()[0].request_id
    with world.installation.ground.engine.begin() as connection:
        change = sa.update(sagas).where(sagas.c.request_id == first)
        connection.execute(change.values(document="{}"))
    world.tell()
    assert 1 == len({said["subject_request_id"] for said in controller.heard})
    assert "completed" == controller.heard[-1]["request_status"]


# --- handing in again ---


def test_another_body_takes_the_place_of_one_that_was_never_published(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The controller got 503, and posts with a new time: 201, one request, and its callbacks are those of the
    body that was taken.
    """

    def away(*_: Any) -> None:
        raise StoreUnavailable(database="radera")

    controller = world.controller()
    id_ = str(uuid.uuid4())
    first = controller.request(id_, ("email", PERSON, "raw"))
    first["status_callback_urls"] = [f"{CALLBACK}&first", f"{CALLBACK}&second"]
    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "enqueue", away)
        assert 503 == run(controller.post, first).status_code
    world.clock.now += 1_000_000
    second = controller.request(id_, ("email", PERSON, "raw"))
    assert 201 == run(controller.post, second).status_code
    world.settle()
    assert "completed" == world.saga().status
    assert {CALLBACK} == {url for url, _, _ in world.callbacks}
    assert 201 == run(controller.post, second).status_code
    assert 409 == run(controller.post, first).status_code


def test_a_request_that_the_bus_lost_is_published_again(world: World) -> None:
    """While nobody has opened it, every equal post publishes it; once it is opened, none does."""
    controller = world.controller()
    content = controller.request(str(uuid.uuid4()), ("email", PERSON, "raw"))
    assert 201 == run(controller.post, content).status_code
    with world.installation.ground.engine.begin() as connection:
        assert 1 == connection.execute(sa.delete(outbox)).rowcount
    world.settle()
    assert [] == world.installation.sagas()
    assert 201 == run(controller.post, content).status_code
    world.settle()
    assert "completed" == world.saga().status
    assert 201 == run(controller.post, content).status_code
    assert 0 == world.installation.relay.step()


def test_a_post_after_the_digest_is_gone_is_told_when_the_request_ended(world: World) -> None:
    """Nobody can tell any more whether it is the same."""
    controller = world.controller()
    content = controller.request(str(uuid.uuid4()), ("email", PERSON, "raw"))
    run(controller.post, content)
    world.settle()
    world.installation.later(days=100)
    ground = world.installation.ground
    Housekeeping(store=ground.store, bus=ground.bus, retention=ground.settings.retention).step()
    answer = run(controller.post, content)
    (error,) = answer.json()["error"]["errors"]
    assert (409, "ended_not_compared") == (answer.status_code, error["reason"])
    assert "subject_request_id: ended on 2026-08-31, not compared" == error["message"]
    assert 1 == len(world.installation.records(topics.REQUESTS))


# --- from a producer outside, after the end ---


def after_the_end(world: World, email: str, **later: int) -> tuple[list[str], list[str]]:
    """A producer's request, the same id again after its end; the codes of dead letters and of mails since."""
    ground, installation = world.installation.ground, world.installation
    producer = Producer(Exchange(ground.keyring).public_key(), source="form", clock=world.clock)
    made = producer.request([Identifier("email", PERSON)], verified=True, scope=("crm",))
    producer.publish(ground.bus, made)
    installation.settle()
    installation.later(hours=13)
    assert "completed" == world.saga().status
    installation.later(**later)
    Housekeeping(store=ground.store, bus=ground.bus, retention=ground.settings.retention).step()
    told = len(installation.records(topics.OUTCOMES))
    again = producer.request(
        [Identifier("email", email)], verified=True, scope=("crm",), request_id=made.request_id
    )
    producer.publish(ground.bus, again)
    installation.settle()
    said = [decode(one.value, Outcome) for one in installation.records(topics.OUTCOMES)[told:]]
    letters = [one.code for one in installation.dead_letters(topics.REQUESTS)]
    return letters, [f"{one.kind} {one.code}" for one in said]


def test_the_same_request_after_its_end_is_no_conflict(world: World) -> None:
    """It is completed already: nobody is mailed, and nothing is kept."""
    assert ([], []) == after_the_end(world, PERSON, hours=1)


def test_another_request_under_the_id_of_one_that_ended_is_a_conflict(world: World) -> None:
    """It may be another person's: it is kept, and the officer told."""
    conflict = "request_id_conflict"
    assert ([conflict], [f"corrected {conflict}"]) == after_the_end(world, f"other.{PERSON}", hours=1)


def test_what_cannot_be_compared_any_more_is_kept_and_told(world: World) -> None:
    """The digest of what was asked is gone: nobody can tell a repeat from another person's request."""
    code = "ended_not_compared"
    assert ([code], [f"corrected {code}"]) == after_the_end(world, PERSON, days=100)
