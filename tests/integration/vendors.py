"""`python -m tests.integration.vendors DIRECTORY`: the stand-ins, with partners and errors as in life.

* A partner whose answer finds nobody tries again after a minute and then ever less often. Radera is away for
  a few seconds at a time here, again and again, so the partners try several times a second.
* A controller that is reminded of a request which it has decided says its decision again: the first may
  have come to a database that was put back since.
* A vendor's error quotes all that it was asked, in its body and in a header, as real ones do now and then.

Everything else is the sandbox as it is.
"""

import json
import re
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import anyio
import httpx
from typing_extensions import override

from handlers.sandbox import courier
from handlers.sandbox.core import Sandbox
from handlers.sandbox.server import now, say_ready, serve

PAUSE = 0.2
LIMIT = 120.0
# Nothing here is TLS; but without it, each delivery would read all the certificates that the world trusts.
NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_ASKED = re.compile(r"/controllers/(?P<tenant>[^/]+)/v2/requests")


class Gossips(Sandbox):
    """The stand-ins, with errors that quote what they are about."""

    @override
    async def handle(self, request: httpx.Request) -> httpx.Response:
        answer = await super().handle(request)
        if answer.status_code < 400:
            if request.method == "POST" and (place := _ASKED.fullmatch(request.url.path)):
                self._say_again(place["tenant"], answer.json()["subject_request_id"])
            return answer
        asked = f"{request.method} {request.url} {request.content.decode('utf-8', 'replace')}".strip()
        try:
            content = json.dumps({**answer.json(), "quoted": asked}, ensure_ascii=False).encode()
        except (ValueError, TypeError):
            content = answer.content + asked.encode()
        headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
        headers["x-quoted"] = quote(asked, safe="@ ")
        return httpx.Response(answer.status_code, headers=headers, content=content, request=request)

    def _say_again(self, tenant: str, identity: str) -> None:
        key = f"{tenant}:{identity}"
        row = self.store.get("controller.request", key)
        if row is not None and row["asked"] > 1 and row["status"] != "pending":
            self.store.put("controller.request", key, {**row, "status": "pending"})
            self.store.later(self.clock(), "controller.decide", tenant=tenant, request=identity)


async def deliver(method: str, url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """Says it until somebody has heard it: an answer that was lost on its way is said once more."""
    with anyio.fail_after(LIMIT):
        async with httpx.AsyncClient(timeout=10.0, trust_env=False, verify=NOBODY) as client:
            while True:
                try:
                    answer = await client.request(method, url, content=body, headers=dict(headers))
                except httpx.TransportError:
                    await anyio.sleep(PAUSE)
                    continue
                return answer.status_code


async def main(directory: Path) -> None:
    courier.RETRY = int(PAUSE * 1_000_000)
    sandbox = Gossips(directory, clock=now, deliver=deliver)
    await serve(directory, smtp_port=0, ready=say_ready, sandbox=sandbox)


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]))
