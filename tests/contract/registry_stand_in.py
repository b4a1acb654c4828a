"""A stand-in for a schema registry: what we use of Confluent's REST API, no kinder than the real one.

After "Schema Registry API Reference": media types are asked for, a subject's schemas stay compatible
(backward and transitive, by what we let ourselves change: a new field has a default, no field changes its
type), one schema has one id under whatever subject, and what is refused has its error code.
"""

import base64
import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import fastavro
from typing_extensions import override

MEDIA_TYPES = (
    "application/vnd.schemaregistry.v1+json",
    "application/vnd.schemaregistry+json",
    "application/json",
)


class Refused(Exception):
    """An answer that is none."""

    def __init__(self, status: int, code: int, said: str) -> None:
        super().__init__(said)
        self.status, self.code, self.said = status, code, said


@dataclass
class StandIn:
    """A registry: what it holds, how it behaves, what it was asked."""

    port: int = 0
    login: str | None = None
    status: int | None = None
    """Answers everything with this status, as a proxy does whose registry is away."""
    text: bytes = b"<html>away</html>"
    elsewhere: str | None = None
    """Sends whoever asks on to this address, keeping what was asked (307)."""
    asked: list[str] = field(default_factory=list)
    _texts: dict[int, dict[str, Any]] = field(default_factory=dict)
    _subjects: dict[str, list[int]] = field(default_factory=dict)
    _server: ThreadingHTTPServer | None = None
    tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://localhost:{self.port}"

    # --- its life ---

    def start(self) -> None:
        """On the port that it had before, if it had one."""
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self._answer()

            @override
            def log_message(self, *_: object) -> None:
                """A server in a test is silent."""

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                status, kind, content = stand_in.answer(self.command, self.path, dict(self.headers), body)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                if stand_in.elsewhere is not None:
                    self.send_header("Location", f"{stand_in.elsewhere}{self.path}")
                self.end_headers()
                self.wfile.write(content)
                self.close_connection = True

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        server.daemon_threads = True
        if self.tls is not None:
            server.socket = self.tls.wrap_socket(server.socket, server_side=True)
        self.port = server.server_address[1]
        self._server = server
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Nobody listens any more; what is held stays held."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    # --- its API ---

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
        self.asked.append(f"{method} {path}")
        if self.elsewhere is not None:
            return 307, "text/html", b""
        if self.status is not None:
            return self.status, "text/html", self.text
        try:
            said: Any = self._routed(method, path, headers, body)
            status = 200
        except Refused as refused:
            status, said = refused.status, {"error_code": refused.code, "message": refused.said}
        return status, MEDIA_TYPES[0], json.dumps(said).encode()

    def _routed(self, method: str, path: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        if self.login is not None and headers.get("Authorization") != self.login:
            raise Refused(401, 401, "Unauthorized")
        accepted = [one.strip() for one in headers.get("Accept", "*/*").split(",")]
        if not {"*/*", *MEDIA_TYPES}.intersection(accepted):
            raise Refused(406, 406, "HTTP 406 Not Acceptable")
        if method == "GET" and (found := re.fullmatch(r"/schemas/ids/(\d+)", path)):
            known = self._texts.get(int(found[1]))
            if known is None:
                raise Refused(404, 40403, f"Schema {found[1]} not found")
            return known
        if method == "POST" and (found := re.fullmatch(r"/subjects/([^/]+)(/versions)?", path)):
            if headers.get("Content-Type") not in MEDIA_TYPES:
                raise Refused(415, 415, "HTTP 415 Unsupported Media Type")
            text = self._given(body)
            subject = unquote(found[1])
            return self._registered(subject, text) if found[2] else self._looked_up(subject, text)
        raise Refused(404, 404, "HTTP 404 Not Found")

    def _given(self, body: bytes) -> str:
        try:
            said = json.loads(body)
        except ValueError:
            raise Refused(400, 400, "not JSON") from None
        if not isinstance(said, dict) or set(said) - {"schema", "schemaType", "references"}:
            raise Refused(422, 422, "Unrecognized field")
        text = str(said.get("schema"))
        try:
            fastavro.parse_schema(json.loads(text))
        except Exception:
            raise Refused(422, 42201, "Invalid Avro schema") from None
        return json.dumps(json.loads(text))

    def _registered(self, subject: str, text: str) -> dict[str, Any]:
        versions = self._subjects.setdefault(subject, [])
        known = next((one for one, said in self._texts.items() if said == {"schema": text}), None)
        if known in versions:
            return {"id": known}
        for older in versions:
            if not _reads(json.loads(text), json.loads(self._texts[older]["schema"])):
                raise Refused(409, 409, "Schema being registered is incompatible with an earlier schema")
        schema_id = known or max(self._texts, default=0) + 1
        self._texts[schema_id] = {"schema": text}
        versions.append(schema_id)
        return {"id": schema_id}

    def _looked_up(self, subject: str, text: str) -> dict[str, Any]:
        if subject not in self._subjects:
            raise Refused(404, 40401, f"Subject '{subject}' not found.")
        for version, schema_id in enumerate(self._subjects[subject], start=1):
            if self._texts[schema_id] == {"schema": text}:
                return {"subject": subject, "version": version, "id": schema_id, "schema": text}
        raise Refused(404, 40403, "Schema not found")

    # --- what others do ---

    def register(self, subject: str, text: str) -> int:
        """Another producer's registration."""
        return int(self._registered(subject, json.dumps(json.loads(text)))["id"])

    def hold(self, schema_id: int, **said: Any) -> None:
        """Something that came by another way than by this API."""
        self._texts[schema_id] = said

    @property
    def subjects(self) -> dict[str, list[int]]:
        return self._subjects


def _reads(new: dict[str, Any], old: dict[str, Any]) -> bool:
    before = {one["name"]: json.dumps(one["type"]) for one in old["fields"]}
    return all(
        "default" in one if one["name"] not in before else before[one["name"]] == json.dumps(one["type"])
        for one in new["fields"]
    )


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


@contextmanager
def registry_stand_in(**given: Any) -> Iterator[StandIn]:
    """One that runs."""
    stand_in = StandIn(**given)
    stand_in.start()
    try:
        yield stand_in
    finally:
        stand_in.stop()
