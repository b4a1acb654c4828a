"""What must hold in every world, whatever went wrong in it.

`Watch` hears of every commit and checks what must hold at each moment; `check_end` looks at the whole when
the world has come to rest. The judge is the vendors' ledger, never the product's own word.
"""

from collections import Counter, defaultdict
from typing import cast

import sqlalchemy as sa

from handlers.sandbox.store import Row
from orchestrator.bus.port import Record
from orchestrator.privacy.keys import KeyDestroyed
from orchestrator.saga.model import AwaitingDecision, Ended, Finished, Saga, waits
from orchestrator.store import tables
from schemas import topics
from schemas.codec import CodecError, decode
from schemas.messages import Command, Outcome
from tests.simulation import installation
from tests.simulation.clocks import due_at
from tests.simulation.held import arrivals, merges, still_held
from tests.simulation.history import read
from tests.simulation.people import Person
from tests.simulation.readable import check_nothing_is_readable
from tests.simulation.robots import Asked, Requester
from tests.simulation.violations import Violated, expect
from tests.simulation.world import World

#: By how much, as the handlers have it by default, a vendor's clock and ours may differ.
ALLOWED_SKEW = 300_000_000
CALL_LIMIT = 120_000_000
ERASING = {
    "person_soft_deleted": "superoffice",
    "consent_removed": "superoffice",
    "ticket_deleted": "superoffice",
    "formsubmission_deleted": "superoffice",
    "appointment_deleted": "superoffice",
    "chatsession_deleted": "superoffice",
    "document_deleted": "superoffice",
    "sale_deleted": "superoffice",
    "gdpr_deleted": "hubspot",
    "contact_archived": "hubspot",
    "unsubscribed": "hubspot",
    "deletion_submitted": "analytics",
    "record_erased": "tenant",
}
THEIRS = {"candidate_erased": "agency_mail", "candidate_destroyed": "agency_tt"}


