"""SuperOffice's records: the archives that list them, and reading and deleting a single one.

* Columns, the operators that they take and entities are those of SuperOffice's own reference of archive
  providers. What the server does with a column that it doesn't know is not documented, so a row counts only
  if its own values carry what was asked for: the address, the person's number, or its own. One that carries
  something else is `filter_not_honoured`.
* A person's addresses are read from the person: a row shows one of them.
* What hangs on a person is listed by the person's number, in the archive of its kind: so it is found while
  the person lies in the recycle bin, too.
* A deleted request can still be opened by its number until it is purged. So whether a record is there is
  asked of the archive, which shows no deleted ones.
* The recycle bin shows what others deleted only if asked for all users.
"""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from handlers.addresses import normal, writings
from handlers.places import DeclaredPlace, PlaceUnreadable
from handlers.port import Permanent, Reference, Retryable, Task
from handlers.shown import Shown
from handlers.superoffice_api import GONE, REFUSED, Api, Query
from handlers.superoffice_settings import SuperOfficeSettings
from handlers.times import from_zoned

PERSON: Final = "person"
TICKET: Final = "ticket"
SUBMISSION: Final = "submission"
CHAT: Final = "chat"
CONTACTS: Final = "contacts"
DELETED_CONTACTS: Final = "deleted_contacts"
DELETED_TICKETS: Final = "deleted_tickets"
_EMAIL: Final = frozenset({"email"})
#: How many records are asked for by their numbers at a time: the query is part of an address.
BATCH: Final = 100

PLACES: Final = (
    DeclaredPlace(
        name=CONTACTS,
        title={
            "en": "contacts, former employees included",
            "sv": "kontakter, även tidigare anställda",
            "nb": "kontakter, også tidligere ansatte",
        },
        by=_EMAIL,
    ),
    DeclaredPlace(
        name=DELETED_CONTACTS,
        title={
            "en": "deleted contacts in the recycle bin",
            "sv": "raderade kontakter i papperskorgen",
            "nb": "slettede kontakter i papirkurven",
        },
        by=_EMAIL,
    ),
    DeclaredPlace(
        name="submissions",
        title={"en": "form submissions", "sv": "inskickade formulär", "nb": "innsendte skjemaer"},
        by=_EMAIL,
    ),
    DeclaredPlace(
        name="chats",
        title={"en": "chat sessions", "sv": "chattar", "nb": "chatter"},
        by=_EMAIL,
    ),
    DeclaredPlace(name="tickets", title={"en": "requests", "sv": "ärenden", "nb": "saker"}),
    DeclaredPlace(
        name=DELETED_TICKETS,
        title={
            "en": "deleted requests in the recycle bin",
            "sv": "raderade ärenden i papperskorgen",
            "nb": "slettede saker i papirkurven",
        },
    ),
    DeclaredPlace(
        name="appointments", title={"en": "appointments", "sv": "aktiviteter", "nb": "aktiviteter"}
    ),
    DeclaredPlace(name="documents", title={"en": "documents", "sv": "dokument", "nb": "dokumenter"}),
    DeclaredPlace(name="sales", title={"en": "sales", "sv": "försäljningar", "nb": "salg"}),
)

