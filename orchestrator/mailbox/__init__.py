"""Outcomes to mail: to the data protection officer, and notices to the subject."""

from orchestrator.mailbox.mailbox import GROUP, Mailbox, Sent

__all__ = ["GROUP", "Mailbox", "Sent"]
