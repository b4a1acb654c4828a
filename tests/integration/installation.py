"""An installation in one thread, driven step by step: a settings file, a database and keys in a directory.

* Everything of ours is real. Only what lies outside is stood in for: handlers answer by a script, the mail
  server keeps what it gets, and the database's clock is the test's, also for the command line in the same
  process.
* `settle` turns the roles until nothing moves any more; `later` lets time pass first. Nothing sleeps.
"""

import itertools
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import click.testing
import pytest

from handlers.confirming import about
from orchestrator.bus import sqlite
from orchestrator.bus.port import Bus, Delivery, Record
from orchestrator.cli.assembly import Ground, ground_of, load_settings
from orchestrator.cli.main import main
from orchestrator.mailbox.mailbox import Mailbox
from orchestrator.metrics import Metrics
from orchestrator.privacy import IDENTIFIERS, Exchange, Identifier, Identifiers, Kind, new_key, seal
from orchestrator.saga.model import Saga
from orchestrator.service.dead_letters import DEAD_LETTER
from orchestrator.service.housekeeping import Housekeeping
from orchestrator.service.inbound import Reader
from orchestrator.service.orchestrator import Orchestrator
from orchestrator.service.relay import Relay
from orchestrator.service.timekeeper import Timekeeper
from orchestrator.settings import micros
from orchestrator.smtp import Leave, always
from orchestrator.store import SeenTimes, SentMails, dialect, engine
from schemas import topics
from schemas.codec import decode, encode
from schemas.messages import Command, Confirmation, Decision, Request

SECOND = 1_000_000
START = int(datetime(2026, 8, 31, 10, 0, tzinfo=UTC).timestamp()) * SECOND
DPO = "dpo@controller.example"
PERSON = "canary.person@people.example"

SETTINGS = """\
[installation]
name = "Controller AB"
domain = "radera.controller.example"
public_url = "http://127.0.0.1:8089"

[http]
port = 8089

[dpo]
address = "dpo@controller.example"

[smtp]
host = "127.0.0.1"
security = "none"
sender = "radera@controller.example"

[systems.crm]
kind = "hubspot"
portal_id = 1
token = { env = "CRM_TOKEN" }

[systems.letters]
kind = "hubspot"
after = ["crm"]
portal_id = 2
token = { env = "LETTERS_TOKEN" }

[systems.agency]
kind = "recruitment"
channel = "mail"
address = "radering@agency.example"

[systems.survey]
kind = "holds_nothing"
reason = "Answers are anonymous."
"""


@dataclass(slots=True)
class Clock:
    """The time that the database gives."""

    now: int = START
    set_by: int = 0

    def __call__(self) -> int:
        return self.now

    def steady(self) -> int:
        """How long the machine has been up: nobody sets that."""
        return self.now - self.set_by

    def set(self, **by: float) -> None:
        """Somebody sets the time."""
        micros = timedelta(**by) // timedelta(microseconds=1)
        self.now += micros
        self.set_by += micros


