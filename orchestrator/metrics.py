"""What can be counted from outside, for Prometheus.

* A label's values come from a closed set that is known at the start; anything else becomes "other". So no
  data can get into a label, and the number of series is bounded.
* The figures about requests are read from the store when they are asked for, so they can't drift from it. A
  store that can't be read shows as `radera_store_up 0`; the other metrics go on.
* A counter whose labels are known starts at 0 instead of appearing with its first event: `increase()` would
  not see that one, and it may be the only one that ever comes.
* Each process makes one `Metrics` and hands it round. There is no global registry: two tests in one process
  don't share counters.
"""

import itertools
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

from schemas import topics
from schemas.messages import ConfirmationKind, DecisionAction, OutcomeKind, Verb

_logger = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The store's view of the requests at one moment. Times are in seconds, None where there is nothing."""

    open_requests: int
    outbox_size: int
    oldest_open_age: float | None = None
    least_time_left: float | None = None
    open_escalations: int | None = None
    outbox_age: float | None = None
    quarantined: int | None = None
    unopened: int = 0
    unopened_age: float | None = None


class Metrics:
    """Every metric of a process; `kinds` are the configured handler kinds, `systems` those systems."""

    def __init__(self, kinds: Collection[str] = (), systems: Collection[str] = ()) -> None:
        self.registry = CollectorRegistry()
        fixed = {topics.REQUESTS, topics.CONFIRMATIONS, topics.DECISIONS, topics.OUTCOMES}
        by_kind = {name(kind) for kind in kinds for name in (topics.commands, topics.callbacks)}
        self._topics = frozenset(fixed | by_kind)
        self._kinds = frozenset(kinds)
        self._systems = frozenset(systems)
        self._events = self._counter("events_handled", "Events applied to a saga.", "type")
        self._duplicates = self._counter("events_repeated", "Events seen before, and dropped.", "type")
        self._refused = self._counter("decisions_refused", "Decisions that did not fit any more.", "action")
        self._unasked = self._counter("callbacks_unasked", "Vendors' news about nobody who asked, dropped.")
        self._dead = self._counter("dead_letters", "Records that nobody could read.", "topic")
        self._quarantined = self._counter("sagas_quarantined", "Sagas set aside because deciding raised.")
        self._mails = self._counter("mails", "Mails, by what became of the try.", "about", "to", "result")
        self._waiting = Gauge(
            "radera_mails_waiting", "Mails held back to be tried again.", registry=self.registry
        )
        self._confirmed = self._counter("commands", "Commands carried out.", "kind", "verb", "result")
        self._took = Histogram(
            "radera_command_seconds",
            "How long a command took.",
            ("kind", "verb"),
            buckets=(0.1, 0.5, 1, 5, 15, 60, 300),
            registry=self.registry,
        )
        self._callbacks = self._counter("callbacks", "Callbacks and answers received.", "kind", "result")
        self._circuits = Gauge(
            "radera_circuit_state",
            "Whether a system is called (closed), left alone (open) or tried (half_open): 1 for which.",
            ("system", "state"),
            registry=self.registry,
        )
        self._asked = self._counter("opendsr_requests", "What controllers asked over OpenDSR.", "result")
        self._told = self._counter("opendsr_callbacks", "Tries at telling a controller.", "result")
        self._jumps = self._counter("clock_jumps", "Jumps of the database's clock, forward or back.")
        self._ahead = Gauge(
            "radera_clock_ahead_seconds",
            "By how much the clock is ahead of the time that was last believed; below 0 behind it.",
            registry=self.registry,
        )
        self._plausible = Gauge(
            "radera_clock_plausible",
            "1 if the time has run evenly for long enough to throw anything away by it.",
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        self._begin_at_zero()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"radera_{name}", text, labels, registry=self.registry)

    def _begin_at_zero(self) -> None:
        verbs, results = get_args(Verb), get_args(ConfirmationKind)
        known: tuple[tuple[Counter | Histogram, tuple[Collection[str], ...]], ...] = (
            (self._events, (_EVENTS,)),
            (self._duplicates, (_EVENTS,)),
            (self._refused, (get_args(DecisionAction),)),
            (self._dead, (self._topics,)),
            (self._mails, (get_args(OutcomeKind), _RECIPIENTS, _MAIL_RESULTS)),
            (self._confirmed, (self._kinds, verbs, results)),
            (self._took, (self._kinds, verbs)),
            (self._callbacks, (self._kinds, _CALLBACK_RESULTS)),
            (self._asked, (_ASKED,)),
            (self._told, (_TOLD,)),
        )
        for metric, values in known:
            for labels in itertools.product(*values):
                metric.labels(*labels)

    def text(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self.registry)

    def watch(self, read: Callable[[], Figures]) -> None:
        """Reports the store's figures, read by `read` whenever the page is asked for."""
        self.registry.register(_StoreCollector(read))

    def watch_bus(self, read: Callable[[], Mapping[str, int]]) -> None:
        """Reports when topics were last found to have lost records or to be others, in microseconds: read by
        `read` whenever the page is asked for.
        """
        self.registry.register(_BusCollector(read, self._topics))

    # --- orchestrator ---

    def event_handled(self, type_: str, count: int = 1, *, repeated: bool = False) -> None:
        """So many events: "request", "confirmation", "decision" or "timer"."""
        (self._duplicates if repeated else self._events).labels(_closed(type_, _EVENTS)).inc(count)

    def decision_refused(self, action: str) -> None:
        self._refused.labels(_closed(action, get_args(DecisionAction))).inc()

    def dead_letter(self, topic: str) -> None:
        self._dead.labels(_closed(topic, self._topics)).inc()

    def callbacks_unasked(self, count: int) -> None:
        """So many of the vendors' news were about nobody who asked."""
        self._unasked.inc(count)

    def saga_quarantined(self) -> None:
        self._quarantined.inc()

    def clock_jumped(self) -> None:
        self._jumps.inc()

    def clock(self, ahead: float, *, plausible: bool) -> None:
        """By how many seconds the clock is ahead, and whether anything may be thrown away by it."""
        self._ahead.set(ahead)
        self._plausible.set(plausible)

    # --- mailbox ---

    def mail(self, about: str, to: str, result: str) -> None:
        """A try at a mail about an outcome kind, to "dpo" or "subject": "sent", "deferred" or "refused"."""
        about = _closed(about, get_args(OutcomeKind))
        self._mails.labels(about, _closed(to, _RECIPIENTS), _closed(result, _MAIL_RESULTS)).inc()

    def mails_waiting(self, count: int) -> None:
        self._waiting.set(count)

    # --- worker and intake ---

    def command_done(self, kind: str, verb: str, result: str, seconds: float) -> None:
        """A command ended with a confirmation of kind `result`."""
        kind, verb = _closed(kind, self._kinds), _closed(verb, get_args(Verb))
        self._confirmed.labels(kind, verb, _closed(result, get_args(ConfirmationKind))).inc()
        self._took.labels(kind, verb).observe(seconds)

    def circuit(self, system: str, state: str) -> None:
        """A system's circuit is now "closed", "half_open" or "open"."""
        system = _closed(system, self._systems)
        for each in _CIRCUIT_STATES:
            self._circuits.labels(system, each).set(each == state)

    def callback(self, kind: str, result: str) -> None:
        """A callback was "accepted", "refused" or could not be stored ("unavailable")."""
        self._callbacks.labels(_closed(kind, self._kinds), _closed(result, _CALLBACK_RESULTS)).inc()

    def opendsr_request(self, result: str) -> None:
        """What a controller asked was "accepted", "repeated", "cancelled", "refused", or could not be taken
        now ("unavailable").
        """
        self._asked.labels(_closed(result, _ASKED)).inc()

    def opendsr_callback(self, result: str) -> None:
        """A try at a callback was "accepted" or "failed"."""
        self._told.labels(_closed(result, _TOLD)).inc()


