"""What Alembic runs: the migrations, in the transaction of the connection that it was given."""

from alembic import context

from orchestrator.store.tables import metadata, schema_version

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=schema_version.name,
    transactional_ddl=True,
)
context.run_migrations()
