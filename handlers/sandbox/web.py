"""A request as the stand-ins see it, and their reply.

Segments are split before they are decoded, so that an address with an encoded slash stays one segment. A
plus sign in a query is a space, as everywhere on the web: a client that forgets to encode `+` looks for
another address.
"""

import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, unquote

import httpx

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)


def rfc3339(micros: int) -> str:
    """Microseconds since the epoch as RFC 3339, in UTC, to the millisecond."""
    return moment(micros).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def serial_uuid(number: int) -> str:
    """A UUID that anybody can foretell; vendors' ids of events and errors are made so."""
    return str(uuid.UUID(int=(0x5EEDED << 104) + number, version=4))


@dataclass(slots=True)
class Reply:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """The stand-in answers with an error instead."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"refused with {reply.status}")
        self.reply = reply


def document(
    status: int, content: Any, headers: dict[str, str] | None = None, *, kind: str = "application/json"
) -> Reply:
    body = json.dumps(content, ensure_ascii=False).encode()
    return Reply(status, body, {"content-type": kind, **(headers or {})})


@dataclass(slots=True)
class Call:
    """One request, without its vendor's prefix. `elsewhere`, `blind`, `unfiltered` and `ageless` are
    faults: see there.

    `skew` is how far the vendor's own clock is ahead of ours, in microseconds.
    """

    vendor: str
    method: str
    origin: str
    segments: tuple[str, ...]
    query: dict[str, str]
    headers: httpx.Headers
    body: bytes
    now: int
    elsewhere: bool = False
    blind: bool = False
    unfiltered: bool = False
    ageless: bool = False
    skew: int = 0

    @classmethod
    def of(cls, request: httpx.Request, now: int) -> "Call":
        path, _, query = request.url.raw_path.decode("ascii").partition("?")
        vendor, *segments = [unquote(part) for part in path.split("/") if part] or [""]
        url = request.url
        return cls(
            vendor=vendor,
            method=request.method,
            origin=f"{url.scheme}://{url.netloc.decode('ascii')}",
            segments=tuple(segments),
            query=dict(parse_qsl(query, keep_blank_values=True)),
            headers=request.headers,
            body=request.content,
            now=now,
        )

    @property
    def path(self) -> str:
        return "/" + "/".join(self.segments)

    def stamp(self, micros: int) -> str:
        """A time as the vendor's clock has it, in RFC 3339."""
        return rfc3339(micros + self.skew)

    def json(self) -> dict[str, Any] | None:
        """The body as a JSON object, or None when it is anything else."""
        try:
            content = json.loads(self.body)
        except ValueError:
            return None
        return content if isinstance(content, dict) else None
