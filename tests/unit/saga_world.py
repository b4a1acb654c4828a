"""A small world for tests of the saga: a few systems, a clock, and short words for what can happen.

Every event that is fed is followed by `must_hold`: the rules that no event may break, whatever it is.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import holidays

from orchestrator.saga import timeline
from orchestrator.saga.clocks import DAY, Calendar, micros
from orchestrator.saga.decide import Decision, decide, quarantine
from orchestrator.saga.draft import SendCommand, SendOutcome
from orchestrator.saga.escalations import AFTER_END, offered
from orchestrator.saga.events import Confirmed, Decided, Event, RequestReceived, RequestUnreadable, TimerFired
from orchestrator.saga.model import (
    Action,
    AwaitingDecision,
    Ended,
    Escalation,
    NoticePending,
    Saga,
    Step,
    Wait,
    waits,
)
from orchestrator.saga.rules import Rules, SystemPlan

_SWEDEN = holidays.country_holidays("SE", include_sundays=False)
SWEDEN = Calendar(time_zone=ZoneInfo("Europe/Stockholm"), is_public_holiday=lambda day: day in _SWEDEN)

CRM = SystemPlan(name="crm", kind="superoffice", look_again=(0, 14 * DAY), patience=30 * DAY)
MARKETING = SystemPlan(name="marketing", kind="hubspot", after=("crm",))
WEB = SystemPlan(name="web", kind="google_analytics", asks_subject=True)
PAPER = SystemPlan(name="paper", kind="paper", holds_nothing="no_identifiers_kept")
AGENCY = SystemPlan(name="agency", kind="recruitment")
TENANT = SystemPlan(name="tenant", kind="tenant", tenant="acme", refusal_ends=True)
ALL = (CRM, MARKETING, WEB, PAPER, AGENCY, TENANT)

REQUEST = "3f1c2b9e-0000-4000-8000-000000000001"
START = micros(datetime(2026, 6, 1, 9, tzinfo=UTC))

#: What says that somebody has looked, or can't: before that nothing is erased.
LOOKS = ("located", "absent", "cannot_look", "still_present")

#: What a controller can say about its data.
LAW = ("instructed", "refused")

#: The ends that claim something about the data, and therefore need proof.
_CLAIMS = ("erased", "absent", "anonymised", "retained")


def marks(*sealed: bytes) -> tuple[str, ...]:
    """The marks of sealed bytes, made as the worker makes them."""
    return tuple(hashlib.sha256(one).hexdigest()[:32] for one in sealed)


def at(text: str) -> int:
    """An ISO date or time (UTC unless it says otherwise) in micros."""
    moment = datetime.fromisoformat(text)
    return micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def rules_for(*plans: SystemPlan, **changes: Any) -> Rules:
    return Rules(**{"calendar": SWEDEN, "systems": {plan.name: plan for plan in plans}, **changes})


def never_a_holiday(day: date) -> bool:
    return False


class World:
    """One request and everything that was said about it."""

    def __init__(self, *plans: SystemPlan, now: int = START, **changes: Any) -> None:
        self.rules = rules_for(*plans, **changes)
        self.now = now
        self.saga: Saga | None = None
        self.messages: list[SendCommand | SendOutcome] = []
        self.entries: list[timeline.Entry] = []
        self.history: list[tuple[Event, int]] = []
        self.issued_at: dict[str, int] = {}
        self.about: dict[str, tuple[str, ...]] = {}
        self.keys_destroyed = 0
        self.looked: set[str] = set()
        self._events = 0
        self._orders: dict[str, list[tuple[int, int, str, int]]] = {}

    # --- what can happen ---

    def feed(self, event: Event, *, breaks: bool = False) -> Decision:
        """Applies an event, and checks what must hold after each. `breaks`: as if a rule had raised."""
        before = self.saga
        decision = (quarantine if breaks else decide)(before, event, self.now, self.rules)
        self.history.append((event, self.now))
        if isinstance(event, Confirmed) and event.command_id is None and event.kind in LAW:
            self._hear(event)
        if isinstance(event, Confirmed) and event.system and event.kind in LOOKS:
            self.looked.add(event.system)
        if isinstance(event, Confirmed) and event.system and event.kind == "not_identifiable":
            self._note_what_is_known(event.system)
        must_hold(self, before, event, decision)
        self.saga = decision.saga
        self.messages += decision.messages
        self.entries += decision.entries
        self.issued_at.update({one.event_id: self.now for one in decision.messages})
        for one in decision.messages:
            if isinstance(one, SendCommand):
                self.about[one.event_id] = marks(decision.saga.identifiers, *one.references)
        self.keys_destroyed += decision.destroys_key
        if any(entry.action == "supplemented" for entry in decision.entries):
            self.looked.clear()
        return decision

    def _note_what_is_known(self, system: str) -> None:
        """Where a look finds nobody, only what an earlier one found may be erased."""
        step = self.saga.step(system) if self.saga is not None else None
        if step is not None and step.references:
            self.looked.add(system)

    def _hear(self, event: Confirmed) -> None:
        """Notes a party's word by the order in which it was stored, as a judge of its own."""
        order = event.occurred_at if event.order is None else event.order
        heard = self._orders.setdefault(event.system or "", [])
        if event.order is None or all(one[0] != order for one in heard):
            self.heard(event.system or "", order, event.kind, event.attempt)

    def heard(self, system: str, order: int, kind: str, attempt: int) -> None:
        """A word that was heard, perhaps by an earlier version."""
        words = self._orders.setdefault(system, [])
        words.append((order, len(words), kind, attempt))

    def last_word(self, system: str) -> str | None:
        """What its controller said last that counts for what is asked now: a refusal always does."""
        asked_from = self.step(system).asked_from
        counting = [
            (order, number, kind)
            for order, number, kind, attempt in self._orders.get(system, [])
            if kind == "refused" or (kind == "instructed" and attempt >= asked_from)
        ]
        return max(counting)[2] if counting else None

    def mail_everything(self) -> None:
        """The mailbox answers every notice that is waiting."""
        for notice in self.open.notices:
            if isinstance(notice.state, NoticePending):
                self.mailbox(command_id=notice.state.command_id)

    def configure(self, plan: SystemPlan) -> None:
        """A system that is configured while the request is on its way."""
        self.rules = replace(self.rules, systems={**self.rules.systems, plan.name: plan})

    def event_id(self) -> str:
        self._events += 1
        return f"event-{self._events}"

    def request(self, **fields: Any) -> Decision:
        """A verified request of a known person, received now."""
        return self.feed(self.request_event(**fields))

    def request_event(self, **fields: Any) -> RequestReceived:
        values: dict[str, Any] = {
            "event_id": self.event_id(),
            "request_id": REQUEST,
            "received_at": self.now,
            "source": "intake",
            "capacity": "controller",
            "tenant": None,
            "language": "sv",
            "verified": True,
            "scope": None,
            "identifiers": b"sealed",
            "identifier_kinds": ("email",),
            "content_digest": "d" * 64,
            "subject_digest": "s" * 64,
        }
        return RequestReceived(**{**values, **fields})

    def supplement(self, **fields: Any) -> Decision:
        """The same request with more identifiers."""
        more = {"supplements": True, "content_digest": "e" * 64, "identifiers": b"sealed more"}
        return self.request(**{**more, **fields})

    def unreadable(self) -> Decision:
        return self.feed(
            RequestUnreadable(
                event_id=self.event_id(), request_id=REQUEST, received_at=self.now, code="malformed"
            )
        )

    def answer(self, system: str, kind: str, *, attempt: int | None = None, **fields: Any) -> Decision:
        """A worker's answer to a command: the latest one to that system unless `attempt` says which.

        It says what the command was about, as the worker does.
        """
        command = self.command(system, attempt)
        values: dict[str, Any] = {
            "event_id": self.event_id(),
            "request_id": REQUEST,
            "kind": kind,
            "system": system,
            "occurred_at": self.now,
            "command_id": command.event_id,
            "verb": command.verb,
            "attempt": command.attempt,
            "about": self.about[command.event_id],
        }
        if kind in ("absent", "proved"):
            values["grade"] = "seen_absent"
        if kind == "located":
            values |= {"found": 1, "references": f"references of {command.attempt}".encode()}
        return self.feed(Confirmed(**{**values, **fields}))

    def callback(self, system: str, kind: str, **fields: Any) -> Decision:
        """What a vendor or a party says by itself, by the latest link unless `attempt` says which."""
        step = self.open.step(system)
        values: dict[str, Any] = {
            "attempt": step.attempt if step is not None else 0,
            "event_id": self.event_id(),
            "request_id": REQUEST,
            "kind": kind,
            "system": system,
            "occurred_at": self.now,
        }
        return self.feed(Confirmed(**{**values, **fields}))

    def mailbox(self, kind: str = "notice_sent", *, command_id: str | None = None, **fields: Any) -> Decision:
        """The mailbox's answer, to the latest notice unless `command_id` says which."""
        values: dict[str, Any] = {
            "event_id": self.event_id(),
            "request_id": REQUEST,
            "kind": kind,
            "system": None,
            "occurred_at": self.now,
            "command_id": command_id or self.outcomes("notice")[-1].event_id,
        }
        return self.feed(Confirmed(**{**values, **fields}))

    def dpo(self, action: Action, about: str | None = None, /, **fields: Any) -> Decision:
        """A decision on the open question of that reason, or (None) on the request."""
        one = self.question(about) if about is not None else None
        values: dict[str, Any] = {
            "event_id": self.event_id(),
            "request_id": REQUEST,
            "action": action,
            "escalation_id": one.id if one else None,
            "escalation_version": one.version if one else None,
            "reason": "because",
            "decided_by": "dpo",
            "decided_at": self.now,
        }
        return self.feed(Decided(**{**values, **fields}))

    def tick(self, *, event_id: str | None = None) -> Decision:
        """The next timer fires."""
        wake_at = self.open.wake_at
        assert wake_at is not None
        self.now = max(self.now, wake_at)
        return self.feed(TimerFired(event_id=event_id or self.event_id(), request_id=REQUEST))

    def tick_now(self) -> Decision:
        """A timer fires before its time: each wait that is not due stays."""
        return self.feed(TimerFired(event_id=self.event_id(), request_id=REQUEST))

    def until(self, moment: int) -> None:
        """Every timer fires up to a moment."""
        while (wake_at := self.open.wake_at) is not None and wake_at <= moment:
            self.tick()
        self.now = max(self.now, moment)

    # --- the usual ways ---

    def erase(self, system: str) -> None:
        """Located and accepted: the proof comes next."""
        self.answer(system, "located")
        self.answer(system, "accepted", erased=1)

    def finish(self, system: str) -> None:
        """Located, erased and proved, as often as the schedule asks."""
        self.erase(system)
        while not self.step(system).is_ended:
            if self.step(system).state.status == "accepted":
                self.tick()
            else:
                self.answer(system, "proved")

    # --- what there is to see ---

    @property
    def open(self) -> Saga:
        assert self.saga is not None
        return self.saga

    def step(self, system: str) -> Step:
        step = self.open.step(system)
        assert step is not None
        return step

    def status(self, system: str) -> str:
        """A step's status, or its end."""
        state = self.step(system).state
        return state.end if isinstance(state, Ended) else state.status

    def commands(self, system: str | None = None) -> list[SendCommand]:
        sent = [one for one in self.messages if isinstance(one, SendCommand)]
        return [one for one in sent if system in (None, one.system)]

    def command(self, system: str, attempt: int | None = None) -> SendCommand:
        return next(one for one in reversed(self.commands(system)) if attempt in (None, one.attempt))

    def verbs(self, system: str) -> list[str]:
        return [one.verb for one in self.commands(system)]

    def outcomes(self, kind: str) -> list[SendOutcome]:
        return [one for one in self.messages if isinstance(one, SendOutcome) and one.kind == kind]

    def questions(self) -> list[str]:
        return [one.reason for one in self.open.escalations]

    def offers(self) -> dict[str, tuple[Action, ...]]:
        """What the DPO is offered, by question."""
        return {
            one.reason: offered(self.open, one, self.now, self.rules.systems) for one in self.open.escalations
        }

    def question(self, reason: str) -> Escalation:
        return next(one for one in self.open.escalations if one.reason == reason)


