"""HubSpot.

What has to be known about it:

* `DELETE` of a contact only archives it for 90 days. Erasure is `gdpr-delete`, and archived contacts are
  looked for, too.
* A contact is erased by its id: an address may change between the look and the erasure. Before that it is
  read once more, so that each of its addresses is opted out of mail.
* The purge takes up to 30 days, and nothing shows it; what can be seen is that the contact is out of reach,
  with the account's pin and the control record in place.
* A contact that was made after the erasure may be new consent, or a CRM that syncs. It is reported, and
  never erased unasked.
* The daily limit resets at the account's midnight: asking earlier only hammers.
* An error's `message` can quote the address and is never kept.

Whether a look-up by address finds a contact's secondary addresses is not documented. The contact found must
have the address, as its own or as an additional one; a contact that such a look-up doesn't find is not
found here.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field

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
)
from handlers.times import EPOCH, SECOND, from_datetime, from_iso, micros, to_iso
from orchestrator.http import Answer, Limits, StaticAuthority
from orchestrator.secret import SecretRef
from orchestrator.settings.sections import Duration

PROPERTIES = "createdate,email,hs_additional_emails"
LOCKED = 423
MIGRATING = 477


class HubSpotSettings(HandlerSettings):
    """A HubSpot account."""

    portal_id: Annotated[int, Field(ge=1)]
    """The account's id (Hub ID). No other account is ever touched."""
    token: SecretRef
    """The private app's access token: contacts read and write, GDPR delete, subscriptions."""
    control_email: str | None = None
    """The address of a contact planted in the account, who must be found before an absence counts."""
    url: str = "https://api.hubapi.com"
    """Where the API answers."""
    version: Annotated[str, Field(pattern=r"^20\d\d-\d\d$")] = "2026-03"
    """The dated version of the API."""
    purge: Duration = timedelta(days=30)
    """How long HubSpot says that the purge may take; only reported."""
    calls_per_ten_seconds: Annotated[int, Field(ge=1, le=190)] = 50
    """Our share of the account's limit (100 or 190 per 10 s, by plan), which others use, too."""


