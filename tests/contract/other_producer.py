"""A producer of requests that shares no code with ours: `schemas/PRODUCING.md`, followed step by step.

HPKE is written out from RFC 9180 over X25519, HMAC and AES-GCM; the body is fastavro's, from the schema's
file.
"""

import base64
import hashlib
import hmac
import io
import json
import os
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastavro
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas" / "request.avsc").read_text(encoding="utf-8"))
KINDS = (
    "email",
    "phone",
    "name",
    "ga_client_id",
    "ga_user_id",
    "ga_app_instance_id",
    "customer_id",
    "tenant_user_id",
    "notice_to",
)
_KEM = b"KEM" + struct.pack(">H", 0x0020)  # DHKEM(X25519, HKDF-SHA256)
_SUITE = b"HPKE" + struct.pack(">HHH", 0x0020, 0x0001, 0x0002)  # ..., HKDF-SHA256, AES-256-GCM


# --- HPKE, RFC 9180, base mode, one shot ---


def _extract(salt: bytes, suite: bytes, label: bytes, ikm: bytes) -> bytes:
    return hmac.new(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, hashlib.sha256).digest()


def _expand(prk: bytes, suite: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labeled = struct.pack(">H", length) + b"HPKE-v1" + suite + label + info
    made, block = b"", b""
    while len(made) < length:
        block = hmac.new(prk, block + labeled + bytes([len(made) // 32 + 1]), hashlib.sha256).digest()
        made += block
    return made[:length]


def _aead(shared: bytes, enc: bytes, recipient: bytes, info: bytes) -> tuple[AESGCM, bytes]:
    prk = _extract(b"", _KEM, b"eae_prk", shared)
    secret = _expand(prk, _KEM, b"shared_secret", enc + recipient, 32)
    context = b"\0" + _extract(b"", _SUITE, b"psk_id_hash", b"") + _extract(b"", _SUITE, b"info_hash", info)
    keys = _extract(secret, _SUITE, b"secret", b"")
    return AESGCM(_expand(keys, _SUITE, b"key", context, 32)), _expand(
        keys, _SUITE, b"base_nonce", context, 12
    )


def wrap(recipient: bytes, info: bytes, key: bytes, ephemeral: bytes) -> bytes:
    """`ephemeral` is a fresh random X25519 private key; fixed only to repeat a test vector."""
    private = X25519PrivateKey.from_private_bytes(ephemeral)
    enc = private.public_key().public_bytes_raw()
    aead, nonce = _aead(private.exchange(X25519PublicKey.from_public_bytes(recipient)), enc, recipient, info)
    return enc + aead.encrypt(nonce, key, b"")


def unwrap(private_key: bytes, info: bytes, wrapped: bytes) -> bytes:
    """What the installation does."""
    private, enc = X25519PrivateKey.from_private_bytes(private_key), wrapped[:32]
    shared = private.exchange(X25519PublicKey.from_public_bytes(enc))
    aead, nonce = _aead(shared, enc, private.public_key().public_bytes_raw(), info)
    return aead.decrypt(nonce, wrapped[32:], b"")


# --- Avro ---


def canonical(schema: Any, namespace: str = "radera.erasure.v1") -> Any:
    """The Parsing Canonical Form, as far as this schema needs it."""
    if isinstance(schema, list):
        return [canonical(one) for one in schema]
    if isinstance(schema, str):
        return schema
    kept: dict[str, Any] = {"name": f"{namespace}.{schema['name']}"} if "name" in schema else {}
    kept["type"] = schema["type"]
    if "fields" in schema:
        kept["fields"] = [{"name": one["name"], "type": canonical(one["type"])} for one in schema["fields"]]
    kept |= {name: schema[name] for name in ("symbols",) if name in schema}
    kept |= {name: canonical(schema[name]) for name in ("items",) if name in schema}
    return kept if len(kept) > 1 else kept["type"]


def crc_64(data: bytes) -> bytes:
    """CRC-64-AVRO, in the order of the wire."""
    empty = 0xC15D213AA4D7A795
    value = empty
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (empty & -(value & 1))
    return value.to_bytes(8, "little")


def single_object_header(schema: Any) -> bytes:
    return b"\xc3\x01" + crc_64(json.dumps(canonical(schema), separators=(",", ":")).encode())


def confluent_header(schema_id: int) -> bytes:
    return b"\0" + struct.pack(">I", schema_id)


def body(schema: Any, fields: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(schema), fields)
    return buffer.getvalue()


# --- a request ---


@dataclass(frozen=True)
class Chance:
    """What is random in a request."""

    key: bytes
    nonce: bytes
    ephemeral: bytes


def identifiers_json(items: Sequence[tuple[str, str, str | None]]) -> bytes:
    text = json.dumps({"format": 1, "items": sorted(items)}, ensure_ascii=False, separators=(",", ":"))
    return text.encode()


def bound_to(request_id: str) -> bytes:
    return b"radera/1\0" + request_id.encode() + b"\0identifiers"


def sealed(chance: Chance, request_id: str, identifiers: bytes) -> bytes:
    cipher = AESGCM(chance.key)
    return b"\x01" + chance.nonce + cipher.encrypt(chance.nonce, identifiers, bound_to(request_id))


def info_of(request_id: str) -> bytes:
    return b"radera/request-key/1\0" + request_id.encode()


def wrapped_key(chance: Chance, request_id: str, public_key: bytes) -> bytes:
    return wrap(public_key, info_of(request_id), chance.key, chance.ephemeral)


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def headers(event_id: str, source: str, time: str, traceparent: str | None = None) -> list[tuple[str, bytes]]:
    said = {
        "ce_specversion": "1.0",
        "ce_id": event_id,
        "ce_source": source,
        "ce_type": "radera.erasure.request.v1",
        "ce_time": time,
        "content-type": "application/avro",
        **({} if traceparent is None else {"traceparent": traceparent}),
    }
    return [(name, value.encode()) for name, value in said.items()]


def request(
    public: dict[str, Any],
    items: Sequence[tuple[str, str, str | None]],
    *,
    schema: Any = SCHEMA,
    **said: Any,
) -> tuple[str, bytes, list[tuple[str, bytes]]]:
    """Key, body (without a framing's header) and headers of a request; `public` is what `radera keys public`
    prints.
    """
    chance = Chance(key=os.urandom(32), nonce=os.urandom(12), ephemeral=os.urandom(32))
    request_id = str(uuid.uuid4())
    now = datetime.now(UTC)
    event_id = f"shop:{request_id}"
    fields = {
        "event_id": event_id,
        "request_id": request_id,
        "received_at": int(now.timestamp() * 1_000_000),
        "source": "shop",
        "verified": True,
        "sealed_identifiers": sealed(chance, request_id, identifiers_json(items)),
        "key_generation": public["generation"],
        "wrapped_key": wrapped_key(chance, request_id, base64.b64decode(public["public_key"])),
        **said,
    }
    time = now.isoformat().replace("+00:00", "Z")
    return request_id, body(schema, fields), headers(event_id, "/shop", time)
