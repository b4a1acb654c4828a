"""One random life of a request: a script of small actions, each of which may feed events to `decide`.

An action is a name and a large random number, from which it takes what it has to choose. It does nothing
where there is nothing for it to do. So any part of a script is a script, which is how a failing life is made
short (`shorten.py`).
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from random import Random
from typing import Any

from orchestrator.saga.decide import Decision, decide, quarantine
from orchestrator.saga.draft import SendCommand
from orchestrator.saga.events import (
    Confirmed,
    Decided,
    Event,
    KeyLost,
    RequestReceived,
    RequestUnreadable,
    TimerFired,
)
from orchestrator.saga.model import Action, NoticePending, Saga
from tests.oracle.judge import Judge
from tests.oracle.truth import DAY, HOUR, NOT_ASKED, SECOND, Agency, Calm, Dice, Fields, Order, Tenant
from tests.oracle.violations import AWAITED, Violated, unless
from tests.oracle.world import POOL, REQUEST, START, Sent, World, add_record, make_world

Script = list[tuple[str, int]]

_STEPS = (1000, SECOND, 60 * SECOND, 20 * 60 * SECOND, HOUR, 6 * HOUR, DAY)
_FAILURES: tuple[Fields, ...] = (
    {"code": "timeout", "retryable": True},
    {"code": "timeout", "retryable": True},
    {"code": "rate_limited", "retryable": True, "retry_after": 2 * HOUR},
    {"code": NOT_ASKED, "retryable": True, "retry_after": HOUR},
    {"code": "place_unreadable.forms", "retryable": True},
    {"code": "credentials_refused", "retryable": False},
)
_REASONS = ("because", "because", "because", "")
_ACTIONS: tuple[Action, ...] = ("verify", "retry", "erase", "waive", "extend", "reject", "cancel")


class Life:
    """A request, the world around it, and the judge who watches."""

    def __init__(self, seed: int, excused: frozenset[str] = AWAITED) -> None:
        random = Random(seed)
        self.seed = seed
        self.world: World = make_world(random)
        self.script = random_script(random)
        self.judge = Judge(self.world, unless(excused))
        self.now = START
        self.saga: Saga | None = None
        self.history: list[tuple[Event, int, bool]] = []
        self.counts: Counter[str] = Counter()
        self.flight: list[Event] = []
        self.notices: list[str] = []
        self.seen: list[tuple[str, int, tuple[Action, ...]]] = []
        self.order = 0
        self._numbers = 0
        self._tried: set[tuple[str, int, str]] = set()
        self._given = self.world.sealed.seal_identifiers(self.world.first)

    def live(self, script: Script | None = None, *, settle: bool = True) -> None:
        """Play a script to its end, and then let everybody cooperate until the request has ended.

        Raises:
            Violated: an invariant does not hold.
        """
        self._open()
        for name, number in self.script if script is None else script:
            if self.open.is_finished and name not in _AFTER_THE_END:
                continue
            before = len(self.history)
            _DOES[name](self, Dice(number))
            if len(self.history) > before or name in _SILENT:
                self.counts[name] += 1
        if settle:
            self._settle()

    # --- feeding ---

    @property
    def open(self) -> Saga:
        assert self.saga is not None
        return self.saga

    def feed(self, event: Event, *, breaks: bool = False) -> Decision:
        """Apply an event to the request, and have the judge look at what follows."""
        before = self.saga
        self.history.append((event, self.now, breaks))
        try:
            apply = quarantine if breaks else decide
            decision = apply(before, event, self.now, self.world.rules)
        except Exception as error:
            raise Violated("raises", f"{type(error).__name__}: {error}") from error
        after = self.saga = decision.saga
        for message in decision.messages:
            if isinstance(message, SendCommand):
                sent = Sent(message, after.identifiers, self.now)
                self.world.sent.append(sent)
                self.world.by_id[message.event_id] = sent
            elif message.kind == "notice":
                self.notices.append(message.event_id)
        self.judge.watch(before, event, decision, self.now)
        return decision

    def _id(self) -> str:
        self._numbers += 1
        return f"event-{self._numbers}"

    def _open(self) -> None:
        world = self.world
        # In some lives the clock was wrong at the receipt, by days in either direction.
        days = {3: -9, 7: 5}.get(self.seed % 16)
        other = None if days is None else world.received_at + days * DAY
        known: Fields = {"verified": world.verified, "received_at": world.received_at, "received_or": other}
        self.feed(self._request(world.first, **known))

    def _request(self, known: frozenset[str], /, **fields: Any) -> RequestReceived:
        world = self.world
        values: dict[str, Any] = {
            "event_id": self._id(),
            "request_id": REQUEST,
            "received_at": self.now,
            "source": "intake",
            "capacity": world.capacity,
            "tenant": world.tenant,
            "language": "sv",
            "verified": True,
            "scope": world.scope,
            "identifiers": self._given,
            "identifier_kinds": tuple(sorted({one.partition(":")[0] for one in known})),
            "content_digest": "+".join(sorted(known)).ljust(64, "."),
            "subject_digest": "s" * 64,
        }
        return RequestReceived(**{**values, **fields})

    def _confirmed(self, kind: Any, system: str | None, occurred_at: int, **fields: Any) -> Confirmed:
        return Confirmed(
            event_id=self._id(),
            request_id=REQUEST,
            kind=kind,
            system=system,
            occurred_at=occurred_at,
            **fields,
        )

    # --- time ---

    def pass_time(self, micros: int) -> None:
        """Let time pass; timers that come due meanwhile fire at their time."""
        until = self.now + micros
        for _ in range(4):
            wake_at = self.open.wake_at
            if wake_at is None or wake_at > until:
                break
            self.now = max(self.now, wake_at)
            self.tick()
        self.now = max(self.now, until)

    def tick(self) -> None:
        self.feed(TimerFired(event_id=self._id(), request_id=REQUEST))

    def timer(self, dice: Dice) -> None:
        wake_at = self.open.wake_at
        if wake_at is not None:
            self.now = max(self.now, wake_at) + dice.roll(2) * SECOND
            self.tick()

    def early_timer(self, dice: Dice) -> None:
        self.tick()

    def outage(self, dice: Dice) -> None:
        """Nobody is there for days; the timer that is due comes late."""
        self.now += (1 + dice.roll(30)) * DAY
        if not self.open.is_finished:
            self.tick()

    def wait(self, dice: Dice) -> None:
        self.pass_time(_STEPS[dice.roll(len(_STEPS))])

    # --- workers ---

    def carry_out(self, sent: Sent, dice: Dice, *, fails: bool = True) -> Confirmed | None:
        """Have a worker carry out a command, as it was sent; return its answer."""
        vendor = self.world.vendors.get(sent.system)
        if vendor is None:
            return None
        command, sealed = sent.command, self.world.sealed
        about = (sealed.mark(sent.identifiers), *map(sealed.mark, command.references))
        order = Order(
            verb=command.verb,
            identifiers=sealed.identifiers(sent.identifiers),
            earlier=tuple({r: None for part in command.references for r in sealed.records(part)}),
            instructed=command.instruction == "erase" or self.world.capacity == "processor",
            takes_all=command.takes_all,
            erased_at=command.erased_at,
        )
        sent.runs += 1
        fields: Fields
        if self.now > command.not_after:
            fields = {"kind": "expired", "code": "too_old"}
        elif fails and self.now < self.world.left_alone.get(sent.system, 0):
            fields = {"kind": "failed", "code": NOT_ASKED, "retryable": True, "retry_after": DAY}
        elif fails and dice.chance(7):
            fields = {"kind": "failed", **_FAILURES[dice.roll(len(_FAILURES))]}
        else:
            erased = len(vendor.erased)
            fields = vendor.carry_out(order, self.now, dice)
            self.judge.watch_erasure(sent, vendor.erased[erased:])
        if fields["kind"] == "awaiting_party":
            self.world.note_asked(sent)
        return self._confirmed(
            system=sent.system,
            occurred_at=self.now,
            command_id=command.event_id,
            verb=command.verb,
            attempt=command.attempt,
            about=about,
            random=dice.roll(1000) / 1000,
            **fields,
        )

    def work(self, dice: Dice) -> None:
        """A worker takes a command that nobody has carried out, mostly the latest; the answer may lie."""
        waiting = [sent for sent in self.world.sent if not sent.runs]
        if waiting:
            self._answer(waiting[-1 - dice.roll(2) * dice.roll(len(waiting))], dice)

    def work_again(self, dice: Dice) -> None:
        """A command is delivered once more, and carried out once more."""
        recent = self.world.sent[-4:]
        if recent:
            self._answer(recent[dice.roll(len(recent))], dice)

    def _answer(self, sent: Sent, dice: Dice) -> None:
        answer = self.carry_out(sent, dice)
        if answer is None:
            return
        if dice.chance(4):
            self.flight.append(answer)
        else:
            self.pass_time(_STEPS[dice.roll(4)])
            self.feed(answer)

    def deliver(self, dice: Dice) -> None:
        if self.flight:
            self.feed(self.flight.pop(dice.roll(len(self.flight))))

    def deliver_again(self, dice: Dice) -> None:
        said = [event for event, _, _ in self.history[-12:] if isinstance(event, Confirmed | Decided)]
        if said:
            self.feed(said[dice.roll(len(said))])

    def lose(self, dice: Dice) -> None:
        """An answer of a worker is lost; its command comes again."""
        answers = [
            one for one in self.flight if isinstance(one, Confirmed) and one.command_id in self.world.by_id
        ]
        if answers:
            lost = answers[dice.roll(len(answers))]
            self.flight.remove(lost)
            self.carry_out(self.world.by_id[lost.command_id or ""], dice)

    # --- vendors ---

    def arrive(self, dice: Dice) -> None:
        names = sorted(self.world.vendors)
        add_record(self.world.vendors[names[dice.roll(len(names))]], dice.roll(2**40), self.now)

    def change(self, dice: Dice) -> None:
        """A record comes back from the bin, or is given other identifiers."""
        names = sorted(self.world.vendors)
        vendor = self.world.vendors[names[dice.roll(len(names))]]
        vendor.pass_time(self.now)
        there = [record for record in vendor.records if record.state != "gone" and record.ids]
        if not there:
            return
        record = there[dice.roll(len(there))]
        if record.state == "bin":
            record.state = "live"
        else:
            record.ids = frozenset({POOL[dice.roll(3)]})
        record.since = self.now

    def webhook(self, dice: Dice) -> None:
        """The vendor says by itself that it purged a record; it may be one of several."""
        for name, vendor in sorted(self.world.vendors.items()):
            if vendor.erased and not isinstance(vendor, Tenant):
                kind = "party_erased" if isinstance(vendor, Agency) and vendor.can_look else "proved"
                if isinstance(vendor, Agency) and not vendor.can_look:
                    continue
                look_at = self.now if kind == "party_erased" else None
                fields: Fields = {"grade": "vendor_stated", "end": None if look_at else "erased"}
                self.flight.append(self._confirmed(kind, name, self.now, look_at=look_at, **fields))
                self.deliver(dice)
                return

    # --- parties ---

    def say(self, dice: Dice) -> None:
        """A party answers by one of the links that it was given."""
        parties = [
            name
            for name, vendor in sorted(self.world.vendors.items())
            if isinstance(vendor, Agency | Tenant)
            and (
                self.world.asked.get(name)
                or (isinstance(vendor, Tenant) and self.world.capacity == "processor")
            )
        ]
        if not parties:
            return
        name = parties[dice.roll(len(parties))]
        asked = self.world.asked.get(name, [])
        link = asked[-1 - dice.roll(2) * dice.roll(len(asked))] if asked else None
        self._say(name, link, dice)

    def _say(self, name: str, link: Sent | None, dice: Dice, word: str | None = None) -> None:
        vendor = self.world.vendors[name]
        attempt = 0 if link is None else link.command.attempt
        self.order += 1
        fields: Fields
        if isinstance(vendor, Agency):
            about = frozenset[str]() if link is None else self.world.sealed.identifiers(link.identifiers)
            fields = vendor.answer(about, self.now, dice)
        else:
            word = word or ("instructed", "instructed", "refused")[dice.roll(3)]
            fields = {"kind": word, "code": "controller_refused" if word == "refused" else None}
            if dice.chance(3):
                fields["said_at"] = self.now
        event = self._confirmed(
            system=name, occurred_at=self.now, attempt=attempt, order=self.order, **fields
        )
        if dice.chance(3):
            self.flight.append(event)
            return
        self.pass_time(_STEPS[dice.roll(3)])
        self.feed(event)

    def change_mind(self, dice: Dice) -> None:
        """A controller says one thing and then the other, signed with times that may contradict our order."""
        for name, asked in sorted(self.world.asked.items()):
            if not self.world.is_controllers(name):
                continue
            first = dice.roll(2)
            for nth, word in enumerate((("instructed", "refused"), ("refused", "instructed"))[first]):
                self.order += 1
                late = nth * (1 + dice.roll(2)) * (2 * dice.roll(2) - 1) * DAY
                event = self._confirmed(
                    word,
                    name,
                    self.now,
                    attempt=asked[-1].command.attempt,
                    order=self.order,
                    said_at=self.now + min(late, 0),
                )
                self.flight.insert(0, event)
            self.deliver(dice)
            return

    # --- the DPO, and the mailbox ---

    def decide(self, dice: Dice) -> None:
        """The DPO answers an open question with a decision that it offers."""
        self._look_at_questions()
        if not self.open.escalations:
            return
        one = self.open.escalations[dice.roll(len(self.open.escalations))]
        offered = [action for action in self.judge.offered(self.open, one, self.now) if action != "reject"]
        gentle = [action for action in offered if action != "cancel"] or offered
        if gentle:
            self._decide(gentle[dice.roll(len(gentle))], one.id, one.version, "because")

    def decide_late(self, dice: Dice) -> None:
        """The DPO answers a question as it was seen some time ago."""
        if self.seen:
            id_, version, offered = self.seen[-1 - dice.roll(min(8, len(self.seen)))]
            if offered:
                action = offered[dice.roll(len(offered))]
                if action not in ("reject", "cancel") or dice.chance(10):
                    self._decide(action, id_, version, "because")

    def decide_badly(self, dice: Dice) -> None:
        """A decision that names nothing, or does not fit, or gives no reason."""
        id_, version, _ = self.seen[dice.roll(len(self.seen))] if self.seen else ("e1", 1, ())
        action = _ACTIONS[dice.roll(5)]
        reason = _REASONS[dice.roll(4)]
        about = None if dice.chance(3) else id_
        self._decide(action, about, version + dice.roll(3) - 1, reason)

    def extend(self, dice: Dice) -> None:
        self._decide("extend", None, None, "because")

    def stop(self, dice: Dice) -> None:
        self._decide(("reject", "cancel")[dice.roll(2)], None, None, "because")

    def _look_at_questions(self) -> None:
        for one in self.open.escalations:
            self.seen.append((one.id, one.version, self.judge.offered(self.open, one, self.now)))
        del self.seen[:-20]

    def look(self, dice: Dice) -> None:
        """The DPO reads the open questions, and may answer later."""
        self._look_at_questions()

    def _decide(self, action: Action, id_: str | None, version: int | None, reason: str) -> None:
        self.feed(
            Decided(
                event_id=self._id(),
                request_id=REQUEST,
                action=action,
                escalation_id=id_,
                escalation_version=version,
                reason=reason,
                decided_by="dpo",
                decided_at=self.now,
            )
        )

    def mail(self, dice: Dice) -> None:
        """The mailbox answers for a notice that it was asked to give."""
        if self.notices:
            kind = ("notice_sent", "notice_sent", "notice_failed")[dice.roll(3)]
            command_id = self.notices[-1 - dice.roll(min(3, len(self.notices)))]
            code = "no_address" if kind == "notice_failed" else None
            event = self._confirmed(kind, None, self.now, command_id=command_id, code=code)
            if dice.chance(4):
                self.flight.append(event)
            else:
                self.feed(event)

    # --- requests, and faults ---

    def supplement(self, dice: Dice) -> None:
        """The same request with more identifiers, sometimes unverified, or of another scope."""
        known = self.world.sealed.identifiers(self.open.identifiers)
        more = [one for one in POOL if one not in known]
        if not more:
            return
        identifiers = known | {more[dice.roll(len(more))]}
        sealed = self.world.sealed.seal_identifiers(identifiers)
        fields: Fields = {"identifiers": sealed, "verified": dice.roll(4) > 0, "supplements": True}
        if dice.chance(10):
            fields["scope"] = ("crm", "elsewhere")
        self.feed(self._request(identifiers, **fields))

    def same_request(self, dice: Dice) -> None:
        known = self.world.sealed.identifiers(self.open.identifiers)
        digest = self.open.content_digest
        self.feed(self._request(known, identifiers=self.open.identifiers, content_digest=digest))

    def other_request(self, dice: Dice) -> None:
        """Another person's request under the same id, or bytes that nobody can read; or a master key is lost,
        so that nobody can read this request either.
        """
        if dice.chance(3):
            if len(self.history) % 3 == 0:
                self.feed(KeyLost(event_id=self._id(), request_id=REQUEST, generation=1))
                return
            self.feed(
                RequestUnreadable(
                    event_id=self._id(), request_id=REQUEST, received_at=self.now, code="malformed"
                )
            )
            return
        strangers = frozenset({f"email:{90 + dice.roll(3)}"})
        sealed = self.world.sealed.seal_identifiers(strangers)
        self.feed(self._request(strangers, identifiers=sealed, verified=dice.roll(2) == 0))

    def break_down(self, dice: Dice) -> None:
        """A rule fails on an event, which sets the request aside."""
        if self.flight:
            event = self.flight.pop(dice.roll(len(self.flight)))
            self.feed(event, breaks=True)
        elif not self.open.is_finished:
            known = self.world.sealed.identifiers(self.open.identifiers)
            self.feed(self._request(known, identifiers=self.open.identifiers), breaks=True)

    def configure(self, dice: Dice) -> None:
        if self.world.later:
            rules = self.world.rules
            self.world.rules = replace(rules, systems={**rules.systems, **self.world.later})
            self.world.later = {}

    # --- the end ---

    def _settle(self) -> None:
        """Everybody cooperates from here on; a request that comes to no end is lost."""
        dice = Dice(0)
        self.configure(dice)
        for _ in range(160):
            self.now += SECOND
            saga = self.open
            if saga.is_finished:
                break
            if self.flight:
                self.feed(self.flight.pop())
            elif not (self._settle_question(saga) or self._settle_notice(saga) or self._settle_step(saga)):
                self.timer(dice)
        else:
            steps = ", ".join(f"{step.system} {step.state.status}" for step in self.open.steps)
            raise Violated("stuck", f"the request comes to no end: {self.open.status}; {steps}")
        for event in self.flight:
            self.feed(event)

    def _settle_question(self, saga: Saga) -> bool:
        for one in sorted(saga.escalations, key=lambda one: one.reason != "quarantined"):
            offered = self.judge.offered(saga, one, self.now)
            action = next((action for action in _SETTLING if action in offered), None)
            if action is not None and (one.id, one.version, action) not in self._tried:
                self._tried.add((one.id, one.version, action))
                self._decide(action, one.id, one.version, "because")
                return True
        return False

    def _settle_notice(self, saga: Saga) -> bool:
        for notice in saga.notices:
            if isinstance(notice.state, NoticePending):
                command_id = notice.state.command_id
                self.feed(self._confirmed("notice_sent", None, self.now, command_id=command_id))
                return True
        return False

    def _settle_step(self, saga: Saga) -> bool:
        dice = Calm()
        for step in saga.steps:
            if step.state.status in ("locating", "erasing", "proving"):
                sent = [one for one in self.world.sent if one.system == step.system]
                answer = self.carry_out(sent[-1], dice, fails=False)
                if answer is not None and sent[-1].runs < 4:
                    self.feed(answer)
                    return True
            if step.state.status == "awaiting_party" and (asked := self.world.asked.get(step.system)):
                said = sum(
                    isinstance(event, Confirmed) and event.system == step.system and not event.command_id
                    for event, _, _ in self.history[-4:]
                )
                if not said:
                    self._say(step.system, asked[-1], dice, "instructed")
                    return True
        return False


_SETTLING = ("verify", "waive", "retry", "cancel")

#: What may still happen when the request has ended.
_AFTER_THE_END = frozenset(
    {"deliver", "deliver_again", "say", "mail", "same_request", "other_request", "work_again", "wait"}
    | {"timer", "decide", "decide_late"}
)

#: What happens without the saga being told.
_SILENT = frozenset({"arrive", "change", "look", "configure"})

_WEIGHTS: dict[str, tuple[Callable[[Life, Dice], None], float]] = {
    "work": (Life.work, 20),
    "work_again": (Life.work_again, 4),
    "deliver": (Life.deliver, 6),
    "deliver_again": (Life.deliver_again, 3),
    "lose": (Life.lose, 1),
    "timer": (Life.timer, 9),
    "early_timer": (Life.early_timer, 1),
    "wait": (Life.wait, 4),
    "outage": (Life.outage, 1),
    "arrive": (Life.arrive, 2),
    "change": (Life.change, 1.5),
    "webhook": (Life.webhook, 1),
    "say": (Life.say, 7),
    "change_mind": (Life.change_mind, 1),
    "decide": (Life.decide, 7),
    "decide_late": (Life.decide_late, 2),
    "decide_badly": (Life.decide_badly, 1),
    "look": (Life.look, 2),
    "extend": (Life.extend, 0.5),
    "stop": (Life.stop, 0.2),
    "mail": (Life.mail, 5),
    "supplement": (Life.supplement, 2.5),
    "same_request": (Life.same_request, 0.5),
    "other_request": (Life.other_request, 0.5),
    "break_down": (Life.break_down, 0.6),
    "configure": (Life.configure, 0.5),
}
_DOES = {name: does for name, (does, _) in _WEIGHTS.items()}
_NAMES = list(_WEIGHTS)
_CUMULATED = list(accumulate(weight for _, weight in _WEIGHTS.values()))


def random_script(random: Random) -> Script:
    """Return some dozens of actions, each with the number that it chooses by."""
    length = random.choice((20, 40, 60, 90))
    names = random.choices(_NAMES, cum_weights=_CUMULATED, k=length)
    return [(name, random.getrandbits(160)) for name in names]
