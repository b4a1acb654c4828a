"""Messages survive the way over the bus, and bytes that are no message do no harm."""

import json
import struct
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import (
    MAX_BYTES,
    MAX_ITEMS,
    MAX_READ,
    RECORDS,
    Codec,
    CodecError,
    MalformedMessage,
    MessageTooLarge,
    UnfitMessage,
    UnknownSchema,
    decode,
    encode,
    fingerprint_of,
    schema_of,
)
from schemas.messages import Callback, Confirmation, Decision, Message, Outcome, Request
from tests.golden.add import FOLDER, golden_file, in_json
from tests.golden.samples import MICROS, REQUEST_ID, SAMPLES

CANARY = "anna.svensson@example.com"
GOLDEN = sorted(FOLDER.glob("*.avro"))
by_type = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)


def failure(call: Callable[[], object]) -> CodecError:
    with pytest.raises(CodecError) as caught:
        call()
    return caught.value


def long(value: int) -> bytes:
    """A long as the Avro specification writes it: zig-zag, seven bits a byte."""
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def text(value: str) -> bytes:
    return long(len(value.encode())) + value.encode()


def some(value: bytes) -> bytes:
    return long(1) + value


NONE = long(0)


def decision_body(reason: bytes = text("so"), action: int = 1, decided_at: int = MICROS) -> bytes:
    return (
        text("decision:1")
        + text(REQUEST_ID)
        + long(action)
        + some(text("e:1"))
        + some(long(2))
        + reason
        + text("dpo")
        + long(decided_at)
    )


DECISION_HEADER = b"\xc3\x01" + bytes.fromhex(fingerprint_of(Decision))


# --- the way there and back ---------------------------------------------------------------------------------


@by_type
def test_a_message_survives(sample: Message) -> None:
    """What was encoded is decoded to the same message."""
    assert sample == decode(encode(sample), type(sample))


@by_type
def test_a_message_survives_confluent_framing(sample: Message) -> None:
    """00, the id in four big-endian bytes, the body; read through the registry's schema."""
    data = encode(sample, schema_id=258)
    assert b"\x00\x00\x00\x01\x02" == data[:5]
    assert encode(sample)[10:] == data[5:]
    assert sample == decode(data, type(sample), registry={258: schema_of(type(sample))}.__getitem__)


def test_bytes_written_by_the_specification_are_read() -> None:
    """The codec agrees with a message put together by hand from the specification."""
    expected = Decision(
        event_id="decision:1",
        request_id=REQUEST_ID,
        action="retry",
        escalation_id="e:1",
        escalation_version=2,
        reason="so",
        decided_by="dpo",
        decided_at=MICROS,
    )
    assert DECISION_HEADER + decision_body() == encode(expected)
    assert expected == decode(DECISION_HEADER + decision_body(), Decision)


micros = st.integers(0, 2**62 - 1)
tokens = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,20}", fullmatch=True)
digests = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
words = st.text(st.characters(codec="utf-8"), max_size=200)
optional = partial(st.one_of, st.none())


@given(
    st.builds(
        Confirmation,
        event_id=tokens,
        request_id=st.none() | st.just(REQUEST_ID),
        system=optional(tokens),
        kind=st.sampled_from(["located", "proved", "notice_failed"]),
        occurred_at=micros,
        attempt=st.integers(0, 2**31 - 1),
        retained_until=optional(micros),
        retry_after=optional(micros),
        sealed_references=optional(st.binary(max_size=300)),
        correlations=st.lists(digests, max_size=3).map(tuple),
        missing=st.lists(tokens, max_size=3).map(tuple),
        grade=optional(st.sampled_from(["seen_absent", "vendor_promised"])),
        retryable=st.booleans(),
        evidence=st.dictionaries(tokens, words, max_size=4),
    )
)
def test_any_confirmation_survives(message: Confirmation) -> None:
    """Whatever values a message may have, it comes back with the same."""
    assert message == decode(encode(message), Confirmation)


@given(
    st.builds(
        Request,
        event_id=tokens,
        request_id=st.just(REQUEST_ID),
        received_at=micros,
        source=tokens,
        verified=st.booleans(),
        scope=optional(st.lists(tokens, max_size=3).map(tuple)),
        sealed_identifiers=st.binary(max_size=300),
    )
)
def test_any_request_survives(message: Request) -> None:
    """No scope and an empty scope stay different, and a scope of two is not taken for a named union
    branch."""
    assert message == decode(encode(message), Request)


