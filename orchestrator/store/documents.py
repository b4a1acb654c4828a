"""A saga as its row holds it: one JSON document.

Reading one has to find out which state each step is in. Left to itself the library tries all ten, for each
step; here it is told that the status says so, which halves the time.
"""

import logging
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError
from pydantic_core import SchemaValidator

from orchestrator.saga.model import Saga
from orchestrator.saga.older import upgraded
from orchestrator.store.errors import BrokenDocument

_logger = logging.getLogger(__name__)

FINAL_STATUSES = ("completed", "rejected", "cancelled")


def _told_by_status(schema: Any) -> Any:
    """The schema, with each union of which the status tells the member; one that it can't tell stays."""
    if isinstance(schema, list):
        return [_told_by_status(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    told = {key: _told_by_status(part) for key, part in schema.items()}
    if schema.get("type") != "union":
        return told
    members: dict[str, Any] = {}
    for member in told["choices"]:
        statuses = _statuses(member)
        if not statuses or not members.keys().isdisjoint(statuses):
            return told
        members |= dict.fromkeys(statuses, member)
    return {"type": "tagged-union", "discriminator": "status", "choices": members}


def _statuses(member: Any) -> list[str]:
    """What a member's status may be; nothing where it has none."""
    if not isinstance(member, Mapping) or member.get("type") != "dataclass":
        return []
    of_status = [field["schema"] for field in member["schema"]["fields"] if field["name"] == "status"]
    while of_status and of_status[0]["type"] == "default":
        of_status = [of_status[0]["schema"]]
    return list(of_status[0]["expected"]) if of_status and of_status[0]["type"] == "literal" else []


@cache
def _adapter() -> TypeAdapter[Saga]:
    """Made when a saga is first read or written: it takes a while, and most commands and roles never do."""
    return TypeAdapter(Saga)


@cache
def _reader() -> SchemaValidator:
    return SchemaValidator(_told_by_status(_adapter().core_schema))


def write_document(saga: Saga) -> str:
    """The saga's document."""
    return _adapter().dump_json(saga).decode()


def read_document(request_id: str, document: str | None) -> Saga | None:
    """The saga in its row's document; None where the row has none yet."""
    if document is None:
        return None
    try:
        saga: Saga = _reader().validate_json(document)
    except ValidationError:
        # Its text quotes the document.
        pass
    else:
        return upgraded(saga)
    raise BrokenDocument(request_id=request_id)


def documents(rows: Iterable[sa.Row[tuple[str, str | None]]], broken: list[str] | None = None) -> list[Saga]:
    """The sagas in (request_id, document) rows, without those that have no state yet.

    Raises BrokenDocument, unless there is a list for the ids of those that can't be read: then they are left
    out, so that they don't stop the others.
    """
    found: list[Saga] = []
    for row in rows:
        try:
            saga = read_document(row.request_id, row.document)
        except BrokenDocument:
            if broken is None:
                raise
            _logger.error("broken_document", extra={"request_id": row.request_id})
            broken.append(row.request_id)
            continue
        if saga is not None:
            found.append(saga)
    return found
