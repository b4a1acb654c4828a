"""A subscription on Kafka: a member of a consumer group, whose thread is the caller's.

* **Cooperative rebalances.** A partition that stays with a member keeps its records in flight. Eagerly, each
  deployment would give all of them back, and each vendor call in flight would be made again.
* **What came is placed before it is read.** A partition that comes is paused by the library's thread, then
  sought, in the caller's, to the consumer's own position or else the group's, and only then read. A position
  that can't be this bus's is not followed: see the port. The record that it was taken from is read once more
  and compared before anything behind it is delivered, and so is, once a minute, the last record read.
* **What went is forgotten.** Acknowledgements of records from before a partition was lost do nothing, also
  if it has come back. What was acknowledged before a partition goes is stored before others get it.
* **The group is asked after a silence.** A process that was stopped for longer than a session delivers
  nothing of what it had read before it knows that the partitions are still its own.
* **No partition holds up another.** Partitions take turns, and one with much read ahead is paused.
* **A record that can't be parsed is delivered empty**, so that whoever reads it treats it as unreadable,
  and the partition goes on. One that can't be read for reasons of ours (a codec, a checksum) is not passed
  over: polling says that the bus is unavailable.
* **Who is refused comes again with what counts by then.** A consumer keeps the password and the certificates
  that it was made with. When the brokers have taken them no longer for a while, it is made anew.
* **A record waits for its schema.** While the registry that has it is away it is not delivered, nor is what
  lies behind it on its partition.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from kafka import ConsumerRebalanceListener, TopicPartition
from kafka.errors import CommitFailedError, FencedInstanceIdError, KafkaError, RebalanceInProgressError

from orchestrator.bus.kafka_client import Consumer, Place
from orchestrator.bus.kafka_failures import is_refusal, unavailable
from orchestrator.bus.kafka_marks import Start, Why, start_of, tell
from orchestrator.bus.kafka_rebalance import Listener
from orchestrator.bus.kafka_records import Broken, delivery_of
from orchestrator.bus.kafka_remembered import Remembered
from orchestrator.bus.kafka_shelf import Schemas, Shelf
from orchestrator.bus.kafka_watch import Watch
from orchestrator.bus.port import BusUnavailable, Delivery, Positions, SubscriptionClosed, looked_up
from orchestrator.position import Position, is_other_topic

_logger = logging.getLogger(__name__)

# One call of the library's; what comes of a rebalance is seen between two.
_SLICE = 0.5
_SLICE_UNSETTLED = 0.05
# With something to deliver, the library is called no more often than this.
_REFRESH = 0.1
_FETCH = 500
_STORE_LIMIT = 5.0
_STORE_OWN = 1.0
# How often the last record read is compared with what the partition has there.
_LOOK_BACK = 60.0
_CLOSE_LIMIT = 2.0
# No broker has answered for the group for so long: then polling says so.
_SILENCE = 10.0


class KafkaSubscription:
    """A member of a group; see the port. `join` makes the consumer, in the thread that polls."""

    def __init__(
        self,
        *,
        join: Callable[[ConsumerRebalanceListener, float], Consumer],
        positions: Positions | Callable[[], Positions] | None,
        session: float,
        clock: Callable[[], int],
        watch: Watch,
        on_fenced: Callable[[], None],
        on_closed: Callable[["KafkaSubscription"], None],
        on_stray: Callable[[Positions], object] | None = None,
        on_changed: Callable[[str, Why], object] = lambda *_: None,
        remembered: Remembered | None = None,
        schemas: Schemas | None = None,
    ) -> None:
        self._schemas = schemas
        self._join = join
        self._positions = positions
        # Who was heard from this recently can't have been thrown out: heartbeats are four a session.
        self._trust = session / 2
        self._clock = clock
        self._watch = watch
        self._on_fenced = on_fenced
        self._on_closed = on_closed
        self._on_stray = on_stray
        self._on_changed = on_changed
        self._remembered = remembered or Remembered(None, "", keeps_positions=False)
        self._consumer: Consumer | None = None
        self._member = ""
        # Held by the one call that uses the consumer.
        self._turn = threading.Lock()
        # Guards what follows it: the library's thread takes partitions away.
        self._lock = threading.Lock()
        self._shelves: dict[Place, Shelf] = {}
        self._arrived: set[Place] = set()
        self._seen: set[Place] = set()
        # Those of the arrived that were found to be others than what was read.
        self._changed: dict[Place, tuple[Why, int]] = {}
        # Positions whose marks were found, and are to be told.
        self._adopted: dict[Place, Position] = {}
        self._order: deque[Place] = deque()
        self._paused: set[Place] = set()
        self._closed = False
        # The library's thread could not tell of partitions.
        self.is_confused = False
        # What was read may be others' by now.
        self._is_unsure = False
        self._polled_at = self._called_at = self._heard_at = self._stored_at = time.monotonic()
        self._looked_at = self._polled_at

    # --- the port ---

    def poll(self, timeout: float, max_records: int) -> list[Delivery]:
        deadline = time.monotonic() + timeout
        with self._turn, self._watch.call(timeout + _STORE_LIMIT + _SILENCE):
            if self._closed:
                raise SubscriptionClosed
            consumer = self._consumer or self._connected(timeout)
            try:
                if self._is_time_to_store():
                    self._look_back(consumer)
                    self._store(consumer)
                return self._delivered(consumer, deadline, max_records)
            except FencedInstanceIdError:
                self._discard()
                self._on_fenced()
                raise BusUnavailable("another process has taken this one's place in the group") from None
            except KafkaError as error:
                if is_refusal(error) and self._is_silent:
                    self._discard()
                raise unavailable("the bus failed", error) from error
            finally:
                self._polled_at = time.monotonic()

    def ack(self, delivery: Delivery) -> None:
        with self._lock:
            shelf = self._shelves.get((delivery.topic, delivery.partition))
            if shelf is not None:
                shelf.ack(delivery)

    def holds(self, delivery: Delivery) -> bool:
        with self._lock:
            shelf = self._shelves.get((delivery.topic, delivery.partition))
            return shelf is not None and shelf.holds(delivery)

    def close(self) -> None:
        if self._closed:
            return
        # A poll of another thread notices, and makes way.
        self._closed = True
        got = self._turn.acquire(timeout=_SLICE + _STORE_LIMIT)
        try:
            if got and self._consumer is not None:
                with self._watch.call(3 * _CLOSE_LIMIT):
                    # A position that could not be stored costs repeats, which every reader is ready for.
                    with suppress(KafkaError, BusUnavailable):
                        self._store(self._consumer, _CLOSE_LIMIT)
                    self._discard()
        finally:
            if got:
                self._turn.release()
            self._on_closed(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- the group ---

    def _connected(self, timeout: float) -> Consumer:
        self._consumer = self._join(Listener(self), timeout)
        self._heard_at = time.monotonic()
        return self._consumer

    def _discard(self) -> None:
        """Lets the consumer go, and all that it had read; the next poll joins the group anew."""
        consumer, self._consumer = self._consumer, None
        self._member = ""
        self.is_confused = self._is_unsure = False
        with self._lock:
            self._forget(list(self._shelves) + list(self._arrived))
        if consumer is not None:
            try:
                consumer.abandon(_CLOSE_LIMIT)
            except Exception as error:
                _logger.warning("bus_close_failed", extra={"type": type(error).__name__})

    def _is_time_to_store(self) -> bool:
        """Whoever begins at positions of its own needs the group's only to show how far it is: no need to
        wait for the broker with each batch.
        """
        now = time.monotonic()
        if now - self._polled_at > self._trust:
            self._is_unsure = True
        return self._positions is None or self._is_unsure or now - self._stored_at >= _STORE_OWN

    def _store(self, consumer: Consumer, limit: float = _STORE_LIMIT) -> None:
        """Stores what has moved; after a silence all of it, to hear whether it is still ours to store."""
        self._stored_at = time.monotonic()
        with self._lock:
            moved = self._moved(self._shelves, everything=self._is_unsure)
        if moved:
            try:
                consumer.store(moved, limit)
            except RebalanceInProgressError:
                return
            except CommitFailedError as error:
                if error.args and isinstance(error.args[0], RebalanceInProgressError):
                    return
                # Thrown out. The library tells of it only when it joins anew, which may take its time.
                moved = {}
                with self._lock:
                    self._forget(list(self._shelves))
        self._remembered.note(moved, moved, consumer.topic_id)
        self._is_unsure = False
        with self._lock:
            for place, position in moved.items():
                if place in self._shelves:
                    self._shelves[place].stored = position

    def came(self, consumer: Consumer, places: Iterable[Place]) -> None:
        """In the library's thread: these partitions are the subscription's now."""
        with self._lock:
            for place in places:
                consumer.pause(TopicPartition(*place))
                self._arrived.add(place)

    def goes(self, consumer: Consumer, places: Iterable[Place]) -> None:
        """In the library's thread: these go to others, who begin where we end."""
        with self._lock:
            gone = list(places)
            last = self._moved(gone)
            self._forget(gone)
        if last:
            consumer.begin_storing(last)

    def lost(self, consumer: Consumer, places: Iterable[Place]) -> None:
        """In the library's thread: these went to others without our knowing when."""
        with self._lock:
            self._forget(places)
        consumer.forget_ownership()

    def _moved(self, places: Iterable[Place], *, everything: bool = False) -> dict[Place, int]:
        """The positions that there are to store."""
        moved: dict[Place, int] = {}
        for place in places:
            shelf = self._shelves.get(place)
            if shelf is not None and (everything or shelf.has_moved) and shelf.position is not None:
                moved[place] = shelf.position
        return moved

    def _forget(self, places: Iterable[Place]) -> None:
        for place in places:
            self._shelves.pop(place, None)
            self._arrived.discard(place)
            self._changed.pop(place, None)
            self._paused.discard(place)
            with suppress(ValueError):
                self._order.remove(place)

    def _settle(self, consumer: Consumer) -> None:
        """Places what has come, and lets it be read."""
        member = consumer.member
        if member:
            if self._member not in ("", member):
                self._distrust(consumer)
            self._member = member
        if not self._arrived:
            return
        for place, (start, topic_id) in self._starts(consumer, tuple(self._arrived)).items():
            partition = TopicPartition(*place)
            consumer.seek(partition, start.seek)
            consumer.resume(partition)
            with self._lock:
                self._arrived.discard(place)
                self._changed.pop(place, None)
                self._seen.add(place)
                knows = (lambda _: True) if self._schemas is None else self._schemas.knows
                shelf = Shelf(knows, topic_id=topic_id, start=start)
                if start.why is not None or (callable(self._positions) and start.position):
                    shelf.begin_at(start.position)
                self._shelves[place] = shelf
                self._order.append(place)

    def _starts(self, consumer: Consumer, arrived: Collection[Place]) -> dict[Place, tuple[Start, str]]:
        """Where reading begins on each partition that some broker leads, and the id of its topic."""
        wanted = self._wanted(arrived)
        stored = consumer.stored(arrived, _STORE_LIMIT)
        changes = self._remembered.changes(arrived, stored, consumer.topic_id)
        starts: dict[Place, tuple[Start, str]] = {}
        for place, (first, end) in consumer.extent(arrived, _STORE_LIMIT).items():
            position = wanted.get(place, stored.get(place, first))
            topic_id = consumer.topic_id(place[0])
            is_known = not callable(self._positions) or place in stored
            start = start_of(position, first, end, topic_id=topic_id, is_known=is_known)
            if place in self._changed:
                reason, position = self._changed[place]
                start = Start(first, why=reason)
            elif start.why is None and 0 < position < first:
                tell("records_gone_unread", place, position, first)
            if (why := start.why or changes.get(place)) is not None:
                tell(why.value, place, position, end)
                self._on_changed(place[0], why)
            starts[place] = start, topic_id
        strays = {place: start.position for place, (start, _) in starts.items() if start.why is not None}
        if strays and self._on_stray is not None:
            # Before anything is read: what fails here is tried again with the next poll.
            self._on_stray(strays)
        self._remembered.note(starts, stored, consumer.topic_id)
        return starts

    # --- is it still the same? ---

    def _look_back(self, consumer: Consumer) -> None:
        """The same while a partition is here: where the broker has lost what was read, or the topic was made
        anew, the library goes on as well as it can, and says nothing.
        """
        changed: dict[Place, Why] = {}
        again: dict[Place, int] = {}
        is_time = time.monotonic() - self._looked_at >= _LOOK_BACK
        with self._lock:
            for place, shelf in self._shelves.items():
                at = consumer.reads_at(place)
                if is_other_topic(shelf.topic_id, consumer.topic_id(place[0])):
                    changed[place] = Why.REBUILT
                elif at is not None and shelf.is_ahead_of(at):
                    changed[place] = Why.BEYOND_END
                elif is_time and (offset := shelf.look_back()) is not None:
                    again[place] = offset
        if is_time:
            self._looked_at = time.monotonic()
        for place, offset in again.items():
            consumer.seek(TopicPartition(*place), offset)
        for place, why in changed.items():
            self._begin_anew(consumer, place, why)

    def _begin_anew(self, consumer: Consumer, place: Place, why: Why) -> None:
        """What was read of this partition was another's: place it as one that comes, at its oldest record."""
        with self._lock:
            shelf = self._shelves.get(place)
            position = 0 if shelf is None else shelf.position or 0
            self._forget([place])
            consumer.pause(TopicPartition(*place))
            self._arrived.add(place)
            self._changed[place] = why, position

    def _add(self, consumer: Consumer, place: Place, records: Iterable[Any]) -> None:
        """Keep what was read, if it follows what was read before."""
        with self._lock:
            shelf = self._shelves.get(place)
            if shelf is None:
                return
            follows = shelf.add(delivery_of(record, shelf.topic_id) for record in records)
            if shelf.adopted is not None:
                self._adopted[place], shelf.adopted = shelf.adopted, None
        if not follows:
            self._begin_anew(consumer, place, Why.REWRITTEN)

    def _distrust(self, consumer: Consumer) -> None:
        """Thrown out and back in within one call, which the library does not tell: what it kept may have
        been with others in between.
        """
        with self._lock:
            kept = list(self._shelves)
            self._forget(kept)
            for place in kept:
                consumer.pause(TopicPartition(*place))
                self._arrived.add(place)

    def _wanted(self, arrived: Iterable[Place]) -> Positions:
        positions = looked_up(self._positions)
        if callable(self._positions):
            return dict.fromkeys(arrived, 0) | dict(positions)
        return {
            place: positions[place] for place in arrived if place in positions and place not in self._seen
        }

    # --- records ---

    def _delivered(self, consumer: Consumer, deadline: float, max_records: int) -> list[Delivery]:
        while True:
            if max_records > 0:
                self._look_up()
            now = time.monotonic()
            ready = self._is_ready(max_records)
            if not ready or now - self._called_at >= _REFRESH or self._arrived:
                most = _SLICE if self._shelves and not self._arrived else _SLICE_UNSETTLED
                self._read(consumer, 0.0 if ready else max(0.0, min(deadline - now, most)), max_records > 0)
            if self._closed:
                raise SubscriptionClosed
            taken = self._taken(max_records) if self._is_ready(max_records) else []
            if taken:
                return taken
            if time.monotonic() >= deadline:
                # Is it that there is nothing?
                if self._is_silent:
                    raise consumer.refusal or BusUnavailable("no broker answers for the group")
                return []

    @property
    def _is_silent(self) -> bool:
        """No broker has answered for the group for too long."""
        return time.monotonic() - self._heard_at > _SILENCE

    def _look_up(self) -> None:
        """Asks for the schemas that records wait for; not under a lock that the library's thread takes."""
        if self._schemas is None:
            return
        with self._lock:
            waiting = [shelf.held_back for shelf in self._shelves.values()]
        for value in waiting:
            if value is not None:
                self._schemas.look_up(value)

    def _is_ready(self, wanted: int) -> bool:
        """Whether there is something to deliver, and it is ours."""
        with self._lock:
            return wanted > 0 and not self._is_unsure and any(one.can_give for one in self._shelves.values())

    def _read(self, consumer: Consumer, wait: float, wanted: bool) -> None:
        """One call of the library's, and all that follows from it."""
        self._pause(consumer, wanted)
        try:
            got = consumer.poll(timeout_ms=math.ceil(wait * 1000), max_records=_FETCH)
        except KafkaError as error:
            # Of all that is parsed here only the names of headers are text; no broker looks at them.
            if not isinstance(error.__context__, UnicodeDecodeError):
                consumer.unwedge()
                raise
            got = self._in_place_of_broken(consumer)
        except Exception as error:
            self._discard()
            raise unavailable("the bus's client failed", error) from error
        finally:
            self._called_at = time.monotonic()
        # First of all, since the library has passed over them.
        for partition, records in got.items():
            self._add(consumer, (partition.topic, partition.partition), records)
        if self._adopted and self._on_stray is not None:
            self._on_stray(self._adopted)
        self._adopted = {}
        if self.is_confused:
            self._discard()
            raise BusUnavailable("the bus's client lost count of its partitions")
        if consumer.is_fenced:
            raise FencedInstanceIdError
        self._listen(consumer)
        self._settle(consumer)

    def _pause(self, consumer: Consumer, wanted: bool) -> None:
        with self._lock:
            paused = {place for place, shelf in self._shelves.items() if not wanted or shelf.is_full}
            if paused != self._paused:
                consumer.pause(*(TopicPartition(*place) for place in paused - self._paused))
                consumer.resume(*(TopicPartition(*place) for place in self._paused - paused))
                self._paused = paused

    def _in_place_of_broken(self, consumer: Consumer) -> dict[Any, Any]:
        broken = consumer.broken_record()
        if broken is None or broken[0] not in self._shelves:
            consumer.unwedge()
            return {}
        (topic, number), offset = broken
        _logger.error("record_unreadable", extra={"topic": topic, "partition": number, "offset": offset})
        consumer.unwedge()
        consumer.seek(TopicPartition(topic, number), offset + 1)
        return {TopicPartition(topic, number): [Broken(topic, number, offset, self._clock())]}

    def _taken(self, limit: int) -> list[Delivery]:
        """From one partition after another, beginning with another each time."""
        taken: list[Delivery] = []
        with self._lock:
            self._order.rotate(-1)
            giving = [self._shelves[place] for place in self._order]
            while len(taken) < limit and (giving := [shelf for shelf in giving if shelf.can_give]):
                taken += [shelf.take() for shelf in giving[: limit - len(taken)]]
        return taken

    def _listen(self, consumer: Consumer) -> None:
        """Is the group within reach?"""
        now = time.monotonic()
        if consumer.knows_group:
            self._heard_at = now
        elif now - self._heard_at > self._trust:
            self._is_unsure = True
