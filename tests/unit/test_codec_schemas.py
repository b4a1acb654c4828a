"""The Avro schemas, the Python classes and the fingerprints say the same."""

import json
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic.fields import FieldInfo

from schemas import codec, topics
from schemas.messages import Message
from tests.golden.samples import SAMPLES

NAMESPACE = "radera.erasure.v1"
SCHEMAS = Path(codec.__file__).parent


def schema_of(record: type[Message]) -> dict[str, Any]:
    return dict(json.loads(codec.schema_of(record)))


class Reader:
    """Tells in Python's terms what an Avro type takes, following names that were defined earlier."""

    def __init__(self) -> None:
        self.named: dict[str, Any] = {}

    def says(self, avro: Any) -> Any:
        if isinstance(avro, str):
            return self.named.get(avro, avro)
        if isinstance(avro, list):
            assert len(avro) == 2
            assert avro[0] == "null"
            return "optional", self.says(avro[1])
        kind = avro["type"]
        if kind == "long":
            assert avro.get("logicalType") == "timestamp-micros"
            return "time"
        if kind == "enum":
            assert "default" not in avro  # see schemas/README.md
            self.named[avro["name"]] = ("one of", tuple(avro["symbols"]))
            return self.named[avro["name"]]
        if kind == "array":
            return "array", self.says(avro["items"])
        if kind == "map":
            return "map", self.says(avro["values"])
        assert kind == "record"
        self.named[avro["name"]] = ("record", avro["name"], self.fields(avro))
        return self.named[avro["name"]]

    def fields(self, record: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
        return {
            field["name"]: (self.says(field["type"]), field.get("default", "none"))
            for field in record["fields"]
        }


def python_says(annotation: Any, name: str, metadata: list[Any]) -> Any:
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return python_says(inner, name, [*metadata, *more])
    arguments = get_args(annotation)
    match get_origin(annotation):
        case origin if origin is Literal:
            return "one of", arguments
        case origin if origin in (Union, types.UnionType):
            assert arguments[1] is type(None)
            return "optional", python_says(arguments[0], name, metadata)
        case origin if origin is tuple:
            return "array", python_says(arguments[0], name, metadata)
        case origin if origin is dict:
            return "map", python_says(arguments[1], name, metadata)
    if annotation is int:
        if name.endswith("_at") or name in ("not_after", "retained_until"):
            return "time"
        small = any(getattr(part, "lt", None) == 2**31 for one in metadata for part in parts_of(one))
        return "int" if small else "long"
    if isinstance(annotation, type) and issubclass(annotation, Message):
        return "record", annotation.__name__, fields_of(annotation)
    return {str: "string", bytes: "bytes", bool: "boolean"}[annotation]


def parts_of(metadata: Any) -> list[Any]:
    return list(metadata.metadata) if isinstance(metadata, FieldInfo) else [metadata]


def fields_of(record: type[Message]) -> dict[str, tuple[Any, Any]]:
    found = {}
    for name, field in record.model_fields.items():
        default = "none" if field.is_required() else field.get_default(call_default_factory=True)
        said = python_says(field.annotation, name, list(field.metadata))
        found[name] = (said, list(default) if isinstance(default, tuple) else default)
    return found


@pytest.mark.parametrize("record", codec.RECORDS)
def test_each_schema_has_the_fields_of_its_class(record: type[Message]) -> None:
    """Names, order, types, optionality, symbols and defaults are the same in Avro and in Python."""
    assert fields_of(record) == Reader().fields(schema_of(record))


@pytest.mark.parametrize("record", codec.RECORDS)
def test_each_schema_is_named_for_its_class(record: type[Message]) -> None:
    """The name on the wire finds the class."""
    assert (record.__name__, NAMESPACE) == (schema_of(record)["name"], schema_of(record)["namespace"])


def test_every_schema_file_is_read() -> None:
    """No .avsc lies beside the codec that it doesn't know."""
    assert {f"{record.__name__.lower()}.avsc" for record in codec.RECORDS} == {
        file.name for file in SCHEMAS.glob("*.avsc")
    }


def test_every_sample_sets_every_field() -> None:
    """The golden bytes leave no field untried: an optional field left out would hide a wrong type."""
    assert codec.RECORDS == tuple(type(sample) for sample in SAMPLES)
    for sample in SAMPLES:
        assert set(type(sample).model_fields) == sample.model_fields_set


def crc_64_avro(data: bytes) -> int:
    """The Rabin fingerprint as the Avro specification gives it ("Schema Fingerprints"), without a table."""
    empty = 0xC15D213AA4D7A795
    result = empty
    for byte in data:
        result ^= byte
        for _ in range(8):
            result = (result >> 1) ^ (empty & -(result & 1))
    return result


def canonical(schema: Any) -> str:
    """The Parsing Canonical Form, by the rules of the specification in their order."""

    def full(name: str) -> str:
        return name if "." in name else f"{NAMESPACE}.{name}"

    primitive = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")

    def strip(one: Any) -> Any:
        if isinstance(one, str):
            return one if one in primitive else full(one)
        if isinstance(one, list):
            return [strip(branch) for branch in one]
        if one["type"] in primitive:
            return one["type"]
        kept: dict[str, Any] = {}
        if "name" in one:
            kept["name"] = full(one["name"])
        kept["type"] = one["type"]
        if "fields" in one:
            kept["fields"] = [
                {"name": field["name"], "type": strip(field["type"])} for field in one["fields"]
            ]
        kept |= {key: one[key] for key in ("symbols",) if key in one}
        kept |= {key: strip(one[key]) for key in ("items", "values") if key in one}
        return kept

    return json.dumps(strip(schema), separators=(",", ":"), ensure_ascii=False)


@pytest.mark.parametrize(
    ("schema", "fingerprint"),
    [('"null"', 7195948357588979594), ('"int"', 8247732601305521295), ('"string"', -8142146995180207161)],
)
def test_the_independent_fingerprint_gives_the_published_values(schema: str, fingerprint: int) -> None:
    """The test's own CRC-64-AVRO agrees with the values in Apache Avro's schema-tests.txt."""
    assert fingerprint % 2**64 == crc_64_avro(schema.encode())


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_the_header_is_the_little_endian_fingerprint(sample: Message) -> None:
    """Bytes begin with C3 01 and the CRC-64-AVRO of the canonical form, least byte first."""
    expected = crc_64_avro(canonical(schema_of(type(sample))).encode()).to_bytes(8, "little")
    assert b"\xc3\x01" + expected == codec.encode(sample)[:10]
    assert expected.hex() == codec.fingerprint_of(type(sample))


def test_asyncapi_names_every_topic_and_every_message() -> None:
    """What the outside reads about our topics is what we use."""
    text = (SCHEMAS / "asyncapi.yaml").read_text(encoding="utf-8")
    for address in (
        topics.REQUESTS,
        topics.CONFIRMATIONS,
        topics.DECISIONS,
        topics.OUTCOMES,
        topics.commands("{kind}"),
        topics.callbacks("{kind}"),
        topics.dead_letters("{topic}"),
    ):
        assert f"address: {json.dumps(address)}\n" in text
    for record in codec.RECORDS:
        assert f"$ref: ./{record.__name__.lower()}.avsc\n" in text
