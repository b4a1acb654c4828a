"""What a saga decided leaves whole: commands, the lines of an outcome, and the person in a notice alone."""

from dataclasses import fields, replace
from typing import Any

import pytest

from orchestrator.bus.port import Delivery
from orchestrator.saga.decide import Decision
from orchestrator.saga.draft import SendCommand, SendOutcome
from orchestrator.saga.model import Ended, Escalation, Finished, InProgress, Place, Saga, Step, Waiting
from orchestrator.service.outbound import dead_letter, outcome_of, outgoing, system_outcome
from schemas import topics
from schemas.codec import decode
from schemas.messages import Command, SystemOutcome
from tests.unit.service_world import NOW

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SAGA = Saga(
    request_id="3f1c7a52-9d8e-4b60-8a11-2f5e6d7c8b90",
    version=3,
    state=InProgress(until=9),
    received_at=NOW - 50,
    due_at=NOW + 60,
    source="form",
    capacity="processor",
    tenant="byggfirman",
    language="sv",
    identifiers=b"\x01sealed identifiers",
    steps=(Step(system="crm", kind="hubspot", state=Waiting(until=9)),),
    acted_at=NOW - 1,
    reason="the reason",
    head="a" * 64,
    trace=TRACE,
)
SENT = SendCommand(
    event_id="command:1",
    system="crm",
    kind="hubspot",
    verb="prove",
    attempt=4,
    not_after=NOW + 7,
    reminder=True,
    erased_at=NOW - 8,
    accepted_at=NOW - 6,
    found=5,
    instruction="erase",
    takes_all=2,
    references=(b"\x01first", b"\x01second"),
)


def decision(message: Any, saga: Saga = SAGA) -> Decision:
    return Decision(saga=saga, messages=(message,), entries=())


def test_all_that_a_command_says_reaches_the_worker() -> None:
    """Each field of the decision, and what the saga knows of the request."""
    [record] = outgoing(decision(SENT), NOW)
    command = decode(record.value, Command)
    names = [one.name for one in fields(SendCommand) if one.name != "references"]
    assert {name: getattr(SENT, name) for name in names} == {name: getattr(command, name) for name in names}
    assert (SENT.references, SAGA.identifiers, NOW) == (
        command.sealed_references,
        command.sealed_identifiers,
        command.issued_at,
    )
    assert (SAGA.capacity, SAGA.tenant, SAGA.language) == (command.capacity, command.tenant, command.language)
    assert (topics.commands("hubspot"), SAGA.request_id) == (record.topic, record.key)
    assert b"4bf92f3577b34da6a3ce929d0e0e4736" in dict(record.headers)["traceparent"]


@pytest.mark.parametrize(("kind", "carries"), [("notice", True), ("completed", False), ("escalated", False)])
def test_the_person_travels_with_a_notice_and_with_nothing_else(kind: Any, carries: bool) -> None:
    """The mailbox needs the person's address for a letter to the person; the DPO's mails need none."""
    outcome = outcome_of(SAGA, SendOutcome(event_id="o", kind=kind), NOW, {})
    assert (SAGA.identifiers if carries else None) == outcome.sealed_identifiers


def test_an_outcome_shows_the_saga() -> None:
    """Its dates, its reason, its head, and each open question with the decisions that are offered."""
    question = Escalation(
        id="e2",
        version=3,
        reason="failed",
        system="crm",
        code="no_rights",
        raised_at=NOW - 4,
        remind_at=NOW + 4,
    )
    saga = replace(SAGA, escalations=(question,))
    outcome = outcome_of(
        saga,
        SendOutcome(event_id="o", kind="escalated", concerns="e2", code="no_rights"),
        NOW,
        {"e2": ("retry", "waive")},
    )
    assert (saga.status, saga.received_at, saga.due_at, saga.acted_at, saga.reason, saga.head) == (
        outcome.status,
        outcome.received_at,
        outcome.due_at,
        outcome.acted_at,
        outcome.reason,
        outcome.timeline_head,
    )
    [told] = outcome.escalations
    assert ("e2", 3, "failed", "crm", "no_rights", NOW - 4) == (
        told.escalation_id,
        told.version,
        told.reason,
        told.system,
        told.code,
        told.raised_at,
    )
    assert ("retry", "waive") == told.actions
    assert ("e2", "no_rights", NOW) == (outcome.concerns, outcome.code, outcome.occurred_at)


