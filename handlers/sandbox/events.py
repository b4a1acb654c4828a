"""What people do in the vendors' own systems while we are at work in them.

An event happens at once (`Sandbox.happens`), or right after a call that a fault of the kind `happens` says:

* `renamed`: the first address on `record` becomes `email`;
* `given_away`: the address `email` goes from `record` to `into`, which is another person's record;
* `merged` (hubspot): `record` becomes a part of `into`, which answers to both ids from then on and keeps the
  addresses of both; with `forgets`, only its own;
* `deleted_by_colleague` (superoffice): somebody else puts the person `record` into the bin;
* `arrives`: what `seed` states is added.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from handlers.sandbox.seeds import Seed
from handlers.sandbox.store import Row, Store, normal

TABLES = {
    "superoffice": "superoffice.person",
    "hubspot": "hubspot.contact",
    "teamtailor": "teamtailor.candidate",
}

#: What the ledger calls the vendors of tables whose names begin otherwise.
VENDORS = {"agency": "agencies", "tenant": "tenant-api"}


class Event(BaseModel):
    """An event as a caller states it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: Literal["renamed", "given_away", "merged", "deleted_by_colleague", "arrives"]
    vendor: Literal["superoffice", "hubspot", "teamtailor"] | None = None
    record: str | None = None
    into: str | None = None
    email: str | None = None
    forgets: bool = False
    seed: dict[str, Any] | None = None


class Events:
    """Has events happen to what the vendors hold."""

    def __init__(
        self,
        store: Store,
        delete_as_colleague: Callable[[str, int], None],
        plant: Callable[[Seed, int], Mapping[str, list[str]]],
    ) -> None:
        self._store = store
        self._delete_as_colleague = delete_as_colleague
        self._plant = plant

    def happen(self, event: Event, now: int) -> None:
        match event.what:
            case "renamed":
                self._rename(event, now)
            case "given_away":
                self._give_away(event, now)
            case "merged":
                self._merge(event, now)
            case "deleted_by_colleague":
                self._delete_as_colleague(event.record or "", now)
            case "arrives":
                for table, ids in self._plant(Seed.model_validate(event.seed or {}), now).items():
                    vendor = VENDORS.get(table.partition(".")[0], table.partition(".")[0])
                    for number in ids:
                        self._store.note(now, vendor, "", "arrived", record=number)

    def _row(self, event: Event, number: str | None) -> Row | None:
        return self._store.get(TABLES[event.vendor or "superoffice"], str(number))

    def _rename(self, event: Event, now: int) -> None:
        row = self._row(event, event.record)
        if row is None or event.email is None:
            return
        email = event.email
        named = {"emails": [email, *row["emails"][1:]]} if "emails" in row else {"email": email}
        # It is still the person's, by whatever they were known: `about` forgets nothing.
        self._change(event, row, {**named, "about": [*row["about"], normal(email)]}, now, "renamed")

    def _give_away(self, event: Event, now: int) -> None:
        giver, taker = self._row(event, event.record), self._row(event, event.into)
        if giver is None or taker is None or event.email is None:
            return
        lost, gained = normal(event.email), event.email
        left: Row
        got: Row
        if "emails" in giver:
            left = {"emails": [one for one in giver["emails"] if normal(one) != lost]}
            got = {"emails": [*taker["emails"], gained]}
        else:
            left, got = {"email": f"former-{giver['id']}@example.com"}, {"email": gained}
        self._change(event, giver, left, now, "address_given_away")
        self._change(event, taker, {**got, "about": [*taker["about"], lost]}, now, "address_taken_over")

    def _merge(self, event: Event, now: int) -> None:
        away, into = self._row(event, event.record), self._row(event, event.into)
        if event.vendor != "hubspot" or away is None or into is None:
            return
        known = [away["email"], *away["additional_emails"]]
        kept = [] if event.forgets else known
        self._store.drop(TABLES["hubspot"], away["id"])
        self._store.put("hubspot.merged", away["id"], {"id": away["id"], "into": into["id"]})
        # What was known of either is known of the one, whatever addresses it shows.
        about = [*into["about"], *map(normal, known)]
        changes = {"additional_emails": [*into["additional_emails"], *kept], "about": about}
        self._change(event, into, changes, now, "merged_into", other=away["id"], forgets=event.forgets)

    def _change(self, event: Event, row: Row, changes: Row, now: int, effect: str, **more: Any) -> None:
        vendor = event.vendor or "superoffice"
        self._store.put(TABLES[vendor], row["id"], {**row, **changes, "updated_at": now})
        self._store.note(now, vendor, str(row["account"]), effect, record=row["id"], **more)
