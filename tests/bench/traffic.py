"""What the orchestrator is given to do: whole requests, prepared ahead, as the real parts would send them.

* Five systems; each answers `locate`, `erase` and `prove` at once and well. That is 16 events a request (one
  request, fifteen confirmations) and 17 records back (fifteen commands, "acted", "completed").
* **Prepared ahead, with the codec, the seals and the worker's own wording of confirmations.** Ids of commands
  derive from what caused them, so the answers are known before the question is asked. A stand-in that answers
  live would take as much of the processor as what is measured, which real workers, on machines of their own,
  don't.
* **Nothing is made easy.** Confirmations of a hundred requests lie system by system, as instant workers would
  give them, and not one request's five in a row, which a batch could apply at the price of one.
* The stages are published one after another: a confirmation must not overtake its request, since they come by
  different topics.
"""

import multiprocessing
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from handlers.confirming import confirm_command
from handlers.port import Control, Reference
from handlers.results import Accepted, Located, Proved, Result
from orchestrator.bus.port import Delivery, Record
from orchestrator.cli.assembly import load_settings
from orchestrator.privacy import (
    IDENTIFIERS,
    REFERENCES,
    Digests,
    Identifier,
    Identifiers,
    Keyring,
    new_key,
    seal,
)
from orchestrator.saga.decide import Decision, decide
from orchestrator.saga.model import Saga
from orchestrator.saga.rules import Rules
from orchestrator.service.inbound import Reader
from orchestrator.service.outbound import outgoing
from orchestrator.service.rules import rules_of
from orchestrator.store import Outgoing
from schemas import topics
from schemas.cloudevents import headers
from schemas.codec import decode, encode
from schemas.messages import Command, Confirmation, Message, Request

SYSTEMS = ("superoffice", "hubspot", "web_analytics", "agency_nord", "agency_syd")
STAGES = ("request", "locate", "erase", "prove")
EVENTS = 16
_WINDOW = 100
_PROCESSES = 2


@dataclass(frozen=True, slots=True)
class Traffic:
    """So many requests: their keys, which intake files, and the records of each stage, in order."""

    keys: dict[str, bytes] = field(repr=False)
    stages: Mapping[str, list[Record]] = field(repr=False)

    @property
    def requests(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True)
class Life:
    """One request from beginning to end. `states` is its saga after each stage, the last one finished."""

    request_id: str
    key: bytes = field(repr=False)
    records: Mapping[str, list[Record]] = field(repr=False)
    states: list[Saga] = field(repr=False)


class OneKey:
    """The one key that there is."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def key_of(self, request_id: str) -> bytes:
        return self._key

    def keys_of(self, request_ids: Collection[str]) -> Mapping[str, bytes]:
        return dict.fromkeys(request_ids, self._key)

    def insert(self, request_id: str, key: bytes) -> object:
        raise AssertionError("no key comes with a request here")


def lives(config: Path, count: int) -> Iterator[Life]:
    """So many requests of people who don't exist, to the installation of these settings."""
    settings = load_settings(config)
    rules, digests = rules_of(settings), Digests(Keyring.from_file(settings.keys.file).digest_key)
    for _ in range(count):
        yield _life(rules, digests)


def prepare(config: Path, count: int) -> Traffic:
    """The same, ordered as they would lie on the topics; made by all processors."""
    share = -(-count // _PROCESSES)
    counts = [min(share, count - begun) for begun in range(0, count, share)]
    with multiprocessing.get_context("spawn").Pool(_PROCESSES) as pool:
        parts = pool.starmap(_prepared, [(config, one) for one in counts])
    stages = {stage: [record for _, part in parts for record in part[stage]] for stage in STAGES}
    return Traffic({name: key for keys, _ in parts for name, key in keys.items()}, stages)


def _prepared(config: Path, count: int) -> tuple[dict[str, bytes], dict[str, list[Record]]]:
    keys: dict[str, bytes] = {}
    stages: dict[str, list[Record]] = {stage: [] for stage in STAGES}
    made = lives(config, count)
    while window := list(islice(made, _WINDOW)):
        keys.update((life.request_id, life.key) for life in window)
        for stage in STAGES:
            by_system = zip(*(life.records[stage] for life in window), strict=True)
            stages[stage] += [record for records in by_system for record in records]
    return keys, stages


def _life(rules: Rules, digests: Digests) -> Life:
    request_id, key, now = str(uuid.uuid4()), new_key(), time.time_ns() // 1000
    person = Identifiers(
        (
            Identifier("email", f"{request_id[:8]}@people.example"),
            Identifier("phone", "+46701740605"),
            Identifier("name", "Bench Person"),
        )
    )
    request = Request(
        event_id=f"request:{request_id}",
        request_id=request_id,
        received_at=now,
        source="bench",
        verified=True,
        scope=SYSTEMS,
        sealed_identifiers=seal(key, request_id, IDENTIFIERS, person.to_bytes()),
    )
    first = _record(topics.REQUESTS, request_id, request, request.event_id, now)
    reader = Reader(OneKey(key), digests, lambda: 0.5)
    records: dict[str, list[Record]] = {"request": [first]}
    saga, commands = _applied(rules, reader, None, first, now)
    states = [saga]
    for stage in STAGES[1:]:
        records[stage], following = [], []
        for command in commands:
            confirmation = _answer(command, person, key, now)
            record = _record(topics.CONFIRMATIONS, request_id, confirmation, confirmation.event_id, now)
            records[stage].append(record)
            saga, more = _applied(rules, reader, saga, record, now)
            following += more
        states.append(saga)
        commands = following
    if not saga.is_finished:
        raise AssertionError(f"the request ends {saga.status}, so this is not what is to be measured")
    return Life(request_id, key, records, states)


def delivered(record: Record, now: int) -> Delivery:
    """The record as it comes off its topic."""
    return Delivery(
        topic=record.topic,
        key=record.key,
        value=record.value,
        headers=record.headers,
        partition=0,
        offset=0,
        timestamp=now,
    )


def _applied(
    rules: Rules, reader: Reader, saga: Saga | None, record: Record, now: int
) -> tuple[Saga, list[Command]]:
    event = reader.read(delivered(record, now)).event
    if event is None:
        raise AssertionError("the record can't be read")
    decision = decide(saga, event, now, rules)
    return decision.saga, [decode(one.value, Command) for one in _commands(decision, now)]


def _commands(decision: Decision, now: int) -> list[Outgoing]:
    return [one for one in outgoing(decision, now) if one.topic.startswith("erasure.commands.")]


def _answer(command: Command, person: Identifiers, key: bytes, now: int) -> Confirmation:
    """What a worker says whose handler found three records, erased them, and saw them gone."""
    control = Control.shown(pinned="1234567", answered="1234567", record_found=True)
    known = tuple(Reference(kind="contact", id=f"{command.request_id[:6]}{n}") for n in range(3))
    results: dict[str, Result] = {
        "locate": Located(references=known, evidence=control.evidence()),
        "erase": Accepted(erased=3, prove_at=now),
        "prove": Proved(control=control, grade="seen_absent", evidence={"purged_by": "vendor"}),
    }
    return confirm_command(
        command,
        results[command.verb],
        now=now,
        seal=lambda clear: seal(key, command.request_id, REFERENCES, clear),
        identifiers=person,
        references=known,
    )


def _record(topic: str, key: str, message: Message, event_id: str, now: int) -> Record:
    return Record(
        topic=topic,
        key=key,
        value=encode(message),
        headers=headers(message, event_id=event_id, source="bench", at=now),
    )
