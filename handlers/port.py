"""What the worker asks of a handler, and what a handler may answer.

A handler turns four verbs into calls to one kind of system:

* `locate` finds every record of the person, children included, and gives their references. It erases nothing.
* `erase` erases exactly the references it is given. One that is already gone counts as erased and as
  repeated, never as absent: any call can be repeated after a lost answer.
* `prove` looks again, by the references and by the identifiers.
* `receive` turns a callback into a result. It trusts nothing that isn't signed, or named by a token only
  the right party has.

What the types keep:

* Each result says which verbs it may answer; a handler that answers out of turn is a handler that failed.
* "Absent" and "gone" cannot be said without a `Control`, and only a comparison of the pinned account with
  the account that answered can make one. A token for the wrong account must never read as "erased
  everywhere".
* A control vouches for one moment. Where nothing was found it is shown again after the look: credentials that
  lost their rights in between see nothing, too.
* An erasing call goes through `Client.erase_call`, which takes the task as its permit.
* Work that is larger than one attempt is settled record by record (`Rounds`), and goes on in the next one.
* Nothing here shows an identifier or a reference in its repr.
"""

import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from orchestrator.http.errors import CallFailed, Expired, Permanent, Retryable
from orchestrator.privacy import Identifiers
from schemas.messages import Capacity, Language, Verb

__all__ = [
    "ERASED",
    "GONE",
    "REPEATED",
    "CallFailed",
    "Clock",
    "Control",
    "Expired",
    "Permanent",
    "Reference",
    "Refused",
    "Retryable",
    "RoundOver",
    "Rounds",
    "Task",
    "asked_about",
    "known_and_asked",
    "known_and_settled",
    "pack_references",
    "squeezed",
    "unpack_references",
]

_ASKED: Final = "asked:"
#: How a record that the verb has settled is told from one that is known, where both travel in one list.
_SETTLED: Final = "settled:"
#: References larger than this travel squeezed: ten thousand fit into a message a few times over.
_LARGE: Final = 16 * 1024
_LARGEST: Final = 64 * 1024 * 1024
Clock = Callable[[], int]


class Refused(Exception):
    """A callback that nobody should believe or that means nothing: it is counted and dropped."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


# --- what is asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One record in the vendor's system. `marks` are tokens that a handler leaves for its own later verbs."""

    kind: str
    id: str = field(repr=False)
    created_at: int | None = None
    marks: tuple[str, ...] = ()

    def marked(self, mark: str) -> "Reference":
        """This reference with one more mark."""
        return self if mark in self.marks else replace(self, marks=(*self.marks, mark))


def pack_references(references: tuple[Reference, ...]) -> bytes:
    """The clear form, which goes nowhere but into a seal."""
    rows = [[r.kind, r.id, r.created_at, list(r.marks)] for r in references]
    return json.dumps(rows, separators=(",", ":")).encode()


def squeezed(packed: bytes) -> bytes:
    """Return packed references as they are sealed: many are made small, so that a message holds them."""
    return zlib.compress(packed) if _LARGE < len(packed) <= _LARGEST else packed


def _clear(packed: bytes) -> bytes:
    """Return packed references as they were before they were squeezed. Raises ValueError."""
    if packed[:1] == b"[":
        return packed
    opener = zlib.decompressobj()
    try:
        clear = opener.decompress(packed, _LARGEST)
    except zlib.error:
        raise ValueError("no references") from None
    if not opener.eof:
        raise ValueError("too many references")
    return clear


def unpack_references(*packed: bytes) -> tuple[Reference, ...]:
    """The references of all the parts, one for each record, with the marks of all its mentions."""
    found: dict[tuple[str, str], Reference] = {}
    for part in packed:
        for kind, id_, created_at, marks in json.loads(_clear(part)):
            known = found.get((kind, id_))
            reference = Reference(kind=kind, id=id_, created_at=created_at, marks=tuple(marks))
            if known is not None:
                for mark in known.marks:
                    reference = reference.marked(mark)
            found[kind, id_] = reference
    return tuple(found.values())


def asked_about(references: Iterable[Reference]) -> tuple[Reference, ...]:
    """Return references in the form in which a question to the DPO travels, and comes back with his word."""
    return tuple(replace(one, kind=f"{_ASKED}{one.kind}") for one in references)


def known_and_asked(
    references: Iterable[Reference],
) -> tuple[tuple[Reference, ...], tuple[Reference, ...]]:
    """Return the references that are the person's, and those that the DPO was asked about."""
    known, asked = [], []
    for one in references:
        if one.kind.startswith(_ASKED):
            asked.append(replace(one, kind=one.kind.removeprefix(_ASKED)))
        else:
            known.append(one)
    return tuple(known), tuple(asked)


class RoundOver(Exception):
    """The attempt has done part of the work, and its time is nearly over: the next attempt goes on."""


#: Outcomes of a settled record: the verb has erased it, found it gone already, or read that it is not there.
ERASED: Final = "erased"
REPEATED: Final = "repeated"
GONE: Final = "gone"
_Key = tuple[str, str]