class Postman:
    """Keeps each mail as (recipient, message)."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, EmailMessage]] = []

    def send(self, message: EmailMessage, recipient: str, may_send: Leave = always) -> None:
        may_send()
        self.sent.append((recipient, message))


#: What a system says when the test doesn't say otherwise: one record, erased, and seen to be gone.
_USUAL: dict[str, dict[str, Any]] = {
    "locate": {"kind": "located", "found": 1, "sealed_references": b"sealed"},
    "erase": {"kind": "accepted", "erased": 1},
    "prove": {"kind": "proved", "grade": "seen_absent", "end": "erased"},
}


@dataclass(slots=True)
class Systems:
    """Answers commands for every system. `says[system, verb]` has the next answers; None is silence."""

    bus: Bus
    kinds: Iterable[str]
    clock: Clock
    says: defaultdict[tuple[str, str], list[dict[str, Any] | None]] = field(
        default_factory=lambda: defaultdict(list)
    )
    commands: list[Command] = field(default_factory=list)

    def step(self) -> int:
        with self.bus.subscribe("systems", [topics.commands(kind) for kind in self.kinds]) as subscription:
            deliveries = subscription.poll(0.0, 100)
            for delivery in deliveries:
                self._answer(decode(delivery.value, Command))
                subscription.ack(delivery)
        return len(deliveries)

    def _answer(self, command: Command) -> None:
        self.commands.append(command)
        told = self.says[command.system, command.verb]
        said = told.pop(0) if told else _USUAL[command.verb]
        if said is not None:
            confirmation = answer_to(command, self.clock(), **said)
            self.bus.publish(
                [Record(topic=topics.CONFIRMATIONS, key=command.request_id, value=encode(confirmation))]
            )


def answer_to(command: Command, at: int, **said: Any) -> Confirmation:
    """A handler's answer to a command."""
    return Confirmation(
        event_id=f"{command.event_id}/{said['kind']}",
        request_id=command.request_id,
        system=command.system,
        command_id=command.event_id,
        verb=command.verb,
        attempt=command.attempt,
        occurred_at=at,
        **{"about": about(command), **said},
    )


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter as the installation itself can read it."""

    code: str
    origin: tuple[str, int, int]
    key: str
    sealed: bytes
    payload: bytes


class Installation:
    """The installation that `file` describes. Its roles can be taken away and made anew by `restart`."""

    def __init__(self, file: Path, clock: Clock) -> None:
        self.file = file
        self.clock = clock
        self.postman = Postman()
        self.metrics = Metrics(["hubspot", "recruitment"])
        self._open()
        self.systems = Systems(self.ground.bus, ("hubspot", "recruitment"), clock)

    def _open(self) -> None:
        self.ground: Ground = ground_of(load_settings(self.file))
        ground = self.ground
        keep = ground.settings.retention
        self.timekeeper = Timekeeper(
            SeenTimes(ground.store),
            steady=self.clock.steady,
            patience=micros(keep.plausible_after),
            longest=micros(keep.plausible_after_jump),
            metrics=self.metrics,
            restamp=ground.restamp,
        )
        self.housekeeping = Housekeeping(
            store=ground.store,
            bus=ground.bus,
            retention=keep,
            trim_bus=ground.trim_bus,
            is_plausible=lambda: self.timekeeper.is_plausible,
        )
        self.orchestrator = Orchestrator(
            store=ground.store,
            bus=ground.bus,
            keys=ground.keys,
            keyring=ground.keyring,
            reader=Reader(ground.keys, ground.digests, lambda: 0.5, Exchange(ground.keyring)),
            rules=ground.rules,
            metrics=self.metrics,
            random=lambda: 0.5,
            timekeeper=self.timekeeper,
            steady=self.clock.steady,
        )
        self.relay = Relay(store=ground.store, bus=ground.bus)
        self.mailbox = Mailbox(
            bus=ground.bus,
            mailer=self.postman,
            keys=ground.keys,
            sent=SentMails(ground.store),
            seal=lambda data: ground.keyring.seal_installation(DEAD_LETTER, data),
            settings=ground.settings,
            clock=self.clock,
            steady=self.clock.steady,
            metrics=self.metrics,
        )

    def restart(self) -> None:
        """Ends the process, so to speak, and starts it again."""
        self.close()
        self._open()
        self.systems.bus = self.ground.bus

    def close(self) -> None:
        self.orchestrator.close()
        self.mailbox.close()
        self.ground.bus.close()
        self.ground.engine.dispose()

    # --- what happens ---

    def settle(self) -> None:
        """Turns the roles until none has anything to do."""
        for _ in range(200):
            moved = self.relay.step() + self.orchestrator.step(0.0)
            moved += self.systems.step() + self.mailbox.step(0.0)
            if not moved:
                return
        raise AssertionError("the roles go round in a circle")

    def later(self, **passed: float) -> None:
        """Lets time pass, then settles."""
        self.clock.now += timedelta(**passed) // timedelta(microseconds=1)
        self.settle()

    def keep_house(self) -> None:
        """A round of the orchestrator: the time is looked at, and what is past its time thrown away."""
        self.timekeeper.keep()
        self.settle()
        self.housekeeping.step()

    def publish(self, topic: str, value: bytes, key: str = "") -> None:
        self.ground.bus.publish([Record(topic=topic, key=key, value=value)])

    def submit(self, *typed: tuple[Kind, str], **fields: Any) -> str:
        """Publishes a request as a producer would that shares the installation's keys."""
        request = self.request(*typed, **fields)
        self.publish(topics.REQUESTS, encode(request), request.request_id)
        return request.request_id

    def request(self, *typed: tuple[Kind, str], **fields: Any) -> Request:
        """A request whose key is filed; each field can be said otherwise."""
        request_id = fields.pop("request_id", None) or str(uuid.uuid4())
        identifiers = Identifiers(tuple(Identifier(kind, value) for kind, value in typed))
        return Request(
            **{
                "event_id": f"request:{uuid.uuid4()}",
                "request_id": request_id,
                "received_at": self.clock(),
                "source": "test",
                "verified": True,
                "scope": ("crm",),
                "sealed_identifiers": self.sealed(request_id, identifiers.to_bytes()),
                **fields,
            }
        )

    def sealed(self, request_id: str, clear: bytes) -> bytes:
        """Sealed under the request's key, which is filed if it has none."""
        self.ground.keys.insert(request_id, new_key())
        return seal(self.ground.keys.key_of(request_id), request_id, IDENTIFIERS, clear)

    def confirm(self, **fields: Any) -> None:
        """Publishes a confirmation that answers no command of ours unless it is said."""
        confirmation = Confirmation(
            **{"event_id": f"said:{uuid.uuid4()}", "occurred_at": self.clock(), **fields}
        )
        self.publish(topics.CONFIRMATIONS, encode(confirmation), confirmation.request_id or "")

    def decide(self, request_id: str, action: str, **fields: Any) -> None:
        """Publishes a decision, checked by nobody."""
        decision = Decision(
            **{
                "event_id": f"decision:{uuid.uuid4()}",
                "request_id": request_id,
                "action": action,
                "decided_by": "dpo",
                "decided_at": self.clock(),
                **fields,
            }
        )
        self.publish(topics.DECISIONS, encode(decision), request_id)

    def cli(self, *arguments: str, typed: str | bytes | None = None) -> click.testing.Result:
        """The command line on this installation, in this process."""
        return radera(*arguments, "--config", str(self.file), typed=typed)

    # --- what is seen ---

    def saga(self, request_id: str) -> Saga:
        saga = self.ground.store.saga(request_id)
        assert saga is not None
        return saga

    def sagas(self) -> list[Saga]:
        return self.ground.store.sagas()

    def questions(self, request_id: str) -> list[str]:
        """The reasons of the open escalations."""
        return [one.reason for one in self.saga(request_id).escalations]

    def records(self, topic: str) -> list[Delivery]:
        """Everything that was ever published there."""
        with self.ground.bus.subscribe(f"look {uuid.uuid4()}", [topic]) as subscription:
            return subscription.poll(0.0, 10_000)

    def dead_letters(self, topic: str) -> list[DeadLetter]:
        return [self._dead_letter(one) for one in self.records(topics.dead_letters(topic))]

    def _dead_letter(self, delivery: Delivery) -> DeadLetter:
        said = {name: value.decode() for name, value in delivery.headers}
        return DeadLetter(
            code=said["radera-code"],
            origin=(said["radera-topic"], int(said["radera-partition"]), int(said["radera-offset"])),
            key=delivery.key,
            sealed=delivery.value,
            payload=self.ground.keyring.unseal_installation(DEAD_LETTER, delivery.value),
        )

    def mails_to_dpo(self) -> list[str]:
        """The subjects of the mails to the DPO."""
        return [str(mail["subject"]) for to, mail in self.postman.sent if to == DPO]

    def has_leaked(self, text: str) -> bool:
        """Whether a text shows in any mail to the DPO or in any dead letter."""
        mails = [mail.as_bytes() + mail.get_content().encode() for to, mail in self.postman.sent if to == DPO]
        letters = itertools.chain.from_iterable(
            self.records(topics.dead_letters(topic))
            for topic in (topics.REQUESTS, topics.CONFIRMATIONS, topics.DECISIONS)
        )
        shown = mails + [one.key.encode() + one.value + repr(one.headers).encode() for one in letters]
        return any(text.encode() in one for one in shown)


