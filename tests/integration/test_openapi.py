"""`deploy/openapi/serve.yaml` says what `radera serve` does: Schemathesis asks all that it allows.

It takes half a second to load, so one test asks about every operation, and one process of the tests loads it.
"""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from starlette.routing import Route

from orchestrator.intake.allowance import Allowance
from tests.integration.opendsr_world import BASE, PERSON, TOKEN, World, world_in

FILE = Path(__file__).parents[2] / "deploy" / "openapi" / "serve.yaml"
#: What is generated may be beyond what we take, and then is refused: so acceptance is not among them.
CHECKED = [
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One installation for all; it has no limit but the examples' number."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.intake.opendsr._OPENING", 0.0)
        with world_in(tmp_path_factory.mktemp("openapi"), patch) as made:
            made.parts.endpoints._allowance = Allowance(per_second=1e6, burst=1_000_000)
            yield made


@pytest.fixture(scope="module")
def known(world: World) -> dict[str, list[str]]:
    """Values that lead somewhere, by parameter: what is made up alone would find nothing behind any door."""
    controller = world.controller()
    pending = world.ask(controller)
    done = world.ask(controller)
    world.settle()
    pending = world.ask(controller)
    links, now = world.installation.ground.links, world.clock()
    link = links.make(str(uuid.uuid4()), "agency", 1, now + 10**12)
    expired = links.make(str(uuid.uuid4()), "agency", 1, now - 1)
    calling = links.make(str(uuid.uuid4()), "tenant_byggab", 1, now + 10**12)
    return {
        "id": [pending, done],
        "token": [link, expired, calling],
        "kind": ["hubspot", "tenant", "recruitment"],
    }


def test_every_answer_is_as_described(world: World, known: dict[str, list[str]]) -> None:
    """Status, headers, media type and body of whatever is asked, by those who may ask and by strangers; and
    no answer is a fault of ours.
    """
    import schemathesis
    from schemathesis.checks import CHECKS
    from schemathesis.core.result import Ok

    description = schemathesis.openapi.from_path(FILE)
    checks = CHECKS.get_by_names(CHECKED)  # which the line above has filled
    described = set()
    for found in description.get_all_operations():
        assert isinstance(found, Ok)
        described.add(found.ok().label)
        _ask(world, known, found.ok(), checks)
    assert described == _described()


def _ask(world: World, known: dict[str, list[str]], operation: Any, checks: Any) -> None:
    """One operation, in the ways that its description allows; what fails names it."""
    app = world.app

    @settings(
        max_examples=6,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    @given(case=operation.as_strategy(), data=st.data())
    def ask(case: Any, data: st.DataObject) -> None:
        for name in set(case.path_parameters or {}) & set(known):
            if data.draw(st.booleans()):
                case.path_parameters[name] = data.draw(st.sampled_from(known[name]))
        headers = {}
        if data.draw(st.integers(0, 4)):
            headers["Authorization"] = f"Bearer {TOKEN}"
        answer = case.call(app=app, base_url=BASE, headers=headers)
        case.validate_response(answer, checks=checks)
        # To cancel what nobody has opened yet is the one thing to come again for.
        assert answer.status_code < 500 or b"not_opened_yet" in answer.content

    ask()


def test_what_a_controller_posts_and_gets_is_as_described(world: World) -> None:
    """The strict controller's own request is one that the description allows, and so is each answer and each
    callback that comes of it.
    """
    document = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    controller = world.controller(callback="https://byggab.example/described")
    for version, name in (("2", "Request"), ("1", "EarlierRequest")):
        asking = world.controller(version=version)
        assert [] == _faults(document, name, asking.request(str(uuid.uuid4()), ("email", PERSON, "raw")))
    assert _faults(document, "Request", {})
    id_ = str(uuid.uuid4())
    answer = anyio.run(lambda: controller.ask(id_, ("email", PERSON, "raw"), ("ios_vendor_id", "0", "raw")))
    world.settle()
    assert [] == _faults(document, "Taken", answer)
    assert [] == _faults(document, "Status", anyio.run(controller.status, id_))
    heard = [said for said in controller.heard if said["subject_request_id"] == id_]
    assert 2 == len(heard)
    assert [] == [fault for said in heard for fault in _faults(document, "Status", said)]
    assert _faults(document, "Status", {**heard[0], "more": 1})


def _faults(document: dict[str, Any], name: str, value: Any) -> list[str]:
    """What a value has that its schema doesn't allow."""
    schema = {**document["components"]["schemas"][name], "components": document["components"]}
    return [error.message for error in Draft202012Validator(schema).iter_errors(value)]


def test_nothing_is_answered_that_is_not_described(world: World) -> None:
    """Every route of the application, with each of its methods, stands in the description, and none else."""
    served = {
        f"{method} {route.path}"
        for route in world.app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert served == _described()


def _described() -> set[str]:
    """The operations that stand in the description."""
    paths = yaml.safe_load(FILE.read_text(encoding="utf-8"))["paths"]
    return {
        f"{method.upper()} {path}"
        for path, item in paths.items()
        for method in item.keys() & {"delete", "get", "patch", "post", "put"}
    }
