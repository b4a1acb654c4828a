"""`python -m tests.integration.vendors DIRECTORY`: the stand-ins, with partners who don't give up.

A partner whose answer finds nobody tries again after a minute and then ever less often. Radera is away for a
few seconds at a time here, again and again, so the partners try several times a second; everything else is
the sandbox as it is.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import anyio
import httpx

from handlers.sandbox import courier
from handlers.sandbox.core import Sandbox
from handlers.sandbox.server import now, say_ready, serve

PAUSE = 0.2
LIMIT = 120.0


async def deliver(method: str, url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """Says it until somebody has heard it: an answer that was lost on its way is said once more."""
    with anyio.fail_after(LIMIT):
        async with httpx.AsyncClient(timeout=10.0, trust_env=False) as client:
            while True:
                try:
                    answer = await client.request(method, url, content=body, headers=dict(headers))
                except httpx.TransportError:
                    await anyio.sleep(PAUSE)
                    continue
                return answer.status_code


async def main(directory: Path) -> None:
    courier.RETRY = int(PAUSE * 1_000_000)
    await serve(
        directory, smtp_port=0, ready=say_ready, sandbox=Sandbox(directory, clock=now, deliver=deliver)
    )


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]))
