"""The moment at which a call leaves, which is later than the one at which it is asked for.

Between the two lie the wait for a name, for a connection and for its encryption. Whoever must not send too
late asks again when all of that is done: `just_before` is told by the transport, httpcore's or another.
"""

from collections.abc import Callable
from typing import Any, Final

import httpx

_HOOK: Final = "trace"
#: What httpcore says when a connection is there and the first byte is about to go, by "http11" or "http2".
_FIRST_BYTE: Final = "send_request_headers.started"


def just_before(ask: Callable[[], None]) -> dict[str, Any]:
    """Return the extension of a request that has `ask` called right before it is sent. What `ask` raises
    ends the call, and nothing of it is sent.
    """

    async def hear(event: str, _: object) -> None:
        if event.endswith(_FIRST_BYTE):
            ask()

    return {_HOOK: hear}


async def about_to_send(request: httpx.Request) -> None:
    """Say that the request goes now; for a transport that makes no connections of httpcore's."""
    hear = request.extensions.get(_HOOK)
    if hear is not None:
        await hear(_FIRST_BYTE, {})
