"""A Docker engine that runs nothing: it answers testcontainers as an engine does, and where a container's
port would be there is somebody who answers as a Kafka and a PostgreSQL do when they are first asked.
"""

import json
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SSL_WANTED = (80877103, 80877104)  # PostgreSQL's SSLRequest and GSSENCRequest


class _Answering(socketserver.BaseRequestHandler):
    """The beginning of a conversation, and no more."""

    def handle(self) -> None:
        while len(head := self.request.recv(8)) == 8:
            size, kind = struct.unpack(">ii", head)
            rest = size - (4 if kind >> 16 == 18 else 8)  # Kafka's size leaves out its own four bytes
            if rest > 0:
                self.request.recv(rest)
            if kind in SSL_WANTED:
                self.request.sendall(b"N")
            elif kind >> 16 == 18:  # Kafka's ApiVersions
                self.request.sendall(struct.pack(">iih", 6, 1, 35))
            else:  # PostgreSQL's StartupMessage: AuthenticationOk, ReadyForQuery
                self.request.sendall(struct.pack(">cii", b"R", 8, 0) + struct.pack(">cic", b"Z", 5, b"I"))


@contextmanager
def answering(port: int = 0) -> Iterator[int]:
    """Somebody who answers as both servers would, on loopback."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", port), _Answering) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


class Engine:
    """What it was asked, and whether it does it."""

    def __init__(self) -> None:
        self.address = ""
        self.refuses = ""
        self.asked: list[str] = []
        self.made: list[dict[str, Any]] = []
        self.removed = threading.Event()
        self._started = ExitStack()

    def answer(self, method: str, path: str, given: dict[str, Any]) -> tuple[int, object]:
        self.asked.append(f"{method} {path}")
        match (method, path.split("/")[1:]):
            case ("GET", [*_, "version"]):
                return 200, {"ApiVersion": "1.47", "MinAPIVersion": "1.24"}
            case ("GET", [_, "images", *_]):
                return 200, {"Id": "sha256:1"}
            case ("POST", [_, "containers", "create"]):
                if self.refuses:
                    return 500, {"message": self.refuses}
                self.made.append(given)
                return 201, {"Id": "c1", "Warnings": []}
            case ("GET", [_, "containers", "c1", "json"]):
                return 200, {"Id": "c1", "State": {"Status": "running"}}
            case ("POST", [_, "containers", "c1", "start"]):
                ((binding,),) = self.made[-1]["HostConfig"]["PortBindings"].values()
                self._started.enter_context(answering(int(binding["HostPort"])))
                return 204, None
            case ("DELETE", [_, "containers", "c1"]):
                self._started.close()
                self.removed.set()
                return 204, None
        return 404, {"message": f"a stand-in knows nothing of {method} {path}"}


@contextmanager
def engine() -> Iterator[Engine]:
    """One that runs, at `address`."""
    made = Engine()

    class Asked(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, said = made.answer(
                self.command, self.path.partition("?")[0], json.loads(body) if body else {}
            )
            self.send_response(status)
            text = b"" if said is None else json.dumps(said).encode()
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - so the standard library calls them

        def log_message(self, *_: object) -> None:
            """Nothing is said of it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Asked) as server:
        made.address = f"tcp://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield made
        finally:
            made._started.close()
            server.shutdown()
            thread.join()
