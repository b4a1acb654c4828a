"""The dead letters that a worker leaves: records that it could not read, or could not do anything with.

Their payload is sealed to the installation, and nothing of what was in it is shown.
"""

import logging
import re
from typing import Any, Final, Protocol

from orchestrator.bus.dead_letters import dead_letter_headers
from orchestrator.bus.port import Delivery, Record
from schemas import topics

DEAD_LETTER: Final = "dead-letter"
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_logger = logging.getLogger(__name__)


class InstallationSeal(Protocol):
    """Seals to, and opens for, the installation itself."""

    def seal_installation(self, purpose: str, data: bytes) -> bytes: ...

    def unseal_installation(self, purpose: str, sealed: bytes) -> bytes: ...


class CountsLetters(Protocol):
    """Counts dead letters by the topic that they came from."""

    def dead_letter(self, topic: str) -> None: ...


class Letters:
    """Makes a worker's dead letters."""

    def __init__(self, installation: InstallationSeal, metrics: CountsLetters | None) -> None:
        self._installation = installation
        self._metrics = metrics

    def dead(self, delivery: Delivery, code: str) -> Record:
        """Return the dead letter for a record, counted and logged."""
        if self._metrics is not None:
            self._metrics.dead_letter(delivery.topic)
        place: dict[str, Any] = {
            "topic": delivery.topic,
            "partition": delivery.partition,
            "offset": delivery.offset,
        }
        _logger.error("dead_letter", extra={**place, "code": code})
        return Record(
            topic=topics.dead_letters(delivery.topic),
            # A stranger's record may be keyed by a name.
            key=delivery.key if is_request_id(delivery.key) else "",
            value=self._sealed(delivery.value),
            headers=dead_letter_headers(delivery, code, self._sealed),
        )

    def _sealed(self, data: bytes) -> bytes:
        return self._installation.seal_installation(DEAD_LETTER, data)


def is_request_id(text: str) -> bool:
    """Return whether a text has the form of a request's id."""
    return _UUID.fullmatch(text) is not None
