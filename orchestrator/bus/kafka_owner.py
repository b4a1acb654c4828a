"""Which installation a Kafka is of: one record on a compacted topic.

The oldest record there says it. Its key is the installation's id: compaction, which keeps the latest record
of each key, can't take it away in favour of a later claim. Two that claim at once find the same oldest.
"""

from orchestrator.bus.port import Bus, Record
from schemas import topics


class BusOfAnother(Exception):
    """This Kafka belongs to another installation of Radera. Two on one Kafka read each other's requests, and
    neither can open them: give this one a Kafka of its own. If the other one is gone for good, delete the
    topic erasure.installation.v1, run `radera topics apply`, and start the orchestrator."""

    def __str__(self) -> str:
        return " ".join((self.__doc__ or "").split())


class BusUnclaimed(Exception):
    """Nothing says whose this Kafka is. Run `radera topics apply`, which makes the topic
    erasure.installation.v1, and start the orchestrator, which claims it for this installation."""

    def __str__(self) -> str:
        return " ".join((self.__doc__ or "").split())


def owner(bus: Bus) -> str | None:
    """Return the id of the installation that claimed this bus first; None if none did.

    Raises:
        BusUnavailable: it can't be told.
    """
    return next((record.key for record in bus.browse([topics.INSTALLATION])), None)


def claim(bus: Bus, installation: str) -> None:
    """Have the bus belong to the installation, if it belongs to none.

    Raises:
        BusOfAnother: it belongs to another one.
        BusUnclaimed: nobody has made the topic.
        BusUnavailable: it can't be told.
    """
    if owner(bus) is None:
        if bus.missing([topics.INSTALLATION]):
            raise BusUnclaimed
        bus.publish([Record(topic=topics.INSTALLATION, key=installation, value=installation.encode())])
    if owner(bus) != installation:
        raise BusOfAnother
