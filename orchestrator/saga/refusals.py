"""A refusal that was read when the data had been erased already: the DPO is told."""

from orchestrator.saga import words
from orchestrator.saga.draft import Draft
from orchestrator.saga.model import Step

#: The questions that tell the DPO of a refusal which came too late, or was read too late.
LATE = ("refused_late", "refused_unread")


def tell_late(draft: Draft, step: Step, code: str | None) -> None:
    """Tells the DPO of a refusal that was read after the erasure; whether it was said before is told, too."""
    last = words.standing(step) or (step.words[-1] if step.words else None)
    is_unread = last is not None and step.erased_at is not None and last.at < step.erased_at
    draft.escalate("refused_unread" if is_unread else "refused_late", step.system, code)
