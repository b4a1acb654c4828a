"""The help desk.

What has to be known about it (write down here what your vendor does, and what you only assume):

* People are found by address; the list comes in pages. Tickets hang on a person and survive them, so they are
  listed before anything is deleted, and go first.
* A deletion is at once and for good: 204, and 404 for what is gone already.
* A token is for one workspace, and says which. No other is ever touched.
* The webhook for `person.purged` is signed: hexadecimal HMAC-SHA256 over the raw body.
"""

import hmac
import json
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar
from urllib.parse import quote

from pydantic import BaseModel, Field

from handlers.addresses import all_writings, normal
from handlers.checking import Finding, control_gap, control_look, examine
from handlers.places import DeclaredPlace
from handlers.port import CallbackBody, Control, Permanent, Reference, Refused, Retryable, Task
from handlers.registry import Context, HandlerSettings
from handlers.results import (
    Absent,
    Accepted,
    Located,
    NotIdentifiable,
    Proved,
    Reappeared,
    Received,
    Result,
    StillPresent,
    VendorPurged,
)
from handlers.times import from_iso
from orchestrator.http import Limits, StaticAuthority
from orchestrator.secret import SecretRef

GONE = 404
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
    url: str = "https://api.helpdesk.example"
    """Where the API answers."""
    calls_per_second: Annotated[int, Field(ge=1, le=50)] = 10
    """Our share of the limit of 50, which others use, too."""


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
        emails = [identifier.value for identifier in task.identifiers.of_kind("email")]
        if not emails:
            return NotIdentifiable(missing=("email",))
        await self._control()
        found: list[Reference] = []
        for person in await self._people(emails):
            found += [person, *[ticket async for ticket in self._tickets(person)]]
        # Shown again after the look: rights that were lost meanwhile make the lists too short.
        control = await self._control()
        if not found:
            return Absent(control=control)
        return Located(references=tuple(found), evidence=control.evidence())

    async def erase(self, task: Task) -> Result:
        # What was found to stay, or was only noted, is not in these; nothing but these is erased.
        doomed = [*task.of_kind("ticket"), *task.of_kind("person")]
        if not doomed:
            raise Permanent("nothing_to_erase")
        await self._account()
        repeated = 0
        for reference in doomed:
            path = f"/v1/{_PLACES[reference.kind]}/{quote(reference.id, safe='')}"
            answer = await self._client.erase_call(task, "DELETE", path, accept=frozenset({GONE}))
            repeated += answer.status == GONE
        return Accepted(
            erased=len(doomed),
            prove_at=self._context.clock(),
            correlations=tuple(self._correlation(person.id) for person in task.of_kind("person")),
            evidence={"repeated": str(repeated)} if repeated else {},
        )

    async def prove(self, task: Task) -> Result:
        control = await self._control()
        known = task.of_kind("person", "ticket")
        there = [reference for reference in known if await self._is_there(reference)]
        seen = {reference.id for reference in there if reference.kind == "person"}
        new: list[Reference] = []
        for person in await self._people([one.value for one in task.identifiers.of_kind("email")]):
            if person.id in seen:
                continue
            is_newer = task.erased_at is not None and (person.created_at or 0) > task.erased_at
            (new if is_newer else there).append(person)
        if there:
            return StillPresent(references=tuple(there))
        if new:
            return Reappeared(count=len(new), evidence=control.evidence())
        return Proved(control=await self._control(), grade="seen_absent")

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

    async def _people(self, emails: list[str]) -> list[Reference]:
        """Everybody with one of these addresses, each once."""
        found: dict[str, Reference] = {}
        wanted = {normal(email) for email in emails}
        for email in all_writings(emails):
            async for row in self._rows("/v1/people", {"email": email}):
                # A filter that the server didn't honour would name other people.
                if normal(str(row.get("email") or "")) not in wanted:
                    raise Permanent("filter_not_honoured")
                person = Reference(kind="person", id=row["id"], created_at=from_iso(row.get("created_at")))
                found[person.id] = person
        return list(found.values())

    async def _tickets(self, person: Reference) -> AsyncIterator[Reference]:
        async for row in self._rows(f"/v1/people/{quote(person.id, safe='')}/tickets", {}):
            yield Reference(kind="ticket", id=row["id"])

    async def _is_there(self, reference: Reference) -> bool:
        path = f"/v1/{_PLACES[reference.kind]}/{quote(reference.id, safe='')}"
        return (await self._client.call("GET", path, accept=frozenset({GONE}))).status != GONE

    async def _rows(self, path: str, params: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
        """The rows of a list, through all its pages; none when what it hangs on is gone."""
        after = ""
        for _ in range(MAX_PAGES):
            asked = {**params, "after": after} if after else params
            answer = await self._client.call("GET", path, params=asked, accept=frozenset({GONE}))
            if answer.status == GONE:
                return
            page = answer.object()
            rows = page.get("rows")
            if not isinstance(rows, list) or not all(map(_is_row, rows)):
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


_PLACES = {"person": "people", "ticket": "tickets"}


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("id"), str) and bool(row["id"])
