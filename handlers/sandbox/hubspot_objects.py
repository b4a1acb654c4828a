"""HubSpot's tickets, notes, calls and deals, which hang on contacts and survive them.

* `GET …/contacts/{id}/associations/{kind}` lists what hangs on a contact, `ASSOCIATIONS` at a time.
* `POST …/{kind}/batch/read` reads records by their ids. Those that are gone are told as errors, with 207.
* A token without the scope of a kind is refused with 403.
"""

from typing import Any, Final

from handlers.sandbox.store import Row, Store

OBJECT = "hubspot.object"
ASSOCIATIONS = 500
#: The scope that each kind needs.
SCOPES: Final = {
    "tickets": "tickets",
    "notes": "crm.objects.contacts.read",
    "calls": "crm.objects.contacts.read",
    "deals": "crm.objects.deals.read",
}


def hang(store: Store, account: int, kind: str, ids: tuple[int, ...]) -> None:
    """Keep these records of the account."""
    for id_ in ids:
        store.put(OBJECT, f"{kind}:{id_}", {"id": str(id_), "kind": kind, "account": account, "about": []})


def associated(store: Store, contact: Row, kind: str, after: int) -> dict[str, Any]:
    """One page of what hangs on the contact."""
    ids = [str(id_) for id_ in contact["associations"].get(kind, ())]
    there = [id_ for id_ in ids if store.get(OBJECT, f"{kind}:{id_}") is not None]
    shown = [
        {"toObjectId": id_, "associationTypes": [{"category": "HUBSPOT_DEFINED", "typeId": 1, "label": None}]}
        for id_ in there[after : after + ASSOCIATIONS]
    ]
    following = after + ASSOCIATIONS
    more = {"paging": {"next": {"after": str(following)}}} if following < len(there) else {}
    return {"results": shown, **more}


def read(store: Store, account: Row, kind: str, ids: list[str]) -> tuple[int, dict[str, Any]]:
    """Those of the records that are there, with the status."""
    rows = [store.get(OBJECT, f"{kind}:{id_}") for id_ in ids]
    found = [row for row in rows if row is not None and row["account"] == account["id"]]
    there = {row["id"] for row in found}
    absent = [id_ for id_ in ids if id_ not in there]
    return batch([{"id": row["id"], "properties": {}} for row in found], absent)


def batch(results: list[dict[str, Any]], absent: list[str]) -> tuple[int, dict[str, Any]]:
    """What a batch read answers, with the status."""
    content: dict[str, Any] = {"status": "COMPLETE", "results": results}
    if not absent:
        return 200, content
    error = {
        "status": "error",
        "category": "OBJECT_NOT_FOUND",
        "message": "Could not get some objects, they may be deleted or not exist.",
        "context": {"ids": absent},
    }
    return 207, {**content, "numErrors": 1, "errors": [error]}
