"""Commands that wait in the outbox because their topic is missing, or must not be written to.

The relay leaves them there and sends everything else. Each request concerned is asked about within seconds,
with the reason; once its command has left the outbox the question goes by itself.
"""

from collections import defaultdict
from collections.abc import Callable, Collection

from orchestrator.saga.escalations import NOT_SENT
from orchestrator.saga.events import CommandsUnsent
from orchestrator.saga.model import Saga
from orchestrator.service.missing import open_requests
from orchestrator.store import Store


class Unsent:
    """Compares the outbox with what was asked; `ask` applies an event to each request. Belongs to the
    orchestrator's thread.
    """

    def __init__(
        self, store: Store, ask: Callable[[Collection[str], Callable[[Saga], CommandsUnsent]], object]
    ) -> None:
        self._store = store
        self._ask = ask
        # What was asked about; None until what an earlier process has asked was looked for.
        self._asked: dict[str, frozenset[str]] | None = None

    def step(self, missing: Collection[str]) -> None:
        """Ask about what has changed; `missing` are the topics that can't be written to."""
        known = self._known_before() if self._asked is None else self._asked
        if not missing and not known:
            self._asked = known
            return
        found: defaultdict[str, set[str]] = defaultdict(set)
        for topic, request_id, command in self._store.unsent_commands():
            # A topic that is asked about again just now is not among the missing ones for a moment.
            if topic in missing or command in known.get(request_id, ()):
                found[request_id].add(command)
        now = {request_id: frozenset(commands) for request_id, commands in found.items()}
        nothing: frozenset[str] = frozenset()
        changed = {
            request_id: now.get(request_id, nothing)
            for request_id in now.keys() | known.keys()
            if now.get(request_id, nothing) != known.get(request_id)
        }
        if changed:
            self._ask(
                changed,
                lambda saga: CommandsUnsent(
                    event_id=f"unsent/{saga.version}",
                    request_id=saga.request_id,
                    commands=changed[saga.request_id],
                ),
            )
        self._asked = now

    def _known_before(self) -> dict[str, frozenset[str]]:
        """The open requests with such a question, and their latest commands."""
        return {
            saga.request_id: frozenset(filter(None, (step.command_id for step in saga.steps)))
            for saga in open_requests(self._store)
            if any(one.reason == NOT_SENT for one in saga.escalations)
        }
