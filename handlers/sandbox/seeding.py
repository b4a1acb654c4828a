"""Carries out a seed: turns what was stated into rows.

`plant` returns the ids that were given, by vendor and in the order stated, so that a test can name
records without guessing.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from handlers.sandbox.hubspot_objects import hang
from handlers.sandbox.seeds import (
    AgencySeed,
    Candidate,
    Child,
    ControllerSeed,
    GoogleSeed,
    HubSpotSeed,
    Person,
    Seed,
    Stated,
    SuperOfficeSeed,
    TeamtailorSeed,
    TenantSeed,
)
from handlers.sandbox.store import Row, Store, normal
from handlers.sandbox.tenants import mark

MICROSECOND = timedelta(microseconds=1)
CHILDREN = {
    "tickets": "ticket",
    "form_submissions": "formsubmission",
    "chats": "chatsession",
    "appointments": "appointment",
    "documents": "document",
    "sales": "sale",
}
Ids = dict[str, list[str]]


def _several(stated: Any) -> tuple[Any, ...]:
    return stated if isinstance(stated, tuple) else (stated,)


def _number(store: Store, counter: str, stated: int | None) -> str:
    if stated is None:
        return str(store.number(counter))
    store.reserve(counter, stated)
    return str(stated)


def _account(
    store: Store, table: str, key: str, seed: Stated, *, but: Iterable[str], new: Row | None = None
) -> None:
    """Files the account's settings: those stated over those there were, over the defaults."""
    held = store.get(table, key)
    settings = seed.model_dump(exclude=set(but), include=None if held is None else seed.model_fields_set)
    plain = {
        name: value // MICROSECOND if isinstance(value, timedelta) else value
        for name, value in settings.items()
    }
    store.put(table, key, {**(new or {}), **(held or {}), **plain})


def plant(store: Store, seed: Seed, now: int) -> Ids:
    ids: Ids = {}
    for superoffice in _several(seed.superoffice):
        _superoffice(store, superoffice, now, ids)
    for hubspot in _several(seed.hubspot):
        _hubspot(store, hubspot, now, ids)
    for google in _several(seed.google):
        _google(store, google, ids)
    for teamtailor in _several(seed.teamtailor):
        _teamtailor(store, teamtailor, now, ids)
    for agency in seed.agencies:
        _agency(store, agency, now, ids)
    for controller in seed.controllers:
        _controller(store, controller, now, ids)
    for tenant in seed.tenants:
        _tenant(store, tenant, now, ids)
    return ids


def _superoffice(store: Store, seed: SuperOfficeSeed, now: int, ids: Ids) -> None:
    new = {"id": seed.context}
    _account(
        store, "superoffice.account", seed.context, seed, but=("context", "persons", "submissions"), new=new
    )
    for person in seed.persons:
        _person(store, seed.context, person, now, ids)
    for submission in seed.submissions:
        _child(
            store,
            seed.context,
            "formsubmission",
            submission,
            str(submission.person or 0),
            submission.email,
            [normal(submission.email)],
            now,
            ids,
        )


def _person(store: Store, context: str, person: Person, now: int, ids: Ids) -> None:
    number = _number(store, "superoffice.person", person.id)
    created_at = now if person.created_at is None else person.created_at
    emails = [*([person.email] if person.email else []), *person.additional_emails]
    known = [normal(text) for text in (*emails, *person.phones)]
    row = {
        "id": number,
        "account": context,
        "name": person.name,
        "emails": emails,
        "phones": list(person.phones),
        "consents": [purpose.upper() for purpose in person.consents],
        "created_at": created_at,
        "updated_at": created_at,
        "retired": person.retired,
        "associate": person.associate,
        "deleted_at": None,
        "deleted_by": None,
        "about": [*known, f"#id:{number}"],
    }
    store.put("superoffice.person", number, row)
    ids.setdefault("superoffice.person", []).append(number)
    for field, kind in CHILDREN.items():
        stated: int | tuple[Child, ...] = getattr(person, field)
        for child in [Child() for _ in range(stated)] if isinstance(stated, int) else stated:
            _child(store, context, kind, child, number, emails[0] if emails else "", known, now, ids)


def _child(
    store: Store,
    context: str,
    kind: str,
    child: Child,
    person: str,
    email: str,
    known: list[str],
    now: int,
    ids: Ids,
) -> None:
    number = _number(store, f"superoffice.{kind}", child.id)
    row = {
        "id": number,
        "account": context,
        "person": person,
        "title": child.title,
        "body": child.body,
        "email": email,
        "registered_at": now if child.registered_at is None else child.registered_at,
        "deleted_at": None,
        "bookkeeping": child.bookkeeping,
        "about": [*known, f"#person:{person}", f"#id:{number}"],
    }
    store.put(f"superoffice.{kind}", number, row)
    ids.setdefault(f"superoffice.{kind}", []).append(number)


