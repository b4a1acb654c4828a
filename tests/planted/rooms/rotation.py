"""Master keys that come and go: nothing starts with wrong ones, and no rotation loses a request."""

from typing import Final

from tests.planted.fault import Fault, fault

FAULTS: Final[tuple[Fault, ...]] = (
    fault(
        "a process starts without a generation that an open key needs",
        "orchestrator.store.generations:KnownGenerations.check",
        "if number not in present:",
        "if False:",
        "tests/integration/test_keyring_and_database.py::test_an_older_keyring_starts_nothing",
    ),
    fault(
        "a process starts with another key under a known number",
        "orchestrator.store.generations:KnownGenerations._check_digest",
        "!= known.digest",
        "== None",
        "tests/integration/test_keyring_and_database.py::test_another_key_under_the_same_number_starts_nothing",
    ),
    fault(
        "a process starts with a foreign keyring while nothing is open",
        "orchestrator.store.generations:KnownGenerations.check",
        "wanted and wanted.isdisjoint",
        "False and wanted.isdisjoint",
        "tests/integration/test_keyring_and_database.py::test_a_foreign_keyring_starts_nothing",
    ),
    fault(
        "a key without a digest is not tried",
        "orchestrator.store.generations:KnownGenerations.check",
        "not self._keys.opens_any(number)",
        "False",
        "tests/integration/test_keyring_and_database.py::test_a_key_that_the_database_has_no_digest_of_is_tried",
    ),
    fault(
        "digests are taken of a keyring that opens not every key",
        "orchestrator.store.generations:KnownGenerations.take",
        "if opened.unreadable:",
        "if False:",
        "tests/integration/test_keyring_and_database.py::test_digests_are_taken_only_when_every_open_key_opens",
    ),
    fault(
        "a rotation destroys what it has just replaced",
        "orchestrator.cli.keys:rotate",
        "return _rotated(ground, doomed)",
        "return _rotated(ground, [one.number for one in ground.keyring.generations])",
        "tests/integration/test_cli_keys.py::test_what_is_stored_late_is_read",
    ),
    fault(
        "what producers may still seal to is destroyed",
        "orchestrator.cli.main:",
        "default=7,",
        "default=0,",
        "tests/integration/test_cli_keys.py::test_what_is_stored_late_is_read",
    ),
    fault(
        "two rotations run at once",
        "orchestrator.cli.keys:rotate",
        "if not is_alone:",
        "if False:",
        "tests/integration/test_cli_keys.py::test_one_rotation_runs_at_a_time",
    ),
    fault(
        "a rotation begins though a key cannot be opened",
        "orchestrator.cli.keys:_hindrance",
        "if opened.unreadable:",
        "if False:",
        "tests/integration/test_cli_keys.py::test_a_key_that_cannot_be_read_stops_the_rotation",
    ),
    fault(
        "a rotation asks for no rights before it begins",
        "orchestrator.store.transaction:Transaction.check_rights_to_rotate",
        "self.own_keys()",
        "return",
        "tests/contract/test_store_roles.py::test_who_may_rotate_is_asked_before",
    ),
    fault(
        "callbacks of a kind that has left the settings need no key",
        "orchestrator.service.needed:what_needs_keys",
        "filter(is_of_callbacks, bus.topics())",
        "filter(is_of_callbacks, [])",
        "tests/integration/test_cli_keys.py::test_a_callback_that_waits_stops_the_rotation",
    ),
    fault(
        "what waits in the outbox needs no key",
        "orchestrator.service.needed:what_needs_keys",
        "while waiting := _unsent(store, taken_in):",
        "while waiting := []:",
        "tests/integration/test_cli_keys.py::test_what_is_in_the_outbox_stops_the_rotation",
    ),
    fault(
        "a request that nobody has read needs no key",
        "orchestrator.service.needed:is_read",
        "read.get(place, 0) >= end",
        "read.get(place, end) >= end",
        "tests/integration/test_cli_keys.py::test_a_request_that_nobody_has_read_stops_the_rotation",
    ),
    fault(
        "dead letters need no key",
        "orchestrator.service.needed:Needs.is_needed",
        "self.keys_of([generation]) or self.letters_of([generation])",
        "self.keys_of([generation])",
        "tests/integration/test_cli_keys.py::test_rewrapping_says_which_keys_are_needed_no_more",
    ),
)
