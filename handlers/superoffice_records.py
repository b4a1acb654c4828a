"""SuperOffice's records: finding, looking at and deleting them, in the one tenant that is pinned.

Not confirmed by SuperOffice, therefore settings: how a quote in a filter is escaped, the archive of form
submissions, that of chat sessions with their key, and the column with a sale's date. Not confirmed either:
that `User/currentPrincipal` names the tenant by `DatabaseContextIdentifier`, by which we tell whose
credentials ours are.
"""

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import anyio
from pydantic import BeforeValidator, Field

from handlers.addresses import all_writings, normal, writings
from handlers.checking import MissingRights, Note
from handlers.port import Control, Permanent, Reference, Retryable, Task
from handlers.registry import Context, HandlerSettings
from handlers.superoffice_login import SystemUser, Tenant, discover
from handlers.times import from_iso
from orchestrator.http import Answer, Client, Limits
from orchestrator.secret import SecretRef
from orchestrator.settings.values import Duration, Line
from schemas.messages import Token

MAX_PAGES = 1000
GONE = 404
MOVED = 421
CHAT = "chat"

_PATHS = {
    "person": "Person",
    "ticket": "Ticket",
    "appointment": "Appointment",
    "document": "Document",
    "sale": "Sale",
}
_CHILD_KEYS = {
    "ticket": "ticketId",
    "appointment": "appointmentId",
    "document": "documentId",
    "sale": "saleId",
}


class Keep(HandlerSettings):
    """Why records stay."""

    legal_basis: Token
    """The law that says so, as a short name: "gdpr_17_3_e", say."""
    reason: Line
    """The reason in a sentence, for the DPO and the person; it must name nobody."""


def _fate(given: Any) -> Any:
    if isinstance(given, str) and given not in ("report", "erase"):
        raise ValueError(
            'write "report" to leave them and say so ("leave" of old), "erase", or'
            ' { legal_basis = "…", reason = "…" } to keep them'
        )
    return given


Fate = Annotated[Literal["report", "erase"] | Keep, BeforeValidator(_fate)]


class SuperOfficeSettings(HandlerSettings):
    """A SuperOffice Online tenant."""

    tenant: str
    """The tenant's customer id, which is also its ContextIdentifier: "Cust12345". No other tenant is
    ever touched.
    """
    client_secret: SecretRef
    """The application's secret (SO-AppToken)."""
    system_user_token: SecretRef
    """The system user's token for this tenant."""
    private_key: SecretRef
    """The application's RSA key, PEM, with which the system user's token is signed."""
    login_certificate: SecretRef
    """SuperOffice's certificate or public key, PEM, with which it signs its answers to a login."""
    webhook_secret: SecretRef | None = None
    """The secret of the webhook for `person.deleted`, if one is set up."""
    url: str = "https://online.superoffice.com"
    """The environment: online, qaonline or sod."""
    control_email: str | None = None
    """The address of a person planted in the tenant, who must be found before an absence counts."""
    retain_deleted: Duration = timedelta(days=14)
    """The tenant's "Retain deleted data": how long a deleted person lies in the recycle bin."""
    newsletter_purpose: str | None = "EMARKETING"
    """The consent to withdraw before the deletion; none to leave consents alone."""
    submissions_archive: str | None = "FormSubmission"
    """The archive that lists form submissions; none where the tenant has no forms."""
    chats_archive: str | None = None
    """The archive that lists chat sessions, so that they are reported as left; none where the tenant has no
    chat. No deletion of them is known."""
    chats_key: str = "chatSessionId"
    """The column with a chat session's number."""
    ambiguous: Literal["all", "ask"] = "all"
    """Several persons with one address: erase all of them, or ask the DPO, who decides for all of them."""
    appointments: Fate = "report"
    """A person's appointments (tasks and calls, too): "erase" them, "report" that they are left, or keep them
    with `{ legal_basis = "…", reason = "…" }`."""
    documents: Fate = "report"
    """A person's documents: likewise."""
    sale_date_column: str = "registeredDate"
    """The column of a sale by whose date its fiscal year is known."""
    fiscal_year_end: Annotated[str, Field(pattern=r"^(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$")] = "12-31"
    """The last day of the fiscal year, as MM-DD."""
    quote_escape: Literal["double", "backslash"] = "double"
    """How a quote within a filter's text is written."""
    calls_per_second: Annotated[int, Field(ge=1, le=100)] = 5
    """SuperOffice throttles, and publishes no number."""


