"""A producer outside seals to the installation's public key, and only the installation can open it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.bus.port import Delivery, Record
from orchestrator.intake import CannotSubmit, Intake, Made, Producer
from orchestrator.privacy import (
    IDENTIFIERS,
    Digests,
    Exchange,
    GenerationForgotten,
    Identifier,
    KeyDestroyed,
    Keyring,
    KeyUnknown,
    PublicKey,
    PublicKeyUnreadable,
    SealBroken,
    new_key,
    unseal,
)
from orchestrator.saga.events import RequestReceived, RequestUnreadable
from orchestrator.service.inbound import Inbound, Reader
from orchestrator.store import Store, StoredKeys, open_engine
from schemas.codec import decode, encode
from schemas.messages import Request

CANARY = "canary.person@people.example"
REQUEST_ID = "0d7f0f2a-7f63-4a8e-9d3b-2f1f6b1c9a10"
OTHER_ID = "1d7f0f2a-7f63-4a8e-9d3b-2f1f6b1c9a10"


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring.create(tmp_path / "radera.keys", 1)


def test_only_the_installation_unwraps(keyring: Keyring, tmp_path: Path) -> None:
    """What is wrapped to the public key comes out with the private one, and with no other."""
    public, key = Exchange(keyring).public_key(), new_key()
    wrapped = public.wrap(key, REQUEST_ID)

    assert key == Exchange(keyring).unwrap(wrapped, public.generation, REQUEST_ID)
    stranger = Exchange(Keyring.create(tmp_path / "other.keys", 1))
    with pytest.raises(SealBroken):
        stranger.unwrap(wrapped, stranger.public_key().generation, REQUEST_ID)


def test_a_wrapped_key_belongs_to_one_request(keyring: Keyring) -> None:
    """Nobody can have another request opened with it."""
    public = Exchange(keyring).public_key()
    wrapped = public.wrap(new_key(), REQUEST_ID)

    with pytest.raises(SealBroken):
        Exchange(keyring).unwrap(wrapped, public.generation, OTHER_ID)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_is_no_key(keyring: Keyring, length: int) -> None:
    """Whoever wrapped it is at fault, and is told so here: with it nothing could be sealed later."""
    public = Exchange(keyring).public_key()
    wrapped = public.wrap(b"k" * length, REQUEST_ID)

    with pytest.raises(SealBroken):
        Exchange(keyring).unwrap(wrapped, public.generation, REQUEST_ID)


@pytest.mark.parametrize("broken", [b"", b"x", b"\0" * 80])
def test_rubbish_does_not_unwrap(keyring: Keyring, broken: bytes) -> None:
    """Whatever a producer sends, the error is the same."""
    with pytest.raises(SealBroken):
        Exchange(keyring).unwrap(broken, keyring.current.number, REQUEST_ID)


def test_the_pair_dies_with_its_generation(keyring: Keyring) -> None:
    """After the rotation, what is left in the requests topic opens nothing."""
    public = Exchange(keyring).public_key()
    wrapped = public.wrap(new_key(), REQUEST_ID)
    keyring.rotate(2)
    keyring.forget([public.generation], 3)

    assert public != Exchange(keyring).public_key()
    with pytest.raises(GenerationForgotten):
        Exchange(keyring).unwrap(wrapped, public.generation, REQUEST_ID)


def test_public_keys_travel_as_json(keyring: Keyring) -> None:
    """What `radera keys public` prints can be read back; anything else is refused."""
    public = Exchange(keyring).public_key()

    assert public == PublicKey.from_json(public.to_json())
    other_suite = json.dumps({**json.loads(public.to_json()), "hpke": "rot13"})
    for text in ("", "{}", "[]", other_suite, '{"public_key": 5}'):
        with pytest.raises(PublicKeyUnreadable):
            PublicKey.from_json(text)


def test_a_made_request_is_valid_and_silent(keyring: Keyring) -> None:
    """The record decodes, and neither its bytes nor its repr name the person."""
    producer = Producer(Exchange(keyring).public_key(), source="web_form")
    made = producer.request([Identifier("email", CANARY)], verified=True, language="sv")

    request = decode(made.record.value, Request)
    assert made.request_id == request.request_id == made.record.key
    assert CANARY.encode() not in made.record.value
    assert CANARY not in repr((made, request))


def test_unusable_identifiers_are_refused_where_they_can_be_mended(keyring: Keyring) -> None:
    """The error names the kind, never the value. One that is usable makes up for no other: where only that
    one is searched by, the person may be found nowhere, and read as absent.
    """
    producer = Producer(Exchange(keyring).public_key(), source="web_form")
    bad = Identifier("email", "canary-but-no-address")
    for typed in ([], [bad], [Identifier("email", CANARY), bad]):
        with pytest.raises(CannotSubmit) as caught:
            producer.request(typed, verified=True)
        assert "canary" not in str(caught.value)


# --- at the other end ---


@pytest.fixture
def keys(keyring: Keyring) -> StoredKeys:
    return filed_nowhere(keyring)


def filed_nowhere(keyring: Keyring) -> StoredKeys:
    """A database without a key: a new one, or one from before all requests."""
    return StoredKeys(Store(open_engine("sqlite://"), lambda: 1000), keyring)


class Sparing(Exchange):
    """Unwraps nothing."""

    def unwrap(self, wrapped: bytes, generation: int, request_id: str) -> bytes:
        raise AssertionError("a key was unwrapped that is filed, or was destroyed")


def submitted(keyring: Keyring, keys: StoredKeys) -> Made:
    """The record of a request that was handed in here."""

    class Bus(list[Record]):
        publish = list.extend

    bus = Bus()
    intake = Intake(keys=keys, bus=bus, clock=lambda: 1000, public_key=Exchange(keyring).public_key)
    intake.submit([Identifier("email", CANARY)], source="cli", verified=True, request_id=REQUEST_ID)
    [record] = bus
    return Made(REQUEST_ID, record)


def arrive(keyring: Keyring, keys: StoredKeys, made: Made, exchange: Exchange | None = None) -> Inbound:
    """The record, read by the orchestrator."""
    reader = Reader(keys, Digests(keyring.digest_key), lambda: 0.5, exchange or Exchange(keyring))
    record = made.record
    return reader.read(
        Delivery(
            topic=record.topic, key=record.key, value=record.value, partition=0, offset=1, timestamp=1000
        )
    )


def test_the_orchestrator_files_the_key_at_first_sight(keyring: Keyring, keys: StoredKeys) -> None:
    """A request from outside is opened once, and from then on its key is in the table."""
    producer = Producer(Exchange(keyring).public_key(), source="web_form")
    made = producer.request([Identifier("email", CANARY)], verified=True)
    event = arrive(keyring, keys, made).event

    assert isinstance(event, RequestReceived)
    assert ("email",) == event.identifier_kinds
    opened = unseal(keys.key_of(made.request_id), made.request_id, IDENTIFIERS, event.identifiers)
    assert CANARY.encode() in opened


def test_a_repeat_under_another_key_is_kept_under_the_first(keyring: Keyring, keys: StoredKeys) -> None:
    """Else the second key would survive the end of the request in nobody's table, and open its
    identifiers.
    """
    producer = Producer(Exchange(keyring).public_key(), source="web_form")
    first = producer.request([Identifier("email", CANARY)], verified=True, request_id=REQUEST_ID)
    again = producer.request([Identifier("email", CANARY)], verified=True, request_id=REQUEST_ID)
    one, two = arrive(keyring, keys, first).event, arrive(keyring, keys, again).event

    assert isinstance(one, RequestReceived)
    assert isinstance(two, RequestReceived)
    assert one.content_digest == two.content_digest
    assert unseal(keys.key_of(REQUEST_ID), REQUEST_ID, IDENTIFIERS, two.identifiers)


def test_a_request_that_ended_is_not_revived(keyring: Keyring, keys: StoredKeys) -> None:
    """A replayed record, with its wrapped key and all, does not bring a destroyed key back."""
    producer = Producer(Exchange(keyring).public_key(), source="web_form")
    made = producer.request([Identifier("email", CANARY)], verified=True, request_id=REQUEST_ID)
    arrive(keyring, keys, made)
    keys.destroy(REQUEST_ID)
    event = arrive(keyring, keys, made).event

    assert isinstance(event, RequestReceived)
    assert () == event.identifier_kinds


def test_a_request_that_was_handed_in_here_outlives_the_database(keyring: Keyring, keys: StoredKeys) -> None:
    """The database is put back from before the request: its record brings the key that it had, so that all
    else that was sealed with it opens, too. And it is the same request.
    """
    made = submitted(keyring, keys)
    before = arrive(keyring, keys, made).event
    restored = filed_nowhere(keyring)
    after = arrive(keyring, restored, made).event

    assert isinstance(before, RequestReceived)
    assert isinstance(after, RequestReceived)
    assert (before.event_id, before.content_digest) == (after.event_id, after.content_digest)
    assert keys.key_of(REQUEST_ID) == restored.key_of(REQUEST_ID)
    assert CANARY.encode() in unseal(restored.key_of(REQUEST_ID), REQUEST_ID, IDENTIFIERS, after.identifiers)


def test_handed_in_again_before_the_old_record_is_read_again(keyring: Keyring, keys: StoredKeys) -> None:
    """After the database was put back somebody is quicker, and has filed another key under the id. The first
    record is the same request all the same, and is kept under the key that is filed.
    """
    made = submitted(keyring, keys)
    restored = filed_nowhere(keyring)
    again = arrive(keyring, restored, submitted(keyring, restored)).event
    first = arrive(keyring, restored, made).event

    assert isinstance(again, RequestReceived)
    assert isinstance(first, RequestReceived)
    assert keys.key_of(REQUEST_ID) != restored.key_of(REQUEST_ID)
    assert again.content_digest == first.content_digest
    assert unseal(restored.key_of(REQUEST_ID), REQUEST_ID, IDENTIFIERS, first.identifiers)


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_key_that_is_filed_is_not_unwrapped(keyring: Keyring, keys: StoredKeys, is_ours: bool) -> None:
    """That would say nothing new: of one that was handed in here, and of a producer's that comes twice."""
    if is_ours:
        made = submitted(keyring, keys)
    else:
        made = Producer(Exchange(keyring).public_key(), source="web_form").request(
            [Identifier("email", CANARY)], verified=True, request_id=REQUEST_ID
        )
        arrive(keyring, keys, made)
    event = arrive(keyring, keys, made, Sparing(keyring)).event

    assert isinstance(event, RequestReceived)
    assert ("email",) == event.identifier_kinds
    assert unseal(keys.key_of(REQUEST_ID), REQUEST_ID, IDENTIFIERS, event.identifiers)


