"""The sandbox over real HTTP, on loopback, with its controls under `/_sandbox/`.

    GET  /_sandbox/ledger                     every effect
    GET  /_sandbox/holds?email=…              what is still held; or POST {"identifiers": [...]}
    POST /_sandbox/seed                       a seed (see `seeds`) -> the ids made
    POST /_sandbox/faults                     a fault (see `faults`) -> its number; DELETE switches all off
    POST /_sandbox/tick                       does what is due now
    GET  /_sandbox/pending                    what is still to come
    GET  /_sandbox/mail                       how many mails came, and each as text
    GET  /_sandbox/superoffice/jwks           the key that signs SuperOffice's answers; or …/key.pem

It is a toy with no login: it listens on loopback and nowhere else. A fault that breaks the connection
aborts the socket.
"""

import json
import socket
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TextIO

import anyio
import httpx
import pydantic
import uvicorn
from typing_extensions import override

from handlers.sandbox.core import Sandbox
from handlers.sandbox.mail import catch, self_signed
from handlers.sandbox.signing import jwks_of
from handlers.sandbox.web import Reply, document

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
LOOPBACK = "127.0.0.1"
TICK = 0.2


def now() -> int:
    return time.time_ns() // 1000


class _Server(uvicorn.Server):
    """uvicorn, saying when it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


class _Connection(Protocol):
    """uvicorn's side of one request, which is the only way to the socket."""

    transport: Any


def app(sandbox: Sandbox) -> App:
    """An ASGI application for any server; broken connections need uvicorn."""

    async def serve_one(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            part = await receive()
            body += part.get("body", b"")
            if part["type"] == "http.disconnect" or not part.get("more_body"):
                break
        query = scope["query_string"].decode("ascii")
        target = scope["raw_path"].decode("ascii") + (f"?{query}" if query else "")
        headers = [(name, value) for name, value in scope["headers"] if name != b"transfer-encoding"]
        host = dict(scope["headers"]).get(b"host", b"sandbox").decode("ascii")
        request = httpx.Request(scope["method"], f"http://{host}{target}", headers=headers, content=body)
        try:
            if target.startswith("/_sandbox/"):
                reply = await control(sandbox, request)
                answer = httpx.Response(reply.status, headers=reply.headers, content=reply.body)
            else:
                answer = await sandbox.handle(request)
        except httpx.TransportError:
            await _abort(receive, send)
            return
        shown = [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
        await send({"type": "http.response.start", "status": answer.status_code, "headers": shown})
        await send({"type": "http.response.body", "body": answer.content})

    return serve_one


async def _abort(receive: Receive, send: Send) -> None:
    cycle: _Connection = send.__self__  # type: ignore[attr-defined] # a bound method of uvicorn's request cycle
    cycle.transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass


async def control(sandbox: Sandbox, request: httpx.Request) -> Reply:
    """One request to the sandbox's own controls."""
    path = request.url.path.removeprefix("/_sandbox/")
    try:
        stated = json.loads(request.content) if request.content else {}
        match request.method, path:
            case "GET", "ledger":
                return document(200, {"ledger": sandbox.ledger()})
            case "GET", "holds":
                return document(200, {"holds": sandbox.holds(*request.url.params.values())})
            case "POST", "holds":
                return document(200, {"holds": sandbox.holds(*stated["identifiers"])})
            case "POST", "seed":
                return document(200, {"ids": sandbox.seed(stated)})
            case "POST", "faults":
                return document(200, {"fault": sandbox.fault(**stated)})
            case "DELETE", "faults":
                sandbox.clear_faults()
                return Reply(204)
            case "POST", "tick":
                return document(200, {"delivered": await sandbox.tick()})
            case "GET", "pending":
                return document(200, {"pending": [_outline(job) for job in sandbox.pending()]})
            case "GET", "mail":
                mails = [message.decode("utf-8", "replace") for message in sandbox.mail()]
                return document(200, {"count": len(mails), "mail": mails})
            case "GET", "superoffice/jwks":
                return document(200, jwks_of(sandbox.public_key()))
            case "GET", "superoffice/key.pem":
                return Reply(200, sandbox.public_key().encode(), {"content-type": "application/x-pem-file"})
    except pydantic.ValidationError as error:
        return document(
            400, {"error": error.errors(include_input=False, include_url=False, include_context=False)}
        )
    except (ValueError, KeyError, TypeError):
        return document(400, {"error": "the body is not what this control takes"})
    return document(404, {"error": "no such control"})


def _outline(job: Mapping[str, Any]) -> dict[str, Any]:
    return {name: job[name] for name in ("id", "due_at", "what", "network", "attempts")}


async def _deliver(method: str, url: str, body: bytes, headers: Mapping[str, str]) -> int:
    async with httpx.AsyncClient(timeout=10.0, trust_env=False, verify=_trusted()) as client:
        return (await client.request(method, url, content=body, headers=dict(headers))).status_code


@cache
def _trusted() -> ssl.SSLContext:
    """The authorities that are believed, read once and not for each delivery."""
    return httpx.create_ssl_context(trust_env=False)


async def _tick_for_ever(sandbox: Sandbox) -> None:
    while True:
        await sandbox.tick()
        await anyio.sleep(TICK)


async def serve(
    directory: Path | None,
    *,
    port: int = 0,
    smtp_port: int | None = None,
    smtp_tls: bool = False,
    smtp_login: tuple[str, str] | None = None,
    seed: Mapping[str, Any] | None = None,
    ready: Callable[[int, int | None], None] | None = None,
    sandbox: Sandbox | None = None,
) -> None:
    """Runs until cancelled: HTTP on loopback, the robots, and SMTP when `smtp_port` is given (0: any).

    `ready(port, smtp_port)` is called once both listen. With `smtp_tls` a certificate is made for the run
    and, with a directory, written there as `smtp-certificate.pem` for the client to trust.
    """
    served = sandbox or Sandbox(directory, clock=now)
    if served.deliver is None:
        served.deliver = _deliver
    if seed is not None:
        served.seed(seed)
    listener = socket.create_server((LOOPBACK, port))
    http_port = listener.getsockname()[1]
    config = uvicorn.Config(app(served), log_level="warning", access_log=False, lifespan="off", ws="none")

    async def serve_http(caught: int | None) -> None:
        server = _Server(config, lambda: None if ready is None else ready(http_port, caught))
        await server.serve(sockets=[listener])

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_tick_for_ever, served)
            if smtp_port is None:
                await serve_http(None)
            else:
                tls = self_signed() if smtp_tls else None
                if tls is not None and directory is not None:
                    await anyio.Path(directory / "smtp-certificate.pem").write_bytes(tls[0])
                mail = catch(served, port=smtp_port, tls=tls, require_starttls=smtp_tls, login=smtp_login)
                async with mail as caught:
                    await serve_http(caught)
            group.cancel_scope.cancel()
    finally:
        listener.close()
        served.close()


def say_ready(port: int, smtp_port: int | None, out: TextIO = sys.stdout) -> None:
    """The line that a supervisor waits for."""
    mail = "" if smtp_port is None else f" smtp://{LOOPBACK}:{smtp_port}"
    out.write(f"sandbox ready http://{LOOPBACK}:{port}{mail}\n")
    out.flush()
