"""The rules of one step: what a confirmation, a timer or a decision does to it.

Each rule takes the draft, the step as it is and the event, and gives the step as it becomes; `table.py` says
which rule applies in which status. The driver has already absorbed what a confirmation states (`absorb`). The
rules for an erasure and a proof are in `proofs.py`, those for what a party says in `parties.py`.

Four principles run through them:

* Facts count whoever brings them. Records found or erased were found or erased, even if an older attempt
  says so late. References of records, once known, are erased and proved: neither an absence nor that nobody
  can be identified ends a step that has some.
* A failure, an absence or a proof of any attempt but the current one never moves the step.
* An answer counts for the identifiers and references that it was about, and for no more (`about.py`): one
  that was about less than is known now ends nothing, and the command is sent anew.
* What was created after the erasure may be new consent. Only a proof tells old from new, so that whatever
  is seen after an erasure leads to a proof and never straight to another erasure.
"""

from orchestrator.saga import about, progress, records, words
from orchestrator.saga.contradictions import is_seen_gone
from orchestrator.saga.draft import Draft, RuleBroken, expect
from orchestrator.saga.events import Confirmed, Event
from orchestrator.saga.model import (
    Accepted,
    AwaitingDecision,
    AwaitingParty,
    AwaitingSubject,
    Ended,
    Erasing,
    Grade,
    Locating,
    Proving,
    Retrying,
    Step,
    Verb,
    Waiting,
)
from orchestrator.saga.replacing import replace
from orchestrator.saga.rules import SystemPlan

#: Answers whose references are a handler's own notes, not the person's records.
_WITH_NOTES = frozenset({"cannot_look", "awaiting_party", "accepted", "pending"})
#: The worker's words for why nobody was asked: the system is left alone because it did not answer, or because
#: it said for how long; something of our own was waited for in vain, a connection or a name; or the worker
#: does not know the system yet.
NOT_ASKED = frozenset(
    {"circuit_open", "told_to_wait", "no_free_connection", "resolver_busy", "resolver_silent"}
    | {"unknown_system"}
)


def plan_of(draft: Draft, step: Step) -> SystemPlan:
    """The step's configuration; a system taken out of it since keeps the defaults, so its steps can end."""
    return draft.rules.systems.get(step.system) or SystemPlan(name=step.system, kind=step.kind)


def verb_of(step: Step) -> Verb:
    """The verb that the step is at."""
    match step.state:
        case Erasing():
            return "erase"
        case Proving() | Accepted():
            return "prove"
        case Retrying(verb=verb) | AwaitingParty(verb=verb) | AwaitingDecision(resume=verb):
            return verb
        case _:
            return "locate"


def is_unknown(step: Step) -> bool:
    """Whether the step's system is not configured, so that nobody has been asked."""
    return isinstance(step.state, AwaitingDecision) and step.state.reason == "unknown_system"


def absorb(draft: Draft, step: Step, event: Confirmed) -> Step:
    """Takes in what a confirmation states as fact; clears the attempt and the agreement that it answers."""
    draft.resolve("no_answer", "command_not_sent", system=step.system)
    outstanding = tuple(one for one in step.outstanding if one.command_id != event.command_id)
    step = records.taken_in(step, event)
    notes = step.notes
    if event.kind in _WITH_NOTES and event.references is not None:
        notes = (*notes, event.references)
    if is_current(step, event):
        step = progress.taken_in(step, event)
    if about.is_about_the_person(draft.saga, event):
        step = _with_places(step, event)
        if progress.has_erased(event) and event.attempt >= step.asked_from:
            step = records.erased_by(step, min(event.occurred_at, draft.now), event.about)
    return replace(
        step,
        outstanding=outstanding,
        notes=notes,
        found=max(step.found, event.found),
        erased=max(step.erased, event.erased),
        evidence=_with_evidence(draft, step, event),
    )


