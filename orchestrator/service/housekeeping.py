"""What is thrown away, and when: the installation's retention, applied now and then."""

from collections.abc import Callable

from orchestrator.settings import Retention, micros
from orchestrator.store import (
    AskedRequests,
    Store,
    destroy_orphans,
    forget_subjects,
    purge_inbox,
    purge_requests,
)

EVERY = 3600 * 1_000_000

#: Whose events come from the bus, and can't come again when its records are gone.
READERS = ("orchestrator", "mailbox")
#: What must be remembered for as long as a request is: links that were used, dead letters dealt with.
LASTING = ("links", "dead-letters")


class Housekeeping:
    """Forgets events, records, subjects and requests, each after its time, and destroys keys that belong to
    no request. `trim_bus` is the embedded bus's own: it takes the times before which messages and dead
    letters go.
    """

    def __init__(
        self,
        *,
        store: Store,
        retention: Retention,
        trim_bus: Callable[[int, int], object] = lambda messages, dead_letters: None,
    ) -> None:
        self._store = store
        self._retention = retention
        self._trim_bus = trim_bus
        self._due_at = 0

    def step(self) -> None:
        """Does its round when an hour has passed since the last."""
        now = self._store.now()
        if now < self._due_at:
            return
        self._due_at = now + EVERY
        keep = self._retention
        purge_inbox(self._store, now - micros(keep.events), READERS)
        purge_inbox(self._store, now - micros(keep.requests), LASTING)
        destroy_orphans(self._store, now - micros(keep.events))
        forget_subjects(self._store, now - micros(keep.subject_digest))
        purge_requests(self._store, now - micros(keep.requests))
        AskedRequests(self._store).purge_unpublished(now - micros(keep.events))
        self._trim_bus(now - micros(keep.messages), now - micros(keep.dead_letters))
