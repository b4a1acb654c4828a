"""Teamtailor: candidates found by address, page by page, and the company that a key belongs to.

    /teamtailor/v1/company
    /teamtailor/v1/candidates?filter[email]=…&page[size]=…&page[number]=…
    /teamtailor/v1/candidates/{id}

There is no deletion of candidates in the documented API, so there is none here: a candidate goes when
the agency removes it (see `agencies`), and then the webhook `candidate.destroy` is sent where one is
configured. `X-Api-Version` is required and must be one that the company knows, else 406. Pages hold 30
at most: more is cut to 30. A filter that the vendor doesn't have is 400, an empty one 422. `GET
/v1/company` and the webhook's body beyond its signature are our assumption.
"""

import json
from typing import Any
from urllib.parse import urlencode

from handlers.sandbox.signing import hmac64
from handlers.sandbox.store import Row, Store, normal
from handlers.sandbox.web import Call, Refusal, Reply, document

VENDOR = "teamtailor"
CANDIDATE = "teamtailor.candidate"
KIND = "application/vnd.api+json"
PAGE = 30
LIMITS = {"x-rate-limit-limit": "50", "x-rate-limit-remaining": "49", "x-rate-limit-reset": "10"}
KNOWN = {"filter[email]", "page[size]", "page[number]", "fields[candidates]", "sort", "include"}
ELSEWHERE = "elsewhere"


def _refusal(status: int, title: str) -> Refusal:
    return Refusal(document(status, {"errors": [{"status": str(status), "title": title}]}, LIMITS, kind=KIND))


class Teamtailor:
    def __init__(self, store: Store) -> None:
        self._store = store

    def _admit(self, call: Call) -> Row:
        authorization = call.headers.get("authorization", "")
        for company in reversed(self._store.rows("teamtailor.company")):
            if authorization == f"Token token={company['token']}":
                if call.headers.get("x-api-version") not in company["api_versions"]:
                    raise _refusal(406, "X-Api-Version is missing or not supported.")
                return {**company, "id": ELSEWHERE, "name": ELSEWHERE} if call.elsewhere else company
        raise _refusal(401, "The API key is missing or wrong.")

    def answer(self, call: Call) -> Reply:
        company = self._admit(call)
        match call.method, list(call.segments):
            case "GET", ["v1", "company"]:
                data: Any = {
                    "id": company["id"],
                    "type": "companies",
                    "attributes": {"name": company["name"]},
                }
                return document(200, {"data": data}, LIMITS, kind=KIND)
            case "GET", ["v1", "candidates"]:
                return self._list(call, company)
            case "GET", ["v1", "candidates", number]:
                row = self._store.get(CANDIDATE, number)
                if row is None or row["account"] != company["id"] or call.blind:
                    raise _refusal(404, "Record not found.")
                return document(200, {"data": self._shown(call, row)}, LIMITS, kind=KIND)
        raise _refusal(404, "No such resource.")

    def _shown(self, call: Call, row: Row) -> dict[str, Any]:
        first, _, last = row["name"].partition(" ")
        attributes = {
            "email": row["email"],
            "first-name": first,
            "last-name": last,
            "created-at": call.stamp(row["created_at"]),
        }
        return {"id": row["id"], "type": "candidates", "attributes": attributes}

    def _list(self, call: Call, company: Row) -> Reply:
        unknown = [name for name in call.query if name not in KNOWN]
        if unknown:
            raise _refusal(400, "Filter or parameter not allowed.")
        email = call.query.get("filter[email]")
        if email is not None and not email.strip():
            raise _refusal(422, "filter[email] must not be empty.")
        try:
            size = min(PAGE, int(call.query.get("page[size]", "10")))
            number = int(call.query.get("page[number]", "1"))
        except ValueError:
            raise _refusal(400, "page[size] and page[number] are numbers.") from None
        if size < 1 or number < 1:
            raise _refusal(400, "page[size] and page[number] begin at 1.")
        every = (
            self._store.rows(CANDIDATE) if email is None else self._store.concerning(CANDIDATE, normal(email))
        )
        mine = [row for row in every if row["account"] == company["id"]]
        if email is not None:
            mine = [row for row in mine if normal(row["email"]) == normal(email)]
        found = [] if call.blind else sorted(mine, key=lambda row: int(row["id"]))
        pages = -(-len(found) // size)
        base = f"{call.origin}/teamtailor/v1/candidates"
        content = {
            "data": [self._shown(call, row) for row in found[(number - 1) * size : number * size]],
            "meta": {"record-count": len(found), "page-count": pages},
            "links": {
                name: f"{base}?{urlencode({**call.query, 'page[number]': page})}"
                for name, page in {"first": 1, "next": number + 1, "last": pages}.items()
                if page <= pages and (name != "next" or number < pages)
            },
        }
        return document(200, content, LIMITS, kind=KIND)

    def destroy(self, row: Row, now: int) -> None:
        """The agency removes a candidate in the vendor's own web interface."""
        self._store.drop(CANDIDATE, row["id"])
        self._store.note(now, VENDOR, row["account"], "candidate_destroyed", record=row["id"])
        company = self._store.get("teamtailor.company", row["account"])
        hook = company["webhook"] if company else None
        if hook is None:
            return
        body = json.dumps({"event": "candidate.destroy", "id": row["id"], "company": row["account"]})
        stamp = str(now // 1_000_000)
        signature = hmac64(hook["secret"], f"{stamp}.{body}".encode())
        headers = {"Content-Type": "application/json", "TT-Signature": f"t={stamp},v2={signature}"}
        details = {
            "vendor": VENDOR,
            "account": row["account"],
            "record": row["id"],
            "said": "candidate.destroy",
        }
        self._store.later(
            now, "deliver", network=True, url=hook["url"], body=body, headers=headers, **details
        )
