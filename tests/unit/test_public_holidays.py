"""The public holidays that move a due date: those that the law makes, and no others."""

import subprocess
import sys
from datetime import date

import holidays
import pytest

from orchestrator.saga.clocks import last_day
from orchestrator.service.public_holidays import CHECKED, KEPT, PAGE, written
from orchestrator.service.rules import calendar_of
from orchestrator.settings import Installation
from tests.unit.saga_world import at

_YEARS = range(2024, 2032)


def _installation(country: str, subdivision: str | None = None) -> Installation:
    return Installation(
        name="Example AB",
        domain="example.com",
        public_url="https://erasure.example.com",
        country=country,
        subdivision=subdivision,
    )


@pytest.mark.parametrize(
    ("country", "subdivision", "day"),
    [
        pytest.param("FI", None, "2026-06-19", id="Finland: Midsummer Eve, a Friday"),
        pytest.param("FI", None, "2026-12-24", id="Finland: Christmas Eve, a Thursday"),
        pytest.param("FI", "01", "2027-12-24", id="Åland: Christmas Eve"),
        pytest.param("SE", None, "2026-06-19", id="Sweden: Midsummer Eve"),
        pytest.param("SE", None, "2026-12-24", id="Sweden: Christmas Eve"),
        pytest.param("SE", None, "2026-12-31", id="Sweden: New Year's Eve"),
        pytest.param("NO", None, "2026-12-24", id="Norway: Christmas Eve"),
        pytest.param("DK", None, "2026-12-24", id="Denmark: Christmas Eve"),
        pytest.param("DK", None, "2026-06-05", id="Denmark: Constitution Day"),
        pytest.param("IS", None, "2026-12-24", id="Iceland: Christmas Eve, half a day"),
        pytest.param("HU", None, "2026-01-02", id="Hungary: moved from a Saturday"),
        pytest.param("HU", None, "2026-08-21", id="Hungary: bridges a weekend"),
        pytest.param(
            "HU", None, "2026-12-24", id="Hungary: Christmas Eve, by a law of 2026 that was not read"
        ),
        pytest.param("LV", None, "2026-06-22", id="Latvia: moved from a Saturday"),
        pytest.param("LV", None, "2025-05-05", id="Latvia: a day off for 4 May, a Sunday"),
        pytest.param("BG", None, "2026-05-25", id="Bulgaria: a day off for 24 May, a Sunday"),
        pytest.param("BG", None, "2026-01-02", id="Bulgaria: a non-working day of that year alone"),
        pytest.param("GR", None, "2024-05-07", id="Greece: 1 May, moved by a minister"),
        pytest.param("GR", None, "2027-05-04", id="Greece: a day in lieu of 1 May"),
        pytest.param("ES", "AN", "2026-11-02", id="Andalusia: the Monday after All Saints' Day"),
        pytest.param("ES", "ML", "2028-05-05", id="Melilla: a feast whose date is an estimate"),
        pytest.param("PT", "11", "2025-06-13", id="Lisbon: the municipality's holiday, which is optional"),
        pytest.param("IT", "MI", "2026-12-07", id="Milan: the patron saint of the city"),
        pytest.param("FR", "57", "2026-04-03", id="Moselle: Good Friday, in some municipalities"),
        pytest.param(
            "CH", "Stadt Zurich", "2026-01-02", id="Zurich: Saint Berchtold's Day, a custom of the city"
        ),
        pytest.param("CH", "AG", "2026-12-08", id="Aargau: Immaculate Conception, in some districts"),
        pytest.param("CZ", None, "2026-12-31", id="Czechia: New Year's Eve"),
        pytest.param("DE", None, "2026-12-24", id="Germany: Christmas Eve"),
    ],
)
def test_custom_moves_no_due_date(country: str, subdivision: str | None, day: str) -> None:
    """An eve, a bridging or moved day, a day in lieu and a local custom are working days: unless the law
    makes them public holidays, the earlier due date is the safe one.
    """
    assert calendar_of(_installation(country, subdivision)).is_working_day(date.fromisoformat(day))


