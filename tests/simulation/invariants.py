"""What must hold in every world, whatever went wrong in it.

`Watch` hears of every commit and checks what must hold at each moment; `check_end` looks at the whole when
the world has come to rest. The judge is the vendors' ledger, never the product's own word.
"""

import calendar
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import cast
from zoneinfo import ZoneInfo

import holidays
import sqlalchemy as sa

from orchestrator.bus.port import Record
from orchestrator.privacy.keys import KeyDestroyed
from orchestrator.saga.model import AwaitingDecision, Ended, Finished, Saga, Step, waits
from orchestrator.store import tables
from schemas import topics
from schemas.codec import CodecError, decode
from schemas.messages import Command, Outcome
from tests.simulation import installation
from tests.simulation.history import read
from tests.simulation.people import Person
from tests.simulation.readable import check_nothing_is_readable
from tests.simulation.robots import Asked, Requester
from tests.simulation.violations import Violated, expect
from tests.simulation.world import World

CALL_LIMIT = 120_000_000
ERASING = {
    "person_soft_deleted": "superoffice",
    "consent_removed": "superoffice",
    "ticket_deleted": "superoffice",
    "formsubmission_deleted": "superoffice",
    "appointment_deleted": "superoffice",
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
            expect(saga.wake_at is None, "timers", "a finished request has a timer")
            return
        timers = waits(saga)
        waiting = 1 + len(saga.escalations)
        # The steps of one that was set aside stand still until its release.
        if not saga.quarantined:
            waiting += sum(not isinstance(step.state, Ended) for step in saga.steps)
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
        expect(not saga.escalations, "completion", "completed with an open question")
        asked = next((one for one in self._requester.asked if one.request_id == saga.request_id), None)
        if asked is not None:
            for step in saga.steps:
                still_held(self._world, saga, step, asked)


def still_held(world: World, saga: Saga, step: Step, asked: Asked) -> None:
    """A step that says it is done may leave nothing at its vendor of what was there at the beginning."""
    state = cast(Ended, step.state)
    if state.end not in ("erased", "absent", "anonymised", "retained"):
        return
    person = asked.person
    known = {"email": person.email, "phone": person.phone, "ga_client_id": person.client_id}
    known |= {"tenant_user_id": person.tenant_id, "name": person.name}
    given = [known[kind] for kind in saga.identifier_kinds]
    for line in world.sandbox.holds(*given):
        place = (line["vendor"], line["record"])
        if (line["vendor"], line["account"]) not in installation.VENDORS[step.system]:
            continue
        if place not in person.records or line["state"] in ("purging", "submitted"):
            continue
        # Who is under another address by the time of the look can't be found, nor what hangs on them.
        hung = line["vendor"] == "superoffice" and line["kind"] != "person"
        gone = place in person.renamed or (
            hung and line["vendor"] in {vendor for vendor, _ in person.renamed}
        )
        if state.end == "absent" and gone and step.found == 0:
            continue
        if state.end == "retained" and (line["state"] == "bookkeeping" or state.grade == "party_stated"):
            continue
        # The settings keep documents, for a law.
        if state.end == "retained" and line["kind"] == "document":
            continue
        # Where we can't look, a party's word is all there is, and is reported as such.
        if line["vendor"] == "agencies" and state.grade == "party_stated":
            continue
        if step.system == "agency_tt" and state.end == "absent" and state.grade == "party_stated":
            continue
        raise Violated(
            "completion",
            f"{step.system} is reported {state.end} ({state.grade}) and the vendor holds a {line['kind']} "
            f"({line['state']})",
        )


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
    for person in (*world.people, *world.bystanders):
        owners |= dict.fromkeys(person.records | person.later.keys(), person)
    by_person = {asked.person.number: asked for asked in requester.asked}
    allowed: defaultdict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for kind in set(installation.KINDS.values()):
        for delivery in world.bus.all_of(topics.commands(kind)):
            try:
                command = decode(delivery.value, Command)
            except CodecError:
                continue
            if command.verb == "erase":
                allowed[command.request_id, command.system].append((command.issued_at, command.not_after))
    made = {place: at for person in world.people for place, at in person.later.items()}
    made |= {
        (line["vendor"], line["record"]): line["at"]
        for line in world.sandbox.ledger()
        if line["effect"] == "contact_recreated"
    }
    once: Counter[tuple[str, str, str]] = Counter()
    for line in world.sandbox.ledger():
        effect, place = line["effect"], (line["vendor"], line["record"])
        ours = effect in ERASING
        if not (ours or effect in THEIRS) or line["record"] is None:
            continue
        system = ERASING.get(effect) or THEIRS[effect]
        if not line["repeated"]:
            once[line["vendor"], line["record"], effect] += 1
        owner = owners.get(place)
        if place in made and owner is None:
            continue
        expect(
            owner is not None and owner in world.people, "bystanders", f"{effect} of somebody else's record"
        )
        if owner is None:
            continue
        asked = by_person.get(owner.number)
        expect(asked is not None and system in asked.scope, "bystanders", f"{effect}, which nobody asked for")
        if asked is None or not ours:
            continue
        windows = allowed[asked.request_id, system]
        in_time = any(start <= line["at"] <= end + CALL_LIMIT for start, end in windows)
        expect(in_time, "not_after", f"{effect} at a time for which there was no command")
        renamed = {record for vendor, record in owner.renamed if vendor == line["vendor"]}
        if effect == "person_soft_deleted" and line["record"] in owner.twins and not owner.twins & renamed:
            expect(
                _is_wanted(world, asked, line["at"]),
                "consent",
                "one of several with the address, unasked",
            )
        before = watch.erased_at.get((asked.request_id, system))
        if place in made and before is not None and made[place] > before:
            expect(
                _is_wanted(world, asked, line["at"]),
                "consent",
                f"{effect} of a record newer than the erasure",
            )
    for (_, _, effect), count in once.items():
        repeats = effect in ("unsubscribed", "consent_removed")
        expect(count == 1 or repeats, "doubled", f"{effect} {count} times")


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


_ZONE = ZoneInfo("Europe/Stockholm")
_HOLIDAYS = holidays.country_holidays("SE")


def due_at(received_at: int, months: int) -> int:
    """Regulation 1182/71, counted once more, in another way than the product does."""
    day = datetime.fromtimestamp(received_at / 1e6, _ZONE).date()
    year, month = day.year + (day.month + months - 1) // 12, (day.month + months - 1) % 12 + 1
    due = date(year, month, min(day.day, calendar.monthrange(year, month)[1]))
    while due.isoweekday() > 5 or due in _HOLIDAYS:
        due += timedelta(days=1)
    after = due + timedelta(days=1)
    midnight = datetime(after.year, after.month, after.day, tzinfo=_ZONE)
    return int(midnight.astimezone(UTC).timestamp()) * 1_000_000 - 1
