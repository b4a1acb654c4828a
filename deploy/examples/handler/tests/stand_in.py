"""The help desk as the tests have it: it keeps state, notes each effect, and is as strict as the real one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

TOKEN = "help-desk-token"
PAGE = 2


@dataclass
class HelpDeskVendor:
    """One workspace. `people` by id: {"email", "created_at"}; `tickets` by id: the person's id."""

    workspace: str = "acme"
    people: dict[str, dict[str, str]] = field(default_factory=dict)
    tickets: dict[str, str] = field(default_factory=dict)
    effects: list[str] = field(default_factory=list)

    def answer(self, method: str, target: str, headers: Mapping[str, str]) -> tuple[int, Any]:
        """The status and the JSON of one call."""
        if headers.get("authorization") != f"Bearer {TOKEN}":
            return 401, {"error": "unauthorized"}
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        match method, url.path.strip("/").split("/"):
            case "GET", ["v1", "workspace"]:
                return 200, {"id": self.workspace}
            case "GET", ["v1", "people"]:
                rows = [{"id": id_, **one} for id_, one in self.people.items()]
                return 200, _page([row for row in rows if row["email"] == query.get("email")], query)
            case "GET", ["v1", "people", id_, "tickets"] if id_ in self.people:
                rows = [{"id": one, "person": of} for one, of in self.tickets.items() if of == id_]
                return 200, _page(rows, query)
            case "GET", ["v1", "people", id_] if id_ in self.people:
                return 200, {"id": id_, **self.people[id_]}
            case "GET", ["v1", "tickets", id_] if id_ in self.tickets:
                return 200, {"id": id_, "person": self.tickets[id_]}
            case "DELETE", ["v1", "people", id_] if id_ in self.people:
                del self.people[id_]
                self.effects.append(f"person {id_}")
                return 204, None
            case "DELETE", ["v1", "tickets", id_] if id_ in self.tickets:
                del self.tickets[id_]
                self.effects.append(f"ticket {id_}")
                return 204, None
        return 404, {"error": "not found"}

    def transport(self) -> httpx.MockTransport:
        """The same without a network."""
        return httpx.MockTransport(self._handle)

    def _handle(self, request: httpx.Request) -> httpx.Response:
        status, content = self.answer(request.method, str(request.url), request.headers)
        return httpx.Response(status, content=b"" if content is None else json.dumps(content).encode())


def _page(rows: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    start = int(query.get("after", "0"))
    following = start + PAGE
    more = {"after": str(following)} if following < len(rows) else {}
    return {"rows": rows[start:following], **more}
