"""A controller that hands its request in again, and requests that we lost or can't read."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy as sa

from orchestrator.store.tables import sagas
from tests.integration.opendsr_world import World, world_in


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
