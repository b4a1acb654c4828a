"""The installation that is simulated: every kind of system, and the settings that reach the stand-ins.

Made once for a process, since nothing in it depends on the seed.
"""

import base64
import functools
import os
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from pydantic import BaseModel

from handlers.registry import settings_models
from handlers.sandbox import testing
from handlers.sandbox.certificates import Authority
from handlers.sandbox.seeds import Seed
from handlers.sandbox.signing import public_pem, signing_key
from orchestrator.privacy import Digests, Keyring, PartyLinks
from orchestrator.privacy.keyfile import Generation, Material
from orchestrator.saga.rules import Rules
from orchestrator.service.rules import rules_of
from orchestrator.settings import Dpo, Installation, Settings, Smtp, System

ORIGIN = "http://sandbox"
PUBLIC = "https://radera.controller.example"
DPO = "dpo@controller.example"
CONTROL = "control@controller.example"
#: The controller's certificate is in force in every world.
CERTIFIED_AT = 1_780_272_000_000_000
_LATER = datetime(2040, 1, 1, tzinfo=UTC)
HOOK_SECRET = "simulated-webhook-secret"

#: Which vendor of the sandbox, and which account there, a system's data lies with.
VENDORS = {
    "superoffice": (("superoffice", "Cust12345"),),
    "hubspot": (("hubspot", "1234567"),),
    "analytics": (("google", "987654321"),),
    "agency_mail": (("agencies", "mail"),),
    "agency_tt": (("teamtailor", "company-1"), ("agencies", "tt")),
    "tenant": (("tenant-api", "byggab"),),
    "survey": (),
}
KINDS = {
    "superoffice": "superoffice",
    "hubspot": "hubspot",
    "analytics": "google_analytics",
    "agency_mail": "recruitment",
    "agency_tt": "recruitment",
    "tenant": "tenant",
}
TENANT = "byggab"


def _secrets() -> dict[str, str]:
    return {
        "SIM_SO_APP": testing.APP_TOKEN,
        "SIM_SO_USER": testing.SYSTEM_TOKEN,
        "SIM_KEY": testing.partner_private_pem(),
        "SIM_SO_LOGIN": public_pem(signing_key(None)),
        "SIM_HOOK": HOOK_SECRET,
        "SIM_HUBSPOT": "sandbox-hubspot-token",
        "SIM_GOOGLE": testing.service_account_json(),
        "SIM_TT": "sandbox-teamtailor-token",
        "SIM_TENANT": "sandbox-tenant-token",
        "SIM_CONTROLLER": "sandbox-controller-token",
        "SIM_CERTIFICATE": Authority(CERTIFIED_AT).issue("sandbox", testing.partner_key(), ends=_LATER),
    }


def _tables() -> dict[str, dict[str, Any]]:
    """The systems as a settings file would have them: (common, own)."""
    return {
        "superoffice": {
            "kind": "superoffice",
            "tenant": "Cust12345",
            "url": f"{ORIGIN}/superoffice",
            "client_secret": {"env": "SIM_SO_APP"},
            "system_user_token": {"env": "SIM_SO_USER"},
            "private_key": {"env": "SIM_KEY"},
            "login_certificate": {"env": "SIM_SO_LOGIN"},
            "webhook_secret": {"env": "SIM_HOOK"},
            "control_email": CONTROL,
            "ambiguous": "ask",
            "appointments": "erase",
            "chats_archive": "FindChatSession",
            "chats": "erase",
            "documents": {"legal_basis": "legal_claims", "reason": "A dispute is open"},
            "calls_per_second": 50,
        },
        "hubspot": {
            "kind": "hubspot",
            "after": ("superoffice",),
            "look_again": (timedelta(days=2),),
            "portal_id": 1234567,
            "url": f"{ORIGIN}/hubspot",
            "token": {"env": "SIM_HUBSPOT"},
            "webhook_secret": {"env": "SIM_HOOK"},
            "control_email": CONTROL,
        },
        "analytics": {
            "kind": "google_analytics",
            "property": "987654321",
            "service_account": {"env": "SIM_GOOGLE"},
            "url": f"{ORIGIN}/google",
            "token_url": f"{ORIGIN}/google/token",
            "asks_subject": True,
        },
        "agency_mail": {"kind": "recruitment", "channel": "mail", "address": "mail@agency.example"},
        "agency_tt": {
            "kind": "recruitment",
            "channel": "teamtailor",
            "address": "tt@agency.example",
            "language": "en",
            "token": {"env": "SIM_TT"},
            "company": "company-1",
            "control_email": CONTROL,
            "webhook_secret": {"env": "SIM_HOOK"},
            "url": f"{ORIGIN}/teamtailor",
        },
        "tenant": {
            "kind": "tenant",
            "tenant": TENANT,
            "api_url": f"{ORIGIN}/tenant-api/{TENANT}",
            "api_token": {"env": "SIM_TENANT"},
            "controller_url": f"{ORIGIN}/controllers/{TENANT}",
            "controller_token": {"env": "SIM_CONTROLLER"},
            "callback_certificate": {"env": "SIM_CERTIFICATE"},
            "allow_private_address": True,
            "control_email": CONTROL,
        },
        "survey": {"kind": "holds_nothing", "reason": "Surveys are anonymous."},
    }


