"""The dashboard: well formed, and each of its questions has an answer when Radera runs."""

import random
import re

import pytest

from tests.deploy.dashboard import dashboard, panels, queries, variables
from tests.deploy.prometheus import prometheus
from tests.integration.people import make_people
from tests.integration.processes import command, eventually
from tests.integration.world import World

UNITS = {"none", "s", "bytes", "percentunit", "bool_yes_no"}
KINDS = ["google_analytics", "hubspot", "recruitment", "superoffice", "tenant"]
DAY = 86_400


@pytest.mark.timeout(240)
def test_every_query_has_an_answer(world: World) -> None:
    """A real Prometheus scrapes a real installation that carries out requests at every kind of system: no
    panel is empty, no variable has nothing to choose from, every rule can be evaluated, and the
    figures are those of the installation.
    """
    world.radera.start()
    target = f"127.0.0.1:{world.http_port}"
    with prometheus(world.directory, target, "all") as asked:
        world.settle(make_people(random.Random(world.seed), 6))
        for person in world.people:
            world.submit(person)
        # This one waits for its person to be verified, so that something is open and a question asked.
        waits = command(world.config, "submit", "--unverified", given="email=who@people.example\n")
        assert 0 == waits.returncode, waits.stderr
        world.await_end(90.0)
        world.await_mails(30.0)

        eventually("the end was scraped", lambda: asked.value("radera:open_requests:max") == 1, within=20.0)
        eventually(
            "each rule was evaluated",
            lambda: {"ok"} == {rule["health"] for rule in asked.rules()},
            within=30.0,
        )
        assert [] == [query for query in queries() if not asked.query(query.filled())]
        assert [] == [name for name, label, series in variables() if not asked.label_values(label, series)]
        assert KINDS == asked.label_values("kind", "radera_commands_total")
        assert [] == asked.query('ALERTS{alertstate="firing"}')
        assert [] == asked.query('{__name__=~"radera_.+_created"}')
        assert 6 <= asked.value('sum(radera_commands_total{result="proved"})')
        assert 1 == asked.value("radera_open_escalations")
        assert 27 * DAY < asked.value("radera:least_time_left_seconds:min") < 36 * DAY
        sent = asked.value('sum(radera_mails_total{result="sent"})')
        assert sent >= len(world.outcomes()) - len(world.people)
    world.radera.stop()


def test_the_dashboard_keeps_grafanas_rules() -> None:
    """What Grafana's own linter asks of a dashboard: data source, job and instance can be chosen and are used
    everywhere, counters are seen by their increase over an interval that fits the screen, each panel says
    what it shows and in which unit, and nobody edits the copy on the server.
    """
    variables_ = {one["name"]: one for one in dashboard()["templating"]["list"]}
    assert ("datasource", "prometheus", "Data source") == (
        variables_["datasource"]["type"],
        variables_["datasource"]["query"],
        variables_["datasource"]["label"],
    )
    for name in ("job", "instance"):
        assert (".+", True, 2, name.title()) == tuple(
            variables_[name][key] for key in ("allValue", "multi", "refresh", "label")
        )
    assert dashboard()["editable"] is False
    wrong = [
        panel["title"]
        for panel in panels()
        if not panel["title"]
        or not panel["description"].endswith(".")
        or panel["fieldConfig"]["defaults"]["unit"] not in UNITS
        or {"${datasource}"} != {one["datasource"]["uid"] for one in [panel, *panel["targets"]]}
        or not panel["targets"]
    ]
    assert [] == wrong


def test_queries_look_at_what_was_chosen() -> None:
    """Each series is asked for by job and instance, and each counter by its increase."""
    for query in queries():
        series = re.findall(r"\b((?:radera|process)_\w+|up)(\{[^}]*\})?", query.expression)
        assert series, query
        for name, chosen in series:
            assert 'job=~"$job",instance=~"$instance"' in chosen, query
            counts = name.endswith(("_total", "_bucket"))
            by_increase = rf"(?:rate|increase)\({name}\{{[^}}]*\}}\[\$__rate_interval\]\)"
            assert counts == bool(re.search(by_increase, query.expression)), query


def test_panels_do_not_lie_over_one_another() -> None:
    """Each panel has its own place on a screen 24 columns wide, and its own number."""
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert set() == taken & cells, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(ids) == len(set(ids))
