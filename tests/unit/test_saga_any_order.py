"""Random walks: answers, callbacks, timers, decisions and faults in any order, late, twice and contradicting.

`saga_world.must_hold` checks the rules after each event. A walk ends with everybody cooperating; then the
request must come to its end, so that no state is a trap.
"""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.saga import about, escalations, parties, request, steps, table
from orchestrator.saga.clocks import DAY, SECOND
from orchestrator.saga.draft import Draft, RuleBroken
from orchestrator.saga.events import Confirmed, Event, TimerFired
from orchestrator.saga.model import Closing, ConfirmationKind, Ended, Finished, NoticePending, Saga, Step
from orchestrator.saga.rules import HOUR, Retry, Waits
from orchestrator.saga.table import REQUEST_TABLE, STEP_TABLE, Row
from tests.unit.saga_world import AGENCY, ALL, CRM, MARKETING, PAPER, TENANT, WEB, World

_PLAUSIBLE: dict[str, tuple[str, ...]] = {
    "locate": ("located", "located", "absent", "cannot_look", *["not_identifiable"] * 3, "awaiting_party"),
    "erase": ("accepted", "accepted", "awaiting_party"),
    "prove": ("proved", "proved", "pending", "still_present", "reappeared"),
}
#: An attempt that does not come to the verb's end, perhaps with part of the work done.
_UNFINISHED = ("failed", "expired", "progress")
_CALLBACKS = ("instructed", "refused", "party_erased", "absent", "retained", "proved")
_ANYTHING: tuple[ConfirmationKind, ...] = ("located", "accepted", "proved", "absent", "expired", "failed")
_ASKING = replace(TENANT, asks_subject=True)
#: Small ones go deep, and each has something of its own to show.
_WORLDS = ([WEB, _ASKING], [_ASKING], [WEB], [TENANT], [AGENCY], [CRM, MARKETING], [PAPER, WEB], list(ALL))
_STRAIGHT = {"locate": "located", "erase": "accepted", "prove": "proved"}