#: How each kind of record is addressed where it is deleted by its number in the path.
_PATHS: Final = {
    PERSON: "Person",
    TICKET: "Ticket",
    "appointment": "Appointment",
    "document": "Document",
    "sale": "Sale",
    CHAT: "ChatSession",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """One list of records of a kind. `addresses` are the columns that hold one; `by_owner` is the operator
    that the column with the person's number takes, `eq` for a number and `oneOf` for a list.
    """

    kind: str
    place: str
    path: str
    key: str
    entities: str = ""
    addresses: tuple[str, ...] = ()
    by_owner: Literal["eq", "oneOf"] | None = None
    created: str | None = None

    @property
    def select(self) -> str:
        owner = "personId" if self.by_owner is not None else None
        columns = (self.key, owner, *self.addresses, self.created)
        return ",".join(dict.fromkeys(column for column in columns if column is not None))


def archives(settings: SuperOfficeSettings) -> dict[str, Archive]:
    """Return the archives of what the tenant has, by kind of record."""
    known = [
        Archive(
            kind=PERSON,
            place=CONTACTS,
            path="Person",
            key="personId",
            entities="person,retiredPerson",
            addresses=("email/emailAddress",),
        )
    ]
    if settings.submissions_archive is not None and "submissions" not in settings.without:
        known.append(
            Archive(
                kind=SUBMISSION,
                place="submissions",
                path=f"Archive/{settings.submissions_archive}",
                key="formSubmissionId",
                addresses=("formSubmissionEmail", "person/email/emailAddress"),
                by_owner="oneOf",
            )
        )
    if settings.chats_archive is not None:
        known.append(
            Archive(
                kind=CHAT,
                place="chats",
                path=f"Archive/{settings.chats_archive}",
                key=settings.chats_key,
                addresses=("person/email/emailAddress",),
                by_owner="oneOf",
                created="whenRequested",
            )
        )
    children = [
        Archive(
            kind=TICKET,
            place="tickets",
            path="Archive/Ticket",
            key="ticketId",
            entities="ticket,ticketdisplayclosed",
            by_owner="eq",
            created="createdAt",
        ),
        _dated("appointment", "appointmentId", "registeredDate"),
        _dated("document", "documentId", "registeredDate"),
        _dated("sale", "saleId", settings.sale_date_column),
    ]
    known += [one for one in children if one.place not in settings.without]
    return {one.kind: one for one in known}


def _dated(kind: str, key: str, date: str) -> Archive:
    path = f"Archive/{kind.title()}"
    return Archive(
        kind=kind, place=f"{kind}s", path=path, key=key, entities=kind, by_owner="oneOf", created=date
    )


def bins(settings: SuperOfficeSettings) -> dict[str, Archive]:
    """Return the recycle bins of what the tenant has, by kind of record."""
    persons = Archive(
        kind=PERSON,
        place=DELETED_CONTACTS,
        path="Archive/RecyclePerson",
        key="personId",
        entities="person,forAllUsers",
        addresses=("email/emailAddress",),
    )
    tickets = Archive(
        kind=TICKET,
        place=DELETED_TICKETS,
        path="Archive/RecycleTicket",
        key="ticketId",
        entities="ticket",
        by_owner="eq",
        created="createdAt",
    )
    return {PERSON: persons} if "tickets" in settings.without else {PERSON: persons, TICKET: tickets}


@dataclass(frozen=True, slots=True)
class Person:
    """A person with the addresses that they have, alive or in the recycle bin."""

    shown: Shown
    is_live: bool


@dataclass(frozen=True, slots=True)
class Child:
    """A record that hangs on a person, by the person's number; 0: on nobody."""

    reference: Reference
    owner: int
    is_live: bool = True


class Records:
    """The records of one tenant."""

    def __init__(self, settings: SuperOfficeSettings, api: Api) -> None:
        self._api = api
        self._escape = "\\" if settings.quote_escape == "backslash" else "'"
        self.archives = archives(settings)
        self.bins = bins(settings)

    # --- queries

    def by_address(self, archive: Archive, column: str, email: str) -> Query:
        return self._query(archive, f"{column} is '{self._quoted(email)}'")

    def by_owner(self, archive: Archive, person: int) -> Query:
        operand = f"({person})" if archive.by_owner == "oneOf" else str(person)
        return self._query(archive, f"personId {archive.by_owner} {operand}")

    def by_key(self, archive: Archive, number: int) -> Query:
        return self._query(archive, f"{archive.key} eq {number}")

    def by_keys(self, archive: Archive, numbers: list[int]) -> Query:
        return self._query(archive, f"{archive.key} in ({','.join(map(str, numbers))})")

    def _query(self, archive: Archive, condition: str) -> Query:
        params = {"$select": archive.select, "$filter": condition, "$orderBy": archive.key}
        if archive.entities:
            params["$entities"] = archive.entities
        return Query(archive.place, archive.path, params)

    def _quoted(self, text: str) -> str:
        if self._escape == "\\":
            text = text.replace("\\", "\\\\")
        return text.replace("'", f"{self._escape}'")

    # --- finding

    async def persons_by_address(self, email: str) -> AsyncIterator[tuple[int, Shown]]:
        """Yield the numbers of the live persons with the address, each with what answers to it.

        After a merge that may be another person, with a number of their own and without the address.
        """
        archive = self.archives[PERSON]
        for writing in writings(email):
            async for row in self._api.rows(self.by_address(archive, archive.addresses[0], writing)):
                number = key_of(archive, row)
                shown = await self._read(number)
                if shown.id == str(number) and not shown.carries(frozenset({email})):
                    raise Permanent("filter_not_honoured")
                yield number, shown

    async def binned_by_address(self, email: str) -> AsyncIterator[Shown]:
        """Yield the persons with the address who lie in the recycle bin."""
        archive = self.bins[PERSON]
        column = archive.addresses[0]
        for writing in writings(email):
            async for row in self._api.rows(self.by_address(archive, column, writing)):
                shown = _binned(archive, row)
                if not shown.carries(frozenset({email})):
                    raise Permanent("filter_not_honoured")
                yield shown

    async def children_by_address(self, kind: str, email: str) -> AsyncIterator[tuple[Child, bool]]:
        """Yield the submissions or chats with the address, and whether their own row carries it.

        One found by an address of its person may show another of the person's: the person has to carry it.
        """
        archive = self.archives[kind]
        for column in archive.addresses:
            for writing in writings(email):
                async for row in self._api.rows(self.by_address(archive, column, writing)):
                    carried = any(normal(str(row.get(one) or "")) == email for one in archive.addresses)
                    yield _child(archive, row), carried

    async def children(self, person: int) -> AsyncIterator[Child]:
        """Yield what hangs on a person, deleted requests included."""
        for archive in self.archives.values():
            if archive.by_owner is not None:
                async for child in self._owned(archive, person):
                    yield child
        if TICKET in self.bins:
            async for child in self._owned(self.bins[TICKET], person):
                yield Child(child.reference, child.owner, is_live=False)

    async def _owned(self, archive: Archive, person: int) -> AsyncIterator[Child]:
        async for row in self._api.rows(self.by_owner(archive, person)):
            child = _child(archive, row)
            if child.owner != person:
                raise Permanent("filter_not_honoured")
            yield child

    # --- one record

    async def person(self, number: int) -> Person | None:
        """Return who answers to a number, alive or in the recycle bin; None where nobody does."""
        shown = await self.live(number)
        if shown is not None:
            return Person(shown, is_live=True)
        row = await self._row(self.bins[PERSON], number)
        return None if row is None else Person(_binned(self.bins[PERSON], row), is_live=False)

    async def live(self, number: int) -> Shown | None:
        """Return a person who is not deleted, as read; perhaps with another's number, after a merge."""
        row = await self._row(self.archives[PERSON], number)
        return None if row is None else await self._read(number)

    async def there(self, references: Iterable[Reference]) -> list[Child]:
        """Return those of the records that are in their archives, where no deleted ones are, as they are."""
        by_archive: dict[str, list[int]] = {}
        for one in references:
            by_archive.setdefault(self._archive(one).kind, []).append(int(one.id))
        found: list[Child] = []
        for kind, numbers in by_archive.items():
            archive = self.archives[kind]
            found += [_child(archive, row) async for row in self._rows(archive, numbers)]
        return found

    async def binned(self, references: Iterable[Reference]) -> set[tuple[str, str]]:
        """Return those of the records that lie in a recycle bin."""
        by_bin: dict[str, list[int]] = {}
        for one in references:
            by_bin.setdefault(one.kind, []).append(int(one.id))
        return {
            (kind, str(key_of(self.bins[kind], row)))
            for kind, numbers in by_bin.items()
            async for row in self._rows(self.bins[kind], numbers)
        }

    def _archive(self, reference: Reference) -> Archive:
        archive = self.archives.get(reference.kind)
        if archive is None:
            # The settings say that the tenant has none, and one was found.
            raise Permanent("place_not_configured")
        return archive

    async def submitted_at(self, reference: Reference) -> int | None:
        """Return when a form was submitted; None if that is not told."""
        params = {"formSubmissionEntityId": reference.id, "$select": "FormSubmissionId,WhenSubmitted"}
        path = "Agents/Marketing/GetFormSubmissionEntity"
        answer = await self._api.ask("POST", path, params, accept=frozenset({GONE}))
        return None if answer.status == GONE else from_zoned(answer.object().get("WhenSubmitted"))

    async def _rows(self, archive: Archive, numbers: list[int]) -> AsyncIterator[dict[str, Any]]:
        """Yield the rows of these numbers, asked for many at a time."""
        for first in range(0, len(numbers), BATCH):
            part = numbers[first : first + BATCH]
            query = self.by_keys(archive, part) if len(part) > 1 else self.by_key(archive, part[0])
            async for row in self._api.rows(query):
                if key_of(archive, row) not in part:
                    raise Permanent("filter_not_honoured")
                yield row

    async def _row(self, archive: Archive, number: int) -> dict[str, Any] | None:
        return next(iter([row async for row in self._rows(archive, [number])]), None)

    async def _read(self, number: int) -> Shown:
        """Read a person whom the archive lists. Not to find them says that the place can't be read, and not
        that nobody is there: whoever was deleted in between is listed no more at the next attempt.
        """
        params = {"$select": "PersonId,Emails,CreatedDate"}
        answer = await self._api.ask("GET", f"Person/{number}", params, accept=frozenset({GONE, REFUSED}))
        if answer.status in (GONE, REFUSED):
            raise PlaceUnreadable(CONTACTS)
        entity = answer.object()
        id_ = _number(entity, "PersonId")
        emails = entity.get("Emails") or []
        if id_ <= 0 or not isinstance(emails, list) or not all(isinstance(one, dict) for one in emails):
            raise Retryable("malformed_answer")
        return Shown(
            kind=PERSON,
            id=str(id_),
            values=_addresses(*(one.get("Value") for one in emails)),
            created_at=from_zoned(entity.get("CreatedDate")),
        )

    # --- taking away

    async def delete(self, task: Task, reference: Reference) -> int:
        """Delete one record; return the answer's status, which may be `GONE` or `REFUSED`.

        A record that alone is refused is no sign of wrong credentials, so these are tried beside it.
        """
        accept = frozenset({GONE, REFUSED})
        if reference.kind == SUBMISSION:
            params = {"formSubmissionEntityId": reference.id}
            path = "Agents/Marketing/DeleteFormSubmissionEntity"
            status = (await self._api.ask("POST", path, params, permit=task, accept=accept)).status
        else:
            path = f"{_PATHS[reference.kind]}/{reference.id}"
            status = (await self._api.ask("DELETE", path, permit=task, accept=accept)).status
        if status == REFUSED:
            await self._api.account()
        return status

    async def withdraw_consent(self, task: Task, person: Reference, purpose: str) -> None:
        """End a consent, newsletters for one; a person who is gone has none."""
        path = f"Person/{person.id}/Consent/{purpose}"
        await self._api.ask("DELETE", path, permit=task, accept=frozenset({GONE}))


def key_of(archive: Archive, row: dict[str, Any]) -> int:
    """Return the number of the row's record."""
    number = _number(row, archive.key)
    if number <= 0:
        raise Retryable("malformed_answer")
    return number


def _number(row: dict[str, Any], column: str) -> int:
    """Return a column's number; 0 where it has none."""
    value = row.get(column)
    try:
        return int(value or 0)
    except (TypeError, ValueError):
        raise Retryable("malformed_answer") from None


def _addresses(*given: object) -> frozenset[str]:
    return frozenset(normal(str(one)) for one in given if one)


def _binned(archive: Archive, row: dict[str, Any]) -> Shown:
    # When a deleted person was made is of no use: nothing of them is deleted any more.
    values = _addresses(*(row.get(column) for column in archive.addresses))
    return Shown(kind=PERSON, id=str(key_of(archive, row)), values=values)


def _child(archive: Archive, row: dict[str, Any]) -> Child:
    created_at = None if archive.created is None else from_zoned(row.get(archive.created))
    number = str(key_of(archive, row))
    reference = Reference(kind=archive.kind, id=number, created_at=created_at)
    return Child(reference, _number(row, "personId"))
