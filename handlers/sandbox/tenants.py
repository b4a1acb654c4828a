"""The product's own data API, through which a tenant's data is erased once its controller has said so.

    (each below /tenant-api/{tenant})
    GET  …/account           -> {tenant}
    POST …/subjects/locate   {identities: [{type, value}]} -> {records: [{id, type, created_at}]}
    POST …/subjects/erase    {records: [id]} -> {erased: [id], missing: [id]}
    POST …/subjects/prove    {records: [id], identities: […]} -> {present: [{id, type, created_at}]}

A record's children are records of their own: located with it, and erased only when named. A record shows
its own `identities`, of the types that were asked for, or the `parent` that it hangs on; and whose it is
(`person`), if the seed says so. `present` holds the records named that still exist, what hangs on them, and
any others that the identities find. `created_at` is RFC 3339. A type that ends in `_sha256` finds whoever
has a value whose hash, trimmed and in lower case, is the one given; a type that is not known finds nobody.
Errors are `{"error": {"code", "message"}}`.
"""

import hashlib
from typing import Any

from handlers.sandbox.store import Row, Store, normal
from handlers.sandbox.web import Call, Refusal, Reply, document

VENDOR = "tenant-api"
RECORD = "tenant.record"
ELSEWHERE = "elsewhere"


def _refusal(status: int, code: str) -> Refusal:
    return Refusal(document(status, {"error": {"code": code, "message": code.replace("_", " ")}}))


def mark(kind: str, value: str) -> str:
    """The mark under which a tenant's record is found by an identity."""
    return f"#{kind}:{normal(value)}"


def _sha256(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


class Tenants:
    def __init__(self, store: Store) -> None:
        self._store = store

    def answer(self, call: Call) -> Reply:
        tenant, *rest = call.segments or ("",)
        account = self._store.get("tenant.account", tenant)
        if account is None:
            raise _refusal(404, "unknown_tenant")
        if call.headers.get("authorization") != f"Bearer {account['token']}":
            raise _refusal(401, "unauthorized")
        holder = ELSEWHERE if call.elsewhere else tenant
        match call.method, rest:
            case "GET", ["account"]:
                return document(200, {"tenant": holder})
            case "POST", ["subjects", "locate"]:
                asked = self._asked(call, "identities")
                found = self._found(call, holder, asked)
                return document(200, {"records": [self._shown(call, row, asked) for row in found]})
            case "POST", ["subjects", "erase"]:
                return self._erase(call, holder)
            case "POST", ["subjects", "prove"]:
                asked = self._asked(call, "records", "identities")
                rows = {row["id"]: row for row in self._found(call, holder, asked)}
                named = [self._row(call, holder, key) for key in asked["records"]]
                present = {**{row["id"]: row for row in named if row}, **rows}
                present |= {row["id"]: row for row in self._hanging(call, holder, present)}
                shown = [self._shown(call, row, asked) for row in present.values()]
                return document(200, {"present": shown})
        raise _refusal(404, "no_such_resource")

    def _asked(self, call: Call, *names: str) -> dict[str, Any]:
        asked = call.json()
        if asked is None or set(asked) != set(names):
            raise _refusal(400, "malformed_body")
        records, identities = asked.get("records", []), asked.get("identities", [])
        if not isinstance(records, list) or not all(isinstance(key, str) for key in records):
            raise _refusal(400, "malformed_records")
        shaped = isinstance(identities, list) and all(
            isinstance(item, dict)
            and set(item) == {"type", "value"}
            and all(isinstance(v, str) for v in item.values())
            for item in identities
        )
        if not shaped or ("identities" in names and names == ("identities",) and not identities):
            raise _refusal(400, "malformed_identities")
        return asked

    def _row(self, call: Call, holder: str, key: str) -> Row | None:
        row = self._store.get(RECORD, f"{holder}:{key}")
        return None if call.blind else row

    def _found(self, call: Call, holder: str, asked: dict[str, Any]) -> list[Row]:
        found: dict[str, Row] = {}
        for item in [] if call.blind else asked["identities"]:
            for row in self._rows(item["type"], item["value"]):
                if row["account"] == holder:
                    found[row["id"]] = row
        return list(found.values())

    def _hanging(self, call: Call, holder: str, above: dict[str, Row]) -> list[Row]:
        rows = [] if call.blind else self._store.rows(RECORD)
        return [row for row in rows if row["account"] == holder and row["parent"] in above]

    def _rows(self, type_: str, value: str) -> list[Row]:
        kind, of_hashes, _ = type_.partition("_sha256")
        if not of_hashes:
            return self._store.concerning(RECORD, mark(type_, value))
        begin = mark(kind, "")
        return [
            row
            for row in self._store.rows(RECORD)
            for one in row["about"]
            if one.startswith(begin) and _sha256(one.removeprefix(begin)) == normal(value)
        ]

    def _shown(self, call: Call, row: Row, asked: dict[str, Any]) -> dict[str, Any]:
        shown = {"id": row["id"], "type": row["type"], "created_at": call.stamp(row["created_at"])}
        if row["person"] is not None:
            shown["person"] = row["person"]
        if row["parent"] and self._store.get(RECORD, f"{row['account']}:{row['parent']}") is not None:
            return {**shown, "parent": row["parent"]}
        identities = list(row["identities"])
        for type_ in {one["type"] for one in asked["identities"]}:
            kind, of_hashes, _ = type_.partition("_sha256")
            own = [one["value"] for one in row["identities"] if of_hashes and one["type"] == kind]
            identities += [{"type": type_, "value": _sha256(normal(value))} for value in own]
        return {**shown, "identities": identities}

    def _erase(self, call: Call, holder: str) -> Reply:
        erased, absent = [], []
        for key in dict.fromkeys(self._asked(call, "records")["records"]):
            row = self._row(call, holder, key)
            if row is None:
                absent.append(key)
                continue
            self._store.drop(RECORD, f"{holder}:{key}")
            self._store.note(call.now, VENDOR, holder, "record_erased", record=key)
            erased.append(key)
        return document(200, {"erased": erased, "missing": absent})
