"""A tenant's records, through the product's data API (`deploy/openapi/tenant-data.yaml`).

* Each record says how it is known: by identities of its own, by the record that it hangs on, or both. A
  record that none of the person's identities leads to is never taken: the product has answered about somebody
  else.
* A record that was located, and is there, and that nothing of the person's leads to any more, may be
  somebody else's by now.
* A record of the person's may hang on one with other identities: the person's own, whose address was changed,
  or somebody else's. It is asked for by its id, and the DPO about it; until he has decided, what leads to it
  stays, because nothing else does.
* Records of one identity may be several people's. The product tells by `person`; without it each record that
  hangs on no other counts as a person of its own.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from handlers.places import PlaceUnreadable
from handlers.port import Control, Permanent, Reference, Retryable, Task
from handlers.shown import Shown, told_apart
from handlers.times import from_zoned
from orchestrator.http import Client
from orchestrator.privacy import KINDS, Identifier, clean

RECORD: Final = "record"
RECORDS: Final = "records"
CLEAR: Final = ("email", "phone", "customer_id", "tenant_user_id")
HASHED: Final = ("email_sha256", "customer_id_sha256")
_UNREADABLE: Final = frozenset({403, 404})
#: How many records above each other are followed.
HIGHEST: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(Shown):
    """A record as the product shows it; `values` are its identities, and the record that it hangs on."""

    kind: str = RECORD
    parent: str | None = field(default=None, repr=False)
    stated: str | None = field(default=None, repr=False)
    """Whose it is, if the product says so."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found.

    `unsure` are records that may be somebody else's: they were located, or one of the person's hangs on them,
    or they hang on such a record. `led_to` are those of them on which one of the person's hangs.
    """

    theirs: dict[str, Row]
    unsure: dict[str, Row]
    led_to: frozenset[str]
    wanted: frozenset[str] = field(repr=False)

    @property
    def leading(self) -> set[str]:
        """The person's records that lead to one that may be somebody else's."""
        return {id_ for id_, row in self.theirs.items() if row.parent in self.led_to}

    def told(self, shared: Iterable[Row]) -> dict[str, str]:
        """Return by what the DPO can tell the records apart, as evidence."""
        changed = [row for id_, row in self.unsure.items() if id_ not in self.led_to]
        return {**told_apart(shared, changed), "persons_led_to": str(len(self.led_to))}

    def person_of(self, row: Row) -> str:
        """Return whose the record is, as far as the product tells people apart."""
        seen = {row.id}
        while row.stated is None and row.parent is not None:
            above = self.theirs.get(row.parent)
            if above is None or above.id in seen:
                return row.parent
            seen.add(above.id)
            row = above
        return row.stated or row.id

    def sharing(self, rows: Iterable[Row]) -> dict[str, Row]:
        """Return people who share an identity with others, with one record of each."""
        known = tuple(rows)
        shared: dict[str, Row] = {}
        for value in self.wanted:
            people = {self.person_of(row): row for row in known if value in row.values}
            shared |= people if len(people) > 1 else {}
        return shared


class Records:
    """The records of one tenant. `kinds` are those of the identities by which the product finds people."""

    def __init__(
        self, client: Client, *, tenant: str, kinds: tuple[str, ...], control_email: str | None
    ) -> None:
        self._api = client
        self._tenant = tenant
        self._kinds = kinds
        self._control_email = control_email

    def usable(self, task: Task) -> tuple[Identifier, ...]:
        """The identifiers by which the product can find somebody."""
        return tuple(one for one in task.identifiers if one.kind in self._kinds)

    async def account(self) -> str:
        """The tenant that our token really is for; raises when it isn't the pinned one."""
        answered = str((await self._api.call("GET", "/account")).object().get("tenant") or "")
        Control.shown(pinned=self._tenant, answered=answered)
        return answered

    async def control(self) -> Control:
        """Shows that this is the right tenant and, where a control record is set, that records can be
        seen.
        """
        answered = await self.account()
        record_found: bool | None = None
        if self._control_email is not None:
            content = {"identities": [{"type": "email", "value": self._control_email}]}
            found = await self._rows("locate", content)
            wanted = frozenset({_value("email", self._control_email)})
            record_found = bool(_sorted(found, (), (), wanted).theirs)
        return Control.shown(pinned=self._tenant, answered=answered, record_found=record_found)

    async def may_read(self, nobody: str) -> None:
        """Whether records can be asked for; they are asked for by an address that nobody has."""
        await self._rows("locate", {"identities": [{"type": "email", "value": nobody}]})

    async def look(self, task: Task, *, anew: bool) -> Look:
        """Looks by the person's identities, and for the records that were located before. `anew` looks past
        every cache, as a proof must.
        """
        references, usable = task.of_kind(RECORD), self.usable(task)
        content: dict[str, Any] = {"identities": [{"type": one.kind, "value": one.value} for one in usable]}
        if anew or references:
            content["records"] = sorted(reference.id for reference in references)
        rows = await self._rows("prove" if anew or references else "locate", content)
        wanted = frozenset(_value(one.kind, one.value) for one in usable)
        leads: set[str] = set()
        for _ in range(HIGHEST):
            look = _sorted(rows, references, leads, wanted)
            above = {row.parent for row in look.theirs.values() if row.parent is not None}
            unknown = above - rows.keys() - leads - {reference.id for reference in references}
            if not unknown:
                return look
            leads |= unknown
            rows |= await self._rows("prove", {**content, "records": sorted(unknown)})
        raise Permanent("too_many_pages")

    async def erase(self, task: Task, ids: list[str]) -> set[str]:
        """Erases the records; returns those of them that were gone already."""
        answer = (await self._api.erase_call(task, "POST", "/subjects/erase", json={"records": ids})).object()
        if answer.get("error") or answer.get("errors"):
            raise Retryable("vendor_error")
        erased, gone = answer.get("erased"), answer.get("missing")
        if not isinstance(erased, list) or not isinstance(gone, list) or {*erased, *gone} != set(ids):
            raise Retryable("malformed_answer")
        return set(gone)

    async def _rows(self, verb: str, content: dict[str, Any]) -> dict[str, Row]:
        answer = await self._api.call("POST", f"/subjects/{verb}", json=content, accept=_UNREADABLE)
        if answer.status in _UNREADABLE:
            raise PlaceUnreadable(RECORDS)
        rows = answer.object().get("present" if verb == "prove" else "records")
        if not isinstance(rows, list):
            raise Retryable("malformed_answer")
        return {row.id: row for row in map(_row, rows)}


