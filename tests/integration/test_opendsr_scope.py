"""What a controller names in its request over OpenDSR, and what becomes of a request that it took back."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.integration.opendsr_world import PERSON, World, world_in
from tests.integration.test_opendsr import open_and_hold, reason

#: What the controller calls its systems; only the third one is configured.
NAMED = ["Kassan", "canary.shop@byggab.example", "tenant_byggab", "Kassan", "tenant_malarbygg"]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with world_in(tmp_path, monkeypatch) as made:
        yield made


def run(call: Callable[..., Any], *arguments: Any) -> Any:
    return anyio.run(call, *arguments)


def asked(world: World, named: Any) -> tuple[Any, str, dict[str, Any]]:
    """A request that names these systems: the controller, the request's id, and our answer."""
    controller = world.controller()
    id_ = "a7551968-d5d6-44b2-9831-815ac9017798"
    extensions = {"radera": {"systems": named}}
    content = run(lambda: controller.ask(id_, ("email", PERSON, "raw"), extensions=extensions))
    return controller, id_, content


def test_a_system_that_is_not_configured_is_named_back_in_the_controllers_own_words(world: World) -> None:
    """Also another tenant's, which this controller doesn't have. Further inside its place alone is known."""
    controller, id_, content = asked(world, NAMED)
    expected = [NAMED[0], NAMED[1], NAMED[3], NAMED[4]]
    assert expected == content["extensions"]["radera"]["not_configured"]

    world.settle()
    places = ["1_of_5", "2_of_5", "4_of_5", "5_of_5"]
    saga = world.saga()
    assert [(place, place) for place in places] == [
        (one.system, one.code) for one in saga.escalations if one.reason == "unknown_system"
    ]
    status = run(controller.status, id_)
    assert ("in_progress", places) == (
        status["request_status"],
        status["extensions"]["radera"]["not_configured"],
    )
    assert "failed" == status["extensions"]["radera"]["result"]
    kept = repr(saga) + repr(world.installation.ground.store.timeline(saga.request_id))
    assert all(name not in kept for name in (NAMED[0], NAMED[1], NAMED[4]))


def test_the_systems_that_it_has_are_searched_and_no_others(world: World) -> None:
    """It may name all that it has; then nothing is named back."""
    _, _, content = asked(world, ["tenant_byggab"])
    assert "extensions" not in content
    world.settle()
    assert ["tenant_byggab"] == [step.system for step in world.saga().steps]
    assert "completed" == world.saga().status


@pytest.mark.parametrize("named", [[], "crm", [""], ["x" * 101], [7], ["x"] * 51])
def test_a_list_that_is_none_is_refused(world: World, named: Any) -> None:
    """With the name of the field, and nothing of what stood in it."""
    controller = world.controller()
    content = controller.request("a7551968-d5d6-44b2-9831-815ac9017798", ("email", PERSON, "raw"))
    content["extensions"] = {"radera": {"systems": named}}
    answer = run(controller.post, content)
    assert (400, "extensions.radera.systems") == (
        answer.status_code,
        answer.json()["error"]["errors"][0]["domain"],
    )


def test_a_request_that_was_cancelled_is_not_taken_once_more_under_its_id(world: World) -> None:
    """Erase, cancel, erase in one body: the third would be answered as taken, and nothing would be done."""
    controller = world.controller()
    content = controller.request("a7551968-d5d6-44b2-9831-815ac9017798", ("email", PERSON, "raw"))
    assert [201, 201] == [run(controller.post, content).status_code for _ in range(2)]
    open_and_hold(world)
    run(controller.checked, run(controller.cancel, content["subject_request_id"]), 202)
    world.settle()
    assert "cancelled" == world.saga().status
    again = run(controller.post, content)
    assert (409, "cancelled_before") == (again.status_code, reason(again))
