"""Makes a mail whose headers can't be more than they were meant to be.

* No header may hold a control character, as written or once RFC 2047 words in it are decoded: Python's e-mail
  package turns an encoded line feed in a Subject into a new header when it writes the message out.
* The text is plain text in UTF-8, quoted-printable, so that no server on the way needs to change it.
* The Date comes from the caller's clock and the Message-ID from what caused the mail. A mail that is sent
  again is the same mail, and a mail program shows it once.
"""

import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email import policy
from email.errors import MessageError
from email.header import decode_header, make_header
from email.headerregistry import Address, BaseHeader, HeaderRegistry
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from email.utils import format_datetime
from functools import cache
from hashlib import sha256

from typing_extensions import override


class _Headers(HeaderRegistry):
    """Python's own makes a class for each header of each mail, which takes longer than to parse it. Ours are
    few.
    """

    @override
    def __getitem__(self, name: str) -> type[BaseHeader]:
        return _class_of(name.lower())


@cache
def _class_of(name: str) -> type[BaseHeader]:
    return HeaderRegistry()[name]


_POLICY = policy.SMTP.clone(header_factory=_Headers())
#: Ids stay on their header's own line; some readers lose one that was folded to the next.
_WIRE = _POLICY.clone(max_line_length=400)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class HeaderRefused(Exception):
    """A header would not have been what it seemed; `header` names it. It is a fault of the caller."""

    def __init__(self, header: str) -> None:
        super().__init__(
            f"header {header} refused: control characters, or addresses other than the recipient's"
        )
        self.header = header


def compose(
    *,
    sender: str,
    recipient: str,
    subject: str,
    text: str,
    at: int,
    message_id: str,
    references: Sequence[str] = (),
    sender_name: str | None = None,
    reply_to: str | None = None,
    language: str | None = None,
) -> EmailMessage:
    """A mail of ours, ready for a `Mailer`. `at` is in micros; `references` lead to what it follows."""
    message = EmailMessage(policy=_POLICY)
    headers = {
        "From": sender if sender_name is None else _named(sender_name, sender),
        "To": recipient,
        "Reply-To": reply_to,
        "Subject": subject,
        "Date": format_datetime(_EPOCH + timedelta(microseconds=at)),
        "Message-ID": message_id,
        "In-Reply-To": references[-1] if references else None,
        "References": " ".join(references) or None,
        # RFC 3834: no vacation notice or ticket system answers it.
        "Auto-Submitted": "auto-generated",
        "Content-Language": language,
    }
    for name, value in headers.items():
        if value is not None:
            check_header(name, value)
            message[name] = value
    message.set_content(text, charset="utf-8", cte="quoted-printable")
    return message


def _named(name: str, address: str) -> str:
    check_header("From", name)
    return str(Address(display_name=name, addr_spec=address))


def check_header(name: str, value: str) -> None:
    """Raises HeaderRefused if `value` holds a control character, plainly or encoded."""
    try:
        decoded = str(make_header(decode_header(value))) if "=?" in value else ""
    except (MessageError, ValueError, LookupError):
        raise HeaderRefused(name) from None
    text = value + decoded
    # Most text is printable throughout, and that is quickly known.
    if not text.isprintable() and any(unicodedata.category(one) in _CONTROLS for one in text):
        raise HeaderRefused(name)


#: Controls, and the line and paragraph separators.
_CONTROLS = ("Cc", "Zl", "Zp", "Cs")


def wire(message: EmailMessage, recipient: str) -> bytes:
    """The message as it goes over the line, once it is sure that it goes to `recipient` alone.

    Raises HeaderRefused for a message with headers that `compose` would not have made.
    """
    for name, value in message.items():
        check_header(name, str(value))
        if name.lower() in ("cc", "bcc", "resent-to"):
            raise HeaderRefused(name)
    to = message.get_all("To", [])
    if len(to) != 1 or [address.addr_spec for address in to[0].addresses] != [recipient]:
        raise HeaderRefused("To")
    data = message.as_bytes(policy=_WIRE)
    # Belt and braces: what a reader will see as headers are the headers that were put in.
    if BytesHeaderParser(policy=policy.compat32).parsebytes(data).keys() != message.keys():
        raise HeaderRefused("Subject")
    return data


def message_id(domain: str, request_id: str, event_id: str) -> str:
    """The Message-ID of the mail that `event_id` causes: always the same one."""
    digest = sha256(event_id.encode()).hexdigest()[:16]
    return f"<{digest}.{request_id}@{domain}>"


def thread_id(domain: str, request_id: str) -> str:
    """What all mails about a request refer to, so that a mail program shows them as one conversation."""
    return f"<{request_id}@{domain}>"
