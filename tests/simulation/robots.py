"""Those outside who act on the product: who submits requests, the gate for callbacks, and the DPO."""

import contextlib
import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256

from orchestrator.bus.port import BusUnavailable, Record
from orchestrator.intake import callbacks
from orchestrator.intake.submit import CannotSubmit, Intake
from orchestrator.privacy import CALLBACK_BODY, Exchange, InvalidLink, seal
from orchestrator.privacy.identifiers import Kind
from orchestrator.privacy.keys import KeyDestroyed
from orchestrator.privacy.links import Link
from orchestrator.privacy.sealing import IDENTIFIERS
from orchestrator.saga import escalations
from orchestrator.saga.model import Capacity, Escalation, Saga
from orchestrator.store import StoredSent
from schemas import topics
from schemas.codec import encode
from schemas.messages import Confirmation, Decision, Request
from tests.simulation import installation, words
from tests.simulation.doors import Thanked
from tests.simulation.people import Person
from tests.simulation.world import Word, World

ALL_KINDS: tuple[Kind, ...] = ("email", "phone", "name", "ga_client_id", "tenant_user_id")


TROUBLES = (
    "repeat",
    "supplement",
    "unverified supplement",
    "conflict",
    "another scope",
    "another's identifiers",
    "unreadable",
    "garbage",
    "stranger",
    "echo",
)


@dataclass(slots=True)
class Asked:
    """A request as it was submitted."""

    request_id: str
    person: Person
    kinds: tuple[Kind, ...]
    scope: tuple[str, ...]
    verified: bool
    capacity: Capacity
    tenant: str | None
    at: int


