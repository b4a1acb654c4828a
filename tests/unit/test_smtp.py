"""Mail over a real SMTP connection: what goes out, what is protected, and what each answer means."""

import asyncio
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from orchestrator.secret import SecretRef
from orchestrator.settings import Smtp
from orchestrator.smtp import (
    HeaderRefused,
    MailDeferred,
    MailNotSent,
    MailRefused,
    SmtpMailer,
    check_header,
    compose,
    message_id,
    thread_id,
)
from orchestrator.smtp.message import wire

AT = 1_788_211_800_000_000  # 2026-08-31T21:30:00Z
REQUEST = "7d9f4c1e-0000-4000-8000-000000000001"
TO = "dpo@example.com"


def _mail(**changed: Any) -> EmailMessage:
    given: dict[str, Any] = {
        "sender": "radera@example.com",
        "recipient": TO,
        "subject": f"Radera {REQUEST}: completed",
        "text": "Åtgärdat.\n",
        "at": AT,
        "message_id": message_id("radera.example.com", REQUEST, "e-1"),
        "references": (thread_id("radera.example.com", REQUEST),),
    }
    return compose(**(given | changed))


# --- the message ---


def test_a_mail_has_the_headers_that_were_meant() -> None:
    """Date, Message-ID and thread come from the arguments alone: the same mail can be made again."""
    read = message_from_bytes(wire(_mail(), TO), policy=policy.default)

    assert {
        "From": "radera@example.com",
        "To": TO,
        "Subject": f"Radera {REQUEST}: completed",
        "Date": "Mon, 31 Aug 2026 21:30:00 +0000",
        "Message-ID": f"<b94f523196aaacd8.{REQUEST}@radera.example.com>",
        "In-Reply-To": f"<{REQUEST}@radera.example.com>",
        "References": f"<{REQUEST}@radera.example.com>",
        "Auto-Submitted": "auto-generated",
        "Content-Type": 'text/plain; charset="utf-8"',
        "Content-Transfer-Encoding": "quoted-printable",
        "MIME-Version": "1.0",
    } == dict(read.items())
    assert read.get_content().replace("\r\n", "\n") == "Åtgärdat.\n"


def test_the_same_mail_made_twice_is_the_same_bytes() -> None:
    """A mail that is sent again can't be told from the first."""
    assert wire(_mail(), TO) == wire(_mail(), TO)


def test_each_event_has_a_message_id_of_its_own() -> None:
    """Two mails about one request are two mails, in one thread."""
    assert message_id("d.example", REQUEST, "e-1") != message_id("d.example", REQUEST, "e-2")


INJECTIONS = [
    "done\nBcc: thief@example.org",
    "done\r\n\r\nbody",
    "done\x00",
    "done\x85x",
    "done\u2028x",
    "=?utf-8?q?done=0ABcc:_thief@example.org?=",
    "=?utf-8?b?ZG9uZQ0KQmNjOiB0aGllZkBleGFtcGxlLm9yZw==?=",
    "=?iso-8859-1?q?a?= =?utf-8?q?=0D?=",
    "=?no-such-charset?q?x?=",
]


@pytest.mark.parametrize("value", INJECTIONS)
@pytest.mark.parametrize("field", ["subject", "recipient", "sender", "sender_name", "reply_to", "message_id"])
def test_no_header_can_become_two(field: str, value: str) -> None:
    """A control character is refused in every header, plainly written or encoded, and is not quoted."""
    with pytest.raises(HeaderRefused) as caught:
        _mail(**{field: value})

    assert "thief" not in str(caught.value)


def test_ordinary_text_outside_ascii_is_no_injection() -> None:
    """Names with å, ä and ö go through, and arrive as they were."""
    check_header("Subject", "Besked om begäran från Åsa")
    read = message_from_bytes(wire(_mail(sender_name="Ö & Co"), TO), policy=policy.default)

    assert "Ö & Co <radera@example.com>" == read["From"]


