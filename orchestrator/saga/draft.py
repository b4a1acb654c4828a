"""A decision being written: the saga as it becomes, with what is to be sent and noted.

`decide` starts one draft for each event and freezes it at the end. Ids of messages derive from the event that
caused them and their place among its messages, so the same event applied again sends the same ids.
"""

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from orchestrator.saga import timeline, words
from orchestrator.saga.ahead import Doubt
from orchestrator.saga.model import (
    Attempt,
    Ended,
    Erasing,
    Escalation,
    FinalStatus,
    Locating,
    Notice,
    NoticePending,
    NoticePurpose,
    Proving,
    Saga,
    Step,
    Verb,
)
from orchestrator.saga.progress import NONE
from orchestrator.saga.replacing import replace
from orchestrator.saga.rules import Rules

T = TypeVar("T")


class RuleBroken(Exception):
    """A rule met or made a state that its table does not allow: a fault in Radera, not in its input."""


def expect(value: object, kind: type[T]) -> T:
    """What the table promises about a rule's arguments, checked."""
    if not isinstance(value, kind):
        raise RuleBroken(f"expected {kind.__name__}, got {type(value).__name__}")
    return value


_NAMESPACE = uuid.UUID("8d3c8f2a-64d5-5f0f-9f57-5b8f6f0f6a11").bytes


