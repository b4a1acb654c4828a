"""The first tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, SmallInteger, Text

revision = "0001"
down_revision = None

_ID = Text().with_variant(Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "sagas",
        Column("request_id", _ID, primary_key=True),
        Column("version", BigInteger, nullable=False),
        Column("status", Text),
        Column("received_at", BigInteger),
        Column("due_at", BigInteger),
        Column("wake_at", BigInteger),
        Column("acted_at", BigInteger),
        Column("open_escalations", Integer),
        Column("quarantined", Integer),
        Column("subject_digest", Text),
        Column("updated_at", BigInteger, nullable=False),
        Column("document", Text),
    )
    op.create_index("sagas_wake_at", "sagas", ["wake_at", "request_id"])
    op.create_index("sagas_due_at", "sagas", ["due_at", "request_id"])
    op.create_index("sagas_subject_digest", "sagas", ["subject_digest"])
    op.create_table(
        "inbox",
        Column("consumer", _ID, primary_key=True),
        Column("event_id", _ID, primary_key=True),
        Column("seen_at", BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "positions",
        Column("group", _ID, primary_key=True),
        Column("topic", _ID, primary_key=True),
        Column("partition", Integer, primary_key=True, autoincrement=False),
        Column("next", BigInteger, nullable=False),
    )
    op.create_table(
        "outbox",
        Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("event_id", _ID, nullable=False, unique=True),
        Column("topic", _ID, nullable=False),
        Column("key", Text, nullable=False),
        Column("headers", Text, nullable=False),
        Column("value", LargeBinary, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("sent_at", BigInteger),
        Column("shard", SmallInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "outbox_unsent",
        "outbox",
        ["shard", "seq"],
        sqlite_where=sa.text("sent_at IS NULL"),
        postgresql_where=sa.text("sent_at IS NULL"),
    )
    op.create_table(
        "timeline",
        Column("request_id", _ID, sa.ForeignKey("sagas.request_id"), primary_key=True),
        Column("seq", BigInteger, primary_key=True, autoincrement=False),
        Column("at", BigInteger, nullable=False),
        Column("action", Text, nullable=False),
        Column("data", sa.JSON, nullable=False),
        Column("previous", Text, nullable=False),
        Column("hash", Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "subject_keys",
        Column("request_id", _ID, primary_key=True),
        Column("generation", Integer),
        Column("wrapped", LargeBinary),
        Column("created_at", BigInteger, nullable=False),
        Column("destroyed_at", BigInteger),
    )
    op.create_table(
        "correlations",
        Column("digest", _ID, primary_key=True),
        Column("request_id", _ID, nullable=False),
        Column("system", Text, nullable=False),
        Column("created_at", BigInteger, nullable=False),
    )
