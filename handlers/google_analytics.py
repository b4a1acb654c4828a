"""Google Analytics 4, through the Admin API's user deletions.

What has to be known about it:

* There is nothing to look at, before or after. The step can't say "absent"; its proof is the time from
  which Google promises to delete (`deletionRequestTime`), and its grade is `vendor_promised`.
* A visitor is known by an id that a contact form doesn't have. Without one from the person the step is not
  identifiable (Art. 11), unless the settings say that user-provided data is collected, which can be named
  by address or number.
* One property for each site. A client id with a site goes to that site's property; one without, to all.
* Each property is read back and compared with its pin before anything is submitted to it.
* The daily quota is the property's. When it is spent, the next try is after midnight in `quota_zone`.
  Submitting again is safe.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from handlers.google_login import ServiceAccount
from handlers.port import CallbackBody, Control, Permanent, Reference, Refused, Retryable, Task
from handlers.registry import Context, HandlerSettings
from handlers.results import Accepted, CannotLook, NotIdentifiable, Proved, Received, Result
from handlers.times import EPOCH, from_datetime, from_iso, to_iso
from orchestrator.http import Answer, Limits
from orchestrator.privacy import Identifiers, Kind
from orchestrator.secret import SecretRef

SCOPE = "https://www.googleapis.com/auth/analytics.edit"
RATE_REASONS = frozenset(
    {"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "dailyLimitExceeded"}
)

IdKind = Literal["client_id", "user_id", "app_instance_id", "user_provided_data"]
_FIELDS: dict[str, tuple[Kind, str]] = {
    "client_id": ("ga_client_id", "clientId"),
    "user_id": ("ga_user_id", "userId"),
    "app_instance_id": ("ga_app_instance_id", "appInstanceId"),
}


class Property(HandlerSettings):
    """One property, for one site or app."""

    id: Annotated[str, Field(pattern=r"^\d+$")]
    """The property's number."""
    site: str | None = None
    """The site it measures: client ids that the person gives for another site are not submitted to it."""
    display_name: str | None = None
    """The property's name in Analytics; compared, where given, so that a mistyped number is noticed."""


class GoogleAnalyticsSettings(HandlerSettings):
    """The properties of one Google Analytics account."""

    properties: Annotated[tuple[Property, ...], Field(min_length=1)]
    """The properties, one for each site."""
    service_account: SecretRef
    """The service account's key, JSON; it needs the role Editor on each property."""
    identify_by: Annotated[tuple[IdKind, ...], Field(min_length=1)] = ("client_id",)
    """By what visitors can be known: what the sites really collect."""
    url: str = "https://analyticsadmin.googleapis.com"
    """Where the Admin API answers."""
    token_url: str = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
    """Where a signed assertion is exchanged for a token."""
    quota_zone: str = "America/Los_Angeles"
    """The time zone in which the daily quota begins anew."""
    calls_per_minute: Annotated[int, Field(ge=1, le=600)] = 300
    """Our share of the limit of 600 a minute."""


