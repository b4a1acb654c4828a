"""Who reads which partitions: evenly within each topic, and with as little moved as that allows."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.bus.kafka_spread import Place, handed_out, spread

TOPICS = {"busy": range(12), "quiet": range(12), "small": range(3), "none": range(0)}
PLACES = [(topic, number) for topic, numbers in TOPICS.items() for number in numbers]
MEMBERS = st.sets(st.sampled_from("abcdefg"), min_size=1)


@st.composite
def groups(draw: st.DrawFn) -> tuple[dict[str, set[str]], dict[str, set[Place]]]:
    """What members read and have; some of it twice, or of what they don't read any more."""
    members = sorted(draw(MEMBERS))
    reads = {one: draw(st.sets(st.sampled_from(sorted(TOPICS)), min_size=1)) for one in members}
    has = {one: draw(st.sets(st.sampled_from(PLACES), max_size=20)) for one in members}
    return reads, has


def counts(topic: str, shares: dict[str, set[Place]], reads: dict[str, set[str]]) -> list[int]:
    return [
        sum(place[0] == topic for place in shares[member])
        for member, names in reads.items()
        if topic in names
    ]


@given(groups())
def test_every_partition_has_one_reader_of_its_topic(
    group: tuple[dict[str, set[str]], dict[str, set[Place]]],
) -> None:
    """And none of a topic's readers has two more than another."""
    reads, has = group
    shares = spread(TOPICS, reads, has)
    read = set().union(*reads.values())
    given_out = Counter(place for places in shares.values() for place in places)
    assert Counter(place for place in PLACES if place[0] in read) == given_out
    assert all(place[0] in reads[member] for member, places in shares.items() for place in places)
    for topic in read:
        each = counts(topic, shares, reads)
        assert max(each) - min(each) <= 1


@given(MEMBERS, st.data())
def test_where_all_read_the_same_nobody_has_two_more_altogether(
    members: set[str], data: st.DataObject
) -> None:
    """Whoever has one more of one topic is the last to have one more of the next."""
    has = {one: data.draw(st.sets(st.sampled_from(PLACES), max_size=20)) for one in sorted(members)}
    shares = spread(TOPICS, {one: TOPICS.keys() for one in has}, has)
    totals = [len(places) for places in shares.values()]
    assert max(totals) - min(totals) <= 1


@given(groups())
def test_it_is_reached_in_two_rounds_and_then_stays(
    group: tuple[dict[str, set[str]], dict[str, set[Place]]],
) -> None:
    """In the first nobody gets what another one has; who has more than its share gives it up. In the second
    everything is somebody's, and nothing moves any more.
    """
    reads, has = group
    first = handed_out(has, spread(TOPICS, reads, has))
    for member, places in first.items():
        others = set().union(*(held for other, held in has.items() if other != member))
        assert set() == places & others
    second = spread(TOPICS, reads, first)
    assert second == handed_out(first, second)
    assert second == spread(TOPICS, reads, second)


def test_one_more_takes_its_part_of_each_topic_and_no_more_is_moved() -> None:
    """Of the busy topic as of the quiet one."""
    everything = {place for place in PLACES if place[0] != "small"}
    reads: dict[str, set[str]] = {"a": {"busy", "quiet"}, "b": {"busy", "quiet"}}
    shares = spread(TOPICS, reads, {"a": everything, "b": set()})
    assert [6, 6] == counts("busy", shares, reads) == counts("quiet", shares, reads)
    with_a_third = spread(TOPICS, reads | {"c": {"busy", "quiet"}}, shares | {"c": set()})
    assert with_a_third["a"] < shares["a"]
    assert with_a_third["b"] < shares["b"]
    assert 8 == len(with_a_third["c"])
