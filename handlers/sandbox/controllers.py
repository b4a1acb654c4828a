"""Controllers (tenants) that take a request over OpenDSR and instruct us, and agencies that speak OpenDSR.

    GET    /controllers/{tenant}/v2/discovery
    POST   /controllers/{tenant}/v2/requests            201; the same body: the same 201; another body: 409
    GET    /controllers/{tenant}/v2/requests/{id}
    DELETE /controllers/{tenant}/v2/requests/{id}       202 while pending, later 409
    POST   /controllers/{tenant}/v2/confirmations       what we did about the request, 202

`delay` after the request the controller calls back the first of `status_callback_urls`: `completed` with
the instruction "erase", or `cancelled` with "refuse" and a reason, in `extensions.radera`. One that
never answers has no instruction; one with `ignores` waits for that many reminders. With the role
"agency" it removes the candidates that it holds under the stated identities and calls back `completed`,
without an instruction.
"""

import base64
import hashlib
import json
import re
from datetime import datetime
from typing import Any

from handlers.sandbox.store import Row, Store, normal
from handlers.sandbox.web import Call, Refusal, Reply, document, rfc3339

VENDOR = "controllers"
REQUEST = "controller.request"
CANDIDATE = "agency.candidate"
ID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
FORMATS = ("raw", "sha1", "md5", "sha256")
REQUIRED = (
    "regulation",
    "subject_request_id",
    "subject_request_type",
    "submitted_time",
    "subject_identities",
)
PROCESSING = 30 * 86_400_000_000


def _refusal(status: int, reason: str) -> Refusal:
    error = {
        "code": status,
        "message": reason,
        "errors": [{"domain": "sandbox", "reason": reason, "message": reason}],
    }
    return Refusal(document(status, {"error": error}))


def _is_time(text: Any) -> bool:
    try:
        return isinstance(text, str) and datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def objection(asked: dict[str, Any]) -> str | None:
    """What is wrong with a request, by OpenDSR 2.0; None when nothing is."""
    absent = [name for name in REQUIRED if name not in asked]
    if absent:
        return f"missing: {', '.join(absent)}"
    if asked["regulation"] not in ("gdpr", "ccpa"):
        return "regulation"
    if asked["subject_request_type"] not in ("erasure", "access", "portability"):
        return "subject_request_type"
    if not isinstance(asked["subject_request_id"], str) or not ID.match(asked["subject_request_id"]):
        return "subject_request_id"
    if not _is_time(asked["submitted_time"]):
        return "submitted_time"
    identities = asked["subject_identities"]
    if (
        not isinstance(identities, list)
        or not identities
        or not all(isinstance(item, dict) for item in identities)
    ):
        return "subject_identities"
    for item in identities:
        texts = [item.get("identity_type"), item.get("identity_value")]
        if (
            not all(isinstance(text, str) and text for text in texts)
            or item.get("identity_format") not in FORMATS
        ):
            return "subject_identities"
    urls = asked.get("status_callback_urls", [])
    if not isinstance(urls, list) or not all(isinstance(url, str) and url.startswith("http") for url in urls):
        return "status_callback_urls"
    return None


