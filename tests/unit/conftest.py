"""What many unit tests begin with."""

from collections.abc import Iterator

import pytest

from orchestrator.privacy import Keyring
from orchestrator.store.engine import open_engine
from tests.contract.worker_bench import NOW, Bench


@pytest.fixture
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A worker on a bus and a keyring of its own, asked by hand."""
    folder = tmp_path_factory.mktemp("worker")
    engine = open_engine(f"sqlite:///{folder / 'radera.db'}")
    yield Bench(engine, Keyring.create(folder / "keys", NOW))
    engine.dispose()
