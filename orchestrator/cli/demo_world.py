"""The demonstration's world: made-up people in the stand-ins, the settings that reach them, and the stories
to tell.

The people, companies and addresses are invented; `example` domains can't be registered (RFC 2606).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from handlers.sandbox import testing
from schemas.messages import Language

DPO = "dpo@controller.example"


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One request: what it shows, whom it is about, and where it should lead.

    `ends` is the outcome that tells that the story is over: "completed", or "escalated" where the DPO has
    to decide.
    """

    title: str
    identifiers: tuple[tuple[str, str], ...] = field(repr=False)
    scope: tuple[str, ...]
    ends: Literal["completed", "escalated"] = "completed"
    tenant: str | None = None
    language: Language = "en"


STORIES = (
    Story(
        title="erased everywhere",
        identifiers=(("email", "anna.berg@people.example"), ("ga_client_id", "GA1.1.1111111111.1699999999")),
        scope=("superoffice", "hubspot", "web_analytics", "agency_nord", "survey"),
        language="sv",
    ),
    Story(
        title="nothing held in SuperOffice",
        identifiers=(("email", "bo.dahl@people.example"),),
        scope=("superoffice", "hubspot"),
    ),
    Story(
        title="HubSpot answers 429 twice",
        identifiers=(("email", "cilla.ek@people.example"),),
        scope=("hubspot",),
    ),
    Story(
        title="a sale is kept under bookkeeping law",
        identifiers=(("email", "david.falk@people.example"),),
        scope=("superoffice", "hubspot"),
        language="sv",
    ),
    Story(
        title="no Google client id",
        identifiers=(("email", "eva.gran@people.example"),),
        scope=("hubspot", "web_analytics"),
    ),
    Story(
        title="a controller answers late",
        identifiers=(("email", "frank.holm@people.example"),),
        scope=("tenant_byggab",),
        tenant="byggab",
        language="nb",
    ),
    Story(
        title="an agency refuses",
        identifiers=(("email", "greta.idh@people.example"),),
        scope=("hubspot", "agency_syd"),
        ends="escalated",
    ),
)

#: What the stand-ins hold at the beginning.
SEED: dict[str, Any] = {
    "superoffice": {
        "retain_deleted": "PT6S",
        "system_token": testing.SYSTEM_TOKEN,
        "public_key": testing.partner_public_pem(),
        "persons": [
            {
                "name": "Anna Berg",
                "email": "anna.berg@people.example",
                "consents": ["EMARKETING"],
                "tickets": 2,
                "form_submissions": 1,
            },
            {
                "name": "David Falk",
                "email": "david.falk@people.example",
                "tickets": 1,
                "sales": [{"title": "Order 1001", "bookkeeping": True}],
            },
            {"name": "Control Record", "email": "control@controller.example"},
        ],
    },
    "hubspot": {
        "contacts": [
            {"email": f"{name}@people.example"}
            for name in ("anna.berg", "bo.dahl", "cilla.ek", "david.falk", "eva.gran", "greta.idh")
        ]
        + [{"email": "control@controller.example"}],
    },
    "google": {
        "service_accounts": [
            {"email": testing.SERVICE_ACCOUNT, "public_key": testing.partner_public_pem()},
        ],
        "visitors": [{"client_id": "1111111111.1699999999", "email": "anna.berg@people.example"}],
    },
    "agencies": [
        {
            "name": "Nord",
            "address": "radering@agency-nord.example",
            "answer": "erased",
            "delay": "PT1S",
            "candidates": [{"email": "anna.berg@people.example", "name": "Anna Berg"}],
        },
        {
            "name": "Syd",
            "address": "erasure@agency-syd.example",
            "answer": "refused",
            "reason": "not_responsible",
            "delay": "PT1S",
            "candidates": [{"email": "greta.idh@people.example", "name": "Greta Idh"}],
        },
    ],
    "controllers": [{"tenant": "byggab", "instruction": "erase", "delay": "PT7S"}],
    "tenants": [
        {
            "tenant": "byggab",
            "records": [
                {
                    "id": "user-7",
                    "identities": [{"type": "email", "value": "frank.holm@people.example"}],
                    "children": [{"id": "timesheet-1", "type": "timesheet"}],
                },
                {
                    "id": "user-1",
                    "identities": [{"type": "email", "value": "control@controller.example"}],
                },
            ],
        }
    ],
}

