"""The contract of the store, on a SQLite file."""

from pathlib import Path

import pytest

from tests.contract.store_suite import StoreSuite


class TestStore(StoreSuite):
    """What holds of every store."""

    statements_of_a_batch = 11

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'radera.db'}"
