"""SuperOffice Online.

What has to be known about it:

* Deleting a person or a request is a soft delete. The row lies in a recycle bin until a background job
  removes it for good, so a 204 means "accepted". A record that was seen in the bin and has left it was
  purged: the vendor says so. One that was never seen there, though its time has passed, is promised at best.
* A person whom a colleague deleted lies in the bin, too. They are found there, by address and for all users,
  are not deleted again, and are proved by leaving it.
* What hangs on a person survives the person: requests with their mails, form submissions, chat sessions,
  appointments, documents, sales. The list is made before anything is deleted, and the person goes last. The
  proof looks in every place that the list was made from.
* A form submission or a chat session may name a person who has none of the addresses that were given:
  somebody else, or the person under a newer address. One address may be several persons': a couple's, or a
  company's. Both are questions to the DPO, and while he is asked nothing is remembered that could be erased
  by mistake.
* Records are deleted by id, and read before: a person who has no address of theirs any more, a number that
  answers with another person, or a record that hangs on somebody else now, is left alone and counted
  (`records_changed`). The proof asks whose it is. One that may not be deleted, as a user of SuperOffice,
  holds up no other (`records_refused`); when nothing else is left to delete, the erasure fails
  (`record_refused`).
* A record made after the erasure, within the skew of the clocks, or at an unknown time may be new consent.
"""

import json
from collections import Counter
from typing import ClassVar, Final

from handlers.addresses import normal
from handlers.checking import Finding, control_gap, control_look, examine
from handlers.places import DeclaredPlace, Search
from handlers.port import ERASED, REPEATED, CallbackBody, Control, Permanent, Reference, Refused, Task
from handlers.registry import Context
from handlers.results import (
    Absent,
    Accepted,
    Ambiguous,
    Located,
    NotIdentifiable,
    Received,
    Result,
    VendorPurged,
)
from handlers.superoffice_api import GONE, REFUSED, Api
from handlers.superoffice_check import ability, retention
from handlers.superoffice_login import webhook_is_genuine
from handlers.superoffice_look import Found, Key, addresses, key, look, nowhere
from handlers.superoffice_proof import ERASED_MARK, IN_BIN, Proof, is_noted, questioned
from handlers.superoffice_records import PERSON, PLACES, Child, Person, Records
from handlers.superoffice_settings import SuperOfficeSettings
from handlers.superoffice_staying import Staying

#: Outcomes of an erasure, record by record.
_CHANGED: Final = "records_changed"
_REFUSED: Final = "records_refused"
#: How many records are read at a time before they are deleted: few, since a record can change in between.
READ_AHEAD: Final = 10


