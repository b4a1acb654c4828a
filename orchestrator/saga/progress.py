"""What is kept of the attempts of one verb that did part of the work.

A person may have more records at a vendor than one attempt can go through. An attempt that ends before the
verb is answered names, sealed, the records on which the verb has nothing left to do, and counts them. The
next command for the verb carries this, and goes on with the rest. Nothing of it is an answer: what the step
knows of the person's records stays as it is, and every proof is about all of them.
"""

from typing import Final

from orchestrator.saga.events import Confirmed
from orchestrator.saga.model import Step
from orchestrator.saga.replacing import replace

#: The fields of a step whose next command begins its verb anew.
NONE: Final[dict[str, int | None]] = {"progress": None, "progress_of": None, "done": 0}
#: Answers after which the verb has still to be answered.
_UNFINISHED: Final = frozenset({"progress", "failed", "expired"})
#: The code of an attempt that ended for want of time, and did nothing.
NO_PROGRESS: Final = "no_progress"


def taken_in(step: Step, event: Confirmed) -> Step:
    """Return the step with what the answer to its latest command says of the work; an answer ends it.

    An attempt that did part of the work is no failed attempt: nothing that failed before is held against the
    next one.
    """
    if event.kind not in _UNFINISHED:
        # What the DPO agreed to lasts until then, too.
        return replace(step, takes_all=0, agreed=(), **NONE)
    known = step.done if step.progress_of == event.verb else 0
    if event.references is None or event.verb is None or event.done <= known:
        return step
    return replace(
        step,
        progress=event.references,
        progress_of=event.verb,
        done=event.done,
        failures=0,
        expiries=0,
        unasked_since=None,
    )


def has_erased(event: Confirmed) -> bool:
    """Return whether an answer says that records were erased, all of them or a part."""
    return event.kind == "accepted" or (event.done > 0 and event.erased > 0)


def has_gone_on(step: Step, event: Confirmed) -> bool:
    """Return whether the step's progress is what this answer brought."""
    return event.references is not None and step.progress == event.references
