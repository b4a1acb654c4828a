"""Agencies that take erasure requests over OpenDSR.

* We post the request; the agency calls back at an address that only it was given, and signs. What it says is
  believed by both.
* A callback that says "completed" is a reason to look: the proof is the agency's own signed status, asked for
  at its endpoint, and given for our account there. It is the agency's word all the same (`party_stated`).
* OpenDSR knows no reminder. When one is due we look how the request stands: its end may have been told in
  vain. If it has none, and a mail address is set, somebody is written to, with the link that agencies without
  an endpoint get. If the agency doesn't know the request any more, it is posted again.
* What was kept or refused has no state in OpenDSR. An agency can say it in an extension of the form of ours.
"""

from typing import Any

from handlers.agency_answer import token
from handlers.checking import Finding, examine
from handlers.opendsr_endpoint import Endpoint, request_of, subject_request_id
from handlers.port import CallbackBody, Control, Permanent, Refused, Retryable, Task
from handlers.results import Accepted, AwaitingParty, PartyErased, PartyRefused, Pending, Proved, Result
from handlers.times import SECOND, from_iso

LOOK_AGAIN = 86_400 * SECOND
_KEPT = ("retained", "partial")
_DONE = (None, "erased", "nothing_held")


class OpenDsrAgency:
    """One agency's endpoint. `controller_id` is who we are there: an answer about another's account counts
    for nothing.
    """

    def __init__(self, endpoint: Endpoint, *, controller_id: str) -> None:
        self._endpoint = endpoint
        self._controller_id = controller_id

    async def ask(self, task: Task, callback: str, remind_at: int) -> AwaitingParty:
        """Posts the request; `callback` is where the agency answers."""
        content = request_of(
            task,
            submitted_at=task.issued_at,
            callback=callback,
            asks="erasure",
            version=self._endpoint.version,
        )
        said, known = await self._endpoint.ask(task, content)
        if not known:
            self._control(said)
        return AwaitingParty(
            remind_at=remind_at,
            evidence={"asked": "opendsr", **({"repeated": "1"} if known else {})},
        )

    async def look(self, task: Task, now: int, remind_at: int) -> Accepted | AwaitingParty | None:
        """How the request stands when a reminder is due; None where the agency doesn't know it."""
        said = await self._endpoint.status(subject_request_id(task))
        if said is None:
            return None
        self._control(said)
        if _is_end(said):
            return Accepted(erased=0, prove_at=now, evidence={"looked": "completed"})
        return AwaitingParty(remind_at=remind_at, evidence={"looked": str(said["request_status"])})

    async def prove(self, task: Task, now: int) -> Result:
        """What the agency's endpoint says of the request."""
        said = await self._endpoint.status(subject_request_id(task))
        if said is None:
            return Pending(look_again_at=now + LOOK_AGAIN, code="request_unknown")
        control = self._control(said)
        if not _is_end(said):
            return Pending(look_again_at=now + LOOK_AGAIN, code="agency_in_progress")
        ours = _extension(said)
        result = ours.get("result")
        if result in _DONE:
            return Proved(control=control, grade="party_stated")
        if result not in _KEPT:
            raise Permanent("party_failed")
        return Proved(
            control=control,
            grade="party_stated",
            end="retained",
            legal_basis=token(str(ours.get("legal_basis") or "")) or "not_stated",
            retained_until=from_iso(ours.get("retained_until")),
        )

    async def receive(self, callback: CallbackBody, url: str, now: int) -> Result:
        """What the agency called back to say. Raises Refused."""
        said = await self._endpoint.callback(callback, url)
        if said.get("controller_id") != self._controller_id:
            raise Refused("wrong_account")
        match said.get("request_status"):
            case "completed":
                return PartyErased(prove_at=now)
            case "cancelled":
                return PartyRefused(code=token(str(_extension(said).get("reason") or "")) or "party_refused")
            case "pending" | "in_progress":
                raise Refused("no_end_yet")
            case _:
                raise Refused("malformed")

    async def check(self) -> tuple[Finding, ...]:
        """Whether the endpoint answers and its certificate is one that we can believe; it has nothing to ask
        without a request.
        """
        unasked = "a request alone would show it, and none is made for a check"
        return await examine(
            [("reachable", self._endpoint.discover)],
            settings={
                "reachable": ("endpoint", "authorities", "certificate"),
                "credentials": ("endpoint_token",),
            },
            gaps={"account": unasked, "rights": unasked, "control": "an agency can't be searched"},
        )

    def _control(self, said: dict[str, Any]) -> Control:
        return Control.shown(pinned=self._controller_id, answered=str(said.get("controller_id") or ""))


def _is_end(said: dict[str, Any]) -> bool:
    """Whether the agency is done. Raises Permanent where it gave up."""
    match said["request_status"]:
        case "completed":
            return True
        case "cancelled":
            raise Permanent("party_cancelled")
        case "pending" | "in_progress":
            return False
        case _:
            raise Retryable("malformed_answer")


def _extension(said: dict[str, Any]) -> dict[str, Any]:
    extensions = said.get("extensions")
    ours = extensions.get("radera") if isinstance(extensions, dict) else None
    return ours if isinstance(ours, dict) else {}
