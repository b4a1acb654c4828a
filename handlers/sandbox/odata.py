"""SuperOffice's archive queries: `$select`, `$filter`, `$orderBy`, `$entities`, `$top`, `$skip`, and pages.

The filters that are understood are clauses joined by `and`:

    email/emailAddress is 'x'   personId eq 7   personId oneOf (7,8)   startswith(fullName, 'A')

* Each column has a restriction type, and each type its operators; SuperOffice's reference lists both. Any
  other operator, an unknown column in any parameter, an unknown entity and a parameter that SuperOffice
  doesn't describe are errors here. What SuperOffice does with them is not documented.
* Text compares without regard to case.
* A quote within a text is written as the tenant's `quote_escape` has it: with a backslash, as the archive
  agent's description says, or doubled, as OData has it. The other way is an error.
* A time carries an offset only when the caller asks for it (`SO-TimeZone: UTC, includeTZOffset`). Without
  that header it is in the tenant's base zone, and nothing says so.
"""

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Literal
from urllib.parse import quote
from zoneinfo import ZoneInfo

from handlers.sandbox.store import Row
from handlers.sandbox.web import Call, Refusal, document, moment

Kind = Literal["string", "int", "listAny", "date", "datetime", "bool", "none"]
Value = str | int | None
Quoting = Literal["backslash", "double"]

