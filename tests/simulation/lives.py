"""Processes that die.

A `Life` is one process as its ports see it. Every durable operation (a commit, a publish, a vendor's
effect, a mail taken) asks it before and after. When the fuse burns down there, the process is dead: `Killed`
goes up through whatever was running, and nothing that runs later in its name, a `finally` or a cancelled
task, can have an effect, since every port asks first.
"""

from collections import Counter
from collections.abc import Callable


class Killed(BaseException):
    """The process is no more. Not an Exception: a dead process handles nothing."""


class Fuse:
    """Counts durable operations down to a death; shared by the processes of a world."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.kills: Callable[[str], None] = lambda role: None
        self.points: Counter[str] = Counter()

    def passes(self, role: str, point: str) -> None:
        if self.left is None:
            return
        self.left -= 1
        if self.left < 0:
            self.left = None
            self.points[point] += 1
            self.kills(role)


class Life:
    """One run of one role."""

    def __init__(self, role: str, fuse: Fuse) -> None:
        self.role = role
        self.is_alive = True
        self._fuse = fuse

    def check(self) -> None:
        if not self.is_alive:
            raise Killed

    def before(self, operation: str) -> None:
        """The operation has not been begun."""
        self.check()
        self._fuse.passes(self.role, f"before {operation}")
        self.check()

    def after(self, operation: str) -> None:
        """The operation is done for good, and nobody knows of it yet."""
        self._fuse.passes(self.role, f"after {operation}")
        self.check()
