"""A controller that asks its processor over OpenDSR, and believes nothing that it can't verify.

It does what the specification tells controllers to do, and is as strict as it allows: the certificate comes
from `/discovery`, its address has the processor's own domain, its chain ends at a known authority; every
answer is signed by it, the domain in the header is the one that was asked, and fields that are required are
there. What a processor gets wrong raises `Wrong`.

As the receiver of callbacks it answers 403 to one that it can't verify or that is not about a request of its
own at the address that it gave, 503 for as long as it is `away`, and 202 to all others, which stand in
`heard`.
"""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import verification

from handlers.sandbox.signing import verified
from handlers.sandbox.web import moment, rfc3339

PREFIX = {"2": "X-OpenDSR", "1": "X-OpenGDPR"}
REQUESTS = {"2": "requests", "1": "opengdpr_requests"}
STATUSES = ("pending", "in_progress", "completed", "cancelled")


class Wrong(AssertionError):
    """What the processor got wrong."""


class AskingController:
    """One controller with its token, or without one where `client` shows a certificate. `client` reaches the
    processor; `root` (PEM) is whom it trusts.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        token: str | None,
        root: str,
        clock: Callable[[], int],
        version: str = "2",
        callback: str | None = None,
    ) -> None:
        self._client = client
        self._token = token
        self._root = x509.load_pem_x509_certificate(root.encode())
        self._clock = clock
        self._version = version
        self.callback = callback
        self.asked: set[str] = set()
        self.heard: list[dict[str, Any]] = []
        self.refused: list[str] = []
        self.away = False

    # --- asking

    async def ask(self, id_: str, *identities: tuple[str, str, str], **changed: Any) -> dict[str, Any]:
        """Posts a request for the person with these (type, value, format), and returns the answer's body."""
        reply = await self.post(self.request(id_, *identities, **changed))
        content = await self.checked(reply, 201)
        self._has(content, "controller_id", "expected_completion_time", "received_time", "encoded_request")
        if base64.b64decode(content["encoded_request"]) != reply.request.content:
            raise Wrong("encoded_request is not what was posted")
        return content

    def request(self, id_: str, *identities: tuple[str, str, str], **changed: Any) -> dict[str, Any]:
        """The body of a request."""
        self.asked.add(id_)
        content: dict[str, Any] = {
            "subject_request_id": id_,
            "subject_request_type": "erasure",
            "submitted_time": rfc3339(self._clock()),
            "subject_identities": [
                {"identity_type": type_, "identity_value": value, "identity_format": format_}
                for type_, value, format_ in identities
            ],
            "api_version": f"{self._version}.0",
        }
        if self._version == "2":
            content["regulation"] = "gdpr"
        if self.callback is not None:
            content["status_callback_urls"] = [self.callback]
        return {**content, **changed}

    async def post(self, content: Any, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Posts anything as a request."""
        sent = {**self._headers(), **(headers or {})}
        return await self._client.post(self._path(), json=content, headers=sent)

    async def status(self, id_: str) -> dict[str, Any]:
        content = await self.checked(await self.get(id_), 200)
        self._has(content, "controller_id", "expected_completion_time", "request_status")
        if content["request_status"] not in STATUSES or content["subject_request_id"] != id_:
            raise Wrong("the status is none, or another request's")
        return content

    async def get(self, id_: str) -> httpx.Response:
        return await self._client.get(self._path(id_), headers=self._headers())

    async def cancel(self, id_: str) -> httpx.Response:
        return await self._client.delete(self._path(id_), headers=self._headers())

    def _path(self, *more: str) -> str:
        return "/".join((f"/v{self._version}", REQUESTS[self._version], *more))

    def _headers(self) -> dict[str, str]:
        return {} if self._token is None else {"Authorization": f"Bearer {self._token}"}

    # --- believing

    async def discovery(self) -> dict[str, Any]:
        """What the processor supports; the address of its certificate must be its own."""
        content: dict[str, Any] = (await self._client.get(f"/v{self._version}/discovery")).json()
        self._has(content, "api_version", "supported_identities", "supported_subject_request_types")
        own = self._client.base_url.host
        if urlsplit(str(content.get("processor_certificate"))).hostname != own:
            raise Wrong("the certificate is at another domain")
        return content

    async def certificate(self) -> x509.Certificate:
        """The processor's certificate, in force and issued for its domain by the known authority."""
        place = urlsplit((await self.discovery())["processor_certificate"])
        chain = x509.load_pem_x509_certificates((await self._client.get(place.path)).content)
        builder = verification.PolicyBuilder().store(verification.Store([self._root]))
        verifier = builder.time(moment(self._clock())).build_server_verifier(
            x509.DNSName(self._client.base_url.host)
        )
        try:
            verifier.verify(chain[0], chain[1:])
        except verification.VerificationError as error:
            raise Wrong("the certificate can't be trusted") from error
        return chain[0]

    async def checked(self, reply: httpx.Response, status: int) -> dict[str, Any]:
        """The body of an answer with this status, once its signature holds."""
        if reply.status_code != status:
            raise Wrong(f"answered {reply.status_code}, not {status}")
        await self._check(reply.headers, reply.content)
        content: dict[str, Any] = reply.json()
        return content

    async def _check(self, headers: Mapping[str, str], body: bytes) -> None:
        prefix = PREFIX[self._version]
        named = {name.lower(): value for name, value in headers.items()}
        if named.get(f"{prefix}-Processor-Domain".lower()) != self._client.base_url.host:
            raise Wrong("another domain signed")
        key = (await self.certificate()).public_key()
        signature = base64.b64decode(named.get(f"{prefix}-Signature".lower(), ""))
        if not verified(_spki(key), body, signature):
            raise Wrong("the signature does not hold")

    def _has(self, content: dict[str, Any], *names: str) -> None:
        absent = [name for name in names if name not in content]
        if absent:
            raise Wrong(f"missing: {', '.join(absent)}")

    # --- hearing

    async def hear(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """The status for a callback."""
        if self.away:
            return 503
        try:
            await self._check(headers, body)
            said = json.loads(body)
            self._has(said, "controller_id", "expected_completion_time", "request_status")
            if said.get("status_callback_url") != url or url != self.callback:
                raise Wrong("meant for another address")
            if said.get("subject_request_id") not in self.asked:
                raise Wrong("about a request that was never made")
            if said["request_status"] not in STATUSES:
                raise Wrong("no such status")
        except (Wrong, ValueError) as error:
            self.refused.append(str(error))
            return 403
        self.heard.append(said)
        return 202


def _spki(key: Any) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return str(key.public_bytes(serialization.Encoding.PEM, form).decode())
