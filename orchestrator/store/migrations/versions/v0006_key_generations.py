"""Which generations of the master key this database has met, and an index of the keys that are open."""

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, Text, column

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make both."""
    op.create_table(
        "key_generations",
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("digest", Text, nullable=False),
        Column("first_seen_at", BigInteger, nullable=False),
        Column("lost_at", BigInteger),
        Column("lost_by", Text),
        Column("lost_reason", Text),
    )
    is_open = column("wrapped").is_not(None)
    op.create_index(
        "subject_keys_open", "subject_keys", ["generation"], sqlite_where=is_open, postgresql_where=is_open
    )
