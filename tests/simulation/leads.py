"""Whom the addresses that were given lead to at the vendors: what a look could have found.

A form that carries an address leads to the person it names. A chat shows no address but its person's. What
leads to somebody only before or only after a look may have been seen or not.
"""

from typing import NamedTuple

from handlers.sandbox.events import TABLES
from handlers.sandbox.store import Row, Store, normal
from tests.simulation import installation

Place = tuple[str, str]


class Leads(NamedTuple):
    """Whom the given addresses lead to, in one system at one moment."""

    to: frozenset[Place]
    """The people, by vendor and id, who have one of the addresses, or whom a form that carries one names."""
    live: frozenset[Place]
    """Those who have one of the addresses themselves, and lie in no bin."""

    def throughout(self, after: "Leads") -> "Leads":
        """Return what led to somebody at both moments."""
        return Leads(self.to & after.to, self.live & after.live)


class Look(NamedTuple):
    """A look that came to an end."""

    began: int
    ended: int
    leads: Leads


def leads(store: Store, system: str, addresses: frozenset[str]) -> Leads:
    """Return whom the addresses lead to in a system, at this moment."""
    vendors = {vendor for vendor, _ in installation.VENDORS[system]}
    to: set[Place] = set()
    live: set[Place] = set()
    for vendor, table in TABLES.items():
        if vendor not in vendors:
            continue
        for row in _about(store, table, addresses):
            if addresses & _addresses_of(row):
                to.add((vendor, row["id"]))
                if row.get("deleted_at") is None:
                    live.add((vendor, row["id"]))
    if "superoffice" in vendors:
        for row in _about(store, "superoffice.formsubmission", addresses):
            if row["person"] != "0" and addresses & _addresses_of(row):
                to.add(("superoffice", row["person"]))
    return Leads(frozenset(to), frozenset(live))


def _about(store: Store, table: str, addresses: frozenset[str]) -> list[Row]:
    return [row for address in sorted(addresses) for row in store.concerning(table, address)]


def _addresses_of(row: Row) -> set[str]:
    """The addresses that a row carries now; what it is about names former ones, too."""
    carried = [*row.get("emails", ()), *row.get("additional_emails", ()), row.get("email") or ""]
    return {normal(one) for one in carried}
