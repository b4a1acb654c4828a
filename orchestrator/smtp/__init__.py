"""Outgoing mail."""

from orchestrator.smtp.mailer import MailDeferred, Mailer, MailNotSent, MailRefused, SmtpMailer
from orchestrator.smtp.message import HeaderRefused, check_header, compose, message_id, thread_id
from orchestrator.smtp.once import OnceMailer

__all__ = [
    "HeaderRefused",
    "MailDeferred",
    "MailNotSent",
    "MailRefused",
    "Mailer",
    "OnceMailer",
    "SmtpMailer",
    "check_header",
    "compose",
    "message_id",
    "thread_id",
]
