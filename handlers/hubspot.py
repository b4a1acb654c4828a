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
* The daily limit resets at the account's midnight: asking earlier only hammers. Until the account has said
  its time zone, which it can't when the very first call meets the limit, the settings' or the
  installation's counts.
* Searches have a limit of their own, five in a second for the whole account. They are sent one by one,
  evenly: a bucket that fills with time lets through nearly twice its rate in the first second.
* An error's `message` can quote the address and is never kept.
* A look-up answers at once; a search lags behind, and may find what is gone or match loosely. So whoever a
  search finds is read by id before it counts, and must have the address.
* Webhooks come in batches, for all accounts that an app is installed in. They are signed over the address
  that they were sent to, and are stale after five minutes: a recorded one can't be sent again.

Whether a look-up by address finds a contact's secondary addresses is not documented, so by default they are
searched for, too. Not documented either: the scopes' names in the answer about a token, and the form of a
deletion's event beyond what HubSpot shows of its events, which is that of `contact.privacyDeletion`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field

from handlers.addresses import all_writings, normal
from handlers.checking import Finding, Gap, MissingRights, control_gap, control_look, examine
from handlers.hubspot_webhook import deleted_contacts, is_genuine
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
from handlers.times import EPOCH, SECOND, from_datetime, from_iso, micros, to_iso
from orchestrator.http import Answer, Client, Limits, StaticAuthority
from orchestrator.secret import SecretRef
from orchestrator.settings.values import Duration, Zone

PROPERTIES = "createdate,email,hs_additional_emails"
LOCKED = 423
MIGRATING = 477
SEARCH_PAGE = 100
SEARCH_PAGES = 100

_EMAIL = frozenset({"email"})
PLACES = (
    DeclaredPlace(
        name="contacts",
        title={"en": "contacts", "sv": "kontakter", "nb": "kontakter"},
        by=_EMAIL,
    ),
    DeclaredPlace(
        name="archived_contacts",
        title={
            "en": "archived contacts",
            "sv": "arkiverade kontakter",
            "nb": "arkiverte kontakter",
        },
        by=_EMAIL,
    ),
    DeclaredPlace(
        name="secondary_addresses",
        title={
            "en": "further addresses of contacts",
            "sv": "kontakters övriga adresser",
            "nb": "kontakters øvrige adresser",
        },
        by=_EMAIL,
    ),
    DeclaredPlace(name="tickets", title={"en": "tickets", "sv": "ärenden", "nb": "saker"}),
    DeclaredPlace(name="notes", title={"en": "notes", "sv": "anteckningar", "nb": "notater"}),
    DeclaredPlace(name="calls", title={"en": "calls", "sv": "samtal", "nb": "samtaler"}),
    DeclaredPlace(name="deals", title={"en": "deals", "sv": "affärer", "nb": "avtaler"}),
)


class HubSpotSettings(HandlerSettings):
    """A HubSpot account."""

    portal_id: Annotated[int, Field(ge=1)]
    """The account's id (Hub ID). No other account is ever touched."""
    token: SecretRef
    """The private app's access token: contacts read and write, GDPR delete, subscriptions."""
    control_email: str | None = None
    """The address of a contact planted in the account, who must be found before an absence counts."""
    secondary: Literal["search", "lookup"] = "search"
    """How contacts are found by a secondary address: by "search", or by whatever a "lookup" finds alone."""
    webhook_secret: SecretRef | None = None
    """The app's client secret, which signs the webhook for `contact.privacyDeletion`, if one is set up."""
    webhook_url: str | None = None
    """The address that HubSpot has for the webhook, exactly; by default `<public_url>/callbacks/hubspot`."""
    scopes: tuple[str, ...] = (
        "crm.objects.contacts.read",
        "crm.objects.contacts.write",
        "communication_preferences.read_write",
    )
    """The scopes that `radera systems check` looks for in the token."""
    url: str = "https://api.hubapi.com"
    """Where the API answers."""
    version: Annotated[str, Field(pattern=r"^20\d\d-\d\d$")] = "2026-03"
    """The dated version of the API."""
    purge: Duration = timedelta(days=30)
    """How long HubSpot says that the purge may take; only reported."""
    calls_per_ten_seconds: Annotated[int, Field(ge=1, le=190)] = 50
    """Our share of the account's limit (100 or 190 per 10 s, by plan), which others use, too. After a pause
    up to twice as many may go out within ten seconds, so that half of the limit is the most that fits it."""
    searches_per_second: Annotated[int, Field(ge=1, le=4)] = 4
    """One worker's share of the five searches a second that HubSpot lets the whole account make; with two
    workers write 2."""
    time_zone: Zone | None = None
    """The account's time zone (IANA name), at whose midnight the daily limit resets, until the account says
    its own; by default that of the installation."""


