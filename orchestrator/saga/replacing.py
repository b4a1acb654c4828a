"""`replace`, as in `dataclasses`, in half the time.

A decision makes a dozen new values, each with two dozen fields, and setting them one by one past the lock of
a frozen class was two thirds of what a decision took. Here the fields' own slots are set.
"""

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

_T = TypeVar("_T")


def replace(value: _T, /, **changes: Any) -> _T:
    """The same value with some fields changed. Its class has slots, and nothing to do after it was made."""
    kind: Any = type(value)
    values_of, place_of, setters = _form(kind)
    values = list(values_of(value))
    for name, changed in changes.items():
        values[place_of[name]] = changed
    made: _T = object.__new__(kind)
    for put, one in zip(setters, values, strict=False):
        put(made, one)
    return made


@cache
def _form(kind: Any) -> tuple[Callable[[Any], Any], dict[str, int], list[Callable[[Any, Any], None]]]:
    """How to get the values of all fields, where each is among them, and how to set them."""
    if "__slots__" not in vars(kind):
        raise TypeError(f"{kind.__name__} has no slots")
    if hasattr(kind, "__post_init__"):
        raise TypeError(f"{kind.__name__} has something to do after it was made")
    names = [field.name for field in fields(kind)]
    place_of = {name: place for place, name in enumerate(names)}
    # One name alone would be got as its value, and not as one of a tuple.
    return attrgetter(*names, names[0]), place_of, [getattr(kind, name).__set__ for name in names]
