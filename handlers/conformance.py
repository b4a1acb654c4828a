"""What the port asks of any handler, tried on one; for the tests of whoever writes it.

For handlers that look by themselves; one that asks a party has little in common with another.

A `Stage` is a stand-in for the vendor that holds one person, and the handler as configured for it. Each
trial has a stage of its own. `broken_promises` gives a sentence for everything that didn't hold:

* The person is found, erased, and seen to be gone, or seen to be on the way (`Pending`).
* The same with one fault at any one call, tried again as the saga does, and no effect more or less for it.
* What was erased can be erased again.
* A command that is too old, or credentials of another account, have no effect.
* Nothing raised, answered or shown names the person or a record.
* What nobody signed is refused, and nothing else is raised for it.
"""

from collections.abc import Callable, Iterable
from typing import Final, Protocol

import httpx
from typing_extensions import override

from handlers.confirming import personal_to
from handlers.port import CallbackBody, CallFailed, Expired, Permanent, Reference, Refused, Task
from handlers.registry import Handler
from handlers.results import Accepted, Located, Pending, Proved, Result, StillPresent
from orchestrator.http import Clients
from orchestrator.privacy import Identifiers
from schemas.messages import Verb

REQUEST: Final = "0b7c8f5e-3f5d-4c7e-9a51-6f0c2d1e4a77"
HOUR: Final = 3600 * 1_000_000
FAULTS: Final = ("refused", "lost", "timeout", "401", "429", "500", "503", "page", "malformed")
RUBBISH: Final = (b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"a":', b"[" * 100_000)
TRIES: Final = 4
_ENDS: Final[dict[Verb, tuple[type[Result], ...]]] = {
    "locate": (Located,),
    "erase": (Accepted,),
    "prove": (Proved, Pending),
}


class Stage(Protocol):
    """One vendor's stand-in with one person, and the handler for it."""

    @property
    def identifiers(self) -> Identifiers:
        """The person's, as a request has them."""
        ...

    @property
    def transport(self) -> httpx.AsyncBaseTransport:
        """The way to the stand-in."""
        ...

    def clock(self) -> int:
        """The time, in microseconds."""
        ...

    def handler(self, clients: Clients) -> Handler:
        """The handler, configured for the stand-in, with the clients that it must use."""
        ...

    def effects(self) -> list[str]:
        """What was taken away so far, a line each; what was gone already is none."""
        ...

    def change_account(self) -> None:
        """From now on the credentials are another account's."""
        ...


class _Faulty(httpx.AsyncBaseTransport):
    """Counts the calls, and has one of them meet a fault."""

    def __init__(self, stage: Stage, at: int, fault: str) -> None:
        self._inner, self._at, self._fault = stage.transport, at, fault
        self.calls = 0

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        fault = self._fault if self.calls == self._at else ""
        if fault == "refused":
            raise httpx.ConnectError("refused", request=request)
        if fault == "timeout":
            raise httpx.ReadTimeout("timeout", request=request)
        if fault == "page":
            return httpx.Response(200, html="<html>Down for maintenance</html>", request=request)
        if fault.isdigit():
            return httpx.Response(int(fault), json={"message": "fault"}, request=request)
        response = await self._inner.handle_async_request(request)
        if fault == "lost":
            raise httpx.ReadError("lost", request=request)
        if fault == "malformed":
            body = await response.aread()
            return httpx.Response(response.status_code, content=body[: len(body) // 2], request=request)
        return response


class _Trial:
    """One stage, played as the saga would."""

    def __init__(self, stage: Stage, at: int = 0, fault: str = "") -> None:
        self.stage = stage
        self.transport = _Faulty(stage, at, fault)
        self.handler = stage.handler(Clients(clock=stage.clock, transport=self.transport))
        self.references: tuple[Reference, ...] = ()
        self.said: list[str] = []
        self.erased_at: int | None = None

    def task(self, verb: Verb, *, life: int = HOUR) -> Task:
        now = self.stage.clock()
        return Task(
            request_id=REQUEST,
            system="conformance",
            verb=verb,
            attempt=1,
            identifiers=self.stage.identifiers,
            references=self.references,
            issued_at=now,
            not_after=now + life,
            clock=self.stage.clock,
            erased_at=self.erased_at,
            accepted_at=self.erased_at,
        )

    async def once(self, verb: Verb, *, life: int = HOUR) -> Result:
        """One command; what it says is kept, to be read."""
        ask = {"locate": self.handler.locate, "erase": self.handler.erase, "prove": self.handler.prove}[verb]
        try:
            result = await ask(self.task(verb, life=life))
        except Exception as error:
            self.said.append(f"{error!r} {error}")
            raise
        self.said += [repr(result), *result.evidence.values()]
        if verb not in result.answers:
            raise AssertionError(f"{type(result).__name__} does not answer {verb}")
        if verb == "erase":
            self.erased_at = self.stage.clock()
        self.references = (*self.references, *(r for r in result.references if r not in self.references))
        return result

    async def tried(self, verb: Verb) -> Result:
        """One command after another, until it is answered."""
        for _ in range(TRIES - 1):
            try:
                return await self.once(verb)
            except CallFailed:
                continue
        return await self.once(verb)

    async def play(self) -> Iterable[str]:
        """The whole of it; what didn't come as it should."""
        verbs: list[Verb] = ["locate", "erase", "prove"]
        again = TRIES
        while verbs:
            verb = verbs.pop(0)
            try:
                result = await self.tried(verb)
            except Exception as error:
                return [f"{verb} raised {type(error).__name__} ({getattr(error, 'code', 'no code')})"]
            if isinstance(result, StillPresent) and again:
                # A vendor that took the call and did nothing: the saga erases once more.
                again -= 1
                verbs = ["erase", "prove"]
            elif not isinstance(result, _ENDS[verb]):
                return [f"{verb} answered {type(result).__name__} instead of {_ENDS[verb][0].__name__}"]
        return self.leaks()

    def leaks(self) -> list[str]:
        """Whether anything that was said names the person or a record."""
        is_personal = personal_to(self.stage.identifiers, self.references)
        return ["something that was said names the person or a record"] * any(map(is_personal, self.said))


async def broken_promises(stage: Callable[[], Stage]) -> list[str]:
    """Everything that didn't hold; `stage` makes a new one each time. Empty when all is well."""
    calm = _Trial(stage())
    broken = [f"without a fault: {one}" for one in await calm.play()]
    if broken:
        return broken
    effects = sorted(calm.stage.effects())
    if not effects:
        return ["without a fault: nothing was taken away"]
    for fault in FAULTS:
        for at in range(1, calm.transport.calls + 1):
            trial = _Trial(stage(), at, fault)
            where = f"{fault} at call {at}"
            broken += [f"{where}: {one}" for one in await trial.play()]
            if sorted(trial.stage.effects()) != effects:
                broken.append(f"{where}: other effects than without it")
    broken += await _repeated(_Trial(stage()), effects)
    broken += await _too_old(_Trial(stage()))
    for verb in ("locate", "erase", "prove"):
        broken += await _elsewhere(_Trial(stage()), verb)
    broken += await _rubbish(_Trial(stage()))
    return broken


async def _repeated(trial: _Trial, effects: list[str]) -> list[str]:
    await trial.tried("locate")
    first = await trial.tried("erase")
    try:
        second = await trial.tried("erase")
    except Exception as error:
        return [f"a repeated erase raised {type(error).__name__}"]
    if not (isinstance(first, Accepted) and isinstance(second, Accepted) and first.erased == second.erased):
        return ["a repeated erase doesn't count what is gone as erased"]
    return ["a repeated erase has other effects"] * (sorted(trial.stage.effects()) != effects)


async def _too_old(trial: _Trial) -> list[str]:
    await trial.tried("locate")
    try:
        await trial.once("erase", life=-1)
    except Expired:
        return ["a command that is too old has effects"] * bool(trial.stage.effects())
    except Exception as error:
        return [f"a command that is too old raised {type(error).__name__} instead of Expired"]
    return ["a command that is too old was carried out: use Client.erase_call"]


async def _elsewhere(trial: _Trial, verb: Verb) -> list[str]:
    await trial.tried("locate")
    trial.stage.change_account()
    try:
        result = await trial.once(verb)
    except Permanent:
        effects = bool(trial.stage.effects())
        return [f"{verb} with another account's credentials has effects"] * effects + trial.leaks()
    except Exception as error:
        return [f"{verb} with another account's credentials raised {type(error).__name__}, not Permanent"]
    return [f"{verb} with another account's credentials answered {type(result).__name__}"]


async def _rubbish(trial: _Trial) -> list[str]:
    broken = []
    for token in (None, "rubbish"):
        for body in RUBBISH:
            callback = CallbackBody(token=token, headers={}, body=body, received_at=trial.stage.clock())
            try:
                await trial.handler.receive(callback)
            except Refused:
                continue
            except Exception as error:
                broken.append(f"receive raised {type(error).__name__} for rubbish instead of Refused")
            else:
                broken.append("receive believed rubbish that nobody signed")
    return broken
