"""Controllers ask us over OpenDSR: what they get, what they are told, and what nobody else learns."""

import hashlib
import json
import logging
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from handlers.sandbox.asking import Wrong
from handlers.sandbox.web import rfc3339
from orchestrator import log
from orchestrator.bus.port import BusUnavailable
from orchestrator.bus.sqlite import SqliteBus
from orchestrator.cli.opendsr import unable_to_sign
from orchestrator.intake.allowance import Allowance
from orchestrator.intake.opendsr_controllers import Controllers
from orchestrator.intake.outbox import Outbox
from orchestrator.privacy.signatures import Signer
from orchestrator.saga.events import RequestReceived
from orchestrator.saga.model import Finished
from orchestrator.service import inbound
from orchestrator.service.housekeeping import Housekeeping
from orchestrator.store import AskedRequests, StoreUnavailable, Transaction
from orchestrator.store.tables import opendsr_callbacks, opendsr_requests
from schemas import topics
from tests.integration.opendsr_world import (
    BASE,
    CALLBACK,
    OTHER_TOKEN,
    PERSON,
    World,
    world_in,
)

DAY = 86_400_000_000
HOUR = DAY // 24


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with world_in(tmp_path, monkeypatch) as made:
        yield made


def run(call: Callable[..., Any], *arguments: Any) -> Any:
    return anyio.run(call, *arguments)


def reason(answer: httpx.Response) -> str:
    """The reason in an answer that is an error, in the specification's form."""
    error = answer.json()["error"]
    assert answer.status_code == error["code"]
    return str(error["errors"][0]["reason"])


# --- from the request to its end ---


@pytest.mark.parametrize("version", ["2", "1"])
def test_a_controllers_request_is_carried_out_and_reported(world: World, version: str) -> None:
    """201, then work in the one tenant that asked, then in_progress and completed called back; every answer
    is signed, and the controller is strict.
    """
    controller = world.controller(version=version)
    id_ = world.ask(controller)
    assert "pending" == run(controller.status, id_)["request_status"]
    world.settle()
    saga = world.saga()
    assert ("processor", "byggab", "opendsr") == (saga.capacity, saga.tenant, saga.source)
    assert ["tenant_byggab"] == [step.system for step in saga.steps]
    assert isinstance(saga.state, Finished)
    assert [(id_, "in_progress"), (id_, "completed")] == [
        (said["subject_request_id"], said["request_status"]) for said in controller.heard
    ]
    assert [] == controller.refused
    extension = {"result": "erased", "found": 1, "erased": 1, "proof": "seen_absent"}
    assert extension == controller.heard[-1]["extensions"]["radera"]
    status = run(controller.status, id_)
    assert ("completed", "byggab") == (status["request_status"], status["controller_id"])
    assert extension == status["extensions"]["radera"]


def test_hashes_are_taken_and_announced_where_every_product_compares_them(world: World) -> None:
    """What the discovery says of formats holds for whoever reads it. A hash that nobody compares is refused,
    and one that matched nothing ends as what it is.
    """
    digest = hashlib.sha256(PERSON.encode()).hexdigest()
    controller = world.controller()
    raw = {("email", "raw"), ("controller_customer_id", "raw")}
    assert raw == _formats(run(controller.discovery))
    refused = run(controller.post, controller.request(str(uuid.uuid4()), ("email", digest, "sha256")))
    assert (400, "not_identifiable") == (refused.status_code, reason(refused))
    compared = {"byggab": raw, "other": raw | {("email", "sha256"), ("controller_customer_id", "sha256")}}
    for tenant, announced in compared.items():
        known = world.parts.endpoints._controllers._controllers
        world.parts.endpoints._controllers = Controllers(
            tuple(replace(one, hashed=one.hashed or one.tenant == tenant) for one in known)
        )
        assert announced == _formats(run(controller.discovery))
    answer = run(lambda: controller.ask(str(uuid.uuid4()), ("email", digest, "sha256")))
    world.installation.systems.says["tenant_byggab", "locate"] = [
        {"kind": "not_identifiable", "missing": ("email",)}
    ]
    world.settle()
    saga = world.saga()
    assert ("email_sha256",) == saga.identifier_kinds
    [question] = saga.escalations
    assert "completed" != run(controller.status, answer["subject_request_id"])["request_status"]
    world.installation.decide(
        saga.request_id,
        "waive",
        reason="The controller was asked for the address.",
        escalation_id=question.id,
        escalation_version=question.version,
    )
    world.settle()
    assert "not_identifiable" == controller.heard[-1]["extensions"]["radera"]["result"]