class Walk:
    """A world in which a random number decides what happens next."""

    def __init__(self, random: Random) -> None:
        self.random = random
        plans = random.choice(_WORLDS)
        # One that is not configured at first may be so later.
        unknown = random.random() < 0.15
        self.world = World(
            *plans[unknown:],
            notify_subject=random.random() < 0.6,
            retry=Retry(max_attempts=2),
            waits=Waits(
                max_reopened=1, max_reminders=1, subject_answer=random.choice((HOUR, 9 * DAY, 9 * DAY))
            ),
        )
        self.systems = [plan.name for plan in plans]
        processor = random.random() < 0.15
        self.world.request(
            scope=tuple(self.systems) if random.random() < 0.9 else (),
            capacity="processor" if processor else "controller",
            tenant="acme" if processor or random.random() < 0.5 else None,
            verified=random.random() < 0.8,
            identifier_kinds=("email",) if random.random() < 0.95 else (),
            received_at=self.world.now + random.choice((0, 0, 0, -40 * DAY, 3 * DAY)),
        )
        if random.random() < 0.7:
            self.world.rules = replace(self.world.rules, systems={plan.name: plan for plan in plans})

    def go(self, length: int) -> None:
        ways: list[tuple[Callable[[], None], float]] = [
            (self._answer, 12),
            (self._tick, 7),
            (self._callback, 4),
            (self._decide, 4),
            (self._mailbox, 2),
            (self._again, 2),
            (self._request, 1.5),
            (self._break, 1),
            (self._misfit, 1),
            (self._stop, 0.5),
        ]
        for _ in range(length):
            self.world.now += self.random.choice((1, SECOND, HOUR, HOUR, DAY))
            self.random.choices([way for way, _ in ways], [weight for _, weight in ways])[0]()

    def _answer(self) -> None:
        """To one of the latest commands, perhaps a second time, and perhaps nonsense."""
        sent = self.world.commands()[-self.random.choice((1, 2, 8)) :]
        if not sent:
            return
        if self.random.random() < 0.1:
            # A proof that runs for long.
            sent = [one for one in self.world.commands() if one.verb == "prove"] or sent
        command = self.random.choice(sent)
        kinds = _PLAUSIBLE[command.verb] if self.random.random() < 0.7 else _UNFINISHED
        if self.random.random() < 0.05:
            kinds = _ANYTHING
        kind = self.random.choice(kinds)
        if command.system == "web" and command.verb == "locate" and self.random.random() < 0.3:
            kind = "not_identifiable"
        said_about: dict[str, Any] = {} if self.random.random() < 0.95 else {"about": ()}
        if kind in _UNFINISHED and self.random.random() < 0.8:
            done = self.random.choice((command.attempt, 1))
            said_about |= {"done": done, "erased": done, "references": b"%d are done" % done}
        since = self.world.issued_at[command.event_id]
        self.world.answer(
            command.system,
            kind,
            attempt=command.attempt,
            occurred_at=self.random.choice((self.world.now, self.world.now, since + 1)),
            look_at=self.random.choice((None, None, self.world.now - DAY, self.world.now + 9 * DAY)),
            retryable=self.random.random() < 0.8,
            retry_after=self.random.choice((None, None, 0, HOUR, 900 * DAY)),
            code=self.random.choice(("timeout", "forbidden")),
            grade=None if self.random.random() < 0.05 else "seen_absent",
            missing=("ga_client_id",),
            random=self.random.random(),
            **said_about,
        )

    def _tick(self) -> None:
        if self.world.open.is_finished:
            return
        early = self.random.random() < 0.2
        if early:
            self.world.feed(TimerFired(event_id=self.world.event_id(), request_id=self.world.open.request_id))
        else:
            self.world.tick()

    def _callback(self) -> None:
        system = self.random.choice((*self.systems, *self.systems, "nowhere"))
        kind = self.random.choice(_CALLBACKS)
        step = self.world.open.step(system)
        latest = step.attempt if step is not None else 0
        self.world.callback(
            system,
            kind,
            attempt=max(0, latest - self.random.choice((0, 0, 0, 0, 1, 3))),
            occurred_at=self.world.now - self.random.choice((0, 0, 0, 2 * DAY)),
            order=self.world.now - self.random.choice((0, 0, 0, 1, 2 * DAY)),
            said_at=self.random.choice((None, None, None, self.world.now, self.world.now - DAY)),
            look_at=self.random.choice((None, None, self.world.now, self.world.now + DAY)),
            legal_basis="bookkeeping" if kind == "retained" else None,
        )

    def _decide(self) -> None:
        if not self.world.open.escalations:
            return
        one = self.random.choice(self.world.open.escalations)
        # Now and then one that is not offered at present.
        fitting = escalations.offered(self.world.open, one, self.world.now, self.world.rules.systems)
        if not fitting or self.random.random() < 0.2:
            fitting = escalations.actions_for(one.reason)
        # Ending a request is less common than working on it.
        kind = (
            [a for a in fitting if a not in ("reject", "cancel")] if self.random.random() < 0.9 else fitting
        )
        self.world.dpo(
            self.random.choice(kind or fitting), escalation_id=one.id, escalation_version=one.version
        )

    def _misfit(self) -> None:
        self.world.dpo(self.random.choice(("verify", "retry", "erase", "waive", "extend", "extend")))

    def _stop(self) -> None:
        self.world.dpo(self.random.choice(("reject", "cancel")))

    def _mailbox(self) -> None:
        if asked := self.world.outcomes("notice"):
            kind = self.random.choice(("notice_sent", "notice_sent", "notice_failed"))
            self.world.mailbox(kind, command_id=self.random.choice(asked).event_id, code="no_address")

    def _again(self) -> None:
        """Something that was said before, once more."""
        said = [event for event, _ in self.world.history if isinstance(event, Confirmed)]
        if said:
            self.world.feed(self.random.choice(said[-10:]))

    def _request(self) -> None:
        way = self.random.choice(("same", "more", "more", "other", "unreadable"))
        saga = self.world.open
        if way == "unreadable":
            self.world.unreadable()
        elif way == "same":
            self.world.request(capacity=saga.capacity, tenant=saga.tenant)
        else:
            digest = self.world.event_id().ljust(64, "0")
            fields: dict[str, Any] = {"capacity": saga.capacity, "tenant": saga.tenant}
            self.world.supplement(content_digest=digest, supplements=way == "more", **fields)

    def _break(self) -> None:
        if self.random.random() < 0.3:
            command = self.world.event_id()
            broken = Confirmed(
                event_id=command,
                request_id=self.world.open.request_id,
                kind="failed",
                system=self.systems[0],
                occurred_at=self.world.now,
            )
            self.world.feed(broken, breaks=True)

    def settle(self) -> None:
        """Everybody cooperates from here on: workers answer, the mailbox mails, the DPO decides."""
        for _ in range(150):
            saga = self.world.open
            self.world.now += SECOND
            pending = [n.state.command_id for n in saga.notices if isinstance(n.state, NoticePending)]
            if saga.is_finished:
                return
            one = next(
                (e for e in saga.escalations if e.reason == "quarantined" or not saga.quarantined), None
            )
            if one is not None:
                fitting = escalations.offered(saga, one, self.world.now, self.world.rules.systems)
                order = ("verify", "waive", "retry", "cancel")
                action = next(a for a in order if a in fitting)
                self.world.dpo(action, escalation_id=one.id, escalation_version=one.version)
            elif pending:
                self.world.mailbox(command_id=pending[0])
            elif out := [s for s in saga.steps if s.state.status in ("locating", "erasing", "proving")]:
                verb = self.world.command(out[0].system).verb
                self.world.answer(out[0].system, _STRAIGHT[verb])
            elif asked := [s for s in saga.steps if s.state.status == "awaiting_party"]:
                kind = (
                    "instructed"
                    if asked[0].system == "tenant" and not asked[0].instruction
                    else "party_erased"
                )
                self.world.callback(asked[0].system, kind)
            else:
                self.world.tick()
        raise AssertionError(f"comes to no end: {self.world.open}")


