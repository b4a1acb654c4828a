"""Controllers that must instruct us, and agencies that only read mail."""

from orchestrator.saga.clocks import DAY
from orchestrator.saga.model import AwaitingParty, Ended
from orchestrator.saga.rules import HOUR, MINUTE, SystemPlan
from tests.unit.saga_world import (
    AGENCY,
    CRM,
    START,
    TENANT,
    WEB,
    World,
)


def started(*plans: SystemPlan) -> World:
    world = World(*plans)
    world.request(tenant="acme")
    return world


def asked(world: World) -> World:
    world.answer("tenant", "awaiting_party")
    return world


def test_a_controller_instructs_and_its_data_is_erased() -> None:
    """Asked, instructed, erased, proved; the same instruction twice is one."""
    world = asked(started(TENANT))
    assert [None] == [one.instruction for one in world.commands("tenant")]
    world.callback("tenant", "instructed")
    world.callback("tenant", "instructed")
    assert ["locate", "locate"] == world.verbs("tenant")
    assert "erase" == world.command("tenant").instruction
    world.finish("tenant")
    assert "erased" == world.status("tenant")


def test_a_controller_that_asks_us_has_instructed_us() -> None:
    """A processor request carries its instruction, and the subject hears from the controller."""
    world = World(TENANT, CRM)
    world.request(capacity="processor", tenant="acme")
    assert [("tenant", "erase")] == [(one.system, one.instruction) for one in world.commands()]
    world.finish("tenant")
    assert ("completed", []) == (world.open.status, world.outcomes("notice"))


def test_an_instruction_before_the_asking_is_remembered() -> None:
    """It may overtake the confirmation that the controller was asked, and even the start."""
    world = World(TENANT)
    world.request(tenant="acme", verified=False)
    world.callback("tenant", "instructed")
    assert [] == world.commands()
    world.dpo("verify", "identity_unverified")
    assert "erase" == world.command("tenant").instruction


def test_refused_then_instructed_before_the_start() -> None:
    """The last word counts, and still nothing is touched before the identity is verified."""
    world = World(TENANT)
    world.request(tenant="acme", verified=False)
    world.callback("tenant", "refused")
    world.now += 1
    world.callback("tenant", "instructed")
    assert [] == world.commands()
    world.dpo("verify", "identity_unverified")
    assert "erase" == world.command("tenant").instruction


def test_a_refusal_is_an_end_and_erase_after_it_reopens() -> None:
    """Until the request is completed; after that it is a new request, which the DPO is told."""
    world = asked(started(TENANT, WEB))
    world.callback("tenant", "refused", code="dispute")
    assert "refused" == world.status("tenant")
    world.now += 1
    world.callback("tenant", "instructed")
    assert "locating" == world.status("tenant")

    world = asked(started(TENANT))
    world.callback("tenant", "refused", code="dispute")
    world.mailbox()
    assert "completed" == world.open.status
    world.now += 1
    world.callback("tenant", "instructed")
    assert [("refused", "instructed")] == [
        (world.status("tenant"), one.code) for one in world.outcomes("corrected")
    ]


def test_an_older_word_never_overrides_a_newer_one() -> None:
    """Erase, then refuse, arriving the other way round: the refusal is the controller's last word."""
    world = asked(started(TENANT, WEB))
    world.now += HOUR
    world.callback("tenant", "refused")
    world.callback("tenant", "instructed", occurred_at=world.now - MINUTE)
    assert "refused" == world.status("tenant")


def test_refuse_after_erase_stops_the_step() -> None:
    """Nothing more is erased over a refusal; what was already accepted goes on to its proof and is told."""
    world = asked(started(TENANT))
    world.callback("tenant", "instructed")
    world.answer("tenant", "located")
    world.callback("tenant", "refused", code="dispute")
    assert ["instruction_conflict"] == world.questions()
    world.answer("tenant", "accepted")
    assert ("proving", ["refused_late"]) == (world.status("tenant"), world.questions())


def test_erase_refuse_erase_goes_on() -> None:
    """The controller resolves its own conflict."""
    world = asked(started(TENANT))
    world.callback("tenant", "instructed")
    world.callback("tenant", "refused")
    world.callback("tenant", "instructed")
    assert ("locating", []) == (world.status("tenant"), world.questions())


def test_found_without_instruction_is_not_erased() -> None:
    """A handler that looks before it was allowed to does not get an erase command."""
    world = started(TENANT)
    world.answer("tenant", "located")
    assert ("awaiting_party", ["locate"]) == (world.status("tenant"), world.verbs("tenant"))


def test_an_agency_is_mailed_reminded_and_then_a_matter_for_the_dpo() -> None:
    """Two reminders a week apart, marked as such; a reminder that failed does not count."""
    world = started(AGENCY)
    world.answer("agency", "cannot_look")
    world.answer("agency", "awaiting_party")
    world.tick()
    assert world.command("agency").reminder
    world.answer("agency", "failed", retryable=True, retry_after=HOUR)
    assert 0 == world.step("agency").reminders
    for _ in range(2):
        world.tick()
        world.answer("agency", "awaiting_party")
    world.until(START + 27 * DAY)
    assert "party_silent" in world.questions()
    assert [False, False, True, True, True] == [one.reminder for one in world.commands("agency")]
    world.callback("agency", "party_erased")
    assert ("erased", False) == (world.status("agency"), "party_silent" in world.questions())


def test_an_agencys_word_is_evidence_of_its_own_grade() -> None:
    """Erased, holding nothing, or retained on a legal basis: the party stated it."""
    for kind, end in (("party_erased", "erased"), ("absent", "absent"), ("retained", "retained")):
        world = started(AGENCY)
        world.answer("agency", "cannot_look")
        world.callback("agency", kind, legal_basis="bookkeeping" if kind == "retained" else None)
        state = world.step("agency").state
        assert isinstance(state, Ended)
        assert (end, "party_stated") == (state.end, state.grade)


def test_where_we_can_look_a_partys_word_is_checked() -> None:
    """A party that says erased, of records that we know, is looked at."""
    world = started(AGENCY)
    world.answer("agency", "located")
    world.callback("agency", "party_erased")
    assert "proving" == world.status("agency")


def test_reminders_do_not_burst() -> None:
    """A reminder date in the past means the usual wait, not all reminders at once."""
    world = started(AGENCY)
    world.answer("agency", "cannot_look")
    world.answer("agency", "awaiting_party", look_at=START - DAY)
    state = world.step("agency").state
    assert isinstance(state, AwaitingParty)
    assert START + 7 * DAY == state.until