def _formats(discovered: dict[str, Any]) -> set[tuple[str, str]]:
    return {(one["identity_type"], one["identity_format"]) for one in discovered["supported_identities"]}


def test_the_clock_is_the_controllers(world: World) -> None:
    """The month runs from when the person asked the controller, and that is what it is told to expect."""
    controller = world.controller()
    answer = run(
        lambda: controller.ask(
            str(uuid.uuid4()), ("email", PERSON, "raw"), submitted_time="2026-08-03T10:00:00Z"
        )
    )
    world.installation.settle()
    # 3 September, to the end of the day in Stockholm.
    assert "2026-09-03T21:59:59.999Z" == answer["expected_completion_time"]
    assert (
        answer["expected_completion_time"]
        == run(controller.status, answer["subject_request_id"])["expected_completion_time"]
    )
    assert "2026-09-03T21:59:59" == _iso(world.saga().due_at)


def _iso(at: int) -> str:
    return rfc3339(at)[:19]


def test_what_fails_and_what_is_kept_is_told_in_our_extension(world: World) -> None:
    """OpenDSR has no state for it: first failed, while somebody here has to see to it, then retained."""
    controller = world.controller()
    world.installation.systems.says["tenant_byggab", "erase"] = [
        {"kind": "failed", "code": "credentials_refused"}
    ]
    world.ask(controller)
    world.settle()
    kept = {"kind": "proved", "grade": "seen_absent", "end": "retained", "legal_basis": "bookkeeping"}
    world.installation.systems.says["tenant_byggab", "prove"] = [kept]
    [question] = world.saga().escalations
    world.installation.decide(
        world.saga().request_id, "retry", escalation_id=question.id, escalation_version=question.version
    )
    world.settle()
    told = [(said["request_status"], said["extensions"]["radera"].get("result")) for said in controller.heard]
    assert [("in_progress", "failed"), ("completed", "partial")] == told
    assert "bookkeeping" == controller.heard[-1]["extensions"]["radera"]["legal_basis"]
    assert "credentials_refused" not in json.dumps(controller.heard)


# --- once, and durably ---


def test_the_same_request_again_is_answered_as_the_first_time(world: World) -> None:
    """201 with the first answer and one saga; another body under the same id is a conflict."""
    controller = world.controller()
    content = controller.request(str(uuid.uuid4()), ("email", PERSON, "raw"))
    first = run(controller.post, content)
    world.settle()
    world.clock.now += HOUR
    again = run(controller.post, content)
    later = run(controller.post, content)
    assert first.json() == run(controller.checked, again, 201) == later.json()
    assert 1 == len(world.installation.records(topics.REQUESTS))
    world.saga()
    other = run(controller.post, {**content, "regulation": "ccpa"})
    assert (409, "used_for_another_request") == (other.status_code, reason(other))
    run(controller.checked, other, 409)


@pytest.mark.parametrize("moment", ["filed", "published", "marked"])
def test_a_death_between_accepting_and_publishing_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Only what is in the outbox was answered with 201. Whatever was left behind, the controller, who has no
    answer, posts again, and one request comes of it.
    """

    class Died(BaseException):
        """The process is gone."""

    def die(*_: Any, **__: Any) -> None:
        raise Died

    controller = world.controller()
    content = controller.request(str(uuid.uuid4()), ("email", PERSON, "raw"))
    with monkeypatch.context() as patch:
        match moment:
            case "filed":
                patch.setattr(Outbox, "publish", die)
            case "published":
                patch.setattr(AskedRequests, "mark_published", die)
            case "marked":
                patch.setattr(Signer, "headers", die)
        with pytest.raises(BaseException):  # noqa: B017, PT011 - a death, wrapped by the group it happened in
            run(controller.post, content)
    assert (moment != "filed") == bool(world.installation.relay.step())
    world.restart()
    assert 201 == run(controller.post, content).status_code
    world.settle()
    world.saga()
    assert ["in_progress", "completed"] == [said["request_status"] for said in controller.heard]


def test_while_the_broker_is_away_requests_are_taken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """201, and the request waits in the outbox; when the broker is back, it is carried out, once."""

    def away(*_: Any) -> None:
        raise BusUnavailable

    controller = world.controller()
    with monkeypatch.context() as patch:
        patch.setattr(SqliteBus, "publish", away)
        id_ = world.ask(controller)
        with pytest.raises(BusUnavailable):
            world.installation.relay.step()
        assert "pending" == run(controller.get, id_).json()["request_status"]
    world.settle()
    assert 1 == len(world.installation.records(topics.REQUESTS))
    world.saga()
    assert ["in_progress", "completed"] == [said["request_status"] for said in controller.heard]


def test_while_nothing_can_be_kept_the_controller_is_asked_to_come_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with a time; never 201. Nobody is told of a request that nobody has."""

    def away(*_: Any) -> None:
        raise StoreUnavailable(database="radera")

    controller = world.controller()
    content = controller.request(str(uuid.uuid4()), ("email", PERSON, "raw"))
    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "enqueue", away)
        answer = run(controller.post, content)
    assert (503, "unavailable") == (answer.status_code, reason(answer))
    assert "30" == answer.headers["Retry-After"]
    assert 404 == run(controller.get, content["subject_request_id"]).status_code
    world.tell()
    assert [] == world.callbacks
    assert 201 == run(controller.post, content).status_code