def must_hold(world: World, before: Saga | None, event: Event, decision: Decision) -> None:
    """What no event may break."""
    after = decision.saga
    _keeps_its_timers(world, event, after)
    _keeps_its_record(before, decision)
    _asks_once(after)
    _erases_only_when_it_may(world, before, decision)
    _ends_for_good(world, before, decision)
    _is_not_told_less(before, event, after)
    _is_shown(before, event, decision)
    _is_acted_on_now(after)
    _is_alarmed_in_time(world, after)


def _keeps_its_timers(world: World, event: Event, after: Saga) -> None:
    for step in after.steps:
        assert isinstance(step.state, Ended | Wait), step.state
    if after.is_finished:
        assert {one.reason for one in after.escalations} <= AFTER_END, "another question after the end"
        reminders = [one.remind_at for one in after.escalations]
        assert reminders == [until for _, until in waits(after)], "another wait after the end"
        return
    assert after.wake_at is not None
    # The steps of a request that was set aside stand still; its own clocks don't.
    waiting = 0 if after.quarantined else len([step for step in after.steps if not step.is_ended])
    assert waiting + len(after.escalations) + 1 <= len(waits(after))
    if isinstance(event, TimerFired):
        assert after.wake_at > world.now, "a timer that fires for ever"


def _keeps_its_record(before: Saga | None, decision: Decision) -> None:
    after = decision.saga
    assert after.version == (before.version + 1 if before else 1)
    head, seq = (before.head, before.seq) if before else (timeline.GENESIS, 0)
    for entry in decision.entries:
        assert (entry.previous, entry.seq) == (head, seq + 1)
        assert entry.hash == timeline.link(head, entry.seq, entry.at, entry.action, entry.data)
        head, seq = entry.hash, entry.seq
    assert (after.head, after.seq) == (head, seq)
    ids = [one.event_id for one in decision.messages]
    assert len(set(ids)) == len(ids)


