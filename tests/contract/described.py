"""Holds calls to a vendor's own machine-readable description: Swagger 2.0, or a Google discovery document.

Stricter than the descriptions are: an answer may have no property that its schema doesn't name, so that a
stand-in can't invent one that a handler then relies on.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import httpx

SPECS = Path(__file__).parent / "specs"
Schema = Mapping[str, Any]
_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: what it takes and what it may answer."""

    method: str
    template: str
    path: dict[str, Schema] = field(default_factory=dict)
    query: dict[str, Schema] = field(default_factory=dict)
    needed: frozenset[str] = frozenset()
    body: Schema | None = None
    answers: dict[int, Schema | None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.method} {self.template}"

    def matches(self, method: str, path: str) -> dict[str, str] | None:
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/:]+)", re.escape(self.template))
        found = re.fullmatch(pattern, path, re.IGNORECASE) if method == self.method else None
        return None if found is None else {name: unquote(text) for name, text in found.groupdict().items()}


@dataclass(frozen=True, slots=True)
class Description:
    """All operations of one description, and the schemas that they refer to."""

    operations: tuple[Operation, ...]
    schemas: Mapping[str, Schema]
    #: Schemas whose values are described as what they are not.
    loose: frozenset[str] = frozenset()

    def faults(self, path: str, request: httpx.Request, response: httpx.Response) -> Iterator[str]:
        """What a call did that the description doesn't allow; nothing if all is well."""
        found = [(one, one.matches(request.method, path)) for one in self.operations]
        operation, given = next(((one, match) for one, match in found if match is not None), (None, None))
        if operation is None or given is None:
            yield f"{request.method} {path}: no such operation"
            return
        for name, text in given.items():
            yield from _text_faults(f"{operation.name} {name}", operation.path.get(name, {}), text)
        asked = dict(parse_qsl(request.url.query.decode("ascii"), keep_blank_values=True))
        known = {name.lower(): schema for name, schema in operation.query.items()}
        for name, text in asked.items():
            if name.lower() not in known:
                yield f"{operation.name}: it takes no {name}"
            else:
                yield from _text_faults(f"{operation.name} {name}", known[name.lower()], text)
        missing = {name.lower() for name in operation.needed} - {name.lower() for name in asked}
        yield from (f"{operation.name}: {name} is missing" for name in missing)
        if operation.body is not None:
            yield from self._value_faults(
                f"{operation.name} body", operation.body, json.loads(request.content)
            )
        elif request.content:
            yield f"{operation.name}: it takes no body"
        yield from self._answer_faults(operation, response)

    def _answer_faults(self, operation: Operation, response: httpx.Response) -> Iterator[str]:
        if response.status_code not in operation.answers:
            yield f"{operation.name}: it answers no {response.status_code}"
            return
        schema = operation.answers[response.status_code]
        if schema is not None:
            where = f"{operation.name} {response.status_code}"
            yield from self._value_faults(where, schema, json.loads(response.content))
        elif response.status_code == 204 and response.content:
            yield f"{operation.name}: a 204 has no body"

    def _value_faults(self, where: str, schema: Schema, value: Any) -> Iterator[str]:
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            if name not in self.loose:
                yield from self._value_faults(where, self.schemas[name], value)
            return
        kind = schema.get("type")
        if value is None:
            return
        if kind is not None and (
            not isinstance(value, _TYPES[kind]) or (kind != "boolean" and isinstance(value, bool))
        ):
            yield f"{where}: not of type {kind}"
            return
        if "enum" in schema and value not in schema["enum"]:
            yield f"{where}: not one of those listed"
        if schema.get("format") in ("date-time", "google-datetime") and not _is_time(value):
            yield f"{where}: not a time"
        if isinstance(value, list):
            for one in value:
                yield from self._value_faults(f"{where}[]", schema.get("items", {}), one)
        if isinstance(value, dict):
            properties, more = schema.get("properties", {}), schema.get("additionalProperties")
            for name, one in value.items():
                if name in properties:
                    yield from self._value_faults(f"{where}.{name}", properties[name], one)
                elif more is None:
                    yield f"{where}.{name}: no such property"
                elif isinstance(more, dict):
                    yield from self._value_faults(f"{where}.{name}", more, one)
            yield from (
                f"{where}.{name}: missing" for name in schema.get("required", ()) if name not in value
            )


def _text_faults(where: str, schema: Schema, text: str) -> Iterator[str]:
    if schema.get("type") == "integer" and not re.fullmatch(r"-?\d+", text):
        yield f"{where}: not a whole number"
    if schema.get("type") == "boolean" and text.lower() not in ("true", "false"):
        yield f"{where}: not true or false"


def _is_time(value: Any) -> bool:
    try:
        datetime.fromisoformat(value)
    except (ValueError, TypeError):
        return False
    return True


def superoffice() -> Description:
    """SuperOffice's REST API. Its rows are described as objects of objects, and are plain values."""
    document = json.loads((SPECS / "superoffice" / "rest-v1.json").read_text(encoding="utf-8"))
    slim = "SuperOffice.Services.WebApi.OData.ODataSlimResponse"
    rows = document["definitions"][slim]["properties"]["value"]["items"]
    rows["additionalProperties"] = {}
    found: list[Operation] = []
    for template, operations in document["paths"].items():
        for method, stated in operations.items():
            parameters = stated.get("parameters", [])
            at = {
                place: {p["name"]: p for p in parameters if p["in"] == place} for place in ("path", "query")
            }
            answers = {int(status): one.get("schema") for status, one in stated["responses"].items()}
            found.append(
                Operation(
                    method.upper(),
                    template,
                    path=at["path"],
                    query=at["query"],
                    needed=frozenset(name for name, p in at["query"].items() if p.get("required")),
                    body=next((p["schema"] for p in parameters if p["in"] == "body"), None),
                    answers=answers,
                )
            )
    return Description(tuple(found), document["definitions"])


def google() -> Description:
    """Google's Analytics Admin API. It describes successes alone; errors are the same for all its APIs."""
    document = json.loads((SPECS / "google" / "analyticsadmin.v1alpha.json").read_text(encoding="utf-8"))
    found = [
        Operation(
            stated["httpMethod"],
            f"/{stated['flatPath']}",
            body=stated.get("request"),
            answers={200: stated["response"]},
        )
        for stated in document["resources"]["properties"]["methods"].values()
    ]
    return Description(tuple(found), document["schemas"])