# --- callbacks ---


def test_a_callback_is_repeated_until_it_is_accepted(world: World) -> None:
    """With growing waits, also by a process that began in between; then it is told once, in order."""
    controller = world.controller()
    controller.away = True
    world.ask(controller)
    world.settle()
    assert 1 == len(world.callbacks)
    for _ in range(4):
        world.tell(1.0)
    assert 1 == len(world.callbacks)
    world.tell(60)
    world.restart()
    world.tell(120)
    assert 3 == len(world.callbacks)
    controller.away = False
    world.tell(6 * 3600)
    assert ["in_progress", "completed"] == [said["request_status"] for said in controller.heard]
    for _ in range(5):
        world.tell(86_400)
    assert 2 == len(controller.heard)


def test_a_death_after_telling_repeats_and_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was told and not recorded is told again, to the letter of its state; what comes after follows."""

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    controller = world.controller()
    world.ask(controller)
    world.installation.settle()
    with monkeypatch.context() as patch:
        patch.setattr(AskedRequests, "told", die)
        with pytest.raises(BaseException):  # noqa: B017, PT011 - a death, wrapped by the group it happened in
            world.tell()
    world.restart()
    world.tell(3600)
    told = [said["request_status"] for said in controller.heard]
    assert ["in_progress", "in_progress", "completed"] == told


def test_each_address_hears_for_itself(world: World) -> None:
    """One that is away keeps the other from nothing."""
    first, second = world.controller(), world.controller(callback="https://byggab.example/second")
    second.away = True
    id_ = world.ask(first, status_callback_urls=[CALLBACK, "https://byggab.example/second"])
    second.asked.add(id_)
    world.settle()
    assert (2, 0) == (len(first.heard), len(second.heard))
    second.away = False
    world.tell(3600)
    assert (2, 2) == (len(first.heard), len(second.heard))


def test_a_late_fact_is_told_as_a_correction(world: World) -> None:
    """What contradicts what was reported reaches the controller, too."""
    controller = world.controller()
    world.ask(controller)
    world.settle()
    world.installation.confirm(
        request_id=world.saga().request_id, system="tenant_byggab", kind="still_present", found=1
    )
    world.settle()
    world.tell(86_400)
    assert "failed" == controller.heard[-1]["extensions"]["radera"]["result"]


def test_a_host_that_is_not_allowed_is_never_called(world: World) -> None:
    """Refused when it is asked for, and with nothing filed; and not called either if it was let in before."""
    controller = world.controller()
    content = controller.request(str(uuid.uuid4()), ("email", PERSON, "raw"))
    for address in ("https://169.254.169.254/latest", "https://other.example/", "http://byggab.example/"):
        answer = run(controller.post, {**content, "status_callback_urls": [address]})
        assert 400 == answer.status_code
        assert address not in answer.text
    assert 404 == run(controller.get, content["subject_request_id"]).status_code
    run(controller.post, content)
    settings = (world.folder / "radera.toml").read_text()
    settings = settings.replace(
        'controller_url = "https://byggab.example"', 'controller_url = "https://new.example"'
    )
    (world.folder / "radera.toml").write_text(settings)
    world.restart()
    world.settle()
    assert [] == world.callbacks


def test_a_request_that_nobody_can_open_is_told_as_failed(world: World) -> None:
    """Its master key went before it was read: the DPO has it as unreadable, and the controller hears of it
    instead of waiting for ever.
    """
    controller = world.controller()
    id_ = world.ask(controller)
    keyring = world.installation.ground.keyring
    first = keyring.current.number
    keyring.rotate(world.clock())
    keyring.forget([first], world.clock())
    world.settle()
    assert ["unreadable_request"] == [one.reason for one in world.saga().escalations]
    assert [] == controller.heard
    world.tell(86_401)
    world.tell()
    assert [("pending", "failed")] == [
        (said["request_status"], said["extensions"]["radera"]["result"]) for said in controller.heard
    ]
    assert "failed" == run(controller.status, id_)["extensions"]["radera"]["result"]


# --- cancelling ---


def test_a_request_can_be_cancelled_while_it_is_pending(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """202, twice if asked twice; nothing is erased, and the end is called back."""
    monkeypatch.setattr("orchestrator.intake.opendsr._OPENING", 0.2)
    controller = world.controller()
    id_ = world.ask(controller)
    # On the bus, not opened: what would cancel it must not overtake it.
    early = run(controller.cancel, id_)
    assert (503, "not_opened_yet") == (early.status_code, reason(early))
    open_and_hold(world)
    assert "pending" == run(controller.status, id_)["request_status"]
    answer = run(controller.checked, run(controller.cancel, id_), 202)
    assert {"controller_id", "subject_request_id", "received_time", "api_version"} == set(answer)
    world.installation.settle()
    assert 202 == run(controller.cancel, id_).status_code
    world.settle()
    assert ("cancelled", "cancelled") == (world.saga().status, run(controller.status, id_)["request_status"])
    assert [] == world.installation.systems.commands
    assert ["cancelled"] == [said["request_status"] for said in controller.heard]


def open_and_hold(world: World) -> None:
    """Lets the request be opened and wait for somebody, as if its sender were not yet verified."""
    read = inbound.Reader.read

    def unverified(self: inbound.Reader, delivery: Any) -> inbound.Inbound:
        one = read(self, delivery)
        assert isinstance(one.event, RequestReceived)
        return replace(one, event=replace(one.event, verified=False))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inbound.Reader, "read", unverified)
        world.installation.settle()


def test_it_is_too_late_to_cancel_once_it_is_carried_out(world: World) -> None:
    """409 while it is in progress and when it is over."""
    controller = world.controller()
    world.installation.systems.says["tenant_byggab", "locate"] = [None]
    id_ = world.ask(controller)
    world.installation.settle()
    answer = run(controller.cancel, id_)
    assert (409, "not_pending") == (answer.status_code, reason(answer))
    run(controller.checked, answer, 409)


# --- whose ---


def test_a_controller_sees_its_own_requests_and_no_others(world: World) -> None:
    """Another's id is answered as one that isn't there; the same id is another request of another tenant."""
    ours, theirs = world.controller(), world.controller(OTHER_TOKEN, callback=None)
    id_ = world.ask(ours)
    unknown = str(uuid.uuid4())
    for call in (theirs.get, theirs.cancel):
        answers = [run(call, one) for one in (id_, unknown)]
        assert [404, 404] == [one.status_code for one in answers]
        assert answers[0].json() == answers[1].json()
    run(lambda: theirs.ask(id_, ("email", "somebody.else@people.example", "raw")))
    world.installation.settle()
    assert {"byggab", "other"} == {saga.tenant for saga in world.installation.sagas()}
    assert "byggab" == run(ours.status, id_)["controller_id"]
    assert "other" == run(theirs.status, id_)["controller_id"]


def test_nobody_can_tell_our_id_from_the_controllers(world: World) -> None:
    """It is derived with a key; the controller's own id opens nothing else of ours."""
    controller = world.controller()
    id_ = world.ask(controller)
    world.installation.settle()
    assert id_ != world.saga().request_id
    assert hashlib.sha256(id_.encode()).hexdigest()[:8] != world.saga().request_id[:8]
    assert 404 == run(controller.get, world.saga().request_id).status_code


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer "}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic Ynlnj"}],
)
def test_who_has_no_token_gets_nothing(world: World, headers: dict[str, str]) -> None:
    """401 with the way to mend it, before the body is read; discovery and the certificate are for all."""

    async def ask() -> list[httpx.Response]:
        async with world._client() as client:
            post = await client.post("/v2/requests", content=b"{}", headers=headers)
            get = await client.get(f"/v2/requests/{uuid.uuid4()}", headers=headers)
            open_ = [await client.get(path) for path in ("/v2/discovery", "/opendsr/certificate.pem")]
        return [post, get, *open_]

    answers = run(ask)
    assert [401, 401, 200, 200] == [one.status_code for one in answers]
    assert "Bearer" == answers[0].headers["WWW-Authenticate"]


