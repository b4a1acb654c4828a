"""A request from its receipt to its end: the usual ways, and orders of events that are easy to get wrong."""

from dataclasses import replace
from graphlib import CycleError

import pytest

from orchestrator.saga import table
from orchestrator.saga.clocks import DAY, SECOND, due_at
from orchestrator.saga.decide import UnknownRequest
from orchestrator.saga.draft import RuleBroken
from orchestrator.saga.events import Confirmed
from orchestrator.saga.model import Ended, Finished
from orchestrator.saga.rules import HOUR, MINUTE, Rules, SystemPlan
from tests.unit.saga_world import (
    CRM,
    MARKETING,
    PAPER,
    REQUEST,
    START,
    SWEDEN,
    TENANT,
    WEB,
    World,
    at,
    rules_for,
)


def started(*plans: SystemPlan) -> World:
    world = World(*plans)
    world.request(tenant="acme")
    return world


def status_of(world: World) -> str:
    return world.open.status


# --- the usual ways ---


def test_located_erased_proved_and_told() -> None:
    """Two systems in order, a second look after a fortnight; acted on at once, completed when proved."""
    world = started(CRM, MARKETING)
    assert ("locating", "waiting") == (world.status("crm"), world.status("marketing"))
    world.erase("crm")
    assert ("proving", "locating") == (world.status("crm"), world.status("marketing"))
    world.answer("crm", "proved")
    world.erase("marketing")
    world.answer("marketing", "proved")
    assert ("accepted", "erased") == (world.status("crm"), world.status("marketing"))
    world.mailbox()
    assert (START, "in_progress") == (world.open.acted_at, world.open.status)
    world.until(START + 14 * DAY)
    assert ["locate", "erase", "prove", "prove"] == world.verbs("crm")
    assert b"references of 1" in world.command("crm").references
    assert START == world.command("crm").erased_at
    world.answer("crm", "proved")
    assert "completed" == world.open.status
    assert ["notice", "acted", "completed"] == [
        one.kind for one in world.messages if one not in world.commands()
    ]


def test_nothing_found_anywhere_completes() -> None:
    """Absent, with the evidence for it, is an end; so is a system that holds nothing identifiable."""
    world = started(WEB, PAPER)
    world.answer("web", "absent")
    world.mailbox()
    assert ("absent", "not_identifiable", "completed") == (
        world.status("web"),
        world.status("paper"),
        world.open.status,
    )


def test_a_slow_purge_makes_no_request_overdue() -> None:
    """Accepted and told within the month is enough; the proof has its own time."""
    world = World(replace(CRM, look_again=(45 * DAY,), patience=90 * DAY))
    world.request()
    world.erase("crm")
    world.mailbox()
    world.until(world.open.due_at + 2 * DAY)
    assert [] == world.questions()


def test_no_evidence_is_no_end() -> None:
    """An absence or a proof without a grade is a fault of its handler, for the DPO to see."""
    for kind in ("absent", "proved"):
        world = started(WEB)
        if kind == "proved":
            world.erase("web")
        world.answer("web", kind, grade=None)
        assert ["failed"] == world.questions()


def test_nothing_completes_with_an_open_question() -> None:
    """Even when all is erased, a question that nobody answered holds up the end."""
    world = World(WEB)
    world.request(received_at=START + DAY)
    world.answer("web", "absent")
    world.mailbox()
    assert "in_progress" == status_of(world)
    world.dpo("waive", "received_in_future")
    assert "completed" == status_of(world)


def test_a_receipt_in_the_future_runs_from_now() -> None:
    """The earlier date is the safe one; a few minutes of a sender's clock are let pass."""
    world = World(CRM)
    world.request(received_at=START + DAY)
    assert due_at(START, SWEDEN) == world.open.due_at
    world = World(CRM)
    world.request(received_at=START + 4 * MINUTE)
    assert [] == world.questions()


# --- clocks ---


def test_an_extension_told_in_time_counts_three_months_from_receipt() -> None:
    """It takes effect when the person was told, and silences the alarm."""
    world = started(CRM)
    world.until(world.open.due_at - 2 * DAY)
    world.dpo("extend", "deadline_near")
    assert not world.open.extended
    world.mailbox()
    assert due_at(START, SWEDEN, months=3) == world.open.due_at
    assert "deadline_near" not in world.questions()
    world.dpo("extend")
    assert "already_extended" == world.outcomes("decision_refused")[-1].code


