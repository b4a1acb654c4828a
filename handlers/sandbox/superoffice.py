"""SuperOffice Online: the tenant's address, the system user, persons and what hangs on them.

    /superoffice/api/state/{context}                                where the tenant lives
    /superoffice/Login/api/PartnerSystemUser/Authenticate           a system user's ticket
    /superoffice/{subdomain}/{context}/api/v1/…                     the API itself

The rules that matter to an erasure:

* Deleting a person is a soft delete: the row goes to the recycle bin, and a background rule removes it
  `retain_deleted` later. Only `Agents/Person/DeleteExpired` does the same on demand, for rows whose time
  has passed.
* Deleting a request (ticket) is a soft delete, too: its status is Deleted, the archives don't show it, and by
  its id it can still be opened until its own purge.
* The bins show what one has deleted oneself; `forAllUsers` shows what others have.
* What hung on the person stays, through both: tickets with their messages, form submissions, chat sessions,
  appointments, documents, sales. The purge sets their link to the person to 0, and their content stays. Each
  goes by its own deletion. A sale under the bookkeeping law refuses: 403, and nothing changes.
* A person who is a user of the system (an associate) refuses to go: 403, for that record alone.
* A ticket (the credential) slides: it dies `ticket_life` after its last use, and then every call is 401.
  A wrong `SO-AppToken` is 403, a wrong subdomain 421.

Where SuperOffice documents nothing, this is our choice: the status and body for a missing record (404
with `Error`, `ErrorType`, `ErrorMessage`), 403 for the wrong application token, that a person in the recycle
bin is missing to `Person/{id}`, that the purge unlinks documents, too, and that a filter on the address finds
any of a person's addresses.
"""

from collections.abc import Callable
from typing import Any

from handlers.sandbox import odata
from handlers.sandbox.store import Row, Store
from handlers.sandbox.superoffice_login import Login
from handlers.sandbox.superoffice_rows import CHILDREN, PERSON, US, announce, archives, entity
from handlers.sandbox.web import Call, Refusal, Reply, document

VENDOR = "superoffice"
DELETABLE = ("ticket", "appointment", "document", "sale", "chatsession")
#: What loses its link to a person who is purged, and keeps its content.
UNLINKED = ("ticket", "formsubmission", "chatsession", "appointment", "document", "sale")
COLLEAGUE = "colleague"


def missing(what: str) -> Refusal:
    return odata.error(404, "SoNotFoundException", f"{what} was not found.")


def unroutable() -> Refusal:
    return odata.error(404, "SoNotFoundException", "No such resource.")


