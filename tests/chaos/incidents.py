"""What an operator has to deal with, and deals with as the deployment guide says, while requests come in.

Each incident is a method of `Incidents` that returns when the guide's last step is done. `LOSING` are those
after which something is gone that Kafka alone had, so that a caller has to come again; after the others
nobody has to, but for what lay in the database alone that was put aside.
"""

import random
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from kafka import KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from orchestrator.bus.kafka_admin import opened_admin
from orchestrator.bus.kafka_client import connection, made
from orchestrator.cli.assembly import open_ground
from schemas import topics
from schemas.codec import decode
from schemas.messages import Command
from tests.chaos.caller import Caller
from tests.chaos.clock import can_be_set, put_clock
from tests.chaos.fleet import Process
from tests.chaos.installation import READ, WORKERS, Installation
from tests.chaos.instant import KINDS
from tests.chaos.operators import Operator
from tests.chaos.people import AGENCY
from tests.deploy.page import blocks, ended
from tests.integration.processes import eventually

#: The broker looks so often for what its retention lets go, in milliseconds.
BROKER: Final = "log.retention.check.interval.ms=1000\nlog.segment.delete.delay.ms=1000\n"
LOSING: Final = ("topics_rebuilt", "cluster_rebuilt", "log_cut", "log_regrown", "outage")
#: All of them, and what the logs must say of each.
NOTICED: Final = {
    "rotations": (),
    "old_database": (),
    "old_keyring": (),
    "old_both": (),
    "renamed": ("systems_missing",),
    "clock": ("clock_jumped",),
    "two_workers": (),
    "topics_rebuilt": ("topic_rebuilt",),
    "cluster_rebuilt": ("topic_rebuilt",),
    "log_cut": ("records_gone_unread",),
    "log_regrown": ("log_rewritten",),
    "outage": ("records_gone_unread",),
}
#: The longest that anything may take, in seconds, on a machine that has much else to do.
_LONG = 300.0
#: A retention for as long as an outage lasts, in milliseconds.
_SHORT = 3000
#: How far ahead the clock is put, in seconds.
_AHEAD = 2 * 86_400
#: Requests for an incident that needs some under way.
_FEW = 4
#: What two readings of a clock may differ by, in micros.
_SLACK = 500_000
_RENAMED = "agency_elsewhere"


class NotNoticed(AssertionError):
    """Radera took an incident for an ordinary day; the text says which."""


