"""The store: what was acknowledged has its effect once, keys never come back, retention forgets on time."""

from typing import Final

from tests.planted.fault import Fault, fault

_TRANSACTION: Final = "orchestrator.store.transaction"
_STORE: Final = "orchestrator.store.store"
_KEYS: Final = "orchestrator.store.keys"

FAULTS: Final[tuple[Fault, ...]] = (
    fault(
        "every event is new to the inbox",
        f"{_TRANSACTION}:Transaction.insert_inbox",
        "return set(new.scalars())",
        "return set(event_ids)",
        "tests/unit/test_service.py::test_an_event_counts_once_across_batches_and_lives",
    ),
    fault(
        "a mail in another's hand is taken",
        f"{_TRANSACTION}:Transaction.take_in_hand",
        "c.until <= self.now(), c.holder == holder",
        "c.until <= until, c.holder == holder",
        "tests/contract/test_store_mails.py::test_a_claim_is_one_holders_until_it_ends",
    ),
    fault(
        "a claim on a mail never ends",
        f"{_TRANSACTION}:Transaction.take_in_hand",
        "c.until <= self.now(), c.holder == holder",
        "c.until <= 0, c.holder == holder",
        "tests/contract/test_store_mails.py::test_a_claim_is_one_holders_until_it_ends",
    ),
    fault(
        "a holder ends another's claim",
        f"{_TRANSACTION}:Transaction.let_go",
        "claim if holder is None else claim.where(c.holder == holder)",
        "claim",
        "tests/contract/test_store_mails.py::test_only_the_holder_releases",
    ),
    fault(
        "a timer is due a moment late",
        f"{_TRANSACTION}:_DUE",
        'tables.sagas.c.wake_at <= sa.bindparam("now")',
        'tables.sagas.c.wake_at < sa.bindparam("now")',
        "tests/contract/test_store_sqlite.py::TestStore::test_saving_replaces",
    ),
    fault(
        "the longest overdue saga comes last",
        f"{_TRANSACTION}:_DUE",
        "order_by(tables.sagas.c.wake_at, tables.sagas.c.request_id)",
        "order_by(tables.sagas.c.wake_at.desc(), tables.sagas.c.request_id)",
        "tests/contract/test_store_sqlite.py::TestStore::test_timers",
    ),
    fault(
        "the column of the next wake-up is left out",
        f"{_TRANSACTION}:Transaction.save",
        "saga.wake_at, saga.acted_at",
        "None, saga.acted_at",
        "tests/contract/test_store_sqlite.py::TestStore::test_saving_replaces",
    ),
    fault(
        "the column of the due date is that of receipt",
        f"{_TRANSACTION}:Transaction.save",
        "saga.due_at, saga.wake_at",
        "saga.received_at, saga.wake_at",
        "tests/contract/test_store_sqlite.py::TestStore::test_listing",
    ),
    fault(
        "only the first of a batch is saved",
        f"{_TRANSACTION}:Transaction.save",
        "sorted({saga.request_id: saga for saga in sagas}.items())",
        "sorted({saga.request_id: saga for saga in sagas}.items())[:1]",
        "tests/unit/test_service.py::test_nothing_waits_for_ever",
    ),
    fault(
        "a fork of the timeline's chain is let by",
        f"{_TRANSACTION}:Transaction.append_timeline",
        "rows, _as_it_is",
        "rows",
        "tests/contract/test_store_sqlite.py::TestStore::test_a_chain_cannot_fork",
    ),
    fault(
        "an entry keeps no data",
        f"{_TRANSACTION}:Transaction.append_timeline",
        "entry.action, entry.data, entry.previous",
        "entry.action, {}, entry.previous",
        "tests/contract/test_store_sqlite.py::TestStore::test_every_character_survives_in_a_timeline",
    ),
    fault(
        "the last record of a batch is not queued",
        f"{_TRANSACTION}:Transaction.enqueue",
        "for one in outgoing",
        "for one in list(outgoing)[:-1]",
        "tests/unit/test_service.py::test_events_of_one_request_in_one_batch_build_on_each_other",
    ),
    fault(
        "a queued record loses its headers",
        f"{_TRANSACTION}:headers_to_text",
        "for name, value in headers",
        "for name, value in headers[:0]",
        "tests/contract/test_store_sqlite.py::TestStore::test_the_outbox_keeps_order_and_takes_an_event_once",
    ),
    fault(
        "a record's callbacks stay with the first request",
        f"{_TRANSACTION}:Transaction.correlate",
        "self._upsert(tables.correlations",
        "self._put(tables.correlations",
        "tests/contract/test_store_sqlite.py::TestStore::test_correlations",
    ),
    fault(
        "a destroyed key may be filed again",
        f"{_TRANSACTION}:Transaction.insert_keys",
        "rows, _returning_new(c.request_id)",
        "rows, lambda put: put.on_conflict_do_update(index_elements=['request_id'],"
        " set_={'wrapped': put.excluded.wrapped}).returning(c.request_id)",
        "tests/contract/test_store_sqlite.py::TestKeys::test_a_key_is_never_overwritten",
    ),
    fault(
        "a tombstone passes for a known key",
        f"{_TRANSACTION}:Transaction.insert_keys",
        "c.wrapped.is_(None)",
        "c.wrapped.is_not(None)",
        "tests/contract/test_store_sqlite.py::TestKeys::test_a_key_is_never_overwritten",
    ),
    fault(
        "a key that was never filed leaves no tombstone",
        f"{_TRANSACTION}:Transaction.destroy_keys",
        "self._put(tables.subject_keys, names, rows, _leaving_a_tombstone)",
        "self._connection.execute(sa.update(tables.subject_keys).where("
        "tables.subject_keys.c.request_id.in_(list(request_ids))).values("
        "wrapped=None, generation=None, destroyed_at=at))",
        "tests/contract/test_store_sqlite.py::TestKeys::test_a_key_can_be_destroyed_before_it_is_filed",
    ),
    fault(
        "a key's destruction moves to the last time",
        f"{_TRANSACTION}:_leaving_a_tombstone",
        "sa.func.coalesce(c.destroyed_at, put.excluded.destroyed_at)",
        "put.excluded.destroyed_at",
        "tests/contract/test_store_sqlite.py::TestKeys::test_destroying_again_keeps_the_first_time",
    ),
    fault(
        "a destroyed key leaves its bytes in the row",
        f"{_TRANSACTION}:_leaving_a_tombstone",
        '"wrapped": sa.null(),',
        "",
        "tests/unit/test_service.py::test_a_request_whose_key_is_destroyed_names_nobody",
    ),
    fault(
        "positions of all groups are one",
        f"{_STORE}:Store.positions",
        ".where(c.group == group)",
        "",
        "tests/contract/test_store_sqlite.py::TestStore::test_positions",
    ),
    fault(
        "a position once stored stays",
        f"{_TRANSACTION}:Transaction.set_positions",
        'self._upsert(tables.positions, ("group", "topic", "partition", "next"), rows)',
        'if rows:\n    self._put(tables.positions, ("group", "topic", "partition", "next"), rows)',
        "tests/unit/test_service.py::test_positions_of_another_bus_are_forgotten",
    ),
    fault(
        "keys of the current generation are wrapped again for ever",
        f"{_TRANSACTION}:Transaction.keys_to_rewrap",
        "c.wrapped.is_not(None), c.generation != current, c.request_id > after",
        "c.wrapped.is_not(None), c.request_id > after",
        "tests/contract/test_store_sqlite.py::TestKeys::test_rewrapping",
    ),
    fault(
        "each page but the first is not wrapped again",
        f"{_KEYS}:StoredKeys.rewrap",
        "if len(page) < _PAGE:",
        "if len(page) <= _PAGE:",
        "tests/contract/test_store_sqlite.py::TestKeys::test_rewrapping",
    ),
    fault(
        "one key that can't be opened stops the wrapping of all",
        f"{_KEYS}:StoredKeys.rewrap",
        "unreadable.append(request_id)",
        "raise",
        "tests/contract/test_store_sqlite.py::TestKeys::test_one_key_that_cannot_be_opened_does_not_keep_the_rest",
    ),
    fault(
        "wrapping again brings a destroyed key back",
        f"{_TRANSACTION}:Transaction.replace_wrapping",
        'c.request_id == sa.bindparam("of_request"), c.wrapped.is_not(None)',
        'c.request_id == sa.bindparam("of_request")',
        "tests/contract/test_store_sqlite.py::TestKeys::test_a_key_destroyed_meanwhile_stays_destroyed",
    ),
)
