"""Every clock of a request: timers, the statutory dates and alarms, "acted", and the notices.

Times and dates are reckoned once more here, from the regulation and not with the saga's own functions.
"""

import calendar
from datetime import UTC, date, datetime, timedelta

from orchestrator.saga.decide import Decision
from orchestrator.saga.draft import SendOutcome
from orchestrator.saga.events import Confirmed, Decided, Event, TimerFired
from orchestrator.saga.model import Closing, Ended, Escalation, Finished, NoticeGiven, Saga, Step
from orchestrator.saga.rules import Rules
from tests.oracle.truth import DAY, HOUR
from tests.oracle.violations import Broken

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: No single wait is longer than this.
_LONGEST = 200 * DAY


def last_moment(received_at: int, months: int) -> int:
    """Return the end of the statutory period, in micros: weekends move it, and there are no holidays here."""
    day = (_EPOCH + timedelta(microseconds=received_at)).date()
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    last = date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))
    while last.weekday() >= 5:
        last += timedelta(days=1)
    following = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)
    return (following - _EPOCH) // timedelta(microseconds=1) - 1


def is_acted_on(step: Step) -> bool:
    """Whether only a proof is left to do, or nothing."""
    status = step.state.status
    if status in ("retrying", "awaiting_decision"):
        return getattr(step.state, "verb", getattr(step.state, "resume", None)) == "prove"
    return status in ("ended", "accepted", "proving")


def check_timers(event: Event, after: Saga, now: int, broken: Broken) -> None:
    """Every state wakes by itself: an open request, and each step that has not ended."""
    wake_at = after.wake_at
    if wake_at is None:
        broken("no_timer", f"{after.status} without a timer")
        return
    if isinstance(event, TimerFired) and wake_at <= now:
        broken("no_timer", "a timer fires for ever")
    for step in after.steps:
        state = step.state
        if isinstance(state, Ended):
            continue
        if not now - _LONGEST < state.until < now + _LONGEST:
            broken("no_timer", f"{step.system} {state.status} waits for ever")
        # The steps of one that was set aside stand still until its release.
        if wake_at > state.until and not after.quarantined:
            broken("no_timer", f"nothing wakes {step.system}")


def check_dates(before: Saga | None, event: Event, after: Saga, broken: Broken) -> None:
    """The due date is as the regulation says. It moves only when the person was told of it in time, or by
    the DPO's word on a day of receipt that was in doubt.
    """
    if before is None:
        if after.due_at != last_moment(after.received_at, 1):
            broken("dates", "the first due date is wrong")
        return
    if (after.due_at, after.received_at) == (before.due_at, before.received_at):
        return
    told = after.notice("extended")
    if _is_dated(before, event):
        months = 3 if after.extended else 1
        if after.received_at != before.received_or or after.due_at != last_moment(after.received_at, months):
            broken("dates", "the DPO's word on the day of receipt moved the dates to others")
        return
    if told is None or not isinstance(told.state, NoticeGiven) or after.received_at != before.received_at:
        broken("dates", f"the due date moved, and nobody was told ({type(event).__name__})")
        return
    if told.state.at > before.due_at or after.due_at != last_moment(after.received_at, 3):
        broken("dates", "an extension that was told too late, or to another date")


def _is_dated(before: Saga, event: Event) -> bool:
    """Whether the DPO says that the other day of receipt holds."""
    if not isinstance(event, Decided) or event.action != "verify":
        return False
    question = before.escalation(event.escalation_id)
    return question is not None and question.reason == "receipt_in_doubt"


def alarmed_by(saga: Saga) -> int:
    """Return when the person has to have been told: by the earlier day, where two are possible."""
    if saga.received_or is None:
        return saga.due_at
    return min(saga.due_at, last_moment(saga.received_or, 3 if saga.extended else 1))