def test_an_extension_told_in_time_but_confirmed_late_lifts_the_alarm() -> None:
    """What counts is when the mail went out, not when we heard of it."""
    world = started(CRM)
    world.until(world.open.due_at - HOUR)
    sent_at = world.now
    world.dpo("extend")
    world.until(world.open.due_at + HOUR)
    assert "overdue" in world.questions()
    world.mailbox(occurred_at=sent_at + MINUTE)
    assert (True, False) == (world.open.extended, "overdue" in world.questions())


def test_an_extension_told_too_late_is_void() -> None:
    """The month is over: the request is overdue, and stays so."""
    world = started(CRM)
    world.until(world.open.due_at - HOUR)
    world.dpo("extend")
    world.until(world.open.due_at + HOUR)
    world.mailbox()
    assert (False, True) == (world.open.extended, "overdue" in world.questions())
    world.dpo("extend")
    assert "already_extended" == world.outcomes("decision_refused")[-1].code


def test_too_late_to_extend() -> None:
    """Not after the month, nor after the request was acted on."""
    world = started(CRM)
    world.until(world.open.due_at + 1)
    world.dpo("extend")
    world.erase("crm")
    world.mailbox()
    world.dpo("extend")
    assert ["too_late", "already_acted"] == [one.code for one in world.outcomes("decision_refused")]


def test_told_otherwise_extends_at_once() -> None:
    """An installation that informs people itself records it with the decision."""
    world = World(CRM, notify_subject=False)
    world.request()
    world.dpo("extend")
    assert world.open.extended


# --- the end ---


def test_closing_waits_until_nothing_can_act_any_more() -> None:
    """An attempt that has not answered may act until its `not_after` and the limit of a call have passed."""
    world = started(WEB)
    world.dpo("cancel")
    assert "closing" == world.open.status
    limit = world.command("web").not_after + world.rules.waits.call_limit
    world.until(limit)
    assert "closing" == world.open.status
    world.tick()
    assert (Finished(status="cancelled", at=limit + 1), 1) == (world.open.state, world.keys_destroyed)


def test_closing_ends_as_soon_as_all_have_answered() -> None:
    """A fact that arrives while closing is kept on the record of the step that was stopped."""
    world = started(WEB)
    world.answer("web", "located")
    world.dpo("cancel")
    world.answer("web", "accepted", erased=1)
    state = world.step("web").state
    assert isinstance(state, Ended)
    assert ("cancelled", "accepted", 1) == (world.open.status, state.contradicted, world.step("web").erased)


def test_closing_reopens_for_a_fact_that_contradicts_the_end() -> None:
    """Two looks are out; the first says absent, and the second finds records before the request has ended."""
    world = started(WEB)
    world.until(START + 2 * DAY)
    world.dpo("retry", "no_answer")
    world.answer("web", "absent")
    world.mailbox()
    assert "completed" == world.open.status  # the first look can no longer act

    world = started(WEB)
    world.now += HOUR
    world.supplement(tenant="acme")
    world.answer("web", "absent")
    world.mailbox()
    assert "closing" == world.open.status
    world.answer("web", "located", attempt=1)
    assert ("in_progress", "erasing") == (world.open.status, world.status("web"))
    world.answer("web", "accepted")
    world.answer("web", "proved")
    assert ("in_progress", 2) == (world.open.status, len(world.outcomes("notice")))
    world.mailbox()  # the first letter said that nothing was there
    assert ("completed", 1) == (world.open.status, world.keys_destroyed)


def test_a_mailbox_that_refuses_asks_the_dpo_and_then_closing_ends() -> None:
    """A rejection that can't be mailed is told otherwise; the question survives the closing's clean-up."""
    world = started(WEB)
    world.dpo("reject")
    world.mailbox("notice_failed", code="no_address")
    world.until(START + 20 * DAY)
    assert ("closing", ["rejected_notice_failed"]) == (world.open.status, world.questions())
    world.dpo("waive", "rejected_notice_failed")
    assert "rejected" == world.open.status


def test_a_mail_sent_for_an_earlier_asking_told_the_person() -> None:
    """Asked again after silence, and then the first mail is confirmed: that is enough."""
    world = started(WEB)
    world.answer("web", "absent")
    first = world.outcomes("notice")[0].event_id
    world.until(START + 2 * DAY)
    world.dpo("retry", "acted_notice_silent")
    world.mailbox("notice_sent", command_id=first)
    assert "completed" == world.open.status


