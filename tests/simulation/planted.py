"""Defects to plant, each at one place of the product, and the trouble in which they would show.

`PLANTED` has for each what must find it: the invariant, and within how many schedules.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC
from typing import Any, cast

import pytest

from handlers import execution
from handlers.apart import Apart
from handlers.hubspot_records import Records
from handlers.port import _WITNESS, Control, Reference, Task, unpack_references
from handlers.shown import Shown
from handlers.superoffice_proof import Bins, Proof
from handlers.worker import Worker
from orchestrator.bus.port import Bus, Delivery, Record
from orchestrator.cli import keys as key_commands
from orchestrator.cli.assembly import Ground
from orchestrator.privacy import Generation
from orchestrator.saga import decide, decisions, request, steps, table, words
from orchestrator.saga.clocks import Calendar, due_at
from orchestrator.saga.draft import Draft
from orchestrator.saga.events import Decided, Event
from orchestrator.saga.model import Ended, Step
from orchestrator.service import orchestrator as service
from orchestrator.service.needed import Needs
from orchestrator.service.outbound import outgoing
from orchestrator.service.relay import Relay
from orchestrator.store import Outgoing, Store, Transaction
from schemas import topics
from schemas.codec import decode, encode
from schemas.messages import Command, Outcome
from tests.simulation import people
from tests.simulation.scenario import Scenario

Patch = pytest.MonkeyPatch


def inbox_skipped(patch: Patch) -> None:
    real = Transaction.insert_inbox

    def every_one_is_new(self: Transaction, consumer: str, event_ids: Iterable[str]) -> set[str]:
        ids = set(event_ids)
        real(self, consumer, ids)
        return ids

    patch.setattr(Transaction, "insert_inbox", every_one_is_new)


def acknowledged_before_the_commit(patch: Patch) -> None:
    real = service.Orchestrator._consume

    def hasty(self: service.Orchestrator, deliveries: list[Delivery]) -> list[Delivery]:
        positions: dict[tuple[str, int], int] = {}
        for one in deliveries:
            positions[one.topic, one.partition] = one.offset + 1
        if positions:
            with self._store.begin() as transaction:
                transaction.set_positions(service.GROUP, positions)
        return real(self, deliveries)

    patch.setattr(service.Orchestrator, "_consume", hasty)


def outbox_row_lost(patch: Patch) -> None:
    real = Transaction.enqueue

    def forgetful(self: Transaction, outgoing: Iterable[Outgoing]) -> None:
        rows = list(outgoing)
        real(self, rows[:-1] if len(rows) > 1 else rows)

    patch.setattr(Transaction, "enqueue", forgetful)


class _Twice:
    """A bus on which each outcome is published again, as if it were another."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def publish(self, records: Iterable[Record]) -> None:
        batch = list(records)
        again = []
        for one in batch:
            if one.topic == topics.OUTCOMES:
                said = decode(one.value, Outcome)
                other = said.model_copy(update={"event_id": f"{said.event_id}-again"})
                again.append(Record(topic=one.topic, key=one.key, value=encode(other)))
        self._bus.publish([*batch, *again])

    def missing(self, topics: Collection[str]) -> set[str]:
        return self._bus.missing(topics)


def published_twice_with_a_new_id(patch: Patch) -> None:
    real = Relay.__init__

    def doubling(self: Relay, *, store: Store, bus: Bus, batch: int = 500) -> None:
        real(self, store=store, bus=cast(Bus, _Twice(bus)), batch=batch)

    patch.setattr(Relay, "__init__", doubling)


def sent_before_located_is_committed(patch: Patch) -> None:
    real = service.Orchestrator._write

    def hasty(self: service.Orchestrator, tx: Transaction, batch: Any, now: int) -> None:
        for _, decision in batch.decisions:
            self._bus.publish(
                Record(topic=one.topic, key=one.key, value=one.value, headers=one.headers)
                for one in outgoing(decision, now)
                if one.topic.startswith("erasure.commands.") and decode(one.value, Command).verb == "erase"
            )
        real(self, tx, batch, now)

    patch.setattr(service.Orchestrator, "_write", hasty)


def absent_taken_for_erased(patch: Patch) -> None:
    async def empty(self: Proof, there: object, now: int) -> Bins:
        return Bins(due_at=now)

    patch.setattr(Proof, "_bins", empty)


def absence_without_control(patch: Patch) -> None:
    def trusting(pinned: str, answered: str, record_found: bool | None = None) -> Control:
        return Control(_WITNESS, record=bool(record_found))

    patch.setattr(Control, "shown", staticmethod(trusting))


