"""Another's OpenDSR endpoint, which we ask: a controller's, or an agency's.

* A request's id is derived from what it is about, so that asking again is the same request.
* Where the other side signs, as OpenDSR has processors do, nothing that it says is read before the signature
  has held: by the certificate that we were given, or by the one that its `/discovery` names, if that is at
  the endpoint's own domain and an authority that we trust issued it for it.
* A fetched certificate is kept for a day. A signature that doesn't hold by it has it fetched anew, once: it
  may have been renewed.
* What was cut short, or is a proxy's page, can't bear a signature: that passes, and asks for no person.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

import certifi
from pydantic import AfterValidator

from handlers.port import CallbackBody, Clock, Permanent, Refused, Retryable, Task
from handlers.times import SECOND, to_iso
from orchestrator.http import Answer, Client
from orchestrator.privacy import Identifiers
from orchestrator.privacy.signatures import PREFIXES, SignatureRefused, check_signature
from orchestrator.secret import SecretRef


def _http(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError('not an address; write it as in "https://opendsr.example.com"')
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds a login; take it out")
    return value.rstrip("/")


HttpAddress = Annotated[str, AfterValidator(_http)]
Version = Literal["2.0", "1.0"]
DAY = 86_400 * SECOND
END = "-----END CERTIFICATE-----"
_REQUESTS = {"2.0": "/v2/requests", "1.0": "/v1/opengdpr_requests"}

#: OpenDSR has no name for a telephone number, and a name alone says who nobody is.
_TYPES = {
    "email": "email",
    "customer_id": "controller_customer_id",
    "tenant_user_id": "controller_customer_id",
}


def identities_of(identifiers: Identifiers) -> list[dict[str, str]]:
    """The identities by which OpenDSR can name the person."""
    return [
        {"identity_type": _TYPES[one.kind], "identity_value": one.value, "identity_format": "raw"}
        for one in identifiers
        if one.kind in _TYPES
    ]


def subject_request_id(task: Task) -> str:
    """A UUIDv4 by form, derived, so that it is the same each time; added identifiers make another
    request of it.
    """
    hashed = hashlib.sha256(f"{task.request_id}\0{task.system}\0".encode() + task.identifiers.to_bytes())
    return str(UUID(bytes=hashed.digest()[:16], version=4))


def request_of(
    task: Task, *, submitted_at: int, callback: str, asks: str, version: Version = "2.0"
) -> dict[str, Any]:
    """What is posted to ask for the person's erasure."""
    content: dict[str, Any] = {
        "subject_request_id": subject_request_id(task),
        "subject_request_type": "erasure",
        "submitted_time": to_iso(submitted_at),
        "subject_identities": identities_of(task.identifiers),
        "api_version": version,
        "status_callback_urls": [callback],
        "extensions": {"radera": {"asks": asks}},
    }
    return content if version == "1.0" else {"regulation": "gdpr", **content}


@cache
def _of_browsers() -> str:
    return Path(certifi.where()).read_text(encoding="utf-8")


