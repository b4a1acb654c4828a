"""Which installation this database is of."""

from alembic import op
from sqlalchemy import BigInteger, Column, SmallInteger, Text

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the table; the first start gives it its one row."""
    op.create_table(
        "installation",
        Column("number", SmallInteger, primary_key=True, autoincrement=False),
        Column("id", Text, nullable=False),
        Column("made_at", BigInteger, nullable=False),
    )
