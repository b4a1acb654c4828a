"""The orchestrator role: events in, decisions committed, messages out.

One batch of deliveries is one database transaction: inbox rows, new states, timeline, outbox rows, keys
destroyed and the consumer's positions commit together or not at all, and only then is anything
acknowledged. A batch that fails is retried event by event; a saga whose rule raises is quarantined, and the
rest go on.

An event of a request that nobody knows waits for it (see `early`). Only then is it a dead letter, and not
noted as seen, so that it counts when it comes again. A vendor's news about nobody who asked is counted and
dropped.

                 poll              one transaction                    after the commit
    bus ──────► read ──► inbox ► load ► decide ► save ► outbox ──────► ack, shred
    clock ─────────────► due sagas ──┘                    │
                                                          └──► relay ──► bus
"""

import logging
from collections.abc import Callable, Collection, Sequence, Set
from dataclasses import replace

from orchestrator.bus.port import Bus, Delivery, Positions, Subscription
from orchestrator.metrics import Metrics
from orchestrator.privacy.keyring import Keyring
from orchestrator.saga.ahead import Doubt
from orchestrator.saga.decide import Decision, UnknownRequest, decide, quarantine
from orchestrator.saga.draft import SendOutcome
from orchestrator.saga.events import (
    Decided,
    Event,
    KeyLost,
    RequestReceived,
    RequestUnreadable,
    TimerFired,
)
from orchestrator.saga.model import Saga
from orchestrator.saga.rules import Rules
from orchestrator.saga.setback import TOLERANCE
from orchestrator.service import broken
from orchestrator.service.batch import Batch
from orchestrator.service.dead_letters import DEAD_LETTER
from orchestrator.service.early import AWAITED, Early
from orchestrator.service.held import held
from orchestrator.service.inbound import (
    Inbound,
    Reader,
    clean_reason,
    found_by_correlation,
    key_for_dead_letter,
    named_before,
)
from orchestrator.service.missing import ask_about_missing, batched
from orchestrator.service.outbound import dead_letter, outgoing
from orchestrator.service.timekeeper import Timekeeper
from orchestrator.store import (
    KEY_LOST,
    BrokenDocument,
    Correlation,
    Outgoing,
    Store,
    StoredKeys,
    StoredSent,
    StoreError,
    Transaction,
)
from schemas import topics

_logger = logging.getLogger(__name__)

GROUP = "orchestrator"
TOPICS = (topics.REQUESTS, topics.CONFIRMATIONS, topics.DECISIONS)

# While there are events to apply, timers are looked at no more often than this, in microseconds: the look is
# a transaction by itself.
_TIMERS_EVERY = 500_000


