"""The places of a system where a person's records may lie, and which of them a verb looked at.

A handler declares its places once. `locate` and `prove` report each of them, as looked at or not, and by
which identifiers. The evidence, the DPO's mail and the person's notice are made from that one list, so that
"nothing found" is never said of a place where nobody looked.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from orchestrator.http.errors import Retryable
from orchestrator.privacy import Identifier, Identifiers
from schemas.messages import Language, Place

#: Why a place was not looked at. A handler may have reasons of its own: any token.
NOT_CONFIGURED: Final = "not_configured"
NOT_SEARCHABLE: Final = "not_searchable"
NO_IDENTIFIER: Final = "no_identifier"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredPlace:
    """One place that a handler knows of.

    `name` is a token. `title` says what it is, for the DPO and the person, in each language of the notices.
    `by` are the kinds of identifier that it can be searched by; none where it is read by reference alone.
    """

    name: str
    title: Mapping[Language, str]
    by: frozenset[str] = frozenset()


class PlaceUnreadable(Retryable):
    """Say that a place can't be read: an answer of 403 or 404 where a list, an archive or a bin should be.

    It never counts as empty. The step tries again, and then asks the DPO, naming the place.
    """

    def __init__(self, place: str, retry_after: int | None = None) -> None:
        super().__init__(f"place_unreadable.{place}", retry_after)
        self.place = place


@dataclass(slots=True)
class Search:
    """What one verb has looked at so far, of the declared places, for one person's identifiers."""

    declared: tuple[DeclaredPlace, ...]
    identifiers: Identifiers = field(repr=False)
    _found: dict[str, Place] = field(default_factory=dict)
    _by: dict[str, frozenset[Identifier]] = field(default_factory=dict, repr=False)

    def looked(self, name: str, by: Iterable[Identifier] = (), *, but: str | None = None) -> None:
        """Record that the place was read to its end, searched by these identifiers.

        Leave `by` out for a place that is read by the references of what hangs on a found record. A second
        call for the same place adds to the first. `but` says, by a token, why the vendor doesn't show all of
        the place: to the DPO and the person it is told as not looked at.

        Raises:
            ValueError: no such place is declared.
        """
        place = self._declared(name)
        used = self._by[name] = self._by.get(name, frozenset()) | {*by}
        counted: Counter[str] = Counter(one.kind for one in used)
        given: Counter[str] = Counter(one.kind for one in self.identifiers)
        # A place that is read by reference is as complete as the search that led there.
        left = {k: n - counted[k] for k, n in given.items() if n > counted[k]} if place.by else {}
        self._found[name] = Place(name=name, looked=True, by=dict(counted), not_by=left, reason=but)

    def skipped(self, name: str, reason: str) -> None:
        """Record that the place was not looked at, and why: a token, such as `not_configured`."""
        self._declared(name)
        self._found[name] = Place(name=name, looked=False, reason=reason)

    def report(self) -> tuple[Place, ...]:
        """Return every declared place, in the order of the declaration.

        Raises:
            ValueError: a declared place was neither looked at nor skipped.
        """
        missing = [one.name for one in self.declared if one.name not in self._found]
        if missing:
            raise ValueError(f"places neither looked at nor skipped: {', '.join(missing)}")
        return tuple(self._found[one.name] for one in self.declared)

    def _declared(self, name: str) -> DeclaredPlace:
        for one in self.declared:
            if one.name == name:
                return one
        raise ValueError(f"no place {name!r} is declared")
