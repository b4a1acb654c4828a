"""The handlers' README names every place that a handler declares."""

from typing import get_args

from handlers.places import DeclaredPlace
from handlers.places_table import README, drawn, table
from handlers.registry import declared_places
from schemas.messages import Language


def test_the_readme_is_what_the_declarations_say() -> None:
    """`python -m handlers.places_table --write` has nothing to change."""
    text = README.read_text(encoding="utf-8")
    assert drawn(text) == text
    names = [
        f"| `{kind}` | `{place.name}` |" for kind, places in declared_places().items() for place in places
    ]
    assert [] == [name for name in names if name not in text]


def test_a_place_that_is_declared_makes_a_row() -> None:
    """With what it is searched by, or a dash where it is read by reference, or not at all."""
    notes = DeclaredPlace(name="notes", title={"en": "loose notes"}, by=frozenset({"phone", "email"}))
    pages = DeclaredPlace(name="pages", title={"en": "pages"})
    *_, first, second = table({"diary": (notes, pages)}).splitlines()
    assert "| `diary` | `notes` | loose notes | email, phone |" == first
    assert "| `diary` | `pages` | pages | - |" == second


def test_every_place_has_a_name_in_each_language() -> None:
    """The DPO's mail and the person's notice name it."""
    places = [place for each in declared_places().values() for place in each]
    assert [] == [place.name for place in places for one in get_args(Language) if not place.title.get(one)]


def test_every_kind_declares_places_and_no_name_twice() -> None:
    """A system without places would be told of as searched nowhere."""
    for kind, places in declared_places().items():
        assert places, kind
        assert len(places) == len({place.name for place in places}), kind
