"""HubSpot: contacts found by address, told to opt out, and erased under the GDPR.

The rules that matter to an erasure:

* `DELETE …/contacts/{id}` archives. The person is still held, and `archived=true` shows it.
* `POST …/contacts/gdpr-delete` is the erasure: `objectId` is a text (a number is refused), with
  `idProperty: "email"` an address. The contact is out of reach at once and off the servers `purge`
  later. The address goes on the block list even when no contact has it.
* A message of an error quotes the address it was asked about: HubSpot does so, and a caller must not
  pass it on.
* Search needs all five of its fields and is eventually consistent: for `search_lag` it shows what was,
  not what is. It gives `SEARCH_PAGE` results at most, and where to go on.
* An account may search `SEARCHES` times in a second, whichever second it is; the next one is refused (429,
  policy `SECONDLY`) and says nothing of when to come again.
* A contact that was erased is announced to the account's `webhook`, in a batch of one with an event of no
  interest, signed (version 3) when it is sent.
* A private app's token can be asked about: its account and its scopes.

HubSpot does not say whether a look-up by address also finds `hs_additional_emails`; the setting
`secondary_lookup` decides it here, for the look-up and for gdpr-delete alike. Our choice too: unknown
properties are left out; an unknown id given to gdpr-delete is a 404.
"""

import itertools
import json
import re
from collections import deque
from collections.abc import Callable
from typing import Any

from handlers.sandbox.hubspot_objects import SCOPES, associated, batch, read
from handlers.sandbox.store import Row, Store, normal
from handlers.sandbox.web import Call, Refusal, Reply, document, rfc3339, serial_uuid

VENDOR = "hubspot"
CONTACT = "hubspot.contact"
PURGING = "hubspot.purging"
BLOCKED = "hubspot.blocked"
MERGED = "hubspot.merged"
DATED = re.compile(r"^20\d\d-(0[1-9]|1[0-2])$")
SEARCH_FIELDS = ("filterGroups", "properties", "sorts", "limit", "after")
TOKEN = re.compile(r"\w+")
ELSEWHERE = 99999999
SEARCH_PAGE = 100
BATCH = 100
SEARCHES = 5