def _sorted(
    rows: dict[str, Row], references: Iterable[Reference], leads: Iterable[str], wanted: frozenset[str]
) -> Look:
    """Tell the person's records from those that may be somebody else's. Raises for what nothing led to."""
    located = {reference.id: reference for reference in references}
    # What hung on a record that is gone was reached by its reference.
    known = wanted | {_value("parent", id_) for id_ in located if id_ not in rows}
    theirs: dict[str, Row] = {}
    others = dict(rows)
    while found := {
        id_: row
        for id_, row in others.items()
        if row.carries(known) or (id_ in located and row.is_still(located[id_], known))
    }:
        theirs |= found
        known |= {_value("parent", id_) for id_ in found}
        others = {id_: row for id_, row in others.items() if id_ not in found}
    led_to = others.keys() & set(leads)
    unsure = {id_: others[id_] for id_ in led_to | (others.keys() & located.keys())}
    while hanging := {id_: r for id_, r in others.items() if id_ not in unsure and r.parent in unsure}:
        unsure |= hanging
    if others.keys() - unsure.keys():
        raise Permanent("filter_not_honoured")
    return Look(theirs, unsure, frozenset(led_to), wanted)


def _row(row: Any) -> Row:
    if not isinstance(row, dict) or not row.get("id"):
        raise Retryable("malformed_answer")
    identities = row.get("identities") or []
    if not isinstance(identities, list) or not all(isinstance(one, dict) for one in identities):
        raise Retryable("malformed_answer")
    values = {_value(str(one.get("type")), str(one.get("value"))) for one in identities}
    parent = None if row.get("parent") is None else str(row["parent"])
    if parent is not None:
        values.add(_value("parent", parent))
    return Row(
        id=str(row["id"]),
        values=frozenset(values),
        created_at=from_zoned(row.get("created_at")),
        parent=parent,
        stated=None if row.get("person") is None else str(row["person"]),
    )


def _value(kind: str, value: str) -> str:
    """An identity in the form in which two are compared, without regard to case; a record's id as it is."""
    if kind == "parent":
        return f"parent:{value}"
    # What isn't of its kind is compared as it stands.
    cleaned = clean([Identifier(kind, value)]).identifiers.items if kind in KINDS else ()
    return f"{kind}:{(cleaned[0].value if cleaned else value.strip()).lower()}"
