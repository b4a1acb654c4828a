"""The page on which an agency answers, in English, Swedish and Norwegian.

It names the request by its id and nobody by name: whoever comes by the link learns nothing about the
person. It has no script, loads nothing, and its answers are choices, not free text, so that nothing
personal can be typed.
"""

import base64
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from typing import Final

from schemas.messages import Language

_STYLE: Final = (
    "body{font:1.05rem/1.5 system-ui,sans-serif;max-width:38rem;margin:2rem auto;padding:0 1rem;"
    "color:#1a1a1a;background:#fff}"
    "fieldset{border:1px solid #767676;border-radius:4px;margin:1.5rem 0;padding:1rem}"
    "label{display:block;margin:.5rem 0}.more{margin:0 0 1rem 1.8rem}"
    "button{font:inherit;padding:.6rem 1.4rem}"
    ".wrong{border-left:4px solid #b00020;padding-left:.8rem}"
)
_STYLE_HASH: Final = base64.b64encode(sha256(_STYLE.encode()).digest()).decode()

#: Nothing is kept, framed, loaded or told to other sites.
HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
}

#: What may be answered; the handler reads the same words.
ANSWERS: Final = ("erased", "nothing_held", "retained", "refused")
BASES: Final = ("discrimination_claims", "bookkeeping", "legal_claims", "other_law")
REASONS: Final = ("not_responsible", "unclear_request", "other_reason")


def form(language: Language, *, controller: str, request_id: str, wrong: bool = False) -> str:
    """The question and its possible answers."""
    text = _TEXT[language]
    fault = f'<p class="wrong" role="alert">{text["wrong"]}</p>' if wrong else ""
    choices = "".join(_choice(text, answer) for answer in ANSWERS)
    body = (
        f"<p>{text['asks'].format(controller=escape(controller))}</p>"
        f"<p>{text['id']} <code>{escape(request_id)}</code></p>{fault}"
        f'<form method="post"><fieldset><legend>{text["legend"]}</legend>{choices}</fieldset>'
        f'<p>{text["once"]}</p><button type="submit">{text["send"]}</button></form>'
    )
    return _page(language, text["title"], body)


def message(language: Language, name: str) -> str:
    """A page that says one thing: "thanks", "used", "expired", "unknown", "unavailable" or "busy"."""
    text = _TEXT[language]
    return _page(language, text[f"{name}_title"], f"<p>{text[name]}</p>")


def _choice(text: Mapping[str, str], answer: str) -> str:
    label = text[f"answer_{answer}"]
    radio = f'<label><input type="radio" name="answer" value="{answer}" required> {label}</label>'
    if answer == "retained":
        return (
            f'{radio}<div class="more">{_select(text, "legal_basis", BASES)}'
            f'<label>{text["retained_until"]} <input type="date" name="retained_until"></label></div>'
        )
    if answer == "refused":
        return f'{radio}<div class="more">{_select(text, "reason", REASONS)}</div>'
    return radio


def _select(text: Mapping[str, str], name: str, options: tuple[str, ...]) -> str:
    choices = "".join(f'<option value="{option}">{text[option]}</option>' for option in options)
    return f'<label>{text[name]} <select name="{name}">{choices}</select></label>'


def _page(language: Language, title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body><main><h1>{title}</h1>{body}</main></body></html>"
    )


