"""Hands each mail over once, however often the command that asks for it is carried out.

A topic of commands that was made anew, or lost records, is read from its oldest record: commands come again
that were carried out before. The same command makes the same mail, byte for byte, by which it is known. The
mail of another attempt is another.
"""

import hashlib
import logging
from collections.abc import Callable
from email.message import EmailMessage
from typing import Protocol

from orchestrator.smtp.mailer import Leave, Mailer, always
from orchestrator.smtp.message import wire

_logger = logging.getLogger(__name__)


class Sent(Protocol):
    """Remembers which mails were taken; `store.StoredSent` does."""

    def seen(self, event_id: str) -> bool:
        """Whether it was recorded."""

    def record(self, event_id: str) -> None:
        """Durable when it returns; recording twice is harmless."""


class OnceMailer:
    """A `Mailer` that sends no mail a second time. `digest` is keyed, since a mail names a person. `outages`
    are what `sent` raises while it is away.
    """

    def __init__(
        self,
        mailer: Mailer,
        sent: Sent,
        *,
        digest: Callable[[str], str],
        outages: tuple[type[Exception], ...],
    ) -> None:
        self._mailer = mailer
        self._sent = sent
        self._digest = digest
        self._outages = outages
        # Those that were taken and could not be recorded: this process remembers them.
        self._unrecorded: set[str] = set()

    def send(self, message: EmailMessage, recipient: str, may_send: Leave = always) -> None:
        """Send a mail, or return at once if it was taken before.

        Raises:
            MailDeferred, MailRefused, HeaderRefused: it was not taken.
            one of `outages`: whether it was taken before can't be told now, and nothing was sent.
        """
        name = self._digest(hashlib.sha256(wire(message, recipient)).hexdigest())
        if name in self._unrecorded or self._sent.seen(name):
            _logger.info("mail_sent_before")
            return
        self._mailer.send(message, recipient, may_send)
        self._unrecorded.add(name)
        try:
            self._sent.record(name)
        except self._outages as error:
            # Raised, the command would be carried out again.
            _logger.warning("mail_not_recorded", extra={"type": type(error).__name__})
        else:
            self._unrecorded.discard(name)