# --- what was published stays readable ----------------------------------------------------------------------


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_golden_bytes_are_read(file: Path) -> None:
    """Bytes of every version ever published decode to what they said; newer fields have their defaults."""
    record = {record.__name__.lower(): record for record in RECORDS}[file.stem.partition("-")[0]]
    said = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    decoded = json.loads(in_json(decode(file.read_bytes(), record)))
    assert said == only_keys_of(said, decoded)


def only_keys_of(pattern: Any, value: Any) -> Any:
    if isinstance(pattern, dict):
        return {key: only_keys_of(inner, value[key]) for key, inner in pattern.items()}
    if isinstance(pattern, list) and len(pattern) == len(value):
        return [only_keys_of(*pair) for pair in zip(pattern, value, strict=True)]
    return value


@by_type
def test_every_current_version_has_golden_bytes(sample: Message) -> None:
    """A schema is not published without bytes that hold it (python -m tests.golden.add), and they are
    ours."""
    assert golden_file(type(sample)).read_bytes() == encode(sample)


def older_decision() -> dict[str, Any]:
    """A Decision as it might have been: no escalations yet, fewer actions, and a field that went."""
    return {
        "type": "record",
        "name": "Decision",
        "namespace": "radera.erasure.v1",
        "fields": [
            {"name": "event_id", "type": "string"},
            {"name": "request_id", "type": "string"},
            {"name": "priority", "type": "int"},
            {
                "name": "action",
                "type": {"type": "enum", "name": "DecisionAction", "symbols": ["cancel", "retry"]},
            },
            {"name": "decided_by", "type": "string"},
            {"name": "decided_at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        ],
    }


OLDER_BODY = text("d:1") + text(REQUEST_ID) + long(7) + long(1) + text("dpo") + long(MICROS)
OLDER_READ = Decision(
    event_id="d:1", request_id=REQUEST_ID, action="retry", decided_by="dpo", decided_at=MICROS
)


def test_an_older_version_is_read_into_the_present_one() -> None:
    """Symbols go by name, new fields get their defaults, fields that went are passed over."""
    older = json.dumps(older_decision())
    codec = Codec([schema_of(record) for record in RECORDS], [older])
    header = b"\xc3\x01" + bytes.fromhex(Codec([older], []).fingerprint_of(Decision))
    assert OLDER_READ == codec.decode(header + OLDER_BODY, Decision)
    assert isinstance(failure(lambda: decode(header + OLDER_BODY, Decision)), UnknownSchema)


def test_an_older_version_of_a_registry_is_read() -> None:
    """The same holds for a schema that a registry gives."""
    data = b"\x00" + struct.pack(">I", 9) + OLDER_BODY
    assert OLDER_READ == decode(data, Decision, registry={9: json.dumps(older_decision())}.__getitem__)


def test_a_newer_symbol_is_an_error_and_not_another_symbol() -> None:
    """A decision that we don't know must not be taken for one that we do."""
    newer = older_decision()
    newer["fields"][3]["type"]["symbols"] = ["cancel", "pause"]
    data = b"\x00" + struct.pack(">I", 9) + OLDER_BODY
    error = failure(lambda: decode(data, Decision, registry={9: json.dumps(newer)}.__getitem__))
    assert isinstance(error, UnknownSchema)


# --- bytes that are no message ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\xc3",
        b"\xc3\x01",
        b"\xc3\x01" + bytes(7),
        b"{}",
        DECISION_HEADER,
        DECISION_HEADER + decision_body() + b"\x00",
        DECISION_HEADER + decision_body()[:-1],
        DECISION_HEADER + decision_body(reason=long(-1)),
        DECISION_HEADER + decision_body(reason=long(2**40)),
        DECISION_HEADER + decision_body(reason=long(2**62)),
        DECISION_HEADER + decision_body(reason=long(2) + b"\xc3\x28"),
        DECISION_HEADER + decision_body(reason=text("x" * 501)),
        DECISION_HEADER + decision_body(action=7),
        DECISION_HEADER + decision_body(action=2**40),
        DECISION_HEADER + decision_body(decided_at=-1),
    ],
)
def test_bytes_that_are_no_message_are_malformed(data: bytes) -> None:
    """Cut short, too long, out of range or not of this encoding: always the same typed error."""
    assert isinstance(failure(lambda: decode(data, Decision)), MalformedMessage)


