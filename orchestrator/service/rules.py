"""From the settings to the rules of the sagas."""

from zoneinfo import ZoneInfo

from orchestrator.saga.clocks import Calendar
from orchestrator.saga.rules import Retry, Rules, SystemPlan, Waits
from orchestrator.settings import Installation, Settings, System, micros


def calendar_of(installation: Installation) -> Calendar:
    """The installation's days: its time zone and its country's public holidays by law."""
    # Loads the calendars, which only those need who reckon dates.
    from orchestrator.service.public_holidays import PublicHolidays

    known = PublicHolidays(installation.country, installation.subdivision)
    return Calendar(time_zone=ZoneInfo(installation.time_zone), is_public_holiday=lambda day: day in known)


def rules_of(settings: Settings) -> Rules:
    """The rules of an installation."""
    waits, retry = settings.waits, settings.retry
    return Rules(
        calendar=calendar_of(settings.installation),
        systems={name: _plan(name, system) for name, system in settings.systems.items()},
        retry=Retry(first=micros(retry.first), cap=micros(retry.cap), max_attempts=retry.max_attempts),
        waits=Waits(
            command_lifetime=micros(waits.command_lifetime),
            call_limit=micros(waits.call_limit),
            silence_alarm=micros(waits.silence_alarm),
            circuit_alarm=micros(waits.circuit_alarm),
            party_reminder=micros(waits.party_reminder),
            max_reminders=waits.max_reminders,
            max_reopened=waits.max_reopened,
            subject_answer=micros(waits.subject_answer),
            decision_reminder=micros(waits.decision_reminder),
            deadline_warning=micros(waits.deadline_warning),
            notice_alarm=micros(waits.notice_alarm),
            review=micros(waits.review),
        ),
        notify_subject=settings.notices.subject == "mail",
    )


#: The kind whose systems hold a controller's data: never touched without its instruction.
TENANT = "tenant"


def _plan(name: str, system: System) -> SystemPlan:
    tenant = system.own.tenant if system.kind == TENANT else None
    return SystemPlan(
        name=name,
        kind=system.kind,
        after=system.after,
        look_again=(0, *(micros(one) for one in system.look_again)),
        patience=micros(system.patience),
        asks_subject=system.asks_subject,
        tenant=tenant,
        refusal_ends=tenant is not None,
        holds_nothing=system.reason,
    )