def _asks_once(after: Saga) -> None:
    asked = [(one.reason, one.system) for one in after.escalations]
    assert len(set(asked)) == len(asked), asked
    for step in after.steps:
        if isinstance(step.state, AwaitingDecision):
            assert (step.state.reason, step.system) in asked, f"{step.system} waits for no question"


def _erases_only_when_it_may(world: World, before: Saga | None, decision: Decision) -> None:
    after = decision.saga
    numbers: Mapping[str, int] = {step.system: step.attempt for step in before.steps} if before else {}
    for one in decision.messages:
        if not isinstance(one, SendCommand):
            continue
        assert one.attempt > numbers.get(one.system, 0), "attempts must rise"
        numbers = {**numbers, one.system: one.attempt}
        assert one.not_after > world.now
        assert after.status == "in_progress", f"a command while {after.status}"
        assert not after.quarantined, "a command of a request that is set aside"
        assert one.kind == world.rules.systems[one.system].kind
        if one.verb == "erase":
            assert one.system in world.looked, "erased without having looked"
            if world.rules.systems[one.system].refusal_ends:
                assert one.instruction == "erase", "erased without the controller's instruction"
                assert world.last_word(one.system) != "refused", "erased over the controller's refusal"


def _ends_for_good(world: World, before: Saga | None, decision: Decision) -> None:
    after = decision.saga
    assert decision.destroys_key == (after.is_finished and not (before and before.is_finished))
    if before and before.is_finished:
        assert after.state == before.state
        kinds = {one.kind for one in decision.messages if isinstance(one, SendOutcome)}
        assert kinds <= {"corrected", "decision_refused", "escalated", "reminded"}, kinds
        assert not any(isinstance(one, SendCommand) for one in decision.messages)
    if not after.is_finished:
        return
    limit = world.rules.waits.call_limit
    for step in after.steps:
        assert all(one.not_after + limit < world.now for one in step.outstanding), "an attempt may still act"
    assert all(step.is_ended for step in after.steps)
    assert not after.escalations or (before and before.is_finished)
    if after.status == "completed":
        assert after.acted_at is not None
        assert after.acted_at <= world.now
        for step in after.steps:
            state = step.state
            assert isinstance(state, Ended)
            assert (state.grade is not None) == (state.end in _CLAIMS or state.end == "refused"), state


