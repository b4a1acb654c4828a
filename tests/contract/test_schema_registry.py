"""The registry's client: what it asks, what it remembers, and what it says when it can't go on."""

import json
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from handlers.results import Instructed
from orchestrator.bus.port import Delivery, Record
from orchestrator.bus.schema_registry import Registry, RegistryUnavailable
from orchestrator.cli.main import main
from orchestrator.privacy import Digests, Keyring
from orchestrator.privacy.keyfile import Generation, Material
from orchestrator.service.inbound import Reader
from orchestrator.settings import SchemaRegistry
from orchestrator.store import Store, StoredKeys, open_engine
from schemas import topics
from schemas.codec import PUBLISHED, Codec, decode, encode, fingerprint_of, schema_id_of, schema_of
from schemas.errors import CodecError, UnknownSchema
from schemas.messages import Callback, Command, Confirmation, Decision, Message, Outcome, Request
from tests.contract.registry_stand_in import StandIn, basic, registry_stand_in
from tests.contract.worker_bench import Bench, located
from tests.golden.samples import SAMPLES
from tests.integration.test_topics import SETTINGS
from tests.unit import test_mailbox as mailbox

RECORDS: dict[str, type[Message]] = {
    topics.REQUESTS: Request,
    topics.OUTCOMES: Outcome,
    topics.DECISIONS: Decision,
}
REQUEST = next(sample for sample in SAMPLES if isinstance(sample, Request))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with registry_stand_in() as made:
        yield made


def client(stand_in: StandIn, clock: Clock | None = None, **settings: Any) -> Registry:
    asked = SchemaRegistry.model_validate({"url": stand_in.url, **settings})
    return Registry(asked, clock=clock or Clock())


@pytest.fixture
def registry(stand_in: StandIn, clock: Clock) -> Iterator[Registry]:
    made = client(stand_in, clock)
    yield made
    made.close()


def framed_by_others(schema_id: int, body: bytes = b"") -> bytes:
    return b"\0" + schema_id.to_bytes(4, "big") + body


def others_schema(**changes: Any) -> str:
    """A producer's own schema of a request: with a field of its own, and without one of ours."""
    schema = json.loads(schema_of(Request))
    fields = [one for one in schema["fields"] if one["name"] not in ("identifiers", "tenant")]
    return json.dumps({**schema, "fields": [*fields, {"name": "campaign", "type": "string"}], **changes})


# --- writing ---


def test_our_schemas_are_registered_once(stand_in: StandIn, registry: Registry) -> None:
    """Under the topic's name and "-value"; a second start finds them there and makes nothing new."""
    registry.prepare(RECORDS)
    registry.prepare(RECORDS)
    asked = [f"POST /subjects/{topic}-value/versions" for topic in RECORDS]
    assert asked == stand_in.asked
    assert {f"{topic}-value": [n] for n, topic in enumerate(RECORDS, start=1)} == stand_in.subjects
    again = client(stand_in)
    again.prepare(RECORDS)
    again.close()
    assert [1, 1, 1] == [len(versions) for versions in stand_in.subjects.values()]


def test_records_leave_in_confluent_framing(stand_in: StandIn, registry: Registry) -> None:
    """With the id that the registry has, and a body that is the same; and they are read back."""
    stand_in.register("somebody-else-value", schema_of(Outcome))
    record = Record(topic=topics.REQUESTS, key="k", value=encode(REQUEST), headers=(("h", b"1"),))
    framed = registry.framed(record)
    assert 2 == schema_id_of(framed.value)
    assert (record.topic, record.key, record.headers) == (framed.topic, framed.key, framed.headers)
    assert encode(REQUEST, schema_id=2) == framed.value
    assert REQUEST == decode(framed.value, Request, registry=registry.schema)


def test_what_is_not_ours_is_left_alone(stand_in: StandIn, registry: Registry) -> None:
    """A sealed dead letter, a record in Confluent framing that is sent again, rubbish: all go as they are."""
    for value in (b"\x02sealed", b"", b"\xc3\x01", b"\xc3\x01unknown!body", framed_by_others(7, b"body")):
        record = Record(topic=topics.REQUESTS, key="k", value=value)
        assert record == registry.framed(record)
    assert [] == stand_in.asked


def test_what_does_not_belong_on_a_topic_goes_as_it_is(stand_in: StandIn, registry: Registry) -> None:
    """Nobody has a schema for it there: it must not stop what is sent with it. Its receiver sets it aside."""
    registry.prepare({topics.DECISIONS: Decision})
    asked = len(stand_in.asked)
    record = Record(topic=topics.DECISIONS, key="k", value=encode(REQUEST))
    assert record == registry.framed(record)
    assert asked == len(stand_in.asked)


