"""A real Prometheus, with the rules and the scrape configuration that are shipped, on processes of a test."""

import json
import math
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.deploy.tools import DEPLOY, documents, program
from tests.integration.ports import free_port
from tests.integration.processes import eventually

SHIPPED = DEPLOY / "prometheus"
INTERVAL = "500ms"

Series = list[dict[str, Any]]


class Prometheus:
    """Its HTTP API."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def query(self, expression: str) -> Series:
        """The series of an instant query, now."""
        found: Series = self._get("query", query=expression)["result"]
        return found

    def value(self, expression: str) -> float:
        """The one value of a query, or NaN while there is none."""
        found = self.query(expression)
        assert len(found) <= 1, (expression, found)
        return float(found[0]["value"][1]) if found else math.nan

    def label_values(self, label: str, match: str) -> list[str]:
        return [str(one) for one in self._get(f"label/{label}/values", **{"match[]": match})]

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _get(self, path: str, **asked: str) -> Any:
        answer = self._client.get(f"/api/v1/{path}", params=asked)
        said = answer.json()
        assert "success" == said["status"], (asked, said)
        return said["data"]


@contextmanager
def prometheus(directory: Path, roles: Mapping[str, str]) -> Iterator[Prometheus]:
    """Starts it on targets, each of a role; returns when every one was scraped."""
    executable = program("prometheus")
    (config,) = documents((SHIPPED / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL}
    config["alerting"] = {}
    config["rule_files"] = [_rules(directory)]
    config["scrape_configs"][0]["static_configs"] = [
        {"targets": [target], "labels": {"role": role}} for target, role in roles.items()
    ]
    file = directory / "prometheus.json"
    file.write_text(json.dumps(config))
    address = f"127.0.0.1:{free_port()}"
    words = [
        executable,
        f"--config.file={file}",
        f"--storage.tsdb.path={directory / 'prometheus'}",
        f"--web.listen-address={address}",
    ]
    with (
        (directory / "prometheus.log").open("wb") as log,
        subprocess.Popen(words, stdout=log, stderr=log) as process,
        httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=30.0) as client,
    ):
        try:
            eventually("Prometheus is ready", lambda: _is_ready(client), within=30.0)
            served = Prometheus(client)
            eventually(
                "every target was scraped", lambda: len(served.query("up == 1")) == len(roles), within=90.0
            )
            yield served
        finally:
            process.kill()


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").is_success
    except httpx.TransportError:
        return False


def _rules(directory: Path) -> str:
    """The rules as they are, but evaluated as often as the rest."""
    (rules,) = documents((SHIPPED / "rules" / "radera.yaml").read_text())
    for group in rules["groups"]:
        group.pop("interval", None)
    file = directory / "rules.json"
    file.write_text(json.dumps(rules))
    return str(file)
