"""Every question to the DPO: that it is raised, what each decision does, and which decisions are refused."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.saga.clocks import DAY
from orchestrator.saga.draft import SendOutcome
from orchestrator.saga.escalations import AFTER_END, NEEDS_REASON, REASONS
from orchestrator.saga.events import CommandsUnsent, Confirmed, KeyLost, SystemsMissing
from orchestrator.saga.model import Action
from orchestrator.saga.rules import HOUR, Retry, SystemPlan, Waits
from orchestrator.saga.words import HELD
from tests.unit.saga_world import AGENCY, CRM, MARKETING, PAPER, REQUEST, TENANT, WEB, World

ACTIONS: tuple[Action, ...] = ("verify", "retry", "erase", "waive", "extend", "reject", "cancel")


def started(*plans: SystemPlan, **changes: Any) -> World:
    world = World(*plans, **changes)
    world.request(tenant="acme")
    return world


def identity_unverified() -> World:
    world = World(CRM)
    world.request(verified=False)
    return world


def unreadable_request() -> World:
    world = World(CRM)
    world.unreadable()
    return world


def key_lost() -> World:
    world = started(CRM)
    world.feed(KeyLost(event_id="key-lost/1", request_id=REQUEST, generation=7))
    return world


def no_usable_identifier() -> World:
    world = World(CRM)
    world.request(identifier_kinds=())
    return world


def empty_scope() -> World:
    world = World(CRM)
    world.request(scope=())
    return world


def received_in_future() -> World:
    world = World(CRM)
    world.request(received_at=world.now + DAY)
    return world


def receipt_in_doubt() -> World:
    world = World(CRM)
    world.request(received_or=world.now - DAY)
    return world


def request_id_conflict() -> World:
    world = started(CRM)
    world.request(content_digest="f" * 64, tenant="acme")
    return world


def nothing_identifiable() -> World:
    return started(PAPER)


def deadline_near() -> World:
    world = started(CRM)
    world.until(world.open.due_at - 3 * DAY)
    return world


def overdue() -> World:
    world = started(CRM)
    world.until(world.open.due_at + HOUR)
    return world


def acted_notice_failed() -> World:
    world = started(CRM)
    world.answer("crm", "absent")
    world.mailbox("notice_failed", code="no_address")
    return world


def acted_notice_silent() -> World:
    world = started(CRM)
    world.answer("crm", "absent")
    world.until(world.now + 2 * DAY)
    return world


def rejected_notice_failed() -> World:
    world = started(CRM)
    world.dpo("reject")
    world.mailbox("notice_failed", code="no_address")
    return world


def rejected_notice_silent() -> World:
    world = started(CRM)
    world.dpo("reject")
    world.until(world.now + 2 * DAY)
    return world


def extended_notice_failed() -> World:
    world = started(CRM)
    world.dpo("extend")
    world.mailbox("notice_failed", code="no_address")
    return world


def extended_notice_silent() -> World:
    world = started(CRM)
    world.dpo("extend")
    world.until(world.now + 2 * DAY)
    return world


def quarantined() -> World:
    world = started(CRM)
    event = Confirmed(
        event_id="broken", request_id=REQUEST, kind="located", system="crm", occurred_at=world.now
    )
    world.feed(event, breaks=True)
    return world


def unknown_system() -> World:
    world = World(CRM)
    world.request(scope=("crm", "elsewhere"))
    world.configure(replace(CRM, name="elsewhere"))
    return world


def failed() -> World:
    world = started(CRM)
    world.answer("crm", "failed", code="forbidden")
    return world


def no_answer() -> World:
    world = started(CRM)
    world.until(world.now + 2 * DAY)
    return world


def predecessor_failed() -> World:
    world = started(CRM, MARKETING)
    world.answer("crm", "failed", code="forbidden")
    return world


def still_present() -> World:
    world = started(CRM, waits=Waits(max_reopened=0))
    world.erase("crm")
    world.answer("crm", "still_present")
    return world


def proof_overdue() -> World:
    world = started(CRM)
    world.erase("crm")
    world.now += 31 * DAY
    world.answer("crm", "pending")
    return world


def reappeared() -> World:
    world = started(CRM)
    world.erase("crm")
    world.answer("crm", "reappeared", found=1)
    return world


def ambiguous() -> World:
    world = started(CRM)
    world.answer("crm", "located", found=2, references=None, code="ambiguous_match")
    return world


def party_silent() -> World:
    world = started(AGENCY)
    world.answer("agency", "cannot_look")
    world.answer("agency", "awaiting_party")
    while "party_silent" not in world.questions():
        world.tick()
    return world


def party_refused() -> World:
    world = started(AGENCY)
    world.answer("agency", "cannot_look")
    world.answer("agency", "awaiting_party")
    world.callback("agency", "refused", code="contract")
    return world


def identifier_missing() -> World:
    world = started(WEB)
    world.answer("web", "not_identifiable", missing=("ga_client_id",))
    return world


def instruction_conflict() -> World:
    world = started(TENANT)
    world.answer("tenant", "awaiting_party")
    world.callback("tenant", "instructed")
    world.callback("tenant", "refused", code="dispute")
    return world


def words_disputed() -> World:
    world = started(TENANT)
    world.answer("tenant", "awaiting_party")
    world.callback("tenant", "instructed", order=2, said_at=1)
    world.callback("tenant", "refused", order=1, said_at=2)
    return world


def refused_unread() -> World:
    world = started(TENANT)
    world.answer("tenant", "awaiting_party")
    world.callback("tenant", "instructed")
    said_at = world.now
    world.now += HOUR
    world.erase("tenant")
    world.callback("tenant", "refused", occurred_at=said_at + 1, order=said_at + 1)
    return world


def refused_late() -> World:
    world = started(TENANT)
    world.answer("tenant", "awaiting_party")
    world.callback("tenant", "instructed")
    world.erase("tenant")
    world.callback("tenant", "refused", code="dispute")
    return world


def instructed_late() -> World:
    world = started(TENANT)
    world.answer("tenant", "awaiting_party")
    world.callback("tenant", "refused", order=1)
    world.mailbox()
    assert "completed" == world.open.status
    world.callback("tenant", "instructed", order=2)
    return world


def unasked_confirmation() -> World:
    world = started(CRM)
    world.callback("nowhere", "accepted")
    return world


def system_missing() -> World:
    world = started(CRM)
    world.feed(SystemsMissing(event_id="begun", request_id=REQUEST, missing=("crm",)))
    return world


def command_not_sent() -> World:
    world = started(CRM)
    command = world.step("crm").command_id or ""
    world.feed(CommandsUnsent(event_id="unsent", request_id=REQUEST, commands=frozenset([command])))
    return world


def answer_kept() -> World:
    world = started(TENANT)
    world.feed(
        Confirmed(
            event_id="kept",
            request_id=REQUEST,
            kind="failed",
            code="answer_kept",
            system="tenant",
            occurred_at=world.now,
        )
    )
    return world


RAISED: dict[str, Callable[[], World]] = {
    name: build for name, build in globals().items() if name in REASONS and callable(build)
}

#: What the request or the step becomes, for each decision that fits.
BECOMES: dict[tuple[str, Action], str] = {
    ("identity_unverified", "verify"): "in_progress",
    ("key_lost", "waive"): "in_progress",
    ("received_in_future", "waive"): "in_progress",
    ("receipt_in_doubt", "verify"): "in_progress",
    ("receipt_in_doubt", "waive"): "in_progress",
    ("request_id_conflict", "waive"): "in_progress",
    ("nothing_identifiable", "waive"): "in_progress",
    ("deadline_near", "waive"): "in_progress",
    ("deadline_near", "extend"): "in_progress",
    ("overdue", "waive"): "in_progress",
    ("acted_notice_failed", "retry"): "in_progress",
    ("acted_notice_failed", "waive"): "completed",
    ("acted_notice_silent", "retry"): "in_progress",
    ("acted_notice_silent", "waive"): "completed",
    ("rejected_notice_failed", "retry"): "closing",
    ("rejected_notice_failed", "waive"): "closing",
    ("rejected_notice_silent", "retry"): "closing",
    ("rejected_notice_silent", "waive"): "rejected",
    ("extended_notice_failed", "retry"): "in_progress",
    ("extended_notice_failed", "waive"): "in_progress",
    ("extended_notice_silent", "retry"): "in_progress",
    ("extended_notice_silent", "waive"): "in_progress",
    ("quarantined", "retry"): "in_progress",
    ("unknown_system", "retry"): "elsewhere locating",
    ("unknown_system", "waive"): "elsewhere waived",
    ("failed", "retry"): "crm locating",
    ("failed", "waive"): "crm waived",
    ("no_answer", "retry"): "crm locating",
    ("no_answer", "waive"): "crm waived",
    ("command_not_sent", "waive"): "crm waived",
    ("predecessor_failed", "retry"): "marketing locating",
    ("predecessor_failed", "waive"): "marketing waived",
    ("still_present", "retry"): "crm erasing",
    ("still_present", "waive"): "crm waived",
    ("proof_overdue", "retry"): "crm proving",
    ("proof_overdue", "waive"): "crm waived",
    ("reappeared", "erase"): "crm locating",
    ("reappeared", "retry"): "crm proving",
    ("reappeared", "waive"): "crm waived",
    ("ambiguous", "erase"): "crm locating",
    ("ambiguous", "retry"): "crm locating",
    ("ambiguous", "waive"): "crm waived",
    ("party_silent", "retry"): "agency erasing",
    ("party_silent", "waive"): "agency waived",
    ("party_refused", "retry"): "agency erasing",
    ("party_refused", "waive"): "agency waived",
    ("identifier_missing", "retry"): "web locating",
    ("identifier_missing", "waive"): "web waived",
    ("instruction_conflict", "waive"): "tenant waived",
    ("words_disputed", "waive"): "tenant waived",
    ("refused_late", "waive"): "tenant proving",
    ("refused_unread", "waive"): "tenant proving",
    ("instructed_late", "waive"): "completed",
    ("unasked_confirmation", "waive"): "in_progress",
    ("system_missing", "waive"): "in_progress",
    ("answer_kept", "waive"): "in_progress",
}


def test_every_question_is_known_here() -> None:
    """A reason without a test of its raising, or a decision without its effect, can't be left out."""
    assert set(REASONS) == set(RAISED)
    fitting = {(reason, action) for reason, (actions, _) in REASONS.items() for action in actions}
    assert fitting == set(BECOMES) | {pair for pair in fitting if pair[1] in ("reject", "cancel")}


