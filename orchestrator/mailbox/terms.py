"""Dates, and the terms that all mails share, in the three languages of the notices."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

Table = Mapping[str, str]

#: Whoever says until when data is kept means a date, and gives the end of that day in UTC.
UTC_ZONE: Final = ZoneInfo("UTC")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONTHS: Final = {
    "en": (
        *("January", "February", "March", "April", "May", "June"),
        *("July", "August", "September", "October", "November", "December"),
    ),
    "sv": (
        *("januari", "februari", "mars", "april", "maj", "juni"),
        *("juli", "augusti", "september", "oktober", "november", "december"),
    ),
    "nb": (
        *("januar", "februar", "mars", "april", "mai", "juni"),
        *("juli", "august", "september", "oktober", "november", "desember"),
    ),
}


def day(at: int, zone: ZoneInfo, language: str) -> str:
    """The date of a moment, in the installation's zone."""
    local = (_EPOCH + timedelta(microseconds=at)).astimezone(zone)
    name = _MONTHS[language][local.month - 1]
    return f"{local.day}. {name} {local.year}" if language == "nb" else f"{local.day} {name} {local.year}"


def clock(at: int, zone: ZoneInfo, language: str) -> str:
    """The date and time of a moment, in the installation's zone."""
    local = (_EPOCH + timedelta(microseconds=at)).astimezone(zone)
    return f"{day(at, zone, language)} {local:%H:%M}"


#: A kind of identifier that a system needed.
MISSING: Final[Mapping[str, Table]] = {
    "en": {
        "email": "e-mail address",
        "phone": "telephone number",
        "name": "name",
        "ga_client_id": "the client id in the browser's _ga cookie",
        "ga_user_id": "Google Analytics user id",
        "ga_app_instance_id": "Google Analytics app instance id",
        "customer_id": "customer id",
        "tenant_user_id": "user id at the tenant",
        "email_sha256": "e-mail address as a hash",
        "customer_id_sha256": "customer id as a hash",
    },
    "sv": {
        "email": "e-postadress",
        "phone": "telefonnummer",
        "name": "namn",
        "ga_client_id": "klient-id i webbläsarens _ga-kaka",
        "ga_user_id": "användar-id i Google Analytics",
        "ga_app_instance_id": "app-id i Google Analytics",
        "customer_id": "kundnummer",
        "tenant_user_id": "användar-id hos kunden",
        "email_sha256": "e-postadress som hash",
        "customer_id_sha256": "kundnummer som hash",
    },
    "nb": {
        "email": "e-postadresse",
        "phone": "telefonnummer",
        "name": "navn",
        "ga_client_id": "klient-ID i nettleserens _ga-informasjonskapsel",
        "ga_user_id": "bruker-ID i Google Analytics",
        "ga_app_instance_id": "app-ID i Google Analytics",
        "customer_id": "kundenummer",
        "tenant_user_id": "bruker-ID hos kunden",
        "email_sha256": "e-postadresse som hash",
        "customer_id_sha256": "kundenummer som hash",
    },
}

#: A legal basis for keeping data.
BASIS: Final[Mapping[str, Table]] = {
    "en": {
        "bokforingslagen_7_2": "the Swedish Bookkeeping Act (Bokföringslagen 7:2)",
        "bookkeeping": "the law on bookkeeping",
        "discrimination_claims": "claims under the law on discrimination",
        "legal_claims": "legal claims (GDPR Art. 17(3)(e))",
        "other_law": "another legal obligation",
    },
    "sv": {
        "bokforingslagen_7_2": "bokföringslagen 7 kap. 2 §",
        "bookkeeping": "lagen om bokföring",
        "discrimination_claims": "anspråk enligt diskrimineringslagen",
        "legal_claims": "rättsliga anspråk (art. 17.3 e i dataskyddsförordningen)",
        "other_law": "en annan rättslig förpliktelse",
    },
    "nb": {
        "bokforingslagen_7_2": "den svenske bokføringsloven (bokföringslagen 7:2)",
        "bookkeeping": "loven om bokføring",
        "discrimination_claims": "krav etter loven om diskriminering",
        "legal_claims": "rettskrav (personvernforordningen art. 17 nr. 3 bokstav e)",
        "other_law": "en annen rettslig forpliktelse",
    },
}

#: Records that were left, by kind: the plural, and the singular as ".1".
LEFT: Final[Mapping[str, Table]] = {
    "en": {
        "chats": "chat sessions",
        "chats.1": "chat session",
        "appointments": "appointments",
        "appointments.1": "appointment",
        "documents": "documents",
        "documents.1": "document",
        "tickets": "tickets",
        "tickets.1": "ticket",
        "notes": "notes",
        "notes.1": "note",
        "calls": "calls",
        "calls.1": "call",
        "deals": "deals",
        "deals.1": "deal",
    },
    "sv": {
        "chats": "chattar",
        "chats.1": "chatt",
        "appointments": "möten",
        "appointments.1": "möte",
        "documents": "dokument",
        "documents.1": "dokument",
        "tickets": "ärenden",
        "tickets.1": "ärende",
        "notes": "anteckningar",
        "notes.1": "anteckning",
        "calls": "samtal",
        "calls.1": "samtal",
        "deals": "affärer",
        "deals.1": "affär",
    },
    "nb": {
        "chats": "chatter",
        "chats.1": "chat",
        "appointments": "avtaler",
        "appointments.1": "avtale",
        "documents": "dokumenter",
        "documents.1": "dokument",
        "tickets": "saker",
        "tickets.1": "sak",
        "notes": "notater",
        "notes.1": "notat",
        "calls": "samtaler",
        "calls.1": "samtale",
        "deals": "salgsavtaler",
        "deals.1": "salgsavtale",
    },
}

#: Why a place was not looked in.
NOT_LOOKED: Final[Mapping[str, Table]] = {
    "en": {
        "not_configured": "it is not set up here",
        "not_searchable": "it can't be searched",
        "no_identifier": "nothing was given to search it by",
        "not_instructed": "the controller has not told us to erase anything",
        "archived_contact": "an archived contact does not show what belongs to it",
        "nothing_leads_there": "nothing was found that leads there",
        "unknown": "no reason is given",
    },
    "sv": {
        "not_configured": "det är inte inställt här",
        "not_searchable": "det går inte att söka där",
        "no_identifier": "inget har angetts att söka på där",
        "not_instructed": "den personuppgiftsansvarige har inte gett oss i uppdrag att radera",
        "archived_contact": "en arkiverad kontakt visar inte vad som hör till den",
        "nothing_leads_there": "inget hittades som leder dit",
        "unknown": "inget skäl är angivet",
    },
    "nb": {
        "not_configured": "det er ikke satt opp her",
        "not_searchable": "det kan ikke søkes der",
        "no_identifier": "ingenting er oppgitt å søke på der",
        "not_instructed": "den behandlingsansvarlige har ikke bedt oss om å slette",
        "archived_contact": "en arkivert kontakt viser ikke hva som hører til den",
        "nothing_leads_there": "ingenting ble funnet som fører dit",
        "unknown": "ingen grunn er oppgitt",
    },
}
