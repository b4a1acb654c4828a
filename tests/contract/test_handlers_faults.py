"""The fault matrix: each call of a whole erasure, met by each fault, ends as it does without.

The calls are not listed here. One erasure without faults is watched, and each kind of call that it made is
met by each kind of fault in an erasure of its own. The test plays the saga's part: it tries again after a
failure that may pass, as long as it was told to wait, and asks again (as the DPO would have it) after one
that may not.

The whole matrix is played under CI. Elsewhere each call meets a quarter of the faults, and each fault a
quarter of the calls.
"""

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typing_extensions import override

from handlers.port import Permanent, Reference, Retryable
from handlers.results import CannotLook, Located, Pending, Proved, StillPresent
from orchestrator.http import Clients
from orchestrator.privacy import Identifier
from tests.contract.handlers_bench import ANNA, DAY, Bench

pytestmark = pytest.mark.anyio
CLIENT = Identifier("ga_client_id", "1234567890.1699999999")
CONTROL = "control@example.com"
VENDORS = ("superoffice", "hubspot", "google")
MOST_FAILURES = 6
#: How each is stated, and whether the handler may ask for a person because of it.
FAULTS: dict[str, dict[str, Any]] = {
    "broken before the effect": {"kind": "reset"},
    "lost after the effect": {"kind": "lost_response"},
    "429": {"kind": "429", "retry_after": 7},
    "429 for the day": {"kind": "429", "policy": "DAILY"},
    "500": {"kind": "500"},
    "503": {"kind": "503", "retry_after": 60},
    "token expired": {"kind": "401"},
    "malformed": {"kind": "malformed"},
    "slow": {"kind": "slow", "seconds": 20.0},
    "slow after the effect": {"kind": "slow", "seconds": 20.0, "after_effect": True},
}
#: What may still be held when an erasure has ended: the vendor's own copies until its purge.
ENDED = {"purging", "submitted"}
#: Vendors that bear a repeat, and note it as one.
BORNE = {"unsubscribed", "consent_removed", "deletion_submitted"}


SHARE = 1 if os.environ.get("CI") else 4


class Watched(httpx.AsyncBaseTransport):
    """Notes the kinds of calls: method, and path with all numbers left open."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.kinds: dict[tuple[str, str], None] = {}
        self._inner = inner

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = re.escape(request.url.path.partition("/")[2].partition("/")[2])
        open_ = re.sub(r"(?<=/)\d+(?=/|$|:)", r"\\d+", path)
        self.kinds[request.method, f"^/{open_}$"] = None
        return await self._inner.handle_async_request(request)


def made(folder: Path, vendor: str) -> tuple[Bench, Any, tuple[Identifier, ...]]:
    """A bench with Anna and a control record at the vendor, its handler, and what she is known by."""
    bench = Bench(folder)
    control = {"email": CONTROL}
    match vendor:
        case "superoffice":
            anna = {"email": ANNA, "tickets": 1, "form_submissions": 1, "consents": ["EMARKETING"]}
            bench.sandbox.seed({vendor: {"persons": [anna, control]}})
            return bench, bench.superoffice(control_email=CONTROL), (Identifier("email", ANNA),)
        case "hubspot":
            bench.sandbox.seed({vendor: {"contacts": [{"email": ANNA}, control]}})
            bench.clock.pass_seconds(60)
            return bench, bench.hubspot(control_email=CONTROL), (Identifier("email", ANNA),)
        case _:
            bench.sandbox.seed({vendor: {"visitors": [{"client_id": CLIENT.value, "email": ANNA}]}})
            return bench, bench.google(), (CLIENT,)


class Saga:
    """The saga's part, in short; it counts what it took."""

    def __init__(self, bench: Bench, handler: Any, known: tuple[Identifier, ...]) -> None:
        self.failures: list[str] = []
        self.waited = 0
        self._bench = bench
        self._handler = handler
        self._known = known

    async def _verb(self, name: Any, **more: Any) -> Any:
        while True:
            try:
                return await getattr(self._handler, name)(self._bench.task(name, *self._known, **more))
            except Retryable as error:
                wait = 10_000_000 if error.retry_after is None else error.retry_after
                self.failures.append(error.code)
            except Permanent as error:
                wait = 0
                self.failures.append(f"asks: {error.code}")
            assert len(self.failures) <= MOST_FAILURES, self.failures
            self.waited += wait
            self._bench.clock.now += wait

    async def carry_out(self) -> Proved:
        bench = self._bench
        located = await self._verb("locate")
        assert isinstance(located, Located | CannotLook)
        references: tuple[Reference, ...] = located.references
        references += (await self._verb("erase", references=references)).references
        erased_at = bench.clock()
        for _ in range(10):
            more = {"references": references, "erased_at": erased_at, "accepted_at": erased_at}
            result = await self._verb("prove", **more)
            if isinstance(result, Proved):
                return result
            assert isinstance(result, Pending | StillPresent)
            references += result.references
            if isinstance(result, Pending):
                bench.clock.now = max(bench.clock.now, result.look_again_at)
            else:
                await self._verb("erase", references=references)
        raise AssertionError("the proof never comes to an end")


async def calls_of(folder: Path, vendor: str) -> list[tuple[str, str]]:
    """The kinds of calls of an erasure without faults."""
    bench, _, known = made(folder, vendor)
    watched = Watched(bench.sandbox.transport())
    bench.clients = Clients(clock=bench.clock, transport=watched)
    options = {} if vendor == "google" else {"control_email": CONTROL}
    make: Callable[..., Any] = getattr(bench, vendor)
    await Saga(bench, make(**options), known).carry_out()
    return list(watched.kinds)


@pytest.mark.parametrize("vendor", VENDORS)
async def test_an_erasure_makes_every_call_that_the_vendor_has_for_it(tmp_path: Path, vendor: str) -> None:
    """What is not called is not in the matrix."""
    least = {"superoffice": 16, "hubspot": 6, "google": 3}
    assert least[vendor] <= len(await calls_of(tmp_path, vendor))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("vendor", VENDORS)
async def test_whichever_call_fails_the_person_is_gone_in_the_end(
    tmp_path: Path, vendor: str, fault: str
) -> None:
    """Nothing is left, nothing is done twice that a vendor can't bear twice, and nothing waits for ever."""
    turn = list(FAULTS).index(fault)
    calls = await calls_of(tmp_path, vendor)
    for method, path in calls[turn % SHARE :: SHARE]:
        bench, handler, known = made(tmp_path, vendor)
        bench.sandbox.fault(vendor=vendor, method=method, path=path, **FAULTS[fault])
        saga = Saga(bench, handler, known)
        proved = await saga.carry_out()
        about = f"{fault} at {method} {path}: {saga.failures}"

        assert "erased" == proved.end, about
        left = [line for line in bench.sandbox.holds(ANNA) if line["state"] not in ENDED]
        assert [] == left, about
        effects = Counter((one["record"], one["effect"]) for one in bench.sandbox.ledger())
        twice = [effect for (_, effect), count in effects.items() if count > 1 and effect not in BORNE]
        assert [] == twice, about
        assert saga.waited <= 2 * DAY, about
        # Only credentials that can't be renewed are for a person to mend.
        asked = [one for one in saga.failures if one.startswith("asks")]
        assert [] == asked or (fault == "token expired" and {"asks: credentials_refused"} == set(asked)), (
            about
        )
