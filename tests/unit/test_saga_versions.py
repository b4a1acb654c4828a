"""Whatever changes what a question is about raises its version, tells the DPO, and voids decisions before."""

from typing import Any

import pytest

from orchestrator.saga.clocks import DAY
from orchestrator.saga.draft import SendOutcome
from orchestrator.saga.rules import SystemPlan, Waits
from tests.unit.saga_world import CRM, TENANT, WEB, World


def refusals(world: World) -> list[str | None]:
    return [
        one.code for one in world.messages if isinstance(one, SendOutcome) and one.kind == "decision_refused"
    ]


def started(*plans: SystemPlan, verified: bool = True, **changes: Any) -> World:
    world = World(*plans, **changes)
    world.request(tenant="acme", verified=verified)
    return world


def test_verifying_a_request_does_not_verify_what_was_added_since() -> None:
    """The DPO verified one person; another one's address had joined: nobody is searched for."""
    world = started(CRM, verified=False)
    seen = world.question("identity_unverified")
    world.supplement(tenant="acme", verified=False)
    assert ("identity_unverified", 2) == (seen.reason, world.question("identity_unverified").version)
    assert [seen.id, seen.id] == [one.concerns for one in world.outcomes("escalated")]
    assert "supplemented" == world.outcomes("escalated")[-1].code
    world.dpo("verify", escalation_id=seen.id, escalation_version=seen.version)
    assert (["other_version"], []) == (refusals(world), world.commands())
    world.dpo("verify", "identity_unverified")
    assert ["locate"] == world.verbs("crm")


@pytest.mark.parametrize("status", ["awaiting_verification", "in_progress"])
def test_unverified_identifiers_never_ride_on_a_verified_request(status: str) -> None:
    """Verified by its sender or by the DPO: more identifiers that nobody verified are a conflict."""
    world = World(CRM)
    world.request(verified=True, identifier_kinds=("email",) if status == "in_progress" else ())
    assert status == world.open.status
    decision = world.supplement(verified=False)
    assert "request_id_conflict" == decision.parks_event
    assert "request_id_conflict" in world.questions()
    assert b"sealed" == world.open.identifiers

    world = started(CRM, verified=False)
    world.dpo("verify", "identity_unverified")
    assert "request_id_conflict" == world.supplement(tenant="acme", verified=False).parks_event
    assert b"sealed" == world.open.identifiers


def test_a_supplement_raises_the_version_of_every_open_question() -> None:
    """About the request and about its systems: each was asked about fewer identifiers."""
    world = World(CRM, WEB)
    world.request(scope=("crm", "web", "elsewhere"))
    world.until(world.open.due_at - 3 * DAY)
    world.request(content_digest="f" * 64, scope=("crm",))
    open_before = {one.id: one.version for one in world.open.escalations}
    world.supplement()
    kept = {one.id: one.version for one in world.open.escalations if one.id in open_before}
    assert {"unknown_system", "deadline_near", "request_id_conflict"} <= set(world.questions())
    assert {id_: open_before[id_] + 1 for id_ in kept} == kept
    last = {one.concerns for one in world.outcomes("escalated") if one.code == "supplemented"}
    assert set(kept) == last


def test_a_question_that_goes_with_the_supplement_is_not_put_again() -> None:
    """What it asked has been overtaken: the step begins anew."""
    world = started(CRM)
    world.answer("crm", "failed", code="forbidden")
    world.supplement(tenant="acme")
    assert [] == world.questions()


def test_another_count_of_records_raises_the_version() -> None:
    """The command was delivered twice, and the second look saw one record more: the DPO agreed to fewer."""
    world = started(CRM)
    world.answer("crm", "located", found=2, references=None, code="ambiguous_match")
    world.answer("crm", "located", found=3, references=None, code="ambiguous_match")
    assert 2 == world.question("ambiguous").version
    world.dpo("erase", "ambiguous", escalation_version=1)
    assert ["other_version"] == refusals(world)
    world.dpo("erase", "ambiguous")
    assert 3 == world.command("crm").takes_all


def test_records_that_are_found_while_a_question_is_open_raise_its_version() -> None:
    """What the DPO would have erased is more than the DPO was asked about."""
    world = started(CRM, waits=Waits(max_reopened=0))
    world.erase("crm")
    world.answer("crm", "still_present", references=b"one", found=1)
    assert ("still_present", 1) == (world.questions()[0], world.question("still_present").version)
    world.answer("crm", "still_present", references=b"another", found=1, attempt=3)
    assert 2 == world.question("still_present").version
    world.dpo("retry", "still_present", escalation_version=1)
    assert ["other_version"] == refusals(world)
    assert "found_more" == world.outcomes("escalated")[-1].code


def test_as_many_other_records_raise_the_version_too() -> None:
    """The command was delivered twice: in between one record left and another came. He agreed to neither."""
    world = started(CRM)
    for records in (b"a and b", b"a and c"):
        world.answer("crm", "located", found=2, references=records, code="ambiguous_match")
    assert 2 == world.question("ambiguous").version
    world.dpo("erase", "ambiguous", escalation_version=1)
    assert ["other_version"] == refusals(world)
    world.dpo("erase", "ambiguous")
    assert (b"a and c",) == world.command("crm").references


def test_a_repeat_of_the_same_request_changes_no_question() -> None:
    """It says nothing new."""
    world = started(TENANT, verified=False)
    world.request(tenant="acme", verified=False)
    assert 1 == world.question("identity_unverified").version


def test_a_controller_adds_to_a_request_that_names_a_system_we_do_not_have() -> None:
    """Its own word for it is not kept, its place in the list is: the supplement is of the same request."""
    world = World(TENANT)
    first = {"capacity": "processor", "tenant": "acme", "scope": ("tenant", "their archive")}
    world.request(**first)
    decision = world.supplement(**first, identifier_kinds=("email", "phone"))
    assert (None, ["unknown_system"]) == (decision.parks_event, world.questions())
    assert ("email", "phone") == world.open.identifier_kinds
    wider = first | {"scope": ("tenant", "their archive", "another")}
    assert "request_id_conflict" == world.supplement(**wider, content_digest="9" * 64).parks_event


@pytest.mark.parametrize("code", ["http_503", "circuit_open", None])
def test_what_the_officer_agreed_to_survives_a_search_that_was_not_carried_out(code: str | None) -> None:
    """The vendor was away, or nobody asked it: the next search carries the same number, until one answers."""
    world = started(CRM)
    world.answer("crm", "located", found=2, references=None, code="ambiguous_match")
    world.dpo("erase", "ambiguous")
    world.answer("crm", "failed" if code else "expired", code=code, retryable=True)
    world.until(world.now + DAY)
    assert (["locate"] * 3, 2) == (world.verbs("crm"), world.command("crm").takes_all)
    # Answered: whoever shares the address now is asked about.
    world.answer("crm", "located", found=3, references=None, code="ambiguous_match")
    world.dpo("retry", "ambiguous")
    assert (["locate"] * 4, 0) == (world.verbs("crm"), world.command("crm").takes_all)


def test_what_the_officer_agreed_to_ends_with_a_supplement() -> None:
    """It was about fewer identifiers."""
    world = started(CRM)
    world.answer("crm", "located", found=2, references=None, code="ambiguous_match")
    world.dpo("erase", "ambiguous")
    world.supplement(tenant="acme")
    assert ("locating", 0) == (world.status("crm"), world.command("crm").takes_all)
