"""The statutory clocks: GDPR Art. 12(3) counted by Regulation 1182/71."""

from datetime import UTC, date, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.saga.clocks import Calendar, add_months, due_at, last_day, micros, moment
from tests.unit.saga_world import SWEDEN, at, never_a_holiday

UTC_ONLY = Calendar(time_zone=UTC, is_public_holiday=never_a_holiday)
RECEIPTS = st.integers(at("2000-01-01"), at("2060-01-01"))


@pytest.mark.parametrize(
    ("received", "last"),
    [
        pytest.param("2026-08-31T12:00", "2026-09-30", id="no 31st in September"),
        pytest.param("2026-01-31T12:00", "2026-03-02", id="28 February is a Saturday"),
        pytest.param("2026-03-05T12:00", "2026-04-07", id="Easter: 5 April is a Sunday, 6 April a holiday"),
        pytest.param("2026-08-31T22:30", "2026-10-01", id="already 1 September in Stockholm"),
        pytest.param("2026-08-31T21:59", "2026-09-30", id="still 31 August in Stockholm"),
        pytest.param("2024-01-31T12:00", "2024-02-29", id="a leap year"),
        pytest.param("2023-01-31T12:00", "2023-02-28", id="no leap year"),
        pytest.param("2026-11-24T12:00", "2026-12-24", id="Christmas Eve is no public holiday"),
        pytest.param("2026-11-25T12:00", "2026-12-28", id="Christmas Day, then a weekend"),
        pytest.param("2026-05-19T12:00", "2026-06-19", id="nor is Midsummer Eve"),
        pytest.param("2026-12-01T12:00", "2027-01-04", id="New Year's Day, then a weekend"),
    ],
)
def test_one_month_from_receipt(received: str, last: str) -> None:
    """The last day is the same date a month later, or the month's last; weekends and holidays move it on."""
    assert date.fromisoformat(last) == last_day(at(received), 1, SWEDEN)


@pytest.mark.parametrize(
    ("received", "due"),
    [
        pytest.param("2026-08-31T22:30", "2026-10-01T21:59:59.999999", id="summer time"),
        pytest.param(
            "2026-02-28T12:00", "2026-03-30T21:59:59.999999", id="received in winter, due in summer"
        ),
        pytest.param(
            "2026-09-26T12:00", "2026-10-26T22:59:59.999999", id="received in summer, due in winter"
        ),
    ],
)
def test_due_at_the_last_microsecond_of_the_day(received: str, due: str) -> None:
    """The period ends with the last hour of its last day, where the installation is."""
    assert at(due) == due_at(at(received), SWEDEN)


def test_a_day_whose_midnight_is_skipped() -> None:
    """Where the clocks go forward at midnight the day still ends where the next one begins."""
    cairo = Calendar(time_zone=ZoneInfo("Africa/Cairo"), is_public_holiday=never_a_holiday)
    # Cairo's clocks go from 00:00 to 01:00 on Friday 24 April 2026.
    due = due_at(at("2026-03-23T12:00"), cairo)
    assert date(2026, 4, 23) == moment(due).astimezone(cairo.time_zone).date()
    assert "2026-04-24T01:00:00+03:00" == moment(due + 1).astimezone(cairo.time_zone).isoformat()


def test_three_months_count_from_receipt() -> None:
    """An extended period is three months from receipt, not two from a due date that a weekend has moved."""
    received = at("2026-01-31T12:00")
    assert date(2026, 3, 2) == last_day(received, 1, SWEDEN)
    assert date(2026, 4, 30) == last_day(received, 3, SWEDEN)


def test_holidays_are_handed_in() -> None:
    """The core knows weekends; what else is a day off is for the installation to say."""
    received = at("2026-04-01T12:00")
    assert date(2026, 5, 1) == last_day(received, 1, UTC_ONLY)
    assert date(2026, 5, 4) == last_day(received, 1, SWEDEN)


@given(received=RECEIPTS, months=st.sampled_from([1, 3]))
def test_due_on_a_working_day_and_never_too_early(received: int, months: int) -> None:
    """The last day is a working day, not before the months are over, and only days off lie in between."""
    day = moment(received).astimezone(SWEDEN.time_zone).date()
    last = last_day(received, months, SWEDEN)
    nominal = add_months(day, months)
    assert SWEDEN.is_working_day(last)
    assert not [d for n in range((last - nominal).days) if SWEDEN.is_working_day(d := nominal + timedelta(n))]
    assert nominal.day == day.day or (nominal + timedelta(1)).day == 1
    assert months == (nominal.year - day.year) * 12 + nominal.month - day.month


@given(one=RECEIPTS, other=RECEIPTS)
def test_received_later_is_never_due_earlier(one: int, other: int) -> None:
    """Due dates keep the order of receipts."""
    assert (due_at(min(one, other), SWEDEN)) <= due_at(max(one, other), SWEDEN)


@given(received=RECEIPTS)
def test_times_are_exact(received: int) -> None:
    """Micros to datetime and back loses nothing."""
    assert received == micros(moment(received))
