"""Bad confirmations, decisions, commands, outcomes and callbacks: kept sealed, told to whom it concerns,
and never in the way of the next.
"""

import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handlers.confirming import about
from handlers.worker import GROUP, Worker
from orchestrator.cli.roles import make_handlers
from orchestrator.http import Clients
from orchestrator.privacy import CALLBACK_BODY
from orchestrator.service.inbound import WITHHELD
from schemas import topics
from schemas.codec import decode, encode
from schemas.messages import Callback, Command, Confirmation, Outcome
from tests.integration.installation import PERSON, SECOND, START, Installation, installed
from tests.integration.processes import eventually

REASON = "the contract has ended"


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    with installed(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def failed(installation: Installation) -> str:
    """A request whose CRM has failed for good: e1 is open, at version 1."""
    installation.systems.says["crm", "locate"] = [{"kind": "failed", "code": "no_rights"}]
    request_id = installation.submit(("email", PERSON), ("name", "Kanarie Person"))
    installation.settle()
    return request_id


# --- what can't be read ---


@pytest.mark.parametrize("topic", [topics.CONFIRMATIONS, topics.DECISIONS])
@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"not Avro: " + PERSON.encode(), "malformed_message"),
        (b"\xc3\x01" + b"\xff" * 8 + b"body", "unknown_schema"),
        (b"", "malformed_message"),
    ],
)
def test_what_cannot_be_read_is_a_dead_letter(
    installation: Installation, topic: str, value: bytes, code: str
) -> None:
    """It is kept sealed, with its code and where it came from; what comes after it is applied."""
    installation.publish(topic, value, key=PERSON)
    after = installation.submit(("email", PERSON))
    installation.settle()
    [letter] = installation.dead_letters(topic)
    [record] = [one for one in installation.records(topic) if one.value == value]
    assert (code, value, "") == (letter.code, letter.payload, letter.key)
    assert (topic, record.partition, record.offset) == letter.origin
    assert installation.saga(after).acted_at is not None
    assert not installation.has_leaked(PERSON)


def test_one_type_in_anothers_topic_is_a_dead_letter(installation: Installation) -> None:
    """A message that is well-formed but of the wrong type is as unreadable as rubbish."""
    request = installation.request(("email", PERSON))
    installation.publish(topics.CONFIRMATIONS, encode(request))
    installation.settle()
    assert ["malformed_message"] == [one.code for one in installation.dead_letters(topics.CONFIRMATIONS)]
    assert [] == installation.sagas()


# --- confirmations ---


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"request_id": str(uuid.UUID(int=1)), "system": "crm"}, "unknown_request"),
        ({"request_id": None, "system": "crm"}, "names_no_request"),
    ],
)
def test_a_confirmation_of_nobody_knows_what_is_a_dead_letter(
    installation: Installation, fields: dict[str, Any], code: str
) -> None:
    """No request takes it in, and it is kept."""
    installation.confirm(kind="accepted", erased=1, **fields)
    installation.settle()
    assert [code] == [one.code for one in installation.dead_letters(topics.CONFIRMATIONS)]
    assert [] == installation.sagas()


def test_a_callback_that_came_too_early_counts_when_it_is_repeated(installation: Installation) -> None:
    """Dropped while its correlation was unknown, the same event is not taken for a repeat later."""
    installation.systems.says["crm", "erase"] = [None]
    request_id = installation.submit(("email", PERSON))
    installation.settle()
    early = {"event_id": "callback:one", "kind": "refused", "correlation": "c" * 64, "code": "legal_claim"}
    installation.confirm(request_id=None, system=None, **early)
    installation.settle()
    installation.later(minutes=5)
    assert [] == installation.dead_letters(topics.CONFIRMATIONS)
    installation.confirm(request_id=request_id, system="crm", kind="pending", correlations=("c" * 64,))
    installation.settle()
    installation.confirm(request_id=None, system=None, **early)
    installation.settle()
    assert ["party_refused"] == installation.questions(request_id)


