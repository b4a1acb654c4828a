"""The help desk.

What has to be known about it (write down here what your vendor does, and what you only assume):

* People are found by address; the list comes in pages. Tickets hang on a person and survive them, so they are
  listed before anything is deleted, and go first.
* One address may be several people's, and two people can be merged: then the old id answers with the other.
* A deletion is at once and for good: 204, and 404 for what is gone already.
* A token is for one workspace, and says which. No other is ever touched.
* The webhook for `person.purged` is signed: hexadecimal HMAC-SHA256 over the raw body.
"""

import hmac
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote

from pydantic import BaseModel, Field

from handlers.addresses import all_writings, normal
from handlers.checking import Finding, control_gap, control_look, examine
from handlers.places import NO_IDENTIFIER, DeclaredPlace, PlaceUnreadable, Search
from handlers.port import CallbackBody, Control, Permanent, Refused, Retryable, Task
from handlers.registry import Context, HandlerSettings
from handlers.results import (
    Absent,
    Accepted,
    Ambiguous,
    Located,
    NotIdentifiable,
    Proved,
    Reappeared,
    Received,
    Result,
    StillAmbiguous,
    StillPresent,
    VendorPurged,
)
from handlers.shown import Shown, follow, in_question, sharing, told_apart
from handlers.times import from_zoned, micros
from orchestrator.http import Limits, StaticAuthority
from orchestrator.secret import SecretRef
from orchestrator.settings.values import Duration

GONE = 404
FORBIDDEN = 403
MAX_PAGES = 1000


class HelpDeskSettings(HandlerSettings):
    """A workspace of the help desk."""

    workspace: str
    """The workspace's id. No other workspace is ever touched."""
    token: SecretRef
    """The API token: people and tickets, read and delete."""
    webhook_secret: SecretRef | None = None
    """The secret of the webhook for `person.purged`, if one is set up."""
    control_email: str | None = None
    """The address of a person planted in the workspace, who must be found before an absence counts."""
    ambiguous: Literal["ask", "all"] = "ask"
    """Several people with one address: ask the DPO, who decides for all of them, or erase "all"."""
    clock_skew: Duration = timedelta(minutes=5)
    """By how much the help desk's clock and ours may differ. Who was made around the erasure, or at an
    unknown time, may be new consent: the DPO is asked."""
    url: str = "https://api.helpdesk.example"
    """Where the API answers."""
    calls_per_second: Annotated[int, Field(ge=1, le=50)] = 10
    """Our share of the limit of 50, which others use, too."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What a look found. `changed` are records that were located, and that may be somebody else's by now."""

    people: dict[str, Shown]
    tickets: dict[str, Shown]
    changed: tuple[Shown, ...]


