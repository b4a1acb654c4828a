"""Outgoing mail."""

from orchestrator.smtp.mailer import MailDeferred, Mailer, MailNotSent, MailRefused, SmtpMailer
from orchestrator.smtp.message import HeaderRefused, check_header, compose, message_id, thread_id

__all__ = [
    "HeaderRefused",
    "MailDeferred",
    "MailNotSent",
    "MailRefused",
    "Mailer",
    "SmtpMailer",
    "check_header",
    "compose",
    "message_id",
    "thread_id",
]
