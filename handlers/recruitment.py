"""Recruitment agencies.

An agency erases by itself: it is asked by mail, and answers on a page of ours that the mail links to. The
channels differ in how it is asked, and in whether we can look:

* `mail`: an agency that only reads mail. We can't look before or after; its answer is the evidence.
* `teamtailor`: the agency's candidates can be read through Teamtailor's API, which has no deletion. So we
  look, ask the agency, and look again. Teamtailor's webhook says when a candidate is gone. Each candidate is
  read before the agency is asked: one without an address of the person's is not named to it, and the DPO is
  asked about it after the look that follows.
* `opendsr`: the agency takes requests over OpenDSR: see `agency_opendsr`. Mail is for its reminders.

The mail:

* It carries what the agency needs to find the person and nothing more, and is the only mail of ours that
  carries an identifier. It goes only to the configured address, over TLS (the mailer sees to that). Its
  subject has the request's id and no more.
* The link is opaque and expires; opening it does nothing, since mail scanners follow links.
* A repeat of the same command is the same mail, byte for byte. Another attempt at it, after an answer of the
  server's that was lost, has the same Message-ID. A reminder is a mail of its own in the same thread.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Annotated, ClassVar, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from handlers.addresses import normal
from handlers.agency_answer import read_answer
from handlers.agency_mail import NOTE, can_name, compose_mail, mails_before
from handlers.agency_opendsr import OpenDsrAgency
from handlers.checking import ORDER, Finding, control_gap, control_look, examine
from handlers.opendsr_endpoint import Endpoint, HttpAddress, Version, identities_of
from handlers.places import NO_IDENTIFIER, NOT_CONFIGURED, NOT_SEARCHABLE, DeclaredPlace, Search
from handlers.port import CallbackBody, Permanent, Reference, Refused, Retryable, Task
from handlers.registry import Context, HandlerSettings
from handlers.results import (
    Absent,
    Ambiguous,
    AwaitingParty,
    CannotLook,
    Located,
    NotIdentifiable,
    PartyAbsent,
    PartyErased,
    Proved,
    Reappeared,
    Received,
    Result,
    StillAmbiguous,
    StillPresent,
)
from handlers.shown import Shown, follow, in_question, sharing, told_apart
from handlers.teamtailor import CANDIDATES, Teamtailor, destroyed_candidate
from handlers.times import micros
from orchestrator.http import Guard, StaticAuthority
from orchestrator.privacy import InvalidLink
from orchestrator.secret import SecretRef
from orchestrator.settings.values import Address, Duration, Line
from orchestrator.smtp import HeaderRefused, MailDeferred, MailRefused
from schemas.messages import Language, Place

FILES = "agency_files"
#: Outcomes of asking, candidate by candidate: named to the agency, or somebody else's by now.
_NAMED: Final = "named"
_CHANGED: Final = "records_changed"
#: Up to so many candidates are read one by one; of more, a list tells of most.
_FEW: Final = 10


class RecruitmentSettings(HandlerSettings):
    """One approved agency."""

    channel: Literal["mail", "teamtailor", "opendsr"]
    """How the agency is dealt with."""
    address: Address | None = None
    """Where the agency reads erasure requests; for OpenDSR where it is reminded, if at all by mail."""
    language: Language = "sv"
    """The language of the mails to it."""
    remind_after: Duration = timedelta(days=7)
    """When an unanswered mail is followed by a reminder."""
    link_lifetime: Duration = timedelta(days=60)
    """How long a mail's link can be answered with."""
    token: SecretRef | None = None
    """Teamtailor: the company's API key, with the right to read candidates."""
    company: Line | None = None
    """Teamtailor: the company's id. No other company's absence counts."""
    control_email: Address | None = None
    """Teamtailor: the address of a candidate planted there, who must be found before an absence counts."""
    webhook_secret: SecretRef | None = None
    """Teamtailor: the secret of the webhook for `candidate.destroy`."""
    url: str = "https://api.teamtailor.com"
    """Teamtailor: where the API answers."""
    ambiguous: Literal["ask", "all"] = "ask"
    """Teamtailor: several candidates with one address: ask the DPO, who decides for all of them, or have
    "all" of them erased."""
    clock_skew: Duration = timedelta(minutes=5)
    """Teamtailor: by how much its clock and ours may differ. A candidate that was made around the erasure, or
    whose age is unknown, may be new consent: the DPO is asked."""
    api_version: str = "20240404"
    """Teamtailor: the dated version of the API."""
    endpoint: HttpAddress | None = None
    """OpenDSR: the agency's endpoint, without the version."""
    endpoint_token: SecretRef | None = None
    """OpenDSR: the bearer token for the endpoint, if it wants one."""
    endpoint_version: Version = "2.0"
    """OpenDSR: the version that the agency speaks; 1.0 is OpenGDPR."""
    controller_id: Line | None = None
    """OpenDSR: who we are to the agency. What it says of another's account counts for nothing."""
    certificate: SecretRef | None = None
    """OpenDSR: the agency's certificate, PEM, if it gave us one; else the one that its discovery names."""
    authorities: SecretRef | None = None
    """OpenDSR: who may have issued the certificate, PEM; by default those that browsers trust."""
    allow_private_address: bool = False
    """OpenDSR: for an agency on our own network: lifts the demand for https and a public address."""
    calls_per_ten_seconds: Annotated[int, Field(ge=1, le=50)] = 25
    """Teamtailor: our share of the limit of 50 in 10 s."""

    @model_validator(mode="after")
    def _complete(self) -> "RecruitmentSettings":
        if self.channel == "teamtailor" and (self.token is None or self.company is None):
            raise ValueError('channel: "teamtailor" needs token and company; add them')
        if self.channel == "opendsr" and (self.endpoint is None or self.controller_id is None):
            raise ValueError('channel: "opendsr" needs endpoint and controller_id; add them')
        if self.channel != "opendsr" and self.address is None:
            raise ValueError(f'channel: "{self.channel}" needs address; add it')
        return self