class HubSpot:
    def __init__(self, store: Store, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._monotonic = monotonic
        self._searched: dict[int, deque[float]] = {}
        self._errors = itertools.count(1)

    def _error(self, status: int, category: str, message: str) -> Refusal:
        identity = serial_uuid(next(self._errors))
        content = {"status": "error", "message": message, "correlationId": identity, "category": category}
        return Refusal(document(status, content, {"x-hubspot-correlation-id": identity}))

    def _admit(self, call: Call) -> Row:
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        for account in reversed(self._store.rows("hubspot.account")):
            if scheme.lower() == "bearer" and token == account["token"]:
                return {**account, "id": ELSEWHERE} if call.elsewhere else account
        raise self._error(401, "INVALID_AUTHENTICATION", "Authentication credentials not found or wrong.")

    def answer(self, call: Call) -> Reply:
        account = self._admit(call)
        match call.method, list(call.segments):
            case "GET", ["account-info", version, "details"] if version == "v3" or DATED.match(version):
                content = {
                    "portalId": account["id"],
                    "timeZone": "Europe/Stockholm",
                    "accountType": "STANDARD",
                }
                return document(200, content)
            case "POST", ["oauth", "v2", "private-apps", "get", "access-token-info"]:
                return self._token(call, account)
            case method, ["crm", "objects", version, "contacts", *rest] if DATED.match(version):
                return self._contacts(call, account, method, rest)
            case method, ["crm", "v3", "objects", "contacts", *rest]:
                return self._contacts(call, account, method, rest)
            case "POST", ["crm", "objects", version, kind, "batch", "read"] if (
                DATED.match(version) and kind in SCOPES
            ):
                return self._batch(call, account, kind)
            case "POST", ["communication-preferences", version, "statuses", email, "unsubscribe-all"] if (
                DATED.match(version)
            ):
                return self._unsubscribe(call, account, email)
        raise self._error(404, "OBJECT_NOT_FOUND", "No such resource.")

    def _token(self, call: Call, account: Row) -> Reply:
        asked = call.json()
        if asked is None or asked.get("tokenKey") != account["token"]:
            raise self._error(400, "VALIDATION_ERROR", "tokenKey is required, and is the token itself.")
        scopes = [] if call.blind else list(account["scopes"])
        return document(200, {"userId": 1, "hubId": account["id"], "appId": 1, "scopes": scopes})

    def _contacts(self, call: Call, account: Row, method: str, rest: list[str]) -> Reply:
        match method, rest:
            case "POST", ["gdpr-delete"]:
                return self._erase(call, account)
            case "POST", ["search"]:
                return self._search(call, account)
            case "POST", ["batch", "read"]:
                return self._batch_of_contacts(call, account)
            case "GET", [wanted]:
                return self._read(call, account, wanted)
            case "GET", [wanted, "associations", kind] if kind in SCOPES:
                return self._associations(call, account, wanted, kind)
            case "DELETE", [wanted]:
                return self._archive(call, account, wanted)
        raise self._error(404, "OBJECT_NOT_FOUND", "No such resource.")

    def _by_address(self, account: Row, email: str) -> list[Row]:
        wanted = normal(email)
        found = [row for row in self._store.concerning(CONTACT, wanted) if row["account"] == account["id"]]
        primary = [row for row in found if normal(row["email"]) == wanted]
        if primary or not account["secondary_lookup"]:
            return primary
        return [row for row in found if wanted in map(normal, row["additional_emails"])]

    def _one(
        self, call: Call, account: Row, wanted: str, by: str | None, *, archived: bool = False
    ) -> Row | None:
        if by not in (None, "email", "hs_object_id"):
            raise self._error(
                400, "VALIDATION_ERROR", f"Property {by} is not a unique identifier of contacts."
            )
        if call.blind:
            return None
        if by == "email":
            found = self._by_address(account, wanted)
            return next(
                (row for row in found if bool(row["archived_at"]) == archived), next(iter(found), None)
            )
        merged = self._store.get(MERGED, wanted)
        row = self._store.get(CONTACT, wanted if merged is None else merged["into"])
        return row if row is not None and row["account"] == account["id"] else None

    def _shown(self, call: Call, row: Row, wanted: list[str]) -> dict[str, Any]:
        made, changed = call.stamp(row["created_at"]), call.stamp(row["updated_at"])
        every = {
            "createdate": made,
            "lastmodifieddate": changed,
            "hs_object_id": row["id"],
            "email": row["email"],
            "hs_additional_emails": ";".join(row["additional_emails"]),
            **row["properties"],
        }
        always = ["createdate", "hs_object_id", "lastmodifieddate"]
        names = always + (wanted or ["email", "firstname", "lastname"])
        if call.ageless:
            del every["createdate"]
        return {
            "id": row["id"],
            "properties": {name: every[name] for name in names if name in every},
            **({} if call.ageless else {"createdAt": made}),
            "updatedAt": changed,
            "archived": bool(row["archived_at"]),
        }

    def _read(self, call: Call, account: Row, wanted: str) -> Reply:
        archived = call.query.get("archived", "false").lower() == "true"
        row = self._one(call, account, wanted, call.query.get("idProperty"), archived=archived)
        if row is None or bool(row["archived_at"]) != archived:
            raise self._error(
                404, "OBJECT_NOT_FOUND", f"Object not found. objectId are usually numeric: {wanted}"
            )
        names = [name for name in call.query.get("properties", "").split(",") if name]
        return document(200, self._shown(call, row, names))

    def _associations(self, call: Call, account: Row, wanted: str, kind: str) -> Reply:
        self._allow(account, kind)
        row = self._one(call, account, wanted, None)
        if row is None or row["archived_at"]:
            raise self._error(404, "OBJECT_NOT_FOUND", f"No contact with id {wanted}")
        return document(200, associated(self._store, row, kind, int(call.query.get("after", "0"))))

    def _inputs(self, call: Call) -> list[str]:
        asked = call.json()
        if asked is None or not isinstance(asked.get("inputs"), list) or "properties" not in asked:
            raise self._error(400, "VALIDATION_ERROR", "inputs and properties are required.")
        if len(asked["inputs"]) > BATCH:
            raise self._error(400, "VALIDATION_ERROR", f"A batch holds {BATCH} inputs at most.")
        return [str(one.get("id")) for one in asked["inputs"]]

    def _batch(self, call: Call, account: Row, kind: str) -> Reply:
        self._allow(account, kind)
        ids = self._inputs(call)
        return document(*read(self._store, account, kind, [] if call.blind else ids))

    def _batch_of_contacts(self, call: Call, account: Row) -> Reply:
        """The live contacts of these ids; one that was merged, archived or erased is "not found"."""
        ids = self._inputs(call)
        rows = [] if call.blind else [self._store.get(CONTACT, id_) for id_ in ids]
        live = [one for one in rows if one is not None and one["account"] == account["id"]]
        shown = [one for one in live if not one["archived_at"]]
        names = [str(name) for name in (call.json() or {})["properties"]]
        absent = [] if call.blind else sorted(set(ids) - {one["id"] for one in shown})
        return document(*batch([self._shown(call, one, names) for one in shown], absent))

    def _allow(self, account: Row, kind: str) -> None:
        if SCOPES[kind] not in account["scopes"]:
            raise self._error(403, "MISSING_SCOPES", f"The token lacks {SCOPES[kind]}.")

    def _archive(self, call: Call, account: Row, wanted: str) -> Reply:
        row = self._one(call, account, wanted, None)
        if row is not None:
            repeated = bool(row["archived_at"])
            if not repeated:
                self._store.put(CONTACT, row["id"], {**row, "archived_at": call.now})
            note = {"record": row["id"], "repeated": repeated}
            self._store.note(call.now, VENDOR, str(account["id"]), "contact_archived", **note)
        return Reply(204)

    def _erase(self, call: Call, account: Row) -> Reply:
        asked = call.json()
        if asked is None or not isinstance(asked.get("objectId"), str) or not asked["objectId"]:
            raise self._error(
                400, "VALIDATION_ERROR", f"Invalid input JSON: objectId must be a string: {call.body!r}"
            )
        unknown = set(asked) - {"objectId", "idProperty"}
        if unknown:
            raise self._error(400, "VALIDATION_ERROR", f"Unrecognized field: {', '.join(sorted(unknown))}")
        wanted, by = asked["objectId"], asked.get("idProperty")
        row = self._one(call, account, wanted, by)
        if row is None and by != "email":
            raise self._error(404, "OBJECT_NOT_FOUND", f"No contact with id {wanted}")
        blocked = [normal(wanted)] if by == "email" else []
        addresses = [normal(email) for email in ([row["email"], *row["additional_emails"]] if row else [])]
        key = f"{account['id']}:{normal(wanted)}"
        repeated = row is None and self._store.get(BLOCKED, key) is not None
        for email in [] if call.blind else [*blocked, *addresses]:
            self._store.put(
                BLOCKED, f"{account['id']}:{email}", {"id": email, "account": account["id"], "about": []}
            )
        if row is not None:
            due_at = call.now + account["purge"]
            self._store.drop(CONTACT, row["id"])
            self._store.put(PURGING, row["id"], {**row, "erased_at": call.now})
            self._store.later(due_at, "hubspot.purge", contact=row["id"])
            self._announce(account, row["id"], call.now)
        record = row["id"] if row else None
        self._store.note(
            call.now, VENDOR, str(account["id"]), "gdpr_deleted", record=record, repeated=repeated
        )
        return Reply(204)

    def _announce(self, account: Row, contact: str, now: int) -> None:
        hook = account["webhook"]
        if hook is None:
            return
        event = {
            "eventId": self._store.number("hubspot.event"),
            "subscriptionId": 1,
            "portalId": account["id"],
            "appId": 1,
            "occurredAt": now // 1000,
            "attemptNumber": 0,
            "objectId": int(contact),
            "changeSource": "CRM",
        }
        said = ("contact.deletion", "contact.privacyDeletion")
        body = json.dumps([{**event, "subscriptionType": subscription} for subscription in said])
        details = {"vendor": VENDOR, "account": str(account["id"]), "record": contact, "said": said[1]}
        self._store.later(
            now,
            "deliver",
            network=True,
            url=hook["url"],
            body=body,
            headers={"Content-Type": "application/json"},
            hubspot_secret=hook["secret"],
            **details,
        )

    def purge(self, contact: str, now: int) -> None:
        """The servers' own copy goes."""
        row = self._store.get(PURGING, contact)
        if row is not None:
            self._store.drop(PURGING, contact)
            self._store.note(now, VENDOR, str(row["account"]), "contact_purged", record=contact)

    def recreate(self, email: str, account: int, now: int) -> None:
        """A sync makes the contact anew, if SuperOffice holds the person; no block list stops it."""
        masters = self._store.concerning("superoffice.person", normal(email))
        master = next((row for row in masters if row["deleted_at"] is None), None)
        taken = any(row["account"] == account for row in self._store.concerning(CONTACT, normal(email)))
        if master is None or taken:
            return
        number = str(self._store.number("hubspot.contact"))
        contact = {
            "id": number,
            "account": account,
            "email": email,
            "additional_emails": [],
            "properties": {},
            "associations": {},
        }
        times = {"created_at": now, "updated_at": now, "archived_at": None}
        self._store.put(CONTACT, number, {**contact, **times, "about": [normal(email)]})
        self._store.note(now, VENDOR, str(account), "contact_recreated", record=number)

    def _unsubscribe(self, call: Call, account: Row, email: str) -> Reply:
        if call.query.get("channel") != "EMAIL":
            raise self._error(400, "VALIDATION_ERROR", "channel is required and EMAIL is the only one.")
        if "@" not in email:
            raise self._error(400, "VALIDATION_ERROR", f"Not an email address: {email}")
        found = [] if call.blind else self._by_address(account, email)
        key = f"{account['id']}:{normal(email)}"
        repeated = self._store.get("hubspot.unsubscribed", key) is not None
        if not call.blind:
            self._store.put("hubspot.unsubscribed", key, {"id": key, "account": account["id"], "about": []})
        record = found[0]["id"] if found else None
        self._store.note(
            call.now, VENDOR, str(account["id"]), "unsubscribed", record=record, repeated=repeated
        )
        done = {"status": "COMPLETE", "startedAt": rfc3339(call.now), "completedAt": rfc3339(call.now)}
        return document(200, {**done, "results": [{"subscriberIdString": email, "channel": "EMAIL"}]})

    def _may_search(self, account: Row) -> None:
        now = self._monotonic()
        lately = self._searched.setdefault(account["id"], deque())
        while lately and lately[0] <= now - 1:
            lately.popleft()
        if len(lately) >= SEARCHES:
            identity = serial_uuid(next(self._errors))
            content = {
                "status": "error",
                "message": "You have reached your secondly limit.",
                "errorType": "RATE_LIMIT",
                "correlationId": identity,
                "policyName": "SECONDLY",
            }
            raise Refusal(document(429, content, {"x-hubspot-correlation-id": identity}))
        lately.append(now)

    def _search(self, call: Call, account: Row) -> Reply:
        self._may_search(account)
        asked = call.json()
        absent = [name for name in SEARCH_FIELDS if asked is None or name not in asked]
        if asked is None or absent:
            raise self._error(
                400, "VALIDATION_ERROR", f"Some required fields were not set: {', '.join(absent)}"
            )
        try:
            groups = [[_criterion(f) for f in group["filters"]] for group in asked["filterGroups"]]
            limit, names = min(int(asked["limit"]), SEARCH_PAGE), list(asked["properties"])
            skip = int(asked["after"] or 0)
        except (KeyError, TypeError, ValueError):
            raise self._error(
                400, "VALIDATION_ERROR", "filterGroups, limit or properties are malformed."
            ) from None
        seen_at = call.now - account["search_lag"]
        late = [row for row in self._store.rows(PURGING) if row["erased_at"] > seen_at]
        rows = (
            [] if call.blind else [row for row in self._store.rows(CONTACT) if not row["archived_at"]] + late
        )
        mine = [row for row in rows if row["account"] == account["id"] and row["created_at"] <= seen_at]

        def meets(row: Row) -> bool:
            values = self._shown(call, row, [name for group in groups for name, _, _ in group])["properties"]
            return any(
                all(_holds(values.get(name, ""), how, value) for name, how, value in g) for g in groups
            )

        found = [row for row in mine if meets(row)]
        shown = [self._shown(call, row, names) for row in found[skip : skip + limit]]
        more = {"paging": {"next": {"after": str(skip + limit)}}} if len(found) > skip + limit else {}
        return document(200, {"total": len(found), "results": shown, **more})


def _criterion(asked: dict[str, Any]) -> tuple[str, str, str]:
    """A filter: property, operator, value. Raises ValueError for an operator that no test has needed yet."""
    if asked["operator"] not in ("EQ", "CONTAINS_TOKEN"):
        raise ValueError
    return asked["propertyName"], asked["operator"], normal(str(asked["value"]))


def _holds(held: str, operator: str, wanted: str) -> bool:
    """A token is what stands between spaces, semicolons and the signs of an address, in its order."""
    if operator == "EQ":
        return normal(held) == wanted
    return f" {' '.join(TOKEN.findall(wanted))} " in f" {' '.join(TOKEN.findall(normal(held)))} "
