"""Outcomes to mail: to the data protection officer, and notices to the subject.

The words of the mails are used by commands as well. The mailbox itself needs the bus and metrics, so it is
imported by its own name: `mailbox.mailbox`.
"""
