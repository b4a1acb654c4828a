"""For another service that takes requests in: makes a valid request event, sealed to the installation.

It needs the installation's public key (`radera keys public`) and nothing else of it: no secret, no database.

    from kafka import KafkaProducer
    from orchestrator.intake import Producer
    from orchestrator.privacy import Identifier, PublicKey

    producer = Producer(PublicKey.from_json(public_key), source="web_form")
    made = producer.request([Identifier("email", address)], verified=True)

    kafka = KafkaProducer(bootstrap_servers=servers, acks="all", enable_idempotence=True)
    record = made.record
    sent = kafka.send(record.topic, key=record.key.encode(), value=record.value, headers=list(record.headers))
    sent.get(timeout=30)  # if it raises, send the same record again; the person is told when it does not

What it makes can be published by any client; `publish` does it through a bus of ours. Another language does
the same by `schemas/PRODUCING.md`.
"""

import hashlib
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from orchestrator.bus.port import Record
from orchestrator.intake.submit import CannotSubmit, Publisher
from orchestrator.privacy.exchange import PublicKey
from orchestrator.privacy.identifiers import Identifier, clean
from orchestrator.privacy.sealing import IDENTIFIERS, new_key, seal
from schemas import topics
from schemas.cloudevents import headers
from schemas.codec import encode
from schemas.messages import Capacity, Language, Request
from schemas.traceparent import trace_of


@dataclass(frozen=True, slots=True)
class Made:
    """A request that is ready to be published: its id, for the person's receipt, and the record."""

    request_id: str
    record: Record = field(repr=False)


def _wall_clock() -> int:
    return time.time_ns() // 1000


class Producer:
    """Makes requests for one installation. `region` is the country of telephone numbers without a country
    code. `schema_id` is what a schema registry gave for `schema_of(Request)`, for Confluent framing; without
    it the record names its schema by fingerprint, which is always readable.
    """

    def __init__(
        self,
        public_key: PublicKey,
        *,
        source: str,
        region: str | None = None,
        clock: Callable[[], int] = _wall_clock,
        schema_id: int | None = None,
    ) -> None:
        self._schema_id = schema_id
        self._public_key = public_key
        self._source = source
        self._region = region
        self._clock = clock

    def request(
        self,
        identifiers: Iterable[Identifier],
        *,
        verified: bool,
        request_id: str | None = None,
        received_at: int | None = None,
        capacity: Capacity = "controller",
        tenant: str | None = None,
        language: Language = "en",
        scope: tuple[str, ...] | None = None,
        traceparent: str | None = None,
    ) -> Made:
        """A request event. Give `request_id` to repeat a request whose publishing failed. What is done about
        it belongs to the trace that `traceparent` names (W3C Trace Context).

        Raises:
            CannotSubmit: an identifier is not usable, or there is none.
        """
        cleaned = clean(identifiers, region=self._region)
        if cleaned.refused or not len(cleaned.identifiers.searched):
            kinds = ", ".join(sorted(set(cleaned.refused))) or "none given"
            raise CannotSubmit(f"identifiers that nobody could be found by: {kinds}", "unusable_identifier")
        now = self._clock()
        request_id = request_id or str(uuid.uuid4())
        key = new_key()
        wrapped = self._public_key.wrap(key, request_id)
        request = Request(
            event_id=f"request:{request_id}:{hashlib.sha256(wrapped).hexdigest()[:32]}",
            request_id=request_id,
            received_at=now if received_at is None else received_at,
            source=self._source,
            capacity=capacity,
            tenant=tenant,
            verified=verified,
            language=language,
            scope=scope,
            sealed_identifiers=seal(key, request_id, IDENTIFIERS, cleaned.identifiers.to_bytes()),
            key_generation=self._public_key.generation,
            wrapped_key=wrapped,
        )
        trace = trace_of(traceparent.encode("ascii", "replace")) if traceparent is not None else None
        sent = headers(request, event_id=request.event_id, source=self._source, at=now, trace=trace)
        value = encode(request, schema_id=self._schema_id)
        record = Record(topic=topics.REQUESTS, key=request_id, value=value, headers=sent)
        return Made(request_id, record)

    def publish(self, bus: Publisher, made: Made) -> str:
        """Publishes through a bus of ours; gives the request's id. Raises BusUnavailable: publish it
        again.
        """
        bus.publish([made.record])
        return made.request_id
