"""The contract of the store, on PostgreSQL."""

from collections.abc import Iterator

import pytest
from sqlalchemy.engine import URL, make_url

from orchestrator.store.migrations import upgrade
from orchestrator.store.tables import metadata
from tests.contract.store_suite import StoreSuite
from tests.integration.postgresql_server import connect, new_database


@pytest.fixture(scope="module")
def database(postgresql_server: URL) -> Iterator[str]:
    """A database with our tables."""
    with new_database(postgresql_server) as url:
        upgrade(url)
        yield url


@pytest.fixture
def url(database: str) -> Iterator[str]:
    """The same for each test, and empty again after it."""
    yield database
    with connect(make_url(database)) as connection:
        connection.execute(f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY".encode())


class TestStore(StoreSuite):
    """What holds of every store."""

    statements_of_a_batch = 10