def test_what_waited_while_we_were_upgraded_goes_as_the_new_version(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outbox row of an older version is written anew: the id says that it is of the current one."""
    [file] = (Path(__file__).parents[2] / "schemas" / "history").glob("request-*.avsc")
    older = Codec([file.read_text()], []).encode(_without(REQUEST, "identifiers"))
    assert fingerprint_of(Request) != older[2:10].hex()
    framed = registry.framed(Record(topic=topics.REQUESTS, key="k", value=older))
    assert encode(_without(REQUEST, "identifiers"), schema_id=1) == framed.value


def test_what_is_broken_behind_our_header_goes_as_it_was(registry: Registry) -> None:
    """A broken record of an older version that is sent again does not stop what is sent with it."""
    [file] = (Path(__file__).parents[2] / "schemas" / "history").glob("request-*.avsc")
    header = Codec([file.read_text()], []).encode(_without(REQUEST, "identifiers"))[:10]
    record = Record(topic=topics.REQUESTS, key="k", value=header + b"\xff")
    assert record == registry.framed(record)


def _without(request: Request, *names: str) -> Request:
    return request.model_copy(update=dict.fromkeys(names))


def test_without_leave_to_register_schemas_are_looked_up(stand_in: StandIn) -> None:
    """They are found under their subject; nothing is registered, and what is missing is named."""
    registry = client(stand_in, auto_register=False)
    with pytest.raises(
        RegistryUnavailable, match=r"auto_register: .*requests.v1-value .*schemas/request\.avsc"
    ):
        registry.prepare({topics.REQUESTS: Request})
    expected = stand_in.register(f"{topics.REQUESTS}-value", schema_of(Request))
    framed = registry.framed(Record(topic=topics.REQUESTS, key="k", value=encode(REQUEST)))
    assert expected == schema_id_of(framed.value)
    stand_in.register(f"{topics.OUTCOMES}-value", others_schema())
    with pytest.raises(RegistryUnavailable, match="auto_register"):
        registry.prepare({topics.OUTCOMES: Outcome})
    assert [f"{topics.REQUESTS}-value", f"{topics.OUTCOMES}-value"] == list(stand_in.subjects)
    registry.close()


def test_a_subject_that_can_not_take_our_schema(stand_in: StandIn, registry: Registry) -> None:
    """Its owner must mend it: the error names it."""
    stand_in.register(
        f"{topics.REQUESTS}-value", others_schema(fields=[{"name": "event_id", "type": "long"}])
    )
    with pytest.raises(RegistryUnavailable, match=r"requests\.v1-value has schemas that schemas/request"):
        registry.prepare(RECORDS)


# --- reading ---


def test_anothers_schema_is_a_writers_and_no_more(stand_in: StandIn, registry: Registry) -> None:
    """It is fetched once and resolved against ours: its own fields are passed over, ours that it has not get
    their defaults, and what it says of itself besides changes nothing.
    """
    text = others_schema(aliases=["Decision"])
    schema_id = stand_in.register("theirs-value", text)
    theirs = Codec([text], [])
    data = {**REQUEST.model_dump(exclude={"identifiers", "tenant"}), "campaign": "spring"}
    value = theirs.encode(_Shaped(data), schema_id=schema_id)  # type: ignore[arg-type]  # of their own shape
    assert not registry.knows(value)
    registry.look_up(value)
    assert registry.knows(value)
    for _ in range(3):
        expected = REQUEST.model_copy(update={"tenant": None, "identifiers": None})
        assert expected == decode(value, Request, registry=registry.schema)
    assert [f"GET /schemas/ids/{schema_id}"] == stand_in.asked
    with pytest.raises(CodecError):
        decode(value, Decision, registry=registry.schema)


class _Shaped:
    """As much of a message as is written."""

    def __init__(self, data: dict[str, Any]) -> None:
        self._data = data

    def model_dump(self, **_: object) -> dict[str, Any]:
        return self._data


_Shaped.__name__ = "Request"


@pytest.mark.parametrize(
    "said",
    [
        {"schema": "message Request { string event_id = 1; }", "schemaType": "PROTOBUF"},
        {"schema": schema_of(Request), "schemaType": "JSON"},
        {"schema": "{", "schemaType": "AVRO"},
        {"schema": '{"type":"record","name":"Request","fields":[{"name":"a","type":"Elsewhere"}]}'},
        {"schema": '"string"'},
        {"schema": '{"type":"record","name":"Request","fields":[{"name":"a","type":"Request"}]}'},
    ],
)
def test_what_we_can_not_read_with_is_an_unknown_schema(
    stand_in: StandIn, registry: Registry, said: dict[str, str]
) -> None:
    """Another format, no schema, one in pieces, one without end: the record can't be read, now or later."""
    stand_in.hold(77, **said)
    registry.look_up(framed_by_others(77))
    assert registry.knows(framed_by_others(77))
    with pytest.raises(UnknownSchema):
        decode(framed_by_others(77, b"body"), Request, registry=registry.schema)


def test_an_id_that_is_not_there_is_asked_for_twice(
    stand_in: StandIn, registry: Registry, clock: Clock
) -> None:
    """A node that lags behind may say so of a schema that was registered a moment ago; the second word is
    believed, and for a while it is not asked again.
    """
    value = framed_by_others(9)
    registry.look_up(value)
    registry.look_up(value)
    assert (False, 1) == (registry.knows(value), len(stand_in.asked))
    clock.now += 1.1
    registry.look_up(value)
    assert (True, 2) == (registry.knows(value), len(stand_in.asked))
    with pytest.raises(UnknownSchema, match="Schema 9 of the registry is not there"):
        decode(value, Request, registry=registry.schema)
    assert 2 == len(stand_in.asked)
    clock.now += 61
    stand_in.hold(9, schema=schema_of(Request))
    assert not registry.knows(value)
    registry.look_up(value)
    assert encode(REQUEST)[10:] == encode(REQUEST, schema_id=9)[5:]
    assert REQUEST == decode(encode(REQUEST, schema_id=9), Request, registry=registry.schema)


def test_a_schema_that_comes_a_moment_late_is_found(
    stand_in: StandIn, registry: Registry, clock: Clock
) -> None:
    """What a lagging node did not have yet, it has at the second look."""
    value = encode(REQUEST, schema_id=5)
    registry.look_up(value)
    stand_in.hold(5, schema=schema_of(Request))
    clock.now += 1.1
    registry.look_up(value)
    assert REQUEST == decode(value, Request, registry=registry.schema)


def test_made_up_ids_cost_one_question_each(stand_in: StandIn, registry: Registry, clock: Clock) -> None:
    """Whoever makes ids up does not hold the partition up for a second with each."""
    for schema_id in range(100, 120):
        registry.look_up(framed_by_others(schema_id))
    assert [False] + [True] * 19 == [registry.knows(framed_by_others(one)) for one in range(100, 120)]


@pytest.mark.parametrize("schema_id", [100, 120])
def test_what_is_remembered_is_bounded(stand_in: StandIn, registry: Registry, schema_id: int) -> None:
    """A thousand others' schemas don't push ours out: we go on without the registry."""
    registry.prepare(RECORDS)
    for one in range(schema_id, schema_id + 1100):
        registry._keep(registry._texts, one, "{}")
    stand_in.stop()
    assert 1000 == len(registry._texts)
    assert REQUEST == decode(encode(REQUEST, schema_id=1), Request, registry=registry.schema)


def refuse(schema_id: int) -> str:
    """A registry that has nothing."""
    raise LookupError(schema_id)


def test_the_orchestrator_reads_both_framings() -> None:
    """Requests, confirmations and decisions; of a schema that is nowhere it says so."""
    keyring = Keyring(Material(b"d" * 32, (Generation(1, None, b"m" * 32),)))
    keys = StoredKeys(Store(open_engine("sqlite://"), lambda: 1000), keyring)
    digests = Digests(keyring.digest_key)
    knows, not_yet = (Reader(keys, digests, lambda: 0.5, schemas=one) for one in (schema_of_id, refuse))
    for topic, record in ((topics.CONFIRMATIONS, Confirmation), (topics.DECISIONS, Decision)):
        sample = next(one for one in SAMPLES if isinstance(one, record))
        framed = delivered(topic, encode(sample, schema_id=RECORD_IDS[record]))
        for delivery in (delivered(topic, encode(sample)), framed):
            event = knows.read(delivery).event
            assert event is not None
            assert sample.event_id == event.event_id
        assert "unknown_schema" == not_yet.read(framed).dead
    request = delivered(topics.REQUESTS, encode(REQUEST, schema_id=RECORD_IDS[Request]))
    assert ("unknown_schema", "clear_identifiers") == (not_yet.read(request).dead, knows.read(request).dead)


def delivered(topic: str, value: bytes) -> Delivery:
    return Delivery(topic=topic, key="", value=value, partition=0, offset=1, timestamp=1)


RECORD_IDS: dict[type[Message], int] = {type(sample): n for n, sample in enumerate(SAMPLES, start=1)}


def schema_of_id(schema_id: int) -> str:
    return schema_of({number: record for record, number in RECORD_IDS.items()}[schema_id])


@pytest.mark.anyio
async def test_a_worker_reads_both_framings(tmp_path: Path) -> None:
    """Commands and callbacks; what has an unknown schema is a dead letter that says so."""
    engine = open_engine(f"sqlite:///{tmp_path / 'radera.db'}")
    bench = Bench(engine, Keyring.create(tmp_path / "keys", 1))
    bench.handler.script = [located()]
    worker = bench.worker(schemas=schema_of_id)
    with worker.subscribe() as subscription:
        for framed in (False, True):
            command = bench.command()
            value = encode(command, schema_id=RECORD_IDS[Command] if framed else None)
            bench.bus.publish([Record(topic=topics.commands("hubspot"), key="k", value=value)])
            assert 1 == await worker.step(subscription)
            assert [command.event_id] == [one.command_id for one in bench.said()]
        bench.handler.script = [Instructed()]
        bench.call_back(b"body")
        [single] = bench.read(topics.callbacks("hubspot"))
        value = PUBLISHED.reframed(single.value, RECORD_IDS[Callback])
        bench.bus.publish([Record(topic=single.topic, key="", value=value)])
        bench.bus.publish([Record(topic=single.topic, key="", value=framed_by_others(99))])
        for _ in range(3):
            await worker.step(subscription)
    assert [b"body"] * 2 == [one.body for one in bench.handler.received]
    [letter] = bench.read(topics.dead_letters(single.topic))
    assert b"unknown_schema" == letter.header("radera-code")
    engine.dispose()


def test_the_mailbox_reads_both_framings() -> None:
    """Each outcome is one mail; what has an unknown schema is a dead letter that says so."""
    world = mailbox.World()
    world.mailbox._schemas = schema_of_id
    for value in (
        encode(mailbox.outcome("o-1")),
        encode(mailbox.outcome("o-2"), schema_id=RECORD_IDS[Outcome]),
        framed_by_others(99),
    ):
        world.bus.publish([Record(topic=topics.OUTCOMES, key="k", value=value)])
    world.step()
    assert 2 == len(world.postman.sent)
    [letter] = world.deliveries(topics.dead_letters(topics.OUTCOMES))
    assert b"unknown_schema" == letter.header("radera-code")


# --- away ---


def test_what_is_known_needs_no_registry(stand_in: StandIn, registry: Registry, clock: Clock) -> None:
    """After the start it may die: our records are written, and all read whose schema was seen before."""
    registry.prepare(RECORDS)
    stand_in.hold(40, schema=others_schema())
    registry.look_up(framed_by_others(40))
    stand_in.stop()
    clock.now += 3600
    for sample in SAMPLES[:1]:
        framed = registry.framed(Record(topic=topics.REQUESTS, key="k", value=encode(sample)))
        assert sample == decode(framed.value, Request, registry=registry.schema)
    assert registry.knows(framed_by_others(40))


def test_what_is_not_known_waits_for_the_registry(
    stand_in: StandIn, registry: Registry, clock: Clock
) -> None:
    """Nothing is said of a record whose schema can't be asked for; the registry is asked with growing pauses,
    and when it is back the record is read.
    """
    stand_in.stop()
    value = encode(REQUEST, schema_id=5)
    for _ in range(50):
        registry.look_up(value)
        assert not registry.knows(value)
        with pytest.raises(RegistryUnavailable):
            decode(value, Request, registry=registry.schema)
        clock.now += 1
    stand_in.hold(5, schema=schema_of(Request))
    stand_in.start()
    clock.now += 31
    registry.look_up(value)
    assert REQUEST == decode(value, Request, registry=registry.schema)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (404, b"<html>no such page</html>"),
        (404, b'{"error": "not here"}'),
        (502, b"{}"),
        (200, b"[]"),
        (429, b"{}"),
    ],
)
def test_a_proxys_word_is_not_the_registrys(
    stand_in: StandIn, registry: Registry, clock: Clock, status: int, text: bytes
) -> None:
    """Only the registry's own code says that a schema is not there: the record waits."""
    stand_in.status, stand_in.text = status, text
    for _ in range(5):
        registry.look_up(framed_by_others(5))
        clock.now += 31
    assert not registry.knows(framed_by_others(5))
    assert 5 == len(stand_in.asked)


