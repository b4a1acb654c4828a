"""The contacts of one HubSpot account, what hangs on them, and the calls that read and erase them.

* A look-up of one contact, by its id or an address, answers 404 where there is none. Everything else that
  can't be read is a place that can't be read: a 403, and a 404 for a list or a search.
* A contact that was merged into another answers to its old id with the other one.
* An archived contact has lost its associations, so what hangs on it can't be listed.
* An answer of 2xx may still say `errors`. Then nothing was done that could be counted on.
* The daily limit resets at the account's midnight: asking earlier only hammers. Until the account has said
  its time zone, which it can't when the very first call meets the limit, the settings' or the
  installation's counts.
* Searches have a limit of their own, five in a second for the whole account. They are sent one by one,
  evenly: a bucket that fills with time lets through nearly twice its rate in the first second.

Not documented: how `batch/read` answers when none of the records is there. 207 with `OBJECT_NOT_FOUND` is
what its clients report.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal, get_args
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field

from handlers.addresses import all_writings, normal
from handlers.checking import Gap, MissingRights
from handlers.places import PlaceUnreadable
from handlers.port import Control, Permanent, Retryable, Task
from handlers.registry import Context, HandlerSettings
from handlers.shown import Shown
from handlers.times import EPOCH, SECOND, from_datetime, from_zoned
from orchestrator.http import Answer, Client, Limits, StaticAuthority
from orchestrator.secret import SecretRef
from orchestrator.settings.values import Duration, Zone

PROPERTIES = "createdate,email,hs_additional_emails"
LOCKED = 423
MIGRATING = 477
SEARCH_PAGE = 100
PAGE = 500
BATCH = 100
MAX_PAGES = 100
#: A refusal that is the vendor's word on one call, and no fault that passes.
_REFUSED: Final = frozenset({400, 403, 404})
_UNREADABLE: Final = frozenset({403, 404})

Hanging = Literal["tickets", "notes", "calls", "deals"]
HANGING: Final[tuple[Hanging, ...]] = get_args(Hanging)


class HubSpotSettings(HandlerSettings):
    """A HubSpot account."""

    portal_id: Annotated[int, Field(ge=1)]
    """The account's id (Hub ID). No other account is ever touched."""
    token: SecretRef
    """The private app's access token: contacts read and write, GDPR delete, subscriptions."""
    control_email: str | None = None
    """The address of a contact planted in the account, who must be found before an absence counts."""
    secondary: Literal["search", "lookup"] = "search"
    """How contacts are found by a secondary address: by "search", or by whatever a "lookup" finds alone. With
    "lookup" the mails and notices say that nobody looked for secondary addresses."""
    hanging: tuple[Hanging, ...] = HANGING
    """What is counted where it hangs on a contact, and told as left: HubSpot doesn't erase it with the
    contact. Each kind needs the right to read it; one that isn't named here is told as not looked at."""
    ambiguous: Literal["ask", "all"] = "ask"
    """Several contacts with one address: ask the DPO, who decides for all of them, or erase "all"."""
    clock_skew: Duration = timedelta(minutes=5)
    """By how much HubSpot's clock and ours may differ. A contact that was made around the erasure, or whose
    age is unknown, may be new consent: the DPO is asked."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact(Shown):
    """A contact as HubSpot shows it now; `values` are its addresses in our form."""

    kind: str = "contact"
    addresses: tuple[str, ...] = field(repr=False)
    """As HubSpot has them."""
    archived: bool


class Records:
    """The records of one account."""

    def __init__(self, settings: HubSpotSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._zone = settings.time_zone or context.time_zone
        self._client = self._new_client(
            Limits(calls=settings.calls_per_ten_seconds, per=timedelta(seconds=10)), "hubspot"
        )
        self._searches = self._new_client(
            Limits(calls=1, per=timedelta(seconds=1) / settings.searches_per_second), "hubspot-search"
        )

    def _new_client(self, limits: Limits, name: str) -> Client:
        token = self._settings.token
        return self._context.clients.client(
            self._settings.url,
            authority=StaticAuthority(lambda: {"Authorization": f"Bearer {token.read()}"}),
            limits=limits,
            account=f"{name}/{self._settings.portal_id}",
        )

    # --- the account

    async def account(self) -> str:
        """The account that our token really speaks for; raises when it isn't the pinned one."""
        details = (await self._ask("GET", f"/account-info/{self._settings.version}/details")).object()
        answered = str(details.get("portalId") or "")
        Control.shown(pinned=str(self._settings.portal_id), answered=answered)
        self._zone = str(details.get("timeZone") or self._zone)
        return answered

    async def control(self) -> Control:
        """Shows that this is the right account and, where a control record is set, that contacts can be
        seen.
        """
        answered = await self.account()
        record_found: bool | None = None
        if self._settings.control_email is not None:
            record_found = bool(await self.by_addresses([self._settings.control_email]))
        pinned = str(self._settings.portal_id)
        return Control.shown(pinned=pinned, answered=answered, record_found=record_found)

    async def has_scopes(self) -> Gap | None:
        """What HubSpot says of the token; nothing of anybody's."""
        asked = {"tokenKey": self._settings.token.read()}
        path = "/oauth/v2/private-apps/get/access-token-info"
        answer = await self._ask("POST", path, json=asked, accept=frozenset({404}))
        if answer.status == 404:
            return Gap("HubSpot tells nothing of a token of this sort")
        scopes = answer.object().get("scopes")
        if not isinstance(scopes, list):
            raise Retryable("malformed_answer")
        if missing := [scope for scope in self._settings.scopes if scope not in scopes]:
            raise MissingRights(missing)
        return None

    # --- contacts

    async def by_addresses(self, emails: Iterable[str]) -> list[Contact]:
        """The contacts, archived ones too, that a look-up finds by these addresses, each once."""
        found: dict[str, Contact] = {}
        for email in all_writings(emails):
            for archived in (False, True):
                contact = await self._read(email, archived=archived, by="email")
                if contact is None:
                    continue
                if not contact.carries(frozenset({normal(email)})):
                    raise Permanent("filter_not_honoured")
                found[contact.id] = contact
        return list(found.values())

    async def by_further_addresses(
        self, emails: Iterable[str], known: Mapping[str, Contact]
    ) -> list[Contact]:
        """The contacts that a search finds by these addresses, as their own or as a secondary one.

        A search lags behind, and may find what is gone or match loosely. So whomever it finds is read by id,
        unless they are `known` already, and counts only with the address.
        """
        found: dict[str, Contact] = {}
        for email in all_writings(emails):
            ids = await self._searched(email)
            read = await self.live([id_ for id_ in ids if id_ not in known and id_ not in found])
            for id_ in ids:
                contact = known.get(id_) or found.get(id_) or read.get(id_) or await self.by_id(id_)
                if contact is not None and contact.carries(frozenset({normal(email)})):
                    found[contact.id] = contact
        return list(found.values())

    async def live(self, ids: Sequence[str]) -> dict[str, Contact]:
        """Those of the contacts that are there under their own ids, read many at a time.

        Of the others it says nothing: they may be archived, merged or gone, which `by_id` tells.
        """
        found: dict[str, Contact] = {}
        for first in range(0, len(ids) if len(ids) > 1 else 0, BATCH):
            part = ids[first : first + BATCH]
            asked = {"inputs": [{"id": one} for one in part], "properties": PROPERTIES.split(",")}
            path = self._path("contacts", "batch", "read")
            answer = await self._ask("POST", path, json=asked, accept=_UNREADABLE, may_fail=True)
            rows = _rows(_listed(answer, "contacts"), "results")
            found |= {str(row.get("id")): _contact(row, archived=False) for row in rows}
        return {id_: contact for id_, contact in found.items() if id_ in ids}

    async def by_id(self, id_: str) -> Contact | None:
        """The contact that answers to this id, archived or not: after a merge it is another one."""
        return await self._read(id_, archived=False) or await self._read(id_, archived=True)

    async def _read(self, wanted: str, *, archived: bool, by: str | None = None) -> Contact | None:
        params = {"properties": PROPERTIES, "archived": "true" if archived else "false"}
        if by is not None:
            params["idProperty"] = by
        path = self._path("contacts", quote(wanted, safe=""))
        answer = await self._ask("GET", path, params=params, accept=_UNREADABLE)
        if answer.status == 403:
            raise PlaceUnreadable("archived_contacts" if archived else "contacts")
        return None if answer.status == 404 else _contact(answer.object(), archived=archived)

    async def _searched(self, email: str) -> list[str]:
        """The ids of the contacts that a search finds, which may be too many."""
        ids: list[str] = []
        after = "0"
        filters = [
            {"propertyName": "email", "operator": "EQ", "value": email},
            {"propertyName": "hs_additional_emails", "operator": "CONTAINS_TOKEN", "value": email},
        ]
        for _ in range(MAX_PAGES):
            asked = {
                "filterGroups": [{"filters": [one]} for one in filters],
                "properties": ["email", "hs_additional_emails"],
                "sorts": [],
                "limit": SEARCH_PAGE,
                "after": after,
            }
            path = self._path("contacts", "search")
            answer = await self._ask("POST", path, json=asked, client=self._searches, accept=_UNREADABLE)
            page = _listed(answer, "secondary_addresses")
            ids += _ids(page, "id")
            following = _following(page)
            if following is None:
                return list(dict.fromkeys(ids))
            after = following
        raise Permanent("too_many_pages")

    # --- what hangs on them

    async def hanging_on(self, contact: Contact, kind: Hanging) -> list[str]:
        """The ids of the records of one kind that are associated with the contact."""
        ids: list[str] = []
        params = {"limit": str(PAGE)}
        for _ in range(MAX_PAGES):
            path = self._path("contacts", quote(contact.id, safe=""), "associations", kind)
            page = _listed(await self._ask("GET", path, params=params, accept=_UNREADABLE), kind)
            ids += _ids(page, "toObjectId", "id")
            following = _following(page)
            if following is None:
                return list(dict.fromkeys(ids))
            params = {"limit": str(PAGE), "after": following}
        raise Permanent("too_many_pages")

    async def still_there(self, kind: Hanging, ids: Iterable[str]) -> set[str]:
        """Those of the records that can be read by their ids."""
        wanted = sorted(ids)
        there: set[str] = set()
        for first in range(0, len(wanted), BATCH):
            part = wanted[first : first + BATCH]
            asked = {"inputs": [{"id": one} for one in part], "properties": []}
            path = self._path(kind, "batch", "read")
            answer = await self._ask("POST", path, json=asked, accept=_UNREADABLE, may_fail=True)
            page = _listed(answer, kind)
            if _following(page) is not None:
                raise Retryable("malformed_answer")
            categories = [one.get("category") for one in _rows(page, "errors")]
            # Records that are gone are told as errors. Of any other error nobody knows what it left out.
            if set(categories) - {"OBJECT_NOT_FOUND"}:
                raise PlaceUnreadable(kind)
            there |= set(_ids(page, "id")) & set(part)
        return there

    # --- erasing

    async def opt_out(self, task: Task, address: str) -> bool:
        """Ends mail to the address; returns whether HubSpot did so, and did not refuse."""
        version = self._settings.version
        path = f"/communication-preferences/{version}/statuses/{quote(address, safe='')}/unsubscribe-all"
        params = {"channel": "EMAIL"}
        answer = await self._ask("POST", path, params=params, permit=task, accept=_REFUSED, may_fail=True)
        return answer.status not in _REFUSED and not _errors(answer)

    async def erase(self, task: Task, id_: str) -> bool:
        """Erases the contact for good; returns False when there was none any more."""
        path = self._path("contacts", "gdpr-delete")
        gone = frozenset({404})
        answer = await self._ask("POST", path, json={"objectId": id_}, permit=task, accept=gone)
        return answer.status != 404

    # --- calls

    def _path(self, *parts: str) -> str:
        return "/".join(("/crm/objects", self._settings.version, *parts))

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        permit: Task | None = None,
        client: Client | None = None,
        accept: frozenset[int] = frozenset(),
        may_fail: bool = False,
    ) -> Answer:
        """A call. With `may_fail` the caller reads the errors that a 2xx may hold; else they raise."""
        accept = accept | {LOCKED, 429, MIGRATING}
        client = client or self._client
        if permit is None:
            answer = await client.call(method, path, params=params, json=json, accept=accept)
        else:
            answer = await client.erase_call(permit, method, path, params=params, json=json, accept=accept)
        if answer.status == 429:
            raise self._limited(answer)
        if answer.status == LOCKED:
            raise Retryable("locked", 2 * SECOND)
        if answer.status == MIGRATING:
            raise self._migrating(client, answer)
        if not may_fail and 200 <= answer.status < 300 and _errors(answer):
            raise Retryable("vendor_error")
        return answer

    def _limited(self, answer: Answer) -> Retryable:
        asked = self._client.retry_after(answer)
        try:
            daily = answer.object().get("policyName") == "DAILY"
        except Retryable:
            daily = False
        if asked is None and daily:
            asked = self._until_midnight()
            for client in (self._client, self._searches):
                client.hold(asked)
        return Retryable("daily_limit" if daily else "rate_limited", asked)

    def _migrating(self, client: Client, answer: Answer) -> Retryable:
        asked = client.retry_after(answer)
        if asked is not None:
            client.hold(asked)
        return Retryable("migrating", asked)

    def _until_midnight(self) -> int:
        now = self._context.clock()
        try:
            zone = ZoneInfo(self._zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            zone = ZoneInfo("UTC")
        local = (EPOCH + timedelta(microseconds=now)).astimezone(zone)
        midnight = datetime(local.year, local.month, local.day, tzinfo=zone) + timedelta(days=1)
        return from_datetime(midnight.astimezone(UTC)) - now


def _contact(row: dict[str, Any], *, archived: bool) -> Contact:
    given = row.get("properties")
    properties = given if isinstance(given, dict) else {}
    listed = [properties.get("email"), *str(properties.get("hs_additional_emails") or "").split(";")]
    addresses = [one.strip().lower() for one in listed if isinstance(one, str) and one.strip()]
    if not row.get("id"):
        raise Retryable("malformed_answer")
    return Contact(
        id=str(row["id"]),
        created_at=from_zoned(properties.get("createdate") or row.get("createdAt")),
        addresses=tuple(dict.fromkeys(addresses)),
        values=frozenset(map(normal, addresses)),
        archived=archived,
    )


def _listed(answer: Answer, place: str) -> dict[str, Any]:
    """A page of a list, which must be readable."""
    if answer.status in _UNREADABLE:
        raise PlaceUnreadable(place)
    return answer.object()


def _rows(page: dict[str, Any], name: str) -> list[dict[str, Any]]:
    rows = page.get(name)
    if rows is None and name == "errors":
        return []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Retryable("malformed_answer")
    return rows


def _ids(page: dict[str, Any], *names: str) -> list[str]:
    """The ids of a page's results, under the first of these names that a row has."""
    ids = [next((str(row[name]) for name in names if row.get(name)), "") for row in _rows(page, "results")]
    if not all(ids):
        raise Retryable("malformed_answer")
    return ids


def _following(page: dict[str, Any]) -> str | None:
    """Where the next page begins; None after the last. One that nobody can find is not the last."""
    paging = page.get("paging") or {}
    following = paging.get("next") if isinstance(paging, dict) else paging
    if not following:
        return None
    after = following.get("after") if isinstance(following, dict) else None
    if after in (None, ""):
        raise Retryable("malformed_answer")
    return str(after)


def _errors(answer: Answer) -> bool:
    """Whether an answer of 2xx says that something was not done."""
    if not answer.body.strip():
        return False
    said = answer.object()
    return bool(said.get("errors") or said.get("numErrors"))
