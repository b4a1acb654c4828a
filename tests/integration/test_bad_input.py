"""Bad requests: each is a person whose clock runs, so each is escalated by itself, mailed, and kept sealed.

None of them holds up the requests after it.
"""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.privacy import IDENTIFIERS, new_key, seal
from orchestrator.saga.model import Saga
from schemas import topics
from schemas.codec import encode
from schemas.messages import Request
from tests.integration.installation import PERSON, SECOND, START, Installation, installed

DAY = 86_400 * SECOND


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    with installed(tmp_path, monkeypatch) as made:
        yield made


def good_request_after(installation: Installation) -> str:
    """A request that comes behind the bad one."""
    return installation.submit(("email", "next@people.example"))


def unreadable(installation: Installation) -> Saga:
    """The one request that was opened for something unreadable."""
    found = [saga for saga in installation.sagas() if saga.source == "unreadable"]
    assert 1 == len(found)
    return found[0]


def request_with_unknown_key() -> Request:
    request_id = str(uuid.uuid4())
    return Request(
        event_id="request:one",
        request_id=request_id,
        received_at=START,
        source="test",
        verified=True,
        sealed_identifiers=seal(new_key(), request_id, IDENTIFIERS, b"{}"),
    )


def bad_values(installation: Installation) -> dict[str, bytes]:
    """Each kind of unreadable record, by the code that it gets."""
    good = encode(installation.request(("email", PERSON)))
    broken_seal = installation.request(("email", PERSON))
    broken_seal = broken_seal.model_copy(
        update={"sealed_identifiers": broken_seal.sealed_identifiers[:-1] + b"!"}
    )
    elsewhere = installation.request(("email", PERSON)).sealed_identifiers
    request_id = str(uuid.uuid4())
    no_identifiers = installation.request(
        request_id=request_id,
        sealed_identifiers=installation.sealed(request_id, f'{{"mail": "{PERSON}"}}'.encode()),
    )
    return {
        "rubbish": b"not Avro: " + PERSON.encode(),
        "nothing": b"",
        "cut short": good[: len(good) // 2],
        "too long": good + b"\0",
        "unknown schema": good[:2] + b"\xff" * 8 + good[10:],
        "unknown key": encode(request_with_unknown_key()),
        "broken seal": encode(broken_seal),
        "another request's seal": encode(installation.request(sealed_identifiers=elsewhere)),
        "empty seal": encode(installation.request(sealed_identifiers=b"")),
        "broken identifiers": encode(no_identifiers),
    }


CODES = {
    "rubbish": "malformed_message",
    "nothing": "malformed_message",
    "cut short": "malformed_message",
    "too long": "malformed_message",
    "unknown schema": "unknown_schema",
    "unknown key": "key_unknown",
    "broken seal": "seal_broken",
    "another request's seal": "seal_broken",
    "empty seal": "seal_broken",
    "broken identifiers": "identifiers_broken",
}


@pytest.mark.parametrize("name", CODES)
def test_a_request_that_cannot_be_read_is_a_person_whose_clock_runs(
    installation: Installation, name: str
) -> None:
    """It opens a request by itself, dated by the record, and the DPO is mailed; nothing in it gets out."""
    value = bad_values(installation)[name]
    installation.publish(topics.REQUESTS, value, key=PERSON)
    published_at = installation.clock.now
    after = good_request_after(installation)
    installation.later(hours=5)

    saga = unreadable(installation)
    assert published_at == saga.received_at
    assert ["unreadable_request"] == [one.reason for one in saga.escalations]
    assert CODES[name] == saga.escalations[0].code
    assert f"Radera {saga.request_id}: decision needed" in installation.mails_to_dpo()
    assert "completed" == installation.saga(after).status
    assert not installation.has_leaked(PERSON)


@pytest.mark.parametrize("name", CODES)
def test_an_unreadable_request_is_kept_sealed_with_its_origin(installation: Installation, name: str) -> None:
    """The dead letter opens for the installation alone, is the very record, and says where it came from."""
    value = bad_values(installation)[name]
    installation.publish(topics.REQUESTS, value, key=PERSON)
    installation.settle()

    [letter] = installation.dead_letters(topics.REQUESTS)
    [record] = installation.records(topics.REQUESTS)
    assert value == letter.payload
    assert not value or value not in letter.sealed
    assert CODES[name] == letter.code
    assert (topics.REQUESTS, record.partition, record.offset) == letter.origin
    assert "" == letter.key


def test_an_unreadable_request_is_closed_by_a_decision(installation: Installation) -> None:
    """The DPO finds the sender, rejects the record with a reason, and the request ends."""
    installation.publish(topics.REQUESTS, b"rubbish")
    installation.settle()
    saga = unreadable(installation)
    result = installation.cli("decide", saga.request_id, "cancel", "--reason", "the sender sent it anew")
    installation.settle()
    assert 0 == result.exit_code, result.output
    assert "cancelled" == installation.saga(saga.request_id).status


def test_the_same_unreadable_record_twice_is_two_persons_at_most(installation: Installation) -> None:
    """Bytes that nobody can read can't be told to be the same person's, so each record is escalated."""
    installation.publish(topics.REQUESTS, b"rubbish")
    installation.publish(topics.REQUESTS, b"rubbish")
    installation.settle()
    assert 2 == len(installation.sagas())
    assert 2 == len(installation.dead_letters(topics.REQUESTS))


def test_a_request_that_can_be_read_at_last_is_not_taken_for_a_repeat(installation: Installation) -> None:
    """A producer that mends its seal and sends the same event again gets its request carried out."""
    request = installation.request(("email", PERSON))
    broken = request.model_copy(update={"sealed_identifiers": b"\1" * 60})
    installation.publish(topics.REQUESTS, encode(broken), request.request_id)
    installation.settle()
    installation.publish(topics.REQUESTS, encode(request), request.request_id)
    installation.settle()
    assert "completed" == installation.saga(request.request_id).status


def test_a_forgotten_master_key_makes_one_request_unreadable(installation: Installation) -> None:
    """A key that no master key opens any more must not stop the requests behind it."""
    request = installation.request(("email", PERSON))
    keyring = installation.ground.keyring
    first = keyring.current.number
    keyring.rotate(installation.clock.now)
    keyring.forget([first], installation.clock.now)
    installation.publish(topics.REQUESTS, encode(request), request.request_id)
    after = good_request_after(installation)
    installation.settle()
    assert "generation_forgotten" == unreadable(installation).escalations[0].code
    assert "completed" == installation.saga(after).status


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"scope": ()}, "empty_scope"),
        ({"scope": ("nowhere",)}, "unknown_system"),
        ({"verified": False}, "identity_unverified"),
        ({"received_at": START + 2 * DAY}, "received_in_future"),
        ({"capacity": "processor", "tenant": "nobody", "scope": None}, "empty_scope"),
        ({"capacity": "processor", "tenant": None, "scope": None}, "empty_scope"),
    ],
)
def test_a_request_that_can_be_read_but_not_carried_out_goes_to_the_dpo(
    installation: Installation, fields: dict[str, Any], reason: str
) -> None:
    """The question is open, the DPO has a mail, and the clock runs from the receipt."""
    request_id = installation.submit(("email", PERSON), **fields)
    installation.settle()
    assert reason in installation.questions(request_id)
    assert f"Radera {request_id}: decision needed" in installation.mails_to_dpo()
    assert START == installation.saga(request_id).received_at


