"""What still needs master keys: the one answer for whoever destroys them, or lets them be destroyed.

A generation of the master key is needed by

* the open requests' keys that it wraps;
* requests and callbacks that were taken in and not read: a request's key may have come with its record, and
  callbacks are sealed to the installation. They wait in the outbox, or on the bus beyond where the database
  says that its orchestrators have read (for callbacks, where the workers' group has);
* dead letters that nobody has dealt with, on any topic that the bus has.

What a record on the bus is sealed under can't be told without reading it, so that one which waits needs every
generation.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from orchestrator.bus.port import Bus
from orchestrator.privacy.keyring import generation_of
from orchestrator.service.dead_letters import Letter, letter_topics, open_letters
from orchestrator.service.held import Held, held
from orchestrator.service.orchestrator import GROUP
from orchestrator.store import Store, StoredKeys
from schemas.topics import REQUESTS, is_of_callbacks, is_of_dead_letters

_POLL = 0.2


@dataclass(frozen=True, slots=True)
class Needs:
    """What needs master keys. `keys` and `letters` count by generation; a letter under None may be under any.
    `waiting` are topics of which something was not read.
    """

    keys: dict[int, int] = field(default_factory=dict)
    waiting: tuple[str, ...] = ()
    letters: dict[int | None, int] = field(default_factory=dict)

    def keys_of(self, generations: Collection[int]) -> int:
        """How many open keys need any of these generations."""
        return sum(count for number, count in self.keys.items() if number in generations)

    def letters_of(self, generations: Collection[int]) -> int:
        """How many dead letters need any of these generations."""
        return sum(count for number, count in self.letters.items() if number is None or number in generations)

    def is_needed(self, generation: int) -> bool:
        """Whether anything needs this generation."""
        return bool(self.waiting or self.keys_of([generation]) or self.letters_of([generation]))


def what_needs_keys(
    store: Store,
    bus: Bus,
    keys: StoredKeys,
    *,
    named: Collection[str],
    workers: str,
    patience: float,
    now: Callable[[], float],
) -> Needs:
    """Return what needs master keys, after waiting up to `patience` seconds until all is read that was there
    at the beginning. `named` are the topics of the settings, which are looked at besides those that the bus
    has; `workers` is the workers' group; `now` is a steady clock. Raises BusUnavailable.
    """
    until = now() + patience
    # In the order in which records travel: what has left one place is looked for in the next.
    taken_in = store.now()
    while waiting := _unsent(store, taken_in):
        if now() > until:
            break
        time.sleep(_POLL)
    there = held(bus, [REQUESTS], store.positions(GROUP))
    callbacks = sorted(filter(is_of_callbacks, {*named, *bus.topics()}))
    while not waiting:
        unread = [topic for topic in callbacks if bus.backlog(workers, [topic])]
        if not is_read(store, there):
            unread.append(REQUESTS)
        if not unread:
            break
        if now() > until:
            waiting = unread
        else:
            time.sleep(_POLL)
    letters = Counter(generation_of(letter.delivery.value) for letter in _letters(store, bus, named))
    return Needs(keys.generations(), tuple(waiting), dict(letters))


def _letters(store: Store, bus: Bus, named: Collection[str]) -> Iterator[Letter]:
    return open_letters(store, bus, letter_topics(bus, named))


def is_read(store: Store, there: Held) -> bool:
    """Whether the orchestrators of this database have read all that the topic of requests held."""
    return all(topic != REQUESTS for topic, _ in there.unread(store.positions(GROUP)))


def _unsent(store: Store, until: int) -> list[str]:
    """The topics with records in the outbox, from `until` or before, that only master keys can open."""
    return sorted(
        topic
        for topic in store.unsent_topics(until)
        if topic == REQUESTS or is_of_callbacks(topic) or is_of_dead_letters(topic)
    )