@pytest.mark.parametrize("ended", [False, True])
def test_a_system_that_was_not_asked_is_reported(installation: Installation, ended: bool) -> None:
    """It may have erased somebody's data: the DPO hears of it, before the end and after it."""
    installation.systems.says["crm", "locate"] = [] if ended else [None]
    request_id = installation.submit(("email", PERSON))
    installation.later(hours=13 if ended else 0)
    mails = len(installation.mails_to_dpo())
    installation.confirm(request_id=request_id, system="letters", kind="accepted", erased=1)
    installation.settle()
    assert ["system_not_asked"] == [one.code for one in installation.dead_letters(topics.CONFIRMATIONS)]
    assert ([] if ended else ["unasked_confirmation"]) == installation.questions(request_id)
    assert mails + 1 == len(installation.mails_to_dpo())


def test_a_notice_nobody_asked_for_changes_nothing(installation: Installation) -> None:
    """A mailbox's word on another notice does not make a request acted on."""
    installation.systems.says["crm", "erase"] = [None]
    request_id = installation.submit(("email", PERSON))
    installation.settle()
    installation.confirm(request_id=request_id, system=None, kind="notice_sent", command_id="another")
    installation.confirm(request_id=request_id, system=None, kind="located", found=3)
    installation.settle()
    assert installation.saga(request_id).acted_at is None
    assert [] == installation.questions(request_id)


@pytest.mark.parametrize(
    "fields",
    [
        {"evidence": {"x" * 80: "y" * 200}},
        {"evidence": {f"name-{n}": "y" * 200 for n in range(200)}},
        {"retained_until": 2**61, "end": "retained", "legal_basis": "bookkeeping"},
        {"look_at": 2**61},
        {"occurred_at": 2**61},
        {"occurred_at": 0},
        {"found": 2**31 - 1, "erased": 2**31 - 1},
        {"missing": tuple(f"kind-{n}" for n in range(300))},
    ],
)
@pytest.mark.parametrize("verb", ["locate", "erase", "prove"])
def test_an_answer_at_the_edge_of_its_schema_stops_nothing(
    installation: Installation, verb: str, fields: dict[str, Any]
) -> None:
    """Whatever a handler may say by the schema can be taken in, mailed and shown."""
    usual: dict[str, dict[str, Any]] = {
        "locate": {"kind": "located", "found": 1},
        "erase": {"kind": "accepted", "erased": 1},
        "prove": {"kind": "proved", "grade": "seen_absent", "end": "erased"},
    }
    said = {**usual[verb], **fields}
    if said.get("end") == "retained" and verb != "prove":
        said["kind"] = "retained"
    command = _next_command(installation, verb)
    installation.confirm(
        request_id=command.request_id,
        system="crm",
        command_id=command.event_id,
        verb=verb,
        attempt=command.attempt,
        about=about(command),
        **said,
    )
    installation.later(days=61)
    installation.later(days=61)
    saga = installation.saga(command.request_id)
    assert [] == installation.dead_letters(topics.CONFIRMATIONS)
    assert not saga.quarantined
    assert saga.acted_at is not None
    for arguments in (["status"], ["status", "--json"], ["timeline"]):
        assert 0 == installation.cli(*arguments, command.request_id).exit_code
    assert 0 == installation.cli("status", "--all").exit_code


def _next_command(installation: Installation, verb: str) -> Command:
    """A request's first command of that verb, unanswered."""
    installation.systems.says["crm", verb] = [None]
    installation.submit(("email", PERSON))
    installation.settle()
    command = installation.systems.commands[-1]
    assert verb == command.verb
    return command


# --- decisions ---