def test_an_unknown_fingerprint_is_an_unknown_schema() -> None:
    """It is the reader that must be upgraded, and the error names the fingerprint to look for."""
    error = failure(lambda: decode(b"\xc3\x01" + bytes(range(8)) + b"x", Decision))
    assert isinstance(error, UnknownSchema)
    assert "0001020304050607" in str(error)


def test_a_message_of_another_type_is_malformed() -> None:
    """A topic carries one type; another one, though well formed, is its producer's mistake."""
    error = failure(lambda: decode(encode(SAMPLES[0]), Outcome))
    assert isinstance(error, MalformedMessage)
    assert "It is a Request, where a Outcome belongs." in str(error)


@given(st.sampled_from(SAMPLES), st.data())
def test_cut_bytes_are_malformed(sample: Message, data: st.DataObject) -> None:
    """No beginning of a message is a message."""
    whole = encode(sample)
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert isinstance(failure(lambda: decode(whole[:cut], type(sample))), MalformedMessage)


@given(st.sampled_from(SAMPLES), st.data())
def test_changed_bytes_give_a_message_or_a_typed_error(sample: Message, data: st.DataObject) -> None:
    """Whatever is changed in the bytes, nothing but a valid message or a CodecError comes out."""
    changed = bytearray(encode(sample))
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = decode(bytes(changed), type(sample))
    except CodecError:
        return
    assert message == type(sample).model_validate(message.model_dump())


@given(st.sampled_from(RECORDS), st.binary(max_size=200))
def test_random_bodies_give_a_message_or_a_typed_error(record: type[Message], body: bytes) -> None:
    """The same for a body of noise under a right header."""
    try:
        decode(b"\xc3\x01" + bytes.fromhex(fingerprint_of(record)) + body, record)
    except CodecError:
        return


# --- sizes --------------------------------------------------------------------------------------------------


def callback(size: int) -> Callback:
    return Callback(event_id="c:1", kind="hubspot", received_at=1, sealed_body=bytes(size))


def test_a_message_that_is_too_large_is_refused_on_both_sides() -> None:
    """The largest that we write can be read, and one byte more is neither written nor read."""
    spare = MAX_BYTES - len(encode(callback(500_000))) + 500_000
    largest = encode(callback(spare))
    assert MAX_BYTES == len(largest)
    assert callback(spare) == decode(largest, Callback)
    assert isinstance(failure(lambda: encode(callback(spare + 1))), MessageTooLarge)
    assert isinstance(failure(lambda: decode(largest + bytes(MAX_READ), Callback)), MessageTooLarge)


def test_what_was_written_up_to_a_mebibyte_is_still_read() -> None:
    """Others write as much, and so did we: it may wait on a topic."""
    body = bytes(MAX_READ - 40)
    named = b"".join(long(len(text)) + text for text in (b"c:1", b"hubspot"))
    data = encode(callback(0))[:10] + named + NONE + NONE + long(1) + long(len(body)) + body + NONE
    said = callback(0).model_copy(update={"sealed_body": body})
    assert said == decode(data, Callback)
    assert MAX_READ >= len(data) > MAX_BYTES


def test_too_many_items_are_refused_on_both_sides() -> None:
    """A megabyte of empty strings is refused before each of them is looked at."""
    sample = next(sample for sample in SAMPLES if isinstance(sample, Request))
    fits = sample.model_copy(update={"scope": ("a",) * MAX_ITEMS, "identifiers": None})
    assert fits == decode(encode(fits), Request)
    over = sample.model_copy(update={"scope": ("a",) * (MAX_ITEMS + 1)})
    assert isinstance(failure(lambda: encode(over)), MessageTooLarge)
    before, after = encode(sample.model_copy(update={"scope": ()})).split(some(long(0)), 1)
    many = before + some(long(900_000) + bytes(900_000) + long(0)) + after
    assert isinstance(failure(lambda: decode(many, Request)), MessageTooLarge)


