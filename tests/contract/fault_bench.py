"""One system, one person, and one fault: a step played from the request to its end.

Everything of the product that a fault passes through is the real thing: the handler as the settings make it,
the HTTP client, the worker's execution, the reader of its confirmations, and the saga's core. The vendors are
the stand-ins, and time passes only when nobody has anything to do. `Play` knows no call by name: what a
handler calls is recorded, and a fault is put on one of the calls that were seen.
"""

import asyncio
import base64
import functools
import json
import os
import re
from collections import Counter
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field, replace
from email.message import EmailMessage
from typing import Any, TypeVar

import httpx
from typing_extensions import override

from handlers.execution import Execution
from handlers.registry import Context, find
from handlers.sandbox import Sandbox
from handlers.sandbox.certificates import Authority
from handlers.sandbox.testing import START
from handlers.worker import directly
from orchestrator.bus.port import Delivery
from orchestrator.http import Clients
from orchestrator.http.errors import TOLD_TO_WAIT
from orchestrator.privacy import CALLBACK_BODY, IDENTIFIERS, Identifier, Identifiers, seal
from orchestrator.saga import escalations
from orchestrator.saga.decide import decide
from orchestrator.saga.events import Confirmed, Decided, Event, TimerFired
from orchestrator.saga.model import Ended, Saga, Step, waits
from orchestrator.saga.rules import Rules
from orchestrator.service.inbound import Reader
from orchestrator.service.outbound import outgoing
from orchestrator.service.rules import rules_of
from orchestrator.settings import Settings, System
from orchestrator.smtp import Leave, always
from schemas import topics
from schemas.codec import decode, encode
from schemas.messages import Callback, Command, Request
from tests.simulation import installation
from tests.simulation.lives import Fuse, Life
from tests.simulation.loop import Clock, VirtualLoop
from tests.simulation.ports import LivingMailer, Mail
from tests.simulation.quick import quick

SECOND = 1_000_000
DAY = 86_400 * SECOND
REQUEST = "0b7c8f5e-3f5d-4c7e-9a51-6f0c2d1e4a77"
KEY = bytes(range(32))
ANNA = "anna@example.com"
BEATA = "beata@example.com"
CLIENT_ID = "1234567890.1699999999"
#: Who goes round more often than this goes round in circles.
MOST_EVENTS = 200
#: An agency that speaks OpenDSR, beside the systems of the simulated installation.
OPENDSR = "agency_opendsr"
SYSTEMS = (*installation.KINDS, OPENDSR)

#: A fault that is nobody's but the installation's: its clock is set back, by less than a login may be off.
CLOCK_BACK = "clock_back"


class PanicError(BaseException):
    """As a library's panic, which is no Exception."""


#: What a library may raise in the middle of a call: an exception of every base.
RAISED: dict[str, type[BaseException] | BaseException] = {
    "exception": RuntimeError,
    "panic": PanicError,
    "exit": SystemExit,
    "cancellation": asyncio.CancelledError,
    "group": BaseExceptionGroup("several", [KeyError(), PanicError()]),
}
BACK = 240 * SECOND

