"""The numbers of parties' words, so that each keeps its place whenever it is read."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import BigInteger, Column, Text

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table."""
    sorted_by_bytes = sa.Text().with_variant(Text(collation="C"), "postgresql")
    op.create_table(
        "words_taken",
        Column("request_id", sorted_by_bytes, primary_key=True),
        Column("system", sorted_by_bytes, primary_key=True),
        Column("latest", BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
