"""The rules of the request as a whole: beginning, the two milestones, the statutory alarms, closing.

*acted*: every step is accepted or ended and the subject is informed (Art. 12(3)). *completed*: every step
has ended with evidence, no question is open, every outstanding attempt has answered or can no longer act;
only then is the key destroyed.
"""

from orchestrator.saga import escalations, receipt, table
from orchestrator.saga.clocks import due_at
from orchestrator.saga.draft import Draft, expect
from orchestrator.saga.events import Confirmed, Event
from orchestrator.saga.model import (
    AwaitingDecision,
    AwaitingVerification,
    Closing,
    Ended,
    FinalStatus,
    Finished,
    InProgress,
    Notice,
    NoticeGiven,
    NoticePending,
    NoticePurpose,
    Waiting,
)
from orchestrator.saga.replacing import replace


def advance(draft: Draft, event: Event) -> None:
    """Moves the request as far as it can go now; called after every event, so it must be idempotent."""
    if isinstance(draft.saga.state, AwaitingVerification):
        _begin_when_settled(draft)
    if isinstance(draft.saga.state, InProgress):
        _start_waiting_steps(draft, event)
        _act_when_done(draft, event)
        _close_when_ended(draft)
    alarm(draft)
    if isinstance(draft.saga.state, Closing):
        _finish_when_quiet(draft)


def stand_still(draft: Draft, event: Event) -> None:
    """The clocks of a request that was set aside go on: its alarms, and that the person was told."""
    if isinstance(draft.saga.state, InProgress) and isinstance(event, Confirmed) and event.system is None:
        _act_when_done(draft, event)
    alarm(draft)


# --- beginning ---


def _begin_when_settled(draft: Draft) -> None:
    if any(one.reason in escalations.BEFORE_START for one in draft.saga.escalations):
        return
    table.move(draft, "settled", InProgress(until=_next_alarm(draft)))
    draft.note("started")


def _start_waiting_steps(draft: Draft, event: Event) -> None:
    waiting = [step for step in draft.saga.steps if isinstance(step.state, Waiting)]
    if not waiting:
        return
    for step in waiting:
        before = [one for name in step.after if (one := draft.saga.step(name)) is not None]
        if all(one.is_acted_on for one in before):
            draft.put(table.apply(draft, step, "start", event))
        elif any(isinstance(one.state, AwaitingDecision) for one in before):
            draft.escalate("predecessor_failed", step.system)
        else:
            draft.resolve("predecessor_failed", system=step.system)
    # A step that ended at once (it holds nothing) may have been what another one waited for.
    if any(
        isinstance(step.state, Waiting)
        and all(one.is_acted_on for name in step.after if (one := draft.saga.step(name)) is not None)
        for step in draft.saga.steps
    ):
        _start_waiting_steps(draft, event)


# --- acted ---


def _act_when_done(draft: Draft, event: Event) -> None:
    if not all(step.is_acted_on for step in draft.saga.steps):
        withdraw_acted(draft)
    if not _is_wholly_unidentifiable(draft):
        draft.resolve("nothing_identifiable")
    elif not draft.is_settled("nothing_identifiable"):
        draft.escalate("nothing_identifiable")
        return
    saga = draft.saga
    if saga.acted_at is not None or not saga.steps or not all(step.is_acted_on for step in saga.steps):
        return
    if _informs_subject(draft) and saga.notice("acted") is None:
        draft.give_notice("acted")
    notice = draft.saga.notice("acted")
    told = notice.state if notice is not None else NoticeGiven(at=draft.now, how="otherwise")
    if isinstance(told, NoticePending):
        return
    # Both must hold: unless the notice is what was missing, it is the step that moved just now.
    is_notice = isinstance(event, Confirmed) and event.system is None
    draft.saga = replace(draft.saga, acted_at=told.at if is_notice else draft.now)
    draft.note("acted")
    draft.resolve(*escalations.ALARMS)
    drop_notice(draft, "extended")
    if not all(step.is_ended for step in draft.saga.steps):
        draft.say("acted")


