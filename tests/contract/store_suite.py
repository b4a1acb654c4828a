"""What every store must do, whatever database it is on.

A database's test module subclasses `StoreSuite` and gives it a fixture `url`, of a database with our tables
and nothing in them.
"""

import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.saga import model
from orchestrator.saga.model import Accepted, Attempt, Escalation, Finished, InProgress, Saga, Step
from orchestrator.saga.timeline import GENESIS, Entry, append
from orchestrator.store import tables
from orchestrator.store.engine import open_engine
from orchestrator.store.errors import BrokenDocument
from orchestrator.store.housekeeping import purge_inbox
from orchestrator.store.store import Figures, Store
from orchestrator.store.transaction import Correlation, Outgoing, Transaction

NOW = 1_790_000_000_000_000


def saga(request_id: str, *, until: int = 100, due_at: int = 1000, version: int = 1) -> Saga:
    return Saga(
        request_id=request_id,
        version=version,
        state=InProgress(until=until),
        received_at=10,
        due_at=due_at,
        source="web",
        subject_digest="5" * 64,
    )


def finished(request_id: str) -> Saga:
    return replace(saga(request_id), state=Finished(status="completed", at=50))


def put(store: Store, *sagas: Saga) -> None:
    with store.begin() as transaction:
        transaction.save(sagas)


def outgoing(event_id: str) -> Outgoing:
    return Outgoing(
        event_id=event_id, topic="t", key="k", value=event_id.encode(), headers=(("ce_id", b"\xff"),)
    )


MICROS = st.integers(0, 2**62 - 1)


WAITS = [
    model.Waiting,
    model.Locating,
    model.Erasing,
    model.Proving,
    model.Retrying,
    model.Accepted,
    model.AwaitingParty,
    model.AwaitingSubject,
    model.AwaitingDecision,
]


STEPS = st.builds(
    Step,
    state=st.one_of(st.builds(model.Ended), *(st.builds(wait, until=MICROS) for wait in WAITS)),
    references=st.lists(st.binary(max_size=40), max_size=3).map(tuple),
    outstanding=st.lists(st.builds(Attempt), max_size=2).map(tuple),
    evidence=st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
)


SAGAS = st.builds(
    Saga,
    request_id=st.uuids().map(str),
    version=MICROS,
    received_at=MICROS,
    due_at=MICROS,
    identifiers=st.binary(max_size=80),
    state=st.one_of(
        st.builds(model.AwaitingVerification, until=MICROS),
        st.builds(model.InProgress, until=MICROS),
        st.builds(model.Closing, until=MICROS),
        st.builds(Finished),
    ),
    steps=st.lists(STEPS, max_size=3).map(tuple),
    escalations=st.lists(st.builds(Escalation, remind_at=MICROS), max_size=2).map(tuple),
    notices=st.lists(
        st.builds(
            model.Notice,
            state=st.one_of(st.builds(model.NoticePending, until=MICROS), st.builds(model.NoticeGiven)),
        ),
        max_size=2,
    ).map(tuple),
)


def increment(url: str, times: int) -> None:
    store = Store(open_engine(url))
    for _ in range(times):
        with store.begin() as transaction:
            transaction.insert_missing_sagas(["r"])
            found = transaction.load(["r"])["r"] or saga("r", version=0)
            transaction.save([replace(found, version=found.version + 1)])


def chain(length: int) -> list[Entry]:
    entries: list[Entry] = []
    for seq in range(1, length + 1):
        previous = entries[-1].hash if entries else GENESIS
        entries.append(
            append(previous, seq, NOW + seq, "step.erased", {"system": "hubspot", "found": str(seq)})
        )
    return entries


def relay(store: Store, limit: int) -> list[Outgoing]:
    """Records as they leave; they are marked as sent."""
    with store.relay(limit) as records:
        return records


