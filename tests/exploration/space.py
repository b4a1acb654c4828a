"""A state of the search, and the abstraction by which two states count as one.

A node holds a real saga, and what the search has to know beside it: which commands are out and about which
identifiers, and what a controller said. `key` is what is left of a node when all is taken away that makes no
difference to what may happen next; README.md says what that is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.saga.draft import SendCommand
from orchestrator.saga.model import Ended, Escalation, Notice, Saga, Step
from orchestrator.saga.rules import Rules

#: A number at least this large is a time in micros.
_TIMES = 10**14
#: Counters are told apart up to this.
_COUNTED = 3
#: Of a sequence that only grows, so many of the latest entries are told apart.
_LATEST = 3

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Word:
    """What a controller said, in the order of arrival, about the identifiers of that generation."""

    order: int
    erases: bool
    about: int


@dataclass(frozen=True, slots=True)
class Out:
    """A command as it was sent, with the generation of the identifiers that it carried."""

    command: SendCommand
    identifiers: int


@dataclass(frozen=True, slots=True)
class Node:
    """A state of the world. `parent` and `label` say how it was reached.

    `identifiers` counts how often more of them were given. `latest` and `earlier` are the latest command to
    each system and the one before it, or the last about fewer identifiers. `spent` counts what may happen
    only so often.
    """

    saga: Saga
    now: int
    identifiers: int = 0
    latest: Mapping[str, Out] = field(default_factory=dict)
    earlier: Mapping[str, Out] = field(default_factory=dict)
    words: Mapping[str, tuple[Word, ...]] = field(default_factory=dict)
    spent: Mapping[str, int] = field(default_factory=dict)
    parent: "Node | None" = None
    label: str = "the request"

    def may_erase(self, system: str) -> bool:
        """Tell whether a controller's data may be erased.

        It may when the controller said so of these identifiers, and has not refused since.
        """
        words = self.words.get(system, ())
        refused = max((word.order for word in words if not word.erases), default=-1)
        is_processor = self.saga.capacity == "processor"
        said = [
            word.order for word in words if word.erases and (is_processor or word.about == self.identifiers)
        ]
        return max(said, default=0 if is_processor else -1) > refused

    def path(self) -> list[str]:
        """Return how this node was reached, step by step."""
        labels: list[str] = []
        node: Node | None = self
        while node is not None:
            labels.append(node.label)
            node = node.parent
        return labels[::-1]


def key(node: Node, rules: Rules) -> Key:
    """Return what tells this node from others."""
    saga, now = node.saga, node.now
    commands = tuple(
        (
            system,
            _out(out, node),
            _out(node.earlier.get(system), node),
            node.may_erase(system),
            node.words[system][-1].erases if node.words.get(system) else None,
        )
        for system, out in sorted(node.latest.items())
    )
    dates = [saga.due_at] if saga.due_or is None else [saga.due_at, saga.due_or]
    alarms = tuple((due - now > rules.waits.deadline_warning, due >= now) for due in dates)
    return _abstract(saga, now), commands, tuple(sorted(node.spent.items())), alarms


def _out(out: Out | None, node: Node) -> Key | None:
    if out is None:
        return None
    command = out.command
    return command.verb, out.identifiers == node.identifiers, *command.references


def _abstract(value: Any, now: int) -> Any:
    handle = _HANDLERS.get(type(value))
    if handle is not None:
        return handle(value, now)
    fields = getattr(value, "__dict__", None)
    if fields is None:
        return value
    return (
        type(value).__name__,
        *[_abstract(one, now) for name, one in fields.items() if name not in _IGNORED],
    )


def _number(value: int, now: int) -> object:
    if value > _TIMES:
        return "past" if value <= now else "ahead"
    return min(value, _COUNTED)


def _sequence(value: tuple[Any, ...], now: int) -> Key:
    if not value:
        return ()
    if isinstance(value[0], Escalation):
        return tuple(sorted((one.reason, one.system or "") for one in value))
    if isinstance(value[0], bytes | str):
        return tuple(sorted({_abstract(one, now) for one in value}))
    if isinstance(value[0], Step | Notice):
        return tuple(_abstract(one, now) for one in value)
    return tuple(_abstract(one, now) for one in value[-_LATEST:])


def _ended(value: Ended, now: int) -> Key:
    return value.end, value.grade, value.contradicted, value.reason


def _step(value: Step, now: int) -> Key:
    asked_anew = value.attempt >= value.asked_from
    is_out = any(one.command_id == value.command_id for one in value.outstanding)
    may_act = any(one.not_after > now for one in value.outstanding)
    may_be_newer = value.erased_at is not None and any(at > value.erased_at for at in value.created_by)
    return (
        asked_anew,
        is_out,
        may_act,
        may_be_newer,
        *[_abstract(one, now) for name, one in value.__dict__.items() if name not in _IN_A_STEP],
    )


def _text(value: str, now: int) -> str:
    # The due date, within the name of a question that was acknowledged.
    return value.rstrip("0123456789") if value[-14:].isdigit() else value


#: What makes no difference to any rule: names that are made anew, the chain of the timeline, what was counted
#: for the evidence. When the request itself looks again follows from the rest.
_IGNORED = frozenset(
    {"request_id", "version", "raised", "head", "seq", "trace", "identifiers", "content_digest"}
    | {"subject_digest", "received_at", "due_at", "source", "tenant", "language", "command_id", "earlier"}
    | {"acted_at", "at", "attempt", "as_of", "received_or", "due_or"}
)
_IN_A_STEP = frozenset(
    {
        "system",
        "kind",
        "after",
        "attempt",
        "command_id",
        "asked_from",
        "found",
        "erased",
        "evidence",
        "places",
    }
    | {"asked_at", "answered_at", "outstanding", "created_by"}
)


def _saga(value: Saga, now: int) -> Key:
    state = value.state
    final = getattr(state, "final", None)
    rest = [
        _abstract(one, now)
        for name, one in value.__dict__.items()
        if name not in _IGNORED and name != "state"
    ]
    return state.status, final, value.acted_at is not None, *rest


def _notice(value: Notice, now: int) -> Key:
    return value.purpose, value.state.status


_HANDLERS: dict[type, Callable[[Any, int], Any]] = {
    int: _number,
    bool: lambda value, now: value,
    str: _text,
    bytes: lambda value, now: value,
    dict: lambda value, now: (),
    tuple: _sequence,
    Ended: _ended,
    Notice: _notice,
    Saga: _saga,
    Step: _step,
}
