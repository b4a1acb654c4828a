"""The records that a step knows, and which of them may be newer than the erasure.

What was created after the erasure may be new consent. So each reference is kept with the latest time at which
its records can have been created: that of the search which saw them, or the time of the erasure by which a
proof told them from newer ones. A vendor's yes to an earlier erasure may be read late. Then nobody knows
whether what came after that is newer: nothing more is erased before a proof has looked, and before the DPO
has been asked about what it finds.
"""

from collections.abc import Collection

from orchestrator.saga.about import mark
from orchestrator.saga.events import Confirmed
from orchestrator.saga.model import Step
from orchestrator.saga.replacing import replace

#: A handler's word for records of which it can't tell whose they are: its references only say which they are.
AMBIGUOUS = "ambiguous_match"


def is_ambiguous(event: Confirmed) -> bool:
    """Whether the DPO has to say whose the records are. Any references are of these, and part of no plan."""
    return event.code == AMBIGUOUS and event.kind in ("located", "still_present")


def taken_in(step: Step, event: Confirmed) -> Step:
    """Return the step with the records that an answer names.

    Those that a look after the erasure found may be newer, and are in no command yet: a proof sorts them out.
    """
    sealed = event.references
    if sealed is None or sealed in (*step.references, *step.unsorted) or is_ambiguous(event):
        return step
    erased_at = step.erased_at
    if event.kind == "still_present" and event.attempt >= step.proves_from:
        created_by = event.occurred_at if erased_at is None else erased_at
    elif event.kind == "located" and (erased_at is None or event.occurred_at <= erased_at):
        created_by = event.occurred_at
    elif event.kind in ("located", "still_present"):
        return replace(step, unsorted=(*step.unsorted, sealed))
    else:
        return step
    return replace(step, references=(*step.references, sealed), created_by=(*_created_by(step), created_by))


def sorted_in(step: Step, created_by: int) -> Step:
    """Return the step with its unsorted records among those known, as created by that time at the latest."""
    times = (*_created_by(step), *[created_by] * len(step.unsorted))
    return replace(step, references=(*step.references, *step.unsorted), created_by=times, unsorted=())


def erased_by(step: Step, at: int, named: Collection[str] = ()) -> Step:
    """Return the step with an erasure at that time; the earliest one tells what is newer.

    `named` are the marks of the records that it carried: these were there before it.
    """
    times = zip(step.references, _created_by(step), strict=True)
    created_by = tuple(min(time, at) if mark(sealed) in named else time for sealed, time in times)
    step = replace(step, created_by=created_by)
    if step.erased_at is None:
        return replace(step, erased_at=at)
    return replace(step, erased_at=at, proves_from=step.attempt + 1) if at < step.erased_at else step


def may_be_newer(step: Step) -> bool:
    """Return whether some of the known records may have been created after the erasure."""
    return step.erased_at is not None and any(time > step.erased_at for time in step.created_by)


def must_be_proved_first(step: Step) -> bool:
    """Return whether nothing may be erased before a proof has told old records from newer ones."""
    return may_be_newer(step) or (bool(step.unsorted) and not step.references)


def _created_by(step: Step) -> tuple[int, ...]:
    """Return the time of each reference; an earlier version kept none, and told old from new as it could."""
    return (0,) * (len(step.references) - len(step.created_by)) + step.created_by
