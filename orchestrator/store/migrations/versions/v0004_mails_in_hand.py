"""Which mails are being handed to the mail server, so that no two mailboxes hand over one of them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import BigInteger, Column, Text

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "mails_in_hand",
        Column("event_id", sa.Text().with_variant(Text(collation="C"), "postgresql"), primary_key=True),
        Column("holder", Text, nullable=False),
        Column("until", BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
