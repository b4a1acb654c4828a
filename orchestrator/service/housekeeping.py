"""What is thrown away, and when: the installation's retention, applied now and then."""

from collections.abc import Callable

from orchestrator.settings import Retention, micros
from orchestrator.store import Store, forget_subjects, purge_inbox, purge_outbox_sent, purge_requests

EVERY = 3600 * 1_000_000


class Housekeeping:
    """Forgets events, records, subjects and requests, each after its time. `trim_bus` is the embedded
    bus's own.
    """

    def __init__(
        self, *, store: Store, retention: Retention, trim_bus: Callable[[int], object] = lambda _: None
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
        purge_inbox(self._store, now - micros(self._retention.events))
        purge_outbox_sent(self._store, now - micros(self._retention.messages))
        forget_subjects(self._store, now - micros(self._retention.subject_digest))
        purge_requests(self._store, now - micros(self._retention.requests))
        self._trim_bus(now - micros(self._retention.messages))