def _with_evidence(draft: Draft, step: Step, event: Confirmed) -> dict[str, str]:
    """What an answer counted is the latest truth, as with places; one about less of the person is none."""
    facts = {f"{event.verb or 'answer'}.{name}": value for name, value in sorted(event.evidence.items())}
    if event.command_id is not None:
        is_latest = is_current(step, event) and not step.is_ended
        if event.about and not about.is_about_the_person(draft.saga, event):
            return step.evidence
    else:
        is_latest = event.attempt >= step.asked_from and not step.is_ended
    return {**step.evidence, **facts} if is_latest else {**facts, **step.evidence}


def _with_places(step: Step, event: Confirmed) -> Step:
    """What an answer says of places is the latest truth, unless a newer command is out, or the step ended."""
    is_latest = is_current(step, event) and not step.is_ended
    said = (step.places, event.places) if is_latest else (event.places, step.places)
    searched = about.furthest(step.searched, event.places) if event.verb == "locate" else step.searched
    return replace(step, places=about.latest(*said), searched=searched)


def is_current(step: Step, event: Event) -> bool:
    """Whether a confirmation answers the step's latest command."""
    return (
        isinstance(event, Confirmed) and event.command_id is not None and event.command_id == step.command_id
    )


def answers(step: Step, event: Event, *verbs: Verb) -> bool:
    """Whether a confirmation answers the latest command, and the step still wants that answer.

    A success that follows the failure of the same command (it was delivered twice) is wanted; while any other
    question lies with the DPO it is not.
    """
    state = step.state
    asked = not isinstance(state, AwaitingDecision) or state.reason == "failed"
    return is_current(step, event) and verb_of(step) in verbs and asked


def fresh(step: Step) -> Step:
    """The step with nothing held against its next command."""
    return replace(step, failures=0, expiries=0, unasked_since=None)


def end(step: Step, ended: Ended, grade: Grade | None) -> Step:
    return replace(fresh(step), state=replace(ended, grade=grade), grade=grade)


def ask_dpo(draft: Draft, step: Step, reason: str, resume: Verb, code: str | None = None) -> Step:
    draft.escalate(reason, step.system, code)
    until = draft.now + draft.rules.waits.decision_reminder
    return replace(step, state=AwaitingDecision(resume=resume, reason=reason, until=until))


def ask_whose(draft: Draft, step: Step, event: Confirmed) -> Step:
    """Asks about records that could be several people's. What the DPO agrees to is what was seen."""
    step = ask_dpo(draft, replace(fresh(step), grade=None), "ambiguous", "locate", records.AMBIGUOUS)
    return replace(step, state=replace(step.state, records=event.found, asked=event.references))


def counted_anew(draft: Draft, step: Step, event: Confirmed) -> Step:
    """The same command, carried out twice, saw other records: the question is about these now."""
    asked = draft.find("ambiguous", step.system)
    state = step.state
    if not isinstance(state, AwaitingDecision) or state.reason != "ambiguous" or asked is None:
        return step
    seen = (event.found, event.references)
    if not (is_current(step, event) and records.is_ambiguous(event)) or seen == (state.records, state.asked):
        return step
    draft.renew(asked, "counted_anew")
    return replace(step, state=replace(state, records=event.found, asked=event.references))


def _erase(draft: Draft, step: Step) -> Step:
    """Sends an erase command, but never into a controller's data without its instruction (Art. 28).

    A controller that was not heard yet is waited for. Over one that said erase before, and then refused,
    the DPO is asked. Known records that may be newer than the erasure are looked at first.
    """
    hold = words.hold(step)
    if hold is not None and (words.was_instructed(step) or draft.saga.capacity == "processor"):
        return ask_dpo(draft, step, hold, "erase")
    if step.has_controller and (step.instruction is None or hold is not None):
        until = draft.now + draft.rules.waits.party_reminder
        return replace(step, state=AwaitingParty(verb="locate", until=until))
    return draft.issue(step, "prove" if records.must_be_proved_first(step) else "erase")


def _locate(draft: Draft, step: Step) -> Step:
    """Sends a locate command. Without the controller's instruction it asks the controller.

    Where the request itself came from the controller, nobody is asked: over its refusal nothing is looked up.
    """
    hold = words.hold(step)
    if hold is not None and draft.saga.capacity == "processor":
        return ask_dpo(draft, step, hold, "locate")
    return draft.issue(step, "locate")