def test_the_same_end_is_the_same_mail() -> None:
    """By whichever answer a request that is read again comes to it. Another end is another mail."""

    def ended(*systems: str, kind: str = "absent") -> str:
        world = started(WEB, MARKETING)
        for system in systems:
            world.answer(system, kind)
        if kind == "located":
            for system in systems:
                world.answer(system, "accepted")
                world.answer(system, "proved")
        world.mailbox()
        return world.outcomes("completed")[0].event_id

    one = ended("web", "marketing")
    assert one == ended("marketing", "marketing", "web")
    assert one != ended("web", "marketing", kind="located")


def test_after_the_end_only_corrections() -> None:
    """A contradiction is reported once it is known; what does not contradict is only noted."""
    world = started(WEB)
    world.answer("web", "absent")
    world.mailbox()
    quiet = world.answer("web", "failed")
    assert () == quiet.messages
    world.now += SECOND
    world.answer("web", "located")
    world.callback("nowhere", "accepted")
    world.request(content_digest="f" * 64, tenant="acme")
    assert ["located", "unasked_confirmation", "request_id_conflict"] == [
        one.code for one in world.outcomes("corrected")
    ]
    state = world.step("web").state
    assert isinstance(state, Ended)
    assert "located" == state.contradicted


def test_acted_is_never_later_than_the_end() -> None:
    """A mailbox whose clock runs ahead does not date the milestone into the future."""
    world = started(WEB)
    world.answer("web", "absent")
    world.mailbox(occurred_at=world.now + HOUR)
    assert world.now == world.open.acted_at


# --- the edges ---


def test_an_event_for_nobody_is_refused() -> None:
    """Only a request, readable or not, opens a saga."""
    world = World(CRM)
    event = Confirmed(event_id="x", request_id=REQUEST, kind="absent", system="crm", occurred_at=START)
    with pytest.raises(UnknownRequest):
        world.feed(event)


def test_systems_that_wait_for_each_other_are_refused() -> None:
    """They would wait for ever."""
    with pytest.raises(CycleError):
        rules_for(replace(CRM, after=("marketing",)), MARKETING)


def test_a_rule_that_leaves_its_table_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is what the rules are held to, not a drawing of them."""
    row = table.STEP_TABLE["locating"]["absent"]
    monkeypatch.setitem(table.STEP_TABLE["locating"], "absent", row._replace(targets=()))
    world = started(WEB)
    with pytest.raises(RuleBroken, match="locating --absent--> ended"):
        world.answer("web", "absent")


def test_whose_data_is_in_scope() -> None:
    """A tenant's data only when named or for that tenant; a processor request reaches nothing else."""
    rules: Rules = rules_for(CRM, TENANT)
    assert ("crm",) == rules.scope_of(None, "controller", None)
    assert ("crm", "tenant") == rules.scope_of(None, "controller", "acme")
    assert ("tenant",) == rules.scope_of(("tenant", "tenant"), "controller", None)
    assert ("tenant",) == rules.scope_of(None, "processor", "acme")
    assert ("1_of_1",) == rules.scope_of(("crm",), "processor", "acme")
    assert ("1_of_3", "tenant") == rules.scope_of(("crm", "tenant", "tenant"), "processor", "acme")
    assert () == rules.scope_of(None, "processor", None)


def test_a_system_that_its_controller_named_in_vain_is_a_question() -> None:
    """By its place in the controller's list. Nothing is said of it, and nothing completes without it."""
    world = World(TENANT, CRM)
    world.request(capacity="processor", tenant="acme", scope=("anna", "crm", "tenant", "anna"))
    assert ["1_of_4", "2_of_4", "tenant", "4_of_4"] == [step.system for step in world.open.steps]
    assert [("unknown_system", "1_of_4"), ("unknown_system", "2_of_4"), ("unknown_system", "4_of_4")] == [
        (one.reason, one.code) for one in world.open.escalations
    ]
    assert "anna" not in repr((world.open, world.messages, world.entries))
    world.finish("tenant")
    assert ("in_progress", None) == (world.open.status, world.open.acted_at)
    assert {"unknown_system": ("waive",)} == world.offers()
    world.dpo("retry", "unknown_system")
    assert ["named_by_controller"] == [one.code for one in world.outcomes("decision_refused")]
    for _ in range(3):
        world.dpo("waive", "unknown_system")
    assert ("completed", "waived") == (world.open.status, world.status("1_of_4"))


def test_received_on_the_last_evening_of_august() -> None:
    """The due date is stored when the request is opened, in the installation's time zone."""
    world = World(CRM, now=at("2026-08-31T22:30"))
    world.request()
    assert at("2026-10-01T21:59:59.999999") == world.open.due_at
