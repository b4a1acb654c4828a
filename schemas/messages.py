"""What travels over the bus, as Python sees it.

Each class is one record type with an Avro schema of the same name beside this file. The rules they share:

* Identifiers and the vendors' references of records are `bytes` sealed under the request's own key. No
  other field may carry personal data, so every other string is a *token*: a short name made of characters
  that leave little room for an address, a phone number or a sentence. There are three exceptions. The
  `reason` of a decision is the DPO's text, and an outcome repeats it; the orchestrator withholds one that
  names the person.
  The values of `evidence` are short texts, and the worker withholds those that name the person. A request's
  `identifiers` are written by nothing of ours, and are refused unless a setting allows them.
* Times are microseconds since the epoch, UTC.
* `event_id` says which event this is. It is derived from what caused it, so that a repeat has the same id
  and the receiver can drop it.
"""

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Micros = Annotated[int, Field(ge=0, lt=2**62)]
EventId = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9:._/-]+$")]
RequestId = Annotated[
    str, StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
]
Token = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,79}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, lt=2**31)]
Text = Annotated[str, StringConstraints(max_length=500)]
Evidence = dict[Token, Annotated[str, StringConstraints(max_length=200)]]
Mark = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]

Language = Literal["en", "sv", "nb"]
Capacity = Literal["controller", "processor"]
Verb = Literal["locate", "erase", "prove"]
Grade = Literal["seen_absent", "vendor_stated", "party_stated", "vendor_promised"]

ConfirmationKind = Literal[
    "located",
    "absent",
    "cannot_look",
    "not_identifiable",
    "awaiting_party",
    "instructed",
    "accepted",
    "proved",
    "pending",
    "still_present",
    "reappeared",
    "party_erased",
    "retained",
    "refused",
    "failed",
    "expired",
    "notice_sent",
    "notice_failed",
    "progress",
]
ProvedEnd = Literal["erased", "anonymised", "retained"]
DecisionAction = Literal["verify", "retry", "erase", "waive", "extend", "reject", "cancel"]
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
RequestStatus = Literal[
    "awaiting_verification", "in_progress", "closing", "completed", "rejected", "cancelled"
]