class Watch:
    """Checks each saved state of a saga."""

    def __init__(self, world: World, requester: Requester) -> None:
        self._world = world
        self._requester = requester
        world.on_commit.append(self.saved)
        self.seen: Counter[str] = Counter()
        self.fresh: list[Saga] = []
        self.erased_at: dict[tuple[str, str], int] = {}
        self._before: dict[str, Saga] = {}
        self._broken: Violated | None = None
        world.bus.on_add = self.published

    def saved(self, saga: Saga) -> None:
        self.fresh.append(saga)
        for one in saga.escalations:
            self.seen[f"escalation: {one.reason}"] += 1
        for step in saga.steps:
            if step.erased_at is not None:
                self.erased_at.setdefault((saga.request_id, step.system), step.erased_at)

    def published(self, record: Record) -> None:
        """A command goes out only once the state that sent it is committed."""
        if not record.topic.startswith("erasure.commands."):
            return
        try:
            command = decode(record.value, Command)
        except CodecError:
            return
        saga = self._world.sagas.get(command.request_id)
        step = saga.step(command.system) if saga is not None else None
        known = step is not None and step.attempt >= command.attempt
        if not known:
            # Kept for the next check: raised here, the product itself would handle it.
            self._broken = Violated("order", f"{command.verb} was sent before its cause was committed")

    def check(self) -> None:
        """What was committed since the last time."""
        if self._broken is not None:
            raise self._broken
        errors = self._world.log.errors
        expect(not errors, "errors", f"the product logged an error of its own: {errors[:1]}")
        untrue = self._world.untrue
        expect(not untrue, "places", f"{untrue[:1]}")
        fresh, self.fresh = self.fresh, []
        for saga in fresh:
            self._waits(saga)
            self._nothing_is_early(self._before.get(saga.request_id), saga)
            self._before[saga.request_id] = saga
            self._questions(saga)
            if saga.status == "closing":
                self._key_is_there(saga)
            if isinstance(saga.state, Finished) and saga.state.at == self._world.clock():
                self._end(saga)

    def _waits(self, saga: Saga) -> None:
        if saga.is_finished:
            expect(
                len(waits(saga)) == len(saga.escalations), "timers", "a finished request waits for something"
            )
            return
        timers = waits(saga)
        # The steps of a request that was set aside stand still; its own clock, and its questions, go on.
        steps = () if saga.quarantined else saga.steps
        waiting = 1 + sum(not isinstance(step.state, Ended) for step in steps) + len(saga.escalations)
        waiting += sum(notice.state.status == "pending" for notice in saga.notices)
        expect(len(timers) == waiting, "timers", "something waits without a timer")
        for what, until in timers:
            sound = 0 < until < 2**60
            expect(sound, "timers", f"the timer of {what} will never fire")
        expect(
            saga.wake_at == min(until for _, until in timers), "timers", "wake_at is not the soonest timer"
        )

    def _nothing_is_early(self, before: Saga | None, saga: Saga) -> None:
        """No reminder and no alarm comes before its time."""
        now = self._world.clock()
        for step in saga.steps:
            was = before.step(step.system) if before is not None else None
            if was is None or isinstance(was.state, Ended) or was.state.until <= now:
                continue
            expect(step.reminders <= was.reminders, "timers", f"{step.system} was reminded before its time")
            alarmed = any((one.reason, one.system) == ("no_answer", step.system) for one in saga.escalations)
            known = before is not None and any(
                (one.reason, one.system) == ("no_answer", step.system) for one in before.escalations
            )
            expect(
                known or not alarmed, "timers", f"the silence of {step.system} was alarmed before its time"
            )

    def _questions(self, saga: Saga) -> None:
        causes = Counter((one.reason, one.system) for one in saga.escalations)
        expect(max(causes.values(), default=1) == 1, "escalations", "the same question is open twice")
        if saga.quarantined or saga.status not in ("in_progress", "awaiting_verification"):
            return
        for step in saga.steps:
            if isinstance(step.state, AwaitingDecision):
                asked = any(one.system == step.system for one in saga.escalations)
                expect(asked, "escalations", f"{step.system} waits for a decision that nobody was asked for")

    def _key_is_there(self, saga: Saga) -> None:
        if self._world.sagas[saga.request_id].is_finished or not saga.identifiers:
            return
        try:
            self._world.keys.key_of(saga.request_id)
        except KeyDestroyed:
            raise Violated("key", "the key was destroyed before the request had closed") from None

    def _end(self, saga: Saga) -> None:
        self.seen[f"request: {saga.status}"] += 1
        for step in saga.steps:
            state = step.state
            expect(isinstance(state, Ended), "completion", f"{step.system} had not ended at the end")
            self.seen[f"step: {cast(Ended, state).end}"] += 1
        if saga.status != "completed":
            return
        # What a controller says after the end is the one thing that the DPO may still be asked about.
        still = {one.reason for one in saga.escalations} - {"instructed_late"}
        expect(not still, "completion", "completed with an open question")
        asked = next((one for one in self._requester.asked if one.request_id == saga.request_id), None)
        if asked is not None:
            for step in saga.steps:
                still_held(self._world, saga, step, asked.person)


# --- the end ---


def check_end(world: World, requester: Requester, watch: Watch, unsettled: str | None) -> None:
    """Everything that must hold when the world is at rest."""
    _nobody_is_lost(world, requester, unsettled)
    outcomes = list(read(world, topics.OUTCOMES, Outcome))
    _each_end_is_told_once(world, outcomes)
    _rows_agree(world)
    _effects(world, requester, watch)
    _bystanders(world)
    _due_dates(world)
    for request_id in world.sagas:
        check = world.store.verify_timeline(request_id)
        expect(check.is_intact, "timeline", f"broken at {check.broken_at}")
    check_nothing_is_readable(world, requester)


