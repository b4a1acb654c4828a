"""The headers of a record, after the CloudEvents Kafka protocol binding (binary mode).

Source: CloudEvents 1.0.2, "Kafka Protocol Binding for CloudEvents", section 3.2: attributes become headers
with the prefix `ce_`, the media type of the value is `content-type`. They let a reader route and drop
repeats without decoding the value. The trace that a message belongs to is named by `traceparent`.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from schemas.messages import Message
from schemas.traceparent import HEADER, traceparent

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def headers(
    message: Message, *, event_id: str, source: str, at: int, trace: str | None = None
) -> tuple[tuple[str, bytes], ...]:
    """The headers of a message: `at` is its time in microseconds UTC, `source` the role that writes it,
    `trace` what `trace_of` kept of what caused it.
    """
    return (
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id.encode()),
        ("ce_source", f"/radera/{source}".encode()),
        ("ce_type", f"radera.erasure.{type(message).__name__.lower()}.v1".encode()),
        ("ce_time", _time(at)),
        ("content-type", b"application/avro"),
        *(((HEADER, traceparent(trace, event_id).encode()),) if trace is not None else ()),
    )


# A batch has one time.
@lru_cache(maxsize=8)
def _time(at: int) -> bytes:
    return (_EPOCH + timedelta(microseconds=at)).isoformat().replace("+00:00", "Z").encode()
