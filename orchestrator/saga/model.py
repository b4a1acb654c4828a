"""What a saga knows: one request, its steps, its open questions and its clocks.

Rules that the types keep:

* Whatever waits carries a timer. Every state that is not an end derives from `Wait`, whose `until` has no
  default, so a wait without a timer can't be written down.
* An end carries what was found. `Ended` needs a kind and a time; the grade says how strong the proof is.
* Identifiers and references are sealed bytes. The core moves them and never looks inside.

Everything is frozen: a transition makes a new value; there are no slots (see `replacing` for why). Times are
microseconds since the epoch, UTC.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

Verb = Literal["locate", "erase", "prove"]
Grade = Literal["seen_absent", "vendor_stated", "party_stated", "vendor_promised"]
Capacity = Literal["controller", "processor"]
Language = Literal["en", "sv", "nb"]
Action = Literal["verify", "retry", "erase", "waive", "extend", "reject", "cancel"]
End = Literal[
    "erased", "absent", "anonymised", "retained", "not_identifiable", "refused", "waived", "stopped"
]
StepStatus = Literal[
    "waiting",
    "locating",
    "erasing",
    "proving",
    "retrying",
    "accepted",
    "awaiting_party",
    "awaiting_subject",
    "awaiting_decision",
    "ended",
]
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
FinalStatus = Literal["completed", "rejected", "cancelled"]
RequestStatus = Literal[
    "awaiting_verification", "in_progress", "closing", "completed", "rejected", "cancelled"
]

#: Strongest first. The outcome is worded by the weakest grade among its steps.
GRADES: tuple[Grade, ...] = ("seen_absent", "vendor_stated", "party_stated", "vendor_promised")

_DOCUMENT = {"ser_json_bytes": "base64", "val_json_bytes": "base64"}


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Something that waits, until `until` at the latest: then its timer fires."""

    until: int


# --- a step's states ---


@dataclass(frozen=True, kw_only=True)
class Waiting(Wait):
    """For the systems it comes after."""

    status: Literal["waiting"] = "waiting"


@dataclass(frozen=True, kw_only=True)
class Locating(Wait):
    """A locate command is out; `until` is when its silence is alarmed."""

    attempt: int
    status: Literal["locating"] = "locating"


@dataclass(frozen=True, kw_only=True)
class Erasing(Wait):
    """An erase command is out; `until` is when its silence is alarmed."""

    attempt: int
    status: Literal["erasing"] = "erasing"


@dataclass(frozen=True, kw_only=True)
class Proving(Wait):
    """A prove command is out; `until` is when its silence is alarmed."""

    attempt: int
    status: Literal["proving"] = "proving"


@dataclass(frozen=True, kw_only=True)
class Retrying(Wait):
    """The last attempt failed; the next one goes out at `until`."""

    verb: Verb
    status: Literal["retrying"] = "retrying"


@dataclass(frozen=True, kw_only=True)
class Accepted(Wait):
    """The vendor said yes; the proof is due at `until`."""

    status: Literal["accepted"] = "accepted"


@dataclass(frozen=True, kw_only=True)
class AwaitingParty(Wait):
    """An agency or controller was asked with `verb`; a reminder is due at `until`."""

    verb: Verb
    status: Literal["awaiting_party"] = "awaiting_party"


@dataclass(frozen=True, kw_only=True)
class AwaitingSubject(Wait):
    """An identifier is missing that the subject can be asked for; after `until` it is not identifiable."""

    missing: tuple[str, ...]
    status: Literal["awaiting_subject"] = "awaiting_subject"


@dataclass(frozen=True, kw_only=True)
class AwaitingDecision(Wait):
    """A failure or a question lies with the DPO (escalation `reason`); `resume` is what a retry sends.

    `records` says how many records the question is about, where it is about records; `asked` says which.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _DOCUMENT

    resume: Verb
    reason: str
    records: int = 0
    asked: bytes | None = field(default=None, repr=False)
    status: Literal["awaiting_decision"] = "awaiting_decision"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The step's end. `contradicted` names a later fact that speaks against it."""

    end: End
    at: int
    grade: Grade | None = None
    legal_basis: str | None = None
    retained_until: int | None = None
    missing: tuple[str, ...] = ()
    reason: str | None = None
    contradicted: str | None = None
    status: Literal["ended"] = "ended"


StepState = (
    Waiting
    | Locating
    | Erasing
    | Proving
    | Retrying
    | Accepted
    | AwaitingParty
    | AwaitingSubject
    | AwaitingDecision
    | Ended
)


@dataclass(frozen=True, kw_only=True)
class Word:
    """What came by callback about one system, once: a party's word, or a vendor's own event.

    `order` is the order in which `serve` stored it. `at` is when, `said_at` the time that its signed body
    names. `attempt` is the command's whose link it came by, 0 where there was none. A word that came while
    the request was set aside has not been `heeded` yet, so it keeps all that the step will need of it.
    """

    order: int
    said: ConfirmationKind
    at: int
    attempt: int = 0
    said_at: int | None = None
    code: str | None = None
    grade: Grade | None = None
    legal_basis: str | None = None
    retained_until: int | None = None
    look_at: int | None = None
    heeded: bool = True