class Endpoint:
    """An endpoint whose owner signs. `certificate` is its own, given to us; without it, the one that it
    publishes has to be issued by one of `authorities` (PEM; without them, those that browsers trust).
    """

    def __init__(
        self,
        client: Client,
        *,
        url: str,
        version: Version,
        certificate: SecretRef | None,
        authorities: SecretRef | None,
        clock: Clock,
    ) -> None:
        self._client = client
        self._domain = (urlsplit(url).hostname or "").lower()
        self._version = version
        self._certificate = certificate
        self._authorities = authorities
        self._clock = clock
        self._fetched: tuple[str, int] | None = None

    @property
    def version(self) -> Version:
        return self._version

    async def ask(self, task: Task, content: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Posts the request; gives what came back, and whether the other side knew the request already."""
        path = _REQUESTS[self._version]
        answer = await self._client.erase_call(task, "POST", path, json=content, accept=frozenset({409}))
        said = await self._read(answer)
        if answer.status == 409:
            return said, True
        try:
            echoed = json.loads(base64.b64decode(said.get("encoded_request") or "", validate=True))
        except (ValueError, RecursionError):
            echoed = None
        if echoed != content or said.get("subject_request_id") != content["subject_request_id"]:
            raise Retryable("malformed_answer")
        return said, False

    async def status(self, id_: str) -> dict[str, Any] | None:
        """How a request stands; None where the other side doesn't know it."""
        path = f"{_REQUESTS[self._version]}/{id_}"
        answer = await self._client.call("GET", path, accept=frozenset({404}))
        if answer.status == 404:
            return None
        said = await self._read(answer)
        if said.get("subject_request_id") != id_ or not isinstance(said.get("request_status"), str):
            raise Retryable("malformed_answer")
        return said

    async def callback(self, callback: CallbackBody, url: str) -> dict[str, Any]:
        """What a callback says, once it is the endpoint's own and meant for this address. Raises Refused.

        The address stands in what is signed, so that nobody can send it on to another.
        """
        headers = {name.lower(): value for name, value in callback.headers.items()}
        try:
            await self._believe(headers, callback.body, callback.received_at)
            said = json.loads(callback.body)
        except SignatureRefused as error:
            refused = error.code
        except (ValueError, RecursionError):
            refused = "malformed"
        else:
            if isinstance(said, dict) and said.get("status_callback_url") == url:
                return said
            refused = "meant_for_another_address"
        raise Refused(refused)

    async def discover(self) -> None:
        """Looks whether the endpoint is there, speaks our version, and signs so that we believe it."""
        path = f"/v{self._version[0]}/discovery"
        answer = await self._client.call("GET", path)
        types = (await self._read(answer)).get("supported_subject_request_types")
        if not isinstance(types, list) or "erasure" not in types:
            raise Permanent("erasure_not_supported")

    # --- believing

    async def _read(self, answer: Answer) -> dict[str, Any]:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        try:
            await self._believe(headers, answer.body, self._clock())
        except SignatureRefused as error:
            refused = error.code
        else:
            return answer.object()
        # Not read for what it says: damaged on its way, it is a fault that passes.
        answer.object()
        raise Permanent(refused)

    async def _believe(self, headers: Mapping[str, str], body: bytes, at: int) -> None:
        prefix = PREFIXES[self._version[0]].lower()
        if headers.get(f"{prefix}-processor-domain", "").lower() != self._domain:
            raise SignatureRefused("signed_by_another_domain")
        signature = headers.get(f"{prefix}-signature", "")
        if self._certificate is not None:
            self._check(self._certificate.read(), None, signature, body, at)
            return
        roots = _of_browsers() if self._authorities is None else self._authorities.read()
        had = self._fetched is not None and self._clock() < self._fetched[1] + DAY
        try:
            self._check(await self._published(fresh=not had), roots, signature, body, at)
        except SignatureRefused:
            if not had:
                raise
            self._check(await self._published(fresh=True), roots, signature, body, at)

    def _check(self, certificate: str, roots: str | None, signature: str, body: bytes, at: int) -> None:
        check_signature(
            certificate=certificate, domain=self._domain, signature=signature, body=body, at=at, roots=roots
        )

    async def _published(self, *, fresh: bool) -> str:
        """The certificate that the endpoint publishes."""
        if self._fetched is None or fresh:
            path = f"/v{self._version[0]}/discovery"
            said = (await self._client.call("GET", path)).object()
            place = urlsplit(str(said.get("processor_certificate") or ""))
            if (place.hostname or "").lower() != self._domain:
                raise SignatureRefused("certificate_at_another_domain")
            # The client's own base is the endpoint's: an absolute address goes there and is guarded as it is.
            published = (await self._client.call("GET", place.geturl())).body.decode("ascii", "replace")
            if END not in published:
                raise Retryable("malformed_answer")
            self._fetched = (published, self._clock())
        return self._fetched[0]
