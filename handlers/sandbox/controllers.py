"""Controllers (tenants) that take a request over OpenDSR and instruct us, and agencies that speak OpenDSR.

    GET    /controllers/{tenant}/v2/discovery
    POST   /controllers/{tenant}/v2/requests            201; the same body: the same 201; another body: 409
    GET    /controllers/{tenant}/v2/requests/{id}
    DELETE /controllers/{tenant}/v2/requests/{id}       202 while pending, later 409
    POST   /controllers/{tenant}/v2/confirmations       what we did about the request, 202
    GET    /controllers/{tenant}/certificate.pem        an agency's certificate

The same as OpenGDPR 1.0 below /controllers/{tenant}/v1, with requests at `opengdpr_requests`.

`delay` after the request the controller calls back the first of `status_callback_urls`: `completed` with
the instruction "erase", or `cancelled` with "refuse" and a reason, in `extensions.radera`. One that
never answers has no instruction; one with `ignores` waits for that many reminders. With the role
"agency" it removes the candidates that it holds under the stated identities and calls back `completed`,
without an instruction. An agency is a processor, and signs every answer and callback, with a certificate for
the host under which it was asked.
"""

import base64
import hashlib
import json
import re
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from handlers.sandbox.certificates import Authority
from handlers.sandbox.store import Row, Store, normal
from handlers.sandbox.web import Call, Refusal, Reply, document, moment, rfc3339

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
VERSIONS = {"v2": "requests", "v1": "opengdpr_requests"}
PREFIXES = {"v2": "X-OpenDSR", "v1": "X-OpenGDPR"}


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


def objection(asked: dict[str, Any], version: str = "v2") -> str | None:
    """What is wrong with a request, by OpenDSR 2.0 or OpenGDPR 1.0; None when nothing is."""
    required = [name for name in REQUIRED if version == "v2" or name != "regulation"]
    absent = [name for name in required if name not in asked]
    if absent:
        return f"missing: {', '.join(absent)}"
    if version == "v2" and asked["regulation"] not in ("gdpr", "ccpa"):
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


def _host(origin: str) -> str:
    return urlsplit(origin).hostname or ""


class Controllers:
    def __init__(self, store: Store, key: RSAPrivateKey) -> None:
        self._store = store
        self._key = key

    def answer(self, call: Call) -> Reply:
        tenant, *rest = call.segments or ("",)
        account = self._store.get("controller.account", tenant)
        try:
            reply = self._answer(call, rest, account)
        except Refusal as refusal:
            reply = refusal.reply
        if account is not None and account["role"] == "agency":
            version = rest[0] if rest and rest[0] in VERSIONS else "v2"
            signed = self._signed(account, reply.body, version, _host(call.origin))
            reply.headers = {**reply.headers, **signed}
        return reply

    def _answer(self, call: Call, rest: list[str], account: Row | None) -> Reply:
        if account is None:
            raise _refusal(404, "unknown_controller")
        if account["token"] is not None and call.headers.get("authorization") != f"Bearer {account['token']}":
            raise _refusal(401, "unauthorized")
        match call.method, rest:
            case "GET", ["certificate.pem"]:
                certificate = self._certificate(account, _host(call.origin), call.now)
                return Reply(200, certificate.encode(), {"content-type": "application/x-pem-file"})
            case "GET", ["v1" | "v2" as version, "discovery"]:
                formats = [{"identity_type": "email", "identity_format": name} for name in FORMATS]
                content = {
                    "api_version": f"{version[1]}.0",
                    "supported_identities": formats,
                    "supported_subject_request_types": ["erasure"],
                    "processor_certificate": f"{call.origin}/controllers/{account['id']}/certificate.pem",
                }
                return document(200, content)
            case "POST", ["v1" | "v2" as version, requests] if requests == VERSIONS[version]:
                return self._receive(call, account, version)
            case "GET", ["v1" | "v2" as version, requests, identity] if requests == VERSIONS[version]:
                return document(200, self._status(self._request(account, identity)))
            case "DELETE", ["v1" | "v2" as version, requests, identity] if requests == VERSIONS[version]:
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
        said = {**{name: row["answer"][name] for name in names}, "request_status": row["status"]}
        account = self._store.get("controller.account", row["account"]) or {}
        if row["status"] == "completed" and account.get("says"):
            said["extensions"] = {"radera": account["says"]}
        return said

    def _receive(self, call: Call, account: Row, version: str) -> Reply:
        asked = call.json()
        wrong = "malformed" if asked is None else objection(asked, version)
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
            "version": version,
            "host": _host(call.origin),
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
        if account["role"] == "agency":
            headers |= self._signed(account, json.dumps(said).encode(), row["version"], row["host"])
        self._store.later(
            now,
            "deliver",
            network=True,
            url=row["urls"][0],
            body=json.dumps(said),
            headers=headers,
            **details,
        )

    # --- signing

    def _certificate(self, account: Row, host: str, now: int) -> str:
        kind = account["certificate"]
        authority = Authority(now, *(["Another authority"] if kind == "other_authority" else []))
        ends = moment(now) - timedelta(days=1) if kind == "expired" else None
        return authority.issue("other.example" if kind == "other_domain" else host, self._key, ends=ends)

    def _signed(self, account: Row, body: bytes, version: str, host: str) -> dict[str, str]:
        if account["signature"] == "missing":
            return {}
        signed = body + b" " if account["signature"] == "wrong" else body
        signature = self._key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
        prefix = PREFIXES[version]
        return {
            f"{prefix}-Processor-Domain": host,
            f"{prefix}-Signature": base64.b64encode(signature).decode(),
        }

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