def ended(system: str, grade: Any) -> Step:
    return Step(
        system=system,
        kind="k",
        state=Ended(end="erased", at=NOW, grade=grade),
        grade=grade,
        found=1,
        erased=1,
    )


def test_an_outcome_is_as_strong_as_its_weakest_proof() -> None:
    """In whatever order the systems stand; one that has not ended is no proof at all."""
    steps = (ended("a", "seen_absent"), ended("b", "vendor_promised"), ended("c", "party_stated"))
    open_one = replace(ended("d", "vendor_promised"), state=Waiting(until=9))
    for saga, grade in (
        (replace(SAGA, steps=steps), "vendor_promised"),
        (replace(SAGA, steps=(steps[0], steps[2], open_one)), "party_stated"),
        (replace(SAGA, steps=(open_one,)), None),
    ):
        assert grade == outcome_of(saga, SendOutcome(event_id="o", kind="acted"), NOW, {}).grade


def test_a_systems_line_tells_its_end() -> None:
    """With the law that it is kept by, until when, what was missing, and each place as it was reported."""
    places = (
        Place(name="persons", looked=True, by={"email": 2}, not_by={"phone": 1}),
        Place(name="chats", looked=False, reason="not_configured"),
    )
    state = Ended(
        end="retained",
        at=NOW,
        grade="party_stated",
        legal_basis="bookkeeping",
        retained_until=NOW + 99,
        missing=("phone",),
        reason="the party's",
    )
    step = Step(
        system="crm",
        kind="k",
        state=state,
        found=4,
        erased=3,
        grade="party_stated",
        evidence={"erase.left": "1"},
        places=places,
    )
    told = system_outcome(step)
    expected = SystemOutcome(
        system="crm",
        status="retained",
        grade="party_stated",
        found=4,
        erased=3,
        legal_basis="bookkeeping",
        retained_until=NOW + 99,
        missing=("phone",),
        reason="the party's",
        evidence={"erase.left": "1"},
        places=told.places,
    )
    assert expected == told
    assert [
        {"name": "persons", "looked": True, "by": {"email": 2}, "not_by": {"phone": 1}, "reason": None},
        {"name": "chats", "looked": False, "by": {}, "not_by": {}, "reason": "not_configured"},
    ] == [one.model_dump() for one in told.places]
    still_open = system_outcome(replace(step, state=Waiting(until=9)))
    assert ("waiting", 4, 3, told.places) == (
        still_open.status,
        still_open.found,
        still_open.erased,
        still_open.places,
    )


def test_a_contradicted_end_says_so_before_anything_else() -> None:
    """The reason of the end must not hide that a later fact speaks against it."""
    state = Ended(
        end="erased", at=NOW, grade="seen_absent", reason="the reason", contradicted="still_present"
    )
    assert "still_present" == system_outcome(Step(system="crm", kind="k", state=state)).reason


def test_a_finished_request_still_tells_its_systems() -> None:
    """What is corrected after the end is corrected line by line."""
    saga = replace(SAGA, state=Finished(status="completed", at=NOW), steps=(ended("a", "seen_absent"),))
    outcome = outcome_of(saga, SendOutcome(event_id="o", kind="corrected", code="x"), NOW, {})
    assert ("completed", ["erased"]) == (outcome.status, [one.status for one in outcome.systems])


def test_each_record_and_each_reason_is_a_dead_letter_of_its_own() -> None:
    """A record that failed twice in different ways is kept twice; one that failed again is kept once."""

    def letter(offset: int, code: str) -> str:
        delivery = Delivery(topic="t", key="", value=b"v", partition=1, offset=offset, timestamp=NOW)
        return dead_letter(delivery, code, lambda data: b"sealed", "").event_id

    ids = [letter(1, "a"), letter(1, "b"), letter(2, "a"), letter(1, "a")]
    assert 3 == len(set(ids))
    assert ids[0] == ids[3]