def _is_not_told_less(before: Saga | None, event: Event, after: Saga) -> None:
    """What a party answers to an asking from before the step was begun anew is not an answer to it."""
    if before is None or not isinstance(event, Confirmed) or event.command_id is not None:
        return
    step, now = before.step(event.system or ""), after.step(event.system or "")
    if step is None or now is None or event.attempt >= step.asked_from or event.kind == "proved":
        return
    assert step.is_ended or not now.is_ended, f"{event.kind} to an earlier asking ended the step"
    taken_back = now.instruction is None and event.kind == "refused"
    assert taken_back or now.instruction == step.instruction, "instructed for more than was asked"


def _is_shown(before: Saga | None, event: Event, decision: Decision) -> None:
    """What an end says of the records, an answer about all of them shows; a proof knows its time."""
    for one in decision.messages:
        assert not isinstance(one, SendCommand) or one.verb != "prove" or one.erased_at is not None
    after = decision.saga
    for step in after.steps:
        was = before.step(step.system) if before else None
        known = set(marks(after.identifiers, *step.references))
        is_news = step.accepted_at is not None and step.accepted_at != (was.accepted_at if was else None)
        if is_news and isinstance(event, Confirmed) and event.command_id is not None:
            assert known <= set(event.about), f"accepted, and it was about less than {step.system} has"
        if step.state == (was.state if was else None) or not isinstance(step.state, Ended):
            continue
        if step.state.end not in _CLAIMS or (was and was.is_ended and step.state.contradicted):
            continue
        # What was said while it was set aside takes effect at the release.
        was_parked = was is not None and any(not word.heeded for word in was.words)
        assert isinstance(event, Confirmed) or was_parked, f"{step.system} ended with nothing said"
        if isinstance(event, Confirmed) and event.command_id is not None:
            assert known <= set(event.about), f"{event.kind} was about less than {step.system} has"


