"""Columns of many rows, as the arrays that a statement carries to PostgreSQL.

The driver would write each list as text and have each value's quotes doubled by a regular expression; for a
batch of documents that costs more than all the rest of the batch. Here a column is written in the server's
binary form, by its own type.

Source: PostgreSQL's `array_recv` (src/backend/utils/adt/arrayfuncs.c): the number of dimensions, whether
there are nulls, the items' type; for each dimension its size and lower bound; for each item its length, -1
for null, and its value.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from psycopg.abc import AdaptContext
from psycopg.adapt import Dumper
from psycopg.pq import Format

_NULL = struct.pack(">i", -1)
_length = struct.Struct(">i").pack

# How the values of a column are written, none of them null.
_Write = Callable[[Sequence[Any]], list[bytes]]


def _text(items: Sequence[Any]) -> list[bytes]:
    return list(map(str.encode, items))


def _numbers(form: str) -> _Write:
    pack = struct.Struct(f">{form}").pack
    return lambda items: list(map(pack, items))


# By type of column: the type of an item, of an array of them, and how items are written.
_FORMS: dict[type[sa.types.TypeEngine[Any]], tuple[int, int, _Write]] = {
    sa.String: (25, 1009, _text),
    sa.LargeBinary: (17, 1001, list),
    sa.SmallInteger: (21, 1005, _numbers("h")),
    sa.Integer: (23, 1007, _numbers("i")),
    sa.BigInteger: (20, 1016, _numbers("q")),
}


class Array:
    """The values of one column, in the order of the rows."""

    __slots__ = ("items", "kind")

    def __init__(self, kind: sa.types.TypeEngine[Any], items: Sequence[Any]) -> None:
        self.kind = next(known for known in type(kind).__mro__ if known in _FORMS)
        self.items = items

    def to_bytes(self) -> bytes:
        """The array in the server's form."""
        item, _, write = _FORMS[self.kind]
        has_null = None in self.items
        head = struct.pack(">iiIii", 1, has_null, item, len(self.items), 1)
        values = write([value for value in self.items if value is not None] if has_null else self.items)
        # Lengths and values in turn, without a loop of our own: a batch has thousands.
        parts = [b""] * (2 * len(values))
        parts[::2] = map(_length, map(len, values))
        parts[1::2] = values
        if has_null:
            rest = iter(parts)
            parts = [_NULL if value is None else next(rest) + next(rest) for value in self.items]
        return b"".join([head, *parts])

    @property
    def oid(self) -> int:
        """The array's type, by the number that all servers have for it."""
        return _FORMS[self.kind][1]


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def get_key(self, obj: Array, format: Any) -> Any:  # noqa: A002 - the driver's name
        return (self.cls, obj.kind)

    def upgrade(self, obj: Array, format: Any) -> Dumper:  # noqa: A002 - the driver's name
        dumper = type(self)(self.cls)
        dumper.oid = obj.oid
        return dumper

    def dump(self, obj: Array) -> bytes:
        return obj.to_bytes()


def teach(driver: AdaptContext) -> None:
    """Lets a connection of the driver's carry them."""
    driver.adapters.register_dumper(Array, _ArrayDumper)
