"""The statutory clocks: when a request is due.

GDPR Art. 12(3): without undue delay and in any event within one month of receipt; extendable by two further
months. How a month is counted comes from Regulation (EEC, Euratom) No 1182/71, Art. 3: the day of receipt
is not counted; the period ends with the last hour of the day of the same date, or of the month's last day
where there is no such date; a last day on a Saturday, Sunday or public holiday moves to the next working
day. EDPB Guidelines 01/2022 (para. 157-163) read Art. 12(3) so.

Days are those of the installation's time zone. 2026-08-31T22:30Z is 1 September in Stockholm, so that
request is due on 1 October. Public holidays only, not the eves on which offices are closed by custom: the
earlier date is the safe one.
"""

import calendar
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

MICROSECOND = 1
SECOND = 1_000_000
DAY = 86_400 * SECOND

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Calendar:
    """Where the installation lives: its time zone and its public holidays (weekends are known here)."""

    time_zone: tzinfo
    is_public_holiday: Callable[[date], bool]

    def is_working_day(self, day: date) -> bool:
        return day.weekday() < 5 and not self.is_public_holiday(day)


def moment(micros: int) -> datetime:
    """An aware UTC datetime, exact to the microsecond."""
    return _EPOCH + timedelta(microseconds=micros)


def micros(at: datetime) -> int:
    """Microseconds since the epoch of an aware datetime, exact."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def add_months(day: date, months: int) -> date:
    """The same date `months` later, or the month's last day where there is no such date."""
    index = day.year * 12 + day.month - 1 + months
    year, month = divmod(index, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return date(year, month + 1, min(day.day, last))


def last_day(received_at: int, months: int, where: Calendar) -> date:
    """The last day of a period of `months` that began with a receipt, rolled to a working day."""
    received = moment(received_at).astimezone(where.time_zone).date()
    day = add_months(received, months)
    while not where.is_working_day(day):
        day += timedelta(days=1)
    return day


def due_at(received_at: int, where: Calendar, *, months: int = 1) -> int:
    """The last microsecond of the statutory period, in microseconds UTC.

    `months` is 1, or 3 for an extended request: three from receipt, not two from the first due date, which
    may have rolled.
    """
    following = last_day(received_at, months, where) + timedelta(days=1)
    midnight = datetime.combine(following, time.min, tzinfo=where.time_zone)
    return micros(midnight.astimezone(UTC)) - MICROSECOND
