"""What the saga of one life was told, kept apart from what it made of it.

The judges hold the saga's state against this and against the truth. A worker's answer that was parked in
quarantine was not heard, since its release asks again. A party's word was heard wherever it went.
"""

from dataclasses import dataclass, field

from orchestrator.saga.decide import Decision
from orchestrator.saga.events import Confirmed, Decided, Event, RequestReceived
from orchestrator.saga.model import Ended, Saga, StepState
from tests.oracle.truth import AMBIGUOUS, NOT_ASKED, Record
from tests.oracle.world import World


@dataclass(frozen=True, slots=True)
class Word:
    """What a controller said. `about` are the sealed identifiers that it was asked about, if it was asked."""

    order: int
    erases: bool
    about: bytes | None
    said_at: int | None


@dataclass(frozen=True, slots=True)
class Found:
    """References that were brought to the saga.

    With `to_erase` it has to see to them: their records are no newer than the first erasure it knew of by
    then. A search shows what was there when it looked. A proof shows what is older than the time that it took
    for that of the erasure; if that was too late a time, it has to look again, and names them again.
    """

    sealed: bytes
    seen_at: int
    to_erase: bool


@dataclass(slots=True)
class Told:
    """What was told about one system.

    `erased_at` is the first erasure since the step was last begun anew. `ambiguous` is how many records could
    be several people's, by the latest look; `agreed` how many of them the DPO agreed to have erased, until
    that is done. `contradicts` says that by the times in a controller's words another one was the last, which
    says the opposite, and nobody has decided about it. `unasked_since` is when the system was first left
    alone, since it last answered. `looked_until` is until when the look, or the word, that ended the step
    answers what was seen; `spoke_at` is when a party spoke last.
    """

    found: list[Found] = field(default_factory=list)
    words: dict[int, Word] = field(default_factory=dict)
    erased_at: int | None = None
    ambiguous: int = 0
    agreed: int = 0
    contradicts: bool = False
    unasked_since: int | None = None
    looked_until: int = 0
    spoke_at: int = 0

    @property
    def latest_word(self) -> Word | None:
        return self.words[max(self.words)] if self.words else None


