"""Makes a failing life short, and prints it."""

from orchestrator.saga.events import Confirmed, Decided, Event, KeyLost, RequestReceived, RequestUnreadable
from tests.oracle.life import Life, Script
from tests.oracle.violations import AWAITED, Violated
from tests.oracle.world import START


def failure(
    seed: int, script: Script | None = None, excused: frozenset[str] = AWAITED
) -> tuple[Life, Violated | None]:
    """Play a life; return it with the invariant that it broke, if any."""
    life = Life(seed, excused)
    try:
        life.live(script)
    except Violated as violated:
        return life, violated
    return life, None


def shortened(seed: int, name: str, excused: frozenset[str] = AWAITED) -> Script:
    """Return a script as short as can be found that still breaks the invariant of this name."""
    script = Life(seed).script

    def fails(some: Script) -> bool:
        violated = failure(seed, some, excused)[1]
        return violated is not None and violated.name == name

    size = max(1, len(script) // 2)
    while True:
        begin, removed = 0, False
        while begin < len(script):
            less = script[:begin] + script[begin + size :]
            if fails(less):
                script, removed = less, True
            else:
                begin += size
        if size == 1 and not removed:
            return script
        size = max(1, size // 2)


def told(life: Life) -> list[str]:
    """Return the life's events as lines, one each, with the state that they led to only at the end."""
    lines = [f"scope {life.world.scope}, {life.world.capacity}, systems {sorted(life.world.rules.systems)}"]
    for event, at, breaks in life.history:
        lines.append(f"{_when(at)}  {'(a rule fails) ' if breaks else ''}{_said(event)}")
    return lines


def _when(at: int) -> str:
    minutes = (at - START) // 60_000_000
    return f"day {minutes // 1440:>3} {minutes % 1440 // 60:02}:{minutes % 60:02}"


def _said(event: Event) -> str:
    match event:
        case RequestReceived():
            verified = "verified" if event.verified else "unverified"
            return (
                f"request {event.content_digest.rstrip('.')} {verified}{' supplements' * event.supplements}"
            )
        case RequestUnreadable():
            return "unreadable request"
        case KeyLost():
            return f"master key {event.generation} is lost"
        case Confirmed(system=None):
            return f"mailbox: {event.kind} of {event.command_id}"
        case Confirmed():
            answered = f"{event.verb} {event.attempt}" if event.verb else f"by itself, link {event.attempt}"
            more = {
                name: value
                for name in ("found", "references", "code", "order", "said_at", "look_at", "grade", "end")
                if (value := getattr(event, name))
            }
            return f"{event.system}: {event.kind} ({answered}), said {_when(event.occurred_at)} {more}"
        case Decided():
            return f"DPO: {event.action} on {event.escalation_id} version {event.escalation_version}"
        case _:
            return "timer"
