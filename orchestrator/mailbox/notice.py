"""The notice to the subject: what was done about their request, and what their rights are.

* GDPR Art. 12(3): information on action taken, within one month. Art. 12(4): if none is taken, why not, and
  that one may complain to a supervisory authority and go to court. The extension of the period is told too.
* It says no more than is known when it is written: what a vendor has accepted is under way, not erased.
* What was deliberately left is told by kind, and wherever its system is told of as erased, that says so.
* Where was looked, by what, and where not, is told of each system that says so. One that doesn't is not told
  of as looked into. What a vendor purges later is not told of as gone.
* No identifier of the person is in it. Only its To has one, and a mail program shows it to them alone.
"""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Final
from zoneinfo import ZoneInfo

from orchestrator.mailbox import terms
from orchestrator.mailbox.dpo import harmless
from orchestrator.mailbox.left import Left, left_of
from orchestrator.mailbox.places import Looks, Titles, purge_of, says_where
from orchestrator.settings import Settings
from schemas.messages import Language, Outcome, SystemOutcome

_WIDTH: Final = 78

#: The authority to complain to, by country.
AUTHORITIES: Final[Mapping[str, tuple[str, str]]] = {
    "DK": ("Datatilsynet", "https://www.datatilsynet.dk"),
    "FI": ("Dataombudsmannens byrå", "https://tietosuoja.fi"),
    "NO": ("Datatilsynet", "https://www.datatilsynet.no"),
    "SE": ("Integritetsskyddsmyndigheten (IMY)", "https://www.imy.se"),
}

#: Which group a system's status and grade belong to; the groups are told in this order.
_UNDER_WAY: Final = ("waiting", "locating", "erasing", "proving", "retrying", "accepted", "awaiting_decision")
_GROUPS: Final = (
    "erased",
    "erased_stated",
    "erased_promised",
    "erased_unsaid",
    "erased_ahead",
    "absent",
    "absent_stated",
    "absent_unsaid",
    "anonymised",
    "under_way",
    "asked",
    "retained",
    "not_identifiable",
    "holds_nothing",
    "refused",
    "waived",
    "stopped",
)
#: The groups whose words would be taken to be about everything in a system.
_WHOLE: Final = (
    *("erased", "erased_stated", "erased_promised", "erased_unsaid", "erased_ahead"),
    *("anonymised", "under_way"),
)


class NoSuchNotice(Exception):
    """The outcome asks for a notice for which there is no text."""


def subject(outcome: Outcome) -> str:
    """The request's id and fixed words."""
    return f"{_TEXT[outcome.language]['subject']} {outcome.request_id}"


def render(outcome: Outcome, settings: Settings, titles: Titles | None = None) -> str:
    """The notice's text, for the purpose that the outcome's code names: "acted", "rejected" or "extended".
    `titles` are those of the places, as the handlers declare them.
    """
    return _Letter(outcome, settings, titles or {}).text()