#: The faults that the stories need.
FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "429", "vendor": "hubspot", "path": ".*cilla.*", "times": 2, "retry_after": 1},
)

_SETTINGS = """\
# Made by `radera demo`: a small installation against stand-ins on this machine.

[installation]
name = "Controller AB"
domain = "radera.controller.example"
public_url = "http://127.0.0.1:{http_port}"
language = "en"

[http]
port = {http_port}

[dpo]
address = "{dpo}"

[smtp]
host = "127.0.0.1"
port = {smtp_port}
security = "none"
sender = "radera@controller.example"

[retry]
first = "PT1S"
cap = "PT10S"

[waits]
party_reminder = "PT3S"

[systems.superoffice]
kind = "superoffice"
look_again = []
tenant = "Cust12345"
url = "{vendors}/superoffice"
client_secret = {{ file = "{secrets}/superoffice-app" }}
system_user_token = {{ file = "{secrets}/superoffice-user" }}
private_key = {{ file = "{secrets}/private-key.pem" }}
login_certificate = {{ file = "{secrets}/superoffice-login.pem" }}
control_email = "control@controller.example"
retain_deleted = "PT6S"
calls_per_second = 100

# The two CRMs sync: the master goes first, or the other would be filled again from it.
[systems.hubspot]
kind = "hubspot"
after = ["superoffice"]
look_again = ["PT2S"]
portal_id = 1234567
url = "{vendors}/hubspot"
token = {{ file = "{secrets}/hubspot" }}
control_email = "control@controller.example"

[systems.web_analytics]
kind = "google_analytics"
look_again = []
url = "{vendors}/google"
token_url = "{vendors}/google/token"
service_account = {{ file = "{secrets}/google.json" }}
property = "987654321"

[systems.agency_nord]
kind = "recruitment"
look_again = []
channel = "mail"
address = "radering@agency-nord.example"

[systems.agency_syd]
kind = "recruitment"
look_again = []
channel = "mail"
language = "en"
address = "erasure@agency-syd.example"

[systems.tenant_byggab]
kind = "tenant"
look_again = []
tenant = "byggab"
api_url = "{vendors}/tenant-api/byggab"
api_token = {{ file = "{secrets}/tenant-api" }}
controller_url = "{vendors}/controllers/byggab"
controller_token = {{ file = "{secrets}/controller" }}
allow_private_address = true
control_email = "control@controller.example"
remind_after = "PT3S"

[systems.survey]
kind = "holds_nothing"
reason = "Customer surveys are anonymous."
"""


def write_settings(
    directory: Path, *, http_port: int, smtp_port: int, vendor_port: int, public_key: str
) -> Path:
    """Writes the settings and the stand-ins' secrets below `directory`; gives the settings file."""
    secrets = directory / "secrets"
    secrets.mkdir(mode=0o700)
    for name, text in {
        "superoffice-app": testing.APP_TOKEN,
        "superoffice-user": testing.SYSTEM_TOKEN,
        "superoffice-login.pem": public_key,
        "private-key.pem": testing.partner_private_pem(),
        "hubspot": "sandbox-hubspot-token",
        "google.json": testing.service_account_json(),
        "tenant-api": "sandbox-tenant-token",
        "controller": "sandbox-controller-token",
    }.items():
        (secrets / name).write_text(text)
        (secrets / name).chmod(0o600)
    file = directory / "radera.toml"
    file.write_text(
        _SETTINGS.format(
            http_port=http_port,
            smtp_port=smtp_port,
            vendors=f"http://127.0.0.1:{vendor_port}",
            secrets=secrets.resolve(),
            dpo=DPO,
        )
    )
    return file
