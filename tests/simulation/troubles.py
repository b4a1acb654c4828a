"""What must happen in a run that is long enough: a trouble that never comes up shows nothing."""

from tests.simulation.faults import KINDS
from tests.simulation.operating import TROUBLES as OPERATING
from tests.simulation.people import UNUSUAL
from tests.simulation.robots import TROUBLES as SENDERS

TROUBLES = (
    *(f"fault: {kind}" for kind in KINDS),
    *(f"mail fault: {kind}" for kind in ("451", "550", "reset", "lost_response")),
    *(
        f"killed {when} {what}"
        for when in ("before", "after")
        for what in ("commit", "publish", "effect", "mail")
    ),
    *(f"request: {end}" for end in ("completed", "rejected", "cancelled")),
    *(
        f"step: {end}"
        for end in ("erased", "absent", "retained", "not_identifiable", "refused", "waived", "stopped")
    ),
    *(
        f"decision: {action}"
        for action in ("verify", "retry", "erase", "waive", "extend", "reject", "cancel")
    ),
    *(f"trouble: {what}" for what in SENDERS),
    *(f"life: {trait}" for trait in UNUSUAL),
    *OPERATING,
    *(
        f"escalation: {reason}"
        for reason in (
            "identity_unverified",
            "unreadable_request",
            "request_id_conflict",
            "nothing_identifiable",
            "deadline_near",
            "overdue",
            "acted_notice_failed",
            "failed",
            "no_answer",
            "predecessor_failed",
            "reappeared",
            "party_silent",
            "party_refused",
            "identifier_missing",
            "ambiguous",
            "quarantined",
            "instruction_conflict",
        )
    ),
    "record_repeated",
    "partition_lagged",
    "group_thrown_back",
    "publish_failed",
    "worker stopped and woken",
    "person came back",
    "a person asks under another id",
    "vendors' clocks are off",
    "the clock of hubspot is off",
    "the bin keeps longer than the settings say",
    "words: refuse, erase, refuse",
    "words: once more",
    "words: a time that may contradict",
    "words: an order that names a time before the refusal",
    "a rule fails",
    "circuit: open",
    "requests at once",
    "decision that does not fit",
)
