"""What can go wrong at a vendor, switched on by a test or an operator.

A fault matches by vendor, method and a regular expression on the path after the vendor's prefix; it lets
`skip` matching calls by and then strikes `times` calls, or each one when `times` is None. Kinds:

* three digits: that status with the vendor's own error body; `retry_after` (seconds) adds the header,
  `policy` names HubSpot's limit (`DAILY`), and Google answers 403 as `rateLimitExceeded`;
* `slow`: `seconds` pass before the call is looked at, or after its effect when `after_effect` is set;
* `connecting`: `seconds` pass before the call leaves, as where name, connection or TLS are slow;
* `full`, `unresolved`: no connection becomes free, or no name server answers, so that the call isn't made;
* `reset`, `refused`: the connection breaks, or is never made, before any effect;
* `lost_response`: the effect happens and the answer is lost;
* `malformed`: the effect happens and the answer is cut short;
* `wrong_account`: the credentials belong to another account, which holds none of the people;
* `no_rights`: the credentials may see nothing: lists are empty, single records are not found, nothing is
  erased;
* `ignores_filter` (superoffice): an archive's filter isn't honoured, and all its rows are answered;
* `ageless` (hubspot): the contacts are answered without the time at which they were made;
* `recreate` (hubspot, on gdpr-delete): `seconds` after the erasure a sync makes the contact anew, with
  another id, if SuperOffice still holds the person;
* `rename` (superoffice, hubspot, teamtailor): once the call is answered, the address on `record` becomes
  `email`;
* `happens`: once the call is answered, `event` happens: see `events`.

Of those that end a call (digits, `full`, `unresolved`, `reset`, `refused`, `lost_response`, `malformed`) one
strikes, the
oldest; the others wait for the next call, so that several stated at once come one after another.

For `mail` the digits are the SMTP answer to DATA, and `reset` and `lost_response` mean before and after
the mail is kept.
"""

import itertools
import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from handlers.sandbox.events import Event
from handlers.sandbox.store import Row, Store
from handlers.sandbox.web import Call, Reply, document, serial_uuid

Status = Annotated[str, StringConstraints(pattern=r"^[345]\d\d$")]
Named = Literal[
    "slow",
    "connecting",
    "full",
    "unresolved",
    "reset",
    "refused",
    "lost_response",
    "malformed",
    "wrong_account",
    "no_rights",
    "ignores_filter",
    "ageless",
    "recreate",
    "rename",
    "happens",
]

COMBINED = (
    "slow",
    "connecting",
    "wrong_account",
    "no_rights",
    "ignores_filter",
    "ageless",
    "recreate",
    "rename",
    "happens",
)


class Fault(BaseModel):
    """A fault as the caller states it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Named | Status
    vendor: str | None = None
    method: str | None = None
    path: str | None = None
    skip: Annotated[int, Field(ge=0)] = 0
    times: Annotated[int, Field(ge=1)] | None = 1
    seconds: float = 0.0
    after_effect: bool = False
    retry_after: int | None = None
    policy: str | None = None
    record: str | None = None
    email: str | None = None
    event: Event | None = None


class Faults:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._errors = itertools.count(1)

    def add(self, fault: Fault) -> str:
        key = str(self._store.number("faults"))
        row = fault.model_dump()
        if fault.kind == "recreate":
            row |= {"vendor": "hubspot", "path": fault.path or "/gdpr-delete$"}
        self._store.put("faults", key, {"id": key, **row})
        return key

    def clear(self) -> None:
        for row in self._store.rows("faults"):
            self._store.drop("faults", row["id"])

    def strike(self, vendor: str, method: str, path: str) -> list[Row]:
        """The faults that this call meets, each spent by one."""
        struck: list[Row] = []
        for row in self._store.rows("faults"):
            if row["vendor"] not in (None, vendor) or row["method"] not in (None, method):
                continue
            if row["path"] is not None and not re.search(row["path"], path):
                continue
            if row["skip"]:
                self._store.put("faults", row["id"], {**row, "skip": row["skip"] - 1})
                continue
            if row["kind"] not in COMBINED and any(other["kind"] not in COMBINED for other in struck):
                continue
            struck.append(row)
            if row["times"] == 1:
                self._store.drop("faults", row["id"])
            elif row["times"] is not None:
                self._store.put("faults", row["id"], {**row, "times": row["times"] - 1})
        return struck

    def answer(self, call: Call, fault: Row) -> Reply:
        """The vendor's own way of saying the status that the fault asks for."""
        status = int(fault["kind"])
        headers = {} if fault["retry_after"] is None else {"retry-after": str(fault["retry_after"])}
        if status >= 500 and call.vendor != "google":
            return Reply(
                status,
                b"<html><body>Service unavailable</body></html>",
                {"content-type": "text/html", **headers},
            )
        if call.vendor == "hubspot":
            return self._hubspot(status, fault["policy"] or "TEN_SECONDLY_ROLLING", headers)
        if call.vendor == "superoffice":
            kind = {403: "SoSentryException", 404: "SoNotFoundException"}.get(status, "SoException")
            content = {"Error": True, "ErrorType": kind, "ErrorMessage": "The call was refused."}
            return document(status, content, headers)
        if call.vendor == "google":
            period = "Daily" if fault["policy"] == "DAILY" else "Per-minute"
            reason = "quota" if status == 429 else "rateLimitExceeded"
            return google_error(status, reason, headers, f"{period} limit exceeded.")
        return document(status, {"error": {"code": status, "message": "fault"}}, headers)

    def _hubspot(self, status: int, policy: str, headers: dict[str, str]) -> Reply:
        content = {
            "status": "error",
            "message": "The request was refused.",
            "correlationId": serial_uuid(next(self._errors)),
        }
        if status != 429:
            return document(status, {**content, "category": "SANDBOX_FAULT"}, headers)
        limits = {"x-hubspot-ratelimit-max": "100", "x-hubspot-ratelimit-remaining": "0"}
        limited = {
            "errorType": "RATE_LIMIT",
            "policyName": policy,
            "groupName": "publicapi",
            "category": "RATE_LIMITS",
        }
        return document(429, {**content, **limited}, {**limits, **headers})


GOOGLE_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


def google_error(
    status: int, reason: str, headers: dict[str, str] | None = None, message: str = "refused"
) -> Reply:
    """Google's error body; `errors[].reason` is how the older limits are told from a lack of rights."""
    error = {
        "code": status,
        "message": message,
        "status": GOOGLE_STATUS.get(status, "UNKNOWN"),
        "errors": [
            {"domain": "usageLimits" if "imit" in reason else "global", "reason": reason, "message": message}
        ],
    }
    return document(status, {"error": error}, headers)
