"""The design's attack: with everything that remains, nothing of a request that has ended opens.

The same attack, with the same code, opens all of it while the requests are open: it could fail.
"""

import base64
import json
import random
import stat
from pathlib import Path

import pytest

from orchestrator.bus.port import Record
from orchestrator.cli.submit import identifier_of, submit_to
from orchestrator.intake import CannotSubmit
from orchestrator.intake.producer import Producer
from orchestrator.privacy import Exchange, KeyDestroyed, Wrapped, new_key
from schemas import topics
from schemas.codec import decode, encode
from schemas.messages import Request
from tests.integration.attack import Loot, Spoils, attack
from tests.integration.people import Person, make_people
from tests.integration.processes import command, contents, eventually
from tests.integration.world import World

REQUESTS = 8


@pytest.mark.timeout(600)
def test_what_remains_opens_nothing(world: World, tmp_path: Path) -> None:
    """A backup made while requests are open, the database of today with its log, the topics and dead letters
    in both, and the key file of today: after the end and a rotation of the master keys they open what is
    still open, and nothing else. Before, the same attack opened everything.
    """
    rng = random.Random(world.seed)
    people = make_people(rng, REQUESTS)
    for person in people:  # HubSpot, which is slow to erase, keeps all of them open for a while
        person.scope = tuple(dict.fromkeys((*person.scope, "hubspot")))
        person.held = tuple(dict.fromkeys((*person.held, "hubspot")))
    world.settle(people)
    waits = _with_one_who_waits(world, rng)
    ended = {person.request_id: person for person in _submit(world, people)}
    world.vendors.fault("slow", vendor="hubspot", method="POST", seconds=5.0, times=None)
    world.ground.bus.publish([Record(topic=topics.DECISIONS, key="", value=b"nothing of ours")])
    world.radera.start()
    eventually("all have begun", lambda: all(map(world.saga, [*people, waits])), within=40)
    eventually("records were found", lambda: _references(world) >= REQUESTS, within=40)

    loot = Loot()
    loot.take(world.directory, tmp_path / "backup", keys=True)
    keys = _request_keys(world, [*ended, waits.request_id])
    wrapped = _wrapped(world, list(ended))
    first = world.ground.keyring.current.key
    assert 1 == len(world.ground.keyring.generations)

    # While they are open a thief of everything reads everything.
    _expect(attack(loot), {**ended, waits.request_id: waits}, keys=set(keys.values()))

    world.vendors.clear_faults()
    eventually("all but one have ended", lambda: world.open_people() == [waits], within=90, every=0.2)
    world.await_mails(20)
    today = Loot()
    today.take(world.directory, tmp_path / "ended", keys=True)
    # Their keys are gone from the database of today; but the backup still opens, and so does what a producer
    # wrapped, as long as the master key is there.
    spoils = attack(today)
    assert {waits.request_id, *(one for one in ended if _is_produced(world, one))} == set(spoils.requests)
    loot.take_keys(world.directory, tmp_path / "keys of then")
    assert {*ended, waits.request_id} == set(attack(loot).requests)

    _rotate_twice(world)

    loot.take(world.directory, tmp_path / "rotated", keys=True)
    world.radera.stop()
    loot.take(world.directory, tmp_path / "stopped", keys=True)
    loot.databases += today.databases
    _expect(attack(loot), {waits.request_id: waits}, keys={keys[waits.request_id]})
    _check_traces(world, wrapped, first, [key for one, key in keys.items() if one in ended])
    _check_replay(world, loot, ended, waits, tmp_path)


def _rotate_twice(world: World) -> None:
    """The first rotation replaces the master key, the second one destroys it."""
    for _ in range(2):
        rotated = command(world.config, "keys", "rotate", "--keep", "0", "--lose-dead-letters")
        assert 0 == rotated.returncode, rotated.stderr


def _with_one_who_waits(world: World, rng: random.Random) -> Person:
    """Somebody whose request is open all the time: nobody has verified who they are."""
    waits = make_people(rng, 1, first=99)[0]
    world.settle([waits])
    waits.request_id = submit_to(
        world.ground,
        [identifier_of(kind, value) for kind, value in waits.identifiers],
        scope=waits.scope,
        tenant=waits.tenant,
        verified=False,
        source="test",
    )
    return waits


def _submit(world: World, people: list[Person]) -> list[Person]:
    """Every other request comes from a producer outside, who wraps the key to our public key."""
    producer = Producer(Exchange(world.ground.keyring).public_key(), source="web_form")
    for person in people:
        if person.number % 2:
            world.submit(person)
            continue
        made = producer.request(
            [identifier_of(kind, value) for kind, value in person.identifiers],
            verified=True,
            scope=person.scope,
            tenant=person.tenant,
        )
        person.request_id = producer.publish(world.ground.bus, made)
    return people


def _is_produced(world: World, request_id: str) -> bool:
    return any(person.request_id == request_id and not person.number % 2 for person in world.people)


def _references(world: World) -> int:
    sagas = world.ground.store.sagas(limit=1000)
    return sum(bool(step.references) for saga in sagas for step in saga.steps)


