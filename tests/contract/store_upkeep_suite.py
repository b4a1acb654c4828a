"""What every store must keep apart: consumers' events, requests that ended in whatever way, controllers'
requests.

A database's test module subclasses the suite and gives it a fixture `url`, of a database with our tables and
nothing in them.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import sqlalchemy as sa

from orchestrator.position import Position
from orchestrator.saga.model import Escalation, FinalStatus, Finished, InProgress, Saga
from orchestrator.store import (
    Asked,
    AskedRequests,
    Correlation,
    Store,
    forget_subjects,
    open_engine,
    purge_requests,
    tables,
)

NOW = 1_790_000_000_000_000
OPEN = Saga(
    request_id="open",
    version=1,
    state=InProgress(until=9),
    received_at=1,
    due_at=9,
    source="web",
    subject_digest="5" * 64,
    content_digest="6" * 64,
)
ASKED = Asked(
    request_id="r",
    system="shop",
    subject_request_id="one",
    version="2",
    body="7" * 64,
    received_at=10,
    expected_at=99,
)


class UpkeepSuite:
    """What is done for one, and must not be done for others."""

    @pytest.fixture
    def store(self, url: str) -> Iterator[Store]:
        engine = open_engine(url)
        yield Store(engine, lambda: NOW)
        engine.dispose()

    # --- consumers ---

    def test_an_event_is_forgotten_for_one_consumer_alone(self, store: Store) -> None:
        """What the orchestrator could not apply is new to it again; its mail was sent, and stays sent."""
        with store.begin() as transaction:
            for consumer in ("orchestrator", "mailbox"):
                transaction.insert_inbox(consumer, ["e", "f"])
            transaction.forget_inbox("orchestrator", ["e"])
        with store.begin() as transaction:
            assert {"e"} == transaction.insert_inbox("orchestrator", ["e", "f"])
            assert set() == transaction.insert_inbox("mailbox", ["e", "f"])

    def test_an_event_that_one_consumer_saw_is_unseen_by_another(self, store: Store) -> None:
        """Each is told of what it has handled itself."""
        with store.begin() as transaction:
            transaction.insert_inbox("orchestrator", ["e"])
            assert transaction.has_seen("orchestrator", "e")
            assert not transaction.has_seen("mailbox", "e")

    def test_a_position_keeps_the_mark_of_its_record(self, store: Store) -> None:
        """From it the bus tells whether the position is its own; the next has a mark of its own, or none."""
        with store.begin() as transaction:
            transaction.set_positions("m", {("t", 0): Position(5, "4:a:9"), ("t", 1): 7})
        marked = store.positions("m")
        assert ["4:a:9", ""] == [marked["t", 0].mark, marked["t", 1].mark]
        with store.begin() as transaction:
            transaction.set_positions("m", {("t", 0): 0})
        assert "" == store.positions("m")["t", 0].mark

    # --- the outbox ---

    def test_headers_of_rows_that_an_older_version_wrote(self, store: Store) -> None:
        """Pairs with the value in base64: what waited while we were upgraded leaves as it was meant to."""
        with store.engine.begin() as connection:
            connection.execute(
                sa.insert(tables.outbox).values(
                    event_id="e",
                    topic="t",
                    key="k",
                    headers='[["ce_id", "/w=="], ["ce_type", "YQ=="]]',
                    value=b"v",
                    created_at=1,
                    shard=0,
                )
            )
        with store.relay(10) as records:
            assert [(("ce_id", b"\xff"), ("ce_type", b"a"))] == [one.headers for one in records]

    # --- ends ---

    def test_a_question_after_the_end_is_counted_and_listed(self, store: Store) -> None:
        """The DPO finds it among the open ones, and its reminder comes; the request itself has ended."""
        ended = replace(OPEN, request_id="ended", state=Finished(status="completed", at=2))
        question = Escalation(
            id="e1",
            version=1,
            reason="instructed_late",
            system="tenant",
            code=None,
            raised_at=3,
            remind_at=5,
        )
        asked = replace(ended, request_id="asked", escalations=(question,))
        with store.begin() as transaction:
            transaction.save([OPEN, ended, asked])
        figures = store.figures()
        assert (1, 1) == (figures.open_requests, figures.open_escalations)
        assert [asked, OPEN] == store.sagas({"in_progress"}, also_waiting=True)
        assert [OPEN] == store.sagas({"in_progress"})
        assert [asked] == store.due(5, 10)

    @pytest.mark.parametrize("status", ["completed", "rejected", "cancelled"])
    def test_an_end_is_an_end(self, store: Store, status: FinalStatus) -> None:
        """However a request ended, it is no longer open, loses its digests in time, and then goes, with all
        that hangs on it.
        """
        ended = replace(OPEN, request_id="ended", state=Finished(status=status, at=2))
        with store.begin() as transaction:
            transaction.save([OPEN, ended])
            transaction.correlate([Correlation(digest="d", request_id="ended", system="crm")])
        AskedRequests(store).file(replace(ASKED, request_id="ended"), [b"sealed"])
        assert 1 == store.figures().open_requests
        assert 1 == forget_subjects(store, before=NOW + 1)
        with store.begin() as transaction:
            transaction.correlate([Correlation(digest="d", request_id="ended", system="crm")])
        assert 1 == purge_requests(store, before=NOW + 1)
        assert [OPEN] == store.sagas()
        with store.begin() as transaction:
            assert {} == transaction.resolve(["d"])
        assert None is AskedRequests(store).find("ended")
        assert [] == self.listeners(store)

    # --- what controllers asked ---

    def listeners(self, store: Store) -> list[str]:
        with store.reading.connect() as connection:
            return list(connection.execute(sa.select(tables.opendsr_callbacks.c.request_id)).scalars())

    def test_what_a_controller_posted_is_forgotten_with_the_subject(self, store: Store) -> None:
        """The digest of the body says who was asked about; that something was asked stays."""
        ended = replace(OPEN, request_id="ended", state=Finished(status="completed", at=2))
        with store.begin() as transaction:
            transaction.save([OPEN, ended])
        register = AskedRequests(store)
        for request_id in ("open", "ended"):
            register.file(replace(ASKED, request_id=request_id), [])
        forget_subjects(store, before=NOW + 1)
        found = [register.find(request_id) for request_id in ("open", "ended")]
        assert [replace(ASKED, request_id="open"), replace(ASKED, request_id="ended", body=None)] == found

    def test_a_request_is_filed_once(self, store: Store) -> None:
        """Posted again it is the one that was filed first, also where the body is another; and its address
        is told once.
        """
        register = AskedRequests(store)
        assert ASKED == register.file(ASKED, [b"sealed"])
        assert ASKED == register.file(replace(ASKED, body="8" * 64, received_at=20), [b"another"])
        assert ["r"] == self.listeners(store)

    def test_a_request_is_published_once(self, store: Store) -> None:
        """A repeat does not move the time; nobody is told of one that was never published."""
        register = AskedRequests(store)
        register.file(ASKED, [b"sealed"])
        assert [] == register.due(NOW, 10, 10**9)
        register.mark_published("r", 30)
        register.mark_published("r", 40)
        assert replace(ASKED, published_at=30) == register.find("r")
        assert [("r", 0, b"sealed", None, 0)] == [
            (one.asked.request_id, one.number, one.address, one.told, one.tries)
            for one in register.due(NOW, 10, 10**9)
        ]

    def test_one_address_is_told_by_one_process(self, store: Store) -> None:
        """Who looks at it second finds that its look has moved; after a death it is looked at again."""
        register = AskedRequests(store)
        register.file(ASKED, [b"sealed"])
        register.mark_published("r", 30)
        [mine] = register.due(NOW, 10, 10**9)
        [theirs] = register.due(NOW, 10, 10**9)
        claimed = register.claim(mine, NOW + 5)
        assert claimed is not None
        assert None is register.claim(theirs, NOW + 6)
        assert ([], 1) == (register.due(NOW, 10, 10**9), len(register.due(NOW + 5, 10, 10**9)))
        register.told(claimed, "in_progress", NOW + 9)
        assert [("in_progress", NOW + 9)] == [
            (one.told, one.look_at) for one in register.due(NOW + 9, 10, 10**9)
        ]

    def test_a_look_from_before_the_clock_was_set_back_has_come(self, store: Store) -> None:
        """A controller would not be told for as long as the clock was ahead."""
        register = AskedRequests(store)
        register.file(ASKED, [b"sealed"])
        register.mark_published("r", 30)
        [mine] = register.due(NOW, 10, 60)
        register.look_again(mine, NOW + 60)
        assert [] == register.due(NOW, 10, 60)
        assert 1 == len(register.due(NOW - 1, 10, 60))

    def test_what_was_never_published_is_forgotten(self, store: Store) -> None:
        """Its controller was told nothing and asks again; what was published stays, however old."""
        register = AskedRequests(store)
        for request_id in ("published", "never", "young"):
            at = 50 if request_id == "young" else 10
            register.file(replace(ASKED, request_id=request_id, received_at=at), [b"sealed"])
        register.mark_published("published", 30)
        assert 1 == register.purge_unpublished(50)
        assert ["published", "young"] == [
            one for one in ("published", "never", "young") if register.find(one) is not None
        ]
        assert ["published", "young"] == sorted(self.listeners(store))
