"""A workbench for the handlers' contract tests: stand-ins, handlers as configured, and tasks for them."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from handlers.confirming import confirm_callback
from handlers.google_analytics import GoogleAnalytics, GoogleAnalyticsSettings
from handlers.hubspot import HubSpot
from handlers.hubspot_records import HubSpotSettings
from handlers.port import CallbackBody, Reference, Task, pack_references, unpack_references
from handlers.recruitment import Recruitment, RecruitmentSettings
from handlers.registry import Context
from handlers.results import Received, Result
from handlers.sandbox import Sandbox
from handlers.sandbox.testing import (
    ORIGIN,
    SERVICE_ACCOUNT,
    SYSTEM_TOKEN,
    Clock,
    partner_private_pem,
    partner_public_pem,
    service_account_json,
)
from handlers.superoffice import SuperOffice
from handlers.superoffice_settings import SuperOfficeSettings
from handlers.tenant import Tenant, TenantSettings
from orchestrator.http import Clients
from orchestrator.privacy import Digests, Identifier, Identifiers, PartyLinks
from orchestrator.smtp import Leave, MailDeferred, always
from schemas.messages import Callback, Confirmation, Verb

ANNA = "anna@example.com"
REQUEST = "0b7c8f5e-3f5d-4c7e-9a51-6f0c2d1e4a77"
HOUR = 3_600_000_000
DAY = 24 * HOUR
PUBLIC = "https://radera.example.com"
DIGEST_KEY = bytes(range(32))


async def at_once(function: Any, *args: Any) -> None:
    function(*args)


class Bench:
    """Stand-ins with one account of each vendor, and whatever a test asks for around them."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.said: list[tuple[str, bytes, Mapping[str, str]]] = []
        self.mails: list[EmailMessage] = []
        self.mail_fails: list[Exception] = []
        self.mail_lost: list[bool] = []
        self.before_mail: Callable[[], None] = lambda: None
        self.sandbox = Sandbox(
            clock=self.clock, sleep=self.clock.sleep, deliver=self._deliver, monotonic=time.monotonic
        )
        self.clients = Clients(clock=self.clock, steady=self.clock, transport=self.sandbox.transport())
        self.links = PartyLinks(DIGEST_KEY)
        self._folder = folder
        self._attempt = 0
        self.sandbox.seed(
            {
                "superoffice": {"public_key": partner_public_pem(), "system_token": SYSTEM_TOKEN},
                "google": {
                    "service_accounts": [{"email": SERVICE_ACCOUNT, "public_key": partner_public_pem()}]
                },
            }
        )

    async def _deliver(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        if method == "POST":
            self.said.append((url, body, headers))
        return 200

    def send(self, message: EmailMessage, recipient: str, may_send: Leave = always) -> None:
        """The mailer's part: hands the mail to the stand-ins' mailroom."""
        self.before_mail()
        may_send()
        if self.mail_fails:
            raise self.mail_fails.pop(0)
        self.mails.append(message)
        self.sandbox.accept_mail(message.as_bytes(), [recipient])
        if self.mail_lost and self.mail_lost.pop(0):
            raise MailDeferred("lost")

    def secret(self, name: str, value: str) -> dict[str, str]:
        """A secret by reference, in a file."""
        path = self._folder / name
        path.write_text(value)
        return {"file": str(path)}

    def context(self, system: str, **more: Any) -> Context:
        return Context(
            system=system,
            clock=self.clock,
            clients=self.clients,
            public_url=PUBLIC,
            time_zone="Europe/Helsinki",
            controller="SmartDok Sverige AB",
            domain="radera.example.com",
            sender="dsr@radera.example.com",
            links=self.links,
            correlate=Digests(DIGEST_KEY).correlation,
            mailer=self,
            run_blocking=at_once,
            **more,
        )

    # --- handlers, as a settings file would have them

    def superoffice(self, **changed: Any) -> SuperOffice:
        settings = {
            "tenant": "Cust12345",
            "url": f"{ORIGIN}/superoffice",
            "client_secret": self.secret("app", "sandbox-app-token"),
            "system_user_token": self.secret("user", SYSTEM_TOKEN),
            "private_key": self.secret("private", partner_private_pem()),
            "login_certificate": self.secret("public", self.sandbox.public_key()),
            "webhook_secret": self.secret("hook", "hook-secret"),
            "calls_per_second": 100,
            **changed,
        }
        return SuperOffice(SuperOfficeSettings.model_validate(settings), self.context("superoffice"))

    def hubspot(self, **changed: Any) -> HubSpot:
        settings = {
            "portal_id": 1234567,
            "url": f"{ORIGIN}/hubspot",
            "token": self.secret("hubspot", "sandbox-hubspot-token"),
            "calls_per_ten_seconds": 190,
            **changed,
        }
        return HubSpot(HubSpotSettings.model_validate(settings), self.context("hubspot"))

    def google(self, *kin: Mapping[str, Any], **changed: Any) -> GoogleAnalytics:
        """The handler for a property, beside others that differ from it in what is said of them."""
        settings = {
            "property": "987654321",
            "site": "smartdok.example",
            "url": f"{ORIGIN}/google",
            "token_url": f"{ORIGIN}/google/token",
            "service_account": self.secret("google", service_account_json()),
            **changed,
        }
        return GoogleAnalytics(
            GoogleAnalyticsSettings.model_validate(settings), self.context("ga", kin=self._kin(settings, kin))
        )

    def _kin(self, settings: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {
            f"ga{number}": GoogleAnalyticsSettings.model_validate({**settings, **other})
            for number, other in enumerate(others, 2)
        }

    def agency(self, **changed: Any) -> Recruitment:
        settings = {"channel": "mail", "address": "gdpr@agency.example", **changed}
        return Recruitment(RecruitmentSettings.model_validate(settings), self.context("agency"))

    def teamtailor(self, **changed: Any) -> Recruitment:
        return self.agency(
            **{
                "channel": "teamtailor",
                "url": f"{ORIGIN}/teamtailor",
                "company": "company-1",
                "token": self.secret("teamtailor", "sandbox-teamtailor-token"),
                "webhook_secret": self.secret("tt-hook", "tt-secret"),
                **changed,
            }
        )

    def tenant(self, **changed: Any) -> Tenant:
        settings = {
            "tenant": "bygg",
            "api_url": f"{ORIGIN}/tenant-api/bygg",
            "api_token": self.secret("tenant", "sandbox-tenant-token"),
            "controller_url": f"{ORIGIN}/controllers/bygg",
            "controller_token": self.secret("controller", "sandbox-controller-token"),
            "allow_private_address": True,
            **changed,
        }
        return Tenant(TenantSettings.model_validate(settings), self.context("tenant-bygg"))

    # --- tasks

    def task(
        self,
        verb: Verb,
        *identifiers: Identifier,
        references: tuple[Reference, ...] = (),
        life: int = 12 * HOUR,
        **more: Any,
    ) -> Task:
        """A task that was issued just now; for Anna, if nobody else is named."""
        self._attempt += 1
        known = identifiers or (Identifier("email", ANNA),)
        stated = {"request_id": REQUEST, "system": "any", "attempt": self._attempt, **more}
        return Task(
            verb=verb,
            identifiers=Identifiers(known),
            references=merged(*references),
            issued_at=self.clock(),
            not_after=self.clock() + life,
            clock=self.clock,
            **stated,
        )

    async def erased(self, handler: Any) -> tuple[Reference, ...]:
        """Locate and erase Anna; the references that the saga would keep."""
        located: Result = await handler.locate(self.task("locate"))
        accepted: Result = await handler.erase(self.task("erase", references=located.references))
        return merged(*located.references, *accepted.references)

    def callback(self, body: bytes, headers: Mapping[str, str], token: str | None = None) -> CallbackBody:
        return CallbackBody(token=token, headers=headers, body=body, received_at=self.clock())

    def confirmed(self, kind: str, received: Received) -> Confirmation:
        """What the worker would publish of a callback."""
        callback = Callback(event_id="callback", kind=kind, received_at=self.clock(), sealed_body=b"sealed")
        return confirm_callback(callback, received, now=self.clock())

    def effects(self, vendor: str, effect: str) -> list[str]:
        """The records on which a vendor had this effect."""
        return [line["record"] for line in self.sandbox.ledger(vendor=vendor, effect=effect)]

    def mail_link(self) -> str:
        """The token in the link of the last mail."""
        return self.link_in(self.mails[-1])

    def link_in(self, mail: EmailMessage) -> str:
        """The token in a mail's link."""
        text = mail.get_content()
        lines = [line.strip() for line in text.splitlines() if line.strip().startswith("https://")]
        assert 1 == len(lines), "the link has a line to itself, and there is one"
        return str(lines[0].rpartition("/")[2])


def merged(*references: Reference) -> tuple[Reference, ...]:
    """As the worker gives them to a handler: each record once, with the marks of all its mentions."""
    return unpack_references(*(pack_references((one,)) for one in references))


def posted(url: str, body: bytes) -> tuple[str, dict[str, Any]]:
    """A callback's token and its JSON."""
    return url.rpartition("/")[2], json.loads(body)
