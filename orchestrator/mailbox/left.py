"""What a handler deliberately left, as its evidence counts it.

A step can end "erased" while the settings let some of a person's records be, or while no system has a use for
an id that the person gave. Whoever reads only the status would take the whole for erased; so everything that
tells a status tells this beside it.

* `<verb>.<kind>s_left` counts records of a kind that were found and left.
* `<verb>.<kind>s_kept` counts those that are kept for a reason, with `…_kept_basis` and `…_kept_reason`.
* `<verb>.<kind>s_without_property` counts ids of a site or app that no configured property has.
* `<verb>.<kind>s_elsewhere_in` says which systems take ids that one property does not, as in
  "web:1 app,shop:2": an id is left if the request reaches none of them.
* What is kept by law without more words is no part of this: the status "retained" tells it.
* A proof looked last, so that what it counts is told and not what the look before the erasure counted.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from orchestrator.mailbox import terms
from orchestrator.privacy import looks_personal

_LEFT: Final = "_left"
_KEPT: Final = "_kept"
#: Whose count is the later one.
_VERBS: Final = {"locate": 1, "erase": 2, "prove": 3}
_WITHOUT_PROPERTY: Final = "_without_property"
_ELSEWHERE_IN: Final = "_elsewhere_in"


@dataclass(frozen=True, slots=True)
class Kept:
    """Records of one kind that are kept for a reason."""

    kind: str
    """In the plural."""
    count: int
    basis: str
    """The law's short name; empty if none was given."""
    reason: str


@dataclass(frozen=True, slots=True)
class Left:
    """What was left in one system; false if nothing was."""

    records: tuple[tuple[str, int], ...]
    """Kind, in the plural, and count."""
    unsubmitted: int
    """Ids that no configured property takes; every property of the installation counts the same ones."""
    kept: tuple[Kept, ...] = ()
    out_of_scope: int = 0
    """Ids of properties that the request does not reach; every property that it reaches counts the same."""

    def __bool__(self) -> bool:
        return bool(self.records or self.unsubmitted or self.kept or self.out_of_scope)

    def counted(self, language: str) -> str:
        """The records by kind: "3 appointments, 1 document"."""
        return ", ".join(_counted(kind, count, language) for kind, count in self.records)

    def reasoned(self, language: str) -> Iterator[str]:
        """What is kept, with why: "2 documents; legal claims; a dispute is open"."""
        for one in self.kept:
            basis = terms.BASIS[language].get(one.basis, one.basis)
            parts = (_counted(one.kind, one.count, language), basis, one.reason)
            yield "; ".join(part for part in parts if part)


def _counted(kind: str, count: int, language: str) -> str:
    names = terms.LEFT[language]
    return f"{count} {names.get(f'{kind}.{count}') or names.get(kind, kind)}"


def left_of(evidence: Mapping[str, str], reached: Collection[str]) -> Left:
    """What a step's evidence counts as left, where the request reaches these systems.

    Of two counts by the same verb, the larger is told.
    """
    ranked: dict[str, tuple[int, int]] = {}
    for fact, value in evidence.items():
        verb, _, name = fact.rpartition(".")
        if name.endswith((_LEFT, _KEPT, _WITHOUT_PROPERTY)):
            count = int(value) if value.isascii() and value.isdecimal() else 0
            ranked[name] = max(ranked.get(name, (-1, 0)), (_VERBS.get(verb, 0), count))
    counts = {name: count for name, (_, count) in sorted(ranked.items()) if count}
    facts = {fact.rpartition(".")[2]: value for fact, value in evidence.items()}
    return Left(
        records=tuple((name.removesuffix(_LEFT), n) for name, n in counts.items() if name.endswith(_LEFT)),
        unsubmitted=sum(n for name, n in counts.items() if name.endswith(_WITHOUT_PROPERTY)),
        kept=tuple(
            Kept(name.removesuffix(_KEPT), n, facts.get(f"{name}_basis", ""), _line(facts[f"{name}_reason"]))
            for name, n in counts.items()
            if name.endswith(_KEPT) and f"{name}_reason" in facts
        ),
        out_of_scope=sum(
            _out_of(reached, where) for name, where in facts.items() if name.endswith(_ELSEWHERE_IN)
        ),
    )


def _out_of(reached: Collection[str], where: str) -> int:
    """How many ids only systems take that the request does not reach."""
    groups = (group.rpartition(":") for group in where.split())
    return sum(
        int(count)
        for systems, _, count in groups
        if count.isascii() and count.isdecimal() and not {*systems.split(",")} & {*reached}
    )


def _line(text: str) -> str:
    """The operator's text on one line; empty where it looks as if it named a person."""
    line = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return "" if looks_personal(line) else line
