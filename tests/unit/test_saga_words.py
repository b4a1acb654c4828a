"""What a controller says: every word in its order, and nothing erased over its refusal.

An order is the number that `serve` gave a word when it stored it, whenever it is read.
"""

from typing import Any

import pytest

from orchestrator.saga import words
from orchestrator.saga.clocks import DAY
from orchestrator.saga.draft import Draft, RuleBroken, SendOutcome
from orchestrator.saga.events import Confirmed
from orchestrator.saga.model import Action, Ended
from orchestrator.saga.rules import HOUR, SystemPlan, Waits
from tests.unit.saga_world import AGENCY, CRM, REQUEST, TENANT, WEB, World


def started(*plans: SystemPlan, **changes: Any) -> World:
    world = World(*(plans or (TENANT,)), **changes)
    world.request(tenant="acme")
    if world.open.step("tenant") is not None:
        world.answer("tenant", "awaiting_party")
    return world


def of_processor() -> World:
    world = World(TENANT)
    world.request(capacity="processor", tenant="acme")
    return world


def say(world: World, kind: str, order: int, **fields: Any) -> None:
    """A word by the same link, as `serve` numbered it."""
    world.callback("tenant", kind, **{"order": order, "attempt": 1, **fields})


def erases(world: World) -> int:
    return world.verbs("tenant").count("erase")


def refusals(decision: Any) -> list[str | None]:
    return [
        one.code
        for one in decision.messages
        if isinstance(one, SendOutcome) and one.kind == "decision_refused"
    ]


# --- each word counts, in its order ---


def test_refuse_erase_refuse_is_a_refusal() -> None:
    """Each stored word is one of its own: the third is not the first one over again."""
    world = started()
    for order, kind in enumerate(("refused", "instructed", "refused"), 1):
        say(world, kind, order)
    assert ["instruction_conflict"] == world.questions()
    assert ["refused", "instructed", "refused"] == [one.said for one in world.step("tenant").words]
    assert 0 == erases(world)


def test_the_same_word_twice_in_a_row_is_one() -> None:
    """And it counts anew after the other one came between."""
    world = started()
    say(world, "instructed", 1)
    sent = len(world.messages)
    say(world, "instructed", 2)
    assert sent == len(world.messages)
    say(world, "refused", 3)
    say(world, "instructed", 4)
    assert ("locating", []) == (world.status("tenant"), world.questions())


@pytest.mark.parametrize("orders", [(1, 2, 3), (2, 1, 3), (3, 2, 1), (3, 1, 2), (1, 3, 2), (2, 3, 1)])
def test_words_read_in_any_order_mean_the_same(orders: tuple[int, ...]) -> None:
    """Erase, refuse, erase, whichever is read first: the last one stands. Refuse, erase, refuse: likewise."""
    for said in (("instructed", "refused", "instructed"), ("refused", "instructed", "refused")):
        world = started()
        for order in orders:
            say(world, said[order - 1], order)
        if said[-1] == "instructed":
            assert ("locating", "erase") == (world.status("tenant"), world.step("tenant").instruction)
            continue
        world.answer("tenant", "located") if world.status("tenant") == "locating" else None
        assert (0, None) == (erases(world), world.step("tenant").instruction)


def test_an_older_word_that_is_read_last_moves_nothing() -> None:
    """It has its place in the log, and the timeline says that it was overtaken."""
    world = started()
    say(world, "refused", 5)
    say(world, "instructed", 4)
    assert "refused" == world.status("tenant")
    assert [(4, "instructed"), (5, "refused")] == [
        (one.order, one.said) for one in world.step("tenant").words
    ]
    ignored = [one.data for one in world.entries if one.action == "ignored"]
    assert ["older_word"] == [one["code"] for one in ignored]


def test_the_timeline_shows_every_word() -> None:
    """Also the repeated ones, of which the log keeps the first and the last: with their orders and times."""
    world = started()
    for order in range(1, 6):
        say(world, "refused", order, said_at=7)
    said = [one.data for one in world.entries if one.data.get("trigger") == "refused" and "order" in one.data]
    assert [(str(order), "7") for order in range(1, 6)] == [(one["order"], one["said_at"]) for one in said]
    assert [1, 5] == [one.order for one in world.step("tenant").words]
    say(world, "instructed", 3)
    assert "refused" == world.status("tenant")


def test_a_word_that_comes_by_itself_twice_is_applied_once() -> None:
    """An operator who sends it again gives it another event id, and it keeps its order."""
    world = started()
    say(world, "instructed", 1)
    say(world, "refused", 2)
    say(world, "instructed", 1)
    assert ["instruction_conflict"] == world.questions()


