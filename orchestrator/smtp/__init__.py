"""Outgoing mail."""

from orchestrator.smtp.mailer import (
    Leave,
    MailDeferred,
    Mailer,
    MailNotSent,
    MailRefused,
    SmtpMailer,
    always,
)
from orchestrator.smtp.message import HeaderRefused, check_header, compose, message_id, thread_id
from orchestrator.smtp.once import OnceMailer

__all__ = [
    "HeaderRefused",
    "Leave",
    "MailDeferred",
    "MailNotSent",
    "MailRefused",
    "Mailer",
    "OnceMailer",
    "SmtpMailer",
    "always",
    "check_header",
    "compose",
    "message_id",
    "thread_id",
]