def send(draft: Draft, step: Step, verb: Verb) -> Step:
    """Sends the verb's command, if the controller's last word allows it."""
    match verb:
        case "erase":
            return _erase(draft, step)
        case "locate":
            return _locate(draft, step)
        case "prove":
            return draft.issue(step, verb)


# --- beginning ---


def start(draft: Draft, step: Step, event: Event) -> Step:
    """Sends the first locate; a system that holds nothing identifiable ends here, on the record."""
    plan = plan_of(draft, step)
    if plan.holds_nothing is not None:
        return end(step, Ended(end="not_identifiable", at=draft.now, reason=plan.holds_nothing), None)
    return _locate(draft, step)


def look_anew(draft: Draft, step: Step, event: Event) -> Step:
    """Looks once more for everything: an identifier was supplied, or the DPO wants a newer record erased.

    An agency is asked again. A controller is not, so what it says by the address that it has still counts. Of
    records that could be several people's, the DPO's "erase" means those that the question was about: the
    handler is told which and how many, until one search is answered.
    """
    anew = _anew(draft, step)
    if step.has_controller:
        anew = replace(anew, asked_from=step.asked_from)
    if isinstance(step.state, AwaitingDecision) and step.state.reason == "ambiguous":
        # The questions of earlier versions do not say which records they are about, or how many.
        agreed = () if step.state.asked is None else (step.state.asked,)
        anew = replace(anew, takes_all=step.state.records or step.found, agreed=agreed)
    return _locate(draft, anew)


def _anew(draft: Draft, step: Step) -> Step:
    return replace(
        # Whatever was seen by now is older than the erasure to come.
        fresh(records.sorted_in(step, draft.now)),
        asked_from=step.attempt + 1,
        erases_from=step.attempt + 1,
        proves_from=0,
        erased_at=None,
        accepted_at=None,
        carried=0,
        rounds=0,
        reopened=0,
        reminders=0,
        takes_all=0,
        agreed=(),
        grade=None,
        **progress.NONE,
        # The searches to come say what there is to look at, with all the identifiers.
        places=(),
        searched=(),
        # What a proof counted is no more the last word on what stays.
        evidence={name: value for name, value in step.evidence.items() if not name.startswith("prove.")},
    )


def supplement(draft: Draft, step: Step, event: Event) -> Step:
    """Starts over with more identifiers, in the order of the systems.

    What the DPO has waived stays so, and a controller is asked again: its instruction was about less.
    """
    state = step.state
    if is_unknown(step):
        return step
    kept = step.instruction if draft.saga.capacity == "processor" else None
    if isinstance(state, Ended) and state.end == "waived":
        return replace(step, asked_from=step.attempt + 1, instruction=kept)
    return replace(
        _anew(draft, step), instruction=kept, state=Waiting(until=draft.now + draft.rules.waits.review)
    )


# --- answers to locate ---


def located(draft: Draft, step: Step, event: Event) -> Step:
    """Records were found: erase them. An older look may have had fewer identifiers, so it has to wait."""
    confirmed = expect(event, Confirmed)
    if not answers(step, event, "locate"):
        return counted_anew(draft, step, confirmed)
    if records.is_ambiguous(confirmed):
        return ask_whose(draft, step, confirmed)
    if confirmed.references is not None and confirmed.references not in step.references:
        # Seen after an erasure.
        return draft.issue(fresh(step), "prove")
    return _erase(draft, fresh(step))


def found_more(draft: Draft, step: Step, event: Event) -> Step:
    """While erasing: the command that is out does not carry these records, so another one goes out that does.

    What may be newer than an erasure was not taken in, and waits for the proof.
    """
    return _erase(draft, step) if expect(event, Confirmed).references in step.references else step


def found_while_asking(draft: Draft, step: Step, event: Event) -> Step:
    """While a party is asked to erase: it is asked for these records, too."""
    return found_more(draft, step, event) if verb_of(step) == "erase" else located(draft, step, event)