def _nobody_is_lost(world: World, requester: Requester, unsettled: str | None) -> None:
    for asked in requester.asked:
        expect(asked.request_id in world.sagas, "lost", "a submitted request has no saga")
    if unsettled is not None:
        open_ones = [saga for saga in world.sagas.values() if not saga.is_finished]
        states = [
            f"{saga.status}: " + " ".join(f"{s.system}={s.state.status}" for s in saga.steps)
            for saga in open_ones
        ]
        raise Violated("lost", f"{unsettled}; open: {'; '.join(states)}")
    for saga in world.sagas.values():
        expect(saga.is_finished, "lost", f"a request stays {saga.status} for ever")


def _each_end_is_told_once(world: World, outcomes: list[Outcome]) -> None:
    ends: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    questions: defaultdict[tuple[str, str, int], set[str]] = defaultdict(set)
    for outcome in outcomes:
        if outcome.kind in ("completed", "rejected", "cancelled"):
            ends[outcome.request_id].add((outcome.kind, outcome.event_id))
        if outcome.kind == "escalated":
            one = next((e for e in outcome.escalations if e.escalation_id == outcome.concerns), None)
            if one is not None:
                questions[outcome.request_id, one.escalation_id, one.version].add(outcome.event_id)
    for request_id, saga in world.sagas.items():
        expect(
            len(ends[request_id]) == 1, "outcomes", f"{len(ends[request_id])} ends of one request were told"
        )
        expect({kind for kind, _ in ends[request_id]} == {saga.status}, "outcomes", "another end was told")
    for told in questions.values():
        expect(len(told) == 1, "escalations", "the same question was put twice")
    # An agency is asked again with its command, which may be carried out twice like any other.
    ours = [mail.message for mail in world.mails if not mail.recipient.endswith("@agency.example")]
    sent = Counter((str(message["To"]), str(message["Message-ID"])) for message in ours)
    twice = sum(count - 1 for count in sent.values())
    excuses = world.counts["process killed"] + world.counts["role killed"]
    excuses += 3 * world.counts["mail fault: lost_response"] + world.counts["bus unavailable"]
    expect(twice <= excuses, "mail", f"{twice} mails went out twice")
    finals = Counter(
        mail.message["Subject"].split()[1].rstrip(":")
        for mail in {str(mail.message["Message-ID"]): mail for mail in world.mails}.values()
        if mail.recipient == installation.DPO and "completed" in str(mail.message["Subject"])
    )
    for count in finals.values():
        expect(count == 1, "mail", "a completion was mailed under two Message-IDs")


def _rows_agree(world: World) -> None:
    columns = tables.sagas.c
    with world.engine.connect() as connection:
        rows = connection.execute(sa.select(columns.request_id, columns.wake_at, columns.status)).all()
    for row in rows:
        saga = world.sagas.get(row.request_id)
        expect(saga is not None, "lost", "a row without a state was left")
        if saga is not None:
            expect(
                (saga.wake_at, saga.status) == (row.wake_at, row.status), "timers", "row and document differ"
            )


def _effects(world: World, requester: Requester, watch: Watch) -> None:
    owners: dict[tuple[str, str], Person] = {}
    for person in (*world.people, *world.bystanders, world.taker):
        owners |= dict.fromkeys(person.records | person.later.keys(), person)
    allowed = _windows(world)
    made = {place: at for person in world.people for place, at in person.later.items()}
    made |= {
        (line["vendor"], line["record"]): line["at"]
        for line in world.sandbox.ledger(effect="contact_recreated")
    }
    made |= arrivals(world)
    taken = {
        (line["vendor"], line["record"]): line["at"]
        for line in world.sandbox.ledger()
        if line["effect"] == "address_taken_over" or (line["effect"] == "merged_into" and not line["forgets"])
    }
    mergers = merges(world)
    once: Counter[tuple[str, str, str]] = Counter()
    for line in world.sandbox.ledger():
        effect, place = line["effect"], (line["vendor"], line["record"])
        if not (effect in ERASING or effect in THEIRS) or line["record"] is None:
            continue
        system = ERASING.get(effect) or THEIRS[effect]
        if not line["repeated"]:
            once[line["vendor"], line["record"], effect] += 1
        owner = owners.get(place)
        if place in made and owner is None:
            continue
        if place in taken and taken[place] <= line["at"]:
            continue  # it had the address that was asked for by then
        merged = mergers.get(place)
        if merged is not None and merged.at <= line["at"]:
            theirs = [one for one in requester.asked if merged.away in one.person.records]
            said = any(_is_wanted(world, one, line["at"]) for one in theirs)
            expect(said, "bystanders", f"{effect} of a record that the person's was merged into, unasked")
            continue
        mine = [one for one in requester.asked if one.person is owner and system in one.scope]
        expect(owner in world.people, "bystanders", f"{effect} of somebody else's record")
        expect(bool(mine), "bystanders", f"{effect}, which nobody asked for")
        if owner is not None and effect in ERASING:
            _was_wanted(world, watch, line, owner, mine, allowed, made.get(place))
    for (_, _, effect), count in once.items():
        repeats = effect in ("unsubscribed", "consent_removed")
        expect(count == 1 or repeats, "doubled", f"{effect} {count} times")


