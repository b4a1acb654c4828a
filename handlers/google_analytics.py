"""Google Analytics 4, through the Admin API's user deletions.

What has to be known about it:

* There is nothing to look at, before or after. The step can't say "absent"; its proof is the time from
  which Google promises to delete (`deletionRequestTime`), and its grade is `vendor_promised`.
* A visitor is known by an id that a contact form doesn't have. Without one from the person the step is not
  identifiable (Art. 11), unless the settings say that user-provided data is collected, which can be named
  by address or number.
* One property is one system, with a step and an end of its own: there is one for each site, and the person
  may give the id of one site's cookie and not of another's. A client id with a site goes to that site's
  property; one without, to all.
* An id that this property doesn't take is counted in the evidence: `…_elsewhere` if another configured
  property takes it, `…_without_property` if none does, `…_unusable` if it has not the form of such an id.
  `…_elsewhere_in` names the systems that take it, since the request may reach none of them.
* The property is read back and compared with its pin before anything is submitted to it.
* The daily quota is the property's. When it is spent, the next try is after midnight in `quota_zone`.
  Submitting again is safe.
* Other calls are counted by the service account, which several systems may share.
"""

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from handlers.addresses import writings
from handlers.checking import Finding, examine
from handlers.google_login import ServiceAccount
from handlers.places import NOT_SEARCHABLE, DeclaredPlace, Search
from handlers.port import CallbackBody, Control, Permanent, Reference, Refused, Retryable, Task
from handlers.registry import Context, HandlerSettings
from handlers.results import Accepted, CannotLook, NotIdentifiable, Proved, Received, Result
from handlers.times import EPOCH, from_datetime, from_iso, to_iso
from orchestrator.http import Answer, Limits
from orchestrator.privacy import Identifier, Identifiers, Kind
from orchestrator.secret import SecretRef
from schemas.messages import Place

