"""Who of a group reads which partitions: each topic's are spread evenly over those who read the topic.

The library's own way evens out how many partitions a member has altogether. One topic may have nearly all of
a group's records, and then one member may have nearly all of that topic. Here the number is even within each
topic first, and as even as can be altogether. Who has a partition keeps it as long as that holds.

Partitions change hands in two rounds, as the protocol has it: who gives one up is told first, and joins anew;
then it is free (KIP-429, https://cwiki.apache.org/confluence/x/vAclBg).
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment

Place = tuple[str, int]


class SpreadAssignor(CooperativeStickyAssignor):  # type: ignore[misc]  # the library has no types
    """The protocol is the library's, and so is its name: members of either kind can be in one group."""

    def assign(self, cluster: Any, members: Iterable[Any]) -> dict[str, Any]:
        """What each member is told, by the one that the group's broker has chosen to say so."""
        said = {one.member_id: self.parse_member_metadata(one.metadata) for one in members}
        reads = {member: set(one.subscription) for member, one in said.items()}
        has = {
            member: {(place.topic, place.partition) for place in one.partitions}
            for member, one in said.items()
        }
        topics = {topic: cluster.partitions_for_topic(topic) or () for topic in set().union(*reads.values())}
        return {
            member: ConsumerProtocolAssignment(self.version, _by_topic(places), b"")
            for member, places in handed_out(has, spread(topics, reads, has)).items()
        }


def spread(
    topics: Mapping[str, Collection[int]],
    reads: Mapping[str, Collection[str]],
    has: Mapping[str, Collection[Place]],
) -> dict[str, set[Place]]:
    """What each member shall have in the end, of the partitions of `topics`; the rest is by member."""
    owner = _owners(has)
    found: dict[str, set[Place]] = {member: set() for member in reads}
    for topic, numbers in sorted(topics.items()):
        readers = sorted(member for member, names in reads.items() if topic in names)
        if not readers:
            continue
        held: dict[str, list[int]] = {member: [] for member in readers}
        for number in sorted(numbers):
            if owner.get((topic, number)) in held:
                held[owner[topic, number]].append(number)
        least, more = divmod(len(numbers), len(readers))
        # One more goes to those who have fewest so far; among them, to those who would have to give it up.
        # What is still on its way to somebody makes no difference, so that the next round says the same.
        first = sorted(readers, key=lambda one: (len(found[one]), len(held[one]) <= least, one))
        share = {member: least + (place < more) for place, member in enumerate(first)}
        kept = {member: held[member][: share[member]] for member in readers}
        free = sorted(set(numbers).difference(*kept.values()))
        for member in readers:
            wanted = share[member] - len(kept[member])
            found[member].update((topic, number) for number in (*kept[member], *free[:wanted]))
            free = free[wanted:]
    return found


def handed_out(
    has: Mapping[str, Collection[Place]], wanted: Mapping[str, Collection[Place]]
) -> dict[str, set[Place]]:
    """What of it can be handed out now: what nobody else has, or says that it has."""
    owner, claimed = _owners(has), {place for places in has.values() for place in places}
    return {
        member: {place for place in places if place not in claimed or owner.get(place) == member}
        for member, places in wanted.items()
    }


def _owners(has: Mapping[str, Collection[Place]]) -> dict[Place, str]:
    """Who has each partition; of two who say so, neither."""
    claims = Counter(place for places in has.values() for place in set(places))
    return {place: member for member, places in has.items() for place in places if claims[place] == 1}


def _by_topic(places: Iterable[Place]) -> list[tuple[str, list[int]]]:
    found: defaultdict[str, list[int]] = defaultdict(list)
    for topic, number in sorted(places):
        found[topic].append(number)
    return list(found.items())
