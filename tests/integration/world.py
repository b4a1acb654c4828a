"""An installation and its vendors, and what can be known of them from outside: the database, the mails, the
ledger.
"""

import email
import random
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from pathlib import Path

import httpx

from orchestrator.cli.assembly import Ground, open_ground
from orchestrator.cli.submit import identifier_of, submit_to
from orchestrator.saga.model import Saga
from orchestrator.smtp import message_id
from orchestrator.store import StoreError
from schemas import topics
from schemas.codec import CodecError, decode
from schemas.messages import Outcome
from tests.integration.people import Effect, Person, make_bystander
from tests.integration.ports import free_port
from tests.integration.processes import Radera, Vendors, eventually, tail, vendors
from tests.integration.settings import CONTROL, DOMAIN, open_accounts, write_settings

#: What the stand-ins note of what they said themselves.
SAID = ("said_", "failed_to_say_")


@dataclass(slots=True)
class World:
    """What a test plays with. `note` says what it has done, for the report of a failure."""

    seed: int
    directory: Path
    vendors: Vendors
    radera: Radera
    ground: Ground
    http_port: int
    people: list[Person] = field(default_factory=list)
    bystanders: list[Person] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.radera.config

    @property
    def database(self) -> Path:
        return self.directory / "radera.db"

    def note(self, text: str) -> None:
        self.notes.append(text)

    # --- people ---

    def settle(self, people: Iterable[Person]) -> None:
        """Puts people's records at the vendors."""
        for person in people:
            person.settle(self.vendors)
            self.people.append(person)

    def settle_bystanders(self, rng: random.Random, count: int) -> None:
        """People whom everybody knows, and who must be known as well afterwards."""
        for number in range(901, 901 + count):
            bystander = make_bystander(rng, number)
            bystander.settle(self.vendors)
            self.bystanders.append(bystander)

    def submit(self, person: Person) -> str:
        """Submits the person's request, as `radera submit` does, but in this process."""
        person.request_id = submit_to(
            self.ground,
            [identifier_of(kind, value) for kind, value in person.identifiers],
            scope=person.scope,
            tenant=person.tenant,
            source="test",
        )
        return person.request_id

    # --- the database ---

    def saga(self, person: Person) -> Saga | None:
        return self.ground.store.saga(person.request_id)

    def open_people(self) -> list[Person]:
        """Those whose request was submitted and has not ended."""
        submitted = [person for person in self.people if person.request_id]
        sagas = {saga.request_id: saga for saga in self.ground.store.sagas(limit=10_000)}
        return [
            person
            for person in submitted
            if person.request_id not in sagas or not sagas[person.request_id].is_finished
        ]

    def await_end(self, within: float) -> None:
        """Waits until every request has ended; fails with those that have not."""

        def said() -> str:
            return "; ".join(
                f"{one.request_id} {self._where(self.saga(one))}" for one in self.open_people()[:5]
            )

        try:
            eventually("all requests have ended", lambda: not self.open_people(), within=within, every=0.2)
        except AssertionError as error:
            raise AssertionError(f"{error}: {said()}") from None

    def _where(self, saga: Saga | None) -> str:
        if saga is None:
            return "not begun"
        steps = " ".join(f"{step.system}={step.state.status}" for step in saga.steps if not step.is_ended)
        questions = " ".join(f"{one.reason}({one.code})" for one in saga.escalations)
        return f"{saga.status} [{steps}] {questions}"

    def records(self, pattern: str) -> list[tuple[str, str, str, bytes]]:
        """The bus's records on the topics that are LIKE `pattern`: topic, key, headers, value."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            query = "SELECT topic, key, headers, value FROM bus_records WHERE topic LIKE ? ORDER BY offset"
            return list(connection.execute(query, (pattern,)))

    def outcomes(self) -> list[Outcome]:
        """Every outcome that was published, each event once."""
        said: dict[str, Outcome] = {}
        for *_, value in self.records(topics.OUTCOMES):
            with suppress(CodecError):
                outcome = decode(value, Outcome)
                said[outcome.event_id] = outcome
        return list(said.values())

    # --- the vendors ---

    def mails(self) -> list[EmailMessage]:
        return [email.message_from_bytes(data, policy=policy.default) for data in self.vendors.mails()]

    def await_mails(self, within: float) -> None:
        """Waits until every outcome and notice has become a mail."""

        def missing() -> int:
            sent = {str(mail["message-id"]) for mail in self.mails()}
            ids = {message_id(DOMAIN, one.request_id, one.event_id) for one in self.outcomes()}
            return len(ids - sent)

        eventually("every outcome has become a mail", lambda: not missing(), within=within, every=0.2)

    def check_nobody_is_held(self) -> None:
        """The vendors hold nothing of those who asked but what was reported; all others are as they were."""
        for person in self.people:
            left = {(line["kind"], line["state"]) for line in self.vendors.holds(person.email)}
            assert person.leaves == left, person.request_id
        for bystander in self.bystanders:
            held = self.vendors.holds(bystander.email, bystander.ga_client_id)
            assert {"live"} == {line["state"] for line in held}
        assert 3 == len(self.vendors.holds(CONTROL))

    def first_effects(self) -> Counter[Effect]:
        """What the vendors did for the first time, and how often each of it."""
        return Counter(
            (line["vendor"], line["effect"], str(line["record"]))
            for line in self.vendors.ledger()
            if line["vendor"] != "mail" and not line["repeated"] and not line["effect"].startswith(SAID)
        )

    def check_effects(self, *, has_forgotten: bool = False) -> None:
        """The vendors did all that had to be done, once, and nothing else. An installation that has forgotten
        what it did finds less than it did, and tells controllers of it in other words.
        """
        done = self.first_effects()
        twice = {effect: times for effect, times in done.items() if times > 1}
        if has_forgotten:
            twice = {effect: times for effect, times in twice.items() if effect[1] != "confirmation_received"}
        assert {} == twice
        expected = {effect for person in self.people for effect in person.effects}
        own = {effect for effect in done if effect[0] != "controllers"}
        assert (set(), set()) == (expected - own, own - expected)

    def check_records(self) -> None:
        """No dead letters, nothing left to send, every timeline's chain is whole."""
        assert [] == self.records("%.dlq")
        assert 0 == self.ground.store.figures().unsent
        for person in self.people:
            check = self.ground.store.verify_timeline(person.request_id)
            assert check.is_intact, (person.request_id, check.broken_at)

    def probe(self, path: str) -> int:
        """The status of one of our own pages; 0 if nobody answers."""
        try:
            with httpx.Client(trust_env=False, timeout=15.0) as client:
                return client.get(f"http://127.0.0.1:{self.http_port}{path}").status_code
        except httpx.TransportError:
            return 0

    # --- a failure's report ---

    def report(self) -> str:
        self.radera.abort()
        said = "\n".join(self.notes[-30:])
        try:
            counts = dict(Counter(saga.status for saga in self.ground.store.sagas(limit=10_000)))
        except StoreError as error:
            return f"seed {self.seed}\n{said}\n{error}\n--- log\n{tail(self.radera.log)}"
        return f"seed {self.seed}\n{said}\nrequests: {counts}\n--- log\n{tail(self.radera.log)}"


@contextmanager
def world_in(
    directory: Path, seed: int, *, log_level: str = "info", max_attempts: int = 30
) -> Iterator[World]:
    """A new installation and its vendors; Radera is not yet running."""
    with vendors(directory / "vendors") as served:
        open_accounts(served)
        port = free_port()
        home = directory / "radera"
        home.mkdir(mode=0o700)
        config = write_settings(home, served, http_port=port, log_level=log_level, max_attempts=max_attempts)
        radera = Radera(config, directory / "radera.log")
        ground = open_ground(config)
        try:
            yield World(
                seed=seed,
                directory=home,
                vendors=served,
                radera=radera,
                ground=ground,
                http_port=port,
            )
        finally:
            radera.discard()
            ground.bus.close()
            ground.engine.dispose()
