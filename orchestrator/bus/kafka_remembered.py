"""Which topics a group has read, remembered elsewhere than on Kafka.

Kafka deletes a group's positions together with their topic. A reader that was down meanwhile would begin at
the oldest record of the new topic, which is right, and nobody would hear that what the old one held is gone.
So the installation's database notes, for each group,

* the id of each topic that came to it: another one under the same name is another topic;
* for a group that keeps its positions on Kafka, where it had one: a position that is gone although the topic
  is the same was deleted, or has expired, and reading begins again at the oldest record.

What is found is told first and noted afterwards, so that whoever dies in between tells it again.
"""

from collections.abc import Callable, Collection
from typing import Protocol

from orchestrator.bus.kafka_client import Place
from orchestrator.bus.kafka_marks import Why


class Notes(Protocol):
    """Keeps names for each group, in the installation's database."""

    def of(self, group: str) -> set[str]:
        """Return the names that were noted. Raises BusUnavailable."""
        ...

    def add(self, group: str, names: Collection[str]) -> None:
        """Note these, some of which may be known. Raises BusUnavailable."""
        ...


class Remembered:
    """What is remembered of one group's topics; without `notes` nothing is."""

    def __init__(self, notes: Notes | None, group: str, *, keeps_positions: bool) -> None:
        self._notes = notes
        self._group = group
        self._keeps_positions = keeps_positions
        self._known: set[str] = set()

    def changes(
        self, places: Collection[Place], stored: Collection[Place], topic_id: Callable[[str], str]
    ) -> dict[Place, Why]:
        """Return which of these partitions are not what the group has read, or have lost its position;
        `stored` are those where it has one.
        """
        if self._notes is None:
            return {}
        self._known = self._notes.of(self._group)
        read = {name.split("/")[0] for name in self._known}
        found: dict[Place, Why] = {}
        for place in places:
            topic, id_ = place[0], topic_id(place[0])
            if not id_:
                continue
            if topic in read and _of_topic(topic, id_) not in self._known:
                found[place] = Why.REBUILT
            elif place not in stored and _of_place(place, id_) in self._known:
                found[place] = Why.FORGOTTEN
        return found

    def note(
        self, places: Collection[Place], stored: Collection[Place], topic_id: Callable[[str], str]
    ) -> None:
        """Remember the topics of these partitions, and those where the group has a position."""
        if self._notes is None:
            return
        names = {_of_topic(topic, id_) for topic, _ in places if (id_ := topic_id(topic))}
        if self._keeps_positions:
            names |= {_of_place(place, id_) for place in stored if (id_ := topic_id(place[0]))}
        if new := names - self._known:
            self._notes.add(self._group, new)
            self._known |= new


def _of_topic(topic: str, topic_id: str) -> str:
    return f"{topic}/{topic_id}"


def _of_place(place: Place, topic_id: str) -> str:
    return f"{place[0]}/{topic_id}/{place[1]}"
