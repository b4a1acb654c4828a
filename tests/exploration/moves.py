"""Every event that may happen in a state: each confirmation, word, decision, timer, request and notice."""

from collections.abc import Callable, Iterator
from typing import Any

from orchestrator.saga.events import (
    Confirmed,
    Decided,
    Event,
    KeyLost,
    RequestReceived,
    RequestUnreadable,
    TimerFired,
)
from orchestrator.saga.model import NoticePending, Saga, waits
from orchestrator.saga.rules import Rules
from tests.exploration.space import Node, Out
from tests.oracle.questions import offered
from tests.oracle.truth import AMBIGUOUS, DAY, HOUR
from tests.oracle.world import REQUEST

#: A label, the event, and the time at which it happens.
Move = tuple[str, Event, int]

IDENTIFIERS = (b"identifiers 0", b"identifiers 1", b"identifiers 2")
_FOUND = (b"references 0", b"references 1")

#: The label of an event on which a rule fails.
BREAKS = "a rule fails"

Fields = dict[str, Any]


def _answers(now: int) -> dict[str, Fields]:
    """Every answer that a worker can give to a command, by the name that a path shows."""
    return {
        "located": {"kind": "located", "found": 1, "references": _FOUND[0]},
        "located more": {"kind": "located", "found": 1, "references": _FOUND[1]},
        "ambiguous": {"kind": "located", "found": 2, "code": AMBIGUOUS},
        "absent": {"kind": "absent", "grade": "seen_absent"},
        "absent without evidence": {"kind": "absent"},
        "cannot_look": {"kind": "cannot_look"},
        "not_identifiable": {"kind": "not_identifiable", "missing": ("client",)},
        "awaiting_party": {"kind": "awaiting_party", "look_at": now + 7 * DAY, "references": b"note"},
        "accepted": {"kind": "accepted", "erased": 1, "look_at": now},
        "proved": {"kind": "proved", "grade": "seen_absent", "end": "erased"},
        "proved without evidence": {"kind": "proved", "end": "erased"},
        "proved retained": {
            "kind": "proved",
            "grade": "seen_absent",
            "end": "retained",
            "legal_basis": "law",
        },
        "pending": {"kind": "pending", "look_at": now + 10 * DAY},
        "still_present": {"kind": "still_present", "found": 1, "references": _FOUND[0]},
        "still_present more": {"kind": "still_present", "found": 1, "references": _FOUND[1]},
        "still_present ambiguous": {"kind": "still_present", "found": 2, "code": AMBIGUOUS},
        "reappeared": {"kind": "reappeared", "found": 1},
        "failed": {"kind": "failed", "code": "timeout", "retryable": True},
        "failed for good": {"kind": "failed", "code": "credentials_refused"},
        "failed, not asked": {
            "kind": "failed",
            "code": "circuit_open",
            "retryable": True,
            "retry_after": HOUR,
        },
        "expired": {"kind": "expired", "code": "too_old"},
    }


_PARTYS: dict[str, Fields] = {
    "party_erased": {"kind": "party_erased", "grade": "party_stated"},
    "party_erased, can look": {"kind": "party_erased", "grade": "party_stated", "look_at": 1},
    "party absent": {"kind": "absent", "grade": "party_stated"},
    "retained": {"kind": "retained", "grade": "party_stated", "legal_basis": "law"},
    "vendor's own event": {"kind": "proved", "grade": "vendor_stated", "end": "erased"},
}


