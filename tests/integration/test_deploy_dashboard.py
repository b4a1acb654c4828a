"""The dashboard is well formed. That its questions have answers is seen in `test_apart.py`."""

import re

from tests.deploy.dashboard import dashboard, panels, queries

UNITS = {"none", "s", "bytes", "percentunit", "bool_yes_no"}


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
