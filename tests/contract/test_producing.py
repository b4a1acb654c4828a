"""Requests from any language: the test vector, in both directions, and a producer that is none of ours."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from orchestrator.bus.port import Delivery, Headers, Record
from orchestrator.intake import Producer
from orchestrator.intake import producer as producer_module
from orchestrator.privacy import (
    IDENTIFIERS,
    Digests,
    Exchange,
    Identifier,
    Identifiers,
    Keyring,
    PublicKey,
    exchange,
    sealing,
    unseal,
)
from orchestrator.saga.events import RequestReceived, RequestUnreadable
from orchestrator.service.inbound import Inbound, Reader
from orchestrator.store import Store, StoredKeys, open_engine
from schemas import topics
from schemas.codec import schema_of
from schemas.messages import Request
from tests.contract import other_producer as other
from tests.golden import producing

VECTOR: dict[str, Any] = json.loads(producing.FILE.read_text(encoding="utf-8"))
PAGE = (producing.FILE.parent / "PRODUCING.md").read_text(encoding="utf-8")
PERSON = "canary.person@people.example"


@pytest.fixture
def keyring() -> Keyring:
    """The installation of the vector."""
    made = Keyring.from_environment(
        {
            "RADERA_MASTER_KEYS": f"{producing.GENERATION}:{other.base64_of(producing.MASTER_KEY)}",
            "RADERA_DIGEST_KEY": other.base64_of(b"d" * 32),
        }
    )
    assert made is not None
    return made


@pytest.fixture
def keys(keyring: Keyring) -> StoredKeys:
    return StoredKeys(Store(open_engine("sqlite://"), lambda: 1000), keyring)


def arrive(keyring: Keyring, keys: StoredKeys, record: tuple[str, bytes, Headers], **how: Any) -> Inbound:
    """The record, as the orchestrator reads it."""
    key, value, headers = record
    reader = Reader(keys, Digests(keyring.digest_key), lambda: 0.5, Exchange(keyring), **how)
    delivery = Delivery(
        topic=topics.REQUESTS, key=key, value=value, headers=headers, partition=0, offset=1, timestamp=1000
    )
    return reader.read(delivery)


def person_in(event: object, keys: StoredKeys) -> list[tuple[str, str, str | None]]:
    assert isinstance(event, RequestReceived)
    clear = unseal(keys.key_of(event.request_id), event.request_id, IDENTIFIERS, event.identifiers)
    return [(one.kind, one.value, one.site) for one in Identifiers.from_bytes(clear)]


# --- the vector ---


def test_the_vector_is_what_the_steps_give() -> None:
    """Who follows the page with these keys gets these bytes; after a change of the schema it is made anew."""
    assert producing.vector() == VECTOR


def test_the_vector_is_of_a_real_installation(keyring: Keyring) -> None:
    """Its key pair is derived as an installation's is, and printed as `radera keys public` prints it."""
    installation = VECTOR["installation"]
    assert installation["private_key"] == keyring.derived(producing.GENERATION, "exchange").hex()
    assert installation["public"] == json.loads(Exchange(keyring).public_key().to_json())