@dataclass
class Incidents:
    """Breaks one thing after another, and mends it by the guide."""

    installation: Installation
    operator: Operator
    caller: Caller
    rng: random.Random
    #: How often each was played, and what came of it, for the report.
    counted: dict[str, int] = field(default_factory=dict)
    #: What lay only in databases that were put aside: requests, and requests with an answer.
    aside: set[str] = field(default_factory=set)

    def play(self, name: str) -> None:
        """One of `NOTICED`. Raises NotNoticed."""
        self.installation.note(f"incident: {name}")
        before = self._alarms()
        incident: Callable[[], None] = getattr(self, name)
        incident()
        self._count(name)
        for action in NOTICED[name]:
            eventually(
                f"the log says {action} of {name}",
                lambda one=action: self._alarms().get(one, 0) > before.get(one, 0),  # type: ignore[misc] # a loop's variable, bound at once
                within=_LONG,
                every=0.5,
            )
        self.installation.note(f"dealt with: {name}")

    # --- keys ---

    def rotations(self) -> None:
        """Three in a row, each destroying what the one before replaced, and a second one at the same time.
        Every open request's key can be opened after each.
        """
        for _ in range(3):
            other = self.operator.begun(
                f"radera keys rotate --keep 0 --config {self.installation.configs['orchestrator']}"
            )
            self._rotate(" --keep 0")
            code, said = ended(other)
            assert code == 0 or "nothing was changed" in said, said
            self._count("rotations beside another: " + ("refused" if code else "done"))
            ground = open_ground(self.installation.config)
            try:
                opened = ground.keys.open_all(ground.generations.lost())
            finally:
                ground.close()
            assert not opened.unreadable, f"keys were destroyed that are needed: {opened.unreadable}"
            self._count("keys opened after a rotation", opened.count)

    def old_keyring(self) -> None:
        """A keyring from before the last rotation is put in place: nothing starts. The right one goes on."""
        keys, old = self._keys, self.installation.directory / "old.keys"
        shutil.copy2(keys, old)
        self._rotate()
        self._some_open()
        self.operator.stop()
        shutil.copy2(old, keys)
        said = self.operator.radera("orchestrator", "orchestrator", ends=1)
        assert "is not in the keyring" in said, said
        self._put_keyring_back()
        self.operator.up()

    # --- the database ---

    def old_database(self) -> None:
        """The database is put back from a backup of a while ago."""
        self.operator.backed_up()
        time.sleep(self.rng.uniform(5.0, 12.0))
        self.operator.stop()
        self._put_database_back()
        self.operator.up()

    def old_both(self) -> None:
        """Database and keyring are put back from before the same rotation. What came after is under a master
        key that this keyring lacks, and waits for it; the latest keyring opens all.
        """
        keys, old = self._keys, self.installation.directory / "old.keys"
        self.operator.backed_up()
        shutil.copy2(keys, old)
        time.sleep(self.rng.uniform(3.0, 6.0))
        self._rotate(is_backed_up=False)
        time.sleep(self.rng.uniform(5.0, 8.0))
        self.operator.stop()
        with self.caller.silent():
            shutil.copy2(old, keys)
            self._put_database_back(is_silent=True)
            self.operator.up(orchestrators=1)
            time.sleep(10.0)
            assert not self.unreadable(), f"called unreadable under an old keyring: {self.unreadable()}"
            self.operator.stop()
            self._put_keyring_back()
        self.operator.up()

    def _put_database_back(self, *, is_silent: bool = False) -> None:
        """By the page. What lay in the outbox alone goes aside with the database, and is handed in again."""
        if not is_silent:
            with self.caller.silent():
                self._put_database_back(is_silent=True)
            return
        installation = self.installation
        with installation.ground.store.reading.connect() as database:
            asked = sa.text("SELECT key FROM outbox WHERE topic = :requests OR topic LIKE '%.callbacks.%'")
            self.aside |= set(database.execute(asked, {"requests": topics.REQUESTS}).scalars())
        installation.ground.engine.dispose()
        self.operator.typed('psql --command "DROP DATABASE IF EXISTS radera_aside WITH (FORCE)" postgres')
        self.operator.page("restoring.md", "PostgreSQL", block=0)
        self.operator.page("restoring.md", "PostgreSQL", block=1)

    # --- settings ---

    def renamed(self) -> None:
        """A system has another name in the settings of every role for a while. What its party says meanwhile
        is kept, and replayed when the name is back.
        """
        self._some_open()
        self.caller.submits = False
        try:
            self.operator.stop()
            texts = {file: file.read_text() for file in set(self.installation.configs.values())}
            for file, text in texts.items():
                file.write_text(text.replace(f"[systems.{AGENCY}]", f"[systems.{_RENAMED}]"))
            fleet = self.installation.fleet
            fleet.add("orchestrator", "orchestrator")
            for role, systems in WORKERS.items():
                fleet.add(role, "worker", "--systems", systems.replace(AGENCY, _RENAMED))
            fleet.add("mailbox", "mailbox")
            fleet.add("serve", "serve", port=self.installation.http_port)
            time.sleep(self.rng.uniform(15.0, 20.0))
            self.operator.stop()
            for name, process in list(fleet.processes.items()):
                if _RENAMED in " ".join(process.words):
                    del fleet.processes[name]
            for file, text in texts.items():
                file.write_text(text)
            self.operator.up()
        finally:
            self.caller.submits = True
        self._count("answers replayed", self.replay("no_handler"))

    def replay(self, code: str) -> int:
        """Replays the dead letters with this code, as the guide says; returns how many there were."""
        listed = self.operator.radera("administrator", "dlq", "list")
        names = re.findall(rf"(\S+\.dlq/\d+/\d+)\s*│\s*{code}", listed)
        for name in names:
            self.operator.radera("administrator", "dlq", "replay", name)
        return len(names)

    # --- workers ---

    def two_workers(self) -> None:
        """A worker is stopped with erasures in hand, for longer than its session and some of the commands'
        lives; another gets its commands, and then it wakes. No call that erases is begun after its permit.
        """
        installation, began = self.installation, time.time_ns() // 1000
        second = [installation.fleet.add(role, "worker", "--systems", WORKERS[role]) for role in WORKERS]
        self.operator.await_ready()
        for seconds in (14.0, 25.0, 45.0):
            for vendor in installation.vendors.values():
                vendor.fault("slow", 4, 5.0)
            time.sleep(2.0)
            victims = [one for one in installation.fleet.victims() if one.role in WORKERS]
            victim = self.rng.choice(victims)
            self.installation.note(f"SIGSTOP {victim.name} for {seconds:.0f} s")
            victim.stop()
            time.sleep(seconds)
            victim.wake()
        for process in second:
            installation.fleet.end(process)
        installation.fleet.await_ends()
        for vendor in installation.vendors.values():
            vendor.clear()
        calls, late = self._calls(began)
        assert not late, f"erased after their permit: {late}"
        self._count("erasing calls within their permit", calls)

    def _calls(self, since: int) -> tuple[int, list[str]]:
        """How many calls erased something since then, and those that no command permitted at that moment."""
        permits: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for one in self.installation.ground.bus.browse([topics.commands(kind) for kind in KINDS]):
            command = decode(one.value, Command)
            if command.verb == "erase":
                spans = permits.setdefault((command.request_id, command.system), [])
                spans.append((command.issued_at - _SLACK, command.not_after + _SLACK))
        calls, late = 0, []
        for system, vendor in self.installation.vendors.items():
            whose = {
                record: person.request_id
                for person in self.installation.people
                for record in person.records[system]
            }
            for record, at, _ in vendor.ledger():
                if at >= since:
                    calls += 1
                    spans = permits.get((whose[record], system), [])
                    if not any(first <= at <= last for first, last in spans):
                        late.append(f"{whose[record]} at {system}")
        return calls, late

    # --- the clock ---

    def clock(self) -> None:
        """The clock of the database's machine goes two days ahead, and comes back after a while."""
        variables = self.installation.database.more
        put_clock(variables, _AHEAD)
        try:
            self._await_alarm("clock_jumped")
            time.sleep(self.rng.uniform(3.0, 6.0))
        finally:
            put_clock(variables, 0.0)
        time.sleep(5.0)
        self.decide("receipt_in_doubt", "waive")

    # --- Kafka ---

    def topics_rebuilt(self) -> None:
        """Every topic that is read is deleted and made again, under everybody's hands, with records on it
        that the orchestrators have not read.
        """
        asleep = self._asleep("orchestrator")
        with opened_admin(self.installation.kafka) as admin:
            admin._client.delete_topics(list(READ))
        self._awake(asleep)
        time.sleep(self.rng.uniform(1.0, 4.0))
        self._mend_topics()

    def cluster_rebuilt(self) -> None:
        """Another cluster answers at the address, with nothing on it."""
        asleep = self._asleep("orchestrator")
        node = self.installation.node
        node.stop()
        shutil.rmtree(self._records)
        node.start()
        self._awake(asleep)
        self._mend_topics()

    def log_cut(self) -> None:
        """Records are deleted that nobody has read: the orchestrators were away for a while."""
        self.operator.stop("orchestrator")
        time.sleep(self.rng.uniform(6.0, 9.0))
        with opened_admin(self.installation.kafka) as admin:
            ends = {TopicPartition(*place): end for place, (_, end) in admin.extent(READ).items() if end}
            admin._client.delete_records(ends)
        self._orchestrators_up()
        self._mend_topics()

    def log_regrown(self) -> None:
        """The broker's disk is put back from a copy, and every log grows past where it was before anybody
        reads it again.
        """
        node, copy = self.installation.node, self.installation.directory / "kafka-copy"
        node.stop()
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self._records, copy)
        node.start()
        time.sleep(self.rng.uniform(6.0, 10.0))
        self.operator.stop()
        with self.caller.silent():
            with opened_admin(self.installation.kafka) as admin:
                was = admin.extent(READ)
            node.stop()
            shutil.rmtree(self._records)
            copy.rename(self._records)
            node.start()
            self._grow_past({place: end for place, (_, end) in was.items()})
        self.operator.up()
        self._mend_topics()

    def outage(self) -> None:
        """No orchestrator runs for longer than the topics keep what is on them."""
        self.operator.stop("orchestrator")
        self.caller.allowed += 4 * _FEW
        kept = {"retention.ms": str(_SHORT)}
        with opened_admin(self.installation.kafka) as admin:
            had = {name: topic.config["retention.ms"] for name, topic in admin.topics(READ).items()}
            began = admin.extent([topics.REQUESTS])
            self._configure(admin, dict.fromkeys(READ, kept))

            def is_gone() -> bool:
                now = admin.extent([topics.REQUESTS])
                return any(first > began[place][1] for place, (first, _) in now.items())

            eventually("retention took what was not read", is_gone, within=_LONG, every=0.5)
            self._configure(admin, {name: {"retention.ms": value} for name, value in had.items()})
        self._orchestrators_up()
        self._mend_topics()

    def _mend_topics(self) -> None:
        """The steps of the guide, and what it has the callers do is done by `Play`."""
        self.operator.radera("orchestrator", "topics", "check", ends=None)
        self.operator.radera("orchestrator", "topics", "apply")
        self.operator.radera("administrator", "dlq", "list")
        self.caller.take_key()

    def _asleep(self, role: str) -> list[Process]:
        """Stops the processes of a role in the middle of what they do, for a while."""
        asleep = [one for one in self.installation.fleet.victims() if one.role == role]
        for process in asleep:
            process.stop()
        time.sleep(self.rng.uniform(4.0, 6.0))
        return asleep

    def _awake(self, asleep: list[Process]) -> None:
        for process in asleep:
            process.wake()

    def _orchestrators_up(self) -> None:
        for _ in range(2):
            self.installation.start("orchestrator")

    def _configure(self, admin: Any, configs: dict[str, dict[str, str]]) -> None:
        admin._client.alter_configs(
            [
                ConfigResource(ConfigResourceType.TOPIC, name, configs=values)
                for name, values in configs.items()
            ]
        )

    def _grow_past(self, ends: dict[tuple[str, int], int]) -> None:
        """Copies of each partition's own records are added until it is longer than it was."""
        held: dict[tuple[str, int], list[Any]] = {}
        for one in self.installation.ground.bus.browse(READ):
            held.setdefault((one.topic, one.partition), []).append(one)
        producer = made(KafkaProducer, connection(self.installation.kafka) | {"acks": "all"})
        try:
            for (topic, partition), end in ends.items():
                records = held.get((topic, partition), [])
                there = records[-1].offset + 1 if records else 0
                for number in range(end - there + 3 if records else 0):
                    one = records[number % len(records)]
                    producer.send(
                        topic,
                        key=None if one.key is None else one.key.encode(),
                        value=one.value,
                        headers=list(one.headers),
                        partition=partition,
                    )
            producer.flush(30.0)
        finally:
            producer.close()

    # --- the rest ---

    @property
    def _keys(self) -> Path:
        return self.installation.config.parent / "radera.keys"

    @property
    def _records(self) -> Path:
        return self.installation.directory / "kafka" / "records"

    def _rotate(self, also: str = "", *, is_backed_up: bool = True) -> None:
        """As the guide has it done once a month."""
        first, *rest = blocks("README.md", "Rotating them")[0]
        said = self.operator.typed(first + also, ends=None)
        while "another rotation is under way" in said:
            time.sleep(2.0)
            said = self.operator.typed(first + also, ends=None)
        refused = "nothing was changed" in said
        assert refused or "is current" in said, said
        self._count("rotations refused, since something waited" if refused else "rotations done")
        for line in rest:
            if is_backed_up or not line.startswith("sqlite3"):
                self.operator.typed(line)
        self.caller.take_key()

    def _put_keyring_back(self) -> None:
        (self._keys.parent / "radera.keys.wrong").unlink(missing_ok=True)
        self.operator.page("README.md", "Putting the keyring back")

    def _some_open(self) -> None:
        """Some requests are under way; a few more come in for it."""
        self.caller.allowed += _FEW
        eventually("some are under way", lambda: bool(self.installation.open_people()), within=_LONG)

    def decide(self, reason: str, action: str) -> None:
        """The officer answers every open question of a kind; one that was just settled by itself is none."""
        for saga in self.installation.sagas().values():
            for one in saga.escalations:
                if one.reason == reason:
                    named = ["--escalation", f"{one.id}@{one.version}", "--reason", "as the guide says"]
                    said = self.operator.radera("serve", "decide", saga.request_id, action, *named, ends=None)
                    assert "Traceback" not in said, said
                    self._count(f"{reason}: {action}")

    def unreadable(self) -> list[str]:
        """Requests of which Radera says that nobody can read them any more."""
        reasons = {"unreadable_request", "key_lost"}
        return [
            request_id
            for request_id, saga in self.installation.sagas().items()
            if reasons & {one.reason for one in saga.escalations}
        ]

    def _await_alarm(self, action: str) -> None:
        before = self._alarms().get(action, 0)
        eventually(
            f"the log says {action}", lambda: self._alarms().get(action, 0) > before, within=_LONG, every=0.5
        )

    def _alarms(self) -> dict[str, int]:
        """How often the logs say what an incident must make them say."""
        wanted = {action for actions in NOTICED.values() for action in actions}
        counted: dict[str, int] = {}
        for _, line in self.installation.fleet.said():
            for action in wanted:
                if f'"{action}"' in line:
                    counted[action] = counted.get(action, 0) + 1
        return counted

    def _count(self, what: str, times: int = 1) -> None:
        self.counted[what] = self.counted.get(what, 0) + times


def names() -> list[str]:
    """Those that can be played on this machine."""
    return [name for name in NOTICED if name != "clock" or can_be_set()]
