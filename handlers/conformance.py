"""What the port asks of any handler, tried on one; for the tests of whoever writes it.

For handlers that look by themselves; one that asks a party has little in common with another.

A `Stage` is a stand-in for the vendor that holds one person, and the handler as configured for it. Each
trial has a stage of its own. `broken_promises` gives a sentence for everything that didn't hold:

* The person is found, erased, and seen to be gone, or seen to be on the way (`Pending`).
* The places are declared, with a title in each language. Each answer to `locate` and `prove` reports every
  one, and each place that is searched is searched by every identifier that was given. `prove` looks in all
  places in which `locate` looked, and by as much.
* A place is skipped for a reason that holds. `not_configured`: the stage leaves it out. `no_identifier`:
  nothing was given of what it is searched by. `not_searchable`, or a reason of the handler's own: it is
  declared to be searched by nothing.
* The same when the person gave further addresses, under which nothing is held, whichever comes first.
* The same with one fault at any one call, tried again as the saga does, and no effect more or less for it. So
  a list that can't be read is never taken for an empty one.
* What was erased can be erased again.
* A command that is too old, or credentials of another account, have no effect.
* Nothing raised, answered or shown names the person or a record.
* What nobody signed is refused, and nothing else is raised for it.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, Protocol, get_args

import httpx
from typing_extensions import override

from handlers.confirming import personal_to
from handlers.places import NO_IDENTIFIER, NOT_CONFIGURED, NOT_SEARCHABLE, DeclaredPlace
from handlers.port import CallbackBody, CallFailed, Expired, Permanent, Reference, Refused, Task
from handlers.registry import Handler
from handlers.results import Accepted, Located, Pending, Proved, Result, StillPresent
from orchestrator.http import Clients
from orchestrator.privacy import Identifier, Identifiers
from schemas.messages import Language, Place, Verb

REQUEST: Final = "0b7c8f5e-3f5d-4c7e-9a51-6f0c2d1e4a77"
HOUR: Final = 3600 * 1_000_000
FAULTS: Final = ("refused", "lost", "timeout", "401", "403", "404", "429", "500", "503", "page", "malformed")
"""Leave out "404" for a vendor that answers so when a look-up by address finds nobody, and test the rest by
yourself: that a list with 404 is `PlaceUnreadable`."""
RUBBISH: Final = (b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"a":', b"[" * 100_000)
TRIES: Final = 4
#: Further identifiers of a person's, by kind. Nothing is held under them.
_OTHERS: Final[Mapping[str, Callable[[str], Identifier]]] = {
    "email": lambda local: Identifier("email", f"{local}@conformance.example"),
    "customer_id": lambda local: Identifier("customer_id", f"{local}-conformance"),
    "tenant_user_id": lambda local: Identifier("tenant_user_id", f"{local}-conformance"),
}
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

    def __init__(
        self,
        stage: Stage,
        at: int = 0,
        fault: str = "",
        others: tuple[Identifier, ...] = (),
        left_out: Collection[str] = (),
    ) -> None:
        """`others` are further identifiers of the person's, under which nothing is held. `left_out` are the
        places that the stage's settings leave out.
        """
        self.left_out = left_out
        self.stage = stage
        self.identifiers = Identifiers((*stage.identifiers, *others))
        self.reports: dict[str, tuple[Place, ...]] = {}
        self.transport = _Faulty(stage, at, fault)
        self.handler = stage.handler(Clients(clock=stage.clock, steady=stage.clock, transport=self.transport))
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
            identifiers=self.identifiers,
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
        else:
            self.reports[verb] = result.places
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

    def unreported(self) -> list[str]:
        """What the reports of the places lack, after a play."""
        declared = {place.name: place for place in self.handler.places}
        if not declared:
            return ["no places are declared"]
        broken = [
            f"the stage leaves out {name}, which is not declared"
            for name in self.left_out
            if name not in declared
        ]
        for verb, report in self.reports.items():
            names = [place.name for place in report]
            broken += [f"{verb} doesn't report the place {name}" for name in declared if name not in names]
            broken += [
                f"{verb} reports {name}, which is not declared" for name in names if name not in declared
            ]
            broken += [
                f"{verb} searches the place {place.name} by {used} of {given} {kind}"
                for place in report
                if place.looked and place.name in declared
                for kind, given in self._given(declared[place.name])
                if (used := place.by.get(kind, 0)) < given
            ]
            known = [place for place in report if place.name in declared]
            broken += [
                f"{verb} looks in the place {place.name}, which the stage leaves out"
                for place in known
                if place.looked and place.name in self.left_out
            ]
            broken += [
                f"{verb} skips the place {place.name} {wrong}"
                for place in known
                if not place.looked and (wrong := self._unexcused(declared[place.name], place.reason))
            ]
        proof = {place.name: place for place in self.reports.get("prove", ()) if place.looked}
        for place in self.reports.get("locate", ()):
            again = proof.get(place.name)
            if place.looked and again is None:
                broken.append(f"prove doesn't look in the place {place.name}, where locate looked")
            elif (
                place.looked
                and again is not None
                and any(again.by.get(k, 0) < n for k, n in place.by.items())
            ):
                broken.append(f"prove searches the place {place.name} by less than locate did")
        return broken

    def _given(self, place: DeclaredPlace) -> list[tuple[str, int]]:
        """How many identifiers of each kind were given that the place can be searched by."""
        counts = Counter(str(one.kind) for one in self.identifiers)
        return [(kind, counts[kind]) for kind in sorted(place.by) if counts[kind]]

    def _unexcused(self, place: DeclaredPlace, reason: str | None) -> str:
        """Return why a place may not be skipped for this reason; empty where it may."""
        by = ", ".join(sorted(place.by))
        given = ", ".join(f"{count} {kind}" for kind, count in self._given(place))
        wrong = {
            NOT_CONFIGURED: "and the stage doesn't leave it out" * (place.name not in self.left_out),
            NO_IDENTIFIER: f"and {given} was given" if given else "and declares none" * (not by),
            NOT_SEARCHABLE: f"and declares that it is by {by}" if by else "",
        }
        why = wrong.get(reason or "", f"and is searched by {by}" if by else "")
        return f"as {reason}, {why}" if why else ""

    def leaks(self) -> list[str]:
        """Whether anything that was said names the person or a record."""
        is_personal = personal_to(self.identifiers, self.references)
        return ["something that was said names the person or a record"] * any(map(is_personal, self.said))


async def broken_promises(
    stage: Callable[[], Stage], faults: Iterable[str] = FAULTS, left_out: Collection[str] = ()
) -> list[str]:
    """Return everything that didn't hold; empty when all is well.

    `stage` makes a new stage each time. `left_out` names the places that its settings leave out: these alone
    may be skipped as `not_configured`.
    """
    calm = _Trial(stage(), left_out=left_out)
    broken = [f"without a fault: {one}" for one in await calm.play()]
    if broken:
        return broken
    effects = sorted(calm.stage.effects())
    if not effects:
        return ["without a fault: nothing was taken away"]
    broken += _untitled(calm.handler.places) + calm.unreported()
    broken += await _by_each_address(stage, effects, left_out)
    if broken:
        return broken
    for fault in faults:
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


def _untitled(places: Iterable[DeclaredPlace]) -> list[str]:
    return [
        f"the place {place.name} has no title in {language}"
        for place in places
        for language in get_args(Language)
        if not place.title.get(language, "").strip()
    ]


async def _by_each_address(
    stage: Callable[[], Stage], effects: list[str], left_out: Collection[str]
) -> list[str]:
    """With further addresses of the person's: found under theirs, whichever comes first."""
    broken: list[str] = []
    for where, local in (("before", "0"), ("after", "zz")):
        kinds = {one.kind for one in stage().identifiers}
        others = tuple(_OTHERS[kind](local) for kind in sorted(kinds & _OTHERS.keys()))
        if not others:
            continue
        trial = _Trial(stage(), others=others, left_out=left_out)
        found = [*await trial.play(), *trial.unreported()]
        if sorted(trial.stage.effects()) != effects:
            found.append("other effects than without them: is each identifier searched by?")
        broken += [f"with identifiers {where} the person's: {one}" for one in found]
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