@functools.cache
def settings() -> Settings:
    os.environ.update(_secrets())
    models = settings_models()
    systems: dict[str, System] = {}
    for name, table in _tables().items():
        common = {key: value for key, value in table.items() if key in System.model_fields}
        own = {key: value for key, value in table.items() if key not in common}
        model = models.get(common["kind"])
        systems[name] = System(**common, own=model.model_validate(own) if model is not None else None)
    return Settings(
        installation=Installation(
            name="Controller AB", domain="radera.controller.example", public_url=PUBLIC, language="en"
        ),
        dpo=Dpo(address=DPO),
        smtp=Smtp(host="mail.controller.example", sender="radera@controller.example"),
        systems=systems,
    )


@functools.cache
def kin(name: str) -> dict[str, BaseModel]:
    """The own settings of the other systems of the same kind."""
    mine = settings().systems[name].kind
    return {
        other: system.own
        for other, system in settings().systems.items()
        if other != name and system.kind == mine and system.own is not None
    }


def signature(body: bytes) -> str:
    """The controller's, of what it calls back with."""
    made = testing.partner_key().sign(body, padding.PKCS1v15(), hashes.SHA256())
    return base64.b64encode(made).decode()


@functools.cache
def rules() -> Rules:
    return rules_of(settings())


@functools.cache
def material() -> Material:
    """Made-up master keys, with which every run begins."""
    return Material(b"d" * 32, (Generation(1, CERTIFIED_AT, b"m" * 32),), installation="simulated")


@functools.cache
def keyring() -> Keyring:
    """These keys, where nothing changes them."""
    return Keyring(material())


@functools.cache
def digests() -> Digests:
    return Digests(material().digest_key)


@functools.cache
def links() -> PartyLinks:
    return PartyLinks(material().digest_key)


def accounts(now: int) -> Seed:
    """The vendors' accounts, each with its control record."""
    hook = {"secret": HOOK_SECRET}
    long_ago = now - 400 * 86_400_000_000
    return Seed.model_validate(
        {
            "superoffice": {
                "system_token": testing.SYSTEM_TOKEN,
                "public_key": testing.partner_public_pem(),
                "webhook": {**hook, "url": f"{PUBLIC}/callbacks/superoffice"},
                "persons": [{"name": "Control Record", "email": CONTROL, "created_at": long_ago}],
            },
            "hubspot": {
                "webhook": {**hook, "url": f"{PUBLIC}/callbacks/hubspot"},
                "contacts": [{"email": CONTROL, "created_at": long_ago}],
            },
            "google": {
                "service_accounts": [
                    {"email": testing.SERVICE_ACCOUNT, "public_key": testing.partner_public_pem()}
                ]
            },
            "teamtailor": {
                "webhook": {**hook, "url": f"{PUBLIC}/callbacks/recruitment"},
                "candidates": [{"email": CONTROL, "created_at": long_ago}],
            },
            "tenants": [
                {
                    "tenant": TENANT,
                    "records": [
                        {
                            "id": "control-1",
                            "identities": [{"type": "email", "value": CONTROL}],
                            "created_at": long_ago,
                        }
                    ],
                }
            ],
        }
    )