T = TypeVar("T")
_ID = re.compile(r"\d+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


_STANDS_FOR = {"#": r"(\d+|[0-9a-f-]{36})", "@": "[^/]*@[^/]*"}


class Wall:
    """The clock of the installation, which somebody sets back; the vendors' and the steady one go on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.behind = 0

    def __call__(self) -> int:
        return self._clock() - self.behind


@dataclass(frozen=True, slots=True)
class Call:
    """A call that a verb makes, whomever it is about: `#` stands for an id, `@` for an address."""

    verb: str
    vendor: str
    method: str
    shape: str

    def __str__(self) -> str:
        return f"{self.verb}: {self.vendor} {self.method} {self.shape}"

    @property
    def pattern(self) -> str:
        """What the stand-ins' faults match it by."""
        parts = (_STANDS_FOR.get(part, re.escape(part)) for part in self.shape.split("/"))
        return f"^{'/'.join(parts)}$"


def _shape(parts: list[str]) -> str:
    kinds = ("@" if "@" in part else "#" if _ID.fullmatch(part) else part for part in parts)
    return "/".join(("", *kinds))


@dataclass(slots=True)
class Played:
    """What came of it."""

    step: Step
    took: int
    calls: Counter[Call]
    commands: Counter[str]
    failures: list[str] = field(default_factory=list)
    """The codes of the failed attempts, in their order."""
    counted: list[int] = field(default_factory=list)
    """How many failures in a row the step had counted after each of them."""
    tried_again: list[tuple[int, int]] = field(default_factory=list)
    """When a failed attempt was followed by the next, and after how long; where no party spoke meanwhile."""
    waited: Counter[str] = field(default_factory=Counter)
    """How many commands of each verb were not begun, since the vendor had said not to call yet."""
    answers: int = 0
    """How often a party or a vendor spoke."""
    asked: list[str] = field(default_factory=list)
    """The questions that the DPO was asked, and answered with "retry"."""
    held: list[tuple[str, str, str]] = field(default_factory=list)
    """What the vendors hold of the person at the end, as (kind, record, state)."""
    bystander: list[tuple[str, str, str]] = field(default_factory=list)
    effects: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Effects that were the first of their kind on a record."""
    mails: list[str] = field(default_factory=list)
    """The Message-IDs of the mails to agencies."""
    missed: list[str] = field(default_factory=list)
    """The faults that met no call."""

    @property
    def end(self) -> tuple[Any, ...]:
        state = self.step.state
        assert isinstance(state, Ended)
        return state.end, state.grade, state.legal_basis, state.retained_until, self.step.found


@functools.cache
def settings() -> Settings:
    """The simulated installation, and the agency."""
    os.environ["SIM_AUTHORITIES"] = Authority(START).root()
    own = _handlers()["recruitment"].Settings.model_validate(
        {
            "channel": "opendsr",
            "endpoint": f"{installation.ORIGIN}/controllers/nord",
            "endpoint_token": {"env": "SIM_CONTROLLER"},
            "controller_id": "controller-1",
            "authorities": {"env": "SIM_AUTHORITIES"},
            "allow_private_address": True,
        }
    )
    known = installation.settings()
    return known.model_copy(
        update={"systems": {**known.systems, OPENDSR: System(kind="recruitment", own=own)}}
    )


@functools.cache
def rules() -> Rules:
    # The person is told by the mailbox, which has tests of its own.
    return replace(rules_of(settings()), notify_subject=False)


def people() -> dict[str, Any]:
    """Anna, who is to be erased, and Beata, who is not, at every vendor."""
    long_ago = START - 300 * DAY
    children = {
        name: [{"id": 710_000 + 1000 * kind + 1, "registered_at": long_ago}]
        for kind, name in enumerate(("tickets", "form_submissions", "appointments", "documents", "sales"), 1)
    }
    person = {"consents": ["EMARKETING"], "created_at": long_ago}

    def candidates(first: int) -> list[dict[str, Any]]:
        return [
            {"id": first + n, "email": one, "created_at": long_ago} for n, one in enumerate((ANNA, BEATA))
        ]

    def record(id_: str, email: str) -> dict[str, Any]:
        return {"id": id_, "identities": [{"type": "email", "value": email}], "created_at": long_ago}

    agencies = [
        {"name": "mail", "address": "mail@agency.example", "candidates": candidates(740_000)},
        {"name": "tt", "address": "tt@agency.example", "teamtailor_company": "company-1"},
    ]
    return {
        "superoffice": {
            "persons": [
                {**person, "id": 710_000, "name": "Anna", "email": ANNA, **children},
                {**person, "id": 720_000, "name": "Beata", "email": BEATA, "tickets": [{"id": 721_001}]},
            ]
        },
        "hubspot": {"contacts": candidates(730_000)},
        "google": {
            "visitors": [
                {"client_id": CLIENT_ID, "email": ANNA},
                {"client_id": "1234567891.1699999999", "email": BEATA},
            ]
        },
        "teamtailor": {"candidates": candidates(750_000)},
        "agencies": agencies,
        "controllers": [
            {"tenant": "nord", "role": "agency", "candidates": candidates(760_000)},
            {"tenant": installation.TENANT, "instruction": "erase"},
        ],
        "tenants": [
            {
                "tenant": installation.TENANT,
                "records": [record("user-77001", ANNA), record("user-77002", BEATA)],
            }
        ],
    }


_handlers = functools.cache(find)


class _Transport(httpx.AsyncBaseTransport):
    """The way to the vendors, with a note of each call."""

    def __init__(self, play: "Play") -> None:
        self._play = play

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        vendor, *parts = request.url.path.strip("/").split("/")
        self._play.note(vendor, request.method, _shape(parts))
        return await self._play.sandbox.handle(request)


class _Mailer(LivingMailer):
    """The way to the agencies' mail server."""

    def __init__(self, play: "Play") -> None:
        super().__init__(play.sandbox, Life("worker", Fuse()), play.mails)
        self._play = play

    @override
    def send(self, message: EmailMessage, recipient: str, may_send: Leave = always) -> None:
        self._play.note("mail", "SEND", "/")
        super().send(message, recipient, may_send)


class Play:
    """The installation for one request to one system; `play` carries it through."""

    def __init__(
        self,
        system: str,
        call: Call | None = None,
        *faults: Mapping[str, Any],
        skip: int = 0,
        held: Mapping[str, Any] | None = None,
        own: Mapping[str, Any] | None = None,
        most_events: int = MOST_EVENTS,
    ) -> None:
        """With faults, one after another, on a call: from the first time that its verb makes it, or after
        `skip` times. `held` is what the vendors hold beside Anna's and Beata's; `own` are settings of the
        system that are not the installation's.
        """
        self._most_events = most_events
        self.system = system
        self.mails: list[Mail] = []
        self.clock = Clock(START)
        self.wall = Wall(self.clock)
        self.sandbox = Sandbox(clock=self.clock, sleep=asyncio.sleep, deliver=self._deliver)
        self.sandbox.seed(installation.accounts(START))
        self.sandbox.seed(people())
        self.sandbox.seed(dict(held or {}))
        self._loop = VirtualLoop(self.clock)
        self._call, self._faults, self._skip = call, faults, skip
        self._sets_back: Call | None = None
        self._raises: tuple[Call, str] | None = None
        self._verb = ""
        self._failed_at: int | None = None
        self._saga: Saga | None = None
        self._commands: list[Delivery] = []
        self._callbacks: list[Delivery] = []
        self._correlations: dict[str, str] = {}
        self._seen: set[str] = set()
        self._events = 0
        self._played = Played(
            Step(system=system, kind="", state=Ended(end="stopped", at=0)), 0, Counter(), Counter()
        )
        plan = settings().systems[system]
        self._kind = plan.kind
        clients = Clients(clock=self.wall, steady=self.clock, transport=_Transport(self))
        context = Context(
            system=system,
            clock=self.wall,
            clients=clients.of(system),
            public_url=installation.PUBLIC,
            callback_path=f"/callbacks/{plan.kind}/",
            time_zone=settings().installation.time_zone,
            controller="Controller AB",
            domain="radera.controller.example",
            sender="radera@controller.example",
            links=installation.links(),
            correlate=installation.digests().correlation,
            mailer=_Mailer(self),
            run_blocking=_call,
        )
        self._execution = Execution(
            keys=_Keys(),
            installation=installation.keyring(),
            handlers={system: _handlers()[plan.kind](plan.own.model_copy(update=own or {}), context)},
            clock=self.wall,
            call_limit=120.0,
            run_blocking=directly,
        )
        self._reader = Reader(_Keys(), installation.digests(), lambda: 0.5)

    def note(self, vendor: str, method: str, shape: str) -> None:
        """A call is being made."""
        call = Call(self._verb, vendor, method, shape)
        self._played.calls[call] += 1
        if call == self._sets_back:
            self.wall.behind += BACK
            self._sets_back = None
        if self._raises is not None and call == self._raises[0]:
            error, self._raises = RAISED[self._raises[1]], None
            raise error

    # --- the course of it ---

    def play(self) -> Played:
        """Until the request is done. Fails if something waits without a timer, or goes on without an end."""
        with quick():
            self._submit()
            while not self.saga.is_finished:
                if self._commands:
                    self._command(self._commands.pop(0))
                elif self._settle():
                    continue
                elif self._callbacks:
                    self._failed_at = None
                    self._played.answers += 1
                    self._answer(self._callbacks.pop(0))
                else:
                    self._pass_time()
            self._loop.discard()
        return self._result()

    @property
    def saga(self) -> Saga:
        assert self._saga is not None
        return self._saga

    def _submit(self) -> None:
        known = Identifiers(
            (Identifier("email", ANNA), Identifier("ga_client_id", CLIENT_ID), Identifier("name", "Anna"))
        )
        request = Request(
            event_id="request",
            request_id=REQUEST,
            received_at=START,
            source="test",
            verified=True,
            scope=(self.system,),
            tenant=installation.TENANT if self.system == "tenant" else None,
            sealed_identifiers=seal(KEY, REQUEST, IDENTIFIERS, known.to_bytes()),
        )
        self._read(topics.REQUESTS, encode(request))

    def _command(self, delivery: Delivery) -> None:
        command = decode(delivery.value, Command)
        self._verb = command.verb
        self._played.commands[command.verb] += 1
        if self._call is not None and self._call.verb == command.verb:
            where: dict[str, Any] = {"vendor": self._call.vendor, "skip": self._skip}
            if self._call.vendor != "mail":
                where |= {"method": self._call.method, "path": self._call.pattern}
            for fault in self._faults:
                if fault["kind"] == CLOCK_BACK:
                    self._sets_back = self._call
                elif fault["kind"] in RAISED:
                    self._raises = self._call, fault["kind"]
                else:
                    self.sandbox.fault(**fault, **where)
            self._faults = ()
        if self._failed_at is not None:
            self._played.tried_again.append((self.clock(), self.clock() - self._failed_at))
            self._failed_at = None
        self._answer(delivery)

    def _answer(self, delivery: Delivery) -> None:
        for record in self._run(self._execution.carry_out(delivery)):
            assert topics.CONFIRMATIONS == record.topic, "a record was given up as a dead letter"
            self._read(record.topic, record.value)

    def _settle(self) -> bool:
        """The DPO has had mended what a person must mend, an hour later, and has it tried again."""
        for one in self.saga.escalations:
            if "retry" not in escalations.actions_for(one.reason):
                continue
            self._played.asked.append(f"{one.reason}: {one.code}")
            self.clock.advance_to(self.clock() + 3600 * SECOND)
            decided = Decided(
                event_id=f"decision-{len(self._played.asked)}",
                request_id=REQUEST,
                action="retry",
                escalation_id=one.id,
                escalation_version=one.version,
                reason="mended",
                decided_by="dpo",
                decided_at=self.wall(),
            )
            self._apply(decided)
            return True
        return False

    def _pass_time(self) -> None:
        wake_at, due_at = self.saga.wake_at, self.sandbox.store.next_due()
        assert wake_at is not None
        wake_at += self.wall.behind
        self.clock.advance_to(wake_at if due_at is None else min(wake_at, due_at))
        if due_at is not None and due_at <= self.clock():
            self._run(self.sandbox.tick())
        if wake_at <= self.clock():
            self._apply(TimerFired(event_id=f"timer-{self.saga.version}", request_id=REQUEST))

    # --- events ---

    def _read(self, topic: str, value: bytes) -> None:
        inbound = self._reader.read(_delivery(topic, value))
        event = inbound.event
        if event is None:
            raise AssertionError(f"nobody can read it: {inbound.dead}")
        if isinstance(event, Confirmed):
            if inbound.correlation is not None:
                system = self._correlations.get(inbound.correlation)
                if system is None:
                    return  # a vendor's event about a record that we don't know yet to have been erased
                event = replace(event, request_id=REQUEST, system=system)
            self._correlations |= dict.fromkeys(inbound.correlations, self.system)
        self._apply(event)
        if isinstance(event, Confirmed) and event.code == TOLD_TO_WAIT:
            self._played.waited[self._verb] += 1
        elif isinstance(event, Confirmed) and event.kind == "failed":
            self._played.failures.append(str(event.code))
            self._played.counted.append(self.saga.steps[0].failures)
            self._failed_at = self.clock()

    def _apply(self, event: Event) -> None:
        if event.event_id in self._seen:
            return
        self._seen.add(event.event_id)
        self._events += 1
        assert self._events <= self._most_events, "it goes round in circles"
        decision = decide(self._saga, event, self.wall(), rules())
        self._saga = decision.saga
        for sent in outgoing(decision, self.wall()):
            if sent.topic.startswith("erasure.commands."):
                self._commands.append(_delivery(sent.topic, sent.value))
        waiting = [] if self.saga.is_finished else waits(self.saga)
        unended = [step for step in self.saga.steps if not isinstance(step.state, Ended)]
        assert self.saga.is_finished or len(waiting) >= 1 + len(unended), "something waits without a timer"
        late = [what for what, until in waiting if not 0 < until < self.wall() + 400 * DAY]
        assert [] == late, "a timer will never fire"

    async def _deliver(self, method: str, url: str, body: bytes, sent: Mapping[str, str]) -> int:
        """What `radera serve` does with an agency's or a controller's answer."""
        match url.removeprefix(installation.PUBLIC).strip("/").split("/"):
            case ["callbacks", kind, token]:
                pass
            case ["answer", token]:
                kind = "recruitment"
            case ["callbacks", kind]:
                token = ""
            case _:
                return 404
        if method == "GET" or kind != self._kind:
            return 200
        if kind == "tenant":
            sent = {**sent, "X-OpenDSR-Signature": installation.signature(body)}
        content = {"token": token or None, "headers": dict(sent), "body": base64.b64encode(body).decode()}
        sealed = installation.keyring().seal_installation(CALLBACK_BODY, json.dumps(content).encode())
        callback = Callback(
            event_id=f"callback-{self._events}-{len(self._callbacks)}",
            kind=kind,
            system=self.system if token else None,
            received_at=self.wall(),
            sealed_body=sealed,
        )
        self._callbacks.append(_delivery(topics.callbacks(kind), encode(callback)))
        return 202

    # --- the rest ---

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs it to its end; time passes when it waits, and not otherwise."""
        task = self._loop.create_task(work)
        while not task.done():
            if self._loop.is_ready:
                self._loop.turn()
                continue
            due_at = self._loop.next_due_at()
            assert due_at is not None, "it waits for ever"
            self.clock.advance_to(due_at)
        return task.result()

    def _result(self) -> Played:
        played = self._played
        [played.step] = self.saga.steps
        state = played.step.state
        assert isinstance(state, Ended)
        played.took = state.at - START
        played.held = self._held(ANNA, CLIENT_ID)
        played.bystander = self._held(BEATA)
        for line in self.sandbox.ledger():
            if not line["repeated"] and line["vendor"] != "mail" and line["effect"] != "said_opened":
                played.effects[line["vendor"], line["effect"], str(line["record"])] += 1
        played.mails = [str(mail.message["Message-ID"]) for mail in self.mails]
        played.missed = [row["kind"] for row in self.sandbox.store.rows("faults")]
        played.missed += [fault["kind"] for fault in self._faults]
        played.missed += [CLOCK_BACK] if self._sets_back is not None else []
        played.missed += [] if self._raises is None else [self._raises[1]]
        self.sandbox.close()
        return played

    def _held(self, *identifiers: str) -> list[tuple[str, str, str]]:
        accounts = installation.VENDORS.get(self.system, (("agencies", "nord"),))
        return sorted(
            (line["kind"], line["record"], line["state"])
            for line in self.sandbox.holds(*identifiers)
            if (line["vendor"], line["account"]) in accounts
        )


class _Keys:
    """The request's one key."""

    def key_of(self, request_id: str) -> bytes:
        return KEY

    def keys_of(self, request_ids: object) -> Mapping[str, bytes]:
        return {}

    def insert(self, request_id: str, key: bytes) -> None:
        raise AssertionError("the key was made before the request")


async def _call(function: Any, *args: Any) -> None:
    function(*args)


def _delivery(topic: str, value: bytes) -> Delivery:
    return Delivery(topic=topic, key=REQUEST, value=value, headers=(), partition=0, offset=0, timestamp=START)
