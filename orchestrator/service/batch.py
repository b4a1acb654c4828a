"""What the orchestrator gathers within one transaction."""

import logging
from collections import Counter
from dataclasses import dataclass, field

from orchestrator.metrics import Metrics
from orchestrator.saga.decide import Decision
from orchestrator.saga.events import Event
from orchestrator.saga.model import Saga
from orchestrator.service.inbound import Inbound
from orchestrator.store import Correlation, Outgoing

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Batch:
    """What a transaction gathers before it writes."""

    sagas: dict[str, Saga | None]
    changed: dict[str, Saga] = field(default_factory=dict)
    decisions: list[tuple[Event, Decision]] = field(default_factory=list)
    dead: list[tuple[Inbound, str]] = field(default_factory=list)
    records: list[Outgoing] = field(default_factory=list)
    correlations: list[Correlation] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    handled: list[tuple[str, bool]] = field(default_factory=list)
    early: list[Inbound] = field(default_factory=list)
    unasked: list[Inbound] = field(default_factory=list)
    quarantined: int = 0

    def tell(self, metrics: Metrics) -> None:
        """Count what was done and log what nobody could read, once it is committed."""
        for (type_, repeated), count in Counter(self.handled).items():
            metrics.event_handled(type_, count, repeated=repeated)
        for one, code in self.dead:
            metrics.dead_letter(one.delivery.topic)
            _logger.warning("dead_letter", extra={"topic": one.delivery.topic, "code": code})
        if self.unasked:
            metrics.callbacks_unasked(len(self.unasked))
            _logger.info("callbacks_unasked", extra={"count": len(self.unasked)})
        for action in self.refused:
            metrics.decision_refused(action)
        for _ in range(self.quarantined):
            metrics.saga_quarantined()
