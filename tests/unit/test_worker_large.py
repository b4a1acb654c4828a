"""An answer that the bus takes in no size: it is not asked for again, and nothing is lost."""

from collections.abc import Iterable, Iterator

import pytest
from typing_extensions import override

from handlers.results import PartyErased
from orchestrator.bus.port import Record, RecordTooLarge
from orchestrator.privacy import Keyring
from orchestrator.store.engine import open_engine
from schemas import topics
from tests.contract.worker_bench import NOW, Bench, Flaky, located

pytestmark = pytest.mark.anyio


class Narrow(Flaky):
    """A bus that takes small confirmations, and anything on other topics."""

    limit = 1000

    @override
    def publish(self, records: Iterable[Record]) -> None:
        batch = list(records)
        if any(len(one.value) > self.limit for one in batch if one.topic == topics.CONFIRMATIONS):
            raise RecordTooLarge
        super().publish(batch)


@pytest.fixture
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("worker")
    engine = open_engine(f"sqlite:///{folder / 'radera.db'}")
    bench = Bench(engine, Keyring.create(folder / "keys", NOW))
    bench.bus = Narrow(engine, bench.clock)
    yield bench
    engine.dispose()


async def test_the_vendor_is_asked_once_and_the_command_has_failed(bench: Bench) -> None:
    """The record is acknowledged with the answer that it failed, and the worker goes on with the next."""
    bench.handler.script = [located(*(f"{n:012d}" for n in range(500))), located()]
    for _ in range(2):
        bench.send(bench.command())
    worker = bench.worker()
    with worker.subscribe() as subscription:
        for _ in range(3):
            await worker.step(subscription)
    assert 2 == len(bench.handler.asked)
    assert [("failed", "answer_too_large", False), ("located", None, False)] == [
        (said.kind, said.code, said.retryable) for said in bench.said()
    ]


async def test_a_partys_word_whose_confirmation_is_too_large_is_kept(bench: Bench) -> None:
    """Nobody can be asked for it once more, so the callback itself becomes a dead letter."""
    assert isinstance(bench.bus, Narrow)
    bench.bus.limit = 10
    bench.handler.script = [PartyErased(prove_at=None)]
    bench.call_back(b"answer=erased", "token")
    worker = bench.worker()
    with worker.subscribe() as subscription:
        for _ in range(2):
            await worker.step(subscription)
    assert [[], 1] == [bench.said(), len(bench.handler.received)]
    (dead,) = bench.read(topics.dead_letters(topics.callbacks("hubspot")))
    assert b"answer_too_large" == dead.header("radera-code")
