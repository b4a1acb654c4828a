"""What must hold between what was said: every message has its effect once, and only the effect it may have.

Read from the bus, the inbox and the timelines when the world is at rest.
"""

import functools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import TypeVar

import sqlalchemy as sa

from orchestrator.saga.timeline import Entry
from orchestrator.smtp import message_id
from orchestrator.store.tables import inbox
from schemas import topics
from schemas.codec import CodecError, decode
from schemas.messages import Command, Confirmation, Decision, Message, Outcome, Request
from tests.simulation import installation
from tests.simulation.violations import Violated, expect
from tests.simulation.world import World

M = TypeVar("M", bound=Message)

_decoded = functools.lru_cache(1024)(decode)

#: Answers that say what an attempt did not do or see. Of an older attempt they move nothing.
_OF_THE_MOMENT = frozenset(
    {"failed", "expired", "cannot_look", "not_identifiable", "pending", "proved", "reappeared", "absent"}
)


def check_history(world: World, decisions: Mapping[str, tuple[str | None, int | None]]) -> None:
    timelines = {request_id: world.store.timeline(request_id) for request_id in world.sagas}
    commands = {
        command.event_id: command
        for kind in sorted(set(installation.KINDS.values()))
        for command in read(world, topics.commands(kind), Command)
    }
    confirmations = {one.event_id: one for one in read(world, topics.CONFIRMATIONS, Confirmation)}
    _all_were_seen(world, confirmations)
    _commands_are_answered(commands, confirmations)
    _outcomes_are_mailed(world)
    _told_once(timelines, confirmations)
    for entries in timelines.values():
        _sent_what_was_noted(entries, commands)
        _older_attempts_move_nothing(entries)
        _decisions_fit(entries, decisions)


def read(world: World, topic: str, model: type[M]) -> Iterator[M]:
    """The readable messages of a topic, by time."""
    for delivery in world.bus.all_of(topic):
        try:
            yield _decoded(delivery.value, model)
        except CodecError:
            continue


def _all_were_seen(world: World, confirmations: Mapping[str, Confirmation]) -> None:
    query = sa.select(inbox.c.event_id).where(inbox.c.consumer == "orchestrator")
    with world.engine.connect() as connection:
        seen = set(connection.execute(query).scalars())
    # One that came by a correlation, or about a request, which nobody knows stays a dead letter until it is
    # repeated.
    said = {one.event_id for one in confirmations.values() if one.request_id in world.sagas}
    said |= {one.event_id for one in read(world, topics.DECISIONS, Decision) if one.request_id in world.sagas}
    missed = said - seen
    expect(not missed, "lost", f"{len(missed)} confirmations or decisions were never applied")
    opened = {one.request_id for one in read(world, topics.REQUESTS, Request)}
    expect(opened <= world.sagas.keys(), "lost", "a request on the bus has no saga")


def _commands_are_answered(
    commands: Mapping[str, Command], confirmations: Mapping[str, Confirmation]
) -> None:
    answered = {one.command_id for one in confirmations.values()}
    silent = commands.keys() - answered
    expect(not silent, "lost", f"{len(silent)} commands were never answered")


def _outcomes_are_mailed(world: World) -> None:
    mailed = {str(mail.message["Message-ID"]) for mail in world.mails}
    domain = installation.settings().installation.domain
    for outcome in read(world, topics.OUTCOMES, Outcome):
        if outcome.kind != "notice":
            told = message_id(domain, outcome.request_id, outcome.event_id) in mailed
            expect(told, "mail", f"nobody was mailed that a request was {outcome.kind}")


def _told_once(timelines: Mapping[str, list[Entry]], confirmations: Mapping[str, Confirmation]) -> None:
    known: Counter[tuple[str, str]] = Counter(
        (one.command_id or "", one.kind) for one in confirmations.values() if one.system or one.correlation
    )
    noted = Counter(
        (entry.data.get("command", ""), entry.data["trigger"])
        for entries in timelines.values()
        for entry in entries
        if entry.action == "confirmed"
    )
    for what, count in noted.items():
        expect(
            count <= known[what],
            "doubled",
            f"an answer ({what[1]}) had its effect more often than it was given",
        )


def _sent_what_was_noted(entries: list[Entry], commands: Mapping[str, Command]) -> None:
    for entry in entries:
        if entry.action == "command_sent":
            expect(entry.data["command"] in commands, "lost", "a command that was noted was never sent")


def _older_attempts_move_nothing(entries: list[Entry]) -> None:
    latest: dict[str, int] = {}
    stale: tuple[str, str] | None = None
    for entry in entries:
        data = entry.data
        match entry.action:
            case "command_sent":
                latest[data["system"]] = int(data["attempt"])
            case "confirmed":
                is_old = "command" in data and int(data["attempt"]) < latest.get(data["system"], 0)
                stale = (
                    (data["system"], data["trigger"])
                    if is_old and data["trigger"] in _OF_THE_MOMENT
                    else None
                )
            case "step" if stale == (data["system"], data["trigger"]):
                raise Violated(
                    "stale", f"an older attempt's answer ({data['trigger']}) moved {data['system']}"
                )
            case "received" | "decided" | "woken" | "duplicate":
                stale = None


def _decisions_fit(entries: list[Entry], decisions: Mapping[str, tuple[str | None, int | None]]) -> None:
    versions: defaultdict[str, int] = defaultdict(int)
    for entry in entries:
        if entry.action == "escalated":
            versions[entry.data["escalation"]] = int(entry.data["version"])
        if entry.action == "decided":
            about, version = decisions.get(entry.data.get("reason", ""), (None, None))
            fits = about is None or versions[about] == version
            expect(fits, "decisions", f"a decision on version {version} was applied to another")