@pytest.mark.parametrize("reason", REASONS)
def test_raised_once_and_said(reason: str) -> None:
    """Each question is raised by its cause, once, told to the DPO, and has a reminder."""
    world = RAISED[reason]()
    one = world.question(reason)
    assert [(one.id, 1)] == [(e.id, e.version) for e in world.open.escalations if e.reason == reason]
    assert one.id in [said.concerns for said in world.outcomes("escalated")]
    world.until(one.remind_at)
    assert one.id in [said.concerns for said in world.outcomes("reminded")]


@pytest.mark.parametrize(("reason", "action"), BECOMES)
def test_each_decision_does_what_it_says(reason: str, action: Action) -> None:
    """A decision that fits closes the question and moves what it is about."""
    world = RAISED[reason]()
    one = world.question(reason)
    world.dpo(action, reason)
    assert [] == world.outcomes("decision_refused")
    if action == "extend":
        # The question stays until the person has been told of the extension.
        assert reason in world.questions()
        world.mailbox()
    assert one.id not in [e.id for e in world.open.escalations]
    system, _, status = BECOMES[reason, action].rpartition(" ")
    assert status == (world.status(system) if system else world.open.status)


@pytest.mark.parametrize("action", ["reject", "cancel"])
@pytest.mark.parametrize(
    "reason", [one for one in REASONS if not one.startswith("rejected_") and one not in AFTER_END]
)
def test_a_request_can_be_ended_at_any_question(reason: str, action: Action) -> None:
    """Rejecting and cancelling need no question; then the key is destroyed when all is quiet."""
    world = RAISED[reason]()
    world.dpo(action)
    assert all(step.is_ended for step in world.open.steps)
    world.mail_everything()
    while not world.open.is_finished:
        world.tick()
    assert {"reject": "rejected", "cancel": "cancelled"}[action] == world.open.status
    assert 1 == world.keys_destroyed
    assert (action == "reject" and bool(world.open.identifiers)) == any(
        notice.purpose == "rejected" for notice in world.open.notices
    )