@dataclass(frozen=True, kw_only=True)
class Place:
    """One place of a system where the person's records may lie, as the handler reports it.

    `by` counts the identifiers of each kind that it was searched by; `not_by` those that were given and that
    it was not searched by. `reason` is a token: why it was not looked at, or why not all of it is shown.
    """

    name: str
    looked: bool
    by: dict[str, int] = field(default_factory=dict)
    not_by: dict[str, int] = field(default_factory=dict)
    reason: str | None = None


@dataclass(frozen=True)
class Attempt:
    """A command that was sent and not yet answered."""

    command_id: str
    verb: Verb
    number: int
    not_after: int


@dataclass(frozen=True, kw_only=True)
class Step:
    """One system within the request.

    `attempt` numbers commands, rising over all verbs; `command_id` is the latest. `failures` counts failed
    attempts in a row at one verb, `expiries` commands that lay too long in a row; `reopened` how often a
    proof found the records still there; `rounds` proofs passed. `erased_at` is the first acceptance, of
    whatever part: a record newer than that may be new consent. `accepted_at` is the latest one of all that is
    known, while it stands: the looks again count from it. `erases_from` is the first attempt since something
    was last found to be erased: the vendor's yes to an earlier one is about less. `proves_from` is the first
    attempt since `erased_at` was last found to be earlier: a proof before that told old from new by a later
    time.
    `asked_from` is the first attempt since the step was last begun anew: what is answered to an earlier one
    is about less. `has_controller` says that the data is a controller's, whose word is law for it; `words` is
    all that came by callback, in its order (see `words.py`); `instruction` is what the controller's last word
    allows. `answered_at` is of older documents (see `older.py`). `references` are of the person's records;
    `created_by` says of each until when its records were created (see `records.py`); `unsorted` are of those
    seen after the erasure, until a proof has told old from new; `carried` counts the references that the
    latest accepted erasure was about. `notes` are what a handler left for itself with its other answers (that
    it asked a party, that it saw a record in the bin), and say nothing about records. `places` holds what was
    last said of each place, `searched` how far the searches went since the step was last begun anew: a proof
    must go as far. `unasked_since` is when the system was first left alone, since it last answered.
    `takes_all` and `agreed` are how many and which records the DPO agreed to, until a search that carried
    them is answered. `progress` names, sealed, the records on which the verb `progress_of` has nothing left
    to do, and `done` counts them: its next command carries it.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _DOCUMENT

    system: str
    kind: str
    state: StepState
    after: tuple[str, ...] = ()
    attempt: int = 0
    command_id: str | None = None
    failures: int = 0
    expiries: int = 0
    reopened: int = 0
    rounds: int = 0
    reminders: int = 0
    found: int = 0
    erased: int = 0
    references: tuple[bytes, ...] = field(default=(), repr=False)
    created_by: tuple[int, ...] = ()
    unsorted: tuple[bytes, ...] = field(default=(), repr=False)
    carried: int = 0
    notes: tuple[bytes, ...] = field(default=(), repr=False)
    erased_at: int | None = None
    accepted_at: int | None = None
    erases_from: int = 0
    proves_from: int = 0
    asked_at: int | None = None
    asked_from: int = 0
    answered_at: int | None = None
    has_controller: bool = False
    words: tuple[Word, ...] = ()
    instruction: Literal["erase"] | None = None
    grade: Grade | None = None
    evidence: dict[str, str] = field(default_factory=dict)
    places: tuple[Place, ...] = ()
    searched: tuple[Place, ...] = ()
    unasked_since: int | None = None
    takes_all: int = 0
    agreed: tuple[bytes, ...] = field(default=(), repr=False)
    progress: bytes | None = field(default=None, repr=False)
    progress_of: Verb | None = None
    done: int = 0
    outstanding: tuple[Attempt, ...] = ()

    @property
    def is_ended(self) -> bool:
        return isinstance(self.state, Ended)

    @property
    def knows_records(self) -> bool:
        """Whether anybody has named records of the person here."""
        return bool(self.references or self.unsorted)

    @property
    def is_acted_on(self) -> bool:
        """Accepted by the vendor, or ended: what Art. 12(3) asks for. What is left is at most the proof.

        It says what is true now: once a proof found the records still there, nothing is accepted any more.
        """
        match self.state:
            case Ended():
                return True
            case Accepted() | Proving() | Retrying(verb="prove") | AwaitingDecision(resume="prove"):
                return self.accepted_at is not None
            case _:
                return False


# --- the request's states ---


@dataclass(frozen=True, kw_only=True)
class AwaitingVerification(Wait):
    """Something about the request itself lies with the DPO before any system is touched."""

    status: Literal["awaiting_verification"] = "awaiting_verification"


@dataclass(frozen=True, kw_only=True)
class InProgress(Wait):
    """`until` is the next statutory alarm, or the next routine review."""

    status: Literal["in_progress"] = "in_progress"


@dataclass(frozen=True, kw_only=True)
class Closing(Wait):
    """No new erasing commands; waits for outstanding attempts and notices, then becomes `final`."""

    final: FinalStatus
    status: Literal["closing"] = "closing"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The end of the request; its key is destroyed."""

    status: FinalStatus
    at: int


