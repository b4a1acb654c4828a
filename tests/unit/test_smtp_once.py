"""A mail to an agency is handed over once, however often its command is carried out."""

from collections.abc import Iterator
from email.message import EmailMessage

import pytest

from orchestrator.smtp import Leave, MailDeferred, OnceMailer, always, compose
from orchestrator.store import Store, StoredSent, StoreUnavailable, open_engine

AGENCY = "agency@example.com"


class Server:
    """Takes mails, unless it is told to put them off."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.is_away = False

    def send(self, message: EmailMessage, recipient: str, may_send: Leave = always) -> None:
        may_send()
        if self.is_away:
            raise MailDeferred("unreachable")
        self.taken.append(str(message["Subject"]))


@pytest.fixture
def sent() -> Iterator[StoredSent]:
    engine = open_engine("sqlite://")
    yield StoredSent(Store(engine), "agency-mails")
    engine.dispose()


def once(server: Server, sent: StoredSent) -> OnceMailer:
    """The mailer of a process."""
    return OnceMailer(server, sent, digest=lambda name: f"d{name}", outages=(StoreUnavailable,))


def mail(subject: str = "Erasure request r", link: str = "https://example.com/1") -> EmailMessage:
    return compose(
        sender="radera@example.com",
        recipient=AGENCY,
        subject=subject,
        text=link,
        at=1,
        message_id="<1@example.com>",
    )


def test_a_command_that_is_read_again_sends_no_second_mail(sent: StoredSent) -> None:
    """In this process or another; the mail of another attempt, which has a link of its own, goes."""
    server = Server()
    mailer = once(server, sent)
    mailer.send(mail(), AGENCY)
    mailer.send(mail(), AGENCY)
    once(server, sent).send(mail(), AGENCY)
    assert 1 == len(server.taken)
    mailer.send(mail(link="https://example.com/2"), AGENCY)
    mailer.send(mail("Reminder: erasure request r"), AGENCY)
    assert 3 == len(server.taken)


def test_a_mail_that_was_not_taken_goes_when_it_can(sent: StoredSent) -> None:
    """It is remembered when the server has it, and not before."""
    server = Server()
    server.is_away = True
    mailer = once(server, sent)
    with pytest.raises(MailDeferred):
        mailer.send(mail(), AGENCY)
    server.is_away = False
    mailer.send(mail(), AGENCY)
    assert 1 == len(server.taken)


def test_a_mail_that_could_not_be_recorded(sent: StoredSent, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has it: the command is answered, and this process does not send it again. Where nobody can
    tell whether it was sent, it is not.
    """
    server = Server()
    mailer = once(server, sent)

    def away(_: str) -> bool:
        raise StoreUnavailable(database="x")

    with monkeypatch.context() as patch:
        patch.setattr(sent, "record", away)
        mailer.send(mail(), AGENCY)
    mailer.send(mail(), AGENCY)
    assert 1 == len(server.taken)
    monkeypatch.setattr(sent, "seen", away)
    with pytest.raises(StoreUnavailable):
        mailer.send(mail("another"), AGENCY)
    assert 1 == len(server.taken)


def test_a_mail_without_leave_is_not_remembered_as_sent(sent: StoredSent) -> None:
    """It goes with the next command, whose time is not over."""

    def too_late() -> None:
        raise TimeoutError

    server = Server()
    mailer = once(server, sent)
    with pytest.raises(TimeoutError):
        mailer.send(mail(), AGENCY, too_late)
    assert [] == server.taken
    mailer.send(mail(), AGENCY)
    assert 1 == len(server.taken)