class GoogleAnalytics:
    """The handler; one object for one set of properties."""

    kind: ClassVar[str] = "google_analytics"
    Settings: ClassVar[type[GoogleAnalyticsSettings]] = GoogleAnalyticsSettings

    def __init__(self, settings: GoogleAnalyticsSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        limits = Limits(calls=settings.calls_per_minute, per=timedelta(minutes=1))
        authority = ServiceAccount(
            endpoint=context.clients.client(settings.token_url),
            clock=context.clock,
            key=settings.service_account,
            audience=settings.token_url,
            scope=SCOPE,
        )
        self._client = context.clients.client(settings.url, authority=authority, limits=limits)

    async def locate(self, task: Task) -> Result:
        usable = [p for p in self._settings.properties if any(self._ids(p, task.identifiers))]
        if not usable:
            return NotIdentifiable(missing=self._missing())
        for each in usable:
            await self._pinned(each)
        counts = {"properties": str(len(usable))}
        if without := len(self._settings.properties) - len(usable):
            counts["properties_without_id"] = str(without)
        return CannotLook(evidence=counts)

    async def erase(self, task: Task) -> Result:
        submitted: list[Reference] = []
        times: list[int] = []
        for each in self._settings.properties:
            ids = list(self._ids(each, task.identifiers))
            if ids:
                await self._pinned(each)
            for field, value in ids:
                requested_at = await self._submit(task, each, field, value)
                times.append(requested_at)
                submitted.append(Reference(kind="deletion", id=f"{each.id}/{field}", created_at=requested_at))
        if not submitted:
            raise Permanent("nothing_to_erase")
        return Accepted(
            erased=len(submitted),
            prove_at=self._context.clock(),
            references=tuple(submitted),
            evidence={"deletion_requested_at": to_iso(min(times)), "deletions": str(len(submitted))},
        )

    async def prove(self, task: Task) -> Result:
        # Without either, nothing was ever submitted, and there is nothing that Google promised.
        times = [r.created_at for r in task.of_kind("deletion") if r.created_at is not None]
        if not times and task.erased_at is None:
            raise Permanent("nothing_submitted")
        controls = [await self._pinned(each) for each in self._settings.properties]
        evidence = {"deletion_requested_at": to_iso(min(times))} if times else {}
        return Proved(control=controls[0], grade="vendor_promised", evidence=evidence)

    async def receive(self, callback: CallbackBody) -> Received:
        raise Refused("no_callbacks")

    def _ids(self, property_: Property, identifiers: Identifiers) -> Iterator[tuple[str, str]]:
        """What the person gave that this property can know them by, as Google's field and value."""
        for kind in self._settings.identify_by:
            if kind == "user_provided_data":
                for identifier in identifiers.of_kind("email"):
                    yield "userProvidedData", normalised_email(identifier.value)
                for identifier in identifiers.of_kind("phone"):
                    yield "userProvidedData", normalised_phone(identifier.value)
                continue
            ours, field = _FIELDS[kind]
            for identifier in identifiers.of_kind(ours):
                if identifier.site is None or property_.site is None or identifier.site == property_.site:
                    yield field, client_id(identifier.value) if kind == "client_id" else identifier.value

    def _missing(self) -> tuple[str, ...]:
        kinds = [_FIELDS[kind][0] for kind in self._settings.identify_by if kind in _FIELDS]
        return tuple(kinds) or ("email",)

    async def _pinned(self, property_: Property) -> Control:
        """Read the property back and compare it with its pin."""
        found = (await self._ask("GET", f"/v1alpha/properties/{property_.id}")).object()
        pinned, answered = f"properties/{property_.id}", str(found.get("name") or "")
        if property_.display_name is not None:
            pinned, answered = f"{pinned} {property_.display_name}", f"{answered} {found.get('displayName')}"
        return Control.shown(pinned=pinned, answered=answered)

    async def _submit(self, task: Task, property_: Property, field: str, value: str) -> int:
        path = f"/v1alpha/properties/{property_.id}:submitUserDeletion"
        answer = await self._ask("POST", path, json={field: value}, permit=task)
        requested_at = from_iso(answer.object().get("deletionRequestTime"))
        if requested_at is None:
            raise Retryable("malformed_answer")
        return requested_at

    async def _ask(self, method: str, path: str, *, json: Any = None, permit: Task | None = None) -> Answer:
        accept = frozenset({403, 429})
        if permit is None:
            answer = await self._client.call(method, path, json=json, accept=accept)
        else:
            answer = await self._client.erase_call(permit, method, path, json=json, accept=accept)
        if answer.status not in accept:
            return answer
        error = _error(answer)
        reasons = {str(one.get("reason")) for one in error.get("errors") or [] if isinstance(one, dict)}
        if answer.status == 403 and not reasons & RATE_REASONS:
            raise Permanent("credentials_refused")
        asked = self._client.retry_after(answer)
        # Which of the quotas is spent is said in words and in a quota's name only.
        said = f"{error.get('message')} {error.get('details')} {reasons}".lower()
        if "daily" in said or "perday" in said or "per day" in said:
            raise Retryable("daily_limit", self._until_midnight() if asked is None else asked)
        raise Retryable("rate_limited", asked)

    def _until_midnight(self) -> int:
        now = self._context.clock()
        zone = ZoneInfo(self._settings.quota_zone)
        local = (EPOCH + timedelta(microseconds=now)).astimezone(zone)
        midnight = datetime(local.year, local.month, local.day, tzinfo=zone) + timedelta(days=1)
        return from_datetime(midnight.astimezone(UTC)) - now


def client_id(value: str) -> str:
    """The client id in what a person copies from the browser: "GA1.1.1234567890.1699999999", or already
    the id.
    """
    parts = value.strip().split(".")
    return ".".join(parts[-2:]) if len(parts) >= 4 and parts[0].upper().startswith("GA") else value.strip()


def normalised_email(value: str) -> str:
    """As Google matches addresses: lower case, no spaces, no dots before @gmail.com and @googlemail.com."""
    local, _, domain = "".join(value.lower().split()).partition("@")
    if domain in ("gmail.com", "googlemail.com"):
        local = local.replace(".", "")
    return f"{local}@{domain}"


def normalised_phone(value: str) -> str:
    """As Google matches numbers: digits only, with a plus before."""
    return "+" + "".join(character for character in value if character.isascii() and character.isdigit())


def _error(answer: Answer) -> dict[str, Any]:
    try:
        error = answer.object().get("error")
    except Retryable:
        return {}
    return error if isinstance(error, dict) else {}
