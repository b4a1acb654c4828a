"""Mail on its way: encrypted, to its recipient alone, and truly told what became of it."""

from typing import Final

from tests.planted.fault import Fault, fault

_MAILER: Final = "orchestrator.smtp.mailer"
_MESSAGE: Final = "orchestrator.smtp.message"

FAULTS: Final[tuple[Fault, ...]] = (
    fault(
        "a mail is handed over late, because its server was slow",
        f"{_MAILER}:SmtpMailer._deliver",
        "may_send()",
        "pass",
        "tests/unit/test_smtp.py::test_a_mail_that_is_too_late_once_the_server_waits_for_it_is_not_handed_over",
    ),
    fault(
        "a mailer is not told until when a mail may go",
        "handlers.recruitment:Recruitment._write",
        "mail, settings.address, task.may_erase)",
        "mail, settings.address)",
        "tests/contract/test_handlers_recruitment.py::test_a_mail_whose_server_is_slow_is_not_handed_over_late",
    ),
    fault(
        "a mail goes once without asking whether it still may",
        "orchestrator.smtp.once:OnceMailer.send",
        "self._mailer.send(message, recipient, may_send)",
        "self._mailer.send(message, recipient)",
        "tests/unit/test_smtp_once.py::test_a_mail_without_leave_is_not_remembered_as_sent",
    ),
    fault(
        "a lone dot ends a mail",
        f"{_MAILER}:_dotted",
        'b".."',
        'b"."',
        "tests/unit/test_smtp.py::test_a_line_that_begins_with_a_dot_arrives_as_it_was",
    ),
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
    fault(
        "a mail goes in clear where the server offers no TLS",
        f"{_MAILER}:SmtpMailer._greet",
        'if not server.has_extn("starttls"):\n                raise MailDeferred("no_starttls")\n'
        "            server.starttls(context=self._trusted())",
        'if server.has_extn("starttls"):\n    server.starttls(context=self._trusted())',
        "tests/unit/test_smtp.py::test_a_server_without_starttls_gets_nothing",
    ),
    fault(
        "a mail server's certificate is not checked",
        f"{_MAILER}:SmtpMailer._trusted",
        "return ssl.create_default_context(cafile=self._settings.ca_file)",
        "return ssl._create_unverified_context()",
        "tests/unit/test_smtp.py::test_a_certificate_that_is_not_the_servers_is_not_accepted",
    ),
    fault(
        "a login that is wanted is a refused mail",
        f"{_MAILER}:_verdict",
        "500 <= status < 600 and status != _LOGIN_FIRST",
        "500 <= status < 600",
        "tests/unit/test_smtp.py::test_each_answer_of_the_server_is_told_apart",
    ),
    fault(
        "a mail that is put off is refused for good",
        f"{_MAILER}:_verdict",
        "if 500 <= status < 600 and",
        "if 400 <= status < 600 and",
        "tests/unit/test_smtp.py::test_each_answer_of_the_server_is_told_apart",
    ),
    fault(
        "a refused text counts as taken",
        f"{_MAILER}:SmtpMailer._deliver",
        'if status != 250:\n            raise _verdict("content", status)',
        "pass",
        "tests/unit/test_smtp.py::test_each_answer_of_the_server_is_told_apart",
    ),
    fault(
        "a wrong password is the address's fault",
        f"{_MAILER}:SmtpMailer._greet",
        'raise MailDeferred("login", error.smtp_code) from None',
        'raise MailRefused("recipient", error.smtp_code) from None',
        "tests/unit/test_smtp.py::test_a_wrong_password_defers_the_mail",
    ),
    fault(
        "a line feed in a subject makes a header",
        f"{_MESSAGE}:check_header",
        "if not text.isprintable() and any(unicodedata.category(one) in _CONTROLS for one in text):",
        "if False:",
        "tests/unit/test_smtp.py::test_no_header_can_become_two",
    ),
    fault(
        "an encoded line feed makes a header",
        f"{_MESSAGE}:check_header",
        "text = value + decoded",
        "text = value",
        "tests/unit/test_smtp.py::test_no_header_can_become_two",
    ),
    fault(
        "a mail goes to others than its recipient",
        f"{_MESSAGE}:wire",
        "if len(to) != 1 or [address.addr_spec for address in to[0].addresses] != [recipient]:",
        "if False:",
        "tests/unit/test_smtp.py::test_a_mail_goes_to_its_recipient_alone",
    ),
    fault(
        "a copy goes to somebody else",
        f"{_MESSAGE}:wire",
        'if name.lower() in ("cc", "bcc", "resent-to"):',
        "if False:",
        "tests/unit/test_smtp.py::test_a_mail_goes_to_its_recipient_alone",
    ),
    fault(
        "a vacation notice answers our mail",
        f"{_MESSAGE}:compose",
        '"Auto-Submitted": "auto-generated",',
        "",
        "tests/unit/test_smtp.py::test_a_mail_has_the_headers_that_were_meant",
    ),
    fault(
        "a farewell that fails sends the mail again",
        f"{_MAILER}:SmtpMailer._deliver",
        "except (smtplib.SMTPException, OSError):\n            return",
        "except ZeroDivisionError:\n    return",
        "tests/unit/test_smtp.py::test_a_mail_that_was_taken_is_sent_whatever_the_farewell",
    ),
)
