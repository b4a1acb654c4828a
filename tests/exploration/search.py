"""Breadth-first search: from the first state, every event in every state that is new, until there is none."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.saga.decide import Decision, decide, quarantine
from orchestrator.saga.draft import SendCommand
from orchestrator.saga.events import Confirmed, Event
from orchestrator.saga.model import Saga
from orchestrator.saga.rules import Retry, Rules, SystemPlan, Waits
from tests.exploration.moves import BREAKS, IDENTIFIERS, Moves, request
from tests.exploration.space import Key, Node, Out, Word, key
from tests.oracle.clocks import check_dates, check_timers
from tests.oracle.questions import check_accepted, check_answerable, offered
from tests.oracle.truth import DAY, Sealed
from tests.oracle.violations import AWAITED, Violated, unless
from tests.oracle.world import CALENDAR, START, TENANT

AUTOMATIC = SystemPlan(name="crm", kind="superoffice")
MARKETING = SystemPlan(name="marketing", kind="hubspot", after=("crm",))
AGENCY = SystemPlan(name="agency", kind="recruitment")
TENANTS = SystemPlan(name="tenant", kind="tenant", tenant=TENANT, refusal_ends=True)
ANALYTICS = SystemPlan(name="web", kind="google_analytics", asks_subject=True)


@dataclass(frozen=True)
class Space:
    """What is searched: one or two systems, for whom, and which `troubles` happen, once each.

    Troubles are `supplements`, `conflicts` (another person's request under the same id), `breaks` (a rule
    fails, and the request is set aside), `extensions`, `lateness` (timers fire only when an alarm is due) and
    `doubts` (the clock was wrong when the request was received).
    """

    plans: tuple[SystemPlan, ...]
    troubles: tuple[str, ...] = ("supplements",)
    is_processor: bool = False
    notify: bool = True


_ALL = ("supplements", "conflicts", "breaks", "extensions", "lateness")

#: Every kind of system by itself with one trouble after the other, with all of them, and pairs of systems.
SPACES: dict[str, Space] = {
    "automatic": Space((AUTOMATIC,)),
    "automatic-set-aside": Space((AUTOMATIC,), ("breaks",)),
    "automatic-extended": Space((AUTOMATIC,), ("extensions", "lateness")),
    "automatic-doubted": Space((AUTOMATIC,), ("doubts", "lateness")),
    "automatic-conflicts": Space((AUTOMATIC,), ("conflicts",), notify=False),
    "automatic-everything": Space((AUTOMATIC,), _ALL),
    "agency": Space((AGENCY,)),
    "agency-set-aside": Space((AGENCY,), ("breaks",)),
    "tenant": Space((TENANTS,)),
    "tenant-set-aside": Space((TENANTS,), ("breaks",)),
    "tenant-as-processor": Space((TENANTS,), is_processor=True),
    "tenant-everything": Space((TENANTS,), _ALL),
    "analytics": Space((ANALYTICS,)),
    "analytics-everything": Space((ANALYTICS,), _ALL),
    "automatic-automatic": Space((AUTOMATIC, MARKETING), ()),
    "automatic-tenant": Space((AUTOMATIC, TENANTS), ()),
    "agency-analytics": Space((AGENCY, ANALYTICS), ()),
    "tenant-analytics": Space((TENANTS, ANALYTICS), ()),
}


@dataclass
class Found:
    """What a search saw. `broken` has the shortest way to each fault; `exhausted`: no state is left."""

    states: int = 0
    moves: int = 0
    depth: int = 0
    exhausted: bool = False
    broken: dict[tuple[str, str], list[str]] = field(default_factory=dict)


class Search:
    """One search. `limits` says how often what has no end may happen: words, supplements, broken rules."""

    def __init__(self, space: Space, excused: frozenset[str] = AWAITED, *, often: int = 1) -> None:
        self._rules = Rules(
            calendar=CALENDAR,
            systems={plan.name: plan for plan in space.plans},
            retry=Retry(max_attempts=2),
            waits=Waits(max_reopened=1, max_reminders=1),
            notify_subject=space.notify,
        )
        self._space = space
        self._broken = unless(excused)
        limits = dict.fromkeys(space.troubles, 1) | {"supplements": often * ("supplements" in space.troubles)}
        limits |= {f"words of {plan.name}": often + 1 for plan in space.plans if plan.refusal_ends}
        self._moves = Moves(self._rules, limits, Sealed().mark)

    def run(self, *, depth: int, seconds: float | None = None) -> Found:
        """Search to a depth, for so long of the processor's time at most; it ends when no state is new."""
        until = None if seconds is None else time.process_time() + seconds
        found = Found()
        level = [self._first(found)]
        seen: set[Key] = {key(node, self._rules) for node in level}
        while level and found.depth < depth:
            following: list[Node] = []
            for node in level:
                if until is not None and time.process_time() > until:
                    found.states = len(seen)
                    return found
                self._expand(node, seen, following, found)
            level = following
            found.depth += 1
            found.states = len(seen)
        found.exhausted = not level
        found.states = len(seen)
        return found

    def _first(self, found: Found) -> Node:
        space = self._space
        event = request(
            None,
            START,
            IDENTIFIERS[0],
            verified=False,
            capacity="processor" if space.is_processor else "controller",
            tenant=TENANT,
            received_or=START - 9 * DAY if "doubts" in space.troubles else None,
        )
        decision = decide(None, event, START, self._rules)
        node = self._child(None, "the request", event, decision, START)
        self._check(None, node, event, decision, found)
        return node

    def _expand(self, node: Node, seen: set[Key], following: list[Node], found: Found) -> None:
        for label, event, now in self._moves(node):
            found.moves += 1
            apply = quarantine if label == BREAKS else decide
            try:
                decision = apply(node.saga, event, now, self._rules)
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
                found.broken.setdefault(("raises", text), [*node.path(), label])
                continue
            child = self._child(node, label, event, decision, now)
            self._check(node, child, event, decision, found)
            # A state beyond a fault may have any number of others that follow from it.
            name = key(child, self._rules)
            if name not in seen:
                seen.add(name)
                following.append(child)

    def _child(self, node: Node | None, label: str, event: Event, decision: Decision, now: int) -> Node:
        after = decision.saga
        given = IDENTIFIERS.index(after.identifiers)
        before = node if node is not None else Node(after, now)
        latest, earlier = before.latest, before.earlier
        for message in decision.messages:
            if isinstance(message, SendCommand):
                system = message.system
                if system in latest:
                    earlier = {**earlier, system: _kept(earlier.get(system), latest[system], given)}
                latest = {**latest, system: Out(message, given)}
        return Node(
            saga=after,
            now=now,
            identifiers=given,
            latest=latest,
            earlier=earlier,
            words=_words(before, event),
            spent=_spent(before.spent, label, event),
            parent=node,
            label=label,
        )

    def _check(self, node: Node | None, child: Node, event: Event, decision: Decision, found: Found) -> None:
        before = node.saga if node is not None else None
        try:
            self._judge(before, child, event, decision)
        except Violated as violated:
            found.broken.setdefault((violated.name, violated.text), child.path())

    def _judge(self, before: Saga | None, child: Node, event: Event, decision: Decision) -> None:
        after, broken = child.saga, self._broken
        for message in decision.messages:
            if not isinstance(message, SendCommand) or message.verb != "erase":
                continue
            plan = self._rules.systems.get(message.system)
            if plan is not None and plan.refusal_ends and not child.may_erase(message.system):
                broken("refused", f"an erase command to {message.system} against its controller's word")
        if not after.is_finished:
            check_timers(event, after, child.now, broken)
        check_answerable(after, child.now, self._rules, broken)
        check_dates(before, event, after, broken)
        question = before.escalation(getattr(event, "escalation_id", None)) if before is not None else None
        if before is None or question is None:
            return
        action, version = getattr(event, "action", None), getattr(event, "escalation_version", 0)
        if version == question.version and action in offered(before, question, child.now, self._rules):
            check_accepted(before, question, action, decision, broken)


