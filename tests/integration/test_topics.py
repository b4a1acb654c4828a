"""`radera topics` against a broker: what it makes, what it tells, and that it changes nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

from orchestrator.bus.kafka_admin import Admin, opened_admin
from orchestrator.bus.kafka_topics import Topic
from orchestrator.cli.main import main
from schemas import topics
from tests.integration.kafka_server import Server, kafka

__all__ = ["kafka"]

SETTINGS = """
[installation]
name = "Example"
domain = "radera.example.com"
public_url = "https://radera.example.com"

[dpo]
address = "dpo@example.com"

[smtp]
host = "mail.example.com"
sender = "radera@example.com"

[systems.archive]
kind = "holds_nothing"
reason = "paper"
"""

Command = Callable[..., Result]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Topics of this test alone: their names are fixed, and the broker is shared."""
    mark = uuid4().hex
    for name in ("REQUESTS", "CONFIRMATIONS", "DECISIONS", "OUTCOMES", "INSTALLATION"):
        monkeypatch.setattr(topics, name, f"{mark}.{getattr(topics, name)}")


@pytest.fixture
def radera(kafka: Server, names: None, tmp_path: Path) -> Command:
    """Runs `radera topics` with some settings of [kafka]."""

    def run(verb: str, more: str = "", replication: int = 1) -> Result:
        file = tmp_path / "radera.toml"
        table = (
            f'[kafka]\nservers = ["{kafka.address}"]\nsecurity = "none"\nreplication = {replication}\n{more}'
        )
        file.write_text(SETTINGS + table, encoding="utf-8")
        return CliRunner().invoke(main, ["topics", verb, "--config", str(file)])

    return run


@pytest.fixture
def admin(kafka: Server) -> Iterator[Admin]:
    with opened_admin(kafka.settings()) as admin:
        yield admin


def test_what_is_missing_is_told_and_made(radera: Command, admin: Admin) -> None:
    """`check` makes nothing; `apply` makes all of it; then both agree."""
    missing = radera("check")
    assert 1 == missing.exit_code
    assert f"{topics.REQUESTS}: is missing" in missing.output.splitlines()
    assert {} == admin.topics([topics.REQUESTS])

    made = radera("apply")
    assert 0 == made.exit_code
    assert 9 == made.output.count(": made\n")
    again = radera("apply")
    assert (0, "") == (again.exit_code, again.output)
    assert (0, "") == ((done := radera("check")).exit_code, done.output)


def test_requests_are_kept_for_days_and_dead_letters_longer(radera: Command, admin: Admin) -> None:
    """What the broker then does is what the settings say, for each topic."""
    radera("apply", 'retention = "P10D"\nretention_requests = "P3D"\npartitions = 2')

    dead = topics.dead_letters(topics.REQUESTS)
    there = admin.topics([topics.REQUESTS, topics.OUTCOMES, dead])
    day = 24 * 3600 * 1000
    kept = {name: int(topic.config["retention.ms"]) // day for name, topic in there.items()}
    assert {topics.REQUESTS: 3, topics.OUTCOMES: 10, dead: 90} == kept
    assert {topics.REQUESTS: 2, topics.OUTCOMES: 2, dead: 1} == {n: t.partitions for n, t in there.items()}
    assert {"LogAppendTime"} == {topic.config["message.timestamp.type"] for topic in there.values()}
    largest = {name: int(topic.config["max.message.bytes"]) for name, topic in there.items()}
    assert largest[dead] > largest[topics.REQUESTS]


def test_each_difference_is_told_and_none_is_mended(radera: Command, admin: Admin) -> None:
    """A topic that was made otherwise stays as it is, whatever is run."""
    admin.make(Topic(topics.REQUESTS, 3, 1, {"retention.ms": "-1"}))
    before = admin.topics([topics.REQUESTS])

    applied = radera("apply")
    checked = radera("check")

    assert (1, 1) == (applied.exit_code, checked.exit_code)
    assert [
        f"{topics.REQUESTS}: has 3 partitions, not 6",
        f"{topics.REQUESTS}: compression.type is producer, not lz4",
        f"{topics.REQUESTS}: message.timestamp.type is CreateTime, not LogAppendTime",
        f"{topics.REQUESTS}: retention.ms is -1, not 604800000",
        f"{topics.REQUESTS}: segment.ms is 604800000, not 86400000",
    ] == checked.output.splitlines()
    assert before == admin.topics([topics.REQUESTS])


def test_what_cannot_be_made_is_told(radera: Command) -> None:
    """More copies than there are brokers: the broker's own reason is shown, and the command fails."""
    refused = radera("apply", replication=3)

    assert 1 == refused.exit_code
    assert f"radera: {topics.REQUESTS}: Unable to replicate the partition 3 time(s)" in refused.output


def test_without_kafka(tmp_path: Path) -> None:
    """The embedded bus has no topics to make; to ask for them is a mistake."""
    file = tmp_path / "radera.toml"
    file.write_text(SETTINGS, encoding="utf-8")

    result = CliRunner().invoke(main, ["topics", "check", "--config", str(file)])

    assert 2 == result.exit_code
    assert "there is no table [kafka]" in result.output


def test_nobody_answers(tmp_path: Path) -> None:
    """A broker that is away is one clear line."""
    file = tmp_path / "away.toml"
    file.write_text(SETTINGS + '[kafka]\nservers = ["127.0.0.1:1"]\nsecurity = "none"\n', encoding="utf-8")

    result = CliRunner().invoke(main, ["topics", "check", "--config", str(file)])

    assert 1 == result.exit_code
    assert ["radera: the bus can't be reached: KafkaConnectionError"] == result.output.splitlines()
