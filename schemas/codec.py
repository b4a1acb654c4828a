"""Messages to bytes and back.

* The `.avsc` files beside this module are the source of truth for the wire; `schemas.messages` is how Python
  sees them. Both are checked: Avro says that the bytes have the form, pydantic that the values make sense.
* We write Avro single-object encoding: C3 01, the CRC-64-AVRO fingerprint of the writer's Parsing Canonical
  Form in little-endian order, the body. Given a schema id, Confluent framing instead: 00, the id in four
  bytes big-endian, the body. Both are always readable, the second one through a resolver that knows the
  registry's ids.
* A fingerprint names one version. Every version ever published stays in `history/` and is read into the
  present one, so that a record that waited in a topic while we were upgraded is still understood.
* Times stay integers. A logical type would make fastavro build datetime objects, so the types are taken out
  before it sees the schema; they aren't part of the canonical form, and no fingerprint changes.
* Whatever the bytes, `decode` returns a valid message or raises a CodecError, whose text, cause, context and
  frames of ours hold nothing of the payload: a producer that got it wrong may have put a person's data there.
* A registry's schema is another's text: one that could make a small message cost much (it contains itself, or
  has array items of no size) or mean something else (a time in milliseconds) is refused.
"""

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from importlib import resources
from io import BytesIO
from typing import Any, Final, NamedTuple, TypeVar

import fastavro
from fastavro.read import SchemaResolutionError
from fastavro.schema import fingerprint, to_parsing_canonical_form
from pydantic import ValidationError

from schemas.errors import CodecError, MalformedMessage, MessageTooLarge, UnfitMessage, UnknownSchema
from schemas.messages import Callback, Command, Confirmation, Decision, Message, Outcome, Request

__all__ = [
    "MAX_BYTES",
    "MAX_ITEMS",
    "MAX_READ",
    "PUBLISHED",
    "RECORDS",
    "Codec",
    "CodecError",
    "MalformedMessage",
    "MessageTooLarge",
    "Resolver",
    "UnfitMessage",
    "UnknownSchema",
    "decode",
    "encode",
    "fingerprint_of",
    "record_of",
    "reframed",
    "schema_id_of",
    "schema_of",
]

# A topic takes batches of up to 1,048,588 bytes. Beside the message a batch holds the record's key and
# headers, the frames of Kafka and of a registry, and what its compression may add.
MAX_BYTES: Final = 1024 * 1024 - 16 * 1024
# What others wrote may be larger, and so is what we wrote when our limit was this.
MAX_READ: Final = 1024 * 1024
MAX_ITEMS: Final = 20_000  # of arrays and maps in one message: a megabyte can hold a million empty strings

RECORDS: Final[tuple[type[Message], ...]] = (Request, Command, Confirmation, Decision, Outcome, Callback)

# Gives the schema (JSON text) that a registry knows by an id. LookupError says that it has no such id. Any
# other error, such as the registry being away, passes through `decode`: the message isn't to blame, and must
# be tried again. The resolver remembers what it fetched, an id never changes its meaning.
Resolver = Callable[[int], str]

M = TypeVar("M", bound=Message)

_SINGLE_OBJECT: Final = b"\xc3\x01"
_SINGLE_OBJECT_HEADER: Final = 10
_CONFLUENT: Final = b"\x00"
_CONFLUENT_HEADER: Final = 5


class _Version(NamedTuple):
    """One version of one record type. `header` begins its messages in single-object encoding; `many` are the
    fields that can hold more than one value.
    """

    name: str
    text: str
    schema: Any
    header: bytes
    many: tuple[str, ...]


