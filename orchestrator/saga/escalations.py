"""Which decisions fit which question.

An escalation is an open item beside the request's status: work goes on elsewhere while the DPO decides. The
table below is the whole policy; a decision that is not in it is refused and the DPO is told.
"""

from orchestrator.saga.model import Action

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
    "no_usable_identifier": (("reject", "cancel"), "The request names nobody that could be looked for."),
    "empty_scope": (("reject", "cancel"), "No configured system is in the request's scope."),
    "received_in_future": (
        ("waive", "reject", "cancel"),
        "The time of receipt lies in the future; it runs from now.",
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
    "notice_failed": (
        ("retry", "waive"),
        "The person could not be told by mail; tell them, then waive with how.",
    ),
    "notice_silent": (("retry", "waive"), "The mailbox has not confirmed a notice to the person."),
    "quarantined": (
        ("retry", "cancel"),
        "A rule failed on this request; it stands still until it is retried.",
    ),
    # about one system
    "unknown_system": (("retry", "waive"), "The request names a system that is not configured."),
    "failed": (("retry", "waive"), "The last attempt failed, or the error is permanent."),
    "no_answer": (("retry", "waive"), "The handler has not answered; are its workers running?"),
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
        "Several records have one address of the person; erase takes them all, retry looks again.",
    ),
    "party_silent": (("retry", "waive"), "The party has not answered its reminders."),
    "party_refused": (("retry", "waive"), "The party refuses to erase."),
    "identifier_missing": (
        ("retry", "waive"),
        "An identifier is missing that the person could be asked for.",
    ),
    "instruction_conflict": (
        ("retry", "waive"),
        "The controller said erase, then refuse, before anything was erased; its system stands still.",
    ),
    "refused_late": (("waive",), "The party refused after its data had been erased; that can't be undone."),
    "unasked_confirmation": (("waive",), "A system that was not asked reported an effect on this person."),
}

#: Resolved by the course of things, so they never hold up the end of a request.
SELF_RESOLVING = frozenset({"no_answer", "deadline_near", "overdue", "predecessor_failed", "notice_silent"})

#: About a notice to the subject: open while the request closes, because closing waits for its notices.
NOTICES = frozenset({"notice_failed", "notice_silent"})

#: News about a system that changes nothing in its step: the DPO acknowledges it.
NEWS = frozenset({"refused_late", "unasked_confirmation"})

#: Must be settled before any system is touched.
BEFORE_START = frozenset({"identity_unverified", "unreadable_request", "no_usable_identifier", "empty_scope"})

#: Decisions that the record must give a reason for.
NEEDS_REASON: frozenset[Action] = frozenset({"waive", "extend", "reject", "cancel"})

#: Decisions that make sense without an open question.
STANDALONE: frozenset[Action] = frozenset({"extend", "reject", "cancel"})


def actions_for(reason: str) -> tuple[Action, ...]:
    """The decisions that fit an escalation."""
    return REASONS[reason][0]
