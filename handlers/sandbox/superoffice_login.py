"""Who may speak to SuperOffice: where a tenant is, the system user's signed token, and tickets.

The system user proves itself with `token.YYYYMMDDHHmm.signature`: RSA-SHA256 over what stands before the
last dot, by the key whose public half was seeded. The time is UTC and may be `CLOCK_SKEW` off. As at
SuperOffice a refusal is a 200 with `IsSuccessful: false`.
"""

import base64
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from handlers.sandbox import odata
from handlers.sandbox.signing import jwks, jwt, verified
from handlers.sandbox.store import Row, Store
from handlers.sandbox.web import Call, Reply, document, moment, rfc3339

CLAIM = "http://schemes.superoffice.net/identity/"
ACCOUNT = "superoffice.account"
TICKET = "superoffice.login"
HOUR = 3_600_000_000
CLOCK_SKEW = HOUR // 4
ELSEWHERE = "Cust00000"
SLIDE = 60_000_000  # a ticket's last use is written once a minute: enough for hours, and it spares the disk


class Login:
    def __init__(self, store: Store, key: RSAPrivateKey) -> None:
        self._store = store
        self._key = key

    def keys(self) -> dict[str, Any]:
        return jwks(self._key)

    def _account(self, context: str) -> Row | None:
        return self._store.get(ACCOUNT, context)

    def state(self, call: Call, context: str) -> Reply:
        account = self._account(context)
        if account is None:
            raise odata.error(404, "SoNotFoundException", "The tenant was not found.")
        if call.elsewhere:
            account = {**account, "id": ELSEWHERE}
        content = {
            "ContextIdentifier": account["id"],
            "Endpoint": f"{call.origin}/superoffice/{account['subdomain']}",
            "State": "Running" if account["running"] else "Suspended",
            "IsRunning": account["running"],
            "ValidUntil": rfc3339(call.now + HOUR),
            "Api": f"{call.origin}/superoffice/{account['subdomain']}/{account['id']}/api",
            "Version": "10.3.6",
        }
        return document(200, content)

    def authenticate(self, call: Call) -> Reply:
        asked = call.json()
        names = ("SignedSystemToken", "ApplicationToken", "ContextIdentifier", "ReturnTokenType")
        if asked is None or any(not isinstance(asked.get(name), str) for name in names):
            raise odata.error(
                400, "SoArgumentException", f"The body is a JSON object with the texts {', '.join(names)}."
            )
        if asked["ReturnTokenType"].upper() != "JWT":
            raise odata.error(400, "SoArgumentException", "This stand-in returns tokens of type JWT alone.")
        account = self._account(asked["ContextIdentifier"])
        refused = self._objection(asked, account, call.now)
        if refused is not None or account is None:
            return document(200, {"IsSuccessful": False, "Token": None, "ErrorMessage": refused})
        context = ELSEWHERE if call.elsewhere else account["id"]
        ticket = f"7T:sandbox{self._store.number(TICKET):08d}=="
        self._store.put(TICKET, ticket, {"id": ticket, "account": account["id"], "used_at": call.now})
        claims = {
            "iss": "https://online.superoffice.com",
            "aud": "spn:sandbox",
            "sub": "system-user",
            "iat": call.now // 1_000_000,
            "nbf": call.now // 1_000_000 - 300,
            "exp": call.now // 1_000_000 + 300,
            f"{CLAIM}ticket": ticket,
            f"{CLAIM}ctx": context,
            f"{CLAIM}webapi_url": f"{call.origin}/superoffice/{account['subdomain']}/{context}/api/",
        }
        return document(200, {"IsSuccessful": True, "Token": jwt(self._key, claims), "ErrorMessage": None})

    def _objection(self, asked: dict[str, Any], account: Row | None, now: int) -> str | None:
        if account is None:
            return "The context is unknown."
        if asked["ApplicationToken"] != account["app_token"]:
            return "The application token is unknown."
        signed, _, signature = asked["SignedSystemToken"].rpartition(".")
        token, _, stamp = signed.rpartition(".")
        if account["system_token"] not in (None, token) or not token:
            return "The system user's token is unknown."
        try:
            stated = datetime.strptime(stamp, "%Y%m%d%H%M").replace(tzinfo=UTC)
            signature_bytes = base64.b64decode(signature, validate=True)
        except ValueError:
            return "The signed token is malformed: token.YYYYMMDDHHmm.signature."
        if abs((moment(now) - stated).total_seconds()) * 1_000_000 > CLOCK_SKEW:
            return "The signed token's time is too far from now."
        if account["public_key"] is not None and not verified(
            account["public_key"], signed.encode(), signature_bytes
        ):
            return "The signature does not verify."
        return None

    def admit(self, call: Call, subdomain: str, context: str) -> Row:
        """The account that the caller may speak for, or a refusal."""
        account = self._account(context)
        if account is None and call.elsewhere:
            account = next(iter(self._store.rows(ACCOUNT)), None)
        if account is None and context == ELSEWHERE:
            raise odata.error(401, "SoSessionException", "The ticket belongs to another tenant.")
        if account is None:
            raise odata.error(404, "SoNotFoundException", "The tenant was not found.")
        if subdomain != account["subdomain"]:
            raise odata.error(
                421, "SoMisdirectedException", "The tenant does not live here; ask the state endpoint again."
            )
        scheme, _, ticket = call.headers.get("authorization", "").partition(" ")
        login = self._store.get(TICKET, ticket) if scheme.lower() == "soticket" else None
        if login is None or login["account"] != account["id"]:
            raise odata.error(401, "SoSessionException", "The ticket is missing or unknown.")
        if call.now - login["used_at"] >= account["ticket_life"]:
            self._store.drop(TICKET, ticket)
            raise odata.error(401, "SoSessionException", "The ticket has expired.")
        if call.headers.get("so-apptoken") != account["app_token"]:
            raise odata.error(403, "SoSessionException", "The application token is missing or wrong.")
        if call.now - login["used_at"] > min(SLIDE, account["ticket_life"] // 10):
            self._store.put(TICKET, ticket, {**login, "used_at": call.now})
        return {**account, "id": ELSEWHERE} if call.elsewhere else account

    def check_unmodified(self, call: Call, updated_at: int) -> None:
        stated = call.headers.get("if-unmodified-since")
        if stated is None:
            return
        try:
            until = parsedate_to_datetime(stated)
        except ValueError:
            raise odata.error(
                400, "SoArgumentException", "If-Unmodified-Since is not an HTTP date."
            ) from None
        if moment(updated_at).replace(microsecond=0) > until:
            raise odata.error(412, "SoPreconditionException", "The record has changed since.")
