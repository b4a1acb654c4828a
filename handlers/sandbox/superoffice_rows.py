"""How SuperOffice's rows look: archives and their columns, the person entity, and what its webhooks say.

Every column, its restriction type and every entity is in SuperOffice's own reference of its archive
providers (SuperOfficeDocs, MIT); `tests/contract/test_sandbox_archives.py` holds this module to it. Of their
hundreds of columns these are the ones by which a person can be found, told apart and reported.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from handlers.sandbox.odata import Clause, Column, Kind, Value
from handlers.sandbox.signing import hmac64
from handlers.sandbox.store import Row, Store, normal
from handlers.sandbox.web import rfc3339, serial_uuid

PERSON = "superoffice.person"
US = "system user"
#: The marks by which `Store.concerning` finds rows for a condition on a column: of the row, or of its person.
_OF_THE_ROW = {"personId": "#person:{}", "formSubmissionEmail": "{}"}
_EXACT = frozenset({"is", "eq", "=", "equals", "oneof", "in"})


@dataclass(frozen=True, slots=True)
class Archive:
    """One archive provider. `entities` are what may be asked for; `shows` says whether a row is of them."""

    table: str
    key: str
    columns: Mapping[str, Column]
    entities: tuple[str, ...]
    shows: Callable[[Row, frozenset[str]], bool]
    entity: Callable[[Row], str]
    marks: Mapping[str, str] = field(default_factory=dict)

    def candidates(self, store: Store, clauses: Iterable[Clause]) -> list[Row]:
        """The rows among which those that meet the clauses are: by an index where there is one."""
        for one in clauses:
            if one.operator not in _EXACT:
                continue
            wanted = [normal(str(value)) for value in one.wanted]
            if one.column in self.marks:
                return self._marked(store, self.marks[one.column], wanted)
            if one.column == "person/email/emailAddress":
                persons = [row["id"] for value in wanted for row in store.concerning(PERSON, value)]
                return self._marked(store, "#person:{}", persons)
        return store.rows(self.table)

    def _marked(self, store: Store, mark: str, values: list[str]) -> list[Row]:
        found = {
            row["id"]: row for value in values for row in store.concerning(self.table, mark.format(value))
        }
        return list(found.values())


def _of(kind: Kind, value: Callable[[Row], Value]) -> Column:
    return Column(kind, lambda row: [value(row)])


def _several(name: str) -> Column:
    return Column("string", lambda row: row[name] or [""])


_PERSON: Mapping[str, Column] = {
    "personId": _of("int", lambda row: int(row["id"])),
    "fullName": _of("string", lambda row: row["name"]),
    "firstName": _of("string", lambda row: row["name"].partition(" ")[0]),
    "lastName": _of("string", lambda row: row["name"].partition(" ")[2]),
    "email/emailAddress": _several("emails"),
    "personRegisteredDate": _of("date", lambda row: row["created_at"]),
    "personUpdatedDate": _of("date", lambda row: row["updated_at"]),
    "personDeletedDate": _of("datetime", lambda row: row["deleted_at"]),
    "retired": _of("bool", lambda row: row["retired"]),
    # A user of the system is of some type of associate, anybody else of none.
    "associateType": _of("none", lambda row: "Employee" if row["associate"] else ""),
}
_PERSON_PHONES: Mapping[str, Column] = {
    "personMobilePhone/formattedNumber": _several("phones"),
    "phone/formattedNumber": _several("phones"),
}
_PERSON_MARKS = {"email/emailAddress": "{}", "personId": "#id:{}"}


def _kind_of_person(row: Row) -> str:
    return "retiredPerson" if row["retired"] else "person"


def _is_asked_for(row: Row, entities: frozenset[str]) -> bool:
    """Former employees are not shown unless they are asked for."""
    return row["deleted_at"] is None and _kind_of_person(row) in (entities or {"person"})


def _is_in_bin(row: Row, entities: frozenset[str]) -> bool:
    """Without `forAllUsers` one sees only what one has deleted oneself."""
    mine = row["deleted_by"] == US or "forAllUsers" in entities
    return row["deleted_at"] is not None and mine and (not entities or "person" in entities)


def _is_live(row: Row, entities: frozenset[str]) -> bool:
    return row["deleted_at"] is None


def archives(store: Store) -> dict[str, Archive]:
    """The archive providers, by their names in lower case."""

    def person_of(row: Row) -> Row:
        return store.get(PERSON, row["person"]) or {}

    def child(
        table: str, key: str, entity: str, *others: str, person: Kind, more: Mapping[str, Column]
    ) -> Archive:
        columns: dict[str, Column] = {
            key: _of("int", lambda row: int(row["id"])),
            "personId": _of(person, lambda row: int(row["person"])),
            "person/personId": _of("int", lambda row: int(row["person"])),
            "person/email/emailAddress": Column("string", lambda row: person_of(row).get("emails") or [""]),
            **more,
        }
        marks = {name: mark for name, mark in _OF_THE_ROW.items() if name in columns}
        marks |= {key: "#id:{}", "person/personId": "#person:{}"}
        return Archive(
            f"superoffice.{table}", key, columns, (entity, *others), _is_live, lambda row: entity, marks
        )

    registered = {"registeredDate": _of("date", lambda row: row["registered_at"])}
    title = _of("string", lambda row: row["title"])
    of_ticket = {
        "title": title,
        "createdAt": _of("datetime", lambda row: row["registered_at"]),
        "ticketStatusName": _of("listAny", lambda row: "Deleted" if row["deleted_at"] else "Active"),
    }
    submission = {
        **registered,
        "formSubmissionEmail": _of("string", lambda row: row["email"]),
    }
    requested = {**registered, "whenRequested": _of("datetime", lambda row: row["registered_at"])}
    ticket = child("ticket", "ticketId", "ticket", "ticketdisplayclosed", person="int", more=of_ticket)
    chat = child("chatsession", "chatSessionId", "chatsession", person="listAny", more=requested)
    subject = {**registered, "name": title}
    return {
        "person": Archive(
            PERSON,
            "personId",
            {**_PERSON, **_PERSON_PHONES},
            ("person", "retiredPerson"),
            _is_asked_for,
            _kind_of_person,
            _PERSON_MARKS,
        ),
        "recycleperson": Archive(
            PERSON,
            "personId",
            _PERSON,
            ("person", "forAllUsers"),
            _is_in_bin,
            lambda row: "person",
            _PERSON_MARKS,
        ),
        "ticket": ticket,
        "findticket": ticket,
        "recycleticket": Archive(
            ticket.table,
            ticket.key,
            ticket.columns,
            ("ticket",),
            lambda row, entities: row["deleted_at"] is not None,
            ticket.entity,
            ticket.marks,
        ),
        "formsubmission": child(
            "formsubmission", "formSubmissionId", "formSubmission", person="listAny", more=submission
        ),
        "findchatsession": chat,
        "chatsession": Archive(
            chat.table, chat.key, chat.columns, ("chat",), _is_live, lambda row: "chat", chat.marks
        ),
        "appointment": child(
            "appointment", "appointmentId", "appointment", person="listAny", more=registered
        ),
        "document": child("document", "documentId", "document", person="listAny", more=subject),
        "sale": child("sale", "saleId", "sale", person="listAny", more=registered),
    }


# What Person/{id}/… lists; activities are its appointments here.
CHILDREN = {
    "tickets": "ticket",
    "activities": "appointment",
    "appointments": "appointment",
    "documents": "document",
    "sales": "sale",
}


def entity(row: Row, shown: Callable[[int], str]) -> dict[str, Any]:
    """A PersonEntity, as far as an erasure needs it."""
    first, _, last = row["name"].partition(" ")
    return {
        "PersonId": int(row["id"]),
        "FullName": row["name"],
        "Firstname": first,
        "Lastname": last,
        "Retired": row["retired"],
        "Emails": [{"Value": email, "Description": email} for email in row["emails"]],
        "MobilePhones": [{"Value": phone, "Description": phone} for phone in row["phones"]],
        "CreatedDate": shown(row["created_at"]),
        "UpdatedDate": shown(row["updated_at"]),
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
