"""What a handler can answer, one class for each kind of confirmation.

`answers` says to which verbs a result is an answer; the worker treats any other as the handler's failure.
`report` gives the confirmation's fields, all but the references, which the worker seals. `evidence` never
holds anything personal: counts, times, the vendor's own ids of calls.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

from handlers.port import Control, Reference
from schemas.messages import ConfirmationKind, Grade, Place, ProvedEnd, Verb

Answers = frozenset[Verb | Literal["receive"]]

AMBIGUOUS: Final = "ambiguous_match"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The common part. `references` are to be sealed and kept; `correlations` are hashes to expect in
    callbacks; `places` are those that the verb looked at or not (`handlers.places.Search.report`).
    """

    kind: ClassVar[ConfirmationKind]
    answers: ClassVar[Answers]

    references: tuple[Reference, ...] = field(default=(), repr=False)
    correlations: tuple[str, ...] = ()
    evidence: Mapping[str, str] = field(default_factory=dict)
    places: tuple[Place, ...] = ()

    def report(self) -> dict[str, Any]:
        """The fields of the confirmation that are this result's own."""
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Located(Result):
    """Records of the person, children included."""

    kind = "located"
    answers = frozenset({"locate"})

    def __post_init__(self) -> None:
        if not self.references:
            raise ValueError("nothing located is Absent, and needs a Control")

    def report(self) -> dict[str, Any]:
        return {"found": len(self.references)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking(Result):
    """Records that could be several people's: the DPO is asked, and none of them is given away to be erased.

    `asked` says which they are, and how they were (`Shown.agreed`). Once the DPO says "erase", the next task
    carries them, and its `may_take` allows these and no others to be `Located`.
    """

    asked: tuple[Reference, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if not self.asked:
            raise ValueError("a question about no record")

    @property
    def count(self) -> int:
        return len(self.asked)

    def report(self) -> dict[str, Any]:
        return {"found": self.count, "code": AMBIGUOUS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambiguous(Asking):
    """Several records of which a look can't tell whose they are."""

    kind = "located"
    answers = frozenset({"locate"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent(Result):
    """Nothing of the person is there, seen with the control in place."""

    kind = "absent"
    answers = frozenset({"locate"})

    control: Control

    def report(self) -> dict[str, Any]:
        return {"grade": "seen_absent", "evidence": self.control.evidence()}


@dataclass(frozen=True, slots=True, kw_only=True)
class CannotLook(Result):
    """The system can erase but not be searched: an agency that only reads mail, analytics."""

    kind = "cannot_look"
    answers = frozenset({"locate"})


@dataclass(frozen=True, slots=True, kw_only=True)
class NotIdentifiable(Result):
    """No identifier of a kind that this system knows; `missing` names what the person could give (Art.
    11).
    """

    kind = "not_identifiable"
    answers = frozenset({"locate"})

    missing: tuple[str, ...]

    def report(self) -> dict[str, Any]:
        return {"missing": self.missing}


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitingParty(Result):
    """An agency or a controller was asked; a reminder is due at `remind_at`."""

    kind = "awaiting_party"
    answers = frozenset({"locate", "erase"})

    remind_at: int

    def report(self) -> dict[str, Any]:
        return {"look_at": self.remind_at}


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted(Result):
    """The vendor said yes, to each reference; whether it did so is looked at from `prove_at`."""

    kind = "accepted"
    answers = frozenset({"erase"})

    erased: int
    prove_at: int

    def report(self) -> dict[str, Any]:
        return {"erased": self.erased, "look_at": self.prove_at}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proved(Result):
    """The end of it: gone, or kept for a reason, with how strong the proof is."""

    kind = "proved"
    answers = frozenset({"prove"})

    control: Control
    grade: Grade
    end: ProvedEnd = "erased"
    legal_basis: str | None = None
    retained_until: int | None = None

    def report(self) -> dict[str, Any]:
        return {
            "grade": self.grade,
            "end": self.end,
            "legal_basis": self.legal_basis,
            "retained_until": self.retained_until,
            "evidence": self.control.evidence(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending(Result):
    """Not yet: in a recycle bin, say. Look again at `look_again_at`."""

    kind = "pending"
    answers = frozenset({"prove"})

    look_again_at: int
    code: str | None = None

    def report(self) -> dict[str, Any]:
        return {"look_at": self.look_again_at, "code": self.code}


@dataclass(frozen=True, slots=True, kw_only=True)
class StillPresent(Result):
    """Records that the erasure should have taken are there."""

    kind = "still_present"
    answers = frozenset({"prove"})

    def report(self) -> dict[str, Any]:
        return {"found": len(self.references)}


@dataclass(frozen=True, slots=True, kw_only=True)
class StillAmbiguous(Asking):
    """Several records that the look had missed, and of which the proof can't tell whose they are."""

    kind = "still_present"
    answers = frozenset({"prove"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reappeared(Result):
    """Only records newer than the erasure are there: it may be new consent, so nobody erases them unasked."""

    kind = "reappeared"
    answers = frozenset({"prove"})

    count: int

    def report(self) -> dict[str, Any]:
        return {"found": self.count}


@dataclass(frozen=True, slots=True, kw_only=True)
class Instructed(Result):
    """The controller instructs us to erase."""

    kind = "instructed"
    answers = frozenset({"receive"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyRefused(Result):
    """The party refuses; `code` is its reason."""

    kind = "refused"
    answers = frozenset({"receive"})

    code: str

    def report(self) -> dict[str, Any]:
        return {"code": self.code}


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyErased(Result):
    """The party, or the vendor by a signed event, says that it erased; `prove_at` None: we have no way
    to look.
    """

    kind = "party_erased"
    answers = frozenset({"receive"})

    prove_at: int | None
    grade: Grade = "party_stated"

    def report(self) -> dict[str, Any]:
        return {"look_at": self.prove_at, "grade": self.grade}


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyAbsent(Result):
    """The party says that it holds nothing."""

    kind = "absent"
    answers = frozenset({"receive"})

    def report(self) -> dict[str, Any]:
        return {"grade": "party_stated"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Retained(Result):
    """The party keeps the data by law."""

    kind = "retained"
    answers = frozenset({"receive"})

    legal_basis: str
    retained_until: int | None

    def report(self) -> dict[str, Any]:
        return {
            "legal_basis": self.legal_basis,
            "retained_until": self.retained_until,
            "grade": "party_stated",
            "end": "retained",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorPurged(Result):
    """The vendor's signed event says that it purged one record. It may be one of several: a reason to
    look.
    """

    kind = "proved"
    answers = frozenset({"receive"})

    def report(self) -> dict[str, Any]:
        return {"grade": "vendor_stated", "end": "erased"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What a callback meant, and whom it is about: by name, or by the keyed hash that the store knows.

    `attempt` is the one whose link the party answered by: it may have been about fewer identifiers than are
    known now. 0 where there was no link. `said_at` is the time that a signed body names; where it contradicts
    the order in which a controller's words came, the DPO is asked.
    """

    result: Result
    request_id: str | None = None
    system: str | None = None
    correlation: str | None = None
    attempt: int = 0
    said_at: int | None = None

    def __post_init__(self) -> None:
        if self.correlation is None and (self.request_id is None or self.system is None):
            raise ValueError("a callback is about a request and a system, or has a correlation")
