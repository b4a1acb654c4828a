"""The judge of one life: after each event, what was sent and what ended is held against the truth.

Each broken invariant has a name, which README.md explains.
"""

from collections.abc import Iterable

from orchestrator.saga.decide import Decision
from orchestrator.saga.draft import SendCommand, SendOutcome
from orchestrator.saga.events import Confirmed, Event, RequestReceived
from orchestrator.saga.model import Action, Closing, Ended, Escalation, Finished, NoticePending, Saga, Step
from tests.oracle.clocks import Clocks, is_acted_on
from tests.oracle.questions import Questions, offered
from tests.oracle.testimony import Testimony, end_of
from tests.oracle.truth import HOUR, NOT_ASKED, Analytics, Record, kind_of
from tests.oracle.violations import Broken
from tests.oracle.world import Sent, World

#: Ends that say that nothing of the person is left.
_NOTHING_LEFT = frozenset({"erased", "absent", "anonymised"})
#: What a party says by itself, and what it answers.
_PARTYS_ENDS = frozenset({"party_erased", "absent", "retained", "refused"})


class Judge:
    """Watches one life."""

    def __init__(self, world: World, broken: Broken) -> None:
        self.world = world
        self.testimony = Testimony(world)
        self.questions = Questions(self.testimony, broken)
        self.clocks = Clocks(world.rules, broken)
        self._broken = broken
        self._heard_of: set[tuple[str, int]] = set()

    def offered(self, saga: Saga, question: Escalation, now: int) -> tuple[Action, ...]:
        return offered(saga, question, now, self.world.rules)

    def watch(self, before: Saga | None, event: Event, decision: Decision, now: int) -> None:
        """Check everything that one event may have broken.

        Raises:
            Violated: an invariant does not hold.
        """
        self.testimony.hear(before, event, decision, now)
        after = decision.saga
        for message in decision.messages:
            if isinstance(message, SendCommand):
                self._command(after, message)
        if before is not None and after.steps is not before.steps:
            for was, step in zip(before.steps, after.steps, strict=True):
                if was is step:
                    continue
                if isinstance(step.state, Ended) and end_of(was.state) != end_of(step.state):
                    self._end(after, step, event)
                if isinstance(event, Confirmed):
                    self._accepted(after, was, step, event)
        if isinstance(event, Confirmed):
            self._word(before, event, decision)
            self._left_alone(event, decision, now)
        if isinstance(event, RequestReceived) and before is None:
            self._scope(event, after)
        if decision.destroys_key:
            self._destroyed(after, now)
        self.questions.watch(before, event, decision, now)
        self.clocks.watch(before, event, decision, now)

    def _scope(self, event: RequestReceived, saga: Saga) -> None:
        """A system that is named and not configured is a question, and does not vanish."""
        unknown = [name for name in event.scope or () if name not in self.world.rules.systems]
        if unknown and not any(question.reason == "unknown_system" for question in saga.escalations):
            self._broken(
                "scope", f"{len(unknown)} of the systems named are not configured, and nobody is asked"
            )

    # --- commands ---

    def _command(self, saga: Saga, sent: SendCommand) -> None:
        if not self.world.sealed.identifiers(saga.identifiers) <= self.testimony.verified:
            self._broken("unverified", f"{sent.verb} to {sent.system} with unverified identifiers")
        told = self.testimony.about(sent.system)
        self.world.by_id[sent.event_id].erased_at = told.erased_at
        if sent.takes_all not in (0, told.agreed):
            self._broken(
                "counted", f"a command to {sent.system} takes {sent.takes_all}, agreed to {told.agreed}"
            )
        if sent.verb == "prove" and (sent.erased_at is None or sent.accepted_at is None):
            self._broken("prove_time", f"a proof at {sent.system} that doesn't know when was erased")
        if sent.verb != "erase":
            return
        if isinstance(saga.state, Closing | Finished):
            self._broken("closed", f"an erase command to {sent.system} while {saga.status}")
        if told.contradicts and self.world.is_controllers(sent.system):
            self._broken(
                "contradiction", f"an erase command to {sent.system}, whose words contradict their times"
            )
        if self.world.is_controllers(sent.system) and not self.testimony.may_erase(
            sent.system, saga.identifiers
        ):
            latest = told.latest_word
            said = "nothing" if latest is None else "erase" if latest.erases else "refuse"
            self._broken("refused", f"an erase command to {sent.system}, whose controller last said {said}")

    def watch_erasure(self, sent: Sent, erased: Iterable[tuple[Record, int]]) -> None:
        """Check what a worker erased in the name of a command."""
        for record, _ in erased:
            if sent.erased_at is not None and record.created > sent.erased_at:
                self._broken("consent", f"a record newer than the erasure was erased at {sent.system}")

    # --- ends ---

    def _end(self, saga: Saga, step: Step, event: Event) -> None:
        state = step.state
        if not isinstance(state, Ended) or not isinstance(event, Confirmed):
            return
        if state.end in ("waived", "stopped"):
            return
        self._about_less(saga, step, event)
        if state.end in _NOTHING_LEFT or (state.end == "retained" and event.command_id is not None):
            self._wrong_end(saga, step, event.occurred_at, is_party=event.command_id is None)
            self._references(step, event)

    def _about_less(self, saga: Saga, step: Step, event: Confirmed) -> None:
        """No answer about fewer identifiers ends a step."""
        if self.testimony.is_about_less(event, saga) and (event.command_id or event.kind in _PARTYS_ENDS):
            who = "" if event.command_id else "a party's "
            self._broken("about_less", f"{step.system} ended by {who}{event.kind} about other identifiers")

    def _accepted(self, saga: Saga, was: Step, step: Step, event: Confirmed) -> None:
        """Only an acceptance of all that is known to be there leaves nothing but the proof to do."""
        if event.kind != "accepted" or event.command_id is None or is_acted_on(was) or not is_acted_on(step):
            return
        if self.testimony.is_about_less(event, saga):
            self._broken("about_less", f"{step.system} counts as erased by an answer about other identifiers")
        for one in self.testimony.about(step.system).found:
            if one.to_erase and self.world.sealed.mark(one.sealed) not in event.about:
                self._broken("about_less", f"{step.system} counts as erased by an answer about fewer records")

    def _wrong_end(self, saga: Saga, step: Step, looked_at: int, *, is_party: bool) -> None:
        """No record may be there that the look that ended the step had to see."""
        vendor = self.world.vendors.get(step.system)
        if vendor is None:
            return
        given = self.world.sealed.identifiers(saga.identifiers)
        if isinstance(vendor, Analytics):
            missing = [one for one in vendor.known(given) if one not in vendor.submitted]
            if missing:
                self._broken("wrong_end", f"{step.system} ended, and {missing} were never submitted")
            return
        known = self.testimony.records(step.system)
        for record in vendor.records:
            if record.state != "live" or record.kept or record.since >= looked_at:
                continue
            if record in known or (record.ids & given and (is_party or _is_claimed(step, record, given))):
                self._broken("wrong_end", f"{step.system} ended with a record in {record.place} still there")

    def _references(self, step: Step, event: Confirmed) -> None:
        """What the saga was told of and had to erase is in the proof."""
        if event.command_id is None:
            return
        for one in self.testimony.about(step.system).found:
            if one.to_erase and self.world.sealed.mark(one.sealed) not in event.about:
                self._broken("unproved", f"{step.system} ended without a proof of what was found there")

    def _destroyed(self, saga: Saga, now: int) -> None:
        if not isinstance(saga.state, Finished):
            self._broken("key", "the key was destroyed before the end")
            return
        limit = self.world.rules.waits.call_limit
        for sent in self.world.sent:
            is_out = sent.command.event_id not in self.testimony.answered
            if is_out and sent.command.not_after + limit >= now:
                self._broken("key", f"{sent.command.verb} at {sent.system} may still act")
        if any(isinstance(notice.state, NoticePending) for notice in saga.notices):
            self._broken("key", "a notice is still to be given")
        if saga.escalations:
            self._broken("key", f"a question is open: {saga.escalations[0].reason}")
        if saga.state.status == "completed":
            for step in saga.steps:
                self._completed(saga, step)

    def _completed(self, saga: Saga, step: Step) -> None:
        state, told = step.state, self.testimony.about(step.system)
        if not isinstance(state, Ended):
            self._broken("key", f"{step.system} has not ended")
            return
        if state.end in ("waived", "stopped"):
            return
        if state.end == "refused":
            word = told.latest_word
            if word is not None and word.erases and self.testimony.may_erase(step.system, saga.identifiers):
                self._broken("word_lost", f"{step.system} is refused, and the latest word is erase")
            return
        if state.end == "retained" and state.grade == "party_stated":
            return
        for one in told.found:
            for record in self.world.sealed.records(one.sealed):
                is_known = one.seen_at > told.looked_until or record.since < told.looked_until
                if record.state == "live" and not record.kept and is_known:
                    self._broken("wrong_end", f"completed; a known record is still there at {step.system}")

    def _left_alone(self, event: Confirmed, decision: Decision, now: int) -> None:
        """A system that is left alone for long, after failures of others, becomes a question."""
        if event.code != NOT_ASKED or event.system is None or decision.saga.quarantined:
            return
        since = self.testimony.about(event.system).unasked_since
        step = decision.saga.step(event.system)
        waits = step is not None and step.command_id == event.command_id and step.state.status == "retrying"
        limit = self.world.rules.waits.circuit_alarm + HOUR
        if waits and since is not None and now - since > limit:
            self._broken("left_alone", f"{event.system} is left alone for long, and nobody is asked")

    # --- what was said ---

    def _word(self, before: Saga | None, event: Confirmed, decision: Decision) -> None:
        """A word is on the timeline, is not parked, and is heard where it contradicts what was reported."""
        is_notice = event.system is None
        if event.command_id is not None and not is_notice:
            return
        step = before.step(event.system) if before is not None and event.system is not None else None
        if step is None and not is_notice:
            return
        if decision.parks_event is not None and decision.parks_event != "rule_failed":
            self._broken("parked", f"{event.kind} of {event.system or 'the mailbox'} was parked")
        if is_notice or step is None:
            return
        if not any(event.kind in entry.data.values() for entry in decision.entries):
            self._broken("unrecorded", f"{event.kind} of {event.system} is not on the timeline")
        end = step.state.end if isinstance(step.state, Ended) else None
        if event.kind == "refused" and end in ("erased", "anonymised"):
            self._heard(step, event, decision)
        if event.kind == "instructed" and end == "refused" and before is not None and before.is_finished:
            self._heard(step, event, decision)

    def _heard(self, step: Step, event: Confirmed, decision: Decision) -> None:
        """A party's latest word, if it contradicts an end, becomes a question or a correction."""
        words = self.testimony.about(step.system).words
        word = self.testimony.about(step.system).latest_word
        if word is None or word.order != event.order or not self.world.is_controllers(step.system):
            return
        # The same word delivered once more, or said twice in a row, was told the first time.
        before = [one for order, one in sorted(words.items()) if order < word.order]
        is_told = (step.system, word.order) in self._heard_of
        if is_told or (before and before[-1].erases == word.erases):
            return
        self._heard_of.add((step.system, word.order))
        link = self.world.link(step.system, event.attempt)
        if link is not None and link.identifiers != decision.saga.identifiers:
            return
        told = any(
            isinstance(message, SendOutcome) and message.kind in ("escalated", "corrected")
            for message in decision.messages
        )
        asked = any(one.system == step.system for one in decision.saga.escalations)
        state = after.state if (after := decision.saga.step(step.system)) is not None else None
        # While a request closes, what contradicts an end is noted with it, and its last outcome says so.
        noted = not isinstance(state, Ended) or (
            isinstance(decision.saga.state, Closing) and state.contradicted == event.kind
        )
        settled = any(key.startswith(f"refused_late/{step.system}") for key in decision.saga.settled)
        if not (told or asked or noted or settled):
            self._broken("deaf", f"{event.kind} of {step.system} after its end changes nothing")


def _is_claimed(step: Step, record: Record, given: frozenset[str]) -> bool:
    """Tell whether the step's evidence says that this record's place was searched by what it carries."""
    place = next((place for place in step.places if place.name == record.place), None)
    if place is None:
        return not step.places
    return place.looked and any(place.by.get(kind_of(one), 0) for one in record.ids & given)
