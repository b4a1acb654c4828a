"""Where the person is told: an address that is added later, and what it changes."""

from typing import Any

import pytest

from orchestrator.privacy import IDENTIFIERS, Identifier, Identifiers, seal
from orchestrator.service.outbound import outcome_of
from schemas import topics
from schemas.codec import decode, encode
from schemas.messages import Command, Confirmation, Outcome, mark
from tests.unit.saga_world import AGENCY, CRM, World
from tests.unit.service_world import NOW
from tests.unit.service_world import World as Installation

SEVERAL = "several_addresses"


def told_at(world: World, **fields: Any) -> None:
    """The same request with the address that the person is told at."""
    given = {"identifiers": b"sealed with an address", "only_where_told": True}
    world.supplement(**{**given, **fields})


def unaddressed() -> World:
    """All is accepted, and the mailbox found several addresses to tell the person at."""
    world = World(CRM)
    world.request()
    world.erase("crm")
    world.mailbox("notice_failed", code=SEVERAL)
    assert ["acted_notice_failed"] == world.questions()
    assert world.open.acted_at is None
    return world


def test_the_notice_goes_out_once_the_address_is_there() -> None:
    """It is asked for by itself; no step begins anew."""
    world = unaddressed()
    asked, commands = len(world.outcomes("notice")), len(world.commands())
    told_at(world)
    assert ([], asked + 1, commands) == (
        world.questions(),
        len(world.outcomes("notice")),
        len(world.commands()),
    )
    world.mailbox()
    assert world.open.acted_at is not None


def test_the_officer_may_tell_the_person_otherwise() -> None:
    """She says how; the question is about that notice."""
    world = unaddressed()
    world.dpo("waive", "acted_notice_failed")
    assert ([], True) == (world.questions(), world.open.acted_at is not None)


def test_the_address_goes_with_notices_alone() -> None:
    """What commands carry stays what they were about, so that answers to them still count."""
    world = unaddressed()
    told_at(world)
    notice = outcome_of(world.open, world.outcomes("notice")[-1], world.now, {})
    assert (b"sealed", b"sealed with an address") == (world.open.identifiers, notice.sealed_identifiers)


def test_it_may_come_before_anybody_is_told() -> None:
    """Then the first notice has it; and the request with it is the one that is repeated."""
    world = World(CRM)
    world.request()
    told_at(world)
    world.supplement(identifiers=b"sealed with an address", only_where_told=True)
    assert ["notice_address_added", "duplicate"] == [one.action for one in world.entries[-2:]]
    world.erase("crm")
    assert b"sealed with an address" == world.open.all_identifiers


def test_a_later_supplement_is_all_that_is_known() -> None:
    """It repeats the address, and adds what is searched by."""
    world = World(CRM)
    world.request()
    told_at(world)
    world.supplement(identifiers=b"sealed, all of it", content_digest="f" * 64)
    assert (b"sealed, all of it", b"sealed, all of it") == (
        world.open.identifiers,
        world.open.all_identifiers,
    )


def test_a_notice_that_waits_for_an_address_has_it_from_any_supplement() -> None:
    """An extension must be told within the month: it is not asked for twice."""
    world = World(AGENCY)
    world.request()
    world.dpo("extend")
    world.mailbox("notice_failed", code=SEVERAL)
    assert ["extended_notice_failed"] == world.questions()
    world.supplement()
    assert ([], 2) == (world.questions(), len(world.outcomes("notice")))
    world.mailbox()
    assert world.open.extended


def test_a_rejection_can_still_be_addressed() -> None:
    """The request closes, and waits for the person to be told."""
    world = World(CRM)
    world.request()
    world.dpo("reject")
    world.mailbox("notice_failed", code=SEVERAL)
    assert ("closing", ["rejected_notice_failed"]) == (world.open.status, world.questions())
    told_at(world)
    world.mailbox()
    assert [] == world.questions()
    world.tick()
    assert "rejected" == world.open.status


def test_nobody_redirects_letters_unverified() -> None:
    """Whoever knows a request's id could read its letters otherwise."""
    world = unaddressed()
    told_at(world, verified=False)
    assert {"acted_notice_failed", "request_id_conflict"} == set(world.questions())
    assert b"sealed" == world.open.all_identifiers


def test_an_address_that_joins_an_unverified_request_is_verified_with_it() -> None:
    """The question changes with it; a decision on the one before is void."""
    world = World(CRM)
    world.request(verified=False)
    before = world.question("identity_unverified")
    told_at(world, verified=False)
    assert before.version + 1 == world.question("identity_unverified").version


@pytest.mark.parametrize("state", ["completed", "cancelled"])
def test_it_comes_too_late_for_a_request_that_has_ended(state: str) -> None:
    """The key is gone; the officer hears of it."""
    world = World(CRM)
    world.request()
    if state == "completed":
        world.finish("crm")
        world.mail_everything()
    else:
        world.dpo("cancel")
    while not world.open.is_finished:
        world.tick()
    told_at(world)
    assert ["corrected"] == [one.kind for one in world.outcomes("corrected")]


# --- from the request to the mailbox's outcome ---


def test_what_was_added_is_told_from_what_was_known() -> None:
    """Only the request's key can say that nothing but the address is new: then no system is asked again, and
    the next notice carries it.
    """
    world = Installation()
    request = world.request()
    key = world.keys.key_of(request.request_id)

    def sealed(*named: Identifier) -> bytes:
        return seal(key, request.request_id, IDENTIFIERS, Identifiers(named).to_bytes())

    mail = Identifier("email", "canary.person@people.example")
    told = Identifier("notice_to", "canary.at.home@people.example")
    again = request.model_copy(update={"event_id": "again", "sealed_identifiers": sealed(mail, told)})
    world.publish(topics.REQUESTS, encode(request), encode(again))
    while world.orchestrator.step(0.0):
        pass
    assert [*("received", "started", "command_sent", "step"), "notice_address_added"] == world.actions(
        request.request_id
    )
    world.relay.step()
    [command] = [decode(one.value, Command) for one in world.records(topics.commands("crm"))]
    absent = Confirmation(
        event_id="absent",
        request_id=request.request_id,
        system="crm",
        command_id=command.event_id,
        verb="locate",
        attempt=command.attempt,
        kind="absent",
        grade="seen_absent",
        occurred_at=NOW,
        about=(mark(command.sealed_identifiers),),
    )
    world.publish(topics.CONFIRMATIONS, encode(absent))
    while world.orchestrator.step(0.0):
        pass
    world.relay.step()
    outcomes = [decode(one.value, Outcome) for one in world.records(topics.OUTCOMES)]
    assert [again.sealed_identifiers] == [one.sealed_identifiers for one in outcomes if one.kind == "notice"]
