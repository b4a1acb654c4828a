"""Hands a mail to the server, and says truly what became of it.

* `send` returns only when the server has taken the mail for good (250 after the last line). No answer is no.
* `MailRefused` is about this mail: the server will have nothing to do with its recipient or its text.
  Everything else is `MailDeferred`, a wrong password or certificate too: they say nothing about the mail,
  and once they are mended it can go. So a fault of ours can never read as "the subject's address is bad".
* The connection is encrypted and the server's certificate checked before anything is said. If a server
  offers no STARTTLS, the mail waits; it never goes in clear.
* No error repeats what the server said: servers quote addresses.
* A mail that leads to an erasure needs leave (`may_send`). It is asked when the server waits for the text, so
  that none is handed over too late, however long the connecting took.
"""

import re
import smtplib
import ssl
from collections.abc import Callable
from email.message import EmailMessage
from typing import Final, Protocol

from orchestrator.secret import SecretUnavailable
from orchestrator.settings import Smtp
from orchestrator.smtp.message import wire


class MailNotSent(Exception):
    """The mail was not taken. `code` says at what point, `status` is the server's number if it gave one."""

    def __init__(self, code: str, status: int | None = None) -> None:
        super().__init__(f"mail not sent: {code}" + (f" ({status})" if status else ""))
        self.code = code
        self.status = status


class MailDeferred(MailNotSent):
    """Not now; try again later."""

    @property
    def is_about_server(self) -> bool:
        """Whether another mail would have met the same."""
        return self.code not in ("recipient", "content")


class MailRefused(MailNotSent):
    """The server will not take this mail; `code` is "recipient" or "content"."""


Leave = Callable[[], None]
"""Returns if the mail may be handed over now; raises if not."""


def always() -> None:
    """Leave for a mail that may go at any time."""


class Mailer(Protocol):
    """Sends mail."""

    def send(self, message: EmailMessage, recipient: str, may_send: Leave = always) -> None:
        """Returns when the mail is taken. Raises MailDeferred, MailRefused or HeaderRefused, and what
        `may_send` raises: then nothing was handed over.
        """


#: "Authentication required": about us, not about the mail.
_LOGIN_FIRST = 530
#: "Start mail input": the server waits for the text (RFC 5321, 4.1.1.4).
_GO_ON: Final = 354


class SmtpMailer:
    """A `Mailer` over SMTP; a connection for each mail, since we send few and one kept would go stale."""

    def __init__(self, settings: Smtp) -> None:
        self._settings = settings

    def send(self, message: EmailMessage, recipient: str, may_send: Leave = always) -> None:
        if not recipient.isascii():
            # Asking every server on the way for SMTPUTF8 is not something that can be relied on.
            raise MailRefused("recipient")
        data = wire(message, recipient)
        try:
            server = self._connect()
            try:
                self._greet(server)
                self._deliver(server, data, recipient, may_send)
            finally:
                server.close()
        except smtplib.SMTPResponseException as error:
            raise MailDeferred("server", error.smtp_code) from None
        except ssl.SSLError:
            raise MailDeferred("tls") from None
        except smtplib.SMTPServerDisconnected:
            raise MailDeferred("lost") from None
        except (smtplib.SMTPException, OSError):
            raise MailDeferred("unreachable") from None

    def _connect(self) -> smtplib.SMTP:
        settings = self._settings
        timeout = settings.timeout.total_seconds()
        # The standard library would ask the DNS for our own name, and may wait long for it.
        name = settings.sender.rpartition("@")[2]
        if settings.security == "tls":
            return smtplib.SMTP_SSL(
                settings.host, settings.port, name, timeout=timeout, context=self._trusted()
            )
        return smtplib.SMTP(settings.host, settings.port, name, timeout=timeout)

    def _trusted(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self._settings.ca_file)
        except OSError:
            raise MailDeferred("ca_file") from None

    def _greet(self, server: smtplib.SMTP) -> None:
        settings = self._settings
        server.ehlo_or_helo_if_needed()
        if settings.security == "starttls":
            if not server.has_extn("starttls"):
                raise MailDeferred("no_starttls")
            server.starttls(context=self._trusted())
            server.ehlo()
        if settings.username is not None and settings.password is not None:
            try:
                server.login(settings.username, settings.password.read())
            except SecretUnavailable:
                raise MailDeferred("no_password") from None
            except smtplib.SMTPAuthenticationError as error:
                raise MailDeferred("login", error.smtp_code) from None
            except smtplib.SMTPNotSupportedError:
                raise MailDeferred("login") from None

    def _deliver(self, server: smtplib.SMTP, data: bytes, recipient: str, may_send: Leave) -> None:
        status, _ = server.mail(self._settings.sender)
        if status != 250:
            raise MailDeferred("sender", status)
        status, _ = server.rcpt(recipient)
        if status not in (250, 251):
            raise _verdict("recipient", status)
        status, _ = server.docmd("DATA")
        if status != _GO_ON:
            raise _verdict("content", status)
        # Without the last line nothing is taken: a server forgets a mail whose connection ends before it.
        may_send()
        server.send(_dotted(data))
        status, _ = server.getreply()
        if status != 250:
            raise _verdict("content", status)
        # The mail is taken. What happens to the connection now changes nothing.
        try:
            server.quit()
        except (smtplib.SMTPException, OSError):
            return


def _dotted(data: bytes) -> bytes:
    """Return the text as it is sent, to its end (RFC 5321, 4.5.2): a line with a dot first gets another."""
    return re.sub(rb"(?m)^\.", b"..", data).removesuffix(b"\r\n") + b"\r\n.\r\n"


def _verdict(code: str, status: int) -> MailNotSent:
    if 500 <= status < 600 and status != _LOGIN_FIRST:
        return MailRefused(code, status)
    return MailDeferred(code, status)
