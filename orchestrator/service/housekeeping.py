"""What is thrown away, and when: the installation's retention, applied now and then."""

from collections.abc import Callable

from orchestrator.bus.port import Bus, BusUnavailable
from orchestrator.service.dead_letters import open_letters
from orchestrator.service.early import AWAITED
from orchestrator.service.held import held
from orchestrator.service.needed import is_read
from orchestrator.service.orchestrator import GROUP
from orchestrator.settings import Retention, micros
from orchestrator.store import (
    AskedRequests,
    Store,
    destroy_orphans,
    forget_subjects,
    orphans,
    purge_inbox,
    purge_requests,
)
from schemas import topics

EVERY = 3600 * 1_000_000

#: Under which consumer's name the store remembers the mails that workers sent to agencies.
AGENCY_MAILS = "agency-mails"
#: Whose events come from the bus, and can't come again when its records are gone.
READERS = ("orchestrator", "mailbox", AGENCY_MAILS, AWAITED)
#: What must be remembered for as long as a request is: links that were used, dead letters dealt with.
LASTING = ("links", "dead-letters", "broken-documents")

_DEAD = (topics.dead_letters(topics.REQUESTS),)
_WITH_REQUESTS = (topics.REQUESTS, *_DEAD)


class Housekeeping:
    """Forgets events, records, subjects and requests, each after its time, and destroys keys whose request
    can come no more. `trim_bus` is the embedded bus's own: it takes the times before which messages and dead
    letters go. `is_plausible` says whether anything may be destroyed by the time that it is.
    """

    def __init__(
        self,
        *,
        store: Store,
        bus: Bus,
        retention: Retention,
        trim_bus: Callable[[int, int], object] = lambda messages, dead_letters: None,
        is_plausible: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store = store
        self._bus = bus
        self._retention = retention
        self._trim_bus = trim_bus
        self._is_plausible = is_plausible
        self._done_at = -EVERY

    def step(self) -> None:
        """Does its round when an hour has passed since the last, unless the time can't be believed: whatever
        is kept would seem to be past its time under a clock that is ahead.
        """
        now = self._store.now()
        # A round that is still to come was done under a clock that has been put back since.
        if 0 <= now - self._done_at < EVERY or not self._is_plausible():
            return
        self._done_at = now
        keep = self._retention
        purge_inbox(self._store, now - micros(keep.events), READERS)
        purge_inbox(self._store, now - micros(keep.requests), LASTING)
        self._destroy_orphans(now - micros(keep.events))
        forget_subjects(self._store, now - micros(keep.subject_digest))
        purge_requests(self._store, now - micros(keep.requests))
        AskedRequests(self._store).purge_unpublished(now - micros(keep.events))
        self._trim_bus(now - micros(keep.messages), now - micros(keep.dead_letters))

    def _destroy_orphans(self, before: int) -> None:
        """Destroy the keys of requests that were never opened, unless they still can be: a record of theirs
        waits in the outbox, was not read yet, or is a dead letter that nobody has dealt with. A dead letter
        that names no request may be of any.
        """
        # In this order: a record leaves the outbox for the bus, and a dead letter comes after its record.
        found = orphans(self._store, before)
        if not found:
            return
        try:
            there = held(self._bus, _WITH_REQUESTS, self._store.positions(GROUP))
            named = {letter.delivery.key for letter in open_letters(self._store, self._bus, _DEAD)}
            has_moved = self._bus.ends(_WITH_REQUESTS) != there.ends
        except BusUnavailable:
            return
        if not (has_moved or not is_read(self._store, there) or "" in named):
            destroy_orphans(self._store, found - named, before)