class Message(BaseModel):
    """A record on the bus; immutable, and strict about its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ClearIdentifier(Message):
    """An identifier as the person wrote it; one that is of no known kind is refused when the request is
    read.
    """

    kind: Annotated[str, Field(max_length=80)]
    value: Annotated[str, Field(max_length=1000)] = Field(repr=False)
    site: Annotated[str, Field(max_length=300)] | None = Field(default=None, repr=False)


class Request(Message):
    """A person asks to be erased (GDPR Art. 17). `scope` None means every configured system.

    A producer outside wraps the request's key to the installation's public key (`wrapped_key`, to
    `key_generation`); one that files the key itself leaves both out. One that may not seal at all, where the
    installation allows it, gives `identifiers` and leaves `sealed_identifiers` empty.
    """

    event_id: EventId
    request_id: RequestId
    received_at: Micros
    source: Token
    capacity: Capacity = "controller"
    tenant: Token | None = None
    verified: bool
    language: Language = "en"
    scope: tuple[Token, ...] | None = None
    sealed_identifiers: bytes = Field(repr=False)
    key_generation: Count | None = None
    wrapped_key: Annotated[bytes, Field(max_length=1024)] | None = Field(default=None, repr=False)
    identifiers: tuple[ClearIdentifier, ...] | None = Field(default=None, repr=False)


class Command(Message):
    """The orchestrator asks one handler for one verb on one system.

    `erased_at` is when an erasure was first accepted: a record created later may be new consent. A `prove`
    always has it; where nobody knows of an erasure it is the time of receipt. `accepted_at` is when the
    latest erasure was accepted that was about all that is known: a vendor's purge is counted from it.
    `instruction` is what a controller's last word allows, for data that is a controller's. `reminder` says
    that the party was asked before and has not answered. `found` is the largest count of records that any
    answer has told.

    `sealed_references` holds one part for each answer that brought references: those of the person's records,
    those that a handler noted for itself, and, marked as such, those that the DPO was asked about and agreed
    to. The handler acts on the first two with every command. The last come with the search that follows his
    "erase", and with no other command. `takes_all` comes with them, and is how many records his answer was
    about; 0 otherwise. A question of an earlier version names no records: then it is all that is known. Where
    earlier attempts of the verb made progress, a last part says on which records it has nothing left to do.
    """

    event_id: EventId
    request_id: RequestId
    system: Token
    kind: Token
    verb: Verb
    attempt: Count
    issued_at: Micros
    not_after: Micros
    language: Language = "en"
    capacity: Capacity = "controller"
    tenant: Token | None = None
    instruction: Literal["erase"] | None = None
    reminder: bool = False
    erased_at: Micros | None = None
    accepted_at: Micros | None = None
    found: Count = 0
    takes_all: Count = 0
    sealed_identifiers: bytes = Field(repr=False)
    sealed_references: tuple[bytes, ...] = Field(default=(), repr=False)


class Place(Message):
    """One place of a system where a person's records may lie.

    `by` counts the identifiers of each kind that it was searched by; `not_by` those that were given and that
    it was not searched by. `reason` says why it was not looked at, or, where it was, why the vendor doesn't
    show all of it.
    """

    name: Token
    looked: bool
    by: dict[Token, Count] = Field(default_factory=dict)
    not_by: dict[Token, Count] = Field(default_factory=dict)
    reason: Token | None = None


def mark(sealed: bytes) -> str:
    """Return a name for sealed bytes: the first 32 hex digits of their SHA-256.

    Each seal has a random nonce, so the mark tells nothing about what was sealed.
    """
    return hashlib.sha256(sealed).hexdigest()[:32]


class Confirmation(Message):
    """What a handler, or the mailbox for a notice, reports back.

    Answers a command (`command_id`), or stands for itself when it came by callback. Then `request_id` and
    `system` may be unknown to the worker, and `correlation` (a keyed hash) finds them in the store.
    `correlations` are hashes to remember for callbacks to come. `look_at` is when to look next: the proof
    due, the reminder due, or the next look. `about` says what the answer counts for: the `mark` of the
    command's sealed identifiers, then one for each part of its sealed references. `order` and `said_at` are a
    party's word's: in which order it was stored on arrival, and the time that its signed body names.
    `done` comes with progress, and with a failure on the way: on how many records the verb has nothing left
    to do. `sealed_references` says which, and the next command for the verb carries it.
    """

    event_id: EventId
    request_id: RequestId | None
    system: Token | None
    command_id: EventId | None = None
    correlation: Digest | None = None
    verb: Verb | None = None
    attempt: Count = 0
    kind: ConfirmationKind
    occurred_at: Micros
    found: Count = 0
    erased: Count = 0
    done: Count = 0
    sealed_references: bytes | None = Field(default=None, repr=False)
    correlations: tuple[Digest, ...] = ()
    grade: Grade | None = None
    end: ProvedEnd | None = None
    legal_basis: Token | None = None
    retained_until: Micros | None = None
    missing: tuple[Token, ...] = ()
    look_at: Micros | None = None
    code: Token | None = None
    retryable: bool = False
    retry_after: Micros | None = None
    evidence: Evidence = Field(default_factory=dict)
    about: tuple[Mark, ...] = ()
    places: tuple[Place, ...] = ()
    order: Micros | None = None
    said_at: Micros | None = None


class Decision(Message):
    """The DPO decides. `escalation_id` and `escalation_version` name what was decided on; cancelling needs
    neither.
    """

    event_id: EventId
    request_id: RequestId
    action: DecisionAction
    escalation_id: EventId | None = None
    escalation_version: Count | None = None
    reason: Text = ""
    decided_by: Token
    decided_at: Micros


class SystemOutcome(Message):
    """One system's line in an outcome: its end, with the proof of it, or how it stands.

    `reason` says why it ended so, or by what a later report contradicts the end.
    """

    system: Token
    status: Token
    grade: Grade | None = None
    found: Count = 0
    erased: Count = 0
    legal_basis: Token | None = None
    retained_until: Micros | None = None
    missing: tuple[Token, ...] = ()
    reason: Text | None = None
    evidence: Evidence = Field(default_factory=dict)
    places: tuple[Place, ...] = ()


class EscalationOutcome(Message):
    """An open question to the DPO, with the decisions that fit it."""

    escalation_id: EventId
    version: Count
    reason: Token
    system: Token | None = None
    code: Token | None = None
    raised_at: Micros
    actions: tuple[DecisionAction, ...] = ()


class Outcome(Message):
    """What the orchestrator has to say to the outside: to the DPO, or (kind `notice`) to the subject.

    `timeline_head` is the last hash of the request's timeline (SHA-256, hex). `sealed_identifiers` is set
    for a notice only, so that the mailbox finds the subject's address. `reason` is the DPO's, for not
    acting or for taking longer (Art. 12(3) and (4)). `concerns` is the escalation that an escalated,
    reminded or decision_refused outcome is about. `grade` is the weakest of those of the systems that have
    ended.
    """

    event_id: EventId
    request_id: RequestId
    kind: OutcomeKind
    occurred_at: Micros
    language: Language = "en"
    status: RequestStatus
    received_at: Micros
    due_at: Micros
    acted_at: Micros | None = None
    grade: Grade | None = None
    systems: tuple[SystemOutcome, ...] = ()
    escalations: tuple[EscalationOutcome, ...] = ()
    concerns: EventId | None = None
    code: Token | None = None
    reason: Text | None = None
    timeline_head: Digest
    sealed_identifiers: bytes | None = Field(default=None, repr=False)


class Callback(Message):
    """A raw answer or webhook, sealed to the installation, for a handler's `receive`.

    `order` is the order in which it was stored on its arrival.
    """

    event_id: EventId
    kind: Token
    system: Token | None = None
    correlation: Digest | None = None
    received_at: Micros
    sealed_body: bytes = Field(repr=False)
    order: Micros | None = None
