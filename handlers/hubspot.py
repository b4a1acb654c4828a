"""HubSpot.

What has to be known about it:

* `DELETE` of a contact only archives it for 90 days. Erasure is `gdpr-delete`, and archived contacts are
  looked for, too.
* A contact is erased by its id. Before that it is read once more: after a merge the id answers with another
  contact, and an address may have been changed. What is not the located record any more, or carries no
  address of the person's, is not erased: the proof asks the DPO about it.
* Each of its addresses is opted out of mail first. HubSpot refuses that where nobody is subscribed; the
  erasure goes on, and the evidence says so.
* Tickets, notes, calls and deals survive the contact. They are counted while the contact leads to them, and
  again by their ids when it is gone, and told as left. An archived contact leads to nothing: of these places
  is told, then and in every proof, that not all of them is shown (`archived_contact`).
* The purge takes up to 30 days, and nothing shows it; what can be seen is that the contact is out of reach,
  with the account's pin and the control record in place. `purged_by` says until when the purge may run.
* A contact that was made after the erasure may be new consent, or a CRM that syncs. It is reported, and
  never erased unasked. So is one whose age is unknown, or that was made around the erasure.
* An error's `message` can quote the address and is never kept.
* Webhooks come in batches, for all accounts that an app is installed in. They are signed over the address
  that they were sent to, and are stale after five minutes: a recorded one can't be sent again.

Whether a look-up by address finds a contact's secondary addresses is not documented, so by default they are
searched for, too. Not documented either: the scopes' names in the answer about a token, and the form of a
deletion's event beyond what HubSpot shows of its events, which is that of `contact.privacyDeletion`.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Final

from handlers.addresses import normal
from handlers.checking import Finding, Gap, control_gap, control_look, examine
from handlers.hubspot_records import HANGING, Contact, HubSpotSettings, Records
from handlers.hubspot_webhook import deleted_contacts, is_genuine
from handlers.places import NO_IDENTIFIER, NOT_CONFIGURED, DeclaredPlace, Search
from handlers.port import ERASED, REPEATED, CallbackBody, Permanent, Reference, Refused, Task
from handlers.registry import Context
from handlers.results import (
    Absent,
    Accepted,
    Ambiguous,
    Located,
    NotIdentifiable,
    Proved,
    Reappeared,
    Received,
    Result,
    StillAmbiguous,
    StillPresent,
    VendorPurged,
)
from handlers.shown import follow, in_question, sharing, told_apart
from handlers.times import micros, to_iso

_EMAIL = frozenset({"email"})
#: Marks a contact that was archived when it was found, and says why what hung on it is not shown.
_ARCHIVED: Final = "archived_contact"
#: Outcomes of an erasure and of a look, record by record.
_CHANGED: Final = "records_changed"
_HANGING: Final = "hanging"
_LISTED: Final = "listed"
_OPT_OUT_REFUSED: Final = "opt_out_refused"
#: How many contacts are read at a time before they are erased: few, since a contact can change in between.
READ_AHEAD: Final = 10


@dataclass(slots=True)
class _Look:
    """What a look found. `changed` are contacts that answered to a reference, and that are not, or may not
    be, the person's any more.
    """

    theirs: dict[str, Contact] = field(default_factory=dict)
    changed: dict[str, Contact] = field(default_factory=dict)
    hanging: list[Reference] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    """How many records of each kind are left, for the evidence."""
    unlisted: set[str] = field(default_factory=set)
    """The ids of contacts on which nobody could ever see what hangs."""

    def reference(self, contact: Contact) -> Reference:
        """Return what the saga keeps of a contact; the proof learns from it what was not listed."""
        kept = contact.agreed() if contact.id in self.changed else contact.reference()
        return kept.marked(_ARCHIVED) if contact.id in self.unlisted else kept


class HubSpot:
    """The handler; one object for one account."""

    kind: ClassVar[str] = "hubspot"
    Settings: ClassVar[type[HubSpotSettings]] = HubSpotSettings
    places: ClassVar[tuple[DeclaredPlace, ...]] = (
        DeclaredPlace(
            name="contacts",
            title={"en": "contacts", "sv": "kontakter", "nb": "kontakter"},
            by=_EMAIL,
        ),
        DeclaredPlace(
            name="archived_contacts",
            title={
                "en": "archived contacts",
                "sv": "arkiverade kontakter",
                "nb": "arkiverte kontakter",
            },
            by=_EMAIL,
        ),
        DeclaredPlace(
            name="secondary_addresses",
            title={
                "en": "further addresses of contacts",
                "sv": "kontakters övriga adresser",
                "nb": "kontakters øvrige adresser",
            },
            by=_EMAIL,
        ),
        DeclaredPlace(name="tickets", title={"en": "tickets", "sv": "ärenden", "nb": "saker"}),
        DeclaredPlace(name="notes", title={"en": "notes", "sv": "anteckningar", "nb": "notater"}),
        DeclaredPlace(name="calls", title={"en": "calls", "sv": "samtal", "nb": "samtaler"}),
        DeclaredPlace(name="deals", title={"en": "deals", "sv": "affärer", "nb": "salgsavtaler"}),
    )

    def __init__(self, settings: HubSpotSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._records = Records(settings, context)

    async def locate(self, task: Task) -> Result:
        search = Search(self.places, task.identifiers)
        if not task.identifiers.of_kind("email"):
            for place in self.places:
                search.skipped(place.name, NO_IDENTIFIER)
            return NotIdentifiable(missing=("email",), places=search.report())
        await self._records.control()
        look = await self._look(task, search)
        # Shown again after the look: rights that were lost meanwhile make any of the lists too short.
        control = await self._records.control()
        told = {**control.evidence(), **look.left}
        shared = self._in_question(task, look)
        asked = _asked(shared, look.changed)
        if not task.may_take(asked):
            evidence = {**told, **told_apart(shared.values(), look.changed.values())}
            return Ambiguous(asked=asked, evidence=evidence, places=search.report())
        found = [look.reference(contact) for contact in (*look.theirs.values(), *look.changed.values())]
        if not found:
            return Absent(control=control, evidence=look.left, places=search.report())
        references = (*found, *look.hanging)
        return Located(references=references, evidence=told, places=search.report())

    async def erase(self, task: Task) -> Result:
        await self._records.account()
        contacts = task.of_kind("contact")
        if not contacts:
            raise Permanent("nothing_to_erase")
        for part in task.rounds.parts(contacts, READ_AHEAD):
            read = await self._records.live([contact.id for contact in part])
            for contact in part:
                shown = read.get(contact.id) or await self._records.by_id(contact.id)
                task.rounds.settle(*await self._erase(task, contact, shown))
        counts = task.rounds.counts()
        marks = Counter(
            mark.partition(".")[0] for r in task.rounds.settled(ERASED, REPEATED) for mark in r.marks
        )
        told = {
            REPEATED: counts[REPEATED],
            _CHANGED: counts[_CHANGED],
            "opt_outs_refused": marks[_OPT_OUT_REFUSED],
        }
        return Accepted(
            erased=counts[ERASED] + counts[REPEATED],
            prove_at=self._context.clock(),
            correlations=tuple(self._correlation(contact.id) for contact in contacts),
            evidence={name: str(count) for name, count in told.items() if count},
        )

    async def _erase(self, task: Task, contact: Reference, shown: Contact | None) -> tuple[Reference, str]:
        """Erase one contact, if it is still the person's; return it with what came of it."""
        wanted = _wanted(task)
        if shown is None:
            return contact, REPEATED
        if shown.is_still(contact, wanted):
            done = contact
            for number, address in enumerate(shown.addresses):
                if not await self._records.opt_out(task, address):
                    done = done.marked(f"{_OPT_OUT_REFUSED}.{number}")
            return done, ERASED if await self._records.erase(task, contact.id) else REPEATED
        if shown.carries(wanted) or (shown.id != contact.id and shown.id in _ids(task)):
            # Merged into another of the person's, which is found, and erased, by its own id.
            return contact, REPEATED
        return contact, _CHANGED

    async def prove(self, task: Task) -> Result:
        search = Search(self.places, task.identifiers)
        await self._records.control()
        look = await self._look(task, search)
        control = await self._records.control()
        places = search.report()
        known = {reference.id for reference in task.of_kind("contact")}
        others = [contact for contact in look.theirs.values() if contact.id not in known]
        skew = micros(self._settings.clock_skew)
        newer = {one.id for one in others if not one.is_surely_older(task.erased_at, skew)}
        older = [one for one in look.theirs.values() if one.id not in newer]
        shared = {id_: one for id_, one in self._shared(task, older).items() if id_ not in known}
        there = [one for one in older if one.id not in shared]
        told = {**control.evidence(), **look.left}
        if there:
            references = (*(look.reference(contact) for contact in there), *look.hanging)
            return StillPresent(references=references, evidence=look.left, places=places)
        if shared or look.changed:
            evidence = {**told, **told_apart(shared.values(), look.changed.values())}
            asked = _asked(shared, look.changed)
            return StillAmbiguous(asked=asked, evidence=evidence, places=places)
        if newer:
            return Reappeared(count=len(newer), evidence=told, places=places)
        since = task.accepted_at or task.erased_at or self._context.clock()
        evidence = {"purged_by": to_iso(since + micros(self._settings.purge)), **look.left}
        return Proved(control=control, grade="seen_absent", evidence=evidence, places=places)

    async def receive(self, callback: CallbackBody) -> tuple[Received, ...]:
        """The contacts of this account that the batch says were deleted."""
        secret = self._settings.webhook_secret
        if secret is None:
            raise Refused("webhook_not_configured")
        url = self._settings.webhook_url or f"{self._context.public_url}/callbacks/{self.kind}"
        # First whose it is: that this account's secret is missing is no matter of another account's webhook.
        deleted = deleted_contacts(callback.body, self._settings.portal_id)
        if not is_genuine(secret.read(), url, callback):
            raise Refused("signature_invalid")
        if not deleted:
            raise Refused("event_not_used")
        result = VendorPurged(evidence={"vendor_event": "contact.privacy_deletion"})
        return tuple(Received(result=result, correlation=self._correlation(contact)) for contact in deleted)

    def _correlation(self, contact: str) -> str:
        return self._context.correlate(f"{self._context.system}/contact", contact)

    async def check(self) -> tuple[Finding, ...]:
        control_email = self._settings.control_email
        return await examine(
            [
                ("account", self._records.account),
                ("rights", self._may_read),
                *control_look(control_email, self._control_contact),
            ],
            settings={
                "reachable": ("url", "version"),
                "credentials": ("token",),
                "account": ("portal_id", "token"),
                "rights": ("token", "scopes", "secondary", "hanging"),
                "control": ("control_email",),
            },
            gaps=control_gap(control_email),
        )

    async def _may_read(self) -> Gap | None:
        """The token's scopes, and the queries by address, about nobody."""
        gap = await self._records.has_scopes()
        nobody = [f"nobody@{self._context.domain}"]
        await self._records.by_addresses(nobody)
        if self._settings.secondary == "search":
            await self._records.by_further_addresses(nobody, {})
        return gap

    async def _control_contact(self) -> None:
        """Every query that a look makes, about the control contact."""
        await self._records.control()
        emails = [self._settings.control_email or ""]
        if self._settings.secondary == "search":
            await self._records.by_further_addresses(emails, {})
        for contact in await self._records.by_addresses(emails):
            for kind in self._settings.hanging if not contact.archived else ():
                await self._records.hanging_on(contact, kind)

    # --- looking

    async def _look(self, task: Task, search: Search) -> _Look:
        """Looks in every place, by every address of the person's and by what was located before."""
        look = _Look()
        emails = task.identifiers.of_kind("email")
        given = [email.value for email in emails]
        look.theirs |= {contact.id: contact for contact in await self._records.by_addresses(given)}
        search.looked("contacts", emails)
        search.looked("archived_contacts", emails)
        if self._settings.secondary == "search":
            found = await self._records.by_further_addresses(given, look.theirs)
            look.theirs |= {contact.id: contact for contact in found}
            search.looked("secondary_addresses", emails)
        else:
            search.skipped("secondary_addresses", NOT_CONFIGURED)
        look.changed = await follow(
            task.of_kind("contact"), look.theirs, _wanted(task), self._records.by_id, task.rounds
        )
        await self._count_hanging(task, search, look)
        return look

    async def _count_hanging(self, task: Task, search: Search, look: _Look) -> None:
        """Counts what hangs on the contacts, and what hung on those that are gone."""
        known = task.of_kind("contact")
        new = look.theirs.keys() - {reference.id for reference in known}
        look.unlisted = {id_ for id_ in new if look.theirs[id_].archived}
        look.unlisted |= {reference.id for reference in known if _ARCHIVED in reference.marks}
        await self._list_hanging(task, look)
        for kind in HANGING:
            if kind not in self._settings.hanging:
                search.skipped(kind, NOT_CONFIGURED)
                continue
            listed = {one.id for one in task.rounds.settled(_HANGING) if one.kind == kind}
            earlier = {reference.id for reference in task.of_kind(kind)} - listed
            there = listed | (await self._records.still_there(kind, earlier))
            look.hanging += [Reference(kind=kind, id=id_) for id_ in sorted(there)]
            search.looked(kind, but=_ARCHIVED if look.unlisted else None)
            if there or not look.unlisted:
                look.left[f"{kind}_left"] = str(len(there))

    async def _list_hanging(self, task: Task, look: _Look) -> None:
        """Lists what hangs on each contact that earlier attempts have not listed."""
        live = {one.id: one for one in look.theirs.values() if not one.archived}
        for left in task.rounds.left([one.reference() for one in live.values()]):
            hanging = [
                (Reference(kind=kind, id=id_), _HANGING)
                for kind in HANGING
                if kind in self._settings.hanging
                for id_ in await self._records.hanging_on(live[left.id], kind)
            ]
            task.rounds.settle_all([*hanging, (left, _LISTED)])

    def _in_question(self, task: Task, look: _Look) -> dict[str, Contact]:
        """Those of the person's contacts that the DPO has to be asked about before they are erased."""
        if self._settings.ambiguous == "all":
            return {}
        theirs = look.theirs.values()
        return in_question(task, theirs, self._shared(task, theirs), look.changed)

    def _shared(self, task: Task, contacts: Iterable[Contact]) -> dict[str, Contact]:
        """Those that the DPO has to be asked about, because they share an address of the person's."""
        return {} if self._settings.ambiguous == "all" else sharing(contacts, _wanted(task))


def _ids(task: Task) -> frozenset[str]:
    return frozenset(contact.id for contact in task.of_kind("contact"))


def _wanted(task: Task) -> frozenset[str]:
    return frozenset(normal(email.value) for email in task.identifiers.of_kind("email"))


def _asked(shared: dict[str, Contact], changed: dict[str, Contact]) -> tuple[Reference, ...]:
    """Return what the DPO is asked about, as it is now."""
    return tuple(contact.agreed() for contact in {**shared, **changed}.values())