class Records:
    """The records of one tenant."""

    def __init__(self, settings: SuperOfficeSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._limits = Limits(calls=settings.calls_per_second, per=timedelta(seconds=1))
        self._account = f"superoffice/{settings.tenant}"
        self._door = context.clients.client(settings.url, limits=self._limits, account=self._account)
        self._user = SystemUser(
            login=self._door,
            clock=context.clock,
            context=settings.tenant,
            client_secret=settings.client_secret,
            system_user_token=settings.system_user_token,
            private_key=settings.private_key,
            login_certificate=settings.login_certificate,
        )
        self._tenant: Tenant | None = None
        self._client: Client | None = None
        self._moving = anyio.Lock()

    # --- the account

    async def account(self) -> str:
        """The tenant that our credentials really speak for; raises when it isn't the pinned one."""
        principal = (await self._ask("GET", "User/currentPrincipal")).object()
        answered = str(principal.get("DatabaseContextIdentifier") or "")
        Control.shown(pinned=self._settings.tenant, answered=answered)
        return answered

    async def control(self) -> Control:
        """Shows that this is the right tenant and, where a control record is set, that its people can be
        seen.
        """
        answered = await self.account()
        record_found: bool | None = None
        if self._settings.control_email is not None:
            record_found = bool(await self.persons([self._settings.control_email]))
        return Control.shown(pinned=self._settings.tenant, answered=answered, record_found=record_found)

    async def may_read(self) -> Note:
        """Whether the lists can be asked for that an erasure needs; they are asked for nobody.

        The right to delete shows at the first deletion: nothing tells it beforehand.
        """
        nobody = {"$select": "personId", "$filter": "personId eq 0"}
        archives = ["Person", "Archive/RecyclePerson"]
        if self._settings.submissions_archive is not None:
            archives.append(f"Archive/{self._settings.submissions_archive}")
        if self._settings.chats_archive is not None:
            archives.append(f"Archive/{self._settings.chats_archive}")
        for path in archives:
            answer = await self._ask("GET", path, nobody)
            if answer.status == GONE:
                raise MissingRights([path])
        return Note("all lists can be read; the right to delete shows at the first deletion")

    # --- finding

    async def persons(self, emails: list[str]) -> list[Reference]:
        """The persons with one of these addresses, each once."""
        found = {person.id: person for each in await self.persons_by_address(emails) for person in each}
        return list(found.values())

    async def persons_by_address(self, emails: list[str]) -> list[list[Reference]]:
        """The persons of each address, each read to see that it has one of them."""
        found: dict[str, Reference] = {}
        by_address: list[list[Reference]] = []
        wanted = {normal(email) for email in emails}
        for email in emails:
            mine: dict[str, Reference] = {}
            for writing in writings(email):
                condition = f"email/emailAddress is '{self._quoted(writing)}'"
                params = {"$select": "personId", "$filter": condition, "$orderBy": "personId"}
                async for row in self._rows("Person", params):
                    id_ = _id(row)
                    person = found.get(id_) or await self._person(id_, wanted)
                    if person is not None:
                        found[id_] = mine[id_] = person
            by_address.append(list(mine.values()))
        return by_address

    async def _person(self, id_: str, wanted: set[str]) -> Reference | None:
        """The person, who must have one of these addresses; None if they are gone meanwhile."""
        answer = await self._ask("GET", f"Person/{id_}", {"$select": "PersonId,Emails,CreatedDate"})
        if answer.status == GONE:
            return None
        entity = answer.object()
        if not {normal(str(one.get("Value", ""))) for one in entity.get("Emails") or []} & wanted:
            raise Permanent("filter_not_honoured")
        return Reference(kind="person", id=id_, created_at=from_iso(entity.get("CreatedDate")))

    async def children(self, person: Reference) -> AsyncIterator[Reference]:
        """What hangs on a person."""
        for kind, key in _CHILD_KEYS.items():
            date = self._settings.sale_date_column
            select = f"{key},{date}" if kind == "sale" else key
            async for row in self._rows(f"Person/{person.id}/{_PATHS[kind]}s", {"$select": select}):
                created_at = from_iso(row.get(date)) if kind == "sale" else None
                yield Reference(kind=kind, id=_id(row), created_at=created_at)
        async for one in self._submissions(f"personId eq {int(person.id)}"):
            yield one
        async for one in self._chats(f"personId eq {int(person.id)}"):
            yield one

    async def submissions_by_address(self, emails: list[str]) -> list[Reference]:
        """Submissions that never became a person's: someone filled in a form and nobody answered."""
        found: list[Reference] = []
        for email in all_writings(emails):
            condition = f"emailAddress is '{self._quoted(email)}'"
            found += [one async for one in self._submissions(condition)]
        return found

    async def _submissions(self, condition: str) -> AsyncIterator[Reference]:
        if self._settings.submissions_archive is None:
            return
        params = {"$select": "formSubmissionId", "$filter": condition}
        async for row in self._rows(f"Archive/{self._settings.submissions_archive}", params):
            yield Reference(kind="submission", id=_id(row))

    async def _chats(self, condition: str) -> AsyncIterator[Reference]:
        if self._settings.chats_archive is None:
            return
        params = {"$select": self._settings.chats_key, "$filter": condition}
        async for row in self._rows(f"Archive/{self._settings.chats_archive}", params):
            yield Reference(kind=CHAT, id=_id(row))

    async def is_there(self, reference: Reference) -> bool:
        """Whether the record can be read by its id."""
        if reference.kind == CHAT:
            condition = f"{self._settings.chats_key} eq {int(reference.id)}"
            return bool([one async for one in self._chats(condition)])
        if reference.kind != "submission":
            return (await self._ask("GET", f"{_PATHS[reference.kind]}/{reference.id}")).status != GONE
        params = {"formSubmissionEntityId": reference.id, "$select": "FormSubmissionId"}
        answer = await self._ask("POST", "Agents/Marketing/GetFormSubmissionEntity", params)
        # Whether a missing one is a 404 or an empty entity is not documented.
        return answer.status != GONE and bool(answer.object().get("FormSubmissionId"))

    async def is_in_bin(self, person: Reference) -> bool:
        """Whether the person lies in the recycle bin."""
        params = {"$select": "personId", "$filter": f"personId eq {int(person.id)}"}
        return bool([row async for row in self._rows("Archive/RecyclePerson", params)])

    # --- deleting

    async def delete(self, task: Task, reference: Reference) -> bool:
        """Delete one record; True when there was nothing any more."""
        if reference.kind == "submission":
            params = {"formSubmissionEntityId": reference.id}
            path = "Agents/Marketing/DeleteFormSubmissionEntity"
            return (await self._ask("POST", path, params, permit=task)).status == GONE
        path = f"{_PATHS[reference.kind]}/{reference.id}"
        return (await self._ask("DELETE", path, permit=task)).status == GONE

    async def withdraw_consent(self, task: Task, person: Reference, purpose: str) -> None:
        """End a consent, newsletters for one; a person who is gone has none."""
        await self._ask("DELETE", f"Person/{person.id}/Consent/{purpose}", permit=task)

    # --- calls

    async def _rows(self, path: str, params: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
        """The rows of a query, through all its pages; none when what it hangs on is gone."""
        answer = await self._ask("GET", path, params)
        for _ in range(MAX_PAGES):
            if answer.status == GONE:
                return
            page = answer.object()
            rows = page.get("value")
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise Retryable("malformed_answer")
            for row in rows:
                yield row
            following = page.get("odata.nextLink")
            if not following:
                return
            answer = await self._ask("GET", self._same_place(following))
        raise Permanent("too_many_pages")

    async def _ask(
        self, method: str, path: str, params: Mapping[str, str] | None = None, *, permit: Task | None = None
    ) -> Answer:
        """A call to the tenant's API, wherever it lives now; a 404 is the caller's to read."""
        client = await self._api()
        target = path if "://" in path else f"/v1/{path}"
        accept = frozenset({GONE, MOVED})
        if permit is None:
            answer = await client.call(method, target, params=params, accept=accept)
        else:
            answer = await client.erase_call(permit, method, target, params=params, accept=accept)
        if answer.status == MOVED:
            self._tenant = None
            raise Retryable("tenant_moved")
        return answer

    async def _api(self) -> Client:
        async with self._moving:
            now = self._context.clock()
            if self._tenant is None or self._client is None or self._tenant.valid_until <= now:
                tenant = await discover(self._door, self._settings.tenant)
                Control.shown(pinned=self._settings.tenant, answered=tenant.context)
                if urlsplit(tenant.api).scheme != urlsplit(self._settings.url).scheme:
                    raise Permanent("address_not_https")
                if self._client is None or self._tenant is None or self._tenant.api != tenant.api:
                    clients = self._context.clients
                    self._client = clients.client(
                        tenant.api, authority=self._user, limits=self._limits, account=self._account
                    )
                self._tenant = tenant
            return self._client

    def _same_place(self, link: Any) -> str:
        """A link to the next page, which must not lead our credentials elsewhere."""
        if self._tenant is None or not isinstance(link, str) or not link.startswith(f"{self._tenant.api}/"):
            raise Retryable("malformed_answer")
        return link

    def _quoted(self, text: str) -> str:
        return text.replace("'", "''" if self._settings.quote_escape == "double" else "\\'")


def _id(row: dict[str, Any]) -> str:
    try:
        return str(int(row["PrimaryKey"]))
    except (KeyError, TypeError, ValueError):
        raise Retryable("malformed_answer") from None