def searched(name: str, depth: int, often: int, seconds: float | None) -> tuple[str, Found, float]:
    """Search one space; return its name, what was found, and how long it took, in seconds."""
    began = time.monotonic()
    found = Search(SPACES[name], often=often).run(depth=depth, seconds=seconds)
    return name, found, time.monotonic() - began


def _kept(earlier: Out | None, latest: Out, given: int) -> Out:
    """Of the commands that are not the latest, keep one about fewer identifiers, if there is one."""
    return earlier if earlier is not None and earlier.identifiers < latest.identifiers == given else latest


def _words(node: Node, event: Event) -> Mapping[str, tuple[Word, ...]]:
    if not isinstance(event, Confirmed) or event.order is None or event.system is None:
        return node.words
    out = next(
        (
            one
            for one in (node.latest.get(event.system), node.earlier.get(event.system))
            if one is not None and one.command.attempt == event.attempt
        ),
        None,
    )
    # A controller that was not asked yet speaks of what is known.
    about = out.identifiers if out is not None else node.identifiers
    word = Word(event.order, event.kind == "instructed", about)
    said = sorted((*node.words.get(event.system, ()), word), key=lambda one: one.order)
    return {**node.words, event.system: tuple(said)}


def _spent(spent: Mapping[str, int], label: str, event: Event) -> Mapping[str, int]:
    what = None
    if isinstance(event, Confirmed) and event.order is not None:
        what = f"words of {event.system}"
    elif label.startswith("more identifiers"):
        what = "supplements"
    elif label == BREAKS:
        what = "breaks"
    elif label.startswith("DPO: extend"):
        what = "extensions"
    elif label in ("another person's request", "an unreadable request"):
        what = "conflicts"
    return spent if what is None else {**spent, what: spent.get(what, 0) + 1}