@pytest.mark.parametrize("reason", REASONS)
def test_what_does_not_fit_is_refused(reason: str) -> None:
    """A decision that does not belong to its question changes nothing and comes back with a code."""
    for action in ACTIONS:
        if action in REASONS[reason][0]:
            continue
        world = RAISED[reason]()
        before = world.open
        decision = world.dpo(action, reason)
        assert (before.status, before.due_at, before.steps) == (
            world.open.status,
            world.open.due_at,
            world.open.steps,
        )
        assert before.escalations == world.open.escalations
        overrules = reason in HELD and action in ("erase", "retry")
        assert ["controller_refused" if overrules else "action_does_not_fit"] == codes(decision.messages)


def codes(messages: object) -> list[str | None]:
    assert isinstance(messages, tuple)
    return [one.code for one in messages if isinstance(one, SendOutcome) and one.kind == "decision_refused"]


def test_refusals_say_why() -> None:
    """Another version, an answered question, a missing reason, no question at all: each has its code."""
    world = failed()
    assert ["other_version"] == codes(world.dpo("retry", "failed", escalation_version=7).messages)
    assert ["names_no_escalation"] == codes(world.dpo("retry").messages)
    assert ["no_such_escalation"] == codes(world.dpo("retry", escalation_id="e9").messages)
    for action in NEEDS_REASON:
        assert ["reason_missing"] == codes(world.dpo(action, "failed", reason=" ").messages)
    one = world.question("failed")
    world.dpo("retry", "failed")
    again = world.dpo("retry", escalation_id=one.id, escalation_version=one.version)
    assert ["no_such_escalation"] == codes(again.messages)
    world.dpo("cancel")
    assert ["already_closing"] == codes(world.dpo("cancel").messages)
    assert ["already_closing"] == codes(world.dpo("extend").messages)
    while not world.open.is_finished:
        world.tick()
    assert ["request_ended"] == codes(world.dpo("cancel").messages)