class HelpDesk:
    """The handler; one object for one workspace."""

    kind: ClassVar[str] = "helpdesk"
    Settings: ClassVar[type[BaseModel]] = HelpDeskSettings
    places: ClassVar[tuple[DeclaredPlace, ...]] = (
        DeclaredPlace(
            name="people",
            title={"en": "people", "sv": "personer", "nb": "personer"},
            by=frozenset({"email"}),
        ),
        # Read by the reference of a person found, so that nothing searches it.
        DeclaredPlace(name="tickets", title={"en": "tickets", "sv": "ärenden", "nb": "saker"}),
    )

    def __init__(self, settings: HelpDeskSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._client = context.clients.client(
            settings.url,
            # Read for each call: a rotated secret counts at once.
            authority=StaticAuthority(lambda: {"Authorization": f"Bearer {settings.token.read()}"}),
            limits=Limits(calls=settings.calls_per_second, per=timedelta(seconds=1)),
            account=f"helpdesk/{settings.workspace}",
        )

    # --- the four verbs

    async def locate(self, task: Task) -> Result:
        search = Search(self.places, task.identifiers)
        if not task.identifiers.of_kind("email"):
            for place in self.places:
                search.skipped(place.name, NO_IDENTIFIER)
            return NotIdentifiable(missing=("email",), places=search.report())
        await self._control()
        look = await self._look(task, search)
        # Shown again after the look: rights that were lost meanwhile make the lists too short.
        control = await self._control()
        # Several people may share an address, and who was located may be somebody else by now.
        shared = self._in_question(task, look)
        asked = tuple(one.agreed() for one in (*shared.values(), *look.changed))
        if not task.may_take(asked):
            evidence = {**control.evidence(), **told_apart(shared.values(), look.changed)}
            return Ambiguous(asked=asked, evidence=evidence, places=search.report())
        found = [one.reference() for one in (*look.people.values(), *look.tickets.values())]
        found += [one.agreed() for one in look.changed]
        if not found:
            return Absent(control=control, places=search.report())
        return Located(references=tuple(found), evidence=control.evidence(), places=search.report())

    async def erase(self, task: Task) -> Result:
        # What was found to stay, or was only noted, is not in these; nothing but these is erased.
        doomed = [*task.of_kind("ticket"), *task.of_kind("person")]
        if not doomed:
            raise Permanent("nothing_to_erase")
        await self._account()
        wanted = _wanted(task)
        people = {one.id: (one, await self._read("person", one.id)) for one in task.of_kind("person")}
        # A ticket goes with the person whom it was reached from; if that is somebody else by now, it stays.
        theirs = {id_ for id_, (one, shown) in people.items() if shown is None or shown.is_still(one, wanted)}
        counts = {"repeated": 0, "records_changed": 0}
        for reference in doomed:
            shown = await self._read(reference.kind, reference.id)
            if shown is None:
                counts["repeated"] += 1
            elif not shown.is_still(reference, wanted | theirs):
                counts["records_changed"] += 1
            else:
                path = f"/v1/{_PATHS[reference.kind]}/{quote(reference.id, safe='')}"
                answer = await self._client.erase_call(task, "DELETE", path, accept=frozenset({GONE}))
                counts["repeated"] += answer.status == GONE
        return Accepted(
            erased=len(doomed) - counts["records_changed"],
            prove_at=self._context.clock(),
            correlations=tuple(self._correlation(person.id) for person in task.of_kind("person")),
            evidence={name: str(count) for name, count in counts.items() if count},
        )

    async def prove(self, task: Task) -> Result:
        search = Search(self.places, task.identifiers)
        await self._control()
        look = await self._look(task, search)
        control = await self._control()
        places = search.report()
        known = {person.id for person in task.of_kind("person")}
        skew = micros(self._settings.clock_skew)
        newer = {
            id_
            for id_, person in look.people.items()
            if id_ not in known and not person.is_surely_older(task.erased_at, skew)
        }
        older = [person for id_, person in look.people.items() if id_ not in newer]
        shared = {id_: one for id_, one in self._shared(task, older).items() if id_ not in known}
        there = [person for person in older if person.id not in shared]
        # A ticket is as old, and as much the person's, as the one whom it hangs on.
        unsure = newer | shared.keys() | {one.id for one in look.changed}
        there += [ticket for ticket in look.tickets.values() if ticket.values.isdisjoint(unsure)]
        if there:
            return StillPresent(references=tuple(one.reference() for one in there), places=places)
        if shared or look.changed:
            evidence = {**control.evidence(), **told_apart(shared.values(), look.changed)}
            asked = tuple(one.agreed() for one in (*shared.values(), *look.changed))
            return StillAmbiguous(asked=asked, evidence=evidence, places=places)
        if newer:
            return Reappeared(count=len(newer), evidence=control.evidence(), places=places)
        return Proved(control=control, grade="seen_absent", places=places)

    async def receive(self, callback: CallbackBody) -> Received:
        if self._settings.webhook_secret is None:
            raise Refused("webhook_not_configured")
        key = self._settings.webhook_secret.read().encode()
        signature = callback.header("X-HelpDesk-Signature").encode("utf-8", "replace")
        if not hmac.compare_digest(hmac.digest(key, callback.body, "sha256").hex().encode(), signature):
            raise Refused("signature_invalid")
        try:
            said = json.loads(callback.body)
            event, workspace, person = said["event"], said["workspace"], str(said["person"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise Refused("malformed") from None
        if workspace != self._settings.workspace:
            raise Refused("wrong_account")
        if event != "person.purged":
            raise Refused("event_not_used")
        return Received(
            result=VendorPurged(evidence={"vendor_event": event}), correlation=self._correlation(person)
        )

    # --- what an operator asks before any request

    async def check(self) -> tuple[Finding, ...]:
        control_email = self._settings.control_email
        return await examine(
            [("account", self._account), *control_look(control_email, self._control)],
            settings={
                "reachable": ("url",),
                "credentials": ("token",),
                "account": ("workspace", "token"),
                "control": ("control_email",),
            },
            gaps={
                "rights": "the right to delete shows at the first deletion",
                **control_gap(control_email),
            },
        )

    # --- the account

    async def _account(self) -> str:
        """The workspace that our token really speaks for; raises when it isn't the pinned one."""
        answered = str((await self._client.call("GET", "/v1/workspace")).object().get("id") or "")
        Control.shown(pinned=self._settings.workspace, answered=answered)
        return answered

    async def _control(self) -> Control:
        """Shows that we look in the right place and, where a control record is set, that we see people."""
        answered = await self._account()
        record_found: bool | None = None
        if self._settings.control_email is not None:
            record_found = bool(await self._people([self._settings.control_email]))
        return Control.shown(pinned=self._settings.workspace, answered=answered, record_found=record_found)

    # --- records

    async def _look(self, task: Task, search: Search) -> _Look:
        """Looks in every place: by every address, and for what was located before."""
        emails = task.identifiers.of_kind("email")
        people = {one.id: one for one in await self._people(email.value for email in emails)}
        search.looked("people", emails)
        located = task.of_kind("person")
        others = await follow(located, people, _wanted(task), lambda id_: self._read("person", id_))
        tickets: dict[str, Shown] = {}
        for person in (*people.values(), *others.values()):
            async for ticket in self._tickets(person):
                tickets[ticket.id] = ticket
        # Nothing leads to a ticket any more once its person is gone.
        theirs = frozenset(people) | {person.id for person in located}
        changed = list(others.values())
        for reference in task.of_kind("ticket"):
            shown = None if reference.id in tickets else await self._read("ticket", reference.id)
            if shown is not None and shown.is_still(reference, theirs):
                tickets[shown.id] = shown
            elif shown is not None:
                changed.append(shown)
        search.looked("tickets")
        return _Look(people, tickets, tuple(changed))

    def _in_question(self, task: Task, look: _Look) -> dict[str, Shown]:
        """Those whom the DPO has to be asked about before they are erased."""
        if self._settings.ambiguous == "all":
            return {}
        people = look.people.values()
        return in_question(task, people, self._shared(task, people), {one.id: one for one in look.changed})

    def _shared(self, task: Task, people: Iterable[Shown]) -> dict[str, Shown]:
        """Those whom the DPO has to be asked about, because they share an address."""
        return {} if self._settings.ambiguous == "all" else sharing(people, _wanted(task))

    async def _people(self, emails: Iterable[str]) -> list[Shown]:
        """Everybody with one of these addresses, each once."""
        found: dict[str, Shown] = {}
        for email in all_writings(emails):
            async for row in self._rows("people", "/v1/people", {"email": email}):
                person = _shown("person", row)
                # A filter that the server didn't honour would name other people.
                if not person.carries(frozenset({normal(email)})):
                    raise Permanent("filter_not_honoured")
                found[person.id] = person
        return list(found.values())

    async def _tickets(self, person: Shown) -> AsyncIterator[Shown]:
        async for row in self._rows("tickets", f"/v1/people/{quote(person.id, safe='')}/tickets", {}):
            ticket = _shown("ticket", row)
            if not ticket.carries(frozenset({person.id})):
                raise Permanent("filter_not_honoured")
            yield ticket

    async def _read(self, kind: str, id_: str) -> Shown | None:
        """The record that answers to this id: 404 is the help desk's word for "gone"."""
        path = f"/v1/{_PATHS[kind]}/{quote(id_, safe='')}"
        answer = await self._client.call("GET", path, accept=frozenset({GONE, FORBIDDEN}))
        if answer.status == FORBIDDEN:
            raise PlaceUnreadable(_PATHS[kind])
        return None if answer.status == GONE else _shown(kind, answer.object())

    async def _rows(self, place: str, path: str, params: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
        """The rows of a list, through all its pages. A list that can't be read is never empty."""
        after = ""
        for _ in range(MAX_PAGES):
            asked = {**params, "after": after} if after else params
            unreadable = frozenset({GONE, FORBIDDEN})
            answer = await self._client.call("GET", path, params=asked, accept=unreadable)
            if answer.status in unreadable:
                raise PlaceUnreadable(place)
            page = answer.object()
            rows = page.get("rows")
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise Retryable("malformed_answer")
            for row in rows:
                yield row
            after = page.get("after") or ""
            if not after:
                return
        raise Permanent("too_many_pages")

    def _correlation(self, person: str) -> str:
        """By which the store finds the step that an event about this person belongs to."""
        return self._context.correlate(f"{self._context.system}/person", person)


_PATHS = {"person": "people", "ticket": "tickets"}


def _shown(kind: str, row: dict[str, Any]) -> Shown:
    """A record as it is now, with what people are found by in it: a person's address, a ticket's person."""
    if not isinstance(row.get("id"), str) or not row["id"]:
        raise Retryable("malformed_answer")
    value = str(row.get("email" if kind == "person" else "person") or "")
    return Shown(
        kind=kind,
        id=row["id"],
        values=frozenset({normal(value) if kind == "person" else value}),
        created_at=from_zoned(row.get("created_at")),
    )


def _wanted(task: Task) -> frozenset[str]:
    return frozenset(normal(email.value) for email in task.identifiers.of_kind("email"))