class Codec:
    """Reads the given current and older schemas, and writes the current ones."""

    def __init__(self, current: Iterable[str], older: Iterable[str]) -> None:
        versions = [_parse(text) for text in current]
        self._current: Mapping[str, _Version] = {version.name: version for version in versions}
        self._by_header = {version.header: version for version in (*map(_parse, older), *versions)}

    def encode(self, message: Message, *, schema_id: int | None = None) -> bytes:
        """The message's bytes; in Confluent framing when given the registry's id of the current schema."""
        current = self._current[type(message).__name__]
        data = message.model_dump(warnings=False)  # a warning would quote the value
        body = _write(current, data)
        too_many = body is not None and _too_many(current, data, len(body))
        del data, message  # from the frames of the errors below
        if body is None:
            raise UnfitMessage(f"It is a {current.name}.")
        header = current.header if schema_id is None else _CONFLUENT + struct.pack(">I", schema_id)
        if len(header) + len(body) > MAX_BYTES or too_many:
            raise MessageTooLarge(f"The limits are {MAX_BYTES} bytes and {MAX_ITEMS} items.")
        return header + body

    def decode(self, data: bytes, expected: type[M], *, registry: Resolver | None = None) -> M:
        """The message in the bytes, of the expected type. Raises CodecError, and what the resolver raises."""
        result = self._decode(data, expected, registry)
        if isinstance(result, CodecError):
            # Outside every `except`, for it to have no context, and without the bytes in this frame.
            del data
            raise result
        return result

    def record_of(self, data: bytes) -> type[Message] | None:
        """What the bytes are in single-object encoding, going by their header; None for anything else."""
        version = self._by_header.get(data[:_SINGLE_OBJECT_HEADER])
        return next((one for one in RECORDS if version is not None and one.__name__ == version.name), None)

    def reframed(self, data: bytes, schema_id: int) -> bytes:
        """A message of ours, in single-object encoding, as Confluent framing has it; `schema_id` is the
        registry's for the current schema of its record. Raises CodecError.
        """
        record = self.record_of(data)
        if record is None:
            raise UnknownSchema("It is none of ours in single-object encoding.")
        if data.startswith(self._current[record.__name__].header):
            return _CONFLUENT + struct.pack(">I", schema_id) + data[_SINGLE_OBJECT_HEADER:]
        # It waited while we were upgraded.
        return self.encode(self.decode(data, record), schema_id=schema_id)

    def schema_of(self, record: type[Message]) -> str:
        """The record type's current schema, as text for a registry."""
        return self._current[record.__name__].text

    def fingerprint_of(self, record: type[Message]) -> str:
        """The fingerprint of the record type's current schema, in hex as it stands on the wire."""
        return self._current[record.__name__].header[len(_SINGLE_OBJECT) :].hex()

    def _decode(self, data: bytes, expected: type[M], registry: Resolver | None) -> M | CodecError:
        if len(data) > MAX_READ:
            return MessageTooLarge(f"The limit is {MAX_READ} bytes.")
        if data.startswith(_SINGLE_OBJECT):
            written = self._by_header.get(data[:_SINGLE_OBJECT_HEADER])
            start = _SINGLE_OBJECT_HEADER
            if len(data) < start:
                return MalformedMessage("It ends within its header.")
            if written is None:
                return UnknownSchema(f"Its fingerprint is {data[len(_SINGLE_OBJECT) : start].hex()}.")
        elif data.startswith(_CONFLUENT):
            start = _CONFLUENT_HEADER
            schema_id = schema_id_of(data)
            if schema_id is None:
                return MalformedMessage("It ends within its header.")
            if registry is None:
                return UnknownSchema(f"It names schema {schema_id} of a registry, and none is configured.")
            found = _from_registry(registry, schema_id)
            if isinstance(found, str):
                return UnknownSchema(f"Schema {schema_id} of the registry {found}.")
            written = found
        else:
            return MalformedMessage("It begins like neither of the two encodings.")
        if written.name != expected.__name__:
            return MalformedMessage(f"It is a {written.name}, where a {expected.__name__} belongs.")
        return _read(data, start, written, self._current[expected.__name__], expected)


def schema_id_of(data: bytes) -> int | None:
    """The registry's id that the bytes name in Confluent framing; None where they name none."""
    if not data.startswith(_CONFLUENT) or len(data) < _CONFLUENT_HEADER:
        return None
    return int.from_bytes(data[len(_CONFLUENT) : _CONFLUENT_HEADER], "big")


def _parse(text: str) -> _Version:
    schema = fastavro.parse_schema(_without_logical_types(json.loads(text)))
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise ValueError("only records travel")
    _least_bytes(schema, {}, ())
    header = _SINGLE_OBJECT + bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))
    many = tuple(field["name"] for field in schema["fields"] if _holds_many(field["type"]))
    return _Version(schema["name"].rpartition(".")[2], text, schema, header, many)


def _from_registry(registry: Resolver, schema_id: int) -> _Version | str:
    try:
        text = registry(schema_id)
    except LookupError:
        return "is not there"
    return _foreign(text)


@lru_cache(maxsize=128)
def _foreign(text: str) -> _Version | str:
    try:
        return _parse(text)
    except Exception:  # whatever a stranger's text does to the parser, the answer is the same
        return "is none that we could read safely"


def _write(current: _Version, data: dict[str, Any]) -> bytes | None:
    buffer = BytesIO()
    try:
        # A tuple would else be taken for fastavro's (name of the branch, value) of a union.
        fastavro.schemaless_writer(buffer, current.schema, data, disable_tuple_notation=True)
    except Exception:  # fastavro raises what Python happens to raise there; the caller says it in our words
        return None
    return buffer.getvalue()


