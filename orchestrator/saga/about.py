"""What an answer counts for: the identifiers and records it was about, and the places where somebody looked.

A command carries the person's identifiers and references of records, sealed. Its answer names them by marks.
Identifiers may join while it is under way, and records may be found, so that an answer to an older question
must not pass for one to a newer: it counts for what it was about, and for no more.

A search and the proof after it report each place of the system. A proof that went less far than the search
shows nothing about the rest.
"""

import hashlib
from typing import Final, Literal

from orchestrator.saga.events import Confirmed
from orchestrator.saga.model import Place, Saga, Step

#: The answer was about fewer identifiers or records than are known, or does not say what it was about.
ABOUT_LESS: Final = "answer_about_less"
#: The proof looked in fewer places than the search, or by fewer identifiers.
FEWER_PLACES: Final = "proof_in_fewer_places"
Shortfall = Literal["answer_about_less", "proof_in_fewer_places"]


def mark(sealed: bytes) -> str:
    """Return a name for sealed bytes, the same that the worker makes (`schemas.messages.mark`)."""
    return hashlib.sha256(sealed).hexdigest()[:32]


def is_about_the_person(saga: Saga, event: Confirmed) -> bool:
    """Say whether an answer was about the identifiers as they are now."""
    return event.about[:1] == (mark(saga.identifiers),)


def is_about_all(saga: Saga, step: Step, event: Confirmed) -> bool:
    """Say whether an answer was about all that is known: the identifiers, and every reference.

    A party's word has no marks. The link that it came by tells whether the party was asked about as much.
    """
    if event.attempt < step.asked_from:
        return False
    if event.command_id is None:
        return True
    named = set(event.about[1:])
    return is_about_the_person(saga, event) and all(mark(one) in named for one in step.references)


def shortfall(saga: Saga, step: Step, event: Confirmed) -> Shortfall | None:
    """Return why an answer can't end a step, or None where it can."""
    if not is_about_all(saga, step, event):
        return ABOUT_LESS
    if event.command_id is not None and not _goes_as_far(event.places, step.searched):
        return FEWER_PLACES
    return None


def _goes_as_far(places: tuple[Place, ...], searched: tuple[Place, ...]) -> bool:
    """Say whether each place that was searched is among those looked at, by as many identifiers."""
    looked = {one.name: one for one in places if one.looked}
    return all(
        one.name in looked and all(looked[one.name].by.get(kind, 0) >= n for kind, n in one.by.items())
        for one in searched
        if one.looked
    )


def furthest(searched: tuple[Place, ...], also: tuple[Place, ...]) -> tuple[Place, ...]:
    """Return the places of two searches, each as far as either of them went."""
    found = {one.name: one for one in searched}
    for one in also:
        other = found.get(one.name)
        if other is None or not other.looked:
            found[one.name] = one
        elif one.looked:
            by = {kind: max(one.by.get(kind, 0), other.by.get(kind, 0)) for kind in {**one.by, **other.by}}
            found[one.name] = Place(name=one.name, looked=True, by=by)
    return tuple(found.values())


def latest(known: tuple[Place, ...], said: tuple[Place, ...]) -> tuple[Place, ...]:
    """Return every place that is known, each with what was said of it last."""
    return tuple({one.name: one for one in (*known, *said)}.values())
