"""A Google service account's access token: a signed assertion, exchanged at the token endpoint (RFC 7523)."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from handlers.port import Clock, Permanent, Retryable
from handlers.times import SECOND
from orchestrator.http import Client
from orchestrator.secret import SecretRef

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LIFE = 3600
MARGIN = 60 * SECOND


@dataclass(slots=True)
class ServiceAccount:
    """Vouches for calls with a token that it renews before it ends, and when it is refused."""

    endpoint: Client
    clock: Clock
    key: SecretRef
    """The service account's key as Google hands it out: JSON with `client_email` and `private_key`."""
    audience: str
    scope: str
    _token: str | None = field(default=None, repr=False)
    _ends_at: int = 0
    _lock: anyio.Lock = field(default_factory=anyio.Lock, repr=False)

    async def headers(self) -> Mapping[str, str]:
        async with self._lock:
            if self._token is None or self.clock() >= self._ends_at - MARGIN:
                await self._fetch()
            return {"Authorization": f"Bearer {self._token}"}

    async def renew(self) -> bool:
        async with self._lock:
            await self._fetch()
            return True

    async def _fetch(self) -> None:
        now = self.clock()
        form = {"grant_type": GRANT, "assertion": self._assertion(now // SECOND)}
        answer = await self.endpoint.call("POST", self.audience, data=form, accept=frozenset({400, 401}))
        if answer.status in (400, 401):
            raise Permanent("credentials_refused")
        content = answer.object()
        token, life = content.get("access_token"), content.get("expires_in")
        if not isinstance(token, str) or not isinstance(life, int):
            raise Retryable("malformed_answer")
        self._token, self._ends_at = token, now + life * SECOND

    def _assertion(self, now: int) -> str:
        try:
            account = json.loads(self.key.read())
            issuer, pem = account["client_email"], account["private_key"]
            key = serialization.load_pem_private_key(pem.encode(), None)
        except (ValueError, KeyError, TypeError, AttributeError, UnsupportedAlgorithm):
            raise Permanent("service_account_key_unusable") from None
        if not isinstance(key, rsa.RSAPrivateKey):
            raise Permanent("service_account_key_unusable")
        claims = {"iss": issuer, "scope": self.scope, "aud": self.audience, "iat": now, "exp": now + LIFE}
        signed = f"{_part({'alg': 'RS256', 'typ': 'JWT'})}.{_part(claims)}"
        signature = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_unpadded(signature)}"


def _part(content: dict[str, Any]) -> str:
    return _unpadded(json.dumps(content, separators=(",", ":")).encode())


def _unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