def test_our_producer_makes_the_vector(keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the vector's random numbers it gives the vector's record, to the byte."""
    chance = producing.CHANCE

    class Fixed:
        """HPKE takes no ephemeral key of ours, so the other implementation stands in for it."""

        def encrypt(self, key: bytes, public: X25519PublicKey, *, info: bytes) -> bytes:
            return other.wrap(public.public_bytes_raw(), info, key, chance.ephemeral)

    monkeypatch.setattr(producer_module, "new_key", lambda: chance.key)
    monkeypatch.setattr("orchestrator.privacy.sealing.os.urandom", lambda length: chance.nonce[:length])
    monkeypatch.setattr(exchange, "_SUITE", Fixed())
    public = PublicKey.from_json(json.dumps(VECTOR["installation"]["public"]))
    for schema_id, value in ((None, "single_object"), (42, "confluent_with_id_42")):
        producer = Producer(
            public, source="web_form", clock=lambda: producing.RECEIVED_AT, schema_id=schema_id
        )
        made = producer.request(
            [Identifier(kind, said, site) for kind, said, site in reversed(producing.ITEMS)],  # type: ignore[arg-type]  # kinds are literals
            verified=True,
            request_id=producing.REQUEST_ID,
            language="sv",
            scope=("hubspot", "superoffice"),
        )
        expected = VECTOR["record"]
        assert (
            Record(
                topic=expected["topic"],
                key=expected["key"],
                value=bytes.fromhex(expected[value]),
                headers=tuple((name, said.encode()) for name, said in expected["headers"]),
            )
            == made.record
        )


@pytest.mark.parametrize("framing", ["single_object", "confluent_with_id_42"])
def test_the_orchestrator_opens_the_vector(keyring: Keyring, keys: StoredKeys, framing: str) -> None:
    """And finds in it what was put in, in either framing."""
    said = VECTOR["record"]
    headers = tuple((name, value.encode()) for name, value in said["headers"])
    record = said["key"], bytes.fromhex(said[framing]), headers
    event = arrive(keyring, keys, record, schemas={42: schema_of(Request)}.__getitem__).event
    assert isinstance(event, RequestReceived)
    assert VECTOR["identifiers"]["items"] == [list(one) for one in person_in(event, keys)]
    assert VECTOR["chance"]["request_key"] == keys.key_of(said["key"]).hex()
    asked = VECTOR["request"]
    for name in ("event_id", "request_id", "received_at", "source", "verified", "language"):
        assert asked[name] == getattr(event, name)
    assert ("hubspot", "superoffice") == event.scope


def test_the_other_implementation_opens_ours(keyring: Keyring) -> None:
    """What our producer wraps, with an ephemeral key of its own, opens by the steps of RFC 9180."""
    public, key = Exchange(keyring).public_key(), sealing.new_key()
    private = bytes.fromhex(VECTOR["installation"]["private_key"])
    info = other.info_of(producing.REQUEST_ID)
    assert key == other.unwrap(private, info, public.wrap(key, producing.REQUEST_ID))


def test_the_page_says_what_the_vector_has() -> None:
    """The fixed texts of the page are those that the bytes are made with."""
    wanted = {
        producing.SUITE,
        "radera/request-key/1",
        "radera/1",
        "erasure.requests.v1",
        other.single_object_header(other.SCHEMA).hex(),
        producing.FILE.name,
        *(name for name, _ in VECTOR["record"]["headers"]),
        *(field["name"] for field in other.SCHEMA["fields"]),
        *other.KINDS,
    }
    assert set() == {one for one in wanted if f"`{one}`" not in PAGE}


# --- a producer that is none of ours ---


def test_the_other_implementation_imports_nothing_of_ours() -> None:
    """Else it would show only that we agree with ourselves."""
    text = Path(other.__file__).read_text(encoding="utf-8")
    assert [] == [
        line
        for line in text.splitlines()
        if line.startswith(("import", "from")) and ("orchestrator" in line or "schemas" in line)
    ]


def test_anothers_request_is_accepted(keyring: Keyring, keys: StoredKeys) -> None:
    """From the public key and the page alone."""
    public = json.loads(Exchange(keyring).public_key().to_json())
    request_id, body, headers = other.request(public, [("email", PERSON, None)], capacity="controller")
    value = other.single_object_header(other.SCHEMA) + body
    event = arrive(keyring, keys, (request_id, value, tuple(headers))).event
    assert [("email", PERSON, None)] == person_in(event, keys)
    assert PERSON.encode() not in value


def test_identifiers_in_another_form_are_brought_into_ours(
    keyring: Keyring, keys: StoredKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A producer that does not normalise must not have "nothing found" said of the person: another order,
    other spacing, capitals, a local telephone number.
    """
    public = json.loads(Exchange(keyring).public_key().to_json())
    typed = [["phone", "070-174 06 05", None], ["email", " Canary.Person@People.EXAMPLE", None]]
    text = json.dumps({"items": typed, "format": 1}, indent=1).encode()
    monkeypatch.setattr(other, "identifiers_json", lambda _: text)
    request_id, body, headers = other.request(public, [])
    value = other.single_object_header(other.SCHEMA) + body
    inbound = arrive(keyring, keys, (request_id, value, tuple(headers)), region="SE")
    assert [("email", PERSON, None), ("phone", "+46701740605", None)] == person_in(inbound.event, keys)


@pytest.mark.parametrize(
    "text",
    [
        b'{"format":1,"items":[["email","canary.person",null],["name","Kanarie Person",null]]}',
        b'{"format":2,"items":[]}',
        b'{"format":1,"items":[["shoe_size","43",null]]}',
        b"canary.person@people.example",
    ],
)
def test_identifiers_that_nobody_could_be_found_by(
    keyring: Keyring, keys: StoredKeys, monkeypatch: pytest.MonkeyPatch, text: bytes
) -> None:
    """None is left out in silence: the request is a person's all the same, and the DPO's to look at."""
    public = json.loads(Exchange(keyring).public_key().to_json())
    monkeypatch.setattr(other, "identifiers_json", lambda _: text)
    request_id, body, headers = other.request(public, [])
    inbound = arrive(
        keyring, keys, (request_id, other.single_object_header(other.SCHEMA) + body, tuple(headers))
    )
    assert isinstance(inbound.event, RequestUnreadable)
    assert "identifiers_broken" == inbound.dead


def test_the_public_key_is_base64_of_its_32_bytes() -> None:
    """As the page says."""
    assert 32 == len(base64.b64decode(VECTOR["installation"]["public"]["public_key"], validate=True))
