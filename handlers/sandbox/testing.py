"""What a test or a simulation needs around a sandbox: a clock that moves when told, and credentials.

clock = Clock()
sandbox = Sandbox(clock=clock)
client = await superoffice_client(sandbox)
clock.pass_days(14)
"""

import base64
import functools
import json

import httpx
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from handlers.sandbox.core import Sandbox
from handlers.sandbox.google import EDIT, GRANT
from handlers.sandbox.signing import jwt, public_pem, read_jwt
from handlers.sandbox.superoffice_login import CLAIM
from handlers.sandbox.web import moment

START = 1_788_220_800_000_000
"""2026-09-01T00:00:00Z"""
ORIGIN = "http://sandbox"
SYSTEM_TOKEN = "Sandbox-system-user"  # noqa: S105 - opens nothing but a sandbox
APP_TOKEN = "sandbox-app-token"  # noqa: S105 - opens nothing but a sandbox
SERVICE_ACCOUNT = "radera@sandbox.example"


class Clock:
    """Microseconds UTC that stand still until somebody moves them."""

    def __init__(self, now: int = START) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += int(seconds * 1_000_000)

    def pass_days(self, days: float) -> None:
        self.pass_seconds(days * 86_400)

    async def sleep(self, seconds: float) -> None:
        """For `Sandbox(sleep=…)`: a slow vendor takes no time of ours."""
        self.pass_seconds(seconds)


@functools.cache
def partner_key() -> RSAPrivateKey:
    """Our own side's key, for SuperOffice's system token and Google's assertions; one for the process."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def partner_private_pem() -> str:
    pkcs8 = serialization.PrivateFormat.PKCS8
    return (
        partner_key().private_bytes(serialization.Encoding.PEM, pkcs8, serialization.NoEncryption()).decode()
    )


def partner_public_pem() -> str:
    return public_pem(partner_key())


def service_account_json() -> str:
    """The service account's key file; seed `SERVICE_ACCOUNT` with `partner_public_pem()`."""
    return json.dumps({"client_email": SERVICE_ACCOUNT, "private_key": partner_private_pem()})


def signed_system_token(now: int, token: str = SYSTEM_TOKEN) -> str:
    signed = f"{token}.{moment(now):%Y%m%d%H%M}"
    signature = partner_key().sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{base64.b64encode(signature).decode()}"


async def superoffice_login(sandbox: Sandbox, context: str = "Cust12345") -> tuple[str, dict[str, str]]:
    """Signs in; returns the API's base address and the headers that open it."""
    asked = {
        "SignedSystemToken": signed_system_token(sandbox.clock()),
        "ApplicationToken": APP_TOKEN,
        "ContextIdentifier": context,
        "ReturnTokenType": "JWT",
    }
    async with httpx.AsyncClient(transport=sandbox.transport(), base_url=f"{ORIGIN}/superoffice") as client:
        state = (await client.get(f"/api/state/{context}")).json()
        answer = (await client.post("/Login/api/PartnerSystemUser/Authenticate", json=asked)).json()
    claims = read_jwt(answer["Token"], sandbox.public_key())
    if claims is None:
        raise ValueError("the sandbox's own signature does not verify")
    return state["Api"], {"Authorization": f"SOTicket {claims[f'{CLAIM}ticket']}", "SO-AppToken": APP_TOKEN}


async def superoffice_client(sandbox: Sandbox, context: str = "Cust12345") -> httpx.AsyncClient:
    """A client that is signed in; its paths begin at `/v1`."""
    api, headers = await superoffice_login(sandbox, context)
    return httpx.AsyncClient(transport=sandbox.transport(), base_url=api, headers=headers)


HUBSPOT_TOKEN = "sandbox-hubspot-token"  # noqa: S105 - opens nothing but a sandbox


def hubspot_client(sandbox: Sandbox, token: str = HUBSPOT_TOKEN) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(transport=sandbox.transport(), base_url=f"{ORIGIN}/hubspot", headers=headers)


def google_assertion(now: int, **changed: object) -> str:
    seconds = now // 1_000_000
    audience = "https://oauth2.googleapis.com/token"
    claims = {"iss": SERVICE_ACCOUNT, "aud": audience, "scope": EDIT, "iat": seconds, "exp": seconds + 3600}
    return jwt(partner_key(), {**claims, **changed})


async def google_client(sandbox: Sandbox) -> httpx.AsyncClient:
    """A client with a token; `SERVICE_ACCOUNT` has to be seeded."""
    form = {"grant_type": GRANT, "assertion": google_assertion(sandbox.clock())}
    base = f"{ORIGIN}/google"
    async with httpx.AsyncClient(transport=sandbox.transport(), base_url=base) as client:
        token = (await client.post("/token", data=form)).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(transport=sandbox.transport(), base_url=base, headers=headers)


def teamtailor_client(sandbox: Sandbox, version: str = "20240404") -> httpx.AsyncClient:
    headers = {"Authorization": "Token token=sandbox-teamtailor-token", "X-Api-Version": version}
    return httpx.AsyncClient(transport=sandbox.transport(), base_url=f"{ORIGIN}/teamtailor", headers=headers)