class _Letter:
    """One notice in the making."""

    def __init__(self, outcome: Outcome, settings: Settings, titles: Titles) -> None:
        self._outcome = outcome
        self._settings = settings
        self._titles = titles
        self._language: Language = outcome.language
        self._zone = ZoneInfo(settings.installation.time_zone)
        self._text = _TEXT[outcome.language]

    def text(self) -> str:
        blocks = [
            [self._say("received", day=self._day(self._outcome.received_at), id=self._outcome.request_id)],
            *self._body(),
            [self._text["rights"], self._complaint()],
            [self._contact()],
            [self._settings.installation.name],
        ]
        return "\n\n".join("\n".join(_filled(line) for line in block) for block in blocks if block) + "\n"

    def _say(self, name: str, **filling: object) -> str:
        return self._text[name].format(controller=self._settings.installation.name, **filling)

    def _day(self, at: int) -> str:
        return terms.day(at, self._zone, self._language)

    def _body(self) -> Iterator[list[str]]:
        match self._outcome.code:
            case "acted":
                yield [self._say("acted")]
                for group in _GROUPS:
                    lines = [self._line(one) for one in self._outcome.systems if self._group(one) == group]
                    if lines:
                        more = [self._say("identify")] if group == "not_identifiable" else []
                        yield [self._text[group], *lines, *more]
                yield from self._left()
                yield from self._looks()
            case "rejected":
                yield [self._say("rejected"), *(self._reason() or [self._say("officer_knows")])]
            case "extended":
                yield [self._say("extended", day=self._day(self._outcome.received_at)), *self._reason()]
            case _:
                raise NoSuchNotice

    def _left(self) -> Iterator[list[str]]:
        """What was deliberately left, and what could not be asked for."""
        left = [(self._title(one), self._left_in(one)) for one in self._outcome.systems]
        kept = [f"  - {title}; {one.counted(self._language)}" for title, one in left if one.records]
        reasoned = [f"  - {title}; {told}" for title, one in left for told in one.reasoned(self._language)]
        if kept or reasoned:
            officer = [self._text["officer_knows"]] if kept else []
            yield [self._text["kept"], *kept, *reasoned, *officer]
        # Every property counts the same ids.
        unsubmitted = max((one.unsubmitted for _, one in left), default=0)
        if unsubmitted:
            yield [self._say("unsubmitted", count=unsubmitted), self._text["identify_there"]]
        out_of_scope = max((one.out_of_scope for _, one in left), default=0)
        if out_of_scope:
            yield [self._say("out_of_scope", count=out_of_scope)]

    def _left_in(self, system: SystemOutcome) -> Left:
        return left_of(system.evidence, [one.system for one in self._outcome.systems])

    def _looks(self) -> Iterator[list[str]]:
        """Where was looked and by what, and where not."""
        searched: list[str] = []
        skipped: list[str] = []
        for system in self._outcome.systems:
            title, looks = self._title(system), Looks(system, self._settings, self._titles, self._language)
            for one in looks.looked():
                how = [self._say("by", kinds=one.by)] if one.by else []
                how += [self._say("not_by", kinds=one.not_by)] if one.not_by else []
                searched.append(f"  - {'; '.join((title, one.places, *(how or [self._text['by_found']])))}")
            skipped += [f"  - {title}; {one.places}; {one.reason}" for one in looks.skipped()]
        yield [self._text["looked"], *searched] if searched else []
        yield [self._text["not_looked"], *skipped] if skipped else []

    def _reason(self) -> list[str]:
        """The officer's reason, unless it looks as if it named somebody."""
        text = self._outcome.reason
        return [] if not text or harmless(text) != text else [self._say("decided_because", text=text)]

    def _line(self, system: SystemOutcome) -> str:
        parts = [self._title(system)]
        if self._group(system) in _WHOLE and self._left_in(system):
            parts.append(self._text["in_part"])
        purge = purge_of(system, self._outcome.occurred_at)
        if purge is not None and purge.at is not None:
            parts.append(self._say("purged_by", day=self._day(purge.at)))
        if system.legal_basis is not None:
            parts.append(terms.BASIS[self._language].get(system.legal_basis, system.legal_basis))
        if system.retained_until is not None:
            parts.append(
                self._say("until", day=terms.day(system.retained_until, terms.UTC_ZONE, self._language))
            )
        if system.missing:
            names = terms.MISSING[self._language]
            parts.append(self._say("needs", what=", ".join(names.get(one, one) for one in system.missing)))
        reason = harmless(system.reason) if system.reason is not None else None
        if reason is not None and system.status == "waived":
            parts.append(self._say("reason", text=reason))
        return f"  - {'; '.join(parts)}"

    def _group(self, system: SystemOutcome) -> str:
        """Which group's words are true of the system, and no stronger than what is known."""
        is_ahead = purge_of(system, self._outcome.occurred_at) is not None
        if is_ahead and system.status == "erased" and system.grade != "vendor_promised":
            return "erased_ahead"
        if system.status in ("erased", "absent") and (system.grade is None or not says_where(system)):
            return f"{system.status}_unsaid"
        return _group(system)

    def _title(self, system: SystemOutcome) -> str:
        known = self._settings.systems.get(system.system)
        return known.title if known is not None and known.title is not None else system.system

    def _complaint(self) -> str:
        name, url = AUTHORITIES.get(self._settings.installation.country, (self._text["any_authority"], ""))
        notices = self._settings.notices
        if notices.authority is not None:
            name, url = notices.authority, ""
        url = notices.authority_url or url
        return self._say("complaint", authority=f"{name}, {url}" if url else name)

    def _contact(self) -> str:
        dpo = self._settings.dpo
        return self._say("contact", officer=dpo.name or self._text["officer"], address=dpo.address)


