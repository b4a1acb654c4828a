"""What may be newer than the erasure: it is looked at, and never erased before the DPO was asked."""

import pytest

from orchestrator.saga.clocks import DAY
from orchestrator.saga.rules import HOUR, SystemPlan
from tests.unit.saga_world import CRM, WEB, World


def started(*plans: SystemPlan) -> World:
    world = World(*plans)
    world.request(tenant="acme")
    return world


def two_erasures_and_a_find() -> tuple[World, int]:
    """Two erasures ran, the first one's yes is still on its way, and a proof saw a record that is older than
    the second. Return when the first one was, too.
    """
    world = started(CRM)
    world.answer("crm", "located")
    first = world.now = world.now + HOUR
    world.until(world.now + 2 * DAY)
    world.dpo("retry", "no_answer")
    world.answer("crm", "accepted")
    world.answer("crm", "still_present", references=b"between")
    return world, first


@pytest.mark.parametrize("is_out", [False, True])
def test_a_record_that_an_earlier_erasure_makes_a_newer_one_is_proved_anew_before_it_is_erased(
    is_out: bool,
) -> None:
    """The first erasure's yes is read last: the record that a proof saw may have been made since. Neither a
    first command nor another one erases it. The proof can't tell, since to it the record is known, and the
    DPO is asked.
    """
    world, first = two_erasures_and_a_find()
    if is_out:
        world.tick()
    erasures = world.verbs("crm").count("erase")
    world.answer("crm", "accepted", attempt=2, occurred_at=first)
    if is_out:
        world.answer("crm", "expired")
    world.tick()
    command = world.command("crm")
    assert ("prove", first, True) == (command.verb, command.erased_at, b"between" in command.references)
    assert erasures == world.verbs("crm").count("erase")
    world.answer("crm", "still_present", references=b"between again")
    assert (["reappeared"], erasures) == (world.questions(), world.verbs("crm").count("erase"))
    assert "earlier_erasure" == world.question("reappeared").code
    world.dpo("erase", "reappeared")
    world.answer("crm", "located", references=b"all")
    assert "erase" == world.command("crm").verb


def test_what_the_earlier_erasure_carried_itself_is_no_newer_one() -> None:
    """A search may bear a later time than the erasure after it, by clocks that differ: what was erased was
    there before.
    """
    world = started(CRM)
    world.answer("crm", "located", occurred_at=world.now + HOUR)
    world.answer("crm", "accepted")
    world.answer("crm", "still_present", references=None)
    world.tick()
    assert ("erase", []) == (world.command("crm").verb, world.questions())


def test_records_that_a_search_saw_after_an_erasure_are_proved_before_they_are_erased() -> None:
    """A search ran twice, before and after an erasure whose yes was read after both."""
    world = started(CRM)
    world.answer("crm", "located")
    first = world.now = world.now + HOUR
    world.now += HOUR
    world.answer("crm", "located", attempt=1, references=b"newer")
    assert "erase" == world.command("crm").verb
    world.answer("crm", "accepted", attempt=2, occurred_at=first)
    world.answer("crm", "expired")
    world.tick()
    assert "prove" == world.command("crm").verb


def found_after_the_erasure() -> World:
    """The search ran twice; the second time it saw a record after the erasure."""
    world = started(CRM)
    world.erase("crm")
    world.now += HOUR
    world.answer("crm", "located", attempt=1, references=b"seen since")
    return world


def test_a_record_that_is_not_found_any_more_is_looked_at_before_the_step_ends() -> None:
    """A record was seen after the erasure, and was given another address since: nobody finds it by the
    person's. It is looked at by itself. Where it is still there it may be a newer one, and the DPO is asked.
    """
    world = found_after_the_erasure()
    world.answer("crm", "proved")
    command = world.command("crm")
    assert ("prove", True) == (command.verb, b"seen since" in command.references)
    erasures = world.verbs("crm").count("erase")
    world.answer("crm", "still_present", references=None)
    assert ["reappeared"] == world.questions()
    assert erasures == world.verbs("crm").count("erase")


def test_a_record_that_is_gone_by_itself_holds_nothing_up() -> None:
    """The look at the record by itself finds nothing, and is the look that was due."""
    world = found_after_the_erasure()
    world.answer("crm", "proved")
    world.answer("crm", "proved")
    assert ("accepted", 1) == (world.status("crm"), world.step("crm").rounds)


def test_what_was_seen_after_an_erasure_is_erased_when_the_person_asks_anew() -> None:
    """With a supplement the time of the erasure begins anew, so that the record is an older one."""
    world = found_after_the_erasure()
    world.supplement(tenant="acme")
    world.answer("crm", "absent")
    command = world.command("crm")
    assert ("erase", True) == (command.verb, b"seen since" in command.references)


def test_where_no_record_is_known_a_proof_comes_before_an_erasure() -> None:
    """The search saw a record after the erasure; a second search, which the DPO wants, finds nothing."""
    world = started(CRM)
    world.answer("crm", "cannot_look")
    world.answer("crm", "accepted")
    world.now += HOUR
    world.answer("crm", "located", attempt=1, references=b"seen since")
    world.answer("crm", "still_present", found=2, references=None, code="ambiguous_match")
    world.dpo("retry", "ambiguous")
    world.answer("crm", "absent")
    assert ("prove", ()) == (world.command("crm").verb, world.command("crm").references)
    world.answer("crm", "proved")
    assert (b"seen since",) == world.command("crm").references


def test_what_was_known_before_a_proof_that_follows_no_erasure_is_no_newer_record() -> None:
    """That proof takes the receipt for the time of the erasure. What an older one told from newer records is
    erased unasked all the same.
    """
    world = started(WEB, CRM)
    world.answer("web", "cannot_look")
    world.answer("web", "accepted")
    proof = world.command("web").attempt
    world.now += HOUR
    world.supplement(tenant="acme")
    world.answer("web", "absent")
    world.now += HOUR
    world.answer("web", "reappeared", attempt=proof)
    world.answer("web", "still_present", attempt=proof, references=b"older")
    world.dpo("retry", "reappeared")
    assert world.open.received_at == world.command("web").erased_at
    world.answer("web", "still_present", references=b"older")
    assert "retrying" == world.status("web")
