"""Each call that each handler makes meets each fault, and the person is erased all the same.

The calls are not listed: they are those that a play without a fault makes. Each play is judged against that
one: the same end with the same proof, the same effects at the vendors and none of them twice, the attempt
that the fault cost and no other, and the wait that the vendor asked for. `Play` sees to it that nothing waits
without a timer, or for ever.
"""

import functools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from handlers.registry import find
from orchestrator.saga.steps import NOT_ASKED
from tests.contract.fault_bench import BACK, CLOCK_BACK, DAY, SECOND, SYSTEMS, Call, Play, Played, settings
from tests.simulation import installation

HOUR = 3600 * SECOND
ASKED = 600
"""Seconds, of a vendor's Retry-After."""
NOT_BEGUN = {"full_pool": 30, "dead_name_server": 60}
"""Seconds that are waited where nobody was asked."""
BACKOFF = 10 * SECOND
"""The longest wait after a first failure."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What strikes a call, and the code of the attempt that it costs, None where it costs none."""

    stated: Mapping[str, Any]
    code: str | None
    by_mail: tuple[str, str] | None = None
    """What a mail server does instead, and the code of that."""


FAULTS = {
    # A call has 30 seconds.
    "timeout_before_effect": Fault({"kind": "slow", "seconds": 40}, "timeout", ("reset", "mail_lost")),
    "lost_response_after_effect": Fault(
        {"kind": "lost_response"}, "connection_lost", ("lost_response", "mail_lost")
    ),
    "429_short": Fault({"kind": "429", "retry_after": ASKED}, "rate_limited", ("451", "mail_content")),
    "429_daily": Fault({"kind": "429", "policy": "DAILY"}, "daily_limit"),
    "500": Fault({"kind": "500"}, "vendor_error", ("554", "mail_refused_content")),
    "401_expired_token": Fault({"kind": "401"}, "credentials_refused"),
    "malformed_body": Fault({"kind": "malformed"}, "malformed_answer"),
    "slow": Fault({"kind": "slow", "seconds": 20}, None),
    "slow_connecting": Fault({"kind": "connecting", "seconds": 20}, None),
    "full_pool": Fault({"kind": "full"}, "no_free_connection"),
    "dead_name_server": Fault({"kind": "unresolved"}, "resolver_silent"),
    "clock_back": Fault({"kind": CLOCK_BACK}, None, (CLOCK_BACK, "")),
    **{
        f"raises_{name}": Fault({"kind": name}, code, (name, code))
        for name, code in {
            "exception": "handler_error",
            "panic": "handler_panic",
            "exit": "handler_panic",
            "cancellation": "handler_cancelled",
            "group": "handler_panic",
        }.items()
    },
}
#: When the day of those begins that have a daily limit, in UTC: in Stockholm, and in California.
MIDNIGHT = {"hubspot": 22 * HOUR, "google": 7 * HOUR}
#: What one fault may cost at most: a day's limit, or the DPO's hour.
LONGEST = DAY + HOUR

#: Where credentials are got. Refused here, nothing can be renewed: a person has to mend it.
LOGINS = ("/api/state/Cust12345", "/Login/api/PartnerSystemUser/Authenticate", "/token")
#: Who gives credentials that can be renewed.
RENEWED = ("superoffice", "google")
#: Where the controller is told. One that will not hear it undoes nothing of what was seen in its data.
TOLD = f"/{installation.TENANT}/v2/confirmations"


@functools.cache
def calm(system: str) -> Played:
    """The play without a fault."""
    return Play(system).play()


def meetings(system: str, name: str) -> Iterator[tuple[Call, dict[str, Any]]]:
    """The calls of a system's handler that this fault can befall, and how it does."""
    fault = FAULTS[name]
    for call in calm(system).calls:
        if call.vendor == "mail":
            if fault.by_mail is not None:
                yield call, {"kind": fault.by_mail[0]}
        elif name != "429_daily" or (call.vendor in MIDNIGHT and call.shape not in LOGINS):
            yield call, dict(fault.stated)


#: A fault that befalls none of a system's calls is no case: mail has no tokens, and few have a daily limit.
CASES = [
    pytest.param(system, name, id=f"{system}-{name}")
    for system in SYSTEMS
    for name in FAULTS
    if name != "429_daily" or system in ("hubspot", "analytics")
    if system != "agency_mail" or FAULTS[name].by_mail is not None
]


def cost(name: str, call: Call) -> list[str]:
    """The codes of the attempts that the fault costs."""
    fault = FAULTS[name]
    if call.vendor == "mail":
        return [] if fault.by_mail is None or not fault.by_mail[1] else [fault.by_mail[1]]
    if name == "401_expired_token" and (
        call.shape == TOLD or (call.vendor in RENEWED and call.shape not in LOGINS)
    ):
        return []
    return [] if fault.code is None else [fault.code]