@pytest.mark.parametrize(
    ("country", "subdivision", "day"),
    [
        pytest.param("AT", None, "2026-10-26", id="Austria: National Day"),
        pytest.param("BE", None, "2026-07-21", id="Belgium: National Day"),
        pytest.param("BG", None, "2026-12-24", id="Bulgaria: Christmas Eve, by the Labour Code"),
        pytest.param("CH", "ZH", "2028-12-26", id="Zurich: Saint Stephen's Day"),
        pytest.param("CH", "AG", "2026-04-03", id="Aargau: Good Friday"),
        pytest.param("CY", None, "2026-10-01", id="Cyprus: Independence Day"),
        pytest.param("CZ", None, "2026-12-24", id="Czechia: Christmas Eve, by Act 245/2000"),
        pytest.param("DE", "BY", "2027-01-06", id="Bavaria: Epiphany"),
        pytest.param("DK", None, "2026-05-14", id="Denmark: Ascension Day"),
        pytest.param("EE", None, "2026-12-24", id="Estonia: Christmas Eve, by the Public Holidays Act"),
        pytest.param("ES", "MD", "2028-05-02", id="Madrid: the region's day"),
        pytest.param("FI", None, "2027-12-06", id="Finland: Independence Day"),
        pytest.param("FI", "01", "2026-06-09", id="Åland: Autonomy Day"),
        pytest.param("FR", None, "2026-07-14", id="France: National Day"),
        pytest.param(
            "GB", None, "2026-12-28", id="United Kingdom: in lieu of Boxing Day, by the Act of 1971"
        ),
        pytest.param("GB", "SCT", "2025-12-01", id="Scotland: in lieu of Saint Andrew's Day, by its Act"),
        pytest.param("GB", "NIR", "2026-07-13", id="Northern Ireland: in lieu of 12 July, by proclamation"),
        pytest.param("GR", None, "2026-10-28", id="Greece: Ohi Day"),
        pytest.param("HR", None, "2026-06-22", id="Croatia: Anti-Fascist Struggle Day"),
        pytest.param("HU", None, "2026-10-23", id="Hungary: National Day"),
        pytest.param("IE", None, "2026-02-02", id="Ireland: Saint Brigid's Day"),
        pytest.param("IS", None, "2026-06-17", id="Iceland: National Day"),
        pytest.param("IT", "MI", "2026-06-02", id="Italy, in Milan: Republic Day"),
        pytest.param("LI", None, "2026-12-08", id="Liechtenstein: Immaculate Conception"),
        pytest.param("LT", None, "2026-12-24", id="Lithuania: Christmas Eve, by the Labour Code"),
        pytest.param("LU", None, "2026-06-23", id="Luxembourg: National Day"),
        pytest.param("LV", None, "2026-06-23", id="Latvia: Midsummer Eve, by its law of 1990"),
        pytest.param("LV", None, "2026-12-31", id="Latvia: New Year's Eve, by its law of 1990"),
        pytest.param("MT", None, "2026-09-21", id="Malta: Independence Day"),
        pytest.param("NL", None, "2026-04-27", id="Netherlands: King's Day"),
        pytest.param("NO", None, "2027-05-17", id="Norway: Constitution Day"),
        pytest.param("PL", None, "2026-12-24", id="Poland: Christmas Eve, by its act of 2024"),
        pytest.param("PT", "30", "2026-07-01", id="Madeira: the region's day"),
        pytest.param("PT", "11", "2026-06-10", id="Portugal, in Lisbon: Portugal Day"),
        pytest.param("RO", None, "2026-12-01", id="Romania: National Day"),
        pytest.param("SE", None, "2028-06-06", id="Sweden: National Day"),
        pytest.param("SI", None, "2026-06-25", id="Slovenia: Statehood Day"),
        pytest.param("SK", None, "2026-12-24", id="Slovakia: Christmas Eve, by Act 241/1993"),
    ],
)
def test_what_the_law_makes_a_holiday_moves_it(country: str, subdivision: str | None, day: str) -> None:
    """A public holiday by law is no working day, in each of the countries that were checked."""
    assert not calendar_of(_installation(country, subdivision)).is_working_day(date.fromisoformat(day))


@pytest.mark.parametrize("country", CHECKED)
def test_no_eve_is_left_by_chance(country: str) -> None:
    """In every part of the country, a working day that is named an eve, or that stands for another day, moves
    no due date, unless a law is cited for it.
    """
    cited = [name.removeprefix("* ") for name, _ in KEPT.get(country, ())]
    uncited = set()
    for part in (None, *holidays.country_holidays(country).subdivisions):
        listed = holidays.country_holidays(country, subdiv=part, language="en_US", years=_YEARS)
        calendar = calendar_of(_installation(country, part))
        for day, names in listed.items():
            looks_moved = [
                one for one in (" Eve", "observed", "substituted", "following", "Non-") if one in names
            ]
            if looks_moved and day.weekday() < 5 and not calendar.is_working_day(day):
                uncited |= {(part, names)} if not any(one in names for one in cited) else set()
    assert set() == uncited


def test_a_due_date_in_finland() -> None:
    """A request of 19 May is due on Midsummer Eve, and one of 24 November on Christmas Eve."""
    finland = calendar_of(_installation("FI").model_copy(update={"time_zone": "Europe/Helsinki"}))
    assert date(2026, 6, 19) == last_day(at("2026-05-19T12:00"), 1, finland)
    assert date(2026, 12, 24) == last_day(at("2026-11-24T12:00"), 1, finland)


def test_the_table_is_true() -> None:
    """`python -m orchestrator.service.public_holidays --write` has nothing to change."""
    assert PAGE.read_text() == written(PAGE.read_text())


_ALONE = """
import sys
from datetime import date
from orchestrator.service.public_holidays import PublicHolidays

def countries():
    return len([name for name in sys.modules if name.startswith("holidays.countries.")])

print(date(2026, 12, 25) in PublicHolidays("SE"), countries())
print(date(2026, 5, 17) in PublicHolidays("NO"), countries())
import holidays.countries
print(holidays.countries.DK.country, countries() > 200)
"""


def test_only_the_countries_that_are_asked_for_are_loaded() -> None:
    """All of them take longer to load than all of ours. Whoever asks the package itself for one gets it."""
    said = subprocess.check_output([sys.executable, "-c", _ALONE], text=True).split("\n")
    assert ["True 1", "True 2", "DK True", ""] == said