class HubSpot:
    """The handler; one object for one account."""

    kind: ClassVar[str] = "hubspot"
    Settings: ClassVar[type[HubSpotSettings]] = HubSpotSettings

    def __init__(self, settings: HubSpotSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._zone = "UTC"
        self._client = context.clients.client(
            settings.url,
            authority=StaticAuthority(lambda: {"Authorization": f"Bearer {settings.token.read()}"}),
            limits=Limits(calls=settings.calls_per_ten_seconds, per=timedelta(seconds=10)),
        )

    async def locate(self, task: Task) -> Result:
        emails = [identifier.value for identifier in task.identifiers.of_kind("email")]
        if not emails:
            return NotIdentifiable(missing=("email",))
        control = await self._control()
        found = await self._by_addresses(emails)
        if not found:
            return Absent(control=await self._control())
        return Located(references=tuple(found), evidence=control.evidence())

    async def erase(self, task: Task) -> Result:
        await self._account()
        contacts = task.of_kind("contact")
        if not contacts:
            raise Permanent("nothing_to_erase")
        repeated = 0
        for contact in contacts:
            for address in await self._addresses(contact.id):
                await self._opt_out(task, address)
            path = f"/crm/objects/{self._settings.version}/contacts/gdpr-delete"
            answer = await self._ask("POST", path, json={"objectId": contact.id}, permit=task)
            repeated += answer.status == 404
        return Accepted(
            erased=len(contacts),
            prove_at=self._context.clock(),
            evidence={"repeated": str(repeated)} if repeated else {},
        )

    async def prove(self, task: Task) -> Result:
        control = await self._control()
        there = [contact for contact in task.of_kind("contact") if await self._read(contact.id, None)]
        known = {contact.id for contact in there}
        new: list[Reference] = []
        emails = [identifier.value for identifier in task.identifiers.of_kind("email")]
        for contact in await self._by_addresses(emails):
            if contact.id in known:
                continue
            newer = task.erased_at is not None and (contact.created_at or 0) > task.erased_at
            (new if newer else there).append(contact)
        if there:
            return StillPresent(references=tuple(there))
        if new:
            return Reappeared(count=len(new), evidence=control.evidence())
        since = self._context.clock() if task.erased_at is None else task.erased_at
        purged_by = to_iso(since + micros(self._settings.purge))
        evidence = {"purged_by": purged_by}
        return Proved(control=await self._control(), grade="seen_absent", evidence=evidence)

    async def receive(self, callback: CallbackBody) -> Received:
        raise Refused("no_callbacks")

    # --- contacts

    async def _by_addresses(self, emails: list[str]) -> list[Reference]:
        found: dict[str, Reference] = {}
        wanted = {email.strip().lower() for email in emails}
        for email in emails:
            for contact in await self._read(email, "email"):
                if not wanted & set(_addresses(contact)):
                    raise Permanent("lookup_not_honoured")
                id_ = str(contact.get("id") or "")
                if not id_:
                    raise Retryable("malformed_answer")
                created_at = from_iso(_properties(contact).get("createdate") or contact.get("createdAt"))
                found[id_] = Reference(kind="contact", id=id_, created_at=created_at)
        return list(found.values())

    async def _read(self, wanted: str, by: str | None) -> list[dict[str, Any]]:
        """The contact, archived or not; archived ones are still held for 90 days."""
        found = []
        for archived in ("false", "true"):
            params = {"properties": PROPERTIES, "archived": archived}
            if by is not None:
                params["idProperty"] = by
            path = f"/crm/objects/{self._settings.version}/contacts/{quote(wanted, safe='')}"
            answer = await self._ask("GET", path, params=params)
            if answer.status != 404:
                found.append(answer.object())
        return found

    async def _addresses(self, id_: str) -> list[str]:
        return sorted({address for contact in await self._read(id_, None) for address in _addresses(contact)})

    async def _opt_out(self, task: Task, address: str) -> None:
        version = self._settings.version
        path = f"/communication-preferences/{version}/statuses/{quote(address, safe='')}/unsubscribe-all"
        await self._ask("POST", path, params={"channel": "EMAIL"}, permit=task)

    # --- the account

    async def _account(self) -> str:
        """The account that our token really speaks for; raises when it isn't the pinned one."""
        details = (await self._ask("GET", f"/account-info/{self._settings.version}/details")).object()
        answered = str(details.get("portalId") or "")
        Control.shown(pinned=str(self._settings.portal_id), answered=answered)
        self._zone = str(details.get("timeZone") or self._zone)
        return answered

    async def _control(self) -> Control:
        answered = await self._account()
        record_found: bool | None = None
        if self._settings.control_email is not None:
            record_found = bool(await self._by_addresses([self._settings.control_email]))
        pinned = str(self._settings.portal_id)
        return Control.shown(pinned=pinned, answered=answered, record_found=record_found)

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        permit: Task | None = None,
    ) -> Answer:
        accept = frozenset({404, LOCKED, 429, MIGRATING})
        if permit is None:
            answer = await self._client.call(method, path, params=params, json=json, accept=accept)
        else:
            answer = await self._client.erase_call(
                permit, method, path, params=params, json=json, accept=accept
            )
        if answer.status == 429:
            raise self._limited(answer)
        if answer.status == LOCKED:
            raise Retryable("locked", 2 * SECOND)
        if answer.status == MIGRATING:
            raise Retryable("migrating", self._client.retry_after(answer))
        return answer

    def _limited(self, answer: Answer) -> Retryable:
        asked = self._client.retry_after(answer)
        try:
            daily = answer.object().get("policyName") == "DAILY"
        except Retryable:
            daily = False
        if asked is None and daily:
            asked = self._until_midnight()
        return Retryable("daily_limit" if daily else "rate_limited", asked)

    def _until_midnight(self) -> int:
        now = self._context.clock()
        try:
            zone = ZoneInfo(self._zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            zone = ZoneInfo("UTC")
        local = (EPOCH + timedelta(microseconds=now)).astimezone(zone)
        midnight = datetime(local.year, local.month, local.day, tzinfo=zone) + timedelta(days=1)
        return from_datetime(midnight.astimezone(UTC)) - now


def _properties(contact: dict[str, Any]) -> dict[str, Any]:
    properties = contact.get("properties")
    return properties if isinstance(properties, dict) else {}


def _addresses(contact: dict[str, Any]) -> list[str]:
    properties = _properties(contact)
    listed = [properties.get("email"), *str(properties.get("hs_additional_emails") or "").split(";")]
    return [one.strip().lower() for one in listed if isinstance(one, str) and one.strip()]