@pytest.mark.parametrize(
    ("action", "fields", "code"),
    [
        ("retry", {"escalation_id": "e1", "escalation_version": 2}, "other_version"),
        ("retry", {"escalation_id": "e1", "escalation_version": None}, "other_version"),
        ("retry", {"escalation_id": "e9", "escalation_version": 1}, "no_such_escalation"),
        ("retry", {}, "names_no_escalation"),
        ("verify", {"escalation_id": "e1", "escalation_version": 1}, "action_does_not_fit"),
        ("waive", {"escalation_id": "e1", "escalation_version": 1}, "reason_missing"),
        ("waive", {"escalation_id": "e1", "escalation_version": 1, "reason": "  \n"}, "reason_missing"),
        ("cancel", {}, "reason_missing"),
        ("extend", {}, "reason_missing"),
    ],
)
def test_a_decision_that_does_not_fit_is_refused_and_the_dpo_is_told(
    installation: Installation, failed: str, action: str, fields: dict[str, Any], code: str
) -> None:
    """Nothing changes but the record; the refusal is an outcome with its code, and a mail."""
    before = installation.saga(failed)
    installation.decide(failed, action, **fields)
    installation.settle()
    after = installation.saga(failed)
    outcomes = [decode(one.value, Outcome) for one in installation.records(topics.OUTCOMES)]
    refusals = [one.code for one in outcomes if one.kind == "decision_refused"]
    assert [code] == refusals
    assert (before.state, before.steps, before.escalations) == (after.state, after.steps, after.escalations)
    assert f"Radera {failed}: decision not applied" in installation.mails_to_dpo()


def test_a_decision_on_an_unknown_request_is_a_dead_letter(installation: Installation) -> None:
    """It opens nothing; what was decided is kept."""
    installation.decide(str(uuid.UUID(int=1)), "cancel", reason=REASON)
    installation.settle()
    assert ["unknown_request"] == [one.code for one in installation.dead_letters(topics.DECISIONS)]
    assert [] == installation.sagas()


def test_a_decision_after_the_end_is_refused(installation: Installation) -> None:
    """An ended request stays as it ended."""
    request_id = installation.submit(("email", PERSON))
    installation.later(hours=13)
    installation.decide(request_id, "cancel", reason=REASON)
    installation.settle()
    assert "completed" == installation.saga(request_id).status
    assert f"Radera {request_id}: decision not applied" in installation.mails_to_dpo()


@pytest.mark.parametrize("reason", [f"she wrote from {PERSON}", "Kanarie PERSON has asked for it"])
def test_a_reason_that_quotes_the_person_is_withheld(
    installation: Installation, failed: str, reason: str
) -> None:
    """The decision counts, its text does not stay: not in the timeline, the state, a mail or an outcome."""
    installation.decide(failed, "waive", reason=reason, escalation_id="e1", escalation_version=1)
    installation.later(hours=13)
    assert "completed" == installation.saga(failed).status
    timeline = installation.ground.store.timeline(failed)
    assert WITHHELD in [entry.data.get("reason") for entry in timeline]
    assert reason not in repr(installation.saga(failed))
    assert not installation.has_leaked(reason)
    assert all(reason.encode() not in one.value for one in installation.records(topics.OUTCOMES))


def test_a_reason_on_an_unreadable_request_is_withheld_by_its_form(installation: Installation) -> None:
    """Whom it could quote is not known, so what looks like an address is taken for one."""
    installation.publish(topics.REQUESTS, b"rubbish")
    installation.settle()
    [saga] = installation.sagas()
    installation.decide(saga.request_id, "cancel", reason=f"it came from {PERSON}")
    installation.settle()
    assert WITHHELD in [
        entry.data.get("reason") for entry in installation.ground.store.timeline(saga.request_id)
    ]


# --- what other roles read ---


@pytest.mark.parametrize(
    ("value", "code"),
    [(b"not Avro: " + PERSON.encode(), "malformed_message"), (b"\xc3\x01" + b"\xff" * 8, "unknown_schema")],
)
def test_an_outcome_that_cannot_be_read_is_a_dead_letter(
    installation: Installation, value: bytes, code: str
) -> None:
    """The mailbox keeps it sealed and goes on with the next."""
    installation.publish(topics.OUTCOMES, value)
    after = installation.submit(("email", PERSON))
    installation.later(hours=13)
    assert [(code, value)] == [(one.code, one.payload) for one in installation.dead_letters(topics.OUTCOMES)]
    assert f"Radera {after}: completed" in installation.mails_to_dpo()


