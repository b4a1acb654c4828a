"""Tenants: customers whose processor we are (GDPR Art. 28).

* The data is the controller's. Nothing is looked up, and nothing erased, before its instruction: a person's
  request is passed on to the controller over OpenDSR, and the step waits. A request that came from the
  controller carries its instruction with it.
* Passing on is idempotent: the request's id is derived, and what was sent is kept with the references, so
  that a reminder is the same request again. A 409 says that the controller has it already.
* The address for its answer names the attempt that first passed on these identities, so that an instruction
  about fewer of them can be told.
* Then the tenant's data API looks, erases by record id, and looks again, in the one tenant that is pinned.
* Who is known by hashes alone, and not found, is not identifiable: a hash of the same address in another
  writing is another hash, so that it proves no absence. A product that compares no hashes is asked for none.
* When it is proved, the controller is told.
* The controller's address is somebody else's choice: see `orchestrator.http.guard`.
* A callback is believed by the token in its address, and, where a certificate is configured, by its
  signature: the certificate has to name the controller's domain and be in force, and what is signed has to
  name the address that it came to.
"""

import json
from datetime import timedelta
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints

from handlers.agency_answer import token
from handlers.checking import Finding, control_gap, control_look, examine
from handlers.opendsr_endpoint import HttpAddress, identities_of, request_of, subject_request_id
from handlers.places import DeclaredPlace
from handlers.port import CallbackBody, Control, Permanent, Reference, Refused, Retryable, Task
from handlers.registry import Context, HandlerSettings
from handlers.results import (
    Absent,
    Accepted,
    AwaitingParty,
    Instructed,
    Located,
    NotIdentifiable,
    PartyRefused,
    Proved,
    Reappeared,
    Received,
    Result,
    StillPresent,
)
from handlers.times import from_iso, micros
from orchestrator.http import Client, Guard, StaticAuthority
from orchestrator.privacy import Identifiers, InvalidLink
from orchestrator.privacy.signatures import SignatureRefused, check_signature
from orchestrator.secret import SecretRef
from orchestrator.settings.values import Address, Domain, Duration
from schemas.messages import Token

TokenHash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
REQUEST = "opendsr_request"
#: How a reference to a request that was passed on is marked with the attempt that did so.
_ATTEMPT = "attempt:"
RECORD = "record"

_CLEAR = ("email", "phone", "customer_id", "tenant_user_id")
_HASHED = ("email_sha256", "customer_id_sha256")


class TenantSettings(HandlerSettings):
    """One tenant."""

    tenant: Token
    """The tenant's name in the product's data API. No other tenant is ever touched."""
    api_url: str
    """Where the product's data API answers, for this tenant."""
    api_token: SecretRef
    """The data API's token."""
    controller_url: HttpAddress
    """The controller's OpenDSR endpoint, without the version: requests go to /v2/requests below it."""
    controller_token: SecretRef | None = None
    """The bearer token for the controller's endpoint, if it wants one."""
    callback_certificate: SecretRef | None = None
    """The controller's certificate, PEM, for the host of `controller_url`; with it, a callback must bear its
    signature, and name the address that it was meant for."""
    opendsr_tokens: Annotated[tuple[TokenHash, ...], Field(max_length=2)] = ()
    """The SHA-256 (hex) of the bearer token with which the controller asks us over OpenDSR; a second one
    while the token is renewed."""
    opendsr_certificate_names: Annotated[tuple[Domain, ...], Field(max_length=5)] = ()
    """The DNS names by which the controller's client certificate is known when it asks us over OpenDSR at
    `opendsr.mutual_tls`: one of them stands in it, as it is here, no wildcard. With neither token nor name it
    can't ask."""
    callback_hosts: tuple[Domain, ...] = ()
    """The hosts that the controller may have us call back over OpenDSR; by default that of
    `controller_url`."""
    hashed_identities: bool = False
    """Whether the product's data API finds people by hashes (`email_sha256`, `customer_id_sha256`). Without
    it a controller that names a person by hashes alone is refused."""
    confirmation_path: str | None = "/v2/confirmations"
    """Where the controller is told what was done; none where it doesn't want to know."""
    allow_private_address: bool = False
    """For a controller on our own network: lifts the demand for https and a public address."""
    control_email: Address | None = None
    """The address of a person planted in the tenant, who must be found before an absence counts."""
    remind_after: Duration = timedelta(days=7)
    """When a controller that hasn't answered is asked again."""
    link_lifetime: Duration = timedelta(days=180)
    """How long the controller can answer at the address that it was given."""

    @property
    def hosts_to_call_back(self) -> frozenset[str]:
        """Where the controller may be told how its own requests stand."""
        return frozenset(self.callback_hosts) or self.controller_hosts

    @property
    def controller_hosts(self) -> frozenset[str]:
        """The host of the controller's own endpoint."""
        return frozenset({(urlsplit(self.controller_url).hostname or "").lower()})