def test_a_body_that_does_not_say_that_it_is_json_is_not_read(world: World) -> None:
    """Any page can have a browser post a text, with the logins and certificates that it has."""
    controller = world.controller()
    content = controller.request(str(uuid.uuid4()), ("email", PERSON, "raw"))
    answer = run(controller.post, content, {"Content-Type": "text/plain"})
    assert (415, "application_json") == (answer.status_code, reason(answer))


def test_too_many_are_asked_to_slow_down(world: World) -> None:
    """A client in a loop is told when to come again, before anything is looked up for it."""
    controller = world.controller()
    world.parts.endpoints._allowance = Allowance(per_second=0, burst=2)
    answers = [run(controller.get, str(uuid.uuid4())) for _ in range(3)]
    assert [404, 404, 429] == [one.status_code for one in answers]
    assert "1" == answers[-1].headers["Retry-After"]


# --- what is public, and what isn't ---


def test_discovery_says_what_we_support(world: World) -> None:
    """Two identities in clear, erasure, and a certificate at our own domain that the authority issued."""
    controller = world.controller()
    said = run(controller.discovery)
    assert ["controller_customer_id", "email"] == [
        one["identity_type"] for one in said["supported_identities"]
    ]
    assert (["erasure"], "2.0") == (said["supported_subject_request_types"], said["api_version"])
    assert f"{BASE}/opendsr/certificate.pem" == said["processor_certificate"]
    run(controller.certificate)