def walk(random: Random, length: int) -> World:
    path = Walk(random)
    path.go(length)
    path.settle()
    return path.world


def walk_all() -> None:
    for seed in range(400):
        walk(Random(seed), 60)


@settings(max_examples=100)
@given(random=st.randoms(use_true_random=False), length=st.integers(0, 50))
def test_no_order_of_events_breaks_the_rules(random: Random, length: int) -> None:
    """In whatever order, the rules hold; the request ends, and its key is destroyed once."""
    world = walk(random, length)
    assert world.open.is_finished
    assert 1 == world.keys_destroyed


@settings(max_examples=15)
@given(seed=st.integers(0, 10**9))
def test_the_same_events_give_the_same_state_and_the_same_ids(seed: int) -> None:
    """`decide` is a function: no clock, no randomness of its own."""
    one, other = walk(Random(seed), 30), walk(Random(seed), 30)
    assert one.open == other.open
    assert one.messages == other.messages
    assert one.entries == other.entries


class Seen:
    """Which rows of the tables were used, and where they led."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: set[tuple[str, str]] = set()
        self.ways: set[tuple[str, str, str]] = set()
        self.moves: set[tuple[str, str, str]] = set()
        apply, move = table.apply, table.move

        def seeing_apply(draft: Draft, step: Step, trigger: str, event: Event) -> Step:
            after = apply(draft, step, trigger, event)
            self.rows.add((step.state.status, trigger))
            self.ways.add((step.state.status, trigger, after.state.status))
            return after

        def seeing_move(draft: Draft, occasion: str, state: Any) -> None:
            self.moves.add((draft.saga.status, occasion, state.status))
            move(draft, occasion, state)

        monkeypatch.setattr(table, "apply", seeing_apply)
        monkeypatch.setattr(table, "move", seeing_move)


def test_the_walks_reach_every_row_of_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the walks do not reach they can't check: every row of a step, every move of a request."""
    seen = Seen(monkeypatch)
    rows = {(status, trigger) for status, rows in STEP_TABLE.items() for trigger in rows}
    moves = {(a, occasion, b) for a, row in REQUEST_TABLE.items() for occasion, to in row.items() for b in to}
    for seed in range(3000):
        walk(Random(seed), 60)
        if rows <= seen.rows and moves <= seen.moves:
            break
    assert set() == rows - seen.rows
    assert moves == seen.moves