def located_late(draft: Draft, step: Step, event: Event) -> Step:
    """Records found overturn an end that says there are none; after an erasure they are looked at again."""
    confirmed = expect(event, Confirmed)
    match step.state:
        case Ended(end="absent" | "not_identifiable") if records.is_ambiguous(confirmed):
            return ask_whose(draft, step, confirmed)
        case Ended(end="absent" | "not_identifiable"):
            return _erase(draft, replace(fresh(step), grade=None))
        case Ended() as ended if not is_seen_gone(ended):
            return step
        case _:
            return draft.issue(fresh(step), "prove")


def absent(draft: Draft, step: Step, event: Event) -> Step:
    """Nothing held, shown with the control in place. Records found before are erased all the same."""
    confirmed = expect(event, Confirmed)
    if not answers(step, event, "locate"):
        return step
    if not about.is_about_the_person(draft.saga, confirmed):
        return ask_again(draft, step, confirmed, about.ABOUT_LESS)
    if step.knows_records:
        return _erase(draft, fresh(step))
    if confirmed.grade is None:
        return ask_dpo(draft, step, "failed", "locate", "no_evidence")
    short = about.shortfall(draft.saga, step, confirmed)
    if short is not None:
        return ask_again(draft, step, confirmed, short)
    return end(step, Ended(end="absent", at=draft.now), confirmed.grade)


def cannot_look(draft: Draft, step: Step, event: Event) -> Step:
    """Only the party itself can look: ask it."""
    return _erase(draft, fresh(step)) if answers(step, event, "locate") else step


def not_identifiable(draft: Draft, step: Step, event: Event) -> Step:
    """Art. 11: we can't tell the person apart there; where the person can help, they are asked first.

    Records found before are erased all the same: a product may have blanked the identifier and kept the row.
    """
    confirmed = expect(event, Confirmed)
    if not answers(step, event, "locate"):
        return step
    if not about.is_about_the_person(draft.saga, confirmed):
        return ask_again(draft, step, confirmed, about.ABOUT_LESS)
    if step.knows_records:
        return _erase(draft, fresh(step))
    if plan_of(draft, step).asks_subject:
        draft.escalate("identifier_missing", step.system)
        until = draft.now + draft.rules.waits.subject_answer
        return replace(fresh(step), state=AwaitingSubject(missing=confirmed.missing, until=until))
    return end(step, Ended(end="not_identifiable", at=draft.now, missing=confirmed.missing), None)


def stays(draft: Draft, step: Step, event: Event) -> Step:
    """The facts are absorbed; the step stays where it is."""
    return step


def went_on(draft: Draft, step: Step, event: Event) -> Step:
    """Part of the work is done: the next attempt goes on with the rest, at once. One that did none failed."""
    confirmed = expect(event, Confirmed)
    if not answers(step, event, verb_of(step)) or confirmed.verb != verb_of(step):
        return step
    if not progress.has_gone_on(step, confirmed):
        return _count_failure(draft, step, progress.NO_PROGRESS)
    if isinstance(step.state, AwaitingParty):
        return draft.command(step, step.state.verb, reminder=True)
    return send(draft, step, verb_of(step))


# --- failures ---


def failed(draft: Draft, step: Step, event: Event) -> Step:
    """The current attempt failed: again later, or ask. An older attempt's failure says nothing."""
    if not is_current(step, event):
        return step
    confirmed = expect(event, Confirmed)
    if confirmed.code in NOT_ASKED:
        return _left_alone(draft, step, confirmed)
    return _count_failure(draft, step, confirmed.code, confirmed.retry_after, passes=confirmed.retryable)


def _count_failure(
    draft: Draft, step: Step, code: str | None, retry_after: int | None = None, *, passes: bool = True
) -> Step:
    """Tries again later, unless the fault does not pass by itself, or this was the last attempt."""
    step = replace(step, failures=step.failures + 1, expiries=0)
    retry = draft.rules.retry
    if not passes or retry.is_spent(step.failures):
        return ask_dpo(draft, step, "failed", verb_of(step), code)
    return _again(draft, step, retry.delay(step.failures, draft.random, retry_after))


