"""SuperOffice Online.

What has to be known about it:

* Deleting a person is a soft delete. The row lies in a recycle bin until a background job removes it for
  good, so a 204 means "accepted". Absence from the bin counts only for a record that was seen in it, or
  when the time in the bin has passed: a bin that we may not read, or that has yet to be filled, is empty,
  too.
* What hangs on a person survives the person: tickets with their mails, form submissions, appointments,
  documents, sales. The list is made before anything is deleted, and the person goes last, so that a
  half-done erasure still finds the rest. The proof looks once more for what hung on each person.
* Records are deleted by id. An address may change between the look and the deletion; an id doesn't.
* A filter that the server didn't honour would return other people. So every person found is read, and must
  have the address.
* Sales are kept as material for bookkeeping (Bokföringslagen 7:2), and reported as kept. Appointments and
  documents are erased, kept for a reason, or left and reported, as the settings say. What stays is told as it
  was last seen: its references are remembered, since nothing leads to it once the person is gone.
* One address may be several persons': a couple's, or a company's. The settings say whether all go or the DPO
  is asked; while the DPO is asked, nothing of them is remembered that could be erased by mistake.
"""

import json
from collections import Counter
from collections.abc import Iterable
from typing import ClassVar, Literal

from handlers.checking import Finding, control_gap, control_look, examine
from handlers.port import CallbackBody, Control, Permanent, Reference, Refused, Task
from handlers.registry import Context
from handlers.results import (
    Absent,
    Accepted,
    Ambiguous,
    Located,
    NotIdentifiable,
    Pending,
    Proved,
    Reappeared,
    Received,
    Result,
    StillAmbiguous,
    StillPresent,
    VendorPurged,
)
from handlers.retention import end_of_bookkeeping_duty
from handlers.superoffice_login import webhook_is_genuine
from handlers.superoffice_records import CHAT, Keep, Records, SuperOfficeSettings
from handlers.times import micros, to_iso

IN_BIN = "seen_in_bin"
DAY = 24 * 3600 * 1_000_000


