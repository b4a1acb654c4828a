"""When a request was received, where the clock was wrong and nobody can tell.

The recorded time and the other one stand beside each other until the DPO has said which holds. Meanwhile the
earlier counts for the warning and the alarm. The dates themselves move by the DPO's word alone.
"""

from orchestrator.saga import escalations
from orchestrator.saga.clocks import due_at, moment
from orchestrator.saga.draft import Draft, expect
from orchestrator.saga.model import NoticeGiven
from orchestrator.saga.replacing import replace


def doubt(draft: Draft, other: int | None) -> None:
    """Ask the DPO which day of receipt holds, the recorded one or that of `other`; of None nothing is asked.

    Two times of one day are no question.
    """
    recorded = draft.saga.received_at
    if other is None or _day(draft, other) == _day(draft, recorded):
        return
    draft.saga = replace(draft.saga, received_or=other)
    reckon_other(draft)
    draft.escalate("receipt_in_doubt", code=_day(draft, other))


def reckon_other(draft: Draft) -> None:
    """Reckon when the request would be due by the other time."""
    saga = draft.saga
    if saga.received_or is not None:
        months = 3 if saga.extended else 1
        draft.saga = replace(saga, due_or=due_at(saga.received_or, draft.rules.calendar, months=months))


def settle(draft: Draft, *, is_other: bool) -> None:
    """The DPO has said which day holds: the other one, or the recorded one."""
    if is_other:
        _take_other(draft)
    draft.saga = replace(draft.saga, received_or=None, due_or=None)
    draft.note("receipt_settled", received_at=draft.saga.received_at, due_at=draft.saga.due_at)
    # Those that hold by this date come up again at once.
    draft.resolve(*escalations.ALARMS, by="receipt_settled")


def _take_other(draft: Draft) -> None:
    """Date the request by the other time. An extension holds if it was told within that first month."""
    saga, calendar = draft.saga, draft.rules.calendar
    received_at = expect(saga.received_or, int)
    told = saga.notice("extended")
    first = due_at(received_at, calendar)
    is_extended = told is not None and isinstance(told.state, NoticeGiven) and told.state.at <= first
    due = due_at(received_at, calendar, months=3) if is_extended else first
    if saga.extended and not is_extended:
        draft.note("extension_void")
    draft.saga = replace(saga, received_at=received_at, due_at=due, extended=is_extended)


def _day(draft: Draft, at: int) -> str:
    return moment(at).astimezone(draft.rules.calendar.time_zone).date().isoformat()
