"""How long the law makes one keep bookkeeping material."""

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta

from handlers.times import EPOCH, from_datetime

YEARS = 7


def end_of_bookkeeping_duty(at: int, month: int, day: int) -> int:
    """The last moment of the duty to keep material from `at`, when fiscal years end on `month`-`day`.

    Bokföringslagen (1999:1078) 7 kap. 2 §: until and including the seventh year after the end of the
    calendar year in which the fiscal year ended.
    """
    booked = (EPOCH + timedelta(microseconds=at)).date()
    # A year that ends on 29 February, or "31 April", ends with the month.
    last = min(day, monthrange(booked.year, month)[1])
    ended_in = booked.year if booked <= date(booked.year, month, last) else booked.year + 1
    return from_datetime(datetime(ended_in + YEARS + 1, 1, 1, tzinfo=UTC)) - 1
