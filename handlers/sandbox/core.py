"""The sandbox: all stand-ins behind one door, with faults, a ledger and a clock of the caller's.

No network and no wall clock in here. It may be used from several threads. The first segment of a path
names the vendor. A request meets, in this order: what is due by the clock (purges), faults that come
before the effect, the stand-in, the commit to disk, faults that come after the effect.

What speaks to the world (webhooks, callbacks, agencies' answers) waits for `tick()`: see `courier`.
"""

import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import httpx

from handlers.sandbox.agencies import Mailroom
from handlers.sandbox.controllers import Controllers
from handlers.sandbox.courier import Courier, Deliver
from handlers.sandbox.events import TABLES, Event, Events
from handlers.sandbox.faults import Fault, Faults
from handlers.sandbox.google import Google
from handlers.sandbox.holdings import held
from handlers.sandbox.hubspot import HubSpot
from handlers.sandbox.seeding import Ids, plant
from handlers.sandbox.seeds import Seed
from handlers.sandbox.signing import public_pem, signing_key
from handlers.sandbox.store import Row, Store
from handlers.sandbox.superoffice import SuperOffice
from handlers.sandbox.superoffice_login import Login
from handlers.sandbox.teamtailor import Teamtailor
from handlers.sandbox.tenants import Tenants
from handlers.sandbox.web import Call, Refusal, Reply, document
from orchestrator.http import NotAsked, about_to_send
from orchestrator.http.errors import RESOLVER_SILENT