def test_a_request_that_names_nobody_goes_to_the_dpo(installation: Installation) -> None:
    """No identifier, nothing to look for: nobody is asked to erase anything."""
    request_id = installation.submit()
    installation.settle()
    assert ["no_usable_identifier"] == installation.questions(request_id)
    assert [] == installation.systems.commands


def test_an_unknown_system_does_not_hold_up_the_known_ones(installation: Installation) -> None:
    """What can be erased is; the unknown name alone waits for the DPO."""
    request_id = installation.submit(("email", PERSON), scope=("crm", "nowhere"))
    installation.settle()
    saga = installation.saga(request_id)
    statuses = {step.system: step.state.status for step in saga.steps}
    assert {"crm": "ended", "nowhere": "awaiting_decision"} == statuses


def test_a_receipt_long_ago_is_overdue_at_once(installation: Installation) -> None:
    """A time of receipt at the beginning of time is taken at its word, and the DPO hears of it."""
    request_id = installation.submit(("email", PERSON), received_at=0)
    installation.systems.says["crm", "locate"] = [None]
    installation.settle()
    assert 0 == installation.saga(request_id).received_at
    assert "overdue" in installation.questions(request_id)


# --- the same id again ---


def test_the_same_request_twice_is_one(installation: Installation) -> None:
    """Neither the same event nor another event with the same content is carried out again."""
    request = installation.request(("email", PERSON))
    again = installation.request(("email", PERSON), request_id=request.request_id)
    for one in (request, request, again):
        installation.publish(topics.REQUESTS, encode(one), request.request_id)
    installation.settle()
    actions = [entry.action for entry in installation.ground.store.timeline(request.request_id)]
    assert 1 == actions.count("received")
    assert 1 == actions.count("duplicate")
    assert ["locate", "erase", "prove"] == [command.verb for command in installation.systems.commands]


@pytest.mark.parametrize("ended", [False, True])
def test_another_content_under_a_known_id_is_kept_and_escalated(
    installation: Installation, ended: bool
) -> None:
    """The second request may be another person: it is not mixed with the first, and the DPO is told."""
    installation.systems.says["crm", "locate"] = [] if ended else [None]
    request_id = installation.submit(("email", PERSON))
    other = installation.request(("email", "other@people.example"), request_id=request_id)
    if ended:
        installation.settle()
    mails = len(installation.mails_to_dpo())
    installation.publish(topics.REQUESTS, encode(other), request_id)
    installation.settle()
    [letter] = installation.dead_letters(topics.REQUESTS)
    # Once the key is destroyed nobody can tell what was asked.
    code = "ended_not_compared" if ended else "request_id_conflict"
    assert (code, encode(other)) == (letter.code, letter.payload)
    assert ended == (installation.questions(request_id) == [])
    assert mails < len(installation.mails_to_dpo())
    assert not installation.has_leaked("other@people.example")


def test_more_identifiers_under_the_same_id_supplement_it(installation: Installation) -> None:
    """Everything known is looked for again, with the new identifier too; it stays one request."""
    installation.systems.says["crm", "locate"] = [None]
    request_id = installation.submit(("email", PERSON))
    installation.settle()
    more = installation.request(("email", PERSON), ("phone", "+46701234567"), request_id=request_id)
    installation.publish(topics.REQUESTS, encode(more), request_id)
    installation.later(hours=13)
    saga = installation.saga(request_id)
    assert ("completed", ("email", "phone")) == (saga.status, saga.identifier_kinds)
    assert [] == installation.dead_letters(topics.REQUESTS)
