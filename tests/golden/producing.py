"""Writes the test vector for producers in other languages: `python -m tests.golden.producing`.

It changes only when the schema of a request does. It is made by the implementation that shares nothing with
ours, so that ours is held to it.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tests.contract import other_producer as other

FILE = Path(__file__).parents[2] / "schemas" / "producing-vector.json"
MASTER_KEY = bytes(range(32))
GENERATION = 7
CHANCE = other.Chance(
    key=bytes(range(0x40, 0x60)), nonce=bytes(range(0x60, 0x6C)), ephemeral=bytes(range(0x80, 0xA0))
)
REQUEST_ID = "0d7f0f2a-7f63-4a8e-9d3b-2f1f6b1c9a10"
ITEMS = (
    ("email", "asa.oberg@people.example", None),
    ("ga_client_id", "1234567890.1699999999", "shop.example"),
    ("name", "Åsa Öberg", None),
    ("phone", "+46701740605", None),
)
RECEIVED_AT, TIME = 1_788_220_800_000_000, "2026-09-01T00:00:00Z"
SUITE = "DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM"


def vector() -> dict[str, Any]:
    """One request, from the identifiers to the record."""
    private = HKDF(SHA256(), 32, salt=None, info=b"radera/exchange/1").derive(MASTER_KEY)
    public = X25519PrivateKey.from_private_bytes(private).public_key()
    clear = other.identifiers_json(ITEMS)
    sealed = other.sealed(CHANCE, REQUEST_ID, clear)
    wrapped = other.wrapped_key(CHANCE, REQUEST_ID, public.public_bytes_raw())
    event_id = f"request:{REQUEST_ID}:{hashlib.sha256(wrapped).hexdigest()[:32]}"
    fields: dict[str, Any] = {
        "event_id": event_id,
        "request_id": REQUEST_ID,
        "received_at": RECEIVED_AT,
        "source": "web_form",
        "capacity": "controller",
        "tenant": None,
        "verified": True,
        "language": "sv",
        "scope": ["hubspot", "superoffice"],
        "sealed_identifiers": sealed,
        "key_generation": GENERATION,
        "wrapped_key": wrapped,
        "identifiers": None,
    }
    body = other.body(other.SCHEMA, fields)
    headers = other.headers(event_id, "/radera/web_form", TIME)
    return {
        "about": "One request, from the identifiers to the record; bytes are in hex. What stands under "
        "chance is random in use. The installation's private key never leaves it; here it is for trying.",
        "installation": {
            "private_key": private.hex(),
            "public": {
                "generation": GENERATION,
                "hpke": SUITE,
                "public_key": other.base64_of(public.public_bytes_raw()),
            },
        },
        "chance": {
            "request_key": CHANCE.key.hex(),
            "nonce": CHANCE.nonce.hex(),
            "ephemeral_private_key": CHANCE.ephemeral.hex(),
        },
        "identifiers": {
            "items": [list(item) for item in ITEMS],
            "json": clear.hex(),
            "associated_data": other.bound_to(REQUEST_ID).hex(),
            "sealed": sealed.hex(),
        },
        "key": {"info": other.info_of(REQUEST_ID).hex(), "wrapped": wrapped.hex()},
        "request": {
            name: value.hex() if isinstance(value, bytes) else value for name, value in fields.items()
        },
        "record": {
            "topic": "erasure.requests.v1",
            "key": REQUEST_ID,
            "headers": [[name, value.decode()] for name, value in headers],
            "body": body.hex(),
            "single_object": (other.single_object_header(other.SCHEMA) + body).hex(),
            "confluent_with_id_42": (other.confluent_header(42) + body).hex(),
        },
    }


def main() -> None:
    """Write it."""
    FILE.write_text(json.dumps(vector(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