class Orchestrator:
    """Applies events and timers. Belongs to one thread."""

    def __init__(
        self,
        *,
        store: Store,
        bus: Bus,
        keys: StoredKeys,
        keyring: Keyring,
        reader: Reader,
        rules: Rules,
        metrics: Metrics,
        random: Callable[[], float],
        batch: int = 500,
        timekeeper: Timekeeper | None = None,
        steady: Callable[[], int] | None = None,
    ) -> None:
        self._store = store
        self._bus = bus
        self._keys = keys
        self._keyring = keyring
        self._reader = reader
        self._rules = rules
        self._metrics = metrics
        self._random = random
        self._batch = batch
        self._timekeeper = timekeeper
        self._subscription: Subscription | None = None
        self._unshredded = True
        # The time of the last transaction, and when timers were last looked at.
        self._now = self._fired_at = 0
        self._early = Early(
            held=lambda: held(bus, [topics.REQUESTS], store.positions(GROUP)),
            positions=lambda: store.positions(GROUP),
            clock=steady or store.now,
            is_settled=keyring.is_settled,
            has_waited=self._has_waited,
        )

    def step(self, timeout: float) -> int:
        """Waits up to `timeout` seconds for events, applies them, then fires what is due; gives how many
        were applied.

        Raises:
            StoreError: the database failed; nothing was acknowledged, and the events come again.
        """
        if self._subscription is None:
            self._subscription = self._bus.subscribe(
                GROUP, TOPICS, positions=lambda: self._store.positions(GROUP), on_stray=self._begin_anew
            )
        if self._timekeeper is not None and self._timekeeper.went_back:
            self._put_right()
            self._timekeeper.went_back = False
        try:
            deliveries = self._subscription.poll(timeout, self._batch)
            for delivery in (done := self._consume(deliveries)):
                self._subscription.ack(delivery)
        except BaseException:
            # What was polled and not committed must come again, and it comes to a new subscription.
            self.close()
            raise
        # What waits has moved, too: there is a next step to take.
        applied = len(done) or len(deliveries)
        if not applied or not 0 <= self._now - self._fired_at < _TIMERS_EVERY:
            applied += self.fire_timers()
        self._shred()
        return applied

    def _begin_anew(self, positions: Positions) -> None:
        """What the database knows of these partitions was of another bus, or of records that this one lost,
        or had no mark. What is read twice is in the inbox.
        """
        with self._store.begin() as tx:
            tx.set_positions(GROUP, positions)

    def close(self) -> None:
        """Gives back what was polled and not applied."""
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
        self._early.clear()

    # --- events ---

    def _consume(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Applies what came, and what has waited; gives what is done with."""
        ripe = [self._with_its_key(one) for one in self._early.ripe(self._holds, self._batch)]
        inbound = ripe + (self._reader.read_all(deliveries) if deliveries else [])
        if not inbound:
            return []
        # Requests first: what else is in the batch may be about them.
        inbound.sort(key=lambda one: one.type != "request")
        last = {id(one.delivery) for one in ripe if one.generation is None}
        waiting: set[int] = set()
        try:
            waiting = self._commit(inbound, last)
        except StoreError as error:
            if not isinstance(error, BrokenDocument):
                raise
            waiting = self._commit_each(inbound, last)
        except Exception:
            _logger.exception("batch_failed", extra={"count": len(inbound)})
            waiting = self._commit_each(inbound, last)
        return [one.delivery for one in inbound if id(one.delivery) not in waiting]

    def _with_its_key(self, one: Inbound) -> Inbound:
        """Read a request again that has waited for its master key; give up one that has waited too long."""
        if one.generation is None:
            return one
        again = self._reader.read(one.delivery)
        return replace(again, generation=None) if self._early.is_over(one) else again

    def _has_waited(self, place: str) -> int:
        """Return for how long a request has waited for its master key, in micros; 0 while the clock is in
        doubt.
        """
        since = StoredSent(self._store, AWAITED).seen_at(place)
        return 0 if since is None or self._doubt is not None else self._store.now() - since

    def _holds(self, delivery: Delivery) -> bool:
        return self._subscription is not None and self._subscription.holds(delivery)

    def _commit_each(self, inbound: Sequence[Inbound], last: Set[int]) -> set[int]:
        """The fallback: one event, one transaction."""
        waiting: set[int] = set()
        for number, one in enumerate(inbound, start=1):
            waiting |= self._commit_alone(one, last, inbound[number:])
        return waiting

    def _commit_alone(self, one: Inbound, last: Set[int], left: Sequence[Inbound]) -> set[int]:
        """What fails even so is kept as a dead letter, and if it is a request, as a person's all the same."""
        try:
            return self._commit([one], last, left)
        except BrokenDocument as error:
            code = broken.CODE
            _logger.error(code, extra={"topic": one.delivery.topic, "request_id": error.request_id})
            if isinstance(one.event, Decided) and one.event.action in broken.OFFERED:
                return self._commit([one], last, left, without_document=True)
            with self._store.begin() as tx:
                broken.tell_of(tx, [error.request_id])
        except StoreError:
            raise
        except Exception:
            code = "event_failed"
            _logger.exception(code, extra={"topic": one.delivery.topic})
        if one.type == "request":
            return self._commit([self._reader.unreadable(one.delivery, code)], last, left)
        return self._commit([replace(one, event=None, dead=code)], last, left)

    def _commit(
        self,
        inbound: Sequence[Inbound],
        last: Set[int],
        left: Sequence[Inbound] = (),
        *,
        without_document: bool = False,
    ) -> set[int]:
        """Gives the deliveries, by id, that have no request yet and wait for it; `last` wait no longer, and
        `left` is committed after these: no position passes it. `without_document` applies a decision to a
        request whose saved state can't be read.
        """
        begun = self._begun()
        with self._store.begin() as tx:
            resolved = tx.resolve([one.correlation for one in inbound if one.correlation is not None])
            found = [
                named_before(found_by_correlation(one, resolved), tx.has_received)
                for one in inbound
                if one.generation is None
            ]
            # What has no request yet is not noted as seen: when it is repeated, it may have one.
            new = tx.insert_inbox(GROUP, [one.event.event_id for one in found if one.event is not None])
            opening = [
                one.event.request_id
                for one in found
                if isinstance(one.event, RequestReceived | RequestUnreadable)
            ]
            tx.insert_missing_sagas(opening)
            ids = [one.event.request_id for one in found if one.event is not None]
            batch = Batch({id_: tx.load_bare(id_) for id_ in ids} if without_document else tx.load(ids))
            self._now = now = tx.now()
            self._look(now, begun)
            seen: set[str] = set()
            for one in found:
                self._apply(batch, one, new, seen, now)
            without_key = {id(one.delivery) for one in inbound if one.generation is not None}
            waiting = without_key | ({id(one.delivery) for one in (*batch.early, *batch.unasked)} - last)
            batch.unasked = [one for one in batch.unasked if id(one.delivery) not in waiting]
            batch.dead += [(one, "unknown_request") for one in batch.early if id(one.delivery) not in waiting]
            tx.forget_inbox(GROUP, [one.event.event_id for one in batch.early if one.event is not None])
            # As they came, since a correlation is resolved anew each time.
            early = [one for one in inbound if id(one.delivery) in waiting]
            positions, reached = self._early.places(inbound, early, left)
            self._write(tx, batch, now)
            tx.set_positions(GROUP, positions)
            tx.insert_inbox(AWAITED, [one.delivery.place for one in early if one.generation is not None])
        self._early.keep(inbound, early, reached)
        batch.tell(self._metrics)
        return waiting

    def _apply(self, batch: Batch, one: Inbound, new: set[str], seen: set[str], now: int) -> None:
        if one.is_unasked:
            batch.unasked.append(one)
            return
        if one.event is None:
            batch.dead.append((one, one.dead or "unreadable"))
            return
        event = one.event
        fresh = event.event_id in new and event.event_id not in seen
        seen.add(event.event_id)
        batch.handled.append((one.type, not fresh))
        if not fresh:
            return
        if one.dead is not None:
            batch.dead.append((one, one.dead))
        saga = batch.sagas.get(event.request_id)
        event = self._dated(event) if saga is None else self._in_the_light_of(saga, one, event)
        try:
            decision = self._decide(batch, saga, event, now, one.type)
        except UnknownRequest:
            batch.handled.pop()
            batch.early.append(one)
            return
        if decision.parks_event is not None:
            batch.dead.append((one, decision.parks_event))
        system = getattr(event, "system", None)
        batch.correlations += [
            Correlation(digest=digest, request_id=event.request_id, system=system)
            for digest in one.correlations
            if system
        ]
        self._keep(batch, event, decision)

    def _decide(self, batch: Batch, saga: Saga | None, event: Event, now: int, type_: str) -> Decision:
        """Decides and words what follows. If either raises, the saga is quarantined instead."""
        try:
            decision = decide(saga, event, now, self._rules, doubt=self._doubt)
            batch.records += outgoing(decision, now)
        except UnknownRequest:
            raise
        except Exception:
            _logger.exception("saga_quarantined", extra={"request_id": event.request_id, "type": type_})
            batch.quarantined += 1
            decision = quarantine(saga, event, now, self._rules)
            batch.records += outgoing(decision, now)
        return decision

    def _in_the_light_of(self, saga: Saga, one: Inbound, event: Event) -> Event:
        """What only the known state can tell about an event, and only with the request's key."""
        if isinstance(event, RequestReceived) and event.content_digest != saga.content_digest:
            added = self._reader.added(one, saga)
            return replace(event, supplements=bool(added), only_where_told=added == ("notice_to",))
        if isinstance(event, Decided) and event.reason:
            return replace(event, reason=clean_reason(event.reason, one, saga))
        return event

    def _dated(self, event: Event) -> Event:
        """Say of a new request when else it was received, if the clock is not believed now."""
        if self._timekeeper is None or not isinstance(event, RequestReceived | RequestUnreadable):
            return event
        return replace(event, received_or=self._timekeeper.otherwise(event.received_at))

    def _keep(self, batch: Batch, event: Event, decision: Decision) -> None:
        batch.sagas[decision.saga.request_id] = decision.saga
        batch.changed[decision.saga.request_id] = decision.saga
        batch.decisions.append((event, decision))
        if isinstance(event, Decided):
            batch.refused += [
                event.action
                for message in decision.messages
                if isinstance(message, SendOutcome) and message.kind == "decision_refused"
            ]

    def ask_about_lost_keys(self) -> int:
        """Ask the DPO about open requests whose master key was declared lost since the last look; gives how
        many.
        """
        with self._store.begin() as tx:
            self._now = now = tx.now()
            concerned = tx.with_lost_keys(GROUP, self._batch)
            events = [
                KeyLost(
                    event_id=f"{KEY_LOST}{request_id}/{generation}",
                    request_id=request_id,
                    generation=generation,
                )
                for request_id, generation in concerned.items()
            ]
            tx.insert_inbox(GROUP, [event.event_id for event in events])
            batch = Batch(tx.load(concerned))
            for event in events:
                saga = batch.sagas[event.request_id]
                self._keep(batch, event, self._decide(batch, saga, event, now, "key_lost"))
            self._write(tx, batch, now)
        batch.tell(self._metrics)
        return len(events)

    def ask_about_missing_systems(self) -> int:
        """Ask about open requests that wait for systems which the settings do not have; gives how many."""
        return ask_about_missing(self._store, self._rules.systems, self.ask)

    def ask(self, request_ids: Collection[str], about: Callable[[Saga], Event]) -> None:
        """Apply an event of the orchestrator's own to each of these requests."""
        for ids in batched(sorted(request_ids), self._batch):
            with self._store.begin() as tx:
                batch = Batch(tx.load(ids))
                self._now = now = tx.now()
                for saga in filter(None, [*batch.sagas.values()]):
                    event = about(saga)
                    what = event.event_id.split("/")[0]
                    self._keep(batch, event, self._decide(batch, saga, event, now, what))
                self._write(tx, batch, now)
            batch.tell(self._metrics)

    # --- timers ---

    def fire_timers(self) -> int:
        """Applies what is due now, a batch at a time; gives how many sagas woke."""
        return self._fire(self._batch)

    def _put_right(self) -> None:
        """Fire a timer, due or not, for each request that was last changed later than now: the clock was set
        back since.
        """
        after, count = "", 0
        later = self._store.now() + TOLERANCE
        while found := self._store.changed_after(later, after, self._batch):
            after, count = found[-1], count + len(found)
            for request_id in found:
                try:
                    self._fire(1, request_id)
                except BrokenDocument:
                    with self._store.begin() as tx:
                        tx.set_aside(request_id, tx.now())
        if count:
            _logger.warning("waits_pulled_back", extra={"count": count})

    @property
    def _doubt(self) -> Doubt | None:
        return None if self._timekeeper is None else self._timekeeper.doubt

    def _begun(self) -> int:
        return 0 if self._timekeeper is None else self._timekeeper.begun()

    def _look(self, now: int, begun: int) -> None:
        if self._timekeeper is not None:
            self._timekeeper.look(now, begun)

    def _fire(self, limit: int, request_id: str | None = None) -> int:
        """Fire up to `limit` timers that are due, or that of one request."""
        due: list[Saga] = []
        unreadable: list[str] = []
        begun = self._begun()
        try:
            with self._store.begin() as tx:
                if request_id is not None:
                    due = [saga for saga in tx.load([request_id]).values() if saga is not None]
                self._now = self._fired_at = now = tx.now()
                self._look(now, begun)
                if request_id is None:
                    due = tx.due(now, limit, unreadable)
                batch = Batch({saga.request_id: saga for saga in due})
                for saga in due:
                    event = TimerFired(
                        event_id=f"timer/{saga.version}", request_id=saga.request_id, random=self._random()
                    )
                    decision = self._decide(batch, saga, event, now, "timer")
                    batch.handled.append(("timer", False))
                    self._keep(batch, event, decision)
                self._write(tx, batch, now)
                broken.tell_of(tx, unreadable)
        except StoreError:
            raise
        except Exception:
            if not due:
                raise
            _logger.exception("timers_failed", extra={"count": len(due)})
            return self._fire_alone(due)
        batch.tell(self._metrics)
        return len(due)

    def _fire_alone(self, due: Sequence[Saga]) -> int:
        """The fallback: one saga, one transaction, in the order in which they are due. One that fails even
        so must not stop the timers of all.
        """
        if len(due) > 1:
            return sum(self._fire(1) for _ in due)
        with self._store.begin() as tx:
            tx.set_aside(due[0].request_id, tx.now())
        return 1

    # --- writing ---

    def _write(self, tx: Transaction, batch: Batch, now: int) -> None:
        tx.save(list(batch.changed.values()), self._doubt)
        tx.append_timeline(
            [
                (decision.saga.request_id, entry)
                for _, decision in batch.decisions
                for entry in decision.entries
            ]
        )
        tx.enqueue(batch.records + [self._dead(one, code) for one, code in batch.dead])
        tx.correlate(batch.correlations)
        destroyed = [decision.saga.request_id for _, decision in batch.decisions if decision.destroys_key]
        if destroyed:
            tx.destroy_keys(destroyed, now)
            self._unshredded = True

    def _dead(self, one: Inbound, code: str) -> Outgoing:
        return dead_letter(one.delivery, code, self._sealed, key_for_dead_letter(one))

    def _sealed(self, data: bytes) -> bytes:
        return self._keyring.seal_installation(DEAD_LETTER, data)

    def _shred(self) -> None:
        """After keys were destroyed, the log that may still hold them is cut; tried again until it is."""
        if self._unshredded and self._keys.shred():
            self._unshredded = False
