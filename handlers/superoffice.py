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
  documents are erased where the settings say so; otherwise they are counted and reported as left.
"""

import json
from typing import ClassVar

from handlers.port import CallbackBody, Control, Permanent, Reference, Refused, Task
from handlers.registry import Context
from handlers.results import (
    Absent,
    Accepted,
    Located,
    NotIdentifiable,
    Pending,
    Proved,
    Reappeared,
    Received,
    Result,
    StillPresent,
    VendorPurged,
)
from handlers.retention import end_of_bookkeeping_duty
from handlers.superoffice_login import webhook_is_genuine
from handlers.superoffice_records import Records, SuperOfficeSettings
from handlers.times import micros

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
        left: dict[str, int] = {}
        for person in await self._records.persons(emails):
            found[person.kind, person.id] = person
            async for child in self._records.children(person):
                if self._leaves(child.kind):
                    left[child.kind] = left.get(child.kind, 0) + 1
                else:
                    found[child.kind, child.id] = child
        for submission in await self._records.submissions_by_address(emails):
            found[submission.kind, submission.id] = submission
        # Shown again after the look: rights that were lost meanwhile make any of the lists above too short.
        control = await self._records.control()
        if not found:
            return Absent(control=control)
        evidence = control.evidence()
        for kind, _ in found:
            evidence[f"{kind}s"] = str(int(evidence.get(f"{kind}s", "0")) + 1)
        evidence |= {f"{kind}s_left": str(count) for kind, count in left.items()}
        return Located(references=tuple(found.values()), evidence=evidence)

    async def erase(self, task: Task) -> Result:
        await self._records.account()
        persons = task.of_kind("person")
        doomed = [*(r for r in task.references if r.kind not in ("person", "sale")), *persons]
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
        there = [r for r in task.references if r.kind != "sale" and await self._records.is_there(r)]
        new: list[Reference] = []
        emails = [identifier.value for identifier in task.identifiers.of_kind("email")]
        known = {(reference.kind, reference.id) for reference in there}
        persons = {person.id: person for person in task.of_kind("person")}
        for person in await self._records.persons(emails):
            if (person.kind, person.id) in known:
                continue
            if _is_newer(person, task.erased_at):
                new.append(person)
                continue
            there.append(person)
            persons[person.id] = person
        for person in persons.values():
            hung = [child async for child in self._records.children(person) if not self._stays(child.kind)]
            there += [child for child in hung if (child.kind, child.id) not in known]
        if there:
            return StillPresent(references=tuple(there))
        if new:
            return Reappeared(count=len(new), evidence=control.evidence())
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
        evidence = {"recycle_bin": "empty"} if task.of_kind("person") else {}
        control = await self._records.control()
        sales = task.of_kind("sale")
        if not sales:
            return Proved(control=control, grade="vendor_stated", evidence=evidence)
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

    def _leaves(self, kind: str) -> bool:
        kept = {"appointment": self._settings.appointments, "document": self._settings.documents}
        return kept.get(kind) == "leave"

    def _stays(self, kind: str) -> bool:
        return kind == "sale" or self._leaves(kind)

    def _correlation(self, person: str) -> str:
        return self._context.correlate(f"{self._context.system}/person", person)


def _is_newer(reference: Reference, erased_at: int | None) -> bool:
    """A record made after the erasure may be new consent; one whose age is unknown is taken for old."""
    return erased_at is not None and reference.created_at is not None and reference.created_at > erased_at