# --- the walks can fail ---


def _looks_away(draft: Draft, before: Step, after: Step, event: Event) -> None:
    return None


def _broken_by(monkeypatch: pytest.MonkeyPatch, status: Any, trigger: str, rule: Any, message: str) -> None:
    """With this row broken some walk must fail, and say why; also where the table looks at no end itself."""
    row = STEP_TABLE[status][trigger]
    monkeypatch.setattr(table, "_check_end", _looks_away)
    every: tuple[Any, ...] = tuple(STEP_TABLE)
    monkeypatch.setitem(STEP_TABLE[status], trigger, Row(rule, (*row.targets, *every)))
    with pytest.raises((AssertionError, RuleBroken), match=message):
        walk_all()


def test_erasing_before_looking_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that is erased from without a look is noticed."""

    def hasty(draft: Draft, step: Step, event: Event) -> Step:
        return draft.issue(step, "erase")

    _broken_by(monkeypatch, "waiting", "start", hasty, "without having looked|while|controller")


def test_erasing_without_instruction_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller's data that is erased without its instruction is noticed."""

    def obliging(draft: Draft, step: Step, event: Event) -> Step:
        return draft.issue(step, "erase")

    _broken_by(
        monkeypatch,
        "locating",
        "located",
        obliging,
        "without the controller's instruction|by its controller's word",
    )


def test_an_end_without_evidence_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that ends on the vendor's yes, with nothing to show for it, is noticed."""

    def gullible(draft: Draft, step: Step, event: Event) -> Step:
        return steps.end(step, Ended(end="erased", at=draft.now), None)

    _broken_by(monkeypatch, "erasing", "accepted", gullible, "Ended|about less")


def test_a_wait_that_never_moves_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer whose rule leaves its time in the past would fire for ever; it is noticed."""
    _broken_by(monkeypatch, "accepted", "timer", steps.stays, "fires for ever")


def test_a_key_destroyed_too_early_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing that does not wait for the attempts that are out is noticed."""

    def impatient(draft: Draft) -> None:
        closing = draft.saga.state
        assert isinstance(closing, Closing)
        draft.saga = replace(draft.saga, state=Finished(status=closing.final, at=draft.now), escalations=())
        draft.destroys_key = True

    def cancelled_at_once() -> None:
        world = World(CRM)
        world.request()
        world.dpo("cancel")

    cancelled_at_once()
    monkeypatch.setattr(request, "_finish_when_quiet", impatient)
    with pytest.raises(AssertionError, match="may still act"):
        cancelled_at_once()
    # Of the walks some meet a notice first that fails after such an end, and asks the DPO about it.
    with pytest.raises(AssertionError, match=r"may still act|after the end"):
        walk_all()


@pytest.mark.parametrize("what", ["is_about_all", "is_about_the_person"])
def test_an_answer_to_an_older_command_that_counts_is_found(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """An acceptance, an absence or a proof of fewer identifiers or records that counts for all is noticed."""

    def trusting(*_: Saga | Step | Confirmed) -> bool:
        return True

    monkeypatch.setattr(about, what, trusting)
    with pytest.raises(AssertionError, match=r"about less"):
        walk_all()


def test_a_party_that_answers_less_and_counts_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A party's answer to an asking from before a supplement that ends the step, or instructs, is noticed."""

    def trusting(step: Step, event: Confirmed) -> bool:
        return False

    monkeypatch.setattr(parties, "_is_about_less", trusting)
    monkeypatch.setattr(table, "_check_end", _looks_away)
    with pytest.raises(AssertionError, match=r"earlier asking|instructed for more"):
        walk_all()
