"""What comes in reaches the saga whole, under an id of its own, and for the request that it is about."""

from dataclasses import fields, replace
from typing import Any

import pytest

from orchestrator.bus.dead_letters import REPLAYED
from orchestrator.privacy import IDENTIFIERS, Digests, Exchange, Identifier, Identifiers, new_key, seal
from orchestrator.saga.about import mark
from orchestrator.saga.events import Confirmed, Decided, RequestReceived, RequestUnreadable
from orchestrator.service.inbound import WITHHELD, Inbound, Reader
from schemas import topics
from schemas.codec import encode
from schemas.messages import ClearIdentifier, Confirmation, Decision, Request
from tests.golden.samples import SAMPLES
from tests.unit.service_world import NOW, PERSON, World, delivered, world

__all__ = ["world"]

OTHER = "somebody.else@people.example"
#: Under which name a confirmation's field reaches the saga, where it is another one.
RENAMED = {"references": "sealed_references"}


def sample(kind: type[Any]) -> Any:
    return next(one for one in SAMPLES if isinstance(one, kind))


def asking(
    world: World, request: Request, *addresses: str, told_at: str | None = None, **changed: Any
) -> Request:
    """The same request, of these addresses, under the key that it has."""
    told = () if told_at is None else (Identifier("notice_to", told_at),)
    named = Identifiers((*(Identifier("email", one) for one in addresses), *told)).to_bytes()
    sealed = seal(world.keys.key_of(request.request_id), request.request_id, IDENTIFIERS, named)
    return request.model_copy(
        update={"event_id": f"{request.event_id}/again", "sealed_identifiers": sealed, **changed}
    )


def applied(world: World, *requests: Request) -> None:
    for one in requests:
        world.publish(topics.REQUESTS, encode(one))
        world.orchestrator.step(0.0)


# --- the same request once more ---


def test_more_identifiers_are_a_supplement(world: World) -> None:
    """The request repeats whom it named, and adds an address: all of it is looked for."""
    request = world.request()
    more = asking(world, request, PERSON, OTHER)
    applied(world, request, more)
    saga = world.store.saga(request.request_id)
    assert saga is not None
    assert more.sealed_identifiers == saga.identifiers
    assert "supplemented" in world.actions(request.request_id)


def test_who_adds_an_address_to_be_told_at_and_another_is_looked_for_anew(world: World) -> None:
    """Where the person is told concerns no system; the other address does."""
    request = world.request()
    applied(world, request, asking(world, request, PERSON, OTHER, told_at="told@people.example"))
    assert "supplemented" in world.actions(request.request_id)
    other = world.request()
    applied(world, other, asking(world, other, PERSON, told_at="told@people.example"))
    assert "supplemented" not in world.actions(other.request_id)


@pytest.mark.parametrize(
    ("addresses", "changed"),
    [
        ((OTHER,), {}),
        ((OTHER, "third@people.example"), {}),
        ((PERSON, OTHER), {"scope": ("crm",)}),
        ((PERSON, OTHER), {"capacity": "processor", "tenant": "acme"}),
        ((PERSON,), {"scope": ("crm",)}),
    ],
)
def test_whoever_names_others_or_asks_for_something_else_supplements_nothing(
    world: World, addresses: tuple[str, ...], changed: dict[str, Any]
) -> None:
    """Under an id that is known, another person or another scope is a question to the DPO. The request goes
    on as it was, and the record is kept.
    """
    request = world.request()
    applied(world, request, asking(world, request, *addresses, **changed))
    saga = world.store.saga(request.request_id)
    assert saga is not None
    assert request.sealed_identifiers == saga.identifiers
    assert ["request_id_conflict"] == [one.reason for one in saga.escalations]
    world.relay.step()
    assert 1 == len(world.records(topics.dead_letters(topics.REQUESTS)))


# --- what is sent again ---


def replayed(attempt: bytes, value: bytes, topic: str = topics.CONFIRMATIONS) -> Any:
    return replace(delivered(topic, value), headers=((REPLAYED, attempt),))


def test_each_replay_of_a_dead_letter_is_an_event_of_its_own(world: World) -> None:
    """The operator wants it applied now: neither the first time, nor the replay before, makes it a repeat."""
    value = encode(sample(Confirmation))
    read = [world.reader.read(one) for one in (delivered(topics.CONFIRMATIONS, value), replayed(b"1", value))]
    read.append(world.reader.read(replayed(b"2", value)))
    read.append(world.reader.read(replayed(b"2", value)))
    ids = [one.event.event_id for one in read if one.event is not None]
    assert 3 == len(set(ids))
    assert ids[2] == ids[3]


# --- what can't be read ---


