"""The DPO's side: a decision counts once, for what it was about, and what is offered is accepted."""

from orchestrator.saga import escalations
from orchestrator.saga.decide import Decision, decide
from orchestrator.saga.draft import SendOutcome
from orchestrator.saga.events import Decided, Event
from orchestrator.saga.model import Action, AwaitingDecision, AwaitingVerification, Escalation, Saga
from orchestrator.saga.rules import Rules
from tests.oracle.testimony import Testimony
from tests.oracle.violations import Broken

#: They concern the whole request, and answer no question.
_ON_THE_REQUEST = frozenset({"extend", "reject", "cancel"})

Subject = tuple[object, ...]


def offered(saga: Saga, question: Escalation, now: int, rules: Rules) -> tuple[Action, ...]:
    """Return the decisions that the DPO is offered for a question, as an outcome would list them."""
    return escalations.offered(saga, question, now, rules.systems)


def check_answerable(saga: Saga, now: int, rules: Rules, broken: Broken) -> None:
    """What waits for the DPO has an open question that can be answered, unless the request is set aside."""
    if isinstance(saga.state, AwaitingVerification) and not saga.escalations:
        broken("no_question", "awaiting verification, and nothing is asked")
    for step in saga.steps:
        if not isinstance(step.state, AwaitingDecision) or saga.is_finished:
            continue
        about = (step.state.reason, step.system)
        asked = [one for one in saga.escalations if (one.reason, one.system) == about]
        if not any(saga.quarantined or offered(saga, one, now, rules) for one in asked):
            broken("no_question", f"{step.system} waits for the DPO about {about[0]}, and nothing is asked")


def check_offers(saga: Saga, now: int, rules: Rules, broken: Broken) -> None:
    """Every decision that is offered is accepted in this very state."""
    for question in saga.escalations:
        for action in offered(saga, question, now, rules):
            event = Decided(
                event_id="trial",
                request_id=saga.request_id,
                action=action,
                escalation_id=question.id,
                escalation_version=question.version,
                reason="because",
                decided_by="dpo",
                decided_at=now,
            )
            check_accepted(saga, question, action, decide(saga, event, now, rules), broken)


def check_accepted(
    saga: Saga, question: Escalation, action: Action, decision: Decision, broken: Broken
) -> None:
    """A decision that was offered was not refused."""
    refused = next((entry for entry in decision.entries if entry.action == "decision_refused"), None)
    if refused is not None:
        where = f"{saga.status}{', quarantined' if saga.quarantined else ''}"
        text = f"{action} on {question.reason} is offered, and refused in {where}"
        broken("offer_refused", f"{text}: {refused.data['code']}")


class Questions:
    """Watches what is asked and what is decided; in one state of `every`, all that is offered is tried."""

    every = 16

    def __init__(self, testimony: Testimony, broken: Broken) -> None:
        self._testimony = testimony
        self._broken = broken
        self._put: dict[tuple[str, int], Subject] = {}
        self._decided: set[tuple[str, int]] = set()
        self._watched = 0

    def watch(self, before: Saga | None, event: Event, decision: Decision, now: int) -> None:
        if isinstance(event, Decided) and before is not None:
            self._decision(before, event, decision)
        after, rules = decision.saga, self._testimony.world.rules
        if before is None or after.escalations is not before.escalations:
            self._asked(after, decision)
        check_answerable(after, now, rules, self._broken)
        self._watched += 1
        if after.escalations and self._watched % self.every == 0:
            check_offers(after, now, rules, self._broken)

    def _subject(self, saga: Saga, question: Escalation) -> Subject:
        """What a question is about: a decision on another subject must not count."""
        if question.reason == "identity_unverified":
            return (saga.identifiers,)
        if question.reason == "ambiguous" and question.system is not None:
            return saga.identifiers, self._testimony.about(question.system).ambiguous
        return ()

    def _asked(self, after: Saga, decision: Decision) -> None:
        """Each question is open once; a new one, or a new version, is told to the DPO."""
        reasons = set()
        for question in after.escalations:
            about = (question.reason, question.system)
            if about in reasons:
                self._broken("asked_twice", f"{question.reason} is open twice")
            reasons.add(about)
            key = (question.id, question.version)
            if key in self._put:
                continue
            self._put[key] = self._subject(after, question)
            is_told = any(
                isinstance(message, SendOutcome)
                and message.kind == "escalated"
                and message.concerns == question.id
                for message in decision.messages
            )
            if not is_told:
                self._broken("untold", f"{question.reason} version {question.version} was told to nobody")

    def _decision(self, before: Saga, event: Decided, decision: Decision) -> None:
        is_accepted = any(entry.action == "decided" for entry in decision.entries)
        if not is_accepted or event.escalation_id is None or event.action in _ON_THE_REQUEST:
            return
        question = before.escalation(event.escalation_id)
        answered = (event.escalation_id, event.escalation_version or 0)
        if question is None or answered in self._decided:
            self._broken("decided_twice", f"{event.action} counted for a question that is not open")
            return
        self._decided.add(answered)
        put = self._put.get(answered)
        if put is None or put != self._subject(before, question):
            self._broken("stale_decision", f"{event.action} on {question.reason} counted for something else")
