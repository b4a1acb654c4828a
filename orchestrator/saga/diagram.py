"""Draws the tables: Mermaid diagrams and the list of questions, kept between markers in README.md.

`python -m orchestrator.saga.diagram --write` draws them anew; without `--write` it tells by its exit code
whether they are true.
"""

import sys
from pathlib import Path

from orchestrator.saga.escalations import REASONS
from orchestrator.saga.table import LATE_ANSWERS, REQUEST_TABLE, STEP_TABLE

README = Path(__file__).with_name("README.md")

# Named in the text and not drawn, so that the arrows can be followed.
_EVERYWHERE = frozenset({"waive", "stop", "supplement"})
_LATE_IN = ("retrying", "awaiting_decision")
_ENDS = ("ended", "completed", "rejected", "cancelled")


def _arrows(table: dict[str, dict[str, tuple[str, ...]]], first: str) -> list[str]:
    """One arrow for each pair of statuses, with every trigger that leads that way."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for before, rows in table.items():
        for trigger, targets in rows.items():
            for after in targets:
                grouped.setdefault((before, after), []).append(trigger)
    lines = [f"    [*] --> {first}"]
    lines += [
        f"    {before} --> {after}: {', '.join(sorted(triggers))}"
        for (before, after), triggers in grouped.items()
    ]
    lines += [f"    {end} --> [*]" for end in _ENDS if end in table]
    return lines


def _mermaid(arrows: list[str]) -> str:
    return "\n".join(["```mermaid", "stateDiagram-v2", *arrows, "```"])


def steps_diagram() -> str:
    """The life of one step."""
    table: dict[str, dict[str, tuple[str, ...]]] = {}
    for status, rows in STEP_TABLE.items():
        left_out = _EVERYWHERE | (LATE_ANSWERS.keys() if status in _LATE_IN else set())
        table[status] = {trigger: row.targets for trigger, row in rows.items() if trigger not in left_out}
    return _mermaid(_arrows(table, "waiting"))


def requests_diagram() -> str:
    """The life of a request."""
    table: dict[str, dict[str, tuple[str, ...]]] = {
        status: dict(rows) for status, rows in REQUEST_TABLE.items()
    }
    return _mermaid(_arrows(table, "awaiting_verification"))


def questions_table() -> str:
    """Every reason to ask the DPO, with the decisions that fit."""
    rows = [f"| `{reason}` | {text} | {', '.join(actions)} |" for reason, (actions, text) in REASONS.items()]
    return "\n".join(["| reason | what it means | decisions |", "| --- | --- | --- |", *rows])


def drawn(text: str) -> str:
    """The text with everything between its markers drawn anew."""
    parts = {"requests": requests_diagram(), "steps": steps_diagram(), "questions": questions_table()}
    for name, content in parts.items():
        begin, end = f"<!-- {name}: generated -->\n", f"\n<!-- {name}: end -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"README.md lacks the markers of {name!r}")
        text = before + begin + content + end + after
    return text


def main(arguments: list[str]) -> int:
    """Writes the file with `--write`; else exits with 1 when it is out of date."""
    text = README.read_text()
    if "--write" in arguments:
        README.write_text(drawn(text))
        return 0
    return int(drawn(text) != text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