def test_a_message_that_dodged_its_constructor_is_unfit() -> None:
    """What would be unreadable is not written, and the error says that we are to blame."""
    unfit = SAMPLES[0].model_copy(update={"received_at": CANARY})
    assert_silent(failure(lambda: encode(unfit)), UnfitMessage)


# --- a registry ---------------------------------------------------------------------------------------------


def test_confluent_framing_without_a_registry_is_an_unknown_schema() -> None:
    """The error says what is missing: a registry."""
    error = failure(lambda: decode(encode(SAMPLES[0], schema_id=7), Request))
    assert isinstance(error, UnknownSchema)
    assert "schema 7" in str(error)


def test_an_id_that_the_registry_does_not_have_is_an_unknown_schema() -> None:
    """LookupError is the resolver's word for it."""
    nothing: dict[int, str] = {}
    error = failure(lambda: decode(encode(SAMPLES[0], schema_id=7), Request, registry=nothing.__getitem__))
    assert isinstance(error, UnknownSchema)


def test_a_registry_that_is_away_is_not_the_messages_fault() -> None:
    """Its error passes through, for the message to be tried again and not dead-lettered."""

    def away(schema_id: int) -> str:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        decode(encode(SAMPLES[0], schema_id=7), Request, registry=away)


def changed(**fields: Any) -> str:
    schema = older_decision()
    for field in schema["fields"]:
        field["type"] = fields.get(field["name"], field["type"])
    return json.dumps(schema)


@pytest.mark.parametrize(
    "schema",
    [
        "",
        "not json",
        '"string"',
        "[" * 100_000,
        '{"type": "record", "name": "Decision", "fields": [{"name": "x", "type": "Nothing"}]}',
        changed(priority={"type": "array", "items": "null"}),
        changed(priority={"type": "array", "items": {"type": "record", "name": "E", "fields": []}}),
        changed(priority={"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}),
        changed(priority=["null", "Decision"]),
        changed(priority={"type": "map", "values": "radera.erasure.v1.Decision"}),
        changed(decided_at={"type": "long", "logicalType": "timestamp-millis"}),
    ],
)
def test_a_schema_that_is_unsafe_is_refused(schema: str) -> None:
    """Broken, recursive (each byte one level deeper), with free items (one byte, a billion), or in other
    units."""
    data = b"\x00" + struct.pack(">I", 9) + b"\x02" * 1000
    error = failure(lambda: decode(data, Decision, registry=lambda schema_id: schema))
    assert isinstance(error, UnknownSchema)


# --- nothing personal in errors -----------------------------------------------------------------------------


def assert_silent(error: CodecError, expected: type[CodecError]) -> None:
    assert isinstance(error, expected)
    assert (None, None) == (error.__cause__, error.__context__)
    assert CANARY not in "".join(traceback.format_exception(error))
    assert CANARY not in repr(error)
    frame = error.__traceback__
    while frame:
        if "schemas" in Path(frame.tb_frame.f_code.co_filename).parts:
            assert not {"data", "values", "body", "buffer"} & {
                name for name, value in frame.tb_frame.f_locals.items() if CANARY in repr(value)
            }
        frame = frame.tb_next


@pytest.mark.parametrize(
    "data",
    [
        CANARY.encode(),
        b"\xc3\x01" + CANARY.encode(),
        b"\x00" + CANARY.encode(),
        DECISION_HEADER + text(CANARY),
        DECISION_HEADER + decision_body(reason=text(CANARY), action=5, decided_at=-1),
        DECISION_HEADER + decision_body() + CANARY.encode(),
    ],
)
def test_errors_hold_nothing_of_the_payload(data: bytes) -> None:
    """Not in the text, the cause, the context, or the locals of our own frames."""
    error = failure(lambda: decode(data, Decision))
    assert_silent(error, CodecError)


def test_an_invalid_field_is_named_without_its_value() -> None:
    """The field and what is wrong with it help the producer; the value and the keys of a map stay out."""
    data = bytearray(encode(next(sample for sample in SAMPLES if isinstance(sample, Confirmation))))
    at = data.index(b"context_identifier")
    data[at : at + 18] = b"anna@sven.example "[:18]
    error = failure(lambda: decode(bytes(data), Confirmation))
    assert "The Confirmation's evidence is wrong: string_pattern_mismatch." in str(error)
    assert "anna" not in str(error)