class Moves:
    """The events that follow from a node, in an installation. `mark` names sealed bytes as a worker does."""

    def __init__(self, rules: Rules, limits: dict[str, int], mark: Callable[[bytes], str]) -> None:
        self._rules = rules
        self._limits = limits
        self._mark = mark

    def __call__(self, node: Node) -> Iterator[Move]:
        saga, now = node.saga, node.now + 1
        for system in node.latest:
            yield from self._workers(node, system, now)
        for step in saga.steps:
            yield from self._parties(node, step.system, now)
        yield from self._mailbox(node, now)
        if saga.is_finished and not saga.escalations:
            return
        yield from self._timers(node)
        yield from self._dpo(node, now)
        if not saga.is_finished:
            yield from self._requests(node, now)

    def may(self, node: Node, what: str) -> bool:
        return node.spent.get(what, 0) < self._limits.get(what, 0)

    # --- workers and parties ---

    def _workers(self, node: Node, system: str, now: int) -> Iterator[Move]:
        step = node.saga.step(system)
        knows = step is not None and _FOUND[0] in step.references
        for which, out in (("", node.latest[system]), ("earlier ", node.earlier.get(system))):
            if out is None:
                continue
            for name, fields in _answers(now).items():
                # Of two records it makes no difference which is found first.
                if fields.get("references") == _FOUND[1] and not knows:
                    continue
                yield (
                    f"{system}: {name} to the {which}{out.command.verb}",
                    self._answer(node, out, now, fields),
                    now,
                )

    def _answer(self, node: Node, out: Out, now: int, fields: Fields) -> Confirmed:
        command = out.command
        about = (self._mark(IDENTIFIERS[out.identifiers]), *map(self._mark, command.references))
        return Confirmed(
            event_id=_id(node),
            request_id=REQUEST,
            system=command.system,
            occurred_at=now,
            command_id=command.event_id,
            verb=command.verb,
            attempt=command.attempt,
            about=about,
            **fields,
        )

    def _parties(self, node: Node, system: str, now: int) -> Iterator[Move]:
        for which, out in (("", node.latest.get(system)), (" by an earlier link", node.earlier.get(system))):
            if out is None and which:
                continue
            attempt = 0 if out is None else out.command.attempt
            for name, fields in _PARTYS.items():
                said = {**fields, "look_at": now if "look_at" in fields else None}
                yield f"{system}: {name}{which}", self._said(node, system, now, attempt=attempt, **said), now
            yield from self._words(node, system, now, attempt, which)

    def _words(self, node: Node, system: str, now: int, attempt: int, which: str) -> Iterator[Move]:
        """The next word, and one that came before the latest and is read after it."""
        words = node.words.get(system, ())
        if not self.may(node, f"words of {system}"):
            return
        orders = {"": 10 * len(words) + 10} | ({" before that": words[-1].order - 5} if words else {})
        for when, order in orders.items():
            for kind in ("instructed", "refused"):
                fields: Fields = {"kind": kind, "order": order, "code": "no" if kind == "refused" else None}
                event = self._said(node, system, now, attempt=attempt, **fields)
                yield f"{system}: {kind}{when}{which}", event, now

    def _said(self, node: Node, system: str, now: int, **fields: Any) -> Confirmed:
        return Confirmed(event_id=_id(node), request_id=REQUEST, system=system, occurred_at=now, **fields)

    # --- the mailbox, the clock, the DPO ---

    def _mailbox(self, node: Node, now: int) -> Iterator[Move]:
        for notice in node.saga.notices:
            if isinstance(notice.state, NoticePending):
                for kind in ("notice_sent", "notice_failed"):
                    event = Confirmed(
                        event_id=_id(node),
                        request_id=REQUEST,
                        system=None,
                        kind=kind,
                        occurred_at=now,
                        command_id=notice.state.command_id,
                        code="no_address" if kind == "notice_failed" else None,
                    )
                    yield f"{kind} of {notice.purpose}", event, now

    def _timers(self, node: Node) -> Iterator[Move]:
        """Each wait's time comes, and with it whatever was due before: a timer may fire late."""
        saga = node.saga
        times = {until: f"timer of {what}" for what, until in waits(saga)}
        if self.may(node, "lateness"):
            times |= {saga.due_at - self._rules.waits.deadline_warning: "timer, at the warning"}
            times |= {saga.due_at + 1: "timer, overdue"}
        times |= {saga.wake_at or node.now: "timer"}
        for at, label in times.items():
            if at > node.now or label == "timer":
                yield label, TimerFired(event_id=_id(node), request_id=REQUEST), max(at, node.now + 1)

    def _dpo(self, node: Node, now: int) -> Iterator[Move]:
        saga, may_extend = node.saga, self.may(node, "extensions")
        for question in saga.escalations:
            about = {"escalation_id": question.id, "escalation_version": question.version}
            for action in offered(saga, question, now, self._rules):
                if action != "extend" or may_extend:
                    yield f"DPO: {action} on {question.reason}", _decided(saga, now, action, **about), now
            late = {**about, "escalation_version": question.version - 1}
            yield f"DPO: late on {question.reason}", _decided(saga, now, "retry", **late), now
        for action in ("extend", "reject", "cancel") if may_extend else ("reject", "cancel"):
            yield f"DPO: {action}", _decided(saga, now, action), now

    # --- requests ---

    def _requests(self, node: Node, now: int) -> Iterator[Move]:
        saga = node.saga
        yield "the same request", request(saga, now, saga.identifiers, digest=saga.content_digest), now
        if self.may(node, "supplements"):
            more = IDENTIFIERS[node.identifiers + 1]
            for verified in (True, False):
                label = "more identifiers" if verified else "more identifiers, unverified"
                event = request(saga, now, more, digest="e" * 64, verified=verified, supplements=True)
                yield label, event, now
        if self.may(node, "conflicts"):
            yield "another person's request", request(saga, now, b"stranger", digest="f" * 64), now
            unreadable = RequestUnreadable(
                event_id=_id(node), request_id=REQUEST, received_at=now, code="malformed"
            )
            yield "an unreadable request", unreadable, now
            yield "its key is lost", KeyLost(event_id=_id(node), request_id=REQUEST, generation=1), now
        if self.may(node, "breaks"):
            yield BREAKS, request(saga, now, saga.identifiers, digest=saga.content_digest), now


def _id(node: Node) -> str:
    """Return the id of the next event; no two on one path are the same."""
    return f"event-{node.saga.version}"


def request(saga: Saga | None, now: int, identifiers: bytes, **fields: Any) -> RequestReceived:
    values: dict[str, Any] = {
        "verified": True,
        "supplements": False,
        "capacity": saga.capacity if saga is not None else "controller",
        "tenant": saga.tenant if saga is not None else None,
        "scope": None,
    }
    values |= fields
    digest = values.pop("digest", "d" * 64)
    return RequestReceived(
        event_id=f"request-{saga.version if saga is not None else 0}",
        request_id=REQUEST,
        received_at=now,
        source="intake",
        language="sv",
        identifiers=identifiers,
        identifier_kinds=("client", "email"),
        content_digest=digest,
        subject_digest="s" * 64,
        **values,
    )


def _decided(saga: Saga, now: int, action: Any, **about: Any) -> Decided:
    return Decided(
        event_id=f"decision-{saga.version}",
        request_id=REQUEST,
        action=action,
        escalation_id=about.get("escalation_id"),
        escalation_version=about.get("escalation_version"),
        reason="because",
        decided_by="dpo",
        decided_at=now,
    )