class Testimony:
    """Everything that was told, system by system, and which commands have been answered."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.told: dict[str, Told] = {}
        self.answered: set[str] = set()
        self.verified: frozenset[str] = frozenset()

    def about(self, system: str) -> Told:
        told = self.told.get(system)
        if told is None:
            told = self.told[system] = Told()
        return told

    def records(self, system: str) -> set[Record]:
        """Return the records that the saga was told of in a system."""
        sealed = self.world.sealed
        return {record for one in self.about(system).found for record in sealed.records(one.sealed)}

    # --- hearing ---

    def hear(self, before: Saga | None, event: Event, decision: Decision, now: int) -> None:
        match event:
            case Confirmed(system=str() as system):
                self._hear_confirmation(before, system, event, decision, now)
            case RequestReceived():
                self._hear_request(before, event, decision)
            case Decided():
                self._hear_decision(before, event, decision)
            case _:
                pass
        self._note_ends(before, event, decision.saga)

    def _hear_confirmation(
        self, before: Saga | None, system: str, event: Confirmed, decision: Decision, now: int
    ) -> None:
        told = self.about(system)
        if event.command_id is None:
            self._hear_party(told, system, event)
        elif decision.parks_event is not None:
            return
        else:
            self.answered.add(event.command_id)
        if event.references is not None and event.kind in ("located", "still_present"):
            created_by = event.occurred_at
            if event.kind == "still_present":
                created_by = self.world.by_id[event.command_id or ""].command.erased_at or created_by
            to_erase = told.erased_at is None or created_by <= told.erased_at
            told.found.append(Found(event.references, event.occurred_at, to_erase))
        step = before.step(system) if before is not None else None
        is_current = step is not None and step.command_id == event.command_id
        if event.code != NOT_ASKED:
            told.unasked_since = None
        elif told.unasked_since is None and is_current:
            told.unasked_since = now
        asks = any(entry.data.get("reason") == "ambiguous" for entry in decision.entries)
        if event.code == AMBIGUOUS and event.references is None and (is_current or asks):
            told.ambiguous, told.agreed = event.found, 0
        if event.kind in ("accepted", "party_erased") and not self.is_about_less(event, decision.saga):
            earlier, told.agreed = told.erased_at, 0
            told.erased_at = event.occurred_at if earlier is None else min(earlier, event.occurred_at)

    def is_about_less(self, event: Confirmed, saga: Saga) -> bool:
        """Tell whether an answer is about other identifiers than the saga has now.

        A vendor's own event is about no asking, so that it can't be about less.
        """
        if event.command_id is not None:
            return event.about[:1] != (self.world.sealed.mark(saga.identifiers),)
        link = self.world.link(event.system or "", event.attempt)
        return link is not None and link.identifiers != saga.identifiers

    def _hear_party(self, told: Told, system: str, event: Confirmed) -> None:
        told.spoke_at = event.occurred_at
        if event.kind in ("instructed", "refused") and event.order is not None:
            link = self.world.link(system, event.attempt)
            about = None if link is None else link.identifiers
            told.words[event.order] = Word(event.order, event.kind == "instructed", about, event.said_at)
            told.contradicts = are_out_of_order(list(told.words.values()))

    def _hear_request(self, before: Saga | None, event: RequestReceived, decision: Decision) -> None:
        identifiers = self.world.sealed.identifiers(decision.saga.identifiers)
        if before is None:
            self.verified = identifiers if event.verified else frozenset()
        elif before.identifiers != decision.saga.identifiers:
            self.verified |= identifiers if event.verified else frozenset()
            for told in self.told.values():
                told.erased_at, told.agreed, told.unasked_since = None, 0, None

    def _hear_decision(self, before: Saga | None, event: Decided, decision: Decision) -> None:
        question = before.escalation(event.escalation_id) if before is not None else None
        if question is None or not any(entry.action == "decided" for entry in decision.entries):
            return
        if event.action == "verify" and before is not None:
            self.verified |= self.world.sealed.identifiers(before.identifiers)
        looks_anew = event.action == "erase" or question.reason == "identifier_missing"
        if question.system is None:
            for every in self.told.values():
                every.unasked_since = None
            return
        told = self.about(question.system)
        told.contradicts, told.unasked_since = False, None
        told.agreed = told.ambiguous if (question.reason, event.action) == ("ambiguous", "erase") else 0
        if looks_anew:
            told.erased_at = None

    def _note_ends(self, before: Saga | None, event: Event, after: Saga) -> None:
        if before is None or after.steps is before.steps:
            return
        for was, step in zip(before.steps, after.steps, strict=True):
            if isinstance(step.state, Ended) and end_of(was.state) != end_of(step.state):
                told = self.about(step.system)
                told.agreed = 0
                # A word that was kept while the request was set aside ends a step at the release.
                told.looked_until = event.occurred_at if isinstance(event, Confirmed) else told.spoke_at

    # --- the controller's words ---

    def may_erase(self, system: str, identifiers: bytes) -> bool:
        """Tell whether a controller's data may be erased now.

        It may when the controller said "erase" about these identifiers, and has not refused since. A request
        that came from the controller says "erase" by itself, before every other word.
        """
        words = self.about(system).words.values()
        refused = max((word.order for word in words if not word.erases), default=-1)
        is_processor = self.world.capacity == "processor"
        said = [word.order for word in words if word.erases and (is_processor or word.about == identifiers)]
        if is_processor:
            said.append(0)
        return bool(said) and max(said) > refused


def are_out_of_order(words: list[Word]) -> bool:
    """Tell whether the latest word by its own time says the opposite of the latest on arrival."""
    latest = max(words, key=lambda word: word.order)
    if latest.said_at is None:
        return False
    times = [(word.said_at, word.erases != latest.erases) for word in words if word.said_at is not None]
    said_at, is_opposite = max(times)
    return is_opposite and said_at > latest.said_at


def end_of(state: StepState) -> tuple[str, int] | None:
    """Return a step's end and its time, None where it has not ended; what contradicts it is left out."""
    return (state.end, state.at) if isinstance(state, Ended) else None
