"""What the vendors still hold of a person: the question that every invariant of a test ends in.

A line is `{vendor, account, kind, record, state}`. The states: `live`; `recycle_bin` (SuperOffice, until
the purge); `archived` (HubSpot, which is no erasure); `purging` (HubSpot, erased and out of reach, on
the servers until the purge date); `submitted` (Google, asked to delete); `bookkeeping` (a sale that the
law keeps). Children such as tickets and form submissions are lines of their own.
"""

from handlers.sandbox.store import Row, Store, normal

# Which tables hold people, and what a row of each is called.
HELD = {
    "superoffice.person": ("superoffice", "person"),
    "superoffice.ticket": ("superoffice", "ticket"),
    "superoffice.formsubmission": ("superoffice", "form_submission"),
    "superoffice.chatsession": ("superoffice", "chat"),
    "superoffice.appointment": ("superoffice", "appointment"),
    "superoffice.document": ("superoffice", "document"),
    "superoffice.sale": ("superoffice", "sale"),
    "hubspot.contact": ("hubspot", "contact"),
    "hubspot.purging": ("hubspot", "contact"),
    "google.visitor": ("google", "visitor"),
    "teamtailor.candidate": ("teamtailor", "candidate"),
    "agency.candidate": ("agencies", "candidate"),
    "tenant.record": ("tenant-api", "record"),
}


def held(store: Store, identifiers: list[str]) -> list[Row]:
    """What is held of the person known by any of the identifiers, each record once."""
    found: dict[tuple[str, str], Row] = {}
    for table, (vendor, kind) in HELD.items():
        for identifier in map(normal, identifiers):
            for row in store.concerning(table, identifier):
                line = {"vendor": vendor, "account": str(row["account"]), "kind": kind, "record": row["id"]}
                found[(table, f"{row['account']}:{row['id']}")] = {**line, "state": _state(table, row)}
    return list(found.values())


def _state(table: str, row: Row) -> str:
    if table == "hubspot.purging":
        return "purging"
    if row.get("deleted_at") is not None:
        return "recycle_bin"
    if row.get("archived_at") is not None:
        return "archived"
    if row.get("submitted_at") is not None:
        return "submitted"
    return "bookkeeping" if row.get("bookkeeping") else "live"
