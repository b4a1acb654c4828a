"""Reads what is posted, bounded in size and in time."""

from typing import Final

import anyio
from starlette.requests import ClientDisconnect, Request

LONGEST_BODY: Final = 64 * 1024
_SLOWEST_BODY: Final = 10.0  # seconds


async def read_body(request: Request, longest: int) -> bytes | None:
    """The body, or None if it is too long, takes too long, or the caller went away."""
    body = b""
    try:
        with anyio.fail_after(_SLOWEST_BODY):
            async for chunk in request.stream():
                body += chunk
                if len(body) > longest:
                    return None
    except (ClientDisconnect, TimeoutError):
        return None
    return body