class Clocks:
    """Watches the clocks of one life."""

    def __init__(self, rules: Rules, broken: Broken) -> None:
        self._broken = broken
        self._waits = rules.waits
        self._notify = rules.notify_subject
        self._asked: dict[str, str] = {}
        self._acknowledged: set[tuple[str, int]] = set()

    def watch(self, before: Saga | None, event: Event, decision: Decision, now: int) -> None:
        after = decision.saga
        for message in decision.messages:
            if isinstance(message, SendOutcome) and message.kind == "notice":
                self._asked[message.event_id] = message.code or ""
        self._acknowledge(before, event, decision)
        self._notices(before, event, after)
        check_dates(before, event, after, self._broken)
        if isinstance(after.state, Finished):
            return
        check_timers(event, after, now, self._broken)
        self._acted(after)
        self._alarms(after, now)

    # --- notices ---

    def _notices(self, before: Saga | None, event: Event, after: Saga) -> None:
        """A notice counts as given when the mailbox says so of this one, or the DPO does."""
        if before is None or after.notices is before.notices:
            return
        given = [
            notice.purpose
            for notice in after.notices
            if isinstance(notice.state, NoticeGiven) and before.notice(notice.purpose) != notice
        ]
        if len(given) > 1:
            self._broken("told", f"one event settles the notices {given}")
        for purpose in given:
            if isinstance(event, Confirmed):
                asked = self._asked.get(event.command_id or "")
                if event.kind != "notice_sent" or asked != purpose:
                    self._broken("told", f"the notice {purpose} counts as given by a {event.kind} of {asked}")
            elif not isinstance(event, Decided):
                self._broken("told", f"the notice {purpose} was given by nobody")

    # --- the milestone, and the alarms ---

    def _informs(self, saga: Saga) -> bool:
        return self._notify and saga.capacity == "controller" and bool(saga.identifiers)

    def _is_told(self, saga: Saga, purpose: str) -> bool:
        if not self._informs(saga):
            return True
        return any(n.purpose == purpose and isinstance(n.state, NoticeGiven) for n in saga.notices)

    def _acted(self, after: Saga) -> None:
        if after.acted_at is None or isinstance(after.state, Closing):
            return
        behind = [step for step in after.steps if not is_acted_on(step)]
        if behind:
            self._broken("acted", f"acted on, and {behind[0].system} is {behind[0].state.status}")
        if not self._is_told(after, "acted"):
            self._broken("acted", "acted on, and the person was not told")

    def _acknowledge(self, before: Saga | None, event: Event, decision: Decision) -> None:
        if not isinstance(event, Decided) or before is None or event.action != "waive":
            return
        question: Escalation | None = before.escalation(event.escalation_id)
        if question is not None and any(entry.action == "decided" for entry in decision.entries):
            self._acknowledged.add((question.reason, alarmed_by(before)))

    def _needs_alarm(self, saga: Saga) -> bool:
        if isinstance(saga.state, Closing):
            return saga.state.final == "rejected" and not self._is_told(saga, "rejected")
        return saga.acted_at is None

    def _alarms(self, after: Saga, now: int) -> None:
        """The warning and the overdue alarm come within an hour of their time, and something wakes us."""
        if not self._needs_alarm(after):
            return
        due = alarmed_by(after)
        warn = due - self._waits.deadline_warning
        if now > due:
            self._alarmed("overdue", after, now, due)
            return
        if now >= warn:
            self._alarmed("deadline_near", after, now, warn)
        following = warn if now < warn else due + 1
        if after.wake_at is None or after.wake_at > following + HOUR:
            where = f"{after.status}{', quarantined' if after.quarantined else ''}"
            self._broken("alarms", f"nothing wakes the request for its alarm in {where}")

    def _alarmed(self, reason: str, after: Saga, now: int, since: int) -> None:
        is_open = any(question.reason == reason for question in after.escalations)
        if is_open or (reason, alarmed_by(after)) in self._acknowledged or now <= since + HOUR:
            return
        where = f"{after.status}{', quarantined' if after.quarantined else ''}"
        self._broken("alarms", f"{reason} is not alarmed in {where}")
