"""What the roles put together: a bus on Kafka remembers topics in the installation's database."""

from pathlib import Path

import pytest

from orchestrator.bus.kafka import KafkaBus
from orchestrator.bus.port import BusUnavailable
from orchestrator.cli.assembly import _bus
from orchestrator.settings import load
from orchestrator.store import StoreUnavailable, TopicNotes
from tests.unit.service_world import World, world
from tests.unit.test_settings_kafka import GOOD

__all__ = ["world"]


def test_topics_are_remembered_in_the_database(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each group by itself; and while the database is away the bus counts as away, since what is read
    then might be another topic.
    """
    file = tmp_path / "radera.toml"
    file.write_text(GOOD + '[kafka]\nservers = ["127.0.0.1:1"]\nsecurity = "none"')
    bus, _ = _bus(load(file, {}, {}), world.engine, world.store)
    assert isinstance(bus, KafkaBus)
    notes = bus._notes
    assert notes is not None
    notes.add("worker", {"t/a"})
    assert ({"t/a"}, set()) == (notes.of("worker"), notes.of("mailbox"))
    assert {"t/a"} == TopicNotes(world.store).of("worker")

    def away(*_: object) -> set[str]:
        raise StoreUnavailable(database="radera")

    monkeypatch.setattr(TopicNotes, "of", away)
    with pytest.raises(BusUnavailable, match="which topics were read"):
        notes.of("worker")
