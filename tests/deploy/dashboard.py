"""The dashboard, and the questions that Grafana would ask for it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.deploy.tools import DEPLOY

FILE = DEPLOY / "grafana" / "dashboards" / "radera.json"


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel."""

    panel: str
    expression: str

    def filled(self) -> str:
        """As Grafana sends it, with everything chosen and an hour on the screen."""
        return _filled(self.expression)


def dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(FILE.read_text())
    return read


def panels() -> list[dict[str, Any]]:
    """The panels that show something; a row is only a heading."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> list[Query]:
    return [Query(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]


def variables() -> Iterator[tuple[str, str, str]]:
    """What the variables choose from: name, label and the series that has it."""
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert found is not None, variable
            yield variable["name"], found[2], _filled(found[1])


def _filled(text: str) -> str:
    text = text.replace("$__rate_interval", "1m")
    for name in ("job", "instance", "kind"):
        text = text.replace(f"${name}", ".+")
    assert "$" not in text, text
    return text