class Sandbox:
    """Stand-ins for all vendors. With a directory every change is on disk before its answer leaves.

    Limits of so many calls in a second go by `monotonic`, where `clock` stands still between them.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        clock: Callable[[], int],
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        deliver: Deliver | None = None,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        self.store = Store(directory)
        self.clock = clock
        self.deliver = deliver
        self._sleep = sleep
        self._lock = threading.RLock()
        self._key = signing_key(directory)
        self._courier = Courier(self.store, self._lock, clock)
        self._faults = Faults(self.store)
        self._superoffice = SuperOffice(self.store, Login(self.store, self._key))
        self._hubspot = HubSpot(self.store, monotonic or (lambda: clock() / 1_000_000))
        self._google = Google(self.store)
        self._teamtailor = Teamtailor(self.store)
        self._controllers = Controllers(self.store, self._key)
        self._mailroom = Mailroom(
            self.store, self._teamtailor, None if directory is None else directory / "mail"
        )
        self._vendors: dict[str, Callable[[Call], Reply]] = {
            "superoffice": self._superoffice.answer,
            "hubspot": self._hubspot.answer,
            "google": self._google.answer,
            "teamtailor": self._teamtailor.answer,
            "controllers": self._controllers.answer,
            "tenant-api": Tenants(self.store).answer,
        }
        self._events = Events(
            self.store,
            self._superoffice.delete_as_colleague,
            lambda seed, now: plant(self.store, seed, now),
        )
        #: How far each vendor's clock is ahead of ours, in microseconds, as its times show.
        self.skew: dict[str, int] = {}
        if self.store.get("superoffice.account", "Cust12345") is None:
            self.seed({"superoffice": {}, "hubspot": {}, "google": {}, "teamtailor": {}})

    # --- what a test or an operator does

    def seed(self, seed: Seed | Mapping[str, Any]) -> Ids:
        """Adds accounts and people; returns the ids of the records made, by table."""
        stated = seed if isinstance(seed, Seed) else Seed.model_validate(seed)
        with self._lock:
            ids = plant(self.store, stated, self.clock())
            self.store.commit()
        return ids

    def fault(self, kind: str, **match: Any) -> str:
        """Switches a fault on (see `faults.Fault`) and returns its number."""
        stated = Fault.model_validate({"kind": kind, **match})
        with self._lock:
            number = self._faults.add(stated)
            self.store.commit()
        return number

    def happens(self, what: str, **details: Any) -> None:
        """Has something happen at a vendor, now: see `events`."""
        with self._lock:
            self._events.happen(Event.model_validate({"what": what, **details}), self.clock())
            self.store.commit()

    def clear_faults(self) -> None:
        with self._lock:
            self._faults.clear()
            self.store.commit()

    def ledger(self, **equal: Any) -> list[Row]:
        """Every effect so far, oldest first; keywords pick lines, such as `vendor="hubspot"`."""
        self._run_due()
        return [
            line
            for line in self.store.ledger()
            if all(line.get(name) == value for name, value in equal.items())
        ]

    def holds(self, *identifiers: str, email: str | None = None) -> list[Row]:
        """What the vendors hold of the person known by any of these identifiers: see `holdings`."""
        self._run_due()
        return held(self.store, [*identifiers, *([email] if email else [])])

    def holds_person(self, identifiers: Mapping[str, Any]) -> list[Row]:
        """`holds` for identifiers given by kind: {"email": "a@example.com", "ga_client_id": ["1.2"]}."""
        values = [value if isinstance(value, list | tuple) else [value] for value in identifiers.values()]
        return self.holds(*(str(text) for several in values for text in several))

    def accept_mail(self, message: bytes, recipients: list[str] | None = None) -> None:
        """A mail arrives, without SMTP."""
        with self._lock:
            self._mailroom.accept(message, self.clock(), recipients)
            self.store.commit()

    def mail(self) -> list[bytes]:
        return self._mailroom.messages()

    def strike_mail(self) -> list[Row]:
        """The faults that the mail now arriving meets."""
        with self._lock:
            struck = self._faults.strike("mail", "DATA", "/")
            self.store.commit()
        return struck

    def pending(self) -> list[Row]:
        """What is still to be done or delivered, soonest first."""
        return sorted(self.store.rows("jobs"), key=lambda job: (job["due_at"], job["id"]))

    def public_key(self) -> str:
        """The PEM of the key that signs SuperOffice's JWTs here."""
        return public_pem(self._key)

    def close(self) -> None:
        with self._lock:
            self.store.close()

    def _commit(self) -> None:
        with self._lock:
            self.store.commit()

    # --- time

    def _run_due(self) -> None:
        with self._lock:
            self._run_due_locked()

    def _run_due_locked(self) -> None:
        now = self.clock()
        while (job := self.store.take(now, network=False)) is not None:
            at = job["due_at"]
            match job["what"]:
                case "superoffice.purge":
                    self._superoffice.purge(job["person"], at)
                case "superoffice.purge_ticket":
                    self._superoffice.purge_ticket(job["ticket"], at)
                case "hubspot.purge":
                    self._hubspot.purge(job["contact"], at)
                case "hubspot.recreate":
                    self._hubspot.recreate(job["email"], job["account"], at)
                case "google.purge":
                    self._google.purge(job["visitor"], at)
                case "controller.decide":
                    self._controllers.decide(job["tenant"], job["request"], at)
                case "agency.answer":
                    self._mailroom.answer(job["agency"], job["link"], job["meant"], at)
                case what:
                    raise ValueError(f"no such job: {what}")
            self.store.done(job)
        self.store.commit()

    async def tick(self) -> int:
        """Does what is due, deliveries included; returns how many deliveries were made."""
        self._run_due()
        made = 0
        while self.deliver is not None and (job := self.store.take(self.clock(), network=True)) is not None:
            made += await self._courier.send(self.deliver, job)
        return made

    # --- requests

    async def handle(self, request: httpx.Request) -> httpx.Response:
        """Answers one request, or raises httpx's own error where a fault says that the connection breaks."""
        await request.aread()
        call = Call.of(request, self.clock())
        call.skew = self.skew.get(call.vendor, 0)
        if call.vendor not in self._vendors:
            return _response(
                document(404, {"error": "the first segment of the path names no vendor of this sandbox"}),
                request,
            )
        with self._lock:
            self._run_due()
            struck = self._faults.strike(call.vendor, call.method, call.path)
        await self._connect(struck, request)
        reply = await self._before(call, struck, request)
        with self._lock:
            if reply is None:
                call.now = self.clock()
                contacts = self._faulted_contacts(call, struck)
                reply = self._answer(call)
                self._after_effect(call, struck, contacts, reply)
            self.store.commit()
        for fault in struck:
            if fault["kind"] == "slow" and fault["after_effect"]:
                await self._sleep(fault["seconds"])
            elif fault["kind"] == "lost_response":
                raise httpx.ReadError("the connection broke before the answer", request=request)
            elif fault["kind"] == "malformed":
                reply = Reply(reply.status, reply.body[: len(reply.body) // 2] or b"{", reply.headers)
        return _response(reply, request)

    async def _connect(self, struck: list[Row], request: httpx.Request) -> None:
        """Let pass what passes before a call leaves. It may not leave any more by then."""
        for fault in struck:
            if fault["kind"] == "connecting":
                await self._sleep(fault["seconds"])
            elif fault["kind"] == "full":
                self._commit()
                raise httpx.PoolTimeout("no connection is free", request=request)
            elif fault["kind"] == "unresolved":
                self._commit()
                raise NotAsked(RESOLVER_SILENT, 60_000_000)
        await about_to_send(request)

    async def _before(self, call: Call, struck: list[Row], request: httpx.Request) -> Reply | None:
        for fault in struck:
            kind = fault["kind"]
            if kind == "slow" and not fault["after_effect"]:
                await self._sleep(fault["seconds"])
            elif kind == "wrong_account":
                call.elsewhere = True
            elif kind == "no_rights":
                call.blind = True
            elif kind == "ignores_filter":
                call.unfiltered = True
            elif kind == "ageless":
                call.ageless = True
            elif kind == "reset":
                self._commit()
                raise httpx.ReadError("the connection broke", request=request)
            elif kind == "refused":
                self._commit()
                raise httpx.ConnectError("the connection was refused", request=request)
            elif kind.isdigit():
                return self._faults.answer(call, fault)
        return None

    def _answer(self, call: Call) -> Reply:
        try:
            return self._vendors[call.vendor](call)
        except Refusal as refusal:
            return refusal.reply

    def _faulted_contacts(self, call: Call, struck: list[Row]) -> dict[str, Row]:
        if not any(fault["kind"] == "recreate" for fault in struck):
            return {}
        return {row["id"]: row for row in self.store.rows("hubspot.contact")}

    def _after_effect(self, call: Call, struck: list[Row], contacts: dict[str, Row], reply: Reply) -> None:
        for fault in struck:
            if fault["kind"] == "recreate" and reply.status < 300:
                due_at = call.now + int(fault["seconds"] * 1_000_000)
                for key, row in contacts.items():
                    if self.store.get("hubspot.contact", key) is None:
                        details = {"email": row["email"], "account": row["account"]}
                        self.store.later(due_at, "hubspot.recreate", **details)
            elif fault["kind"] == "rename" and call.vendor in TABLES:
                details = {"vendor": call.vendor, "record": fault["record"], "email": fault["email"]}
                self._events.happen(Event.model_validate({"what": "renamed", **details}), call.now)
            elif fault["kind"] == "happens":
                self._events.happen(Event.model_validate(fault["event"]), call.now)

    def transport(self) -> httpx.AsyncBaseTransport:
        """For `httpx.AsyncClient(transport=…)`: the same stand-ins without a network."""
        return _Transport(self)


class _Transport(httpx.AsyncBaseTransport):
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._sandbox.handle(request)


def _response(reply: Reply, request: httpx.Request) -> httpx.Response:
    return httpx.Response(reply.status, headers=reply.headers, content=reply.body, request=request)
