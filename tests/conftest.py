"""What holds for every test.

* Nothing is reached beyond this machine: the vendors are stand-ins, and a test that forgets it fails.
* Coroutines run on asyncio, the loop that the program itself uses.
* Tests that may take long begin first, so that no processor is left with one of them at the end. Then come
  those that need a server or processes. Both mostly wait, and the simulation, which only computes, is spread
  among them, so that neither do all wait at once nor are there more to compute than processors.
* What was loaded before the first test stays to the last, and the garbage collector leaves it out.
* Under CI the generated examples are the same each time, so that a failure belongs to the change that
  shows it. At home they differ, so that new ones are found.
"""

import ipaddress
import socket
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from orchestrator.cli.loading import loading
from tests.ci import under_ci

settings.register_profile("home", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("home"), derandomize=True, print_blob=True)
settings.load_profile("ci" if under_ci() else "home")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Load all tests as a command loads what it needs: no garbage is looked for among it, then or ever after.
    Of a process's time to load this takes a fifth, and as much again when it ends.
    """
    with loading():
        return (yield)


#: Whose tests wait: for what a server or a process does, for a session to time out, for a start.
WAITED_FOR = frozenset({"kafka", "node", "own_postgresql", "postgresql_server", "protected", "world"})
COMPUTING = Path(__file__).parent / "simulation"
#: What a test that was given no time of its own is reckoned to take, where those that were take them.
SHORT = 10.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests in the order in which they are best begun; those of one kind keep theirs."""
    computing, waiting, others = [], [], []
    for item in items:
        if COMPUTING == item.path.parent:
            computing.append(item)
        elif _time_given(item) or WAITED_FOR.intersection(getattr(item, "fixturenames", ())):
            waiting.append(item)
        else:
            others.append(item)
    computing.sort(key=_time_given, reverse=True)
    waiting.sort(key=_time_given, reverse=True)
    items[:] = [*_spread(computing, waiting), *others]


def _spread(some: list[pytest.Item], among: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Both, in their order, with `some` evenly over the time of the others."""
    whole = sum(_time_given(item) or SHORT for item in among)
    left = iter(enumerate(some))
    following = next(left, None)
    passed = 0.0
    for item in among:
        while following is not None and following[0] * whole <= passed * len(some):
            yield following[1]
            following = next(left, None)
        yield item
        passed += _time_given(item) or SHORT
    if following is not None:
        yield following[1]
    yield from (item for _, item in left)


def _time_given(item: pytest.Item) -> float:
    mark = item.get_closest_marker("timeout")
    return float(mark.args[0]) if mark is not None and mark.args else 0.0


class ReachedOutside(AssertionError):
    """A test tried to connect beyond this machine."""


def _is_here(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True  # a Unix socket's path
    host = address[0]
    try:
        return host in ("", "localhost") or ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session", autouse=True)
def only_this_machine() -> Iterator[None]:
    """Refuse every connection that leaves the machine."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if not _is_here(address):
            raise ReachedOutside(address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        if not _is_here(address):
            raise ReachedOutside(address)
        return connect_ex(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        yield


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The event loop for tests marked with anyio."""
    return "asyncio"