def test_the_strict_controller_believes_no_other_signature(world: World) -> None:
    """The stand-in would notice: an altered body, another authority, a replay to another address."""
    controller = world.controller()
    world.ask(controller)
    world.settle()
    url, headers, body = world.callbacks[0]
    assert 202 == run(controller.hear, url, headers, body)
    assert 403 == run(controller.hear, url, headers, body + b" ")
    assert 403 == run(controller.hear, "https://byggab.example/other", headers, body)
    assert 403 == run(world.controller().hear, url, headers, body)
    world.authority = type(world.authority)(world.clock(), "Somebody else")
    stranger = world.controller()
    with pytest.raises(Wrong):
        run(stranger.certificate)


def test_an_expired_certificate_signs_nothing(world: World) -> None:
    """A signature that the controller must refuse is not given: it comes again, and so do we."""
    controller = world.controller()
    world.ask(controller)
    world.installation.settle()
    world.clock.now += 400 * DAY
    answer = run(controller.get, next(iter(controller.asked)))
    assert 503 == answer.status_code
    world.tell()
    assert [] == world.callbacks
    said = unable_to_sign(world.installation.ground)
    assert said is not None
    assert "no longer, in force" in said


def test_nothing_of_the_person_or_the_address_gets_out(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in a log, a metric, an error or the database, whose file is searched byte by byte."""
    controller = world.controller()
    controller.away = True
    shown: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            shown.append(json.dumps(log.entry(record)))

    handler = Kept()
    logging.getLogger().addHandler(handler)
    caplog.set_level(logging.DEBUG)
    try:
        content = controller.request(str(uuid.uuid4()), ("email", PERSON, "raw"))
        run(controller.post, content)
        run(controller.post, {**content, "regulation": PERSON})
        run(controller.post, {**content, "status_callback_urls": [f"{CALLBACK}&{PERSON}"]})
        world.settle()
        controller.away = False
        world.tell(3600)
    finally:
        logging.getLogger().removeHandler(handler)
    assert any("opendsr_callback_failed" in line for line in shown)
    everything = "".join(shown).encode() + world.installation.metrics.text() + caplog.text.encode()
    everything += b"".join(path.read_bytes() for path in world.folder.glob("radera.db*"))
    for canary in (PERSON, "canary.person", "canary-callback"):
        assert canary.encode() not in everything
    # The controller is told nothing of the person either: it knows.
    assert PERSON not in json.dumps(controller.heard)


def test_what_was_asked_goes_with_the_request(world: World) -> None:
    """After the retention nothing of it is left; what was never published is forgotten with the events."""
    controller = world.controller()
    world.ask(controller)
    world.settle()

    def kept() -> list[Any]:
        with world.installation.ground.store.reading.connect() as connection:
            body = connection.execute(opendsr_requests.select()).fetchall()
            return [body and body[0].body, len(connection.execute(opendsr_callbacks.select()).fetchall())]

    keeping = Housekeeping(
        store=world.installation.ground.store,
        bus=world.installation.ground.bus,
        retention=world.installation.ground.settings.retention,
    )
    assert kept()[0]
    world.clock.now += 91 * DAY
    keeping.step()
    assert [None, 1] == kept()
    again = run(controller.post, controller.request(next(iter(controller.asked)), ("email", PERSON, "raw")))
    assert 409 == again.status_code
    world.clock.now += 4 * 365 * DAY
    keeping.step()
    assert [[], 0] == kept()