_EVENTS = ("request", "confirmation", "decision", "timer")
_RECIPIENTS = ("dpo", "subject")
_MAIL_RESULTS = ("sent", "deferred", "refused")
_CIRCUIT_STATES = ("closed", "half_open", "open")
_CALLBACK_RESULTS = ("accepted", "refused", "unavailable")
_ASKED = ("accepted", "repeated", "cancelled", "refused", "unavailable")
_TOLD = ("accepted", "failed")


def _closed(value: str, known: Collection[str]) -> str:
    return value if value in known else OTHER


class _BusCollector(Collector):
    """Reads what the bus has found at the moment of the question."""

    def __init__(self, read: Callable[[], Mapping[str, int]], topics: Collection[str]) -> None:
        self._read = read
        self._topics = topics

    @override
    def collect(self) -> Iterator[GaugeMetricFamily]:
        text = "When a topic was last found to have lost records, or to be another of its name."
        found = GaugeMetricFamily("radera_bus_changed_timestamp_seconds", text, labels=["topic"])
        for topic, at in self._read().items():
            found.add_metric([_closed(topic, self._topics)], at / 1e6)
        yield found


class _StoreCollector(Collector):
    """Reads the store at the moment of the question."""

    def __init__(self, read: Callable[[], Figures]) -> None:
        self._read = read

    @override
    def collect(self) -> Iterator[GaugeMetricFamily]:
        try:
            figures = self._read()
        except Exception:
            _logger.exception("figures_unread")
            yield GaugeMetricFamily("radera_store_up", "The store can be read.", value=0)
            return
        yield GaugeMetricFamily("radera_store_up", "The store can be read.", value=1)
        for name, text, value in (
            ("open_requests", "Requests that are not finished.", figures.open_requests),
            ("oldest_open_request_seconds", "Age of the oldest open request.", figures.oldest_open_age),
            (
                "least_time_left_seconds",
                "Until the nearest due date of a request not yet acted on; below 0 is overdue.",
                figures.least_time_left,
            ),
            ("open_escalations", "Questions that wait for the DPO.", figures.open_escalations),
            ("outbox_records", "Messages that wait to be published.", figures.outbox_size),
            ("outbox_oldest_seconds", "Age of the oldest such message.", figures.outbox_age),
            ("unopened_requests", "Requests that were accepted and not opened yet.", figures.unopened),
            (
                "unopened_oldest_seconds",
                "Age of the oldest such request; 0 for none.",
                figures.unopened_age or 0,
            ),
            ("quarantined_requests", "Sagas set aside until the DPO has seen to them.", figures.quarantined),
        ):
            if value is not None:
                yield GaugeMetricFamily(f"radera_{name}", text, value=value)
