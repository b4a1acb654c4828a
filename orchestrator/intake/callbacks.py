"""The records that carry callbacks to the handlers that understand them.

A callback by a link is a party's word: each one that is stored is a word of its own, under its number, also
when its body is what another one's was. A vendor's webhook tells of an event at the vendor's: the same body
twice is the same event.
"""

import base64
import json
from collections.abc import Mapping
from hashlib import sha256

from orchestrator.bus.port import Record
from orchestrator.privacy.digest import Digests
from orchestrator.privacy.links import Link
from schemas import topics
from schemas.cloudevents import headers
from schemas.codec import encode
from schemas.messages import Callback

SOURCE = "serve"


def content_of(token: str | None, kept: Mapping[str, str], body: bytes) -> bytes:
    """What a handler needs of a callback, to be sealed."""
    content = {"token": token, "headers": dict(kept), "body": base64.b64encode(body).decode()}
    return json.dumps(content).encode()


def word(kind: str, link: Link, sealed: bytes, order: int, at: int) -> Record:
    """The record of what a party said by its link."""
    callback = Callback(
        event_id=f"word:{link.request_id}/{link.system}/{order}",
        kind=kind,
        system=link.system,
        received_at=at,
        sealed_body=sealed,
        order=order,
    )
    return _record(callback, link.request_id)


def webhook(kind: str, sealed: bytes, body: bytes, digests: Digests, at: int) -> Record:
    """The record of a vendor's webhook."""
    # Keyed, since a body can be guessed.
    digest = digests.correlation(f"callback/{kind}", f"/{sha256(body).hexdigest()}")
    callback = Callback(event_id=f"callback:{digest}", kind=kind, received_at=at, sealed_body=sealed)
    return _record(callback, "")


def _record(callback: Callback, key: str) -> Record:
    given = headers(callback, event_id=callback.event_id, source=SOURCE, at=callback.received_at)
    return Record(topic=topics.callbacks(callback.kind), key=key, value=encode(callback), headers=given)
