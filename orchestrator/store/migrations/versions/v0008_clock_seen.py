"""The time last seen, so that a clock that jumps between two starts is noticed."""

from alembic import op
from sqlalchemy import BigInteger, Column, Integer

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "clock_seen",
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("at", BigInteger, nullable=False),
        Column("even_for", BigInteger, nullable=False),
        Column("unwatched", BigInteger, nullable=False),
        Column("ahead", BigInteger, nullable=False),
        Column("jumped_at", BigInteger, nullable=False),
        Column("jumps", BigInteger, nullable=False),
    )