def _request_keys(world: World, request_ids: list[str]) -> dict[str, bytes]:
    return {request_id: world.ground.keys.key_of(request_id) for request_id in request_ids}


def _wrapped(world: World, request_ids: list[str]) -> list[bytes]:
    with world.ground.store.begin() as transaction:
        rows = transaction.keys_to_rewrap(0, "", 1000)
    return [rows[request_id].blob for request_id in request_ids]


def _expect(spoils: Spoils, people: dict[str, Person], *, keys: set[bytes]) -> None:
    """The attack read these people's identifiers, and got these keys, and no others."""
    assert set(people) == set(spoils.requests)
    for request_id, person in people.items():
        assert any(person.email.encode() in clear for clear in spoils.requests[request_id])
    assert keys == set(spoils.keys)


def _check_traces(world: World, wrapped: list[bytes], master: bytes, keys: list[bytes]) -> None:
    """Nowhere in our directory is a part of an ended request's wrapped key, its key, or the old master key;
    and the key file is its owner's alone.
    """
    files = {path: contents(path) for path in world.directory.rglob("*") if path.is_file()}
    pieces = [blob[start : start + 12] for blob in wrapped for start in range(0, len(blob) - 12, 4)]
    pieces += [text for key in (master, *keys) for text in _forms(key)]
    assert [] == [path.name for path, data in files.items() if any(piece in data for piece in pieces)]
    assert 0o600 == stat.S_IMODE((world.directory / "radera.keys").stat().st_mode)
    assert [] == [path.name for path in files if path.name.startswith("radera.keys.")]
    said = json.loads(files[world.directory / "radera.keys"])
    assert (2, 1) == (len(said["generations"]), len(said["forgotten"]))


def _forms(key: bytes) -> list[bytes]:
    return [key, key.hex().encode(), base64.b64encode(key), base64.urlsafe_b64encode(key)]


def _check_replay(world: World, loot: Loot, ended: dict[str, Person], waits: Person, tmp_path: Path) -> None:
    """A request that ended comes again: as it was, under another event's id, with a new key of a producer's,
    and by hand. Its key stays destroyed, nothing is carried out, and the attack gets nothing more.
    """
    requests = [decode(value, Request) for _, _, _, value in world.records(topics.REQUESTS)]
    again = [request for request in requests if request.request_id in ended]
    done = world.first_effects()
    exchange = Exchange(world.ground.keyring).public_key()
    replayed = [_record(request) for request in again]
    replayed += [_record(one.model_copy(update={"event_id": f"again:{one.request_id}"})) for one in again]
    for request_id, person in ended.items():
        producer = Producer(exchange, source="web_form")
        given = [identifier_of(kind, value) for kind, value in person.identifiers]
        made = producer.request(given, verified=True, request_id=request_id, scope=person.scope)
        replayed.append(made.record)
        with pytest.raises(CannotSubmit, match="key is destroyed"):
            submit_to(world.ground, given, request_id=request_id, source="test")
        assert "destroyed" == world.ground.keys.insert(request_id, new_key())
    world.ground.bus.publish(replayed)

    world.radera.start()
    eventually("the replay is read", lambda: _unread(world) == 0, within=30)
    world.await_mails(20)
    world.radera.stop()

    for request_id in ended:
        with pytest.raises(KeyDestroyed):
            world.ground.keys.key_of(request_id)
        saga = world.ground.store.saga(request_id)
        assert saga is not None
        assert "completed" == saga.status
        assert world.ground.store.verify_timeline(request_id).is_intact
    assert done == world.first_effects()
    # What a producer has sealed anew opens until the next rotation but one; the rest doesn't.
    _rotate_twice(world)
    loot.take(world.directory, tmp_path / "rotated again", keys=True)
    assert {waits.request_id} == set(attack(loot).requests)


def _record(request: Request) -> Record:
    return Record(topic=topics.REQUESTS, key=request.request_id, value=encode(request))


def _unread(world: World) -> int:
    return world.ground.bus.backlog("orchestrator", [topics.REQUESTS])


def test_a_wrapped_key_opens_for_its_own_request_alone(world: World) -> None:
    """Somebody who can write to the database moves a key to another request's row: it opens nothing."""
    people = make_people(random.Random(world.seed), 2)
    for person in people:
        world.submit(person)
    with world.ground.store.begin() as transaction:
        rows = transaction.keys_to_rewrap(0, "", 10)
        first, second = (rows[person.request_id] for person in people)
        transaction.replace_wrapping({people[0].request_id: Wrapped(second.generation, second.blob)})
    assert first.blob != second.blob

    world.radera.start()
    eventually("it is a question for the DPO", lambda: bool(world.ground.store.sagas()), within=20)
    eventually("both are read", lambda: len(world.ground.store.sagas()) == 2, within=20)
    reasons = {one.reason: one.code for saga in world.ground.store.sagas() for one in saga.escalations}
    assert {"unreadable_request": "seal_broken"} == reasons
