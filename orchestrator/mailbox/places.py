"""Where a system was looked in, by what, and what a vendor has still to purge: for every mail.

* "Nothing found" and "looked again, and it is gone" are said only of a system that says where it looked.
* A place that is read by the records that were found is not said to be looked in where none was found.
* What was not looked at, and what was given and not searched by, is told beside it. A place that the vendor
  shows only in part is told as not looked at.
* What a vendor has put out of reach and purges later is not called gone before that day.
* The titles of places come from the handlers' own declarations. A place that nobody declares is told by its
  token, made readable.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from orchestrator.mailbox import terms
from orchestrator.privacy import looks_personal
from orchestrator.settings import Settings
from schemas.messages import Language, Place, SystemOutcome

#: By kind of system, place and language, as the handlers declare them.
Titles = Mapping[str, Mapping[str, Mapping[Language, str]]]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WITHHELD: Final = "(…)"


@dataclass(frozen=True, slots=True)
class Looked:
    """Places that were searched in the same way. `by` and `not_by` are kinds of identifier, with a count
    where it matters; without either the places were read by the records that had been found.
    """

    places: str
    by: str
    not_by: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """Places that were not looked in, and why."""

    places: str
    reason: str


class Looks:
    """What one system says of where it looked, in one language; false if it names no place that it read."""

    def __init__(self, system: SystemOutcome, settings: Settings, titles: Titles, language: Language) -> None:
        known = settings.systems.get(system.system)
        self._titles = titles.get(known.kind, {}) if known is not None else {}
        self._language: Language = language
        self._places = tuple(_as_read(one, system) for one in system.places)

    def __bool__(self) -> bool:
        return any(one.looked for one in self._places)

    def looked(self) -> Iterator[Looked]:
        """Yield the places that were read, those that were searched alike together."""
        alike: dict[tuple[str, str], list[str]] = {}
        for one in self._places:
            if one.looked:
                how = (self._kinds(one.by, one.not_by), self._kinds(one.not_by, one.by))
                alike.setdefault(how, []).append(self.title(one.name))
        for (by, not_by), places in alike.items():
            yield Looked(", ".join(places), by, not_by)

    def skipped(self) -> Iterator[Skipped]:
        """Yield the places that were not looked in, those for the same reason together."""
        alike: dict[str, list[str]] = {}
        for one in self._places:
            if not one.looked:
                alike.setdefault(self._reason(one.reason or "unknown"), []).append(self.title(one.name))
        for reason, places in alike.items():
            yield Skipped(", ".join(places), reason)

    def told(self, label: Mapping[str, str]) -> Iterator[str]:
        """Yield a line for each way of looking, and one for each reason not to, worded by `words.LABEL`."""
        for one in self.looked():
            how = [label["by"].format(kinds=one.by)] if one.by else []
            how += [label["not_by"].format(kinds=one.not_by)] if one.not_by else []
            yield "; ".join((label["looked"].format(places=one.places), *(how or [label["by_found"]])))
        for skipped in self.skipped():
            yield label["not_looked"].format(places=skipped.places, reason=skipped.reason)

    def title(self, place: str) -> str:
        """Return what a place is called."""
        declared = self._titles.get(place)
        return _readable(place) if declared is None else declared.get(self._language) or _readable(place)

    def _reason(self, reason: str) -> str:
        return terms.NOT_LOOKED[self._language].get(reason) or _readable(reason)

    def _kinds(self, counted: Mapping[str, int], other: Mapping[str, int]) -> str:
        names = terms.MISSING[self._language]
        return ", ".join(
            f"{names.get(kind) or _readable(kind)} ({count})"
            if count > 1 or kind in other
            else names.get(kind) or _readable(kind)
            for kind, count in sorted(counted.items())
            if count
        )


def _as_read(place: Place, system: SystemOutcome) -> Place:
    """Return what a place comes to: one that the vendor doesn't wholly show was not read, nor was one that is
    read by what was found, where nothing was.
    """
    if place.looked and place.reason is not None:
        return Place(name=place.name, looked=False, reason=place.reason)
    is_led_to = place.looked and not place.by and not place.not_by
    if is_led_to and system.status == "absent" and not system.found:
        return Place(name=place.name, looked=False, reason="nothing_leads_there")
    return place


def _readable(token: str) -> str:
    """A token as words; nothing of it where it looks as if it named a person."""
    words = token.replace("_", " ").replace(".", " ").strip()
    return _WITHHELD if looks_personal(token) or looks_personal(words) else words


def says_where(system: SystemOutcome) -> bool:
    """Whether the end of a system, where it rests on our own look, says where that was."""
    ends = ("erased", "absent", "anonymised", "retained")
    rests_on_a_look = system.status in ends and system.grade == "seen_absent"
    return not rests_on_a_look or any(one.looked for one in system.places)


@dataclass(frozen=True, slots=True)
class Purge:
    """A vendor's purge that is still to come: at the latest at `at`, or nobody knows when."""

    at: int | None


def purge_of(system: SystemOutcome, now: int) -> Purge | None:
    """Return the vendor's purge that lies ahead of what is told as erased; None where there is none."""
    if system.status not in ("erased", "anonymised", "retained"):
        return None
    told = [value for fact, value in system.evidence.items() if fact.rpartition(".")[2] == "purged_by"]
    dates = [_micros(one) for one in told]
    if None in dates:
        return Purge(None)
    latest = max((one for one in dates if one is not None), default=0)
    return Purge(latest) if latest > now else None


def _micros(text: str) -> int | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if at.tzinfo is None else (at - _EPOCH) // timedelta(microseconds=1)
