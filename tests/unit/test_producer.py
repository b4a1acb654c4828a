"""A producer outside seals to the installation's public key, and only the installation can open it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.bus.port import Delivery
from orchestrator.intake import CannotSubmit, Made, Producer
from orchestrator.privacy import (
    IDENTIFIERS,
    Digests,
    Exchange,
    GenerationForgotten,
    Identifier,
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
        stranger.unwrap(wrapped, public.generation, REQUEST_ID)


def test_a_wrapped_key_belongs_to_one_request(keyring: Keyring) -> None:
    """Nobody can have another request opened with it."""
    public = Exchange(keyring).public_key()
    wrapped = public.wrap(new_key(), REQUEST_ID)

    with pytest.raises(SealBroken):
        Exchange(keyring).unwrap(wrapped, public.generation, OTHER_ID)


@pytest.mark.parametrize("broken", [b"", b"x", b"\0" * 80])
def test_rubbish_does_not_unwrap(keyring: Keyring, broken: bytes) -> None:
    """Whatever a producer sends, the error is the same."""
    with pytest.raises(SealBroken):
        Exchange(keyring).unwrap(broken, 1, REQUEST_ID)


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
    """The error names the kind, never the value."""
    producer = Producer(Exchange(keyring).public_key(), source="web_form")
    for typed in ([], [Identifier("email", "canary-but-no-address")]):
        with pytest.raises(CannotSubmit) as caught:
            producer.request(typed, verified=True)
        assert "canary" not in str(caught.value)


# --- at the other end ---


@pytest.fixture
def keys(keyring: Keyring) -> StoredKeys:
    return StoredKeys(Store(open_engine("sqlite://"), lambda: 1000), keyring)


def arrive(keyring: Keyring, keys: StoredKeys, made: Made) -> Inbound:
    """The record, read by the orchestrator."""
    reader = Reader(keys, Digests(keyring.digest_key), lambda: 0.5, Exchange(keyring))
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
    assert "seal_broken" == inbound.dead