class SuperOffice:
    """The handler; one object for one tenant."""

    kind: ClassVar[str] = "superoffice"
    Settings: ClassVar[type[SuperOfficeSettings]] = SuperOfficeSettings

    def __init__(self, settings: SuperOfficeSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._records = Records(settings, context)

    async def locate(self, task: Task) -> Result:
        emails = [identifier.value for identifier in task.identifiers.of_kind("email")]
        if not emails:
            return NotIdentifiable(missing=("email",))
        await self._records.control()
        found: dict[tuple[str, str], Reference] = {}
        by_address = await self._records.persons_by_address(emails)
        shared = max(by_address, key=len, default=[])
        if self._asks(task) and len(shared) > 1:
            control = await self._records.control()
            return Ambiguous(count=len(shared), evidence={**control.evidence(), **_facts(shared)})
        for person in {person.id: person for each in by_address for person in each}.values():
            found[person.kind, person.id] = person
            async for child in self._records.children(person):
                found[child.kind, child.id] = child
        for submission in await self._records.submissions_by_address(emails):
            found[submission.kind, submission.id] = submission
        # With what an earlier look, by fewer of the person's addresses, found to stay.
        earlier = [r for r in task.references if (r.kind, r.id) not in found]
        staying = [*found.values(), *await self._staying(earlier)]
        # Shown again after the look: rights that were lost meanwhile make any of the lists above too short.
        control = await self._records.control()
        told = self._told_to_stay(staying)
        if not found:
            return Absent(control=control, evidence=told)
        counts = Counter(kind for kind, _ in found)
        evidence = {**control.evidence(), **{f"{kind}s": str(n) for kind, n in counts.items()}, **told}
        return Located(references=tuple(found.values()), evidence=evidence)

    async def erase(self, task: Task) -> Result:
        await self._records.account()
        persons = task.of_kind("person")
        children = [r for r in task.references if r.kind != "person" and not self._stays(r.kind)]
        doomed = [*children, *persons]
        if not task.references:
            raise Permanent("nothing_to_erase")
        if self._settings.newsletter_purpose is not None:
            for person in persons:
                await self._records.withdraw_consent(task, person, self._settings.newsletter_purpose)
        repeated = 0
        for reference in doomed:
            repeated += await self._records.delete(task, reference)
        return Accepted(
            erased=len(doomed),
            prove_at=self._context.clock(),
            correlations=tuple(self._correlation(person.id) for person in persons),
            evidence={"repeated": str(repeated)} if repeated else {},
        )

    async def prove(self, task: Task) -> Result:
        control = await self._records.control()
        doomed = [r for r in task.references if not self._stays(r.kind)]
        there = [r for r in doomed if await self._records.is_there(r)]
        missed: list[list[Reference]] = []
        new: list[Reference] = []
        emails = [identifier.value for identifier in task.identifiers.of_kind("email")]
        known = {(reference.kind, reference.id) for reference in there}
        persons = {person.id: person for person in task.of_kind("person")}
        for each in await self._records.persons_by_address(emails):
            unknown = [person for person in each if (person.kind, person.id) not in known]
            new += [person for person in unknown if _is_newer(person, task.erased_at)]
            missed.append([person for person in unknown if not _is_newer(person, task.erased_at)])
        shared = max(missed, key=len, default=[])
        if self._asks(task) and len(shared) > 1:
            return StillAmbiguous(count=len(shared), evidence={**control.evidence(), **_facts(shared)})
        for person in {person.id: person for each in missed for person in each}.values():
            there.append(person)
            persons[person.id] = person
        for person in persons.values():
            hung = [child async for child in self._records.children(person) if not self._stays(child.kind)]
            there += [child for child in hung if (child.kind, child.id) not in known]
        if there:
            return StillPresent(references=tuple(there))
        if new:
            return Reappeared(count=len({person.id for person in new}), evidence=control.evidence())
        return await self._purged(task, control)

    async def receive(self, callback: CallbackBody) -> Received:
        if self._settings.webhook_secret is None:
            raise Refused("webhook_not_configured")
        signature = callback.header("X-SuperOffice-Signature")
        if not webhook_is_genuine(self._settings.webhook_secret.read(), callback.body, signature):
            raise Refused("signature_invalid")
        try:
            said = json.loads(callback.body)
            event, record, tenant = said["Event"], int(said["PrimaryKey"]), said["ContextIdentifier"]
        except (ValueError, KeyError, TypeError):
            raise Refused("malformed") from None
        if tenant != self._settings.tenant:
            raise Refused("wrong_account")
        if event != "person.deleted":
            raise Refused("event_not_used")
        result = VendorPurged(evidence={"vendor_event": event})
        return Received(result=result, correlation=self._correlation(str(record)))

    async def check(self) -> tuple[Finding, ...]:
        control_email = self._settings.control_email
        return await examine(
            [
                ("account", self._records.account),
                ("rights", self._records.may_read),
                *control_look(control_email, self._records.control),
            ],
            settings={
                "reachable": ("url", "tenant"),
                "credentials": ("client_secret", "system_user_token", "private_key", "login_certificate"),
                "account": ("tenant", "system_user_token"),
                "rights": ("system_user_token", "submissions_archive"),
                "control": ("control_email",),
            },
            gaps=control_gap(control_email),
        )

    async def _purged(self, task: Task, control: Control) -> Result:
        """What the recycle bin says, now that the live tables say nothing."""
        now = self._context.clock()
        began_at = task.accepted_at or task.erased_at or now
        # A mark is of one erasure: what lay in the bin before it was deleted again says nothing about now.
        seen = f"{IN_BIN}.{began_at}"
        due_at = began_at + micros(self._settings.retain_deleted)
        binned: list[Reference] = []
        unseen = 0
        for person in task.of_kind("person"):
            if await self._records.is_in_bin(person):
                binned.append(person.marked(seen))
            elif seen not in person.marks and now < due_at:
                unseen += 1
        if binned or unseen:
            return Pending(
                look_again_at=due_at if now < due_at else now + DAY,
                references=tuple(binned),
                code="in_recycle_bin" if now < due_at else "purge_overdue",
                evidence={"in_recycle_bin": str(len(binned)), **control.evidence()},
            )
        staying = await self._staying(task.references)
        told = self._told_to_stay(staying)
        evidence = {**({"recycle_bin": "empty"} if task.of_kind("person") else {}), **told}
        control = await self._records.control()
        sales = task.of_kind("sale")
        kept = next((keep for r in staying if isinstance(keep := self._fate(r.kind), Keep)), None)
        if not sales and kept is None:
            return Proved(control=control, grade="vendor_stated", evidence=evidence)
        if not sales and kept is not None:
            return Proved(
                control=control,
                grade="vendor_stated",
                end="retained",
                legal_basis=kept.legal_basis,
                evidence=evidence,
            )
        month, day = (int(part) for part in self._settings.fiscal_year_end.split("-"))
        dates = [task.issued_at if sale.created_at is None else sale.created_at for sale in sales]
        return Proved(
            control=control,
            grade="vendor_stated",
            end="retained",
            legal_basis="bokforingslagen_7_2",
            retained_until=max(end_of_bookkeeping_duty(at, month, day) for at in dates),
            evidence={**evidence, "sales_kept": str(len(sales))},
        )

    # --- what stays

    def _asks(self, task: Task) -> bool:
        return self._settings.ambiguous == "ask" and task.instruction != "erase"

    def _fate(self, kind: str) -> Literal["report", "erase"] | Keep:
        return self._fates().get(kind, "erase")

    def _fates(self) -> dict[str, Literal["report", "erase"] | Keep]:
        fates = {"appointment": self._settings.appointments, "document": self._settings.documents}
        return {**fates, CHAT: "report"} if self._settings.chats_archive is not None else fates

    def _stays(self, kind: str) -> bool:
        return kind == "sale" or self._fate(kind) != "erase"

    async def _staying(self, references: Iterable[Reference]) -> list[Reference]:
        """Those that the settings let stay, and that are there."""
        stays = [r for r in references if self._fate(r.kind) != "erase"]
        return [r for r in stays if await self._records.is_there(r)]

    def _told_to_stay(self, references: Iterable[Reference]) -> dict[str, str]:
        """What stays, and why. A count of 0 is told, too: it replaces what was told before."""
        counts = Counter(reference.kind for reference in references)
        told: dict[str, str] = {}
        for kind, fate in self._fates().items():
            told[f"{kind}s_left"] = str(counts[kind] if fate == "report" else 0)
            if isinstance(fate, Keep):
                told[f"{kind}s_kept"] = str(counts[kind])
                told[f"{kind}s_kept_basis"] = fate.legal_basis
                told[f"{kind}s_kept_reason"] = fate.reason
        return told

    def _correlation(self, person: str) -> str:
        return self._context.correlate(f"{self._context.system}/person", person)


def _facts(persons: list[Reference]) -> dict[str, str]:
    """What the DPO can tell several persons apart by, without a word about who they are."""
    created = [to_iso(person.created_at)[:10] for person in persons if person.created_at is not None]
    days = {"created_first": min(created), "created_last": max(created)} if created else {}
    return {"persons_of_one_address": str(len(persons)), **days}


def _is_newer(reference: Reference, erased_at: int | None) -> bool:
    """A record made after the erasure may be new consent; one whose age is unknown is taken for old."""
    return erased_at is not None and reference.created_at is not None and reference.created_at > erased_at
