"""Tenants: customers whose processor we are (GDPR Art. 28).

* The data is the controller's. Nothing is looked up, and nothing erased, before its instruction: a person's
  request is passed on to the controller over OpenDSR, and the step waits. A request that came from the
  controller carries its instruction with it.
* Passing on is idempotent: the request's id is derived, and what was sent is kept with the references, so
  that a reminder is the same request again. A 409 says that the controller has it already.
* The address for its answer names the attempt that first passed on these identities, so that an instruction
  about fewer of them can be told.
* Then the tenant's data API looks, erases by record id, and looks again, in the one tenant that is pinned.
  Before it erases, the records are read once more: one that nothing of the person's leads to any more is not
  erased, and the DPO is asked about it after the look that follows.
* Who is known by hashes alone, and not found, is not identifiable: a hash of the same address in another
  writing is another hash, so that it proves no absence. A product that compares no hashes is asked for none.
* When it is proved, the controller is told.
* The controller's address is somebody else's choice: see `orchestrator.http.guard`.
* A callback is believed by the token in its address, and, where a certificate is configured, by its
  signature: the certificate has to name the controller's domain and be in force, and what is signed has to
  name the address that it came to. A time in a signed body (`extensions.radera.said_at`) goes along, and is
  compared with the order in which the controller's words were stored.
"""

import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints

from handlers.agency_answer import token
from handlers.checking import Finding, Note, control_gap, control_look, examine
from handlers.opendsr_endpoint import HttpAddress, identities_of, request_of, subject_request_id
from handlers.places import NO_IDENTIFIER, DeclaredPlace, Search
from handlers.port import ERASED, REPEATED, CallbackBody, Permanent, Reference, Refused, Retryable, Task
from handlers.registry import Context, HandlerSettings
from handlers.results import (
    Absent,
    Accepted,
    Ambiguous,
    AwaitingParty,
    Instructed,
    Located,
    NotIdentifiable,
    PartyRefused,
    Proved,
    Reappeared,
    Received,
    Result,
    StillAmbiguous,
    StillPresent,
)
from handlers.tenant_records import CLEAR, HASHED, RECORD, RECORDS, Look, Records, Row
from handlers.times import from_zoned, micros
from orchestrator.http import Client, Guard, StaticAuthority
from orchestrator.privacy import InvalidLink
from orchestrator.privacy.signatures import SignatureRefused, check_signature
from orchestrator.secret import SecretRef
from orchestrator.settings.values import Address, Domain, Duration
from schemas.messages import Place, Token

