"""The table of places in this folder's README, made from the handlers' declarations.

`python -m handlers.places_table --write` makes it anew; without `--write` it tells by its exit code whether
the README is up to date.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from handlers.places import DeclaredPlace
from handlers.registry import declared_places

README: Final = Path(__file__).with_name("README.md")
_BEGIN: Final = "<!-- places: generated -->\n"
_END: Final = "\n<!-- places: end -->"


def table(declared: Mapping[str, tuple[DeclaredPlace, ...]]) -> str:
    """Return a row for each place, by kind of system."""
    rows = [
        f"| `{kind}` | `{place.name}` | {place.title['en']} | {', '.join(sorted(place.by)) or '-'} |"
        for kind, places in declared.items()
        for place in places
    ]
    return "\n".join(("| kind | place | what it is | searched by |", "| --- | --- | --- | --- |", *rows))


def drawn(text: str) -> str:
    """Return the README with the table as the declarations have it now."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{table(declared_places())}{_END}{after}"


def main(arguments: list[str]) -> int:
    """Write the README with `--write`; else return 1 where it is out of date."""
    text = README.read_text(encoding="utf-8")
    if "--write" in arguments:
        README.write_text(drawn(text), encoding="utf-8")
        return 0
    return int(drawn(text) != text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