@dataclass(slots=True)
class Rounds:
    """What the attempts of one verb have settled, record by record, and whether this attempt's time is over.

    A person may have more records than one attempt can go through. What is settled is given to the next
    attempt, also where this one ends with a fault. A handler that settles nothing has one attempt for all.
    """

    earlier: dict[_Key, tuple[Reference, str]] = field(default_factory=dict, repr=False)
    is_over: Callable[[], bool] = field(default=lambda: False, repr=False)
    _now: dict[_Key, tuple[Reference, str]] = field(default_factory=dict, repr=False)

    def settle(self, reference: Reference, outcome: str) -> None:
        """Note that the verb has nothing left to do with the record; `outcome` is a token, for the counts.

        Raises:
            RoundOver: the time of the attempt is nearly over. Let it through.
        """
        self.settle_all([(reference, outcome)])

    def settle_all(self, outcomes: Iterable[tuple[Reference, str]]) -> None:
        """Note the outcomes of several records at once, as `settle` does."""
        self._now |= {(one.kind, one.id): (one, outcome) for one, outcome in outcomes}
        if self.is_over() and self.has_gone_on:
            raise RoundOver

    def left(self, references: Iterable[Reference]) -> list[Reference]:
        """Return those of the records that no attempt has settled."""
        settled = self._all()
        return [one for one in references if (one.kind, one.id) not in settled]

    def parts(self, references: Iterable[Reference], size: int) -> Iterator[list[Reference]]:
        """Yield what is left of the records, some at a time."""
        left = self.left(references)
        for first in range(0, len(left), size):
            yield left[first : first + size]

    def settled(self, *outcomes: str) -> list[Reference]:
        """Return the records that any attempt has settled with one of these outcomes."""
        return [one for one, outcome in self._all().values() if outcome in outcomes]

    def counts(self) -> "Counter[str]":
        """Return how many records have each outcome, from all attempts."""
        return Counter(outcome for _, outcome in self._all().values())

    @property
    def has_gone_on(self) -> bool:
        """Whether this attempt has settled anything."""
        return not self._now.keys() <= self.earlier.keys()

    def packed(self) -> tuple[Reference, ...]:
        """Return what is settled, in the form in which it travels to the next attempt."""
        settled = self._all().values()
        return tuple(replace(one, kind=f"{_SETTLED}{outcome}:{one.kind}") for one, outcome in settled)

    def _all(self) -> dict[_Key, tuple[Reference, str]]:
        return {**self.earlier, **self._now}


def known_and_settled(references: Iterable[Reference]) -> tuple[tuple[Reference, ...], Rounds]:
    """Return what is known of the person's records, and what earlier attempts of the verb have settled."""
    known: list[Reference] = []
    rounds = Rounds()
    for one in references:
        if one.kind.startswith(_SETTLED):
            outcome, _, kind = one.kind.removeprefix(_SETTLED).partition(":")
            rounds.earlier[kind, one.id] = replace(one, kind=kind), outcome
        else:
            known.append(one)
    return tuple(known), rounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One command, unsealed, for as long as its verb runs. It is also the permit of every erasing call.

    `takes_all` and `asked` are the DPO's answer where records could be several people's: how many he agreed
    to, and which. About others he is asked again (`may_take`).
    `rounds` is what earlier attempts of the verb have settled.
    """

    request_id: str
    system: str
    verb: Verb
    attempt: int
    identifiers: Identifiers = field(repr=False)
    references: tuple[Reference, ...] = field(default=(), repr=False)
    issued_at: int
    not_after: int
    clock: Clock = field(repr=False)
    in_force: Callable[[], bool] = field(default=lambda: True, repr=False)
    instruction: Literal["erase"] | None = None
    reminder: bool = False
    capacity: Capacity = "controller"
    tenant: str | None = None
    language: Language = "en"
    erased_at: int | None = None
    accepted_at: int | None = None
    takes_all: int = 0
    asked: tuple[Reference, ...] = field(default=(), repr=False)
    rounds: Rounds = field(default_factory=Rounds, repr=False)

    def may_take(self, records: Iterable[Reference]) -> bool:
        """Return whether the DPO agreed to all of these, which may be somebody else's, as they are now.

        A question of an earlier version says how many it was about, and not which.
        """
        seen = set(records)
        if self.takes_all and self.asked:
            return seen <= set(self.asked)
        return len(seen) <= self.takes_all

    def may_erase(self) -> None:
        """Return if the command is still in force; raise `Expired` if not. It is in force until its time is
        over, or its verb has ended: what a handler left behind may erase nothing.
        """
        if not self.in_force() or self.clock() > self.not_after:
            raise Expired

    def of_kind(self, *kinds: str) -> tuple[Reference, ...]:
        """The references of these kinds."""
        return tuple(r for r in self.references if r.kind in kinds)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackBody:
    """A callback, unsealed: the token of its address if it had one, and exactly what was posted."""

    token: str | None = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    received_at: int
    system: str | None = None

    def header(self, name: str) -> str:
        """The header of that name, in whatever case it came; empty if there is none."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), "")


# --- control

_WITNESS = object()


class Control:
    """That we were shown to look in the right place: the account that answered is the account that was
    pinned.

    `record` says that the configured control record was found by the same query, too.
    """

    __slots__ = ("record",)

    def __init__(self, witness: object, *, record: bool) -> None:
        if witness is not _WITNESS:
            raise TypeError("a Control is made by Control.shown, from what the system answered")
        self.record = record

    @classmethod
    def shown(cls, *, pinned: str, answered: str, record_found: bool | None = None) -> "Control":
        """Compare the pinned account with the one that answered; `record_found` None: no control record
        is set.
        """
        if not pinned or pinned != answered:
            raise Permanent("wrong_account")
        if record_found is False:
            # Also how a credential without the right to read looks: everything is found to be empty.
            raise Permanent("control_record_not_found")
        return cls(_WITNESS, record=bool(record_found))

    def evidence(self) -> dict[str, str]:
        return {"control": "account_and_record" if self.record else "account"}