class HubSpot:
    """The handler; one object for one account."""

    kind: ClassVar[str] = "hubspot"
    Settings: ClassVar[type[HubSpotSettings]] = HubSpotSettings
    places: ClassVar[tuple[DeclaredPlace, ...]] = PLACES

    def __init__(self, settings: HubSpotSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._zone = settings.time_zone or context.time_zone
        self._client = context.clients.client(
            settings.url,
            authority=StaticAuthority(lambda: {"Authorization": f"Bearer {settings.token.read()}"}),
            limits=Limits(calls=settings.calls_per_ten_seconds, per=timedelta(seconds=10)),
            account=f"hubspot/{settings.portal_id}",
        )
        self._searches = context.clients.client(
            settings.url,
            authority=StaticAuthority(lambda: {"Authorization": f"Bearer {settings.token.read()}"}),
            limits=Limits(calls=1, per=timedelta(seconds=1) / settings.searches_per_second),
            account=f"hubspot-search/{settings.portal_id}",
        )

    async def locate(self, task: Task) -> Result:
        emails = [identifier.value for identifier in task.identifiers.of_kind("email")]
        if not emails:
            return NotIdentifiable(missing=("email",))
        control = await self._control()
        found = await self._found(emails)
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
            correlations=tuple(self._correlation(contact.id) for contact in contacts),
            evidence={"repeated": str(repeated)} if repeated else {},
        )

    async def prove(self, task: Task) -> Result:
        control = await self._control()
        there = [contact for contact in task.of_kind("contact") if await self._read(contact.id, None)]
        known = {contact.id for contact in there}
        new: list[Reference] = []
        emails = [identifier.value for identifier in task.identifiers.of_kind("email")]
        for contact in await self._found(emails):
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

    async def receive(self, callback: CallbackBody) -> tuple[Received, ...]:
        """The contacts of this account that the batch says were deleted."""
        secret = self._settings.webhook_secret
        if secret is None:
            raise Refused("webhook_not_configured")
        url = self._settings.webhook_url or f"{self._context.public_url}/callbacks/{self.kind}"
        if not is_genuine(secret.read(), url, callback):
            raise Refused("signature_invalid")
        deleted = deleted_contacts(callback.body, self._settings.portal_id)
        if not deleted:
            raise Refused("event_not_used")
        result = VendorPurged(evidence={"vendor_event": "contact.privacy_deletion"})
        return tuple(Received(result=result, correlation=self._correlation(contact)) for contact in deleted)

    def _correlation(self, contact: str) -> str:
        return self._context.correlate(f"{self._context.system}/contact", contact)

    async def check(self) -> tuple[Finding, ...]:
        control_email = self._settings.control_email
        return await examine(
            [
                ("account", self._account),
                ("rights", self._has_scopes),
                *control_look(control_email, self._control),
            ],
            settings={
                "reachable": ("url", "version"),
                "credentials": ("token",),
                "account": ("portal_id", "token"),
                "rights": ("token", "scopes"),
                "control": ("control_email",),
            },
            gaps=control_gap(control_email),
        )

    async def _has_scopes(self) -> Gap | None:
        """What HubSpot says of the token; nothing of anybody's."""
        asked = {"tokenKey": self._settings.token.read()}
        answer = await self._ask("POST", "/oauth/v2/private-apps/get/access-token-info", json=asked)
        if answer.status == 404:
            return Gap("HubSpot tells nothing of a token of this sort")
        scopes = answer.object().get("scopes")
        if not isinstance(scopes, list):
            raise Retryable("malformed_answer")
        if missing := [scope for scope in self._settings.scopes if scope not in scopes]:
            raise MissingRights(missing)
        return None

    # --- contacts

    async def _found(self, emails: list[str]) -> list[Reference]:
        """The contacts with one of these addresses, as their own or as a secondary one."""
        found = {contact.id: contact for contact in await self._by_addresses(emails)}
        if self._settings.secondary == "search":
            for email in all_writings(emails):
                for id_ in await self._searched(email):
                    for contact in await self._read(id_, None) if id_ not in found else ():
                        if normal(email) in map(normal, _addresses(contact)):
                            found[id_] = self._reference(contact)
        return list(found.values())

    async def _searched(self, email: str) -> list[str]:
        """The ids of the contacts that a search finds, which may be too many."""
        ids: list[str] = []
        after = "0"
        path = f"/crm/objects/{self._settings.version}/contacts/search"
        filters = [
            {"propertyName": "email", "operator": "EQ", "value": email},
            {"propertyName": "hs_additional_emails", "operator": "CONTAINS_TOKEN", "value": email},
        ]
        for _ in range(SEARCH_PAGES):
            asked = {
                "filterGroups": [{"filters": [one]} for one in filters],
                "properties": ["email", "hs_additional_emails"],
                "sorts": [],
                "limit": SEARCH_PAGE,
                "after": after,
            }
            page = (await self._ask("POST", path, json=asked, client=self._searches)).object()
            rows = page.get("results")
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise Retryable("malformed_answer")
            ids += [str(row.get("id") or "") for row in rows]
            following = ((page.get("paging") or {}).get("next") or {}).get("after")
            if following is None:
                return [id_ for id_ in dict.fromkeys(ids) if id_]
            after = str(following)
        raise Permanent("too_many_pages")

    def _reference(self, contact: dict[str, Any]) -> Reference:
        id_ = str(contact.get("id") or "")
        if not id_:
            raise Retryable("malformed_answer")
        created_at = from_iso(_properties(contact).get("createdate") or contact.get("createdAt"))
        return Reference(kind="contact", id=id_, created_at=created_at)

    async def _by_addresses(self, emails: list[str]) -> list[Reference]:
        found: dict[str, Reference] = {}
        wanted = {normal(email) for email in emails}
        for email in all_writings(emails):
            for contact in await self._read(email, "email"):
                if not wanted & set(map(normal, _addresses(contact))):
                    raise Permanent("lookup_not_honoured")
                reference = self._reference(contact)
                found[reference.id] = reference
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
        client: Client | None = None,
    ) -> Answer:
        accept = frozenset({404, LOCKED, 429, MIGRATING})
        if permit is None:
            answer = await (client or self._client).call(
                method, path, params=params, json=json, accept=accept
            )
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