@pytest.mark.parametrize("header", ["Cc", "Bcc", "To"])
def test_a_mail_goes_to_its_recipient_alone(header: str) -> None:
    """A message with a second reader is refused before the server is called."""
    message = _mail()
    if header == "To":
        del message["To"]
        message["To"] = f"{TO}, other@example.org"
    else:
        message[header] = "other@example.org"

    with pytest.raises(HeaderRefused):
        SmtpMailer(Smtp(host="127.0.0.1", port=1, security="none", sender="r@example.com")).send(message, TO)


# --- the server ---


class Inbox:
    """Keeps what it takes, and answers as it is told."""

    def __init__(self) -> None:
        self.taken: list[Envelope] = []
        self.secured: list[bool] = []
        self.answers: dict[str, str] = {}
        self.hang_up_after_data = False

    async def handle_MAIL(  # noqa: N802 - aiosmtpd finds it by this name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        return self.answers.get("MAIL", "250 OK")

    async def handle_RCPT(  # noqa: N802 - aiosmtpd finds it by this name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        return self.answers.get("RCPT", "250 OK")

    async def handle_DATA(  # noqa: N802 - aiosmtpd finds it by this name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        if "DATA" in self.answers:
            return self.answers["DATA"]
        self.taken.append(envelope)
        self.secured.append(session.ssl is not None)
        if self.hang_up_after_data:
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return "250 OK"


NAMES = {"good": x509.IPAddress(ip_address("127.0.0.1")), "other": x509.DNSName("x.example")}


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for 127.0.0.1, its key, and a certificate for another name."""
    folder = tmp_path_factory.mktemp("certificates")
    now = datetime.now(UTC)
    for name, alternative in (
        ("good", x509.IPAddress(ip_address("127.0.0.1"))),
        ("other", x509.DNSName("x.example")),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    return folder


Start = Callable[..., tuple[Inbox, int]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a server on a free port; `tls` wraps the connection from the first byte."""
    running: list[Controller] = []

    def _start(tls: ssl.SSLContext | None = None, **options: Any) -> tuple[Inbox, int]:
        inbox = Inbox()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        controller = Controller(inbox, hostname="127.0.0.1", port=port, ssl_context=tls, **options)
        controller.start()
        running.append(controller)
        return inbox, port

    yield _start
    for controller in running:
        controller.stop()


def _server_side(folder: Path, name: str = "good") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


def _mailer(port: int, **changed: Any) -> SmtpMailer:
    given: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": port,
        "security": "none",
        "sender": "radera@example.com",
        "timeout": timedelta(seconds=5),
    }
    return SmtpMailer(Smtp(**(given | changed)))


def test_a_mail_arrives_whole(start: Start) -> None:
    """The server gets the message's bytes, from the sender, to the recipient."""
    inbox, port = start()
    _mailer(port).send(_mail(), TO)
    (envelope,) = inbox.taken

    assert ("radera@example.com", [TO]) == (envelope.mail_from, envelope.rcpt_tos)
    assert isinstance(envelope.content, bytes)
    assert wire(_mail(), TO) == envelope.content


@pytest.mark.parametrize("error", [smtplib.SMTPServerDisconnected("gone"), ConnectionResetError()])
def test_a_mail_that_was_taken_is_sent_whatever_the_farewell(
    start: Start, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A server that hangs up after its yes has the mail. Deferred, it would reach the person twice."""

    def hang_up(server: smtplib.SMTP) -> None:
        server.close()
        raise error

    monkeypatch.setattr(smtplib.SMTP, "quit", hang_up)
    inbox, port = start()
    _mailer(port).send(_mail(), TO)

    assert [[TO]] == [envelope.rcpt_tos for envelope in inbox.taken]


def test_a_mail_over_starttls_with_login_arrives(
    start: Start, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password is only said once the connection is encrypted and the certificate has been checked."""
    monkeypatch.setenv("TEST_SMTP_PASSWORD", "open sesame")
    seen: list[tuple[bool, object]] = []

    def authenticate(
        server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: LoginPassword
    ) -> AuthResult:
        seen.append((session.ssl is not None, data.password))
        return AuthResult(success=data.password == b"open sesame")

    inbox, port = _start_tls(start, certificates, authenticate)
    _mailer(
        port,
        security="starttls",
        ca_file=certificates / "good.pem",
        username="radera",
        password=SecretRef(env="TEST_SMTP_PASSWORD"),
    ).send(_mail(), TO)

    assert [(True, b"open sesame")] == seen
    assert [True] == inbox.secured


def _start_tls(
    start: Start, certificates: Path, authenticator: Any = None, name: str = "good"
) -> tuple[Inbox, int]:
    options: dict[str, Any] = {"tls_context": _server_side(certificates, name), "require_starttls": True}
    if authenticator is not None:
        options |= {"authenticator": authenticator, "auth_required": True}
    return start(**options)


def test_a_wrong_password_defers_the_mail(
    start: Start, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """535 is a permanent answer, but about us: once the password is mended the mail can go."""
    monkeypatch.setenv("TEST_SMTP_PASSWORD", "wrong")
    inbox, port = _start_tls(start, certificates, lambda *_: AuthResult(success=False, handled=False))
    with pytest.raises(MailDeferred) as caught:
        _mailer(
            port,
            security="starttls",
            ca_file=certificates / "good.pem",
            username="radera",
            password=SecretRef(env="TEST_SMTP_PASSWORD"),
        ).send(_mail(), TO)

    assert ("login", 535) == (caught.value.code, caught.value.status)
    assert [] == inbox.taken


def test_a_password_that_is_not_there_defers_the_mail(start: Start, certificates: Path) -> None:
    """A secret that is being rotated costs time, never a mail."""
    _, port = _start_tls(start, certificates, lambda *_: AuthResult(success=True))
    with pytest.raises(MailDeferred) as caught:
        _mailer(
            port,
            security="starttls",
            ca_file=certificates / "good.pem",
            username="radera",
            password=SecretRef(env="NO_SUCH_VARIABLE_HERE"),
        ).send(_mail(), TO)

    assert caught.value.code == "no_password"


def test_a_mail_over_tls_from_the_first_byte_arrives(start: Start, certificates: Path) -> None:
    """Port 465's way."""
    inbox, port = start(tls=_server_side(certificates))
    _mailer(port, security="tls", ca_file=certificates / "good.pem").send(_mail(), TO)

    assert 1 == len(inbox.taken)


@pytest.mark.parametrize("trusted", ["system", "wrong name"])
@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_a_certificate_that_is_not_the_servers_is_not_accepted(
    start: Start, certificates: Path, security: str, trusted: str
) -> None:
    """An unknown authority or another name: nothing is sent, and the mail waits."""
    name = "good" if trusted == "system" else "other"
    if security == "tls":
        inbox, port = start(tls=_server_side(certificates, name))
    else:
        inbox, port = _start_tls(start, certificates, name=name)
    ca_file = None if trusted == "system" else certificates / "other.pem"
    with pytest.raises(MailDeferred) as caught:
        _mailer(port, security=security, ca_file=ca_file).send(_mail(), TO)

    assert caught.value.code == "tls"
    assert [] == inbox.taken


def test_a_server_without_starttls_gets_nothing(start: Start) -> None:
    """Someone on the way who strips STARTTLS must not be sent a mail in clear."""
    inbox, port = start()
    with pytest.raises(MailDeferred) as caught:
        _mailer(port, security="starttls").send(_mail(), TO)

    assert caught.value.code == "no_starttls"
    assert [] == inbox.taken


@pytest.mark.parametrize(
    ("point", "answer", "kind", "code"),
    [
        ("RCPT", "450 mailbox busy", MailDeferred, "recipient"),
        ("RCPT", "550 no such user canary@example.org", MailRefused, "recipient"),
        ("RCPT", "530 authentication required", MailDeferred, "recipient"),
        ("DATA", "451 try later", MailDeferred, "content"),
        ("DATA", "554 looks like spam canary@example.org", MailRefused, "content"),
        ("MAIL", "550 sender not allowed", MailDeferred, "sender"),
        ("MAIL", "421 too busy", MailDeferred, "sender"),
    ],
)
def test_each_answer_of_the_server_is_told_apart(
    start: Start, point: str, answer: str, kind: type[MailNotSent], code: str
) -> None:
    """Only a permanent answer about the recipient or the text is a refusal; no answer is repeated."""
    inbox, port = start()
    inbox.answers[point] = answer
    with pytest.raises(kind) as caught:
        _mailer(port).send(_mail(), TO)

    assert (code, int(answer[:3])) == (caught.value.code, caught.value.status)
    assert "canary" not in str(caught.value)
    assert [] == inbox.taken


def test_a_lost_answer_is_a_mail_not_sent(start: Start) -> None:
    """The server may have it or not; it is sent again with the same Message-ID."""
    inbox, port = start()
    inbox.hang_up_after_data = True
    with pytest.raises(MailDeferred) as caught:
        _mailer(port).send(_mail(), TO)

    assert caught.value.code == "lost"
    assert 1 == len(inbox.taken)


def test_a_server_that_is_not_there_defers_the_mail() -> None:
    """Connection refused, and an unknown host."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(MailDeferred) as caught:
            _mailer(taken.getsockname()[1]).send(_mail(), TO)

    assert caught.value.code == "unreachable"


def test_a_server_that_says_nothing_is_not_waited_for() -> None:
    """The time limit holds from the first byte on."""
    accepted: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        thread = threading.Thread(target=lambda: accepted.append(silent.accept()[0]))
        thread.start()
        with pytest.raises(MailDeferred) as caught:
            _mailer(silent.getsockname()[1], timeout=timedelta(seconds=0.2)).send(_mail(), TO)
        thread.join()
        accepted[0].close()

    assert caught.value.code in ("unreachable", "lost")


def test_an_address_outside_ascii_is_refused_as_the_recipients(start: Start) -> None:
    """It can't be reached dependably, and nobody else gets the mail instead."""
    _, port = start()
    with pytest.raises(MailRefused) as caught:
        _mailer(port).send(_mail(recipient="åsa@example.com"), "åsa@example.com")

    assert caught.value.code == "recipient"


def test_errors_do_not_name_addresses(start: Start) -> None:
    """Whatever the server says, an error's text holds a code and a number."""
    inbox, port = start()
    inbox.answers["RCPT"] = f"550 5.1.1 <{TO}> unknown"
    with pytest.raises(MailRefused, match=r"^mail not sent: recipient \(550\)$"):
        _mailer(port).send(_mail(), TO)


class TooLate(Exception):
    """What a permit raises."""


@pytest.mark.parametrize("command", ["smtp_EHLO", "smtp_RCPT", "smtp_DATA"])
def test_a_mail_that_is_too_late_once_the_server_waits_for_it_is_not_handed_over(
    start: Start, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever of the connecting was slow: leave is asked right before the text goes, and not only before."""
    inbox, port = start()
    is_late: list[bool] = []
    real = getattr(SMTP, command)

    async def slow(server: SMTP, arg: str) -> None:
        is_late.append(True)
        await real(server, arg)

    def may_send() -> None:
        if is_late:
            raise TooLate

    monkeypatch.setattr(SMTP, command, slow)
    with pytest.raises(TooLate):
        _mailer(port).send(_mail(), TO, may_send)
    assert [] == inbox.taken
    monkeypatch.setattr(SMTP, command, real)
    is_late.clear()
    _mailer(port).send(_mail(), TO, may_send)
    assert 1 == len(inbox.taken)


def test_a_line_that_begins_with_a_dot_arrives_as_it_was(start: Start) -> None:
    """A lone dot ends the text for the server; the one in the text must not."""
    inbox, port = start()
    mail = _mail(text="one\n.\n..two\n.three\n")
    _mailer(port).send(mail, TO)
    (envelope,) = inbox.taken
    assert wire(mail, TO) == envelope.content
