"""The mail that asks an agency to erase a person, in the agency's language.

A mail's Message-ID says which mail it is, not which attempt at it: the request, the system, how many mails
were taken for good before it (each leaves a note for the next command), and who is named in it, as a keyed
hash that is another with each request, so that no two requests can be told to be one person's. So when the
server's answer is lost and another attempt sends the mail once more, a mail program knows it for the same;
and the first mail, each reminder, and one about more than before are known to be others. The link is the
attempt's own; each copy's can be answered.
"""

from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage

from handlers.port import Task
from handlers.registry import Context
from handlers.times import EPOCH
from orchestrator.privacy import Identifiers, Kind
from orchestrator.smtp import compose, message_id
from schemas.messages import Language

#: What an agency can find a person by, best first. The next is named only when there is none of those before.
_FINDS: tuple[tuple[Kind, ...], ...] = (("email",), ("phone",), ("name",))


NOTE = "mail"
"""How a mail that was taken is noted, by its number."""


@dataclass(frozen=True, slots=True)
class _Text:
    subject: str
    reminder: str
    reminded: str
    body: str
    candidate: str


_TEXTS: dict[Language, _Text] = {
    "en": _Text(
        subject="Erasure request {request}",
        reminder="Reminder: erasure request {request}",
        reminded="We have written to you about this before and have no answer yet.\n\n",
        body="""A person has asked {controller} to have their personal data erased (GDPR Article 17). You
handle applications on our behalf. Please erase everything that you hold about this person for us,
applications and attachments among it, and any consent to keep it ends with this request:

{person}

Then please tell us what you have done, on this page:

{link}

The page also takes the answers that you hold nothing, or that you must keep something by law.
The link can be used until {expires}. Please do not forward this mail.
""",
        candidate="Candidate {id}",
    ),
    "sv": _Text(
        subject="Begäran om radering {request}",
        reminder="Påminnelse: begäran om radering {request}",
        reminded="Vi har skrivit till er om detta tidigare och har ännu inte fått något svar.\n\n",
        body="""En person har begärt att {controller} raderar personens uppgifter (artikel 17 i GDPR). Ni
hanterar ansökningar för vår räkning. Radera allt som ni har om personen för vår räkning, även
ansökningar och bilagor. Ett samtycke till att spara uppgifterna upphör i och med denna begäran:

{person}

Berätta sedan vad ni har gjort på denna sida:

{link}

På sidan kan ni också svara att ni inte har några uppgifter, eller att ni måste spara något enligt lag.
Länken kan användas till och med {expires}. Vidarebefordra inte detta meddelande.
""",
        candidate="Kandidat {id}",
    ),
    "nb": _Text(
        subject="Krav om sletting {request}",
        reminder="Påminnelse: krav om sletting {request}",
        reminded="Vi har skrevet til dere om dette før og har ennå ikke fått svar.\n\n",
        body="""En person har krevd at {controller} sletter personens opplysninger (artikkel 17 i GDPR).
Dere behandler søknader på våre vegne. Slett alt dere har om personen på våre vegne, også søknader
og vedlegg. Et samtykke til å beholde opplysningene opphører med dette kravet:

{person}

Fortell deretter hva dere har gjort, på denne siden:

{link}

På siden kan dere også svare at dere ikke har noen opplysninger, eller at dere må beholde noe etter loven.
Lenken kan brukes til og med {expires}. Ikke videresend denne e-posten.
""",
        candidate="Kandidat {id}",
    ),
}


def can_name(identifiers: Identifiers) -> bool:
    """Whether an agency could find anybody by these."""
    return bool(_named(identifiers))


def mails_before(task: Task) -> int:
    """How many mails about this request the agency's server has taken for good."""
    return len(task.of_kind(NOTE))


def compose_mail(
    task: Task, context: Context, *, recipient: str, language: Language, link: str, expires_at: int
) -> EmailMessage:
    """The mail for this command; the same one, byte for byte, each time that the command is carried out."""
    text = _TEXTS[language]
    person = [*_named(task.identifiers)]
    person += [text.candidate.format(id=reference.id) for reference in task.of_kind("candidate")]
    body = text.body.format(
        controller=context.controller,
        person="\n".join(f"  {line}" for line in person),
        link=link,
        expires=(EPOCH + timedelta(microseconds=expires_at)).date().isoformat(),
    )
    subject = text.reminder if task.reminder else text.subject
    named = context.correlate(f"{task.system}/mail", "\n".join((task.request_id, *person)))
    thread = message_id(context.domain, task.request_id, f"{task.system}/thread")
    return compose(
        sender=context.sender,
        sender_name=context.controller or None,
        recipient=recipient,
        subject=subject.format(request=task.request_id),
        text=(text.reminded if task.reminder else "") + body,
        at=task.issued_at,
        message_id=message_id(context.domain, task.request_id, f"{task.system}/{mails_before(task)}/{named}"),
        references=(thread,),
        language=language,
    )


def _named(identifiers: Identifiers) -> list[str]:
    for kinds in _FINDS:
        found = [identifier.value for kind in kinds for identifier in identifiers.of_kind(kind)]
        if found:
            return found
    return []
