"""What a controller says about its data: again, otherwise, late and out of order. Its last word counts."""

import json
import random
from collections import defaultdict
from datetime import datetime
from typing import Any

from handlers.sandbox.web import rfc3339
from schemas import topics
from schemas.codec import CodecError, decode
from schemas.messages import Command
from tests.simulation.violations import expect
from tests.simulation.world import Word, World

HOUR = 3_600_000_000


class Words:
    """The controller's mind changes; the judge of what is done in its name."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._rng = rng

    def say(self) -> None:
        """Something about a request that the controller has, in bodies that may be the same as before."""
        world, rng = self._world, self._rng
        rows = [row for row in world.sandbox.store.rows("controller.request") if row["urls"]]
        if not rows:
            return
        row = rng.choice(rows)
        kind = rng.random()
        if kind < 0.2:
            self._contradict(row)
            return
        several = kind < 0.5
        named = self._time_named()
        for said in ("refuse", "erase", "refuse") if several else (rng.choice(("erase", "refuse")),):
            self._send(row, said, named, rng.choice((0, 0, 60_000_000, HOUR, 30 * HOUR)))
        world.counts["words: refuse, erase, refuse" if several else "words: once more"] += 1
        world.tell("the controller speaks")

    def _contradict(self, row: dict[str, Any]) -> None:
        """A refusal, and after it an order that names an earlier time: nobody can tell which was the last."""
        world = self._world
        refused = world.clock()
        self._send(row, "refuse", refused, 0)
        self._send(row, "erase", refused - HOUR, self._rng.choice((1, 60_000_000, HOUR)))
        world.counts["words: an order that names a time before the refusal"] += 1
        world.tell("the controller contradicts itself")

    def _time_named(self) -> int | None:
        """When the controller says that it spoke: not at all, rightly, or in contradiction to our order."""
        world, rng = self._world, self._rng
        if rng.random() < 0.4:
            return None
        aside = rng.choice((0, -30 * HOUR, -HOUR, HOUR, 30 * HOUR))
        world.counts["words: a time that may contradict"] += aside != 0
        return world.clock() + aside

    def _send(self, row: dict[str, Any], said: str, named: int | None, later: int) -> None:
        store = self._world.sandbox.store
        told = {} if named is None else {"said_at": rfc3339(named)}
        body = {
            "controller_id": row["answer"]["controller_id"],
            "expected_completion_time": row["answer"]["expected_completion_time"],
            "subject_request_id": row["id"],
            "request_status": "cancelled" if said == "refuse" else "completed",
            "status_callback_url": row["urls"][0],
            "extensions": {"radera": {"instruction": said, "reason": "contract_runs", **told}},
        }
        store.later(
            self._world.clock() + later,
            "deliver",
            network=True,
            url=row["urls"][0],
            body=json.dumps(body),
            headers={"Content-Type": "application/json"},
            vendor="controllers",
            account=row["account"],
            record=row["id"],
            said="word",
        )

    def check(self) -> None:
        """Nothing was erased by a command that was given when the latest word was known to be a refusal, or
        when nobody could tell which word was the latest.
        """
        world = self._world
        commands: list[Command] = []
        for delivery in world.bus.all_of(topics.commands("tenant")):
            try:
                command = decode(delivery.value, Command)
            except CodecError:
                continue
            if command.verb == "erase":
                commands.append(command)
        by_request: defaultdict[str, list[Command]] = defaultdict(list)
        for command in commands:
            by_request[command.request_id].append(command)
        for request_id, given in by_request.items():
            said = sorted(world.words.get(request_id, ()), key=lambda one: one.order)
            for command in given:
                heard_of = [one for one in said if one.at <= command.issued_at]
                read = [one for one in heard_of if self._was_read(one, command.issued_at)]
                # A later word, read or not, may have been the one that the command goes by.
                ends = range(max(0, len(read) - 1), len(heard_of)) if read else range(0)
                refused = bool(read) and all(heard_of[end].said == "refuse" for end in ends)
                expect(not refused, "refused", "an erasure was ordered after the controller had refused")
                held = bool(read) and all(_is_in_doubt(heard_of[: end + 1]) for end in ends)
                expect(not held, "refused", "an erasure was ordered while words contradicted")

    def _was_read(self, word: Word, by: int) -> bool:
        """Whether everybody had done all that there was to do between the word and then."""
        return any(word.at <= moment < by for moment in self._world.idle_at)


def _is_in_doubt(said: list[Word]) -> bool:
    """Whether the last word is a refusal, or names an earlier time than a refusal does."""
    last = said[-1]
    timed = [one for one in said if one.said_at is not None]
    if last.said == "refuse" or last.said_at is None:
        return last.said == "refuse"
    latest = max(timed, key=lambda one: one.said_at or 0)
    return (latest.said_at or 0) > last.said_at and latest.said == "refuse"


def said_at(body: bytes) -> int | None:
    """The time that a controller's callback names, if any."""
    try:
        named = json.loads(body)["extensions"]["radera"]["said_at"]
    except (ValueError, KeyError, TypeError):
        return None
    return int(datetime.fromisoformat(named).timestamp() * 1000) * 1000


def heard(body: bytes) -> str | None:
    """What a controller's callback says, if anything."""
    try:
        said = json.loads(body)["extensions"]["radera"]["instruction"]
    except (ValueError, KeyError, TypeError):
        return None
    return said if said in ("erase", "refuse") else None
