"""`radera topics`: the topics on Kafka, compared with what the settings ask for.

What exists is never changed here. More partitions would move keys to others, a shorter retention deletes at
once, and who set a topic up by hand may have had a reason: the differences are told, one a line, with the
topic's name in front.
"""

from collections.abc import Iterable
from pathlib import Path

import click

from orchestrator.bus.kafka_admin import CannotMakeTopic, opened_admin
from orchestrator.bus.kafka_topics import Topic, differences, wanted
from orchestrator.cli.assembly import load_settings
from orchestrator.settings import Kafka


def check(config: Path) -> int:
    """Says what differs; 1 if anything does, 2 if there is no Kafka in the settings."""
    asked = _asked(config)
    if asked is None:
        return 2
    settings, topics = asked
    with opened_admin(settings) as admin:
        return _tell(topics, admin.topics([topic.name for topic in topics]))


def apply(config: Path) -> int:
    """Makes what is missing, and says what differs; 1 if anything does or could not be made, 2 as above."""
    asked = _asked(config)
    if asked is None:
        return 2
    settings, topics = asked
    failed = 0
    with opened_admin(settings) as admin:
        names = [topic.name for topic in topics]
        there = admin.topics(names)
        for topic in topics:
            if topic.name in there:
                continue
            try:
                admin.make(topic)
                click.echo(f"{topic.name}: made")
            except CannotMakeTopic as error:
                click.echo(f"radera: {error}", err=True)
                failed = 1
        made = admin.topics(names)
        return _tell((topic for topic in topics if topic.name in made), made) or failed


def _asked(config: Path) -> tuple[Kafka, list[Topic]] | None:
    settings = load_settings(config)
    if settings.kafka is None:
        click.echo(f"radera: {config}: there is no table [kafka]; the embedded bus needs no topics", err=True)
        return None
    kinds = {system.kind for system in settings.systems.values() if not system.holds_nothing}
    return settings.kafka, wanted(settings.kafka, kinds)


def _tell(topics: Iterable[Topic], there: dict[str, Topic]) -> int:
    told = [(topic.name, line) for topic in topics for line in differences(topic, there.get(topic.name))]
    for name, line in told:
        click.echo(f"{name}: {line}")
    return 1 if told else 0