def _group(system: SystemOutcome) -> str:
    status = system.status
    if status == "erased" and system.grade == "vendor_promised":
        return "erased_promised"
    if status in ("erased", "absent") and system.grade not in (None, "seen_absent"):
        return f"{status}_stated"
    if status in _UNDER_WAY:
        return "under_way"
    if status in ("awaiting_party", "awaiting_subject"):
        return "asked" if status == "awaiting_party" else "not_identifiable"
    if status == "not_identifiable" and not system.missing:
        return "holds_nothing"
    return status if status in _GROUPS else "under_way"


def _filled(line: str) -> str:
    indent = "    " if line.startswith("  - ") else ""
    return textwrap.fill(
        line, _WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )


_TEXT: Final[Mapping[Language, Mapping[str, str]]] = {
    "en": {
        "subject": "Your request for erasure",
        "received": (
            "{controller} received your request for erasure of your personal data on {day}. "
            "The request's id is {id}."
        ),
        "acted": "This is what we have done.",
        "erased": "Your data has been erased, and we have looked again to see that it is gone:",
        "erased_stated": "Your data has been erased, as the one who holds it for us has stated:",
        "erased_promised": (
            "The supplier has accepted the erasure and promised to carry it out. We have no means of looking "
            "ourselves:"
        ),
        "erased_unsaid": "Your data has been erased. We can't tell you where we looked for it afterwards:",
        "erased_ahead": (
            "Your data has been deleted and is out of our reach, but the supplier still has it in store and "
            "purges it later:"
        ),
        "purged_by": "purged by {day}",
        "absent_unsaid": "We found nothing about you, but can't tell you where we looked:",
        "looked": "This is where we have looked, and by what:",
        "by": "by {kinds}",
        "not_by": "not by {kinds}",
        "by_found": "by what we had found of you",
        "not_looked": "Here we have not looked:",
        "absent": "We have looked, and found nothing about you:",
        "absent_stated": "The one who would hold data about you has stated that there is none:",
        "anonymised": "Your data has been made anonymous, so that it can't be traced to you:",
        "under_way": "The erasure is under way, and we follow it until it is done:",
        "asked": "We have asked the one who holds the data, and follow it until we have an answer:",
        "retained": "Some data has not been erased, because the law requires or permits that it is kept:",
        "not_identifiable": "We could not find out, with what we know of you, if there is data about you:",
        "holds_nothing": "We have considered these too. They hold nothing that can be traced to a person:",
        "refused": (
            "These hold data that another organisation decides over. It has not agreed to the erasure; "
            "turn to it for its reasons:"
        ),
        "waived": "Your data has not been erased, or not as far as we know, in:",
        "stopped": "The erasure was stopped in:",
        "in_part": "but not everything: see below",
        "kept": "We have kept these records, which are linked to you, and have not erased them:",
        "out_of_scope": (
            "Some ids that you gave us belong to sites or apps that this request did not reach, so we have "
            "not asked for erasure by them. Their number: {count}."
        ),
        "unsubmitted": (
            "Some ids that you gave us belong to no site or app that we measure, so we could not ask for "
            "erasure by them. Their number: {count}."
        ),
        "identify_there": (
            "If you tell us on which of our sites, or in which of our apps, you have them, we will ask for "
            "erasure there (GDPR Art. 11)."
        ),
        "until": "kept until {day}",
        "needs": "we would need: {what}",
        "reason": "the reason: {text}",
        "identify": "If you give us what is missing, we will look again (GDPR Art. 11).",
        "rejected": "We have decided not to act on the request.",
        "officer_knows": "The data protection officer, whose address is below, will give you the reasons.",
        "decided_because": "The reason: {text}",
        "extended": (
            "We need more time to deal with the request, because it is complex or because of the number of "
            "requests (GDPR Art. 12(3)). You will hear from us no later than three months after {day}, the "
            "day on which we received it."
        ),
        "rights": (
            "You have the right to know which data we hold about you, to have it rectified or erased, to "
            "have its processing restricted, to object to it, and to withdraw a consent at any time."
        ),
        "complaint": (
            "If you think that we handle your data wrongly, you may complain to {authority}. You may also "
            "seek a judicial remedy."
        ),
        "any_authority": "the data protection authority where you live or work",
        "officer": "our data protection officer",
        "contact": "Questions are answered by {officer}: {address}",
    },
    "sv": {
        "subject": "Din begäran om radering",
        "received": (
            "{controller} tog emot din begäran om radering av dina personuppgifter den {day}. "
            "Begäran har id {id}."
        ),
        "acted": "Detta har vi gjort.",
        "erased": "Dina uppgifter är raderade, och vi har kontrollerat att de är borta:",
        "erased_stated": "Dina uppgifter är raderade, enligt den som har dem för vår räkning:",
        "erased_promised": (
            "Leverantören har godtagit raderingen och lovat att utföra den. Vi har ingen möjlighet att "
            "kontrollera det själva:"
        ),
        "erased_unsaid": "Dina uppgifter är raderade. Vi kan inte säga var vi har letat efter dem sedan:",
        "erased_ahead": (
            "Dina uppgifter är borttagna och utom räckhåll för oss, men leverantören har dem kvar i sin "
            "lagring och gallrar dem senare:"
        ),
        "purged_by": "gallras senast {day}",
        "absent_unsaid": "Vi har inte funnit något om dig, men kan inte säga var vi har letat:",
        "looked": "Här har vi letat, och på vad:",
        "by": "på {kinds}",
        "not_by": "inte på {kinds}",
        "by_found": "via det vi hade funnit om dig",
        "not_looked": "Här har vi inte letat:",
        "absent": "Vi har letat, och inte funnit något om dig:",
        "absent_stated": "Den som skulle ha uppgifter om dig har uppgett att det inte finns några:",
        "anonymised": "Dina uppgifter är anonymiserade, så att de inte kan härledas till dig:",
        "under_way": "Raderingen pågår, och vi följer den tills den är klar:",
        "asked": "Vi har frågat den som har uppgifterna, och följer frågan tills vi får svar:",
        "retained": "Vissa uppgifter är inte raderade, eftersom lagen kräver eller tillåter att de bevaras:",
        "not_identifiable": (
            "Vi har inte kunnat ta reda på om det finns uppgifter om dig, med det vi vet om dig:"
        ),
        "holds_nothing": "Vi har även prövat dessa. De innehåller inget som kan härledas till en person:",
        "refused": (
            "Dessa innehåller uppgifter som en annan organisation bestämmer över. Den har inte gått med på "
            "raderingen; vänd dig dit för skälen:"
        ),
        "waived": "Dina uppgifter är inte raderade, eller inte såvitt vi vet, i:",
        "stopped": "Raderingen avbröts i:",
        "in_part": "men inte allt: se nedan",
        "kept": "Dessa poster, som är kopplade till dig, har vi behållit och inte raderat:",
        "out_of_scope": (
            "Några id som du gav oss hör till webbplatser eller appar som denna begäran inte nådde, så vi "
            "har inte begärt radering med dem. Antal: {count}."
        ),
        "unsubmitted": (
            "Några id som du gav oss hör inte till någon webbplats eller app som vi mäter, så vi har inte "
            "kunnat begära radering med dem. Antal: {count}."
        ),
        "identify_there": (
            "Om du berättar på vilken av våra webbplatser, eller i vilken av våra appar, du har dem begär vi "
            "radering där (art. 11 i dataskyddsförordningen)."
        ),
        "until": "bevaras till och med {day}",
        "needs": "vi skulle behöva: {what}",
        "reason": "skälet: {text}",
        "identify": "Om du ger oss det som saknas letar vi igen (art. 11 i dataskyddsförordningen).",
        "rejected": "Vi har beslutat att inte tillmötesgå begäran.",
        "officer_knows": "Dataskyddsombudet, vars adress finns nedan, ger dig skälen.",
        "decided_because": "Skälet: {text}",
        "extended": (
            "Vi behöver mer tid för begäran, eftersom den är komplicerad eller på grund av antalet "
            "begäranden (art. 12.3 i dataskyddsförordningen). Du hör från oss senast tre månader "
            "efter den {day}, då vi tog emot den."
        ),
        "rights": (
            "Du har rätt att få veta vilka uppgifter vi har om dig, att få dem rättade eller raderade, att "
            "få behandlingen av dem begränsad, att invända mot den och att när som helst återkalla ett "
            "samtycke."
        ),
        "complaint": (
            "Om du anser att vi behandlar dina uppgifter felaktigt kan du klaga hos {authority}. Du kan "
            "också vända dig till domstol."
        ),
        "any_authority": "dataskyddsmyndigheten där du bor eller arbetar",
        "officer": "vårt dataskyddsombud",
        "contact": "Frågor besvaras av {officer}: {address}",
    },
    "nb": {
        "subject": "Ditt krav om sletting",
        "received": (
            "{controller} mottok ditt krav om sletting av personopplysningene dine {day}. Kravet har ID {id}."
        ),
        "acted": "Dette har vi gjort.",
        "erased": "Opplysningene dine er slettet, og vi har kontrollert at de er borte:",
        "erased_stated": "Opplysningene dine er slettet, ifølge den som har dem på våre vegne:",
        "erased_promised": (
            "Leverandøren har godtatt slettingen og lovet å utføre den. Vi har ingen mulighet til å "
            "kontrollere det selv:"
        ),
        "erased_unsaid": "Opplysningene dine er slettet. Vi kan ikke si hvor vi har lett etter dem siden:",
        "erased_ahead": (
            "Opplysningene dine er fjernet og utenfor vår rekkevidde, men leverandøren har dem fortsatt "
            "lagret og sletter dem endelig senere:"
        ),
        "purged_by": "slettes endelig senest {day}",
        "absent_unsaid": "Vi har ikke funnet noe om deg, men kan ikke si hvor vi har lett:",
        "looked": "Her har vi lett, og på hva:",
        "by": "på {kinds}",
        "not_by": "ikke på {kinds}",
        "by_found": "ut fra det vi hadde funnet om deg",
        "not_looked": "Her har vi ikke lett:",
        "absent": "Vi har lett, og ikke funnet noe om deg:",
        "absent_stated": "Den som ville hatt opplysninger om deg, har oppgitt at det ikke finnes noen:",
        "anonymised": "Opplysningene dine er anonymisert, slik at de ikke kan spores til deg:",
        "under_way": "Slettingen pågår, og vi følger den til den er ferdig:",
        "asked": "Vi har spurt den som har opplysningene, og følger saken til vi får svar:",
        "retained": "Noen opplysninger er ikke slettet, fordi loven krever eller tillater at de oppbevares:",
        "not_identifiable": (
            "Vi har ikke kunnet finne ut om det finnes opplysninger om deg, med det vi vet om deg:"
        ),
        "holds_nothing": "Vi har også vurdert disse. De inneholder ikke noe som kan spores til en person:",
        "refused": (
            "Disse inneholder opplysninger som en annen virksomhet bestemmer over. Den har ikke gått med på "
            "slettingen; henvend deg dit for begrunnelsen:"
        ),
        "waived": "Opplysningene dine er ikke slettet, eller ikke så vidt vi vet, i:",
        "stopped": "Slettingen ble stanset i:",
        "in_part": "men ikke alt: se nedenfor",
        "kept": "Disse postene, som er knyttet til deg, har vi beholdt og ikke slettet:",
        "out_of_scope": (
            "Noen ID-er som du ga oss, hører til nettsteder eller apper som denne forespørselen ikke nådde, "
            "så vi har ikke bedt om sletting med dem. Antall: {count}."
        ),
        "unsubmitted": (
            "Noen ID-er som du ga oss, hører ikke til noe nettsted eller noen app som vi måler, så vi har "
            "ikke kunnet be om sletting med dem. Antall: {count}."
        ),
        "identify_there": (
            "Hvis du forteller oss på hvilket av våre nettsteder, eller i hvilken av våre apper, du har dem, "
            "ber vi om sletting der (personvernforordningen art. 11)."
        ),
        "until": "oppbevares til og med {day}",
        "needs": "vi ville trenge: {what}",
        "reason": "begrunnelsen: {text}",
        "identify": "Hvis du gir oss det som mangler, leter vi igjen (personvernforordningen art. 11).",
        "rejected": "Vi har besluttet ikke å etterkomme kravet.",
        "officer_knows": "Personvernombudet, med adressen nedenfor, gir deg begrunnelsen.",
        "decided_because": "Begrunnelsen: {text}",
        "extended": (
            "Vi trenger mer tid til kravet, fordi det er komplisert eller på grunn av antallet krav "
            "(personvernforordningen art. 12 nr. 3). Du hører fra oss senest tre måneder etter {day}, da vi "
            "mottok det."
        ),
        "rights": (
            "Du har rett til å få vite hvilke opplysninger vi har om deg, å få dem rettet eller slettet, å "
            "få behandlingen av dem begrenset, å protestere mot den, og når som helst å trekke tilbake et "
            "samtykke."
        ),
        "complaint": (
            "Hvis du mener at vi behandler opplysningene dine feil, kan du klage til {authority}. Du kan "
            "også gå til domstolene."
        ),
        "any_authority": "datatilsynsmyndigheten der du bor eller arbeider",
        "officer": "vårt personvernombud",
        "contact": "Spørsmål besvares av {officer}: {address}",
    },
}