def _hubspot(store: Store, seed: HubSpotSeed, now: int, ids: Ids) -> None:
    key = str(seed.portal)
    _account(store, "hubspot.account", key, seed, but=("portal", "contacts"), new={"id": seed.portal})
    for contact in seed.contacts:
        number = _number(store, "hubspot.contact", contact.id)
        created_at = now if contact.created_at is None else contact.created_at
        row = {
            "id": number,
            "account": seed.portal,
            "email": contact.email,
            "additional_emails": list(contact.additional_emails),
            "properties": dict(contact.properties),
            "created_at": created_at,
            "updated_at": created_at,
            "archived_at": None,
            "associations": {kind: list(ids_) for kind, ids_ in contact.associations.items()},
            "about": [normal(email) for email in (contact.email, *contact.additional_emails)],
        }
        for kind, hanging in contact.associations.items():
            hang(store, seed.portal, kind, hanging)
        store.put("hubspot.contact", number, row)
        ids.setdefault("hubspot.contact", []).append(number)


def _google(store: Store, seed: GoogleSeed, ids: Ids) -> None:
    new = {"id": seed.property, "day": "", "spent": 0}
    _account(
        store,
        "google.property",
        seed.property,
        seed,
        but=("property", "service_accounts", "visitors"),
        new=new,
    )
    for account in seed.service_accounts:
        properties = None if account.properties is None else list(account.properties)
        store.put(
            "google.service_account",
            account.email,
            {"id": account.email, "public_key": account.public_key, "properties": properties},
        )
    for visitor in seed.visitors:
        number = f"visitor-{store.number('google.visitor')}"
        seen = {
            name: [value] if value else []
            for name, value in {
                "client_id": visitor.client_id,
                "user_id": visitor.user_id,
                "app_instance_id": visitor.app_instance_id,
            }.items()
        }
        known = [*(value for values in seen.values() for value in values), *visitor.provided]
        person = [value for value in (visitor.email, visitor.phone) if value]
        row = {
            **seen,
            "id": number,
            "account": seed.property,
            "provided": list(visitor.provided),
            "submitted_at": None,
        }
        store.put("google.visitor", number, {**row, "about": [normal(value) for value in (*known, *person)]})
        ids.setdefault("google.visitor", []).append(number)


def _candidate(store: Store, table: str, account: str, candidate: Candidate, now: int, ids: Ids) -> None:
    number = _number(store, table, candidate.id)
    row = {
        "id": number,
        "account": account,
        "email": candidate.email,
        "name": candidate.name,
        "created_at": now if candidate.created_at is None else candidate.created_at,
        "about": [normal(candidate.email)],
    }
    store.put(table, number, row)
    ids.setdefault(table, []).append(number)


def _teamtailor(store: Store, seed: TeamtailorSeed, now: int, ids: Ids) -> None:
    new = {"id": seed.company}
    _account(store, "teamtailor.company", seed.company, seed, but=("company", "candidates"), new=new)
    for candidate in seed.candidates:
        _candidate(store, "teamtailor.candidate", seed.company, candidate, now, ids)


def _agency(store: Store, seed: AgencySeed, now: int, ids: Ids) -> None:
    new = {"id": seed.name, "mails": 0, "answered": []}
    _account(store, "agency", seed.name, seed, but=("candidates",), new=new)
    for candidate in seed.candidates:
        _candidate(store, "agency.candidate", seed.name, candidate, now, ids)


def _controller(store: Store, seed: ControllerSeed, now: int, ids: Ids) -> None:
    _account(
        store, "controller.account", seed.tenant, seed, but=("tenant", "candidates"), new={"id": seed.tenant}
    )
    for candidate in seed.candidates:
        _candidate(store, "agency.candidate", seed.tenant, candidate, now, ids)


def _tenant(store: Store, seed: TenantSeed, now: int, ids: Ids) -> None:
    _account(store, "tenant.account", seed.tenant, seed, but=("tenant", "records"), new={"id": seed.tenant})
    for record in seed.records:
        created_at = now if record.created_at is None else record.created_at
        values = [normal(identity.value) for identity in record.identities]
        about = [*values, *(mark(identity.type, identity.value) for identity in record.identities)]
        for key, kind in [(record.id, record.type), *((child.id, child.type) for child in record.children)]:
            row = {
                "id": key,
                "account": seed.tenant,
                "type": kind,
                "created_at": created_at,
                "identities": [identity.model_dump() for identity in record.identities],
                "parent": None if key == record.id else record.id,
                "person": record.person,
                "about": about,
            }
            store.put("tenant.record", f"{seed.tenant}:{key}", row)
            ids.setdefault("tenant.record", []).append(key)