def work(installation: Installation) -> None:
    """Runs a real worker until it has nothing left to do."""
    ground = installation.ground
    handlers = make_handlers(ground, clients=Clients(clock=ground.store.now), mailer=installation.postman)
    worker = Worker(
        bus=ground.bus,
        keys=ground.keys,
        installation=ground.keyring,
        handlers=handlers,
        clock=ground.store.now,
        drain=5.0,
        metrics=installation.metrics,
    )
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    kinds = {handler.kind for handler in handlers.values()}
    read = [name(kind) for kind in kinds for name in (topics.commands, topics.callbacks)]
    eventually("the worker has nothing left", lambda: 0 == ground.bus.backlog(GROUP, read), within=20)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def test_commands_and_callbacks_that_cannot_be_read_are_dead_letters(installation: Installation) -> None:
    """The worker keeps each sealed, and answers the good command behind them."""
    commands, callbacks = topics.commands("hubspot"), topics.callbacks("hubspot")
    unsealable = Callback(
        event_id="callback:1", kind="hubspot", system="crm", received_at=START, sealed_body=b"\2no"
    )
    no_object = Callback(
        event_id="callback:2",
        kind="hubspot",
        system="crm",
        received_at=START,
        sealed_body=installation.ground.keyring.seal_installation(CALLBACK_BODY, json.dumps([1]).encode()),
    )
    installation.publish(commands, b"rubbish")
    installation.publish(commands, b"\xc3\x01" + b"\xff" * 8)
    installation.publish(callbacks, b"rubbish")
    installation.publish(callbacks, encode(unsealable))
    installation.publish(callbacks, encode(no_object))
    installation.publish(commands, encode(command_for(installation, system="nowhere")))
    work(installation)
    assert ["malformed_message", "unknown_schema"] == sorted(
        one.code for one in installation.dead_letters(commands)
    )
    assert ["malformed", "malformed_message", "seal_broken"] == sorted(
        one.code for one in installation.dead_letters(callbacks)
    )
    assert ["unknown_system"] == [one.code for one in answers(installation)]


def command_for(installation: Installation, **fields: Any) -> Command:
    request = installation.request(("email", PERSON))
    return Command(
        **{
            "event_id": str(uuid.uuid4()),
            "request_id": request.request_id,
            "system": "crm",
            "kind": "hubspot",
            "verb": "locate",
            "attempt": 1,
            "issued_at": START,
            "not_after": START + 3600 * SECOND,
            "sealed_identifiers": request.sealed_identifiers,
            **fields,
        }
    )


def answers(installation: Installation) -> list[Confirmation]:
    return [decode(one.value, Confirmation) for one in installation.records(topics.CONFIRMATIONS)]


@pytest.mark.parametrize(
    ("fields", "kind", "code"),
    [
        ({"sealed_identifiers": b"\1" * 60}, "failed", "seal_broken"),
        ({"sealed_references": (b"\1" * 60,)}, "failed", "seal_broken"),
        ({"request_id": str(uuid.UUID(int=1))}, "failed", "key_unknown"),
        ({"not_after": START - 1}, "expired", "expired"),
        ({"kind": "hubspot", "system": "agency"}, "failed", "unknown_system"),
    ],
)
def test_a_command_that_cannot_be_carried_out_is_answered(
    installation: Installation, fields: dict[str, Any], kind: str, code: str
) -> None:
    """Nobody waits for an answer that will not come: the saga hears what is wrong."""
    installation.publish(topics.commands("hubspot"), encode(command_for(installation, **fields)))
    work(installation)
    assert [(kind, code)] == [(one.kind, one.code) for one in answers(installation)]


def test_a_missing_secret_fails_the_attempt_and_is_tried_again(installation: Installation) -> None:
    """It is read at its first use: the attempt fails, nobody else is stopped, and it may be put there yet."""
    installation.publish(topics.commands("hubspot"), encode(command_for(installation)))
    work(installation)
    assert [("failed", "secret_unavailable", True)] == [
        (one.kind, one.code, one.retryable) for one in answers(installation)
    ]
