"""A request whose saved state can't be read: the officer hears of it once, and can end it."""

from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator.store.tables import sagas
from schemas import topics
from schemas.codec import decode
from schemas.messages import Outcome
from tests.integration.installation import PERSON, Installation, installed


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    with installed(tmp_path, monkeypatch) as made:
        yield made


def broken(installation: Installation) -> str:
    """A request that waits for an answer, and whose state was changed by hand."""
    installation.systems.says["crm", "locate"].insert(0, None)
    request_id = installation.submit(("email", PERSON))
    installation.settle()
    with installation.ground.engine.begin() as connection:
        change = sa.update(sagas).where(sagas.c.request_id == request_id)
        connection.execute(change.values(document='{"steps": 1}'))
    return request_id


def mails_about(installation: Installation, request_id: str) -> list[EmailMessage]:
    """The mails to the officer about a request."""
    return [mail for _, mail in installation.postman.sent if request_id in str(mail["Subject"])]


def test_the_officer_is_mailed_once_by_a_timer(installation: Installation) -> None:
    """However often the state is looked at in vain; the mail has the command that ends it."""
    request_id = broken(installation)
    for _ in range(4):
        installation.later(hours=25)
    (mail,) = mails_about(installation, request_id)
    assert "decision needed" in str(mail["Subject"])
    text = mail.get_content()
    assert "can't be read: another version wrote it" in " ".join(text.split())
    assert f"radera decide {request_id} cancel --escalation e1@1" in text
    assert [] == [one for one in text.splitlines() if "retry" in one]
    told = [decode(one.value, Outcome).event_id for one in installation.records(topics.OUTCOMES)]
    assert [f"broken:{request_id}:1"] == told


def test_the_officer_is_mailed_once_by_an_event(installation: Installation) -> None:
    """The event itself is kept as a dead letter."""
    request_id = broken(installation)
    for _ in range(2):
        installation.confirm(request_id=request_id, system="crm", kind="located", found=1)
        installation.settle()
    assert 1 == len(mails_about(installation, request_id))
    assert {"broken_document"} == {one.code for one in installation.dead_letters(topics.CONFIRMATIONS)}


@pytest.mark.parametrize("named", [[], ["--escalation", "e1@1"]])
def test_it_can_be_cancelled(installation: Installation, named: list[str]) -> None:
    """It ends, its key goes, its timeline goes on unbroken, and the officer is told; another one goes on."""
    request_id = broken(installation)
    installation.later(hours=25)
    result = installation.cli("decide", request_id, "cancel", "--reason", "asked anew", *named)
    assert 0 == result.exit_code, result.output
    installation.settle()
    assert "cancelled" == installation.saga(request_id).status
    check = installation.ground.store.verify_timeline(request_id)
    assert check.is_intact
    assert ["closing", "escalation_resolved", "key_destroyed", "cancelled"] == [
        one.action for one in installation.ground.store.timeline(request_id)[-4:]
    ]
    assert {} == installation.ground.keys.keys_of([request_id])
    assert [] == installation.dead_letters(topics.DECISIONS)
    other = installation.submit(("email", PERSON))
    installation.later(hours=13)
    assert "completed" == installation.saga(other).status


def test_only_cancelling_needs_no_state(installation: Installation) -> None:
    """Any other decision is refused where it is typed, with what is wrong."""
    request_id = broken(installation)
    result = installation.cli("decide", request_id, "retry")
    assert 1 == result.exit_code
    assert f"The saved state of request {request_id} can't be read" in result.stderr


def test_it_stops_no_request_of_the_same_person(installation: Installation) -> None:
    """Who submits is not told of it, and the new request is opened."""
    broken(installation)
    result = installation.cli("submit", "--email", PERSON)
    assert 0 == result.exit_code, result.output