def test_one_that_was_handed_in_here_and_has_ended_is_not_revived(keyring: Keyring, keys: StoredKeys) -> None:
    """Its record still has the key, by which it is compared with what ended and nothing else: it names no
    person, and a destroyed key stays destroyed.
    """
    made = submitted(keyring, keys)
    first = arrive(keyring, keys, made).event
    assert isinstance(first, RequestReceived)
    keys.destroy(REQUEST_ID)
    event = arrive(keyring, keys, made).event

    assert isinstance(event, RequestReceived)
    assert ((), first.content_digest) == (event.identifier_kinds, event.content_digest)
    with pytest.raises(KeyDestroyed):
        keys.key_of(REQUEST_ID)


def test_a_rotation_ends_what_the_record_of_a_request_opens(keyring: Keyring, keys: StoredKeys) -> None:
    """A request under way goes on, by its filed key. Read anew into a database from before it, it is a
    question to the officer: what the rotation destroyed stays so.
    """
    made = submitted(keyring, keys)
    first = keyring.current.number
    keyring.rotate(2)
    keys.rewrap()
    keyring.forget([first], 3)

    assert isinstance(arrive(keyring, keys, made).event, RequestReceived)
    lost = arrive(keyring, filed_nowhere(keyring), made)
    assert isinstance(lost.event, RequestUnreadable)
    assert "generation_forgotten" == lost.dead


def test_a_key_that_opens_nothing_is_not_filed(keyring: Keyring, keys: StoredKeys) -> None:
    """It would belong to no request, and nothing would ever destroy it."""
    public = Exchange(keyring).public_key()
    made = Producer(public, source="web_form").request([Identifier("email", CANARY)], verified=True)
    request = decode(made.record.value, Request)
    other = request.model_copy(update={"wrapped_key": public.wrap(new_key(), made.request_id)})
    inbound = arrive(keyring, keys, Made(made.request_id, replace(made.record, value=encode(other))))

    assert isinstance(inbound.event, RequestUnreadable)
    with pytest.raises(KeyUnknown):
        keys.key_of(made.request_id)


def test_a_key_for_another_generation_is_the_requests_trouble(keyring: Keyring, keys: StoredKeys) -> None:
    """A wrong number must neither stop the topic nor be lost: it opens an escalation."""
    public = Exchange(keyring).public_key()
    made = Producer(PublicKey(99, public.key), source="web_form").request(
        [Identifier("email", CANARY)], verified=True
    )
    inbound = arrive(keyring, keys, made)

    assert isinstance(inbound.event, RequestUnreadable)
    assert ("generation_unknown", 99) == (inbound.dead, inbound.generation)
