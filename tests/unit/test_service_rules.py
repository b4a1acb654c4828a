"""What the settings say is what the sagas go by: each wait, each system's plan, and the days."""

from dataclasses import fields
from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.saga import rules as core
from orchestrator.service.rules import calendar_of, rules_of
from orchestrator.settings import Installation, Notices, Retry, Settings, System, Waits, micros

DAY = timedelta(days=1)
INSTALLATION = Installation(
    name="Example AB", domain="example.com", public_url="https://erasure.example.com", country="SE"
)


def settings_of(**parts: Any) -> Settings:
    """Settings with these sections, which nobody has read from a file."""
    given: dict[str, Any] = {
        "installation": INSTALLATION,
        "waits": Waits(),
        "retry": Retry(),
        "notices": Notices(),
        "systems": {},
    }
    return Settings.model_construct(None, **{**given, **parts})


def test_every_wait_is_the_settings_own() -> None:
    """One that is forgotten here would be the default for ever, whatever the operator writes."""
    names = [one.name for one in fields(core.Waits)]
    counts: dict[str, Any] = {"max_reminders": 7, "max_reopened": 9}
    given: dict[str, Any] = {
        name: timedelta(hours=30 + n) for n, name in enumerate(names) if name not in counts
    }
    made = rules_of(settings_of(waits=Waits(**given, **counts))).waits
    expected = {name: micros(value) for name, value in given.items()} | counts
    assert expected == {name: getattr(made, name) for name in names}


def test_retries_are_the_settings_own() -> None:
    """The first pause, the longest, and how often before the DPO is asked."""
    given = Retry(first=timedelta(seconds=3), cap=timedelta(hours=2), max_attempts=5)
    expected = core.Retry(first=micros(given.first), cap=micros(given.cap), max_attempts=5)
    assert expected == rules_of(settings_of(retry=given)).retry


@pytest.mark.parametrize(("subject", "told"), [("mail", True), ("none", False)])
def test_whether_the_subject_is_told_is_the_settings_own(subject: str, told: bool) -> None:
    """Where the DPO tells the person in another way, no letter is asked for."""
    assert told == rules_of(settings_of(notices=Notices(subject=subject))).notify_subject  # type: ignore[arg-type]  # one of the two


def test_a_systems_plan_is_the_settings_own() -> None:
    """Its order, its looks with the one at once before them, its patience, and whom to ask."""
    system = System(
        kind="hubspot",
        after=("superoffice",),
        look_again=(2 * DAY, 30 * DAY),
        patience=40 * DAY,
        asks_subject=True,
    )
    master = System(kind="superoffice")
    made = rules_of(settings_of(systems={"superoffice": master, "hubspot": system})).systems
    expected = core.SystemPlan(
        name="hubspot",
        kind="hubspot",
        after=("superoffice",),
        look_again=(0, micros(2 * DAY), micros(30 * DAY)),
        patience=micros(40 * DAY),
        asks_subject=True,
    )
    assert expected == made["hubspot"]


def test_a_tenants_refusal_is_an_end_and_an_agencys_is_not() -> None:
    """A tenant is the controller of its data (Art. 28); nobody else's refusal settles anything."""
    tenant = System(kind="tenant").model_copy(update={"own": SimpleNamespace(tenant="acme")})
    agency = System(kind="recruitment").model_copy(update={"own": SimpleNamespace(tenant="acme")})
    made = rules_of(settings_of(systems={"shop": tenant, "agency": agency})).systems
    assert [("acme", True), (None, False)] == [
        (one.tenant, one.refusal_ends) for one in (made["shop"], made["agency"])
    ]


def test_a_place_that_holds_nothing_says_why() -> None:
    """The reason is what the person and the DPO are told."""
    made = rules_of(settings_of(systems={"logs": System(kind="holds_nothing", reason="no names")})).systems
    assert "no names" == made["logs"].holds_nothing


def test_the_days_are_the_installations() -> None:
    """Its country's, its part of the country's, and in its time zone."""
    bavaria = INSTALLATION.model_copy(
        update={"country": "DE", "subdivision": "BY", "time_zone": "Europe/Berlin"}
    )
    corpus_christi = date(2026, 6, 4)
    found = [
        calendar_of(one).is_working_day(corpus_christi)
        for one in (bavaria, bavaria.model_copy(update={"subdivision": None}))
    ]
    assert [False, True] == found
    assert "Europe/Berlin" == str(calendar_of(bavaria).time_zone)
