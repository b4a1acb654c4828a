"""What the benchmarks are made of: that they give the orchestrator what it is said to be given."""

from pathlib import Path

from tests.bench.installation import embedded
from tests.bench.report import page
from tests.bench.traffic import EVENTS, SYSTEMS, lives


def test_a_life_is_sixteen_events_and_ends_completed(tmp_path: Path) -> None:
    """One request, and three answers from each of five systems, carry it to its end."""
    with embedded(tmp_path) as made:
        (life,) = lives(made.config, 1)
    records = [record for stage in life.records.values() for record in stage]
    assert (EVENTS, 1 + 3 * len(SYSTEMS)) == (len(records), len(records))
    assert {life.request_id} == {record.key for record in records}
    assert ["in_progress", "in_progress", "in_progress", "completed"] == [one.status for one in life.states]


def test_the_page_says_what_was_measured_and_where() -> None:
    """Each part has its figures against their goals, and its own date and sizes."""
    around = {
        "date": "2026-11-23T03:10+00:00",
        "processors": 2,
        "memory_gb": 23.5,
        "load_before": 0.1,
        "commit": "abc1234",
        "python": "3.11.7",
        "kafka": "4.3.1",
        "postgresql": "15.9",
        "libraries": {"psycopg": "3.3.9"},
        "sizes": {"requests": 3000},
    }
    lines = [["sagas/s", "100", "≥ 200", False], ["raw pipe", "150", "", None]]
    said = page({"throughput": {"circumstances": around, "figures": {}, "lines": lines}})
    assert "| sagas/s | 100 | ≥ 200 | no |\n| raw pipe | 150 |  |  |" in said
    assert "2026-11-23T03:10+00:00; 2 processors, 23.5 GB, load before 0.1; requests 3000." in said