class StoreSuite:
    """What one transaction does, and what can be read back."""

    statements_of_a_batch: int

    @pytest.fixture
    def engine(self, url: str) -> Iterator[sa.Engine]:
        engine = open_engine(url)
        yield engine
        engine.dispose()

    @pytest.fixture
    def store(self, engine: sa.Engine) -> Store:
        return Store(engine, lambda: NOW)

    # --- documents ---

    # One database serves all examples, and each begins with none; the class runs once for each database.
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors])
    @given(saga=SAGAS)
    def test_a_saga_comes_back_as_it_was(self, store: Store, saga: Saga) -> None:
        """The document loses nothing, no sealed byte and no state's type, and the timer column is its own."""
        with store.engine.begin() as connection:
            connection.execute(sa.delete(tables.sagas))
        put(store, saga)

        assert saga == store.saga(saga.request_id)
        assert saga.wake_at == store.next_wake_at()

    def test_every_byte_survives(self, store: Store) -> None:
        """Sealed values are arbitrary bytes, and none of them is special to JSON."""
        every = bytes(range(256))
        step = Step(system="s", kind="k", state=Accepted(until=5), references=(every, b""))
        put(store, replace(saga("r"), identifiers=every, steps=(step,)))

        got = store.saga("r")

        assert got is not None
        assert every == got.identifiers
        assert (every, b"") == got.steps[0].references

    def test_a_broken_document_is_named_and_not_quoted(self, store: Store) -> None:
        """The error says which request, and nothing of what stands there."""
        put(store, saga("r"))
        with store.engine.begin() as connection:
            connection.execute(sa.update(tables.sagas).values(document='{"request_id": "anna@example.com"}'))

        with pytest.raises(BrokenDocument, match="request r can't be read") as caught:
            store.saga("r")
        assert caught.value.__context__ is None
        assert "anna" not in str(caught.value)

    # --- transactions ---

    def test_the_inbox_returns_what_is_new(self, store: Store) -> None:
        """Each consumer is told of each event once, also when a batch repeats it within itself."""
        with store.begin() as transaction:
            assert {"a", "b"} == transaction.insert_inbox("one", ["b", "a", "b"])
        with store.begin() as transaction:
            assert {"c"} == transaction.insert_inbox("one", ["a", "c"])
            assert {"a"} == transaction.insert_inbox("other", ["a"])
            assert set() == transaction.insert_inbox("one", ["a", "b", "c"])
            assert set() == transaction.insert_inbox("one", [])

    def test_an_exception_takes_everything_with_it(self, store: Store) -> None:
        """State, inbox, outbox, timeline, keys, correlations and positions are written together or not at
        all.
        """

        def fail_at_the_end(transaction: Transaction) -> None:
            assert {"e"} == transaction.insert_inbox("c", ["e"])
            transaction.insert_missing_sagas(["r"])
            transaction.save([saga("r")])
            transaction.append_timeline([("r", append(GENESIS, 1, NOW, "received", {}))])
            transaction.enqueue([outgoing("o")])
            transaction.correlate([Correlation(digest="d", request_id="r", system="s")])
            transaction.destroy_keys(["r"], NOW)
            transaction.set_positions("g", {("t", 0): 5})
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError), store.begin() as transaction:
            fail_at_the_end(transaction)

        with store.engine.connect() as connection:
            counts = {
                name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar()
                for name, table in tables.metadata.tables.items()
            }
        assert {name: int(name == "schema_version") for name in counts} == counts

    def test_a_row_that_waits_for_its_state_is_no_saga(self, store: Store) -> None:
        """A row made to be locked reads as None, and nobody else comes across it."""
        with store.begin() as transaction:
            transaction.insert_missing_sagas(["r", "r", "q"])
            transaction.insert_missing_sagas(["r"])
            assert {"r": None, "never": None} == transaction.load(["r", "never"])
            assert [] == transaction.due(2**60, 10)
        assert store.saga("r") is None
        assert [] == store.sagas()
        assert 0 == store.figures().open_requests

    def test_saving_replaces(self, store: Store) -> None:
        """The row, its columns included, is that of the newest state, whether or not the row was there."""
        with store.begin() as transaction:
            transaction.insert_missing_sagas(["r"])
            transaction.save([saga("r"), saga("new", until=7)])
            transaction.save([saga("r", version=2, until=3)])
        with store.begin() as transaction:
            transaction.insert_missing_sagas(["r"])
            assert {"r": saga("r", version=2, until=3)} == transaction.load(["r"])
            assert [saga("r", version=2, until=3)] == transaction.due(3, 10)

    def test_timers(self, store: Store) -> None:
        """Due are those whose time has come, the longest overdue first; a finished saga is never due."""
        put(store, saga("c", until=30), saga("b", until=10), saga("a", until=20), finished("z"))

        with store.begin() as transaction:
            assert [] == transaction.due(9, 10)
            assert ["b", "a"] == [one.request_id for one in transaction.due(20, 10)]
            assert ["b"] == [one.request_id for one in transaction.due(2**60, 1)]
        assert ["b", "a", "c"] == [one.request_id for one in store.due(30, 10)]
        assert 10 == store.next_wake_at()

    def test_sagas_of_one_subject(self, store: Store) -> None:
        """The keyed digest finds the subject's requests, oldest first, and no one else's."""
        other = replace(saga("x"), subject_digest="6" * 64)
        put(store, replace(saga("b"), received_at=1), replace(saga("a"), received_at=2), other)

        with store.begin() as transaction:
            assert ["b", "a"] == [one.request_id for one in transaction.of_subject("5" * 64)]
            assert [] == transaction.of_subject("7" * 64)

    def test_an_undigested_subject_is_like_no_other(self, store: Store) -> None:
        """Requests that could not be read have no digest, and are not each other's duplicates."""
        put(store, replace(saga("a"), subject_digest=""), replace(saga("b"), subject_digest=""))

        with store.begin() as transaction:
            assert [] == transaction.of_subject("")

    def test_correlations(self, store: Store) -> None:
        """A callback finds its request; a later request about the same record takes it over."""
        with store.begin() as transaction:
            transaction.correlate(
                [
                    Correlation(digest="d1", request_id="old", system="hubspot"),
                    Correlation(digest="d2", request_id="old", system="hubspot"),
                    Correlation(digest="d2", request_id="old", system="superoffice"),
                ]
            )
        with store.begin() as transaction:
            transaction.correlate([Correlation(digest="d1", request_id="new", system="hubspot")])
            expected = {"d1": ("new", "hubspot"), "d2": ("old", "superoffice")}
            assert expected == transaction.resolve(["d1", "d2", "unknown"])
            assert {} == transaction.resolve([])

    def test_positions(self, store: Store) -> None:
        """Each group's positions are its own, and go wherever they are set, also back."""
        with store.begin() as transaction:
            transaction.set_positions("g", {("t", 0): 5, ("u", 1): 6})
            transaction.set_positions("g", {("t", 0): 2})
            transaction.set_positions("h", {("t", 0): 9})
            transaction.set_positions("h", {})

        assert {("t", 0): 2, ("u", 1): 6} == store.positions("g")
        assert {("t", 0): 9} == store.positions("h")
        assert {} == store.positions("nobody")

    def test_the_outbox_keeps_order_and_takes_an_event_once(self, store: Store) -> None:
        """Records leave in the order in which they came; a repeat of one that waits changes nothing."""
        with store.begin() as transaction:
            transaction.enqueue([outgoing("b"), outgoing("a")])
            transaction.enqueue([replace(outgoing("b"), value=b"changed"), outgoing("c")])

        assert [outgoing("b"), outgoing("a")] == relay(store, 2)
        assert [outgoing("c")] == relay(store, 10)
        assert [] == relay(store, 10)

    def test_it_is_told_whether_something_is_left_in_the_outbox(self, store: Store) -> None:
        """Only who left something need look again at once."""
        with store.begin() as transaction:
            transaction.enqueue([outgoing("a"), outgoing("b"), outgoing("c")])
        told = []
        for limit in (2, 2, 2):
            with store.relay(limit) as records:
                told.append((len(records), records.is_all))
        assert [(2, False), (1, True), (0, True)] == told

    def test_what_was_sent_is_gone(self, store: Store) -> None:
        """No copy of a record stays behind."""
        with store.begin() as transaction:
            transaction.enqueue([outgoing("sent"), outgoing("waiting")])
        relay(store, 1)

        with store.reading.connect() as connection:
            left = connection.execute(sa.select(tables.outbox.c.event_id)).scalars().all()
        assert ["waiting"] == left

    def test_some_topics_can_be_left_out_of_the_outbox(self, store: Store) -> None:
        """Their records stay, and take no place from others', however many they are."""
        with store.begin() as transaction:
            transaction.enqueue([replace(outgoing(f"{n}"), topic="missing") for n in range(5)])
            transaction.enqueue([outgoing("a")])
        with store.relay(2, ["missing", "another"]) as records:
            assert [outgoing("a")] == records
        with store.relay(2, ["missing"]) as records:
            assert [] == records
        assert [f"{n}" for n in range(5)] == [one.event_id for one in relay(store, 5)]

    @pytest.mark.parametrize(
        "text",
        ["x", "{", '["a"]', '["a", 1]', '[1, "a"]', "5", '{"a": "b"}', '["\\ud800", ""]', '["a", "\u20ac"]'],
    )
    def test_headers_that_cannot_be_read(self, store: Store, text: str) -> None:
        """The record goes without them: it neither is lost nor holds up those behind it."""
        with store.begin() as transaction:
            transaction.enqueue([outgoing("a"), outgoing("b")])
        with store.engine.begin() as connection:
            connection.execute(
                sa.update(tables.outbox).where(tables.outbox.c.event_id == "a").values(headers=text)
            )
        assert [replace(outgoing("a"), headers=()), outgoing("b")] == relay(store, 10)

    def test_a_transaction_has_one_time(self, engine: sa.Engine) -> None:
        """All that a batch writes bears the same time."""
        ticks = iter(range(100, 200))
        store = Store(engine, lambda: next(ticks))
        with store.begin() as transaction:
            assert 100 == transaction.now()
            transaction.insert_inbox("c", ["e"])
            assert 100 == transaction.now()
        with store.begin() as transaction:
            assert 101 == transaction.now()

    def test_the_databases_clock_is_in_microseconds_utc(self, engine: sa.Engine) -> None:
        """Without another clock it is the database's, and it agrees with this machine's."""
        store = Store(engine)
        before = time.time_ns() // 1000
        got = store.now()
        with store.begin() as transaction:
            later = transaction.now()
        after = time.time_ns() // 1000

        assert before - 1000 <= got <= later <= after + 1000

    def test_processes_do_not_overwrite_each_other(self, url: str, store: Store) -> None:
        """Load, decide and save is one step, whoever else does the same; the first to come makes the row."""
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=increment, args=(url, 40)) for _ in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)

        got = store.saga("r")
        assert [0, 0, 0] == [process.exitcode for process in processes]
        assert got is not None
        assert 120 == got.version

    @pytest.fixture
    def statements(self, store: Store) -> list[str]:
        """What goes to the driver; many rows in one call are one statement."""
        seen: list[str] = []
        sa.event.listen(store.engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
        return seen

    def test_a_batch_costs_the_same_whatever_its_size(self, store: Store, statements: list[str]) -> None:
        """One event or five hundred: the same handful of statements."""
        counts = []
        for size in (1, 500):
            ids = [f"{size}-{n}" for n in range(size)]
            statements.clear()
            with store.begin() as transaction:
                new = transaction.insert_inbox("c", ids)
                transaction.insert_missing_sagas(new)
                transaction.load(new)
                transaction.save([saga(one) for one in ids])
                transaction.append_timeline([(one, append(GENESIS, 1, NOW, "a", {})) for one in ids])
                transaction.enqueue([outgoing(one) for one in ids])
                transaction.correlate([Correlation(digest=one, request_id=one, system="s") for one in ids])
                transaction.resolve(ids)
                transaction.destroy_keys(ids, NOW)
                transaction.set_positions("g", {("t", n): n for n in range(size)})
            counts.append(len(statements))

        assert [self.statements_of_a_batch] * 2 == counts

    def test_more_ids_than_a_statement_takes(self, store: Store) -> None:
        """A batch is split before it reaches the number of variables that SQLite allows by default."""
        ids = [f"{n:05}" for n in range(35_000)]
        put(store, saga(ids[0]), saga(ids[-1]))
        variables: list[int] = []

        def count(*args: Any) -> None:
            # Many rows in one call come as a list of rows; each is a run of the statement by itself.
            parameters = args[3]
            variables.append(max(map(len, parameters)) if isinstance(parameters, list) else len(parameters))

        sa.event.listen(store.engine, "before_cursor_execute", count)

        with store.begin() as transaction:
            assert len(ids) == len(transaction.insert_inbox("c", ids))
            found = transaction.load(ids)

        assert max(variables) <= 32_766
        assert [ids[0], ids[-1]] == [one.request_id for one in found.values() if one is not None]

    # --- reading ---

    def test_listing(self, store: Store) -> None:
        """Sagas come by due date, in pages, of any status or of those asked for."""
        put(store, saga("a", due_at=3), saga("b", due_at=1), replace(finished("c"), due_at=2))

        assert ["b", "c", "a"] == [one.request_id for one in store.sagas()]
        assert ["b", "a"] == [one.request_id for one in store.sagas(["in_progress", "closing"])]
        assert ["c"] == [one.request_id for one in store.sagas(limit=1, offset=1)]
        assert [] == store.sagas([])

    def test_figures(self, store: Store) -> None:
        """What is open, what is next, and how long the outbox has waited."""
        nothing = Figures(
            open_requests=0,
            oldest_received_at=None,
            next_due_at=None,
            next_wake_at=None,
            open_escalations=0,
            quarantined=0,
            unsent=0,
            oldest_unsent_at=None,
            unopened=0,
            oldest_unopened_at=None,
        )
        assert nothing == store.figures()

        acted = replace(saga("d", due_at=2), acted_at=NOW)
        put(
            store,
            replace(saga("a", until=7, due_at=70), quarantined=True),
            saga("b", until=8, due_at=60),
            replace(finished("c"), due_at=1),
            acted,
        )
        with store.begin() as transaction:
            transaction.enqueue([outgoing("x"), outgoing("y"), outgoing("z")])
        relay(store, 1)

        expected = Figures(
            open_requests=3,
            oldest_received_at=acted.received_at,
            next_due_at=60,
            next_wake_at=7,
            open_escalations=sum(len(one.escalations) for one in store.sagas()),
            quarantined=1,
            unsent=2,
            oldest_unsent_at=NOW,
            unopened=0,
            oldest_unopened_at=None,
        )
        assert expected == store.figures()

    # --- the timeline ---

    @pytest.fixture
    def told(self, store: Store) -> Store:
        """A store with a request "r" whose timeline has four entries, and another request's."""
        entries = chain(4)
        with store.begin() as transaction:
            transaction.save([replace(saga("r"), seq=4, head=entries[-1].hash), saga("other")])
            transaction.append_timeline([("r", entry) for entry in entries] + [("other", chain(1)[0])])
        return store

    def test_a_timeline_comes_back_in_order(self, told: Store) -> None:
        """The entries are those that were written, and the chain holds."""
        check = told.verify_timeline("r")

        assert chain(4) == told.timeline("r")
        assert check.is_intact
        assert (4, chain(4)[-1].hash) == (check.length, check.head)

    def test_every_character_survives_in_a_timeline(self, store: Store) -> None:
        """What was hashed is what is read back: no character, and no order of the keys, is the database's to
        change.
        """
        data = {"ö": 'åäö "\\/', "b": "\x00\x1f\u2028\U0001f5d1", "a": "1.0", "": " "}
        entry = append(GENESIS, 1, NOW, "received", data)
        with store.begin() as transaction:
            transaction.save([replace(saga("r"), seq=1, head=entry.hash)])
            transaction.append_timeline([("r", entry)])

        assert [entry] == store.timeline("r")
        assert store.verify_timeline("r").is_intact

    def test_a_timeline_of_nothing_is_intact(self, store: Store) -> None:
        """A request without entries has no broken ones."""
        assert store.verify_timeline("never").is_intact

    def test_a_chain_cannot_fork(self, told: Store) -> None:
        """A second entry in the same place is refused."""
        with pytest.raises(sa.exc.IntegrityError), told.begin() as transaction:
            transaction.append_timeline([("r", chain(4)[3])])

    def test_a_timeline_belongs_to_a_saga(self, store: Store) -> None:
        """Entries of a request that there is no row of are refused."""
        with pytest.raises(sa.exc.IntegrityError), store.begin() as transaction:
            transaction.append_timeline([("nobody", chain(1)[0])])

    @pytest.mark.parametrize(
        ("tampering", "broken_at"),
        [
            ("UPDATE timeline SET at = at + 1 WHERE request_id = 'r' AND seq = 2", 2),
            ("UPDATE timeline SET action = 'step.absent' WHERE request_id = 'r' AND seq = 3", 3),
            ("UPDATE timeline SET data = '{}' WHERE request_id = 'r' AND seq = 1", 1),
            ("UPDATE timeline SET hash = '00' WHERE request_id = 'r' AND seq = 4", 4),
            ("UPDATE timeline SET previous = '00' WHERE request_id = 'r' AND seq = 2", 2),
            ("DELETE FROM timeline WHERE request_id = 'r' AND seq = 2", 2),
            ("DELETE FROM timeline WHERE request_id = 'r' AND seq = 1", 1),
            ("DELETE FROM timeline WHERE request_id = 'r' AND seq = 4", 4),
            ("DELETE FROM timeline WHERE request_id = 'r'", 1),
        ],
    )
    def test_tampering_is_found(self, told: Store, tampering: str, broken_at: int) -> None:
        """Whatever is changed or taken away, the check names the first entry that doesn't fit."""
        with told.engine.begin() as connection:
            connection.exec_driver_sql(tampering)

        assert broken_at == told.verify_timeline("r").broken_at

    def test_a_chain_forged_anew_is_found(self, told: Store) -> None:
        """Who recomputes every hash from a change on still ends in another head than the saga's."""
        entries = chain(2)
        forged = [*entries, append(entries[-1].hash, 3, NOW, "forged", {})]
        forged.append(append(forged[-1].hash, 4, NOW, "forged", {}))
        with told.engine.begin() as connection:
            connection.execute(sa.delete(tables.timeline).where(tables.timeline.c.request_id == "r"))
        with told.begin() as transaction:
            transaction.append_timeline([("r", entry) for entry in forged])

        assert 4 == told.verify_timeline("r").broken_at

    def test_an_entry_that_the_saga_does_not_know_is_found(self, told: Store) -> None:
        """An entry put in beyond the head is not part of the request's story."""
        with told.begin() as transaction:
            transaction.append_timeline([("r", append(chain(4)[-1].hash, 5, NOW, "forged", {}))])

        assert 5 == told.verify_timeline("r").broken_at

    # --- housekeeping ---

    def test_purging_the_inbox(self, engine: sa.Engine) -> None:
        """A consumer's events seen before the limit are forgotten, and would be new again; no others are."""
        now = 10
        store = Store(engine, lambda: now)
        with store.begin() as transaction:
            transaction.insert_inbox("c", ["old"])
            transaction.insert_inbox("links", ["old"])
        now = 20
        with store.begin() as transaction:
            transaction.insert_inbox("c", ["young"])

        assert 1 == purge_inbox(store, 20, ["c"])
        with store.begin() as transaction:
            assert {"old"} == transaction.insert_inbox("c", ["old", "young"])
            assert set() == transaction.insert_inbox("links", ["old"])
