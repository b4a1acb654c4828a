"""Requests that were accepted and that nobody has opened: said within minutes, by id.

What a door has accepted has a key filed, or a record in the outbox. The orchestrator opens it within seconds.
One that stays unopened has a record that was lost, or that another installation has read.
"""

import logging
from typing import Final

from orchestrator.store import Store

_logger = logging.getLogger(__name__)

#: How long a request may be on its way before somebody should look.
PATIENCE: Final = 600 * 1_000_000
_EVERY: Final = 60 * 1_000_000


class Unopened:
    """Looks once a minute. Belongs to one thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._due_at = 0
        self._said: frozenset[str] = frozenset()

    def step(self) -> None:
        """Log each request once that has been unopened for longer than PATIENCE."""
        now = self._store.now()
        if self._due_at - _EVERY <= now < self._due_at:
            return
        self._due_at = now + _EVERY
        late = {one: at for one, at in self._store.unopened().items() if now - at > PATIENCE}
        for request_id in sorted(late.keys() - self._said):
            seconds = (now - late[request_id]) // 1_000_000
            _logger.error("request_not_opened", extra={"request_id": request_id, "seconds": seconds})
        self._said = frozenset(late)
