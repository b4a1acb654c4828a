"""Where a SQLite database lies: whether it is still the file that was opened, and who works on it.

* A file that was moved, replaced or removed under a running process takes in what nobody will ever read. Each
  transaction looks first whether the file at the path is the one that was opened.
* Two processes of one role carry out every command twice. Each role holds a lock for as long as its process
  lives, on a file beside the database: closing any descriptor of the database itself would drop the locks
  that SQLite holds on it (POSIX, see "How to corrupt an SQLite database file", section 2.2). The kernel lets
  go of the lock when the process ends, however it ends.
"""

import fcntl
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from sqlalchemy.engine import URL

from orchestrator.store.errors import Moved, Occupied, Unreachable

#: What the lock files' names add to the database's.
SUFFIX = ".lock"


def file_of(url: URL) -> Path | None:
    """The file of a SQLite database; None of one in memory, behind a URI, or on a server."""
    name = url.database or ""
    if url.get_backend_name() != "sqlite" or not name or name == ":memory:" or name.startswith("file:"):
        return None
    return Path(name).absolute()


def watched(path: Path) -> Callable[[], None]:
    """Remember the file that is at the path now.

    Returns a function that raises Moved when another one is there, or none.
    """
    opened = _identity(path)

    def look() -> None:
        if _identity(path) != opened:
            raise Moved(database=path)

    return look


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Occupation:
    """The roles that this process fills at a database, each held by a lock until the process ends."""

    def __init__(self, descriptors: Iterable[int] = ()) -> None:
        self._descriptors = list(descriptors)

    @classmethod
    def of(cls, path: Path, roles: Iterable[str]) -> Self:
        """Hold each role. Raises Occupied, which names the process that fills it, or Unreachable."""
        occupation = cls()
        try:
            for role in roles:
                occupation._hold(path, role)
        except BaseException:
            occupation.end()
            raise
        return occupation

    def end(self) -> None:
        """Let go of the roles."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _hold(self, path: Path, role: str) -> None:
        file = path.with_name(f"{path.name}.{role}{SUFFIX}")
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unreachable(database=path) from error
        self._descriptors.append(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            process = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
            raise Occupied(database=path, role=role, process=process) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
