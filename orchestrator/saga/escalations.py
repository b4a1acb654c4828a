"""Which decisions fit which question.

An escalation is an open item beside the request's status: work goes on elsewhere while the DPO decides. The
table below says which decisions fit a question; `offered` leaves out those that its request, as it stands,
would refuse. A decision that is not offered is refused with a code, and the DPO is told.
"""

from collections.abc import Container
from typing import Literal

from orchestrator.saga import words
from orchestrator.saga.model import (
    Action,
    Closing,
    Escalation,
    Finished,
    NoticePurpose,
    Saga,
    Step,
)
from orchestrator.saga.rules import is_place
from orchestrator.saga.steps import verb_of

SYSTEM_MISSING = "system_missing"
NOT_SENT = "command_not_sent"
#: Also the code under which a worker tells of it.
ANSWER_KEPT = "answer_kept"

#: reason -> (the decisions that fit, what it means in one sentence)
REASONS: dict[str, tuple[tuple[Action, ...], str]] = {
    # about the request
    "identity_unverified": (
        ("verify", "reject", "cancel"),
        "Nobody has yet verified that the person is who they say.",
    ),
    "unreadable_request": (
        ("reject", "cancel"),
        "A request arrived that can't be read; find out who sent it.",
    ),
    "key_lost": (
        ("waive", "reject", "cancel"),
        "The request's key is lost; have it handed in anew under another id, and end this one.",
    ),
    "no_usable_identifier": (("reject", "cancel"), "The request names nobody that could be looked for."),
    "empty_scope": (("reject", "cancel"), "No configured system is in the request's scope."),
    "received_in_future": (
        ("waive", "reject", "cancel"),
        "The time of receipt lies in the future; it runs from now.",
    ),
    "receipt_in_doubt": (
        ("verify", "waive", "reject", "cancel"),
        "The clock was wrong at the receipt; verify takes the day in the code, waive keeps the recorded one.",
    ),
    "request_id_conflict": (
        ("waive", "reject", "cancel"),
        "Another request arrived under the same id, and differs.",
    ),
    "nothing_identifiable": (("waive", "reject", "cancel"), "No system could identify the person (Art. 11)."),
    "deadline_near": (("waive", "extend", "reject", "cancel"), "The legal month is about to run out."),
    "overdue": (
        ("waive", "reject", "cancel"),
        "The statutory period has run out and the person was not informed of action.",
    ),
    "acted_notice_failed": (
        ("retry", "waive"),
        "The person could not be told by mail what was done; tell them, then waive with how.",
    ),
    "rejected_notice_failed": (
        ("retry", "waive"),
        "The person could not be told by mail that the request is rejected; tell them, then waive with how.",
    ),
    "extended_notice_failed": (
        ("retry", "waive"),
        "The person could not be told by mail that it takes longer; tell them in time, then waive with how.",
    ),
    "acted_notice_silent": (
        ("retry", "waive"),
        "The mailbox has not confirmed the notice of what was done.",
    ),
    "rejected_notice_silent": (
        ("retry", "waive"),
        "The mailbox has not confirmed the notice that the request is rejected.",
    ),
    "extended_notice_silent": (
        ("retry", "waive"),
        "The mailbox has not confirmed the notice that it takes longer.",
    ),
    "quarantined": (
        ("retry", "cancel"),
        "A rule failed on this request; its systems are asked nothing more until it is retried.",
    ),
    # about one system
    "unknown_system": (
        ("retry", "waive"),
        "The request names a system that is not configured; once it is, it can be retried.",
    ),
    "failed": (("retry", "waive"), "The last attempt failed, or the error is permanent."),
    "no_answer": (("retry", "waive"), "The handler has not answered; are its workers running?"),
    "command_not_sent": (
        ("waive",),
        "The command can't be written to its topic on Kafka; it goes out by itself once it can.",
    ),
    "predecessor_failed": (
        ("retry", "waive"),
        "A system that must go first has failed; retry starts this one anyway.",
    ),
    "still_present": (("retry", "waive"), "The records are still there after repeated erasure."),
    "proof_overdue": (
        ("retry", "waive"),
        "The vendor's purge is long past due and the proof is still pending.",
    ),
    "reappeared": (
        ("erase", "retry", "waive"),
        "A newer record of the person was found; it may be new consent.",
    ),
    "ambiguous": (
        ("erase", "retry", "waive"),
        "Whose the records are can't be told; erase takes those that were counted, retry looks again.",
    ),
    "party_silent": (("retry", "waive"), "The party has not answered its reminders."),
    "party_refused": (("retry", "waive"), "The party refuses to erase."),
    "identifier_missing": (
        ("retry", "waive"),
        "An identifier is missing that the person could be asked for.",
    ),
    "instruction_conflict": (
        ("waive",),
        "The controller said erase, then refuse; only its own new word has anything more erased there.",
    ),
    "words_disputed": (
        ("waive",),
        "Nobody can tell which of the controller's words, erase or refuse, was its last; ask it anew.",
    ),
    "refused_late": (
        ("waive",),
        "The party refused after its system was done with; what was erased there can't be undone.",
    ),
    "refused_unread": (
        ("waive",),
        "The party had refused before its data was erased, and that was read too late to be heeded.",
    ),
    "instructed_late": (
        ("waive",),
        "The controller says erase after all; the request has ended, so it has to send a new one.",
    ),
    "system_missing": (
        ("waive",),
        "The system is not in the settings any more; put it back under its name, or waive and go on.",
    ),
    "answer_kept": (
        ("waive",),
        "A party answered, and no worker could take it; it is kept as a dead letter, to be replayed.",
    ),
    "unasked_confirmation": (("waive",), "A system that was not asked reported an effect on this person."),
}