def withdraw_acted(draft: Draft) -> None:
    """Takes back that the request was acted on: the deadline is watched again.

    What the person was told holds no more, so they are told anew when it holds again.
    """
    saga = draft.saga
    if saga.acted_at is not None:
        draft.saga = replace(saga, acted_at=None)
        draft.note("acted_withdrawn")
        for reason in escalations.ALARMS:
            draft.unsettle(reason)
    drop_notice(draft, "acted", given=True)


def _is_wholly_unidentifiable(draft: Draft) -> bool:
    ends = [step.state.end for step in draft.saga.steps if isinstance(step.state, Ended)]
    return bool(ends) and len(ends) == len(draft.saga.steps) and set(ends) == {"not_identifiable"}


def _informs_subject(draft: Draft) -> bool:
    """A processor's subject hears from the controller; and an installation may inform by other means."""
    return draft.rules.notify_subject and draft.saga.capacity == "controller" and bool(draft.saga.identifiers)


def inform_of_extension(draft: Draft) -> None:
    """Art. 12(3): two further months, if the subject is told so within the first one, by us or otherwise."""
    if _informs_subject(draft):
        draft.give_notice("extended")
    else:
        told = NoticeGiven(at=draft.now, how="otherwise")
        notice_given(draft, Notice(purpose="extended", state=told), draft.now, "otherwise")


def notice_given(draft: Draft, notice: Notice, at: int, how: str) -> None:
    """Records that the subject knows. An extension holds only if it was told within the first month."""
    at = min(at, draft.now)
    state = NoticeGiven(at=at, how="mailed" if how == "mailed" else "otherwise")
    draft.put_notice(replace(notice, state=state))
    draft.note("notice_given", purpose=notice.purpose, how=how)
    _settle_notice(draft, notice.purpose)
    if not _is_waited_for(draft):
        draft.resolve(*escalations.ALARMS)
    if notice.purpose == "extended":
        if at <= draft.saga.due_at:
            extended = due_at(draft.saga.received_at, draft.rules.calendar, months=3)
            draft.saga = replace(draft.saga, due_at=extended, extended=True)
            receipt.reckon_other(draft)
            draft.note("extended", due_at=extended)
            draft.resolve(*escalations.ALARMS, by="extension")
        else:
            draft.note("extension_void", told_at=at)


def tell_again(draft: Draft) -> None:
    """Asks the mailbox once more for each notice that could not be mailed: an address may be there now."""
    for notice in draft.saga.notices:
        if isinstance(notice.state, NoticePending) and draft.find(escalations.failing(notice.purpose)):
            _settle_notice(draft, notice.purpose)
            draft.give_notice(notice.purpose)


def drop_notice(draft: Draft, purpose: NoticePurpose, *, given: bool = False) -> None:
    """Forgets a notice that has become pointless; one that was given stays on the record unless `given`."""
    notice = draft.saga.notice(purpose)
    if notice is None or not (given or isinstance(notice.state, NoticePending)):
        return
    kept = tuple(one for one in draft.saga.notices if one.purpose != purpose)
    draft.saga = replace(draft.saga, notices=kept)
    draft.note("notice_dropped", purpose=purpose)
    _settle_notice(draft, purpose)


def _settle_notice(draft: Draft, purpose: NoticePurpose) -> None:
    draft.resolve(escalations.silent(purpose), escalations.failing(purpose))


# --- statutory alarms ---


def _is_waited_for(draft: Draft) -> bool:
    """Whether the person has not been told yet what the law wants them told within the period."""
    saga = draft.saga
    if isinstance(saga.state, AwaitingVerification | InProgress):
        return saga.acted_at is None
    return any(isinstance(one.state, NoticePending) and one.purpose != "extended" for one in saga.notices)


def _next_alarm(draft: Draft) -> int:
    saga, waits = draft.saga, draft.rules.waits
    review = draft.now + waits.review
    if not _is_waited_for(draft):
        return review
    moments = (saga.alarmed_by - waits.deadline_warning, saga.alarmed_by + 1)
    return min([at for at in moments if at > draft.now] + [review])


