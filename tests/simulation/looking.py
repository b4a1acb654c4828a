"""Sees where each look of a handler really went, and holds what it reports to that.

A handler reports the places that it looked at. The calls that it made meanwhile are what the vendors saw: a
place that is reported as searched by something was asked for, or the report is false. So with an erasure: it
tells each opt-out that the vendor refused.
"""

import re
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final

import httpx

from handlers.port import Task
from handlers.registry import Handler
from handlers.results import Accepted, Result

Look = Callable[[Task], Awaitable[Result]]
_calls: ContextVar[list[str] | None] = ContextVar("calls of the look under way", default=None)

#: How a call to the vendor looks that reads a place, by the kind of system and the place's name.
SEEN_AS: Final[dict[tuple[str, str], str]] = {
    ("superoffice", "contacts"): r"GET /superoffice/.*/v1/(Archive/)?Person\?",
    ("superoffice", "deleted_contacts"): r"GET /superoffice/.*/v1/Archive/RecyclePerson\?",
    ("superoffice", "submissions"): r"GET /superoffice/.*/v1/Archive/FormSubmission\?",
    ("superoffice", "chats"): r"GET /superoffice/.*/v1/Archive/(Find)?ChatSession\?",
    ("hubspot", "contacts"): r"(GET|POST) /hubspot/crm/.*/contacts/",
    ("hubspot", "archived_contacts"): r"GET /hubspot/crm/.*/contacts/.*archived=true",
    ("hubspot", "secondary_addresses"): r"(GET|POST) /hubspot/crm/.*/contacts/",
    ("recruitment", "candidates"): r"GET /teamtailor/v1/candidates\?",
    ("tenant", "records"): r"POST /tenant-api/.*/subjects/(locate|prove)",
}


#: A call that would have ended mail, and was answered with a refusal.
REFUSED_OPT_OUT: Final = r"/unsubscribe-all\?.* 40[034]$"


def note(request: httpx.Request) -> None:
    """Keeps a call with the look that makes it."""
    made = _calls.get()
    if made is not None:
        made.append(f"{request.method} {request.url.raw_path.decode('ascii')}")


def note_answer(status: int) -> None:
    """Keeps how the last call of an erasure, which makes one at a time, was answered."""
    made = _calls.get()
    if made:
        made[-1] += f" {status}"


def watch(
    handler: Handler,
    begins: Callable[[Task], Callable[[], None]],
    false: Callable[[str], None],
) -> Handler:
    """The handler, whose looks are held to the calls that they make.

    `begins` hears of each look, and returns what is called if the look comes to an end.
    """

    def watched(look: Look) -> Look:
        async def looking(task: Task) -> Result:
            ended = begins(task)
            made: list[str] = []
            token = _calls.set(made)
            try:
                result = await look(task)
            finally:
                _calls.reset(token)
            for text in untrue(handler.kind, result, made):
                false(f"{task.system}: {text}")
            ended()
            return result

        return looking

    def told(erase: Look) -> Look:
        async def erasing(task: Task) -> Result:
            made: list[str] = []
            token = _calls.set(made)
            try:
                result = await erase(task)
            finally:
                _calls.reset(token)
            refused = sum(bool(re.search(REFUSED_OPT_OUT, call)) for call in made)
            said = int(result.evidence.get("opt_outs_refused", "0"))
            if isinstance(result, Accepted) and refused != said:
                false(f"{task.system}: {refused} opt-outs were refused, and {said} are told")
            return result

        return erasing

    for verb, around in (("locate", watched), ("prove", watched), ("erase", told)):
        setattr(handler, verb, around(getattr(handler, verb)))
    return handler


def untrue(kind: str, result: Result, made: list[str]) -> list[str]:
    """What a report of places says that the calls don't."""
    found = []
    for place in result.places:
        pattern = SEEN_AS.get((kind, place.name))
        if pattern is None or not place.looked or not place.by:
            continue
        if not any(re.search(pattern, call) for call in made):
            found.append(f"{place.name} is reported as searched, and was not asked for")
    return found