def _left_alone(draft: Draft, step: Step, event: Confirmed) -> Step:
    """Nobody was asked: the system is being left alone, or a wait of our own was in vain.

    That is no attempt, but it does not go on for ever without the DPO. All that wait for the system come back
    spread out, not in one crowd.
    """
    since = step.unasked_since if step.unasked_since is not None else draft.now
    last = since + draft.rules.waits.circuit_alarm
    step = replace(step, unasked_since=since)
    if draft.is_due(last):
        return ask_dpo(draft, step, "failed", verb_of(step), event.code)
    spread = draft.rules.retry.delay(1, draft.random, None)
    return _again(draft, step, min((event.retry_after or 0) + spread, draft.ends_at(last) - draft.now))


def expired(draft: Draft, step: Step, event: Event) -> Step:
    """The command lay too long and nothing was done: send it anew. Silence does not count as a failure.

    A worker whose clock is wrong finds every command expired, so that this too ends with the DPO.
    """
    return _send_anew(draft, step, "expired") if is_current(step, event) else step


def ask_again(draft: Draft, step: Step, event: Confirmed, short: about.Shortfall) -> Step:
    """An answer that falls short ends nothing: what it says was taken in, and the command is sent anew.

    A worker of an earlier version does not say what its answer is about, and a handler that lost a place may
    never find it again, so that this too ends with the DPO.
    """
    draft.note("ignored", system=step.system, trigger=event.kind, status=step.state.status, code=short)
    if not is_current(step, event) or isinstance(step.state, Retrying | AwaitingDecision):
        return step
    if short == about.FEWER_PLACES:
        return _count_failure(draft, step, short)
    return _send_anew(draft, step, short)


def _send_anew(draft: Draft, step: Step, code: str) -> Step:
    step = replace(step, expiries=step.expiries + 1)
    retry = draft.rules.retry
    if retry.is_spent(step.expiries):
        return ask_dpo(draft, step, "failed", verb_of(step), code)
    return _again(draft, step, max(retry.first, retry.delay(step.expiries, draft.random, None)))


def _again(draft: Draft, step: Step, wait: int) -> Step:
    until = draft.now + wait
    if isinstance(step.state, AwaitingParty):
        # The reminder did not go out, so it does not count as one.
        return replace(step, state=replace(step.state, until=until), reminders=max(0, step.reminders - 1))
    return replace(step, state=Retrying(verb=verb_of(step), until=until))


# --- timers ---


def rearm(draft: Draft, step: Step, event: Event) -> Step:
    """Waits on: what it waits for is looked at again after every event."""
    expect(step.state, Waiting)
    return replace(step, state=Waiting(until=draft.now + draft.rules.waits.review))


def alarm_silence(draft: Draft, step: Step, event: Event) -> Step:
    """No answer for long: the command still stands, and the DPO is told once. Of one that could not even be
    sent the DPO has been told that.
    """
    state = step.state
    if not isinstance(state, Locating | Erasing | Proving):
        raise RuleBroken(f"no command is out in {state.status}")
    if draft.find("command_not_sent", step.system) is None:
        draft.escalate("no_answer", step.system, verb_of(step))
    return replace(step, state=replace(state, until=draft.now + draft.rules.waits.silence_alarm))


def try_again(draft: Draft, step: Step, event: Event) -> Step:
    """The back-off is over."""
    return send(draft, step, expect(step.state, Retrying).verb)


def prove(draft: Draft, step: Step, event: Event) -> Step:
    """The proof is due."""
    return draft.issue(step, "prove")


def give_up_on_subject(draft: Draft, step: Step, event: Event) -> Step:
    """The person did not supply what was missing. Records that turned up meanwhile are erased."""
    state = expect(step.state, AwaitingSubject)
    if step.knows_records:
        return _erase(draft, fresh(step))
    return end(step, Ended(end="not_identifiable", at=draft.now, missing=state.missing), None)


def wait_for_dpo(draft: Draft, step: Step, event: Event) -> Step:
    """The escalation reminds by itself; a question that went missing is asked again."""
    state = expect(step.state, AwaitingDecision)
    if draft.find(state.reason, step.system) is None:
        draft.escalate(state.reason, step.system)
    until = draft.now + draft.rules.waits.decision_reminder
    return replace(step, state=replace(state, until=until))
