"""A circuit breaker: a system that doesn't answer is left alone for a while.

* Only silence and the other side's own faults count: no connection, no answer in time, 5xx. Whatever else
  comes back, a refusal or "too many requests" included, is a sign of life.
* After `opens_after` of them in a row the circuit is open, and nobody calls until the pause is over. Then one
  call is let by (half open): an answer closes the circuit, silence begins a longer pause.
* An open circuit is no answer of the vendor's. The caller gets `Retryable` with the code `CIRCUIT_OPEN` and
  the time until somebody may try, and it counts as no attempt: nobody was asked.
* A call that ends without a verdict, because it was given up or had no leave, lets the next one try.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal

from orchestrator.http.errors import Retryable

State = Literal["closed", "half_open", "open"]
CIRCUIT_OPEN: Final = "circuit_open"
SECOND: Final = 1_000_000
FIRST_PAUSE: Final = 30 * SECOND
LONGEST_PAUSE: Final = 600 * SECOND
OPENS_AFTER: Final = 5


class Breaker:
    """The circuit to one address of one system; `changed` hears of each new state."""

    def __init__(
        self,
        clock: Callable[[], int],
        *,
        changed: Callable[[State], None] | None = None,
        opens_after: int = OPENS_AFTER,
        first_pause: int = FIRST_PAUSE,
        longest_pause: int = LONGEST_PAUSE,
    ) -> None:
        self._clock = clock
        self._changed = changed
        self._opens_after = opens_after
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._state: State = "closed"
        self._failures = 0
        self._pause = first_pause
        self._opens_at = 0
        self._trying = 0

    @property
    def state(self) -> State:
        return self._state

    def check(self) -> None:
        """Return if a call may be made now. Raises Retryable."""
        wait = self._opens_at - self._clock()
        if self._state == "open" and wait > 0:
            # A clock that was set back must not keep the circuit open for longer than the pause.
            raise Retryable(CIRCUIT_OPEN, min(wait, self._pause))
        if self._state == "half_open" and self._trying:
            raise Retryable(CIRCUIT_OPEN, self._first_pause)

    @contextmanager
    def call(self) -> Iterator["Verdict"]:
        """One call; what became of it is told to the verdict."""
        self.check()
        if self._state == "open":
            self._become("half_open")
        self._trying += 1
        verdict = Verdict()
        try:
            yield verdict
        finally:
            self._trying -= 1
            if verdict.answered is True:
                self._failures, self._pause = 0, self._first_pause
                self._become("closed")
            elif verdict.answered is False:
                self._count()

    def _count(self) -> None:
        self._failures += 1
        if self._state == "half_open":
            self._pause = min(self._pause * 2, self._longest_pause)
        elif self._state == "open" or self._failures < self._opens_after:
            return
        self._opens_at = self._clock() + self._pause
        self._become("open")

    def _become(self, state: State) -> None:
        if state != self._state:
            self._state = state
            if self._changed is not None:
                self._changed(state)


class Verdict:
    """What became of a call: True, the other side answered; False, it did not; None, nobody can tell."""

    __slots__ = ("answered",)

    def __init__(self) -> None:
        self.answered: bool | None = None