class SuperOffice:
    def __init__(self, store: Store, login: Login) -> None:
        self._store = store
        self._login = login
        self._archives = archives(store)

    def answer(self, call: Call) -> Reply:
        lower = [part.lower() for part in call.segments]
        if lower[:2] == ["api", "state"] and len(lower) == 3 and call.method == "GET":
            return self._login.state(call, call.segments[2])
        if lower == ["login", "api", "partnersystemuser", "authenticate"] and call.method == "POST":
            return self._login.authenticate(call)
        if lower == ["login", ".well-known", "jwks"] and call.method == "GET":
            return document(200, self._login.keys())
        if len(lower) < 5 or lower[2:4] != ["api", "v1"]:
            raise unroutable()
        account = self._login.admit(call, call.segments[0], call.segments[1])
        return self._resource(call, account, call.segments[4:], lower[4:])

    def _resource(self, call: Call, account: Row, path: tuple[str, ...], lower: list[str]) -> Reply:
        method = call.method
        match method, lower:
            case "GET", ["user", "currentprincipal"]:
                return document(200, {"DatabaseContextIdentifier": account["id"], "UserName": "system user"})
            case "GET", ["person"]:
                return self._archive(call, account, "person", lambda row: True)
            case "GET", ["archive", name] if name in self._archives:
                return self._archive(call, account, name, lambda row: True)
            case "GET", ["person", number]:
                row = self._person(call, account, number)
                return document(200, entity(row, odata.clock_shown(call, account["time_zone"])))
            case "DELETE", ["person", number]:
                return self._delete_person(call, account, self._person(call, account, number))
            case "GET", ["person", number, kind] if kind in CHILDREN:
                person = self._person(call, account, number)
                mark = f"#person:{person['id']}"
                return self._archive(call, account, CHILDREN[kind], lambda row: mark in row["about"])
            case "GET", ["person", number, "consent"]:
                consents = self._person(call, account, number)["consents"]
                return document(
                    200, [{"ConsentPurposeKey": purpose, "LegalBaseKey": "61A"} for purpose in consents]
                )
            case "GET", ["person", number, "consent", purpose]:
                return document(200, purpose.upper() in self._person(call, account, number)["consents"])
            case "DELETE", ["person", number, "consent", purpose]:
                return self._withdraw(call, account, self._person(call, account, number), purpose.upper())
            case "POST", ["agents", "person", "deleteexpired"]:
                self.purge_expired(call.now)
                return document(200, {"Success": True})
            case "POST", ["agents", "marketing", operation]:
                return self._marketing(call, account, operation)
            case "DELETE", [kind, number] if kind in DELETABLE:
                return self._delete_child(call, account, kind, self._child(call, account, kind, number))
            case "GET", [kind, number] if kind in DELETABLE:
                row = self._child(call, account, kind, number)
                shown = odata.clock_shown(call, account["time_zone"])
                return document(200, _child_entity(kind, row, shown))
            case "GET", ["ticket", number, "messages"]:
                row = self._child(call, account, "ticket", number)
                return document(
                    200, {"value": [{"PrimaryKey": "1", "EntityName": "ticketMessage", "body": row["body"]}]}
                )
        raise unroutable()

    def _archive(self, call: Call, account: Row, name: str, wanted: Callable[[Row], bool]) -> Reply:
        archive = self._archives[name]
        query = odata.Query(
            key=archive.key,
            columns=archive.columns,
            entity=archive.entity,
            page=account["page"],
            quoting=account["quote_escape"],
            shown=odata.clock_shown(call, account["time_zone"]),
        )
        clauses = query.clauses(call)
        entities = odata.entities(call, archive.entities)
        found = self._store.rows(archive.table)
        if not call.unfiltered:
            found = archive.candidates(self._store, clauses)
        rows = [
            row
            for row in ([] if call.blind else found)
            if row["account"] == account["id"] and archive.shows(row, entities) and wanted(row)
        ]
        return document(200, query.answer(call, clauses, rows))

    def _person(self, call: Call, account: Row, number: str) -> Row:
        row = self._store.get(PERSON, number)
        if row is None or row["deleted_at"] is not None or row["account"] != account["id"] or call.blind:
            raise missing("The person")
        return row

    def _child(self, call: Call, account: Row, kind: str, number: str) -> Row:
        row = self._store.get(f"superoffice.{kind}", number)
        if row is None or row["account"] != account["id"] or call.blind:
            raise missing(f"The {kind}")
        return row

    def _delete_person(self, call: Call, account: Row, row: Row) -> Reply:
        self._login.check_unmodified(call, row["updated_at"])
        if row["associate"]:
            raise odata.error(403, "SoSentryException", "The person is a user of the system.")
        self._to_bin(account, row, call.now, US)
        self._store.note(call.now, VENDOR, account["id"], "person_soft_deleted", record=row["id"])
        return Reply(204)

    def _to_bin(self, account: Row, row: Row, now: int, by: str) -> None:
        due_at = now + account["retain_deleted"]
        binned = {**row, "deleted_at": now, "deleted_by": by, "purge_at": due_at}
        self._store.put(PERSON, row["id"], binned)
        self._store.later(due_at, "superoffice.purge", person=row["id"])
        announce(self._store, account, "person.softdeleted", row["id"], now)

    def delete_as_colleague(self, person: str, now: int) -> None:
        """Somebody else, in SuperOffice itself, deletes a person."""
        row = self._store.get(PERSON, person)
        account = self._store.get("superoffice.account", row["account"]) if row else None
        if row is None or account is None or row["deleted_at"] is not None:
            return
        self._to_bin(account, row, now, COLLEAGUE)
        self._store.note(now, VENDOR, account["id"], "person_deleted_by_colleague", record=person)

    def purge(self, person: str, now: int) -> None:
        """What the background rule does to one row, once its time in the bin has passed."""
        row = self._store.get(PERSON, person)
        if row is None or row["deleted_at"] is None or row["purge_at"] > now:
            return
        self._store.drop(PERSON, person)
        for kind in UNLINKED:
            table = f"superoffice.{kind}"
            for child in self._store.concerning(table, f"#person:{person}"):
                about = [mark for mark in child["about"] if mark != f"#person:{person}"]
                self._store.put(table, child["id"], {**child, "person": "0", "about": about})
        self._store.note(now, VENDOR, row["account"], "person_purged", record=person)
        account = self._store.get("superoffice.account", row["account"])
        if account is not None:
            announce(self._store, account, "person.deleted", person, now)

    def purge_ticket(self, ticket: str, now: int) -> None:
        """The same for a request: its messages and attachments go with it."""
        row = self._store.get("superoffice.ticket", ticket)
        if row is not None and row["deleted_at"] is not None:
            self._store.drop("superoffice.ticket", ticket)
            self._store.note(now, VENDOR, row["account"], "ticket_purged", record=ticket)

    def purge_expired(self, now: int) -> None:
        for row in self._store.rows(PERSON):
            self.purge(row["id"], now)

    def _withdraw(self, call: Call, account: Row, row: Row, purpose: str) -> Reply:
        left = [held for held in row["consents"] if held != purpose]
        repeated = len(left) == len(row["consents"])
        self._store.put(PERSON, row["id"], {**row, "consents": left})
        self._store.note(
            call.now, VENDOR, account["id"], "consent_removed", record=row["id"], repeated=repeated
        )
        return Reply(204)

    def _delete_child(self, call: Call, account: Row, kind: str, row: Row) -> Reply:
        if row.get("bookkeeping"):
            raise odata.error(
                403, "SoSentryException", "The record is material for bookkeeping and cannot be deleted."
            )
        repeated = row["deleted_at"] is not None
        if kind == "ticket":
            if not repeated:
                due_at = call.now + account["retain_deleted"]
                self._store.put("superoffice.ticket", row["id"], {**row, "deleted_at": call.now})
                self._store.later(due_at, "superoffice.purge_ticket", ticket=row["id"])
        else:
            self._store.drop(f"superoffice.{kind}", row["id"])
        effect = f"{kind}_deleted"
        self._store.note(call.now, VENDOR, account["id"], effect, record=row["id"], repeated=repeated)
        return Reply(204)

    def _marketing(self, call: Call, account: Row, operation: str) -> Reply:
        if operation == "getformsubmissionscount":
            held = [
                row
                for row in self._store.rows("superoffice.formsubmission")
                if row["account"] == account["id"]
            ]
            return document(200, 0 if call.blind else len(held))
        if operation not in ("getformsubmissionentity", "deleteformsubmissionentity"):
            raise unroutable()
        number = odata.parameters(call).get("formsubmissionentityid", "")
        if not number.isdigit():
            raise odata.error(400, "SoArgumentException", "formSubmissionEntityId is required in the query.")
        row = self._child(call, account, "formsubmission", number)
        if operation == "deleteformsubmissionentity":
            return self._delete_child(call, account, "formsubmission", row)
        shown = odata.clock_shown(call, account["time_zone"])
        return document(200, _submission_entity(row, shown))


def _submission_entity(row: Row, shown: Callable[[int], str]) -> dict[str, Any]:
    return {
        "FormSubmissionId": int(row["id"]),
        "PersonId": int(row["person"]),
        "FormId": 1,
        "EmailAddress": row["email"],
        "WhenSubmitted": shown(row["registered_at"]),
        "Status": "Submitted",
        "Response": row["body"],
    }


def _child_entity(kind: str, row: Row, shown: Callable[[int], str]) -> dict[str, Any]:
    if kind == "ticket":
        return {
            "TicketId": int(row["id"]),
            "Title": row["title"],
            "CreatedAt": shown(row["registered_at"]),
            "BaseStatus": "Deleted" if row["deleted_at"] else "Active",
        }
    name = {"chatsession": "ChatSession"}.get(kind, kind.title())
    return {f"{name}Id": int(row["id"]), "Title": row["title"]}
