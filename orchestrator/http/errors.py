"""How an outgoing call can fail, as the caller must treat it.

A code is a token for logs, metrics and the DPO. It never holds text from the other side, which can quote an
address.
"""

from typing import Final, Protocol

#: Told by its code that nobody was asked. The saga has the same words, and counts no attempt.
CIRCUIT_OPEN: Final = "circuit_open"
TOLD_TO_WAIT: Final = "told_to_wait"
NO_FREE_CONNECTION: Final = "no_free_connection"
RESOLVER_BUSY: Final = "resolver_busy"
RESOLVER_SILENT: Final = "resolver_silent"
NOT_ASKED: Final = frozenset({CIRCUIT_OPEN, TOLD_TO_WAIT, NO_FREE_CONNECTION, RESOLVER_BUSY, RESOLVER_SILENT})


class CallFailed(Exception):
    """An outgoing call did not give what was asked; `code` says how, in one token."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Retryable(CallFailed):
    """The fault may pass by itself: try later, after `retry_after` microseconds where the other side
    named a time.
    """

    def __init__(self, code: str, retry_after: int | None = None) -> None:
        super().__init__(code)
        self.retry_after = retry_after


class NotAsked(Retryable):
    """A wait of our own: the call was not made, so it says nothing about the system, and is no attempt."""


class Permanent(CallFailed):
    """Trying again changes nothing: a person has to mend something first."""


class Expired(Exception):
    """The command's time is over: nothing more may be erased on its behalf."""


class Permit(Protocol):
    """Leave to erase, for a limited time."""

    def may_erase(self) -> None:
        """Return if an erasing call may be sent now; raise `Expired` if not."""
