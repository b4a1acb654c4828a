"""What the tests of several adapters share."""

import functools

import pytest
from cryptography.hazmat.primitives import serialization

from tests.integration.postgresql_server import own_postgresql, postgresql_server, postgresql_url

__all__ = ["own_postgresql", "postgresql_server", "postgresql_url", "read_keys_once"]

_read = functools.cache(serialization.load_pem_private_key)


@pytest.fixture(autouse=True)
def read_keys_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every bench has the same key of ours, and reading it takes longer than a whole erasure."""
    monkeypatch.setattr(serialization, "load_pem_private_key", _read)