def test_a_request_that_nobody_can_read_is_a_person_and_a_dead_letter(world: World) -> None:
    """The person's clock runs from the record; the operator can see why, and send it again."""
    world.publish(topics.REQUESTS, b"rubbish")
    world.orchestrator.step(0.0)
    [saga] = world.store.sagas()
    world.relay.step()
    [letter] = world.records(topics.dead_letters(topics.REQUESTS))
    assert ("unreadable", NOW) == (saga.source, saga.received_at)
    assert b"malformed_message" == letter.header("radera-code")
    assert b"rubbish" not in letter.value


def test_a_request_that_was_mended_is_no_repeat_of_the_broken_one(world: World) -> None:
    """Its key was missing; when it is filed and the same record is sent again, it is taken in."""
    request = world.request()
    broken = request.model_copy(update={"sealed_identifiers": b"\x01" + bytes(40)})
    read = [world.reader.read(delivered(topics.REQUESTS, encode(one))) for one in (broken, request)]
    assert isinstance(read[0].event, RequestUnreadable)
    assert isinstance(read[1].event, RequestReceived)
    assert read[0].event.event_id != read[1].event.event_id
    assert request.event_id == read[1].event.event_id


def test_a_master_key_that_is_not_there_stops_a_producers_request_alone(world: World) -> None:
    """The generation's number is the producer's word. A wrong one is this request's trouble and stops
    nothing; it may be one that is not known here yet.
    """
    reader = Reader(
        world.keys, Digests(world.keyring.digest_key), lambda: 0.5, exchange=Exchange(world.keyring)
    )
    request = world.request(wrapped_key=bytes(80), key_generation=77, sealed_identifiers=b"\x01" + bytes(40))
    inbound = reader.read(delivered(topics.REQUESTS, encode(request)))
    assert isinstance(inbound.event, RequestUnreadable)
    assert ("generation_unknown", 77, False) == (inbound.dead, inbound.generation, inbound.is_ours)


# --- identifiers in clear ---


def clear(world: World, **changed: Any) -> Request:
    named = (ClearIdentifier(kind="email", value=PERSON),)
    return world.request(**{"identifiers": named, "sealed_identifiers": b"", **changed})


def read_clear(world: World, request: Request, *, takes_clear: bool = True) -> Inbound:
    digests = Digests(world.keyring.digest_key)
    reader = Reader(world.keys, digests, lambda: 0.5, Exchange(world.keyring), takes_clear=takes_clear)
    return reader.read(delivered(topics.REQUESTS, encode(request)))


def test_identifiers_in_clear_are_refused_unless_they_are_allowed(world: World) -> None:
    """And where they are taken, the record keeps none of them once it is read."""
    refused = read_clear(world, clear(world), takes_clear=False)
    taken = read_clear(world, clear(world))
    assert ("clear_identifiers", None) == (refused.dead, taken.dead)
    assert isinstance(taken.event, RequestReceived)
    assert ("email",) == taken.event.identifier_kinds
    assert taken.request is not None
    assert taken.request.identifiers is None


@pytest.mark.parametrize(
    "also",
    [{"sealed_identifiers": b"\x01" + bytes(40)}, {"wrapped_key": bytes(80), "key_generation": 1}],
)
def test_a_person_named_twice_is_named_in_no_way_that_counts(world: World, also: dict[str, Any]) -> None:
    """Sealed and in clear could be two people: the DPO is asked, and neither is erased."""
    inbound = read_clear(world, clear(world, **also))
    assert "identifiers_broken" == inbound.dead
    assert isinstance(inbound.event, RequestUnreadable)


@pytest.mark.parametrize(("kind", "value"), [("email", "no address"), ("shoe_size", "43")])
def test_what_nobody_could_be_found_by_is_not_left_out(world: World, kind: str, value: str) -> None:
    """Else "nothing found" would be said of it: the whole request is one for a person to look at."""
    named = (ClearIdentifier(kind="email", value=PERSON), ClearIdentifier(kind=kind, value=value))
    assert "identifiers_broken" == read_clear(world, clear(world, identifiers=named)).dead


def test_who_asks_in_clear_twice_has_two_keys(world: World) -> None:
    """The end of one request destroys what was said in it, and nothing of the other."""
    first, second = clear(world), clear(world)
    with world.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM subject_keys")
    for one in (first, second):
        read_clear(world, one)
    assert world.keys.key_of(first.request_id) != world.keys.key_of(second.request_id)


# --- keys ---


def test_what_came_under_another_key_is_kept_under_the_requests_own(world: World) -> None:
    """Else it would be readable after the request's key is destroyed."""
    request = world.request()
    other = new_key()
    public = Exchange(world.keyring).public_key()
    named = Identifiers((Identifier("email", PERSON),)).to_bytes()
    again = request.model_copy(
        update={
            "sealed_identifiers": seal(other, request.request_id, IDENTIFIERS, named),
            "wrapped_key": public.wrap(other, request.request_id),
            "key_generation": public.generation,
        }
    )
    event = read_clear(world, again).event
    assert isinstance(event, RequestReceived)
    own = world.keys.key_of(request.request_id)
    reread = request.model_copy(update={"sealed_identifiers": event.identifiers})
    assert own != other
    assert isinstance(world.reader.read(delivered(topics.REQUESTS, encode(reread))).event, RequestReceived)


