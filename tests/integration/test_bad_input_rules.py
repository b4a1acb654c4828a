"""Our own faults: a rule that raises, a state that can't be read, a batch that fails as a whole.

One request is set aside, the DPO is asked, and every other one goes on.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.saga import table
from orchestrator.saga.draft import Draft
from orchestrator.saga.events import Event
from orchestrator.saga.model import Step, StepStatus
from orchestrator.service import outbound
from orchestrator.service.housekeeping import Housekeeping
from orchestrator.store import Transaction
from orchestrator.store.tables import sagas, timeline
from schemas import topics
from schemas.codec import encode
from schemas.messages import mark
from tests.integration.installation import PERSON, Installation, installed


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    with installed(tmp_path, monkeypatch) as made:
        yield made


class Fault(Exception):
    """A fault in a rule."""


def broken(draft: Draft, step: Step, event: Event) -> Step:
    raise Fault(f"quoting {PERSON}")


def break_rule(monkeypatch: pytest.MonkeyPatch, status: StepStatus, trigger: str) -> None:
    rows = dict(table.STEP_TABLE)
    rows[status] = {**rows[status], trigger: rows[status][trigger]._replace(rule=broken)}
    monkeypatch.setattr(table, "STEP_TABLE", rows)


def several(installation: Installation, count: int = 3) -> list[str]:
    """Requests whose commands to erase are out."""
    installation.systems.says["crm", "erase"] = [None] * count
    made = [installation.submit(("email", f"person-{n}@people.example")) for n in range(count)]
    installation.settle()
    return made


def accept(installation: Installation, request_id: str) -> None:
    """The CRM's answer to the command to erase."""
    saga = installation.saga(request_id)
    step = saga.steps[0]
    installation.confirm(
        request_id=request_id,
        system="crm",
        command_id=step.command_id,
        attempt=step.attempt,
        verb="erase",
        kind="accepted",
        erased=1,
        about=(mark(saga.identifiers), *map(mark, step.references)),
    )


def break_document(installation: Installation, request_id: str) -> None:
    with installation.ground.engine.begin() as connection:
        connection.execute(
            sa.update(sagas).where(sagas.c.request_id == request_id).values(document='{"version": "1"}')
        )


# --- a rule that raises ---