def test_a_system_still_unknown_cannot_be_retried() -> None:
    """Retrying an unknown system makes sense only after it was configured."""
    world = World(CRM)
    world.request(scope=("elsewhere",))
    assert ["still_unknown"] == codes(world.dpo("retry", "unknown_system").messages)


def test_nothing_is_touched_before_the_identity_is_verified() -> None:
    """Answering another question first starts nothing."""
    world = World(CRM)
    world.request(scope=("crm", "elsewhere"), verified=False)
    world.configure(replace(CRM, name="elsewhere"))
    world.dpo("retry", "unknown_system")
    assert [] == world.commands()
    world.dpo("verify", "identity_unverified")
    assert ["locate", "locate"] == [one.verb for one in world.commands()]


def test_what_was_acknowledged_is_not_asked_again() -> None:
    """The same conflict, or the same unasked confirmation, once waived, stays so; another one is asked."""
    world = request_id_conflict()
    world.dpo("waive", "request_id_conflict")
    world.request(content_digest="f" * 64, tenant="acme")
    assert [] == world.questions()
    world.request(content_digest="a" * 64, tenant="acme")
    assert ["request_id_conflict"] == world.questions()


def test_the_same_question_with_another_code_is_a_new_version() -> None:
    """A decision made on what is no longer the whole story is refused."""
    world = request_id_conflict()
    world.request(content_digest="a" * 64, tenant="acme")
    assert [2] == [one.version for one in world.open.escalations]
    refused = world.dpo("waive", "request_id_conflict", escalation_version=1)
    assert ["other_version"] == codes(refused.messages)


def test_a_question_goes_when_its_cause_goes() -> None:
    """A late success settles a failure; the command was delivered twice."""
    world = failed()
    world.answer("crm", "located")
    assert [] == world.questions()
    assert "erasing" == world.status("crm")


def test_set_aside_nothing_but_its_release_is_decided() -> None:
    """While a rule's failure is open the request stands still: its answers are parked, its clocks go on."""
    world = quarantined()
    assert "quarantined" == world.answer("crm", "located").parks_event
    world.until(world.open.due_at - DAY)
    assert {"quarantined", "deadline_near"} == set(world.questions())
    assert ["quarantined"] == codes(world.dpo("waive", "deadline_near").messages)
    world.dpo("retry", "quarantined")
    assert ["locate", "locate"] == world.verbs("crm")


def test_a_rule_that_fails_on_the_first_event_leaves_a_question() -> None:
    """The person's clock runs even if their request broke a rule."""
    world = World(CRM)
    decision = world.feed(world.request_event(), breaks=True)
    assert "rule_failed" == decision.parks_event
    assert ["unreadable_request"] == world.questions()


def test_a_rule_that_fails_after_the_end_opens_nothing() -> None:
    """Nobody could answer a question about an ended request; it is told as a correction."""
    world = failed()
    world.dpo("cancel")
    while not world.open.is_finished:
        world.tick()
    event = Confirmed(event_id="x", request_id=REQUEST, kind="located", system="crm", occurred_at=world.now)
    decision = world.feed(event, breaks=True)
    assert ("rule_failed", 1) == (decision.parks_event, len(world.outcomes("corrected")))


def test_retry_policy() -> None:
    """Full jitter below an exponential bound with a cap; after the vendor's Retry-After, up to a week."""
    retry = Retry(first=10, cap=100, max_attempts=3)
    assert [5, 10, 20, 40, 50, 50] == [retry.delay(n, 0.5, None) for n in range(1, 7)]
    assert 0 == retry.delay(3, 0.0, None)
    assert [5, 40, 50] == [retry.delay(n, 0.5, 0) for n in (1, 4, 9)]
    assert [82, 117] == [retry.delay(n, 0.5, 77) for n in (1, 4)]
    assert 7 * DAY == retry.delay(1, 0.5, 900 * DAY)
    assert [False, False, True] == [retry.is_spent(n) for n in (1, 2, 3)]
