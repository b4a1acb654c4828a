"""Submits a request: from what somebody typed to a sealed event.

The request's key is made here and filed before anything is published: an event whose key is nowhere would be
a person whom nobody can read any more. Filing first means that a failed publishing leaves a key without a
request, which harms nobody; trying again with the same id uses it. Whoever submits chooses the id, and knows
it before anything is committed: a try whose answer was lost can be repeated, and one request comes of it.

Where the bus outlives the database, the key travels with the request as well, wrapped to the installation
itself: a database that is put back from an older backup has neither, and reads both again. What that costs is
said in `orchestrator/privacy/README.md`.
"""

import hashlib
import hmac
import uuid
from collections.abc import Callable, Collection, Iterable
from typing import Final, Protocol

from orchestrator.bus.port import Record
from orchestrator.privacy.exchange import PublicKey
from orchestrator.privacy.identifiers import Identifier, Identifiers, clean
from orchestrator.privacy.keys import KeyDestroyed
from orchestrator.privacy.sealing import IDENTIFIERS, new_key, seal
from schemas import topics
from schemas.cloudevents import headers
from schemas.codec import encode
from schemas.messages import Capacity, Language, Request

SOURCE: Final = "serve"


class CannotSubmit(Exception):
    """The request was not submitted; the text says why, and names nobody. `code` is its short name."""

    def __init__(self, text: str, code: str = "unusable") -> None:
        super().__init__(text)
        self.code = code


class Keys(Protocol):
    """Files and gives the requests' keys."""

    def insert(self, request_id: str, key: bytes) -> object:
        """Files the key, unless the request has one or had one."""

    def key_of(self, request_id: str) -> bytes:
        """The request's key. Raises KeyUnknown or KeyDestroyed."""


class Publisher(Protocol):
    """The publishing half of a bus."""

    def publish(self, records: Iterable[Record]) -> None: ...


class Intake:
    """Takes requests in. `region` is the country of telephone numbers without a country code; `systems` and
    `tenants` are those that a request may name (None: any). `public_key` gives the key to which the requests'
    keys are wrapped, asked each time since it rotates; without it they don't travel.
    """

    def __init__(
        self,
        *,
        keys: Keys,
        bus: Publisher,
        clock: Callable[[], int],
        region: str | None = None,
        systems: Collection[str] | None = None,
        tenants: Collection[str] | None = None,
        public_key: Callable[[], PublicKey] | None = None,
    ) -> None:
        self._keys = keys
        self._bus = bus
        self._clock = clock
        self._region = region
        self._systems = systems
        self._tenants = tenants
        self._public_key = public_key

    def submit(
        self,
        identifiers: Iterable[Identifier],
        *,
        source: str,
        verified: bool,
        request_id: str | None = None,
        received_at: int | None = None,
        capacity: Capacity = "controller",
        tenant: str | None = None,
        language: Language = "en",
        scope: tuple[str, ...] | None = None,
    ) -> str:
        """Publishes the request and gives its id. Raises CannotSubmit, and what the store and the bus raise.

        The same request with the same id twice is one event; with other content it is another one, and for
        the saga to judge. Give a `request_id` (`new_request_id`), or a try whose answer is lost can't be
        repeated.
        """
        now = self._clock()
        self._check(now, received_at, capacity, tenant, scope)
        named = self._cleaned(identifiers)
        request_id = new_request_id() if request_id is None else _checked_id(request_id)
        key = self._key(request_id)
        asked = repr((capacity, tenant, scope and sorted(set(scope)), verified, language)).encode()
        public = None if self._public_key is None else self._public_key()
        content = hmac.new(key, named.to_bytes() + b"\0" + asked, hashlib.sha256).hexdigest()
        request = Request(
            event_id=f"request:{request_id}:{content[:32]}",
            request_id=request_id,
            received_at=now if received_at is None else received_at,
            source=source,
            capacity=capacity,
            tenant=tenant,
            verified=verified,
            language=language,
            scope=scope,
            sealed_identifiers=seal(key, request_id, IDENTIFIERS, named.to_bytes()),
            key_generation=None if public is None else public.generation,
            wrapped_key=None if public is None else public.wrap(key, request_id),
        )
        self._bus.publish(
            [
                Record(
                    topic=topics.REQUESTS,
                    key=request_id,
                    value=encode(request),
                    headers=headers(request, event_id=request.event_id, source=SOURCE, at=now),
                )
            ]
        )
        return request_id

    def _cleaned(self, identifiers: Iterable[Identifier]) -> Identifiers:
        cleaned = clean(identifiers, region=self._region)
        if cleaned.refused:
            kinds = ", ".join(sorted(set(cleaned.refused)))
            raise CannotSubmit(
                f"nobody could be found by what is given as {kinds}; correct it, or leave it out",
                "unusable_identifier",
            )
        if not len(cleaned.identifiers.searched):
            raise CannotSubmit("nobody is named; give at least one identifier", "no_identifier")
        return cleaned.identifiers

    def _key(self, request_id: str) -> bytes:
        self._keys.insert(request_id, new_key())
        try:
            return self._keys.key_of(request_id)
        except KeyDestroyed:
            pass
        raise CannotSubmit(
            f"request {request_id} has ended and its key is destroyed; submit under a new id", "request_ended"
        )

    def _check(
        self,
        now: int,
        received_at: int | None,
        capacity: Capacity,
        tenant: str | None,
        scope: tuple[str, ...] | None,
    ) -> None:
        if scope is not None and not scope:
            raise CannotSubmit("the scope is empty; name a system, or leave it out for all", "empty_scope")
        unknown = sorted(set(scope or ()) - set(scope or () if self._systems is None else self._systems))
        if unknown:
            raise CannotSubmit(f"there is no system {', '.join(unknown)}; see [systems]", "unknown_system")
        if tenant is not None and self._tenants is not None and tenant not in self._tenants:
            raise CannotSubmit("no configured system has this tenant; see [systems]", "unknown_tenant")
        if capacity == "processor" and tenant is None:
            raise CannotSubmit("a controller's request names its tenant; add it", "tenant_missing")
        if received_at is not None and received_at > now:
            raise CannotSubmit("the time of receipt lies in the future; correct it", "received_in_future")


def new_request_id() -> str:
    """Return an id for a request that is going to be submitted."""
    return str(uuid.uuid4())


def _checked_id(request_id: str) -> str:
    try:
        made = str(uuid.UUID(request_id))
    except ValueError:
        made = ""
    if made != request_id:
        raise CannotSubmit("a request's id is a lower-case UUID; correct it, or leave it out", "bad_id")
    return request_id