#: Why a decision is refused.
Misfit = Literal[
    "request_ended",
    "reason_missing",
    "names_no_escalation",
    "no_such_escalation",
    "other_version",
    "action_does_not_fit",
    "controller_refused",
    "named_by_controller",
    "still_unknown",
    "already_closing",
    "quarantined",
    "already_extended",
    "already_acted",
    "too_late",
]

#: Of the statutory period, while the person has not been told.
ALARMS = frozenset({"deadline_near", "overdue"})

_PURPOSES: tuple[NoticePurpose, ...] = ("acted", "rejected", "extended")


def failing(purpose: NoticePurpose) -> str:
    """Return the question that is put when this notice can't be mailed."""
    return f"{purpose}_notice_failed"


def silent(purpose: NoticePurpose) -> str:
    """Return the question that is put when the mailbox has not confirmed this notice."""
    return f"{purpose}_notice_silent"


#: About a notice to the subject, by reason: open while the request closes, because closing waits for it.
NOTICES: dict[str, NoticePurpose] = {
    reason: purpose for purpose in _PURPOSES for reason in (failing(purpose), silent(purpose))
}

#: Resolved by the course of things, so they never hold up the end of a request.
SELF_RESOLVING = ALARMS | {"no_answer", NOT_SENT, "predecessor_failed", *map(silent, _PURPOSES)}

#: Asked, and answered, when the request has ended.
AFTER_END = frozenset({"instructed_late"})

#: News about a system that changes nothing in its step: the DPO acknowledges it.
NEWS = frozenset(
    {SYSTEM_MISSING, ANSWER_KEPT, "refused_late", "refused_unread", "unasked_confirmation", *AFTER_END}
)

#: Must be settled before any system is touched.
BEFORE_START = frozenset(
    {"identity_unverified", "unreadable_request", "key_lost", "no_usable_identifier", "empty_scope"}
)

#: Decisions that the record must give a reason for.
NEEDS_REASON: frozenset[Action] = frozenset({"waive", "extend", "reject", "cancel"})

#: Decisions that make sense without an open question.
STANDALONE: frozenset[Action] = frozenset({"extend", "reject", "cancel"})


def actions_for(reason: str) -> tuple[Action, ...]:
    """Return the decisions that fit a question of this reason."""
    return REASONS[reason][0]


def offered(saga: Saga, one: Escalation, now: int, configured: Container[str]) -> tuple[Action, ...]:
    """Return the decisions on an open question that would be applied now; `configured` are the systems."""
    fitting = actions_for(one.reason)
    return tuple(action for action in fitting if misfit(saga, one, action, now, configured) is None)


def misfit(
    saga: Saga, one: Escalation | None, action: Action, now: int, configured: Container[str]
) -> Misfit | None:
    """Return why a decision can't be applied to the request as it stands, as a code; None where it can.

    `one` is the question that it answers, None where it concerns the whole request.
    """
    if isinstance(saga.state, Finished) and (one is None or one.reason not in AFTER_END):
        return "request_ended"
    if one is not None:
        step = saga.step(one.system) if one.system is not None else None
        if step is not None and _overrules(saga, step, one, action):
            return "controller_refused"
        if action not in actions_for(one.reason):
            return "action_does_not_fit"
        if action == "retry" and one.reason == "unknown_system" and one.system not in configured:
            return "named_by_controller" if is_place(one.system or "") else "still_unknown"
    if action in STANDALONE and isinstance(saga.state, Closing):
        return "already_closing"
    is_release = one is not None and one.reason == "quarantined"
    if saga.quarantined and not is_release and action not in ("reject", "cancel"):
        return "quarantined"
    return _cannot_extend(saga, now) if action == "extend" else None


def _overrules(saga: Saga, step: Step, one: Escalation, action: Action) -> bool:
    """Whether a decision would have more erased than the controller's last word allows (Art. 28).

    A processor's DPO can't. To look again is no erasure; nor is it to ask the controller once more.
    """
    if one.reason in NEWS or words.hold(step) is None:
        return False
    if action == "erase" or (action == "retry" and one.reason in words.HELD):
        return True
    verb = verb_of(step)
    return action == "retry" and (verb == "erase" or (verb == "locate" and saga.capacity == "processor"))


def _cannot_extend(saga: Saga, now: int) -> Misfit | None:
    if saga.extended or saga.notice("extended") is not None:
        return "already_extended"
    if saga.acted_at is not None:
        return "already_acted"
    if now > saga.due_at:
        return "too_late"
    return None
