"""Mail on its way: encrypted, to its recipient alone, and truly told what became of it."""

from typing import Final

from tests.planted.fault import Fault, fault

_MAILER: Final = "orchestrator.smtp.mailer"

FAULTS: Final[tuple[Fault, ...]] = (
    fault(
        "one bad address stops everybody's mail",
        f"{_MAILER}:MailDeferred.is_about_server",
        'self.code not in ("recipient", "content")',
        "True",
        "tests/unit/test_mailbox.py::test_one_put_off_mail_does_not_hold_up_the_others",
    ),
)