def judged(name: str, call: Call, played: Played, system: str) -> dict[str, Any]:
    """What of a play is not as it must be, with what it must be."""
    known = calm(system)
    wrong: dict[str, Any] = {}

    def expect(what: str, expected: Any, actual: Any) -> None:
        if expected != actual:
            wrong[what] = (expected, actual)

    costs = cost(name, call)
    set_back = BACK if name == CLOCK_BACK else 0
    if name == "malformed_body" and not played.failures:
        # Of some answers nobody reads more than the status; then what was seen is judged below all the same.
        costs = []
    effects = known.effects
    if name == "401_expired_token" and call.shape == TOLD:
        effects = effects - Counter({key: 1 for key in effects if key[1] == "confirmation_received"})
    expect("every fault struck", [], played.missed)
    # Of what was seen by a clock before that of the deletion less is believed.
    weaker = (known.end[0], "vendor_promised", *known.end[2:]) if set_back else known.end
    expect("end", True, played.end in (known.end, weaker))
    expect("held", known.held, played.held)
    expect("bystander", known.bystander, played.bystander)
    expect("effects", effects, played.effects)
    expect("failures", costs, played.failures)
    # That nobody was asked is no attempt.
    expect("counted", [] if not costs else [costs[0] not in NOT_ASKED], played.counted)
    refused = [code for code in costs if code == "credentials_refused" or code.startswith("mail_refused")]
    expect("asked", [f"failed: {code}" for code in refused], played.asked)
    expect("took", True, known.took - set_back <= played.took <= known.took + LONGEST)
    for at, waited in played.tried_again:
        expect("waited", True, waits_as_told(name, call, at, waited, is_asked=bool(refused)))
    for verb in ("locate", "erase"):
        more = played.waited[verb] + (len(costs) if verb == call.verb else 0)
        expect(verb, known.commands[verb] + more, played.commands[verb])
    expect("attempts", played.commands.total(), played.step.attempt)
    # The one thing that is done twice: a mail whose taking the server had no time to confirm. It is known
    # for the same by its Message-ID.
    twice = call.vendor == "mail" and name == "lost_response_after_effect"
    expect("mails", len(known.mails) + twice, len(played.mails))
    expect("different mails", len(set(known.mails)), len(set(played.mails)))
    return wrong


def waits_as_told(name: str, call: Call, at: int, waited: int, *, is_asked: bool) -> bool:
    """Whether the next attempt came when it should: soon, but not before the time that was named; or as the
    DPO said.
    """
    if is_asked:
        return waited == HOUR
    if name == "429_short" and call.vendor != "mail":
        return 0 <= waited - ASKED * SECOND <= BACKOFF
    if name == "429_daily":
        # HubSpot tells its account's zone with the account; before that the installation's counts.
        return (at - MIDNIGHT[call.vendor]) % DAY <= BACKOFF
    if name in NOT_BEGUN and call.vendor != "mail":
        return 0 <= waited - NOT_BEGUN[name] * SECOND <= BACKOFF
    return 0 < waited <= BACKOFF


@pytest.mark.parametrize(("system", "name"), CASES)
def test_a_fault_at_any_call_changes_nothing_of_the_end(system: str, name: str) -> None:
    """Whichever call it befalls: the same end, the same proof, nothing twice, one attempt and a wait."""
    met = list(meetings(system, name))
    assert [] != met
    wrong = {
        str(call): found
        for call, fault in met
        if (found := judged(name, call, Play(system, call, fault).play(), system))
    }
    assert {} == wrong


#: Each ends a call, so that one waits for the other; with the code that it costs.
STORM: dict[str, tuple[dict[str, Any], str]] = {
    "reset": ({"kind": "reset"}, "connection_lost"),
    "429": ({"kind": "429", "retry_after": ASKED}, "rate_limited"),
    "lost": ({"kind": "lost_response"}, "connection_lost"),
    "500": ({"kind": "500"}, "vendor_error"),
    "malformed": ({"kind": "malformed"}, "malformed_answer"),
}


def counts_each(played: Played) -> bool:
    """Whether each failure was counted; a party's word in between makes a new beginning."""
    steps = list(zip([0, *played.counted], played.counted, strict=False))
    begun_anew = sum(now == 1 for before, now in steps if before)
    return begun_anew <= played.answers and all(now in (before + 1, 1) for before, now in steps)


@pytest.mark.parametrize("system", [system for system in SYSTEMS if system != "agency_mail"])
def test_one_fault_after_another_is_lived_through(system: str) -> None:
    """The last time that a verb makes a call, and each time after that, something else is wrong. Each costs
    an attempt, the step counts them, and the end is the same.
    """
    known = calm(system)
    codes = [code for _, code in STORM.values()]
    wrong = {}
    for call, times in known.calls.items():
        if call.vendor == "mail":
            continue
        played = Play(system, call, *(stated for stated, _ in STORM.values()), skip=times - 1).play()
        # Once the effect is there, the third fault's on, an erasing call may not be made again, and of other
        # calls the last answer may not matter.
        least = 3 if call.verb == "erase" else len(codes) - 1
        costs = codes[: max(len(played.failures), least)]
        expected: tuple[Any, ...] = (costs, True, [], known.end, known.held, known.bystander, known.effects)
        seen = (
            played.failures,
            counts_each(played),
            played.asked,
            played.end,
            played.held,
            played.bystander,
            played.effects,
        )
        if expected != seen:
            wrong[str(call)] = (expected, seen)
    assert {} == wrong


def test_a_reminder_is_the_same_request_again() -> None:
    """A controller that lets the first asking lie is asked again with the same words, by which it knows the
    request, and then instructs us.
    """
    play = Play("tenant")
    play.sandbox.seed(
        {"controllers": [{"tenant": installation.TENANT, "instruction": "erase", "ignores": 1}]}
    )
    played = play.play()
    assert calm("tenant").end == played.end
    assert calm("tenant").effects == played.effects
    assert calm("tenant").commands["locate"] + 1 == played.commands["locate"]
    assert [] == played.asked


def test_every_kind_of_handler_is_in_the_matrix() -> None:
    """A handler that is added to ours is met by faults, too."""
    assert set(find()) == {settings().systems[system].kind for system in SYSTEMS}
