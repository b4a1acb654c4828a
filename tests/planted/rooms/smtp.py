"""Mail on its way: encrypted, to its recipient alone, and truly told what became of it."""

from typing import Final

from tests.planted.fault import Fault, fault

_MAILER: Final = "orchestrator.smtp.mailer"
_MESSAGE: Final = "orchestrator.smtp.message"

FAULTS: Final[tuple[Fault, ...]] = (
    fault(
        "one bad address stops everybody's mail",
        f"{_MAILER}:MailDeferred.is_about_server",
        'self.code not in ("recipient", "content")',
        "True",
        "tests/unit/test_mailbox.py::test_one_put_off_mail_does_not_hold_up_the_others",
    ),
    fault(
        "a mail that goes again has another id",
        f"{_MESSAGE}:message_id",
        "sha256(event_id.encode()).hexdigest()[:16]",
        "sha256(f'{event_id}{datetime.now(UTC)}'.encode()).hexdigest()[:16]",
        "tests/unit/test_smtp.py::test_a_mail_has_the_headers_that_were_meant",
    ),
    fault(
        "all mails about a request have one id",
        f"{_MESSAGE}:message_id",
        "sha256(event_id.encode())",
        "sha256(request_id.encode())",
        "tests/unit/test_smtp.py::test_a_mail_has_the_headers_that_were_meant",
    ),
)
