"""What can happen to a saga.

Events are facts that the shell read off the bus or the clock. Each has an id, derived from what caused it,
and brings its own random number in [0, 1) for back-off, so that `decide` stays a function.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.saga.model import Action, Capacity, ConfirmationKind, Grade, Language, Place, Verb


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something happened to `request_id`."""

    event_id: str
    request_id: str
    random: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestReceived(Event):
    """A request that could be read. No kinds of identifiers means that none was usable.

    `received_or` is when it was received if the clock that `received_at` was set by was wrong. `supplements`
    says that a request of this id is known and that this one repeats its identifiers and adds more;
    `only_where_told` that it adds nothing but the address that the person is told at. `trace` is the
    producer's trace that it belongs to.
    """

    received_at: int
    source: str
    capacity: Capacity
    tenant: str | None
    language: Language
    verified: bool
    scope: tuple[str, ...] | None
    identifiers: bytes = field(repr=False)
    identifier_kinds: tuple[str, ...]
    content_digest: str = field(repr=False)
    subject_digest: str = field(repr=False)
    supplements: bool = False
    only_where_told: bool = False
    received_or: int | None = None
    trace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestUnreadable(Event):
    """Bytes on the requests topic that nobody can read: a person whose clock runs, dated by the record."""

    received_at: int
    code: str
    received_or: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLost(Event):
    """The master key that the request's key was wrapped by is lost, as somebody has declared: nobody can read
    any more whom the request is about.
    """

    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemsMissing(Event):
    """The orchestrator has begun, and the settings do not have these systems of the request (any more)."""

    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandsUnsent(Event):
    """These commands of the request, and no others, can't be written to the bus; none is left if empty."""

    commands: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed(Event):
    """A handler's or party's word on one system, or (system None) the mailbox's on a notice.

    `attempt` is the command's that it answers. For a party's word, which answers no command, it is the one
    that made the link it came by, 0 where there was none. `about` says what an answer to a command counts
    for: the mark of the identifiers, then one for each part of the references. `order` is the order in which
    a party's word was stored on its arrival, `said_at` the time that its signed body names. `done` counts the
    records on which the verb has nothing left to do, where it is not at its end; `references` says which.
    """

    kind: ConfirmationKind
    system: str | None
    occurred_at: int
    command_id: str | None = None
    verb: Verb | None = None
    attempt: int = 0
    found: int = 0
    erased: int = 0
    done: int = 0
    references: bytes | None = field(default=None, repr=False)
    grade: Grade | None = None
    end: Literal["erased", "anonymised", "retained"] | None = None
    legal_basis: str | None = None
    retained_until: int | None = None
    missing: tuple[str, ...] = ()
    look_at: int | None = None
    code: str | None = None
    retryable: bool = False
    retry_after: int | None = None
    evidence: Mapping[str, str] = field(default_factory=dict)
    about: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()
    order: int | None = None
    said_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided(Event):
    """The DPO's decision."""

    action: Action
    escalation_id: str | None
    escalation_version: int | None
    reason: str
    decided_by: str
    decided_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerFired(Event):
    """The saga's wake-up time has come. Firing twice is harmless: each wait checks its own `until`."""
