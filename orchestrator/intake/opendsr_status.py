"""How a request stands, in OpenDSR's words and in ours.

OpenDSR knows four states and none for what failed, was kept or was done in part; that stands in our
extension, `extensions.radera`:

* `result`: while it goes on, `failed` when something of it waits for a person here; at the end `erased`,
  `nothing_held`, `retained`, `partial` (some was kept, or could not be identified), `not_identifiable`,
  `failed` (given up), or for one that was stopped `cancelled` or `rejected`.
* `not_configured`: systems that the controller named and that are not configured, by their places in its
  list, as in "3_of_5": its own words were in the answer to its request, and are not kept.
* `found`, `erased`: how many records; `proof`: the weakest proof; `legal_basis`, `retained_until`.

Nothing else of what we know gets out: no other system's name, no reason in words, no vendor's code.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from orchestrator.saga.escalations import REASONS, SELF_RESOLVING
from orchestrator.saga.model import AwaitingVerification, Closing, Ended, Finished, Saga, weakest
from orchestrator.saga.rules import is_place

PENDING: Final = "pending"
IN_PROGRESS: Final = "in_progress"
COMPLETED: Final = "completed"
CANCELLED: Final = "cancelled"
#: How long a request may lie unopened, in micros.
UNOPENED: Final = 86_400_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_GONE: Final = frozenset({"erased", "anonymised", "absent"})
#: Questions that concern the clocks or the identity and not what became of the data.
_NO_FAILURE: Final = SELF_RESOLVING | {
    "identity_unverified",
    "received_in_future",
    "receipt_in_doubt",
    "deadline_near",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """A state of OpenDSR's with our extension. `name` is what is kept of it once it was told."""

    status: str
    extension: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        result = self.extension.get("result")
        return self.status if result is None else f"{self.status}/{result}"

    @property
    def is_final(self) -> bool:
        return self.status in (COMPLETED, CANCELLED)


def standing(saga: Saga | None, waited: int = 0) -> Standing:
    """How the request stands. Without a saga it was received and not yet opened; after `waited` that long,
    something has to be seen to: its key may have gone with its master key, and then nobody can read it.
    """
    if saga is None:
        return Standing(PENDING, {"result": "failed"} if waited > UNOPENED else {})
    named = [step.system for step in saga.steps if is_place(step.system)]
    left_out = {"not_configured": named} if named else {}
    if isinstance(saga.state, AwaitingVerification):
        return Standing(PENDING, {**_failing(saga), **left_out})
    if not isinstance(saga.state, Finished):
        return Standing(IN_PROGRESS, {**_failing(saga), **_counts(saga), **left_out})
    if saga.state.status != "completed":
        return Standing(CANCELLED, {"result": saga.state.status, **_counts(saga), **left_out})
    return Standing(COMPLETED, {"result": _result(saga), **_counts(saga), **_kept(saga), **left_out})


def is_cancelling(saga: Saga | None) -> bool:
    """Whether it was cancelled, or is about to be."""
    match saga and saga.state:
        case Closing(final="cancelled") | Finished(status="cancelled"):
            return True
        case _:
            return False


def next_to_tell(told: str | None, now: Standing) -> Standing | None:
    """What an address is to be told next, after what it accepted last; None when it knows.

    Each change of state is told, in order: one that was passed while the address was away comes first,
    without what it meant at the time. The answer to the request itself said that it is pending.
    """
    before = told or PENDING
    if now.name == before or now.name == PENDING:
        return None
    if before.partition("/")[0] == PENDING and now.status == COMPLETED:
        return Standing(IN_PROGRESS)
    return now


def rfc3339(at: int) -> str:
    """A time as OpenDSR writes it."""
    moment = _EPOCH + timedelta(microseconds=at)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _failing(saga: Saga) -> dict[str, Any]:
    reasons = {one.reason for one in saga.escalations} & set(REASONS)
    return {"result": "failed"} if saga.quarantined or reasons - _NO_FAILURE else {}


def _counts(saga: Saga) -> dict[str, Any]:
    return {
        "found": sum(step.found for step in saga.steps),
        "erased": sum(step.erased for step in saga.steps),
    }


def _result(saga: Saga) -> str:
    ends = [(step, step.state) for step in saga.steps if isinstance(step.state, Ended)]
    names = {state.end for _, state in ends}
    if any(state.contradicted for _, state in ends) or names & {"waived", "refused", "stopped"}:
        return "failed"
    if names <= {"absent"}:
        return "nothing_held"
    if names <= _GONE:
        return "erased"
    if names == {"not_identifiable"}:
        return "not_identifiable"
    kept_all = names == {"retained"} and not any(step.erased for step, _ in ends)
    return "retained" if kept_all else "partial"


def _kept(saga: Saga) -> dict[str, Any]:
    states = [step.state for step in saga.steps if isinstance(step.state, Ended)]
    said: dict[str, Any] = {}
    proof = weakest([state.grade for state in states if state.grade is not None])
    if proof is not None:
        said["proof"] = proof
    kept = [state for state in states if state.end == "retained"]
    if kept:
        said["legal_basis"] = kept[0].legal_basis
        until = max((state.retained_until or 0 for state in kept), default=0)
        said["retained_until"] = rfc3339(until) if until else None
    return said