RequestState = AwaitingVerification | InProgress | Closing | Finished


@dataclass(frozen=True, kw_only=True)
class Escalation:
    """An open question to the DPO. It has a reminder, so it too is a wait."""

    id: str
    version: int
    reason: str
    system: str | None
    code: str | None
    raised_at: int
    remind_at: int


NoticePurpose = Literal["acted", "rejected", "extended"]


@dataclass(frozen=True, kw_only=True)
class NoticePending(Wait):
    """Asked of the mailbox under `command_id`; `until` is when its silence is alarmed.

    `earlier` are the ids under which it was asked before: a mail sent under one of them told the subject too.
    """

    command_id: str
    earlier: tuple[str, ...] = ()
    status: Literal["pending"] = "pending"


@dataclass(frozen=True, kw_only=True)
class NoticeGiven:
    """The subject knows: by our mail, or by other means as the DPO recorded."""

    at: int
    how: Literal["mailed", "otherwise"]
    status: Literal["given"] = "given"


@dataclass(frozen=True, kw_only=True)
class Notice:
    """One notice to the subject (Art. 12(3) and (4), Art. 19)."""

    purpose: NoticePurpose
    state: NoticePending | NoticeGiven


@dataclass(frozen=True, kw_only=True)
class Saga:
    """The state of one request. `version` rises with every event that was applied. `reason` is the DPO's, for
    rejecting, cancelling or extending it. `trace` is carried on to all that is sent about it.
    `notice_identifiers` are the `identifiers` with the address that the person is told at, where it was added
    later: commands go on with what they were about. `received_or` is when else it may have been received, if
    the clock was wrong, and `due_or` when it is due then. `as_of` is the latest event's time.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _DOCUMENT

    request_id: str
    version: int
    state: RequestState
    received_at: int
    due_at: int
    source: str
    capacity: Capacity = "controller"
    tenant: str | None = None
    language: Language = "en"
    content_digest: str = field(default="", repr=False)
    subject_digest: str = field(default="", repr=False)
    identifiers: bytes = field(default=b"", repr=False)
    notice_identifiers: bytes = field(default=b"", repr=False)
    identifier_kinds: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    escalations: tuple[Escalation, ...] = ()
    raised: int = 0
    settled: tuple[str, ...] = ()
    notices: tuple[Notice, ...] = ()
    acted_at: int | None = None
    extended: bool = False
    quarantined: bool = False
    reason: str | None = None
    trace: str | None = None
    head: str = "0" * 64
    seq: int = 0
    received_or: int | None = None
    due_or: int | None = None
    as_of: int = 0

    @property
    def alarmed_by(self) -> int:
        """When it is due; where its receipt is in doubt, by the earlier day."""
        return self.due_at if self.due_or is None else min(self.due_at, self.due_or)

    @property
    def status(self) -> RequestStatus:
        return self.state.status

    @property
    def all_identifiers(self) -> bytes:
        """Return all that the person is known by and told at, sealed."""
        return self.notice_identifiers or self.identifiers

    @property
    def is_finished(self) -> bool:
        return isinstance(self.state, Finished)

    @property
    def wake_at(self) -> int | None:
        """When the next timer fires; None only at the end, where no question is open."""
        return min((until for _, until in waits(self)), default=None)

    def step(self, system: str) -> Step | None:
        return next((one for one in self.steps if one.system == system), None)

    def escalation(self, escalation_id: str | None) -> Escalation | None:
        return next((one for one in self.escalations if one.id == escalation_id), None)

    def notice(self, purpose: NoticePurpose) -> Notice | None:
        return next((one for one in self.notices if one.purpose == purpose), None)


def waits(saga: Saga) -> list[tuple[str, int]]:
    """Everything that waits in a saga, as (what, until). The steps of one that was set aside stand still.

    Once it has ended only a question may wait: what a controller said after the end.
    """
    found: list[tuple[str, int]] = []
    if not isinstance(saga.state, Finished):
        found += [(saga.state.status, saga.state.until)]
    if not saga.quarantined:
        found += [(f"step {s.system}", s.state.until) for s in saga.steps if not isinstance(s.state, Ended)]
    found += [(f"escalation {e.id}", e.remind_at) for e in saga.escalations]
    found += [
        (f"notice {n.purpose}", n.state.until) for n in saga.notices if isinstance(n.state, NoticePending)
    ]
    return found


def weakest(grades: list[Grade]) -> Grade | None:
    """The grade that words the outcome: the weakest of its steps'; None where nothing was proved."""
    return max(grades, key=GRADES.index, default=None)
