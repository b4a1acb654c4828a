"""A request as this version finds it, whose document an earlier one wrote."""

import json
from pathlib import Path
from typing import Any

from orchestrator.saga.draft import SendCommand
from orchestrator.saga.rules import HOUR, SystemPlan
from orchestrator.store.documents import read_document
from tests.unit.saga_world import World, marks

FILES = Path(__file__).parent / "saga_documents"


def document(name: str) -> dict[str, Any]:
    """A document as that version wrote it."""
    written: dict[str, Any] = json.loads((FILES / f"{name}.json").read_text())
    return written


def taken_up(given: str | dict[str, Any], *plans: SystemPlan) -> World:
    """The request, with the commands that are out, past everything that had been said."""
    world = World(*plans)
    written = document(given) if isinstance(given, str) else given
    world.saga = saga = read_document("any", json.dumps(written))
    assert saga is not None
    for step in saga.steps:
        for one in step.outstanding:
            references = (*step.references, *step.notes)
            world.about[one.command_id] = marks(saga.identifiers, *references)
            world.issued_at[one.command_id] = world.now
            world.messages.append(
                SendCommand(
                    event_id=one.command_id,
                    system=step.system,
                    kind=step.kind,
                    verb=one.verb,
                    attempt=one.number,
                    not_after=one.not_after,
                    reminder=False,
                    erased_at=step.erased_at or world.now,
                    accepted_at=step.accepted_at,
                    found=step.found,
                    instruction=step.instruction,
                    references=references,
                )
            )
        for word in step.words:
            world.heard(step.system, word.order, word.said, word.attempt)
        if step.found:
            world.looked.add(step.system)
    world.now += 30 * HOUR
    return world
