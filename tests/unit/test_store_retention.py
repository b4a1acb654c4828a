"""What the store forgets, and what it keeps."""

from dataclasses import replace

import pytest

from orchestrator.saga.model import Finished, InProgress, Saga
from orchestrator.saga.timeline import GENESIS, append
from orchestrator.store import Correlation, Store, forget_subjects, open_engine, purge_requests

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
ENDED = replace(OPEN, request_id="ended", state=Finished(status="completed", at=2))


class Clock:
    now = 100

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Store:
    """One open request and one that ended, each with a timeline and a correlation."""
    store = Store(open_engine("sqlite://"), clock)
    with store.begin() as transaction:
        transaction.save([OPEN, ENDED])
        for saga in (OPEN, ENDED):
            entry = append(GENESIS, 1, 1, "received", {})
            transaction.append_timeline([(saga.request_id, entry)])
            digest = saga.request_id[0] * 64
            transaction.correlate([Correlation(digest=digest, request_id=saga.request_id, system="hubspot")])
    return store


def correlations(store: Store) -> set[str]:
    with store.begin() as transaction:
        return set(transaction.resolve(["o" * 64, "e" * 64]))


def test_subjects_are_forgotten(store: Store) -> None:
    """A finished request loses its digests and correlations after their time; an open one keeps them."""
    assert 0 == forget_subjects(store, before=100)
    assert 1 == forget_subjects(store, before=101)
    assert 0 == forget_subjects(store, before=101)

    ended, still_open = store.saga("ended"), store.saga("open")
    assert ended is not None
    assert ("", "") == (ended.subject_digest, ended.content_digest)
    assert OPEN == still_open
    assert {"o" * 64} == correlations(store)
    assert 1 == len(store.timeline("ended"))


def test_requests_are_purged(store: Store) -> None:
    """A finished request goes with its timeline after its time; an open one never does."""
    assert 0 == purge_requests(store, before=100)
    assert 1 == purge_requests(store, before=101)

    assert None is store.saga("ended")
    assert [] == store.timeline("ended")
    assert OPEN == store.saga("open")
    assert 1 == len(store.timeline("open"))


def test_purging_leaves_tombstones(store: Store) -> None:
    """An event of a purged request must not bring its key back."""
    with store.begin() as transaction:
        transaction.destroy_keys(["ended"], 3)
    purge_requests(store, before=101)

    with store.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT request_id, wrapped, destroyed_at FROM subject_keys").all()
    assert [("ended", None, 3)] == [tuple(row) for row in rows]


def test_forgetting_keeps_the_time_of_the_end(store: Store, clock: Clock) -> None:
    """The retention of a request counts from its end, not from when its subject was forgotten."""
    clock.now = 500
    forget_subjects(store, before=500)

    assert 1 == purge_requests(store, before=101)
