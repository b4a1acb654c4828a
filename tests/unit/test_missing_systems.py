"""Systems that are renamed, removed, or known to one role only: their parties are heard all the same."""

import json
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
import sqlalchemy as sa

from handlers.port import Refused
from handlers.results import PartyErased, Result
from orchestrator.bus.port import Record
from orchestrator.cli.roles import kind_of_step, left_kinds
from orchestrator.intake.app import build_app
from orchestrator.metrics import Metrics
from orchestrator.privacy import CALLBACK_BODY, Digests
from orchestrator.saga.rules import SystemPlan
from orchestrator.service.missing import with_missing_systems
from schemas import topics
from schemas.codec import encode
from schemas.messages import Callback
from tests.contract.worker_bench import NOW, REQUEST, Bench
from tests.integration.installation import installed
from tests.unit import service_world, test_intake
from tests.unit.service_world import world

__all__ = ["world"]

_ERASED = PartyErased(prove_at=None)
FORM = {"content-type": "application/x-www-form-urlencoded"}


# --- at the door ---


def client(intake: test_intake.World, kind: str | None) -> test_intake.Client:
    """The application of a process whose settings lack the system; `kind` is what the request knows of it."""
    return test_intake.Client(
        build_app(
            settings=intake.settings,
            bus=intake.bus,
            links=intake.links,
            digests=Digests(b"d" * 32),
            sent=intake.sent,
            seal=lambda data: b"\x02" + bytes(byte ^ 0x5A for byte in data),
            clock=lambda: intake.now,
            metrics=Metrics(),
            ready=dict,
            kind_of=lambda request_id, system: kind if system == "old_agency" else None,
        )
    )


def test_a_link_of_a_removed_system_still_takes_the_answer() -> None:
    """The page is shown, the answer is stored under the kind that the request knows, and used up the link."""
    intake = test_intake.World()
    path = f"/answer/{intake.token('old_agency')}"
    browser = client(intake, "recruitment")
    assert 200 == browser.get(path).status_code
    assert 200 == browser.post(path, content="answer=erased", headers=FORM).status_code
    ((record, callback, _),) = intake.callbacks()
    assert topics.callbacks("recruitment") == record.topic
    assert ("recruitment", "old_agency") == (callback.kind, callback.system)
    assert 410 == browser.post(path, content="answer=erased", headers=FORM).status_code


def test_a_callback_about_a_removed_system_is_still_taken() -> None:
    """At the address that the controller was given, and at no other kind's."""
    intake = test_intake.World()
    token = intake.token("old_agency")
    asking = client(intake, "tenant")
    assert 404 == asking.post(f"/callbacks/recruitment/{token}", content="{}").status_code
    assert 202 == asking.post(f"/callbacks/tenant/{token}", content="{}").status_code
    assert [topics.callbacks("tenant")] == [record.topic for record, _, _ in intake.callbacks()]


def test_a_link_about_which_nobody_knows_is_none() -> None:
    """A request that is not there, or never had the system."""
    intake = test_intake.World()
    path = f"/answer/{intake.token('old_agency')}"
    assert [404, 404] == [
        client(intake, None).get(path).status_code,
        client(intake, None).post(path).status_code,
    ]
    assert [] == intake.bus.records


# --- at the worker ---


def answered(
    bench: Bench,
    kind: str,
    system: str | None,
    says: Result | Refused = _ERASED,
    **worker: object,
) -> None:
    """A party's answer that a worker finds on its topic, twice polled; the handler `says` what it is."""
    content = json.dumps({"token": None, "headers": {}, "body": ""}).encode()
    callback = Callback(
        event_id=f"word:{REQUEST}/x/1",
        kind=kind,
        system=system,
        received_at=NOW,
        sealed_body=bench.keyring.seal_installation(CALLBACK_BODY, content),
    )
    bench.bus.publish([Record(topic=topics.callbacks(kind), key=REQUEST, value=encode(callback))])
    bench.handler.script = [says]
    made = bench.worker(**worker)
    with made.subscribe() as subscription:
        for _ in range(2):
            anyio.run(made.step, subscription)


def kept(bench: Bench, kind: str) -> list[bytes | None]:
    return [one.header("radera-code") for one in bench.read(topics.dead_letters(topics.callbacks(kind)))]


