"""The tables of the store. Times are microseconds since the epoch, UTC; digests and hashes are hex.

A saga's row is its document, with beside it the few columns that are searched. Its document is null between
the moment when its request was first heard of, and a row was made to be locked, and the first saved state.

Ids sort by their bytes on both databases, as they do in Python: whoever takes several rows takes them in one
order, whatever language the server sorts in.

What is changed here is changed by a migration, too: see `store.migrations`.
"""

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, SmallInteger, String, Text

#: The newest migration, which leads to the tables below.
REVISION = "0009"

#: How many parts the outbox is relayed in; see `store.relay`.
SHARDS = 16

metadata = sa.MetaData()

# Which migration the database is at. Alembic's own table, so it stands apart from those it migrates.
schema_version = sa.Table(
    "schema_version",
    sa.MetaData(),
    Column("version_num", String(32), primary_key=True),
)

_ID = Text().with_variant(Text(collation="C"), "postgresql")

sagas = sa.Table(
    "sagas",
    metadata,
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
Index("sagas_wake_at", sagas.c.wake_at, sagas.c.request_id)
Index("sagas_due_at", sagas.c.due_at, sagas.c.request_id)
Index("sagas_subject_digest", sagas.c.subject_digest)

inbox = sa.Table(
    "inbox",
    metadata,
    Column("consumer", _ID, primary_key=True),
    Column("event_id", _ID, primary_key=True),
    Column("seen_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# The time last seen, and how far it can be believed: one row. See `store.seen`.
clock_seen = sa.Table(
    "clock_seen",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("even_for", BigInteger, nullable=False),
    Column("unwatched", BigInteger, nullable=False),
    Column("ahead", BigInteger, nullable=False),
    Column("jumped_at", BigInteger, nullable=False),
    Column("jumps", BigInteger, nullable=False),
)

# The mails that a mailbox is handing to the mail server: nobody else hands them over until `until`.
mails_in_hand = sa.Table(
    "mails_in_hand",
    metadata,
    Column("event_id", _ID, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# The consumers' positions on the bus, kept in the transaction that keeps their effects. `mark` is the bus's,
# by which it knows whether a position still is its own; none where it needs none.
positions = sa.Table(
    "positions",
    metadata,
    Column("group", _ID, primary_key=True),
    Column("topic", _ID, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("next", BigInteger, nullable=False),
    Column("mark", Text, nullable=True),
)

# Of each party's words about a system of a request, the number of the last one: see `intake.outbox`.
words_taken = sa.Table(
    "words_taken",
    metadata,
    Column("request_id", _ID, primary_key=True),
    Column("system", _ID, primary_key=True),
    Column("latest", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# What waits for the bus; a row is gone when the bus has it.
outbox = sa.Table(
    "outbox",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("event_id", _ID, nullable=False, unique=True),
    Column("topic", _ID, nullable=False),
    Column("key", Text, nullable=False),
    Column("headers", Text, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("shard", SmallInteger, nullable=False),
    sqlite_autoincrement=True,
)
Index("outbox_shard", outbox.c.shard, outbox.c.seq)

timeline = sa.Table(
    "timeline",
    metadata,
    Column("request_id", _ID, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("action", Text, nullable=False),
    Column("data", sa.JSON, nullable=False),
    Column("previous", Text, nullable=False),
    Column("hash", Text, nullable=False),
    # On PostgreSQL a trigger looks once for all entries of a statement: see `migrations/versions/v0003`.
    sa.ForeignKeyConstraint(["request_id"], [sagas.c.request_id]).ddl_if(dialect="sqlite"),
    sqlite_with_rowid=False,
)

# Inserted once and never overwritten. A row without `wrapped` is a tombstone: it stays, so that a replayed
# request can't bring its key back.
subject_keys = sa.Table(
    "subject_keys",
    metadata,
    Column("request_id", _ID, primary_key=True),
    Column("generation", Integer),
    Column("wrapped", LargeBinary),
    Column("created_at", BigInteger, nullable=False),
    Column("destroyed_at", BigInteger),
)

# On PostgreSQL it is partial as well. The migrations see to that, which alone make tables there: to name its
# option here would have every command load the dialects of all its drivers.
Index("subject_keys_open", subject_keys.c.generation, sqlite_where=subject_keys.c.wrapped.is_not(None))

# One row: which installation this database is of. See `store.installation`.
installation = sa.Table(
    "installation",
    metadata,
    Column("number", SmallInteger, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False),
    Column("made_at", BigInteger, nullable=False),
)

# The generations of the master key that this database has met: see `store.generations`.
key_generations = sa.Table(
    "key_generations",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", Text, nullable=False),
    Column("first_seen_at", BigInteger, nullable=False),
    Column("lost_at", BigInteger),
    Column("lost_by", Text),
    Column("lost_reason", Text),
)

# Keyed hashes of vendors' record ids and of parties' link tokens: which request a callback is about.
correlations = sa.Table(
    "correlations",
    metadata,
    Column("digest", _ID, primary_key=True),
    Column("request_id", _ID, nullable=False),
    Column("system", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

# What controllers asked over OpenDSR, under the request's id of ours. `body` is a keyed digest of what was
# posted, to tell a repeat from another request under the same id; it goes with the subject's digest.
opendsr_requests = sa.Table(
    "opendsr_requests",
    metadata,
    Column("request_id", _ID, primary_key=True),
    Column("system", Text, nullable=False),
    Column("subject_request_id", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("body", Text),
    Column("received_at", BigInteger, nullable=False),
    Column("expected_at", BigInteger, nullable=False),
    Column("published_at", BigInteger),
)

# Whom to tell of its changes: an address, what was last told and accepted there, and when to look again.
opendsr_callbacks = sa.Table(
    "opendsr_callbacks",
    metadata,
    Column("request_id", _ID, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("address", LargeBinary, nullable=False),
    Column("told", Text),
    Column("tries", Integer, nullable=False),
    Column("look_at", BigInteger),
)
Index("opendsr_callbacks_look_at", opendsr_callbacks.c.look_at, opendsr_callbacks.c.request_id)
