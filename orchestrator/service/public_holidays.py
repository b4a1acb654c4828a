"""The public holidays that move a due date: those that the law makes, and no others.

Regulation 1182/71, Art. 2(1): a public holiday is a day that is designated as such. A day on which offices
are closed by custom is none. Where that is unclear, the day counts as a working day: the earlier due date is
the safe one. So of the `holidays` package's public holidays these are left out:

* every day named an eve, unless `KEPT` cites the law that makes it a public holiday;
* every bridging day, moved working day and day in lieu, unless `KEPT` cites the law;
* what `LEFT_OUT` names: days of some districts, of custom, or by a law that was not read;
* what a part of a country adds, where that is its municipalities' alone (`ONLY_NATIONAL`).

The package's other categories (half days, bank, school and optional holidays) are not asked for at all.

The countries of `CHECKED` were gone through by name, with all their parts. In other countries the same
rules go by the English name, where the package has one. `python -m orchestrator.service.public_holidays
--write` writes the table in `deploy/public-holidays.md` anew.
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import holidays

from orchestrator.settings.countries import load_one_by_one

#: The European Union, the European Economic Area, the United Kingdom and Switzerland.
CHECKED: Final = (
    *("AT", "BE", "BG", "CH", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GB", "GR", "HR", "HU", "IE"),
    *("IS", "IT", "LI", "LT", "LU", "LV", "MT", "NL", "NO", "PL", "PT", "RO", "SE", "SI", "SK"),
)

_EVE: Final = re.compile(r"\bEve\b")
#: Of "estimated" feasts the date is not known yet.
_INSTEAD: Final = re.compile(
    r"\((observed|substituted|estimated)\b|^Monday following |^Day off\b|^Non-working day|\bin lieu\b|\bBridg"
)

#: Days that a rule of names would leave out and that the law makes public holidays: the English name, in
#: which * stands for anything, and the law.
KEPT: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "BG": (("Christmas Eve", "Labour Code (Кодекс на труда), Art. 154(1)"),),
    "CZ": (("Christmas Eve", "Act No. 245/2000 Coll. on public holidays, sections 2 and 3"),),
    "EE": (
        (
            "Christmas Eve",
            "Public Holidays and Days of National Importance Act (pühade ja tähtpäevade seadus), section 2",
        ),
    ),
    "GB": (
        ("Saint Andrew's Day (observed)", "St Andrew's Day Bank Holiday (Scotland) Act 2007, section 1"),
        (
            "* (observed)",
            "Banking and Financial Dealings Act 1971, section 1 (by proclamation) and Schedule 1",
        ),
    ),
    "LT": (("Christmas Eve", "Labour Code (Darbo kodeksas), Art. 123(1)"),),
    "LV": tuple(
        (eve, "Law On Public Holidays, Commemoration Days and Celebration Days (1990), section 1")
        for eve in ("Midsummer Eve", "Christmas Eve", "New Year's Eve")
    ),
    "PL": (
        (
            "Christmas Eve",
            "Act of 18 January 1951 on non-working days, Art. 1, as amended (Dz.U. 2024, item 1965)",
        ),
    ),
    "SK": (("Christmas Eve", "Act No. 241/1993 Coll. on public holidays, section 2"),),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Days that are left out although their names don't say why.

    `names` are English. `parts` are the parts of the country concerned; none means the whole country. `on` is
    the one date concerned; None means each year.
    """

    names: tuple[str, ...]
    why: str
    parts: tuple[str, ...] = ()
    on: date | None = None


LEFT_OUT: Final[Mapping[str, tuple[LeftOut, ...]]] = {
    "CH": (
        LeftOut(
            names=(
                *("Saint Berchtold's Day", "Easter Monday", "Labor Day", "Pentecost Monday"),
                *("Corpus Christi", "Assumption Day", "All Saints' Day", "Immaculate Conception"),
                "Saint Stephen's Day",
            ),
            parts=("AG",),
            why="only in some districts of the canton",
        ),
        LeftOut(
            names=("Saint Berchtold's Day",),
            parts=("Stadt Zurich",),
            why="custom of the city; not in section 1 of the canton's Ruhetags- und Ladenöffnungsgesetz",
        ),
    ),
    "FR": (
        LeftOut(
            names=("Good Friday",),
            parts=("57", "6AE"),
            why="only in municipalities with a Protestant or mixed church (Code du travail, L3134-13)",
        ),
        LeftOut(
            names=("Good Friday", "Mi-Careme", "Victor Schoelcher Day"),
            parts=("971", "972", "MF"),
            why="custom; the law (Code du travail, L3422-2) adds the abolition of slavery alone",
        ),
    ),
    "GR": (LeftOut(names=("Labor Day",), on=date(2024, 5, 7), why="moved by a minister's decision"),),
    "HU": (
        LeftOut(names=("Christmas Eve",), why="by Act LXXII of 2026, which has not been read for this list"),
    ),
    "LV": (
        LeftOut(
            names=("Nationwide Latvian Song and Dance Celebration Final Day",),
            why="a day instead of a Sunday",
        ),
    ),
}

