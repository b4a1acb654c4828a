"""What must hold whatever an operator has to put back, judged by what the callers know.

* Whatever a door has taken has been opened. It has ended, and the officer was told so; or it waits for an
  answer of the officer's, who was asked by mail.
* No answer that the agency was thanked for is missing: the request's timeline has one, or it is a dead
  letter.
* No request is unreadable: no key that was needed is destroyed.
* What was called erased is gone, and nobody else lost anything.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Opened:
    """What an installation says of a request. `events` are its outcomes; `answers` how many of the agency's
    its timeline has noted.
    """

    status: str
    questions: tuple[str, ...] = ()
    answers: int = 0
    events: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """All that is looked at. `taken` and `thanked` are the callers' own lists; `mailed` the events of which
    the officer has a mail; `kept` the requests with a dead letter; `held` what the vendors still hold, by
    request; `bystanders` what they lost of people who did not ask.
    """

    taken: Collection[str]
    thanked: Collection[str]
    opened: Mapping[str, Opened]
    mailed: Collection[str]
    kept: Collection[str] = ()
    unreadable: Collection[str] = ()
    held: Mapping[str, Collection[str]] = field(default_factory=dict)
    bystanders: Collection[str] = ()


def lost(seen: Seen) -> Iterator[str]:
    """Yield what is missing, in lines."""
    for request_id in sorted(seen.taken):
        yield from (f"{request_id}: {what}" for what in _of_request(seen, request_id))
    for request_id in sorted(set(seen.thanked) - set(seen.taken)):
        yield f"{request_id}: an answer was thanked about a request that nobody made"
    for request_id in sorted(set(seen.opened) - set(seen.taken)):
        yield f"{request_id}: opened, and nobody made it"
    for record in sorted(seen.bystanders):
        yield f"{record} is gone, of somebody who did not ask"


def _of_request(seen: Seen, request_id: str) -> Iterator[str]:
    opened = seen.opened.get(request_id)
    if opened is None:
        yield "was taken, and never opened"
        return
    told = {kind for event_id, kind in opened.events.items() if event_id in seen.mailed}
    if request_id in seen.unreadable:
        yield "its key is gone"
    if opened.questions and "escalated" not in told:
        yield f"waits for the officer ({', '.join(opened.questions)}), who has no mail about it"
    if opened.status == "completed":
        if "completed" not in told:
            yield "has ended, and the officer has no mail about it"
        if left := seen.held.get(request_id):
            yield f"is called completed, and {len(left)} records are still held"
    elif not opened.questions:
        yield f"is {opened.status}, and nobody is asked about it"
    if request_id in seen.thanked and not opened.answers and request_id not in seen.kept:
        yield "an answer was thanked, and is missing"