def alarm(draft: Draft) -> None:
    """Warns of a deadline that is near or has passed, and says when to look next."""
    saga = draft.saga
    if isinstance(saga.state, Finished):
        return
    if _is_waited_for(draft):
        due = str(saga.alarmed_by)
        if draft.now > saga.alarmed_by:
            draft.resolve("deadline_near", by="overdue")
            if not draft.is_settled("overdue", code=due):
                draft.escalate("overdue")
        elif draft.now >= saga.alarmed_by - draft.rules.waits.deadline_warning and not draft.is_settled(
            "deadline_near", code=due
        ):
            draft.escalate("deadline_near")
    draft.saga = replace(draft.saga, state=replace(saga.state, until=_next_alarm(draft)))


# --- closing ---


def _close_when_ended(draft: Draft) -> None:
    saga = draft.saga
    if saga.acted_at is None or not all(step.is_ended for step in saga.steps):
        return
    if any(one.reason not in escalations.SELF_RESOLVING for one in saga.escalations):
        return
    begin_closing(draft, "completed", "every step ended")


def begin_closing(draft: Draft, final: FinalStatus, occasion: str) -> None:
    """No new erasing commands from here on.

    Of the open questions only those about a notice still matter, and, while the person has not been told,
    those about the statutory period.
    """
    drop_notice(draft, "extended")
    table.move(draft, occasion, Closing(final=final, until=draft.now))
    draft.note("closing", final=final)
    if final == "rejected" and _informs_subject(draft) and draft.saga.notice("rejected") is None:
        draft.give_notice("rejected")
    still_asked = {*escalations.NOTICES, *(escalations.ALARMS if _is_waited_for(draft) else ())}
    for one in draft.saga.escalations:
        if one.reason not in still_asked:
            draft.close(one, by=final)


def reopen(draft: Draft) -> None:
    """A fact arrived while closing that contradicts an end: the request is not done after all."""
    table.move(draft, "contradicted", InProgress(until=_next_alarm(draft)))
    draft.note("reopened")


def _finish_when_quiet(draft: Draft) -> None:
    saga, waits = draft.saga, draft.rules.waits
    state = expect(saga.state, Closing)
    may_act_until = [one.not_after + waits.call_limit for step in saga.steps for one in step.outstanding]
    untold = [n.state.until for n in saga.notices if isinstance(n.state, NoticePending)]
    latest = max(map(draft.ends_at, may_act_until), default=0)
    questions = [one.remind_at for one in saga.escalations]
    if untold or questions or latest >= draft.now:
        until = min(max([latest + 1, draft.now + 1, *untold, *questions]), _next_alarm(draft))
        draft.saga = replace(saga, state=replace(state, until=until))
        return
    final = state.final
    table.move(draft, "quiet", Finished(status=final, at=draft.now))
    draft.destroys_key = True
    draft.note("key_destroyed")
    draft.note(final)
    draft.say_end(final)


# --- the request's own timers ---


def remind(draft: Draft) -> None:
    """Repeats open questions that have lain too long, and alarms a mailbox that stays silent."""
    waits = draft.rules.waits
    for one in draft.saga.escalations:
        if draft.is_due(one.remind_at):
            again = replace(one, remind_at=draft.now + waits.decision_reminder)
            kept = tuple(again if e.id == one.id else e for e in draft.saga.escalations)
            draft.saga = replace(draft.saga, escalations=kept)
            draft.note("reminded", escalation=one.id)
            draft.say("reminded", concerns=one.id)
    for notice in draft.saga.notices:
        if isinstance(notice.state, NoticePending) and draft.is_due(notice.state.until):
            until = draft.now + waits.notice_alarm
            draft.put_notice(replace(notice, state=replace(notice.state, until=until)))
            if draft.find(escalations.failing(notice.purpose)) is None:
                draft.escalate(escalations.silent(notice.purpose))
