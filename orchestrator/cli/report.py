"""A request as people and programs read it: the same facts as a table and as JSON. No personal data."""

from collections.abc import Container
from typing import Any

from orchestrator.saga import escalations
from orchestrator.saga.clocks import moment
from orchestrator.saga.model import Saga, Step, weakest
from orchestrator.service.outbound import system_outcome


def iso(micros: int | None) -> str | None:
    """A time in UTC, RFC 3339."""
    return None if micros is None else moment(micros).isoformat().replace("+00:00", "Z")


def outcome_of(saga: Saga) -> str | None:
    """How it ended, or "escalated" while a question lies with the DPO; None while all is under way."""
    if saga.is_finished:
        return saga.status
    return "escalated" if saga.escalations else None


def grade_of(saga: Saga) -> str | None:
    """The weakest proof among the systems that have ended."""
    return weakest([step.grade for step in saga.steps if step.is_ended and step.grade is not None])


def report(saga: Saga, now: int, configured: Container[str]) -> dict[str, Any]:
    """The request as a JSON object, with the decisions that would be applied now to these systems."""
    return {
        "request_id": saga.request_id,
        "status": saga.status,
        "outcome": outcome_of(saga),
        "grade": grade_of(saga),
        "received_at": iso(saga.received_at),
        "due_at": iso(saga.due_at),
        "acted_at": iso(saga.acted_at),
        "escalations": [
            {
                "id": one.id,
                "version": one.version,
                "reason": one.reason,
                "system": one.system,
                "code": one.code,
                "raised_at": iso(one.raised_at),
                "actions": list(escalations.offered(saga, one, now, configured)),
            }
            for one in saga.escalations
        ],
        "systems": {step.system: _system(step) for step in saga.steps},
        "timeline": {"length": saga.seq, "head": saga.head},
    }


def _system(step: Step) -> dict[str, Any]:
    line = system_outcome(step)
    return {
        "status": line.status,
        "grade": line.grade,
        "found": line.found,
        "erased": line.erased,
        "legal_basis": line.legal_basis,
        "retained_until": iso(line.retained_until),
        "missing": list(line.missing),
        "reason": line.reason,
        "evidence": dict(line.evidence),
        "places": [one.model_dump() for one in line.places],
    }