def radera(*arguments: str, typed: str | bytes | None = None) -> click.testing.Result:
    """The command line in this process; a traceback fails the test."""
    result = click.testing.CliRunner().invoke(main, arguments, input=typed)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def write_settings(directory: Path, settings: str = SETTINGS, *changes: tuple[str, str]) -> Path:
    """The settings file, with `changes` of its text."""
    for old, new in changes:
        assert old in settings
        settings = settings.replace(old, new)
    file = directory / "radera.toml"
    file.write_text(settings)
    return file


def stop_the_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Makes every database of this process give the time of the clock that is returned."""
    clock = Clock()
    monkeypatch.setattr(dialect, "now", lambda connection: clock.now)
    return clock


@contextmanager
def installed(
    directory: Path, monkeypatch: pytest.MonkeyPatch, *changes: tuple[str, str]
) -> Iterator[Installation]:
    """An installation in a directory, on a clock of its own, closed at the end."""
    clock = stop_the_clock(monkeypatch)
    # No power fails here, so that nothing has to be forced to the disk.
    hurried = ("PRAGMA synchronous=OFF", *engine._PRAGMAS[1:])
    monkeypatch.setattr(engine, "_PRAGMAS", hurried)
    # What a command publishes is seen at the next poll, not a fraction of a second later.
    monkeypatch.setattr(sqlite, "PROBE_INTERVAL", 0.0)
    installation = Installation(write_settings(directory, SETTINGS, *changes), clock)
    try:
        yield installation
    finally:
        installation.close()