def test_a_word_from_before_words_were_numbered_is_placed_by_its_time() -> None:
    """Numbers are no smaller than times, so that the two can be told apart."""
    world = started()
    world.callback("tenant", "instructed", attempt=1, occurred_at=world.now - HOUR)
    world.callback("tenant", "refused", attempt=1, order=world.now)
    world.callback("tenant", "instructed", attempt=1, occurred_at=world.now - 1)
    assert ["instruction_conflict"] == world.questions()


# --- nothing is erased over a refusal ---


def test_records_that_are_still_present_are_not_erased_over_a_refusal() -> None:
    """Instructed, accepted, refused, and then a proof that finds them: the DPO is asked."""
    world = started()
    say(world, "instructed", 1)
    world.erase("tenant")
    say(world, "refused", 2)
    assert ("proving", ["refused_late"]) == (world.status("tenant"), world.questions())
    world.answer("tenant", "still_present", references=b"more", found=1)
    assert ("awaiting_decision", 1) == (world.status("tenant"), erases(world))
    assert "instruction_conflict" in world.questions()
    world.until(world.now + 5 * DAY)
    assert 1 == erases(world)
    say(world, "instructed", 3)
    assert ("erasing", 2) == (world.status("tenant"), erases(world))


def test_an_erasure_that_waits_for_its_next_try_is_not_tried_over_a_refusal() -> None:
    """The refusal comes while the step waits to erase once more."""
    world = started()
    say(world, "instructed", 1)
    world.erase("tenant")
    world.answer("tenant", "still_present", references=b"more", found=1)
    assert "retrying" == world.status("tenant")
    say(world, "refused", 2)
    world.until(world.now + 2 * DAY)
    assert ("awaiting_decision", 1) == (world.status("tenant"), erases(world))


def test_a_controllers_own_request_is_stopped_by_its_refusal() -> None:
    """It said erase by asking. A supplement restarts its steps, and does not take the refusal back."""
    world = of_processor()
    world.answer("tenant", "located")
    say(world, "refused", 1)
    assert ["instruction_conflict"] == world.questions()
    world.supplement(capacity="processor", tenant="acme")
    assert ("awaiting_decision", 1) == (world.status("tenant"), erases(world))
    assert ["locate", "erase"] == world.verbs("tenant")


def test_the_draft_itself_refuses_to_send_it() -> None:
    """Whatever rule may try: an erasing command over a refusal is a fault, which sets the request aside."""
    world = started()
    say(world, "instructed", 1)
    world.answer("tenant", "located")
    step = world.step("tenant")
    refused = Confirmed(
        event_id="r", request_id=REQUEST, kind="refused", system="tenant", occurred_at=1, order=2, attempt=1
    )
    held, _, _ = words.log(step, refused)
    draft = Draft(world.open, world.now, world.rules, "cause", 0.5)
    with pytest.raises(RuleBroken, match="held by its controller's word"):
        draft.issue(held, "erase")


@pytest.mark.parametrize("action", ["retry", "erase"])
def test_our_dpo_cannot_override_the_controllers_refusal(action: Action) -> None:
    """Neither is offered, and one that comes all the same is refused with its own code."""
    world = started()
    say(world, "instructed", 1)
    say(world, "refused", 2)
    assert ["controller_refused"] == refusals(world.dpo(action, "instruction_conflict"))
    assert ["instruction_conflict"] == world.questions()

    world = started()
    say(world, "instructed", 1)
    world.erase("tenant")
    world.answer("tenant", "reappeared", found=1)
    say(world, "refused", 2)
    expected = ["controller_refused"] if action == "erase" else []
    assert expected == refusals(world.dpo(action, "reappeared"))
    assert 1 == erases(world)


def test_a_word_changes_what_may_be_decided_and_voids_decisions_on_before() -> None:
    """A question about the system that stays open has a new version, which the DPO is told."""
    world = started()
    say(world, "instructed", 1)
    world.erase("tenant")
    world.answer("tenant", "reappeared", found=1)
    before = world.question("reappeared")
    say(world, "refused", 2)
    refused = world.dpo("erase", escalation_id=before.id, escalation_version=before.version)
    assert ["other_version"] == refusals(refused)
    assert "new_word" in [one.code for one in world.outcomes("escalated")]


# --- erase after it ---


def test_erase_after_a_refusal_reopens_until_completion() -> None:
    """What the DPO let go because of the refusal, too."""
    for waived in (False, True):
        world = started(TENANT, WEB)
        if waived:
            say(world, "instructed", 1)
        say(world, "refused", 2)
        if waived:
            world.dpo("waive", "instruction_conflict")
        assert {False: "refused", True: "waived"}[waived] == world.status("tenant")
        say(world, "instructed", 3)
        assert "locating" == world.status("tenant")
        world.finish("tenant")
        assert "erased" == world.status("tenant")