def test_an_answer_for_a_renamed_system_is_kept_and_asked_about(bench: Bench) -> None:
    """The kind is served, under another name: no handler sees the answer, and nothing of it is lost."""
    answered(bench, "hubspot", "old_name")
    assert [b"no_handler"] == kept(bench, "hubspot")
    (said,) = bench.said()
    assert (REQUEST, "old_name", "failed", "answer_kept", None) == (
        *(said.request_id, said.system, said.kind, said.code, said.command_id),
    )
    assert [] == bench.handler.received


def test_an_answer_for_a_kind_that_has_left_is_kept_and_asked_about(bench: Bench) -> None:
    """A worker that serves everything reads what parties of such kinds still say."""
    answered(bench, "recruitment", "agency", left=["recruitment"])
    assert [b"no_handler"] == kept(bench, "recruitment")
    assert ["answer_kept"] == [said.code for said in bench.said()]


def test_a_word_whose_certificate_is_out_of_force_is_kept_and_asked_about(bench: Bench) -> None:
    """It was thanked for, and our clock may be wrong: a controller's refusal must not get lost by that."""
    answered(bench, "hubspot", "hubspot", Refused("certificate_not_in_force"))
    assert [b"certificate_not_in_force"] == kept(bench, "hubspot")
    assert [("hubspot", "answer_kept")] == [(said.system, said.code) for said in bench.said()]


def test_a_webhook_that_is_nobodys_is_dropped_as_before(bench: Bench) -> None:
    """It names no system, nobody was thanked, and anybody may post one."""
    answered(bench, "recruitment", None, left=["recruitment"])
    assert ([], []) == (kept(bench, "recruitment"), bench.said())


# --- at the orchestrator ---


def removed(made: service_world.World, *names: str) -> None:
    """The orchestrator is begun again with these systems."""
    rules = made.orchestrator._rules
    made.restarted()
    systems = {name: SystemPlan(name=name, kind="crm") for name in names}
    made.orchestrator._rules = replace(rules, systems=systems)


def questions(made: service_world.World, request_id: str) -> list[tuple[str, str | None]]:
    saga = made.store.saga(request_id)
    assert saga is not None
    return [(one.reason, one.system) for one in saga.escalations]


def test_a_start_asks_about_open_steps_of_a_missing_system(
    world: service_world.World, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, and names the system in the log. When it is back the question goes by itself."""
    request = world.request()
    world.publish(topics.REQUESTS, encode(request))
    world.orchestrator.step(0.0)
    assert 0 == world.orchestrator.ask_about_missing_systems()
    for _ in range(2):
        removed(world, "crm_new")
        assert 1 == world.orchestrator.ask_about_missing_systems()
        assert [("system_missing", "crm")] == questions(world, request.request_id)
    (one, _) = (vars(record) for record in caplog.records if record.message == "systems_missing")
    assert (["crm"], 1) == (one["systems"], one["count"])
    assert 1 == sum("escalated" == action for action in world.actions(request.request_id))

    removed(world, "crm")
    world.orchestrator.ask_about_missing_systems()
    assert [] == questions(world, request.request_id)
    assert {} == with_missing_systems(world.store, ["crm"])


def test_the_kinds_that_have_left_are_those_of_requests_and_of_the_bus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that serves everything reads what their parties say, and the door knows a step's kind."""
    with installed(tmp_path, monkeypatch) as installation:
        request_id = installation.submit(
            ("email", "a@people.example"), scope=("agency", "survey"), verified=False
        )
        installation.settle()
        ground = installation.ground
        installation.publish(topics.callbacks("gone"), b"x")
        assert {"gone"} == left_kinds(ground)
        systems = {name: one for name, one in ground.settings.systems.items() if one.kind != "recruitment"}
        fewer = replace(ground, settings=ground.settings.model_copy(update={"systems": systems}))
        assert {"gone", "recruitment"} == left_kinds(fewer)
        kinds = [kind_of_step(fewer, request_id, name) for name in ("agency", "nowhere")]
        assert ["recruitment", None] == kinds


def test_an_end_is_not_asked_about(world: service_world.World) -> None:
    """What has ended waits for no system, and a state that can't be read stops nobody's start."""
    first, second = world.request(), world.request()
    world.publish(topics.REQUESTS, encode(first), encode(second))
    world.orchestrator.step(0.0)
    with world.engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE sagas SET document = '{}' WHERE request_id = :one"), {"one": first.request_id}
        )
    removed(world)
    assert 1 == world.orchestrator.ask_about_missing_systems()
    assert [("system_missing", "crm")] == questions(world, second.request_id)