TokenHash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
REQUEST = "opendsr_request"
#: How a reference to a request that was passed on is marked with the attempt that did so.
_ATTEMPT = "attempt:"
_PERSON = "person"
NOT_INSTRUCTED = "not_instructed"
#: How many records one call erases: as many as a product can take away within the time of a call.
PART = 500


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
    ambiguous: Literal["ask", "all"] = "ask"
    """Records of several people with one identity: ask the DPO, who decides for all of them, or erase
    "all"."""
    clock_skew: Duration = timedelta(minutes=5)
    """By how much the product's clock and ours may differ. A record that was made around the erasure, or
    whose age is unknown, may be new consent: the DPO is asked."""
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
            name=RECORDS,
            title={
                "en": "records in the product",
                "sv": "uppgifter i produkten",
                "nb": "opplysninger i produktet",
            },
            by=frozenset((*CLEAR, *HASHED)),
        ),
    )

    def __init__(self, settings: TenantSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        api_token, controller_token = settings.api_token, settings.controller_token
        self._records = Records(
            context.clients.client(
                settings.api_url,
                authority=StaticAuthority(lambda: {"Authorization": f"Bearer {api_token.read()}"}),
            ),
            tenant=settings.tenant,
            kinds=(*CLEAR, *HASHED) if settings.hashed_identities else CLEAR,
            control_email=settings.control_email,
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
        if not self._records.usable(task):
            return NotIdentifiable(missing=("email",), places=self._unsearched(task, NO_IDENTIFIER))
        await self._records.control()
        look = await self._records.look(task, anew=False)
        # Shown again after the look: rights that were lost meanwhile make the list too short.
        control = await self._records.control()
        places = self._searched(task)
        shared = self._in_question(task, look)
        asked = _asked(look, shared)
        if not task.may_take(asked):
            evidence = {**control.evidence(), **look.told(shared.values())}
            return Ambiguous(asked=asked, evidence=evidence, places=places)
        found = [row.reference() for row in look.theirs.values()]
        found += [row.agreed() for row in look.unsure.values()]
        if found:
            return Located(references=tuple(found), evidence=control.evidence(), places=places)
        if any(one.kind in HASHED for one in task.identifiers):
            return NotIdentifiable(missing=("email",), places=places)
        return Absent(control=control, evidence=await self._tell(task, "nothing_held"), places=places)

    async def erase(self, task: Task) -> Result:
        self._check_tenant(task)
        if not _is_instructed(task):
            raise Permanent("not_instructed")
        records = [reference.id for reference in task.of_kind(RECORD)]
        if not records:
            raise Permanent("nothing_to_erase")
        await self._records.account()
        look = await self._records.look(task, anew=True)
        changed = [id_ for id_ in records if id_ in look.unsure]
        doomed = [r for r in task.of_kind(RECORD) if r.id not in look.unsure and r.id not in look.leading]
        for part in task.rounds.parts(doomed, PART):
            gone = await self._records.erase(task, [one.id for one in part])
            task.rounds.settle_all([(one, REPEATED if one.id in gone else ERASED) for one in part])
        counts = task.rounds.counts()
        told = {
            REPEATED: counts[REPEATED],
            "records_changed": len(changed),
            "persons_led_to": len(look.led_to),
        }
        return Accepted(
            erased=counts[ERASED] + counts[REPEATED],
            prove_at=self._context.clock(),
            evidence={name: str(count) for name, count in told.items() if count},
        )

    async def prove(self, task: Task) -> Result:
        self._check_tenant(task)
        await self._records.control()
        look = await self._records.look(task, anew=True)
        control = await self._records.control()
        places = self._searched(task)
        known = {reference.id for reference in task.of_kind(RECORD)}
        skew = micros(self._settings.clock_skew)
        newer = {
            id_
            for id_, row in look.theirs.items()
            if id_ not in known and not row.is_surely_older(task.erased_at, skew)
        }
        older = [row for id_, row in look.theirs.items() if id_ not in newer]
        decided = {look.person_of(row) for row in older if row.id in known}
        shared = {who: row for who, row in self._shared(look, older).items() if who not in decided}
        there = tuple(
            row.reference()
            for row in older
            if row.id not in look.leading and look.person_of(row) not in shared
        )
        if there:
            return StillPresent(references=there, places=places)
        if shared or look.unsure:
            evidence = {**control.evidence(), **look.told(shared.values())}
            return StillAmbiguous(asked=_asked(look, shared), evidence=evidence, places=places)
        if newer:
            return Reappeared(count=len(newer), evidence=control.evidence(), places=places)
        evidence = await self._tell(task, "erased")
        return Proved(control=control, grade="seen_absent", evidence=evidence, places=places)

    def _in_question(self, task: Task, look: Look) -> dict[str, Row]:
        """The people whom the DPO has to be asked about before anything is erased.

        Where some are in question, all are whom this request did not locate before (`handlers.shown`).
        """
        theirs = look.theirs.values()
        shared = self._shared(look, theirs)
        if self._settings.ambiguous == "all" or not (shared or look.unsure or task.asked):
            return shared
        located = {reference.id for reference in task.of_kind(RECORD)}
        known = {look.person_of(row) for row in theirs if row.id in located} | look.unsure.keys()
        people = {look.person_of(row): row for row in theirs}
        return shared | {who: row for who, row in people.items() if who not in known}

    def _shared(self, look: Look, rows: Iterable[Row]) -> dict[str, Row]:
        """The people whom the DPO has to be asked about, because they share an identity."""
        return {} if self._settings.ambiguous == "all" else look.sharing(rows)

    def _searched(self, task: Task) -> tuple[Place, ...]:
        search = Search(self.places, task.identifiers)
        search.looked(RECORDS, self._records.usable(task))
        return search.report()

    def _unsearched(self, task: Task, reason: str) -> tuple[Place, ...]:
        search = Search(self.places, task.identifiers)
        search.skipped(RECORDS, reason)
        return search.report()

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
        said = _said(callback.body)
        return Received(
            result=_instruction(said),
            request_id=link.request_id,
            system=link.system,
            attempt=link.attempt,
            # Whoever has the address can write a time into a body that nobody signed.
            said_at=None if certificate is None else _said_at(said),
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
            return NotIdentifiable(missing=("email",), places=self._unsearched(task, NO_IDENTIFIER))
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
            places=self._unsearched(task, NOT_INSTRUCTED),
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
            [
                ("account", self._records.account),
                ("rights", self._may_read),
                *control_look(control_email, self._records.control),
            ],
            settings={
                "reachable": ("api_url",),
                "credentials": ("api_token",),
                "account": ("tenant", "api_token"),
                "rights": ("api_token",),
                "control": ("control_email",),
            },
            gaps=control_gap(control_email),
        )

    async def _may_read(self) -> Note:
        await self._records.may_read(f"nobody@{self._context.domain}")
        return Note("records can be read; the controller is asked for a request only")

    def _check_tenant(self, task: Task) -> None:
        if task.tenant is not None and task.tenant != self._settings.tenant:
            raise Permanent("wrong_tenant")


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


def _ours(said: dict[str, Any]) -> dict[str, Any]:
    try:
        ours = (said.get("extensions") or {}).get("radera") or {}
    except AttributeError:
        ours = None
    if not isinstance(ours, dict):
        raise Refused("malformed")
    return ours


def _said_at(said: dict[str, Any]) -> int | None:
    """When the controller says that it said it; a time that nobody can read must not lose its word."""
    try:
        return from_zoned(_ours(said).get("said_at"))
    except Retryable:
        return None


def _instruction(said: dict[str, Any]) -> Result:
    ours = _ours(said)
    instruction, reason, status = ours.get("instruction"), ours.get("reason"), said.get("request_status")
    if instruction == "erase":
        return Instructed()
    if instruction == "refuse" or (instruction is None and status == "cancelled"):
        return PartyRefused(code=token(str(reason or "")) or "controller_refused")
    raise Refused("no_instruction")


def _asked(look: Look, shared: Iterable[str]) -> tuple[Reference, ...]:
    """Return what the DPO is asked about: people who share an identity, and records as they are now."""
    people = (Reference(kind=_PERSON, id=who) for who in shared)
    return (*people, *(row.agreed() for row in look.unsure.values()))
