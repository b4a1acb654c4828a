"""The address that the person is told at (`notice_to`): told, and never searched or erased by."""

import base64
import hashlib
from typing import Any

import pytest

from orchestrator.cli.submit import identifier_of, read_lines
from orchestrator.intake import CannotSubmit, Producer
from orchestrator.privacy import (
    IDENTIFIERS,
    Digests,
    Exchange,
    Identifier,
    Identifiers,
    Keyring,
    clean,
    find_personal,
    seal,
)
from orchestrator.saga.events import RequestReceived
from schemas import topics
from schemas.codec import encode
from tests.contract.worker_bench import ANNA, KEY, NOW, REQUEST, Bench, located
from tests.unit.service_world import World, delivered
from tests.unit.test_mailbox import World as MailWorld
from tests.unit.test_mailbox import notice

TOLD = "anna.at.home@people.example"
WORK = "anna@former.example"
DIGESTS = Digests(b"d" * 32)


def person(*emails: str, told: str | None = None) -> Identifiers:
    known = tuple(Identifier("email", one) for one in emails)
    return Identifiers((*known, Identifier("notice_to", told)) if told is not None else known)


# --- the kind ---


def test_it_is_brought_into_the_form_of_an_address() -> None:
    """Whoever types it types capitals and spaces, as for every address."""
    cleaned = clean([Identifier("notice_to", " Anna.At.Home@People.Example ")])
    assert ([TOLD], ()) == ([one.value for one in cleaned.identifiers], cleaned.refused)


def test_there_is_one_at_most() -> None:
    """Two would leave open again which is the right one; the same one twice is one."""
    twice = [Identifier("notice_to", TOLD), Identifier("notice_to", TOLD.upper())]
    assert 1 == len(clean(twice).identifiers)
    assert ("notice_to",) == clean([*twice, Identifier("notice_to", WORK)]).refused


@pytest.mark.parametrize(
    ("identifiers", "addresses"),
    [
        pytest.param(person(WORK, told=TOLD), (TOLD,), id="it is the one that is told"),
        pytest.param(person(WORK), (WORK,), id="without it, the only address"),
        pytest.param(person(WORK, ANNA), (ANNA, WORK), id="several, of which none was chosen"),
        pytest.param(person(), (), id="none"),
    ],
)
def test_where_the_person_may_be_told(identifiers: Identifiers, addresses: tuple[str, ...]) -> None:
    """The chosen address alone, or else every address."""
    assert addresses == identifiers.notice_addresses


def test_it_is_not_among_what_is_searched_by() -> None:
    """Where we write is nobody's record."""
    assert person(WORK) == person(WORK, told=TOLD).searched


def test_it_tells_no_person_from_another_but_a_request() -> None:
    """A second request of the same person is found whatever address it is told at; but it is not the same."""
    plain, chosen = person(WORK), person(WORK, told=TOLD)
    assert DIGESTS.subject(plain) == DIGESTS.subject(chosen)
    content = [
        DIGESTS.content(one, scope=None, capacity="controller", tenant=None) for one in (plain, chosen)
    ]
    assert content[0] != content[1]


def test_a_text_that_has_it_names_the_person() -> None:
    """It is an address like another: in no log, no evidence and no reason."""
    encoded = base64.b64encode(f"written to {TOLD}".encode()).decode()
    assert find_personal(f"told at {TOLD.upper()}", person(WORK, told=TOLD))
    assert find_personal(encoded, person(WORK, told=TOLD))
    assert find_personal(f"digest {hashlib.sha256(TOLD.encode()).hexdigest()}", person(WORK, told=TOLD))


# --- coming in ---


def test_it_can_be_submitted() -> None:
    """A line of its own on standard input."""
    assert [("notice_to", TOLD)] == read_lines([f"notice-to={TOLD}"])
    assert "notice_to" == identifier_of("notice_to", TOLD).kind


def test_it_is_not_enough_to_be_found_by(tmp_path: Any) -> None:
    """A request that says only where to write names nobody."""
    producer = Producer(Exchange(Keyring.create(tmp_path / "keys", NOW)).public_key(), source="test")
    with pytest.raises(CannotSubmit):
        producer.request([Identifier("notice_to", TOLD)], verified=True)
    assert TOLD.encode() not in producer.request(person(WORK, told=TOLD), verified=True).record.value


def test_what_the_saga_hears_of_it() -> None:
    """It is no kind of identifier that anybody could be found by."""
    world = World()
    request = world.request()
    key = world.keys.key_of(request.request_id)
    kinds = []
    for named in (person(WORK, told=TOLD), person(told=TOLD)):
        sealed = seal(key, request.request_id, IDENTIFIERS, named.to_bytes())
        sent = request.model_copy(update={"sealed_identifiers": sealed})
        event = world.reader.read(delivered(topics.REQUESTS, encode(sent))).event
        assert isinstance(event, RequestReceived)
        kinds.append(event.identifier_kinds)
    assert [("email",), ()] == kinds


# --- the handlers ---


@pytest.mark.anyio
async def test_no_handler_sees_it(bench: Bench) -> None:
    """So none can search by it, ask a party by it, or erase by it; and no evidence has it, all the same."""
    sealed = seal(KEY, REQUEST, IDENTIFIERS, person(ANNA, told=TOLD).to_bytes())
    command = bench.command(sealed_identifiers=sealed)
    said = await bench.answer(command, located("700001", account="17", seen=TOLD))
    assert [ANNA] == [one.value for one in bench.handler.asked[0].identifiers]
    assert {"account", "evidence_withheld"} == set(said.evidence)


# --- the mailbox ---


def sealed_for(world: MailWorld, identifiers: Identifiers) -> bytes:
    request_id = next(iter(world.keys.of))
    return seal(world.keys.of[request_id], request_id, IDENTIFIERS, identifiers.to_bytes())


def test_the_notice_goes_there() -> None:
    """And not to the address that comes first in the alphabet."""
    world = MailWorld()
    world.publish(notice(world, sealed_identifiers=sealed_for(world, person("a@former.example", told=TOLD))))
    world.step()
    assert [TOLD] == [recipient for _, recipient in world.postman.sent]


def test_of_several_addresses_none_is_guessed() -> None:
    """One may be a former employer's: the officer is asked."""
    world = MailWorld()
    world.publish(notice(world, sealed_identifiers=sealed_for(world, person(WORK, ANNA))))
    world.step()
    assert [] == world.postman.sent
    assert [("notice_failed", "several_addresses")] == [(one.kind, one.code) for one in world.confirmations()]
