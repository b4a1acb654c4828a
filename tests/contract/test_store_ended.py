"""What has ended, read through again: on both databases, and by the command."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator.saga.model import Ended, Finished, InProgress, Saga, Step
from orchestrator.saga.timeline import GENESIS, Entry, append
from orchestrator.service.recheck import faults_of
from orchestrator.store import Store, open_engine
from orchestrator.store.migrations import upgrade
from orchestrator.store.tables import sagas
from tests.integration.installation import installed, radera

NOW = 1_790_000_000_000_000


def ended(request_id: str) -> Saga:
    step = Step(
        system="crm",
        kind="hubspot",
        state=Ended(end="erased", at=NOW, grade="seen_absent"),
        grade="seen_absent",
        erased=1,
        erased_at=NOW - 5,
    )
    return Saga(
        request_id=request_id,
        version=1,
        state=Finished(status="completed", at=NOW),
        received_at=NOW - 9,
        due_at=NOW,
        source="web",
        steps=(step,),
    )


def lines() -> list[Entry]:
    """An acceptance of the first erasure ended the second."""
    told: tuple[tuple[str, dict[str, str]], ...] = (
        ("command_sent", {"system": "crm", "verb": "erase", "attempt": "1"}),
        ("supplemented", {}),
        ("confirmed", {"system": "crm", "trigger": "accepted", "verb": "erase", "attempt": "1"}),
    )
    entries: list[Entry] = []
    previous = GENESIS
    for seq, (action, data) in enumerate(told, start=1):
        entries.append(append(previous, seq, NOW, action, data))
        previous = entries[-1].hash
    return entries


def put(store: Store, *made: Saga) -> None:
    with store.begin() as transaction:
        transaction.save(made)
        for saga in made:
            transaction.append_timeline([(saga.request_id, entry) for entry in lines()])


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql_url")
    upgrade(url)
    engine = open_engine(url)
    yield Store(engine, lambda: NOW)
    engine.dispose()


def test_every_ended_request_is_read_once(store: Store) -> None:
    """Over the ends of pages, without those that are open, and past one that can't be read."""
    is_open = replace(ended("e"), state=InProgress(until=NOW))
    put(store, *map(ended, "dbac"), is_open, ended("f"))
    with store.engine.begin() as connection:
        connection.execute(sa.update(sagas).where(sagas.c.request_id == "b").values(document="{}"))
    for page in (1, 2, 4, 5, 100):
        broken: list[str] = []
        assert ["a", "c", "d", "f"] == [one.request_id for one in store.ended(broken, page=page)]
        assert ["b"] == broken


def test_the_timeline_tells_the_same_on_both_databases(store: Store) -> None:
    """An answer that was about less is told from its timeline as it is stored."""
    put(store, ended("a"))
    [saga] = store.ended([])
    told = [(one.system, one.fault) for one in faults_of(saga, store.timeline("a"))]
    assert [("crm", "answer_about_less"), ("crm", "places_unsaid")] == told


def test_the_command_lists_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As JSON or as a table, all faults or one, with an exit code that says whether there is any."""
    with installed(tmp_path, monkeypatch) as installation:
        nothing = installation.cli("audit", "recheck", "--json")
        assert (0, []) == (nothing.exit_code, json.loads(nothing.stdout))

        put(installation.ground.store, ended("7d9f4c1e-0000-4000-8000-000000000001"))
        listed = installation.cli("audit", "recheck", "--json")
        rows = json.loads(listed.stdout)
        assert 1 == listed.exit_code
        assert ["answer_about_less", "places_unsaid"] == [one["fault"] for one in rows]
        assert {"request_id", "system", "fault", "meaning", "ended_at"} == rows[0].keys()
        assert ("crm", "2026-09-21T14:13:20Z") == (rows[0]["system"], rows[0]["ended_at"])

        one = installation.cli("audit", "recheck", "--fault", "answer_about_less")
        assert 1 == one.exit_code
        assert "2026-09-21" in one.stdout
        assert "places_unsaid" not in one.stdout
        other = installation.cli("audit", "recheck", "--fault", "bin_never_seen")
        assert (0, "1 ended requests examined, 0 to look at. Nothing was changed.\n") == (
            other.exit_code,
            other.stdout,
        )


def test_a_fault_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the names of those that there are; misspelt, it would list nothing and look like all is well."""
    monkeypatch.chdir(tmp_path)
    result = radera("audit", "recheck", "--fault", "places_unsayd")
    assert 2 == result.exit_code
    assert "places_unsaid" in result.output