class Tenant:
    """The handler; one object for one tenant."""

    kind: ClassVar[str] = "tenant"
    Settings: ClassVar[type[TenantSettings]] = TenantSettings
    places: ClassVar[tuple[DeclaredPlace, ...]] = (
        DeclaredPlace(
            name="records",
            title={
                "en": "records in the product",
                "sv": "uppgifter i produkten",
                "nb": "opplysninger i produktet",
            },
            by=frozenset((*_CLEAR, *_HASHED)),
        ),
    )

    def __init__(self, settings: TenantSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        api_token, controller_token = settings.api_token, settings.controller_token
        self._api = context.clients.client(
            settings.api_url,
            authority=StaticAuthority(lambda: {"Authorization": f"Bearer {api_token.read()}"}),
        )
        guard = Guard(hosts=settings.controller_hosts, allow_private=settings.allow_private_address)
        self._controller: Client = context.clients.client(
            settings.controller_url,
            authority=None
            if controller_token is None
            else StaticAuthority(lambda: {"Authorization": f"Bearer {controller_token.read()}"}),
            guard=guard,
        )

    async def locate(self, task: Task) -> Result:
        self._check_tenant(task)
        if not _is_instructed(task):
            return await self._pass_on(task)
        identities = self._identities(task.identifiers)
        if not identities:
            return NotIdentifiable(missing=("email",))
        control = await self._control()
        found = await self._post("locate", {"identities": identities}, "records")
        if not found:
            control = await self._control()
            if any(one.kind in _HASHED for one in task.identifiers):
                return NotIdentifiable(missing=("email",))
            return Absent(control=control, evidence=await self._tell(task, "nothing_held"))
        return Located(references=tuple(found), evidence=control.evidence())

    async def erase(self, task: Task) -> Result:
        self._check_tenant(task)
        if not _is_instructed(task):
            raise Permanent("not_instructed")
        records = [reference.id for reference in task.of_kind(RECORD)]
        if not records:
            raise Permanent("nothing_to_erase")
        await self._account()
        content = {"records": records}
        answer = (await self._api.erase_call(task, "POST", "/subjects/erase", json=content)).object()
        erased, gone = answer.get("erased"), answer.get("missing")
        if not isinstance(erased, list) or not isinstance(gone, list) or {*erased, *gone} != set(records):
            raise Retryable("malformed_answer")
        return Accepted(
            erased=len(records),
            prove_at=self._context.clock(),
            evidence={"repeated": str(len(gone))} if gone else {},
        )

    async def prove(self, task: Task) -> Result:
        self._check_tenant(task)
        control = await self._control()
        known = {reference.id for reference in task.of_kind(RECORD)}
        content = {"records": sorted(known), "identities": self._identities(task.identifiers)}
        there: list[Reference] = []
        new: list[Reference] = []
        for record in await self._post("prove", content, "present"):
            newer = task.erased_at is not None and (record.created_at or 0) > task.erased_at
            (new if newer and record.id not in known else there).append(record)
        if there:
            return StillPresent(references=tuple(there))
        if new:
            return Reappeared(count=len(new), evidence=control.evidence())
        control = await self._control()
        return Proved(control=control, grade="seen_absent", evidence=await self._tell(task, "erased"))

    async def receive(self, callback: CallbackBody) -> Received:
        if callback.token is None or self._context.links is None:
            raise Refused("link_invalid")
        try:
            link = self._context.links.read(callback.token)
        except InvalidLink:
            raise Refused("link_invalid") from None
        if link.system != self._context.system:
            raise Refused("link_for_another_system")
        if link.is_expired(callback.received_at):
            raise Refused("link_expired")
        certificate = self._settings.callback_certificate
        if certificate is not None:
            self._check_signature(certificate.read(), callback)
        return Received(
            result=_instruction(callback.body),
            request_id=link.request_id,
            system=link.system,
            attempt=link.attempt,
        )

    def _check_signature(self, certificate: str, callback: CallbackBody) -> None:
        """The controller's own, made for this address: what is signed names it. Raises Refused."""
        [domain] = self._settings.controller_hosts
        if callback.header("X-OpenDSR-Processor-Domain").lower() not in ("", domain):
            raise Refused("signed_by_another_domain")
        try:
            check_signature(
                certificate=certificate,
                domain=domain,
                signature=callback.header("X-OpenDSR-Signature"),
                body=callback.body,
                at=callback.received_at,
                roots=None,
            )
        except SignatureRefused as error:
            raise Refused(error.code) from None
        url = f"{self._context.public_url}{self._context.callback_path}{callback.token}"
        if _said(callback.body).get("status_callback_url") != url:
            raise Refused("meant_for_another_address")

    # --- the controller

    async def _pass_on(self, task: Task) -> Result:
        """Give the controller the request, or remind it, and wait for its instruction."""
        if self._context.links is None:
            raise Permanent("links_not_configured")
        if not identities_of(task.identifiers):
            return NotIdentifiable(missing=("email",))
        id_ = subject_request_id(task)
        sent = next((one for one in task.of_kind(REQUEST) if one.id == id_), None)
        submitted_at = task.issued_at if sent is None or sent.created_at is None else sent.created_at
        expires_at = submitted_at + micros(self._settings.link_lifetime)
        attempt = task.attempt if sent is None else _first_attempt(sent)
        link = self._context.links.make(task.request_id, task.system, attempt, expires_at)
        content = request_of(
            task,
            submitted_at=submitted_at,
            callback=f"{self._context.public_url}{self._context.callback_path}{link}",
            asks="instruction",
        )
        path = "/v2/requests"
        answer = await self._controller.erase_call(task, "POST", path, json=content, accept=frozenset({409}))
        asked = "reminder" if task.reminder else "passed_on"
        kept = Reference(kind=REQUEST, id=id_, created_at=submitted_at, marks=(f"{_ATTEMPT}{attempt}",))
        return AwaitingParty(
            remind_at=self._context.clock() + micros(self._settings.remind_after),
            references=(kept,) if sent is None else (),
            evidence={"asked": asked, **({"repeated": "1"} if answer.status == 409 else {})},
        )

    async def _tell(self, task: Task, result: str) -> dict[str, str]:
        """Tell the controller what we did about the request that we passed on to it; the same each time.

        Gives the evidence of it. A controller that will not hear it does not undo what was seen in its data;
        one that is away is told when the proof is tried again.
        """
        path = self._settings.confirmation_path
        if path is None or task.capacity == "processor":
            return {}
        passed_on = {one.id for one in task.of_kind(REQUEST)} or {subject_request_id(task)}
        for id_ in sorted(passed_on):
            content = {
                "subject_request_id": id_,
                "request_status": "completed",
                "extensions": {"radera": {"result": result, "records": len(task.of_kind(RECORD))}},
            }
            try:
                await self._controller.call("POST", path, json=content)
            except Permanent:
                return {"controller_told": "refused"}
        return {"controller_told": "yes"}

    async def check(self) -> tuple[Finding, ...]:
        control_email = self._settings.control_email
        return await examine(
            [("account", self._account), *control_look(control_email, self._control)],
            settings={
                "reachable": ("api_url",),
                "credentials": ("api_token",),
                "account": ("tenant", "api_token"),
                "control": ("control_email",),
            },
            gaps={
                "rights": "the data API has nothing to ask; the controller is asked for a request only",
                **control_gap(control_email),
            },
        )

    # --- the tenant's data

    def _check_tenant(self, task: Task) -> None:
        if task.tenant is not None and task.tenant != self._settings.tenant:
            raise Permanent("wrong_tenant")

    async def _account(self) -> str:
        answered = str((await self._api.call("GET", "/account")).object().get("tenant") or "")
        Control.shown(pinned=self._settings.tenant, answered=answered)
        return answered

    async def _control(self) -> Control:
        answered = await self._account()
        record_found: bool | None = None
        if self._settings.control_email is not None:
            content = {"identities": [{"type": "email", "value": self._settings.control_email}]}
            record_found = bool(await self._post("locate", content, "records"))
        return Control.shown(pinned=self._settings.tenant, answered=answered, record_found=record_found)

    def _identities(self, identifiers: Identifiers) -> list[dict[str, str]]:
        """Those by which the product can find somebody."""
        kinds = (*_CLEAR, *_HASHED) if self._settings.hashed_identities else _CLEAR
        return [{"type": one.kind, "value": one.value} for one in identifiers if one.kind in kinds]

    async def _post(self, verb: str, content: dict[str, Any], field: str) -> list[Reference]:
        rows = (await self._api.call("POST", f"/subjects/{verb}", json=content)).object().get(field)
        if not isinstance(rows, list) or not all(isinstance(row, dict) and row.get("id") for row in rows):
            raise Retryable("malformed_answer")
        found = {str(row["id"]): from_iso(row.get("created_at")) for row in rows}
        return [Reference(kind=RECORD, id=id_, created_at=at) for id_, at in found.items()]


def _is_instructed(task: Task) -> bool:
    return task.capacity == "processor" or task.instruction == "erase"


def _first_attempt(sent: Reference) -> int:
    """The attempt that the controller's address was made with; before it was kept, that was 0."""
    # Of two that both passed it on, the first mark goes with the time that is kept, too.
    numbers = [mark.removeprefix(_ATTEMPT) for mark in sent.marks if mark.startswith(_ATTEMPT)]
    return int(numbers[0]) if numbers else 0


def _said(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise Refused("malformed")
    return said


def _instruction(body: bytes) -> Result:
    said = _said(body)
    try:
        ours = (said.get("extensions") or {}).get("radera") or {}
        instruction, reason, status = ours.get("instruction"), ours.get("reason"), said.get("request_status")
    except AttributeError:
        raise Refused("malformed") from None
    if instruction == "erase":
        return Instructed()
    if instruction == "refuse" or (instruction is None and status == "cancelled"):
        return PartyRefused(code=token(str(reason or "")) or "controller_refused")
    raise Refused("no_instruction")
