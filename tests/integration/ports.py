"""Ports for what the tests start, each given to one process of all test runs on this machine.

* They lie below the range from which the system gives outgoing connections theirs, so that nobody else sits
  on one between two lives of a server.
* Between the choice of a port and the server's start lie seconds. A lock on a file, which ends with the
  process that chose, keeps another test from the same choice.
"""

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

_PORTS = range(20_000, 32_000)
_chosen: list[int] = []  # descriptors of the locks: open until this process ends


def free_port() -> int:
    """A port of this machine that nobody listens on and no other test has chosen."""
    return _free(1)


def free_pair() -> int:
    """Such a port, whose next one is free, too."""
    return _free(2)


def _free(count: int) -> int:
    for port in random.SystemRandom().sample(_PORTS, 200):
        if all(_is_ours(port + more) and _is_free(port + more) for more in range(count)):
            return port
    raise RuntimeError("no port is free")


def _is_ours(port: int) -> bool:
    folder = Path(tempfile.gettempdir()) / f"radera-test-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    lock = os.open(folder / str(port), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return False
    _chosen.append(lock)
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