class Controllers:
    def __init__(self, store: Store) -> None:
        self._store = store

    def answer(self, call: Call) -> Reply:
        tenant, *rest = call.segments or ("",)
        account = self._store.get("controller.account", tenant)
        if account is None:
            raise _refusal(404, "unknown_controller")
        if account["token"] is not None and call.headers.get("authorization") != f"Bearer {account['token']}":
            raise _refusal(401, "unauthorized")
        match call.method, rest:
            case "GET", ["v2", "discovery"]:
                formats = [{"identity_type": "email", "identity_format": name} for name in FORMATS]
                content = {"api_version": "2.0", "supported_identities": formats}
                return document(200, {**content, "supported_subject_request_types": ["erasure"]})
            case "POST", ["v2", "requests"]:
                return self._receive(call, account)
            case "GET", ["v2", "requests", identity]:
                return document(200, self._status(self._request(account, identity)))
            case "DELETE", ["v2", "requests", identity]:
                row = self._request(account, identity)
                if row["status"] != "pending":
                    raise _refusal(409, "too_late")
                self._store.put(REQUEST, f"{account['id']}:{identity}", {**row, "status": "cancelled"})
                self._store.note(call.now, VENDOR, account["id"], "request_cancelled", record=identity)
                return document(202, self._status({**row, "status": "cancelled"}))
            case "POST", ["v2", "confirmations"]:
                return self._confirm(call, account)
        raise _refusal(404, "no_such_resource")

    def _request(self, account: Row, identity: Any) -> Row:
        row = self._store.get(REQUEST, f"{account['id']}:{identity}")
        if row is None:
            raise _refusal(404, "unknown_request")
        return row

    def _status(self, row: Row) -> dict[str, Any]:
        names = ("controller_id", "expected_completion_time", "subject_request_id")
        return {**{name: row["answer"][name] for name in names}, "request_status": row["status"]}

    def _receive(self, call: Call, account: Row) -> Reply:
        asked = call.json()
        wrong = "malformed" if asked is None else objection(asked)
        if asked is None or wrong is not None:
            raise _refusal(400, str(wrong))
        identity, digest = asked["subject_request_id"], hashlib.sha256(call.body).hexdigest()
        held = self._store.get(REQUEST, f"{account['id']}:{identity}")
        if held is not None:
            if held["digest"] != digest:
                raise _refusal(409, "another_body")
            self._store.note(
                call.now, VENDOR, account["id"], "request_received", record=identity, repeated=True
            )
            self._consider(account, {**held, "asked": held["asked"] + 1}, call.now)
            return document(201, held["answer"])
        answer = {
            "controller_id": account["controller_id"],
            "expected_completion_time": rfc3339(call.now + PROCESSING),
            "received_time": rfc3339(call.now),
            "encoded_request": base64.b64encode(call.body).decode(),
            "subject_request_id": identity,
        }
        row = {
            "id": identity,
            "account": account["id"],
            "digest": digest,
            "answer": answer,
            "status": "pending",
        }
        people = [
            normal(item["identity_value"])
            for item in asked["subject_identities"]
            if item["identity_format"] == "raw"
        ]
        urls = asked.get("status_callback_urls", [])
        self._store.note(call.now, VENDOR, account["id"], "request_received", record=identity)
        self._consider(account, {**row, "people": people, "urls": urls, "told": [], "asked": 1}, call.now)
        return document(201, answer)

    def _consider(self, account: Row, row: Row, now: int) -> None:
        """Files the request; the asking after those that the controller ignores makes it decide."""
        self._store.put(REQUEST, f"{account['id']}:{row['id']}", row)
        decides = account["instruction"] is not None or account["role"] == "agency"
        if decides and row["asked"] == account["ignores"] + 1:
            due_at = now + account["delay"]
            self._store.later(due_at, "controller.decide", tenant=account["id"], request=row["id"])

    def decide(self, tenant: str, identity: str, now: int) -> None:
        """The controller makes up its mind and calls back."""
        account = self._store.get("controller.account", tenant)
        row = self._store.get(REQUEST, f"{tenant}:{identity}")
        if account is None or row is None or row["status"] != "pending":
            return
        if account["role"] == "agency":
            for candidate in self._store.rows(CANDIDATE):
                if candidate["account"] == tenant and set(candidate["about"]) & set(row["people"]):
                    self._store.drop(CANDIDATE, candidate["id"])
                    self._store.note(now, "agencies", tenant, "candidate_erased", record=candidate["id"])
        row = {**row, "status": "cancelled" if account["instruction"] == "refuse" else "completed"}
        self._store.put(REQUEST, f"{tenant}:{identity}", row)
        if not row["urls"]:
            return
        said: dict[str, Any] = {**self._status(row), "status_callback_url": row["urls"][0]}
        if account["instruction"] is not None:
            said["extensions"] = {
                "radera": {"instruction": account["instruction"], "reason": account["reason"]}
            }
        details = {"vendor": VENDOR, "account": tenant, "record": identity, "said": row["status"]}
        headers = {"Content-Type": "application/json", **account["callback_headers"]}
        self._store.later(
            now,
            "deliver",
            network=True,
            url=row["urls"][0],
            body=json.dumps(said),
            headers=headers,
            **details,
        )

    def _confirm(self, call: Call, account: Row) -> Reply:
        told = call.json()
        if told is None:
            raise _refusal(400, "malformed")
        row = self._request(account, told.get("subject_request_id"))
        digest = hashlib.sha256(call.body).hexdigest()
        repeated = digest in row["told"]
        if not repeated:
            self._store.put(REQUEST, f"{account['id']}:{row['id']}", {**row, "told": [*row["told"], digest]})
        note = {"record": row["id"], "repeated": repeated, "status": str(told.get("request_status"))}
        self._store.note(call.now, VENDOR, account["id"], "confirmation_received", **note)
        return document(202, {"subject_request_id": row["id"]})
