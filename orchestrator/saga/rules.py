"""What an installation decides about its sagas: its systems, their order, how long to wait, how to retry.

The shell builds one `Rules` from the settings and hands it to every call of `decide`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

from orchestrator.saga.clocks import DAY, SECOND, Calendar

HOUR = 3600 * SECOND
MINUTE = 60 * SECOND
LONGEST_RETRY_AFTER = 7 * DAY
_PLACE = re.compile(r"[1-9][0-9]*_of_[1-9][0-9]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemPlan:
    """One configured system.

    `after`: systems that must be accepted or ended first. `look_again`: when to prove, as offsets from the
    acceptance; each must pass. `patience`: how long after the acceptance a proof may stay pending before
    the DPO is asked. `tenant`: the controller whose data it is. `refusal_ends`: the party is a controller,
    so nothing is erased without its instruction and its refusal is an end; another party's refusal
    escalates. `holds_nothing`: why it holds nothing identifiable. `asks_subject`: a missing identifier is
    asked for first.
    """

    name: str
    kind: str
    after: tuple[str, ...] = ()
    look_again: tuple[int, ...] = (0,)
    patience: int = 60 * DAY
    tenant: str | None = None
    refusal_ends: bool = False
    holds_nothing: str | None = None
    asks_subject: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Exponential back-off with full jitter.

    Source: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015: the wait is drawn
    evenly between nothing and the exponential bound.
    """

    first: int = 10 * SECOND
    cap: int = 6 * HOUR
    max_attempts: int = 8

    def is_spent(self, failures: int) -> bool:
        """Whether `failures` in a row were the last attempt."""
        return failures >= self.max_attempts

    def delay(self, failures: int, random: float, retry_after: int | None) -> int:
        """Return the micros to wait after the `failures`-th failure (1 or more): what the vendor asked for by
        Retry-After, and then the back-off. A vendor that says "at once" each time is not asked at once.

        At most a week of both: a vendor that names a year would otherwise hold the step without anybody being
        asked.
        """
        bound = min(self.cap, self.first * 2 ** min(failures - 1, 40))
        backoff = int(bound * random)
        told = min(retry_after or 0, LONGEST_RETRY_AFTER)
        return max(backoff, min(told + backoff, LONGEST_RETRY_AFTER))


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """How long things may wait, in micros. `max_reminders` is a count; `max_reopened` too."""

    command_lifetime: int = 12 * HOUR
    call_limit: int = 2 * MINUTE
    silence_alarm: int = 24 * HOUR
    circuit_alarm: int = 24 * HOUR
    party_reminder: int = 7 * DAY
    max_reminders: int = 2
    max_reopened: int = 3
    subject_answer: int = 14 * DAY
    decision_reminder: int = 3 * DAY
    deadline_warning: int = 7 * DAY
    notice_alarm: int = 1 * DAY
    review: int = 7 * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Everything `decide` needs to know about the installation."""

    calendar: Calendar
    systems: Mapping[str, SystemPlan]
    retry: Retry = field(default_factory=Retry)
    waits: Waits = field(default_factory=Waits)
    notify_subject: bool = True

    def __post_init__(self) -> None:
        """Raises graphlib.CycleError: systems that wait for each other would wait for ever."""
        TopologicalSorter({name: plan.after for name, plan in self.systems.items()}).prepare()

    def scope_of(self, scope: tuple[str, ...] | None, capacity: str, tenant: str | None) -> tuple[str, ...]:
        """The systems a request reaches.

        A tenant's data belongs to its controller (Art. 28): it is in scope when named, or when the request
        comes from or for that tenant. A processor request reaches that tenant's systems and no others. What
        else its controller named is in it by its place in the list, and never by the controller's own words.
        """
        if capacity == "processor":
            own = [
                name for name, plan in self.systems.items() if tenant is not None and plan.tenant == tenant
            ]
            if scope is None:
                return tuple(own)
            total = len(scope)
            return _unique(
                tuple(name if name in own else f"{at}_of_{total}" for at, name in enumerate(scope, 1))
            )
        if scope is not None:
            return _unique(scope)
        return tuple(
            name for name, plan in self.systems.items() if plan.tenant is None or plan.tenant == tenant
        )


def is_place(name: str) -> bool:
    """Whether this stands for a system that a controller named and that is not configured, as in "3_of_5"."""
    return _PLACE.fullmatch(name) is not None


def _unique(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