class SuperOffice:
    """The handler; one object for one tenant."""

    kind: ClassVar[str] = "superoffice"
    Settings: ClassVar[type[SuperOfficeSettings]] = SuperOfficeSettings
    places: ClassVar[tuple[DeclaredPlace, ...]] = PLACES

    def __init__(self, settings: SuperOfficeSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._api = Api(settings, context)
        self._records = Records(settings, self._api)
        self._staying = Staying(settings)

    async def locate(self, task: Task) -> Result:
        search = Search(self.places, task.identifiers)
        if not addresses(task.identifiers):
            nowhere(self._records, search)
            return NotIdentifiable(missing=("email",), places=search.report())
        await self._control()
        found = await look(self._records, task, search, self._staying.stays)
        # With what an earlier look, by fewer of the person's addresses, found to stay.
        earlier = [r for r in task.references if self._staying.stays(r.kind) and key(r) not in found.children]
        staying = [child.reference for child in await self._records.there(earlier)]
        # Shown again after the look: rights that were lost meanwhile make any of the lists above too short.
        control = await self._control()
        asked = self._asked(task, found)
        whom = tuple(person.shown.agreed() for person in asked)
        if not task.may_take(whom):
            known = {reference.id for reference in task.of_kind(PERSON)}
            evidence = {**control.evidence(), **questioned(found, asked, known)}
            return Ambiguous(asked=whom, evidence=evidence, places=search.report())
        references = (*_persons(found), *(child.reference for child in found.children.values()))
        told = self._staying.told((*references, *staying))
        if not references:
            return Absent(control=control, evidence=told, places=search.report())
        counts = Counter(reference.kind for reference in references)
        evidence = {**control.evidence(), **{f"{kind}s": str(n) for kind, n in counts.items()}, **told}
        if binned := found.binned():
            evidence["in_recycle_bin"] = str(len(binned))
        return Located(references=references, evidence=evidence, places=search.report())

    def _asked(self, task: Task, found: Found) -> list[Person]:
        """Return the persons whom an erasure would concern, if some of them may be somebody else's."""
        known = {reference.id for reference in task.of_kind(PERSON)}
        # Whom this request has erased already lies in the bin, and is no question any more.
        open_ = [
            person
            for number, person in found.persons.items()
            if found.is_touched(person) or number not in known
        ]
        led_to = [person for person in open_ if found.is_led_to(person)]
        shared = self._settings.ambiguous == "ask" and found.are_shared(open_)
        if not led_to and not shared:
            # Whoever came since an earlier question is not whom the answer was about.
            is_answered = task.asked and self._settings.ambiguous == "ask"
            return [p for p in open_ if found.is_touched(p) and p.shown.id not in known and is_answered]
        return [person for person in open_ if found.is_touched(person) or found.is_led_to(person)]

    async def erase(self, task: Task) -> Result:
        await self._api.account()
        if not task.references:
            raise Permanent("nothing_to_erase")
        persons = task.of_kind(PERSON)
        wanted = frozenset(addresses(task.identifiers))
        children = [r for r in task.references if r.kind != PERSON and not self._staying.stays(r.kind)]
        rounds = task.rounds
        changed = {key(one) for one in rounds.settled(_CHANGED)}
        there = [one for one in rounds.left(persons) if await self._is_still(one, persons, wanted, changed)]
        for person in there:
            if self._settings.newsletter_purpose is not None:
                await self._records.withdraw_consent(task, person, self._settings.newsletter_purpose)
        for part in rounds.parts(children, READ_AHEAD):
            found = {key(child.reference): child for child in await self._records.there(part)}
            for reference in part:
                child = found.get(key(reference))
                hangs = child is not None and await self._still_hangs(child, persons, changed)
                rounds.settle(reference, await self._delete(task, reference, changed, hangs))
        for person in there:
            is_still = await self._is_still(person, persons, wanted, changed)
            rounds.settle(person, await self._delete(task, person, changed, is_still))
        for person in rounds.left(persons):
            rounds.settle(person, _CHANGED if key(person) in changed else REPEATED)
        counts = rounds.counts()
        gone = rounds.settled(ERASED, REPEATED)
        if counts[_REFUSED] and not counts[_CHANGED] and not counts[ERASED] and all(map(is_noted, gone)):
            raise Permanent("record_refused")
        notes = await self._in_bin(gone)
        if counts[REPEATED]:
            # Who may not see a record finds it gone.
            await self._control()
        told = {REPEATED: counts[REPEATED], _CHANGED: counts[_CHANGED], _REFUSED: counts[_REFUSED]}
        return Accepted(
            erased=len(gone),
            prove_at=self._context.clock(),
            references=notes,
            correlations=tuple(self._correlation(person.id) for person in persons),
            evidence={name: str(count) for name, count in told.items() if count},
        )

    async def _is_still(
        self,
        person: Reference,
        persons: tuple[Reference, ...],
        wanted: frozenset[str],
        changed: set[Key],
    ) -> bool:
        """Return whether the person is there, and still the one who was located; note one who isn't.

        One merged into another of the persons is erased by that one's number.
        """
        shown = await self._records.live(int(person.id))
        if shown is None:
            return False
        if shown.is_still(person, wanted):
            return True
        if not any(shown.is_still(other, wanted) for other in persons):
            changed.add(key(person))
        return False

    async def _delete(self, task: Task, reference: Reference, changed: set[Key], is_theirs: bool) -> str:
        """Delete a record, if it is still the person's; return what came of it."""
        if key(reference) in changed:
            return _CHANGED
        if not is_theirs:
            return REPEATED
        status = await self._records.delete(task, reference)
        return {GONE: REPEATED, REFUSED: _REFUSED}.get(status, ERASED)

    async def _still_hangs(self, child: Child, persons: tuple[Reference, ...], changed: set[Key]) -> bool:
        """Return whether the record hangs on one of the persons, or on nobody.

        It may have come to somebody else since it was located, or its person may have. Both are noted.
        """
        owner = str(child.owner)
        if (PERSON, owner) not in changed and (
            not child.owner
            or owner in {person.id for person in persons}
            or await self._records.person(child.owner) is None
        ):
            return True
        changed.add(key(child.reference))
        return False

    async def _in_bin(self, gone: list[Reference]) -> tuple[Reference, ...]:
        """Note what is erased, and what is seen in a bin: the proof may come when it has left."""
        erased = f"{ERASED_MARK}.{self._context.clock()}"
        binned = await self._records.binned(one for one in gone if one.kind in self._records.bins)
        seen = f"{IN_BIN}.{self._context.clock()}"
        notes = [one.marked(erased) for one in gone]
        return tuple(note.marked(seen) if key(note) in binned else note for note in notes)

    async def prove(self, task: Task) -> Result:
        # A row that lay in the bin in its time is not overdue because the look took so long.
        now = self._context.clock()
        search = Search(self.places, task.identifiers)
        await self._control()
        found = await look(self._records, task, search, self._staying.stays)
        proof = Proof(self._settings, self._records, self._staying, task, found)
        return await proof.judged(now, search.report(), self._control)

    async def receive(self, callback: CallbackBody) -> Received:
        if self._settings.webhook_secret is None:
            raise Refused("webhook_not_configured")
        try:
            said = json.loads(callback.body)
            event, record, tenant = said["Event"], int(said["PrimaryKey"]), said["ContextIdentifier"]
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise Refused("malformed") from None
        # First whose it is: that this account's secret is missing is no matter of another account's webhook.
        if tenant != self._settings.tenant:
            raise Refused("wrong_account")
        signature = callback.header("X-SuperOffice-Signature")
        if not webhook_is_genuine(self._settings.webhook_secret.read(), callback.body, signature):
            raise Refused("signature_invalid")
        if event != "person.deleted":
            raise Refused("event_not_used")
        result = VendorPurged(evidence={"vendor_event": event})
        return Received(result=result, correlation=self._correlation(str(record)))

    async def check(self) -> tuple[Finding, ...]:
        control_email = self._settings.control_email
        return await examine(
            [
                ("account", self._api.account),
                ("rights", lambda: ability(self._api, self._records)),
                (
                    "rights",
                    lambda: retention(self._settings, self._api, self._records, self._context.clock()),
                ),
                *control_look(control_email, self._control),
            ],
            settings={
                "reachable": ("url", "tenant"),
                "credentials": ("client_secret", "system_user_token", "private_key", "login_certificate"),
                "account": ("tenant", "system_user_token"),
                "rights": ("system_user_token", "submissions_archive", "chats_archive", "without"),
                "control": ("control_email",),
            },
            gaps=control_gap(control_email),
        )

    async def _control(self) -> Control:
        """Show that this is the right tenant and, where a control record is set, that its people can be
        seen.
        """
        answered = await self._api.account()
        email = self._settings.control_email
        record_found = None
        if email is not None:
            wanted = frozenset({normal(email)})
            found = [one async for _, one in self._records.persons_by_address(normal(email))]
            record_found = any(one.carries(wanted) for one in found)
        return Control.shown(pinned=self._settings.tenant, answered=answered, record_found=record_found)

    def _correlation(self, person: str) -> str:
        return self._context.correlate(f"{self._context.system}/person", person)


def _persons(found: Found) -> list[Reference]:
    """Return the persons' references; of one who was led to, with the addresses that the DPO agreed to."""
    return [
        one.shown.agreed() if found.is_led_to(one) else one.shown.reference()
        for one in found.persons.values()
    ]