def test_a_topic_that_was_never_seen_waits_in_the_outbox(stand_in: StandIn, registry: Registry) -> None:
    """Publishing fails as it does with the bus away, and nothing goes in another framing."""
    stand_in.stop()
    with pytest.raises(RegistryUnavailable):
        registry.framed(Record(topic=topics.REQUESTS, key="k", value=encode(REQUEST)))


# --- who we are ---


def test_logins(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By name and password, or by a token that may be renewed; a wrong one is told by its key."""
    monkeypatch.setenv("REGISTRY_PASSWORD", "s3cret")
    stand_in.login = basic("radera", "s3cret")
    mine = client(stand_in, username="radera", password={"env": "REGISTRY_PASSWORD"})
    mine.prepare(RECORDS)
    mine.close()
    token = tmp_path / "token"
    token.write_text("old\n")
    stand_in.login = "Bearer new"
    clock = Clock()
    theirs = client(stand_in, clock, token={"file": str(token)})
    with pytest.raises(
        RegistryUnavailable, match=r"kafka\.schema_registry\.token: .*refuses us \(401\)"
    ) as told:
        theirs.prepare(RECORDS)
    assert "old" not in str(told.value)
    token.write_text("new\n")
    clock.now += 1
    theirs.prepare(RECORDS)
    theirs.close()


def test_nobody_is_followed_elsewhere_with_the_login(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A redirect could lead our login to another host, and its ids would be another registry's."""
    monkeypatch.setenv("REGISTRY_PASSWORD", "s3cret")
    mine = client(stand_in, username="radera", password={"env": "REGISTRY_PASSWORD"})
    with registry_stand_in() as other:
        stand_in.elsewhere = other.url
        with pytest.raises(RegistryUnavailable):
            mine.prepare(RECORDS)
        assert [] == other.asked
    mine.close()


def test_a_missing_secret_is_named(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its key and the place."""
    monkeypatch.delenv("REGISTRY_PASSWORD", raising=False)
    mine = client(stand_in, username="radera", password={"env": "REGISTRY_PASSWORD"})
    with pytest.raises(RegistryUnavailable, match=r"schema_registry\.password: .*REGISTRY_PASSWORD"):
        mine.prepare(RECORDS)
    mine.close()


def test_certificates(tmp_path: Path) -> None:
    """A registry with a private authority is trusted by its certificate, and by nothing less."""
    certificate = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with registry_stand_in(tls=context) as stand_in:
        stranger = client(stand_in)
        with pytest.raises(RegistryUnavailable, match=r"schema_registry\.ca_file: .*not trusted"):
            stranger.prepare(RECORDS)
        missing = client(stand_in, ca_file=tmp_path / "nowhere.pem")
        with pytest.raises(RegistryUnavailable, match=r"schema_registry\.ca_file: can't be used"):
            missing.prepare(RECORDS)
        known = client(stand_in, ca_file=certificate)
        known.prepare(RECORDS)
        for one in (stranger, missing, known):
            one.close()
        assert len(RECORDS) == len(stand_in.subjects)


def _certificate(folder: Path) -> Path:
    key = generate_private_key(SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    file = folder / "registry.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + made.public_bytes(Encoding.PEM)
    )
    return file


# --- the start ---

_AWAY = """
[database]
url = "sqlite:///{folder}/radera.db"

[kafka]
servers = ["127.0.0.1:9"]
security = "none"
replication = 1

[kafka.schema_registry]
url = "{url}"
"""


@pytest.mark.parametrize("role", ["orchestrator", "worker", "mailbox", "serve"])
def test_no_role_begins_without_the_registry(role: str, tmp_path: Path) -> None:
    """It ends as with any wrong setting: code 2, and a line with the key and the mend."""
    with registry_stand_in() as stand_in:
        url = stand_in.url
    config = tmp_path / "radera.toml"
    config.write_text(SETTINGS + _AWAY.format(folder=tmp_path, url=url), encoding="utf-8")
    ended = CliRunner().invoke(main, [role, "--config", str(config)])
    assert 2 == ended.exit_code
    assert (
        "radera: kafka.schema_registry.url: the registry does not answer (ConnectError); start it, or correct"
        " the address\n" in ended.output
    )
    assert "Traceback" not in ended.output


def test_the_samples_are_of_every_record() -> None:
    """What is framed above stands for all that travels."""
    assert {Confirmation, Request, Outcome, Decision} <= {type(sample) for sample in SAMPLES}
    for sample in SAMPLES:
        single = encode(sample)
        assert encode(sample, schema_id=3) == PUBLISHED.reframed(single, 3)
