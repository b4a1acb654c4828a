"""From what a handler answered to the confirmation that says it.

* The confirmation's id is derived from what caused it, its kind and a digest of what it says, without the
  times of looking and retrying: a repeat that says the same is the same event, and "failed" followed by
  "accepted" are two.
* References leave only sealed, under the request's key.
* Evidence that has an identifier, or a reference, in it is withheld, and the confirmation says that it was.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from handlers.port import ERASED, REPEATED, Reference, Rounds, asked_about, pack_references, squeezed
from handlers.results import Asking, Received, Result
from orchestrator.bus.port import Record
from orchestrator.privacy import Identifiers, finder, looks_personal
from schemas import topics
from schemas.cloudevents import headers
from schemas.codec import encode
from schemas.messages import Callback, Command, Confirmation, mark

SOURCE = "worker"
WITHHELD = "evidence_withheld"
_SHORTEST = 4
_LONGEST = 200
# : What may differ between two tellings of the same thing: when to look, how long to wait, what was counted
# on the way.
_NOT_SAID = frozenset({"look_at", "retry_after", "evidence"})

Seal = Callable[[bytes], bytes]
IsPersonal = Callable[[str], bool]


def confirm_command(
    command: Command,
    result: Result,
    *,
    now: int,
    seal: Seal,
    identifiers: Identifiers,
    references: Iterable[Reference],
) -> Confirmation:
    """The confirmation of what a verb found or did."""
    asked = result.asked if isinstance(result, Asking) else ()
    said = _said(result, personal_to(identifiers, [*references, *result.references, *asked]))
    kept = (*result.references, *asked_about(asked))
    return Confirmation(
        event_id=_event_id(command.event_id, result.kind, said, kept),
        request_id=command.request_id,
        system=command.system,
        command_id=command.event_id,
        verb=command.verb,
        attempt=command.attempt,
        kind=result.kind,
        occurred_at=now,
        sealed_references=seal(squeezed(pack_references(kept))) if kept else None,
        correlations=tuple(result.correlations),
        about=about(command),
        places=result.places,
        **said,
    )


def about(command: Command) -> tuple[str, ...]:
    """Return what an answer to the command counts for: the marks of the sealed bytes that it carried."""
    return (mark(command.sealed_identifiers), *map(mark, command.sealed_references))


def personal_to(identifiers: Identifiers, references: Iterable[Reference]) -> IsPersonal:
    """Tells whether a text names the person, or one of the records."""
    known, finds = tuple(references), finder(identifiers)
    return lambda text: finds(text) or any(_names(text, one) for one in known)


def with_proof(confirmation: Confirmation, proof: Mapping[str, str], is_personal: IsPersonal) -> Confirmation:
    """The confirmation with what the vendor's answers prove, of what may be said."""
    kept = {name: value for name, value in proof.items() if not (is_personal(value) or looks_personal(value))}
    return confirmation.model_copy(update={"evidence": {**kept, **confirmation.evidence}})


def confirm_failure(
    command: Command, code: str, *, now: int, retryable: bool, retry_after: int | None = None
) -> Confirmation:
    """The confirmation that a verb did not come to an answer."""
    said = {"code": code, "retryable": retryable, "retry_after": retry_after}
    return _bare(command, "failed", said, now)


def confirm_progress(command: Command, rounds: Rounds, *, now: int, seal: Seal) -> Confirmation:
    """The confirmation that an attempt did part of the work, within its time."""
    return with_progress(_bare(command, "progress", {}, now), rounds, seal)


def with_progress(confirmation: Confirmation, rounds: Rounds, seal: Seal) -> Confirmation:
    """The confirmation with what the attempts have settled, if this one has settled anything."""
    if not rounds.has_gone_on:
        return confirmation
    settled, counts = rounds.packed(), rounds.counts()
    done = {"done": counts.total(), "erased": counts[ERASED] + counts[REPEATED]}
    return confirmation.model_copy(
        update={
            **done,
            "event_id": _event_id(confirmation.event_id, confirmation.kind, done, settled),
            "sealed_references": seal(squeezed(pack_references(settled))),
        }
    )


def confirm_expiry(command: Command, code: str, *, now: int) -> Confirmation:
    """The confirmation that nothing was done, since the time for it is over."""
    return _bare(command, "expired", {"code": code}, now)


def confirm_callback(
    callback: Callback, received: Received, *, now: int, is_one_of_several: bool = False
) -> Confirmation:
    """The confirmation of what a callback said; it answers no command, but may name the asking one.

    Of several in one callback, each is an event of its own, told from the others by whom it is about.
    """
    result = received.result
    if result.references:
        raise ValueError("a callback's references can't be sealed: the request's key may not be known here")
    said = _said(result, looks_personal)
    return Confirmation(
        event_id=_event_id(
            f"{callback.event_id}/{received.correlation}" if is_one_of_several else callback.event_id,
            result.kind,
            said,
            (),
        ),
        request_id=received.request_id,
        system=received.system,
        correlation=received.correlation,
        attempt=received.attempt,
        kind=result.kind,
        # When it was said counts, not when it was read: a later word must stay the later one.
        occurred_at=min(now, callback.received_at),
        correlations=tuple(result.correlations),
        order=callback.order,
        said_at=received.said_at,
        **said,
    )


def record_of(confirmation: Confirmation, now: int, trace: str | None = None) -> Record:
    """The record that carries a confirmation. Raises CodecError for one that no message can hold."""
    return Record(
        topic=topics.CONFIRMATIONS,
        key=confirmation.request_id or confirmation.correlation or "",
        value=encode(confirmation),
        headers=headers(confirmation, event_id=confirmation.event_id, source=SOURCE, at=now, trace=trace),
    )


def _bare(command: Command, kind: Any, said: dict[str, Any], now: int) -> Confirmation:
    return Confirmation(
        event_id=_event_id(command.event_id, kind, said, ()),
        request_id=command.request_id,
        system=command.system,
        command_id=command.event_id,
        verb=command.verb,
        attempt=command.attempt,
        kind=kind,
        occurred_at=now,
        about=about(command),
        **said,
    )


def _said(result: Result, is_personal: IsPersonal) -> dict[str, Any]:
    """The result's own fields, with what must not be said taken out."""
    said = result.report()
    evidence = {**said.pop("evidence", {}), **result.evidence}
    kept = {name: value[:_LONGEST] for name, value in evidence.items() if not is_personal(value)}
    code = said.get("code")
    if code is not None and is_personal(code):
        code = None
    if len(kept) < len(evidence) or (said.get("code") and code is None):
        code = code or WITHHELD
        kept[WITHHELD] = str(len(evidence) - len(kept))
    return {**said, "code": code, "evidence": kept}


def _names(text: str, reference: Reference) -> bool:
    """Whether the text has the reference's id in it; shorter ids can't be told from a count."""
    if len(reference.id) < _SHORTEST:
        return False
    # Few texts contain it at all, and that is known sooner than an expression is made for each id.
    return reference.id in text and re.search(rf"(?<!\w){re.escape(reference.id)}(?!\w)", text) is not None


def _event_id(cause: str, kind: str, said: Mapping[str, Any], references: tuple[Reference, ...]) -> str:
    content = {name: value for name, value in said.items() if name not in _NOT_SAID and value is not None}
    clear = json.dumps(content, sort_keys=True, default=list).encode() + b"\0" + pack_references(references)
    return hashlib.sha256(f"{cause}\0{kind}\0".encode() + clear).hexdigest()