class Requester:
    """Submits requests through the real intake, and troubles the topic with what else may come."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self._bus = world.bus.of(world.outside)
        self._intake = Intake(
            keys=world.keys, bus=world.doors, clock=world.clock, public_key=Exchange(world.keyring).public_key
        )
        self.asked: list[Asked] = []
        self.unreadable = 0

    def submit(self, person: Person) -> None:
        rng, scenario = self._rng, self._world.scenario
        request_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        kinds = ALL_KINDS
        if rng.random() < scenario.incomplete:
            kinds = rng.choice(
                (
                    ("email",),
                    ("email", "tenant_user_id"),
                    ("phone",),
                    ("name", "phone"),
                    ("email", "ga_client_id"),
                )
            )
        names = [name for name in installation.VENDORS if name != "tenant"]
        scope = scenario.systems or tuple(rng.sample(names, rng.choice((2, 2, 3, 3, 4, 5))))
        capacity: Capacity = "controller"
        tenant = None
        if not scenario.systems and rng.random() < 0.3:
            scope = (*scope, "tenant") if rng.random() < 0.7 else ("tenant",)
            tenant = installation.TENANT
            if scope == ("tenant",) and rng.random() < 0.5:
                capacity = "processor"
        elif "tenant" in scope:
            tenant = installation.TENANT
        asked = Asked(
            request_id=request_id,
            person=person,
            kinds=kinds,
            scope=scope,
            verified=rng.random() >= scenario.unverified,
            capacity=capacity,
            tenant=tenant,
            at=self._world.clock(),
        )
        # Filed before the intake does, so that the ids that are made with the key are the seed's.
        self._world.keys.insert(request_id, rng.randbytes(32))
        self.send(asked)
        self.asked.append(asked)
        vendors = {
            vendor for name in scope for vendor, _ in installation.VENDORS[name] if vendor != "agencies"
        }
        vendors |= {"controllers"} if "tenant" in scope else set()
        self._world.in_play = tuple(sorted(vendors | set(self._world.in_play)))
        self._world.tell(f"submitted {request_id[:8]} {'+'.join(scope)} {'+'.join(kinds)} {capacity}")

    def send(self, asked: Asked) -> None:
        while True:
            with contextlib.suppress(BusUnavailable):
                self._intake.submit(
                    asked.person.identifiers(asked.kinds),
                    source="simulation",
                    verified=asked.verified,
                    request_id=asked.request_id,
                    received_at=asked.at,
                    capacity=asked.capacity,
                    tenant=asked.tenant,
                    scope=asked.scope,
                )
                self._world.accepted.requests.append(asked.request_id)
                return

    def trouble(self) -> None:
        """Something that comes twice, or wrong."""
        world, rng = self._world, self._rng
        if not self.asked:
            return
        asked = rng.choice(self.asked)
        what = rng.choice(TROUBLES)
        world.counts[f"trouble: {what}"] += 1
        world.tell(f"trouble: {what} {asked.request_id[:8]}")
        match what:
            case "repeat":
                with contextlib.suppress(CannotSubmit):
                    self.send(asked)
            case "supplement" | "unverified supplement" if asked.kinds != ALL_KINDS:
                asked.kinds = tuple(kind for kind in ALL_KINDS if kind in asked.kinds or rng.random() < 0.7)
                with contextlib.suppress(CannotSubmit):
                    self.send(asked if what == "supplement" else replace(asked, verified=False))
            case "conflict":
                self._conflict(asked)
            case "another scope":
                scope = tuple(name for name in installation.VENDORS if rng.random() < 0.5) or ("survey",)
                with contextlib.suppress(CannotSubmit):
                    self.send(replace(asked, scope=scope))
            case "another's identifiers":
                other = rng.choice(world.bystanders)
                with contextlib.suppress(CannotSubmit):
                    self.send(replace(asked, person=other, verified=rng.random() < 0.5))
            case "unreadable":
                self.unreadable += 1
                self._put(topics.REQUESTS, asked.request_id, b"\xc3\x01" + rng.randbytes(30))
            case "garbage":
                topic = rng.choice(
                    (topics.CONFIRMATIONS, topics.DECISIONS, topics.OUTCOMES, topics.commands("hubspot"))
                )
                self._put(topic, asked.request_id, rng.randbytes(20))
            case "stranger":
                self._stranger(asked)
            case "echo":
                self._echo()

    def _conflict(self, asked: Asked) -> None:
        """The same id with another scope, or other identifiers."""
        other = Asked(
            request_id=asked.request_id,
            person=asked.person,
            kinds=("phone",) if asked.kinds != ("phone",) else ("email",),
            scope=asked.scope[:1],
            verified=True,
            capacity=asked.capacity,
            tenant=asked.tenant,
            at=asked.at,
        )
        try:
            key = self._world.keys.key_of(asked.request_id)
        except KeyDestroyed:
            return
        sealed = seal(key, other.request_id, IDENTIFIERS, other.person.identifiers(other.kinds).to_bytes())
        request = Request(
            event_id=f"conflict:{self._rng.getrandbits(64):x}",
            request_id=other.request_id,
            received_at=self._world.clock(),
            source="simulation",
            verified=True,
            scope=other.scope,
            capacity=other.capacity,
            tenant=other.tenant,
            sealed_identifiers=sealed,
        )
        self._put(topics.REQUESTS, other.request_id, encode(request))

    def _stranger(self, asked: Asked) -> None:
        """A confirmation that belongs to no request, or whose correlation nobody knows."""
        known = self._rng.random() < 0.5
        confirmation = Confirmation(
            event_id=f"stranger:{self._rng.getrandbits(64):x}",
            request_id=str(uuid.UUID(int=self._rng.getrandbits(128), version=4)) if known else None,
            system="hubspot" if known else None,
            correlation=None if known else sha256(self._rng.randbytes(8)).hexdigest(),
            kind="proved",
            occurred_at=self._world.clock(),
        )
        self._put(topics.CONFIRMATIONS, asked.request_id, encode(confirmation))

    def _echo(self) -> None:
        """Any record of the bus comes once more, long after."""
        places = sorted(
            place for place, records in self._world.bus.records.items() if records and ".dlq" not in place[0]
        )
        if not places:
            return
        delivery = self._rng.choice(self._world.bus.records[self._rng.choice(places)])
        self._put(delivery.topic, delivery.key, delivery.value)

    def _put(self, topic: str, key: str, value: bytes) -> None:
        with contextlib.suppress(BusUnavailable):
            self._bus.publish([Record(topic=topic, key=key, value=value)])


class Gate:
    """Takes callbacks as `serve` does: seals them, and passes them on."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sent = StoredSent(world.store, "answers")

    async def deliver(self, method: str, url: str, body: bytes, sent: Mapping[str, str]) -> int:
        match url.removeprefix(installation.PUBLIC).strip("/").split("/"):
            case ["answer", token] if method == "GET":
                self._world.counts["link opened by a scanner"] += 1
                return 200
            case ["answer", token]:
                used = f"link:{installation.digests().correlation('link', token)}"
                if self._sent.seen(used):
                    return 410
                status = self._pass("recruitment", token, body, sent)
                if status == 202:
                    self._sent.record(used)
                return status
            case ["callbacks", kind, token]:
                return self._pass(kind, token, body, sent)
            case ["callbacks", kind]:
                return self._pass(kind, None, body, sent)
            case _:
                return 404

    def _pass(self, kind: str, token: str | None, body: bytes, sent: Mapping[str, str]) -> int:
        world = self._world
        now = world.clock()
        if kind == "tenant":
            sent = {**sent, "X-OpenDSR-Signature": installation.signature(body)}
        sealed = world.keyring.seal_installation(CALLBACK_BODY, callbacks.content_of(token, sent, body))
        if token is None:
            world.doors.publish([callbacks.webhook(kind, sealed, body, installation.digests(), now)])
        else:
            try:
                link = installation.links().read(token)
            except InvalidLink:
                return 404
            if link.is_expired(now):
                return 410
            self._word(kind, link, sealed, body)
        world.counts["callback delivered"] += 1
        return 202

    def _word(self, kind: str, link: Link, sealed: bytes, body: bytes) -> None:
        world = self._world
        said = words.heard(body) if kind == "tenant" else None

        def word(order: int, at: int) -> Record:
            world.accepted.answers.append(Thanked(link.request_id, link.system, order))
            if said is not None:
                spoken = Word(order, at, said, words.said_at(body))
                world.words.setdefault(link.request_id, []).append(spoken)
            return callbacks.word(kind, link, sealed, order, at)

        world.doors.publish_word(link.request_id, link.system, word)


