"""Faults that show in the course of a life; the simulation finds each by the invariant that is about it."""

from typing import Final

from tests.planted.fault import Fault, fault, schedules

_ORCHESTRATOR: Final = "orchestrator.service.orchestrator"

FAULTS: Final[tuple[Fault, ...]] = (
    fault(
        "in a life: every event is new to the inbox",
        "orchestrator.store.transaction:Transaction.insert_inbox",
        "return set(new.scalars())",
        "return set(event_ids)",
        schedules("doubled", "outcomes", "timeline", bus_repeats=0.3),
    ),
    fault(
        "in a life: events are acknowledged before they are committed",
        f"{_ORCHESTRATOR}:Orchestrator._consume",
        "ripe = [self._with_its_key(one) for one in self._early.ripe(self._holds, self._batch)]",
        "with self._store.begin() as tx:\n"
        "    tx.set_positions(GROUP, {(one.topic, one.partition): one.offset + 1 for one in deliveries})\n"
        "ripe = [self._with_its_key(one) for one in self._early.ripe(self._holds, self._batch)]",
        schedules("lost", crashes=0.3, within=40),
    ),
    fault(
        "in a life: the worker acknowledges before it has answered",
        "handlers.worker:Worker._in_turn",
        "await self.handle(turn) ended(turn)",
        "ended(turn)\nawait self.handle(turn)",
        schedules("lost", crashes=0.2),
    ),
    fault(
        "in a life: the last record of a batch is not queued",
        "orchestrator.store.transaction:Transaction.enqueue",
        "self._put(tables.outbox, _OF_RECORD, rows)",
        "self._put(tables.outbox, _OF_RECORD, rows[:-1] or rows)",
        schedules("lost", "outcomes", "mail"),
    ),
    fault(
        "in a life: an outcome leaves twice, under two ids",
        "orchestrator.service.outbound:outgoing",
        "for message in decision.messages",
        "for message in (*decision.messages, *(SendOutcome(event_id=f'{one.event_id}-again', kind=one.kind)"
        " for one in decision.messages if isinstance(one, SendOutcome)))",
        schedules("outcomes", "escalations", "mail"),
    ),
    fault(
        "in a life: a command leaves before its cause is committed",
        f"{_ORCHESTRATOR}:Orchestrator._write",
        "tx.save(list(batch.changed.values()), self._doubt)",
        "self._bus.publish(one for one in batch.records if one.topic.startswith('erasure.commands.'))\n"
        "tx.save(list(batch.changed.values()), self._doubt)",
        schedules("order", systems=("hubspot",)),
    ),
    fault(
        "in a life: the time for erasing doesn't end",
        "handlers.port:Task.may_erase",
        "self.clock() > self.not_after",
        "False",
        schedules("not_after", systems=("superoffice", "hubspot"), freezes=0.2, within=60),
    ),
)
