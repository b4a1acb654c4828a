"""A circuit breaker: a system that doesn't answer is left alone for a while.

* Only silence and the other side's own faults count: no connection, no answer in time, 5xx. Whatever else
  comes back, a refusal or "too many requests" included, is a sign of life.
* After `opens_after` of them in a row the circuit is open, and nobody calls until the pause is over. Then one
  call is let by (half open): an answer closes the circuit, silence begins a longer pause.
* An open circuit is no answer of the vendor's. The caller gets `NotAsked` with the code `CIRCUIT_OPEN` and
  the time until somebody may try, and it counts as no attempt: nobody was asked.
* A call that ends without a verdict, because it was given up or had no leave, lets the next one try.
* A call counts only in the state in which it began. One from before the circuit opened says nothing of how
  the system is since: it neither closes the circuit nor opens it again.
* Calls that look and calls that erase have circuits of their own. What can be read may still not be erasable.
* Pauses are reckoned by a clock that nobody sets.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal

from orchestrator.http.errors import CIRCUIT_OPEN, NotAsked

State = Literal["closed", "half_open", "open"]
SECOND: Final = 1_000_000
FIRST_PAUSE: Final = 30 * SECOND
LONGEST_PAUSE: Final = 600 * SECOND
OPENS_AFTER: Final = 5


def uptime() -> int:
    """Return a time in micros that nobody sets. It begins anywhere."""
    return time.monotonic_ns() // 1000


class Breaker:
    """The circuit for one kind of call to one address of one system; `changed` hears of each new state."""

    def __init__(
        self,
        steady: Callable[[], int],
        *,
        changed: Callable[[State], None] | None = None,
        opens_after: int = OPENS_AFTER,
        first_pause: int = FIRST_PAUSE,
        longest_pause: int = LONGEST_PAUSE,
    ) -> None:
        self._steady = steady
        self._changed = changed
        self._opens_after = opens_after
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._state: State = "closed"
        self._failures = 0
        self._pause = first_pause
        self._opens_at = 0
        # What the calls under way began in: the number of states so far, and how many began in this one.
        self._turn = 0
        self._trying = 0

    @property
    def state(self) -> State:
        return self._state

    def check(self) -> None:
        """Return if a call may be made now. Raises NotAsked."""
        wait = self._opens_at - self._steady()
        if self._state == "open" and wait > 0:
            raise NotAsked(CIRCUIT_OPEN, wait)
        if self._state == "half_open" and self._trying:
            raise NotAsked(CIRCUIT_OPEN, self._first_pause)

    @contextmanager
    def call(self) -> Iterator["Verdict"]:
        """One call; what became of it is told to the verdict."""
        self.check()
        if self._state == "open":
            self._become("half_open")
        turn = self._turn
        self._trying += 1
        verdict = Verdict()
        try:
            yield verdict
        finally:
            if turn == self._turn:
                self._trying -= 1
                self._judge(verdict)

    def _judge(self, verdict: "Verdict") -> None:
        if verdict.answered is True:
            self._failures, self._pause = 0, self._first_pause
            self._become("closed")
        elif verdict.answered is False:
            self._count()

    def _count(self) -> None:
        self._failures += 1
        if self._state == "half_open":
            self._pause = min(self._pause * 2, self._longest_pause)
        elif self._failures < self._opens_after:
            return
        self._opens_at = self._steady() + self._pause
        self._become("open")

    def _become(self, state: State) -> None:
        if state != self._state:
            self._state = state
            self._turn += 1
            self._trying = 0
            if self._changed is not None:
                self._changed(state)


class Verdict:
    """What became of a call: True, the other side answered; False, it did not; None, nobody can tell."""

    __slots__ = ("answered",)

    def __init__(self) -> None:
        self.answered: bool | None = None