def test_a_rule_that_raises_sets_one_request_aside(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is quarantined, escalated and mailed, its event is kept, and the rest of the batch goes on."""
    first, second, third = several(installation)
    with monkeypatch.context() as patch:
        break_rule(patch, "erasing", "refused")
        installation.confirm(request_id=first, system="crm", kind="refused", code="x")
        accept(installation, second)
        accept(installation, third)
        installation.settle()
    assert ["quarantined"] == installation.questions(first)
    assert installation.saga(first).quarantined
    assert f"Radera {first}: decision needed" in installation.mails_to_dpo()
    assert ["rule_failed"] == [one.code for one in installation.dead_letters(topics.CONFIRMATIONS)]
    assert [None, None] != [installation.saga(one).acted_at for one in (second, third)]
    assert not installation.has_leaked(PERSON)
    assert b"radera_sagas_quarantined_total 1.0" in installation.metrics.text()


def test_a_quarantined_request_keeps_what_comes_and_a_retry_releases_it(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers' answers are parked while it stands still; once the fault is mended it asks again, and ends."""
    [request_id] = several(installation, 1)
    with monkeypatch.context() as patch:
        break_rule(patch, "erasing", "accepted")
        accept(installation, request_id)
        installation.settle()
    command = installation.saga(request_id).steps[0].command_id
    installation.confirm(request_id=request_id, system="crm", kind="located", found=2, command_id=command)
    installation.settle()
    assert ["rule_failed", "quarantined"] == [
        one.code for one in installation.dead_letters(topics.CONFIRMATIONS)
    ]
    escalation = installation.saga(request_id).escalations[0]
    result = installation.cli("decide", request_id, "retry", "--escalation", f"{escalation.id}@1")
    assert 0 == result.exit_code, result.output
    installation.settle()
    # The command that was parked may still be carried out until then.
    installation.later(hours=25)
    saga = installation.saga(request_id)
    assert ("completed", False) == (saga.status, saga.quarantined)


def test_a_quarantined_request_reminds_and_may_be_cancelled(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standing still is no way to be forgotten, and never the only way out."""
    [request_id] = several(installation, 1)
    with monkeypatch.context() as patch:
        break_rule(patch, "erasing", "accepted")
        accept(installation, request_id)
        installation.settle()
    mails = len(installation.mails_to_dpo())
    installation.later(days=4)
    assert mails < len(installation.mails_to_dpo())
    refused = installation.cli("decide", request_id, "extend", "--reason", "complex")
    assert (1, True) == (refused.exit_code, "set aside" in refused.output)
    assert 0 == installation.cli("decide", request_id, "cancel", "--reason", "done by hand").exit_code
    installation.later(hours=25)
    assert "cancelled" == installation.saga(request_id).status


def test_a_rule_that_raises_at_the_beginning_opens_the_request_all_the_same(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person whose request trips over a fault of ours is a person whose clock runs."""
    with monkeypatch.context() as patch:
        break_rule(patch, "waiting", "start")
        request_id = installation.submit(("email", PERSON))
        installation.settle()
    assert ["unreadable_request"] == installation.questions(request_id)
    assert "rule_failed" == installation.saga(request_id).escalations[0].code
    assert ["rule_failed"] == [one.code for one in installation.dead_letters(topics.REQUESTS)]


def test_a_timer_whose_rule_raises_stops_no_other_timer(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alarm of the one becomes a quarantine, the alarms of the others come as they should."""
    first, second, third = several(installation)

    def sometimes(draft: Draft, step: Step, event: Event) -> Step:
        return broken(draft, step, event) if draft.saga.request_id == first else usual(draft, step, event)

    usual = table.STEP_TABLE["erasing"]["timer"].rule
    rows = dict(table.STEP_TABLE)
    rows["erasing"] = {**rows["erasing"], "timer": rows["erasing"]["timer"]._replace(rule=sometimes)}
    monkeypatch.setattr(table, "STEP_TABLE", rows)
    installation.later(hours=25)
    found = {one: installation.questions(one) for one in (first, second, third)}
    assert {first: ["quarantined"], second: ["no_answer"], third: ["no_answer"]} == found


def test_a_request_that_cannot_be_put_into_words_stops_no_timer(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where even the quarantine can't be said, the request is left alone and counted; it is tried again."""
    first, second, _ = several(installation)
    usual = outbound.outgoing

    def outgoing(decision: Any, now: int) -> Any:
        if decision.saga.request_id == first:
            raise Fault
        return usual(decision, now)

    with monkeypatch.context() as patch:
        patch.setattr("orchestrator.service.orchestrator.outgoing", outgoing)
        installation.later(hours=25)
        assert ["no_answer"] == installation.questions(second)
        assert [] == installation.questions(first)
        assert 1 == installation.ground.store.figures().quarantined
    installation.later(hours=2)
    assert ["no_answer"] == installation.questions(first)
    assert 0 == installation.ground.store.figures().quarantined


# --- a state that can't be read ---


def test_a_broken_document_stops_no_other_event(installation: Installation) -> None:
    """Its event is kept as a dead letter; the others of its batch are applied."""
    first, second, third = several(installation)
    break_document(installation, second)
    accept(installation, first)
    installation.confirm(request_id=second, system="crm", kind="accepted", erased=1)
    accept(installation, third)
    installation.settle()
    assert ["broken_document"] == [one.code for one in installation.dead_letters(topics.CONFIRMATIONS)]
    assert [True, True] == [installation.saga(one).acted_at is not None for one in (first, third)]


def test_a_broken_document_stops_no_timer(installation: Installation) -> None:
    """The timers of the others fire, however many are broken, and the broken ones are counted."""
    first, second, third = several(installation)
    break_document(installation, first)
    break_document(installation, second)
    installation.orchestrator._batch = 1
    for _ in range(3):
        installation.later(hours=25)
    assert ["no_answer"] == installation.questions(third)
    assert 2 == installation.ground.store.figures().quarantined


def test_a_mended_document_goes_on(installation: Installation) -> None:
    """What was set aside is looked at again after a while."""
    [request_id] = several(installation, 1)
    with installation.ground.engine.begin() as connection:
        whole = connection.execute(sa.select(sagas.c.document)).scalar_one()
    break_document(installation, request_id)
    installation.later(hours=25)
    with installation.ground.engine.begin() as connection:
        connection.execute(sa.update(sagas).values(document=whole))
    installation.later(hours=2)
    assert ["no_answer"] == installation.questions(request_id)
    assert 0 == installation.ground.store.figures().quarantined


def test_a_request_under_the_id_of_a_broken_one_is_a_person_all_the_same(installation: Installation) -> None:
    """It can't be told to be a repeat, so it opens a request by itself. The DPO is mailed about both."""
    [request_id] = several(installation, 1)
    break_document(installation, request_id)
    again = installation.request(("email", PERSON), request_id=request_id)
    installation.publish(topics.REQUESTS, encode(again), request_id)
    installation.settle()
    assert ["broken_document"] == [one.code for one in installation.dead_letters(topics.REQUESTS)]
    assert 2 == sum("decision needed" in subject for subject in installation.mails_to_dpo())


def test_a_broken_document_stops_no_list(installation: Installation) -> None:
    """`radera status` lists the others, says which can't be read, and exits with 1."""
    first, second, third = several(installation)
    break_document(installation, second)
    for arguments in ([], ["--json"]):
        result = installation.cli("status", *arguments)
        assert 1 == result.exit_code
        assert (True, False, True) == tuple(one in result.stdout for one in (first, second, third))
        assert f"The saved state of request {second} can't be read" in result.stderr


def test_a_broken_document_stops_no_housekeeping(installation: Installation) -> None:
    """Old digests of the others are forgotten; the process does not end over one that can't be."""
    made = [installation.submit(("email", f"person-{n}@people.example")) for n in range(3)]
    installation.later(hours=13)
    break_document(installation, made[1])
    house = Housekeeping(
        store=installation.ground.store,
        bus=installation.ground.bus,
        retention=installation.ground.settings.retention,
    )
    installation.later(days=100)
    house.step()
    assert ["", ""] == [installation.saga(one).subject_digest for one in (made[0], made[2])]


@pytest.mark.parametrize("command", [["status"], ["timeline"], ["decide", "verify", "--reason", "x"]])
def test_the_command_line_says_which_request_cannot_be_read(
    installation: Installation, command: list[str]
) -> None:
    """One line with its id, and an exit code."""
    [request_id] = several(installation, 1)
    break_document(installation, request_id)
    result = installation.cli(command[0], request_id, *command[1:])
    assert 1 == result.exit_code
    assert f"The saved state of request {request_id} can't be read" in result.stderr


# --- a batch that fails ---


def test_a_batch_that_fails_is_applied_event_by_event(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever makes the transaction fail for one event costs none of the others."""
    first, second, third = several(installation)
    usual = Transaction.save

    def save(transaction: Transaction, changed: Any, *doubt: Any) -> None:
        changed = list(changed)
        if any(saga.request_id == second for saga in changed):
            raise Fault
        usual(transaction, changed, *doubt)

    monkeypatch.setattr(Transaction, "save", save)
    for one in (first, second, third):
        accept(installation, one)
    installation.settle()
    assert ["event_failed"] == [one.code for one in installation.dead_letters(topics.CONFIRMATIONS)]
    acted = [installation.saga(one).acted_at is not None for one in (first, second, third)]
    assert [True, False, True] == acted


def test_a_request_that_cannot_be_saved_is_a_person_all_the_same(installation: Installation) -> None:
    """A timeline is there already under its id, so it can't begin one: it is opened under another."""
    request = installation.request(("email", PERSON))
    with installation.ground.engine.begin() as connection:
        connection.execute(sa.insert(sagas).values(request_id=request.request_id, version=0, updated_at=0))
        connection.execute(
            sa.insert(timeline).values(
                request_id=request.request_id, seq=1, at=0, action="x", data={}, previous="", hash=""
            )
        )
    installation.publish(topics.REQUESTS, encode(request), request.request_id)
    installation.settle()
    [saga] = installation.sagas()
    assert ["unreadable_request"] == [one.reason for one in saga.escalations]
    assert [("event_failed", encode(request))] == [
        (one.code, one.payload) for one in installation.dead_letters(topics.REQUESTS)
    ]
    assert 1 == len(installation.mails_to_dpo())