def test_erase_while_closing_reopens_the_request() -> None:
    """Every step had ended, and the person's letter was on its way."""
    world = started(TENANT)
    say(world, "refused", 1)
    world.mailbox()
    assert "completed" == world.open.status

    world = started(TENANT, WEB)
    say(world, "refused", 1)
    world.supplement(tenant="acme")
    world.answer("tenant", "awaiting_party")
    world.callback("tenant", "refused", order=2)
    world.answer("web", "absent")
    world.mailbox()
    assert "closing" == world.open.status
    world.callback("tenant", "instructed", order=3)
    assert ("in_progress", "locating") == (world.open.status, world.status("tenant"))


@pytest.mark.parametrize(("said", "end"), [("refused", "erased"), ("instructed", "refused")])
def test_a_word_from_before_an_end_that_is_read_after_it_is_not_lost(said: str, end: str) -> None:
    """The DPO is told, although by its time it is older than the end."""
    world = started(TENANT)
    stored_at = world.now
    world.now += HOUR
    if end == "erased":
        say(world, "instructed", 1)
        world.finish("tenant")
    else:
        say(world, "refused", 1)
    world.mailbox()
    assert "completed" == world.open.status
    say(world, said, 2, occurred_at=stored_at)
    told = [one.code for one in world.outcomes("corrected")] + world.questions()
    assert [{"refused": "refused", "instructed": "instructed_late"}[said]] == told
    state = world.step("tenant").state
    assert isinstance(state, Ended)
    assert said == state.contradicted


def refused_and_ended() -> World:
    world = started(TENANT)
    say(world, "refused", 1)
    world.mailbox()
    assert ("completed", None) == (world.open.status, world.open.wake_at)
    return world


def test_erase_after_the_end_is_a_question_that_the_dpo_ends_with_a_reason() -> None:
    """The key is destroyed, so that nothing can be erased any more: only a person can see to it. The DPO is
    reminded until it is answered, and the answer is on the timeline. The request stays as it ended.
    """
    world = refused_and_ended()
    ended = world.open.state
    say(world, "instructed", 2)
    assert {"instructed_late": ("waive",)} == world.offers()
    reminded = len(world.outcomes("reminded"))
    world.tick()
    world.tick()
    assert reminded + 2 == len(world.outcomes("reminded"))
    assert ["reason_missing"] == refusals(world.dpo("waive", "instructed_late", reason=""))
    world.dpo("waive", "instructed_late", reason="a new request has come")
    assert "a new request has come" in world.entries[-2].data.values()
    assert ([], ended, None) == (world.questions(), world.open.state, world.open.wake_at)
    assert 1 == world.keys_destroyed


def test_each_change_of_mind_after_the_end_is_asked_about() -> None:
    """The same "erase" read twice is one; after another refusal it is news, though the first was answered."""
    world = refused_and_ended()
    say(world, "instructed", 2)
    say(world, "instructed", 2)
    assert 1 == len(world.outcomes("escalated"))
    world.dpo("waive", "instructed_late")
    say(world, "refused", 3)
    say(world, "instructed", 4)
    assert ["instructed_late"] == world.questions()


def test_of_a_request_that_ended_nothing_else_can_be_decided() -> None:
    """Neither the request as a whole, nor its question in another way."""
    world = refused_and_ended()
    say(world, "instructed", 2)
    assert ["action_does_not_fit"] == refusals(world.dpo("retry", "instructed_late"))
    assert ["action_does_not_fit"] == refusals(world.dpo("erase", "instructed_late"))
    assert ["request_ended"] == refusals(world.dpo("cancel"))
    assert ["request_ended"] == refusals(world.dpo("extend"))
    assert ["instructed_late"] == world.questions()


def test_a_word_that_a_later_one_had_overtaken_is_no_correction() -> None:
    """Refuse and then erase, read the other way round after the end: the erasure was what it wanted."""
    world = started(TENANT)
    say(world, "instructed", 5)
    world.finish("tenant")
    world.mailbox()
    say(world, "refused", 4)
    assert [] == world.outcomes("corrected")


def test_a_refusal_from_before_the_erasure_that_is_read_after_it_is_told_as_that() -> None:
    """The DPO must know that it had been said in time."""
    world = started()
    say(world, "instructed", 1)
    stored_at = world.now
    world.now += HOUR
    world.erase("tenant")
    say(world, "refused", 2, occurred_at=stored_at + 1)
    assert ["refused_unread"] == world.questions()