@dataclass(frozen=True, slots=True)
class _Look:
    """What a look at the candidates found, and the report of it."""

    theirs: dict[str, Shown]
    changed: dict[str, Shown]
    places: tuple[Place, ...]


class Recruitment:
    """The handler; one object for one agency."""

    kind: ClassVar[str] = "recruitment"
    Settings: ClassVar[type[RecruitmentSettings]] = RecruitmentSettings
    places: ClassVar[tuple[DeclaredPlace, ...]] = (
        DeclaredPlace(
            name=CANDIDATES,
            title={
                "en": "candidates in Teamtailor",
                "sv": "kandidater i Teamtailor",
                "nb": "kandidater i Teamtailor",
            },
            by=frozenset({"email"}),
        ),
        DeclaredPlace(
            name=FILES,
            title={
                "en": "the agency's own files",
                "sv": "byråns egna register",
                "nb": "byråets egne registre",
            },
        ),
    )

    def __init__(self, settings: RecruitmentSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._teamtailor: Teamtailor | None = None
        if settings.channel == "teamtailor" and settings.token is not None and settings.company is not None:
            self._teamtailor = Teamtailor(
                clients=context.clients,
                url=settings.url,
                token=settings.token,
                company=settings.company,
                api_version=settings.api_version,
                calls_per_ten_seconds=settings.calls_per_ten_seconds,
                control_email=settings.control_email,
            )

        self._opendsr = None if settings.endpoint is None else self._agency(settings.endpoint)

    def _agency(self, url: str) -> OpenDsrAgency:
        settings, context = self._settings, self._context
        secret = settings.endpoint_token
        client = context.clients.client(
            url,
            authority=None
            if secret is None
            else StaticAuthority(lambda: {"Authorization": f"Bearer {secret.read()}"}),
            guard=Guard(
                hosts=frozenset({(urlsplit(url).hostname or "").lower()}),
                allow_private=settings.allow_private_address,
            ),
        )
        endpoint = Endpoint(
            client,
            url=url,
            version=settings.endpoint_version,
            certificate=settings.certificate,
            authorities=settings.authorities,
            clock=context.clock,
        )
        return OpenDsrAgency(endpoint, controller_id=settings.controller_id or "")

    async def locate(self, task: Task) -> Result:
        if self._teamtailor is None:
            can_ask = identities_of if self._opendsr is not None else can_name
            places = self._unsearched(task)
            if not can_ask(task.identifiers):
                return NotIdentifiable(missing=("email",), places=places)
            return CannotLook(places=places)
        if not task.identifiers.of_kind("email"):
            return NotIdentifiable(missing=("email",), places=self._unsearched(task))
        await self._teamtailor.control()
        look = await self._look(task, self._teamtailor)
        # Shown again after the look: rights that were lost meanwhile make the list too short.
        control = await self._teamtailor.control()
        shared = self._in_question(task, look)
        asked = _asked(shared, look.changed)
        if not task.may_take(asked):
            evidence = {**control.evidence(), **told_apart(shared.values(), look.changed.values())}
            return Ambiguous(asked=asked, evidence=evidence, places=look.places)
        found = [one.reference() for one in look.theirs.values()]
        found += [one.agreed() for one in look.changed.values()]
        if not found:
            return Absent(control=control, places=look.places)
        return Located(references=tuple(found), evidence=control.evidence(), places=look.places)

    async def _look(self, task: Task, teamtailor: Teamtailor) -> "_Look":
        """Looks for candidates by every address of the person's, and for those that were located before."""
        search = Search(self.places, task.identifiers)
        emails = task.identifiers.of_kind("email")
        theirs = {one.id: one for one in await teamtailor.candidates(email.value for email in emails)}
        candidates = task.of_kind("candidate")
        changed = await follow(candidates, theirs, _wanted(task), teamtailor.by_id, task.rounds)
        search.looked(CANDIDATES, emails)
        search.skipped(FILES, NOT_SEARCHABLE)
        return _Look(theirs, changed, search.report())

    def _in_question(self, task: Task, look: _Look) -> dict[str, Shown]:
        """Those of the person's candidates that the DPO has to be asked about before the agency is."""
        if self._settings.ambiguous == "all":
            return {}
        theirs = look.theirs.values()
        return in_question(task, theirs, self._shared(task, theirs), look.changed)

    def _shared(self, task: Task, candidates: Iterable[Shown]) -> dict[str, Shown]:
        """Those that the DPO has to be asked about, because they share an address of the person's."""
        return {} if self._settings.ambiguous == "all" else sharing(candidates, _wanted(task))

    def _unsearched(self, task: Task) -> tuple[Place, ...]:
        """The report of an agency in which nobody looked."""
        search = Search(self.places, task.identifiers)
        search.skipped(CANDIDATES, NOT_CONFIGURED if self._teamtailor is None else NO_IDENTIFIER)
        search.skipped(FILES, NOT_SEARCHABLE)
        return search.report()

    async def erase(self, task: Task) -> Result:
        """Ask the agency. Asking leads to an erasure, so it needs the permit, too."""
        if self._teamtailor is not None:
            return await self._ask_for_candidates(task, self._teamtailor)
        if self._opendsr is None:
            return await self._write(task)
        context, settings = self._context, self._settings
        if context.links is None:
            raise Permanent("links_not_configured")
        remind_at = context.clock() + micros(settings.remind_after)
        if task.reminder:
            seen = await self._opendsr.look(task, context.clock(), remind_at)
            if isinstance(seen, AwaitingParty) and settings.address is not None:
                seen = replace(seen, references=(await self._write(task)).references)
            if seen is not None:
                return seen
        expires_at = task.issued_at + micros(settings.link_lifetime)
        token = context.links.make(task.request_id, task.system, task.attempt, expires_at)
        return await self._opendsr.ask(task, self._callback_url(token), remind_at)

    async def _ask_for_candidates(self, task: Task, teamtailor: Teamtailor) -> AwaitingParty:
        """Ask the agency by mail, and name the candidates that are still the person's, or gone."""
        await teamtailor.account()
        wanted = _wanted(task)
        left = task.rounds.left(task.of_kind("candidate"))
        emails = task.identifiers.of_kind("email") if len(left) > _FEW else ()
        listed = {one.id: one for one in await teamtailor.candidates(email.value for email in emails)}
        for candidate in left:
            shown = listed.get(candidate.id) or await teamtailor.by_id(candidate.id)
            is_changed = shown is not None and not shown.is_still(candidate, wanted)
            task.rounds.settle(candidate, _CHANGED if is_changed else _NAMED)
        changed = {one.id for one in task.rounds.settled(_CHANGED)}
        named = tuple(r for r in task.references if r.kind != "candidate" or r.id not in changed)
        asked = await self._write(replace(task, references=named))
        told = {"records_changed": str(len(changed))} if changed else {}
        return replace(asked, evidence={**asked.evidence, **told})

    def _callback_url(self, token: str) -> str:
        return f"{self._context.public_url}{self._context.callback_path}{token}"

    async def _write(self, task: Task) -> AwaitingParty:
        context, settings = self._context, self._settings
        if context.mailer is None or context.links is None or settings.address is None:
            raise Permanent("mail_not_configured")
        expires_at = task.issued_at + micros(settings.link_lifetime)
        token = context.links.make(task.request_id, task.system, task.attempt, expires_at)
        mail = compose_mail(
            task,
            context,
            recipient=settings.address,
            language=settings.language,
            link=f"{context.public_url}{context.answer_path}{token}",
            expires_at=expires_at,
        )
        task.may_erase()
        try:
            await context.run_blocking(context.mailer.send, mail, settings.address, task.may_erase)
        except MailDeferred as error:
            raise Retryable(f"mail_{error.code}") from None
        except MailRefused as error:
            raise Permanent(f"mail_refused_{error.code}") from None
        except HeaderRefused:
            raise Permanent("mail_header_refused") from None
        return AwaitingParty(
            remind_at=context.clock() + micros(settings.remind_after),
            references=(Reference(kind=NOTE, id=str(mails_before(task))),),
            correlations=tuple(self._correlation(one.id) for one in task.of_kind("candidate")),
            evidence={"asked": "reminder" if task.reminder else "mail"},
        )

    async def prove(self, task: Task) -> Result:
        if self._opendsr is not None:
            proved = await self._opendsr.prove(task, self._context.clock())
            return replace(proved, places=self._unsearched(task))
        if self._teamtailor is None:
            raise Permanent("cannot_look")
        await self._teamtailor.control()
        look = await self._look(task, self._teamtailor)
        control = await self._teamtailor.control()
        known = {candidate.id for candidate in task.of_kind("candidate")}
        skew = micros(self._settings.clock_skew)
        others = [one for one in look.theirs.values() if one.id not in known]
        newer = {one.id for one in others if not one.is_surely_older(task.erased_at, skew)}
        older = [one for one in look.theirs.values() if one.id not in newer]
        shared = {id_: one for id_, one in self._shared(task, older).items() if id_ not in known}
        there = tuple(one.reference() for one in older if one.id not in shared)
        if there:
            return StillPresent(references=there, places=look.places)
        if shared or look.changed:
            evidence = {**control.evidence(), **told_apart(shared.values(), look.changed.values())}
            asked = _asked(shared, look.changed)
            return StillAmbiguous(asked=asked, evidence=evidence, places=look.places)
        if newer:
            return Reappeared(count=len(newer), evidence=control.evidence(), places=look.places)
        return Proved(control=control, grade="seen_absent", places=look.places)

    async def receive(self, callback: CallbackBody) -> Received:
        if callback.token is not None:
            return await self._answered(callback)
        secret = self._settings.webhook_secret
        if secret is None:
            raise Refused("webhook_not_configured")
        candidate = destroyed_candidate(callback, secret.read, self._settings.company or "")
        # The company's own word on one candidate; whether all are gone is looked at.
        result = PartyErased(
            prove_at=self._context.clock(),
            grade="vendor_stated",
            evidence={"vendor_event": "candidate.destroy"},
        )
        return Received(result=result, correlation=self._correlation(candidate))

    async def check(self) -> tuple[Finding, ...]:
        if self._opendsr is not None:
            return await self._opendsr.check()
        if self._teamtailor is None:
            by_mail = "asked by mail, and none is sent for a check"
            return await examine([], settings={}, gaps=dict.fromkeys(ORDER, by_mail))
        control_email = self._settings.control_email
        return await examine(
            [
                ("account", self._teamtailor.account),
                ("rights", self._may_list),
                *control_look(control_email, self._teamtailor.control),
            ],
            settings={
                "reachable": ("url",),
                "credentials": ("token", "api_version"),
                "account": ("company", "token"),
                "rights": ("token",),
                "control": ("control_email",),
            },
            gaps=control_gap(control_email),
        )

    async def _may_list(self) -> None:
        """Whether candidates can be listed; they are asked for by an address that nobody has."""
        if self._teamtailor is not None:
            await self._teamtailor.candidates([f"nobody@{self._context.domain}"])

    async def _answered(self, callback: CallbackBody) -> Received:
        if self._context.links is None or callback.token is None:
            raise Refused("link_invalid")
        try:
            link = self._context.links.read(callback.token)
        except InvalidLink:
            raise Refused("link_invalid") from None
        if link.system != self._context.system:
            raise Refused("link_for_another_system")
        # The moment of the answer counts, not that of our reading: the worker may have been away.
        if link.is_expired(callback.received_at):
            raise Refused("link_expired")
        if self._opendsr is not None and callback.header("content-type").startswith("application/json"):
            url = self._callback_url(callback.token)
            result = await self._opendsr.receive(callback, url, self._context.clock())
        else:
            # On the page, and not signed: where we can look, what it says is a reason to.
            looks = self._teamtailor is not None or self._opendsr is not None
            result = read_answer(callback.body, prove_at=self._context.clock() if looks else None)
            if self._opendsr is not None and isinstance(result, PartyAbsent):
                result = PartyErased(prove_at=self._context.clock())
        return Received(result=result, request_id=link.request_id, system=link.system, attempt=link.attempt)

    def _correlation(self, candidate: str) -> str:
        return self._context.correlate(f"{self._context.system}/candidate", candidate)


def _wanted(task: Task) -> frozenset[str]:
    return frozenset(normal(email.value) for email in task.identifiers.of_kind("email"))


def _asked(shared: dict[str, Shown], changed: dict[str, Shown]) -> tuple[Reference, ...]:
    """Return what the DPO is asked about, as it is now."""
    return tuple(candidate.agreed() for candidate in {**shared, **changed}.values())
