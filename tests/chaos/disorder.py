"""First deliveries out of order: what speaks of a request is on its topic before the request is.

Some people's requests come so, by a producer outside:

* `decided`: the officer's word that the person is who they say comes first. The request can't go on without.
* `told`: a confirmation that answers nothing comes first. It changes nothing, and is noted.
* `supplemented`: the request with a second address comes before the one with the first address alone. More
  was known already, so that the officer is asked about the second, and lets the first stand.

What is read before anything is known of its request waits for what is on the topic of requests by then, and
is a dead letter if its request is not among it: kept, and to be sent again. So it is here.
"""

import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from orchestrator.bus.port import BusUnavailable, Record
from orchestrator.intake import Producer
from orchestrator.privacy import Identifier
from orchestrator.privacy.exchange import Exchange
from orchestrator.store import StoreError
from schemas import topics
from schemas.cloudevents import headers
from schemas.codec import encode
from schemas.messages import Confirmation, Decision, DecisionAction
from tests.chaos.installation import Installation
from tests.chaos.people import SYSTEMS, Person

_EVERY = 2.0
_SOURCE: Final = "test"
#: The question that opens with a request of somebody unverified, which is its first.
_UNVERIFIED = ("e1", 1)
_CONFLICT = "request_id_conflict"
#: How the timeline notes what was said first.
_NOTED = {"decided": ("decided", {"action": "verify"}), "told": ("ignored", {"trigger": "notice_sent"})}


@dataclass
class Disorder:
    """The producer, and the officer who deals with what comes of it. Belongs to one thread."""

    installation: Installation
    _open: dict[str, Person] = field(default_factory=dict)
    _looked_at: float = 0.0
    _again: Counter[str] = field(default_factory=Counter)
    _dead: set[tuple[bytes | None, ...]] = field(default_factory=set)
    _lost_events: set[str] = field(default_factory=set)

    def submit(self, person: Person) -> bool:
        """The person's request and what comes before it; whether all was taken."""
        try:
            for record in self._records(person):
                # One after the other: each is on its topic before the next is sent.
                self.installation.ground.bus.publish([record])
        except BusUnavailable:
            return False
        person.is_submitted = True
        self._open[person.request_id] = person
        return True

    def turn(self) -> None:
        """What the officer has to do now."""
        if not self._open or time.monotonic() - self._looked_at < _EVERY:
            return
        self._looked_at = time.monotonic()
        try:
            for person in list(self._open.values()):
                self._see_to(person)
        except (BusUnavailable, StoreError):
            return

    def figures(self) -> dict[str, int]:
        """How many there were of each, and how many had to be sent again."""
        return {**Counter(one.comes for one in self.installation.people), "sent again": self._again.total()}

    def wrong(self) -> Iterator[str]:
        """What was said first counted, once."""
        for person in self.installation.people:
            if person.comes in _NOTED and (times := self._counted(person)) != 1:
                yield f"{person.request_id}: what was said first counted {times} times"
            if person.comes == "supplemented":
                entries = self.installation.ground.store.timeline(person.request_id)
                if "conflicting_request" not in {one.action for one in entries}:
                    yield f"{person.request_id}: nobody was asked about the lesser request"

    # --- the producer ---

    def _records(self, person: Person) -> Iterator[Record]:
        first = self._first(person)
        if first is not None:
            yield first
        producer = Producer(Exchange(self.installation.ground.keyring).public_key(), source=_SOURCE)
        for addresses in person.asks_by:
            # Of several addresses nobody guesses where the person is told.
            told = [Identifier("notice_to", person.email)] if len(addresses) > 1 else []
            yield producer.request(
                [*(Identifier("email", address) for address in addresses), *told],
                request_id=person.request_id,
                scope=SYSTEMS,
                verified=person.comes != "decided",
            ).record

    def _decision(self, person: Person, action: DecisionAction, escalation: str, version: int) -> Record:
        now = time.time_ns() // 1000
        about = uuid.uuid5(uuid.UUID(person.request_id), f"{action}/{escalation}/{version}")
        decision = Decision(
            event_id=f"decision:{about}",
            request_id=person.request_id,
            action=action,
            escalation_id=escalation,
            escalation_version=version,
            reason="the officer's word" if action == "waive" else "",
            decided_by=_SOURCE,
            decided_at=now,
        )
        sent = headers(decision, event_id=decision.event_id, source=_SOURCE, at=now)
        return Record(topic=topics.DECISIONS, key=person.request_id, value=encode(decision), headers=sent)

    def _told(self, person: Person) -> Record:
        now = time.time_ns() // 1000
        told = Confirmation(
            event_id=f"told:{person.request_id}",
            request_id=person.request_id,
            system=None,
            command_id="none",
            kind="notice_sent",
            occurred_at=now,
        )
        sent = headers(told, event_id=told.event_id, source=_SOURCE, at=now)
        return Record(topic=topics.CONFIRMATIONS, key=person.request_id, value=encode(told), headers=sent)

    # --- the officer ---

    def _see_to(self, person: Person) -> None:
        saga = self.installation.ground.store.saga(person.request_id)
        if saga is None:
            return
        for one in saga.escalations:
            if one.reason == _CONFLICT:
                self._send(self._decision(person, "waive", one.id, one.version))
        first = self._first(person)
        if first is not None and not self._counted(person):
            if _event_id(first) in self._lost() and not self._again[person.request_id]:
                # Its request is there by now.
                self._send(first)
                self._again[person.request_id] += 1
        elif saga.is_finished:
            del self._open[person.request_id]

    def _first(self, person: Person) -> Record | None:
        if person.comes == "decided":
            return self._decision(person, "verify", *_UNVERIFIED)
        return self._told(person) if person.comes == "told" else None

    def _counted(self, person: Person) -> int:
        """How often what was said first has counted."""
        action, said = _NOTED[person.comes]
        entries = self.installation.ground.store.timeline(person.request_id)
        return sum(one.action == action and said.items() <= one.data.items() for one in entries)

    def _send(self, record: Record) -> None:
        self.installation.ground.bus.publish([record])

    def _lost(self) -> set[str]:
        """The events that were dead letters for want of their request."""
        bus, said = self.installation.ground.bus, (topics.DECISIONS, topics.CONFIRMATIONS)
        dead = {
            tuple(one.header(f"radera-{name}") for name in ("topic", "partition", "offset"))
            for one in bus.browse([topics.dead_letters(one) for one in said])
            if one.header("radera-code") == b"unknown_request"
        }
        if dead != self._dead:
            self._lost_events = {
                event_id.decode()
                for one in bus.browse(said)
                if (one.topic.encode(), b"%d" % one.partition, b"%d" % one.offset) in dead
                and (event_id := one.header("ce_id")) is not None
            }
            self._dead = dead
        return self._lost_events


def _event_id(record: Record) -> str:
    return next(value for name, value in record.headers if name == "ce_id").decode()