def derived_id(name: str) -> str:
    """The UUID of a name, always the same: version 5 of RFC 9562, section 5.5. `uuid.uuid5` makes the same in
    three times the time, by way of an object that nobody needs.
    """
    digest = bytearray(hashlib.sha1(_NAMESPACE + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


OutcomeKind = Literal[
    "escalated",
    "reminded",
    "acted",
    "completed",
    "rejected",
    "cancelled",
    "corrected",
    "decision_refused",
    "notice",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SendCommand:
    """A command for the handler of one system; the shell adds what the saga already knows."""

    event_id: str
    system: str
    kind: str
    verb: Verb
    attempt: int
    not_after: int
    reminder: bool
    erased_at: int | None
    accepted_at: int | None
    found: int
    instruction: Literal["erase"] | None
    takes_all: int = 0
    references: tuple[bytes, ...] = field(repr=False)

    def __post_init__(self) -> None:
        """Raise RuleBroken for a proof that couldn't tell what is newer than the erasure."""
        if self.verb == "prove" and self.erased_at is None:
            raise RuleBroken("a proof without the time of the erasure")


@dataclass(frozen=True, slots=True, kw_only=True)
class SendOutcome:
    """Something to say to the outside; the shell adds the saga's state after the decision."""

    event_id: str
    kind: OutcomeKind
    concerns: str | None = None
    code: str | None = None


Message = SendCommand | SendOutcome


def _settled_key(reason: str, system: str | None, code: str | None) -> str:
    return "/".join((reason, system or "", code or ""))


class Draft:
    """The mutable middle of a pure function: made, changed and frozen within one call of `decide`."""

    def __init__(
        self, saga: Saga, now: int, rules: Rules, cause: str, random: float, doubt: Doubt | None = None
    ) -> None:
        self.saga = saga
        self.doubt = doubt
        self.now = now
        self.rules = rules
        self.random = random
        self.messages: list[Message] = []
        self.entries: list[timeline.Entry] = []
        self.destroys_key = False
        self.parks_event: str | None = None
        self._cause = cause
        self._head, self._seq = saga.head, saga.seq

    # --- the time ---

    def is_due(self, until: int) -> bool:
        """Whether a wait is over; not where only a jump of the clock says so."""
        return self.ends_at(until) <= self.now

    def ends_at(self, until: int) -> int:
        """Return when a wait is over, by the clock as it is."""
        return until if self.doubt is None else self.doubt.ends_at(until, self.saga.as_of)

    # --- the record ---

    def note(self, action: str, /, **data: str | int | None) -> None:
        """Adds a line to the timeline. Tokens, counts and times only."""
        clean = {name: str(value) for name, value in data.items() if value is not None}
        entry = timeline.append(self._head, self._seq + 1, self.now, action, clean)
        self.entries.append(entry)
        self._head, self._seq = entry.hash, entry.seq

    def written(self) -> Saga:
        """The saga as it becomes, with its timeline's head, which no rule looks at."""
        return replace(self.saga, head=self._head, seq=self._seq, as_of=self.now)

    def put(self, step: Step) -> None:
        """Replaces the step of the same system."""
        name = step.system
        steps = [step if one.system == name else one for one in self.saga.steps]
        self.saga = replace(self.saga, steps=tuple(steps))

    def put_notice(self, notice: Notice) -> None:
        others = tuple(one for one in self.saga.notices if one.purpose != notice.purpose)
        self.saga = replace(self.saga, notices=(*others, notice))

    # --- messages ---

    def _next_id(self) -> str:
        return derived_id(f"{self.saga.request_id}/{self._cause}/{len(self.messages)}")

    def say(self, kind: OutcomeKind, *, concerns: str | None = None, code: str | None = None) -> str:
        """Sends an outcome; gives its id."""
        event_id = self._next_id()
        self.messages.append(SendOutcome(event_id=event_id, kind=kind, concerns=concerns, code=code))
        return event_id

    def say_end(self, final: FinalStatus) -> None:
        """Sends the end. Its id is made of what it says: a request that is read again, when the database was
        put back, ends in the same mail, and another end is another mail.
        """
        ends = sorted(
            f"{one.system}={one.state.end}:{one.state.grade}"
            for one in self.saga.steps
            if isinstance(one.state, Ended)
        )
        event_id = derived_id("/".join((self.saga.request_id, final, *ends)))
        self.messages.append(SendOutcome(event_id=event_id, kind=final))

    def command(self, step: Step, verb: Verb, *, reminder: bool = False) -> Step:
        """Sends a command as the next attempt and remembers it as outstanding; leaves the state alone."""
        if verb == "erase" and words.hold(step) is not None:
            raise RuleBroken(f"{step.system} is held by its controller's word")
        if verb == "prove" and step.erased_at is None:
            # Nobody knows of an erasure, so all that was created since the person asked may be new consent;
            # but for the records that were found to be erased.
            received_at = min(self.saga.received_at, self.saga.received_or or self.now)
            step = replace(step, erased_at=received_at, created_by=())
        if step.progress_of != verb:
            step = replace(step, **NONE)
        number = step.attempt + 1
        not_after = self.now + self.rules.waits.command_lifetime
        command_id = self._next_id()
        progress = () if step.progress is None else (step.progress,)
        self.messages.append(
            SendCommand(
                event_id=command_id,
                system=step.system,
                kind=step.kind,
                verb=verb,
                attempt=number,
                not_after=not_after,
                reminder=reminder,
                erased_at=step.erased_at,
                accepted_at=step.erased_at if verb == "prove" and not step.accepted_at else step.accepted_at,
                found=step.found,
                instruction=self._instruction(step),
                takes_all=step.takes_all,
                references=(*step.references, *step.notes, *step.agreed, *progress),
            )
        )
        self.note("command_sent", system=step.system, verb=verb, attempt=number, command=command_id)
        attempt = Attempt(command_id=command_id, verb=verb, number=number, not_after=not_after)
        outstanding = (*step.outstanding, attempt)
        return replace(step, attempt=number, command_id=command_id, outstanding=outstanding)

    def _instruction(self, step: Step) -> Literal["erase"] | None:
        """The controller's; documents of an earlier version hold the DPO's there, for other systems."""
        is_controllers = step.has_controller or self.saga.capacity == "processor"
        return step.instruction if is_controllers else None

    def issue(self, step: Step, verb: Verb) -> Step:
        """Sends the step's next command and puts the step into the state that waits for its answer."""
        step = self.command(step, verb)
        until = self.now + self.rules.waits.silence_alarm
        state = {"locate": Locating, "erase": Erasing, "prove": Proving}[verb]
        return replace(step, state=state(attempt=step.attempt, until=until))

    def give_notice(self, purpose: NoticePurpose) -> None:
        """Asks the mailbox to tell the subject, perhaps once more."""
        before = self.saga.notice(purpose)
        pending = before.state if before is not None else None
        asked = (*pending.earlier, pending.command_id) if isinstance(pending, NoticePending) else ()
        command_id = self.say("notice", code=purpose)
        until = self.now + self.rules.waits.notice_alarm
        state = NoticePending(command_id=command_id, earlier=asked, until=until)
        self.put_notice(Notice(purpose=purpose, state=state))
        self.note("notice_asked", purpose=purpose, command=command_id)

    # --- questions to the DPO ---

    def find(self, reason: str, system: str | None = None) -> Escalation | None:
        return next((e for e in self.saga.escalations if (e.reason, e.system) == (reason, system)), None)

    def escalate(self, reason: str, system: str | None = None, code: str | None = None) -> None:
        """Asks the DPO.

        The same question asked again while it is open says nothing new unless its code differs, and one
        that the DPO has acknowledged is not asked again.
        """
        if self.is_settled(reason, system, code):
            return
        open_one = self.find(reason, system)
        if open_one is not None and open_one.code == code:
            return
        if open_one is None:
            raised = self.saga.raised + 1
            one = Escalation(
                id=f"e{raised}",
                version=1,
                reason=reason,
                system=system,
                code=code,
                raised_at=self.now,
                remind_at=self.now + self.rules.waits.decision_reminder,
            )
            self.saga = replace(self.saga, raised=raised)
        else:
            one = replace(open_one, version=open_one.version + 1, code=code)
        self._ask(one, code)

    def renew(self, one: Escalation, why: str) -> None:
        """Asks an open question once more: what it is about has changed, and a decision on it as it was is
        void.
        """
        self._ask(replace(one, version=one.version + 1), why)

    def renew_unchanged(self, asked: Mapping[str, int], why: str) -> None:
        """Asks those questions once more that are open in the same version as before."""
        for one in self.saga.escalations:
            if asked.get(one.id) == one.version:
                self.renew(one, why)

    def _ask(self, one: Escalation, code: str | None) -> None:
        kept = tuple(e for e in self.saga.escalations if e.id != one.id)
        self.saga = replace(self.saga, escalations=(*kept, one))
        about = {"reason": one.reason, "system": one.system, "code": code}
        self.note("escalated", escalation=one.id, version=one.version, **about)
        self.say("escalated", concerns=one.id, code=code)

    def is_settled(self, reason: str, system: str | None = None, code: str | None = None) -> bool:
        return _settled_key(reason, system, code) in self.saga.settled

    def settle(self, reason: str, system: str | None = None, code: str | None = None) -> None:
        """Remembers that the DPO has acknowledged a fact that nothing will change."""
        self.saga = replace(self.saga, settled=(*self.saga.settled, _settled_key(reason, system, code)))

    def unsettle(self, reason: str, system: str | None = None) -> None:
        """A question that was acknowledged, with whatever code, may come up again."""
        of_question = _settled_key(reason, system, None)
        kept = tuple(key for key in self.saga.settled if not key.startswith(of_question))
        self.saga = replace(self.saga, settled=kept)

    def resolve(self, *reasons: str, system: str | None = None, by: str = "itself") -> None:
        """Closes the open questions of these reasons about a system (None: about the request)."""
        for one in self.saga.escalations:
            if one.reason in reasons and one.system == system:
                self.close(one, by)

    def close(self, one: Escalation, by: str) -> None:
        kept = tuple(e for e in self.saga.escalations if e.id != one.id)
        self.saga = replace(self.saga, escalations=kept)
        self.note("escalation_resolved", escalation=one.id, reason=one.reason, system=one.system, by=by)