def key_destroyed_before_closing_ends(patch: Patch) -> None:
    real = request.begin_closing

    def hasty(draft: Draft, *rest: Any) -> None:
        real(draft, *rest)
        draft.destroys_key = True

    patch.setattr(request, "begin_closing", hasty)


def not_after_ignored(patch: Patch) -> None:
    patch.setattr(Task, "may_erase", lambda self: None)


def older_attempts_count(patch: Patch) -> None:
    patch.setattr(steps, "is_current", lambda step, event: getattr(event, "command_id", None) is not None)


def decision_on_another_version(patch: Patch) -> None:
    real = decisions._misfit

    def lax(draft: Draft, event: Decided) -> str | None:
        one = draft.saga.escalation(event.escalation_id)
        return real(draft, event if one is None else replace(event, escalation_version=one.version))

    patch.setattr(decisions, "_misfit", lax)


def wait_without_a_timer(patch: Patch) -> None:
    row = table.STEP_TABLE["erasing"]["awaiting_party"]

    def for_ever(draft: Draft, step: Step, event: Event) -> Step:
        after = row.rule(draft, step, event)
        if isinstance(after.state, Ended):
            return after
        return replace(after, state=replace(after.state, until=2**61))

    patch.setitem(table.STEP_TABLE["erasing"], "awaiting_party", row._replace(rule=for_ever))


def due_in_utc(patch: Patch) -> None:
    def elsewhere(received_at: int, where: Calendar, *, months: int = 1) -> int:
        return due_at(received_at, replace(where, time_zone=UTC), months=months)

    patch.setattr(decide, "due_at", elsewhere)


def newer_record_erased(patch: Patch) -> None:
    real = execution.Execution._task

    def forgetful(self: execution.Execution, command: Command, key: bytes, apart: Apart) -> Task:
        # As if every record there is had been made before the erasure.
        return replace(real(self, command, key, apart), erased_at=2**60)

    patch.setattr(execution.Execution, "_task", forgetful)


def timer_fires_early(patch: Patch) -> None:
    def at_once(draft: Draft, event: Event) -> None:
        if draft.saga.is_finished:
            return
        request.remind(draft)
        for step in draft.saga.steps:
            if not isinstance(step.state, Ended) and draft.saga.status == "in_progress":
                draft.put(table.apply(draft, step, "timer", event))

    patch.setattr(decide, "_apply_timers", at_once)


def somebody_elses_reference(patch: Patch) -> None:
    strangers: list[tuple[str, str]] = []
    real_plant, real_unpack = people.plant, unpack_references

    def remember(sandbox: Any, person: people.Person, rng: Any, now: int, *, asks: bool = True) -> None:
        real_plant(sandbox, person, rng, now, asks=asks)
        if person.number >= 8:
            strangers.extend(sorted(place for place in person.records if place[0] == "hubspot"))

    def mixed_up(*packed: bytes) -> tuple[Reference, ...]:
        found = real_unpack(*packed)
        return tuple(
            replace(one, id=strangers[-1][1]) if strangers and one.kind == "contact" else one for one in found
        )

    patch.setattr(people, "plant", remember)
    patch.setattr(execution, "unpack_references", mixed_up)
    # And nobody compares what answers to a reference with what was located.
    patch.setattr(Shown, "is_still", lambda self, reference, wanted: True)


def another_id_is_the_same(patch: Patch) -> None:
    patch.setattr(Shown, "is_still", lambda self, reference, wanted: True)


def clocks_are_trusted(patch: Patch) -> None:
    real = Shown.is_surely_older
    patch.setattr(Shown, "is_surely_older", lambda self, erased_at, skew: real(self, erased_at, 0))


def unknown_age_is_old(patch: Patch) -> None:
    real = Shown.is_surely_older

    def old(self: Shown, erased_at: int | None, skew: int) -> bool:
        return self.created_at is None or real(self, erased_at, skew)

    patch.setattr(Shown, "is_surely_older", old)


def refused_opt_out_untold(patch: Patch) -> None:
    real = Records.opt_out

    async def content(self: Records, task: Task, address: str) -> bool:
        await real(self, task, address)
        return True

    patch.setattr(Records, "opt_out", content)


def named_times_unheeded(patch: Patch) -> None:
    patch.setattr(words, "is_disputed", lambda step: False)


def worker_acknowledges_first(patch: Patch) -> None:
    async def hasty(self: Worker, delivery: Delivery, ended: Callable[[Delivery], object]) -> None:
        turn: Delivery | None = delivery
        while turn is not None:
            ended(turn)
            await self.handle(turn)
            turn = self._turns.end(turn)

    patch.setattr(Worker, "_in_turn", hasty)


