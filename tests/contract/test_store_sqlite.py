"""The contract of the store, on a SQLite file."""

from pathlib import Path

import pytest

from tests.contract.store_keys_suite import KeysSuite, RetentionSuite
from tests.contract.store_suite import StoreSuite
from tests.contract.store_upkeep_suite import UpkeepSuite


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'radera.db'}"


class TestStore(StoreSuite):
    """What holds of every store."""

    statements_of_a_batch = 11


class TestKeys(KeysSuite):
    """What holds of every store's keys."""


class TestRetention(RetentionSuite):
    """What every store forgets."""


class TestUpkeep(UpkeepSuite):
    """What every store keeps apart."""
