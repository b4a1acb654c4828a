"""The marks of the positions on the bus: see `orchestrator.position`. A position that has none gets one when
the orchestrator begins there.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column."""
    op.add_column("positions", sa.Column("mark", sa.Text, nullable=True))