class Dpo:
    """Decides on open questions: during the trouble as the seed has it, later so that all comes to an end."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self._tried: dict[tuple[str, str, str | None], int] = {}
        self._answered: dict[tuple[str, str, int], int] = {}
        self.made: dict[str, tuple[str | None, int | None]] = {}
        """What each decision was about, by its reason, which no other has."""

    def is_asked(self) -> bool:
        return any(saga.escalations for saga in self._world.sagas.values() if not saga.is_finished)

    def _open(self) -> list[tuple[Saga, Escalation]]:
        return [
            (saga, one)
            for _, saga in sorted(self._world.sagas.items())
            if not saga.is_finished
            for one in saga.escalations
        ]

    def act(self, wrong: float) -> None:
        """One decision, perhaps a wrong one."""
        questions = self._open()
        if not questions:
            return
        rng = self._rng
        saga, one = rng.choice(questions)
        actions = escalations.actions_for(one.reason)
        version = one.version
        if rng.random() < wrong:
            self._world.counts["decision that does not fit"] += 1
            match rng.randrange(4):
                case 0:
                    self.decide(saga, one.id, version - 1, rng.choice(actions))
                case 1:
                    self.decide(saga, "e99", 1, "waive")
                case 2:
                    self.decide(saga, one.id, version, rng.choice(("verify", "extend", "erase")))
                case _:
                    self.decide(
                        saga, one.id, version, "waive" if "waive" in actions else actions[0], reason=""
                    )
            return
        if rng.random() < 0.02:
            self.decide(saga, None, None, rng.choice(("cancel", "reject", "extend")))
            return
        weights = [{"cancel": 0.3, "reject": 0.6, "waive": 2.0}.get(action, 5.0) for action in actions]
        self.decide(saga, one.id, version, rng.choices(actions, weights)[0])

    def settle(self) -> bool:
        """Answers every question so that the request can end; whether it said anything."""
        said = False
        for saga, one in self._open():
            # An answer may be on its way; but one that was lost in a conflict is given again a day later.
            key = (saga.request_id, one.id, one.version)
            if self._answered.get(key, -1) > self._world.clock() - 86_400_000_000:
                continue
            self._answered[key] = self._world.clock()
            said = True
            self.decide(saga, one.id, one.version, self._best(saga, one))
        return said

    def _best(self, saga: Saga, one: Escalation) -> str:
        actions = escalations.actions_for(one.reason)
        cause = (saga.request_id, one.reason, one.system)
        self._tried[cause] = self._tried.get(cause, 0) + 1
        if "verify" in actions:
            return "verify"
        if one.reason == "reappeared":
            return "waive"
        if one.reason == "ambiguous":
            return self._rng.choice(("erase", "waive"))
        if "retry" in actions and self._tried[cause] <= 2:
            return "retry"
        return next(action for action in ("waive", "retry", "reject", "cancel") if action in actions)

    def decide(
        self, saga: Saga, escalation: str | None, version: int | None, action: str, reason: str | None = None
    ) -> None:
        number = len(self.made) + 1
        if reason is None:
            reason = f"as discussed, note {number}"
        self.made[reason or f"none {number}"] = (escalation, version)
        decision = Decision.model_validate(
            {
                "event_id": f"decision:{number}",
                "request_id": saga.request_id,
                "action": action,
                "escalation_id": escalation,
                "escalation_version": None if version is None else max(0, version),
                "reason": reason,
                "decided_by": "dpo",
                "decided_at": self._world.clock(),
            }
        )
        self._world.counts[f"decision: {action}"] += 1
        self._world.tell(f"dpo {saga.request_id[:8]} {action} {escalation}@{version}")
        record = Record(topic=topics.DECISIONS, key=saga.request_id, value=encode(decision))
        self._world.doors.publish([record])