def test_a_request_that_is_read_again_is_sealed_alike(world: World) -> None:
    """It is, when a database is put back from a backup, and the answers are still about it."""
    request = world.request()
    public = Exchange(world.keyring).public_key()
    key = world.keys.key_of(request.request_id)
    brought = request.model_copy(
        update={"wrapped_key": public.wrap(key, request.request_id), "key_generation": public.generation}
    )
    read = [read_clear(world, brought).event for _ in range(2)]
    assert 1 == len({mark(one.identifiers) for one in read if isinstance(one, RequestReceived)})


# --- the trace ---


@pytest.mark.parametrize(("number", "kept"), [("+46701234567", False), ("+46709999999", True), (None, False)])
def test_a_trace_that_could_name_the_person_is_not_kept(world: World, number: str | None, kept: bool) -> None:
    """It goes on in clear, wherever the request goes. Nor is one kept where nobody knows whom it may name."""
    request = world.request()
    if number is None:
        world.keys.destroy(request.request_id)
    else:
        named = Identifiers((Identifier("phone", number),)).to_bytes()
        key = world.keys.key_of(request.request_id)
        sealed = seal(key, request.request_id, IDENTIFIERS, named)
        request = request.model_copy(update={"sealed_identifiers": sealed})
    trace = "00-" + "46701234567".zfill(32) + "-00f067aa0ba902b7-01"
    delivery = replace(
        delivered(topics.REQUESTS, encode(request)), headers=(("traceparent", trace.encode()),)
    )
    event = world.reader.read(delivery).event
    assert isinstance(event, RequestReceived)
    assert kept == (event.trace is not None)


# --- confirmations and decisions ---


def test_all_that_a_confirmation_says_reaches_the_saga(world: World) -> None:
    """Each field, as it was said; a field that is forgotten here is one that no rule can act on."""
    said: Confirmation = sample(Confirmation)
    event = world.reader.read(delivered(topics.CONFIRMATIONS, encode(said))).event
    assert isinstance(event, Confirmed)
    names = [one.name for one in fields(Confirmed) if one.name not in ("random", "places")]
    told = {name: getattr(said, RENAMED.get(name, name)) for name in names}
    assert told == {name: getattr(event, name) for name in names}
    assert [one.model_dump() for one in said.places] == [
        {
            "name": one.name,
            "looked": one.looked,
            "by": one.by,
            "not_by": one.not_by,
            "reason": one.reason,
        }
        for one in event.places
    ]


def test_a_confirmation_that_names_no_request_is_a_dead_letter(world: World) -> None:
    """Neither by its id nor by what was filed for callbacks: nobody can tell whom it is about."""
    said = Confirmation(event_id="x", request_id=None, system="crm", kind="accepted", occurred_at=NOW)
    inbound = world.reader.read(delivered(topics.CONFIRMATIONS, encode(said)))
    assert (None, "names_no_request") == (inbound.event, inbound.dead)


def test_a_time_beyond_every_calendar_is_the_last_day_of_ours(world: World) -> None:
    """Kept until the year 12000 is kept until further notice; no date of ours is made of it."""
    said = sample(Confirmation).model_copy(update={"retained_until": 253_370_764_800_000_001})
    event = world.reader.read(delivered(topics.CONFIRMATIONS, encode(said))).event
    assert isinstance(event, Confirmed)
    assert 253_370_764_800_000_000 == event.retained_until


def test_all_that_a_decision_says_reaches_the_saga(world: World) -> None:
    """With the question and the version that it answers."""
    said: Decision = sample(Decision)
    event = world.reader.read(delivered(topics.DECISIONS, encode(said))).event
    assert isinstance(event, Decided)
    names = [one.name for one in fields(Decided) if one.name != "random"]
    assert {name: getattr(said, name) for name in names} == {name: getattr(event, name) for name in names}


@pytest.mark.parametrize("key_is_there", [True, False])
@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        ("the contract has ended", True),
        (f"{PERSON} called", False),
        (f"{OTHER} called", None),
    ],
)
def test_a_reason_that_names_somebody_is_withheld(
    world: World, reason: str, kept: bool | None, key_is_there: bool
) -> None:
    """While we can know whom the request is about it must not name that person; afterwards, nobody."""
    request = world.request()
    applied(world, request)
    if not key_is_there:
        world.keys.destroy(request.request_id)
    decision = Decision(
        event_id="d",
        request_id=request.request_id,
        action="cancel",
        reason=reason,
        decided_by="dpo",
        decided_at=NOW,
    )
    world.bus.publish([delivered(topics.DECISIONS, encode(decision), key=request.request_id)])
    world.orchestrator.step(0.0)
    saga = world.store.saga(request.request_id)
    assert saga is not None
    expected = kept if kept is not None else key_is_there
    assert (reason if expected else WITHHELD) == saga.reason
