"""SuperOffice's archive queries: `$select`, `$filter`, `$orderBy`, `$top`, `$skip`, and pages.

The filters that are understood are clauses joined by `and`:

    email/emailAddress is 'x'   personId eq 7   startswith(fullName, 'A')   substringof('b', fullName)

with `is`, `isNot`, `contains`, `begins` for text and `eq`, `ne`, `lt`, `le`, `gt`, `ge`, `=` for
numbers; `eq` and `=` also for text. Text compares without regard to case. A quote inside a text is
written twice: that is OData's rule and **our assumption** about SuperOffice, which does not document it.
A filter that is not understood, or names a column that the archive hasn't, is an error here, and so is a
parameter that SuperOffice doesn't describe; an unknown column in `$select` is left out of the rows.
"""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from handlers.sandbox.store import Row
from handlers.sandbox.web import Call, Refusal, document

Column = Callable[[Row], str | int]
TOKEN = re.compile(r"\s*(?:'((?:[^']|'')*)'|(-?\d+)(?![\w/])|([A-Za-z_][\w/]*)|([(),=]))")
FUNCTIONS = {"startswith": "begins", "substringof": "contains", "endswith": "ends"}
NUMBERS: dict[str, Callable[[int, int], bool]] = {
    "eq": lambda a, b: a == b,
    "=": lambda a, b: a == b,
    "equals": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
TEXTS: dict[str, Callable[[str, str], bool]] = {
    "is": lambda a, b: a == b,
    "eq": lambda a, b: a == b,
    "=": lambda a, b: a == b,
    "isnot": lambda a, b: a != b,
    "contains": lambda a, b: b in a,
    "begins": lambda a, b: a.startswith(b),
    "ends": lambda a, b: a.endswith(b),
}

PARAMETERS = frozenset(
    {"$select", "$filter", "$orderby", "$entities", "$top", "$skip", "$mode", "$options", "$context"}
    | {"$format", "$jsonsafe", "$output"}
)

Clause = tuple[str, str, str | int]


def error(status: int, kind: str, message: str) -> Refusal:
    """SuperOffice's error body."""
    return Refusal(document(status, {"Error": True, "ErrorType": kind, "ErrorMessage": message}))


def _bad(message: str) -> Refusal:
    return error(400, "SoArgumentException", message)


def tokens(text: str) -> list[tuple[str, str]]:
    found, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise _bad("The filter cannot be read: a quote is not closed, or a value is not quoted.")
        string, number, name, sign = match.groups()
        if string is not None:
            found.append(("text", string.replace("''", "'")))
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


def parse(text: str) -> list[Clause]:
    """The clauses of a filter: (column, operator, value)."""
    rest, clauses = tokens(text), []
    while rest:
        if rest[0][1].lower() in FUNCTIONS and rest[1:2] == [("sign", "(")]:
            if len(rest) < 6 or rest[3] != ("sign", ",") or rest[5] != ("sign", ")"):
                raise _bad("A function in the filter is malformed.")
            name, first, second = rest[0][1].lower(), rest[2], rest[4]
            column, value = (first, second) if name != "substringof" else (second, first)
            clauses.append((column[1], FUNCTIONS[name], _value(value)))
            rest = rest[6:]
        else:
            if len(rest) < 3 or rest[0][0] != "name":
                raise _bad("A clause of the filter is malformed.")
            clauses.append((rest[0][1], rest[1][1].lower(), _value(rest[2])))
            rest = rest[3:]
        if rest:
            if rest[0] != ("name", "and") or len(rest) == 1:
                raise _bad("Clauses of a filter are joined by 'and'.")
            rest = rest[1:]
    return clauses


def holds(clause: Clause, values: list[str | int]) -> bool:
    """Whether any of a row's values for the column meets the clause."""
    _, operator, wanted = clause
    if isinstance(wanted, int):
        if operator not in NUMBERS:
            raise _bad("That operator does not compare numbers.")
        return any(NUMBERS[operator](value, wanted) for value in values if isinstance(value, int))
    if operator not in TEXTS:
        raise _bad("That operator does not compare texts.")
    wanted = wanted.lower()
    return any(TEXTS[operator](value.lower(), wanted) for value in values if isinstance(value, str))


def _first(values: Callable[[Row, str], list[Any]], name: str, row: Row) -> Any:
    return values(row, name)[0]


def parameters(call: Call) -> dict[str, str]:
    """The query's parameters; their names are compared without regard to case."""
    return {name.lower(): value for name, value in call.query.items()}


def answer(
    call: Call,
    entity: str,
    key: str,
    columns: Mapping[str, Callable[[Row], Any]],
    rows: Callable[[list[Clause]], list[Row]],
    page: int,
) -> dict[str, Any]:
    """One page of an archive: `rows` gives candidates for the clauses, `key` is the primary key."""
    asked = parameters(call)
    if strange := set(asked) - PARAMETERS:
        raise _bad(f"There is no parameter {', '.join(sorted(strange))}.")
    clauses = parse(asked.get("$filter", ""))
    for name, _, _ in clauses:
        if name not in columns:
            raise _bad(f"The archive has no column named {name}.")

    def values(row: Row, name: str) -> list[str | int]:
        value = columns[name](row)
        return value if isinstance(value, list) else [value]

    found = [row for row in rows(clauses) if all(holds(clause, values(row, clause[0])) for clause in clauses)]
    for order in reversed([part.strip() for part in asked.get("$orderby", key).split(",") if part.strip()]):
        name, _, direction = order.partition(" ")
        if name not in columns:
            raise _bad(f"The archive has no column named {name}.")
        backwards = direction.strip().lower() == "desc"
        found.sort(key=functools.partial(_first, values, name), reverse=backwards)
    try:
        skip, top = int(asked.get("$skip", "0")), int(asked["$top"]) if "$top" in asked else None
    except ValueError:
        raise _bad("$skip and $top are numbers.") from None
    if skip < 0 or (top is not None and top < 0):
        raise _bad("$skip and $top are not negative.")
    size = page if top is None else min(page, top)
    select = [name.strip() for name in asked["$select"].split(",")] if "$select" in asked else list(columns)

    def shown(row: Row) -> dict[str, Any]:
        picked = {name: values(row, name)[0] for name in select if name in columns}
        return {"PrimaryKey": str(columns[key](row)), "EntityName": entity, **picked}

    base = f"{call.origin}/{call.vendor}{quote(call.path)}"
    result: dict[str, Any] = {
        "odata.metadata": f"{base}/$metadata",
        "value": [shown(r) for r in found[skip : skip + size]],
    }
    left = len(found) - skip - size
    if size and left > 0 and (top is None or top > size):
        more = {**asked, "$skip": str(skip + size), **({} if top is None else {"$top": str(top - size)})}
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in more.items())
        result["odata.nextLink"] = f"{base}?{query}"
    return result
