"""How a broken invariant is told."""

from collections.abc import Callable

#: Takes an invariant's name and a text. Returns where that invariant is excused, and raises `Violated` else.
Broken = Callable[[str, str], None]

#: Invariants that the saga does not keep yet. They are not judged.
AWAITED: frozenset[str] = frozenset()


class Violated(AssertionError):
    """An invariant does not hold; `name` is which."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text


def unless(excused: frozenset[str]) -> Broken:
    """Return what raises for every invariant but the excused."""

    def broken(name: str, text: str) -> None:
        if name not in excused:
            raise Violated(name, text)

    return broken