def _windows(world: World) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """When each request might erase in each system: from a command to its end."""
    allowed: defaultdict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for kind in set(installation.KINDS.values()):
        for delivery in world.bus.all_of(topics.commands(kind)):
            try:
                command = decode(delivery.value, Command)
            except CodecError:
                continue
            if command.verb == "erase":
                allowed[command.request_id, command.system].append((command.issued_at, command.not_after))
    return allowed


def _was_wanted(
    world: World,
    watch: Watch,
    line: Row,
    owner: Person,
    mine: list[Asked],
    allowed: dict[tuple[str, str], list[tuple[int, int]]],
    made: int | None,
) -> None:
    """An effect of ours has a command, and a word of the DPO's where it needs one."""
    effect, system = line["effect"], ERASING[line["effect"]]
    windows = [window for one in mine for window in allowed.get((one.request_id, system), ())]
    in_time = any(start <= line["at"] <= end + CALL_LIMIT for start, end in windows)
    expect(in_time, "not_after", f"{effect} at a time for which there was no command")
    said = any(_is_wanted(world, one, line["at"]) for one in mine)
    if effect == "person_soft_deleted" and line["record"] in owner.twins and _were_several(world, line, mine):
        expect(said, "consent", "one of several with the address, unasked")
    if effect == "person_soft_deleted" and "a form leads to another address" in owner.traits:
        expect(said, "consent", "a person with another address, unasked")
    # What the settings allow for is no excuse: within it, a record's age can't be told.
    behind = max(0, -world.sandbox.skew.get(line["vendor"], 0) - ALLOWED_SKEW)
    erased = [watch.erased_at[key] for one in mine if (key := (one.request_id, system)) in watch.erased_at]
    if made is not None and erased and made > max(erased) + behind and made > min(erased):
        expect(said, "consent", f"{effect} of a record newer than the erasure")


def _were_several(world: World, line: Row, mine: list[Asked]) -> bool:
    """Whether more than one person with the address was live throughout the look that the effect goes by."""
    looks = [
        look
        for one in mine
        for look in world.looks.get((one.request_id, "superoffice"), ())
        if look.ended <= line["at"]
    ]
    return bool(looks) and len(max(looks, key=lambda look: look.ended).leads.live) > 1


def _is_wanted(world: World, asked: Asked, at: int) -> bool:
    """A record that came after the erasure goes only when the DPO says so, or the person asks once more."""
    return any(
        entry.action == "supplemented" or (entry.action == "decided" and entry.data.get("action") == "erase")
        for entry in world.store.timeline(asked.request_id)
        if entry.at <= at
    )


def _bystanders(world: World) -> None:
    for person in world.bystanders:
        lines = world.sandbox.holds(*person.values())
        now = {(line["vendor"], line["record"]) for line in lines if line["state"] in ("live", "bookkeeping")}
        expect(now == person.records, "bystanders", "a person who asked for nothing lost a record")


def _due_dates(world: World) -> None:
    for saga in world.sagas.values():
        months = 3 if saga.extended else 1
        expect(saga.due_at == due_at(saga.received_at, months), "due", "due on another day than the law says")