def test_a_refusal_after_an_acknowledged_one_is_told_anew() -> None:
    """Refuse, acknowledged, erase, refuse: the last one is news."""
    world = started()
    say(world, "instructed", 1)
    world.erase("tenant")
    say(world, "refused", 2, code="dispute")
    world.dpo("waive", "refused_late")
    say(world, "instructed", 3)
    say(world, "refused", 4, code="dispute")
    assert ["refused_late"] == world.questions()


def test_erase_again_takes_the_news_of_a_refusal_back() -> None:
    """Nobody need acknowledge what the controller has taken back."""
    world = started()
    say(world, "instructed", 1)
    world.erase("tenant")
    say(world, "refused", 2)
    say(world, "instructed", 3)
    assert ("proving", []) == (world.status("tenant"), world.questions())
    assert "erase" == world.step("tenant").instruction


# --- times that contradict the order ---


def test_times_in_signed_words_that_contradict_our_order_are_a_question() -> None:
    """By our order the controller said erase last, by its own times it said refuse last."""
    world = started()
    say(world, "refused", 1, said_at=20)
    say(world, "instructed", 2, said_at=10)
    assert ("awaiting_decision", ["words_disputed"]) == (world.status("tenant"), world.questions())
    assert ["controller_refused"] == refusals(world.dpo("retry", "words_disputed"))
    say(world, "instructed", 3, said_at=30)
    assert ("locating", []) == (world.status("tenant"), world.questions())


def test_an_older_word_whose_time_is_later_is_a_question_too() -> None:
    """The one that is read last was stored first, and says that it was said last."""
    world = started()
    say(world, "instructed", 2, said_at=10)
    world.answer("tenant", "located")
    say(world, "refused", 1, said_at=20)
    assert ["words_disputed"] == world.questions()
    world.answer("tenant", "accepted")
    assert ("proving", ["refused_late"]) == (world.status("tenant"), world.questions())


def test_after_the_erasure_contradicting_times_are_told() -> None:
    """Nothing can be undone, and nothing more is erased."""
    world = started()
    say(world, "instructed", 2, said_at=10)
    world.erase("tenant")
    say(world, "refused", 1, said_at=20)
    assert [("refused_late", "times_contradict")] == [
        (one.reason, one.code) for one in world.open.escalations
    ]
    world.answer("tenant", "still_present", references=b"more", found=1)
    assert "words_disputed" in world.questions()
    assert 1 == erases(world)


def test_times_that_agree_with_the_order_are_no_question() -> None:
    """Nor are those of one word, nor words without a time."""
    world = started()
    say(world, "refused", 1, said_at=10)
    say(world, "instructed", 2, said_at=20)
    say(world, "instructed", 3)
    assert ("locating", []) == (world.status("tenant"), world.questions())


# --- agencies ---


def test_an_agency_that_refuses_again_is_a_question_again() -> None:
    """Its word is no law: the DPO may have it asked once more, and it may refuse once more."""
    world = started(AGENCY)
    world.answer("agency", "cannot_look")
    world.answer("agency", "awaiting_party")
    world.callback("agency", "refused", order=1)
    world.dpo("retry", "party_refused")
    assert ["locate", "erase", "erase"] == world.verbs("agency")
    world.callback("agency", "refused", order=2)
    assert ["party_refused"] == world.questions()


def test_of_an_agencys_answers_the_last_one_counts() -> None:
    """That it keeps something, stored before it said that it erased and read after that, changes nothing."""
    world = started(AGENCY)
    world.answer("agency", "cannot_look")
    world.answer("agency", "awaiting_party")
    world.callback("agency", "party_erased", order=2)
    world.callback("agency", "retained", order=1, legal_basis="bookkeeping")
    assert "erased" == world.status("agency")


def test_a_vendors_own_event_is_no_partys_word() -> None:
    """However many there are, and whatever their order, each is a reason to look."""
    world = World(CRM, waits=Waits())
    world.request()
    world.erase("crm")
    world.answer("crm", "proved")
    world.callback("crm", "proved", order=None, occurred_at=world.now - DAY)
    assert "proving" == world.status("crm")


def test_where_both_orders_end_in_the_same_word_nothing_is_disputed() -> None:
    """Erase, refuse and erase, with their times the other way round: "erase" is the last either way."""
    world = started()
    say(world, "instructed", 1, said_at=30)
    say(world, "refused", 2, said_at=20)
    assert ["words_disputed"] == world.questions()
    say(world, "instructed", 3, said_at=10)
    assert ([], "locating") == (world.questions(), world.status("tenant"))