SCOPE = "https://www.googleapis.com/auth/analytics.edit"
RATE_REASONS = frozenset(
    {"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "dailyLimitExceeded"}
)

_CLIENT_ID = re.compile(r"(?:_ga=)?(?:GA\d\.\d{1,2}(?:-\d{1,2})?\.)?(\d{1,20}\.\d{1,20})", re.ASCII)

IdKind = Literal["client_id", "user_id", "app_instance_id", "user_provided_data"]
_FIELDS: dict[str, tuple[Kind, str]] = {
    "client_id": ("ga_client_id", "clientId"),
    "user_id": ("ga_user_id", "userId"),
    "app_instance_id": ("ga_app_instance_id", "appInstanceId"),
}
_LONGEST: Final = 200
#: Why an id is not submitted to a property.
_WHYS: Final = ("elsewhere", "without_property", "unusable")


class GoogleAnalyticsSettings(HandlerSettings):
    """One property of Google Analytics, for one site or app."""

    property: Annotated[str, Field(pattern=r"^\d+$")]
    """The property's number."""
    site: str | None = None
    """The site it measures: client ids that the person gives for another site are not submitted to it."""
    display_name: str | None = None
    """The property's name in Analytics; compared, where given, so that a mistyped number is noticed."""
    service_account: SecretRef
    """The service account's key, JSON; it needs the role Editor on the property."""
    identify_by: Annotated[tuple[IdKind, ...], Field(min_length=1)] = ("client_id",)
    """By what visitors can be known: what the site really collects."""
    url: str = "https://analyticsadmin.googleapis.com"
    """Where the Admin API answers."""
    token_url: str = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
    """Where a signed assertion is exchanged for a token."""
    quota_zone: str = "America/Los_Angeles"
    """The time zone in which the daily quota begins anew."""
    calls_per_minute: Annotated[int, Field(ge=1, le=600)] = 300
    """Our share of the limit of 600 a minute; systems with the same key and number share it."""

    @model_validator(mode="before")
    @classmethod
    def _one_property(cls, given: Any) -> Any:
        if isinstance(given, dict) and "properties" in given:
            raise ValueError(
                "properties: each property is a system of its own now; make a table for each, with property"
                " (its number), site and display_name beside service_account"
            )
        return given


class GoogleAnalytics:
    """The handler; one object for one property."""

    kind: ClassVar[str] = "google_analytics"
    Settings: ClassVar[type[GoogleAnalyticsSettings]] = GoogleAnalyticsSettings
    places: ClassVar[tuple[DeclaredPlace, ...]] = (
        DeclaredPlace(
            name="deletions",
            title={
                "en": "visits to the site or app",
                "sv": "besök på webbplatsen eller i appen",
                "nb": "besøk på nettstedet eller i appen",
            },
        ),
    )

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
        key = settings.service_account
        self._client = context.clients.client(
            settings.url, authority=authority, limits=limits, account=f"google/{key.env or key.file}"
        )

    async def locate(self, task: Task) -> Result:
        places, untaken = self._unsearchable(task), self._untaken(task.identifiers)
        if not any(self._ids(task.identifiers)):
            return NotIdentifiable(missing=self._missing(), evidence=untaken, places=places)
        await self._pinned()
        return CannotLook(evidence=untaken, places=places)

    async def erase(self, task: Task) -> Result:
        ids = list(self._ids(task.identifiers))
        if not ids:
            raise Permanent("nothing_to_erase")
        await self._pinned()
        submitted: list[Reference] = []
        times: list[int] = []
        for field, value in ids:
            requested_at = await self._submit(task, field, value)
            times.append(requested_at)
            id_ = f"{self._settings.property}/{field}"
            submitted.append(Reference(kind="deletion", id=id_, created_at=requested_at))
        return Accepted(
            erased=len(submitted),
            prove_at=self._context.clock(),
            references=tuple(submitted),
            evidence={
                "deletion_requested_at": to_iso(min(times)),
                "deletions": str(len(submitted)),
                **self._untaken(task.identifiers),
            },
        )

    async def prove(self, task: Task) -> Result:
        # Without either, nothing was ever submitted, and there is nothing that Google promised.
        times = [r.created_at for r in task.of_kind("deletion") if r.created_at is not None]
        if not times and task.erased_at is None:
            raise Permanent("nothing_submitted")
        evidence = {"deletion_requested_at": to_iso(min(times))} if times else {}
        evidence |= self._untaken(task.identifiers)
        control, places = await self._pinned(), self._unsearchable(task)
        return Proved(control=control, grade="vendor_promised", evidence=evidence, places=places)

    def _unsearchable(self, task: Task) -> tuple[Place, ...]:
        """The report of a property: nothing in it can be looked up."""
        search = Search(self.places, task.identifiers)
        for place in self.places:
            search.skipped(place.name, NOT_SEARCHABLE)
        return search.report()

    async def receive(self, callback: CallbackBody) -> Received:
        raise Refused("no_callbacks")

    async def check(self) -> tuple[Finding, ...]:
        return await examine(
            [("account", self._pinned)],
            settings={
                "reachable": ("url", "token_url"),
                "credentials": ("service_account",),
                "account": ("property", "display_name"),
            },
            gaps={
                "rights": "it can be read; the right to delete shows at the first deletion",
                "control": "nothing can be looked up in Analytics",
            },
        )

    def _ids(self, identifiers: Identifiers) -> Iterator[tuple[str, str]]:
        """What the person gave that the property can know them by, as Google's field and value."""
        for kind in self._settings.identify_by:
            if kind == "user_provided_data":
                for identifier in identifiers.of_kind("email"):
                    for writing in writings(identifier.value):
                        yield "userProvidedData", normalised_email(writing)
                for identifier in identifiers.of_kind("phone"):
                    yield "userProvidedData", normalised_phone(identifier.value)
                continue
            ours, field = _FIELDS[kind]
            for identifier in identifiers.of_kind(ours):
                if _takes(self._settings, identifier):
                    value = _value(identifier)
                    if value is not None:
                        yield field, value

    def _untaken(self, identifiers: Identifiers) -> dict[str, str]:
        """How many ids of each kind were given that this property doesn't take, and why, for the evidence.

        Zeros are told, too: they replace what an earlier look told.
        """
        told: dict[str, str] = {}
        for name, (ours, _) in _FIELDS.items():
            given = identifiers.of_kind(ours)
            whys = Counter(self._why_not(identifier) for identifier in given)
            if given:
                told |= {f"{name}s_{why}": str(whys[why]) for why in _WHYS}
            takers = Counter(
                ",".join(self._takers(one)) for one in given if self._why_not(one) == "elsewhere"
            )
            where = " ".join(f"{systems}:{count}" for systems, count in sorted(takers.items()))
            # As much as a fact of the evidence may be long; beyond that the count alone is told.
            if where and len(where) <= _LONGEST:
                told[f"{name}s_elsewhere_in"] = where
        return told

    def _takers(self, identifier: Identifier) -> list[str]:
        """The other systems whose property takes the id."""
        return sorted(
            name
            for name, one in self._context.kin.items()
            if isinstance(one, GoogleAnalyticsSettings) and _takes(one, identifier)
        )

    def _why_not(self, identifier: Identifier) -> str | None:
        if _value(identifier) is None:
            return "unusable"
        if _takes(self._settings, identifier):
            return None
        return "elsewhere" if self._takers(identifier) else "without_property"

    def _missing(self) -> tuple[str, ...]:
        kinds = [_FIELDS[kind][0] for kind in self._settings.identify_by if kind in _FIELDS]
        return tuple(kinds) or ("email",)

    async def _pinned(self) -> Control:
        """Read the property back and compare it with its pin."""
        pinned, name = f"properties/{self._settings.property}", self._settings.display_name
        found = (await self._ask("GET", f"/v1alpha/{pinned}")).object()
        answered = str(found.get("name") or "")
        if name is not None:
            pinned, answered = f"{pinned} {name}", f"{answered} {found.get('displayName')}"
        return Control.shown(pinned=pinned, answered=answered)

    async def _submit(self, task: Task, field: str, value: str) -> int:
        path = f"/v1alpha/properties/{self._settings.property}:submitUserDeletion"
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
            asked = self._until_midnight() if asked is None else asked
            self._client.hold(asked)
            raise Retryable("daily_limit", asked)
        raise Retryable("rate_limited", asked)

    def _until_midnight(self) -> int:
        now = self._context.clock()
        zone = ZoneInfo(self._settings.quota_zone)
        local = (EPOCH + timedelta(microseconds=now)).astimezone(zone)
        midnight = datetime(local.year, local.month, local.day, tzinfo=zone) + timedelta(days=1)
        return from_datetime(midnight.astimezone(UTC)) - now


def _takes(settings: GoogleAnalyticsSettings, identifier: Identifier) -> bool:
    """Whether an id of this kind and site is for a property."""
    if not any(_FIELDS[kind][0] == identifier.kind for kind in settings.identify_by if kind in _FIELDS):
        return False
    return None in (identifier.site, settings.site) or identifier.site == (settings.site or "").lower()


def _value(identifier: Identifier) -> str | None:
    """The id as Google has it; None where there is none in it."""
    return client_id(identifier.value) if identifier.kind == "ga_client_id" else identifier.value


def client_id(value: str) -> str | None:
    """The client id in what a person copies from the browser; None where there is none.

    The cookie `_ga` has it after a prefix that tells how many parts the domain has: in
    "GA1.1.1234567890.1699999999" it is the last two numbers. The cookie beside it, `_ga_<stream>`
    ("GS1.1.1699999999.…"), is of a session and has none.
    """
    found = _CLIENT_ID.fullmatch(value.strip())
    return found.group(1) if found is not None else None


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