def _is_acted_on_now(after: Saga) -> None:
    """What is acted on is so now: a step that erases again is not, and the deadline is watched again."""
    if after.status != "in_progress" or after.quarantined or after.acted_at is None:
        return
    for step in after.steps:
        again = step.state.status in ("waiting", "locating", "erasing", "awaiting_party", "awaiting_subject")
        again |= getattr(step.state, "verb", getattr(step.state, "resume", "prove")) != "prove"
        assert not again, f"acted on, and {step.system} is {step.state}"


def _is_alarmed_in_time(world: World, after: Saga) -> None:
    """Whoever waits to be told has the warning and the alarm, whatever the request's state."""
    told = after.acted_at is not None
    if after.status == "closing":
        pending = [one for one in after.notices if isinstance(one.state, NoticePending)]
        told = not any(one.purpose != "extended" for one in pending)
    if after.is_finished or told:
        return
    assert after.wake_at is not None
    due_at = after.due_at if after.due_or is None else min(after.due_at, after.due_or)
    warned_at = due_at - world.rules.waits.deadline_warning
    asked = {one.reason for one in after.escalations} | {key.partition("/")[0] for key in after.settled}
    if world.now > due_at:
        assert "overdue" in asked, f"{after.status} and overdue, and nobody was told"
    elif world.now >= warned_at:
        assert "deadline_near" in asked, f"{after.status} and nearly overdue, and nobody was told"
        assert after.wake_at <= due_at + 1
    else:
        assert after.wake_at <= warned_at
