"""The alerts: each fires when it should and is quiet otherwise, and helps whoever it wakes."""

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest

from orchestrator.cli.main import main
from orchestrator.metrics import Figures, Metrics
from tests.deploy.tools import DEPLOY, documents, program, run

PROMETHEUS = DEPLOY / "prometheus"
RULES = PROMETHEUS / "rules" / "radera.yaml"
TESTS = sorted((PROMETHEUS / "tests").glob("*.yaml"))
SEVERITIES = {"critical", "warning"}
#: One thread, and memory rather than collecting it: a fifth less to compute, for the same answers.
FRUGAL = {"GOMAXPROCS": "1", "GOGC": "400"}


@cache
def _rules() -> tuple[dict[str, Any], ...]:
    (document,) = documents(RULES.read_text())
    return tuple(rule for group in document["groups"] for rule in group["rules"])


def _alerts() -> list[dict[str, Any]]:
    return [rule for rule in _rules() if "alert" in rule]


def _exported() -> set[str]:
    """The names of every series that Radera can export."""
    metrics = Metrics(["hubspot"], ["hubspot"])
    metrics.circuit("hubspot", "closed")
    metrics.watch(
        lambda: Figures(
            open_requests=1,
            outbox_size=1,
            oldest_open_age=1.0,
            least_time_left=1.0,
            open_escalations=1,
            outbox_age=1.0,
            quarantined=1,
        )
    )
    metrics.watch_bus(lambda: {"erasure.requests.v1": 1})
    return set(re.findall(r"(?m)^(\w+)", metrics.text().decode()))


def _commands(text: str) -> set[tuple[str, ...]]:
    """The radera commands that a text tells to type."""
    return {
        tuple(words.split())
        for words in re.findall(r"\bradera ((?:(?:dlq|systems) )?(?!logs|get|describe)[a-z]+)", text)
    }


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_rules_do_what_their_tests_say(file: Path) -> None:
    """Each alert fires in the situation that it is for, and in no other that is tried."""
    run(program("promtool"), "test", "rules", str(file), env=os.environ | FRUGAL)


def test_every_alert_is_tried_firing_and_quiet() -> None:
    """An alert that nobody has seen fire is a guess."""
    seen = {"fires": set[str](), "quiet": set[str]()}
    for file in TESTS:
        for one in documents(file.read_text())[0]["tests"]:
            for asked in one.get("promql_expr_test", []):
                if "ALERTS" not in asked["expr"]:
                    continue
                names = {
                    name
                    for sample in asked["exp_samples"]
                    for name in re.findall(r'alertname="(\w+)"', sample["labels"])
                }
                seen["fires"] |= names
                pattern = re.search(r'alertname=~?"([^"]+)"', asked["expr"])
                covered = {
                    rule["alert"]
                    for rule in _alerts()
                    if pattern is None or re.fullmatch(pattern[1], rule["alert"])
                }
                seen["quiet"] |= covered - names

    assert {
        "fires": {rule["alert"] for rule in _alerts()},
        "quiet": {rule["alert"] for rule in _alerts()},
    } == seen


def test_every_alert_tells_the_person_on_duty_what_to_do() -> None:
    """It says what is wrong, where to look and what to type, and whether it may wake anybody."""
    wanting = [
        rule["alert"]
        for rule in _alerts()
        if {"summary", "meaning", "look", "command"} != set(rule["annotations"])
        or not all(len(text) > 10 for text in rule["annotations"].values())
        or rule["labels"]["severity"] not in SEVERITIES
        or not re.search(r"\bradera\b", rule["annotations"]["command"])
    ]

    assert [] == wanting


def test_what_alerts_tell_to_type_exists() -> None:
    """A runbook with a command that is not there is worse than none."""
    assert isinstance(main, click.Group)
    told = {words for rule in _alerts() for words in _commands(rule["annotations"]["command"])}

    assert {("status",), ("timeline",), ("decide",), ("dlq", "list")} <= told
    for words in told:
        command: click.Command = main
        for word in words:
            assert isinstance(command, click.Group), words
            command = command.commands[word]


def test_rules_ask_for_series_that_are_exported() -> None:
    """A rule on a series that was renamed would never fire, and nobody would notice."""
    recorded = {rule["record"] for rule in _rules() if "record" in rule}
    asked = set[str]()
    for rule in _rules():
        asked |= set(re.findall(r"\bradera[:_][\w:]+", re.sub(r'"[^"]*"', "", rule["expr"])))

    assert set() == asked - recorded - _exported()
    assert recorded | {"radera_store_up"} <= asked | {
        "radera:open_requests:max",  # for people, and for another's dashboards
        "radera:outbox_records:max",
    }


def test_the_configuration_is_valid() -> None:
    """Prometheus and Alertmanager start with the files as they are."""
    run(program("promtool"), "check", "config", str(PROMETHEUS / "prometheus.yml"))
    run(program("amtool"), "check-config", str(PROMETHEUS / "alertmanager.yml"))
