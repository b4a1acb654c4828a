"""What a row costs the server.

* A record that was sent leaves the outbox. Marking it wrote it a second time, with all its indexes.
* Whether the entries of a timeline have a saga is looked up once for each statement, and not for each entry.
  Nobody can take the saga away meanwhile: who adds entries has its row locked.
* Documents are compressed by lz4, where the server was built with it, and not in its own, slower way.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Change them."""
    op.execute("DELETE FROM outbox WHERE sent_at IS NOT NULL")
    op.drop_index("outbox_unsent", "outbox")
    op.drop_column("outbox", "sent_at")
    op.create_index("outbox_shard", "outbox", ["shard", "seq"])
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint("timeline_request_id_fkey", "timeline", type_="foreignkey")
        op.execute(_FUNCTION)
        op.execute(_TRIGGER)
        op.execute(_COMPRESSION)


_FUNCTION = sa.text(
    """
    CREATE FUNCTION timeline_has_saga() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM (SELECT DISTINCT request_id FROM added) AS entry
                   WHERE NOT EXISTS (SELECT FROM sagas WHERE sagas.request_id = entry.request_id)) THEN
            RAISE foreign_key_violation USING MESSAGE = 'an entry of a timeline has no saga';
        END IF;
        RETURN NULL;
    END $$
    """
)
_TRIGGER = sa.text(
    "CREATE TRIGGER timeline_has_saga AFTER INSERT ON timeline REFERENCING NEW TABLE AS added"
    " FOR EACH STATEMENT EXECUTE FUNCTION timeline_has_saga()"
)
# Servers before 14 don't know the words, and not all have the library.
_COMPRESSION = sa.text(
    "DO $$ BEGIN EXECUTE 'ALTER TABLE sagas ALTER COLUMN document SET COMPRESSION lz4';"
    " EXCEPTION WHEN syntax_error OR feature_not_supported THEN NULL; END $$"
)
