"""The settings of a SuperOffice tenant.

What SuperOffice doesn't document is a setting: how a quote in a filter is escaped, and the column with a
sale's date.
"""

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from handlers.registry import HandlerSettings
from orchestrator.secret import SecretRef
from orchestrator.settings.values import Duration, Line
from schemas.messages import Token


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
Missing = Literal["submissions", "tickets", "appointments", "documents", "sales"]


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
    """The address of a person planted in the tenant, who must be found before an absence counts. With a quote
    in it, it shows that `quote_escape` is right, too.
    """
    retain_deleted: Duration = timedelta(days=14)
    """The tenant's "Retain deleted data": how long a deleted person or request lies in the recycle bin.
    `radera systems check` compares it with the oldest row there.
    """
    newsletter_purpose: str | None = "EMARKETING"
    """The consent to withdraw before the deletion; none to leave consents alone."""
    without: tuple[Missing, ...] = ()
    """What the tenant does not have: "submissions" (no forms), "tickets" (no service module), "appointments",
    "documents" or "sales". It is not asked for, and reported as not looked at.
    """
    submissions_archive: str | None = "FormSubmission"
    """The archive that lists form submissions."""
    chats_archive: str | None = None
    """The archive that lists chat sessions, "FindChatSession"; none where the tenant has no chat, which is
    reported.
    """
    chats_key: str = "chatSessionId"
    """The column with a chat session's number."""
    ambiguous: Literal["all", "ask"] = "ask"
    """Several persons with one address: ask the DPO, who decides for all of them, or erase all of them. About
    a person with other addresses only, to whom a record leads, the DPO is always asked.
    """
    clock_skew: Duration = timedelta(minutes=5)
    """How far SuperOffice's clock and ours may differ: a record made within it of the erasure may be new, and
    the DPO is asked.
    """
    appointments: Fate = "report"
    """A person's appointments (tasks and calls, too): "erase" them, "report" that they are left, or keep them
    with `{ legal_basis = "…", reason = "…" }`."""
    documents: Fate = "report"
    """A person's documents: likewise."""
    chats: Fate = "report"
    """A person's chat sessions: likewise."""
    sale_date_column: str = "registeredDate"
    """The column of a sale by whose date its fiscal year is known."""
    fiscal_year_end: Annotated[str, Field(pattern=r"^(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$")] = "12-31"
    """The last day of the fiscal year, as MM-DD."""
    quote_escape: Literal["backslash", "double"] = "backslash"
    """How a quote within a filter's text is written: with a backslash before it, or twice."""
    calls_per_second: Annotated[int, Field(ge=1, le=100)] = 5
    """SuperOffice throttles, and publishes no number."""
