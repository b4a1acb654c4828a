"""An installation against the stand-ins, like the demonstration's, with every wait short."""

from pathlib import Path

from handlers.sandbox import testing
from tests.integration.processes import Vendors

DOMAIN = "radera.controller.example"
DPO = "dpo@controller.example"
SENDER = "radera@controller.example"
NORD = "radering@agency-nord.example"
SYD = "erasure@agency-syd.example"
CONTROL = "control@controller.example"

_TEXT = """\
[installation]
name = "Controller AB"
domain = "{domain}"
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
sender = "{sender}"
retry_first = "PT0.3S"
retry_cap = "PT1S"

[retry]
first = "PT0.3S"
cap = "PT1S"
max_attempts = {max_attempts}

[waits]
party_reminder = "PT3S"
max_reminders = 50

[worker]
concurrency = 16

[log]
level = "{log_level}"
format = "json"

[systems.superoffice]
kind = "superoffice"
look_again = []
tenant = "Cust12345"
url = "{vendors}/superoffice"
client_secret = {{ file = "{secrets}/superoffice-app" }}
system_user_token = {{ file = "{secrets}/superoffice-user" }}
private_key = {{ file = "{secrets}/private-key.pem" }}
login_certificate = {{ file = "{secrets}/superoffice-login.pem" }}
control_email = "{control}"
retain_deleted = "PT1S"
calls_per_second = 100

[systems.hubspot]
kind = "hubspot"
after = ["superoffice"]
look_again = ["PT0.5S"]
portal_id = 1234567
url = "{vendors}/hubspot"
token = {{ file = "{secrets}/hubspot" }}
control_email = "{control}"
calls_per_ten_seconds = 190

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
address = "{nord}"
remind_after = "PT3S"

[systems.agency_syd]
kind = "recruitment"
look_again = []
channel = "mail"
language = "en"
address = "{syd}"

[systems.tenant_byggab]
kind = "tenant"
look_again = []
tenant = "byggab"
api_url = "{vendors}/tenant-api/byggab"
api_token = {{ file = "{secrets}/tenant-api" }}
controller_url = "{vendors}/controllers/byggab"
controller_token = {{ file = "{secrets}/controller" }}
allow_private_address = true
control_email = "{control}"
remind_after = "PT3S"
"""

#: The accounts, before any person: everybody answers soon, and what is erased is soon purged, but by Google,
#: which takes two months as in life.
ACCOUNTS = {
    "superoffice": {
        "retain_deleted": "PT1S",
        "system_token": testing.SYSTEM_TOKEN,
        "persons": [{"name": "Control Record", "email": CONTROL}],
    },
    "hubspot": {"purge": "PT1S", "contacts": [{"email": CONTROL}]},
    "google": {"daily_quota": 100_000},
    "agencies": [
        {"name": "Nord", "address": NORD, "answer": "erased", "delay": "PT0.5S"},
        {"name": "Syd", "address": SYD, "answer": "refused", "reason": "not_responsible", "delay": "PT0.5S"},
    ],
    "controllers": [{"tenant": "byggab", "instruction": "erase", "delay": "PT0.5S"}],
    "tenants": [
        {
            "tenant": "byggab",
            "records": [{"id": "user-0", "identities": [{"type": "email", "value": CONTROL}]}],
        }
    ],
}


def open_accounts(vendors: Vendors) -> None:
    """Makes the accounts at the stand-ins, with the keys that our own side signs with."""
    google = {
        **ACCOUNTS["google"],  # type: ignore[dict-item] # plain JSON, of several shapes
        "service_accounts": [
            {"email": testing.SERVICE_ACCOUNT, "public_key": testing.partner_public_pem()},
        ],
    }
    superoffice = {
        **ACCOUNTS["superoffice"],  # type: ignore[dict-item] # plain JSON, too
        "public_key": testing.partner_public_pem(),
    }
    vendors.seed({**ACCOUNTS, "google": google, "superoffice": superoffice})


def write_settings(
    directory: Path,
    vendors: Vendors,
    *,
    http_port: int,
    log_level: str = "info",
    max_attempts: int = 30,
) -> Path:
    """Writes the settings and the secrets below `directory`; gives the settings file."""
    secrets = directory / "secrets"
    secrets.mkdir(mode=0o700)
    for name, text in {
        "superoffice-app": testing.APP_TOKEN,
        "superoffice-user": testing.SYSTEM_TOKEN,
        "superoffice-login.pem": vendors.public_key(),
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
        _TEXT.format(
            http_port=http_port,
            smtp_port=vendors.smtp_port,
            vendors=f"http://127.0.0.1:{vendors.port}",
            secrets=secrets,
            domain=DOMAIN,
            dpo=DPO,
            sender=SENDER,
            control=CONTROL,
            nord=NORD,
            syd=SYD,
            log_level=log_level,
            max_attempts=max_attempts,
        )
    )
    return file
