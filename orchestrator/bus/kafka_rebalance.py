"""How a subscription on Kafka hears that partitions come and go."""

import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from kafka import ConsumerRebalanceListener, TopicPartition

from orchestrator.bus.kafka_client import Consumer, Place

_logger = logging.getLogger(__name__)


class Rebalanced(Protocol):
    """Whoever is told of a rebalance. `is_confused` is set where telling it failed."""

    is_confused: bool

    def came(self, consumer: Consumer, places: Iterable[Place]) -> None:
        """These partitions are ours now."""

    def goes(self, consumer: Consumer, places: Iterable[Place]) -> None:
        """These partitions are about to be another's."""

    def lost(self, consumer: Consumer, places: Iterable[Place]) -> None:
        """These partitions may be another's already."""


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # the library has no types
    """Hears of rebalances, in the library's thread, while the subscription's waits in `poll` or `close`."""

    def __init__(self, subscription: Rebalanced) -> None:
        self._subscription = subscription
        self.consumer: Consumer | None = None

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._tell(self._subscription.came, assigned)

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._tell(self._subscription.goes, revoked)

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self._tell(self._subscription.lost, lost)

    def _tell(
        self, told: Callable[[Consumer, Iterable[Place]], None], partitions: Iterable[TopicPartition]
    ) -> None:
        assert self.consumer is not None  # noqa: S101 - set before the consumer can hear of partitions
        try:
            told(self.consumer, [(one.topic, one.partition) for one in partitions])
        except Exception as error:
            # Raised in there, it would come out of some later poll.
            _logger.warning("bus_rebalance_failed", extra={"type": type(error).__name__})
            self._subscription.is_confused = True