def _read(data: bytes, start: int, written: _Version, current: _Version, expected: type[M]) -> M | CodecError:
    buffer = BytesIO(data)
    buffer.seek(start)
    try:
        if written.header == current.header:
            values = fastavro.schemaless_reader(buffer, written.schema, None)
        else:
            values = fastavro.schemaless_reader(buffer, written.schema, current.schema)
    except SchemaResolutionError:
        return UnknownSchema(f"It was written as a {written.name} that can't be read as ours.")
    except Exception:  # what Python happens to raise on the bytes: EOFError, IndexError, MemoryError
        return MalformedMessage(f"The body of the {written.name} can't be read.")
    if not isinstance(values, dict) or buffer.tell() != len(data):
        return MalformedMessage(f"Something follows the {written.name}.")
    # What another schema leaves out may take no bytes.
    if _too_many(current, values, len(data) if written is current else None):
        return MessageTooLarge(f"The limit is {MAX_ITEMS} items.")
    try:
        return expected.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        # The first part of the place is a field of ours; what follows may be a key from the payload.
        return MalformedMessage(f"The {written.name}'s {first['loc'][0]} is wrong: {first['type']}.")
    except Exception:  # a validator that stumbles must not let the payload out either
        return MalformedMessage(f"The {written.name} can't be checked.")


def _too_many(current: _Version, values: Mapping[str, Any], size: int | None) -> bool:
    """Whether there are more items than allowed. They are counted only where so many can be in `size` bytes,
    since each takes at least one (see `_least_bytes`); None if that isn't known.
    """
    can_be = size is None or size > MAX_ITEMS
    return can_be and _items([values[name] for name in current.many]) > MAX_ITEMS


def _items(values: Iterable[Any]) -> int:
    """How many items the arrays and maps among the values hold altogether."""
    count = 0
    for value in values:
        if isinstance(value, dict):
            count += len(value) + _items(value.values())
        elif isinstance(value, list | tuple):
            count += len(value) + _items(value)
    return count


def _holds_many(schema: Any) -> bool:
    if isinstance(schema, list):
        return any(map(_holds_many, schema))
    return isinstance(schema, dict) and schema["type"] in ("array", "map", "record")


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_logical_types(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "long" and schema.get("logicalType", "timestamp-micros") != "timestamp-micros":
        raise ValueError("times are in microseconds, UTC")
    plain = {key: value for key, value in schema.items() if key != "logicalType"}
    for key in ("type", "items", "values", "fields"):
        if key in plain:
            plain[key] = _without_logical_types(plain[key])
    return plain


def _least_bytes(schema: Any, sizes: dict[str, int], within: tuple[str, ...]) -> int:
    """The least that a value takes. Refuses schemas that contain themselves and arrays of nothing."""
    if isinstance(schema, list):
        for branch in schema:
            _least_bytes(branch, sizes, within)
        return 1
    if isinstance(schema, str):
        if schema in within:
            raise ValueError("the schema contains itself")
        return sizes.get(schema, 0 if schema == "null" else 1)
    kind = schema["type"]
    if kind == "record":
        name = schema["name"]
        sizes[name] = sum(_least_bytes(field["type"], sizes, (*within, name)) for field in schema["fields"])
        return sizes[name]
    if kind == "fixed":
        sizes[schema["name"]] = min(schema["size"], 1)
        return sizes[schema["name"]]
    if kind in ("array", "map"):
        least = _least_bytes(schema["items" if kind == "array" else "values"], sizes, within)
        if kind == "array" and least == 0:
            raise ValueError("the items of an array take no bytes")
        return 1
    return 1 if kind == "enum" else _least_bytes(kind, sizes, within)


def _published() -> Codec:
    here = resources.files("schemas")
    current = [(here / f"{record.__name__.lower()}.avsc").read_text("utf-8") for record in RECORDS]
    past = here / "history"
    return Codec(current, [file.read_text("utf-8") for file in past.iterdir() if file.name.endswith(".avsc")])


# Bound methods, parsed once at import; a function around `decode` would be one more frame that holds the
# bytes.
PUBLISHED: Final = _published()
encode = PUBLISHED.encode
decode = PUBLISHED.decode
schema_of = PUBLISHED.schema_of
fingerprint_of = PUBLISHED.fingerprint_of
record_of = PUBLISHED.record_of
reframed = PUBLISHED.reframed