_TEXT: Final[Mapping[Language, Mapping[str, str]]] = {
    "en": {
        "title": "Answer to a request for erasure",
        "asks": (
            "{controller} has asked you by mail to erase what you hold about a person who applied for a job. "
            "The mail says who it is; this page does not. Please say what you have done."
        ),
        "id": "The request's id is",
        "legend": "Our answer",
        "answer_erased": "We have erased everything that we held about the person.",
        "answer_nothing_held": "We hold nothing about the person.",
        "answer_retained": "We keep something, because the law requires or permits it:",
        "answer_refused": "We will not erase:",
        "legal_basis": "On what ground?",
        "retained_until": "Until and including (leave empty if it isn't known)",
        "reason": "Why?",
        "discrimination_claims": "Claims under the law on discrimination",
        "bookkeeping": "The law on bookkeeping",
        "legal_claims": "Other legal claims",
        "other_law": "Another legal obligation",
        "not_responsible": "We are not responsible for the data",
        "unclear_request": "We do not understand the request",
        "other_reason": "Another reason",
        "once": "You can answer once. If you answered by mistake, reply to the mail.",
        "send": "Send the answer",
        "wrong": "Please choose one of the answers; a date is written as 2026-12-31.",
        "thanks_title": "Thank you",
        "thanks": "Your answer is received. You can close this page.",
        "used_title": "Already answered",
        "used": "This link has been answered already. If you need to change the answer, reply to the mail.",
        "expired_title": "The link has expired",
        "expired": "This link can't be used any more. Reply to the mail, and you will get a new one.",
        "unknown_title": "Unknown link",
        "unknown": "This link isn't ours, or a part of it is missing. Use the whole link from the mail.",
        "unavailable_title": "Try again soon",
        "unavailable": "Your answer could not be received just now. Please send it again in a few minutes.",
        "busy_title": "Try again soon",
        "busy": "There is too much to do just now. Please try again in a minute.",
    },
    "sv": {
        "title": "Svar på en begäran om radering",
        "asks": (
            "{controller} har per e-post bett er radera det ni har om en person som sökt ett arbete. "
            "Brevet säger vem det är; det gör inte denna sida. Ange vad ni har gjort."
        ),
        "id": "Begäran har id",
        "legend": "Vårt svar",
        "answer_erased": "Vi har raderat allt vi hade om personen.",
        "answer_nothing_held": "Vi har inget om personen.",
        "answer_retained": "Vi behåller något, eftersom lagen kräver eller tillåter det:",
        "answer_refused": "Vi raderar inte:",
        "legal_basis": "På vilken grund?",
        "retained_until": "Till och med (lämna tomt om det inte är känt)",
        "reason": "Varför?",
        "discrimination_claims": "Anspråk enligt diskrimineringslagen",
        "bookkeeping": "Lagen om bokföring",
        "legal_claims": "Andra rättsliga anspråk",
        "other_law": "En annan rättslig förpliktelse",
        "not_responsible": "Vi ansvarar inte för uppgifterna",
        "unclear_request": "Vi förstår inte begäran",
        "other_reason": "Ett annat skäl",
        "once": "Ni kan svara en gång. Blev det fel, svara på brevet.",
        "send": "Skicka svaret",
        "wrong": "Välj ett av svaren; ett datum skrivs som 2026-12-31.",
        "thanks_title": "Tack",
        "thanks": "Ert svar är mottaget. Ni kan stänga sidan.",
        "used_title": "Redan besvarat",
        "used": "Denna länk är redan besvarad. Behöver ni ändra svaret, svara på brevet.",
        "expired_title": "Länken har gått ut",
        "expired": "Denna länk kan inte användas längre. Svara på brevet, så får ni en ny.",
        "unknown_title": "Okänd länk",
        "unknown": "Länken är inte vår, eller så saknas en del av den. Använd hela länken i brevet.",
        "unavailable_title": "Försök snart igen",
        "unavailable": "Ert svar kunde inte tas emot just nu. Skicka det igen om några minuter.",
        "busy_title": "Försök snart igen",
        "busy": "Det är för mycket att göra just nu. Försök igen om en minut.",
    },
    "nb": {
        "title": "Svar på et krav om sletting",
        "asks": (
            "{controller} har per e-post bedt dere slette det dere har om en person som har søkt en jobb. "
            "Brevet sier hvem det er; det gjør ikke denne siden. Oppgi hva dere har gjort."
        ),
        "id": "Kravet har ID",
        "legend": "Vårt svar",
        "answer_erased": "Vi har slettet alt vi hadde om personen.",
        "answer_nothing_held": "Vi har ingenting om personen.",
        "answer_retained": "Vi beholder noe, fordi loven krever eller tillater det:",
        "answer_refused": "Vi sletter ikke:",
        "legal_basis": "På hvilket grunnlag?",
        "retained_until": "Til og med (la stå tomt hvis det ikke er kjent)",
        "reason": "Hvorfor?",
        "discrimination_claims": "Krav etter loven om diskriminering",
        "bookkeeping": "Loven om bokføring",
        "legal_claims": "Andre rettskrav",
        "other_law": "En annen rettslig forpliktelse",
        "not_responsible": "Vi er ikke ansvarlige for opplysningene",
        "unclear_request": "Vi forstår ikke kravet",
        "other_reason": "En annen grunn",
        "once": "Dere kan svare én gang. Ble det feil, svar på brevet.",
        "send": "Send svaret",
        "wrong": "Velg ett av svarene; en dato skrives som 2026-12-31.",
        "thanks_title": "Takk",
        "thanks": "Svaret er mottatt. Dere kan lukke siden.",
        "used_title": "Allerede besvart",
        "used": "Denne lenken er allerede besvart. Må dere endre svaret, svar på brevet.",
        "expired_title": "Lenken er utløpt",
        "expired": "Denne lenken kan ikke brukes lenger. Svar på brevet, så får dere en ny.",
        "unknown_title": "Ukjent lenke",
        "unknown": "Lenken er ikke vår, eller en del av den mangler. Bruk hele lenken i brevet.",
        "unavailable_title": "Prøv igjen snart",
        "unavailable": "Svaret kunne ikke tas imot akkurat nå. Send det igjen om noen minutter.",
        "busy_title": "Prøv igjen snart",
        "busy": "Det er for mye å gjøre akkurat nå. Prøv igjen om et minutt.",
    },
}
