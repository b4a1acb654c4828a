"""Requests that controllers make over OpenDSR, and their callbacks."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Text

revision = "0002"
down_revision = "0001"

_ID = sa.Text().with_variant(Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "opendsr_requests",
        Column("request_id", _ID, primary_key=True),
        Column("system", Text, nullable=False),
        Column("subject_request_id", Text, nullable=False),
        Column("version", Text, nullable=False),
        Column("body", Text),
        Column("received_at", BigInteger, nullable=False),
        Column("expected_at", BigInteger, nullable=False),
        Column("published_at", BigInteger),
    )
    op.create_table(
        "opendsr_callbacks",
        Column("request_id", _ID, primary_key=True),
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("address", LargeBinary, nullable=False),
        Column("told", Text),
        Column("tries", Integer, nullable=False),
        Column("look_at", BigInteger),
    )
    op.create_index("opendsr_callbacks_look_at", "opendsr_callbacks", ["look_at", "request_id"])