_STRING = {"backslash": r"'((?:[^'\\]|\\.)*)'(?!')", "double": r"'((?:[^']|'')*)'"}
_REST = r"|(-?\d+)(?![\w/])|([A-Za-z_][\w/]*)|([(),=]))"
TOKEN = {how: re.compile(rf"\s*(?:{string}{_REST}") for how, string in _STRING.items()}
FUNCTIONS = {"startswith": "begins", "substringof": "contains"}
#: What may be asked of a column, by its restriction type.
OPERATORS: dict[Kind, frozenset[str]] = {
    "string": frozenset({"is", "isnot", "begins", "contains", "in", "between", "notbegins", "notcontains"}),
    "int": frozenset({"eq", "ne", "lt", "gt", "le", "ge", "in", "between", "set", "equals"}),
    "listAny": frozenset({"oneof", "notoneof", "equals"}),
    "bool": frozenset({"is", "isnot", "equals"}),
    "date": frozenset(),
    "datetime": frozenset(),
    "none": frozenset(),
}
_HOLDS: dict[str, Callable[[Any, list[Any]], bool]] = {
    "is": lambda a, b: a == b[0],
    "isnot": lambda a, b: a != b[0],
    "begins": lambda a, b: a.startswith(b[0]),
    "contains": lambda a, b: b[0] in a,
    "notbegins": lambda a, b: not a.startswith(b[0]),
    "notcontains": lambda a, b: b[0] not in a,
    "eq": lambda a, b: a == b[0],
    "=": lambda a, b: a == b[0],
    "equals": lambda a, b: a == b[0],
    "ne": lambda a, b: a != b[0],
    "lt": lambda a, b: a < b[0],
    "le": lambda a, b: a <= b[0],
    "gt": lambda a, b: a > b[0],
    "ge": lambda a, b: a >= b[0],
    "set": lambda a, b: bool(a) == bool(b[0]),
    "between": lambda a, b: b[0] <= a <= b[-1],
    "in": lambda a, b: a in b,
    "oneof": lambda a, b: a in b,
    "notoneof": lambda a, b: a not in b,
}
PARAMETERS = frozenset(
    {"$select", "$filter", "$orderby", "$entities", "$top", "$skip", "$mode", "$options", "$context"}
    | {"$format", "$jsonsafe", "$output"}
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its restriction type, and a row's values for it. A time is in microseconds."""

    kind: Kind
    values: Callable[[Row], list[Value]]


@dataclass(frozen=True, slots=True)
class Clause:
    """One condition of a filter."""

    column: str
    operator: str
    wanted: tuple[str | int, ...]

    def is_met(self, column: Column, row: Row) -> bool:
        """Whether any of the row's values meets the condition."""
        holds = _HOLDS[self.operator]
        wanted = [one.lower() if isinstance(one, str) else one for one in self.wanted]
        found = [one.lower() if isinstance(one, str) else one for one in column.values(row)]
        return any(holds(one, wanted) for one in found if isinstance(one, type(wanted[0])))


def error(status: int, kind: str, message: str) -> Refusal:
    """SuperOffice's error body."""
    return Refusal(document(status, {"Error": True, "ErrorType": kind, "ErrorMessage": message}))


def _bad(message: str) -> Refusal:
    return error(400, "SoArgumentException", message)


def tokens(text: str, quoting: Quoting) -> list[tuple[str, str]]:
    found, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = TOKEN[quoting].match(text, at)
        if match is None:
            raise _bad("The filter cannot be read: a quote is not closed, or a value is not quoted.")
        string, number, name, sign = match.groups()
        if string is not None:
            plain = re.sub(r"\\(.)", r"\1", string) if quoting == "backslash" else string.replace("''", "'")
            found.append(("text", plain))
        elif number is not None:
            found.append(("number", number))
        else:
            found.append(("name", name) if name is not None else ("sign", sign))
        at = match.end()
    return found


def _value(token: tuple[str, str]) -> str | int:
    kind, text = token
    if kind == "text":
        return text
    if kind == "number":
        return int(text)
    raise _bad("A value in the filter is neither a number nor quoted.")


def parse(text: str, quoting: Quoting) -> list[Clause]:
    """The clauses of a filter."""
    rest, clauses = tokens(text, quoting), []
    while rest:
        if rest[0][1].lower() in FUNCTIONS and rest[1:2] == [("sign", "(")]:
            if len(rest) < 6 or rest[3] != ("sign", ",") or rest[5] != ("sign", ")"):
                raise _bad("A function in the filter is malformed.")
            name, first, second = rest[0][1].lower(), rest[2], rest[4]
            column, value = (first, second) if name != "substringof" else (second, first)
            clauses.append(Clause(column[1], FUNCTIONS[name], (_value(value),)))
            rest = rest[6:]
        else:
            if len(rest) < 3 or rest[0][0] != "name":
                raise _bad("A clause of the filter is malformed.")
            wanted, after = _wanted(rest[2:])
            clauses.append(Clause(rest[0][1], rest[1][1].lower(), wanted))
            rest = after
        if rest:
            if rest[0] != ("name", "and") or len(rest) == 1:
                raise _bad("Clauses of a filter are joined by 'and'.")
            rest = rest[1:]
    return clauses


def _wanted(rest: list[tuple[str, str]]) -> tuple[tuple[str | int, ...], list[tuple[str, str]]]:
    """One value, or several within brackets, and what stands after them."""
    if rest[0] != ("sign", "("):
        return (_value(rest[0]),), rest[1:]
    end = next((at for at, token in enumerate(rest) if token == ("sign", ")")), None)
    if end is None or end < 2 or any(token != ("sign", ",") for token in rest[2:end:2]):
        raise _bad("A list of values in the filter is malformed.")
    return tuple(map(_value, rest[1:end:2])), rest[end + 1 :]


def parameters(call: Call) -> dict[str, str]:
    """The query's parameters; their names are compared without regard to case."""
    return {name.lower(): value for name, value in call.query.items()}


def entities(call: Call, known: Iterable[str]) -> frozenset[str]:
    """The entities that are asked for; none where the query names none."""
    asked = frozenset(
        name.strip() for name in parameters(call).get("$entities", "").split(",") if name.strip()
    )
    if strange := asked - frozenset(known):
        raise _bad(f"The archive has no entity named {', '.join(sorted(strange))}.")
    return asked


def clock_shown(call: Call, base_zone: str) -> Callable[[int], str]:
    """How this caller is shown times: see the module's rules."""
    zone, _, rest = call.headers.get("so-timezone", "").partition(",")
    with_offset = rest.strip().lower() == "includetzoffset"
    where = UTC if zone.strip().upper() == "UTC" else ZoneInfo(base_zone)

    def shown(micros: int) -> str:
        at = moment(micros + call.skew).astimezone(where)
        return (at if with_offset else at.replace(tzinfo=None)).isoformat(timespec="milliseconds")

    return shown


def _first(column: Column, row: Row) -> Any:
    value = column.values(row)[0]
    return (value is not None, value)


@dataclass(frozen=True, slots=True)
class Query:
    """One archive as it is asked: its columns, its primary key, and what a row is called."""

    key: str
    columns: Mapping[str, Column]
    entity: Callable[[Row], str]
    page: int
    quoting: Quoting
    shown: Callable[[int], str]

    def clauses(self, call: Call) -> list[Clause]:
        """The filter, each column and operator of which the archive has."""
        asked = parameters(call)
        if strange := set(asked) - PARAMETERS:
            raise _bad(f"There is no parameter {', '.join(sorted(strange))}.")
        clauses = parse(asked.get("$filter", ""), self.quoting)
        for one in clauses:
            kind = self._column(one.column).kind
            if one.operator not in OPERATORS[kind]:
                raise _bad(f"{one.column} is a {kind}, for which there is no {one.operator}.")
            if any(isinstance(wanted, str) != (kind == "string") for wanted in one.wanted):
                raise _bad(f"{one.column} is a {kind}, and is compared with something else.")
        return clauses

    def answer(self, call: Call, clauses: list[Clause], rows: list[Row]) -> dict[str, Any]:
        """One page of those of the rows that meet the filter."""
        asked = parameters(call)
        found = rows
        if not call.unfiltered:
            found = [row for row in rows if all(one.is_met(self.columns[one.column], row) for one in clauses)]
        orders = [part.strip() for part in asked.get("$orderby", self.key).split(",") if part.strip()]
        for order in reversed(orders):
            name, _, direction = order.partition(" ")
            backwards = direction.strip().lower() == "desc"
            found.sort(key=functools.partial(_first, self._column(name)), reverse=backwards)
        try:
            skip, top = int(asked.get("$skip", "0")), int(asked["$top"]) if "$top" in asked else None
        except ValueError:
            raise _bad("$skip and $top are numbers.") from None
        if skip < 0 or (top is not None and top < 0):
            raise _bad("$skip and $top are not negative.")
        size = self.page if top is None else min(self.page, top)
        select = [name.strip() for name in asked.get("$select", ",".join(self.columns)).split(",")]
        picked = {name: self._column(name) for name in select}
        base = f"{call.origin}/{call.vendor}{quote(call.path)}"
        result: dict[str, Any] = {
            "odata.metadata": f"{base}/$metadata",
            "value": [self._row(row, picked) for row in found[skip : skip + size]],
        }
        left = len(found) - skip - size
        if size and left > 0 and (top is None or top > size):
            more = {**asked, "$skip": str(skip + size), **({} if top is None else {"$top": str(top - size)})}
            query = "&".join(f"{name}={quote(value, safe='')}" for name, value in more.items())
            result["odata.nextLink"] = f"{base}?{query}"
        return result

    def _column(self, name: str) -> Column:
        if name not in self.columns:
            raise _bad(f"The archive has no column named {name}.")
        return self.columns[name]

    def _row(self, row: Row, picked: Mapping[str, Column]) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for name, column in picked.items():
            value = column.values(row)[0]
            is_time = column.kind in ("date", "datetime")
            shown[name] = self.shown(value) if is_time and isinstance(value, int) else value
        return {"PrimaryKey": row["id"], "EntityName": self.entity(row), **shown}
