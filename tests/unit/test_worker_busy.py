"""A worker with its hands full goes on polling, or its group would take it for dead."""

import threading
import time
from typing import Any

import pytest

from handlers.worker import POLL, in_thread
from orchestrator.bus.port import Delivery, Subscription
from tests.contract.worker_bench import Bench, located


def test_a_busy_worker_polls_for_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks for no more than it can begin: with its one hand full, for no records, and begins none."""
    bench.handler.script = [located()]
    bench.handler.takes = 3 * POLL
    asked: list[tuple[int, int]] = []
    subscribe = bench.bus.subscribe

    class Watched:
        def __init__(self, inner: Subscription) -> None:
            self._inner = inner

        def poll(self, timeout: float, max_records: int) -> list[Delivery]:
            got = self._inner.poll(timeout, max_records)
            asked.append((max_records, len(got)))
            return got

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        def __enter__(self) -> "Watched":
            return self

        def __exit__(self, *error: object) -> None:
            self._inner.close()

    bench.send(bench.command())
    worker = bench.worker(run_blocking=in_thread, concurrency=1)
    monkeypatch.setattr(bench.bus, "subscribe", lambda *args, **more: Watched(subscribe(*args, **more)))
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    until = time.monotonic() + 20
    while len([one for one in asked if one == (0, 0)]) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    stop.set()
    thread.join(20)
    monkeypatch.undo()

    assert (1, 1) in asked
    assert asked.count((0, 0)) >= 2
    assert {0, 1} == {wanted for wanted, _ in asked}
    assert 1 == len(bench.said())