def replaced_key_destroyed_at_once(patch: Patch) -> None:
    def all_of_them(generations: Sequence[Generation], *, before: int) -> list[int]:
        return [one.number for one in generations]

    patch.setattr(key_commands, "_replaced", all_of_them)


def what_waits_needs_no_key(patch: Patch) -> None:
    real = key_commands._needs

    def blind(ground: Ground, patience: float) -> Needs:
        return replace(real(ground, patience), waiting=())

    patch.setattr(key_commands, "_needs", blind)


@dataclass(frozen=True, slots=True)
class Planted:
    """A defect, what finds it, in which trouble, and within how many schedules."""

    plant: Callable[[Patch], None]
    found_by: frozenset[str]
    scenario: Scenario
    within: int


def _planted(
    plant: Callable[[Patch], None], *found_by: str, within: int = 20, **trouble: Any
) -> tuple[str, Planted]:
    return plant.__name__, Planted(plant, frozenset(found_by), Scenario(**trouble), within)


PLANTED: dict[str, Planted] = dict(
    (
        _planted(inbox_skipped, "doubled", "outcomes", "timeline", bus_repeats=0.3),
        _planted(acknowledged_before_the_commit, "lost", crashes=0.3, within=40),
        _planted(worker_acknowledges_first, "lost", crashes=0.2),
        _planted(outbox_row_lost, "lost", "outcomes", "mail"),
        _planted(published_twice_with_a_new_id, "outcomes", "escalations", "mail"),
        _planted(sent_before_located_is_committed, "order", systems=("hubspot",)),
        _planted(absent_taken_for_erased, "completion", systems=("superoffice",)),
        _planted(
            absence_without_control,
            "completion",
            "clocks",  # who is not really acted on has to have a warning
            systems=("superoffice", "hubspot", "agency_tt"),
            vendor_faults=0.3,
            faults=("wrong_account", "no_rights"),
        ),
        _planted(key_destroyed_before_closing_ends, "key", unverified=1.0, decisions=0.5, jumps=0.05),
        _planted(
            not_after_ignored,
            "not_after",
            systems=("superoffice", "hubspot"),
            freezes=0.2,
            within=60,
        ),
        _planted(
            older_attempts_count,
            "stale",
            systems=("hubspot",),
            bus_lags=0.3,
            bus_repeats=0.3,
            repeats=0.2,
            crashes=0.1,
            within=80,
        ),
        _planted(
            decision_on_another_version, "decisions", wrong_decisions=0.9, decisions=0.8, unverified=1.0
        ),
        _planted(wait_without_a_timer, "timers", systems=("agency_mail",)),
        _planted(due_in_utc, "due", systems=("survey", "analytics"), hour=22, within=60),
        _planted(
            newer_record_erased, "consent", systems=("hubspot",), reappearances=0.3, steps=60, within=40
        ),
        _planted(
            timer_fires_early, "timers", systems=("agency_mail", "hubspot", "superoffice"), stubborn=0.5
        ),
        _planted(somebody_elses_reference, "bystanders", systems=("hubspot",)),
        _planted(
            another_id_is_the_same,
            "bystanders",
            systems=("hubspot",),
            vendor_faults=0.3,
            faults=("contacts are merged",),
            within=40,
        ),
        _planted(
            clocks_are_trusted,
            "consent",
            systems=("hubspot",),
            reappearances=0.5,
            skews=1.0,
            steps=60,
            within=160,
        ),
        _planted(
            unknown_age_is_old,
            "consent",
            systems=("hubspot",),
            reappearances=0.3,
            vendor_faults=0.3,
            faults=("a contact's age is missing",),
            steps=60,
            within=40,
        ),
        _planted(
            named_times_unheeded,
            "refused",
            systems=("tenant",),
            words=0.3,
            jumps=0.02,
            decisions=0.05,
            steps=60,
            within=40,
        ),
        _planted(
            refused_opt_out_untold,
            "places",
            systems=("hubspot",),
            vendor_faults=0.3,
            faults=("opt-outs are refused",),
        ),
        _planted(
            replaced_key_destroyed_at_once,
            "door",
            "lost",
            operations=0.2,
            operating=("rotation",),
            systems=("agency_mail", "agency_tt", "tenant"),
            within=40,
        ),
        _planted(
            what_waits_needs_no_key,
            "door",
            "lost",
            operations=0.3,
            operating=("rotation",),
            systems=("agency_mail", "agency_tt", "tenant"),
            bus_lags=0.3,
            jumps=0.2,
            within=60,
        ),
    )
)


@contextmanager
def planted(name: str) -> Iterator[Planted]:
    """The product with one defect."""
    with pytest.MonkeyPatch.context() as patch:
        PLANTED[name].plant(patch)
        yield PLANTED[name]