#: Countries of which the parts add municipal holidays, with the parts that add others and are kept.
ONLY_NATIONAL: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "IT": ((), "patron saints of the provinces' chief towns"),
    "PT": (
        ("20", "30"),
        "municipal holidays, which are optional (Código do Trabalho, Art. 235); not so in 20 and 30",
    ),
}


class PublicHolidays:
    """The public holidays of a country, or of a part of it."""

    def __init__(self, country: str, part: str | None = None) -> None:
        load_one_by_one()
        listed = holidays.country_holidays(country)
        self._country = listed.country
        apart = ONLY_NATIONAL.get(self._country)
        self._part = part if apart is None or part in apart[0] else None
        english = "en_US" if "en_US" in listed.supported_languages else None
        self._listed = holidays.country_holidays(country, subdiv=self._part, language=english)

    def __contains__(self, day: date) -> bool:
        return any(self.why_not(name, day) is None for name in self.names(day))

    def names(self, day: date) -> list[str]:
        """Return what the package calls the day; nothing for a day that it does not list."""
        return self._listed.get_list(day)

    def why_not(self, name: str, day: date) -> str | None:
        """Return why a listed day does not count under this name; None if it counts."""
        for one in LEFT_OUT.get(self._country, ()):
            if name in one.names and (not one.parts or self._part in one.parts) and one.on in (None, day):
                return one.why
        if any(fnmatchcase(name, kept) for kept, _ in KEPT.get(self._country, ())):
            return None
        if _INSTEAD.search(name):
            return "a day instead of another"
        return "an eve" if _EVE.search(name) else None


# --- the table ---

PAGE: Final = Path(__file__).parents[2] / "deploy" / "public-holidays.md"
_MARKS: Final = ("<!-- table: generated -->\n", "\n<!-- table: end -->")
_YEARS: Final = range(2020, 2036)
#: The names of days instead of others, without what differs from year to year.
_SHORT: Final = (
    (re.compile(r"^Monday following .*"), "Monday following …"),
    (re.compile(r"\(substituted from .*\)"), "(substituted from …)"),
    (re.compile(r"^.* (\((?:observed|estimated)\))"), r"… \1"),
)


def left_out(country: str) -> dict[str, dict[str, set[str]]]:
    """Return what is left out in a country: by why, by part ("" for all of it), the names, each once."""
    found: dict[str, dict[str, set[str]]] = {}
    parts_asked = ONLY_NATIONAL[country][0] if country in ONLY_NATIONAL else _parts(country)
    for part in ("", *parts_asked):
        days = PublicHolidays(country, part or None)
        for day in holidays.country_holidays(country, subdiv=part or None, years=_YEARS):
            for name in days.names(day):
                why = days.why_not(name, day)
                parts = found.setdefault(why, {}) if why is not None else {}
                short = _shortened(name)
                if why is not None and short not in parts.get("", ()):
                    parts.setdefault(part, set()).add(short)
    return found


def _parts(country: str) -> tuple[str, ...]:
    return tuple(holidays.country_holidays(country).subdivisions)


def _shortened(name: str) -> str:
    for pattern, short in _SHORT:
        name = pattern.sub(short, name)
    return name


def table() -> str:
    """Return the table of the documentation: what is left out, and what is kept by which law."""
    rows = ["| country | part | left out | why |", "| --- | --- | --- | --- |"]
    for country in CHECKED:
        before = len(rows)
        for why, parts in left_out(country).items():
            alike: dict[str, list[str]] = {}
            for part, names in parts.items():
                alike.setdefault(", ".join(sorted(names)), []).append(part or "all")
            rows += [f"| {country} | {', '.join(some)} | {named} | {why} |" for named, some in alike.items()]
        if country in ONLY_NATIONAL:
            rows.append(f"| {country} | each | what the part adds | {ONLY_NATIONAL[country][1]} |")
        if len(rows) == before:
            rows.append(f"| {country} | all | nothing | |")
    rows += ["", "| country | kept | by which law |", "| --- | --- | --- |"]
    rows += [f"| {country} | {name} | {law} |" for country in CHECKED for name, law in KEPT.get(country, ())]
    return "\n".join(rows)


def written(page: str) -> str:
    """Return the page with its table made anew."""
    before, _, rest = page.partition(_MARKS[0])
    return before + _MARKS[0] + table() + _MARKS[1] + rest.partition(_MARKS[1])[2]


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(written(PAGE.read_text()))
    sys.exit(int(written(PAGE.read_text()) != PAGE.read_text()))
