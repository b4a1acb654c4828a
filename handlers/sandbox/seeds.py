"""What a sandbox is told to hold: models of the JSON that `POST /_sandbox/seed` takes.

Every vendor has an account with defaults, so that `{"hubspot": {"contacts": [{"email":
"a@example.com"}]}}` is enough. Seeding again adds; a record with an id that exists is replaced, and an
account with the same key gets the settings newly stated, keeping the others. Durations are ISO 8601
(`P14D`); times are microseconds since the epoch, and default to the sandbox's now.
"""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Stated(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Webhook(Stated):
    url: str
    secret: str
    name: str = "radera"


class Child(Stated):
    """A ticket, submission, appointment, document or sale; with `bookkeeping` its deletion is refused."""

    id: int | None = None
    title: str = "Enquiry"
    body: str = ""
    registered_at: int | None = None
    bookkeeping: bool = False


class Submission(Child):
    """A form submission, with the address that was filled in. It belongs to no person, or to one who may by
    now be known by another address.
    """

    email: str
    person: int | None = None


class Person(Stated):
    """A person in SuperOffice; a number of children stands for that many plain ones."""

    id: int | None = None
    name: str = ""
    email: str | None = None
    additional_emails: tuple[str, ...] = ()
    phones: tuple[str, ...] = ()
    consents: tuple[str, ...] = ()
    created_at: int | None = None
    retired: bool = False
    """A former employee of the company that they were a contact of."""
    associate: bool = False
    """A user of the system, whose deletion is refused."""
    tickets: int | tuple[Child, ...] = ()
    form_submissions: int | tuple[Child, ...] = ()
    chats: int | tuple[Child, ...] = ()
    appointments: int | tuple[Child, ...] = ()
    documents: int | tuple[Child, ...] = ()
    sales: int | tuple[Child, ...] = ()


class SuperOfficeSeed(Stated):
    context: str = "Cust12345"
    subdomain: str = "online3"
    app_token: str = "sandbox-app-token"  # noqa: S105 - opens nothing but a sandbox
    system_token: str | None = None
    public_key: str | None = None
    running: bool = True
    retain_deleted: timedelta = timedelta(days=14)
    ticket_life: timedelta = timedelta(hours=6)
    page: Annotated[int, Field(ge=1)] = 50
    time_zone: str = "Europe/Stockholm"
    """The tenant's base zone, in which times are shown to whom doesn't ask for another."""
    quote_escape: Literal["backslash", "double"] = "backslash"
    webhook: Webhook | None = None
    persons: tuple[Person, ...] = ()
    submissions: tuple[Submission, ...] = ()


class Contact(Stated):
    id: int | None = None
    email: str
    additional_emails: tuple[str, ...] = ()
    properties: dict[str, str] = {}
    created_at: int | None = None
    associations: dict[Literal["tickets", "notes", "calls", "deals"], tuple[int, ...]] = {}


class HubSpotSeed(Stated):
    portal: int = 1234567
    token: str = "sandbox-hubspot-token"  # noqa: S105 - opens nothing but a sandbox
    secondary_lookup: bool = True
    purge: timedelta = timedelta(days=30)
    search_lag: timedelta = timedelta(seconds=5)
    webhook: Webhook | None = None
    scopes: tuple[str, ...] = (
        "crm.objects.contacts.read",
        "crm.objects.contacts.write",
        "communication_preferences.read_write",
        "crm.objects.deals.read",
        "tickets",
        "oauth",
    )
    contacts: tuple[Contact, ...] = ()


class Visitor(Stated):
    """Somebody seen by Analytics; `email` and `phone` tell `holds` who it is: Google doesn't know them."""

    client_id: str | None = None
    user_id: str | None = None
    app_instance_id: str | None = None
    provided: tuple[str, ...] = ()
    email: str | None = None
    phone: str | None = None


class ServiceAccount(Stated):
    """`public_key` None leaves assertions unverified; `properties` None allows all."""

    email: str
    public_key: str | None = None
    properties: tuple[str, ...] | None = None


class GoogleSeed(Stated):
    property: str = "987654321"
    name: str = "smartdok.example"
    daily_quota: Annotated[int, Field(ge=0)] = 500
    purge: timedelta = timedelta(days=63)
    service_accounts: tuple[ServiceAccount, ...] = ()
    visitors: tuple[Visitor, ...] = ()


class Candidate(Stated):
    id: int | None = None
    email: str
    name: str = ""
    created_at: int | None = None


class TeamtailorSeed(Stated):
    company: str = "company-1"
    name: str = "Sandbox recruitment"
    token: str = "sandbox-teamtailor-token"  # noqa: S105 - opens nothing but a sandbox
    api_versions: tuple[str, ...] = ("20240404", "20210218")
    webhook: Webhook | None = None
    candidates: tuple[Candidate, ...] = ()


class AgencySeed(Stated):
    """An agency that reads mail; `answer` None never answers."""

    name: str
    address: str
    answer: Literal["erased", "nothing_held", "retained", "refused"] | None = "erased"
    legal_basis: str | None = None
    retained_until: str | None = None
    reason: str | None = None
    delay: timedelta = timedelta(days=2)
    ignores: Annotated[int, Field(ge=0)] = 0
    scans: bool = True
    teamtailor_company: str | None = None
    candidates: tuple[Candidate, ...] = ()


class ControllerSeed(Stated):
    """A controller, or an agency that speaks OpenDSR. A controller without `instruction` never answers.

    An agency signs all that it says; `says` stands in its extension when it is done. `certificate` and
    `signature` are how it can get that wrong.
    """

    tenant: str
    token: str | None = "sandbox-controller-token"  # noqa: S105 - opens nothing but a sandbox
    controller_id: str = "controller-1"
    role: Literal["controller", "agency"] = "controller"
    instruction: Literal["erase", "refuse"] | None = None
    reason: str | None = None
    delay: timedelta = timedelta(hours=1)
    ignores: Annotated[int, Field(ge=0)] = 0
    callback_headers: dict[str, str] = {}
    says: dict[str, str] | None = None
    certificate: Literal["good", "expired", "other_domain", "other_authority"] = "good"
    signature: Literal["good", "wrong", "missing"] = "good"
    candidates: tuple[Candidate, ...] = ()


class Identity(Stated):
    type: str
    value: str


class TenantChild(Stated):
    id: str
    type: str


class TenantRecord(Stated):
    id: str
    type: str = "user"
    identities: tuple[Identity, ...]
    children: tuple[TenantChild, ...] = ()
    person: str | None = None
    created_at: int | None = None


class TenantSeed(Stated):
    tenant: str
    token: str = "sandbox-tenant-token"  # noqa: S105 - opens nothing but a sandbox
    records: tuple[TenantRecord, ...] = ()


class Seed(Stated):
    """All of it; each vendor's part may be one or several."""

    superoffice: SuperOfficeSeed | tuple[SuperOfficeSeed, ...] = ()
    hubspot: HubSpotSeed | tuple[HubSpotSeed, ...] = ()
    google: GoogleSeed | tuple[GoogleSeed, ...] = ()
    teamtailor: TeamtailorSeed | tuple[TeamtailorSeed, ...] = ()
    agencies: tuple[AgencySeed, ...] = ()
    controllers: tuple[ControllerSeed, ...] = ()
    tenants: tuple[TenantSeed, ...] = ()
