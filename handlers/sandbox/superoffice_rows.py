"""How SuperOffice's rows look: archives and their columns, the person entity, and what its webhooks say."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from handlers.sandbox.signing import hmac64
from handlers.sandbox.store import Row, Store
from handlers.sandbox.web import rfc3339, serial_uuid

Columns = Mapping[str, Callable[[Row], Any]]


@dataclass(frozen=True, slots=True)
class Archive:
    """One archive provider. `indexed` names the columns that are looked up and the mark that finds them."""

    table: str
    entity: str
    key: str
    columns: Columns
    indexed: Mapping[str, str] = field(default_factory=dict)
    shows: Callable[[Row], bool] = lambda row: True


def _emails(row: Row) -> list[str]:
    return row["emails"] or [""]


def _phones(row: Row) -> list[str]:
    return row["phones"] or [""]


PERSON_COLUMNS: Columns = {
    "personId": lambda row: int(row["id"]),
    "fullName": lambda row: row["name"],
    "firstName": lambda row: row["name"].partition(" ")[0],
    "lastName": lambda row: row["name"].partition(" ")[2],
    "email/emailAddress": _emails,
    "personPhone/formattedNumber": _phones,
    "personMobilePhone/formattedNumber": _phones,
    "phone/formattedNumber": _phones,
    "personRegisteredDate": lambda row: rfc3339(row["created_at"]),
    "personUpdatedDate": lambda row: rfc3339(row["updated_at"]),
}
DELETED_COLUMNS: Columns = {**PERSON_COLUMNS, "deletedDate": lambda row: rfc3339(row["deleted_at"])}
PERSON_INDEX = {"email/emailAddress": "{}", "personId": "#id:{}"}


def _child(entity: str, key: str) -> Columns:
    return {
        key: lambda row: int(row["id"]),
        "personId": lambda row: int(row["person"]),
        "title": lambda row: row["title"],
        "recordType": lambda row: entity,
        "emailAddress": lambda row: row["email"],
        "formSubmissionId": lambda row: int(
            row["id"] if entity == "formSubmission" else row.get("submission") or 0
        ),
        "registeredDate": lambda row: row["registered"],
    }


def _children(entity: str, key: str) -> Archive:
    found_by = {"personId": "#person:{}", "emailAddress": "{}", key: "#id:{}"}
    return Archive(f"superoffice.{entity.lower()}", entity, key, _child(entity, key), found_by)


ARCHIVES: dict[str, Archive] = {
    "person": Archive(
        "superoffice.person",
        "person",
        "personId",
        PERSON_COLUMNS,
        PERSON_INDEX,
        lambda row: row["deleted_at"] is None,
    ),
    "recycleperson": Archive(
        "superoffice.person",
        "person",
        "personId",
        DELETED_COLUMNS,
        PERSON_INDEX,
        lambda row: row["deleted_at"] is not None,
    ),
    "ticket": _children("ticket", "ticketId"),
    "formsubmission": _children("formSubmission", "formSubmissionId"),
    "chatsession": _children("chatSession", "chatSessionId"),
    "appointment": _children("appointment", "appointmentId"),
    "document": _children("document", "documentId"),
    "sale": _children("sale", "saleId"),
}
# What Person/{id}/… lists; activities are its appointments here.
CHILDREN = {
    "tickets": "ticket",
    "activities": "appointment",
    "appointments": "appointment",
    "documents": "document",
    "sales": "sale",
}


def entity(row: Row) -> dict[str, Any]:
    """A PersonEntity, as far as an erasure needs it."""
    first, _, last = row["name"].partition(" ")
    return {
        "PersonId": int(row["id"]),
        "FullName": row["name"],
        "Firstname": first,
        "Lastname": last,
        "Emails": [{"Value": email, "Description": email} for email in row["emails"]],
        "MobilePhones": [{"Value": phone, "Description": phone} for phone in row["phones"]],
        "CreatedDate": rfc3339(row["created_at"]),
        "UpdatedDate": rfc3339(row["updated_at"]),
    }


def announce(store: Store, account: Row, event: str, person: str, now: int) -> None:
    """Queues a webhook, if the account has one, signed over its raw body."""
    hook = account["webhook"]
    if hook is None:
        return
    identity = serial_uuid(store.number("superoffice.event"))
    body = json.dumps(
        {
            "EventId": identity,
            "Timestamp": rfc3339(now),
            "Changes": ["DeletedDate"] if event == "person.softdeleted" else [],
            "Event": event,
            "PrimaryKey": int(person),
            "Entity": "person",
            "ContextIdentifier": account["id"],
            "ChangedByAssociateId": 1,
            "WebhookName": hook["name"],
        }
    )
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "X-SuperOffice-Event": event,
        "X-SuperOffice-EventId": identity,
        "X-SuperOffice-Signature": hmac64(hook["secret"], body.encode()),
    }
    details = {"vendor": "superoffice", "account": account["id"], "record": person, "said": event}
    store.later(now, "deliver", network=True, url=hook["url"], body=body, headers=headers, **details)
